//! The text of a first configuration.

use std::fmt::Write as _;
use std::path::Path;

use super::answers::{Answers, Sink, Who};

/// `beside`: the folder that the file will be in, where certificates are looked for.
pub fn of(answers: &Answers, beside: &Path) -> String {
    let mut text = String::from(
        "# The configuration of Outrider. `outrider check --config FILE` says what it would run and what is wrong with it,\n\
         # `outrider doctor --config FILE` whether all that it needs is there. Every key can be given as a variable, too:\n\
         # OUTRIDER__STORE__SIZE_MAX=1GiB. What is not here has a default.\n",
    );
    gateway(&mut text, answers);
    store(&mut text, answers);
    listeners(&mut text, answers, beside);
    text.push_str(DEVICES);
    sinks(&mut text, answers);
    text
}

/// A text in quotes: what JSON escapes, TOML does in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn gateway(text: &mut String, answers: &Answers) {
    text.push_str("\n[gateway]\n");
    let _ = match &answers.id {
        Some(id) => writeln!(text, "id = {}", quoted(id)),
        None => writeln!(
            text,
            "# id = \"truck-0042\"             # without it: the name of the machine and the beginning of its id"
        ),
    };
}

fn store(text: &mut String, answers: &Answers) {
    text.push_str("\n[store]\n");
    let _ = match &answers.store_size {
        Some(size) => writeln!(text, "size_max = {}", quoted(size)),
        None => writeln!(
            text,
            "# size_max = \"2GiB\"             # without it: half of the disk that is free, at most 4GiB"
        ),
    };
    text.push_str("# when_full = \"refuse\"          # rather than to drop the oldest readings\n");
}

fn listeners(text: &mut String, answers: &Answers, beside: &Path) {
    let listen = quoted(&answers.listen);
    match answers.who {
        Who::Local => {
            let _ = write!(
                text,
                "\n# Only programs on this machine connect. A [[listener]] with TLS opens it to the network: outrider init --who certificates - prints one.\n\
                 [mqtt]\nlisten = {listen}\n"
            );
        }
        Who::Anybody => {
            let _ = write!(
                text,
                "\n# Whoever reaches the port can publish, subscribe and read what others send.\n[mqtt]\nlisten = {listen}\ninsecure = true\n"
            );
        }
        Who::Certificates => {
            let needed = ["certificates/server.pem", "certificates/server.key", "certificates/ca.pem"];
            let next = "outrider cert init certificates --host NAME_OF_THIS_MACHINE --device tank-1 --device engine";
            let keys = format!(
                "[[listener]]\nname = \"devices\"\nlisten = {listen}\n{TLS}client_ca = [\"certificates/ca.pem\"]   # whose clients are let in; their common name is their name\n"
            );
            let right = "[[right]]                        # the first that matches decides; what none allows is refused\ntopic = \"devices/{cn}/#\"\nallow = [\"publish\"]\n";
            secured(text, &needed, beside, next, &[&keys, right, READERS]);
        }
        Who::Passwords => {
            let needed = ["certificates/server.pem", "certificates/server.key", "users"];
            let next = "outrider cert init certificates --host NAME_OF_THIS_MACHINE; outrider passwd users tank-1";
            let keys = format!(
                "[[listener]]\nname = \"devices\"\nlisten = {listen}\n{TLS}users = \"users\"                  # made by outrider passwd\n"
            );
            let right = "[[right]]                        # the first that matches decides; what none allows is refused\ntopic = \"devices/{user}/#\"\nallow = [\"publish\"]\n";
            secured(text, &needed, beside, next, &[&keys, right, READERS]);
        }
    }
}

const TLS: &str = "tls_certificate = \"certificates/server.pem\"   # paths are beside this file\n\
                   tls_key = \"certificates/server.key\"\n";

const READERS: &str =
    "[[right]]\nwho = \"dispatcher\"\ntopic = \"alerts/#\"\nallow = [\"subscribe\", \"acknowledge\"]\n";

/// Sections that need files: in force if these are there, else as a comment that says how they are made.
fn secured(text: &mut String, needed: &[&str], beside: &Path, next: &str, sections: &[&str]) {
    let is_there = needed.iter().all(|file| beside.join(file).is_file());
    if !is_there {
        let _ = write!(
            text,
            "\n# Clients on the network need files that are not here yet: {}.\n\
             # 1. In the folder of this file: {next}\n\
             # 2. Take the # from the sections below; outrider check looks at the files.\n\
             # Until then only programs on this machine connect, to 127.0.0.1:1883.\n",
            needed.join(", ")
        );
    }
    for section in sections {
        text.push('\n');
        for line in section.lines() {
            let mark = if is_there { "" } else { "# " };
            let _ = writeln!(text, "{mark}{line}");
        }
    }
}

const DEVICES: &str = "
# Readings are what is published below devices/{device} and vehicles/{device}. Other topics need a route:
# [[route]]
# topic = \"plant/{line}/{device}/{metric...}\"
#
# Limits alert at once, whatever is usual:
# [[limit]]
# metric = \"container_temperature\"
# max = 8.0
# for = \"2m\"
";

fn sinks(text: &mut String, answers: &Answers) {
    for sink in &answers.sinks {
        text.push_str("\n[[sink]]\n");
        let region = match &answers.region {
            Some(region) => format!("region = {}\n", quoted(region)),
            None => "# region = \"eu-central-1\"       # without it: AWS_REGION\n".to_owned(),
        };
        let streams = |name: &str| {
            let [raw, anomalies] = ["raw", "anomalies"].map(|stream| quoted(&format!("{name}-{stream}")));
            format!(
                "raw = {raw}                # every reading\nanomalies = {anomalies}          # flagged readings, alerts, the gateway's own state\n"
            )
        };
        let keys = match sink {
            Sink::Archive => {
                "name = \"archive\"\ntype = \"archive\"                 # compressed files in the state folder\nsize_max = \"2GiB\"\n".to_owned()
            }
            Sink::Kinesis(name) => format!("name = \"kinesis\"\ntype = \"kinesis\"\n{region}{}", streams(name)),
            Sink::Firehose(name) => format!("name = \"firehose\"\ntype = \"firehose\"\n{region}{}", streams(name)),
            Sink::Kafka { broker, name } => {
                let broker = quoted(broker);
                format!("name = \"kafka\"\ntype = \"kafka\"\nbrokers = [{broker}]\n{}# tls = true, sasl = \"scram-sha-512\", username, password = \"env:NAME\": see docs/KAFKA.md\n", streams(name))
            }
            Sink::S3(bucket) => {
                let bucket = quoted(bucket);
                format!("name = \"s3\"\ntype = \"s3\"\nbucket = {bucket}\n{region}format = \"parquet\"\n")
            }
            Sink::Http(url) => {
                let url = quoted(url);
                format!("name = \"http\"\ntype = \"http\"\nurl = {url}\n# headers = {{ authorization = \"env:TOKEN\" }}\n")
            }
            Sink::Mqtt(url) => {
                let url = quoted(url);
                format!("name = \"broker\"\ntype = \"mqtt\"\nurl = {url}\n# username, password = \"env:NAME\", certificate, key: see docs/how-to/mqtt.md\n")
            }
        };
        text.push_str(&keys);
        if sink.is_of_aws() {
            text.push_str("# credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the device's certificate by [aws]\n");
        }
    }
    if !answers.sinks.contains(&Sink::Archive) {
        text.push_str("\n# No files are written on this machine, because no [[sink]] has type = \"archive\".\n");
    }
}

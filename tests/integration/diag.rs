//! `outrider diag collect`: what is in the archive, and what is not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::listeners::expect_success;

fn collect(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.args(["diag", "collect"]).args(arguments).arg("--config").arg(folder.join("outrider.toml"));
    command.arg("--state").arg(folder.join("state")).current_dir(folder).envs(environment.iter().copied());
    let free_ports = [("OUTRIDER__MQTT__LISTEN", "127.0.0.1:0"), ("OUTRIDER__ADMIN__LISTEN", "127.0.0.1:0")];
    let Output { status, stderr, .. } = command.envs(free_ports).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// The files of an archive, as the system's tar reads it.
fn unpack(folder: &Path, archive: &str) -> BTreeMap<String, String> {
    let to = folder.join(format!("unpacked-{archive}"));
    std::fs::create_dir(&to).unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(folder.join(archive)).arg("-C").arg(&to).status().unwrap();
    assert!(unpacked.success());
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
    };
    std::fs::read_dir(to.join("outrider-diag")).unwrap().map(|entry| read(entry.unwrap())).collect()
}

const SECRETS: [&str; 8] = [
    "kafka-passw0rd",
    "h00k-token",
    "bearer-t0ken",
    "pager-k3y",
    "from-the-env1ronment",
    "aws-s3cret",
    "AKIASECRETKEY",
    "session-t0ken",
];

const CONFIG: &str = "[[listener]]\nname = 'people'\nlisten = '127.0.0.1:0'\nusers = 'users'\n\
    [[sink]]\nname = 'kafka'\ntype = 'kafka'\nbrokers = ['127.0.0.1:9']\nraw = 'r'\nsasl = 'plain'\nusername = 'gate'\npassword = 'kafka-passw0rd'\n\
    [[sink]]\nname = 'hook'\ntype = 'http'\nurl = 'http://127.0.0.1:9/h00k-token'\n\
    headers = { Authorization = 'bearer-t0ken', X-Key = 'env:HOOK_KEY' }\n\
    [[sink]]\nname = 'pager'\ntype = 'http'\nurl = 'http://127.0.0.1:9/x'\ntake = 'alerts'\nalert_format = 'pagerduty'\nrouting_key = 'pager-k3y'\n\
    [[sink]]\nname = 'cloud'\ntype = 'kinesis'\nregion = 'eu-west-1'\nendpoint = 'http://127.0.0.1:9'\nraw = 'r'\n";

const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOOK_KEY", "from-the-env1ronment"),
    ("AWS_SECRET_ACCESS_KEY", "aws-s3cret"),
    ("AWS_ACCESS_KEY_ID", "AKIASECRETKEY"),
    ("AWS_SESSION_TOKEN", "session-t0ken"),
];

#[test]
fn nothing_that_is_secret_or_private_is_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let token = expect_success(&["passwd", users.to_str().unwrap(), "alice", "--token"], "");
    let token = token.trim();
    let hash = std::fs::read_to_string(&users).unwrap().trim().to_owned();
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &ENVIRONMENT);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank/temp", "1.0");
    device.publish("devices/tank/level", "{\"value\":\"a private payload\"}");
    wait_until("errors of the sinks", || {
        gateway.status()["sinks"].as_array().unwrap().iter().filter(|sink| sink["last_error"].is_string()).count() >= 2
    });
    let (code, said) = collect(folder.path(), &["one.tar.gz"], &ENVIRONMENT);
    assert!(code == 0 && said.contains("one.tar.gz is written") && said.contains("Not in it: passwords"), "{said}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&folder.path().join("one.tar.gz").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let files = unpack(folder.path(), "one.tar.gz");
    for (file, words) in [
        ("README.txt", "In this archive:"),
        ("doctor.txt", "BAD      sink kafka: raw to the topic r: not reached"),
        ("doctor.json", "\"verdict\": \"bad\""),
        ("configuration.toml", "#password is set, and not shown"),
        ("versions.txt", "Linux version"),
        ("status.json", "\"ledger_adds_up\": true"),
        ("metrics.txt", "outrider_"),
        ("files.txt", "outrider.lock"),
        ("journal.txt", ""),
        ("system.txt", "MemTotal"),
    ] {
        assert!(files[file].contains(words), "{file}: {words}\n{}", files[file]);
    }
    assert!(files["configuration.toml"].contains("username = \"gate\""));
    let all = |files: &BTreeMap<String, String>| files.values().cloned().collect::<String>();
    let text = all(&files);
    for secret in SECRETS.iter().chain([&token, &hash.as_str(), &"a private payload"]) {
        assert!(!text.contains(secret), "{secret}");
    }
    // The control: what is asked for is there.
    let (code, _) = collect(folder.path(), &["two.tar.gz", "--with-samples"], &ENVIRONMENT);
    assert_eq!(code, 0);
    let with_samples = all(&unpack(folder.path(), "two.tar.gz"));
    assert!(with_samples.contains("a private payload"));
    assert!(SECRETS.iter().all(|secret| !with_samples.contains(secret)));
    assert_eq!(collect(folder.path(), &["two.tar.gz"], &ENVIRONMENT).0, 1, "what is there is not replaced");
    assert!(gateway.stop().success());
}

/// What is wrong is told with its value by other commands.
#[test]
fn a_configuration_that_is_wrong_tells_no_secret_either() {
    let folder = tempfile::tempdir().unwrap();
    for config in [
        "[[sink]]\nname = 'k'\ntype = 'kafka'\npasswort = 'kafka-passw0rd'\n",
        "[[sink]]\nname = 'h'\ntype = 'http'\nurl = 'ftp://h00k-token'\n",
        "[[sink]]\npassword = kafka-passw0rd\n",
    ] {
        std::fs::write(folder.path().join("outrider.toml"), config).unwrap();
        let _ = std::fs::remove_dir_all(folder.path().join("unpacked-wrong.tar.gz"));
        let _ = std::fs::remove_file(folder.path().join("wrong.tar.gz"));
        assert_eq!(collect(folder.path(), &["wrong.tar.gz"], &[]).0, 0);
        let files = unpack(folder.path(), "wrong.tar.gz");
        assert!(
            files["configuration.toml"].contains("It is wrong")
                && files["doctor.txt"].contains("outrider check says what")
        );
        let text: String = files.into_values().collect();
        assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{config}");
    }
    let (code, said) = collect(folder.path(), &["/nowhere/x.tar.gz"], &[]);
    assert!(code == 1 && said.contains("/nowhere/x.tar.gz cannot be written"), "{said}");
}

//! Generates `config/outrider.toml`, the reference for people, from the table of keys, so that the two cannot disagree.

use std::fmt::Write;

use super::*;
use crate::keys::key::{Fallback, Form, Group, Key};
use crate::mqtt::listener::{ClientLimits, ListenerSettings};
use crate::mqtt::quota::UserLimits;
use crate::sinks::kind::SinkKind;
use crate::sinks::registry;
use crate::tls::testing::TestAuthority;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/outrider.toml");
const MINIMAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");
/// If this variable is set, the file is written anew.
const WRITE_VARIABLE: &str = "OUTRIDER_WRITE_CONFIG";
const WIDTH: usize = 100;
/// A kind of sink that exists for tests only.
pub(super) const TEST_SINK: &str = "nothing";

const HEAD: &str = "\
Every key of Outrider's configuration: its purpose, its allowed values and its default.

The file is looked for in /etc/outrider/outrider.toml; --config names another. Unedited, it changes nothing: each key is \
commented out, with its default, or with an example if it has none. Remove the # in front of what you change.

Sizes are written \"512MiB\" (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), durations \"10s\" (ms, s, m, h, d). A variable wins over the \
file: OUTRIDER__STORE__SIZE_MAX=1GiB, and for the first of several sections OUTRIDER__SINK__0__NAME=cloud.

`outrider check --config FILE` names every mistake with its line, or says what would run.";

const LISTENER: &str = "\
Where clients connect, each with its own certificates, users and limits. There may be several. Any of them takes the place of the one on \
mqtt.listen, unless that is given too. Paths are beside this file if they are relative; the files are read again when they change.";
const RIGHT: &str = "\
What clients may do, on all listeners. The first [[right]] that matches decides; else the `acl` of the listener; else listeners with \
anonymous = true allow, and others refuse.";

const ROUTE: &str = "\
Topics that carry readings; the first that matches takes the publish. The built-in ones come last: devices/{device}, \
devices/{device}/{metric...}, vehicles/{device} and vehicles/{device}/{metric...}. What no route takes is passed on to \
subscribers and not stored.";

const FILE_INPUT: &str = "\
Files on this machine that lines are appended to. Each line is taken as if it had been published to `topic`, and stored once, also over \
rotations and restarts: docs/FILES.md. There may be several.";

const PROFILE: &str =
    "How metrics are watched, by words in their names, where the built-in profiles do not fit. There may be several.";
const LIMIT: &str = "Absolute bounds of a metric. There may be several.";

const STREAM: &str = "\
Streams that rules write to, besides raw and anomalies, which every gateway has. There may be up to 16. Some sink has to take each: the \
archive takes every stream.";
const RULES: &str =
    "Rules: what is looked for in messages and readings, and what is done about it. docs/RULES.md is their language.";
const TABLE: &str = "Rows that rules look up. There may be several.";
const MODEL: &str = "\
Models that were trained elsewhere, in files that outrider_models.export writes. Rules ask them, and with a threshold they raise alerts. \
docs/MODELS.md has more. There may be up to 32.";
const RULE: &str = "\
A rule has either `when`, which sees readings, or `sql`, which sees messages, and at least one action: alert, republish, stream, \
readings, drop or downsample. There may be several.";

const AWS: &str = "\
Credentials for sinks to AWS by the certificate of this device: AWS IoT gives those of a role to who shows it. Without this section they come from \
where the tools of AWS find them.";

const LINK: &str = "\
A link that costs money, for any sinks that name it. What goes over their sockets is counted, and when a budget is spent, what is not an \
alert waits in the store. docs/LINKS.md has more.";

const SINK: &str = "\
Where records go. Without any [[sink]] they go to files on this machine, in an archive named \"archive\". There may be several: each \
has its own position in the store, which keeps whatever one of them has not taken yet.";

const BRIDGE: &str = "\
Other MQTT brokers, and the topics that pass between them and this one: docs/BRIDGE.md. Commands come in by these. There may be several.";

/// In the order of the file, with the introduction of each.
const PARTS: [(Group, &str); 21] = [
    (Group::Gateway, ""),
    (Group::Store, ""),
    (Group::Mqtt, ""),
    (Group::Listener, LISTENER),
    (Group::Right, RIGHT),
    (Group::Admin, ""),
    (Group::Ingest, ""),
    (Group::Detection, ""),
    (Group::Alert, ""),
    (Group::Route, ROUTE),
    (Group::File, FILE_INPUT),
    (Group::Limit, LIMIT),
    (Group::Profile, PROFILE),
    (Group::Stream, STREAM),
    (Group::Rules, RULES),
    (Group::Table, TABLE),
    (Group::Model, MODEL),
    (Group::Rule, RULE),
    (Group::Aws, AWS),
    (Group::Link, LINK),
    (Group::Bridge, BRIDGE),
];

/// All parts, the kinds of sinks last.
pub(super) fn parts() -> Vec<(Group, &'static str)> {
    let abouts = std::iter::once(SINK).chain(std::iter::repeat(""));
    let sinks = documented().map(|kind| Group::SinkOf(kind.name)).zip(abouts);
    PARTS.into_iter().chain(sinks).collect()
}

/// The kinds of sinks that exist outside tests.
fn documented() -> impl Iterator<Item = &'static SinkKind> {
    registry::KINDS.iter().copied().filter(|kind| kind.name != TEST_SINK)
}

/// Whether it is the group of a kind that sends records.
fn sends_records(group: Group) -> bool {
    documented().any(|kind| kind.sends_records && Group::SinkOf(kind.name) == group)
}

fn documented_keys() -> impl Iterator<Item = &'static Key> {
    reference::all().iter().copied().filter(|key| key.group != Group::SinkOf(TEST_SINK))
}

fn rendered() -> String {
    let mut file = String::new();
    comment(&mut file, HEAD);
    for (group, about) in parts() {
        let name = group.section();
        file.push('\n');
        if !about.is_empty() {
            comment(&mut file, about);
        }
        match crate::keys::key::section(name) {
            Some((_, Form::Single)) => writeln!(file, "[{name}]"),
            _ => writeln!(file, "#[[{name}]]"),
        }
        .expect("a text");
        let sink = match group {
            Group::SinkOf(name) => documented().find(|kind| kind.name == name).map(|kind| [kind.example, kind.name]),
            _ => None,
        };
        if let Some(sink) = sink {
            for (key, value) in keys(Group::Sink).zip(sink) {
                describe(&mut file, key, &format!("\"{value}\""));
            }
            for key in keys(Group::Travel).filter(|_| sends_records(group)) {
                describe(&mut file, key, shown_value(key));
            }
        }
        for key in keys(group) {
            describe(&mut file, key, shown_value(key));
        }
    }
    file
}

pub(super) fn keys(group: Group) -> impl Iterator<Item = &'static Key> {
    documented_keys().filter(move |key| key.group == group)
}

fn shown_value(key: &Key) -> &'static str {
    match key.fallback {
        Fallback::Literal(value) => value,
        Fallback::Required { example } | Fallback::Otherwise { example, .. } => example,
    }
}

fn describe(file: &mut String, key: &Key, value: &str) {
    let fallback = match key.fallback {
        Fallback::Literal(literal) => format!("Default: {literal}"),
        Fallback::Required { .. } => "Required".to_owned(),
        Fallback::Otherwise { meaning, .. } => format!("Without it: {meaning}"),
    };
    let kind = key.kind.to_string().replace(&format!(", \"{TEST_SINK}\""), "");
    let (first, rest) = kind.split_at(1);
    file.push('\n');
    comment(file, key.about);
    comment(file, &format!("{}{rest}. {fallback}.", first.to_uppercase()));
    writeln!(file, "#{} = {value}", key.name).expect("a text");
}

fn comment(file: &mut String, text: &str) {
    for paragraph in text.split('\n') {
        let mut line = "#".to_owned();
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                writeln!(file, "{line}").expect("a text");
                line = "#".to_owned();
            }
            write!(line, " {word}").expect("a text");
        }
        writeln!(file, "{line}").expect("a text");
    }
}

/// The file with every key and every section active.
fn uncommented(text: &str) -> String {
    let is_commented_out = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    text.lines()
        .map(|line| if is_commented_out(&line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn read(text: &str) -> Result<Configuration, String> {
    read_in(&tempfile::tempdir().expect("a temporary folder"), text)
}

fn read_in(folder: &tempfile::TempDir, text: &str) -> Result<Configuration, String> {
    let host = Host { system_file: PathBuf::new(), ..Host::read() };
    let sources =
        Sources { variables: vec![("OUTRIDER__STORE__PATH".to_owned(), "/state".to_owned())], ..Sources::default() };
    // The files that the examples name.
    let zone =
        r#"{"type":"Feature","id":"depot","geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}}"#;
    for (name, text) in [("zones.geojson", zone), ("offers.csv", "zone,offer\ndepot,coffee\n"), ("pump.json", PUMP)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    write_certificates(&folder.path().join("certificates"));
    for name in ["users", "acl", "tokens"] {
        std::fs::write(folder.path().join(name), "").expect("a file");
    }
    let parsed = Configuration::parse(&folder.path().join("file"), text, &sources, &host);
    parsed.map_err(|problems| problems.to_string())
}

/// A model of the inputs of the example.
const PUMP: &str = r#"{"format":"outrider-model","version":1,"inputs":[{"name":"a"},{"name":"b"}],"labels":["good","worn"],
    "estimator":{"type":"dense","layers":[{"weights":[[1,2]],"bias":[0],"activation":"logistic"}]}}"#;

fn write_certificates(folder: &std::path::Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let authority = TestAuthority::new("authority");
    let (server, device) = (authority.server(), authority.client_for("truck-0042", time::Duration::days(1)));
    for (name, text) in [
        ("ca.pem", &authority.pem),
        ("crl.pem", &authority.list(1, time::Duration::days(1), &[])),
        ("server.pem", &server.pem),
        ("server.key", &server.key.serialize_pem()),
        ("device.pem", &device.pem),
        ("device.key", &device.key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
}

#[test]
fn the_file_says_what_the_table_of_keys_says() {
    let rendered = rendered();
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(FILE, &rendered).expect("a file that can be written");
    }
    let file = std::fs::read_to_string(FILE).expect("the reference");
    assert_eq!(file, rendered, "with {WRITE_VARIABLE}=1 this test writes the file anew");
    for key in documented_keys() {
        assert!(
            matches!(key.group, Group::Sink | Group::Travel) || parts().iter().any(|(group, _)| *group == key.group),
            "{}",
            key.name
        );
    }
}

#[test]
fn the_file_as_it_stands_changes_nothing() {
    let file = std::fs::read_to_string(FILE).expect("the reference");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let read = |text: &str| format!("{:?}", read_in(&folder, text).expect("right"));
    assert_eq!(read(&file), read(""));
}

#[test]
fn every_key_of_the_file_is_read_and_its_default_is_the_built_in_one() {
    let file = std::fs::read_to_string(FILE).expect("the reference");
    // A topic without placeholders for the device and the metric, so that the fixed ones are allowed.
    let text = uncommented(&file).replace("plant/{device}/{metric...}", "plant/{line}");
    // A rule has one of both; a pattern is of another format than the default one; a cluster has one way to log in;
    // the InfluxDB of the example has none of the last ones.
    let other_ways = [
        "sql = ",
        "pattern = ",
        "api_key = ",
        "aws_region = ",
        "database = ",
        "retention_policy = ",
        "username = \"writer\"",
        "password = \"secret\"",
    ];
    let is_left_out = |line: &&str| other_ways.iter().any(|key| line.starts_with(key));
    // Nor has the default body of a sink what others have.
    let of_bodies: Vec<&str> =
        reference::all().iter().filter(|key| key.about.starts_with("With body = ")).map(|key| key.name).collect();
    let mut kind = "";
    let (left_out, kept): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| {
        kind = line.strip_prefix("type = ").unwrap_or(kind);
        let is_of_a_body = line.split_once(" = ").is_some_and(|(name, _)| of_bodies.contains(&name));
        is_left_out(line) || (kind == "\"http\"" && is_of_a_body)
    });
    let left_out = left_out.len();
    let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
    let all = read(&text).expect("every key is known and every value allowed");
    let built_in = read("").expect("right");
    // These have no default: without them nothing is limited.
    let [first, built_in_first] = [&all, &built_in].map(|one| one.listeners.listeners[0].clone());
    let ClientLimits { keep_alive_max, receive_maximum, retained_max, user, .. } = &first.client;
    let UserLimits { connections_max, messages_a_second_max, bytes_a_second_max } = user;
    assert!(keep_alive_max.is_some() && receive_maximum.is_some() && retained_max.is_some());
    assert!(connections_max.is_some() && messages_a_second_max.is_some() && bytes_a_second_max.is_some());
    assert!(first.connections_a_second_max.is_some());
    let client = ClientLimits {
        keep_alive_max: None,
        receive_maximum: None,
        retained_max: None,
        user: UserLimits::default(),
        ..first.client
    };
    let first = ListenerSettings { client, connections_a_second_max: None, ..first };
    assert_eq!(format!("{first:?}"), format!("{built_in_first:?}"));
    assert_eq!(all.listeners.listeners.len(), 2);
    assert_eq!(format!("{:?}", all.edge), format!("{:?}", built_in.edge));
    assert_eq!(format!("{:?}", all.store), format!("{:?}", built_in.store));
    assert_eq!(all.admin.fixed().0, built_in.admin.fixed().0);
    assert_eq!(all.admin.hosts, built_in.admin.hosts);
    assert_eq!(all.admin.access.client_role, built_in.admin.access.client_role);
    assert_eq!((all.alerts, all.grace, all.gateway_id), (built_in.alerts, built_in.grace, built_in.gateway_id));
    assert_eq!((all.routes.len(), all.sinks.len(), all.monitor.limits.iter().count()), (5, documented().count(), 1));
    let known = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(
        known + left_out,
        documented_keys().count()
            + keys(Group::Sink).count() * (documented().count() - 1)
            + keys(Group::Travel).count() * (documented().filter(|kind| kind.sends_records).count() - 1),
        "the keys that several sinks have stand with each"
    );
}

#[test]
fn the_minimal_file_is_the_few_lines_that_the_book_shows() {
    let file = std::fs::read_to_string(MINIMAL).expect("the example");
    let configuration = read(&file).expect("right");
    let names: Vec<_> = configuration.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!((names, file.lines().count()), (vec!["cloud"], 11));
    let (_, shown) = file.split_once('\n').expect("a comment and the example");
    assert!(include_str!("../../docs/how-to/kinesis.md").contains(shown), "the book shows something else");
}

//! An operator's requests to the running gateway, with the program's own commands over the control socket.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::client::Client;
use crate::gateway::{Gateway, ledger_line, request, wait_until};

fn outrider(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.args(arguments).arg("--config").arg(folder.join("outrider.toml"));
    command.arg("--state").arg(folder.join("state")).output().unwrap()
}

/// The exit code, and the text on either output stream.
fn said(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = outrider(folder, arguments);
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), text.trim_end().to_owned())
}

fn json(subscriber: &mut Client) -> Value {
    serde_json::from_slice(&subscriber.receive().payload).unwrap()
}

#[test]
fn series_are_forgotten_and_alerts_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank", "{\"a b\":1,\"temp\":2}");
    device.publish("devices/other/temp", "1.0");
    wait_until("three series", || gateway.status()["detection"]["series"] == 3);
    assert_eq!(said(folder.path(), &["series", "forget", "tank/a b"]), (0, "forgot 1 series".to_owned()));
    device.publish("devices/tank/level", "nan");
    assert_eq!(json(&mut driver)["state"], "raised");
    assert_eq!(said(folder.path(), &["series", "forget", "tank"]), (0, "forgot 1 series".to_owned()));
    let cleared = json(&mut driver);
    assert_eq!((&cleared["state"], &cleared["cleared_reason"]), (&"cleared".into(), &"operator".into()));
    wait_until("one series", || gateway.status()["detection"]["series"] == 1);
    assert_eq!(said(folder.path(), &["series", "forget", "tank"]).0, 1, "there is none left");

    device.publish("devices/a%2Fb/level", "nan");
    let raised = json(&mut driver);
    assert_eq!(raised["device"], "a%2Fb");
    // Names are as in the alert's topic; over TCP this is not allowed at all.
    let target = "/api/alerts/a%252Fb/level/limit";
    assert_eq!(request(gateway.admin.unwrap(), &format!("DELETE {target}"), "", "").status, 405);
    assert_eq!(request(gateway.admin.unwrap(), "DELETE /api/series/other", "", "").status, 405);
    let clear = ["alerts", "clear", "a%252Fb", "level", "limit"];
    assert_eq!(said(folder.path(), &clear), (0, "cleared".to_owned()));
    let cleared = json(&mut driver);
    assert_eq!((&cleared["id"], &cleared["cleared_reason"]), (&raised["id"], &"operator".into()));
    assert_eq!(said(folder.path(), &clear), (1, "no such alert is raised".to_owned()));
    gateway.kill();

    // A kill leaves the socket's file behind; the command says that no gateway is running.
    let (code, text) = said(folder.path(), &clear);
    assert!(code == 1 && text.starts_with("no gateway is running with its state in"), "{text}");
    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert_eq!(gateway.status()["detection"]["alerts_raised"], 0);
    assert_eq!(said(folder.path(), &["series", "forget", "other"]).0, 0);
    assert!(gateway.stop().success());
    assert!(!folder.path().join("state/control.sock").exists());
}

#[test]
fn the_status_says_what_is_watched_and_what_would_take_what_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = said(folder.path(), &["status"]);
    assert!(code != 0 && !text.is_empty(), "there is no gateway, and no configuration yet");
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank", "{\"temp\":2,\"count\":1}");
    device.publish("devices/tank/level", "{\"value\":\"22.5\"}");
    device.publish("plant/oven/temp", "200");
    let (code, text) = said(folder.path(), &["status"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "2 readings stored; not stored: 1 undecodable, 1 unrouted\nstore: ",
        "\n  archive raw: ",
        "watched series: 1\n  tank temp: temperature (the word \"temp\" is in its name)",
        "series that are not watched: 1\n  tank count: off (the word \"count\" in its name says",
        "topic = \"plant/{device}/{metric...}\"",
        "    [[route]]\n    topic = \"devices/{device}/{metric...}\"\n    numbers = \"lenient\"",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    let (code, text) = said(folder.path(), &["status", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["series"]["watched_total"]), (0, &1.into()));
    assert!(gateway.stop().success());
}

#[test]
fn the_status_is_watched_also_while_the_gateway_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let state = folder.path().join("state");
    let mut watching = Command::new(env!("CARGO_BIN_EXE_outrider"))
        .args(["status", "--watch", "--state"])
        .arg(&state)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut looks = BufReader::new(watching.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut next = || looks.find(|line| line.starts_with("Outrider ")).unwrap();
    assert!(next().contains(": running, up ") && next().contains(": running, up "));
    assert!(gateway.stop().success());
    let mut trouble = BufReader::new(watching.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(trouble.any(|line| line.starts_with("no gateway is running")));
    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert!(next().contains(": running, up "));
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(gateway.stop().success());
}

const CLOUD: &str =
    "[[sink]]\nname = 'cloud'\ntype = 'kinesis'\nregion = 'eu-west-1'\nendpoint = 'http://127.0.0.1:9'\nraw = 'r'\n";
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")];

#[test]
fn a_sink_that_left_the_configuration_is_named_and_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    Client::connect(gateway.mqtt, "device").publish("devices/tank/temp", "1.0");
    assert!(gateway.stop().success());

    let gateway = Gateway::start_configured(folder.path(), CLOUD, &[], &KEYS);
    let mut device = Client::connect(gateway.mqtt, "device");
    (0..5).for_each(|_| device.publish("devices/tank/temp", "2.0"));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("outrider sinks drop archive"), "{log}");
    let status = gateway.status();
    let sinks = status["sinks"].as_array().unwrap();
    let left = sinks.iter().find(|sink| sink["name"] == "archive" && sink["stream"] == "raw").unwrap();
    assert_eq!((&left["configured"], &left["drop_with"]), (&false.into(), &"outrider sinks drop archive".into()));
    assert_eq!(ledger_line(&status, "archive", "raw")["buffered"], 5);

    let (code, text) = said(folder.path(), &["sinks", "drop", "cloud"]);
    assert!(code == 1 && text.contains("is in the configuration"), "{text}");
    assert_eq!(said(folder.path(), &["sinks", "drop", "nobody"]), (1, "there is no sink nobody".to_owned()));
    let (code, text) = said(folder.path(), &["sinks", "drop", "archive"]);
    assert!(code == 0 && text.starts_with("dropped the sink archive; "), "{text}");
    let check = |gateway: &Gateway| {
        let status = gateway.status();
        let lines = status["ledger"].as_array().unwrap();
        assert!(lines.iter().all(|line| line["sink"] != "archive"), "{lines:?}");
        let dropped = status["dropped_sinks"].as_array().unwrap();
        let raw = dropped.iter().find(|dropped| dropped["stream"] == "raw").unwrap();
        assert_eq!((&raw["name"], &raw["expired"]), (&"archive".into(), &5.into()));
        assert_eq!(ledger_line(&status, "cloud", "raw")["buffered"], 5, "it loses nothing");
    };
    check(&gateway);
    gateway.kill();
    check(&Gateway::start_configured(folder.path(), CLOUD, &[], &KEYS));
}

#[test]
fn a_hangup_is_a_line_in_the_log_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), &[], &[]);
    let pid = gateway.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    wait_until("a line in the log", || {
        std::fs::read_to_string(&gateway.log).unwrap().contains("loaded again: 0 rules, as before")
    });
    Client::connect(gateway.mqtt, "device").publish("devices/tank/temp", "1.0");
    assert!(gateway.is_running());
    assert!(gateway.stop().success());
}

#[test]
fn code_that_only_a_start_needs_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    // Nothing else takes pages of a program's file from it, as long as the machine has memory.
    let mut most = gateway.rss_bytes();
    wait_until("less memory", || {
        let now = gateway.rss_bytes();
        most = most.max(now);
        now < most * 9 / 10
    });
}

//! Which messages pass, under which names.

use std::process::Command;

use serde_json::json;

use super::{QUIET, TOPICS, bridge, config, wait_connected};
use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::mosquitto::{Listening, Mosquitto};
use crate::ports::free_port;

#[test]
fn topics_pass_both_ways_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port(), TOPICS), &[], &[]);
    wait_connected(&gateway);
    let (there, here) = (mosquitto.subscribe("fleet/#"), Listening::of_gateway(&gateway, "commands/#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("status/door", "open");
    assert_eq!(there.next(), "fleet/truck-1/status/door 0 open");
    client.publish("other/door", "open");
    mosquitto.publish("fleet/truck-2/commands/door", "not ours", &[]);
    mosquitto.publish("fleet/truck-1/commands/door", "close", &[]);
    assert_eq!(here.next(), "commands/door 0 close");
    // That one, and the one for another truck: none of ours besides.
    assert_eq!(there.next(), "fleet/truck-2/commands/door 0 not ours");
    assert_eq!(there.next(), "fleet/truck-1/commands/door 0 close");
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
    wait_until("both are counted", || {
        let bridge = bridge(&gateway);
        (&bridge["sent"], &bridge["received"]) == (&json!(1), &json!(1))
    });
    let status = String::from_utf8(
        Command::new(env!("CARGO_BIN_EXE_outrider"))
            .args(["status", "--state"])
            .arg(folder.path().join("state"))
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert!(status.contains("cloud: connected to mqtt://127.0.0.1:"), "{status}");
    let log = gateway.log.clone();
    assert!(gateway.stop().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("not connected"), "an end in order is no fault: {log}");
}

#[test]
fn nothing_comes_back_by_a_line_for_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let gateway =
        Gateway::start_configured(folder.path(), &config(mosquitto.port(), "topics = ['shared/# both 1']"), &[], &[]);
    wait_connected(&gateway);
    let (there, here) = (mosquitto.subscribe("shared/#"), Listening::of_gateway(&gateway, "shared/#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("shared/a", "from here");
    assert_eq!((there.next(), here.next()), ("shared/a 0 from here".to_owned(), "shared/a 0 from here".to_owned()));
    mosquitto.publish("shared/a", "from there", &[]);
    assert_eq!((there.next(), here.next()), ("shared/a 0 from there".to_owned(), "shared/a 0 from there".to_owned()));
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
}

#[test]
fn retained_messages_and_their_removal_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let lines = r#"topics = ['state/# out 1', 'config/# in 1']"#;
    mosquitto.publish("config/before", "1", &["-r"]);
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port(), lines), &[], &[]);
    wait_connected(&gateway);
    let retain = |payload: &str| {
        let with = if payload.is_empty() { vec!["-n"] } else { vec!["-m", payload] };
        let port = gateway.mqtt.port().to_string();
        let base = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "state/a"];
        assert!(Command::new("mosquitto_pub").args(base).args(with).status().unwrap().success());
    };
    retain("on");
    wait_until("it is there", || bridge(&gateway)["sent"] == 1);
    assert_eq!(mosquitto.subscribe("state/#").next(), "state/a 1 on");
    retain("");
    wait_until("so is its removal", || bridge(&gateway)["sent"] == 2);
    assert_eq!(mosquitto.subscribe("state/#").within(QUIET), None);
    assert_eq!(Listening::of_gateway(&gateway, "config/#").next(), "config/before 1 1");
    mosquitto.publish("config/before", "", &["-r"]);
    wait_until("it is gone", || bridge(&gateway)["received"] == 2);
    assert_eq!(Listening::of_gateway(&gateway, "config/#").within(QUIET), None);
}

/// The other way round: Mosquitto is the one that has a bridge, to our broker.
#[test]
fn a_bridge_of_mosquitto_works_with_our_broker() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let connection = format!(
        "connection up\naddress 127.0.0.1:{}\nremote_clientid truck\ncleansession false\nnotifications false\ntopic status/# out 1\ntopic commands/# in 1\ntopic both/# both 1",
        gateway.mqtt.port()
    );
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), &connection);
    wait_until("it is connected", || gateway.status()["mqtt"]["connections"] == 1);
    let (there, here) = (mosquitto.subscribe("#"), Listening::of_gateway(&gateway, "#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    mosquitto.publish("status/a", "open", &[]);
    assert_eq!((there.next(), here.next()), ("status/a 0 open".to_owned(), "status/a 0 open".to_owned()));
    client.publish("commands/a", "close");
    assert_eq!((there.next(), here.next()), ("commands/a 0 close".to_owned(), "commands/a 0 close".to_owned()));
    client.publish("both/a", "go");
    assert_eq!((there.next(), here.next()), ("both/a 0 go".to_owned(), "both/a 0 go".to_owned()));
    mosquitto.publish("both/a", "stop", &[]);
    assert_eq!((there.next(), here.next()), ("both/a 0 stop".to_owned(), "both/a 0 stop".to_owned()));
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
}

#[test]
fn no_client_takes_the_session_of_a_bridge() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), &config(free_port(), TOPICS), &[], &[]);
    let mut command = Command::new("mosquitto_sub");
    let port = gateway.mqtt.port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-i", "$bridge/cloud", "-c", "-t", "x", "-E", "-W", "10"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not valid"), "{output:?}");
}

//! Commands: once, in time, and not while nobody knows what time it is.

use std::process::Command;

use serde_json::json;

use super::{COMMANDS, bridge, config, now_ms, wait_connected};
use crate::gateway::{Gateway, wait_until};
use crate::mosquitto::{Listening, Mosquitto};
use crate::ports::free_port;

#[test]
fn a_command_comes_once_and_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let config = config(mosquitto.port(), COMMANDS);
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    let topic = "fleet/truck-1/commands/door";
    mosquitto.publish(topic, r#"{"id":"a"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"a","again":true}"#, &[]);
    mosquitto.publish(topic, &format!(r#"{{"id":"late","expires_at_ms":{}}}"#, now_ms() - 1), &[]);
    mosquitto.publish(topic, r#"{"id":"unreadable","expires_at_ms":"soon"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"state"}"#, &["-r"]);
    mosquitto.publish(topic, &format!(r#"{{"id":"b","expires_at_ms":{}}}"#, now_ms() + 3_600_000), &[]);
    mosquitto.publish(topic, "without", &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"a"}"#);
    assert!(here.next().starts_with(r#"commands/door 0 {"id":"b""#));
    assert_eq!(here.next(), "commands/door 0 without");
    let expected = json!({ "expired": 1, "retained": 1, "unreadable_expiry": 1 });
    wait_until("all are counted", || bridge(&gateway)["commands_refused"] == expected);
    let counted = bridge(&gateway);
    let of = |key: &str| counted[key].as_u64().unwrap();
    assert_eq!((of("commands"), of("commands_repeated"), of("commands_without_id")), (2, 1, 1));
    drop(here);
    // The ids outlive the process, and the session at the other broker.
    gateway.kill();
    mosquitto.publish(topic, r#"{"id":"a","after":"a kill"}"#, &[]);
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    let here = Listening::of_gateway(&gateway, "commands/#");
    wait_connected(&gateway);
    mosquitto.publish(topic, r#"{"id":"b","after":"a kill"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"c"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"c"}"#);
    assert_eq!(bridge(&gateway)["commands_repeated"], 2);
}

/// Killed whenever it is, the gateway has published each command once, although all of them come more than once.
#[test]
fn a_command_comes_once_over_kills_at_any_moment() {
    const COUNT: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let config = config(mosquitto.port(), COMMANDS);
    let device = |gateway: &Gateway, more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        let port = gateway.mqtt.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-c", "-i", "door", "-x", "3600"]);
        command.args(["-t", "commands/#"]).args(more).output().unwrap()
    };
    let mut gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    assert!(device(&gateway, &["-E"]).status.success());
    wait_connected(&gateway);
    for number in 0..COUNT {
        let payload = format!(r#"{{"id":{number}}}"#);
        // Twice, so that it comes again even if its acknowledgement was on its way.
        mosquitto.publish("fleet/truck-1/commands/door", &payload, &["--repeat", "2"]);
        gateway.kill();
        gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
        wait_connected(&gateway);
    }
    mosquitto.publish("fleet/truck-1/commands/door", r#"{"id":"last"}"#, &[]);
    wait_until("the last one is here", || bridge(&gateway)["commands"].as_u64() >= Some(1));
    let expected: String = (0..COUNT).map(|number| format!("{{\"id\":{number}}}\n")).collect();
    // One more than there are: it waits for it in vain.
    let got = device(&gateway, &["-C", &(COUNT + 2).to_string(), "-W", "5"]);
    assert_eq!(String::from_utf8(got.stdout).unwrap(), expected + "{\"id\":\"last\"}\n");
}

/// Commands reach devices that are away, and do not after their time.
#[test]
fn commands_wait_for_devices_in_their_sessions_but_not_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port(), COMMANDS), &[], &[]);
    wait_connected(&gateway);
    let port = gateway.mqtt.port().to_string();
    let device = |more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "5",
            "-q",
            "1",
            "-c",
            "-i",
            "door",
            "-x",
            "3600",
            "-t",
            "commands/#",
        ]);
        command.args(more);
        command.output().unwrap()
    };
    assert!(device(&["-E"]).status.success());
    let topic = "fleet/truck-1/commands/door";
    let expires_at_ms = now_ms() + 1_500;
    mosquitto.publish(topic, &format!(r#"{{"id":"soon","expires_at_ms":{expires_at_ms}}}"#), &[]);
    mosquitto.publish(topic, r#"{"id":"stays"}"#, &[]);
    wait_until("both are here", || bridge(&gateway)["commands"] == 2);
    wait_until("one has expired", || now_ms() > expires_at_ms);
    let got = device(&["-C", "1", "-W", "10"]);
    assert_eq!(String::from_utf8(got.stdout).unwrap(), "{\"id\":\"stays\"}\n");
}

#[test]
fn commands_that_expire_wait_for_the_clock_and_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "");
    let unset = config(mosquitto.port(), &COMMANDS.replace("'system'", "'synced'"));
    // The clock of a test machine may be synchronised, so a gateway says that it is not.
    std::fs::write(folder.path().join("unset"), unset).unwrap();
    let gateway = Gateway::start_test(folder.path(), "bridge::commands::a_gateway_whose_clock_is_not_set");
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    let topic = "fleet/truck-1/commands/door";
    let (later, soon) = (now_ms() + 3_600_000, now_ms() + 1_000);
    for number in 0..100 {
        mosquitto.publish(topic, &format!(r#"{{"id":"{number}","expires_at_ms":{later}}}"#), &[]);
    }
    mosquitto.publish(topic, &format!(r#"{{"id":"soon","expires_at_ms":{soon}}}"#), &[]);
    mosquitto.publish(topic, r#"{"id":"now"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"now"}"#);
    assert_eq!(bridge(&gateway)["commands_waiting"], 101);
    drop(here);
    gateway.kill();
    wait_until("one has expired", || now_ms() > soon);
    // Once the clock is believed, those that have not expired are published, each once.
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port(), COMMANDS), &[], &[]);
    wait_until("they are judged", || {
        let counted = bridge(&gateway);
        (&counted["commands"], &counted["commands_refused"]["expired"]) == (&json!(100), &json!(1))
    });
    assert_eq!(bridge(&gateway)["commands_waiting"], 0);
}

#[test]
#[ignore = "a gateway that other tests start"]
fn a_gateway_whose_clock_is_not_set() {
    crate::gateway::run_configured_in_this_process("unset", |settings| settings.is_synchronised = || false);
}

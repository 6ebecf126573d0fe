//! Devices as they come: the presets that the book shows, and a refusal whose advice is followed.

use serde_json::Value;

use crate::archive;
use crate::client::Client;
use crate::gateway::Gateway;

/// The configuration of the book's page on connecting devices.
fn presets_of_the_book() -> String {
    let page = include_str!("../../docs/how-to/connect-devices.md");
    page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example").to_owned()
}

/// Device, metric and value of each record.
fn stored(folder: &std::path::Path) -> Vec<(String, String, f64)> {
    let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let records = archive::records(&folder.join("state/archive"), "raw");
    records.iter().map(|it| (text(it, "device"), text(it, "metric"), it["value"].as_f64().unwrap())).collect()
}

fn expect(folder: &std::path::Path, expected: &[(&str, &str, f64)]) {
    let stored = stored(folder);
    for (device, metric, value) in expected {
        let is_there = stored.iter().any(|it| (it.0.as_str(), it.1.as_str(), it.2) == (*device, *metric, *value));
        assert!(is_there, "{device} {metric} {value} is not among {stored:?}");
    }
}

#[test]
fn the_presets_of_the_book_connect_their_devices() {
    let folder = tempfile::tempdir().unwrap();
    let presets = presets_of_the_book();
    assert_eq!(presets.matches("preset = ").count(), 5);
    let gateway = Gateway::start_configured(folder.path(), &presets, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "bridge");
    for (topic, payload) in [
        (
            "tele/attic/SENSOR",
            r#"{"Time":"2026-11-24T18:25:03","AM2301":{"Temperature":22.6,"Humidity":32.4},"TempUnit":"C"}"#,
        ),
        (
            "shellyplus1pm-1/events/rpc",
            r#"{"src":"x","method":"NotifyStatus","params":{"ts":1795465865.1,"switch:0":{"id":0,"apower":8.9}}}"#,
        ),
        ("zigbee2mqtt/door", r#"{"contact":false,"battery":97}"#),
        (
            "application/a/device/0101/event/up",
            r#"{"time":"2026-11-24T18:25:03+00:00","deviceInfo":{"deviceName":"cellar"},"fCnt":4,"object":{"temperature":7.5},"rxInfo":[{"rssi":-36}]}"#,
        ),
        ("3520930/data", r#"{"state":{"reported":{"66":12000,"ts":1795465865000,"sp":63}}}"#),
    ] {
        client.publish(topic, payload);
    }
    assert!(gateway.stop().success());
    expect(
        folder.path(),
        &[
            ("attic", "AM2301.Temperature", 22.6),
            ("attic", "AM2301.Humidity", 32.4),
            ("shellyplus1pm-1", "switch:0.apower", 8.9),
            ("door", "contact", 0.0),
            ("door", "battery", 97.0),
            ("0101", "temperature", 7.5),
            ("0101", "rssi", -36.0),
            ("3520930", "speed", 63.0),
            ("3520930", "supply_volts", 12.0),
        ],
    );
}

#[test]
fn whoever_follows_the_advice_on_a_refused_payload_gets_it_stored() {
    let folder = tempfile::tempdir().unwrap();
    let payload = r#"{"value":"317.3988","rate":"0.000330"}"#;
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    Client::connect(gateway.mqtt, "meter").publish("devices/gas/main", payload);
    let status = gateway.status();
    let [kind] = status["undecodable"].as_array().unwrap().as_slice() else { panic!("one kind: {status}") };
    assert_eq!(
        (&kind["reason"], &kind["topic"], &kind["count"]),
        (&"no_number".into(), &"devices/gas/main".into(), &1.into())
    );
    assert_eq!(kind["sample"], payload);
    let advice = kind["hint"].as_str().unwrap().split_once(":\n").unwrap().1.to_owned();
    assert!(gateway.stop().success());
    let gateway = Gateway::start_configured(folder.path(), &advice, &[], &[]);
    Client::connect(gateway.mqtt, "meter").publish("devices/gas/main", payload);
    assert!(gateway.stop().success());
    expect(folder.path(), &[("gas", "main", 317.3988), ("gas", "main.rate", 0.00033)]);
}

#[test]
fn a_refused_payload_and_its_advice_are_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    let mut meter = Client::connect(gateway.mqtt, "meter");
    meter.publish("devices/gas/main", r#"{"value":"317.3988"}"#);
    meter.publish("devices/gas/main", r#"{"value":"318.0000"}"#);
    meter.publish("plant/gas/main", "5");
    assert_eq!(gateway.status()["undecodable"][0]["count"], 2);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert_eq!(log.matches("numbers = \"lenient\"").count(), 1, "{log}");
    gateway.kill();

    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    let status = gateway.status();
    let [kind] = status["undecodable"].as_array().unwrap().as_slice() else { panic!("one kind: {status}") };
    assert_eq!((&kind["count"], &kind["sample"]), (&0.into(), &r#"{"value":"317.3988"}"#.into()));
    let advice = kind["hint"].as_str().unwrap().split_once(":\n").unwrap().1.to_owned();
    assert!(gateway.stop().success());

    let gateway = Gateway::start_configured(folder.path(), &advice, &[], &[]);
    assert_eq!(gateway.status()["undecodable"][0]["hint"], "the present configuration takes it");
    assert!(gateway.stop().success());
}

#[test]
fn a_buffer_that_is_sent_from_its_end_is_flagged_late() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    let start_ms = outrider::gateway::now_ms() - 600_000;
    let reading = |second: i64| {
        let value = if second == 100 { 60.0 } else { 20.0 + 0.1 * (second * 7919 % 5) as f64 };
        format!("{{\"temperature\":{value},\"ts\":{}}}", start_ms + second * 1_000)
    };
    let buffer: Vec<String> = (0..120).rev().map(reading).collect();
    Client::connect(gateway.mqtt, "truck").publish("vehicles/truck", format!("[{}]", buffer.join(",")));
    assert!(gateway.stop().success());
    let flagged = archive::records(&folder.path().join("state/archive"), "anomalies");
    let overheated = flagged.iter().find(|record| record["type"] == "anomaly" && record["value"] == 60.0);
    assert_eq!(overheated.expect("flagged")["late"], true);
    assert!(flagged.iter().all(|record| record["type"] != "alert"), "nobody is woken for what is over");
}

#[test]
fn a_switch_that_sends_one_digit_is_stored_once_its_route_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), "", &[], &[]);
    Client::connect(gateway.mqtt, "switch").publish("devices/a/relay", "1");
    let status = gateway.status();
    assert_eq!(status["received"]["accepted"], 0, "not guessed");
    let kind = &status["undecodable"][0];
    assert_eq!((&kind["reason"], &kind["sample"]), (&"json_or_cbor".into(), &"1".into()));
    let advice = kind["hint"].as_str().unwrap().split_once(":\n").unwrap().1.to_owned();
    assert!(gateway.stop().success());
    let gateway = Gateway::start_configured(folder.path(), &advice, &[], &[]);
    Client::connect(gateway.mqtt, "switch").publish("devices/a/relay", "1");
    assert!(gateway.stop().success());
    expect(folder.path(), &[("a", "relay", 1.0)]);
}

//! The sink to another MQTT broker: against Mosquitto, and against a broker that does what brokers are known to do to their clients.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::fake_broker::{Broker, Dislikes, server_config};
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::http::fault_of_fleet;
use crate::kinesis::fleet::Fleet;
use crate::listeners::expect_success;
use crate::mosquitto::{Mosquitto, Reader};

/// One with the name `broker`.
pub fn config(url: &str, keys: &str) -> String {
    format!("[[sink]]\nname = 'broker'\ntype = 'mqtt'\nurl = '{url}'\nbatch_delay = '20ms'\ntimeout = '2s'\n{keys}\n")
}

impl Broker {
    fn config(&self, keys: &str) -> String {
        config(&format!("mqtt://{}", self.address), keys)
    }
}

fn start(folder: &Path, config: &str) -> Gateway {
    Gateway::start_configured(folder, &format!("[gateway]\nid = 'gw'\n{config}"), &[], &[])
}

pub fn wait_for_delivery(gateway: &Gateway) {
    wait_until("everything is delivered", || {
        let status = gateway.status();
        ["raw", "anomalies"].iter().all(|stream| ledger_line(&status, "broker", stream)["buffered"] == 0)
    });
}

pub fn expect_fleet(records: &[Value], count: u64) {
    assert_eq!(fault_of_fleet(records, count), None);
}

pub fn last_error(gateway: &Gateway, stream: &str) -> String {
    let status = gateway.status();
    let sink = status["sinks"].as_array().unwrap().iter().find(|sink| sink["stream"] == stream).unwrap();
    sink["last_error"].as_str().unwrap_or_default().to_owned()
}

/// What was delivered according to the ledger is what the reader has.
pub fn expect_as_in_ledger(gateway: &Gateway, reader: &Reader) {
    let identities = |records: &[Value]| {
        let raw = records.iter().filter(|record| record["type"] == "reading");
        let identities: std::collections::HashSet<String> =
            raw.map(|record| format!("{}/{}", record["run"], record["position"])).collect();
        identities.len() as u64
    };
    wait_until("the reader has what the ledger says", || {
        ledger_line(&gateway.status(), "broker", "raw")["delivered"] == identities(&reader.records())
    });
    let line = ledger_line(&gateway.status(), "broker", "raw").clone();
    assert_eq!((&line["accepted"], &line["dead_lettered"]), (&line["delivered"], &0.into()));
}

#[test]
fn all_of_both_streams_arrives_at_mosquitto_in_both_versions() {
    for version in ["5", "3.1.1"] {
        let folder = tempfile::tempdir().unwrap();
        let mosquitto = Mosquitto::start(folder.path());
        let reader = Reader::start(mosquitto.address, "#");
        let url = format!("mqtt://{}", mosquitto.address);
        let gateway = start(folder.path(), &config(&url, &format!("version = '{version}'")));
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 50);
        Client::connect(gateway.mqtt, "x").publish("devices/farm%2F1/temperature", "-127");
        wait_for_delivery(&gateway);
        expect_as_in_ledger(&gateway, &reader);
        let records = reader.records();
        let of_fleet: Vec<Value> = records.iter().filter(|record| record["device"] != "farm%2F1").cloned().collect();
        expect_fleet(&of_fleet, 50);
        wait_until("the anomaly", || reader.records().iter().any(|record| record["type"] == "anomaly"));
        let topics: Vec<String> = reader.received().into_iter().map(|(topic, _)| topic).collect();
        for topic in ["outrider/gw/raw/d00", "outrider/gw/raw/farm%252F1", "outrider/gw/anomalies/farm%252F1"] {
            assert!(topics.iter().any(|other| other == topic), "{topic}: {topics:?}");
        }
        assert!(gateway.stop().success());
    }
}

#[test]
fn a_broker_that_restarts_and_a_gateway_that_is_killed_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path());
    let reader = Reader::start(mosquitto.address, "#");
    let config = config(&format!("mqtt://{}", mosquitto.address), "topic = '{gateway}/{device}/{metric}'");
    let mut gateway = start(folder.path(), &config);
    let mut fleet = Fleet::default();
    for round in 0..6 {
        fleet.publish(gateway.mqtt, 30);
        if round % 2 == 0 {
            mosquitto.restart();
        } else {
            gateway.kill();
            gateway = start(folder.path(), &config);
        }
    }
    wait_for_delivery(&gateway);
    expect_as_in_ledger(&gateway, &reader);
    expect_fleet(&reader.records(), 180);
}

#[test]
fn acknowledgements_that_are_lost_cost_repeats_and_no_order() {
    for version in ["5", "3.1.1"] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(Dislikes::default());
        let gateway = start(folder.path(), &broker.config(&format!("version = '{version}'\nrecord = 'single'")));
        let mut fleet = Fleet::default();
        for _ in 0..4 {
            broker.seen.lock().unwrap().losses = 1;
            fleet.publish(gateway.mqtt, 10);
            wait_until("the loss", || broker.seen.lock().unwrap().losses == 0);
        }
        wait_for_delivery(&gateway);
        expect_fleet(&broker.records(), 40);
        let taken = broker.seen.lock().unwrap().taken.len() as u64;
        assert!(taken > fleet.published(), "some came twice");
        assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 0);
    }
}

/// The message at which the broker ends the connection is found, and given up; all others arrive, and the connections are few.
#[test]
fn of_many_messages_the_one_that_the_broker_cannot_take_is_given_up() {
    for (version, code) in [("5", Some(0x95)), ("5", Some(0x90)), ("5", Some(0x99)), ("3.1.1", None)] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(Dislikes { text: Some(("poison", code)), ..Dislikes::default() });
        let gateway = start(folder.path(), &broker.config(&format!("version = '{version}'")));
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 20);
        let poison = r#"{"value":1,"attributes":{"note":"poison"}}"#;
        Client::connect(gateway.mqtt, "spoiler").publish("devices/spoiler/temperature", poison);
        fleet.publish(gateway.mqtt, 20);
        Client::connect(gateway.mqtt, "spoiler").publish("devices/spoiler/temperature", "2.5");
        wait_for_delivery(&gateway);
        let records = broker.records();
        let (of_spoiler, of_fleet): (Vec<Value>, Vec<Value>) =
            records.into_iter().partition(|record| record["device"] == "spoiler");
        expect_fleet(&of_fleet, 40);
        let (readings, dead) = (of_spoiler.iter().filter(|record| record["type"] == "reading"), "dead_lettered");
        assert_eq!(readings.map(|record| record["value"].as_f64()).collect::<Vec<_>>(), [Some(2.5)], "{code:?}");
        let line = ledger_line(&gateway.status(), "broker", "raw").clone();
        assert_eq!((&line["accepted"], &line[dead]), (&802.into(), &1.into()), "{code:?}");
        let connections = broker.seen.lock().unwrap().connections;
        assert!(connections <= 30, "{version} {code:?}: {connections} connections");
    }
}

/// A broker that does not say why it ends a connection: what it does not like is the first that is sent, of two devices, and again and again.
#[test]
fn messages_that_a_broker_cannot_take_stop_nobody_else_if_they_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { text: Some(("poison", None)), ..Dislikes::default() });
    let gateway = start(folder.path(), &broker.config("version = '3.1.1'"));
    let poison = r#"{"value":1,"attributes":{"note":"poison"}}"#;
    for spoiler in ["spoiler", "spoiler-2"] {
        Client::connect(gateway.mqtt, spoiler).publish(&format!("devices/{spoiler}/temperature"), poison);
    }
    wait_until("an end without a reason", || broker.seen.lock().unwrap().connections > 1);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    wait_for_delivery(&gateway);
    let is_of_spoiler = |record: &Value| record["device"].as_str().is_some_and(|name| name.starts_with("spoiler"));
    let of_fleet: Vec<Value> = broker.records().into_iter().filter(|record| !is_of_spoiler(record)).collect();
    expect_fleet(&of_fleet, 20);
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 2);
    let connections = broker.seen.lock().unwrap().connections;
    assert!(connections <= 40, "{connections} connections");
}

#[test]
fn what_a_broker_refuses_in_its_acknowledgement_is_a_dead_letter_or_waits() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { refused: Some(("poison", 0x99)), ..Dislikes::default() });
    let gateway = start(folder.path(), &broker.config(""));
    let poison = r#"{"value":1,"attributes":{"note":"poison"}}"#;
    let mut client = Client::connect(gateway.mqtt, "a");
    client.publish("devices/a/temperature", "1.5");
    client.publish("devices/a/temperature", poison);
    client.publish("devices/a/temperature", "3.5");
    wait_for_delivery(&gateway);
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 1);
    // No right: nothing is lost, and somebody is told.
    broker.seen.lock().unwrap().dislikes.refused = Some(("poison", 0x87));
    client.publish("devices/a/temperature", poison);
    wait_until("it is said", || last_error(&gateway, "raw").contains("allow the client to publish there"));
    broker.seen.lock().unwrap().dislikes.refused = None;
    wait_for_delivery(&gateway);
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 1);
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.connections, 1, "no connection ends for it");
}

#[test]
fn within_the_limits_of_aws_nothing_gives_offence() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { is_aws: true, ..Dislikes::default() });
    let keys = "limits = 'aws-iot'\nwindow = 1000\nmessage_size_max = '4KiB'\nrecord_size = '1KiB'\ntopic = 'a/b/c/d/e/{device}'";
    let gateway = start(folder.path(), &broker.config(keys));
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 100);
    let long = "%".repeat(100);
    let mut client = Client::connect(gateway.mqtt, "large");
    let note = "n".repeat(4_000);
    client.publish("devices/large/temperature", format!("{{\"value\":1,\"attributes\":{{\"note\":\"{note}\"}}}}"));
    client.publish(&format!("devices/{long}/temperature"), "1.5");
    wait_for_delivery(&gateway);
    let records: Vec<Value> = broker.records();
    let of_fleet: Vec<Value> = records.into_iter().filter(|record| record["device"] != "large").collect();
    expect_fleet(&of_fleet, 100);
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 2, "too large, and a topic too long");
    let seen = broker.seen.lock().unwrap();
    assert!(seen.offences.is_empty(), "{:?}", seen.offences);
    assert_eq!(seen.connections, 1);
    let within = |from: &std::time::Instant| {
        seen.at.iter().filter(|at| **at >= *from && **at - *from < Duration::from_secs(1)).count()
    };
    let most = seen.at.iter().map(within).max().unwrap();
    // What was sent evenly may arrive closer together.
    assert!(most <= 110 && seen.at.len() > 100, "{most} of {} in a second", seen.at.len());
    assert!(seen.in_flight_most <= 100);
}

/// The control: without the limits, the same gives offence.
#[test]
fn without_the_limits_of_aws_it_would_give_offence() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { is_aws: true, ..Dislikes::default() });
    let keys = "window = 1000\nmessage_size_max = '1MiB'\nrecord_size = '1KiB'\ntopic = 'a/b/c/d/e/f/g/h/i/{device}'";
    let gateway = start(folder.path(), &broker.config(keys));
    Fleet::default().publish(gateway.mqtt, 5);
    wait_until("an offence", || !broker.seen.lock().unwrap().offences.is_empty());
    drop(gateway);
}

#[test]
fn a_broker_that_says_how_large_a_packet_may_be_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { packet_bytes_max: Some(2_000), ..Dislikes::default() });
    let gateway = start(folder.path(), &broker.config(""));
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    let note = "n".repeat(4_000);
    Client::connect(gateway.mqtt, "large")
        .publish("devices/large/temperature", format!("{{\"value\":1,\"attributes\":{{\"note\":\"{note}\"}}}}"));
    wait_for_delivery(&gateway);
    expect_fleet(&broker.records(), 20);
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 1);
    assert_eq!(broker.seen.lock().unwrap().connections, 1);
}

#[test]
fn whoever_has_to_mend_something_is_told_what() {
    for (version, code, words) in [
        ("5", 0x86, "the user name or the password is wrong"),
        ("3.1.1", 0x87, "not authorised"),
        ("5", 0x85, "the client id is not taken"),
        ("3.1.1", 0x84, "this version of MQTT is not spoken"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(Dislikes { connack: code, ..Dislikes::default() });
        let keys = format!("version = '{version}'\nusername = 'me'\npassword = 'hidden-secret'");
        let gateway = start(folder.path(), &broker.config(&keys));
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 2);
        wait_until(words, || last_error(&gateway, "raw").contains(words));
        broker.seen.lock().unwrap().dislikes.connack = 0;
        wait_for_delivery(&gateway);
        expect_fleet(&broker.records(), 2);
        let log = std::fs::read_to_string(&gateway.log).unwrap();
        assert!(log.contains("halted") && !log.contains("hidden-secret"), "{log}");
        assert!(gateway.stop().success());
        let seen = broker.seen.lock().unwrap();
        assert!(seen.client_ids.iter().all(|id| id == "gw-broker"), "{:?}", seen.client_ids);
        assert_eq!(seen.farewells, 1, "it leaves in order");
    }
}

#[test]
fn two_clients_of_one_id_are_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Dislikes { text: Some(("reading", Some(0x8e))), ..Dislikes::default() });
    let gateway = start(folder.path(), &broker.config("client_id = 'the-same'"));
    Fleet::default().publish(gateway.mqtt, 2);
    wait_until("it is named", || {
        last_error(&gateway, "raw").contains("another client connects again and again with the client id the-same")
    });
    assert_eq!(ledger_line(&gateway.status(), "broker", "raw")["dead_lettered"], 0);
    let check = Command::new(env!("CARGO_BIN_EXE_outrider"))
        .args(["check", "--config"])
        .arg(folder.path().join("outrider.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("two of them would throw each other out"), "{said}");
}

#[test]
fn doctor_logs_in_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outrider.toml");
    for (code, words) in [(0, "the broker lets it in"), (0x86, "the user name or the password is wrong")] {
        let broker = Broker::start(Dislikes { connack: code, ..Dislikes::default() });
        std::fs::write(&file, format!("[gateway]\nid = 'gw'\n{}", broker.config(""))).unwrap();
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_outrider"));
        doctor.args(["doctor", "--config"]).arg(&file).arg("--state").arg(folder.path().join("state"));
        let output = doctor.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words) && said.contains("as the client gw-mqtt-doctor"), "{said}");
        // The broker may read the last word after the doctor has gone.
        wait_until("it leaves", || broker.seen.lock().unwrap().farewells == u64::from(code == 0));
        assert_eq!(broker.seen.lock().unwrap().connections, 1);
    }
}

#[test]
fn a_certificate_is_shown_and_the_protocol_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    expect_success(&["cert", "init", certificates.to_str().unwrap(), "--device", "gw"], "");
    let broker = Broker::start_with(Dislikes::default(), Some(server_config(&certificates, "x-amzn-mqtt-ca")));
    let url = format!("mqtts://127.0.0.1:{}", broker.address.port());
    let alpn = "alpn = ['x-amzn-mqtt-ca']\nca = 'certificates/ca.pem'";
    let keys = format!("{alpn}\ncertificate = 'certificates/devices/gw.pem'\nkey = 'certificates/devices/gw.key'");
    let gateway = start(folder.path(), &config(&url, &keys));
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    wait_for_delivery(&gateway);
    expect_fleet(&broker.records(), 5);
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.certificates, seen.connections);
        assert!(seen.alpn.iter().all(|name| name.as_deref() == Some(b"x-amzn-mqtt-ca")), "{:?}", seen.alpn);
    }
    drop(gateway);
    // The control: without a certificate, and without trust.
    for keys in [alpn, "alpn = ['x-amzn-mqtt-ca']"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("certificates")).unwrap();
        std::fs::copy(certificates.join("ca.pem"), folder.path().join("certificates/ca.pem")).unwrap();
        let gateway = start(folder.path(), &config(&url, keys));
        Fleet::default().publish(gateway.mqtt, 1);
        wait_until("TLS is to blame", || last_error(&gateway, "raw").contains("TLS handshake"));
    }
}

//! The administration interface: what monitoring, people and consumers of the second stream see.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::archive;
use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

/// Names and types of a text in Prometheus' format; panics where it is not one.
fn metrics_of(text: &str) -> BTreeMap<String, f64> {
    let mut families = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            families.push(family.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            assert_eq!(families.last().map(String::as_str), Some(family), "{line}");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    samples
}

#[test]
fn health_metrics_and_status_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert_eq!(gateway.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(gateway.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(gateway.get("/nothing").0, 404);
    let mut client = Client::connect(gateway.mqtt, "device");
    for value in 0..5 {
        client.publish("devices/tank-1/temperature", format!("{value}").as_bytes());
    }
    client.publish("devices/tank-1/temperature", b"{");
    client.publish("elsewhere/x", b"1");
    // The numbers of the store are read after the commit that the acknowledgements waited for.
    let status = gateway.status();
    let metrics = metrics_of(&gateway.get("/metrics").1);
    assert_eq!(status["received"]["accepted"], 5);
    assert_eq!(metrics["outrider_readings_accepted_total"], 5.0);
    assert_eq!(status["received"]["undecodable_by_reason"]["not_json"], 1);
    assert_eq!(metrics["outrider_publishes_undecodable_total{reason=\"not_json\"}"], 1.0);
    assert_eq!(status["unrouted"]["topics"][0], "elsewhere/x");
    assert_eq!(metrics["outrider_publishes_unrouted_total"], 1.0);
    assert_eq!(metrics["outrider_buffer_events{stream=\"raw\",sink=\"archive\"}"], 5.0);
    for name in ["buffer_bytes", "buffer_oldest_seconds", "clock_synced", "mqtt_connections", "ledger_adds_up"] {
        assert!(metrics.contains_key(&format!("outrider_{name}")), "{name}");
    }
    let page = gateway.get("/").1;
    assert!(page.contains("Ledger") && page.contains("/api/status"));
}

/// The gateway's own record is retained on its topic and, stored, on the second stream: a consumer can prove that nothing is missing.
#[test]
fn the_gateway_tells_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "watcher");
    client.subscribe(&[("outrider/status", 1)]);
    let told: serde_json::Value = serde_json::from_slice(&client.receive().payload).unwrap();
    assert_eq!((told["type"].as_str(), told["state"].as_str()), (Some("gateway"), Some("running")));
    wait_until("the record is stored", || gateway.status()["ledger"][1]["accepted"].as_u64() >= Some(1));
    assert!(gateway.stop().success());
    let records = archive::records(&folder.path().join("state/archive"), "anomalies");
    let stored = records.iter().find(|record| record["type"] == "gateway").expect("on the second stream");
    for key in ["gateway", "run", "position"] {
        assert_eq!(stored[key], told[key], "{key}");
    }
}

/// A page of another site whose name stands for our loopback address.
#[test]
fn what_is_asked_in_the_name_of_another_site_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let status_of = |host: &str| {
        let mut stream = TcpStream::connect(gateway.admin.unwrap()).unwrap();
        write!(stream, "GET /api/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(["localhost:9464", "127.0.0.1", "rebound.example"].map(status_of), ["200", "200", "421"]);
}

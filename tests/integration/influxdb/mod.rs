//! The `influxdb` sink against a server that reads line protocol by a parser of its own, overwrites as InfluxDB does, and refuses in the words of each.
//! Real ones are in `tests/cloud/stores`.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::{Client, publish_packet};
use crate::fake::Fake;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::{DEVICES, Fleet};

const TOKEN: &str = "t0k3n-of-ours";

struct Server(Fake);

impl Server {
    fn start() -> Server {
        Server(Fake::start("influxdb/server.py"))
    }

    /// What is stored of a measurement.
    fn points(&self, measurement: &str) -> Vec<Value> {
        self.get("/points").into_iter().filter(|point| point["measurement"] == measurement).collect()
    }

    fn config(&self, kind: &str, keys: &str) -> String {
        let place = match kind {
            "influxdb2" => "org = 'ours'\nbucket = 'fleet'\ntoken = 'env:TOKEN'",
            "influxdb3" => "database = 'fleet'\ntoken = 'env:TOKEN'",
            _ => "database = 'fleet'",
        };
        format!(
            "[[sink]]\nname = 'points'\ntype = 'influxdb'\nserver = '{kind}'\nurl = 'http://{}'\n{place}\ntimeout = '1s'\nbatch_delay = '20ms'\n{keys}\n",
            self.address
        )
    }
}

impl Deref for Server {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Fake {
        &mut self.0
    }
}

fn start(folder: &Path, config: &str) -> Gateway {
    Gateway::start_configured(folder, config, &[], &[("TOKEN", TOKEN), ("NO_PROXY", "*")])
}

fn ledger(gateway: &Gateway, stream: &str) -> Value {
    ledger_line(&gateway.status(), "points", stream).clone()
}

fn wait_for_delivery(gateway: &Gateway) {
    wait_until("everything is delivered", || {
        ["raw", "anomalies"].iter().all(|stream| ledger(gateway, stream)["buffered"] == 0)
    });
}

/// Readings with the times that their device gives them, one every millisecond.
fn publish_at(gateway: &Gateway, device: &str, first_ms: u64, count: u64) {
    let mut client = Client::connect(gateway.mqtt, device);
    let times: Vec<u64> = (first_ms..first_ms + count).collect();
    for window in times.chunks(50) {
        let mut packets = Vec::new();
        for time in window {
            let (topic, payload) =
                (format!("devices/{device}/temperature"), format!("{{\"value\":20.5,\"ts\":{time}}}"));
            let id = client.next_packet_id();
            packets.extend(publish_packet(&topic, payload.as_bytes(), 1, false, false, id));
        }
        client.send(&packets);
        window.iter().for_each(|_| assert_eq!(client.packet().unwrap().first, 0x40));
    }
}

fn by_device(points: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for point in points {
        *counts.entry(point["tags"]["device"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

/// Points are as many as readings: none is missing, none took the place of another, and none is there twice, however often it was sent.
#[test]
fn through_trouble_and_kills_each_reading_is_one_point() {
    for kind in ["influxdb1", "influxdb2", "influxdb3"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start();
        let config = server.config(kind, "request_size_max = '64KiB'");
        let mut gateway = start(folder.path(), &config);
        let mut fleet = Fleet::default();
        for fault in ["500", "lost", "hang", "429", "lost", "503"] {
            server.order(fault, 2);
            server.order("none", 1);
            fleet.publish(gateway.mqtt, 20);
            if fault == "lost" {
                gateway.kill();
                gateway = start(folder.path(), &config);
            }
        }
        wait_for_delivery(&gateway);
        let points = server.points("temperature");
        let counts = by_device(&points);
        assert!(counts.len() as u64 == DEVICES && counts.values().all(|count| *count == 120), "{kind}: {counts:?}");
        assert!(points.iter().all(|point| point["fields"]["value"] == 20.5), "{kind}");
        let line = ledger(&gateway, "raw");
        assert_eq!((&line["delivered"], &line["accepted"]), (&fleet.published().into(), &fleet.published().into()));
        let seen = server.get("/seen");
        for fault in ["500", "lost", "hang", "429", "503"] {
            assert!(seen.iter().any(|write| write["fault"] == fault), "{kind}: no {fault}");
        }
        let sent: u64 = seen.iter().map(|write| write["lines"].as_u64().unwrap()).sum();
        assert!(sent > fleet.published(), "{kind}: nothing was sent again");
        let log = std::fs::read_to_string(&gateway.log).unwrap();
        assert!(!log.contains(TOKEN), "{log}");
    }
}

/// The control: where times are whole milliseconds, readings of one millisecond overwrite each other.
#[test]
fn without_the_part_below_the_millisecond_readings_are_overwritten() {
    for (keys, is_whole) in [("", true), ("same_time = 'overwrite'", false)] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start();
        let gateway = start(folder.path(), &server.config("influxdb1", keys));
        let mut device = Client::connect(gateway.mqtt, "device");
        for number in 0..20 {
            device.publish(
                "devices/a/temperature",
                format!("[{{\"value\":{number},\"ts\":1795465865120,\"seq\":{number}}}]"),
            );
        }
        wait_for_delivery(&gateway);
        let points = server.points("temperature");
        assert_eq!(points.len() == 20, is_whole, "{points:?}");
        assert_eq!(ledger(&gateway, "raw")["delivered"], 20);
        assert!(points.iter().all(|point| point["time"].as_u64().unwrap() / 1_000_000 == 1_795_465_865_120));
    }
}

#[test]
fn of_bad_points_among_good_ones_only_those_are_dead_letters() {
    for kind in ["influxdb1", "influxdb2", "influxdb3"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start();
        // What waits is sent together.
        server.order("503", 1);
        let gateway = start(folder.path(), &server.config(kind, "streams = ['raw']\nmeasurement = 'readings'"));
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 10);
        let mut device = Client::connect(gateway.mqtt, "bad");
        device.publish("devices/poisoned/temperature", "1.5");
        fleet.publish(gateway.mqtt, 10);
        wait_until("everything is decided", || ledger(&gateway, "raw")["buffered"] == 0);
        let line = ledger(&gateway, "raw");
        assert_eq!((&line["dead_lettered"], &line["delivered"]), (&1.into(), &fleet.published().into()), "{kind}");
        let points = server.points("readings");
        assert_eq!(points.len() as u64, fleet.published(), "{kind}");
        assert!(points.iter().all(|point| point["tags"]["metric"] == "temperature"));
        let store = outrider::store::schema::store_path(&folder.path().join("state"));
        let db = outrider::store::schema::open_reader(&store, None).unwrap();
        let letter = "SELECT reason, CAST(line AS TEXT) FROM dead_letter";
        let (reason, text): (String, String) = db.query_row(letter, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert!(reason.contains("field type conflict") && text.contains("poisoned"), "{reason}: {text}");
    }
}

/// After a month without a link: what is older than the server keeps is refused, reading by reading, and what is not goes on.
#[test]
fn a_backlog_that_is_too_old_does_not_stop_what_is_not() {
    for kind in ["influxdb1", "influxdb2"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start();
        let cut = 1_795_465_865_000;
        server.order("oldest_ms", cut);
        let gateway = start(folder.path(), &server.config(kind, "streams = ['raw']"));
        publish_at(&gateway, "old", cut - 1_000, 700);
        publish_at(&gateway, "across", cut - 130, 300);
        publish_at(&gateway, "new", cut, 200);
        wait_until("everything is decided", || ledger(&gateway, "raw")["buffered"] == 0);
        let line = ledger(&gateway, "raw");
        assert_eq!((&line["dead_lettered"], &line["delivered"]), (&830.into(), &370.into()), "{kind}: {line}");
        let counts = by_device(&server.points("temperature"));
        assert_eq!(counts, [("across".to_owned(), 170), ("new".to_owned(), 200)].into(), "{kind}");
        assert!(!std::fs::read_to_string(&gateway.log).unwrap().contains("halted"));
    }
}

/// Also where it is asked for when some points of the request are decided already.
#[test]
fn a_pause_that_the_server_asks_for_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start();
    let cut = 1_795_465_865_000;
    server.order("oldest_ms", cut);
    // The whole request and its older half are answered at once; the newer half has to wait for a second.
    server.order("none", 2);
    server.order("429", 1);
    let gateway = start(folder.path(), &server.config("influxdb1", "streams = ['raw']"));
    let reading = |ts: u64| json!({"value": 20.5, "ts": ts});
    let readings = json!([reading(cut - 2), reading(cut - 1), reading(cut), reading(cut + 1)]);
    Client::connect(gateway.mqtt, "tank").publish("devices/tank/temperature", readings.to_string());
    wait_until("everything is decided", || ledger(&gateway, "raw")["buffered"] == 0);
    let line = ledger(&gateway, "raw");
    assert_eq!((&line["dead_lettered"], &line["delivered"]), (&2.into(), &2.into()), "{line}");
    let seen = server.get("/seen");
    let asked = seen.iter().position(|write| write["fault"] == "429").unwrap();
    assert_eq!(asked, 2, "{seen:?}");
    let at = |write: &Value| write["at"].as_f64().unwrap();
    assert!(at(&seen[asked + 1]) >= at(&seen[asked]) + 1.0, "{seen:?}");
}

/// Where nothing of what is not too old is taken, few are given up, and the rest is there when it is mended.
#[test]
fn a_type_that_is_refused_of_every_point_halts_the_sink_also_beside_what_is_too_old() {
    for kind in ["influxdb1", "influxdb2"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start();
        let cut = 1_795_465_865_000;
        server.order("oldest_ms", cut);
        let gateway = start(folder.path(), &server.config(kind, "streams = ['raw']"));
        let mut client = Client::connect(gateway.mqtt, "gateway");
        for number in 0..60 {
            let payload = |at_ms: u64| format!("{{\"value\":20.5,\"ts\":{}}}", at_ms + number);
            client.publish("devices/old/temperature", payload(cut - 1_000));
            client.publish("devices/poisoned/temperature", payload(cut));
        }
        let halted = || {
            let status = gateway.status();
            let sinks = status["sinks"].as_array().unwrap();
            let sink = sinks.iter().find(|sink| sink["name"] == "points" && sink["stream"] == "raw").unwrap();
            sink["last_error"].as_str().is_some_and(|error| error.contains("in a row, so it is not the fault of one"))
        };
        wait_until("it halts", halted);
        // What comes later does not change it.
        publish_at(&gateway, "poisoned", cut + 1_000, 40);
        wait_until("it is still halted", halted);
        let line = ledger(&gateway, "raw");
        assert_eq!(line["delivered"], 0, "{kind}: {line}");
        assert!(line["dead_lettered"].as_u64().unwrap() <= 60 + 20, "{kind}: {line}");
        server.order("mended", 1);
        wait_until("everything is decided", || ledger(&gateway, "raw")["buffered"] == 0);
        let line = ledger(&gateway, "raw");
        let (delivered, dead) = (line["delivered"].as_u64().unwrap(), line["dead_lettered"].as_u64().unwrap());
        assert!(delivered >= 80 && delivered + dead == 160, "{kind}: {line}");
        assert_eq!(server.points("temperature").len() as u64, delivered, "{kind}");
    }
}

#[test]
fn what_somebody_has_to_mend_is_named_and_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let config = server.config("influxdb1", "").replace("'fleet'", "'other'");
    let gateway = start(folder.path(), &config);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    let last_error = |gateway: &Gateway| {
        let status = gateway.status();
        let sinks = status["sinks"].as_array().unwrap().clone();
        let sink = sinks.into_iter().find(|sink| sink["name"] == "points" && sink["stream"] == "raw").unwrap();
        sink["last_error"].as_str().unwrap_or_default().to_owned()
    };
    wait_until("it names the database", || last_error(&gateway).contains("database not found: 'other'"));
    assert!(gateway.stop().success());
    // A token that the server does not know; it says which.
    let config = server.config("influxdb2", "").replace("env:TOKEN", "env:WRONG");
    let environment = [("WRONG", "wr0ng-t0k3n"), ("NO_PROXY", "*")];
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &environment);
    wait_until("it says why", || last_error(&gateway).contains("HTTP status 401: unauthorized"));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("(not shown)") && !log.contains("wr0ng-t0k3n"), "{log}");
    drop(gateway);
    let gateway = start(folder.path(), &server.config("influxdb2", ""));
    wait_for_delivery(&gateway);
    assert_eq!(server.points("temperature").len() as u64, fleet.published());
    assert_eq!(ledger(&gateway, "raw")["dead_lettered"], 0);
}

/// Anomalies, alerts and the gateway's own state are points as far as they have numbers; the rest is counted.
#[test]
fn the_second_stream_has_forms_of_its_own_and_what_has_none_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let gateway = start(folder.path(), &server.config("victoriametrics", ""));
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/a b,c=d\\/temperature", "-127");
    device.publish("devices/a/temperature", "nan");
    device.publish("devices/a/temperature", "20.5");
    for measurement in ["outrider_anomalies", "outrider_alerts", "outrider_gateway", "outrider_ledger"] {
        wait_until(measurement, || !server.points(measurement).is_empty());
    }
    wait_for_delivery(&gateway);
    let line = ledger(&gateway, "raw");
    assert_eq!((&line["delivered"], &line["passed_over"]), (&3.into(), &1.into()), "{line}");
    let devices = by_device(&server.points("temperature"));
    assert_eq!(devices, [("a b,c=d%5C".to_owned(), 1), ("a".to_owned(), 1)].into());
    let all = server.get("/points");
    let is_number = |point: &Value| point["fields"].as_object().unwrap().values().all(Value::is_number);
    assert!(all.iter().all(is_number), "VictoriaMetrics makes 0 of a text");
    let alerts = server.points("outrider_alerts");
    let is_raised = |alert: &Value| alert["tags"]["metric"] == "temperature" && alert["fields"]["raised"] == 1.0;
    assert!(alerts.iter().any(is_raised), "{alerts:?}");
    let delivered = server.points("outrider_ledger");
    assert!(delivered.iter().all(|point| point["fields"]["accepted"].is_number()), "{delivered:?}");
}

#[test]
fn a_request_that_is_too_large_is_made_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start();
    server.order("body_max", 2_000);
    let gateway = start(folder.path(), &server.config("influxdb1", "compression = 'none'"));
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    wait_for_delivery(&gateway);
    assert_eq!(server.points("temperature").len() as u64, fleet.published());
    assert_eq!(ledger(&gateway, "raw")["dead_lettered"], 0);
}

#[test]
fn doctor_is_told_whether_it_would_be_let_in_and_writes_nothing() {
    let server = Server::start();
    for (kind, change, said) in [
        ("influxdb1", ("", ""), "InfluxDB 1 at http://127.0.0.1:"),
        ("influxdb1", ("'fleet'", "'other'"), "database not found"),
        ("influxdb2", ("", ""), "it lets us in"),
        ("influxdb2", ("env:TOKEN", "wrong-token"), "HTTP status 401"),
        ("influxdb3", ("", ""), "it lets us in"),
        ("influxdb3", ("env:TOKEN", "wrong-token"), "HTTP status 401"),
        ("victoriametrics", ("", ""), "it lets us in"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = server.config(kind, "").replace(change.0, change.1);
        let config = if change.0.is_empty() { server.config(kind, "") } else { config };
        let file = folder.path().join("outrider.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
        command.args(["doctor", "--json", "--config"]).arg(&file).arg("--state").arg(folder.path().join("state"));
        command.env("TOKEN", TOKEN).env("NO_PROXY", "*").env("OUTRIDER__ADMIN__LISTEN", "127.0.0.1:0");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == "sink points").unwrap();
        let text = found["found"].as_str().unwrap();
        assert!(text.contains(said) && !text.contains("wrong-token"), "{kind}: {text}");
        assert_eq!(found["verdict"] == "bad", !change.0.is_empty(), "{found}");
    }
    assert!(server.get("/points").is_empty());
    assert!(server.get("/seen").iter().all(|write| write["lines"] == 0));
}

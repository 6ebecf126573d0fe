//! Live detection finds the same as `outrider detect` in a file of the same readings, whatever happens to the gateway meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use firmware_sim::fault::{BoundFault, Fault, reported_value};
use firmware_sim::payload::{Format, Sample, encode_samples};
use firmware_sim::timeline::Timeline;
use firmware_sim::vehicle::{Metric, Vehicle};
use outrider::store::schema::store_path;
use serde_json::Value;

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, wait_until};
use crate::kill;

const SECONDS: u64 = 2_100;
/// Times count from the first reading, when nothing is known yet.
const FAULTS: [&str; 8] = [
    "spike:truck-01:engine_temperature:+30@700s",
    "step:truck-01:engine_temperature:+12@900s..1000s",
    "step:truck-01:speed:+60@1200s..1230s",
    "stuck:truck-01:container_temperature@1400s..1500s",
    "spike:truck-02:engine_temperature:-20@650s/200s",
    "noise:truck-02:container_temperature:1.5@1100s..1160s",
    "drift:truck-02:engine_temperature:+15@1300s..1500s",
    "dropout:truck-02:*@1700s..1730s",
];
/// Most unacknowledged publishes: a few seconds' worth, and more than a minute's, as when a device sends its buffer.
const WINDOWS: [usize; 2] = [32, 250];

/// One publish, the equivalent lines of a file, and when it is sent by the devices' time.
struct Publish {
    at_ms: i64,
    topic: String,
    payload: Vec<u8>,
    lines: Vec<String>,
}

/// Two vehicles, one of them in CBOR, a sensor with ten readings a second and one with three a minute. Some readings come up to five
/// seconds late, some come twice, and some are not numbers.
struct Stream {
    start_ms: i64,
    publishes: Vec<Publish>,
    seed: u64,
}

impl Stream {
    fn new() -> Stream {
        // All times are past when they are sent: times in the future would not be accepted.
        let start_ms = outrider::gateway::now_ms() - (SECONDS as i64 + 100) * 1_000;
        let mut stream = Stream { start_ms, publishes: Vec::new(), seed: 0x9e37_79b9_7f4a_7c15 };
        for number in [1, 2] {
            stream.vehicle(number);
        }
        stream.quick_sensor();
        stream.slow_sensor();
        stream.publishes.sort_by_key(|publish| publish.at_ms);
        stream
    }

    fn vehicle(&mut self, number: u16) {
        let name = Vehicle::name(number);
        let vehicle = Vehicle::new(7, number, 1.0);
        let timeline = Timeline { origin_ms: self.start_ms, interval_ms: 1_000 };
        let faults = FAULTS.map(|text| text.parse::<Fault>().unwrap());
        let of_it = faults.iter().filter(|fault| fault.device == name);
        let faults: Vec<_> = of_it.map(|fault| BoundFault::new(fault, self.start_ms, timeline)).collect();
        for second in 0..SECONDS {
            let measured_at_ms = timeline.measured_at_ms(second);
            let mut values = Metric::ALL.map(|metric| reported_value(&vehicle, &faults, metric, second));
            // JSON cannot express such numbers.
            if number == 2 && second % 300 == 299 {
                values[Metric::EngineTemperature.index()] = Some(f64::NAN);
                values[Metric::Speed.index()] = Some(f64::NEG_INFINITY);
            }
            let sample = Sample { measured_at_ms, sequence: second, values, road: vehicle.road(second) };
            if sample.reading_count() == 0 {
                continue;
            }
            let format = if number == 1 { Format::Json } else { Format::Cbor };
            let payload = encode_samples(format, &[sample]).to_vec();
            let all = Metric::ALL.into_iter().zip(values);
            let line =
                |(metric, value): (Metric, Option<f64>)| Some(format!("{name}/{metric},{measured_at_ms},{}", value?));
            self.send(measured_at_ms, format!("vehicles/{name}"), payload, all.filter_map(line).collect());
        }
    }

    /// One second of its readings in one publish.
    fn quick_sensor(&mut self) {
        let vehicle = Vehicle::new(7, 3, 0.1);
        for second in 0..SECONDS {
            let raised = if (800..860).contains(&second) { 3.0 } else { 0.0 };
            let samples: Vec<(i64, f64)> = (0..10)
                .map(|tenth| {
                    let value = vehicle.value(Metric::ContainerTemperature, second * 10 + tenth) + raised;
                    (self.start_ms + (second * 1_000 + tenth * 100) as i64, (value * 100.0).round() / 100.0)
                })
                .collect();
            let items: Vec<_> =
                samples.iter().map(|(ms, value)| format!("{{\"value\":{value},\"ts_ms\":{ms}}}")).collect();
            let lines = samples.iter().map(|(ms, value)| format!("press/oil_pressure,{ms},{value}")).collect();
            let payload = format!("[{}]", items.join(",")).into_bytes();
            self.send(samples[9].0, "devices/press/oil_pressure".to_owned(), payload, lines);
        }
    }

    fn slow_sensor(&mut self) {
        for second in (0..SECONDS).step_by(20) {
            let at_ms = self.start_ms + second as i64 * 1_000;
            let value = if second == 1_000 { -127.0 } else { 4.0 + (second % 7) as f64 / 10.0 };
            let line = format!("tank/temperature,{at_ms},{value}");
            let topic = "devices/tank/temperature".to_owned();
            self.send(
                at_ms,
                topic.clone(),
                format!("{{\"value\":{value},\"ts_ms\":{at_ms}}}").into_bytes(),
                vec![line],
            );
            // A null value is no reading.
            self.send(at_ms, topic, format!("{{\"value\":null,\"ts_ms\":{at_ms}}}").into_bytes(), Vec::new());
        }
    }

    fn send(&mut self, measured_at_ms: i64, topic: String, payload: Vec<u8>, lines: Vec<String>) {
        let mut dice = |sides: u64| kill::next(&mut self.seed) % sides;
        let late_ms = if dice(20) == 0 { dice(5_001) as i64 } else { 0 };
        let again_ms = if dice(30) == 0 { Some(dice(3_000) as i64) } else { None };
        for at_ms in [Some(late_ms), again_ms].into_iter().flatten().map(|after_ms| measured_at_ms + after_ms) {
            self.publishes.push(Publish {
                at_ms,
                topic: topic.clone(),
                payload: payload.clone(),
                lines: lines.clone(),
            });
        }
    }

    /// How many publishes come before this second.
    fn before(&self, second: i64) -> usize {
        self.publishes.partition_point(|publish| publish.at_ms < self.start_ms + second * 1_000)
    }

    fn readings(&self, publishes: usize) -> u64 {
        self.publishes[..publishes].iter().map(|publish| publish.lines.len() as u64).sum()
    }

    /// Sends from the first unacknowledged publish on, until `until` are acknowledged; what is in flight then stays unanswered. Returns how
    /// many have been sent, and the connection: closing it too early would discard what the gateway has not read yet.
    fn pump(&self, gateway: &Gateway, window: usize, acknowledged: &mut usize, until: usize) -> (usize, Client) {
        let mut client = Client::connect(gateway.mqtt, "gateway-of-the-devices");
        let mut sent = *acknowledged;
        while *acknowledged < until {
            while sent < self.publishes.len().min(*acknowledged + window) {
                let Publish { topic, payload, .. } = &self.publishes[sent];
                let id = client.next_packet_id();
                client.send(&publish_packet(topic, payload, 1, false, false, id));
                sent += 1;
            }
            assert_eq!(client.packet().unwrap().first, 0x40);
            *acknowledged += 1;
        }
        (sent, client)
    }
}

/// Series, time and detector.
type Found = BTreeSet<(String, i64, String)>;

/// Without silences: these are measured by the listener's clock.
fn found_in_a_file(stream: &Stream) -> Found {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    let mut child = command.arg("detect").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<&str> = stream.publishes.iter().flat_map(|publish| &publish.lines).map(String::as_str).collect();
    let text = lines.join("\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let row = |row: &str| {
        let fields: Vec<&str> = row.split(',').collect();
        (fields[0].to_owned(), fields[1].parse().unwrap(), fields[3].to_owned())
    };
    let rows = String::from_utf8(output.stdout).unwrap();
    rows.lines().map(row).filter(|(_, _, detector)| detector != "gap").collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn found_live(records: &[Value]) -> Found {
    let mut found = Found::new();
    for record in records.iter().filter(|record| record["type"] == "anomaly" && record["detector"] != "gap") {
        let series = format!("{}/{}", text(&record["device"]), text(&record["metric"]));
        for detector in std::iter::once(&record["detector"]).chain(record["also"].as_array().unwrap()) {
            found.insert((series.clone(), record["measured_at_ms"].as_i64().unwrap(), text(detector)));
        }
    }
    found
}

/// Sends everything to a gateway that is killed at these seconds of the devices' time. With `forgets`, its store is removed each time.
fn live(folder: &Path, stream: &Stream, kills: &[i64], forgets: bool) -> Vec<Value> {
    // Alerts do not clear, so one that is raised twice was forgotten.
    let config = "alert.clear_after = '1d'\n";
    let start = || Gateway::start_configured(folder, config, &[], &[]);
    let mut gateway = start();
    let mut acknowledged = 0;
    for ((second, waits), window) in
        kills.iter().zip([true, true, false].into_iter().cycle()).zip(WINDOWS.into_iter().cycle())
    {
        let accepted = || gateway.status()["received"]["accepted"].as_u64().unwrap();
        let before = accepted() - stream.readings(acknowledged).min(accepted());
        let (sent, client) = stream.pump(&gateway, window, &mut acknowledged, stream.before(*second));
        assert!(sent > acknowledged);
        if waits {
            // Everything sent is stored, but the devices do not know that: all of it is sent again.
            wait_until("it is stored", || accepted() == before + stream.readings(sent));
        }
        gateway.kill();
        drop(client);
        if forgets {
            for suffix in ["", "-wal", "-shm"] {
                let path = format!("{}{suffix}", store_path(&folder.join("state")).display());
                let _ = std::fs::remove_file(path);
            }
        }
        gateway = start();
    }
    stream.pump(&gateway, WINDOWS[0], &mut acknowledged, stream.publishes.len());
    assert!(gateway.stop().success());
    archive::records(&folder.join("state/archive"), "anomalies")
}

/// Ids of alerts by device, metric and kind.
fn alerts(records: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let mut alerts = BTreeMap::<String, BTreeSet<String>>::new();
    for record in records.iter().filter(|record| record["type"] == "alert" && record["kind"] != "gap") {
        let key = ["device", "metric", "kind"].map(|name| text(&record[name])).join("/");
        alerts.entry(key).or_default().insert(text(&record["id"]));
    }
    alerts
}

#[test]
fn the_same_is_found_live_and_in_a_file_across_kills_too() {
    let stream = Stream::new();
    let expected = found_in_a_file(&stream);
    let detectors: BTreeSet<&str> = expected.iter().map(|(_, _, detector)| detector.as_str()).collect();
    assert_eq!(detectors, BTreeSet::from(["burst", "limit", "shift", "spike", "stuck"]), "the test says something");

    let folder = tempfile::tempdir().unwrap();
    let unharmed = live(folder.path(), &stream, &[], false);
    assert_eq!(found_live(&unharmed), expected);
    // Hardly any, because late readings raise nothing.
    let raised = alerts(&unharmed);
    assert!(raised.values().all(|ids| ids.len() == 1), "{raised:?}");

    // After a spike; during a step, a burst, a rise, a drift and a stuck stretch; and when nothing happens.
    let kills = [701, 830, 950, 1_130, 1_210, 1_400, 1_450, 1_900];
    let folder = tempfile::tempdir().unwrap();
    let killed = live(folder.path(), &stream, &kills, false);
    let found = found_live(&killed);
    let (missing, more) =
        (expected.difference(&found).collect::<Vec<_>>(), found.difference(&expected).collect::<Vec<_>>());
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}\nmore {more:?}");
    let raised_again = alerts(&killed);
    assert!(raised_again.values().all(|ids| ids.len() == 1), "{raised_again:?}");
    let mut raw = 0;
    archive::read(&folder.path().join("state/archive"), "raw", |_| raw += 1);
    assert!(raw > stream.readings(stream.publishes.len()), "nothing came again");
}

/// The control: this depends on what the store keeps.
#[test]
fn without_its_store_other_things_would_be_found_after_a_kill() {
    let stream = Stream::new();
    let folder = tempfile::tempdir().unwrap();
    let records = live(folder.path(), &stream, &[950], true);
    assert_ne!(found_live(&records), found_in_a_file(&stream));
}

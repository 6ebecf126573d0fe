//! What a changed configuration would raise, computed from a store that a gateway has filled or is filling.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use firmware_sim::fleet::{Fleet, FleetReport, FleetSettings};
use firmware_sim::vehicle::{Metric, Vehicle};
use outrider::store::schema::store_path;
use tokio::sync::watch;

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

const VEHICLES: u16 = 6;
const INTERVAL: Duration = Duration::from_millis(100);
const HISTORY_SAMPLES: u64 = 1_200;

/// The sink takes no records, so the store keeps them.
const DEAD_CLOUD: &str = "\
[gateway]
shutdown_grace = \"1s\"
[[sink]]
name = \"cloud\"
type = \"kinesis\"
region = \"eu-central-1\"
endpoint = \"http://127.0.0.1:1\"
raw = \"raw\"
anomalies = \"anomalies\"
";
const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];

fn start(folder: &Path) -> Gateway {
    Gateway::start_configured(folder, DEAD_CLOUD, &[], &CREDENTIALS)
}

/// Two minutes of history to warm up the detectors, and a few live seconds with a spike in the engine of truck-02.
fn drive(mqtt: SocketAddr) -> FleetReport {
    let settings = FleetSettings {
        vehicles: VEHICLES,
        interval: INTERVAL,
        history: INTERVAL * HISTORY_SAMPLES as u32,
        faults: vec!["spike:truck-02:engine_temperature:+40@1s".parse().unwrap()],
        ..FleetSettings::new(mqtt)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (events, mut happened) = tokio::sync::mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let fleet = tokio::spawn(Fleet::new(settings, Some(events)).unwrap().run(stopped));
        while let Some(event) = happened.recv().await {
            if matches!(event, firmware_sim::fleet::FleetEvent::FaultEnded(_)) {
                stop.send_replace(true);
            }
        }
        fleet.await.unwrap().unwrap()
    })
}

struct Answer {
    code: i32,
    lines: Vec<serde_json::Value>,
    errors: String,
}

fn detect(folder: &Path, changed: &str, arguments: &[&str]) -> Answer {
    let file = folder.join("changed.toml");
    std::fs::write(&file, changed).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    // This machine's own configuration is not used.
    command.args(["detect", "--from-store", "--json", "--against", "/dev/null", "--config"]).arg(file);
    command.arg("--state").arg(folder.join("state")).args(arguments);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer {
        code: output.status.code().unwrap(),
        lines: text(output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        errors: text(output.stderr),
    }
}

impl Answer {
    fn whole(&self) -> &serde_json::Value {
        assert_eq!((self.code, self.errors.as_str()), (0, ""));
        &self.lines[0]
    }

    /// One column for one kind, by series.
    fn column(&self, kind: &str, column: &str) -> BTreeMap<String, u64> {
        let rows = self.lines[1..].iter().filter(|row| row["kind"] == kind && row[column] != 0);
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
        let name = |row| format!("{}/{}", text(row, "device"), text(row, "metric"));
        rows.map(|row| (name(row), row[column].as_u64().unwrap())).collect()
    }
}

/// A bound on the containers' temperature, and the vehicles that exceed it. They exceed it in the last half minute of their history or
/// later, when readings are recent enough to raise alerts.
fn bound(report: &FleetReport) -> (f64, BTreeMap<String, u64>) {
    let interval_s = INTERVAL.as_secs_f64();
    let maxima: Vec<(f64, f64)> = (1..=VEHICLES)
        .map(|number| {
            let vehicle = Vehicle::new(1, number, interval_s);
            let last = report.last_sequences[usize::from(number) - 1];
            let value =
                |index| Metric::ContainerTemperature.rounded(vehicle.value(Metric::ContainerTemperature, index));
            let max = |from| (from..last).map(value).fold(f64::MIN, f64::max);
            (max(0), max(HISTORY_SAMPLES - 300))
        })
        .collect();
    let bounds = (0..100).map(|step| 22.005 + f64::from(step) * 0.02);
    let found = bounds.into_iter().find_map(|bound| {
        let over: Vec<bool> = maxima.iter().map(|(_, late)| *late > bound).collect();
        let is_clear = maxima.iter().zip(&over).all(|((all, _), over)| *over == (*all > bound));
        let count = over.iter().filter(|over| **over).count();
        (is_clear && (2..usize::from(VEHICLES)).contains(&count)).then_some((bound, over))
    });
    let (bound, over) = found.expect("these vehicles differ");
    let numbers = (1..=VEHICLES).zip(over).filter(|(_, over)| *over).map(|(number, _)| number);
    (bound, numbers.map(|number| (format!("{}/container_temperature", Vehicle::name(number)), 1)).collect())
}

/// Name, length and checksum of the files in a folder, except what any reader of a store may leave: an empty log and its index.
fn content(folder: &Path) -> BTreeMap<String, (usize, u32)> {
    let mut content = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        if !(name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty()) {
            content.insert(name, (bytes.len(), crc32fast::hash(&bytes)));
        }
    }
    content
}

#[test]
fn a_changed_configuration_is_held_against_what_a_gateway_stored() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let report = drive(gateway.mqtt);
    assert_eq!(report.readings_unacknowledged, 0);
    let alerts = gateway.status()["alerts"].as_array().unwrap().clone();
    assert!(gateway.stop().success());
    let state = folder.path().join("state");
    let before = content(&state);

    let (max, over) = bound(&report);
    let changed = format!(
        "[[limit]]\nmetric = 'container_temperature'\nmax = {max}\n[[profile]]\nmetrics = 'engine'\nlike = 'off'\n"
    );
    let answer = detect(folder.path(), &changed, &[]);
    let whole = answer.whole();
    assert_eq!(whole["readings"], report.readings_acknowledged);
    assert_eq!(answer.column("limit", "new"), over, "above {max}");
    let engine = "truck-02/engine_temperature";
    assert_eq!(answer.column("anomaly", "no_longer").get(engine), Some(&1));
    assert!(answer.column("anomaly", "no_longer").keys().all(|series| series.ends_with("/engine_temperature")));
    assert_eq!(whole["new"]["alerts"], over.len());
    // With the settings that were running, the replay raises the same alerts.
    assert_eq!((&whole["raised"]["alerts"], &whole["present"]["alerts"]), (&alerts.len().into(), &alerts.len().into()));
    assert_eq!(answer.column("anomaly", "raised"), answer.column("anomaly", "present"));
    assert_eq!(whole["new"]["per_day"], serde_json::Value::Null, "seconds say nothing of a day");

    assert_eq!(before, content(&state), "the store is as it was");
    // The control: a write to the store is detected.
    rusqlite::Connection::open(store_path(&state)).unwrap().execute("DELETE FROM snapshot", []).unwrap();
    assert_ne!(before, content(&state));
}

#[test]
fn it_reads_beside_a_gateway_that_runs_and_after_one_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(folder.path());
    let mut device = Client::connect(gateway.mqtt, "tank");
    let changed = "[[limit]]\nmetric = 'temperature'\nmax = 30\n";
    for round in 1..=20_u64 {
        device.publish("devices/tank/temperature", "20.5");
        device.publish("devices/tank/temperature", "30.5");
        let answer = detect(folder.path(), changed, &[]);
        assert_eq!(answer.whole()["readings"], 2 * round, "what is acknowledged is there");
        assert_eq!(answer.column("limit", "new"), BTreeMap::from([("tank/temperature".to_owned(), 1)]));
    }
    assert!(gateway.is_running());
    wait_until("the gateway's own count", || gateway.status()["received"]["accepted"] == 40);
    assert_eq!(gateway.status()["ledger_adds_up"], true);
    gateway.kill();

    // The last acknowledged readings are only in the log, which has not been checkpointed into the file.
    let answer = detect(folder.path(), changed, &[]);
    assert_eq!((answer.whole()["readings"].as_u64(), answer.whole()["damaged_batches"].as_u64()), (Some(40), Some(0)));
    let gateway = start(folder.path());
    assert_eq!(gateway.status()["received"]["accepted"], 40);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("set aside"), "{log}");
}

#[test]
fn a_profile_alone_is_a_change_and_no_change_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let detect = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
        command.args(["detect", "--from-store", "--state"]).arg(folder.path()).args(arguments);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, errors) = detect(&["--against", "/dev/null", "--profile", "plant"]);
    assert!(code == 1 && errors.contains("there is no store") && errors.contains("--state"), "{code} {errors}");
    let (code, errors) = detect(&[]);
    assert!(code == 2 && errors.contains("--config") && errors.contains("--profile"), "{code} {errors}");
    for excluded in [&["--stats"][..], &["readings.csv"]] {
        let (code, errors) = detect(&[&["--config", "/dev/null"], excluded].concat());
        assert!(code == 2 && errors.contains("cannot be used with"), "{code} {errors}");
    }
    let (code, errors) = detect(&["--config", "/dev/null", "--against", "/nowhere/at.toml"]);
    assert!(code == 78 && errors.contains("/nowhere/at.toml"), "{code} {errors}");
}

use std::io::Write;

use firmware_sim::ledger::Acknowledged;

use super::*;

const DEVICES: [&str; 2] = ["truck-01", "truck-02"];

/// Each device has made 10 samples, 9 of which are acknowledged.
fn known() -> Known {
    let ledger = Acknowledged::new(DEVICES.map(str::to_owned));
    for place in 0..DEVICES.len() {
        ledger.acknowledge(place, 1..=9, Metric::ALL);
    }
    Known {
        acknowledged: ledger.devices(),
        last_sequences: vec![10; DEVICES.len()],
        alerts: vec![("a1".to_owned(), 1)],
        connections_lost: 0,
    }
}

fn reading(position: u64, device: &str, metric: &str, sequence: u64) -> String {
    format!(
        "{{\"v\":1,\"type\":\"reading\",\"gateway\":\"g\",\"run\":\"r1\",\"position\":{position},\"device\":\"{device}\",\
         \"metric\":\"{metric}\",\"value\":1.5,\"measured_at_ms\":1,\"received_at_ms\":2,\"time_quality\":\"synced\",\"seq\":{sequence}}}\n"
    )
}

/// All acknowledged readings, ordered by position.
fn raw() -> Vec<String> {
    let mut lines = Vec::new();
    for sequence in 1..=9 {
        for device in DEVICES {
            for metric in Metric::ALL {
                lines.push(reading(lines.len() as u64 + 1, device, metric.name(), sequence));
            }
        }
    }
    lines
}

fn anomalies() -> Vec<String> {
    let start = "\"gateway\":\"g\",\"run\":\"r1\",\"position\"";
    vec![
        format!("{{\"v\":1,\"type\":\"gateway\",{start}:1}}\n"),
        format!(
            "{{\"v\":1,\"type\":\"anomaly\",{start}:2,\"device\":\"truck-01\",\"metric\":\"speed\",\"value\":9.0,\"seq\":3,\"raw_run\":\"r1\",\"raw_position\":23}}\n"
        ),
        format!(
            "{{\"v\":1,\"type\":\"alert\",{start}:3,\"id\":\"a1\",\"revision\":1,\"device\":\"truck-01\",\"metric\":\"speed\"}}\n"
        ),
    ]
}

struct Archive(tempfile::TempDir);

impl Archive {
    fn of(raw: &[String], anomalies: &[String]) -> Archive {
        let archive = Archive(tempfile::tempdir().expect("a temporary folder"));
        let (first, second) = raw.split_at(raw.len() / 2);
        archive.write("raw/dt=2026-11-24/hour=10/1", &first.concat());
        archive.write("raw/dt=2026-11-24/hour=11/2", &second.concat());
        archive.write("anomalies/dt=2026-11-24/hour=10/1", &anomalies.concat());
        archive
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
        let mut encoder = zstd::Encoder::new(File::create(path).expect("a file"), 1).expect("a level");
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish().map(drop)).expect("a temporary file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}{SUFFIX}"))
    }

    fn found(&self) -> Found {
        check(self.0.path(), &known()).expect("a readable folder")
    }

    fn reasons(&self) -> Vec<String> {
        self.found().disagreements(&known())
    }
}

#[test]
fn a_whole_archive_agrees() {
    let archive = Archive::of(&raw(), &anomalies());
    let expected = Found { acknowledged: 90, readings: 90, anomalies: 1, ..Found::default() };
    assert_eq!(archive.found(), expected);
    assert_eq!(archive.reasons(), Vec::<String>::new());
}

#[test]
fn a_reading_that_is_missing_is_noticed() {
    let mut raw = raw();
    raw.remove(40);
    let archive = Archive::of(&raw, &anomalies());
    assert_eq!((archive.found().readings, archive.found().missing), (89, 1));
    assert_eq!(archive.reasons(), ["acknowledged readings that are not in the archive files: 1"]);
}

#[test]
fn what_was_sent_but_not_acknowledged_may_be_there() {
    let mut raw = raw();
    raw.push(reading(91, "truck-02", "speed", 10));
    let archive = Archive::of(&raw, &anomalies());
    assert_eq!((archive.found().readings, archive.found().acknowledged, archive.reasons().len()), (91, 90, 0));
    raw.push(reading(92, "truck-02", "speed", 11));
    let archive = Archive::of(&raw, &anomalies());
    assert_eq!(archive.reasons(), ["readings in the archive files that no vehicle has made: 1"]);
}

#[test]
fn duplicates_are_wrong_unless_a_device_sent_twice() {
    let mut raw = raw();
    raw.push(reading(91, "truck-02", "speed", 3));
    let archive = Archive::of(&raw, &anomalies());
    assert_eq!((archive.found().readings, archive.found().duplicates), (90, 1));
    assert_eq!(archive.reasons().len(), 1);
    let reconnected = Known { connections_lost: 1, ..known() };
    assert_eq!(archive.found().disagreements(&reconnected), Vec::<String>::new());
    // The same record twice is always an error.
    raw.push(raw[7].clone());
    let found = Archive::of(&raw, &anomalies()).found();
    assert_eq!((found.duplicates, found.identities_repeated), (2, 1));
    assert_eq!(found.disagreements(&reconnected).len(), 1);
}

#[test]
fn a_torn_file_costs_what_it_held_and_is_named() {
    let archive = Archive::of(&raw(), &anomalies());
    let path = archive.path("raw/dt=2026-11-24/hour=11/2");
    let bytes = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file");
    let (found, reasons) = (archive.found(), archive.reasons());
    assert!(found.missing > 0 && found.readings >= 45, "{found:?}");
    assert!(
        reasons.iter().any(|reason| reason.contains("hour=11") && reason.contains("cannot be read")),
        "{reasons:?}"
    );
}

#[test]
fn a_torn_line_is_named() {
    let mut raw = raw();
    let last = raw.pop().expect("lines");
    raw.push(last[..30].to_owned());
    let reasons = Archive::of(&raw, &anomalies()).reasons();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[1].ends_with("line 45 has no end"), "{reasons:?}");
}

#[test]
fn an_unfinished_file_does_not_count() {
    let archive = Archive::of(&raw(), &anomalies());
    let path = archive.path("raw/dt=2026-11-24/hour=11/2");
    std::fs::rename(&path, path.with_extension("unfinished")).expect("a file");
    assert_eq!(archive.found().missing, 45);
}

#[test]
fn the_second_stream_must_hold_the_alerts_that_were_heard_and_refer_to_what_is_there() {
    let mut anomalies = anomalies();
    anomalies.pop();
    let reasons = Archive::of(&raw(), &anomalies).reasons();
    assert_eq!(reasons, ["alerts that came over MQTT and are not in the archive files: 1"]);
    let raw = [&raw()[..22], &raw()[23..]].concat();
    let found = Archive::of(&raw, &anomalies).found();
    assert_eq!((found.missing, found.anomalies_alone), (1, 1));
}

#[test]
fn readings_of_other_devices_are_welcome() {
    let mut raw = raw();
    raw.push(reading(91, "tank", "temperature", 10));
    let archive = Archive::of(&raw, &anomalies());
    assert_eq!((archive.found().others, archive.reasons().len()), (1, 0));
}

#[test]
fn no_archive_at_all_is_everything_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let found = check(&folder.path().join("archive"), &known()).expect("nothing to read");
    assert_eq!((found.missing, found.alerts_missing), (90, 1));
}

//! `outrider detect` on recorded data.

use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::gateway::Gateway;

const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");

/// What the gateway wrote can be given to the detectors again: a file, or the folder with all of them.
#[test]
fn detect_reads_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "d");
    for value in 0..5 {
        client.publish("devices/tank/level", format!("{value}.0").as_bytes());
    }
    client.publish("devices/tank/level", b"nan");
    assert!(gateway.stop().success());
    let archive = folder.path().join("state/archive");
    let (code, rows, errors) = detect(&["--stats"], &archive);
    assert_eq!((code, errors.as_str(), rows.lines().count()), (0, "", 6), "{rows}");
    assert!(rows.lines().all(|row| row.starts_with("tank/level,")), "{rows}");
    let (code, rows, _) = detect(&[], &archive);
    assert!(code == 0 && rows.lines().count() == 1 && rows.contains(",NaN,limit,"), "{rows}");
    let header = folder.path().join("header.csv");
    std::fs::write(&header, "series;time;value\n").unwrap();
    let (code, _, errors) = detect(&[], &header);
    assert!(code == 1 && errors.contains("no line could be read"), "{errors}");
    let (code, _, errors) = detect(&[], &folder.path().join("none.csv"));
    assert!(code == 1 && errors.contains("cannot read") && errors.contains("none.csv"), "{errors}");
}

/// A sensor that is heard for a quarter of an hour, with a small spike, a huge one, and a value that is no number.
fn recording(folder: &Path) -> std::path::PathBuf {
    let value = |i: u32| match i {
        900 => 93.0,
        1_000 => 400.0,
        _ => 90.0 + f64::from(i * 7919 % 5) / 10.0,
    };
    let mut lines: String = (0..1_100).map(|i| format!("truck/oil_temp,{},{}\n", i * 1_000, value(i))).collect();
    lines += "truck/oil_temp,1100000,nan\ntruck/odometer,1100000,7\n";
    let path = folder.join("readings.csv");
    std::fs::write(&path, lines).unwrap();
    path
}

fn detect(arguments: &[&str], path: &Path) -> (i32, String, String) {
    let output = Command::new(OUTRIDER).arg("detect").args(arguments).arg(path).output().unwrap();
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text, errors)
}

#[test]
fn detect_prints_what_is_as_severe_as_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = recording(folder.path());
    for (severity, expected) in [
        ("warning", &["900000,93,spike", "1000000,400,spike", "1100000,NaN,limit"][..]),
        ("minor", &["900000,93,spike", "1000000,400,spike", "1100000,NaN,limit"]),
        // Known for less than a day: minor at most, but for what goes far beyond anything learned.
        ("major", &["1000000,400,spike"]),
        ("critical", &["1000000,400,spike"]),
    ] {
        let (code, rows, errors) = detect(&["--severity-min", severity], &path);
        let is_right = rows.lines().zip(expected).all(|(row, it)| row.starts_with(&format!("truck/oil_temp,{it},")));
        assert!(code == 0 && is_right && rows.lines().count() == expected.len(), "{severity}: {rows}{errors}");
    }
    let (_, rows, _) = detect(&["--json", "--severity-min", "minor"], &path);
    let told: Vec<String> = rows
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .map(|row| format!("{} {} {}", row["detector"], row["severity"], row["maturity"]).replace('"', ""))
        .collect();
    assert_eq!(told, ["spike minor learning", "spike critical learning", "limit minor learning"]);
    let (code, _, errors) = detect(&["--severity-min", "grave"], &path);
    assert!(code == 2 && errors.contains("there are warning, minor, major, critical"), "{errors}");
}

#[test]
fn detect_explains_a_series() {
    let folder = tempfile::tempdir().unwrap();
    let path = recording(folder.path());
    let (code, text, errors) = detect(&["--explain", "truck/oil_temp"], &path);
    let first = "truck/oil_temp is learning: heard for 18 minutes since 1970-01-01T00:00:00Z, 1100 readings";
    assert_eq!((code, errors.as_str(), text.lines().next()), (0, "", Some(first)));
    for expected in ["watched as temperature", "in steps of 0.1", "level 90.2", "spike: told from ", "minor"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let (code, object, _) = detect(&["--json", "--explain", "truck/oil_temp"], &path);
    let object: serde_json::Value = serde_json::from_str(&object).unwrap();
    assert_eq!((code, object["text"].as_str()), (0, Some(text.trim_end())));
    assert_eq!((&object["maturity"], &object["readings"]), (&"learning".into(), &1_100.into()));
    let spike = &object["detectors"][0];
    assert_eq!((&spike["detector"], spike["above"]["excursions"].as_array().unwrap().len()), (&"spike".into(), 2));
    for (series, expected) in [
        ("truck/oil_tmp", "there is no series truck/oil_tmp in the input; similar are truck/oil_temp, truck/odometer"),
        ("truck/odometer", "truck/odometer is not watched"),
    ] {
        let (code, text, errors) = detect(&["--explain", series], &path);
        assert!(code == 1 && text.is_empty() && errors.contains(expected), "{errors}");
    }
    let (code, _, errors) = detect(&["--explain", "a/b", "--stats"], &path);
    assert!(code == 2 && errors.contains("cannot be used with"), "{errors}");
}

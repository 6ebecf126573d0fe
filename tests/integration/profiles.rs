//! Profiles in the configuration change what is found in their metrics, and how severe it is; `outrider detect` agrees.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::Gateway;

/// The first three names say nothing; by its name the last would be watched as a temperature.
const METRICS: [&str; 4] = ["mass", "weight", "weight.tare", "coolant_temperature"];
const CONFIG: &str = "
[[profile]]
metrics = 'tare'
like = 'slow'
severity_max = 'minor'
[[profile]]
metrics = 'weight'
like = 'slow'
[[profile]]
metrics = 'coolant'
like = 'off'
[[limit]]
metric = 'mass'
max = 100
severity = 'critical'
[[limit]]
metric = 'weight.tare'
max = 100
severity = 'critical'
[[limit]]
metric = 'coolant_temperature'
max = 100
";

/// Four minutes of readings, then one that is a little off, and one that is far off.
fn feed() -> Vec<(i64, f64)> {
    let start_ms = outrider::gateway::now_ms() - 240_000;
    let usual = (0..240).map(|n| (start_ms + n * 1_000, 20.0 + 0.1 * ((n * 7919) % 5) as f64));
    usual.chain([(start_ms + 240_000, 22.2), (start_ms + 241_000, 20.2), (start_ms + 242_000, 1_000.0)]).collect()
}

/// `metric/kind` of each alert, and its severity.
fn alerts(config: &str, feed: &[(i64, f64)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let items = feed.iter().map(|(at_ms, value)| {
        let mut item: serde_json::Map<String, Value> =
            METRICS.iter().map(|metric| ((*metric).to_owned(), json!(value))).collect();
        item.insert("ts_ms".to_owned(), json!(at_ms));
        Value::Object(item)
    });
    let payload = Value::Array(items.collect()).to_string();
    Client::connect(gateway.mqtt, "device").publish("devices/tank", payload);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alert =
        |alert: &Value| (format!("{}/{}", text(&alert["metric"]), text(&alert["kind"])), text(&alert["severity"]));
    gateway.alerts().iter().map(alert).collect()
}

/// Metric and detector of each row.
fn rows(config: &str, feed: &[(i64, f64)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (file, lines) = (folder.path().join("config.toml"), folder.path().join("lines"));
    std::fs::write(&file, config).unwrap();
    let of_all =
        |(at_ms, value): &(i64, f64)| METRICS.map(|metric| format!("tank/{metric},{at_ms},{value}\n")).concat();
    std::fs::write(&lines, feed.iter().map(of_all).collect::<String>()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    let output = command.arg("detect").arg("--config").arg(file).arg(lines).output().unwrap();
    assert!(output.status.success());
    let row = |row: &str| {
        let fields: Vec<&str> = row.split(',').collect();
        format!("{} {} {}", fields[0].trim_start_matches("tank/"), fields[2], fields[3])
    };
    String::from_utf8(output.stdout).unwrap().lines().map(row).collect()
}

#[test]
fn profiles_and_limits_of_the_configuration_hold_live_and_in_a_file() {
    let feed = feed();
    let of = |alerts: [(&str, &str); 6]| -> BTreeMap<String, String> {
        alerts.into_iter().map(|(alert, severity)| (alert.to_owned(), severity.to_owned())).collect()
    };
    let expected = of([
        // Nothing is known of this metric but its limit.
        ("mass/anomaly", "warning"),
        ("mass/limit", "critical"),
        ("weight/anomaly", "critical"),
        // The maximum severity is configured, so it also applies to the limit.
        ("weight.tare/anomaly", "minor"),
        ("weight.tare/limit", "minor"),
        ("coolant_temperature/limit", "major"),
    ]);
    assert_eq!(alerts(CONFIG, &feed), expected);
    let expected = [
        "weight 22.2 spike",
        "weight.tare 22.2 spike",
        "mass 1000 limit",
        "mass 1000 spike",
        "weight 1000 spike",
        "weight.tare 1000 limit",
        "weight.tare 1000 spike",
        "coolant_temperature 1000 limit",
    ];
    assert_eq!(rows(CONFIG, &feed), expected);
}

/// The control: by their names alone they are watched differently.
#[test]
fn without_it_what_is_built_in_holds() {
    let feed = feed();
    let built_in: Vec<String> =
        alerts("", &feed).into_iter().map(|(alert, severity)| alert + " " + &severity).collect();
    let expected = [
        "coolant_temperature/anomaly critical",
        "mass/anomaly warning",
        "weight.tare/anomaly warning",
        "weight/anomaly warning",
    ];
    assert_eq!(built_in, expected);
    let expected = [
        "coolant_temperature 22.2 spike",
        "mass 1000 spike",
        "weight 1000 spike",
        "weight.tare 1000 spike",
        "coolant_temperature 1000 spike",
    ];
    assert_eq!(rows("", &feed), expected);
}

//! `[[limit]]`: its severity, how long it has to be exceeded, when it clears, and its devices.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::archive;
use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

const CONFIG: &str = "
alert.clear_after = '1s'
[[limit]]
metric = 'temperature'
device = 'freezer-*'
max = 8
clear_max = 6
[[limit]]
metric = 'temperature'
device = 'freezer-*'
max = 20
severity = 'critical'
[[limit]]
metric = 'level'
max = 0
[[limit]]
metric = 'pressure'
max = 8
severity = 'warning'
for = '3s'
";

fn alert(gateway: &Gateway, topic: &str) -> Option<Value> {
    let levels = |alert: &Value| {
        ["device", "metric", "kind"].map(|level| alert[level].as_str().unwrap().to_owned()).join("/") == topic
    };
    gateway.alerts().into_iter().find(levels)
}

#[test]
fn a_limit_is_as_grave_as_was_said_and_clears_where_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    let severity = |topic: &str| alert(&gateway, topic).map(|alert| alert["severity"].clone());
    // How far the value is beyond its bound does not change the severity.
    device.publish("devices/freezer-1/temperature", "8.1");
    device.publish("devices/tank/level", "300");
    device.publish("devices/fridge/temperature", "30");
    assert_eq!(severity("freezer-1/temperature/limit"), Some(json!("major")));
    assert_eq!(severity("tank/level/limit"), Some(json!("major")));
    assert_eq!(severity("fridge/temperature/limit"), None, "another device");
    // Of several exceeded limits, the most severe one counts.
    device.publish("devices/freezer-1/temperature", "20.5");
    let graver = alert(&gateway, "freezer-1/temperature/limit").unwrap();
    assert_eq!((&graver["severity"], &graver["value"]), (&json!("critical"), &json!(20.5)));
    assert_eq!((&graver["expected"], &graver["revision"]), (&json!(20.0), &json!(2)));

    // Within the limit, but not yet below the value at which it clears.
    let state = || alert(&gateway, "freezer-1/temperature/limit").map(|alert| alert["state"].clone());
    for _ in 0..30 {
        device.publish("devices/freezer-1/temperature", "7.0");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(state(), Some(json!("raised")));
    wait_until("it is below what clears it", || {
        device.publish("devices/freezer-1/temperature", "6.0");
        state() == Some(json!("cleared"))
    });
}

#[test]
fn a_limit_that_waits_raises_after_a_while_and_each_reading_beyond_it_is_an_anomaly() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    let mut publish = |value: &str| {
        device.publish("devices/tank/pressure", value);
        alert(&gateway, "tank/pressure/limit").map(|alert| alert["severity"].clone())
    };
    assert_eq!(publish("9"), None);
    assert_eq!(publish("7.0"), None, "well in between");
    let (since, mut beyond) = (Instant::now(), 1);
    wait_until("it has been beyond its limit for so long", || {
        beyond += 1;
        publish("9") == Some(json!("warning"))
    });
    assert!(since.elapsed() >= Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(gateway.stop().success());
    let records = archive::records(&folder.path().join("state/archive"), "anomalies");
    let anomalies = records.iter().filter(|record| record["type"] == "anomaly" && record["detector"] == "limit");
    assert_eq!(anomalies.count(), beyond);
}

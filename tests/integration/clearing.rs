//! What clears an alert, and what does not.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::gateway::{DEADLINE, Gateway};

const LIMIT: &str = "alert.clear_after = '1s'\n[[limit]]\nmetric = 'temperature'\nmax = 8\n";

fn next(watcher: &mut Client) -> Value {
    let message = watcher.receive();
    serde_json::from_slice(&message.payload).unwrap()
}

/// Publishes 5 degrees every half second until the alert clears.
fn clear(gateway: &Gateway, watcher: &mut Client) -> Value {
    let mut device = Client::connect(gateway.mqtt, "freezer");
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        device.publish("devices/freezer/temperature", "5.0");
        if watcher.wait_readable(Duration::from_millis(500)) {
            let alert = next(watcher);
            if alert["state"] == "cleared" {
                return alert;
            }
        }
    }
    panic!("good readings clear an alert");
}

#[test]
fn a_sensor_that_falls_silent_has_a_stale_alert_until_good_readings_come() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/limit", 1)]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/freezer/temperature", "12");
    let raised = next(&mut watcher);
    assert_eq!((&raised["state"], &raised["stale"]), (&"raised".into(), &Value::Null));
    // Half a minute of silence does not clear the alert.
    let stale = next(&mut watcher);
    assert_eq!((&stale["state"], &stale["id"], &stale["stale"]), (&"raised".into(), &raised["id"], &true.into()));
    assert_eq!(stale["revision"], 2);
    let heard_ms = stale["last_reading_at_ms"].as_i64().unwrap();
    assert!((heard_ms - raised["raised_at_ms"].as_i64().unwrap()).abs() < 5_000, "{stale}");
    assert!(stale["updated_at_ms"].as_i64().unwrap() - heard_ms >= 30_000, "{stale}");
    // After a kill this is still so; and a value that is not a number does not clear it either.
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/limit", 1)]);
    let still = next(&mut watcher);
    assert_eq!((&still["state"], &still["stale"]), (&"raised".into(), &true.into()));
    Client::connect(gateway.mqtt, "device").publish("devices/freezer/temperature", "nan");
    let heard = next(&mut watcher);
    assert_eq!((&heard["state"], &heard["stale"], &heard["revision"]), (&"raised".into(), &Value::Null, &3.into()));
    let cleared = clear(&gateway, &mut watcher);
    assert_eq!((&cleared["id"], &cleared["cleared_reason"]), (&raised["id"], &Value::Null));
}

#[test]
fn an_alert_whose_limit_is_gone_from_the_configuration_is_cleared_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/limit", 1)]);
    Client::connect(gateway.mqtt, "device").publish("devices/freezer/temperature", "12");
    let raised = next(&mut watcher);
    assert!(gateway.stop().success());
    let other = LIMIT.replace("'temperature'", "'humidity'");
    let gateway = Gateway::start_configured(folder.path(), &other, &[], &[]);
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/limit", 1)]);
    let mut alert = next(&mut watcher);
    if alert["state"] == "raised" {
        alert = next(&mut watcher);
    }
    assert_eq!((&alert["id"], &alert["state"]), (&raised["id"], &"cleared".into()));
    assert_eq!(alert["cleared_reason"], "configuration");
}

//! One client that takes all it can: others are still watched and alerted, and what is suppressed is reported.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, wait_until};

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Publishes four minutes of a device's history, so that its detectors are warm, and then a jump.
fn jump(gateway: &Gateway, device: &str) {
    let mut client = Client::connect(gateway.mqtt, device);
    let now = now_ms();
    let item =
        |n: i64| format!("{{\"value\":{:.1},\"ts_ms\":{}}}", 20.0 + 0.1 * ((n * 7919) % 5) as f64, now - n * 1000);
    let items: Vec<String> = (1..240).rev().map(item).collect();
    client.publish(&format!("devices/{device}/temperature"), format!("[{}]", items.join(",")));
    client.publish(&format!("devices/{device}/temperature"), "45.0");
}

/// Waits for a message on this topic.
fn receive(subscriber: &mut Client, topic: &str) -> Value {
    loop {
        let message = subscriber.receive();
        if message.topic == topic {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
}

#[test]
fn names_of_the_gateways_own_are_refused_visibly() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/_gateway/series", "nan");
    device.publish("devices/_gateway", "{\"series\":1,\"alerts\":null}");
    device.publish("devices/tank/_device", "nan");
    device.publish("devices/tank", "{\"t\":1,\"_device\":2}");
    device.publish("devices/tank/level", "nan");
    assert_eq!(driver.receive().topic, "alerts/tank/level/limit", "nothing else was raised");
    let received = gateway.status()["received"].clone();
    assert_eq!((&received["accepted"], &received["undecodable_by_reason"]["reserved_name"]), (&1.into(), &4.into()));
}

#[test]
fn a_publish_that_fills_the_table_of_series_keeps_nobody_from_being_watched() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let metrics: Vec<String> = (0..19_000).map(|number| format!("\"{number}\":1")).collect();
    let mut stranger = Client::connect(gateway.mqtt, "stranger");
    stranger.publish("devices/stranger", format!("{{{}}}", metrics.join(",")));
    wait_until("the table is full", || gateway.status()["detection"]["series"] == 10_000);
    let told = receive(&mut driver, "alerts/_gateway/series/gateway");
    assert!(told["message"].as_str().unwrap().contains("stranger"), "{told}");
    // Which series give way is computed once a second.
    wait_until("a place for another", || {
        jump(&gateway, "truck");
        driver.wait_readable(std::time::Duration::from_millis(1_500))
    });
    assert_eq!(receive(&mut driver, "alerts/truck/temperature/anomaly")["value"], 45.0);
}

const DEVICES: u64 = 10_000;

/// Publishes a reading that is not a number for each of many unknown devices; all are acknowledged.
fn flood(gateway: &Gateway) {
    let mut stranger = Client::connect(gateway.mqtt, "stranger");
    for devices in (0..DEVICES).collect::<Vec<_>>().chunks(500) {
        for number in devices {
            let id = stranger.next_packet_id();
            stranger.send(&publish_packet(&format!("devices/stranger-{number}/t"), b"nan", 1, false, false, id));
        }
        devices.iter().for_each(|_| assert_eq!(stranger.packet().unwrap().first, 0x40));
    }
}

/// Checks that a new device, on a client of its own, raises an alert.
fn assert_raised(gateway: &Gateway, device: &str) {
    let topic = format!("alerts/{device}/t/limit");
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[(topic.as_str(), 1)]);
    // Which alerts give way is computed once a second.
    wait_until("the alert is raised", || {
        Client::connect(gateway.mqtt, device).publish(&format!("devices/{device}/t"), "nan");
        driver.wait_readable(std::time::Duration::from_millis(500))
    });
    assert_eq!(receive(&mut driver, &topic)["state"], "raised");
}

#[test]
fn a_flood_of_alerts_silences_nobody_else_and_is_told_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    flood(&gateway);
    assert_raised(&gateway, "truck");
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/_gateway/alerts/gateway", 1)]);
    assert_eq!(receive(&mut driver, "alerts/_gateway/alerts/gateway")["state"], "raised");
    let counted = |gateway: &Gateway| gateway.status()["received"]["unraised"].as_u64().unwrap();
    wait_until("what was suppressed is counted", || counted(&gateway) >= DEVICES / 2);
    let before = counted(&gateway);
    gateway.kill();

    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert!(counted(&gateway) >= before, "over all runs");
    assert_raised(&gateway, "tank");
    let status = gateway.status();
    assert!(status["detection"]["alerts_raised"].as_u64().unwrap() < DEVICES * 3 / 4, "{}", status["detection"]);
}

//! From an anomalous reading to the driver's display, across kills.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrider::pipeline::CommitPacing;
use outrider::store::schema::{self, Synchronous, store_path};

use crate::archive;
use crate::client::{Client, Publish, publish_packet};
use crate::gateway::{DEADLINE, Gateway, wait_until};
use crate::in_process::InProcess;
use crate::vfs::Disk;

const TOPIC: &str = "alerts/tank/temperature/anomaly";

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Publishes four minutes of a device's history, so that its detectors are warm.
fn warm(client: &mut Client, device: &str) {
    let now = now_ms();
    let item =
        |n: i64| format!("{{\"value\":{:.1},\"ts_ms\":{}}}", 20.0 + 0.1 * ((n * 7919) % 5) as f64, now - n * 1000);
    let items: Vec<String> = (1..240).rev().map(item).collect();
    client.publish(&format!("devices/{device}/temperature"), format!("[{}]", items.join(",")));
}

fn json(message: &Publish) -> serde_json::Value {
    serde_json::from_slice(&message.payload).unwrap()
}

fn next_alert(subscriber: &mut Client) -> serde_json::Value {
    let message = subscriber.receive();
    assert_eq!((message.topic.as_str(), message.qos), (TOPIC, 1));
    json(&message)
}

/// Publishes good readings until the alert has cleared. Returns it, and how many readings that took.
fn until_cleared(driver: &mut Client, device: &mut Client) -> (serde_json::Value, i64) {
    for n in 0.. {
        device.publish("devices/tank/temperature", format!("{:.1}", 20.0 + 0.1 * ((n * 7919) % 5) as f64));
        if driver.wait_readable(Duration::from_millis(500)) {
            let alert = next_alert(driver);
            if alert["state"] == "cleared" {
                return (alert, n + 1);
            }
        }
    }
    unreachable!("good readings clear an alert")
}

#[test]
fn an_alert_is_raised_at_once_acknowledged_by_a_person_and_cleared_by_good_readings() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/+/+/anomaly", 1)]);
    let mut device = Client::connect(gateway.mqtt, "tank");
    warm(&mut device, "tank");
    device.publish("devices/tank/temperature", "45.0");
    let raised = next_alert(&mut driver);
    assert_eq!(
        (&raised["type"], &raised["state"], &raised["stored"]),
        (&"alert".into(), &"raised".into(), &true.into())
    );
    assert_eq!((&raised["revision"], &raised["count"], &raised["value"]), (&1.into(), &1.into(), &45.0.into()));
    assert_eq!((&raised["device"], &raised["metric"]), (&"tank".into(), &"temperature".into()));

    let mut late = Client::connect(gateway.mqtt, "late");
    late.subscribe(&[("alerts/#", 1)]);
    let retained = late.receive();
    assert!(retained.retain);
    assert_eq!(json(&retained)["id"], raised["id"]);

    // By another client: on the driver's own connection the alert might come before the acknowledgement's PUBACK.
    Client::connect(gateway.mqtt, "anna").publish(&format!("{TOPIC}/ack"), "{\"by\":\"anna\"}");
    let acknowledged = next_alert(&mut driver);
    assert_eq!((&acknowledged["acknowledged_by"], &acknowledged["revision"]), (&"anna".into(), &2.into()));

    assert_eq!(gateway.status()["alerts"][0]["id"], raised["id"]);
    let (cleared, good) = until_cleared(&mut driver, &mut device);
    assert_eq!(cleared["id"], raised["id"]);
    assert!(cleared["cleared_at_ms"].as_i64().unwrap() - raised["raised_at_ms"].as_i64().unwrap() >= 30_000);

    assert!(gateway.stop().success());
    let mut kinds = Vec::new();
    archive::read(&folder.path().join("state/archive"), "anomalies", |line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["v"], record["position"].is_u64()), (&1.into(), true), "{line}");
        kinds.push(record["type"].as_str().unwrap().to_owned());
    });
    kinds.dedup();
    assert!(["anomaly", "alert", "gateway"].iter().all(|kind| kinds.iter().any(|k| k == kind)), "{kinds:?}");
    let (mut raw, mut last) = (0, 0);
    archive::read(&folder.path().join("state/archive"), "raw", |line| {
        raw += 1;
        let position: i64 = archive::field(line, "position").parse().unwrap();
        assert_eq!(position, last + 1, "positions count up by one");
        last = position;
    });
    assert_eq!(raw, 240 + good);
}

#[test]
fn a_kill_during_an_alarm_neither_clears_it_nor_raises_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "tank");
    warm(&mut device, "tank");
    // Nobody is subscribed, so the PUBACK means that the alert is committed, not that it was published.
    device.publish("devices/tank/temperature", "45.0");
    gateway.kill();

    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let again = next_alert(&mut driver);
    assert_eq!((&again["state"], &again["stored"]), (&"raised".into(), &true.into()));

    // Without a new warm-up the next anomaly is found at once, and it is the same alert.
    let mut device = Client::connect(gateway.mqtt, "tank");
    let second_ago = now_ms() - 1000;
    device.publish("devices/tank/temperature", format!("{{\"value\":20.1,\"ts_ms\":{second_ago}}}"));
    wait_until("an update's time", || now_ms() - again["updated_at_ms"].as_i64().unwrap() > 6_000);
    for _ in 0..5 {
        device.publish("devices/tank/temperature", "20.2");
    }
    device.publish("devices/tank/temperature", "60.0");
    let went_on = next_alert(&mut driver);
    assert_eq!((&went_on["id"], &went_on["state"]), (&again["id"], &"raised".into()));
    assert!(went_on["revision"].as_u64() > again["revision"].as_u64());
    assert_eq!(went_on["raised_at_ms"], again["raised_at_ms"]);
}

/// Raises an alert while the disk hangs. Returns whether its first message says that it is stored. The disk works again once that message
/// has arrived, or after `patience`.
fn first_word_over_a_hung_disk(unstored_after: Duration, patience: Duration) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        settings.pacing.unstored_after = unstored_after;
        // The gateway must not notice the hung disk: that would raise an alert of its own, which other tests cover.
        settings.pacing.delays.hung_after = DEADLINE * 60;
    });
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let mut device = Client::connect(gateway.mqtt, "tank");
    warm(&mut device, "tank");
    disk.hang();
    let id = device.next_packet_id();
    device.send(&publish_packet("devices/tank/temperature", b"45.0", 1, false, false, id));
    let is_word_there = driver.wait_readable(patience);
    disk.release();
    let first = next_alert(&mut driver);
    assert_eq!(first["stored"] == false, is_word_there, "{first}");
    if first["stored"] == false {
        let again = next_alert(&mut driver);
        assert_eq!((&again["id"], &again["revision"]), (&first["id"], &first["revision"]));
        assert_eq!(again["stored"], true);
    }
    assert_eq!(device.packet().unwrap().first, 0x40, "the reading is acknowledged when it is stored");
    gateway.stop();
    first["stored"] == true
}

#[test]
fn a_hung_disk_does_not_silence_an_alert() {
    assert!(!first_word_over_a_hung_disk(CommitPacing::default().unstored_after, DEADLINE));
}

/// The control: without the announcer nothing arrives until the disk works again.
#[test]
fn without_the_announcer_a_hung_disk_would_silence_an_alert() {
    assert!(first_word_over_a_hung_disk(DEADLINE * 60, Duration::from_secs(4)));
}

/// Kills the gateway between an alert's commit and its publish.
fn kill_after_the_commit(folder: &Path) {
    let gateway = Gateway::start_test(folder, "alerts::gateway_that_dies_after_storing_an_alert");
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let mut device = Client::connect(gateway.mqtt, "tank");
    warm(&mut device, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet("devices/tank/temperature", b"45.0", 1, false, false, id));
    device.expect_close();
    assert!(driver.packet().is_err(), "it was published before the process died");
}

#[test]
fn an_alert_that_was_stored_and_not_published_is_published_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    kill_after_the_commit(folder.path());
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/#", 1)]);
    let raised = next_alert(&mut driver);
    assert_eq!((&raised["state"], &raised["stored"]), (&"raised".into(), &true.into()));
    assert_eq!((&raised["revision"], &raised["value"]), (&1.into(), &45.0.into()));
}

/// The control: it is the stored row that restores the alert.
#[test]
fn without_its_row_in_the_store_the_alert_would_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    kill_after_the_commit(folder.path());
    let store = store_path(&folder.path().join("state"));
    let db = schema::open_writer(&store, Synchronous::Full, None).unwrap();
    assert_eq!(db.execute("DELETE FROM alert", []).unwrap(), 1);
    drop(db);
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    // Another program has opened the store and moved the log into it, which raises an alert of its own.
    driver.subscribe(&[("alerts/+/+/anomaly", 1), ("alerts/+/+/limit", 1), ("marker", 1)]);
    Client::connect(gateway.mqtt, "other").publish("marker", "");
    assert_eq!(driver.receive().topic, "marker");
}

/// Not a test by itself: the process that dies.
#[test]
#[ignore = "run as a process of its own"]
fn gateway_that_dies_after_storing_an_alert() {
    crate::gateway::run_in_this_process(|settings| {
        let disk = Disk::register(&settings.state_folder);
        disk.die_after_sync_of(b"\"state\":\"raised\"");
        settings.vfs = Some(disk.name.clone());
    });
}

//! A store that cannot be opened when the gateway starts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrider::gateway::GatewayError;
use outrider::sinks::status::Link;
use serde_json::Value;

use super::{TOPIC, archived, next_alert, reading, watcher, with_a_limit};
use crate::client::{Client, publish_packet};
use crate::gateway::{close_archives_soon, get, try_get, wait_until};
use crate::in_process::InProcess;
use crate::vfs::Disk;

/// The disk takes nothing when the gateway starts: it watches, and stores as soon as it can.
#[test]
fn a_store_that_cannot_be_opened_is_waited_for_and_everything_is_watched_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    disk.fails.store(true, Ordering::SeqCst);
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        with_a_limit(settings);
        close_archives_soon(settings);
    });
    assert_eq!(get(gateway.admin, "/readyz"), (503, "disk_failing\n".to_owned()));
    assert_eq!(get(gateway.admin, "/healthz").0, 200);
    assert_eq!(gateway.status()["state"], "disk_failing");
    let mut driver = watcher(&gateway, "alerts/tank/#");
    let sent = reading(11.0, 1);
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, sent.as_bytes(), 1, false, false, id));
    let alert = next_alert(&mut driver);
    assert_eq!(
        (&alert["state"], &alert["stored"], &alert["position"]),
        (&"raised".into(), &false.into(), &Value::Null)
    );
    device.expect_close();
    disk.fails.store(false, Ordering::SeqCst);
    wait_until_ready(&gateway);
    Client::connect(gateway.mqtt, "tank").publish(TOPIC, &sent);
    assert_eq!(gateway.status()["alerts"][0]["stored"], true);
    gateway.stop();
    assert_eq!(archived(folder.path()), BTreeMap::from([(1, 1)]));
}

/// The page that is served without a store ends before the one with a store begins, and with it requests that are under way.
fn wait_until_ready(gateway: &InProcess) {
    wait_until("the store", || try_get(gateway.admin, "/readyz").is_ok_and(|(code, _)| code == 200));
}

/// The disk hangs while the store is opened: it is ready all the same, watches, and stores once the disk answers.
#[test]
fn a_start_that_takes_too_long_goes_on_without_the_store_until_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    disk.hang();
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        settings.open_within = Duration::from_millis(100);
        with_a_limit(settings);
    });
    let mut driver = watcher(&gateway, "alerts/tank/#");
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, reading(11.0, 1).as_bytes(), 1, false, false, id));
    assert_eq!(next_alert(&mut driver)["stored"], false);
    disk.release();
    wait_until_ready(&gateway);
    Client::connect(gateway.mqtt, "tank").publish(TOPIC, reading(11.0, 1));
    gateway.stop();
}

/// A signal is heeded while the store is being opened, however long that takes.
#[test]
fn a_gateway_that_is_told_to_end_while_it_starts_ends() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let mut settings = crate::gateway::default_settings(&folder.path().join("state"));
    settings.vfs = Some(disk.name.clone());
    settings.open_within = Duration::from_secs(3600);
    disk.hang();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let not_ready = |_| panic!("its store is not open");
    let link = tokio::sync::watch::Sender::new(Link::Up);
    let stop = async { tokio::time::sleep(Duration::from_millis(50)).await };
    runtime.block_on(outrider::gateway::run(settings, link, not_ready, stop)).unwrap();
    // Whoever opens the store has the folder until it is done.
    disk.release();
    let lock = || outrider::store::lock::FolderLock::acquire(&folder.path().join("state"));
    wait_until("the end of the opening", || lock().is_ok());
}

/// The disk takes nothing until the end.
#[test]
fn a_gateway_that_waits_for_its_store_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    disk.fails.store(true, Ordering::SeqCst);
    let gateway = InProcess::start(folder.path(), |settings| settings.vfs = Some(disk.name.clone()));
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, b"5.0", 1, false, false, id));
    let stopping = Instant::now();
    let result = gateway.end();
    assert!(matches!(result, Err(GatewayError::Unstored { readings: 0, .. })), "{result:?}");
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
}

//! What subscribers and wills get of a store that is full, and sessions of limits that have become lower.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outrider::sinks::status::Link;
use outrider::store::retention::{Capacity, WhenFull};

use crate::client::{Client, Publish, publish_packet};
use crate::full::{payload, publish_until_refused};
use crate::gateway::{close_archives_soon, wait_until};
use crate::in_process::InProcess;
use crate::restart::{settle, start, start_again};
use crate::wire::{Connect, Version, Will, Wire, answer};

fn start_small(folder: &Path) -> InProcess {
    InProcess::start_with_link(folder, Link::Down, |settings| {
        settings.capacity = Capacity { when_full: WhenFull::Refuse, ..Capacity::new(6 << 20) };
        close_archives_soon(settings);
    })
}

/// It sends on without waiting for acknowledgements until the store is full.
#[test]
fn what_is_stored_of_a_client_that_is_turned_away_reaches_its_receivers() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start_small(folder.path());
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    subscriber.subscribe(&[("devices/d/temperature", 1)]);
    let got = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&got);
    let receiving = std::thread::spawn(move || {
        while let Ok(packet) = subscriber.packet() {
            let _ = subscriber.stream.write_all(&answer(0x40, Publish::of(&packet).packet_id));
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut publisher = Client::connect(gateway.mqtt, "device");
    let (mut seed, mut first) = (0x5eed_5eed_5eed_5eed, 1);
    let mut is_open = true;
    while is_open && gateway.status()["store"]["readings_refused"] == 0 {
        for _ in 0..10 {
            let id = publisher.next_packet_id();
            let text = payload(first, &mut seed);
            let packet = publish_packet("devices/d/temperature", text.as_bytes(), 1, false, false, id);
            is_open = is_open && publisher.stream.write_all(&packet).is_ok();
            first += 1000;
        }
        assert!(first < 1_000_000, "the store never fills");
    }
    let stored = || gateway.status()["received"]["accepted"].as_u64().unwrap() / 1000;
    wait_until("the publisher to be gone", || gateway.status()["mqtt"]["connections"] == 1);
    assert!(stored() > 10);
    wait_until("all that is stored", || got.load(Ordering::Relaxed) >= stored());
    assert_eq!(got.load(Ordering::Relaxed), stored());
    gateway.stop();
    receiving.join().unwrap();
}

#[test]
fn a_will_that_cannot_be_stored_is_published_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start_small(folder.path());
    let topic = "devices/lost/temperature";
    let mut watcher = Wire::open_at(gateway.mqtt, &Connect::fleeting(Version::Five, "watcher"));
    assert_eq!(watcher.subscribe(topic, 1), 1);
    let will = Will { topic, payload: r#"{"value": 1}"#, retain: false, delay_s: 0, properties: b"" };
    let lost = Wire::open_at(gateway.mqtt, &Connect { will: Some(will), ..Connect::fleeting(Version::Five, "lost") });
    publish_until_refused(&gateway, 1, &mut 0x5eed_5eed_5eed_5eed);
    let refused = || gateway.status()["store"]["readings_refused"].as_u64().unwrap();
    let before = refused();
    drop(lost);
    wait_until("the will to be tried again", || refused() >= before + 2);
    gateway.link.send_replace(Link::Up);
    assert_eq!(watcher.take().topic, topic);
    gateway.stop();
}

/// A client that finds its session does not subscribe again, so it must not find one without some of its filters.
#[test]
fn a_session_with_more_filters_than_are_allowed_now_is_gone_after_a_restart() {
    let (folder, gateway) = start();
    let [many, few] = ["many", "few"].map(|id| Connect::kept(Version::Five, id));
    let subscribe = |connect, filters: &[&str]| {
        let mut client = Wire::open(&gateway, connect);
        filters.iter().for_each(|filter| assert_eq!(client.subscribe(filter, 1), 1));
    };
    subscribe(&many, &["a", "b", "c"]);
    subscribe(&few, &["a", "b"]);
    settle(&gateway, 0);
    gateway.kill();
    let path = folder.path().join("outrider.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(!config.contains("[mqtt]"));
    std::fs::write(&path, format!("{config}\n[mqtt]\nfilters_per_client_max = 2\n")).unwrap();
    let gateway = start_again(&folder);
    assert!(!Wire::open(&gateway, &many.resumed()).present);
    Wire::resume(&gateway, &few);
}

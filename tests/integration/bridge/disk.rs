//! Commands over a disk that is slow, hangs, fails or is full, and in a store that is full: none is acknowledged to the other broker before it is
//! stored, and one that cannot be stored comes again and is published once.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use outrider::gateway::GatewaySettings;
use outrider::sinks::status::Link;
use outrider::store::retention::{Capacity, WhenFull};
use outrider::store::schema::Synchronous;

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::fake_broker::{Broker, Delivery, Dislikes};
use crate::full::publish_until_refused;
use crate::gateway::{close_archives_soon, configured_settings, get, wait_until};
use crate::in_process::InProcess;
use crate::kill::next;
use crate::vfs::{Disk, Part, What, contains, used_bytes};

const TRUCK: &str = "truck";
const TOPIC: &str = "fleet/commands/door";

/// A gateway with a bridge, over a disk of its own, and the broker at the other end.
struct Site {
    folder: tempfile::TempDir,
    disk: &'static Disk,
    broker: Broker,
    gateway: InProcess,
}

impl Site {
    fn start(change: impl FnOnce(&mut GatewaySettings)) -> Site {
        Site::start_with("commands/#", Link::Up, change)
    }

    /// Whatever comes in on topics of this filter is a command.
    fn start_with(filter: &str, link: Link, change: impl FnOnce(&mut GatewaySettings)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let disk = Disk::register(&state);
        let broker = Broker::start(Dislikes::default());
        let text = format!(
            "[[bridge]]\nname = 'cloud'\nurl = 'mqtt://{}'\nclient_id = '{TRUCK}'\ncommand_clock = 'system'\n\
             topics = ['{filter} in 1 \"\" fleet/']\ncommands = ['{filter}']\n",
            broker.address
        );
        let gateway = InProcess::start_with_link(folder.path(), link, |settings| {
            *settings = configured_settings(&state, &text);
            settings.vfs = Some(disk.name.clone());
            change(settings);
        });
        let site = Site { folder, disk, broker, gateway };
        wait_until("the bridge is connected", || site.bridge("connected") == true);
        site
    }

    fn bridge(&self, key: &str) -> serde_json::Value {
        self.gateway.status()["bridges"][0][key].clone()
    }

    fn command(&self, id: &str) -> usize {
        self.broker.deliver(TRUCK, TOPIC, &format!(r#"{{"id":"{id}"}}"#))
    }

    fn delivery(&self, number: usize) -> Delivery {
        self.broker.delivery(TRUCK, number)
    }

    fn door(&self) -> Client {
        let mut door = Client::connect(self.gateway.mqtt, "door");
        assert_eq!(door.subscribe(&[("commands/#", 1)]), [1]);
        door
    }

    /// Over further connections, and is never acknowledged.
    fn wait_until_it_has_come_again(&self, number: usize) {
        wait_until("it has come again", || {
            let Delivery { sent, acknowledged, .. } = self.delivery(number);
            assert_eq!(acknowledged, None, "sent {} times", sent.len());
            sent.len() >= 3
        });
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

/// Commands over a slow disk that logs everything. Returns how many were acknowledged before they were in the WAL and the WAL was synced.
fn acknowledged_unsynced(change: impl FnOnce(&mut GatewaySettings)) -> usize {
    let site = Site::start(change);
    site.disk.sync_delay_ms.store(30, Ordering::SeqCst);
    let mut door = site.door();
    let mut seed = 0x1234_5678_9abc_def1;
    let mut sent: Vec<(String, usize)> = Vec::new();
    for count in [1, 2, 3, 5, 8] {
        for _ in 0..count {
            let id = format!("{:016x}", next(&mut seed));
            sent.push((id.clone(), site.command(&id)));
        }
        wait_until("they are acknowledged", || site.broker.has_delivered_all(TRUCK));
    }
    for (id, _) in &sent {
        assert_eq!(door.receive().payload, format!(r#"{{"id":"{id}"}}"#).into_bytes(), "each once, in order");
    }
    let log = site.disk.log();
    site.gateway.stop();
    let is_synced = |(id, number): &(String, usize)| {
        let Delivery { sent, acknowledged, .. } = site.broker.delivery(TRUCK, *number);
        let is_between = |tick: u64| tick > sent[0] && acknowledged.is_some_and(|acknowledged| tick < acknowledged);
        let between = || log.iter().filter(|event| is_between(event.tick) && event.part == Part::Wal);
        let written =
            between().find(|event| matches!(&event.what, What::Write { data, .. } if contains(data, id.as_bytes())));
        written
            .is_some_and(|written| between().any(|event| event.tick > written.tick && matches!(event.what, What::Sync)))
    };
    sent.iter().filter(|command| !is_synced(command)).count()
}

#[test]
fn a_command_is_synced_before_it_is_acknowledged() {
    assert_eq!(acknowledged_unsynced(|_| {}), 0);
}

/// The controls: the check above must detect both.
#[test]
fn a_command_that_is_acknowledged_early_or_never_synced_is_seen() {
    assert_eq!(acknowledged_unsynced(|settings| settings.synchronous = Synchronous::Off), 1 + 2 + 3 + 5 + 8);
    assert!(acknowledged_unsynced(|settings| settings.pacing.acknowledge_early = true) > 0);
}

/// Publishes readings until it is known that nothing can be stored.
fn make_it_known(site: &Site) {
    let mut flood = Client::connect(site.gateway.mqtt, "flood");
    let readings = format!("[{}]", vec!["1"; 500].join(","));
    let packet = publish_packet("devices/flood/total", readings.as_bytes(), 0, false, false, 0);
    wait_until("it is known", || {
        flood.send(&packet);
        get(site.gateway.admin, "/readyz").0 == 503
    });
}

/// While nothing can be stored: no answer, however often it comes. Afterwards it is published once.
#[test]
fn a_command_that_a_failing_disk_refuses_comes_again_and_is_published_once() {
    let site = Site::start(|_| {});
    let mut door = site.door();
    let before = site.command("before");
    assert_eq!(door.receive().payload, br#"{"id":"before"}"#);
    wait_until("it is acknowledged", || site.delivery(before).acknowledged.is_some());
    site.disk.fails.store(true, Ordering::SeqCst);
    make_it_known(&site);
    let during = site.command("during");
    site.wait_until_it_has_come_again(during);
    assert_eq!(get(site.gateway.admin, "/readyz").0, 503);
    assert!(!door.wait_readable(super::QUIET), "published, and not stored");
    site.disk.fails.store(false, Ordering::SeqCst);
    wait_until("it is acknowledged", || site.delivery(during).acknowledged.is_some());
    let after = site.command("after");
    for payload in [br#"{"id":"during"}"#.as_slice(), br#"{"id":"after"}"#] {
        assert_eq!(door.receive().payload, payload, "each once");
    }
    wait_until("it is acknowledged", || site.delivery(after).acknowledged.is_some());
    assert_eq!(site.bridge("commands"), 3);
    site.gateway.stop();
}

/// Its commit is under way when the disk stops to answer, for longer than clients are left waiting: it may be stored in the end, and is.
#[test]
fn a_command_that_is_under_way_when_the_disk_hangs_waits_for_it() {
    let site = Site::start(|_| {});
    let mut door = site.door();
    site.disk.hang();
    let command = site.command("hangs");
    wait_until("it is known", || get(site.gateway.admin, "/readyz").1 == "disk_hung\n");
    assert_eq!(site.delivery(command).acknowledged, None);
    assert!(!door.wait_readable(super::QUIET), "published, and not stored");
    site.disk.release();
    wait_until("it is acknowledged", || site.delivery(command).acknowledged.is_some());
    site.command("after");
    for payload in [br#"{"id":"hangs"}"#.as_slice(), br#"{"id":"after"}"#] {
        assert_eq!(door.receive().payload, payload, "each once");
    }
    site.gateway.stop();
}

/// A command that is a reading, too, finds no room in a store that refuses. `fill` and `empty` begin and end that.
fn a_command_that_finds_no_room(bytes_max: u64, fill: impl FnOnce(&Site), empty: impl FnOnce(&Site)) {
    let site = Site::start_with("devices/door/#", Link::Down, |settings| {
        settings.capacity = Capacity { when_full: WhenFull::Refuse, ..Capacity::new(bytes_max) };
        close_archives_soon(settings);
    });
    site.disk.forgets.store(true, Ordering::SeqCst);
    let mut door = Client::connect(site.gateway.mqtt, "door");
    assert_eq!(door.subscribe(&[("devices/door/#", 1)]), [1]);
    fill(&site);
    publish_until_refused(&site.gateway, 1, &mut 0x5eed_5eed_5eed_5eed);
    // A command is smaller than what was refused, and some may find room still.
    let mut had_room = 0;
    let command = loop {
        let payload = format!(r#"{{"id":"{had_room}","value":5.0}}"#);
        let command = site.broker.deliver(TRUCK, "fleet/devices/door/level", &payload);
        let has_room = || site.delivery(command).acknowledged.is_some();
        wait_until("it is acknowledged, or comes again", || has_room() || site.delivery(command).sent.len() > 1);
        if !has_room() {
            break command;
        }
        assert_eq!(door.receive().topic, "devices/door/level");
        had_room += 1;
        assert!(had_room < 10_000, "there is always room");
    };
    site.wait_until_it_has_come_again(command);
    assert!(!door.wait_readable(super::QUIET), "published, and not stored");
    assert_eq!(get(site.gateway.admin, "/readyz").0, 503);
    empty(&site);
    wait_until("it is acknowledged", || site.delivery(command).acknowledged.is_some());
    assert_eq!(door.receive().topic, "devices/door/level");
    site.gateway.link.send_replace(Link::Up);
    let Site { folder, gateway, .. } = site;
    gateway.stop();
    assert_eq!(readings_of_door(folder.path()), had_room + 1);
}

#[test]
fn a_command_that_a_full_store_refuses_comes_again_and_is_a_reading_once() {
    a_command_that_finds_no_room(6 << 20, |_| {}, |site| _ = site.gateway.link.send_replace(Link::Up));
}

#[test]
fn a_command_that_a_full_disk_refuses_comes_again_and_is_a_reading_once() {
    let fill = |site: &Site| site.disk.bytes_max.store(used_bytes(&site.state()), Ordering::SeqCst);
    let empty = |site: &Site| site.disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
    a_command_that_finds_no_room(64 << 20, fill, empty);
}

fn readings_of_door(folder: &Path) -> usize {
    let mut count = 0;
    archive::read(&folder.join("state/archive"), "raw", |line| {
        count += usize::from(archive::field(line, "device") == "door");
    });
    count
}

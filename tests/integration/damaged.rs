//! A damaged store: the gateway still starts, accepts readings at once, and restores what can be read, under its old identity.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use outrider::core::identity::RunId;
use outrider::sinks::status::Link;
use outrider::store::pages_of_batches;
use outrider::store::retention::Capacity;
use outrider::store::schema::{self, Synchronous, store_path};
use outrider::store::writer::{Writer, WriterSettings};

use crate::archive;
use crate::client::Client;
use crate::gateway::{Gateway, close_archives_soon, ledger_line, wait_until};
use crate::in_process::InProcess;
use crate::vfs::Disk;

const PUBLISHES: u64 = 100;
const READINGS_A_PUBLISH: u64 = 50;
const READINGS: u64 = PUBLISHES * READINGS_A_PUBLISH;
const PAGE: usize = 4096;

/// Each publish becomes a batch of its own.
fn publish(client: &mut Client, publishes: u64) {
    for publish in 0..publishes {
        let first = publish * READINGS_A_PUBLISH + 1;
        let item = |number: u64| {
            let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{{\"value\":20.5,\"seq\":{number},\"tag\":\"{noise:016x}\"}}")
        };
        let items: Vec<String> = (first..first + READINGS_A_PUBLISH).map(item).collect();
        client.publish("devices/d/temperature", format!("[{}]", items.join(",")));
    }
}

/// Overwrites two leaves of the table of raw batches, and optionally the first page. Everything must be in the main file, not in the log.
fn damage(store: &Path, first_page_too: bool) {
    let mut file = std::fs::read(store).unwrap();
    // A leaf of a table begins with 13. Leaves with batches contain a metric's name as plain text, because compression leaves its first
    // occurrence alone.
    let name = b"temperature";
    let is_leaf = |page: &[u8]| page[0] == 13 && page.windows(name.len()).any(|window| window == name);
    let leaves: Vec<usize> = (1..file.len() / PAGE).filter(|at| is_leaf(&file[at * PAGE..(at + 1) * PAGE])).collect();
    assert!(leaves.len() > 8, "only {} leaves", leaves.len());
    for at in [leaves[leaves.len() / 3], leaves[leaves.len() / 2]] {
        file[at * PAGE..(at + 1) * PAGE].fill(0x5a);
    }
    if first_page_too {
        file[..PAGE].fill(0x5a);
    }
    // Written in place, because a running gateway has the file open.
    std::io::Write::write_all(&mut std::fs::File::options().write(true).open(store).unwrap(), &file).unwrap();
}

/// Moves a store's log into its file.
fn into_file(state: &Path) {
    let settings = WriterSettings { capacity: Capacity::new(4 << 30), ..WriterSettings::for_tests(state) };
    Writer::open(&settings, RunId([9; 8])).unwrap().checkpoint().unwrap();
}

/// Number of distinct readings in the archive, by run. Also checks that no identity stands for two different readings.
fn readings_by_run(root: &Path) -> HashMap<String, HashSet<u64>> {
    let mut readings: HashMap<String, HashSet<u64>> = HashMap::new();
    let mut identities = HashMap::new();
    archive::read(root, "raw", |line| {
        let run = archive::field(line, "run").to_owned();
        let sequence = archive::field(line, "seq").parse().unwrap();
        let position: u64 = archive::field(line, "position").parse().unwrap();
        readings.entry(run.clone()).or_default().insert(sequence);
        let known = *identities.entry((run, position)).or_insert(sequence);
        assert_eq!(known, sequence, "an identity was given twice");
    });
    readings
}

#[test]
fn a_store_that_is_damaged_at_the_start_is_set_aside_and_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_path(&folder.path().join("state"));
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    publish(&mut client, PUBLISHES);
    let old_run = gateway.status()["run"].as_str().unwrap().to_owned();
    gateway.kill();
    into_file(&folder.path().join("state"));
    damage(&store, true);

    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    publish(&mut client, 10);
    wait_until("the end of the salvage", || gateway.status()["store"]["salvaging"] == false);
    let status = gateway.status();
    assert_eq!((&status["store"]["damaged_stores"], &status["ledger_adds_up"]), (&1.into(), &true.into()));
    assert_eq!(status["received"]["accepted"], READINGS + 500, "totals are taken over");
    let line = ledger_line(&status, "archive", "raw");
    let lost = line["quarantined"].as_u64().unwrap();
    assert!(lost > 0 && lost < READINGS / 4, "{line}");
    wait_until("the alert of the loss", || {
        gateway.alerts().iter().any(|alert| alert["metric"] == "damage" && alert["state"] == "raised")
    });
    let new_run = status["run"].as_str().unwrap().to_owned();
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert_eq!(log.matches("it is set aside").count(), 1);
    assert!(gateway.stop().success());

    let readings = readings_by_run(&folder.path().join("state/archive"));
    assert_eq!(readings[&old_run].len() as u64, READINGS - lost, "under the old run");
    assert_eq!(readings[&new_run].len(), 500);
    let mut told = false;
    archive::read(&folder.path().join("state/archive"), "anomalies", |line| {
        told |= line.contains("\"damaged_stores\":1")
    });
    assert!(told, "a gateway record says it");

    // The salvage is finished: the next start salvages nothing.
    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert_eq!(ledger_line(&gateway.status(), "archive", "raw")["accepted"], line["accepted"]);
    assert_eq!(gateway.status()["store"]["salvaging"], false);
}

#[test]
fn damage_that_a_reader_finds_while_running_costs_the_damaged_batches_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_path(&folder.path().join("state"));
    let gateway = InProcess::start_with_link(folder.path(), Link::Down, close_archives_soon);
    let mut client = Client::connect(gateway.mqtt, "device");
    publish(&mut client, PUBLISHES);
    let run = gateway.status()["run"].as_str().unwrap().to_owned();
    let db = schema::open_writer(&store, Synchronous::Full, None).unwrap();
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    drop(db);
    damage(&store, false);
    gateway.link.send_replace(Link::Up);
    wait_until("a new store", || gateway.status()["store"]["damaged_stores"] == 1);
    client.publish("devices/d/temperature", "{\"value\":20.5,\"seq\":1000000}");
    wait_until("the end of the salvage", || gateway.status()["store"]["salvaging"] == false);
    let status = gateway.status();
    assert_eq!(status["ledger_adds_up"], true);
    let lost = ledger_line(&status, "archive", "raw")["quarantined"].as_u64().unwrap();
    // Older versions of the damaged pages may still be in the log.
    assert!(lost < READINGS / 4, "{lost}");
    assert_eq!(status["received"]["accepted"], READINGS + 1);
    gateway.stop();
    let readings = readings_by_run(&folder.path().join("state/archive"));
    assert_eq!(readings[&run].len() as u64, READINGS + 1 - lost);
    assert_eq!(readings.len(), 1, "the process goes on under its run");
}

/// A page in the middle of the raw batches.
fn page_with_batches(store: &Path) -> usize {
    let by_page = pages_of_batches(store).unwrap();
    let mut pages: Vec<usize> = by_page.into_keys().collect();
    pages.sort_unstable();
    pages[pages.len() / 2]
}

/// Everything comes out in the end: the file can be read beside the disk that has lost a part of it.
fn reads_everything(gateway: &InProcess, folder: &Path, readings: u64) {
    wait_until("a new store", || gateway.status()["store"]["damaged_stores"] == 1);
    wait_until("the end of the salvage", || gateway.status()["store"]["salvaging"] == false);
    wait_until("delivery", || ledger_line(&gateway.status(), "archive", "raw")["delivered"] == readings);
    let readings_found: usize = readings_by_run(&folder.join("state/archive")).values().map(HashSet::len).sum();
    assert_eq!(readings_found as u64, readings);
}

fn start_on(disk: &Disk, folder: &Path, link: Link) -> InProcess {
    InProcess::start_with_link(folder, link, |settings| {
        settings.vfs = Some(disk.name.clone());
        close_archives_soon(settings);
    })
}

#[test]
fn a_sector_that_the_disk_has_lost_is_damage_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_path(&folder.path().join("state"));
    let gateway = Gateway::start(folder.path(), &[], &[]);
    publish(&mut Client::connect(gateway.mqtt, "device"), PUBLISHES);
    gateway.kill();
    into_file(&folder.path().join("state"));
    let disk = Disk::register(&folder.path().join("state"));
    disk.lose(&store, page_with_batches(&store));
    let gateway = start_on(disk, folder.path(), Link::Up);
    publish(&mut Client::connect(gateway.mqtt, "device"), 1);
    reads_everything(&gateway, folder.path(), READINGS + READINGS_A_PUBLISH);
    gateway.stop();
}

#[test]
fn a_sector_that_the_disk_loses_while_running_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_path(&folder.path().join("state"));
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = start_on(disk, folder.path(), Link::Down);
    let mut client = Client::connect(gateway.mqtt, "device");
    publish(&mut client, PUBLISHES);
    let db = schema::open_writer(&store, Synchronous::Full, None).unwrap();
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    drop(db);
    disk.lose(&store, page_with_batches(&store));
    gateway.link.send_replace(Link::Up);
    reads_everything(&gateway, folder.path(), READINGS);
    publish(&mut client, 1);
    gateway.stop();
}

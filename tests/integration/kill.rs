//! Kill -9 at random moments under load: whatever was acknowledged reaches the sink after the restart, once.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::archive;
use crate::client::{self, Options};
use crate::gateway::{Gateway, wait_until};

const DEVICES: usize = 8;
const WINDOW: u64 = 200;

/// A device that publishes sequence numbers at QoS 1, and sends again what was unacknowledged when the gateway died.
struct Device {
    name: String,
    /// Everything up to here is acknowledged; the gateway acknowledges in order.
    acknowledged: Arc<AtomicU64>,
}

impl Device {
    /// Publishes until `stop` or until the connection is lost.
    fn session(&self, address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&client::connect_packet(&Options {
            client_id: &self.name,
            clean: true,
            keep_alive_s: 0,
            will: None,
        }))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        let topic = format!("devices/{}/temperature", self.name);
        let mut acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut sent = acknowledged;
        let mut acks = [0; 4096];
        let mut filled = 0;
        while !stop.load(Ordering::Relaxed) || acknowledged < sent {
            let mut out = Vec::new();
            while sent < acknowledged + WINDOW && !stop.load(Ordering::Relaxed) {
                sent += 1;
                let payload = format!("{{\"value\":20.5,\"seq\":{sent}}}");
                let id = (sent % 65535) as u16 + 1;
                out.extend(client::publish_packet(&topic, payload.as_bytes(), 1, false, false, id));
            }
            stream.write_all(&out)?;
            let count = stream.read(&mut acks[filled..])?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            filled += count;
            for puback in acks[..filled].chunks_exact(4) {
                acknowledged += 1;
                let id = ((acknowledged % 65535) as u16 + 1).to_be_bytes();
                assert_eq!(puback, [0x40, 2, id[0], id[1]], "acknowledgements come in order");
            }
            self.acknowledged.store(acknowledged, Ordering::Relaxed);
            acks.copy_within(filled - filled % 4..filled, 0);
            filled %= 4;
        }
        Ok(())
    }
}

pub struct Fleet {
    devices: Vec<Arc<Device>>,
}

impl Fleet {
    pub fn new() -> Fleet {
        let device = |n| Arc::new(Device { name: format!("d{n:02}"), acknowledged: Arc::default() });
        Fleet { devices: (0..DEVICES).map(device).collect() }
    }

    pub fn start(&self, address: SocketAddr, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
        self.devices
            .iter()
            .map(|device| {
                let (device, stop) = (Arc::clone(device), Arc::clone(stop));
                // A lost connection is expected here.
                std::thread::spawn(move || drop(device.session(address, &stop)))
            })
            .collect()
    }

    /// How many readings each device knows to be stored, by its name.
    pub fn acknowledged_by_each(&self) -> impl Iterator<Item = (&str, u64)> {
        self.devices.iter().map(|device| (device.name.as_str(), device.acknowledged.load(Ordering::Relaxed)))
    }

    pub fn acknowledged(&self) -> u64 {
        self.devices.iter().map(|device| device.acknowledged.load(Ordering::Relaxed)).sum()
    }
}

/// Maps identities to readings: device and sequence in one number, never 0.
#[derive(Default)]
struct Identities(HashMap<String, Vec<u64>>);

impl Identities {
    /// What this line's identity stood for before (0 if it is new), and what it stands for here.
    fn put(&mut self, line: &str) -> (u64, u64) {
        let device: u64 = archive::field(line, "device")[1..].parse().unwrap();
        let sequence: u64 = archive::field(line, "seq").parse().unwrap();
        let position: usize = archive::field(line, "position").parse().unwrap();
        let run = archive::field(line, "run");
        if !self.0.contains_key(run) {
            self.0.insert(run.to_owned(), Vec::new());
        }
        let readings = self.0.get_mut(run).unwrap();
        if readings.len() <= position {
            readings.resize(position + 1, 0);
        }
        let reading = device << 40 | sequence;
        (std::mem::replace(&mut readings[position], reading), reading)
    }
}

/// What the archive holds of each device: how often each sequence number, and whether identities repeat.
#[derive(Default)]
struct Found {
    counts: HashMap<String, Vec<u8>>,
    repeated_identities: u64,
    /// Readings that were in a file left unfinished by a kill and were written again later, and how many of them differ.
    resent: u64,
    resent_changed: u64,
}

impl Found {
    fn read(root: &Path, sent_before: &Identities) -> Found {
        let mut found = Found::default();
        let mut identities = Identities::default();
        archive::read(root, "raw", |line| {
            let sequence: usize = archive::field(line, "seq").parse().unwrap();
            let counts = found.counts.entry(archive::field(line, "device").to_owned()).or_default();
            if counts.len() <= sequence {
                counts.resize(sequence + 1, 0);
            }
            counts[sequence] = counts[sequence].saturating_add(1);
            let (known, reading) = identities.put(line);
            found.repeated_identities += u64::from(known != 0);
            let position: usize = archive::field(line, "position").parse().unwrap();
            let before = sent_before.0.get(archive::field(line, "run")).and_then(|readings| readings.get(position));
            if let Some(before) = before.filter(|before| **before != 0) {
                found.resent += 1;
                found.resent_changed += u64::from(*before != reading);
            }
        });
        found
    }

    /// Readings that a device sent again because it did not know that they were stored.
    fn redelivered(&self) -> u64 {
        self.counts.values().flatten().filter(|count| **count > 1).count() as u64
    }

    fn missing(&self, fleet: &Fleet) -> u64 {
        let missing_of = |device: &Arc<Device>| {
            let acknowledged = device.acknowledged.load(Ordering::Relaxed) as usize;
            let none = Vec::new();
            let counts = self.counts.get(&device.name).unwrap_or(&none);
            (1..=acknowledged).filter(|sequence| counts.get(*sequence).is_none_or(|count| *count == 0)).count() as u64
        };
        fleet.devices.iter().map(missing_of).sum()
    }
}

/// A small, fast pseudo-random generator for the moments of the kills.
pub fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Kills whatever `start` starts, `kills` times under load, until `total` readings are acknowledged. Returns how many kills met a backlog
/// of more than 10,000 undelivered readings, and what was in the files that they left unfinished.
fn kill_repeatedly(
    folder: &Path,
    fleet: &Fleet,
    kills: u64,
    total: u64,
    start: impl Fn() -> Gateway,
) -> (u64, Identities) {
    let mut sent = Identities::default();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut large_backlogs = 0;
    for kill in 0..kills {
        let gateway = start();
        let stop = Arc::default();
        let before = fleet.acknowledged();
        let threads = fleet.start(gateway.mqtt, &stop);
        let share = (total - before.min(total)) / (kills - kill);
        let until = before + share + next(&mut seed) % 5_000;
        wait_until("the fleet's share of acknowledgements", || fleet.acknowledged() >= until);
        std::thread::sleep(Duration::from_micros(next(&mut seed) % 20_000));
        gateway.kill();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        large_backlogs += u64::from(backlog(folder) > 10_000);
        archive::read_unfinished(&folder.join("state/archive"), "raw", |line| {
            sent.put(line);
        });
    }
    (large_backlogs, sent)
}

/// Readings in the store that the archive does not have, as of the last commit.
fn backlog(folder: &Path) -> i64 {
    let store = outrider::store::schema::store_path(&folder.join("state"));
    let db = outrider::store::schema::open_reader(&store, None).unwrap();
    let sql = "SELECT coalesce((SELECT max(seq) FROM batch WHERE stream = 1), 0) - coalesce((SELECT min(seq) FROM cursor WHERE stream = 'raw'), 0)";
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_is_acknowledged_survives_twenty_kills() {
    const TOTAL: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new();
    let (large_backlogs, sent) =
        kill_repeatedly(folder.path(), &fleet, 20, TOTAL, || Gateway::start(folder.path(), &[], &[]));
    assert!(large_backlogs >= 10, "only {large_backlogs} kills met a backlog of more than 10,000");
    // A slow machine needs more than the usual time for all of it.
    let gateway = Gateway::start(folder.path(), &[], &[("OUTRIDER__GATEWAY__SHUTDOWN_GRACE", "50s")]);
    assert!(gateway.stop().success(), "a clean end flushes what is left to the archive");
    let acknowledged = fleet.acknowledged();
    assert!(acknowledged >= TOTAL, "{acknowledged}");
    let found = Found::read(&folder.path().join("state/archive"), &sent);
    assert_eq!(found.missing(&fleet), 0, "of {acknowledged} acknowledged");
    assert_eq!(found.repeated_identities, 0, "the archive takes nothing twice");
    assert!(found.resent > 0, "no kill left anything to be sent again");
    assert_eq!(found.resent_changed, 0, "of {} sent again: an identity stands for one reading", found.resent);
    assert!(found.redelivered() > 0, "no kill came between a commit and its acknowledgement");
}

/// The control: a gateway that acknowledges before it commits loses readings, and the comparison above detects it.
#[test]
fn a_gateway_that_acknowledges_early_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new();
    let test = "kill::gateway_that_acknowledges_early";
    kill_repeatedly(folder.path(), &fleet, 5, 50_000, || Gateway::start_test(folder.path(), test));
    assert!(Gateway::start(folder.path(), &[], &[]).stop().success());
    let found = Found::read(&folder.path().join("state/archive"), &Identities::default());
    assert!(
        found.missing(&fleet) > 0,
        "nothing of {} was missing: this test would not notice a loss",
        fleet.acknowledged()
    );
}

/// Not a test by itself: the process that the control kills.
#[test]
#[ignore = "run by the control as a process of its own"]
fn gateway_that_acknowledges_early() {
    crate::gateway::run_in_this_process(|settings| settings.pacing.acknowledge_early = true);
}

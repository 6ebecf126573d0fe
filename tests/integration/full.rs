//! A full store, and a full disk: only what the policy gives up is lost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrider::core::identity::{PerStream, RunId, Stream};
use outrider::core::pipeline::{Pipeline, PipelineSettings};
use outrider::sinks::archive::sink::ArchiveSink;
use outrider::sinks::status::Link;
use outrider::store::commit::CommitInput;
use outrider::store::retention::{Capacity, WhenFull};
use outrider::store::writer::{CommitReport, Writer, WriterSettings};

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::durability::readings;
use crate::gateway::{close_archives_soon, get, ledger_line, wait_until};
use crate::in_process::InProcess;
use crate::kill::next;
use crate::vfs::{Disk, used_bytes};

const READINGS_A_PUBLISH: u64 = 1000;

/// Readings that do not compress, numbered from `first`.
pub fn payload(first: u64, seed: &mut u64) -> String {
    let item =
        |number| format!("{{\"value\":20.5,\"seq\":{number},\"tag\":\"{:016x}{:016x}\"}}", next(seed), next(seed));
    let items: Vec<String> = (first..first + READINGS_A_PUBLISH).map(item).collect();
    format!("[{}]", items.join(","))
}

/// Publishes until the gateway closes the connection. Returns how many readings were acknowledged.
pub fn publish_until_refused(gateway: &InProcess, first: u64, seed: &mut u64) -> u64 {
    let mut client = Client::connect(gateway.mqtt, "device");
    let mut number = first;
    loop {
        let id = client.next_packet_id();
        client.send(&publish_packet("devices/d/temperature", payload(number, seed).as_bytes(), 1, false, false, id));
        match client.packet() {
            Ok(packet) => assert_eq!(packet.first, 0x40),
            Err(_) => return number - first,
        }
        number += READINGS_A_PUBLISH;
        assert!(number < 1_000_000, "the store never fills");
    }
}

#[test]
fn a_full_store_that_refuses_keeps_all_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = InProcess::start_with_link(folder.path(), Link::Down, |settings| {
        settings.capacity = Capacity { when_full: WhenFull::Refuse, ..Capacity::new(6 << 20) };
        close_archives_soon(settings);
    });
    let mut seed = 0x5eed_5eed_5eed_5eed;
    let acknowledged = publish_until_refused(&gateway, 1, &mut seed);
    assert!(acknowledged > 1000, "{acknowledged}");
    assert_eq!(publish_until_refused(&gateway, acknowledged + 1, &mut seed), 0, "full is full");
    let status = gateway.status();
    assert_eq!((&status["state"], &status["ledger_adds_up"]), (&"store_full".into(), &true.into()));
    assert_eq!(status["store"]["readings_refused"], 2 * READINGS_A_PUBLISH);
    assert_eq!(ledger_line(&status, "archive", "raw")["expired"], 0);
    assert_eq!(get(gateway.admin, "/readyz"), (503, "store_full\n".to_owned()));
    assert_eq!(get(gateway.admin, "/healthz").0, 200);
    // The gateway's own record of the change uses the reserve.
    wait_until("a record in the full store", || {
        ledger_line(&gateway.status(), "archive", "anomalies")["accepted"] != 0
    });

    gateway.link.send_replace(Link::Up);
    wait_until("room", || get(gateway.admin, "/readyz").0 == 200);
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("devices/d/temperature", payload(acknowledged + 1, &mut seed));
    gateway.stop();
    let mut expected = 1;
    archive::read(&folder.path().join("state/archive"), "raw", |line| {
        assert_eq!(archive::field(line, "seq").parse(), Ok(expected), "in order, without a gap");
        expected += 1;
    });
    assert_eq!(expected, acknowledged + READINGS_A_PUBLISH + 1);
}

struct Filling {
    writer: Writer,
    pipeline: Pipeline,
    seed: u64,
    number: u64,
}

impl Filling {
    fn new(folder: &std::path::Path, disk: &Disk, bytes_max: u64) -> Filling {
        let settings = WriterSettings {
            vfs: Some(disk.name.clone()),
            capacity: Capacity::new(bytes_max),
            ..WriterSettings::for_tests(folder)
        };
        let run = RunId([1; 8]);
        let mut writer = Writer::open(&settings, run).unwrap();
        writer.register_sink("sink", Stream::RAW).unwrap();
        let pipeline = Pipeline::new(PipelineSettings::new("g", run), &PerStream::default());
        Filling { writer, pipeline, seed: 0x0123_4567_89ab_cdef, number: 1 }
    }

    fn commit(&mut self) -> rusqlite::Result<CommitReport> {
        self.pipeline.take(&readings(self.number, 1000, &mut self.seed), Default::default());
        self.number += 1000;
        let report = self.writer.commit(&CommitInput { sealed: self.pipeline.seal(), ..CommitInput::default() })?;
        self.writer.maintain(Instant::now())?;
        Ok(report)
    }

    fn ledger(&self) -> [u64; 3] {
        let sql = "SELECT accepted, expired, (SELECT sum(count) FROM batch WHERE stream = 1) FROM cursor WHERE stream = 'raw'";
        let row = self.writer.connection().query_row(sql, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]));
        row.map(|numbers: [i64; 3]| numbers.map(|number| number as u64)).unwrap()
    }
}

#[test]
fn a_full_disk_costs_the_oldest_readings_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(folder.path());
    let mut filling = Filling::new(folder.path(), disk, 64 << 20);
    let ballast = folder.path().join("outrider.ballast");
    assert!(ballast.exists());
    // The disk is far smaller than the store's capacity.
    disk.bytes_max.store(20 << 20, Ordering::SeqCst);
    let mut expired = 0;
    while expired < 200_000 {
        let report =
            filling.commit().expect("the ballast makes room for the first deletion, and that for the next ones");
        expired += report.expired.iter().map(|(_, count)| count).sum::<u64>();
        assert!(filling.number < 5_000_000);
    }
    assert!(!ballast.exists());
    assert!(used_bytes(folder.path()) <= 20 << 20);
    let [accepted, counted, held] = filling.ledger();
    assert_eq!((accepted, counted, accepted), (filling.number - 1, expired, expired + held));

    disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
    filling.writer.maintain(Instant::now()).unwrap();
    assert!(!ballast.exists(), "not at once");
    filling.writer.maintain(Instant::now() + Duration::from_secs(61)).unwrap();
    assert!(ballast.exists(), "there is room again");
}

/// The control: without the ballast there is no way out of a full disk.
#[test]
fn without_its_ballast_a_store_on_a_full_disk_is_stuck() {
    for has_ballast in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::register(folder.path());
        let mut filling = Filling::new(folder.path(), disk, 64 << 20);
        (0..20).for_each(|_| drop(filling.commit().unwrap()));
        if !has_ballast {
            std::fs::remove_file(folder.path().join("outrider.ballast")).unwrap();
        }
        // Not even the log may grow, and all of it is in use.
        filling.writer.checkpoint().unwrap();
        disk.bytes_max.store(used_bytes(folder.path()), Ordering::SeqCst);
        assert_eq!(filling.commit().is_ok(), has_ballast);
    }
}

/// Others fill the disk, and nothing waits for a sink: what the store has is enough, and nobody notices. When a sink cannot be reached the
/// store does fill, which is the control, and takes more as soon as others have gone.
#[test]
fn a_disk_that_others_fill_costs_nothing_while_all_that_comes_leaves_at_once() {
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest] {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let disk = Disk::register(&state);
        disk.forgets.store(true, Ordering::SeqCst);
        let gateway = InProcess::start(folder.path(), |settings| {
            settings.vfs = Some(disk.name.clone());
            settings.capacity = Capacity { when_full, ..Capacity::new(64 << 20) };
            ArchiveSink::change(&mut settings.sinks[0], |archive| archive.rotate_after = Duration::from_millis(20));
        });
        let (mut seed, mut number) = (0x5eed_5eed_5eed_5eed, 1);
        let mut client = Client::connect(gateway.mqtt, "device");
        let mut publish = |client: &mut Client, number: &mut u64| {
            client.publish("devices/d/temperature", payload(*number, &mut seed));
            *number += READINGS_A_PUBLISH;
        };
        publish(&mut client, &mut number);
        disk.bytes_max.store(used_bytes(&state), Ordering::SeqCst);
        let buffered = || ledger_line(&gateway.status(), "archive", "raw")["buffered"].as_u64().unwrap();
        // Several times as much as the store has.
        for _ in 0..8 {
            (0..19).for_each(|_| publish(&mut client, &mut number));
            wait_until("the archive has it", || buffered() == 0);
        }
        let status = gateway.status();
        assert_eq!((&status["store"]["readings_refused"], &status["ledger_adds_up"]), (&0.into(), &true.into()));
        for stream in ["raw", "anomalies"] {
            assert_eq!(ledger_line(&status, "archive", stream)["expired"], 0, "{stream}, {when_full:?}");
        }
        gateway.link.send_replace(Link::Down);
        match when_full {
            WhenFull::Refuse => {
                let acknowledged = publish_until_refused(&gateway, number, &mut seed);
                assert!(acknowledged > 0 && acknowledged < 200_000, "{acknowledged}: the disk is full");
            }
            WhenFull::DropOldest => wait_until("readings that expire", || {
                publish(&mut client, &mut number);
                ledger_line(&gateway.status(), "archive", "raw")["expired"] != 0
            }),
        }
        disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
        wait_until("room", || get(gateway.admin, "/readyz").0 == 200);
        let mut client = Client::connect(gateway.mqtt, "device");
        number += 1_000_000;
        wait_until("fifty publishes of which nothing expires", || {
            let expired = || ledger_line(&gateway.status(), "archive", "raw")["expired"].clone();
            let before = expired();
            for _ in 0..50 {
                client.publish("devices/d/temperature", payload(number, &mut 1));
                number += READINGS_A_PUBLISH;
            }
            expired() == before
        });
        gateway.stop();
    }
}

/// Under `refuse` a sink that was renamed must not keep the store full for ever.
#[test]
fn a_renamed_sink_is_told_and_gives_way_to_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let capacity = Capacity { when_full: WhenFull::Refuse, ..Capacity::new(6 << 20) };
    let gateway = InProcess::start_with_link(folder.path(), Link::Down, |settings| settings.capacity = capacity);
    let mut seed = 0x5eed_5eed_5eed_5eed;
    let acknowledged = publish_until_refused(&gateway, 1, &mut seed);
    gateway.stop();
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.capacity = capacity;
        ArchiveSink::change(&mut settings.sinks[0], |archive| archive.rotate_after = Duration::from_millis(20));
        settings.sinks[0].name = "renamed".to_owned();
    });
    let buffered = || ledger_line(&gateway.status(), "renamed", "raw")["buffered"].as_u64().unwrap();
    wait_until("what there was", || buffered() == 0 && get(gateway.admin, "/readyz").0 == 200);
    let mut client = Client::connect(gateway.mqtt, "device");
    for n in 0..150 {
        client.publish("devices/d/temperature", payload(acknowledged + 1 + n * READINGS_A_PUBLISH, &mut seed));
        if n % 5 == 0 {
            wait_until("the sink has it", || buffered() == 0);
        }
    }
    let status = gateway.status();
    assert_eq!((&status["ledger_adds_up"], &status["store"]["readings_refused"]), (&true.into(), &0.into()));
    assert_eq!(ledger_line(&status, "renamed", "raw")["expired"], 0);
    assert!(ledger_line(&status, "archive", "raw")["expired"].as_u64().unwrap() > 0);
    gateway.stop();
}

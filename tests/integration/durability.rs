//! What "stored" means: synced before it is acknowledged, and intact after a power cut at any moment.

use std::sync::atomic::Ordering;
use std::time::Instant;

use outrider::core::batch::Stored;
use outrider::core::cursor::CursorState;
use outrider::core::identity::{PerStream, RunId, Stream};
use outrider::core::pipeline::{Pipeline, PipelineSettings};
use outrider::core::ranges::Ranges;
use outrider::core::reading::{Attributes, Reading, Readings, TimeQuality};
use outrider::gateway::GatewaySettings;
use outrider::store::commit::CommitInput;
use outrider::store::cursors::CursorChange;
use outrider::store::log::{Block, Entry};
use outrider::store::reader::Reader;
use outrider::store::schema::{Synchronous, store_path};
use outrider::store::writer::{Writer, WriterSettings};

use crate::client::{Client, publish_packet};
use crate::in_process::InProcess;
use crate::kill::next;
use crate::vfs::{Disk, Event, Part, What, contains, tick};

const PUBLISHES: u64 = 40;

/// Publishes one by one over a disk that logs everything. Returns how many publishes were acknowledged before their bytes were in the WAL
/// and the WAL was synced.
fn acknowledged_unsynced(change: impl FnOnce(&mut GatewaySettings)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        change(settings);
    });
    let mut client = Client::connect(gateway.mqtt, "device");
    let mut seed = 0x1234_5678_9abc_def1;
    let mut publishes = Vec::new();
    for number in 1..=PUBLISHES {
        // Compression leaves the first occurrence of a text unchanged.
        let tag = format!("{:016x}", next(&mut seed));
        let payload = format!("{{\"value\":20.5,\"seq\":{number},\"tag\":\"{tag}\"}}");
        let id = client.next_packet_id();
        let sent = tick();
        client.send(&publish_packet("devices/d/temperature", payload.as_bytes(), 1, false, false, id));
        assert_eq!(client.packet().unwrap().first, 0x40);
        publishes.push((tag, sent, tick()));
    }
    let log = disk.log();
    gateway.stop();
    let is_synced = |(tag, sent, acknowledged): &(String, u64, u64)| {
        let between =
            || log.iter().filter(|event| event.tick > *sent && event.tick < *acknowledged && event.part == Part::Wal);
        let written =
            between().find(|event| matches!(&event.what, What::Write { data, .. } if contains(data, tag.as_bytes())));
        written
            .is_some_and(|written| between().any(|event| event.tick > written.tick && matches!(event.what, What::Sync)))
    };
    publishes.iter().filter(|publish| !is_synced(publish)).count() as u64
}

#[test]
fn the_sync_returns_before_the_acknowledgement_is_written() {
    assert_eq!(acknowledged_unsynced(|_| {}), 0);
}

/// The controls: the check above must detect both.
#[test]
fn a_gateway_that_does_not_sync_or_acknowledges_early_is_seen() {
    assert_eq!(acknowledged_unsynced(|settings| settings.synchronous = Synchronous::Off), PUBLISHES);
    assert!(acknowledged_unsynced(|settings| settings.pacing.acknowledge_early = true) > 0);
}

/// A recorded sequence of commits: what each of them promised, and when.
struct Recorded {
    log: Vec<Event>,
    /// After this many events, everything up to this sequence was acknowledged.
    acknowledged: Vec<(usize, u64)>,
    /// From this many events on, everything up to this sequence may be deleted, because a sink has it.
    delivered: Vec<(usize, u64)>,
}

const COMMITS: u64 = 500;
const POINTS: u64 = 300;

pub fn readings(first: u64, count: u64, seed: &mut u64) -> Readings {
    let mut readings = Readings::default();
    for number in first..first + count {
        let device = format!("d{:x}", next(seed));
        readings.push(&Reading {
            device: &device,
            metric: "total",
            value: number as f64,
            rounding: None,
            measured_at_ms: number as i64,
            received_at_ms: number as i64,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: Some(number),
            attributes: Attributes::NONE,
        });
    }
    readings
}

/// Commits batches of all sizes, delivers and deletes meanwhile, and lets the WAL be checkpointed several times.
fn record(prepare: impl FnOnce(&Disk)) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(folder.path());
    prepare(disk);
    let run = RunId([1; 8]);
    let settings = WriterSettings { vfs: Some(disk.name.clone()), ..WriterSettings::for_tests(folder.path()) };
    let mut writer = Writer::open(&settings, run).unwrap();
    writer.register_sink("sink", Stream::RAW).unwrap();
    let mut pipeline = Pipeline::new(PipelineSettings::new("g", run), &PerStream::default());
    let mut recorded = Recorded { log: Vec::new(), acknowledged: vec![(disk.log_len(), 0)], delivered: vec![(0, 0)] };
    let (mut seed, mut sequence) = (0x0dd0_5eed_0dd0_5eed, 0);
    for commit in 0..COMMITS {
        let count = 1 + next(&mut seed) % if commit % 10 == 0 { 2000 } else { 100 };
        pipeline.take(&readings(sequence + 1, count, &mut seed), Default::default());
        let mut input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
        if commit % 5 == 0 {
            let delivered = sequence - sequence.min(1000);
            recorded.delivered.push((disk.log_len(), delivered));
            input.sealed.snapshot_covers = sequence;
            input.cursors.push(CursorChange {
                sink: "sink".to_owned(),
                stream: Stream::RAW,
                state: CursorState::at(delivered),
                dead_letters: Vec::new(),
                unreadable: Ranges::default(),
                lost: Ranges::default(),
                passed_over: 0,
                expired: Vec::new(),
                held_keys: Vec::new(),
                link: None,
                save: None,
            });
        }
        writer.commit(&input).unwrap();
        sequence += count;
        recorded.acknowledged.push((disk.log_len(), sequence));
        writer.maintain(Instant::now()).unwrap();
    }
    // Before the writer is closed, which would checkpoint.
    recorded.log = disk.log();
    let syncs_of_main = recorded.log.iter().filter(|e| e.part == Part::Main && matches!(e.what, What::Sync)).count();
    assert!(syncs_of_main > 3 || disk.drops_syncs.load(Ordering::SeqCst), "only {syncs_of_main} checkpoints");
    recorded
}

/// A file as the disk has it when the power fails.
#[derive(Default)]
pub struct Platter {
    synced: Vec<u8>,
    unsynced: Vec<What>,
}

const PIECE: usize = 512;
const BLOCK: usize = 4096;

impl Platter {
    pub fn of(synced: Vec<u8>) -> Platter {
        Platter { synced, unsynced: Vec::new() }
    }

    pub fn take(&mut self, what: &What) {
        match what {
            What::Sync => {
                for what in std::mem::take(&mut self.unsynced) {
                    match what {
                        What::Write { offset, data } => put(&mut self.synced, offset, &data),
                        What::Truncate(size) => self.synced.resize(size, 0),
                        What::Sync => unreachable!("not kept"),
                    }
                }
            }
            other => self.unsynced.push(other.clone()),
        }
    }

    /// Of what was not synced, random pieces have reached the disk; a block that was being written may contain anything.
    pub fn cut(&self, is_being_written: bool, seed: &mut u64) -> Vec<u8> {
        let mut content = self.synced.clone();
        let arrives_of_8 = next(seed) % 9;
        for what in &self.unsynced {
            match what {
                What::Write { offset, data } => {
                    for (at, piece) in data.chunks(PIECE).enumerate() {
                        if next(seed) % 8 < arrives_of_8 {
                            put(&mut content, offset + at * PIECE, piece);
                        }
                    }
                }
                What::Truncate(size) if next(seed) % 8 < arrives_of_8 => content.resize(*size, 0),
                _ => {}
            }
        }
        if let (true, Some(What::Write { offset, data })) = (is_being_written, self.unsynced.last()) {
            let end = (offset + data.len()).next_multiple_of(BLOCK).min(content.len());
            for byte in content.get_mut(offset / BLOCK * BLOCK..end).unwrap_or_default() {
                *byte = next(seed) as u8;
            }
        }
        content
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

/// Cuts the power at random moments. Returns at how many of them acknowledged data was lost or damaged.
fn cuts_that_lose(recorded: &Recorded) -> u64 {
    let first = recorded.acknowledged[0].0;
    let mut seed = 0xfeed_beef_cafe_f00d;
    let mut points: Vec<usize> =
        (0..POINTS).map(|_| first + next(&mut seed) as usize % (recorded.log.len() - first)).collect();
    points.sort_unstable();
    let (mut main, mut wal) = (Platter::default(), Platter::default());
    let mut taken = 0;
    let mut losses = 0;
    for point in points {
        for event in &recorded.log[taken..point] {
            match event.part {
                Part::Main => main.take(&event.what),
                Part::Wal => wal.take(&event.what),
            }
        }
        taken = point;
        let writing =
            point.checked_sub(1).map(|last| recorded.log[last].part).filter(|_| next(&mut seed).is_multiple_of(2));
        let main = main.cut(writing == Some(Part::Main), &mut seed);
        let wal = wal.cut(writing == Some(Part::Wal), &mut seed);
        let through =
            |list: &[(usize, u64)]| list.iter().rev().find(|(events, _)| *events <= point).map_or(0, |(_, at)| *at);
        let (delivered, acknowledged) = (through(&recorded.delivered), through(&recorded.acknowledged));
        losses += u64::from(!is_intact(&main, &wal, delivered, acknowledged));
    }
    losses
}

/// Whether a store with these bytes opens, holds all of `delivered + 1..=acknowledged` and accepts a further batch.
fn is_intact(main: &[u8], wal: &[u8], delivered: u64, acknowledged: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = store_path(folder.path());
    std::fs::write(&path, main).unwrap();
    std::fs::write(path.with_extension("sqlite-wal"), wal).unwrap();
    let settings = WriterSettings { synchronous: Synchronous::Off, ..WriterSettings::for_tests(folder.path()) };
    let Ok(mut writer) = Writer::open(&settings, RunId([2; 8])) else {
        return false;
    };
    let Ok(mut reader) = Reader::open(&path, None) else { return false };
    let (mut block, mut after, mut expected) = (Block::default(), delivered, delivered + 1);
    loop {
        match reader.read(Stream::RAW, after, &mut block) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return false,
        }
        for entry in block.entries(after) {
            let record = match entry {
                Entry::Record(record) => record,
                Entry::Gap { .. } => continue,
                Entry::Damaged { .. } => return false,
            };
            let Stored::Reading(reading) = record.stored else { return false };
            if record.sequence != expected || reading.sequence != Some(record.sequence) {
                return false;
            }
            expected += 1;
        }
        after = block.last_sequence();
    }
    expected > acknowledged && writer.commit(&CommitInput::default()).is_ok()
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    assert_eq!(cuts_that_lose(&record(|_| {})), 0);
}

/// A control: if SQLite believes that bytes beside a write are safe, it does not keep committed data out of the block being written.
#[test]
fn a_disk_that_claims_to_keep_what_is_beside_a_write_loses_some() {
    let losses = cuts_that_lose(&record(|disk| disk.claims_powersafe.store(true, Ordering::SeqCst)));
    assert!(losses > 0, "the damage to whole blocks was not noticed");
}

/// The control: on a disk that ignores syncs, the same cuts lose batches.
#[test]
fn a_disk_that_drops_syncs_loses_what_it_acknowledged() {
    let losses = cuts_that_lose(&record(|disk| disk.drops_syncs.store(true, Ordering::SeqCst)));
    assert!(losses > POINTS / 2, "only {losses} of {POINTS} cuts were noticed");
}

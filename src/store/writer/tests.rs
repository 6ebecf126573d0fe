mod giving_way;
mod sizes;

use super::*;
use crate::core::batch::Stored;
use crate::core::cursor::CursorState;
use crate::core::pipeline::{Pipeline, PipelineSettings, SealedBatch, SnapshotChunk};
use crate::core::reading::{Attributes, Reading, Readings, TimeQuality};
use crate::handoff::Undecodable;
use crate::store::cursors::CursorChange;
use crate::store::log::{Block, Entry};
use crate::store::reader::Reader;
use crate::store::retention::Capacity;
use crate::store::salvage::Salvaged;

const RUN: RunId = RunId([7; 8]);

fn new_pipeline(run: RunId, last_sequences: &PerStream<u64>) -> Pipeline {
    Pipeline::new(PipelineSettings::new("g", run), last_sequences)
}

fn settings(folder: &Path, bytes_max: u64) -> WriterSettings {
    WriterSettings { capacity: Capacity::new(bytes_max), ..WriterSettings::for_tests(folder) }
}

fn readings(from: u64, count: u64, padding: &str) -> Readings {
    let mut packed = Vec::new();
    let mut readings = Readings::default();
    for number in from..from + count {
        packed.clear();
        crate::core::reading::pack_attribute(&mut packed, "fw", &format!("{padding}{number}"));
        readings.push(&Reading {
            device: "tank-1",
            metric: "temperature",
            value: number as f64,
            rounding: None,
            measured_at_ms: number as i64,
            received_at_ms: number as i64,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: Some(number),
            attributes: Attributes::from_packed(&packed).expect("just packed"),
        });
    }
    readings
}

fn commit(writer: &mut Writer, pipeline: &mut Pipeline, readings: &Readings) -> CommitReport {
    pipeline.take(readings, Default::default());
    let input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
    writer.commit(&input).expect("a working disk")
}

fn ledger(writer: &Writer) -> (i64, i64, i64, i64) {
    let row = |sql: &str| writer.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    (
        row("SELECT accepted FROM cursor WHERE stream = 'raw'"),
        row("SELECT delivered FROM cursor WHERE stream = 'raw'"),
        row("SELECT expired FROM cursor WHERE stream = 'raw'"),
        row(
            "SELECT coalesce(sum(count), 0) FROM batch WHERE stream = 1 AND seq > (SELECT seq FROM cursor WHERE stream = 'raw')",
        ),
    )
}

#[test]
fn what_is_committed_is_read_back_and_positions_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), 64 << 20);
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &writer.last_sequences().expect("numbers"));
    commit(&mut writer, &mut pipeline, &readings(1, 3, ""));
    drop(writer);

    let second = RunId([8; 8]);
    let mut writer = Writer::open(&settings, second).expect("the same store");
    let mut pipeline = new_pipeline(second, &writer.last_sequences().expect("numbers"));
    commit(&mut writer, &mut pipeline, &readings(4, 2, ""));

    let mut reader = Reader::open(&settings.path, None).expect("a reader");
    let (mut block, mut after, mut seen) = (Block::default(), 0, Vec::new());
    while reader.read(Stream::RAW, after, &mut block).expect("readable") {
        for entry in block.entries(after) {
            let Entry::Record(record) = entry else { panic!("intact, and all of them") };
            let Stored::Reading(reading) = record.stored else { panic!("a reading") };
            seen.push((record.run, record.sequence, record.position, reading.sequence));
        }
        after = block.last_sequence();
    }
    let first = (1..=3).map(|n| (RUN, n, n, Some(n)));
    let expected: Vec<_> = first.chain((4..=5).map(|n| (second, n, n - 3, Some(n)))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_batch_goes_only_when_every_sink_has_it_and_a_snapshot_covers_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    assert_eq!(writer.register_sink("one", Stream::RAW).expect("a cursor"), CursorState::at(0));
    writer.register_sink("two", Stream::RAW).expect("a cursor");
    commit(&mut writer, &mut pipeline, &readings(1, 10, ""));
    let change = |sink: &str| CursorChange::to(sink, Stream::RAW, CursorState::at(10));
    let mut input = CommitInput { cursors: vec![change("one")], ..CommitInput::default() };
    input.sealed.snapshot_covers = 10;
    assert_eq!(writer.commit(&input).expect("a working disk").deleted.batches, 0, "the other sink has nothing yet");
    input = CommitInput { cursors: vec![change("two")], ..CommitInput::default() };
    writer.snapshot_covers = 9;
    assert_eq!(writer.commit(&input).expect("a working disk").deleted.batches, 0, "no snapshot covers its last record");
    writer.snapshot_covers = 10;
    assert_eq!(writer.commit(&CommitInput::default()).expect("a working disk").deleted.batches, 1);
    assert_eq!(ledger(&writer), (10, 10, 0, 0));
    assert_eq!(writer.last_sequence(Stream::RAW).expect("a number"), 10, "numbers are not given again");
}

#[test]
fn a_snapshot_with_a_part_left_out_on_a_full_disk_covers_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    commit(&mut writer, &mut pipeline, &readings(1, 10, ""));
    let chunk = SnapshotChunk { index: 0, sequence: 10, state: vec![1] };
    let mut round = CommitInput::default();
    (round.sealed.snapshot, round.sealed.snapshot_covers) = (vec![chunk], 10);
    writer.try_commit(&round, &[], false).expect("a working disk");
    let run = writer.run.clone();
    let mut covers = |input: &CommitInput| {
        let rows = rows::compress(&run, input);
        writer.try_commit(input, &rows, true).expect("a working disk");
        writer.snapshot_covers
    };
    round.sealed.snapshot.clear();
    assert_eq!(covers(&round), 0, "the rest of it makes it no whole");
    round.sealed.snapshot_covers = 11;
    assert_eq!(covers(&round), 11, "the next one is");
}

#[test]
fn at_capacity_the_oldest_goes_and_the_ledger_adds_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 4 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    let mut noise = 1u64;
    let mut expired = 0;
    for round in 0..200 {
        // Incompressible, so that the store fills.
        let padding: String = (0..60)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'!' + (noise >> 58) as u8)
            })
            .collect();
        let report = commit(&mut writer, &mut pipeline, &readings(round * 1000 + 1, 1000, &padding));
        expired += report.expired.iter().map(|(_, count)| count).sum::<u64>();
    }
    assert!(expired > 0, "the store was meant to fill");
    let (accepted, delivered, counted_expired, buffered) = ledger(&writer);
    assert_eq!((accepted, delivered, counted_expired), (200_000, 0, expired as i64));
    assert_eq!(accepted, delivered + counted_expired + buffered);
    assert!(retention::used_bytes(writer.connection()).expect("a number") <= 4 << 20);
    let late = CursorChange::to("one", Stream::RAW, CursorState::at(expired + 10));
    writer.commit(&CommitInput { cursors: vec![late], ..CommitInput::default() }).expect("a working disk");
    let (accepted, delivered, expired, _) = ledger(&writer);
    assert_eq!((accepted, delivered, expired), (200_000, 10, counted_expired), "what expired is not delivered as well");
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), 64 << 20);
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    commit(&mut writer, &mut new_pipeline(RUN, &PerStream::default()), &readings(1, 5, ""));
    writer.connection().execute("UPDATE batch SET payload = zeroblob(length(payload))", []).expect("a row");
    let mut reader = Reader::open(&settings.path, None).expect("a reader");
    let mut block = Block::default();
    assert!(reader.read(Stream::RAW, 0, &mut block).expect("readable"));
    let entries: Vec<_> = block.entries(2).collect();
    assert!(matches!(entries[..], [Entry::Damaged { through: 5, count: 3 }]), "{entries:?}");
}

#[test]
fn undecodable_samples_are_bounded_and_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    for round in 0..3 {
        let undecodable = (0..90)
            .map(|n| Undecodable {
                reason: "not_json",
                topic: format!("devices/{round}-{n}"),
                file: None,
                sample: b"{".to_vec(),
                received_at_ms: n,
            })
            .collect();
        writer.commit(&CommitInput { undecodable, ..CommitInput::default() }).expect("a working disk");
    }
    let one = |sql: &str| writer.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(one("SELECT value FROM total WHERE name = 'undecodable:not_json'"), 270);
    assert_eq!(one("SELECT count(*) FROM rejected_sample"), 100);
}

/// A line on the second stream that does not compress.
fn anomaly_batch(last_sequence: u64, noise: &mut u64) -> SealedBatch {
    let mut encoder = crate::core::batch::BatchEncoder::default();
    let line: Vec<u8> = (0..20_000)
        .map(|_| {
            *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*noise >> 56) as u8
        })
        .collect();
    encoder.push_line(crate::core::batch::Tag::Anomaly, "d", &line);
    SealedBatch {
        stream: Stream::ANOMALIES,
        last_sequence,
        first_position: last_sequence,
        count: 1,
        first_ms: 0,
        last_ms: 0,
        payload: encoder.finish(),
    }
}

#[test]
fn what_is_salvaged_behind_the_end_hides_no_batch_from_the_ledger() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 64 << 20), RUN).expect("a new store");
    writer.register_sink("cloud", Stream::RAW).expect("a cursor");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    for number in 0..5 {
        commit(&mut writer, &mut pipeline, &readings(number, 1, ""));
    }
    writer.expect_more("1", &PerStream::default().map(|_, _: &u64| 7)).expect("a working disk");
    let mut lost = new_pipeline(RUN, &PerStream::default().map(|_, _: &u64| 5));
    lost.take(&readings(5, 2, ""), Default::default());
    let batch = lost.seal().batches.remove(0);
    let run = Run { run: RUN, gateway: "g".to_owned(), started_ms: 0 };
    let salvaged =
        Salvaged { folder: "1".to_owned(), stream: Stream::RAW, through: 7, is_end: true, batch: Some((run, batch)) };
    let input = CommitInput { salvaged: vec![salvaged], ..CommitInput::default() };
    writer.commit(&input).expect("a working disk");
    let sum = held::sum_behind(writer.connection(), Stream::RAW, 0).expect("readable");
    assert_eq!((sum.records, ledger(&writer)), (7, (7, 0, 0, 7)));
}

#[test]
fn a_program_that_reads_the_store_does_not_keep_it_from_being_opened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), 64 << 20);
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    commit(&mut writer, &mut pipeline, &readings(0, 10, ""));
    let reader = crate::store::schema::open_reader(&settings.path, None).expect("a reader");
    reader.execute_batch("BEGIN; SELECT count(*) FROM batch").expect("readable");
    drop(writer);
    let writer = Writer::open(&settings, RUN).expect("the store");
    let log = crate::store::schema::restart_log(writer.connection());
    assert!(log.is_err_and(|error| crate::store::schema::is_busy(&error)), "the reader is in the way");
}

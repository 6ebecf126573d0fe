use std::path::Path;

use super::*;
use crate::core::cursor::CursorState;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings};
use crate::store::commit::CommitInput;
use crate::store::cursors::CursorChange;
use crate::store::retention::Capacity;
use crate::store::schema::store_path;
use crate::store::writer::{CommitReport, Writer, WriterSettings};

const RUN: RunId = RunId([7; 8]);
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A store to which one sink is connected.
struct Store {
    writer: Writer,
    pipeline: Pipeline,
    folder: tempfile::TempDir,
}

impl Store {
    fn new(capacity: Capacity) -> Store {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = WriterSettings { capacity, ..WriterSettings::for_tests(folder.path()) };
        let mut writer = Writer::open(&settings, RUN).expect("a new store");
        writer.register_sink("cloud", Stream::RAW).expect("a cursor");
        let pipeline = Pipeline::new(PipelineSettings::new("g", RUN), &PerStream::default());
        Store { writer, pipeline, folder }
    }

    fn commit(&mut self, readings: &[Reading<'_>]) -> CommitReport {
        let mut taken = Readings::default();
        readings.iter().for_each(|reading| taken.push(reading));
        self.pipeline.take(&taken, Default::default());
        let mut input = CommitInput { sealed: self.pipeline.seal(), ..CommitInput::default() };
        // As if the detectors were saved with each commit.
        input.sealed.snapshot_covers = self.last_sequence() + readings.len() as u64;
        self.writer.commit(&input).expect("a working disk")
    }

    fn last_sequence(&self) -> u64 {
        self.writer.last_sequence(Stream::RAW).expect("a number")
    }

    /// The sink gets everything up to here; what may go goes.
    fn deliver(&mut self, through: u64) {
        let cursor = CursorChange::to("cloud", Stream::RAW, CursorState::at(through));
        let mut input = CommitInput { cursors: vec![cursor], ..CommitInput::default() };
        while self.writer.commit(&input).expect("a working disk").deleted.batches > 0 {
            input.cursors.clear();
        }
    }

    fn history(&self) -> History {
        History::of(self.writer.connection(), Stream::RAW).expect("readable")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn capacity(history_ms: i64) -> Capacity {
    Capacity { history_ms: history_ms as u64, ..Capacity::new(64 << 20) }
}

fn reading(at_ms: i64, value: f64) -> Reading<'static> {
    Reading::at(at_ms, "tank-1", "temperature", value)
}

#[test]
fn what_is_delivered_stays_as_long_as_it_is_said_to_and_without_history_it_goes() {
    for (history_ms, kept) in [(HOUR_MS, 61), (0, 0)] {
        let mut store = Store::new(capacity(history_ms));
        for minute in 0..120 {
            store.commit(&[reading(minute * MINUTE_MS, 20.0)]);
        }
        store.deliver(100);
        let history = store.history();
        // The newest reading is of minute 119, so history begins with minute 59: 59 to 99 are delivered.
        assert_eq!(history.records, if kept > 0 { 41 } else { 0 }, "{history_ms}");
        assert_eq!(history.from_ms, (kept > 0).then_some(59 * MINUTE_MS));
        store.deliver(120);
        assert_eq!((store.history().records, store.history().through), (kept, 120));
    }
}

#[test]
fn what_no_sink_has_is_kept_however_old_it_is() {
    let mut store = Store::new(capacity(HOUR_MS));
    for hour in 0..10 {
        store.commit(&[reading(hour * HOUR_MS, 20.0)]);
    }
    store.deliver(3);
    let held = held::sum_behind(store.writer.connection(), Stream::RAW, 0).expect("readable");
    assert_eq!((store.history().records, held.records), (0, 7));
}

#[test]
fn a_clock_that_was_wrong_neither_ends_history_nor_keeps_it_for_years() {
    let mut store = Store::new(capacity(HOUR_MS));
    let now_ms = 1_700_000_000_000;
    store.commit(&[reading(now_ms, 20.0)]);
    store.deliver(1);
    // The clock is years ahead for a moment, in which everything is delivered, and is put right.
    store.commit(&[reading(now_ms + 10_000 * HOUR_MS, 20.0)]);
    store.deliver(2);
    assert_eq!(store.history().records, 2, "the first one is not old");
    store.commit(&[reading(now_ms + MINUTE_MS, 20.0)]);
    store.deliver(3);
    assert_eq!(store.history().records, 3);
    store.commit(&[reading(now_ms + HOUR_MS + MINUTE_MS / 2, 20.0)]);
    store.deliver(4);
    assert_eq!(store.history().records, 2, "what is from the future went with what became old before it");
}

#[test]
fn history_takes_half_of_the_store_and_nothing_that_waits_gives_way_to_it() {
    let mut store = Store::new(Capacity { history_ms: 1 << 40, ..Capacity::new(8 << 20) });
    let room = store.writer.room().expect("a readable disk").raw;
    // Text that does not become smaller.
    let mut state = 1u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'#' + (state % 64) as u8)
    };
    let mut packed = Vec::new();
    crate::core::reading::pack_attribute(&mut packed, "text", &(0..60_000).map(|_| letter()).collect::<String>());
    let large = |at_ms| Reading {
        attributes: crate::core::reading::Attributes::from_packed(&packed).expect("just packed"),
        ..reading(at_ms, 20.0)
    };
    for number in 0..300 {
        let report = store.commit(&[large(number)]);
        assert_eq!(report.expired, [], "nothing that a sink waits for");
        store.deliver(store.last_sequence());
        let used = crate::store::retention::used_bytes(store.writer.connection()).expect("readable");
        assert!(used <= room / 2 + (256 << 10), "{used} of {room} after {number}");
    }
    let kept = store.history().records;
    assert!(kept > 20, "{kept} are there");
    // The link is cut: the second half fills, then history gives way, and only then what waits.
    let mut waiting = 0;
    loop {
        let report = store.commit(&[large(1_000 + waiting as i64)]);
        waiting += 1;
        if !report.expired.is_empty() {
            break;
        }
        assert!(waiting < 300, "it ends at some time");
    }
    assert_eq!(store.history().records, 0);
    assert!(waiting > 2 * kept, "{waiting} waited where {kept} were history");
}

#[test]
fn a_new_sink_is_not_sent_history() {
    let mut store = Store::new(capacity(HOUR_MS));
    (0..10).for_each(|second| {
        store.commit(&[reading(second * 1_000, 20.0)]);
    });
    store.deliver(7);
    assert_eq!(store.writer.register_sink("second", Stream::RAW).expect("a cursor"), CursorState::at(7));
    let sql = "SELECT accepted FROM cursor WHERE sink = 'second'";
    let accepted: i64 = store.writer.connection().query_row(sql, [], |row| row.get(0)).expect("a number");
    assert_eq!(accepted, 3);
}

#[test]
fn what_was_received_under_a_clock_that_was_not_set_hides_nothing_before_it() {
    let mut store = Store::new(capacity(HOUR_MS));
    let at = |minute: i64| 1_700_000_400_000 + minute * MINUTE_MS;
    (0..3).for_each(|minute| {
        store.commit(&[reading(at(minute), 1.0)]);
    });
    // Its time is judged by the clock, which says 1970.
    store.commit(&[reading(5_000, 2.0)]);
    store.commit(&[reading(at(3), 3.0)]);
    let mut reader = Reader::open(&store_path(store.path()), None).expect("a reader");
    let found = question(at(0)..at(10), 10 * MINUTE_MS as u64).answer(&mut reader, || false).expect("readable");
    assert_eq!(found.points.values().map(|point| point.count).sum::<u64>(), 4);
}

fn question(times_ms: Range<i64>, point_ms: u64) -> Question {
    let (device, metric) = ("tank-1".to_owned(), "temperature".to_owned());
    Question { device, metric, times_ms, point_ms, place: Place::NEWEST }
}

#[test]
fn a_series_is_read_in_points_whole_or_in_parts() {
    let mut store = Store::new(capacity(HOUR_MS));
    let other = |at_ms| Reading::at(at_ms, "tank-2", "temperature", 99.0);
    let other_metric = |at_ms| Reading::at(at_ms, "tank-1", "pressure", 99.0);
    for second in 0..100 {
        let at_ms = second * 1_000;
        let value = if second == 41 { f64::NAN } else { second as f64 };
        store.commit(&[other(at_ms), reading(at_ms, value), other_metric(at_ms)]);
    }
    store.deliver(200);
    let mut reader = Reader::open(&store_path(store.path()), None).expect("a reader");
    let whole = question(5_000..95_000, 10_000).answer(&mut reader, || false).expect("readable");
    assert_eq!(whole.next, None);
    assert_eq!(whole.points.keys().copied().collect::<Vec<_>>(), (0..10).map(|n| n * 10_000).collect::<Vec<_>>());
    assert_eq!(whole.points[&20_000], Point { min: 20.0, max: 29.0, sum: 245.0, count: 10 });
    assert_eq!((whole.points[&0].count, whole.points[&40_000].count, whole.points[&90_000].count), (5, 9, 5));

    // One batch in each answer.
    let (mut points, mut asked) = (BTreeMap::<i64, Point>::new(), question(5_000..95_000, 10_000));
    let mut answers = 0;
    loop {
        let answer = asked.answer(&mut reader, || true).expect("readable");
        for (at_ms, point) in answer.points {
            points
                .entry(at_ms)
                .and_modify(|known| {
                    *known = Point {
                        min: known.min.min(point.min),
                        max: known.max.max(point.max),
                        sum: known.sum + point.sum,
                        count: known.count + point.count,
                    };
                })
                .or_insert(point);
        }
        answers += 1;
        let Some(next) = answer.next else { break };
        assert_ne!(next, asked.place, "each one goes on");
        asked.place = next;
    }
    assert_eq!(points, whole.points);
    assert!(answers >= 90, "{answers}");
}

#[test]
fn an_old_range_is_found_behind_much_that_is_newer_and_late_readings_with_it() {
    let mut store = Store::new(capacity(100 * HOUR_MS));
    let at = |minute: i64| 1_700_000_400_000 + minute * MINUTE_MS;
    for minute in 0..1_000 {
        store.commit(&[reading(at(minute), minute as f64)]);
    }
    let mut reader = Reader::open(&store_path(store.path()), None).expect("a reader");
    let asked = question(at(90)..at(100), 10 * MINUTE_MS as u64);
    let mut batches = 0;
    let answer = asked.answer(&mut reader, || {
        batches += 1;
        false
    });
    assert_eq!(answer.expect("readable").points[&at(90)].count, 10);
    assert!(batches < 80, "{batches}: an hour behind the range, and no more");

    let mut store = Store::new(capacity(100 * HOUR_MS));
    store.commit(&[reading(at(90), 1.0)]);
    store.commit(&[reading(at(130), 2.0)]);
    store.commit(&[Reading { received_at_ms: at(130) + 1, ..reading(at(91), -1.0) }]);
    let mut reader = Reader::open(&store_path(store.path()), None).expect("a reader");
    let found = asked.answer(&mut reader, || false).expect("readable");
    assert_eq!(found.points[&at(90)], Point { min: -1.0, max: 1.0, sum: 0.0, count: 2 });
}

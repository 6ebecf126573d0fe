//! What a key that is set aside does to the ledger and to what is kept.

use super::*;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings};
use crate::store::commit::CommitInput;
use crate::store::cursors::{CursorChange, Cursors, DeadLetter};
use crate::store::retention::Capacity;
use crate::store::schema::{Synchronous, store_path};
use crate::store::writer::{Writer, WriterSettings};

struct Store {
    folder: tempfile::TempDir,
    writer: Writer,
}

fn open(folder: &std::path::Path) -> Writer {
    let settings = WriterSettings {
        path: store_path(folder),
        gateway: "g".to_owned(),
        synchronous: Synchronous::Off,
        vfs: None,
        capacity: Capacity::new(64 << 20),
        streams: Vec::new(),
    };
    Writer::open(&settings, RunId([1; 8])).expect("a store")
}

impl Store {
    /// Ten batches of ten records: odd sequences are of one device, even ones of another, which is sick.
    fn new() -> Store {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = open(folder.path());
        writer.register_sink("sink", Stream::RAW).expect("a cursor");
        let settings = PipelineSettings::new("g", RunId([1; 8]));
        let mut pipeline = Pipeline::new(settings, &PerStream::default());
        for batch in 0..10 {
            let mut readings = Readings::default();
            for number in 0..10 {
                let device = if number % 2 == 0 { "well" } else { "sick" };
                readings.push(&Reading::at(batch * 10 + number, device, "t", 1.0));
            }
            pipeline.take(&readings, Default::default());
            let input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
            writer.commit(&input).expect("a working disk");
        }
        Store { folder, writer }
    }

    fn change(&mut self, cursor: u64, dead_letters: Vec<DeadLetter>, key: HeldKeyChange) {
        let change = CursorChange {
            dead_letters,
            held_keys: vec![key],
            ..CursorChange::to("sink", Stream::RAW, CursorState::at(cursor))
        };
        let snapshot = crate::core::pipeline::Sealed { snapshot_covers: 100, ..Default::default() };
        let input = CommitInput { cursors: vec![change], sealed: snapshot, ..CommitInput::default() };
        self.writer.commit(&input).expect("a working disk");
    }

    /// Delivered, expired, dead-lettered, quarantined, and of the key that is set aside.
    fn terms(&self) -> [u64; 5] {
        let db = self.writer.connection();
        let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number") as u64;
        let of = |column: &str| number(&format!("SELECT {column} FROM cursor"));
        let pending = pending(db, "sink", Stream::RAW).expect("readable");
        [of("delivered"), of("expired"), of("dead_lettered"), of("quarantined"), pending]
    }

    fn held(&self) -> u64 {
        held::sum_behind(self.writer.connection(), Stream::RAW, 0).expect("readable").records
    }
}

fn even(first: u64, last: u64) -> Vec<(u64, u64)> {
    (first..=last).filter(|sequence| sequence % 2 == 0).map(|sequence| (sequence, sequence)).collect()
}

fn sick(done_through: u64, passed: Vec<(u64, u64)>, taken: Vec<(u64, u64)>) -> HeldKeyChange {
    let state = Some(CursorState::at(done_through));
    HeldKeyChange { key: "sick".to_owned(), state, passed, taken, dead: Vec::new(), expired: Vec::new() }
}

#[test]
fn what_is_set_aside_is_buffered_and_kept_until_it_is_taken() {
    let mut store = Store::new();
    store.change(100, vec![], sick(1, even(1, 100), vec![]));
    assert_eq!(store.terms(), [50, 0, 0, 0, 50]);
    assert_eq!(store.held(), 100, "the cursor is at the end, and nothing goes");
    let letter = DeadLetter { sequence: 4, reason: "refused".to_owned(), line: vec![b'x'] };
    store.change(100, vec![letter], HeldKeyChange { dead: vec![4], ..sick(40, vec![], even(1, 40)) });
    assert_eq!(store.terms(), [69, 0, 1, 0, 30]);
    assert_eq!(store.held(), 60, "what it has taken goes");

    let Store { folder, writer } = store;
    drop(writer);
    let mut store = Store { writer: open(folder.path()), folder };
    store.writer.register_sink("sink", Stream::RAW).expect("known");
    assert_eq!(store.writer.held_keys("sink", Stream::RAW), [("sick".to_owned(), CursorState::at(40))]);
    store.change(100, vec![], HeldKeyChange { state: None, ..sick(0, vec![], even(41, 100)) });
    assert_eq!((store.terms(), store.held()), ([99, 0, 1, 0, 0], 0));
    assert_eq!(store.writer.held_keys("sink", Stream::RAW), []);
}

/// The control: without a row the cursor alone decides.
#[test]
fn without_a_row_the_batches_of_a_key_go() {
    let mut store = Store::new();
    store.change(100, vec![], HeldKeyChange { state: None, ..sick(0, vec![], vec![]) });
    assert_eq!((store.terms(), store.held()), ([100, 0, 0, 0, 0], 0));
}

#[test]
fn what_expires_of_a_key_is_counted_once_whoever_says_it_first() {
    let mut store = Store::new();
    store.change(60, vec![], sick(1, even(1, 60), vec![]));
    let mut cursors = Cursors::load(store.writer.connection()).expect("readable");
    let db = store.writer.connection();
    for last in (10..=70).step_by(10) {
        assert!(cursors.has_held_keys(Stream::RAW, last));
        let devices = BatchDevices::read(db, Stream::RAW, last).expect("readable");
        let lost = cursors.expire(db, Stream::RAW, (last - 9, last), &devices).expect("a working disk");
        assert_eq!(lost, if last <= 60 { 5 } else { 10 }, "up to 60 the cursor has delivered one half");
    }
    // It says late that it has passed 70 records, and taken two that had expired.
    let change = CursorChange {
        held_keys: vec![sick(4, even(61, 80), even(1, 4))],
        ..CursorChange::to("sink", Stream::RAW, CursorState::at(80))
    };
    cursors.apply(db, &change).expect("a working disk");
    cursors.save(db).expect("a working disk");
    assert_eq!(store.terms(), [30 + 5, 30 + 10, 0, 0, 5], "of 80 records, none twice");
    assert_eq!(Cursors::load(db).expect("readable").held_keys("sink", Stream::RAW)[0].1, CursorState::at(70));
}

#[test]
fn what_cannot_be_read_any_more_is_counted_as_lost_in_the_end() {
    let mut store = Store::new();
    store.change(100, vec![], sick(1, even(1, 100), vec![]));
    store.change(100, vec![], HeldKeyChange { state: None, ..sick(0, vec![], even(11, 100)) });
    assert_eq!(store.terms(), [95, 0, 0, 5, 0]);
}

/// Their rows come along into the new store, and their batches are salvaged although the cursor is beyond them.
#[test]
fn keys_survive_a_damaged_store() {
    for is_running in [true, false] {
        let mut store = Store::new();
        store.change(100, vec![], sick(21, even(1, 100), even(1, 20)));
        assert_eq!(store.terms(), [60, 0, 0, 0, 40]);
        if is_running {
            let unfinished = store.writer.renew().expect("a new store");
            let raw = unfinished.iter().find(|unfinished| unfinished.stream == Stream::RAW).expect("to be salvaged");
            assert_eq!(raw.through, 21, "from where the key is");
        } else {
            let settings = store.writer.settings().clone();
            let Store { folder, writer } = store;
            drop(writer);
            store = Store { writer: Writer::open_anew(&settings, RunId([2; 8])).expect("a new store"), folder };
            store.writer.register_sink("sink", Stream::RAW).expect("known");
        }
        assert_eq!(store.terms(), [60, 0, 0, 0, 40]);
        assert_eq!(store.writer.held_keys("sink", Stream::RAW), [("sick".to_owned(), CursorState::at(21))]);
        // Of what it has passed, some is not found in the end.
        store.change(100, vec![], HeldKeyChange { state: None, ..sick(0, vec![], even(31, 100)) });
        assert_eq!(store.terms(), [95, 0, 0, 5, 0]);
    }
}

/// If the row is damaged or older than the cursor's, that is noticed, and what is known beside the store helps; else it is counted.
#[test]
fn a_row_that_is_gone_is_missed() {
    for is_known_beside in [true, false] {
        let mut store = Store::new();
        store.change(100, vec![], sick(21, even(1, 100), even(1, 20)));
        if is_known_beside {
            store.writer.begin();
        }
        store.writer.connection().execute("DELETE FROM held_key", []).expect("a row");
        let settings = store.writer.settings().clone();
        let Store { folder, writer } = store;
        drop(writer);
        assert!(Writer::open(&settings, RunId([2; 8])).is_err_and(|error| error.is_corrupt()));
        let writer = Writer::open_anew(&settings, RunId([2; 8])).expect("a new store");
        let store = Store { writer, folder };
        let expected = if is_known_beside { [60, 0, 0, 0, 40] } else { [60, 0, 0, 40, 0] };
        assert_eq!(store.terms(), expected);
    }
}

#[test]
fn a_store_without_the_table_gets_it_when_it_is_opened() {
    let store = Store::new();
    let before = "DROP TABLE held_key; ALTER TABLE progress DROP COLUMN set_aside";
    store.writer.connection().execute_batch(before).expect("a statement");
    assert_eq!(pending(store.writer.connection(), "sink", Stream::RAW), Ok(0));
    let Store { folder, writer } = store;
    drop(writer);
    let mut store = Store { writer: open(folder.path()), folder };
    store.writer.register_sink("sink", Stream::RAW).expect("known");
    store.change(100, vec![], sick(1, even(1, 100), vec![]));
    assert_eq!(store.terms(), [50, 0, 0, 0, 50]);
}

#[test]
fn what_became_too_old_for_a_key_has_expired() {
    let mut store = Store::new();
    store.change(100, vec![], sick(1, even(1, 100), vec![]));
    let change = HeldKeyChange { state: None, expired: even(1, 20), ..sick(0, vec![], even(1, 100)) };
    store.change(100, vec![], change);
    assert_eq!(store.terms(), [90, 10, 0, 0, 0]);
}

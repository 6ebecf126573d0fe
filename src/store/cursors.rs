//! The cursors: how far each sink is in each stream, and what became of every record that it was to get.

use rusqlite::{Connection, params};

use super::held;
use super::totals::{self, EXPIRED_WITH_SINK};
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

/// A record that a sink refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub sequence: u64,
    pub reason: String,
    pub line: Vec<u8>,
}

/// Where a sink stands now: the whole state, so that only the latest change matters.
#[derive(Clone, Debug)]
pub struct CursorChange {
    pub sink: String,
    pub stream: Stream,
    pub state: CursorState,
    pub dead_letters: Vec<DeadLetter>,
    /// How many of the newly finished records could not be read, because their batch was damaged.
    pub quarantined: u64,
    /// Of all that `state` says is done with, so much the sink does not take: a total, so that saying it twice counts it once.
    pub passed_over: u64,
}

impl CursorChange {
    /// Whether a later change of the same sink makes this one redundant.
    pub fn is_replaceable(&self) -> bool {
        self.dead_letters.is_empty() && self.quarantined == 0
    }
}

/// Result of dropping a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DroppedSink {
    /// Records of each stream that waited for it: they are counted as expired.
    Dropped(Vec<(Stream, u64)>),
    Unknown,
    Configured,
}

#[derive(Clone, Debug)]
struct Entry {
    sink: String,
    stream: Stream,
    state: CursorState,
    /// What the sink had not got up to here was removed and counted: a later acknowledgement is not counted again.
    expired_through: u64,
    accepted: u64,
    delivered: u64,
    expired: u64,
    dead_lettered: u64,
    quarantined: u64,
    /// Those of the quarantined whose damaged store is being salvaged: some may be recovered.
    missing: u64,
    /// Those of the delivered that were not sent, because the sink does not take them.
    passed_over: u64,
    /// Whether the sink is configured; one that no longer is keeps its cursor.
    configured: bool,
    changed: bool,
}

impl Entry {
    fn at(sink: &str, stream: Stream, state: CursorState, accepted: u64) -> Entry {
        Entry {
            sink: sink.to_owned(),
            stream,
            state,
            expired_through: 0,
            accepted,
            delivered: 0,
            expired: 0,
            dead_lettered: 0,
            quarantined: 0,
            missing: 0,
            passed_over: 0,
            configured: true,
            changed: false,
        }
    }
}

/// Most dead letters kept in a store, and most bytes of their lines; the ledger still counts the oldest after they are deleted.
const DEAD_LETTER_ROWS_MAX: i64 = 10_000;
const DEAD_LETTER_BYTES_MAX: i64 = 4 << 20;

#[derive(Clone, Debug, Default)]
pub struct Cursors {
    entries: Vec<Entry>,
}

impl Cursors {
    /// Loads the cursors of all sinks; none counts as configured yet.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn load(db: &Connection) -> rusqlite::Result<Cursors> {
        let mut select = db.prepare(
            "SELECT sink, stream, seq, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing, cursor.*
             FROM cursor",
        )?;
        // A store of version 1 that was set aside has no such column.
        let passed_over = select.column_index("passed_over").ok();
        let mut rows = select.query([])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            let (sink, stream): (String, String) = (row.get(0)?, row.get(1)?);
            let (cursor, ranges): (u64, Vec<u8>) = (number(2)?, row.get(3)?);
            // Unreadable ranges cost duplicates, which their identity reveals; refusing to start would cost data.
            let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
            let Some(stream) = Stream::from_name(&stream) else { continue };
            entries.push(Entry {
                delivered: number(5)?,
                expired: number(6)?,
                dead_lettered: number(7)?,
                quarantined: number(8)?,
                missing: number(9)?,
                passed_over: passed_over
                    .map_or(Ok(0), |column| row.get::<_, Option<i64>>(column).map(|n| n.unwrap_or(0) as u64))?,
                configured: false,
                ..Entry::at(&sink, stream, state, number(4)?)
            });
        }
        Ok(Cursors { entries })
    }

    /// Records of a stream that a sink did not take, and that are counted as delivered.
    pub fn passed_over(&self, sink: &str, stream: Stream) -> u64 {
        let entry = self.entries.iter().find(|entry| entry.sink == sink && entry.stream == stream);
        entry.map_or(0, |entry| entry.passed_over)
    }

    /// Marks a sink as configured, and returns where it stands. A new sink starts at the oldest held batch; what is held by then
    /// counts as accepted for it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    pub fn register(&mut self, db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<CursorState> {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.sink == sink && entry.stream == stream) {
            entry.configured = true;
            return Ok(entry.state.clone());
        }
        let count = held::sum_behind(db, stream, 0)?.records;
        let start = match held::first_behind(db, stream, 0)? {
            Some(first) => first.before_first(),
            None => held::last_sequence(db, stream)?,
        };
        let entry = Entry::at(sink, stream, CursorState::at(start), count);
        entry.insert(db)?;
        self.entries.push(entry);
        Ok(CursorState::at(start))
    }

    pub fn accept(&mut self, stream: Stream, count: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            entry.accepted += count;
            entry.changed = true;
        }
    }

    /// Applies a sink's report of where it stands, and counts what is newly finished.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn apply(&mut self, db: &Connection, change: &CursorChange) -> rusqlite::Result<()> {
        let Some(entry) =
            self.entries.iter_mut().find(|entry| entry.sink == change.sink && entry.stream == change.stream)
        else {
            return Ok(());
        };
        let newly_done = change.state.newly_done(&entry.state, entry.expired_through + 1, u64::MAX);
        let dead = change.dead_letters.iter().filter(|letter| letter.sequence > entry.expired_through).count() as u64;
        entry.dead_lettered += dead;
        let quarantined = change.quarantined.min(newly_done.saturating_sub(dead));
        entry.quarantined += quarantined;
        entry.delivered += newly_done.saturating_sub(dead + quarantined);
        let behind = entry.state.cursor;
        entry.state = change.state.clone();
        entry.state.advance_to(behind.max(entry.expired_through));
        entry.passed_over = entry.passed_over.max(change.passed_over);
        entry.changed = true;
        let mut insert =
            db.prepare_cached("INSERT INTO dead_letter(sink, stream, seq, reason, line) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for letter in &change.dead_letters {
            insert.execute(params![
                change.sink,
                change.stream.name(),
                letter.sequence as i64,
                letter.reason,
                letter.line
            ])?;
        }
        if !change.dead_letters.is_empty() {
            db.execute(
                "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1
                   OR id <= (SELECT max(id) FROM (SELECT id, sum(length(line)) OVER (ORDER BY id DESC) AS bytes FROM dead_letter)
                             WHERE bytes > ?2)",
                [DEAD_LETTER_ROWS_MAX, DEAD_LETTER_BYTES_MAX],
            )?;
        }
        Ok(())
    }

    /// The batch `first..=last` is being removed: what a sink has not finished expires for it. Returns the largest loss of a sink.
    pub fn expire(&mut self, stream: Stream, first: u64, last: u64) -> u64 {
        let mut most = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            let lost = (last - first + 1) - entry.state.done_within(first, last);
            entry.expired += lost;
            entry.expired_through = entry.expired_through.max(last);
            entry.state.advance_to(last);
            entry.changed = true;
            most = most.max(lost);
        }
        most
    }

    /// The store was damaged, and a new one begins after `last_sequence`: what a sink has not finished is quarantined, unless and until it
    /// is salvaged.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn begin_anew(&mut self, db: &Connection, stream: Stream, last_sequence: u64) -> rusqlite::Result<()> {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            let done = entry.delivered + entry.expired + entry.dead_lettered + entry.quarantined;
            let lost = entry.accepted.saturating_sub(done);
            entry.quarantined += lost;
            entry.missing += lost;
            entry.state = CursorState::at(last_sequence.max(entry.state.cursor));
            entry.expired_through = entry.state.cursor;
            entry.insert(db)?;
        }
        Ok(())
    }

    /// A salvaged batch is in the store again. Records that were not missing are sent again, and so they are accepted again.
    pub fn recover(&mut self, stream: Stream, count: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            let found = count.min(entry.missing);
            entry.missing -= found;
            entry.quarantined -= found;
            entry.accepted += count - found;
            entry.changed = true;
        }
    }

    /// Nothing more can be salvaged of a stream. Returns the largest loss of a sink.
    pub fn give_up_missing(&mut self, stream: Stream) -> u64 {
        let mut most = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            most = most.max(entry.missing);
            entry.missing = 0;
            entry.changed = true;
        }
        most
    }

    /// Sinks that are no longer configured, and how many records wait for each. They hold back deletion in all streams that they have a
    /// cursor in.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn left(&self, db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
        let mut left: Vec<(String, u64)> = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.configured) {
            let waiting = entry.waiting(db)?;
            match left.iter_mut().find(|(sink, _)| *sink == entry.sink) {
                Some((_, count)) => *count += waiting,
                None => left.push((entry.sink.clone(), waiting)),
            }
        }
        Ok(left)
    }

    /// Deletes the cursors of a sink that are no longer configured. What waited for them expires, and is counted in a total of its own,
    /// because their lines leave the ledger.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    pub fn drop_sink(&mut self, db: &Connection, sink: &str) -> rusqlite::Result<DroppedSink> {
        if self.entries.iter().all(|entry| entry.sink != sink) {
            return Ok(DroppedSink::Unknown);
        }
        let is_left = |entry: &Entry| entry.sink == sink && !entry.configured;
        let mut dropped = Vec::new();
        for entry in self.entries.iter().filter(|entry| is_left(entry)) {
            let (stream, waiting) = (entry.stream, entry.waiting(db)?);
            db.execute("DELETE FROM progress WHERE stream = ?1 AND name = ?2", params![stream.id(), sink])?;
            let total = format!("{EXPIRED_WITH_SINK}:{}:{sink}", stream.name());
            totals::add(db, &total, waiting + entry.expired)?;
            dropped.push((stream, waiting));
        }
        if dropped.is_empty() {
            return Ok(DroppedSink::Configured);
        }
        self.entries.retain(|entry| !is_left(entry));
        Ok(DroppedSink::Dropped(dropped))
    }

    /// The furthest cursor of any sink.
    pub fn furthest(&self, stream: Stream) -> u64 {
        let cursors = self.entries.iter().filter(|entry| entry.stream == stream).map(|entry| entry.state.cursor);
        cursors.max().unwrap_or(0)
    }

    /// No configured sink needs anything up to here.
    pub fn unwanted_through(&self, stream: Stream) -> u64 {
        let wanting = self.entries.iter().filter(|entry| entry.stream == stream && entry.configured);
        wanting.map(|entry| entry.state.cursor).min().unwrap_or(u64::MAX)
    }

    /// Every sink has finished everything up to here; `None` if no sink has a cursor, so that nothing is deleted.
    pub fn delivered_through(&self, stream: Stream) -> Option<u64> {
        self.entries.iter().filter(|entry| entry.stream == stream).map(|entry| entry.state.cursor).min()
    }

    /// Writes the cursors that have changed.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn save(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE progress SET value = ?3, acknowledged = ?4, accepted = ?5, delivered = ?6, expired = ?7, dead_lettered = ?8,
               quarantined = ?9, missing = ?10, passed_over = ?11
             WHERE name = ?1 AND stream = ?2",
        )?;
        for entry in self.entries.iter_mut().filter(|entry| entry.changed) {
            entry.execute(&mut update)?;
            entry.changed = false;
        }
        Ok(())
    }
}

impl Entry {
    /// Held records that it has not finished.
    fn waiting(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut waiting = 0;
        held::each_behind(db, self.stream, self.state.cursor, |batch| {
            let done = self.state.done_within(batch.before_first() + 1, batch.last_sequence);
            waiting += batch.count - done.min(batch.count);
        })?;
        Ok(waiting)
    }

    fn insert(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut insert = db.prepare_cached(
            "INSERT INTO progress(name, stream, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing,
               passed_over)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        self.execute(&mut insert)
    }

    fn execute(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        statement
            .execute(params![
                self.sink,
                self.stream.id(),
                self.state.cursor as i64,
                self.state.encode_ranges(),
                self.accepted as i64,
                self.delivered as i64,
                self.expired as i64,
                self.dead_lettered as i64,
                self.quarantined as i64,
                self.missing as i64,
                self.passed_over as i64,
            ])
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{self, Synchronous};

    #[test]
    fn only_a_sink_that_left_the_configuration_is_dropped_and_what_waited_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
        let mut cursors = Cursors::default();
        for (sink, stream) in [("old", Stream::RAW), ("old", Stream::ANOMALIES), ("new", Stream::RAW)] {
            cursors.register(&db, sink, stream).expect("a cursor");
        }
        for (last, count) in [(10, 10), (20, 10), (30, 10)] {
            db.execute(
                "INSERT INTO batch(id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload)
                 VALUES (?1, 1, 1, ?2, 0, 0, 0, 1, 0, x'')",
                [held::id(Stream::RAW, last), count],
            )
            .expect("a row");
        }
        cursors.accept(Stream::RAW, 30);
        let state = CursorState { cursor: 5, acknowledged: vec![(8, 12)] };
        let change = CursorChange {
            sink: "old".into(),
            stream: Stream::RAW,
            state,
            dead_letters: vec![],
            quarantined: 0,
            passed_over: 0,
        };
        cursors.apply(&db, &change).expect("a working disk");
        cursors.save(&db).expect("a working disk");

        // It is no longer configured for one of its streams.
        let mut half = Cursors::load(&db).expect("readable");
        half.register(&db, "old", Stream::RAW).expect("known");
        half.register(&db, "new", Stream::RAW).expect("known");
        assert_eq!(half.drop_sink(&db, "nobody").expect("readable"), DroppedSink::Unknown);
        assert_eq!(half.drop_sink(&db, "new").expect("readable"), DroppedSink::Configured);
        let dropped = half.drop_sink(&db, "old").expect("a working disk");
        assert_eq!(dropped, DroppedSink::Dropped(vec![(Stream::ANOMALIES, 0)]));
        assert_eq!(half.drop_sink(&db, "old").expect("readable"), DroppedSink::Configured);

        let mut gone = Cursors::load(&db).expect("readable");
        gone.register(&db, "new", Stream::RAW).expect("known");
        assert_eq!(gone.left(&db).expect("readable"), [("old".to_owned(), 20)]);
        assert_eq!(gone.delivered_through(Stream::RAW), Some(0));
        assert_eq!(gone.drop_sink(&db, "old").expect("a working disk"), DroppedSink::Dropped(vec![(Stream::RAW, 20)]));
        assert_eq!((gone.entries.len(), Cursors::load(&db).expect("readable").entries.len()), (1, 1));
        let total = "SELECT value FROM total WHERE name = 'expired_with_sink:raw:old'";
        assert_eq!(db.query_row(total, [], |row| row.get::<_, i64>(0)), Ok(20));
    }

    #[test]
    fn dead_letters_are_bounded_in_bytes_and_all_of_them_are_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
        let mut cursors = Cursors::default();
        cursors.register(&db, "sink", Stream::RAW).expect("a cursor");
        cursors.accept(Stream::RAW, 100);
        for last in [50, 100] {
            let letter = |sequence| DeadLetter { sequence, reason: "refused".to_owned(), line: vec![b'x'; 100_000] };
            let change = CursorChange {
                sink: "sink".to_owned(),
                stream: Stream::RAW,
                state: CursorState::at(last),
                dead_letters: (last - 49..=last).map(letter).collect(),
                quarantined: 0,
                passed_over: 0,
            };
            cursors.apply(&db, &change).expect("a working disk");
        }
        let look = "SELECT min(seq), max(seq), sum(length(line)) FROM dead_letter";
        let kept: (i64, i64, i64) =
            db.query_row(look, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("some");
        assert_eq!(kept, (60, 100, 4_100_000), "the newest that fit");
        assert_eq!(cursors.entries[0].dead_lettered, 100);
    }
}

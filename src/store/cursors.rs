//! The cursors: how far each sink is in each stream, and what became of every record that it was to get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, params};

use super::held_keys::{self, BatchDevices, HeldKeyChange, HeldKeys};
use super::letters::{self, DeliveredLetter};
use super::links::{self, CountedLink};
use super::totals::{self, EXPIRED_WITH_SINK};
use super::{held, streams};
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;
use crate::core::ranges::Ranges;

mod damage;
mod entry;

pub use entry::CursorRow;
use entry::Entry;

/// A record that a sink refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub sequence: u64,
    pub reason: String,
    pub line: Vec<u8>,
}

/// The saves of one sink's progress in one stream, for a sink that keeps something until its progress is durable.
#[derive(Debug, Default)]
pub struct Saves {
    begun: AtomicU64,
    durable: AtomicU64,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Save {
    saves: Arc<Saves>,
    number: u64,
}

impl Saves {
    /// A save of everything that is done with by now.
    pub fn begin(self: &Arc<Saves>) -> Save {
        Save { saves: Arc::clone(self), number: self.begun.fetch_add(1, Ordering::AcqRel) + 1 }
    }

    /// How many have begun. What was done with before is durable once [`Self::durable`] is more.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The last one that is durable, and all before it; 0 if none is.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

impl Save {
    pub fn is_durable(&self) {
        self.saves.durable.fetch_max(self.number, Ordering::AcqRel);
    }
}

/// Where a sink stands now: the whole state, so that only the latest change matters.
#[derive(Clone, Debug)]
pub struct CursorChange {
    pub sink: String,
    pub stream: Stream,
    pub state: CursorState,
    pub dead_letters: Vec<DeadLetter>,
    /// Records that could not be read, because their batch was damaged.
    pub unreadable: Ranges,
    /// Those of the newly finished records that were missing in the store. They count as quarantined since it was found to be damaged.
    pub lost: Ranges,
    /// Of all that `state` says is done with, so much the sink does not take: a total, so that saying it twice counts it once.
    pub passed_over: u64,
    /// Those of the newly finished records that became too old to be sent, as runs of sequences, in no order.
    pub expired: Vec<(u64, u64)>,
    /// Keys that are set aside, as far as they have changed. Their dead letters are in the list as well.
    pub held_keys: Vec<HeldKeyChange>,
    /// What was spent on the link that the sink uses, if it has one that is counted.
    pub link: Option<Arc<dyn CountedLink>>,
    /// Told when it is durable.
    pub save: Option<Save>,
}

impl CursorChange {
    /// Only that a sink has come this far.
    #[cfg(test)]
    pub fn to(sink: &str, stream: Stream, state: CursorState) -> CursorChange {
        CursorChange {
            sink: sink.to_owned(),
            stream,
            state,
            dead_letters: Vec::new(),
            unreadable: Ranges::default(),
            lost: Ranges::default(),
            passed_over: 0,
            expired: Vec::new(),
            held_keys: Vec::new(),
            link: None,
            save: None,
        }
    }

    /// Whether a later change of the same sink makes this one redundant.
    pub fn is_replaceable(&self) -> bool {
        self.dead_letters.is_empty()
            && self.unreadable.is_empty()
            && self.lost.is_empty()
            && self.expired.is_empty()
            && self.held_keys.is_empty()
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
        Cursors::load_with(db, HeldKeys::load)
    }

    /// Loads them from a damaged store, with the keys that are set aside as far as these can be read.
    ///
    /// # Errors
    ///
    /// If the cursors themselves cannot be read.
    pub fn load_damaged(db: &Connection) -> rusqlite::Result<Cursors> {
        Cursors::load_with(db, |db, sink, stream| Ok(HeldKeys::load_damaged(db, sink, stream)))
    }

    fn load_with(
        db: &Connection,
        held_keys: impl Fn(&Connection, &str, Stream) -> rusqlite::Result<HeldKeys>,
    ) -> rusqlite::Result<Cursors> {
        // By number, because names are in another table, which may be damaged.
        let present = db.prepare(
            "SELECT name, stream, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing,
               coalesce(passed_over, 0)
             FROM progress WHERE name <> ''",
        );
        // A store of version 1 that was set aside has no such table.
        let of_1 = "SELECT sink, CASE stream WHEN 'raw' THEN 1 WHEN 'anomalies' THEN 2 END, seq, acknowledged, accepted, delivered, expired,
               dead_lettered, quarantined, missing, 0
             FROM cursor";
        let mut select = present.or_else(|_| db.prepare(of_1))?;
        let mut rows = select.query([])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            // Those of stream 0 are totals.
            let Some(stream) = Stream::from_id(row.get(1)?) else { continue };
            let sink: String = row.get(0)?;
            let (cursor, ranges): (u64, Vec<u8>) = (number(2)?, row.get(3)?);
            // Unreadable ranges cost duplicates, which their identity reveals; refusing to start would cost data.
            let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
            if entries.iter().any(|known: &Entry| known.sink == sink && known.stream == stream) {
                continue;
            }
            entries.push(Entry {
                delivered: number(5)?,
                expired: number(6)?,
                dead_lettered: number(7)?,
                quarantined: number(8)?,
                missing_count: number(9)?,
                passed_over: number(10)?,
                configured: false,
                held_keys: held_keys(db, &sink, stream)?,
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

    /// The keys that a sink has set aside in a stream, and where each of them is.
    pub fn held_keys(&self, sink: &str, stream: Stream) -> Vec<(String, CursorState)> {
        let entry = self.entries.iter().find(|entry| entry.sink == sink && entry.stream == stream);
        entry.map_or(Vec::new(), |entry| entry.held_keys.states())
    }

    /// Marks a sink as configured, and returns where it stands. A new sink starts at the oldest batch that another one still waits for, or
    /// without another one at the oldest held: it is not sent history that all others have. What is held from there on counts as accepted
    /// for it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    pub fn register(&mut self, db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<CursorState> {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.sink == sink && entry.stream == stream) {
            entry.configured = true;
            return Ok(entry.state.clone());
        }
        let history = self.delivered_through(stream).unwrap_or(0);
        let start = match held::first_behind(db, stream, history)? {
            Some(first) => first.before_first(),
            None => held::last_sequence(db, stream)?,
        };
        let count = held::sum_behind(db, stream, start)?.records;
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
        if let Some(link) = &change.link {
            links::keep(db, &link.state())?;
        }
        let Some(entry) =
            self.entries.iter_mut().find(|entry| entry.sink == change.sink && entry.stream == change.stream)
        else {
            return Ok(());
        };
        let newly_done = entry.newly_done(&change.state);
        let name = (change.sink.as_str(), change.stream);
        let of_keys = entry.held_keys.apply(db, name, &change.held_keys, entry.expired_through)?;
        let all_dead =
            change.dead_letters.iter().filter(|letter| letter.sequence > entry.expired_through).count() as u64;
        let dead = all_dead.saturating_sub(of_keys.dead_lettered);
        let quarantined: u64 = change.unreadable.iter().map(|(first, last)| newly_done.count_within(first, last)).sum();
        let expired: u64 = change.expired.iter().map(|(first, last)| newly_done.count_within(*first, *last)).sum();
        let mut lost = Tally::default();
        for (first, last) in change.lost.iter().flat_map(|(first, last)| newly_done.within(first, last)) {
            lost.all += last - first + 1;
            lost.missing += entry.missing.remove(first, last);
        }
        // What was on its way to the sink when the damage was found, and is done with now, was not lost.
        let found: u64 = newly_done.iter().map(|(first, last)| entry.missing.remove(first, last)).sum();
        entry.dead_lettered += dead + of_keys.dead_lettered;
        entry.quarantined =
            (entry.quarantined + quarantined + lost.all - lost.missing).saturating_sub(found) + of_keys.lost;
        // What the cursor has passed over for a key that is set aside is not done with.
        let not_delivered = of_keys.passed + dead + quarantined + lost.all + expired;
        entry.expired += expired + of_keys.expired;
        entry.delivered += newly_done.count().saturating_sub(not_delivered) + of_keys.delivered;
        let behind = entry.state.cursor;
        entry.state = change.state.clone();
        entry.state.advance_to(behind.max(entry.expired_through));
        entry.passed_over = entry.passed_over.max(change.passed_over);
        entry.changed = true;
        let mut insert = db.prepare_cached(
            "INSERT INTO dead_letter(sink, stream, seq, reason, line)
                 VALUES (?1, (SELECT name FROM stream WHERE id = ?2), ?3, ?4, ?5)",
        )?;
        // What has expired is counted so, and is not given up once more.
        for letter in change.dead_letters.iter().filter(|letter| letter.sequence > entry.expired_through) {
            insert.execute(params![
                change.sink,
                change.stream.id(),
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

    /// A dead letter was delivered. Only one that is still there is counted, so that it is counted once.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn deliver_letter(&mut self, db: &Connection, letter: &DeliveredLetter) -> rusqlite::Result<()> {
        let mut entries = self.entries.iter_mut();
        let entry = entries.find(|entry| entry.sink == letter.sink && entry.stream == letter.stream);
        if let Some(entry) = entry.filter(|entry| entry.dead_lettered > 0)
            && letters::delete(db, letter)?
        {
            entry.dead_lettered -= 1;
            entry.delivered += 1;
            entry.changed = true;
            let stream = streams::name(db, letter.stream)?;
            totals::add(db, &totals::letters_delivered(&stream, &letter.sink), 1)?;
        }
        Ok(())
    }

    /// The batch `first..=last`, of which `devices` tells the device of each record, is being removed: what a sink has not finished expires
    /// for it. Returns the largest loss of a sink.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn expire(
        &mut self,
        db: &Connection,
        stream: Stream,
        (first, last): (u64, u64),
        devices: &BatchDevices,
    ) -> rusqlite::Result<u64> {
        let mut most = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            // What is missing before it is passed with it.
            for (first, last) in entry.unfinished(first - 1).iter() {
                let known = entry.missing.remove(first, last);
                entry.quarantined += (last - first + 1) - known;
            }
            let Entry { sink, state, held_keys, .. } = entry;
            let is_passed = |sequence| state.done_within(sequence, sequence) > 0;
            let of_keys = held_keys.expire(db, (sink.as_str(), stream), devices, last, is_passed)?;
            let lost = (last - first + 1) - entry.state.done_within(first, last) + of_keys;
            entry.expired += lost;
            entry.expired_through = entry.expired_through.max(last);
            entry.state.advance_to(last);
            entry.missing.remove(0, entry.state.cursor);
            entry.changed = true;
            most = most.max(lost);
        }
        Ok(most)
    }

    /// Up to here what sinks had not got of a stream was removed, and counted as expired.
    pub fn expired_through(&self, stream: Stream) -> u64 {
        let of_stream = self.entries.iter().filter(|entry| entry.stream == stream);
        of_stream.map(|entry| entry.expired_through).max().unwrap_or(0)
    }

    /// Whether a sink has set aside keys of which the batch that ends with `last` may hold records.
    pub fn has_held_keys(&self, stream: Stream, last: u64) -> bool {
        self.entries.iter().any(|entry| entry.stream == stream && entry.held_keys.may_want(last))
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
            held_keys::forget(db, sink, stream)?;
            db.execute("DELETE FROM progress WHERE stream = ?1 AND name = ?2", params![stream.id(), sink])?;
            let total = format!("{EXPIRED_WITH_SINK}:{}:{sink}", streams::name(db, stream)?);
            totals::add(db, &total, waiting + entry.expired)?;
            dropped.push((stream, waiting));
        }
        if dropped.is_empty() {
            return Ok(DroppedSink::Configured);
        }
        self.entries.retain(|entry| !is_left(entry));
        Ok(DroppedSink::Dropped(dropped))
    }

    /// The last sequence that any sink is done with. Where what comes now goes first, that is far beyond its cursor.
    pub fn furthest(&self, stream: Stream) -> u64 {
        let of_stream = self.entries.iter().filter(|entry| entry.stream == stream).map(|entry| &entry.state);
        of_stream.map(|state| state.acknowledged.last().map_or(state.cursor, |(_, last)| *last)).max().unwrap_or(0)
    }

    /// No configured sink needs anything up to here.
    pub fn unwanted_through(&self, stream: Stream) -> u64 {
        let wanting = self.entries.iter().filter(|entry| entry.stream == stream && entry.configured);
        wanting.map(Entry::wanted_behind).min().unwrap_or(u64::MAX)
    }

    /// Every sink has finished everything up to here; `None` if no sink has a cursor, so that nothing is deleted.
    pub fn delivered_through(&self, stream: Stream) -> Option<u64> {
        self.entries.iter().filter(|entry| entry.stream == stream).map(Entry::wanted_behind).min()
    }

    /// Writes the cursors that have changed.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn save(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE progress SET value = ?3, acknowledged = ?4, accepted = ?5, delivered = ?6, expired = ?7, dead_lettered = ?8,
               quarantined = ?9, missing = ?10, passed_over = ?11, set_aside = ?12
             WHERE name = ?1 AND stream = ?2",
        )?;
        for entry in self.entries.iter_mut().filter(|entry| entry.changed) {
            entry.execute(&mut update)?;
            (entry.changed, entry.missing_count) = (false, entry.missing.count());
        }
        Ok(())
    }
}

/// Every sink that a stream of this store has or had has finished everything up to here; `None` if there is none.
///
/// # Errors
///
/// If the store cannot be read.
pub fn delivered_through(db: &Connection, stream: Stream) -> rusqlite::Result<Option<u64>> {
    let of_sinks: Option<i64> = db
        .prepare_cached("SELECT min(value) FROM progress WHERE stream = ?1 AND name <> ''")?
        .query_row([stream.id()], |row| row.get(0))?;
    let of_sinks = of_sinks.map(|through| through.max(0).cast_unsigned());
    let of_keys = held_keys::done_through(db, stream)?;
    Ok(of_sinks.map(|through| of_keys.map_or(through, |of_keys| of_keys.min(through))))
}

/// How many of some records there are, and how many of these were missing.
#[derive(Default)]
struct Tally {
    all: u64,
    missing: u64,
}

#[cfg(test)]
mod tests;

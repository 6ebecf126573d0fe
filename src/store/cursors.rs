//! The cursors: how far each sink is in each stream, and what became of every record that it was to get.

use rusqlite::{Connection, params};

use super::held_keys::{self, BatchDevices};
pub use super::letters::DeadLetter;
use super::letters::{self, DeliveredLetter};
use super::totals::{self, EXPIRED_WITH_SINK};
use super::{held, links, streams};
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

mod change;
mod damage;
mod entry;
mod loading;

pub use change::{CursorChange, Save, Saves};
pub use entry::CursorRow;
use entry::Entry;

/// Result of dropping a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DroppedSink {
    /// Records of each stream that waited for it: they are counted as expired.
    Dropped(Vec<(Stream, u64)>),
    Unknown,
    Configured,
}

#[derive(Clone, Debug, Default)]
pub struct Cursors {
    entries: Vec<Entry>,
}

impl Cursors {
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
        // What has expired is counted so, and is not given up once more.
        let expired_through = entry.expired_through;
        let refused = || change.dead_letters.iter().filter(|letter| letter.sequence > expired_through);
        let dead = (refused().count() as u64).saturating_sub(of_keys.dead_lettered);
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
        letters::keep(db, (&change.sink, change.stream), refused())
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

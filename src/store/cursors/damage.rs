//! What damage does to the cursors: what is missing is quarantined until it is found.

use rusqlite::Connection;

use super::super::held;
use super::super::held_keys::HeldKeys;
use super::Cursors;
use super::entry::{CursorRow, Entry};
use crate::core::identity::{PerStream, Stream, Streams};

impl Cursors {
    /// The cursors as they are kept beside the store.
    pub fn rows(&self, streams: &Streams) -> Vec<CursorRow> {
        self.entries.iter().map(|entry| entry.row(streams)).collect()
    }

    /// The cursors of streams that are not known are left out.
    pub fn keep_of(&mut self, streams: &Streams) {
        self.entries.retain(|entry| streams.has(entry.stream));
    }

    /// Whether each has a stream.
    pub fn are_of(&self, streams: &Streams) -> bool {
        self.entries.iter().all(|entry| streams.has(entry.stream))
    }

    /// Takes over those that are newer, or not known here.
    pub fn take_over(&mut self, rows: &[CursorRow], streams: &Streams) {
        for (row, mut other) in rows.iter().filter_map(|row| Some((row, Entry::from_row(row, streams)?))) {
            let known = self.entries.iter_mut().find(|entry| entry.sink == other.sink && entry.stream == other.stream);
            match known {
                Some(entry) if entry.accepted < other.accepted => {
                    other.take_over_keys(row, std::mem::take(&mut entry.held_keys));
                    *entry = other;
                }
                Some(entry) => entry.held_keys.take_over(&row.held_keys, false),
                None => {
                    other.take_over_keys(row, HeldKeys::default());
                    self.entries.push(other);
                }
            }
        }
    }

    /// A stream's sequences go on behind `last_sequence`, though the store ends with `from`: what is between them may be salvaged, and is
    /// quarantined until then.
    pub fn extend(&mut self, stream: Stream, from: u64, last_sequence: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream && from < last_sequence) {
            entry.missing.push(from.max(entry.state.cursor) + 1, last_sequence);
            entry.accepted += last_sequence - from;
            entry.quarantined += last_sequence - from;
            entry.changed = true;
        }
    }

    /// The store was damaged, and a new one takes its place, in which everything up to `last_sequence` is still to be salvaged: until then
    /// what a sink has not finished is quarantined.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn begin_anew(&mut self, db: &Connection, stream: Stream, last_sequence: u64) -> rusqlite::Result<()> {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            entry.missing = entry.unfinished(last_sequence);
            let more = entry.missing.count().saturating_sub(entry.missing_count);
            // What waits for keys of which nobody knows where they are is not found any more.
            entry.quarantined += entry.held_keys.take_lost();
            let of_keys = entry.held_keys.pending();
            let known = entry.delivered + entry.expired + entry.dead_lettered + entry.quarantined + of_keys + more;
            // Where the counters are older than the last sequence, or newer, the one that says more is right.
            entry.quarantined += more + entry.accepted.saturating_sub(known);
            entry.accepted = entry.accepted.max(known);
            entry.missing_count = entry.missing.count();
            entry.held_keys.insert(db, (&entry.sink, stream))?;
            entry.insert(db)?;
        }
        Ok(())
    }

    /// What of each stream is missing up to a sequence, by what is held; so it stands after a start.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn find_missing(&mut self, db: &Connection, examined_through: &PerStream<u64>) -> rusqlite::Result<()> {
        for entry in &mut self.entries {
            let through = *examined_through.of(entry.stream);
            entry.missing = entry.unfinished(through);
            if !entry.missing.is_empty() {
                held::each_behind(db, entry.stream, entry.state.cursor, |batch| {
                    entry.missing.remove(batch.before_first() + 1, batch.last_sequence);
                })?;
            }
            // Both were written at once; if they differ, what is held is right.
            let count = entry.missing.count();
            entry.changed |= count != entry.missing_count;
            entry.quarantined = (entry.quarantined + count).saturating_sub(entry.missing_count);
        }
        Ok(())
    }

    /// A salvaged batch, `first..=last`, is in the store again. Records that were not known to be missing are accepted again.
    pub fn recover(&mut self, stream: Stream, first: u64, last: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            let wanted = (last - first + 1) - entry.state.done_within(first, last);
            let found = entry.missing.remove(first, last);
            entry.quarantined = entry.quarantined.saturating_sub(found);
            entry.accepted += wanted.saturating_sub(found);
            entry.changed = true;
        }
    }

    /// Records that are missing for the sink that misses most.
    pub fn missing(&self, stream: Stream) -> u64 {
        let entries = self.entries.iter().filter(|entry| entry.stream == stream);
        entries.map(|entry| entry.missing.count()).max().unwrap_or(0)
    }
}

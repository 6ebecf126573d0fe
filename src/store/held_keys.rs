//! Keys that a sink has set aside: the cursor has passed over their lines, which are still to be delivered.
//!
//! A row says up to where the lines of its key are done with, and how many the cursor has passed over beyond that: they are buffered. It is
//! written in the transaction that moves the cursor over them. As long as there is a row, its position keeps batches like a cursor. The
//! table was added to version 2 of the store, and is created when a store without it is opened; where it is missing, there are no such keys.
//! The cursor's own row has the sum of what is pending: if it is another one, the store is damaged.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{held, schema};
use crate::core::batch::{Decoder, PAYLOAD_BYTES_MAX};
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

/// One key that is set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldKey {
    /// Which of its lines are done with.
    pub state: CursorState,
    /// Lines that the cursor has passed over and that are not done with.
    pub pending: u64,
}

/// What has changed of a key since the last change, in a sink's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKeyChange {
    pub key: String,
    /// `None` when it follows the cursor again.
    pub state: Option<CursorState>,
    /// Lines that the cursor has passed over, as runs of sequences.
    pub passed: Vec<(u64, u64)>,
    /// Lines that were passed over and are done with.
    pub taken: Vec<(u64, u64)>,
    /// How many of those are dead letters, by their sequences.
    pub dead: Vec<u64>,
    /// Those of them that became too old to be sent, as runs of sequences.
    pub expired: Vec<(u64, u64)>,
}

/// A key as it is kept beside the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldKeyRow {
    key: String,
    cursor: u64,
    pub(super) acknowledged: Vec<(u64, u64)>,
    pending: u64,
}

/// The keys that one sink has set aside in one stream.
#[derive(Clone, Debug, Default)]
pub struct HeldKeys {
    keys: BTreeMap<String, HeldKey>,
    /// In a damaged store not all of them could be read: so many records are pending of all of them.
    expected: Option<u64>,
}

/// What a change adds to the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of what the cursor has newly passed, so many are of keys that are set aside.
    pub passed: u64,
    pub delivered: u64,
    pub dead_lettered: u64,
    pub expired: u64,
    /// Lines of keys that follow the cursor again and that could not be read any more.
    pub lost: u64,
}

fn has_table(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'held_key'")?.exists([])
}

/// Records of all keys that a sink has set aside in a stream.
pub fn pending(db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<u64> {
    if !has_table(db)? {
        return Ok(0);
    }
    db.prepare_cached("SELECT coalesce(sum(pending), 0) FROM held_key WHERE sink = ?1 AND stream = ?2")?
        .query_row(params![sink, stream.id()], |row| row.get::<_, i64>(0))
        .map(|pending| pending.max(0) as u64)
}

/// Everything of a stream up to here is done with, as far as keys go that any sink has set aside; `None` if there are none.
pub fn done_through(db: &Connection, stream: Stream) -> rusqlite::Result<Option<u64>> {
    if !has_table(db)? {
        return Ok(None);
    }
    db.prepare_cached("SELECT min(seq) FROM held_key WHERE stream = ?1")?
        .query_row([stream.id()], |row| row.get::<_, Option<i64>>(0))
        .map(|through| through.map(|through| through.max(0).cast_unsigned()))
}

pub fn forget(db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<()> {
    if has_table(db)? {
        db.execute("DELETE FROM held_key WHERE sink = ?1 AND stream = ?2", params![sink, stream.id()])?;
    }
    Ok(())
}

/// What is pending by the cursor's own row.
fn expected(db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<u64> {
    if !has_table(db)? {
        return Ok(0);
    }
    let said: Option<Option<i64>> = db
        .prepare_cached("SELECT set_aside FROM progress WHERE stream = ?1 AND name = ?2")?
        .query_row(params![stream.id(), sink], |row| row.get(0))
        .optional()?;
    Ok(said.flatten().unwrap_or(0).max(0).cast_unsigned())
}

/// The sequences of these runs that are beyond `through`.
fn count_beyond(runs: &[(u64, u64)], through: u64) -> u64 {
    runs.iter().map(|(first, last)| (last + 1).saturating_sub((*first).max(through + 1))).sum()
}

impl HeldKeys {
    /// The keys that a sink has set aside in a stream.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn load(db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<HeldKeys> {
        let mut held_keys = HeldKeys::default();
        held_keys.read(db, sink, stream)?;
        let (found, expected) = (held_keys.pending(), expected(db, sink, stream)?);
        if found != expected {
            let text = format!("{found} records wait for the keys that {sink} has set aside, and should be {expected}");
            return Err(schema::corrupt(text));
        }
        Ok(held_keys)
    }

    /// The same in a damaged store, as far as they can be read.
    pub fn load_damaged(db: &Connection, sink: &str, stream: Stream) -> HeldKeys {
        let mut held_keys = HeldKeys::default();
        let read = held_keys.read(db, sink, stream);
        let expected = expected(db, sink, stream).unwrap_or(0);
        if read.is_err() || expected != held_keys.pending() {
            held_keys.expected = Some(expected);
            tracing::warn!(sink, ?stream, "not all of the keys that were set aside can be read");
        }
        held_keys
    }

    fn read(&mut self, db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<()> {
        if !has_table(db)? {
            return Ok(());
        }
        let mut select =
            db.prepare_cached("SELECT key, seq, acknowledged, pending FROM held_key WHERE sink = ?1 AND stream = ?2")?;
        let mut rows = select.query(params![sink, stream.id()])?;
        while let Some(row) = rows.next()? {
            let (cursor, ranges): (i64, Vec<u8>) = (row.get(1)?, row.get(2)?);
            let cursor = cursor.max(0) as u64;
            let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
            self.keys.insert(row.get(0)?, HeldKey { state, pending: row.get::<_, i64>(3)?.max(0) as u64 });
        }
        Ok(())
    }

    /// Writes all of them into a new store.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn insert(&self, db: &Connection, name: (&str, Stream)) -> rusqlite::Result<()> {
        self.keys.iter().try_for_each(|(key, held)| write(db, name, key, held))
    }

    /// The keys as they are kept beside the store.
    pub fn rows(&self) -> Vec<HeldKeyRow> {
        let row = |(key, held): (&String, &HeldKey)| HeldKeyRow {
            key: key.clone(),
            cursor: held.state.cursor,
            acknowledged: held.state.acknowledged.clone(),
            pending: held.pending,
        };
        self.keys.iter().map(row).collect()
    }

    /// Takes over what was known beside the store, in place of what is known here if that `is_newer`, else where something is not known here.
    pub fn take_over(&mut self, rows: &[HeldKeyRow], is_newer: bool) {
        if is_newer {
            self.keys.clear();
        } else if self.expected.is_none() {
            return;
        }
        for HeldKeyRow { key, cursor, acknowledged, pending } in rows {
            let state = CursorState { cursor: *cursor, acknowledged: acknowledged.clone() };
            self.keys.entry(key.clone()).or_insert(HeldKey { state, pending: *pending });
        }
    }

    /// So many records are pending of all of them.
    pub fn expect(&mut self, pending: u64) {
        self.expected = Some(pending);
    }

    /// Records that were pending for keys of which nothing more is known.
    pub fn take_lost(&mut self) -> u64 {
        self.expected.take().unwrap_or(0).saturating_sub(self.pending())
    }

    pub fn states(&self) -> Vec<(String, CursorState)> {
        self.keys.iter().map(|(key, held)| (key.clone(), held.state.clone())).collect()
    }

    pub fn pending(&self) -> u64 {
        self.keys.values().map(|held| held.pending).sum()
    }

    /// Everything up to here is done with, as far as these keys go.
    pub fn done_through(&self) -> Option<u64> {
        self.keys.values().map(|held| held.state.cursor).min()
    }

    /// Takes over what a sink says. What is not beyond `expired_through` was counted when it expired.
    pub fn apply(
        &mut self,
        db: &Connection,
        (sink, stream): (&str, Stream),
        changes: &[HeldKeyChange],
        expired_through: u64,
    ) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        for change in changes {
            let mut held = self.keys.remove(&change.key).unwrap_or_default();
            let passed = count_beyond(&change.passed, expired_through);
            let taken = count_beyond(&change.taken, expired_through).min(held.pending + passed);
            let dead = change.dead.iter().filter(|sequence| **sequence > expired_through).count() as u64;
            let dead = dead.min(taken);
            let expired = count_beyond(&change.expired, expired_through).min(taken - dead);
            held.pending = held.pending + passed - taken;
            counts.passed += passed;
            counts.dead_lettered += dead;
            counts.expired += expired;
            counts.delivered += taken - dead - expired;
            match &change.state {
                Some(state) => {
                    held.state = state.clone();
                    held.state.advance_to(expired_through);
                    write(db, (sink, stream), &change.key, &held)?;
                    self.keys.insert(change.key.clone(), held);
                }
                None => {
                    counts.lost += held.pending;
                    db.prepare_cached("DELETE FROM held_key WHERE sink = ?1 AND stream = ?2 AND key = ?3")?
                        .execute(params![sink, stream.id(), change.key])?;
                }
            }
        }
        Ok(counts)
    }

    /// The batch `first..=last`, of which `devices` tells the device of each record, is being removed. Returns how many records of these
    /// keys go with it that the cursor, which `is_passed` knows, has passed over.
    pub fn expire(
        &mut self,
        db: &Connection,
        (sink, stream): (&str, Stream),
        devices: &BatchDevices,
        last: u64,
        is_passed: impl Fn(u64) -> bool,
    ) -> rusqlite::Result<u64> {
        let mut lost = 0;
        for (key, held) in self.keys.iter_mut().filter(|(_, held)| held.state.cursor < last) {
            let of_key = devices.sequences_of(key).iter().copied();
            let gone = of_key.filter(|at| is_passed(*at) && held.state.done_within(*at, *at) == 0).count() as u64;
            let gone = gone.min(held.pending);
            held.pending -= gone;
            held.state.advance_to(last);
            lost += gone;
            write(db, (sink, stream), key, held)?;
        }
        Ok(lost)
    }

    /// Whether a batch that ends with `last` may hold records of these keys.
    pub fn may_want(&self, last: u64) -> bool {
        !self.keys.is_empty() && self.done_through().is_none_or(|through| through < last)
    }
}

fn write(db: &Connection, (sink, stream): (&str, Stream), key: &str, held: &HeldKey) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO held_key(sink, stream, key, seq, acknowledged, pending) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT(sink, stream, key) DO UPDATE SET seq = ?4, acknowledged = ?5, pending = ?6",
    )?
    .execute(params![
        sink,
        stream.id(),
        key,
        held.state.cursor as i64,
        held.state.encode_ranges(),
        held.pending as i64
    ])?;
    Ok(())
}

/// Which records of a batch are of which device.
#[derive(Debug, Default)]
pub struct BatchDevices(HashMap<String, Vec<u64>>);

impl BatchDevices {
    /// Of the batch that ends with `last`; empty if it cannot be read. What is missing then is found missing when its keys get there.
    pub fn read(db: &Connection, stream: Stream, last: u64) -> rusqlite::Result<BatchDevices> {
        let row: Option<(i64, i64, Vec<u8>)> = db
            .prepare_cached("SELECT count, raw_len, payload FROM batch WHERE id = ?1")?
            .query_row([held::id(stream, last)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let mut devices = BatchDevices::default();
        let Some((count, raw_len, compressed)) = row else { return Ok(devices) };
        let length = usize::try_from(raw_len).unwrap_or(usize::MAX).min(PAYLOAD_BYTES_MAX);
        let Ok(payload) = lz4_flex::block::decompress(&compressed, length) else { return Ok(devices) };
        let Ok(decoder) = Decoder::new(&payload) else { return Ok(devices) };
        let first = (last + 1).saturating_sub(count.max(0) as u64);
        for (sequence, stored) in (first..=last).zip(decoder.map_while(Result::ok)) {
            match devices.0.get_mut(stored.device()) {
                Some(sequences) => sequences.push(sequence),
                None => drop(devices.0.insert(stored.device().to_owned(), vec![sequence])),
            }
        }
        Ok(devices)
    }

    fn sequences_of(&self, device: &str) -> &[u64] {
        self.0.get(device).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests;

//! One cursor: its row in the store, and how it is kept beside it.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::super::held;
use super::super::held_keys::{HeldKeyRow, HeldKeys};
use crate::core::cursor::CursorState;
use crate::core::identity::{Stream, Streams};
use crate::core::ranges::Ranges;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) sink: String,
    pub(super) stream: Stream,
    pub(super) state: CursorState,
    /// What the sink had not got up to here was removed and counted: a later acknowledgement is not counted again.
    pub(super) expired_through: u64,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) expired: u64,
    pub(super) dead_lettered: u64,
    pub(super) quarantined: u64,
    /// Those of the quarantined that it has not passed: they were in a damaged store and are not found, or not yet.
    pub(super) missing: Ranges,
    /// How many these are; as stored, until they are known.
    pub(super) missing_count: u64,
    /// Those of the delivered that were not sent, because the sink does not take them.
    pub(super) passed_over: u64,
    /// Whether the sink is configured; one that no longer is keeps its cursor.
    pub(super) configured: bool,
    pub(super) held_keys: HeldKeys,
    pub(super) changed: bool,
}

/// A cursor as it is kept beside the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRow {
    sink: String,
    stream: String,
    cursor: u64,
    pub(in crate::store) acknowledged: Vec<(u64, u64)>,
    accepted: u64,
    delivered: u64,
    expired: u64,
    dead_lettered: u64,
    quarantined: u64,
    missing: u64,
    passed_over: u64,
    /// Keys that are set aside, if there is room for them, and how many records wait for them in any case.
    #[serde(default)]
    pub(in crate::store) held_keys: Vec<HeldKeyRow>,
    #[serde(default)]
    set_aside: u64,
}

impl Entry {
    pub(super) fn row(&self, streams: &Streams) -> CursorRow {
        CursorRow {
            sink: self.sink.clone(),
            stream: streams.name(self.stream).to_string(),
            cursor: self.state.cursor,
            acknowledged: self.state.acknowledged.clone(),
            accepted: self.accepted,
            delivered: self.delivered,
            expired: self.expired,
            dead_lettered: self.dead_lettered,
            quarantined: self.quarantined,
            missing: self.missing.count(),
            passed_over: self.passed_over,
            held_keys: self.held_keys.rows(),
            set_aside: self.held_keys.pending(),
        }
    }

    pub(super) fn from_row(row: &CursorRow, streams: &Streams) -> Option<Entry> {
        let CursorRow { sink, cursor, acknowledged, accepted, .. } = row;
        let state = CursorState { cursor: *cursor, acknowledged: acknowledged.clone() };
        Some(Entry {
            delivered: row.delivered,
            expired: row.expired,
            dead_lettered: row.dead_lettered,
            quarantined: row.quarantined,
            missing_count: row.missing,
            passed_over: row.passed_over,
            configured: false,
            ..Entry::at(sink, streams.find(&row.stream)?, state, *accepted)
        })
    }

    /// Keys that it has set aside, by a row that is newer than what is otherwise known of them.
    pub(super) fn take_over_keys(&mut self, row: &CursorRow, known: HeldKeys) {
        self.held_keys = known;
        let is_complete = !row.held_keys.is_empty() || row.set_aside == 0;
        self.held_keys.take_over(&row.held_keys, is_complete);
        self.held_keys.expect(row.set_aside);
    }

    pub(super) fn at(sink: &str, stream: Stream, state: CursorState, accepted: u64) -> Entry {
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
            missing: Ranges::default(),
            missing_count: 0,
            passed_over: 0,
            configured: true,
            held_keys: HeldKeys::default(),
            changed: false,
        }
    }

    /// What is done with in `state`, and has neither been before nor expired.
    pub(super) fn newly_done(&self, state: &CursorState) -> Ranges {
        let passed = self.expired_through.max(self.state.cursor);
        let mut newly_done = Ranges::default();
        newly_done.push(passed + 1, state.cursor);
        for (first, last) in &state.acknowledged {
            newly_done.push((*first).max(passed + 1), *last);
        }
        newly_done.difference(self.state.acknowledged.iter().copied())
    }

    /// Everything up to a sequence that it is not done with.
    pub(super) fn unfinished(&self, through: u64) -> Ranges {
        let mut unfinished = Ranges::default();
        unfinished.push(self.state.cursor + 1, through);
        for (first, last) in &self.state.acknowledged {
            unfinished.remove(*first, *last);
        }
        unfinished
    }

    /// It wants nothing up to here any more.
    pub(super) fn wanted_behind(&self) -> u64 {
        self.held_keys.done_through().map_or(self.state.cursor, |through| through.min(self.state.cursor))
    }

    /// Held records that it has not finished.
    pub(super) fn waiting(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut waiting = self.held_keys.pending();
        held::each_behind(db, self.stream, self.state.cursor, |batch| {
            let done = self.state.done_within(batch.before_first() + 1, batch.last_sequence);
            waiting += batch.count - done.min(batch.count);
        })?;
        Ok(waiting)
    }

    pub(super) fn insert(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut insert = db.prepare_cached(
            "INSERT INTO progress(name, stream, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing,
               passed_over, set_aside)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        self.execute(&mut insert)
    }

    pub(super) fn execute(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
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
                self.missing.count().cast_signed(),
                self.passed_over as i64,
                self.held_keys.pending().cast_signed(),
            ])
            .map(|_| ())
    }
}

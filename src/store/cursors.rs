//! The cursors table: how far each sink is in each stream, and what became of every record that it was to get.

use rusqlite::{Connection, params};

use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

/// A record that a sink refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub sequence: u64,
    pub reason: String,
    pub line: Vec<u8>,
}

/// Where a sink stands now; the whole state, so that the latest alone matters.
#[derive(Clone, Debug)]
pub struct CursorChange {
    pub sink: String,
    pub stream: Stream,
    pub state: CursorState,
    pub dead_letters: Vec<DeadLetter>,
    /// Of those newly done with, so many could not be read: their batch was damaged.
    pub quarantined: u64,
}

impl CursorChange {
    /// Whether a later word of the same sink says all that this one does.
    pub fn is_replaceable(&self) -> bool {
        self.dead_letters.is_empty() && self.quarantined == 0
    }
}

#[derive(Clone, Debug)]
struct Entry {
    sink: String,
    stream: Stream,
    state: CursorState,
    /// Everything up to here was removed before the sink had it, as far as it had not: an acknowledgement that
    /// comes in afterwards is not counted a second time.
    expired_through: u64,
    accepted: u64,
    delivered: u64,
    expired: u64,
    dead_lettered: u64,
    quarantined: u64,
    changed: bool,
}

/// Dead letters kept for each store; their number stays in the ledger when the oldest go.
const DEAD_LETTER_ROWS_MAX: i64 = 10_000;

#[derive(Clone, Debug)]
pub struct Cursors {
    entries: Vec<Entry>,
}

impl Cursors {
    pub fn load(db: &Connection) -> rusqlite::Result<Cursors> {
        let mut select = db.prepare(
            "SELECT sink, stream, seq, acknowledged, accepted, delivered, expired, dead_lettered, quarantined FROM cursor",
        )?;
        let rows = select.query_map([], |row| {
            let stream: String = row.get(1)?;
            let cursor = row.get::<_, i64>(2)? as u64;
            let ranges: Vec<u8> = row.get(3)?;
            Ok((
                stream,
                Entry {
                    sink: row.get(0)?,
                    stream: Stream::Raw,
                    // Unreadable ranges cost duplicates, which identities tell apart; refusing to start would cost data.
                    state: CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor)),
                    expired_through: 0,
                    accepted: row.get::<_, i64>(4)? as u64,
                    delivered: row.get::<_, i64>(5)? as u64,
                    expired: row.get::<_, i64>(6)? as u64,
                    dead_lettered: row.get::<_, i64>(7)? as u64,
                    quarantined: row.get::<_, i64>(8)? as u64,
                    changed: false,
                },
            ))
        })?;
        let mut entries = Vec::new();
        for row in rows {
            let (name, mut entry) = row?;
            if let Some(stream) = Stream::ALL.into_iter().find(|stream| stream.name() == name) {
                entry.stream = stream;
                entries.push(entry);
            }
        }
        Ok(Cursors { entries })
    }

    /// A new sink starts at the oldest held batch, and has accepted what is held by then.
    pub fn register(&mut self, db: &Connection, sink: &str, stream: Stream) -> rusqlite::Result<CursorState> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.sink == sink && entry.stream == stream) {
            return Ok(entry.state.clone());
        }
        let table = stream.name();
        let held: i64 = db.query_row(&format!("SELECT coalesce(sum(count), 0) FROM {table}"), [], |row| row.get(0))?;
        let first: Option<i64> =
            db.query_row(&format!("SELECT seq - count FROM {table} ORDER BY seq LIMIT 1"), [], |row| row.get(0)).ok();
        let start = match first {
            Some(before_first) => before_first as u64,
            None => super::writer::last_sequence(db, stream)?,
        };
        let state = CursorState::at(start);
        db.execute(
            "INSERT INTO cursor(sink, stream, seq, acknowledged, accepted) VALUES (?1, ?2, ?3, x'', ?4)",
            params![sink, table, start as i64, held],
        )?;
        self.entries.push(Entry {
            sink: sink.to_owned(),
            stream,
            state: state.clone(),
            expired_through: 0,
            accepted: held as u64,
            delivered: 0,
            expired: 0,
            dead_lettered: 0,
            quarantined: 0,
            changed: false,
        });
        Ok(state)
    }

    pub fn accept(&mut self, stream: Stream, count: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.stream == stream) {
            entry.accepted += count;
            entry.changed = true;
        }
    }

    /// Takes over a sink's own word of where it is, counting what is newly done with.
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
                "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1",
                [DEAD_LETTER_ROWS_MAX],
            )?;
        }
        Ok(())
    }

    /// The batch `first..=last` is being removed undelivered: what a sink was not done with has expired for it.
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

    /// Every sink is done with everything up to here; `None` where no sink has a cursor, so that nothing is deleted.
    pub fn delivered_through(&self, stream: Stream) -> Option<u64> {
        self.entries.iter().filter(|entry| entry.stream == stream).map(|entry| entry.state.cursor).min()
    }

    pub fn save(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE cursor SET seq = ?3, acknowledged = ?4, accepted = ?5, delivered = ?6, expired = ?7, dead_lettered = ?8,
               quarantined = ?9
             WHERE sink = ?1 AND stream = ?2",
        )?;
        for entry in self.entries.iter_mut().filter(|entry| entry.changed) {
            update.execute(params![
                entry.sink,
                entry.stream.name(),
                entry.state.cursor as i64,
                entry.state.encode_ranges(),
                entry.accepted as i64,
                entry.delivered as i64,
                entry.expired as i64,
                entry.dead_lettered as i64,
                entry.quarantined as i64,
            ])?;
            entry.changed = false;
        }
        Ok(())
    }
}

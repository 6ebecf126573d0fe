//! The ledger as the store has it: one read transaction, every term counted on its own.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

/// What became of the records of one stream that one sink was to get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerLine {
    pub stream: String,
    pub sink: String,
    pub accepted: u64,
    pub delivered: u64,
    /// Held and not delivered, counted from what the store holds.
    pub buffered: u64,
    pub expired: u64,
    pub dead_lettered: u64,
    pub quarantined: u64,
    /// Local sequence up to which everything is done.
    pub cursor: u64,
}

impl LedgerLine {
    /// Accepted is delivered, or still here, or accounted for.
    pub fn adds_up(&self) -> bool {
        self.accepted == self.delivered + self.buffered + self.expired + self.dead_lettered + self.quarantined
    }
}

/// One stream's part of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    pub stream: String,
    pub records: u64,
    pub batches: u64,
    pub oldest_ms: Option<i64>,
    pub last_sequence: u64,
    /// Of the newest batch that is held.
    pub last_position: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantineSample {
    pub received_at_ms: i64,
    pub reason: String,
    pub topic: String,
    /// What is no text is replaced.
    pub sample: String,
}

/// All that a look into the store gives.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    pub ledger: Vec<LedgerLine>,
    pub held: Vec<Held>,
    /// Totals by name, such as `accepted` and `undecodable:not_json`.
    pub totals: Vec<(String, u64)>,
    pub quarantine: Vec<QuarantineSample>,
    /// Alerts as they were last stored.
    pub alerts: Vec<serde_json::Value>,
    pub used_bytes: u64,
    pub dead_letters_held: u64,
}

impl StoreView {
    pub fn total(&self, name: &str) -> u64 {
        self.totals.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

/// Alerts and samples that the status lists.
const LISTED_MAX: i64 = 100;

pub fn look(db: &Connection) -> rusqlite::Result<StoreView> {
    let transaction = db.unchecked_transaction()?;
    let mut view = StoreView {
        ledger: ledger(&transaction)?,
        totals: totals(&transaction)?,
        quarantine: quarantine(&transaction)?,
        alerts: alerts(&transaction)?,
        used_bytes: crate::store::retention::used_bytes(&transaction)?,
        dead_letters_held: transaction.query_row("SELECT count(*) FROM dead_letter", [], |row| unsigned(row, 0))?,
        held: Vec::new(),
    };
    for stream in Stream::ALL {
        view.held.push(held(&transaction, stream)?);
    }
    Ok(view)
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number.max(0) as u64)
}

fn ledger(db: &Connection) -> rusqlite::Result<Vec<LedgerLine>> {
    let mut select = db.prepare_cached(
        "SELECT stream, sink, seq, acknowledged, accepted, delivered, expired, dead_lettered, quarantined
         FROM cursor ORDER BY stream DESC, sink",
    )?;
    let mut rows = select.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let cursor = unsigned(row, 2)?;
        let ranges: Vec<u8> = row.get(3)?;
        let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
        let stream: String = row.get(0)?;
        lines.push(LedgerLine {
            buffered: buffered(db, &stream, &state)?,
            stream,
            sink: row.get(1)?,
            accepted: unsigned(row, 4)?,
            delivered: unsigned(row, 5)?,
            expired: unsigned(row, 6)?,
            dead_lettered: unsigned(row, 7)?,
            quarantined: unsigned(row, 8)?,
            cursor,
        });
    }
    Ok(lines)
}

/// Records held beyond the cursor that are not acknowledged. Answered from an index, without touching a payload.
fn buffered(db: &Connection, stream: &str, state: &CursorState) -> rusqlite::Result<u64> {
    let Some(stream) = Stream::ALL.into_iter().find(|known| known.name() == stream) else { return Ok(0) };
    let table = stream.name();
    let sql = format!("SELECT coalesce(sum(count), 0) FROM {table} INDEXED BY {table}_held WHERE seq > ?1");
    let beyond = db.prepare_cached(&sql)?.query_row([state.cursor as i64], |row| unsigned(row, 0))?;
    let sql = format!("SELECT seq - count FROM {table} INDEXED BY {table}_held WHERE seq > ?1 ORDER BY seq LIMIT 1");
    let before_first: Option<i64> =
        db.prepare_cached(&sql)?.query_row([state.cursor as i64], |row| row.get(0)).optional()?;
    // The first batch may begin below the cursor.
    let done_of_first = before_first.map_or(0, |before| state.cursor.saturating_sub(before as u64));
    let acknowledged: u64 = state.acknowledged.iter().map(|(first, last)| last - first + 1).sum();
    Ok(beyond.saturating_sub(done_of_first).saturating_sub(acknowledged))
}

fn held(db: &Connection, stream: Stream) -> rusqlite::Result<Held> {
    let table = stream.name();
    let sql = format!("SELECT coalesce(sum(count), 0), count(*), min(first_ms) FROM {table} INDEXED BY {table}_held");
    let (records, batches, oldest_ms) =
        db.prepare_cached(&sql)?.query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?, row.get(2)?)))?;
    let sql = format!("SELECT first_position + count - 1 FROM {table} ORDER BY seq DESC LIMIT 1");
    let last_position = db.prepare_cached(&sql)?.query_row([], |row| unsigned(row, 0)).optional()?;
    let last_sequence = crate::store::writer::last_sequence(db, stream)?;
    Ok(Held { stream: table.to_owned(), records, batches, oldest_ms, last_sequence, last_position })
}

fn totals(db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut select = db.prepare_cached("SELECT name, value FROM total ORDER BY name")?;
    select.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?.collect()
}

fn quarantine(db: &Connection) -> rusqlite::Result<Vec<QuarantineSample>> {
    let mut select =
        db.prepare_cached("SELECT received_ms, reason, topic, sample FROM quarantine ORDER BY id DESC LIMIT ?1")?;
    select
        .query_map([LISTED_MAX], |row| {
            let sample: Vec<u8> = row.get(3)?;
            Ok(QuarantineSample {
                received_at_ms: row.get(0)?,
                reason: row.get(1)?,
                topic: row.get(2)?,
                sample: String::from_utf8_lossy(&sample).into_owned(),
            })
        })?
        .collect()
}

fn alerts(db: &Connection) -> rusqlite::Result<Vec<serde_json::Value>> {
    let mut select = db.prepare_cached("SELECT body FROM alert ORDER BY device, metric, kind LIMIT ?1")?;
    let rows = select.query_map([LISTED_MAX], |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| Ok(serde_json::from_slice(&body?).unwrap_or(serde_json::Value::Null))).collect()
}

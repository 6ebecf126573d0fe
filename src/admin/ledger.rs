//! The ledger, read from the store in one transaction, with every term counted independently.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::core::cursor::CursorState;
use crate::core::detection::alert::{Severity, State};
use crate::core::identity::{Stream, StreamRow};
use crate::store::history::History;
use crate::store::{held, held_keys, streams, totals};

/// What became of one stream's records for one sink.
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
    /// Of the delivered records, those that the sink does not take, so they were not sent.
    pub passed_over: u64,
    /// Local sequence up to which every record is settled.
    pub cursor: u64,
    /// When the oldest of the buffered records was received. Shown with the flow, and no part of the gateway's own records.
    #[serde(skip)]
    pub oldest_ms: Option<i64>,
    /// Of the delivered records, those that were dead letters before: for the metrics, whose counters do not go back.
    #[serde(skip)]
    pub letters_delivered: u64,
}

impl LedgerLine {
    /// Whether every accepted record is delivered, still held, or otherwise accounted for.
    pub fn adds_up(&self) -> bool {
        self.accepted == self.delivered + self.buffered + self.expired + self.dead_lettered + self.quarantined
    }
}

/// One stream's part of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamContent {
    pub stream: String,
    /// Held for sinks, as the next two.
    pub records: u64,
    pub batches: u64,
    pub oldest_ms: Option<i64>,
    /// Held though every sink has them.
    pub history_records: u64,
    pub history_from_ms: Option<i64>,
    pub last_sequence: u64,
    /// Position of the newest batch that is held.
    pub last_position: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedSample {
    #[serde(skip)]
    pub id: i64,
    pub received_at_ms: i64,
    pub reason: String,
    pub topic: String,
    /// The beginning; bytes that are not text are replaced.
    pub sample: String,
    /// All that is kept.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

impl RejectedSample {
    /// Tells it from any other.
    pub fn key(&self) -> (i64, i64) {
        (self.id, self.received_at_ms)
    }
}

/// This much of a sample is shown.
const SHOWN_BYTES_MAX: usize = 1024;

/// Everything that one look into the store gives.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    pub ledger: Vec<LedgerLine>,
    pub held: Vec<StreamContent>,
    /// Totals by name, such as `accepted` and `undecodable:not_json`.
    pub totals: Vec<(String, u64)>,
    pub rejected_samples: Vec<RejectedSample>,
    /// The most important alerts as last stored: raised ones first, then the most severe, then the latest.
    pub alerts: Vec<serde_json::Value>,
    /// Counts all alerts, not only those listed.
    pub alerts_raised: u64,
    pub alerts_by_severity: [u64; Severity::ALL.len()],
    pub alerts_total: u64,
    pub used_bytes: u64,
    pub dead_letters_held: u64,
}

/// With this many alerts and batches a look takes some milliseconds, so it is not repeated for each request.
const LARGE_FROM: u64 = 2_000;

/// The file grows by pages and with a fixed part: with fewer readings these would count for too much.
const TELLING_FROM: u64 = 10_000;

impl StoreView {
    pub fn is_large(&self) -> bool {
        self.alerts_total + self.held.iter().map(|held| held.batches).sum::<u64>() >= LARGE_FROM
    }

    /// Bytes in use, less what history takes, which gives way: as if all records were of one size.
    pub fn used_for_sinks(&self) -> u64 {
        let for_sinks: u64 = self.held.iter().map(|held| held.records).sum();
        let history: u64 = self.held.iter().map(|held| held.history_records).sum();
        let share = for_sinks as f64 / (for_sinks + history).max(1) as f64;
        if history == 0 { self.used_bytes } else { (self.used_bytes as f64 * share) as u64 }
    }

    /// What a reading takes in the file, with its part of all else that is there; `None` while too few are held to tell.
    pub fn bytes_a_reading(&self) -> Option<f64> {
        let raw = self.held.iter().find(|held| held.stream == "raw")?;
        let readings = raw.records + raw.history_records;
        (readings >= TELLING_FROM).then(|| self.used_bytes as f64 / readings as f64)
    }

    pub fn total(&self, name: &str) -> u64 {
        self.totals.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

/// Most alerts and samples that the status lists.
const LISTED_MAX: usize = 100;

pub fn look(db: &Connection) -> rusqlite::Result<StoreView> {
    let transaction = db.unchecked_transaction()?;
    let alerts = Alerts::read(&transaction)?;
    let mut view = StoreView {
        ledger: ledger(&transaction)?,
        totals: totals(&transaction)?,
        rejected_samples: rejected_samples(&transaction)?,
        alerts: alerts.listed(),
        alerts_raised: alerts.raised,
        alerts_by_severity: alerts.by_severity,
        alerts_total: alerts.total,
        used_bytes: crate::store::retention::used_bytes(&transaction)?,
        dead_letters_held: transaction.query_row("SELECT count(*) FROM dead_letter", [], |row| unsigned(row, 0))?,
        held: Vec::new(),
    };
    for row in streams::load(&transaction)?.rows() {
        view.held.push(content(&transaction, row)?);
    }
    Ok(view)
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number.max(0) as u64)
}

fn letters_delivered(db: &Connection, stream: &str, sink: &str) -> rusqlite::Result<u64> {
    let mut select = db.prepare_cached("SELECT value FROM progress WHERE stream = 0 AND name = ?1")?;
    let found = select.query_row([totals::letters_delivered(stream, sink)], |row| unsigned(row, 0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// What became of every record, for each sink and stream.
///
/// # Errors
///
/// If the store cannot be read.
pub(crate) fn ledger(db: &Connection) -> rusqlite::Result<Vec<LedgerLine>> {
    let mut select = db.prepare_cached(
        "SELECT s.id, s.name, p.name, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined,
           coalesce(passed_over, 0)
         FROM progress p JOIN stream s ON s.id = p.stream WHERE p.name <> '' ORDER BY s.id, p.name",
    )?;
    let mut rows = select.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let cursor = unsigned(row, 3)?;
        let ranges: Vec<u8> = row.get(4)?;
        let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
        let Some(stream) = Stream::from_id(row.get(0)?) else { continue };
        let (name, sink): (String, String) = (row.get(1)?, row.get(2)?);
        let (buffered, oldest_ms) = buffered(db, &sink, stream, &state)?;
        lines.push(LedgerLine {
            buffered,
            oldest_ms,
            letters_delivered: letters_delivered(db, &name, &sink)?,
            stream: name,
            sink,
            accepted: unsigned(row, 5)?,
            delivered: unsigned(row, 6)?,
            expired: unsigned(row, 7)?,
            dead_lettered: unsigned(row, 8)?,
            quarantined: unsigned(row, 9)?,
            passed_over: unsigned(row, 10)?,
            cursor,
        });
    }
    Ok(lines)
}

/// Records held beyond the cursor that are not acknowledged, and those that it has passed over for keys that are set aside. Does not read
/// payloads. Beside it, when the oldest of those beyond the cursor was received.
fn buffered(db: &Connection, sink: &str, stream: Stream, state: &CursorState) -> rusqlite::Result<(u64, Option<i64>)> {
    let beyond = held::sum_behind(db, stream, state.cursor)?.records;
    // The first batch may begin below the cursor.
    let first = held::first_behind(db, stream, state.cursor)?;
    let done_of_first = first.map_or(0, |first| state.cursor.saturating_sub(first.before_first()));
    let acknowledged: u64 = state.acknowledged.iter().map(|(first, last)| last - first + 1).sum();
    let set_aside = held_keys::pending(db, sink, stream)?;
    let buffered = beyond.saturating_sub(done_of_first).saturating_sub(acknowledged) + set_aside;
    Ok((buffered, first.filter(|_| buffered > 0).map(|first| first.first_ms)))
}

fn content(db: &Connection, StreamRow { stream, name, .. }: &StreamRow) -> rusqlite::Result<StreamContent> {
    let stream = *stream;
    let history = History::of(db, stream)?;
    let held::Sum { records, batches, first_ms } = held::sum_behind(db, stream, history.through)?;
    Ok(StreamContent {
        stream: name.to_string(),
        records,
        batches,
        oldest_ms: first_ms,
        history_records: history.records,
        history_from_ms: history.from_ms,
        last_sequence: held::last_sequence(db, stream)?,
        last_position: held::newest(db, stream)?.map(|newest| newest.last_position),
    })
}

fn totals(db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut select = db.prepare_cached("SELECT name, value FROM total ORDER BY name")?;
    select.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?.collect()
}

fn rejected_samples(db: &Connection) -> rusqlite::Result<Vec<RejectedSample>> {
    let mut select = db.prepare_cached(
        "SELECT id, received_ms, reason, topic, sample FROM rejected_sample ORDER BY id DESC LIMIT ?1",
    )?;
    select
        .query_map([LISTED_MAX as i64], |row| {
            let bytes: Vec<u8> = row.get(4)?;
            Ok(RejectedSample {
                id: row.get(0)?,
                received_at_ms: row.get(1)?,
                reason: row.get(2)?,
                topic: row.get(3)?,
                sample: String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned(),
                bytes,
            })
        })?
        .collect()
}

/// Counts all alerts and keeps the most important ones.
#[derive(Default)]
struct Alerts {
    raised: u64,
    by_severity: [u64; Severity::ALL.len()],
    total: u64,
    first: Vec<(Rank, Vec<u8>)>,
}

/// Raised before cleared, severe before minor, late before early.
type Rank = (bool, Option<Severity>, i64);

impl Alerts {
    fn read(db: &Connection) -> rusqlite::Result<Alerts> {
        let mut alerts = Alerts::default();
        // The column `state` is computed from the body, and a damaged one would be an error for all of them.
        let mut select = db.prepare_cached("SELECT body FROM alert")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            alerts.add(row.get_ref(0)?.as_blob()?);
        }
        alerts.shorten();
        Ok(alerts)
    }

    fn add(&mut self, body: &[u8]) {
        let rank = rank(body);
        self.total += 1;
        self.raised += u64::from(rank.0);
        if let (true, Some(severity), _) = rank {
            self.by_severity[severity as usize] += 1;
        }
        if self.first.len() >= 4 * LISTED_MAX {
            self.shorten();
        }
        self.first.push((rank, body.to_vec()));
    }

    fn shorten(&mut self) {
        self.first.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        self.first.truncate(LISTED_MAX);
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        // Of a row that is damaged there is nothing to show.
        self.first.iter().filter_map(|(_, body)| serde_json::from_slice(body).ok()).collect()
    }
}

fn rank(body: &[u8]) -> Rank {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Brief<'a> {
        #[serde(borrow)]
        state: Option<&'a str>,
        severity: Option<Severity>,
        raised_at_ms: i64,
    }
    let brief: Brief<'_> = serde_json::from_slice(body).unwrap_or_default();
    (brief.state == Some(State::Raised.name()), brief.severity, brief.raised_at_ms)
}

#[cfg(test)]
mod tests;

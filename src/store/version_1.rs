//! The store of version 0.1, with a table for each stream. It is read where it has not been migrated yet, and where it was set aside.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::header::BatchHeader;
use super::schema::{self, OpenError};
use crate::core::identity::{RunId, Stream};

/// The `user_version` of such a file.
pub(super) const VERSION: i32 = 1;

/// Name of its table of rejected samples.
pub(super) const REJECTED_SAMPLES: &str = "quarantine";

pub(super) const TABLES: &str = "
CREATE TABLE raw(seq INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, first_position INTEGER NOT NULL, count INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, boot_id BLOB, monotonic_base INTEGER, raw_len INTEGER NOT NULL,
  codec INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE anomalies(seq INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, first_position INTEGER NOT NULL, count INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, boot_id BLOB, monotonic_base INTEGER, raw_len INTEGER NOT NULL,
  codec INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
-- The ledger counts what is held after each cursor: these let it do so without reading payloads.
CREATE INDEX raw_held ON raw(seq, count, first_ms);
CREATE INDEX anomalies_held ON anomalies(seq, count, first_ms);
CREATE TABLE cursor(sink TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, acknowledged BLOB NOT NULL, accepted INTEGER NOT NULL,
  delivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, dead_lettered INTEGER NOT NULL DEFAULT 0,
  quarantined INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(sink, stream)) WITHOUT ROWID;
-- Damaged stores that were set aside, and how far each of their streams has been read.
CREATE TABLE salvage(folder TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(folder, stream)) WITHOUT ROWID;
CREATE TABLE total(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot(chunk INTEGER PRIMARY KEY, seq INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE alert(device TEXT NOT NULL, metric TEXT NOT NULL, kind TEXT NOT NULL,
  body BLOB NOT NULL, PRIMARY KEY(device, metric, kind)) WITHOUT ROWID;
CREATE TABLE quarantine(id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, reason TEXT NOT NULL, topic TEXT NOT NULL, sample BLOB NOT NULL);
CREATE TABLE dead_letter(id INTEGER PRIMARY KEY, sink TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, line BLOB NOT NULL);
";

/// Creates an empty one, in the file itself and not in a WAL, because its first page is read from the file.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let db = Connection::open(path).map_err(failed)?;
    schema::make_tables(&db, TABLES, VERSION).map_err(failed)
}

const COLUMNS: &str = "seq, run, first_position, count, first_ms, last_ms, raw_len, codec, crc, payload";

/// Name of a stream's table; `None` if this version has no such stream.
pub(super) fn table(stream: Stream) -> Option<&'static str> {
    Stream::BUILT_IN.iter().find(|(known, _)| *known == stream).map(|(_, name)| *name)
}

pub(super) fn select_next(table: &str) -> String {
    format!("SELECT {COLUMNS} FROM {table} WHERE seq > ?1 ORDER BY seq LIMIT 1")
}

/// A row of one of its batch tables.
pub(super) struct Row<'a> {
    pub sequence: u64,
    /// Without an id.
    pub header: BatchHeader,
    crc: i64,
    pub payload: &'a [u8],
}

impl<'a> Row<'a> {
    pub fn read(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
        Ok(Row {
            sequence: row.get::<_, i64>(0)?.max(0) as u64,
            header: BatchHeader {
                id: 0,
                run: RunId(row.get(1)?),
                first_position: row.get::<_, i64>(2)? as u64,
                count: row.get(3)?,
                first_ms: row.get(4)?,
                last_ms: row.get(5)?,
                raw_len: row.get::<_, i64>(6)? as u64,
                codec: row.get(7)?,
            },
            crc: row.get(8)?,
            payload: row.get_ref(9)?.as_blob().map_err(rusqlite::Error::from)?,
        })
    }

    /// Whether the payload is intact; nothing else had a checksum.
    pub fn is_intact(&self) -> bool {
        self.crc == i64::from(crc32fast::hash(self.payload))
    }
}

/// The last sequence that was assigned in a stream.
pub(super) fn last_sequence(db: &Connection, table: &str) -> rusqlite::Result<u64> {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).optional();
    let given = number(&format!("SELECT seq FROM sqlite_sequence WHERE name = '{table}'"))?;
    let held = number(&format!("SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1"))?;
    Ok(given.max(held).unwrap_or(0).max(0) as u64)
}

/// The sequence before the first record that is held.
pub(super) fn before_first(db: &Connection, table: &str) -> rusqlite::Result<Option<u64>> {
    let sql = format!("SELECT seq - count FROM {table} ORDER BY seq LIMIT 1");
    let before = db.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional()?;
    Ok(before.map(|before| before.max(0) as u64))
}

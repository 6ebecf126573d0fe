//! Dead letters: lines that a sink has refused for good. The newest are kept; the ledger counts the others too.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::core::identity::Stream;

/// Most that are kept in a store, and most bytes of their lines.
const ROWS_MAX: i64 = 10_000;
const BYTES_MAX: i64 = 4 << 20;

/// A record that a sink refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub sequence: u64,
    pub reason: String,
    pub line: Vec<u8>,
}

/// One that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub id: i64,
    pub sink: String,
    pub stream: String,
    pub sequence: u64,
    /// What the sink said.
    pub reason: String,
    /// As it was to be sent, with its line feed.
    pub line: Vec<u8>,
}

/// One that its sink has taken after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredLetter {
    pub sink: String,
    pub stream: Stream,
    pub id: i64,
    pub sequence: u64,
}

/// Which letters are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub sink: Option<String>,
    pub stream: Option<String>,
    pub id: Option<i64>,
}

impl Letter {
    fn read(row: &Row<'_>) -> rusqlite::Result<Letter> {
        Ok(Letter {
            id: row.get(0)?,
            sink: row.get(1)?,
            stream: row.get(2)?,
            sequence: row.get::<_, i64>(3)?.max(0).cast_unsigned(),
            reason: row.get(4)?,
            line: row.get(5)?,
        })
    }
}

/// Keeps what a sink has refused, as far as there is room; the oldest letters go first.
pub(super) fn keep<'a>(
    db: &Connection,
    (sink, stream): (&str, Stream),
    refused: impl Iterator<Item = &'a DeadLetter>,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO dead_letter(sink, stream, seq, reason, line)
             VALUES (?1, (SELECT name FROM stream WHERE id = ?2), ?3, ?4, ?5)",
    )?;
    let mut kept = 0;
    for DeadLetter { sequence, reason, line } in refused {
        kept += insert.execute(params![sink, stream.id(), sequence.cast_signed(), reason, line])?;
    }
    if kept > 0 {
        db.execute(
            "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1
               OR id <= (SELECT max(id) FROM (SELECT id, sum(length(line)) OVER (ORDER BY id DESC) AS bytes FROM dead_letter)
                         WHERE bytes > ?2)",
            [ROWS_MAX, BYTES_MAX],
        )?;
    }
    Ok(())
}

/// The first letter of a selection behind this id.
///
/// # Errors
///
/// If the store cannot be read.
pub fn next(db: &Connection, selection: &Selection, after: i64) -> rusqlite::Result<Option<Letter>> {
    let Selection { sink, stream, id } = selection;
    db.prepare_cached(
        "SELECT id, sink, stream, seq, reason, line FROM dead_letter
         WHERE id > ?1 AND (?2 IS NULL OR sink = ?2) AND (?3 IS NULL OR stream = ?3) AND (?4 IS NULL OR id = ?4) ORDER BY id LIMIT 1",
    )?
    .query_row(params![after, sink, stream, id], Letter::read)
    .optional()
}

/// How many letters a selection has, and the last one's id.
///
/// # Errors
///
/// If the store cannot be read.
pub fn count(db: &Connection, selection: &Selection) -> rusqlite::Result<(u64, i64)> {
    let Selection { sink, stream, id } = selection;
    db.query_row(
        "SELECT count(*), coalesce(max(id), 0) FROM dead_letter
         WHERE (?1 IS NULL OR sink = ?1) AND (?2 IS NULL OR stream = ?2) AND (?3 IS NULL OR id = ?3)",
        params![sink, stream, id],
        |row| Ok((row.get::<_, i64>(0)?.max(0).cast_unsigned(), row.get(1)?)),
    )
}

/// Deletes a letter; returns whether it was there. Its id may have become another letter's, so it is not enough.
pub(super) fn delete(db: &Connection, letter: &DeliveredLetter) -> rusqlite::Result<bool> {
    let DeliveredLetter { sink, stream, id, sequence } = letter;
    let deleted = db
        .prepare_cached(
            "DELETE FROM dead_letter
             WHERE id = ?1 AND sink = ?2 AND stream = (SELECT name FROM stream WHERE id = ?3) AND seq = ?4",
        )?
        .execute(params![id, sink, stream.id(), sequence.cast_signed()])?;
    Ok(deleted > 0)
}

//! Dead letters: lines that a sink has refused for good. They are kept as long as there is room for them (see [`super::cursors`]), and counted in any
//! case.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::core::identity::Stream;

/// One of them.
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

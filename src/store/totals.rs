//! Totals: named counts since the store was created.

use rusqlite::{Connection, params};

/// Prefix, followed by stream and sink: records that had expired for a sink when it was dropped.
pub const EXPIRED_WITH_SINK: &str = "expired_with_sink";

/// Prefix, followed by stream and sink: dead letters that were delivered later.
pub const LETTERS_DELIVERED: &str = "letters_delivered";

/// The name of such a total.
pub fn letters_delivered(stream: &str, sink: &str) -> String {
    format!("{LETTERS_DELIVERED}:{stream}:{sink}")
}

pub(super) fn add_all(db: &Connection, totals: &[(&'static str, u64)]) -> rusqlite::Result<()> {
    totals.iter().filter(|(_, more)| *more > 0).try_for_each(|(name, more)| add(db, name, *more))
}

pub(super) fn add(db: &Connection, name: &str, more: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO progress(stream, name, value) VALUES (0, ?1, ?2)
         ON CONFLICT(stream, name) DO UPDATE SET value = value + excluded.value",
    )?
    .execute(params![name, more as i64])?;
    Ok(())
}

/// All totals, by name.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut select = db.prepare_cached("SELECT name, value FROM total")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

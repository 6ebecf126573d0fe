//! The runs that batches belong to: a row for each process that stored something, or whose records were salvaged.

use rusqlite::{Connection, OptionalExtension, params};

use super::held;
use crate::core::identity::{RunId, Streams};

/// Beyond so many rows, those that no batch refers to are deleted.
const RUNS_MAX: i64 = 1_000;

/// One run of the process, and the gateway that it ran as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub run: RunId,
    /// The gateway's id, as it was configured.
    pub gateway: String,
    pub started_ms: i64,
}

/// The number of a run in the store, which is inserted if it is new. The newest is tried first: it is nearly always the one wanted.
pub(super) fn number(db: &Connection, run: &Run) -> rusqlite::Result<i64> {
    let known = db
        .prepare_cached("SELECT id FROM run WHERE run = ?1 AND gateway = ?2 ORDER BY id DESC LIMIT 1")?
        .query_row(params![run.run.0, run.gateway], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    db.prepare_cached("INSERT INTO run(run, gateway, started_ms) VALUES (?1, ?2, ?3)")?.execute(params![
        run.run.0,
        run.gateway,
        run.started_ms
    ])?;
    Ok(db.last_insert_rowid())
}

pub(super) fn insert(db: &Connection, number: i64, run: &Run) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO run(id, run, gateway, started_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![number, run.run.0, run.gateway, run.started_ms])?;
    Ok(())
}

/// All runs, by their numbers.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<(i64, Run)>> {
    let mut select = db.prepare("SELECT id, run, gateway, started_ms FROM run")?;
    let run = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, Run { run: RunId(row.get(1)?), gateway: row.get(2)?, started_ms: row.get(3)? }))
    };
    select.query_map([], run)?.collect()
}

pub(super) fn find(db: &Connection, number: i64) -> rusqlite::Result<Option<Run>> {
    db.prepare_cached("SELECT run, gateway, started_ms FROM run WHERE id = ?1")?
        .query_row([number], |row| Ok(Run { run: RunId(row.get(0)?), gateway: row.get(1)?, started_ms: row.get(2)? }))
        .optional()
}

/// Deletes runs without batches, once there are many.
pub(super) fn prune(db: &Connection, streams: &Streams) -> rusqlite::Result<()> {
    let runs: i64 = db.query_row("SELECT count(*) FROM run", [], |row| row.get(0))?;
    if runs <= RUNS_MAX {
        return Ok(());
    }
    streams.all().try_for_each(|stream| held::list(db, stream))?;
    db.execute(
        "DELETE FROM run WHERE id <= (SELECT max(id) FROM run) - ?1 AND id NOT IN (SELECT run FROM held)",
        [RUNS_MAX / 2],
    )?;
    Ok(())
}

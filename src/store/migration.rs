//! Migrates a store of version 1 to the present version, in place.
//!
//! The small tables change at once. Batches then move in steps, each a transaction that deletes them from the old table before it inserts
//! them into the new one: there is never a second copy, the file does not grow, and after a power cut the next start continues. An earlier
//! version refuses the store from the first step on.

use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::ballast::Ballast;
use super::header::BatchHeader;
use super::runs::{self, Run};
use super::schema::{self, SCHEMA_VERSION};
use super::{held, version_1};
use crate::core::identity::{RunId, Stream};

/// Payload that one step moves: little enough for a full disk with only the ballast's space, because the WAL takes it twice.
const STEP_BYTES: usize = 512 * 1024;
/// After so many steps the WAL is checkpointed.
const STEPS_A_CHECKPOINT: u32 = 4;
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What changes at once: all but the batches. Indexes are dropped first, because in a full store the new tables need their pages.
const SMALL_TABLES: &str = "
DROP INDEX raw_held;
DROP INDEX anomalies_held;
ALTER TABLE quarantine RENAME TO rejected_sample;
ALTER TABLE alert ADD COLUMN state TEXT AS (json_extract(CAST(body AS TEXT), '$.state'));
ALTER TABLE cursor RENAME TO cursor_of_1;
ALTER TABLE total RENAME TO total_of_1;
";
const TAKE_OVER: &str = "
INSERT INTO progress(stream, name, value) SELECT 0, name, value FROM total_of_1;
INSERT INTO progress(stream, name, value) SELECT id, '', seq FROM stream JOIN sqlite_sequence USING(name);
INSERT INTO progress(stream, name, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing)
  SELECT id, sink, seq, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing
  FROM cursor_of_1 JOIN stream ON stream.name = cursor_of_1.stream;
DROP TABLE cursor_of_1;
DROP TABLE total_of_1;
";

/// Does nothing to a store of the present version. Batches of version 1 are attributed to `gateway`, as they were when they were sent.
pub(super) fn migrate(db: &mut Connection, gateway: &str, ballast: &Ballast) -> rusqlite::Result<()> {
    let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == version_1::VERSION {
        tracing::info!(
            "the store has version {version}: it is migrated to version {SCHEMA_VERSION}, and keeps all its data"
        );
        with_room(db, ballast, |db, _| change_small_tables(db))?;
    }
    if !has_table(db, "held_key")? {
        with_room(db, ballast, |db, _| db.execute_batch(schema::HELD_KEY))?;
    }
    if !has_table(db, "entry")? {
        with_room(db, ballast, |db, _| db.execute_batch(schema::ENTRY))?;
    }
    let column = "SELECT 1 FROM pragma_table_info('progress') WHERE name = 'set_aside'";
    if !db.prepare(column)?.exists([])? {
        with_room(db, ballast, |db, _| db.execute_batch(schema::SET_ASIDE))?;
    }
    let began = Instant::now();
    let mut reported = began;
    let mut batches = 0;
    for (stream, table) in Stream::BUILT_IN {
        let mut steps = 0;
        while has_table(db, table)? {
            batches += with_room(db, ballast, |db, bytes| move_batches(db, (stream, table), gateway, bytes))?;
            steps += 1;
            if steps % STEPS_A_CHECKPOINT == 0 {
                checkpoint(db)?;
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                tracing::info!(batches, stream = table, "the store is being migrated to version {SCHEMA_VERSION}");
            }
        }
    }
    if batches > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(batches, seconds, "the store has been migrated to version {SCHEMA_VERSION}");
    }
    Ok(())
}

/// Tries a step; if the disk is full, deletes the ballast and tries once more with little data.
pub(super) fn with_room<T>(
    db: &mut Connection,
    ballast: &Ballast,
    step: impl Fn(&mut Connection, usize) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    match step(db, STEP_BYTES) {
        Err(error) if schema::is_full(&error) => {
            ballast.free();
            checkpoint(db)?;
            step(db, 1)
        }
        result => result,
    }
}

fn checkpoint(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

fn change_small_tables(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SMALL_TABLES)?;
    // Tables that stay as they were are left out.
    for statement in schema::TABLES.split_inclusive(";\n").chain([schema::HELD_KEY, schema::ENTRY]) {
        let stays = ["salvage", "snapshot", "alert", "rejected_sample", "dead_letter"];
        if !stays.iter().any(|name| statement.contains(&format!("CREATE TABLE {name}("))) {
            transaction.execute_batch(statement)?;
        }
    }
    transaction.execute_batch(&schema::insert_built_in_streams())?;
    transaction.execute_batch(TAKE_OVER)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// A batch on its way between the tables.
struct Moving {
    sequence: u64,
    header: BatchHeader,
    payload: Vec<u8>,
    is_intact: bool,
}

/// Moves the oldest batches, at least one, and returns how many. If there is none left, drops the table.
fn move_batches(
    db: &mut Connection,
    (stream, table): (Stream, &str),
    gateway: &str,
    bytes_max: usize,
) -> rusqlite::Result<u64> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let moving = take_oldest(&transaction, (stream, table), bytes_max)?;
    let Some(last) = moving.last() else {
        transaction.execute_batch(&format!("DROP TABLE {table}"))?;
        transaction.commit()?;
        return Ok(0);
    };
    let delete = format!("DELETE FROM {table} WHERE seq <= ?1");
    transaction.prepare_cached(&delete)?.execute([last.sequence as i64])?;
    for Moving { sequence, header, payload, is_intact } in &moving {
        let header = BatchHeader { id: held::id(stream, *sequence), ..*header };
        let check = header.check(gateway, payload);
        if *is_intact {
            let run = Run { run: header.run, gateway: gateway.to_owned(), started_ms: header.first_ms };
            header.insert(&transaction, runs::number(&transaction, &run)?, check, payload)?;
        } else {
            // It stays damaged, and is counted when it is read.
            header.insert(&transaction, NO_RUN, !check, payload)?;
        }
    }
    held::list(&transaction, stream)?;
    transaction.commit()?;
    Ok(moving.len() as u64)
}

/// A number that no run has.
const NO_RUN: i64 = 0;

fn take_oldest(db: &Connection, (stream, table): (Stream, &str), bytes_max: usize) -> rusqlite::Result<Vec<Moving>> {
    let mut moving: Vec<Moving> = Vec::new();
    let mut bytes = 0;
    while bytes < bytes_max {
        let before = moving.last().map_or(0, |last| last.sequence);
        let mut select = db.prepare_cached(&version_1::select_next(table))?;
        let mut rows = select.query([before as i64])?;
        let Some(row) = rows.next()? else { break };
        let next = match version_1::Row::read(row) {
            Ok(found) => Moving {
                sequence: found.sequence,
                header: found.header,
                payload: found.payload.to_vec(),
                is_intact: found.is_intact() && (1..=found.sequence).contains(&u64::from(found.header.count)),
            },
            Err(error) if schema::is_foreign(&error) => unreadable(row.get::<_, i64>(0)? as u64),
            Err(error) => return Err(error),
        };
        bytes += next.payload.len() + 1;
        moving.push(next);
    }
    let mut before = match moving.is_empty() {
        true => 0,
        false => held::newest(db, stream)?.map_or(0, |newest| newest.last_sequence),
    };
    for batch in &mut moving {
        // If its count is not plausible: all sequences that no other batch has.
        if !(1..=batch.sequence).contains(&u64::from(batch.header.count)) {
            batch.header.count = u32::try_from(batch.sequence.saturating_sub(before)).unwrap_or(u32::MAX);
        }
        before = batch.sequence;
    }
    Ok(moving)
}

fn unreadable(sequence: u64) -> Moving {
    let header = BatchHeader {
        id: 0,
        run: RunId::default(),
        first_position: 0,
        count: 0,
        first_ms: 0,
        last_ms: 0,
        raw_len: 0,
        codec: 0,
    };
    Moving { sequence, header, payload: Vec::new(), is_intact: false }
}

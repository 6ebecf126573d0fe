//! What is deleted, and when: delivered batches that a snapshot covers, and at capacity the oldest raw ones first.

use rusqlite::{Connection, Transaction};

use super::cursors::Cursors;
use super::schema::PAGE_BYTES;
use crate::core::identity::Stream;

/// The store's size, in bytes. Raw readings may fill it but for the reserve, which anomalies, alerts and snapshots keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub bytes_max: u64,
    pub reserve_bytes: u64,
    /// Of the disk, so much is left to others.
    pub free_bytes_min: u64,
    pub when_full: WhenFull,
}

/// What gives way when the capacity is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest readings, counted.
    DropOldest,
    /// The newest: they are not acknowledged until there is room.
    Refuse,
}

impl Capacity {
    /// A twentieth in reserve, at least 1 MiB; the oldest goes first, and the disk may be filled.
    pub fn new(bytes_max: u64) -> Capacity {
        let reserve_bytes = (bytes_max / 20).max(1 << 20);
        Capacity { bytes_max, reserve_bytes, free_bytes_min: 0, when_full: WhenFull::DropOldest }
    }
}

/// Batches deleted with one commit: enough to keep up with any ingest, few enough not to stall it.
const DELETES_A_COMMIT: usize = 64;
/// Pages that b-tree growth may take beyond the payload itself.
const SLACK_BYTES: u64 = 64 * 1024;

pub fn limit_file(db: &Connection, capacity: &Capacity) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA max_page_count={}", capacity.bytes_max / PAGE_BYTES), [], |_| Ok(()))
}

/// Bytes in use: the file never shrinks, its free pages are used again.
pub fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let free: i64 = db.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    Ok((pages - free).max(0) as u64 * PAGE_BYTES)
}

/// Deletes a bounded number of batches which every sink is done with; raw ones only once a snapshot covers them.
pub fn delete_delivered(
    transaction: &Transaction<'_>,
    cursors: &Cursors,
    snapshot_covers: u64,
) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for stream in Stream::ALL {
        let Some(mut through) = cursors.delivered_through(stream) else {
            continue;
        };
        if stream == Stream::Raw {
            through = through.min(snapshot_covers);
        }
        let table = stream.name();
        deleted += transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE seq <= ?1 ORDER BY seq LIMIT {DELETES_A_COMMIT})"
            ))?
            .execute([through as i64])?;
    }
    Ok(deleted)
}

/// `drop_oldest`: removes the oldest batches until `needed` more bytes fit, raw before anomalies; what no sink had yet is counted as expired.
pub fn make_room(
    transaction: &Transaction<'_>,
    cursors: &mut Cursors,
    capacity: &Capacity,
    needed: u64,
) -> rusqlite::Result<Vec<(Stream, u64)>> {
    let mut expired = Vec::new();
    if needed == 0 {
        return Ok(expired);
    }
    let raw_limit = capacity.bytes_max.saturating_sub(capacity.reserve_bytes);
    while used_bytes(transaction)? + needed + SLACK_BYTES > raw_limit {
        let Some((stream, lost)) = drop_oldest(transaction, cursors)? else {
            break;
        };
        match expired.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, count)) => *count += lost,
            None => expired.push((stream, lost)),
        }
    }
    Ok(expired)
}

fn drop_oldest(transaction: &Transaction<'_>, cursors: &mut Cursors) -> rusqlite::Result<Option<(Stream, u64)>> {
    for stream in Stream::ALL {
        let table = stream.name();
        let oldest: Option<(i64, i64)> = transaction
            .prepare_cached(&format!("SELECT seq, count FROM {table} ORDER BY seq LIMIT 1"))?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .ok();
        let Some((last, count)) = oldest else { continue };
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE seq = ?1"))?.execute([last])?;
        let lost = cursors.expire(stream, (last - count + 1) as u64, last as u64);
        return Ok(Some((stream, lost)));
    }
    Ok(None)
}

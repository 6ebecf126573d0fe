//! What is deleted, and when: what every sink has and a snapshot covers; and, when there is no room, what is wanted least.

use rusqlite::{Connection, Transaction};

use super::cursors::Cursors;
use super::held;
use super::schema::PAGE_BYTES;
use crate::core::identity::{Keep, Stream};

/// The store's size, in bytes, with all that belongs to it: the file, its log and the ballast. Raw readings may fill it but for the
/// reserve, which anomalies, alerts and snapshots keep: a full store never stops detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub bytes_max: u64,
    pub reserve_bytes: u64,
    /// Of the disk, so much is left to others: the store does not grow into it.
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

/// The log is written into the file when it has so many pages.
const LOG_PAGES: u64 = 1000;
/// Pages that b-tree growth may take beyond the payload itself.
const SLACK_BYTES: u64 = 64 * 1024;
/// Batches deleted with one commit: enough to keep up with any ingest, few enough not to stall it.
const DELETES_A_COMMIT: usize = 64;
/// Batches that one commit removes for want of room, if what it brings fits by then: a capacity that was lowered is reached in steps.
const DROPS_A_COMMIT: usize = 256;
/// What the store may always take, however little of the disk is left: without any room every reading would push out the one before.
const BYTES_MIN: u64 = 8 << 20;

impl Capacity {
    /// A twentieth in reserve, at least 1 MiB; the oldest goes first, and the disk may be filled.
    pub fn new(bytes_max: u64) -> Capacity {
        let reserve_bytes = (bytes_max / 20).max(1 << 20);
        Capacity { bytes_max, reserve_bytes, free_bytes_min: 0, when_full: WhenFull::DropOldest }
    }

    pub fn ballast_bytes(&self) -> u64 {
        (4 << 20).min(self.bytes_max / 16)
    }

    /// What the log's file keeps after a peak.
    pub fn log_bytes_max(&self) -> u64 {
        (64 << 20).min(self.bytes_max / 8)
    }

    pub fn log_pages(&self) -> u64 {
        LOG_PAGES.min(self.log_bytes_max() / PAGE_BYTES / 2)
    }

    pub fn file_bytes_max(&self) -> u64 {
        self.bytes_max - self.ballast_bytes() - self.log_bytes_max()
    }

    /// How far the store may fill now that its file has `file_bytes` and can grow by `growth`; `None` once the disk has refused to
    /// give more.
    pub fn room(&self, file_bytes: u64, growth: Option<u64>) -> Room {
        let raw = self.file_bytes_max().saturating_sub(self.reserve_bytes);
        match growth {
            Some(growth) => {
                Room { raw: raw.min(file_bytes.saturating_add(growth).max(BYTES_MIN)), all: self.file_bytes_max() }
            }
            None => Room { raw: raw.min(file_bytes), all: self.file_bytes_max().min(file_bytes) },
        }
    }
}

/// How many bytes may be in use: by a commit that brings raw readings, and by any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub raw: u64,
    pub all: u64,
}

impl Room {
    /// What further raw readings may take.
    pub fn left_for_raw(&self, used: u64) -> u64 {
        self.raw.saturating_sub(used + SLACK_BYTES)
    }
}

/// Bytes that a commit brings, as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Of streams in bulk.
    pub bulk: u64,
    pub other: u64,
}

impl Needed {
    fn bytes(self) -> u64 {
        self.bulk + self.other + SLACK_BYTES
    }
}

pub fn limit_file(db: &Connection, capacity: &Capacity) -> rusqlite::Result<()> {
    let pages = capacity.file_bytes_max() / PAGE_BYTES;
    db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?;
    db.query_row(&format!("PRAGMA journal_size_limit={}", capacity.log_bytes_max()), [], |_| Ok(()))
}

pub fn file_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = db.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
    Ok(pages.max(0) as u64 * PAGE_BYTES)
}

/// Bytes in use: the file never shrinks, its free pages are used again.
pub fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let free: i64 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    Ok(file_bytes(db)?.saturating_sub(free.max(0) as u64 * PAGE_BYTES))
}

/// Deletes a bounded number of batches which every sink is done with; raw ones only once a snapshot covers them. A stream that no sink
/// ever read is kept for one to come, as long as the store is less than half full.
pub fn delete_delivered(
    transaction: &Transaction<'_>,
    cursors: &Cursors,
    room: &Room,
    snapshot_covers: u64,
) -> rusqlite::Result<Deleted> {
    let mut deleted = Deleted::default();
    for stream in Stream::all() {
        let mut through = match cursors.delivered_through(stream) {
            Some(through) => through,
            None if used_bytes(transaction)? > room.raw / 2 => i64::MAX as u64,
            None => continue,
        };
        if stream.is_watched() {
            through = through.min(snapshot_covers);
        }
        let batches = held::delete_oldest(transaction, stream, through, DELETES_A_COMMIT)?;
        deleted.batches += batches;
        deleted.has_more |= batches == DELETES_A_COMMIT;
    }
    Ok(deleted)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub batches: usize,
    pub has_more: bool,
}

/// Whether what is needed fits without anything giving way.
pub fn has_room(db: &Connection, room: &Room, needed: Needed) -> rusqlite::Result<bool> {
    let all = if needed.bulk > 0 { room.raw } else { room.all };
    Ok(used_bytes(db)? + needed.bytes() <= all)
}

/// Removes batches until what is needed fits: with raw readings to come within their part of the room, else within all of it. First goes
/// what only sinks want that have left the configuration, then the oldest raw ones; anomalies only when no raw is left. Under `refuse`
/// room was made sure of before the readings were judged, so that only anomalies go, and only when the reserve is used up. What some
/// sink was still to get is counted as expired.
pub fn make_room(
    transaction: &Transaction<'_>,
    cursors: &mut Cursors,
    room: &Room,
    when_full: WhenFull,
    needed: Needed,
) -> rusqlite::Result<Vec<(Stream, u64)>> {
    let mut expired: Vec<(Stream, u64)> = Vec::new();
    let mut drops = 0;
    let used_before = used_bytes(transaction)?;
    loop {
        let after = used_bytes(transaction)? + needed.bytes();
        let is_enough = drops >= DROPS_A_COMMIT && used_before >= after;
        if is_enough || has_room(transaction, room, needed)? {
            return Ok(expired);
        }
        let mut dropped = None;
        if when_full == WhenFull::DropOldest {
            dropped = drop_unwanted(transaction, cursors)?;
        }
        if dropped.is_none() && when_full == WhenFull::DropOldest {
            dropped = drop_oldest_of(transaction, cursors, Keep::Bulk)?;
        }
        if dropped.is_none() && after > room.all {
            dropped = drop_oldest_of(transaction, cursors, Keep::Reserve)?;
        }
        let Some((stream, lost)) = dropped else {
            return Ok(expired);
        };
        drops += 1;
        match expired.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, count)) => *count += lost,
            None => expired.push((stream, lost)),
        }
    }
}

fn drop_unwanted(transaction: &Transaction<'_>, cursors: &mut Cursors) -> rusqlite::Result<Option<(Stream, u64)>> {
    for stream in Stream::all() {
        let through = cursors.unwanted_through(stream);
        if let Some(dropped) = drop_oldest(transaction, cursors, stream, through)? {
            return Ok(Some(dropped));
        }
    }
    Ok(None)
}

/// Removes the oldest batch of the first stream that is kept so and holds one.
fn drop_oldest_of(
    transaction: &Transaction<'_>,
    cursors: &mut Cursors,
    keep: Keep,
) -> rusqlite::Result<Option<(Stream, u64)>> {
    for stream in Stream::all().filter(|stream| stream.keep() == keep) {
        if let Some(dropped) = drop_oldest(transaction, cursors, stream, u64::MAX)? {
            return Ok(Some(dropped));
        }
    }
    Ok(None)
}

/// Removes the oldest batch of a stream, if it ends by `through`.
fn drop_oldest(
    transaction: &Transaction<'_>,
    cursors: &mut Cursors,
    stream: Stream,
    through: u64,
) -> rusqlite::Result<Option<(Stream, u64)>> {
    let oldest = held::first_behind(transaction, stream, 0)?;
    let Some(oldest) = oldest.filter(|oldest| oldest.last_sequence <= through) else {
        return Ok(None);
    };
    held::delete_oldest(transaction, stream, oldest.last_sequence, 1)?;
    let lost = cursors.expire(stream, oldest.before_first() + 1, oldest.last_sequence);
    Ok(Some((stream, lost)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_capacity_stay_within_it() {
        for bytes_max in [4 << 20, 64 << 20, 4 << 30] {
            let capacity = Capacity::new(bytes_max);
            let room = capacity.room(0, Some(u64::MAX));
            assert_eq!(room.all + capacity.ballast_bytes() + capacity.log_bytes_max(), bytes_max);
            assert_eq!(room.raw + capacity.reserve_bytes, room.all);
            assert!(room.raw >= bytes_max / 2, "{bytes_max}");
        }
    }

    #[test]
    fn a_disk_that_fills_up_stops_the_growth_of_raw_but_leaves_the_reserve() {
        let capacity = Capacity::new(1 << 30);
        let (file, all) = (100 << 20, capacity.file_bytes_max());
        assert_eq!(capacity.room(file, Some(5 << 20)), Room { raw: 105 << 20, all });
        assert_eq!(capacity.room(file, Some(0)), Room { raw: file, all });
        assert_eq!(capacity.room(0, Some(0)).raw, BYTES_MIN, "some room there always is");
        assert_eq!(capacity.room(file, None), Room { raw: file, all: file }, "the disk has refused to give more");
    }
}

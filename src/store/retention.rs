//! What is deleted and when: what every sink has and a snapshot covers; and, when there is no room, what matters least.

use rusqlite::{Connection, Transaction};

use super::cursors::Cursors;
use super::held;
use super::held_keys::BatchDevices;
use super::kept::Kept;
use super::schema::PAGE_BYTES;
use crate::core::identity::{Keep, Stream, Streams};

/// The store's size in bytes, including the WAL and the ballast. Raw readings may fill all of it except the reserve, which is kept for
/// anomalies, alerts and snapshots: a full store never stops detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub bytes_max: u64,
    pub reserve_bytes: u64,
    /// Disk space left to others: the store does not grow into it.
    pub free_bytes_min: u64,
    pub when_full: WhenFull,
    /// For so long, records that every sink has stay readable, as long as they leave half of the room to others.
    pub history_ms: u64,
}

/// What happens when the capacity is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest readings are dropped, and counted.
    DropOldest,
    /// New readings are not acknowledged until there is room.
    Refuse,
}

/// The WAL is checkpointed when it has so many pages.
const LOG_PAGES: u64 = 1000;
/// Bytes that b-tree growth may take beyond the payload itself.
const SLACK_BYTES: u64 = 64 * 1024;
/// Batches deleted with one commit: enough to keep up with any ingest, few enough not to stall it.
const DELETES_A_COMMIT: usize = 64;
/// As many of them at a time where they are history that gives way.
const HISTORY_DELETES: usize = 4;
/// After removing so many batches a commit stops, if it does not make the store grow: a lowered capacity is reached in steps.
const DROPS_A_COMMIT: usize = 256;
/// What the store may always use, if the disk has it at all: without any room each reading would displace the one before.
pub(super) const BYTES_MIN: u64 = 8 << 20;
/// The file grows in steps of this size.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// Space that the WAL claims from the beginning.
const LOG_CLAIM_BYTES_MAX: u64 = 1 << 20;
/// Kept free for what comes next, as far as that costs nobody anything.
const HEADROOM_BYTES_MAX: u64 = 2 << 20;

impl Capacity {
    /// A twentieth in reserve, at least 1 MiB; the oldest readings are dropped first, the disk may be filled, and there is no history.
    pub fn new(bytes_max: u64) -> Capacity {
        let reserve_bytes = (bytes_max / 20).max(1 << 20);
        Capacity { bytes_max, reserve_bytes, free_bytes_min: 0, when_full: WhenFull::DropOldest, history_ms: 0 }
    }

    pub fn ballast_bytes(&self) -> u64 {
        (4 << 20).min(self.bytes_max / 16)
    }

    /// Size to which the WAL file is cut after a peak.
    pub fn log_bytes_max(&self) -> u64 {
        (64 << 20).min(self.bytes_max / 8)
    }

    pub fn log_pages(&self) -> u64 {
        LOG_PAGES.min(self.log_bytes_max() / PAGE_BYTES / 2)
    }

    /// In whole chunks, as the file grows.
    pub fn file_bytes_max(&self) -> u64 {
        let bytes = self.bytes_max - self.ballast_bytes() - self.log_bytes_max();
        bytes - bytes % self.chunk_bytes()
    }

    pub(super) fn chunk_bytes(&self) -> u64 {
        let bytes = CHUNK_BYTES_MAX.min(self.bytes_max / 16);
        (bytes - bytes % PAGE_BYTES).max(PAGE_BYTES)
    }

    pub(super) fn log_claim_bytes(&self) -> u64 {
        LOG_CLAIM_BYTES_MAX.min(self.log_bytes_max() / 2)
    }

    /// How far the store may fill while its file has `file_bytes` and the disk has `free_bytes` more, which is `None` once the disk was
    /// full.
    pub fn room(&self, file_bytes: u64, free_bytes: Option<u64>) -> Room {
        let free = free_bytes.unwrap_or(0);
        let given = file_bytes.saturating_add(free);
        let left_to_store = file_bytes.saturating_add(free.saturating_sub(self.free_bytes_min));
        let all = self.file_bytes_max().min(given);
        let reserve = self.reserve_bytes.min(all / 16);
        let raw = self.file_bytes_max().saturating_sub(self.reserve_bytes);
        Room { raw: raw.min(left_to_store.max(BYTES_MIN.min(given))).min(all - reserve), all }
    }
}

/// How many bytes may be in use after a commit with raw readings, and after any commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub raw: u64,
    pub all: u64,
}

impl Room {
    /// Bytes that further raw readings may take.
    pub fn left_for_raw(&self, used: u64) -> u64 {
        self.raw.saturating_sub(used + SLACK_BYTES)
    }

    /// Whether what is needed fits beside what is used.
    fn fits(&self, used: u64, needed: Needed) -> bool {
        let all = if needed.bulk > 0 { self.raw } else { self.all };
        used + needed.bytes() <= all
    }

    /// What is kept free where that costs nobody anything.
    fn headroom(&self) -> u64 {
        HEADROOM_BYTES_MAX.min(self.raw / 8)
    }

    /// After readings were turned away, so much has to be free before they are taken again: a part of what there is, because a store that
    /// others leave little room may never have more.
    pub fn free_again(&self) -> u64 {
        self.headroom() / 2
    }
}

/// Bytes that a commit adds, as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Of streams that are kept in bulk.
    pub bulk: u64,
    pub other: u64,
    /// Parts of the snapshot, which can be left out.
    pub snapshot: u64,
}

impl Needed {
    fn bytes(self) -> u64 {
        self.bulk + self.other + self.snapshot + SLACK_BYTES
    }

    /// Takes off what is only replaced.
    pub fn replaces(&mut self, bytes: u64) {
        let of_other = bytes.min(self.other);
        self.other -= of_other;
        self.snapshot = self.snapshot.saturating_sub(bytes - of_other);
    }
}

/// Sets SQLite's limit for the size of the file.
///
/// # Errors
///
/// If SQLite does not accept the limit.
pub fn limit_file(db: &Connection, bytes_max: u64) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA max_page_count={}", bytes_max / PAGE_BYTES), [], |_| Ok(()))
}

/// The same for its WAL, which is cut to it after a peak.
///
/// # Errors
///
/// If SQLite does not accept the limit.
pub fn limit_log(db: &Connection, capacity: &Capacity) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA journal_size_limit={}", capacity.log_bytes_max()), [], |_| Ok(()))
}

/// Size of the file, in bytes.
///
/// # Errors
///
/// If the store cannot be read.
pub fn file_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = db.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
    Ok(pages.max(0) as u64 * PAGE_BYTES)
}

/// Bytes in use: the file never shrinks, but its free pages are reused.
///
/// # Errors
///
/// If the store cannot be read.
pub fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let free: i64 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    Ok(file_bytes(db)?.saturating_sub(free.max(0) as u64 * PAGE_BYTES))
}

/// Deletes a bounded number of batches that every sink has finished and that are no history; of watched streams only once a snapshot covers
/// them. Neither history nor a stream that no sink has a cursor in, which is kept for a later one, takes more than half of the room.
///
/// # Errors
///
/// If the store cannot be read or written.
pub fn delete_delivered(
    transaction: &Transaction<'_>,
    (streams, cursors): (&Streams, &Cursors),
    (room, history): (&Room, Option<&Kept>),
    snapshot_covers: u64,
) -> rusqlite::Result<Deleted> {
    let mut deleted = Deleted::default();
    let half = room.raw / 2;
    let is_half_full = used_bytes(transaction)? > half;
    for stream in streams.all() {
        let mut through = match cursors.delivered_through(stream) {
            Some(through) => through,
            None if is_half_full => i64::MAX as u64,
            None => continue,
        };
        if streams.is_watched(stream) {
            through = through.min(snapshot_covers);
        }
        let mut batches = match history {
            None => held::delete_oldest(transaction, stream, through, DELETES_A_COMMIT)?,
            Some(history) => {
                let is_old = |last_ms| !history.has(last_ms);
                match held::prefix(transaction, stream, through, DELETES_A_COMMIT, is_old)? {
                    Some(last_old) => held::delete_oldest(transaction, stream, last_old, DELETES_A_COMMIT)?,
                    None => 0,
                }
            }
        };
        // Not more than it takes: the rest is worth reading. Readings come first here, and go first.
        while history.is_some() && batches < DELETES_A_COMMIT && used_bytes(transaction)? > half {
            match held::delete_oldest(transaction, stream, through, HISTORY_DELETES)? {
                0 => break,
                more => batches += more,
            }
        }
        deleted.batches += batches;
        deleted.has_more |= batches >= DELETES_A_COMMIT;
        if history.is_some() && batches >= DELETES_A_COMMIT {
            break;
        }
    }
    Ok(deleted)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub batches: usize,
    pub has_more: bool,
}

/// Whether what is needed fits without removing anything.
///
/// # Errors
///
/// If the store cannot be read.
pub fn has_room(db: &Connection, room: &Room, needed: Needed) -> rusqlite::Result<bool> {
    Ok(room.fits(used_bytes(db)?, needed))
}

/// What was removed to make room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeRoom {
    /// Records that a configured sink had not got.
    pub expired: Vec<(Stream, u64)>,
    /// Records that only sinks wanted which are not configured.
    pub given_up: u64,
    /// More could be removed that no configured sink wants, and the room for what comes next is short.
    pub has_more: bool,
    /// There is room for the parts of the snapshot, too.
    pub fits_snapshot: bool,
}

/// Removes batches until what is needed fits: within the room for raw readings if it has any, else within all of it.
///
/// Removed first is what costs no configured sink anything, and some more of it for what comes next: history that is delivered, whether or
/// not a snapshot covers it, then what only sinks want that are no longer configured. Then the oldest raw readings; when none are left, the
/// oldest records of the other streams that are kept in bulk; and at last the oldest of those in reserve, such as anomalies. Under `refuse`
/// room was ensured before the readings were judged, so of what configured sinks want only what is in reserve is removed, and only when the
/// reserve is used up. Nothing of it is removed for a snapshot. What a sink had not got is counted as expired.
///
/// # Errors
///
/// If the store cannot be read or written.
pub fn make_room(
    transaction: &Transaction<'_>,
    (streams, cursors): (&Streams, &mut Cursors),
    room: &Room,
    when_full: WhenFull,
    needed: Needed,
) -> rusqlite::Result<MadeRoom> {
    let mut made = MadeRoom::default();
    let used_before = used_bytes(transaction)?;
    let (mut used, mut drops) = (used_before, 0);
    while used + needed.bytes() + room.headroom() > room.raw {
        made.has_more = drops >= DROPS_A_COMMIT;
        if made.has_more {
            break;
        }
        let Some((_, lost)) = drop_unwanted(transaction, streams, cursors)? else { break };
        made.given_up += lost;
        drops += 1;
        used = used_bytes(transaction)?;
    }
    loop {
        let after = used + needed.bytes();
        made.fits_snapshot = after <= room.all;
        let is_enough = drops >= DROPS_A_COMMIT && used_before >= after;
        if is_enough || room.fits(used, needed) {
            return Ok(made);
        }
        let mut dropped = None;
        if when_full == WhenFull::DropOldest {
            dropped = drop_oldest_of(transaction, streams, cursors, Keep::Bulk)?;
        }
        if dropped.is_none() && after - needed.snapshot > room.all {
            dropped = drop_oldest_of(transaction, streams, cursors, Keep::Reserve)?;
        }
        let Some((stream, lost)) = dropped else {
            return Ok(made);
        };
        drops += 1;
        used = used_bytes(transaction)?;
        match made.expired.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, count)) => *count += lost,
            None => made.expired.push((stream, lost)),
        }
    }
}

/// Removes the oldest batch of the first stream whose oldest no configured sink wants; of those, one that no sink wants at all.
fn drop_unwanted(
    transaction: &Transaction<'_>,
    streams: &Streams,
    cursors: &mut Cursors,
) -> rusqlite::Result<Option<(Stream, u64)>> {
    for stream in streams.all() {
        let delivered = cursors.delivered_through(stream).unwrap_or(0);
        if let Some(dropped) = drop_oldest(transaction, cursors, stream, delivered)? {
            return Ok(Some(dropped));
        }
    }
    for stream in streams.all() {
        let through = cursors.unwanted_through(stream);
        if let Some(dropped) = drop_oldest(transaction, cursors, stream, through)? {
            return Ok(Some(dropped));
        }
    }
    Ok(None)
}

/// Removes the oldest batch of all streams that are kept in this way; but raw readings as long as there are any.
fn drop_oldest_of(
    transaction: &Transaction<'_>,
    streams: &Streams,
    cursors: &mut Cursors,
    keep: Keep,
) -> rusqlite::Result<Option<(Stream, u64)>> {
    let mut oldest: Option<(bool, i64, Stream)> = None;
    for stream in streams.all().filter(|stream| streams.keep(*stream) == keep) {
        let first = held::first_behind(transaction, stream, 0)?;
        let found = first.map(|first| (stream != Stream::RAW, first.first_ms, stream));
        oldest = oldest.into_iter().chain(found).min();
    }
    match oldest {
        Some((_, _, stream)) => drop_oldest(transaction, cursors, stream, u64::MAX),
        None => Ok(None),
    }
}

/// Removes the oldest batch of a stream, if it ends at or before `through`.
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
    let devices = match cursors.has_held_keys(stream, oldest.last_sequence) {
        true => BatchDevices::read(transaction, stream, oldest.last_sequence)?,
        false => BatchDevices::default(),
    };
    held::delete_oldest(transaction, stream, oldest.last_sequence, 1)?;
    let range = (oldest.before_first() + 1, oldest.last_sequence);
    let lost = cursors.expire(transaction, stream, range, &devices)?;
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
        let capacity = Capacity { free_bytes_min: 1 << 30, ..Capacity::new(1 << 30) };
        let (file, all, floor) = (100 << 20, capacity.file_bytes_max(), 1 << 30);
        assert_eq!(capacity.room(file, Some(floor + (5 << 20))), Room { raw: 105 << 20, all });
        assert_eq!(capacity.room(file, Some(floor)), Room { raw: file, all });
        assert_eq!(capacity.room(0, Some(floor)).raw, BYTES_MIN, "some room there always is");
        assert!(capacity.room(0, Some(4 << 20)).all == 4 << 20, "if the disk has it");
        let squeezed = capacity.room(file, None);
        assert_eq!(squeezed.all, file, "the disk has refused to give more");
        assert!(squeezed.raw < file && squeezed.raw > file / 20 * 18, "alerts have some of it: {squeezed:?}");
    }
}

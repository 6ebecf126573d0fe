//! What the store holds of a stream, found by the ids of its batches.
//!
//! A batch's id consists of its stream and the sequence of its last record, so that the batches of a stream are adjacent. Raw readings come
//! last in the b-tree, because only at its end a batch is appended without rebalancing neighbouring pages.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, params};

use crate::core::identity::Stream;

/// Bits of an id that hold the sequence: enough for nine years at a million records per second.
const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;
/// Subtracted from, so that the lowest stream has the highest ids.
const STREAM_MAX: i64 = Stream::ID_MAX as i64;
/// Once so many batches are not in `held`, they are added to it together.
pub(super) const UNLISTED_MAX: usize = 64;

/// The id of the batch that ends with this record.
pub(super) fn id(stream: Stream, sequence: u64) -> i64 {
    ((STREAM_MAX - i64::from(stream.id())) << SEQUENCE_BITS) | sequence.min(SEQUENCE_MAX) as i64
}

/// The stream of a batch; `None` if no batch has such an id.
pub(super) fn stream(id: i64) -> Option<Stream> {
    Stream::from_id(STREAM_MAX - (id >> SEQUENCE_BITS))
}

pub(super) fn sequence(id: i64) -> u64 {
    id as u64 & SEQUENCE_MAX
}

/// Ids of the batches that end after the sequence `after`.
pub(super) fn behind(stream: Stream, after: u64) -> RangeInclusive<i64> {
    id(stream, after.saturating_add(1))..=id(stream, SEQUENCE_MAX)
}

/// A batch, without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub last_sequence: u64,
    pub count: u64,
    pub first_ms: i64,
}

impl Held {
    pub fn before_first(&self) -> u64 {
        self.last_sequence.saturating_sub(self.count)
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Held> {
        Ok(Held {
            last_sequence: sequence(row.get(0)?),
            count: row.get::<_, i64>(1)?.max(0) as u64,
            first_ms: row.get(2)?,
        })
    }
}

/// Visits all batches that end after the sequence `after`, in order.
///
/// # Errors
///
/// If the store cannot be read.
pub fn each_behind(db: &Connection, stream: Stream, after: u64, mut each: impl FnMut(Held)) -> rusqlite::Result<()> {
    let wanted = behind(stream, after);
    let mut next = *wanted.start();
    for table in ["held", "batch"] {
        let sql = format!("SELECT id, count, first_ms FROM {table} WHERE id BETWEEN ?1 AND ?2 ORDER BY id");
        let mut select = db.prepare_cached(&sql)?;
        let mut rows = select.query([next, *wanted.end()])?;
        while let Some(row) = rows.next()? {
            next = row.get::<_, i64>(0)?.saturating_add(1);
            each(Held::read(row)?);
        }
    }
    Ok(())
}

/// What a range of batches holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub records: u64,
    pub batches: u64,
    /// Receive time of the oldest.
    pub first_ms: Option<i64>,
}

/// What all batches that end after the sequence `after` hold.
///
/// # Errors
///
/// If the store cannot be read.
pub fn sum_behind(db: &Connection, stream: Stream, after: u64) -> rusqlite::Result<Sum> {
    let wanted = behind(stream, after);
    let unlisted = last_listed(db, stream)?.saturating_add(1).max(*wanted.start());
    let mut sum = Sum::default();
    for (table, start) in [("held", *wanted.start()), ("batch", unlisted)] {
        let sql =
            format!("SELECT coalesce(sum(count), 0), count(*), min(first_ms) FROM {table} WHERE id BETWEEN ?1 AND ?2");
        let unsigned = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|number| number.max(0) as u64);
        let part = db.prepare_cached(&sql)?.query_row([start, *wanted.end()], |row| {
            Ok(Sum { records: unsigned(row, 0)?, batches: unsigned(row, 1)?, first_ms: row.get(2)? })
        })?;
        sum.records += part.records;
        sum.batches += part.batches;
        sum.first_ms = sum.first_ms.into_iter().chain(part.first_ms).min();
    }
    Ok(sum)
}

/// What a range of batches takes, and when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Extent {
    pub records: u64,
    pub batches: u64,
    /// Compressed.
    pub bytes: u64,
    /// Receive times of the first and the last record.
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
}

/// Batches that are looked at in one transaction.
const EXTENT_STEP: i64 = 1_000;

/// What all batches take that end after the sequence `after`. It reads them in steps, so that the log can be checkpointed meanwhile.
///
/// # Errors
///
/// If the store cannot be read.
pub fn extent_behind(db: &Connection, stream: Stream, after: u64) -> rusqlite::Result<Extent> {
    let wanted = behind(stream, after);
    let (mut next, mut extent) = (*wanted.start(), Extent::default());
    let mut select = db.prepare_cached(
        "SELECT coalesce(max(id), 0), coalesce(sum(count), 0), count(*), coalesce(sum(bytes), 0), min(first_ms), max(last_ms)
         FROM (SELECT id, count, length(payload) AS bytes, first_ms, last_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
    )?;
    loop {
        let unsigned = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|number| number.max(0) as u64);
        let (last, step) = select.query_row([next, *wanted.end(), EXTENT_STEP], |row| {
            let step = Extent {
                records: unsigned(row, 1)?,
                batches: unsigned(row, 2)?,
                bytes: unsigned(row, 3)?,
                first_ms: row.get(4)?,
                last_ms: row.get(5)?,
            };
            Ok((row.get::<_, i64>(0)?, step))
        })?;
        extent.records += step.records;
        extent.batches += step.batches;
        extent.bytes += step.bytes;
        extent.first_ms = extent.first_ms.into_iter().chain(step.first_ms).min();
        extent.last_ms = extent.last_ms.max(step.last_ms);
        if step.batches < EXTENT_STEP.cast_unsigned() {
            return Ok(extent);
        }
        next = last + 1;
    }
}

/// The first batch that ends after the sequence `after`.
///
/// # Errors
///
/// If the store cannot be read.
pub fn first_behind(db: &Connection, stream: Stream, after: u64) -> rusqlite::Result<Option<Held>> {
    let wanted = behind(stream, after);
    db.prepare_cached("SELECT id, count, first_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1")?
        .query_row([wanted.start(), wanted.end()], Held::read)
        .optional()
}

/// The newest batch that ends before a sequence and whose receipt began within a range of times. Those of a clock that was wrong for a while
/// are passed over.
///
/// # Errors
///
/// If the store cannot be read.
pub fn newest_before(
    db: &Connection,
    stream: Stream,
    before: u64,
    received_ms: &RangeInclusive<i64>,
) -> rusqlite::Result<Option<Newest>> {
    let newest = newest_through(db, stream, before.saturating_sub(1))?;
    let is_outside = |newest: &Newest| !received_ms.contains(&newest.first_ms);
    let Some(outside) = newest.filter(is_outside) else { return Ok(newest) };
    // Many may have to be passed over: those that are listed are much smaller.
    let (first, last) = (*behind(stream, 0).start(), id(stream, outside.last_sequence));
    let find = |table: &str, after: i64| {
        let sql = format!(
            "SELECT id FROM {table} WHERE id > ?1 AND id <= ?2 AND first_ms BETWEEN ?3 AND ?4 ORDER BY id DESC LIMIT 1"
        );
        db.prepare_cached(&sql)?
            .query_row([after, last, *received_ms.start(), *received_ms.end()], |row| row.get::<_, i64>(0))
            .optional()
    };
    let found = find("batch", last_listed(db, stream)?)?;
    match found.map_or_else(|| find("held", first - 1), |found| Ok(Some(found)))? {
        Some(found) => newest_through(db, stream, sequence(found)),
        None => Ok(None),
    }
}

/// The newest batch: its end, position and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub last_sequence: u64,
    pub last_position: u64,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// The newest batch of a stream.
///
/// # Errors
///
/// If the store cannot be read.
pub fn newest(db: &Connection, stream: Stream) -> rusqlite::Result<Option<Newest>> {
    newest_through(db, stream, SEQUENCE_MAX)
}

fn newest_through(db: &Connection, stream: Stream, through: u64) -> rusqlite::Result<Option<Newest>> {
    let wanted = *behind(stream, 0).start()..=id(stream, through);
    let sql = "SELECT id, first_position + count - 1, first_ms, last_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| {
        let id = row.get(0)?;
        let newest = Newest {
            last_sequence: sequence(id),
            last_position: row.get::<_, i64>(1)?.max(0) as u64,
            first_ms: row.get(2)?,
            last_ms: row.get(3)?,
        };
        // SQLite looks at one end of the range only: in a damaged tree this may be a row of another stream.
        Ok(wanted.contains(&id).then_some(newest))
    };
    db.prepare_cached(sql)?.query_row([wanted.start(), wanted.end()], read).optional().map(Option::flatten)
}

/// The last sequence that was assigned in a stream, whether or not its record is still held.
///
/// # Errors
///
/// If the store cannot be read.
pub fn last_sequence(db: &Connection, stream: Stream) -> rusqlite::Result<u64> {
    StreamProgress::read(db, stream).map(|progress| progress.last_sequence)
}

/// The last sequence that was assigned in a stream, by its own row; `None` if there is none yet.
pub(super) fn assigned(db: &Connection, stream: Stream) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT value FROM progress WHERE stream = ?1 AND name = ''")?
        .query_row([stream.id()], |row| row.get::<_, i64>(0).map(|value| value.max(0).cast_unsigned()))
        .optional()
}

/// How far a stream is, whatever of it is still held. It is stored on the page of the cursors, which is written with each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamProgress {
    /// The last sequence that was assigned.
    pub last_sequence: u64,
    /// Up to here the store has removed what is missing: because all sinks have it, or for want of room.
    pub removed_through: u64,
    /// Up to here what is missing has been looked for in damaged stores, or still is: what is not found there is lost.
    pub examined_through: u64,
}

impl StreamProgress {
    /// Of a stream that has no row yet, as far as its batches tell.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn read(db: &Connection, stream: Stream) -> rusqlite::Result<StreamProgress> {
        let row = db
            .prepare_cached("SELECT value, expired, quarantined FROM progress WHERE stream = ?1 AND name = ''")?
            .query_row([stream.id()], |row| {
                let number = |column| row.get::<_, Option<i64>>(column).map(|n| n.map(|n| n.max(0).cast_unsigned()));
                Ok((number(0)?, number(1)?, number(2)?))
            })
            .optional()?;
        let (last, removed, examined) = row.unwrap_or_default();
        let newest = newest(db, stream)?.map_or(0, |newest| newest.last_sequence);
        let removed_through = match removed {
            Some(removed) => removed,
            None => first_behind(db, stream, 0)?.map_or(last.unwrap_or(0), |first| first.before_first()),
        };
        Ok(StreamProgress {
            last_sequence: newest.max(last.unwrap_or(0)),
            removed_through,
            examined_through: examined.unwrap_or(0),
        })
    }

    pub(super) fn write(&self, db: &Connection, stream: Stream) -> rusqlite::Result<()> {
        db.prepare_cached(
            "INSERT INTO progress(stream, name, value, expired, quarantined) VALUES (?1, '', ?2, ?3, ?4)
             ON CONFLICT(stream, name) DO UPDATE
             SET value = excluded.value, expired = excluded.expired, quarantined = excluded.quarantined",
        )?
        .execute(params![
            stream.id(),
            self.last_sequence.cast_signed(),
            self.removed_through.cast_signed(),
            self.examined_through.cast_signed()
        ])?;
        Ok(())
    }
}

/// How far the first damaged store has been read that may still have something of a stream; `None` if there is none.
pub(super) fn salvaged_through(db: &Connection, stream: Stream) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT min(seq) FROM salvage WHERE stream = (SELECT name FROM stream WHERE id = ?1) AND NOT done";
    let through: Option<i64> = db.prepare_cached(sql)?.query_row([stream.id()], |row| row.get(0))?;
    Ok(through.map(|through| through.max(0).cast_unsigned()))
}

/// Whether a batch is held that has one of these sequences.
pub(super) fn overlaps(db: &Connection, stream: Stream, first: u64, last: u64) -> rusqlite::Result<bool> {
    Ok(first_behind(db, stream, first - 1)?.is_some_and(|next| next.before_first() < last))
}

/// Adds one batch to `held` that comes in among older ones.
pub(super) fn list_one(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO held(id, run, count, first_ms) SELECT id, run, count, first_ms FROM batch WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Deletes up to `limit` of the oldest batches that end at or before `through`; returns how many.
pub(super) fn delete_oldest(db: &Connection, stream: Stream, through: u64, limit: usize) -> rusqlite::Result<usize> {
    let first = *behind(stream, 0).start();
    db.prepare_cached(
        "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
    )?
    .execute(params![first, id(stream, through), limit as i64])
}

/// The end of the longest run of the oldest batches, of at most `limit` that end at or before `through`, whose last receive times all are
/// `wanted`.
pub(super) fn prefix(
    db: &Connection,
    stream: Stream,
    through: u64,
    limit: usize,
    wanted: impl Fn(i64) -> bool,
) -> rusqlite::Result<Option<u64>> {
    let first = *behind(stream, 0).start();
    let mut select =
        db.prepare_cached("SELECT id, last_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?;
    let mut rows = select.query(params![first, id(stream, through), limit as i64])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if !wanted(row.get(1)?) {
            break;
        }
        last = Some(sequence(row.get(0)?));
    }
    Ok(last)
}

/// How many of the newest batches are not in `held`.
pub(super) fn unlisted(db: &Connection, stream: Stream) -> rusqlite::Result<usize> {
    let (last, end) = (last_listed(db, stream)?, *behind(stream, 0).end());
    db.query_row("SELECT count(*) FROM batch WHERE id > ?1 AND id <= ?2", [last, end], |row| row.get::<_, i64>(0))
        .map(|count| count.max(0) as usize)
}

/// Adds to `held` the batches that are not there yet.
pub(super) fn list(db: &Connection, stream: Stream) -> rusqlite::Result<()> {
    let (last, end) = (last_listed(db, stream)?, *behind(stream, 0).end());
    db.prepare_cached(
        "INSERT INTO held(id, run, count, first_ms) SELECT id, run, count, first_ms FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id",
    )?
    .execute([last, end])?;
    Ok(())
}

fn last_listed(db: &Connection, stream: Stream) -> rusqlite::Result<i64> {
    let wanted = behind(stream, 0);
    let last: Option<i64> = db
        .prepare_cached("SELECT id FROM held WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1")?
        .query_row([wanted.start(), wanted.end()], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(wanted.start() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{self, Synchronous};

    /// Records and batches held of each stream, and the earliest receive time.
    fn held(db: &Connection, after: u64) -> Vec<(u64, u64, Option<i64>)> {
        let of = |stream| {
            let Sum { records, batches, first_ms } = sum_behind(db, stream, after).expect("readable");
            let mut each = (0, 0);
            each_behind(db, stream, after, |batch| each = (each.0 + batch.count, each.1 + 1)).expect("readable");
            assert_eq!(each, (records, batches), "counted one by one");
            (records, batches, first_ms)
        };
        [Stream::RAW, Stream::ANOMALIES].map(of).into()
    }

    #[test]
    fn what_is_held_is_counted_listed_or_not_and_a_batch_that_is_gone_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
        for (stream, batches) in [(Stream::RAW, 70), (Stream::ANOMALIES, 3)] {
            for number in 1..=batches {
                db.execute(
                    "INSERT INTO batch(id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload)
                     VALUES (?1, 1, 1, 10, ?2, 0, 0, 1, 0, x'')",
                    [id(stream, 10 * number), number as i64],
                )
                .expect("a row");
                if stream == Stream::RAW && number == 64 {
                    list(&db, stream).expect("a working disk");
                }
            }
        }
        assert_eq!(held(&db, 0), [(700, 70, Some(1)), (30, 3, Some(1))]);
        assert_eq!(held(&db, 640), [(60, 6, Some(65)), (0, 0, None)]);
        assert_eq!((unlisted(&db, Stream::RAW), unlisted(&db, Stream::ANOMALIES)), (Ok(6), Ok(3)));
        for gone in [id(Stream::RAW, 300), id(Stream::RAW, 690)] {
            assert_eq!(db.execute("DELETE FROM batch WHERE id = ?1", [gone]), Ok(1));
        }
        assert_eq!(held(&db, 0)[0], (680, 68, Some(1)), "a listed one, and one that is not");
        assert_eq!(delete_oldest(&db, Stream::RAW, 100, 64), Ok(10));
        assert_eq!(held(&db, 0), [(580, 58, Some(11)), (30, 3, Some(1))]);
    }
}

//! How everybody reads the log: the records after a cursor one by one, and what of them is damaged or gone.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, ffi};

use super::header::BatchHeader;
use super::held::StreamProgress;
use super::reader::{LogRun, Reader, Runs};
use super::schema::{self, CODEC_LZ4};
use super::{held, streams, version_1};
use crate::core::batch::{Decoder, PAYLOAD_BYTES_MAX, Stored};
use crate::core::identity::{RunId, Stream};
use crate::core::record;

/// A stored batch.
#[derive(Debug, Default)]
pub struct HeldBatch {
    pub last_sequence: u64,
    pub run: Arc<LogRun>,
    pub first_position: u64,
    pub count: u32,
    /// Receive times of its first and its last record.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Decompressed.
    pub payload: Vec<u8>,
}

impl HeldBatch {
    /// `None` if the payload cannot be decompressed to what its row says.
    pub(super) fn decompress(run: Arc<LogRun>, header: &BatchHeader, compressed: &[u8]) -> Option<HeldBatch> {
        let mut block = Block::default();
        block.batch.last_sequence = held::sequence(header.id);
        block.take_header(run, header);
        block.decompress(header, compressed).then_some(block.batch)
    }

    pub fn first_sequence(&self) -> u64 {
        (self.last_sequence + 1).saturating_sub(u64::from(self.count)).max(1)
    }
}

/// What was read last: what is missing before the next batch, and that batch, intact or damaged. It is filled again and again, to reuse its
/// memory.
#[derive(Debug, Default)]
pub struct Block {
    /// Without a record if nothing comes after the gap.
    batch: HeldBatch,
    is_damaged: bool,
    gap: Option<Gap>,
}

/// Sequences that were given and are not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    /// Up to here the store itself has removed everything, and counted it.
    removed_through: u64,
    through: u64,
}

/// What is after a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is in the block.
    Block,
    /// Records are missing, and nobody has looked for them yet: the store is damaged. The block has what comes after them.
    Missing,
    /// Nothing yet: what comes next may still be taken over from a damaged store.
    Salvaging,
    /// Nothing.
    End,
}

/// What comes next in a stream.
#[derive(Debug)]
pub enum Entry<'a> {
    Record(Record<'a>),
    /// The `count` records that end with `through` cannot be read.
    Damaged {
        through: u64,
        count: u64,
    },
    /// The store holds nothing between the cursor and `through`, and never will. The last `lost` of these were lost to damage; the others the
    /// store has removed itself, and counted.
    Gap {
        through: u64,
        lost: u64,
    },
}

impl Entry<'_> {
    /// Where a cursor stands after it.
    pub fn through(&self) -> u64 {
        match self {
            Entry::Record(record) => record.sequence,
            Entry::Damaged { through, .. } | Entry::Gap { through, .. } => *through,
        }
    }
}

#[derive(Debug)]
pub struct Record<'a> {
    pub sequence: u64,
    pub run: RunId,
    /// The gateway that accepted it, as the inside of a JSON string.
    pub gateway: &'a str,
    pub position: u64,
    /// Of a line, that of the last record in its batch.
    pub received_ms: i64,
    pub stored: Stored<'a>,
}

impl Record<'_> {
    /// Appends its line.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.stored {
            Stored::Reading(reading) => record::write_reading(out, self.gateway, self.run, self.position, reading),
            Stored::Line { line, .. } => out.extend_from_slice(line),
        }
    }
}

impl Reader {
    /// Reads the first batch that holds something after `after`, and what is missing before it. Returns whether there is either.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the store. Neither a batch whose checksum is wrong nor a missing one is an error.
    pub fn read(&mut self, stream: Stream, after: u64, block: &mut Block) -> rusqlite::Result<bool> {
        Ok(matches!(self.next(stream, after, block)?, Next::Block | Next::Missing))
    }

    /// Does the same for whoever may not pass what nobody has looked for yet.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the store, and [`schema::is_corrupt`] if records are missing: what can be found of them is salvaged first.
    pub fn read_strictly(&mut self, stream: Stream, after: u64, block: &mut Block) -> rusqlite::Result<Next> {
        let next = self.next(stream, after, block);
        if !matches!(next, Ok(Next::Block)) {
            // Whoever reads on with this block must not pass what is not there yet.
            *block = Block::default();
        }
        match next? {
            Next::Missing => {
                let name = streams::name(self.connection(), stream)?;
                Err(schema::corrupt(format!("{name} records after {after} are missing")))
            }
            next => Ok(next),
        }
    }

    fn next(&mut self, stream: Stream, after: u64, block: &mut Block) -> rusqlite::Result<Next> {
        let (db, layout, runs) = self.parts();
        if !layout.of_1.is_empty() || !layout.has_batch {
            // Batches that are still in a table of version 1 come after the migrated ones.
            let table_of_1 = version_1::table(stream).filter(|_| layout.of_1.contains(&stream));
            let is_found = layout.has_batch && block.read_next(db, runs, stream, after)?
                || table_of_1.map_or(Ok(false), |table| block.read_next_of_1(db, runs, table, after))?;
            return Ok(if is_found { Next::Block } else { Next::End });
        }
        if block.read_next(db, runs, stream, after)? && block.batch.first_sequence() <= after + 1 {
            return Ok(Next::Block);
        }
        // What is missing is judged by one state of the store: it may be removed, or taken over, at this moment.
        let transaction = db.unchecked_transaction()?;
        let is_found = block.read_next(&transaction, runs, stream, after)?;
        let progress = StreamProgress::read(&transaction, stream)?;
        let through = if is_found { block.batch.first_sequence() - 1 } else { progress.last_sequence };
        if through <= after {
            return Ok(if is_found { Next::Block } else { Next::End });
        }
        if !is_found {
            block.begin(through, after)?;
            block.batch.count = 0;
        }
        block.gap = Some(Gap { removed_through: progress.removed_through.min(through), through });
        let is_being_salvaged = || held::salvaged_through(&transaction, stream);
        Ok(match through {
            through if through <= progress.removed_through => Next::Block,
            through if is_being_salvaged()?.is_some_and(|salvaged| salvaged < through) => Next::Salvaging,
            through if through <= progress.examined_through => Next::Block,
            _ => Next::Missing,
        })
    }

    /// What the store holds of a stream: the records after the first sequence, up to the second.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn extent(&mut self, stream: Stream) -> rusqlite::Result<(u64, u64)> {
        let (db, layout, _) = self.parts();
        let (mut before, mut last) = (None, 0);
        if layout.has_batch {
            before = held::first_behind(db, stream, 0)?.map(|first| first.before_first());
            last = held::last_sequence(db, stream)?;
        }
        if let Some(table) = version_1::table(stream).filter(|_| layout.of_1.contains(&stream)) {
            before = before.or(version_1::before_first(db, table)?);
            last = last.max(version_1::last_sequence(db, table)?);
        }
        Ok((before.unwrap_or(last), last))
    }
}

const NEXT: &str =
    "SELECT id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload FROM batch
  WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";

impl Block {
    fn read_next(&mut self, db: &Connection, runs: &mut Runs, stream: Stream, after: u64) -> rusqlite::Result<bool> {
        let ids = held::behind(stream, after);
        let mut select = db.prepare_cached(NEXT)?;
        let mut rows = select.query([ids.start(), ids.end()])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let id = row.get(0)?;
        self.begin(held::sequence(id), after)?;
        self.is_damaged = match self.read_row(id, row, db, runs) {
            Err(error) if schema::is_foreign(&error) => true,
            result => !result?,
        };
        if self.is_damaged {
            self.batch.count = count_of_damaged(db, stream, id)?.unwrap_or(self.batch.count);
        }
        Ok(true)
    }

    fn read_next_of_1(&mut self, db: &Connection, runs: &mut Runs, table: &str, after: u64) -> rusqlite::Result<bool> {
        let mut select = db.prepare_cached(&version_1::select_next(table))?;
        let mut rows = select.query([after as i64])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        self.begin(row.get::<_, i64>(0)? as u64, after)?;
        self.is_damaged = match self.read_row_of_1(row, runs) {
            Err(error) if schema::is_foreign(&error) => true,
            result => !result?,
        };
        Ok(true)
    }

    /// Clears the previous batch, but keeps its memory.
    fn begin(&mut self, last_sequence: u64, after: u64) -> rusqlite::Result<()> {
        if last_sequence <= after {
            // The b-tree itself is damaged, in a way that SQLite did not detect.
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None));
        }
        let payload = std::mem::take(&mut self.batch.payload);
        // Until the row gives a count: all records that are not known to be of another batch.
        self.batch = HeldBatch { last_sequence, count: u32::MAX, payload, ..HeldBatch::default() };
        self.gap = None;
        Ok(())
    }

    pub fn last_sequence(&self) -> u64 {
        self.batch.last_sequence
    }

    /// `None` if it is damaged.
    pub fn batch(&self) -> Option<&HeldBatch> {
        (!self.is_damaged).then_some(&self.batch)
    }

    pub fn into_batch(self) -> Option<HeldBatch> {
        (!self.is_damaged).then_some(self.batch)
    }

    /// The entries after a cursor, up to the end of the block.
    pub fn entries(&self, after: u64) -> Entries<'_> {
        let first = self.batch.first_sequence();
        let mut decoder = self.batch().and_then(|batch| Decoder::new(&batch.payload).ok());
        let passed = (after + 1).saturating_sub(first);
        if let (Some(decoder), Some(last_passed)) = (&mut decoder, passed.checked_sub(1)) {
            // Each record is encoded as a difference from the one before, so all of them have to be decoded.
            decoder.nth(usize::try_from(last_passed).unwrap_or(usize::MAX));
        }
        Entries { batch: &self.batch, gap: self.gap, decoder, through: after }
    }

    /// Returns whether the row is intact: its checksum matches all columns.
    fn read_row(&mut self, id: i64, row: &Row<'_>, db: &Connection, runs: &mut Runs) -> rusqlite::Result<bool> {
        let run = runs.find(db, row.get(1)?)?;
        let header = BatchHeader {
            id,
            run: run.as_ref().map_or(RunId::default(), |run| run.run),
            first_position: row.get::<_, i64>(2)? as u64,
            count: row.get(3)?,
            first_ms: row.get(4)?,
            last_ms: row.get(5)?,
            raw_len: row.get::<_, i64>(6)? as u64,
            codec: row.get(7)?,
        };
        if (1..=self.batch.last_sequence).contains(&u64::from(header.count)) {
            self.batch.count = header.count;
        }
        let payload = row.get_ref(9)?.as_blob().map_err(rusqlite::Error::from)?;
        let Some(run) = run else { return Ok(false) };
        if row.get::<_, i64>(8)? != i64::from(header.check(&run.gateway, payload)) {
            return Ok(false);
        }
        self.take_header(run, &header);
        Ok(self.decompress(&header, payload))
    }

    fn read_row_of_1(&mut self, row: &Row<'_>, runs: &mut Runs) -> rusqlite::Result<bool> {
        let found = version_1::Row::read(row)?;
        let count = u64::from(found.header.count);
        if !(1..=self.batch.last_sequence).contains(&count) {
            return Ok(false);
        }
        self.batch.count = found.header.count;
        self.take_header(runs.of_version_1(found.header.run), &found.header);
        Ok(found.is_intact() && self.decompress(&found.header, found.payload))
    }

    fn take_header(&mut self, run: Arc<LogRun>, header: &BatchHeader) {
        let BatchHeader { first_position, count, first_ms, last_ms, .. } = *header;
        let payload = std::mem::take(&mut self.batch.payload);
        let last_sequence = self.batch.last_sequence;
        self.batch = HeldBatch { last_sequence, run, first_position, count, first_ms, last_ms, payload };
    }

    fn decompress(&mut self, header: &BatchHeader, compressed: &[u8]) -> bool {
        let length = usize::try_from(header.raw_len).unwrap_or(usize::MAX);
        if header.codec != CODEC_LZ4 || length > PAYLOAD_BYTES_MAX {
            return false;
        }
        self.batch.payload.resize(length, 0);
        lz4_flex::block::decompress_into(compressed, &mut self.batch.payload).is_ok_and(|found| found == length)
    }
}

/// How many records a damaged batch held, according to `held` or the batch before it: its own count may be what is damaged.
fn count_of_damaged(db: &Connection, stream: Stream, id: i64) -> rusqlite::Result<Option<u32>> {
    let listed: Option<i64> =
        db.prepare_cached("SELECT count FROM held WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()?;
    if let Some(listed) = listed.and_then(|count| u32::try_from(count).ok()) {
        return Ok(Some(listed));
    }
    let before: Option<i64> = db
        .prepare_cached("SELECT id FROM batch WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1")?
        .query_row([*held::behind(stream, 0).start(), id], |row| row.get(0))
        .optional()?;
    Ok(before.and_then(|before| u32::try_from(held::sequence(id) - held::sequence(before)).ok()))
}

/// The entries of a block, in order.
pub struct Entries<'a> {
    batch: &'a HeldBatch,
    gap: Option<Gap>,
    /// `None` if the block is damaged.
    decoder: Option<Decoder<'a>>,
    through: u64,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (first, last) = (self.batch.first_sequence(), self.batch.last_sequence);
        if self.through >= last {
            return None;
        }
        if self.through + 1 < first {
            // In a store of version 1 nobody knows why.
            let removed_through = self.gap.map_or(first - 1, |gap| gap.removed_through).max(self.through);
            self.through = first - 1;
            return Some(Entry::Gap { through: self.through, lost: self.through.saturating_sub(removed_through) });
        }
        let Some(Ok(stored)) = self.decoder.as_mut().and_then(Iterator::next) else {
            // Also if a batch holds fewer records than its row says.
            let count = last - self.through;
            self.through = last;
            return Some(Entry::Damaged { through: last, count });
        };
        self.through += 1;
        let received_ms = match &stored {
            Stored::Reading(reading) => reading.received_at_ms,
            Stored::Line { .. } => self.batch.last_ms,
        };
        Some(Entry::Record(Record {
            sequence: self.through,
            run: self.batch.run.run,
            gateway: &self.batch.run.gateway_json,
            position: self.batch.first_position.wrapping_add(self.through - first),
            received_ms,
            stored,
        }))
    }
}

#[cfg(test)]
mod tests;

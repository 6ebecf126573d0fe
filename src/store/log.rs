//! The log as all who read it see it: what comes after a cursor, record by record, and what of that is damaged or gone.

use rusqlite::ffi;

use super::reader::Reader;
use super::schema::CODEC_LZ4;
use crate::core::batch::{Decoder, PAYLOAD_BYTES_MAX, Stored};
use crate::core::identity::{RunId, Stream};
use crate::core::record;

/// A stored batch.
#[derive(Debug, Default)]
pub struct HeldBatch {
    pub last_sequence: u64,
    pub run: RunId,
    pub first_position: u64,
    pub count: u32,
    /// Receive times of its first and its last record.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Decompressed.
    pub payload: Vec<u8>,
}

impl HeldBatch {
    pub fn first_sequence(&self) -> u64 {
        (self.last_sequence + 1).saturating_sub(u64::from(self.count)).max(1)
    }
}

/// What was read last: a batch, or where one was that is damaged. It is read into again and again, to reuse its memory.
#[derive(Debug, Default)]
pub struct Block {
    batch: HeldBatch,
    is_damaged: bool,
    compressed: Vec<u8>,
}

/// What comes next in a stream.
#[derive(Debug)]
pub enum Entry<'a> {
    Record(Record<'a>),
    /// Of the records up to `through`, the next `count` cannot be read.
    Damaged {
        through: u64,
        count: u64,
    },
    /// The store holds nothing between the cursor and `through`, and never will.
    Gap {
        through: u64,
    },
}

impl Entry<'_> {
    /// Where a cursor stands that has passed it.
    pub fn through(&self) -> u64 {
        match self {
            Entry::Record(record) => record.sequence,
            Entry::Damaged { through, .. } | Entry::Gap { through } => *through,
        }
    }
}

#[derive(Debug)]
pub struct Record<'a> {
    pub sequence: u64,
    pub run: RunId,
    pub position: u64,
    /// Finished lines take their batch's.
    pub received_ms: i64,
    pub stored: Stored<'a>,
}

impl Record<'_> {
    /// Appends its line; `gateway` is the inside of a JSON string.
    pub fn write(&self, gateway: &str, out: &mut Vec<u8>) {
        match &self.stored {
            Stored::Reading(reading) => record::write_reading(out, gateway, self.run, self.position, reading),
            Stored::Line { line, .. } => out.extend_from_slice(line),
        }
    }
}

impl Reader {
    /// Reads the first batch that holds something after `after`; whether there is one.
    pub fn read(&mut self, stream: Stream, after: u64, block: &mut Block) -> rusqlite::Result<bool> {
        let sql = match stream {
            Stream::Raw => NEXT_RAW,
            Stream::Anomalies => NEXT_ANOMALIES,
        };
        let mut select = self.connection().prepare_cached(sql)?;
        let mut rows = select.query([after as i64])?;
        let Some(row) = rows.next()? else {
            return Ok(false);
        };
        let payload = std::mem::take(&mut block.batch.payload);
        // Until the row says how much it held: all that is not known to be of another batch.
        block.batch = HeldBatch { count: u32::MAX, payload, ..HeldBatch::default() };
        block.batch.last_sequence = row.get::<_, i64>(0)? as u64;
        if block.batch.last_sequence <= after {
            // The tree itself is damaged, in a way that SQLite did not see.
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None));
        }
        block.is_damaged = match block.read_row(row) {
            Err(error) if is_foreign(&error) => true,
            result => !result?,
        };
        Ok(true)
    }
}

impl Block {
    pub fn last_sequence(&self) -> u64 {
        self.batch.last_sequence
    }

    /// `None` where it is damaged.
    pub fn batch(&self) -> Option<&HeldBatch> {
        (!self.is_damaged).then_some(&self.batch)
    }

    pub fn into_batch(self) -> Option<HeldBatch> {
        (!self.is_damaged).then_some(self.batch)
    }

    /// What comes after a cursor, up to the end of the block.
    pub fn entries(&self, after: u64) -> Entries<'_> {
        let first = self.batch.first_sequence();
        let mut decoder = self.batch().and_then(|batch| Decoder::new(&batch.payload).ok());
        let passed = (after + 1).saturating_sub(first);
        if let (Some(decoder), Some(last_passed)) = (&mut decoder, passed.checked_sub(1)) {
            // Each record is told by its difference from the one before: they are all looked at.
            decoder.nth(usize::try_from(last_passed).unwrap_or(usize::MAX));
        }
        Entries { batch: &self.batch, decoder, through: after }
    }

    /// Whether the row is intact.
    fn read_row(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<bool> {
        let Block { batch, compressed, .. } = self;
        let count = row.get(3)?;
        if !(1..=batch.last_sequence).contains(&u64::from(count)) {
            return Ok(false);
        }
        batch.count = count;
        batch.run = RunId(row.get(1)?);
        batch.first_position = row.get::<_, i64>(2)? as u64;
        batch.last_ms = row.get(8)?;
        batch.first_ms = row.get(9)?;
        compressed.clear();
        compressed.extend_from_slice(row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?);
        let (raw_len, codec, crc) = (row.get::<_, i64>(4)? as usize, row.get::<_, i64>(5)?, row.get::<_, i64>(6)?);
        if codec != CODEC_LZ4 || raw_len > PAYLOAD_BYTES_MAX || crc != i64::from(crc32fast::hash(compressed)) {
            return Ok(false);
        }
        batch.payload.resize(raw_len, 0);
        Ok(lz4_flex::block::decompress_into(compressed, &mut batch.payload).is_ok_and(|len| len == raw_len))
    }
}

/// The entries of a block, in order.
pub struct Entries<'a> {
    batch: &'a HeldBatch,
    /// `None` where the block is damaged.
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
            self.through = first - 1;
            return Some(Entry::Gap { through: self.through });
        }
        let Some(Ok(stored)) = self.decoder.as_mut().and_then(Iterator::next) else {
            // Also where a batch holds fewer records than its row says.
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
            run: self.batch.run,
            position: self.batch.first_position.wrapping_add(self.through - first),
            received_ms,
            stored,
        }))
    }
}

const NEXT_RAW: &str = "SELECT seq, run, first_position, count, raw_len, codec, crc, payload, last_ms, first_ms FROM raw WHERE seq > ?1 ORDER BY seq LIMIT 1";
const NEXT_ANOMALIES: &str = "SELECT seq, run, first_position, count, raw_len, codec, crc, payload, last_ms, first_ms FROM anomalies WHERE seq > ?1 ORDER BY seq LIMIT 1";

/// A value of another type or size than the writer's: the page is damaged in a way that SQLite cannot see.
fn is_foreign(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

#[cfg(test)]
mod tests;

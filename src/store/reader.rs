//! Reading what is committed, in short transactions, batch by batch.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{self, CODEC_LZ4, OpenError};
use crate::core::batch::PAYLOAD_BYTES_MAX;
use crate::core::identity::{RunId, Stream};

/// A stored batch, checked and decompressed.
#[derive(Debug, Default)]
pub struct HeldBatch {
    pub last_sequence: u64,
    pub run: Option<RunId>,
    pub first_position: u64,
    pub count: u32,
    /// Receive times of its first and its last record.
    pub first_ms: i64,
    pub last_ms: i64,
    pub payload: Vec<u8>,
}

impl HeldBatch {
    pub fn first_sequence(&self) -> u64 {
        self.last_sequence + 1 - u64::from(self.count)
    }
}

#[derive(Debug)]
pub enum ReadError {
    Sqlite(rusqlite::Error),
    /// The row's checksum does not match its payload, it cannot be decompressed, or the row is none of ours. The batch is skipped
    /// and counted; `count` is `u32::MAX` where the row does not say how much it held.
    Damaged {
        last_sequence: u64,
        count: u32,
    },
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Sqlite(error) => write!(f, "cannot read the store: {error}"),
            ReadError::Damaged { last_sequence, count } => {
                write!(f, "the stored batch that ends at {last_sequence} is damaged ({count} records)")
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// A reading connection, and to which file: when a damaged store has been set aside, it turns to the new one by itself.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
    vfs: Option<String>,
    file: FileId,
    compressed: Vec<u8>,
}

/// A file, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(u64);

impl FileId {
    pub fn of(path: &Path) -> Option<FileId> {
        std::fs::metadata(path).ok().map(|found| FileId(found.ino()))
    }
}

impl Reader {
    pub fn open(path: &Path, vfs: Option<&str>) -> Result<Reader, OpenError> {
        let file = FileId::of(path).unwrap_or(FileId(0));
        let db = schema::open_reader(path, vfs)?;
        Ok(Reader { db, path: path.to_owned(), vfs: vfs.map(str::to_owned), file, compressed: Vec::new() })
    }

    pub fn connection(&mut self) -> &Connection {
        self.follow();
        &self.db
    }

    /// The file that was read last.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Opens the file that has the name now, if it is another one, and is ready: it names the one before it as damaged.
    fn follow(&mut self) {
        if FileId::of(&self.path).is_none_or(|file| file == self.file) {
            return;
        }
        if let Ok(reader) = Reader::open(&self.path, self.vfs.as_deref())
            && reader.db.query_row("SELECT 1 FROM salvage LIMIT 1", [], |_| Ok(())).is_ok()
        {
            *self = reader;
        }
    }

    /// The first batch that holds something after `after`, into `batch`; whether there is one.
    pub fn next(&mut self, stream: Stream, after: u64, batch: &mut HeldBatch) -> Result<bool, ReadError> {
        let sql = match stream {
            Stream::Raw => NEXT_RAW,
            Stream::Anomalies => NEXT_ANOMALIES,
        };
        self.follow();
        let mut select = self.db.prepare_cached(sql).map_err(ReadError::Sqlite)?;
        let mut rows = select.query([after as i64]).map_err(ReadError::Sqlite)?;
        let Some(row) = rows.next().map_err(ReadError::Sqlite)? else {
            return Ok(false);
        };
        let (raw_len, codec, crc) = match read_row(row, batch, &mut self.compressed) {
            Err(error) if is_none_of_ours(&error) => {
                return Err(ReadError::Damaged { last_sequence: batch.last_sequence, count: u32::MAX });
            }
            result => result.map_err(ReadError::Sqlite)?,
        };
        let damaged = ReadError::Damaged { last_sequence: batch.last_sequence, count: batch.count };
        if codec != CODEC_LZ4 || raw_len > PAYLOAD_BYTES_MAX || crc != i64::from(crc32fast::hash(&self.compressed)) {
            return Err(damaged);
        }
        batch.payload.resize(raw_len, 0);
        match lz4_flex::block::decompress_into(&self.compressed, &mut batch.payload) {
            Ok(len) if len == raw_len => Ok(true),
            _ => Err(damaged),
        }
    }
}

const NEXT_RAW: &str = "SELECT seq, run, first_position, count, raw_len, codec, crc, payload, last_ms, first_ms FROM raw WHERE seq > ?1 ORDER BY seq LIMIT 1";
const NEXT_ANOMALIES: &str = "SELECT seq, run, first_position, count, raw_len, codec, crc, payload, last_ms, first_ms FROM anomalies WHERE seq > ?1 ORDER BY seq LIMIT 1";

fn read_row(
    row: &rusqlite::Row<'_>,
    batch: &mut HeldBatch,
    compressed: &mut Vec<u8>,
) -> rusqlite::Result<(usize, i64, i64)> {
    let last_sequence: i64 = row.get(0)?;
    batch.last_sequence = last_sequence as u64;
    batch.run = Some(RunId(row.get(1)?));
    batch.first_position = row.get::<_, i64>(2)? as u64;
    batch.count = row.get(3)?;
    if !(1..=last_sequence).contains(&i64::from(batch.count)) {
        return Err(rusqlite::Error::IntegralValueOutOfRange(3, i64::from(batch.count)));
    }
    batch.last_ms = row.get(8)?;
    batch.first_ms = row.get(9)?;
    compressed.clear();
    let payload = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
    compressed.extend_from_slice(payload);
    Ok((row.get::<_, i64>(4)? as usize, row.get(5)?, row.get(6)?))
}

/// A value of another type or size than the writer's: the page is damaged in a way that SQLite cannot see.
fn is_none_of_ours(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

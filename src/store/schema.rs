//! The database file: its tables, how it is opened, and which files are accepted.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::core::identity::{StreamRow, Streams};

/// "outr" in ASCII.
const APPLICATION_ID: i32 = 0x6f75_7472;
/// Incremented with every change of the tables. A store of a later version is refused, because we could misread it.
pub(super) const SCHEMA_VERSION: i32 = 2;
/// SQLite up to 3.51.2 can lose acknowledged commits when the WAL is reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
pub const PAGE_BYTES: u64 = 4096;
/// The `codec` of a payload compressed with LZ4.
pub const CODEC_LZ4: i64 = 1;

/// Later versions may add to these tables, but not change them.
///
/// A commit wears the flash by the number of pages that it changes. Usually these are two: the last leaf of `batch`, and the only page of
/// `progress`.
pub(super) const TABLES: &str = r#"
CREATE TABLE stream(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, keep TEXT NOT NULL, watched INTEGER NOT NULL);
CREATE TABLE run(id INTEGER PRIMARY KEY, run BLOB NOT NULL, gateway TEXT NOT NULL, started_ms INTEGER NOT NULL);
CREATE TABLE batch(id INTEGER PRIMARY KEY, stream INTEGER AS (32767 - (id >> 48)), seq INTEGER AS (id & 281474976710655),
  run INTEGER NOT NULL, first_position INTEGER NOT NULL, count INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  raw_len INTEGER NOT NULL, codec INTEGER NOT NULL, "check" INTEGER NOT NULL, payload BLOB NOT NULL);
-- Lets the ledger count batches without reading payloads; it lags behind `batch` by some rows.
CREATE TABLE held(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, count INTEGER NOT NULL, first_ms INTEGER NOT NULL);
CREATE TRIGGER batch_deleted AFTER DELETE ON batch BEGIN DELETE FROM held WHERE id = old.id; END;
-- One page for all that each commit changes. Stream 0: totals. Others: the last sequence (empty name) and the sinks' cursors.
CREATE TABLE progress(stream INTEGER NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, acknowledged BLOB, accepted INTEGER,
  delivered INTEGER, expired INTEGER, dead_lettered INTEGER, quarantined INTEGER, missing INTEGER, passed_over INTEGER, set_aside INTEGER,
  PRIMARY KEY(stream, name)) WITHOUT ROWID;
CREATE VIEW total AS SELECT name, value FROM progress WHERE stream = 0;
CREATE VIEW cursor AS SELECT p.name AS sink, s.name AS stream, value AS seq, acknowledged, accepted, delivered, expired, dead_lettered,
  quarantined, missing, passed_over FROM progress p JOIN stream s ON s.id = p.stream WHERE p.name <> '';
-- Damaged stores that were set aside, and how far each of their streams has been read.
CREATE TABLE salvage(folder TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(folder, stream)) WITHOUT ROWID;
CREATE TABLE snapshot(chunk INTEGER PRIMARY KEY, seq INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE alert(device TEXT NOT NULL, metric TEXT NOT NULL, kind TEXT NOT NULL,
  body BLOB NOT NULL, state TEXT AS (json_extract(CAST(body AS TEXT), '$.state')), PRIMARY KEY(device, metric, kind)) WITHOUT ROWID;
CREATE TABLE rejected_sample(id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, reason TEXT NOT NULL, topic TEXT NOT NULL, sample BLOB NOT NULL);
CREATE TABLE dead_letter(id INTEGER PRIMARY KEY, sink TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, line BLOB NOT NULL);
"#;

/// A table that was added to version 2, and is created when a store is opened that has none. It comes after the others, so that those are
/// where they always were.
pub(super) const HELD_KEY: &str = "
CREATE TABLE IF NOT EXISTS held_key(sink TEXT NOT NULL, stream INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,
  acknowledged BLOB NOT NULL, pending INTEGER NOT NULL, PRIMARY KEY(sink, stream, key)) WITHOUT ROWID;
";
/// Another one: values under keys, see [`super::entries`].
pub(super) const ENTRY: &str = "
CREATE TABLE IF NOT EXISTS entry(key BLOB PRIMARY KEY, value BLOB NOT NULL, \"check\" INTEGER NOT NULL) WITHOUT ROWID;
";
/// A column that was added with `held_key`: what is pending of all keys of a cursor. So damage to one of the two tables is noticed.
pub(super) const SET_ASIDE: &str = "ALTER TABLE progress ADD COLUMN set_aside INTEGER;";

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("SQLite {found} can lose acknowledged commits; 3.51.3 or later is needed")]
    OldSqlite { found: &'static str },
    #[error("cannot use the state folder {}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot open the store {}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{} is an SQLite file of another program", path.display())]
    NotAStore { path: PathBuf },
    #[error(
        "the store {} has version {found}, this program knows up to {SCHEMA_VERSION}: run the newer program, or choose another folder",
        path.display()
    )]
    Newer { path: PathBuf, found: i32 },
    #[error("the store {} has had more streams than there are numbers for them; begin a new one", path.display())]
    TooManyStreams { path: PathBuf },
    /// Not even the index of the log would find its blocks.
    #[error("cannot open the store {}: the disk has no free space", path.display())]
    NoSpace { path: PathBuf },
}

impl OpenError {
    /// Whether the file is, as far as can be told, a damaged store of ours.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, OpenError::Sqlite { source, .. } if is_corrupt(source))
    }

    /// Whether the disk answers with an error where something is to be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, OpenError::Sqlite { source, .. } if is_unreadable(source))
    }

    /// The disk is full, or answers with errors: later it may work.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            OpenError::NoSpace { .. } => true,
            OpenError::Sqlite { source, .. } => is_of_the_disk(source),
            OpenError::Folder { source, .. } => {
                source.kind() == std::io::ErrorKind::StorageFull || source.raw_os_error() == Some(libc::EIO)
            }
            _ => false,
        }
    }
}

/// The pragma `synchronous` of the writing connection. Anything but `Full` exists only for the control runs of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    Full,
    Off,
}

/// Opens for writing, and creates the tables if the file is new. Automatic checkpoints are off: the writer makes them after it has
/// acknowledged.
///
/// # Errors
///
/// If SQLite is too old, or the file cannot be opened, or it is not a store that this program can read.
pub fn open_writer(path: &Path, synchronous: Synchronous, vfs: Option<&str>) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::OldSqlite { found: rusqlite::version() });
    }
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, vfs).map_err(failed)?;
    let is_new = examine(&db, path)? == FileState::New;
    let synchronous = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    db.execute_batch(&format!(
        "PRAGMA page_size={PAGE_BYTES}; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint=0;
         PRAGMA cache_size=-1024; PRAGMA temp_store=MEMORY;"
    ))
    .map_err(failed)?;
    if is_new {
        make_tables(&db, &[TABLES, HELD_KEY, ENTRY, &insert_built_in_streams()].concat(), SCHEMA_VERSION)
            .map_err(failed)?;
    }
    Ok(db)
}

pub(super) fn make_tables(db: &Connection, tables: &str, version: i32) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; {tables} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={version}; COMMIT;"
    ))
}

/// SQL that inserts the streams that every store has.
pub(super) fn insert_built_in_streams() -> String {
    let insert = |StreamRow { stream, name, keep, is_watched }: &StreamRow| {
        format!("INSERT INTO stream VALUES ({}, '{name}', '{}', {is_watched});", stream.id(), keep.name())
    };
    Streams::default().rows().iter().map(insert).collect()
}

/// State of a file that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Without any table.
    New,
    /// Of an earlier version, or partly migrated: the next start migrates it.
    Earlier,
    Present,
}

/// Finds out the state of a file.
///
/// # Errors
///
/// If the file is of another program or of a later version, or cannot be read.
pub fn examine(db: &Connection, path: &Path) -> Result<FileState, OpenError> {
    let number = |sql: &str| {
        let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
        db.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(failed)
    };
    let application_id = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let is_new = application_id == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
    if !is_new && application_id != APPLICATION_ID {
        return Err(OpenError::NotAStore { path: path.to_owned() });
    }
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version });
    }
    let tables_of_1 = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('raw', 'anomalies')";
    Ok(match is_new {
        true => FileState::New,
        false if version < SCHEMA_VERSION || number(tables_of_1)? > 0 => FileState::Earlier,
        false => FileState::Present,
    })
}

/// Opens for reading. A reader keeps its transactions short: a long one keeps the WAL from being reset.
///
/// # Errors
///
/// If the file cannot be opened.
pub fn open_reader(path: &Path, vfs: Option<&str>) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, vfs).map_err(failed)?;
    db.execute_batch("PRAGMA cache_size=-256; PRAGMA query_only=ON;").map_err(failed)?;
    Ok(db)
}

/// Characters that are escaped in the path of a URI.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `psow=0`: a power cut during a write may damage the whole block, not only the bytes written.
fn open(path: &Path, flags: OpenFlags, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = format!("file:{}?psow=0", percent_encode(path.as_os_str().as_encoded_bytes(), IN_PATHS));
    let db = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(uri, flags, vfs)?,
        None => Connection::open_with_flags(uri, flags)?,
    };
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(64);
    // Otherwise SQLite looks at the values of parameters while it plans, and prepares such a statement again for each other value.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

/// Whether `max_page_count` was reached, or the disk is full.
pub fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// Writes the version that the file has already, which shows whether the disk accepts a write.
///
/// # Errors
///
/// If it does not.
pub fn write_version(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// Moves the whole log into the file, so that the next commit begins a new round of it.
///
/// # Errors
///
/// If the file cannot be written, or a reader stays within the log.
pub fn restart_log(db: &Connection) -> rusqlite::Result<()> {
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
    match busy {
        0 => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
    }
}

/// Whether another connection was in the way.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// Whether the disk is full, or answers with errors.
pub fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error().map(|e| e.extended_code & 0xff), Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR))
}

/// Whether the disk answers with an error where something is to be read.
pub fn is_unreadable(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_CORRUPTFS))
}

/// Whether the file's structure is damaged, or it is no database at all.
pub fn is_corrupt(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    // A page that cannot be read, because the file is too short or the disk has lost a sector, is as good as none.
    let is_unreadable = matches!(code, Some(ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_READ));
    // Nothing as large as SQLite refuses is ever stored: a damaged length says so.
    let of_damage = [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_TOOBIG];
    let is_malformed = code.is_some_and(|code| of_damage.contains(&(code & 0xff)));
    is_malformed || is_unreadable || is_foreign(error)
}

/// Whether a value has a type or size that the writer never stores: the page is damaged in a way that SQLite cannot detect.
pub(super) fn is_foreign(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// Path of the store within the state folder.
/// Damage that SQLite itself does not see.
pub(super) fn corrupt(text: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(text))
}

pub fn store_path(folder: &Path) -> PathBuf {
    folder.join("outrider.sqlite")
}

/// Whether there is anything in the store's file. SQLite deletes the log of an empty one, which may have all that is left.
pub(super) fn has_pages(store: &Path) -> bool {
    std::fs::metadata(store).is_ok_and(|found| found.len() >= PAGE_BYTES)
}

/// The log beside the store's file.
pub(super) fn log_of(store: &Path) -> PathBuf {
    with_suffix(store, "-wal")
}

/// A file beside the store's.
pub(super) fn with_suffix(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_and_a_foreign_file_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a b?.sqlite");
        let db = open_writer(&path, Synchronous::Full, None).expect("a new store");
        let mode: i64 = db.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("a pragma");
        assert_eq!(mode, 2, "FULL");
        db.execute_batch("PRAGMA user_version=99").expect("a pragma");
        drop(db);
        assert!(matches!(open_writer(&path, Synchronous::Full, None), Err(OpenError::Newer { found: 99, .. })));

        let foreign = folder.path().join("foreign.sqlite");
        Connection::open(&foreign).expect("a file").execute_batch("CREATE TABLE t(x)").expect("a table");
        assert!(matches!(open_writer(&foreign, Synchronous::Full, None), Err(OpenError::NotAStore { .. })));

        let noise = folder.path().join("noise.sqlite");
        std::fs::write(&noise, [7u8; 9000]).expect("a file");
        assert!(
            matches!(open_writer(&noise, Synchronous::Full, None), Err(OpenError::Sqlite { source, .. }) if is_corrupt(&source))
        );
    }
}

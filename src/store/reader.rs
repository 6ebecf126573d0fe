//! A connection that reads committed data, in short transactions. `log` reads the batches through it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::runs;
use super::schema::{self, OpenError};
use crate::core::identity::{RunId, Stream};
use crate::core::json;

/// A read-only connection. When a damaged store has been set aside, it switches to the new one by itself.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
    vfs: Option<String>,
    file: FileId,
    layout: Layout,
    runs: Runs,
}

/// Which batch tables a store has: both kinds while it is being migrated.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub has_batch: bool,
    /// Streams that still have their table of version 1.
    pub of_1: Vec<Stream>,
}

impl Layout {
    fn of(db: &Connection) -> rusqlite::Result<Layout> {
        let mut select = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
        let mut layout = Layout { has_batch: select.exists(["batch"])?, of_1: Vec::new() };
        for (stream, name) in Stream::BUILT_IN {
            if select.exists([name])? {
                layout.of_1.push(stream);
            }
        }
        Ok(layout)
    }
}

/// The run of a batch, as its records name it.
#[derive(Debug, Default)]
pub struct LogRun {
    pub run: RunId,
    /// Empty in a store of version 1, which does not record it.
    pub gateway: String,
    /// The same, escaped for a JSON string.
    pub gateway_json: String,
    pub started_ms: i64,
}

/// Cache of runs, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Runs {
    known: HashMap<i64, Arc<LogRun>>,
    last_of_1: Arc<LogRun>,
}

const RUNS_KNOWN_MAX: usize = 256;

impl Runs {
    pub fn find(&mut self, db: &Connection, number: i64) -> rusqlite::Result<Option<Arc<LogRun>>> {
        if let Some(known) = self.known.get(&number) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(runs::Run { run, gateway, started_ms }) = runs::find(db, number)? else { return Ok(None) };
        let found = Arc::new(LogRun { run, gateway_json: json::escape(&gateway), gateway, started_ms });
        if self.known.len() >= RUNS_KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(number, Arc::clone(&found));
        Ok(Some(found))
    }

    pub fn of_version_1(&mut self, run: RunId) -> Arc<LogRun> {
        if self.last_of_1.run != run {
            self.last_of_1 = Arc::new(LogRun { run, ..LogRun::default() });
        }
        Arc::clone(&self.last_of_1)
    }
}

/// Identifies a file, even after it was renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(u64);

impl FileId {
    pub fn of(path: &Path) -> Option<FileId> {
        std::fs::metadata(path).ok().map(|found| FileId(found.ino()))
    }
}

impl Reader {
    /// Whether batches of a stream are still in a table as version 1 made it.
    pub(super) fn has_table_of_1(&self, stream: Stream) -> bool {
        self.layout.of_1.contains(&stream)
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub fn open(path: &Path, vfs: Option<&str>) -> Result<Reader, OpenError> {
        let file = FileId::of(path).unwrap_or(FileId(0));
        let db = schema::open_reader(path, vfs)?;
        // If the tables cannot be read, reading batches reports that.
        let layout = Layout::of(&db).unwrap_or(Layout { has_batch: true, of_1: Vec::new() });
        let (path, vfs) = (path.to_owned(), vfs.map(str::to_owned));
        Ok(Reader { db, path, vfs, file, layout, runs: Runs::default() })
    }

    pub fn connection(&mut self) -> &Connection {
        self.follow();
        &self.db
    }

    pub(super) fn parts(&mut self) -> (&Connection, &Layout, &mut Runs) {
        self.follow();
        (&self.db, &self.layout, &mut self.runs)
    }

    /// The file that was read last.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Switches to the file that has the name now, if it is another one and is ready, which its rows in `salvage` show.
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
}

//! A connection that reads what is committed, in short transactions. The log itself is read as `log` has it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{self, OpenError};

/// A reading connection, and to which file: when a damaged store has been set aside, it turns to the new one by itself.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
    vfs: Option<String>,
    file: FileId,
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
        Ok(Reader { db, path: path.to_owned(), vfs: vfs.map(str::to_owned), file })
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
}

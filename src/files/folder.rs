//! The real file system: a folder, and the names in it that match.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use crate::core::files::{Fault, FileId, FileSystem, Seen, Stat};
use crate::core::pattern::is_like;

/// The files of one folder whose names are like a pattern. Whatever has been compressed is left alone: it is no lines.
#[derive(Debug)]
pub(super) struct Folder {
    pub folder: PathBuf,
    pub names: String,
}

const COMPRESSED: [&str; 5] = [".gz", ".zst", ".bz2", ".xz", ".zip"];

impl FileSystem for Folder {
    type Handle = File;

    fn list(&mut self) -> Result<Vec<Seen>, Fault> {
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_like(&name, &self.names) || COMPRESSED.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let path = self.folder.join(&name);
            // It may be gone by now; and a pipe would never end.
            let Some(found) = std::fs::metadata(&path).ok().filter(Metadata::is_file) else { continue };
            let Some(path) = path.to_str() else { continue };
            seen.push(Seen { path: path.to_owned(), stat: stat(&found) });
        }
        Ok(seen)
    }

    fn open(&mut self, path: &str) -> Result<File, Fault> {
        File::open(path).map_err(fault)
    }

    fn stat(&mut self, handle: &File) -> Result<Stat, Fault> {
        handle.metadata().map(|found| stat(&found)).map_err(fault)
    }

    fn read_at(&mut self, handle: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut read = 0;
        while read < buffer.len() {
            match handle.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(read)
    }
}

fn fault(error: std::io::Error) -> Fault {
    Fault(error.to_string())
}

fn stat(found: &Metadata) -> Stat {
    let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.and_then(|born| i64::try_from(born.as_nanos()).ok());
    Stat {
        file: FileId { device: found.dev(), inode: found.ino(), born_ns },
        size: found.size(),
        modified_ns: found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()),
        is_linked: found.nlink() > 0,
    }
}

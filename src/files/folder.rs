//! The real file system: a folder, and the names in it that match.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::packed::{Contents, PackedFiles};
use super::pread::read_at;
use crate::core::files::{Fault, FileId, FileSystem, Place, Seen, Stat};
use crate::core::pattern::is_like;
use crate::heartbeat::Beat;

/// What is compressed in another way is left alone: it is no lines.
const UNREADABLE: [&str; 6] = [".zst", ".bz2", ".xz", ".zip", ".tgz", ".tar.gz"];

/// The files of one folder whose names are like a pattern.
#[derive(Debug)]
pub(super) struct Folder {
    pub folder: PathBuf,
    names: String,
    /// While a disk or a network does not answer, this thread is not to blame.
    beat: Beat,
    packed: PackedFiles,
}

/// An open file.
#[derive(Debug)]
pub(super) enum Opened {
    Plain(File),
    Packed(File, Contents),
}

impl Folder {
    /// With what is known of compressed files. `skips_packed`: those that are there at the first look are not unpacked.
    pub fn new<'a>(
        folder: PathBuf,
        names: String,
        beat: Beat,
        places: impl Iterator<Item = &'a Place>,
        skips_packed: bool,
    ) -> Folder {
        Folder { folder, names, beat, packed: PackedFiles::new(places, skips_packed) }
    }

    /// Finds out what is in compressed files that are new, up to so many bytes of it. Returns whether there is more to be found out.
    pub fn unpack(&mut self, bytes_max: u64) -> bool {
        let _call = self.beat.at_disk();
        self.packed.look_into(bytes_max)
    }

    /// Compressed files of which not all can be unpacked, with the reason, since the last call.
    pub fn take_damaged(&mut self) -> Vec<(String, String)> {
        self.packed.take_damaged()
    }

    fn metadata(&self, name: &str) -> Option<(String, Metadata)> {
        let path = self.folder.join(name);
        // It may be gone by now; and a pipe would never end.
        let found = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
        Some((path.to_str()?.to_owned(), found))
    }
}

fn is_packed(path: &str) -> bool {
    path.ends_with(".gz")
}

impl FileSystem for Folder {
    type Handle = Opened;

    fn list(&mut self) -> Result<Vec<Seen>, Fault> {
        let _call = self.beat.at_disk();
        let mut seen = Vec::new();
        self.packed.begin_look();
        for entry in std::fs::read_dir(&self.folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_like(&name, &self.names) || UNREADABLE.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let Some((path, found)) = self.metadata(&name) else { continue };
            let plain = stat(&found);
            if !is_packed(&path) {
                seen.push(Seen { path, stat: plain });
            } else if let Some(contents) = self.packed.contents(&path, &plain) {
                seen.push(Seen { path, stat: contents.stat(plain) });
            }
        }
        self.packed.end_look();
        Ok(seen)
    }

    fn open(&mut self, path: &str) -> Result<Opened, Fault> {
        let _call = self.beat.at_disk();
        let file = File::open(path).map_err(fault)?;
        if !is_packed(path) {
            return Ok(Opened::Plain(file));
        }
        let plain = file.metadata().map(|found| stat(&found)).map_err(fault)?;
        let contents = self.packed.known(&plain).ok_or_else(|| Fault("it is not finished".to_owned()))?;
        Ok(Opened::Packed(file, contents))
    }

    fn stat(&mut self, handle: &Opened) -> Result<Stat, Fault> {
        let _call = self.beat.at_disk();
        let (Opened::Plain(file) | Opened::Packed(file, _)) = handle;
        let plain = file.metadata().map(|found| stat(&found)).map_err(fault)?;
        Ok(match handle {
            Opened::Plain(_) => plain,
            Opened::Packed(_, contents) => contents.stat(plain),
        })
    }

    fn read_at(&mut self, handle: &Opened, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        let _call = self.beat.at_disk();
        match handle {
            Opened::Plain(file) => read_at(file, offset, buffer).map_err(fault),
            Opened::Packed(file, contents) => self.packed.read_at(file, contents, offset, buffer).map_err(fault),
        }
    }
}

fn fault(error: std::io::Error) -> Fault {
    Fault(error.to_string())
}

fn stat(found: &Metadata) -> Stat {
    let born: Option<Duration> = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.and_then(|born| i64::try_from(born.as_nanos()).ok());
    Stat {
        file: FileId { device: found.dev(), inode: found.ino(), born_ns },
        size: found.size(),
        modified_ns: found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()),
        is_linked: found.nlink() > 0,
        packed: None,
        is_damaged: false,
    }
}

#[cfg(test)]
mod tests;

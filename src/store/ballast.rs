//! A file that reserves disk space until it is deleted.
//!
//! On a disk without a free block even a deletion in the store fails, because it is written to the WAL first. Deleting the ballast
//! makes room for that; it is written again once there is space.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::disk;

#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

const NAME: &str = "outrider.ballast";

/// Within the state folder.
pub fn ballast_path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

const CHUNK_BYTES: u64 = 64 * 1024;

impl Ballast {
    pub fn new(folder: &Path, bytes: u64) -> Ballast {
        Ballast { path: ballast_path(folder), bytes }
    }

    pub fn is_there(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.len() >= self.bytes)
    }

    /// Writes it, unless that would leave less than `free_bytes_min` free. Returns whether it exists afterwards.
    pub fn fill(&self, free_bytes_min: u64) -> bool {
        if self.is_there() {
            return true;
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let fits = disk::space(folder).is_ok_and(|space| space.free_bytes >= free_bytes_min.saturating_add(self.bytes));
        if !fits {
            return false;
        }
        let written = self.write();
        if written.is_err() {
            self.free();
        }
        written.is_ok()
    }

    /// Writes real bytes: a sparse file would reserve no space.
    fn write(&self) -> io::Result<()> {
        let chunk = [0xa5; CHUNK_BYTES as usize];
        let mut file = File::create(&self.path)?;
        let mut left = self.bytes;
        while left > 0 {
            let part = left.min(CHUNK_BYTES);
            file.write_all(&chunk[..part as usize])?;
            left -= part;
        }
        file.sync_all()
    }

    /// Deletes it. Returns whether space was freed.
    pub fn free(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ballast = Ballast::new(folder.path(), 100_000);
        assert!(!ballast.fill(u64::MAX), "others need the room");
        assert!(!ballast.is_there());
        assert!(ballast.fill(0) && ballast.is_there());
        assert_eq!(std::fs::metadata(folder.path().join(NAME)).expect("a file").len(), 100_000);
        assert!(ballast.free());
        assert!(!ballast.is_there() && !ballast.free());
    }
}

//! The archive's folder: the names of its files and the limit on their total size.
//!
//! ```text
//! raw/dt=2026-11-24/hour=10/1795517165120-7f3c9a1e5b20d4c8-000000000001-000000000001-000000004711.ndjson.zst
//!                           received_ms   run              position     first        last sequence
//! ```
//! A file's name says which records of the store it holds, so a crash between the rename and the commit of the cursor is detected at the
//! next start, and nothing is written twice.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::core::identity::{RunId, Stream};
use crate::disk;

pub const SUFFIX: &str = ".ndjson.zst";
/// Suffix of unfinished files. They are removed at the next start; their records are still in the store.
pub const UNFINISHED: &str = ".unfinished";

/// What a finished file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName {
    /// Receive time of its first record.
    pub received_ms: i64,
    pub run: RunId,
    pub position: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
}

impl FileName {
    pub fn format(&self) -> String {
        format!(
            "{}-{}-{:012}-{:012}-{:012}{SUFFIX}",
            self.received_ms, self.run, self.position, self.first_sequence, self.last_sequence
        )
    }

    /// The last sequence, if `name` starts at the same record as `self`.
    fn last_sequence_of(&self, name: &str) -> Option<u64> {
        let (head, last) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
        let wanted = FileName { last_sequence: 0, ..*self }.format();
        let (wanted, _) = wanted.rsplit_once('-')?;
        if head == wanted { last.parse().ok() } else { None }
    }
}

/// `raw/dt=YYYY-MM-DD/hour=HH`, by receive time in UTC.
pub fn partition(stream: Stream, received_ms: i64) -> PathBuf {
    let at = clock::utc(received_ms);
    PathBuf::from(format!("{}/dt={}/hour={:02}", stream.name(), at.date(), at.hour()))
}

/// The folder and its size limit, shared by the streams that write into it.
#[derive(Debug)]
pub struct ArchiveFolder {
    root: PathBuf,
    bytes_max: u64,
    free_percent_min: u64,
    bytes: u64,
    /// Files removed since the start to keep the size limit.
    pub removed_files: u64,
}

impl ArchiveFolder {
    /// Counts the existing files and removes those that a crash left unfinished.
    pub fn open(root: &Path, bytes_max: u64, free_percent_min: u64) -> io::Result<ArchiveFolder> {
        let mut bytes = 0;
        for stream in Stream::all() {
            for hour in hours(&root.join(stream.name()))? {
                for entry in std::fs::read_dir(&hour)? {
                    let entry = entry?;
                    let name = entry.file_name();
                    if name.to_string_lossy().ends_with(UNFINISHED) {
                        std::fs::remove_file(entry.path())?;
                    } else {
                        bytes += entry.metadata()?.len();
                    }
                }
            }
        }
        std::fs::create_dir_all(root)?;
        Ok(ArchiveFolder { root: root.to_owned(), bytes_max, free_percent_min, bytes, removed_files: 0 })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Accounts for a finished file and removes the oldest ones while the size limit or the free space of the disk requires it. Never
    /// removes the new one.
    pub fn added(&mut self, file: &Path, file_bytes: u64) -> io::Result<()> {
        self.bytes += file_bytes;
        while self.is_over()? {
            let Some(oldest) = self.oldest()?.filter(|oldest| oldest != file) else {
                break;
            };
            let oldest_bytes = std::fs::metadata(&oldest)?.len();
            std::fs::remove_file(&oldest)?;
            self.bytes = self.bytes.saturating_sub(oldest_bytes);
            self.removed_files += 1;
            // Removes the hour's and the day's folder if they are empty now; it is no error if they are not.
            let _ = oldest.parent().map(std::fs::remove_dir);
            let _ = oldest.parent().and_then(Path::parent).map(std::fs::remove_dir);
        }
        Ok(())
    }

    fn is_over(&self) -> io::Result<bool> {
        let space = disk::space(&self.root)?;
        Ok(self.bytes > self.bytes_max || space.free_bytes < space.total_bytes / 100 * self.free_percent_min)
    }

    /// The oldest finished file of all streams.
    fn oldest(&self) -> io::Result<Option<PathBuf>> {
        let mut oldest: Option<(String, PathBuf)> = None;
        for stream in Stream::all() {
            let Some(hour) = hours(&self.root.join(stream.name()))?.into_iter().next() else {
                continue;
            };
            let mut names: Vec<String> = std::fs::read_dir(&hour)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.ends_with(SUFFIX))
                .collect();
            names.sort();
            let Some(name) = names.into_iter().next() else { continue };
            if oldest.as_ref().is_none_or(|(known, _)| name < *known) {
                oldest = Some((name.clone(), hour.join(name)));
            }
        }
        Ok(oldest.map(|(_, path)| path))
    }

    /// The last sequence of the file that starts exactly at the cursor: it was finished before a crash, but the cursor was not saved.
    pub fn find(&self, stream: Stream, wanted: &FileName) -> io::Result<Option<u64>> {
        let hour = self.root.join(partition(stream, wanted.received_ms));
        let entries = match std::fs::read_dir(&hour) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut last = None;
        for entry in entries {
            last = last.max(wanted.last_sequence_of(&entry?.file_name().to_string_lossy()));
        }
        Ok(last)
    }
}

/// The hour folders of a stream, oldest first.
fn hours(stream_root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut hours = Vec::new();
    for day in folders(stream_root)? {
        hours.extend(folders(&day)?);
    }
    Ok(hours)
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: FileName = FileName {
        received_ms: 1_795_517_165_120,
        run: RunId([1; 8]),
        position: 7,
        first_sequence: 8,
        last_sequence: 9,
    };

    #[test]
    fn partitions_are_by_hour_in_utc() {
        let text = |ms| partition(Stream::RAW, ms).display().to_string();
        assert_eq!(text(1_795_517_165_120), "raw/dt=2026-11-24/hour=10");
        assert_eq!(text(0), "raw/dt=1970-01-01/hour=00");
        assert_eq!(text(951_782_399_999), "raw/dt=2000-02-28/hour=23");
        assert_eq!(text(951_782_400_000), "raw/dt=2000-02-29/hour=00");
    }

    #[test]
    fn a_file_is_found_by_where_it_begins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = ArchiveFolder::open(folder.path(), u64::MAX, 0).expect("a folder");
        let hour = folder.path().join(partition(Stream::RAW, NAME.received_ms));
        std::fs::create_dir_all(&hour).expect("a folder");
        std::fs::write(hour.join(NAME.format()), b"x").expect("a file");
        assert_eq!(archive.find(Stream::RAW, &FileName { last_sequence: 0, ..NAME }).expect("readable"), Some(9));
        assert_eq!(archive.find(Stream::RAW, &FileName { run: RunId([2; 8]), ..NAME }).expect("readable"), None);
        assert_eq!(archive.find(Stream::ANOMALIES, &NAME).expect("readable"), None);
    }

    #[test]
    fn the_oldest_go_first_and_what_is_unfinished_goes_at_the_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |received_ms: i64, stream, name: &str| {
            let hour = folder.path().join(partition(stream, received_ms));
            std::fs::create_dir_all(&hour).expect("a folder");
            let path = hour.join(name);
            std::fs::write(&path, [0; 100]).expect("a file");
            path
        };
        let name = |received_ms| FileName { received_ms, ..NAME }.format();
        let first = write(1_000_000_000_000, Stream::ANOMALIES, &name(1_000_000_000_000));
        let second = write(1_000_009_000_000, Stream::RAW, &name(1_000_009_000_000));
        let left = write(1_000_009_000_000, Stream::RAW, &format!("x{UNFINISHED}"));
        let mut archive = ArchiveFolder::open(folder.path(), 150, 0).expect("a folder");
        assert!(!left.exists());
        assert_eq!(archive.bytes(), 200);
        let third = write(1_000_019_000_000, Stream::RAW, &name(1_000_019_000_000));
        archive.added(&third, 100).expect("a folder");
        assert!(!first.exists() && !second.exists() && third.exists());
        assert_eq!((archive.bytes(), archive.removed_files), (100, 2));
    }
}

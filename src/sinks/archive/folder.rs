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
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::core::identity::RunId;
use crate::disk;
use crate::sinks::files::format::FileFormat;

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
    /// Without the suffix of a format.
    pub fn format(&self) -> String {
        format!(
            "{}-{}-{:012}-{:012}-{:012}",
            self.received_ms, self.run, self.position, self.first_sequence, self.last_sequence
        )
    }

    /// When the first record of a file of this name was received, and how many records it holds.
    fn contents_of(name: &str) -> Option<(i64, u64)> {
        let mut parts = FileFormat::without_suffix(name)?.rsplitn(5, '-');
        let (last, first): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let received_ms = parts.nth(2)?.parse().ok()?;
        Some((received_ms, (last + 1).saturating_sub(first)))
    }

    /// The last sequence, if `name` starts at the same record as `self`, in whichever format.
    fn last_sequence_of(&self, name: &str) -> Option<u64> {
        let (head, last) = FileFormat::without_suffix(name)?.rsplit_once('-')?;
        let wanted = FileName { last_sequence: 0, ..*self }.format();
        let (wanted, _) = wanted.rsplit_once('-')?;
        if head == wanted { last.parse().ok() } else { None }
    }
}

/// `raw/dt=YYYY-MM-DD/hour=HH`, by receive time in UTC.
pub fn partition(stream: &str, received_ms: i64) -> PathBuf {
    let at = clock::utc(received_ms);
    PathBuf::from(format!("{stream}/dt={}/hour={:02}", at.date(), at.hour()))
}

/// How much of the disk an archive may use.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    pub bytes_max: u64,
    /// Per cent of the disk that it aims to keep free, by removing files that are old enough.
    pub free_percent_min: u64,
    /// Files that are younger stay, however full the disk is.
    pub keep_min: Duration,
    /// With less than this free, nothing more is written: what comes stays in the store.
    pub free_bytes_min: u64,
}

/// The folder and its limits, shared by the streams that write into it.
#[derive(Debug)]
pub struct ArchiveFolder {
    root: PathBuf,
    /// Names of the streams that are written or were; each has a folder.
    streams: Vec<Arc<str>>,
    limits: ArchiveLimits,
    bytes: u64,
    /// Removed since the start to keep within the limits.
    pub removed: Removed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub files: u64,
    pub records: u64,
}

/// The oldest file, and what its name says of it.
struct Oldest {
    path: PathBuf,
    received_ms: i64,
    records: u64,
}

impl ArchiveFolder {
    /// Counts the existing files and removes those that a crash left unfinished.
    pub fn open(root: &Path, streams: Vec<Arc<str>>, limits: ArchiveLimits) -> io::Result<ArchiveFolder> {
        let mut bytes = 0;
        for stream in &streams {
            for hour in hours(&root.join(&**stream))? {
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
        match std::fs::create_dir_all(root) {
            // It is made with the first file, when there is room.
            Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(error),
            _ => {}
        }
        Ok(ArchiveFolder { root: root.to_owned(), streams, limits, bytes, removed: Removed::default() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Accounts for a finished file. Then removes the oldest ones: all that the size limit requires, and for the sake of the disk's free
    /// space those that are old enough. Never removes the new one.
    pub fn added(&mut self, file: &Path, file_bytes: u64, now_ms: i64) -> io::Result<()> {
        self.bytes += file_bytes;
        let keep_ms = i64::try_from(self.limits.keep_min.as_millis()).unwrap_or(i64::MAX);
        loop {
            let is_over = self.bytes > self.limits.bytes_max;
            if !is_over && !self.is_tight()? {
                return Ok(());
            }
            let Some(oldest) = self.oldest()?.filter(|oldest| oldest.path != file) else { return Ok(()) };
            let metadata = std::fs::metadata(&oldest.path)?;
            // A backlog is old when it is written, and nobody has had time to fetch it.
            let since_ms = oldest.received_ms.max(clock::ms(metadata.modified()?));
            if !is_over && since_ms.saturating_add(keep_ms) > now_ms {
                return Ok(());
            }
            std::fs::remove_file(&oldest.path)?;
            self.bytes = self.bytes.saturating_sub(metadata.len());
            self.removed.files += 1;
            self.removed.records += oldest.records;
            // Removes the hour's and the day's folder if they are empty now; it is no error if they are not.
            let _ = oldest.path.parent().map(std::fs::remove_dir);
            let _ = oldest.path.parent().and_then(Path::parent).map(std::fs::remove_dir);
        }
    }

    /// The disk has less free than is aimed at.
    fn is_tight(&self) -> io::Result<bool> {
        let space = disk::space(existing(&self.root))?;
        Ok(space.free_bytes < space.total_bytes / 100 * self.limits.free_percent_min)
    }

    /// The disk has so little left that nothing more is to be written.
    pub fn is_out_of_space(&self) -> io::Result<bool> {
        Ok(disk::space(existing(&self.root))?.free_bytes < self.limits.free_bytes_min)
    }

    /// The oldest finished file of all streams.
    fn oldest(&self) -> io::Result<Option<Oldest>> {
        let mut oldest: Option<(String, PathBuf)> = None;
        for stream in &self.streams {
            let Some(hour) = hours(&self.root.join(&**stream))?.into_iter().next() else {
                continue;
            };
            let mut names: Vec<String> = std::fs::read_dir(&hour)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| FileFormat::without_suffix(name).is_some())
                .collect();
            names.sort();
            let Some(name) = names.into_iter().next() else { continue };
            if oldest.as_ref().is_none_or(|(known, _)| name < *known) {
                oldest = Some((name.clone(), hour.join(name)));
            }
        }
        Ok(oldest.map(|(name, path)| {
            // A file of another name was put there by somebody else; it is removed only for the size limit.
            let (received_ms, records) = FileName::contents_of(&name).unwrap_or((i64::MAX, 0));
            Oldest { path, received_ms, records }
        }))
    }

    /// The last sequence of the file that starts exactly at the cursor: it was finished before a crash, but the cursor was not saved.
    pub fn find(&self, stream: &str, wanted: &FileName) -> io::Result<Option<u64>> {
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

/// The folder itself, or what there is above it.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder)
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

/// Names of the streams that every store has.
#[cfg(test)]
pub(super) fn built_in() -> Vec<Arc<str>> {
    crate::core::identity::Stream::BUILT_IN.map(|(_, name)| name.into()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::format::Packing;

    const SUFFIX: &str = FileFormat::Ndjson(Packing::Zstd).suffix();
    const NAME: FileName = FileName {
        received_ms: 1_795_517_165_120,
        run: RunId([1; 8]),
        position: 7,
        first_sequence: 8,
        last_sequence: 9,
    };

    fn limits(bytes_max: u64, free_percent_min: u64) -> ArchiveLimits {
        ArchiveLimits { bytes_max, free_percent_min, keep_min: Duration::from_secs(86_400), free_bytes_min: 0 }
    }

    #[test]
    fn partitions_are_by_hour_in_utc() {
        let text = |ms| partition("raw", ms).display().to_string();
        assert_eq!(text(1_795_517_165_120), "raw/dt=2026-11-24/hour=10");
        assert_eq!(text(0), "raw/dt=1970-01-01/hour=00");
        assert_eq!(text(951_782_399_999), "raw/dt=2000-02-28/hour=23");
        assert_eq!(text(951_782_400_000), "raw/dt=2000-02-29/hour=00");
    }

    #[test]
    fn a_file_is_found_by_where_it_begins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = ArchiveFolder::open(folder.path(), built_in(), limits(u64::MAX, 0)).expect("a folder");
        let hour = folder.path().join(partition("raw", NAME.received_ms));
        std::fs::create_dir_all(&hour).expect("a folder");
        std::fs::write(hour.join(NAME.format() + SUFFIX), b"x").expect("a file");
        assert_eq!(archive.find("raw", &FileName { last_sequence: 0, ..NAME }).expect("readable"), Some(9));
        assert_eq!(archive.find("raw", &FileName { run: RunId([2; 8]), ..NAME }).expect("readable"), None);
        assert_eq!(archive.find("anomalies", &NAME).expect("readable"), None);
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
        let name = |received_ms| FileName { received_ms, ..NAME }.format() + SUFFIX;
        let first = write(1_000_000_000_000, "anomalies", &name(1_000_000_000_000));
        let second = write(1_000_009_000_000, "raw", &name(1_000_009_000_000));
        let left = write(1_000_009_000_000, "raw", &format!("x{UNFINISHED}"));
        let mut archive = ArchiveFolder::open(folder.path(), built_in(), limits(150, 0)).expect("a folder");
        assert!(!left.exists());
        assert_eq!(archive.bytes(), 200);
        let third = write(1_000_019_000_000, "raw", &name(1_000_019_000_000));
        archive.added(&third, 100, 0).expect("a folder");
        assert!(!first.exists() && !second.exists() && third.exists());
        assert_eq!((archive.bytes(), archive.removed), (100, Removed { files: 2, records: 4 }));
    }

    fn set_age(path: &Path, written_ms: i64) {
        let written = std::time::UNIX_EPOCH + Duration::from_millis(written_ms.cast_unsigned());
        std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(written)).expect("a file");
    }

    /// The disk has never enough free here: only age protects a file.
    #[test]
    fn a_disk_that_others_fill_costs_old_files_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let day_ms = 86_400_000;
        let write = |received_ms: i64| {
            let hour = folder.path().join(partition("raw", received_ms));
            std::fs::create_dir_all(&hour).expect("a folder");
            let path = hour.join(FileName { received_ms, ..NAME }.format() + SUFFIX);
            std::fs::write(&path, [0; 100]).expect("a file");
            set_age(&path, received_ms);
            path
        };
        let files = [10 * day_ms, 10 * day_ms + 1, 11 * day_ms - 5, 11 * day_ms].map(write);
        let mut archive = ArchiveFolder::open(folder.path(), built_in(), limits(u64::MAX, 100)).expect("a folder");
        assert!(archive.is_tight().expect("a disk") && !archive.is_out_of_space().expect("a disk"));
        archive.added(&files[3], 100, 11 * day_ms).expect("a folder");
        assert_eq!(files.each_ref().map(|file| file.exists()), [false, true, true, true], "a day old");
        assert_eq!(archive.removed, Removed { files: 1, records: 2 });
        set_age(&files[1], 11 * day_ms);
        archive.added(&files[3], 100, 11 * day_ms + 1).expect("a folder");
        assert!(files[1].exists(), "old readings, of which the file is new");
        archive.limits.keep_min = Duration::ZERO;
        archive.added(&files[3], 0, 11 * day_ms).expect("a folder");
        assert_eq!(files.each_ref().map(|file| file.exists()), [false, false, false, true], "the control");
        archive.limits.free_bytes_min = u64::MAX;
        assert!(archive.is_out_of_space().expect("a disk"));
    }
}

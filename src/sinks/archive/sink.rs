//! The archive as a kind of sink: its keys, how its section is read, and how it is started.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::LocalSet;

use super::ArchiverParts;
use super::folder::{ArchiveFolder, ArchiveLimits};
use crate::disk::{self, DiskSpace};
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, count, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB, approximate_size, format_duration};
use crate::sinks::files::format::{FileFormat, compression_key, format_key};
use crate::sinks::kind::{ConfiguredSink, Conflict, Neighbour, SinkKind, SinkSettings, Surroundings};
use crate::sinks::probe::{Probe, Probing};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "archive";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "files", sends_records: false, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "path", Kind::Text(Shape::Folder),
        Otherwise { meaning: "the folder archive in the state folder", example: "\"/var/lib/outrider/archive\"" },
        "The folder that the files are written to."),
    key_of(GROUP, "size_max", size(MIB, 1024 * GIB), Literal("\"2GiB\""),
        "The most that the files may take. Beyond it the oldest closed file is removed, and counted."),
    key_of(GROUP, "free_percent_min", count(0, 90), Literal("10"),
        "Per cent of the disk to keep free. Below it the oldest closed file is removed, and counted, if it was written longer than keep_min ago. With \
         less free than store.free_space_min nothing more is written, and the store holds what comes."),
    key_of(GROUP, "keep_min", seconds(0, 31_536_000), Literal("\"1d\""),
        "A younger file is removed only for size_max, however full others make the disk."),
    key_of(GROUP, "rotate_after", seconds(1, 3600), Literal("\"60s\""),
        "A file is closed when it is this old."),
    key_of(GROUP, "rotate_size", size(64 * KIB, GIB), Literal("\"16MiB\""),
        "A file is closed when it is this large."),
    format_key(GROUP),
    compression_key(GROUP),
];

/// Writes files on this machine.
#[derive(Clone, Debug)]
pub struct ArchiveSink {
    pub folder: PathBuf,
    pub bytes_max: u64,
    /// Per cent of the disk to keep free.
    pub free_percent_min: u64,
    /// Younger files are removed for the size limit only.
    pub keep_min: Duration,
    pub rotate_after: Duration,
    pub rotate_bytes: u64,
    pub format: FileFormat,
}

impl ArchiveSink {
    /// The archive's settings, if the sink is an archive.
    pub fn of(sink: &SinkSettings) -> Option<&ArchiveSink> {
        let any: &dyn Any = &*sink.sink;
        any.downcast_ref()
    }

    /// Changes the archive's settings, if the sink is an archive.
    pub fn change(sink: &mut SinkSettings, change: impl FnOnce(&mut ArchiveSink)) {
        if let Some(mut archive) = ArchiveSink::of(sink).cloned() {
            change(&mut archive);
            sink.sink = Arc::new(archive);
        }
    }
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    Arc::new(ArchiveSink {
        folder: section.path("path").unwrap_or_else(|| surroundings.state_folder.join("archive")),
        bytes_max: section.size("size_max"),
        free_percent_min: section.integer("free_percent_min"),
        keep_min: section.duration("keep_min"),
        rotate_after: section.duration("rotate_after"),
        rotate_bytes: section.size("rotate_size"),
        format: FileFormat::read(section),
    })
}

impl ConfiguredSink for ArchiveSink {
    fn takes(&self, _: &str) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!(
            "files in {}, {}, a new one every {}, at most {}",
            self.folder.display(),
            self.format.describe(),
            format_duration(self.rotate_after),
            approximate_size(self.bytes_max)
        )
    }

    /// Each would remove what the other has not finished, and files of the other to keep within its own limits.
    fn conflict(&self, other: &Neighbour<'_>, _: &Surroundings<'_>) -> Option<Conflict> {
        let theirs = other.of::<ArchiveSink>()?;
        (real(&self.folder) == real(&theirs.folder)).then(|| Conflict {
            keys: &["path"],
            text: format!(
                "writes its files to {}, as the sink {} does; give each a folder of its own",
                self.folder.display(),
                other.name
            ),
        })
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let limits = ArchiveLimits {
            bytes_max: self.bytes_max,
            free_percent_min: self.free_percent_min,
            keep_min: self.keep_min,
            free_bytes_min: starting.free_bytes_min(),
        };
        let folder = ArchiveFolder::open(&self.folder, starting.stream_names(), limits)
            .map_err(|source| StartError::Archive { folder: self.folder.clone(), source })?;
        let folder = Arc::new(Mutex::new(folder));
        let mut archivers = Vec::new();
        for row in starting.streams() {
            archivers.push(ArchiverParts {
                format: self.format,
                rotate_after: self.rotate_after,
                rotate_bytes: self.rotate_bytes,
                folder: Arc::clone(&folder),
                source: starting.stream(row)?,
                now_ms: crate::clock::now_ms,
            });
        }
        starting.spawn(move || async move {
            let tasks = LocalSet::new();
            for archiver in archivers {
                tasks.spawn_local(super::run(archiver));
            }
            tasks.await;
        })
    }

    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a> {
        Box::pin(async { vec![self.look(probing)] })
    }
}

/// A folder that is there may have several names.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

impl ArchiveSink {
    fn look(&self, Probing { free_bytes_min, .. }: &Probing) -> Finding {
        let folder = self.folder.display();
        let there = disk::existing_part(&self.folder);
        if let Err(error) = disk::may_write(there) {
            let found = format!("no files can be written to {folder}: {}: {error}", there.display());
            return Finding::bad(found, "let the user of the gateway write there, or set path of the [[sink]]");
        }
        let DiskSpace { total_bytes, free_bytes } = match disk::space(there) {
            Ok(space) => space,
            Err(error) => {
                let found = format!("the free space of {} is not known: {error}", there.display());
                return Finding::bad(found, "look at the disk");
            }
        };
        let free = approximate_size(free_bytes);
        if free_bytes < *free_bytes_min {
            return Finding::bad(
                format!("{folder}: only {free} free, so that nothing is written, and the store holds what comes"),
                "free some space; store.free_space_min says how much has to stay free",
            );
        }
        if free_bytes < total_bytes / 100 * self.free_percent_min {
            return Finding::warning(
                format!("{folder}: only {free} free, so that the oldest files are removed"),
                "free some space, copy files elsewhere, or lower free_percent_min of the [[sink]]",
            );
        }
        Finding::well(format!("files can be written to {folder}, {free} free"))
    }
}

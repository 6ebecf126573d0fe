//! Builds the files of one stream from the log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::names::Names;
use super::place::{First, hour};
use super::upload::Upload;
use crate::clock;
use crate::core::identity::RunId;
use crate::disk;
use crate::errors::with_causes;
use crate::sinks::files::RecordFile;
use crate::sinks::files::format::FileFormat;
use crate::sinks::files::output::{Output, Target};
use crate::sinks::files::tail::Tail;
use crate::sinks::stream::StreamParts;
use crate::store::log::{Block, Entry, Record};

/// When a file is built in memory, because the disk has no room, it is no larger.
const IN_MEMORY_BYTES_MAX: u64 = 1 << 20;
/// Objects do not become smaller than this, whatever something on the way takes.
const FILE_BYTES_MIN: u64 = 64 << 10;

pub struct BuildingSettings {
    pub format: FileFormat,
    pub rotate_after: Duration,
    pub rotate_bytes: u64,
    /// The folder of the file while it is built.
    pub folder: PathBuf,
    /// So much stays free beside the largest file.
    pub free_bytes_min: u64,
    /// A file holds no more of the store than this, before its compression: what is not sent must not make the store full.
    pub held_bytes_max: u64,
}

/// A file that is ready to be sent.
pub struct Built {
    pub first: First,
    /// The position of the last record.
    pub last: u64,
    pub records: u64,
    pub format: FileFormat,
    pub upload: Upload,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Again,
    /// The file is to be finished.
    Due,
    CaughtUp,
}

/// Either is tried again; the file is built anew.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot build a file for the bucket")]
    Io(#[from] io::Error),
    #[error("cannot read the store")]
    Store(#[from] rusqlite::Error),
}

pub struct Building {
    pub tail: Tail,
    settings: BuildingSettings,
    open: Option<Open>,
    block: Block,
    /// Of which run everything up to a position is stored already.
    known: Option<(RunId, u64)>,
    /// Under which names files may have been stored.
    names: Names,
    /// It has been said that the names cannot be kept.
    is_forgetful: bool,
    /// What something on the way has refused is halved.
    bytes_max: u64,
    /// The disk did not take the last file: the next one is built in memory.
    disk_failed: bool,
}

struct Open {
    file: RecordFile,
    first: First,
    format: FileFormat,
    hour: String,
    last: u64,
    records: u64,
    bytes_max: u64,
    /// Of the store, before its compression.
    held_bytes: u64,
    opened: Instant,
}

impl Open {
    /// The record belongs to another file.
    fn is_closed_to(&self, record: &Record<'_>) -> bool {
        record.run != self.first.run || hour(record.received_ms) != self.hour
    }
}

impl Building {
    pub fn new(source: StreamParts, settings: BuildingSettings) -> Building {
        let bytes_max = settings.rotate_bytes;
        let call = source.beat.at_disk();
        let names = Names::open(&settings.folder, &source.sink, &source.stream_name);
        drop(call);
        Building {
            tail: Tail::new(source),
            settings,
            names,
            is_forgetful: false,
            open: None,
            block: Block::default(),
            known: None,
            bytes_max,
            disk_failed: false,
        }
    }

    /// Nothing is read that is not delivered.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.tail.read == self.tail.source.cursor.cursor
    }

    /// Adds the next batch to the file.
    pub fn step(&mut self) -> Result<Step, BuildError> {
        if self.is_full() {
            return Ok(Step::Due);
        }
        let call = self.tail.source.beat.at_disk();
        let is_found = self.tail.has_more() && self.read_block()?;
        if !is_found {
            drop(call);
            self.is_known_no_more();
            if self.open.is_none() {
                // Possibly only damaged batches were read.
                self.delivered();
            }
            let is_old = self.due().is_some_and(|due| due <= Instant::now());
            return Ok(if is_old { Step::Due } else { Step::CaughtUp });
        }
        let block = std::mem::take(&mut self.block);
        let result = self.add(&block);
        self.block = block;
        self.disk_failed |= result.is_err();
        Ok(if result? { Step::Again } else { Step::Due })
    }

    fn read_block(&mut self) -> rusqlite::Result<bool> {
        let found = self.tail.read_block(&mut self.block);
        if let Err(error) = &found {
            self.tail.store_fails(error);
        }
        found
    }

    /// Adds the records of a batch; damaged ones are skipped and counted. Returns `false` if the next record belongs to another file.
    fn add(&mut self, block: &Block) -> io::Result<bool> {
        let mut held_bytes = block.batch().map_or(0, |batch| batch.payload.len() as u64);
        for entry in block.entries(self.tail.read) {
            if let Entry::Record(record) = &entry
                && !self.is_known(record)
            {
                if self.is_full() || self.open.as_ref().is_some_and(|open| open.is_closed_to(record)) {
                    return Ok(false);
                }
                let open = match &mut self.open {
                    Some(open) => open,
                    None => {
                        let stream = &self.tail.source.stream_name;
                        let name =
                            self.names.given(record).unwrap_or_else(|| (First::of(record), self.settings.format));
                        self.open.insert(begin(&self.settings, stream, !self.disk_failed, self.bytes_max, name)?)
                    }
                };
                open.held_bytes += std::mem::take(&mut held_bytes);
                open.file.write(record)?;
                open.last = record.position;
                open.records += 1;
            }
            self.tail.pass(&entry);
        }
        Ok(true)
    }

    /// Whether the record is in an object already.
    fn is_known(&mut self, record: &Record<'_>) -> bool {
        let is_known = self.known.is_some_and(|(run, last)| record.run == run && record.position <= last);
        if !is_known {
            self.is_known_no_more();
        }
        is_known
    }

    /// Everything that was stored before has been passed.
    fn is_known_no_more(&mut self) {
        if self.known.take().is_some() {
            self.tail.move_cursor();
        }
    }

    fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.file.bytes() >= open.bytes_max
                || open.file.is_full()
                || open.held_bytes >= self.settings.held_bytes_max
                || open.opened.elapsed() >= self.settings.rotate_after
        })
    }

    /// When the file is to be finished, if nothing more comes: so long after its first record was received, which may have been before this
    /// process started.
    pub fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let age_ms = u64::try_from(clock::now_ms().saturating_sub(open.first.received_ms)).unwrap_or(0);
        let left = self.settings.rotate_after.saturating_sub(Duration::from_millis(age_ms));
        Some((open.opened + self.settings.rotate_after).min(Instant::now() + left))
    }

    /// Finishes the file; `None` if only damaged batches were read.
    pub fn finish(&mut self) -> io::Result<Option<Built>> {
        let Some(Open { file, first, format, last, records, .. }) = self.open.take() else {
            self.delivered();
            return Ok(None);
        };
        match file.finish() {
            Ok(output) => Ok(Some(Built { first, last, records, format, upload: Upload::new(output) })),
            Err(error) => {
                self.disk_failed = true;
                self.give_up();
                Err(error)
            }
        }
    }

    /// To be called before an attempt to store the file: from then on nobody may know whether it is there.
    pub fn is_to_be_stored(&mut self, built: &Built) {
        let call = self.tail.source.beat.at_disk();
        let kept = self.names.is_to_be_stored(&built.first, built.last, built.format);
        drop(call);
        match kept {
            Ok(()) => self.is_forgetful = false,
            // It is sent all the same: the store may have no other way to get room.
            Err(error) if !self.is_forgetful => {
                self.is_forgetful = true;
                tracing::warn!(
                    sink = self.tail.source.sink,
                    "cannot write down the names of objects, which a next start may need to store nothing twice: {}",
                    with_causes(&error)
                );
            }
            Err(_) => {}
        }
    }

    /// The file is stored.
    pub fn is_stored(&mut self, built: &Built) {
        self.names.is_stored(&built.first, built.last);
        self.delivered();
    }

    /// Everything that was read is where it belongs.
    fn delivered(&mut self) {
        self.disk_failed = false;
        if self.tail.read > self.tail.source.cursor.cursor {
            self.tail.move_cursor();
        }
    }

    /// The object of this name is there already, and holds everything of its run up to a position: goes on behind it.
    pub fn is_known_through(&mut self, first: &First, last: u64) {
        self.names.is_stored(first, last);
        self.give_up();
        self.known = Some((first.run, last));
    }

    /// The file cannot be read as it was written: builds it anew, elsewhere.
    pub fn is_damaged(&mut self) {
        self.give_up();
        self.disk_failed = true;
    }

    /// Builds it anew.
    pub fn give_up(&mut self) {
        self.open = None;
        self.tail.rewind();
    }

    /// Makes the next files smaller than this one, which was refused for its size. Returns `false` if they cannot be.
    pub fn make_smaller(&mut self, refused_bytes: u64) -> bool {
        let smaller = (refused_bytes / 2).max(FILE_BYTES_MIN);
        let is_smaller = smaller < refused_bytes;
        if is_smaller {
            self.bytes_max = self.bytes_max.min(smaller);
            tracing::warn!(
                sink = self.tail.source.sink,
                bytes = refused_bytes,
                "something on the way takes no request of this size: files become smaller"
            );
        }
        is_smaller
    }
}

fn begin(
    settings: &BuildingSettings,
    stream: &str,
    on_disk: bool,
    bytes_max: u64,
    (first, format): (First, FileFormat),
) -> io::Result<Open> {
    let file =
        if on_disk { nameless(&settings.folder, settings.free_bytes_min.saturating_add(bytes_max))? } else { None };
    let (target, bytes_max) = match file {
        Some(file) => (Target::File(file), bytes_max),
        None => (Target::Memory(Vec::new()), bytes_max.min(IN_MEMORY_BYTES_MAX)),
    };
    Ok(Open {
        file: RecordFile::begin(format, stream, Output::with_sums(target))?,
        hour: first.hour(),
        last: first.position,
        first,
        format,
        records: 0,
        bytes_max,
        held_bytes: 0,
        opened: Instant::now(),
    })
}

/// A file that is gone when it is closed; `None` if the disk has no room for one.
fn nameless(folder: &Path, free_bytes_min: u64) -> io::Result<Option<File>> {
    let open = || -> io::Result<Option<File>> {
        fs::create_dir_all(folder)?;
        if disk::space(folder)?.free_bytes < free_bytes_min {
            return Ok(None);
        }
        let name = folder.join(format!("{:?}", std::thread::current().id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&name)?;
        fs::remove_file(&name)?;
        Ok(Some(file))
    };
    match open() {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem) => {
            Ok(None)
        }
        other => other,
    }
}

//! The local archive: compressed NDJSON files, one stream a folder.
//!
//! A record counts as delivered when its file has been closed, fsynced and renamed, and its folder fsynced; then the cursor moves. The
//! thread reads the store in order and keeps one file open, so a crash loses only the unfinished file, whose records are still stored.

pub mod folder;
pub mod sink;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::disk;
use crate::errors::with_causes;
use crate::sinks::files::RecordFile;
use crate::sinks::files::format::FileFormat;
use crate::sinks::files::output::{Output, Target};
use crate::sinks::files::tail::Tail;
use crate::sinks::status::Link;
use crate::sinks::stream::StreamParts;
use crate::store::log::{Block, Entry, Record};
use folder::{ArchiveFolder, FileName, UNFINISHED, partition};

/// What the archiver of one stream works with.
pub struct ArchiverParts {
    pub format: FileFormat,
    pub rotate_after: Duration,
    pub rotate_bytes: u64,
    pub folder: Arc<Mutex<ArchiveFolder>>,
    pub source: StreamParts,
    pub now_ms: fn() -> i64,
}

const RETRY_PAUSE: Duration = Duration::from_secs(1);

struct OpenFile {
    file: RecordFile,
    unfinished: PathBuf,
    name: FileName,
    hour: PathBuf,
    opened: Instant,
}

/// Why a step failed. Either is retried: the open file is discarded and its records are read again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("cannot write the archive")]
    Io(#[from] io::Error),
    /// Others have filled the disk: what comes waits in the store.
    #[error("the disk has less free than is left to others: the store holds what comes")]
    NoSpace,
    #[error("cannot read the store")]
    Store(#[from] rusqlite::Error),
}

struct Archiver {
    settings: Settings,
    tail: Tail,
    open: Option<OpenFile>,
    block: Block,
    /// A step has failed, and no file has been finished since.
    failing: bool,
}

struct Settings {
    format: FileFormat,
    rotate_after: Duration,
    rotate_bytes: u64,
    folder: Arc<Mutex<ArchiveFolder>>,
    now_ms: fn() -> i64,
}

/// Runs until the process ends and everything committed is archived.
pub async fn run(parts: ArchiverParts) {
    let mut archiver = Archiver::new(parts);
    let mut recovered = false;
    loop {
        let step = if recovered { archiver.step() } else { archiver.recover() };
        match step {
            Ok(Step::Again) => {
                // One thread serves all streams: let the others run.
                tokio::task::yield_now().await;
            }
            Ok(Step::CaughtUp) => {
                recovered = true;
                if archiver.open.is_none() && !archiver.tail.is_behind() {
                    archiver.works();
                }
                if *archiver.tail.source.link.borrow() == Link::Ending && !archiver.tail.is_behind() {
                    if archiver.close().is_ok() {
                        return;
                    }
                    archiver.give_up_file();
                }
                archiver.wait().await;
            }
            Err(error) => {
                if !archiver.failing {
                    let text = with_causes(&error);
                    tracing::error!(sink = archiver.tail.source.sink, "{text}; retrying until it works");
                    archiver.tail.source.status.set_error(Some(text));
                }
                archiver.failing = true;
                // The file may already have its final name, without the cursor having moved: look for it again.
                recovered = false;
                if let StepError::Store(error) = &error {
                    archiver.tail.store_fails(error);
                }
                archiver.give_up_file();
                if *archiver.tail.source.link.borrow() == Link::Ending {
                    return;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Again,
    CaughtUp,
}

impl Archiver {
    fn new(parts: ArchiverParts) -> Archiver {
        let ArchiverParts { format, rotate_after, rotate_bytes, folder, source, now_ms } = parts;
        Archiver {
            settings: Settings { format, rotate_after, rotate_bytes, folder, now_ms },
            tail: Tail::new(source),
            open: None,
            block: Block::default(),
            failing: false,
        }
    }

    /// Only a finished file, or having nothing to write, shows that a failure is over.
    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(sink = self.tail.source.sink, "the archive is writable again");
            self.tail.source.status.set_error(None);
        }
    }

    /// Skips files that were finished before a crash but not recorded in the cursor.
    fn recover(&mut self) -> Result<Step, StepError> {
        let _call = self.tail.source.beat.at_disk();
        let Some(name) = self.next_name()? else {
            return Ok(Step::CaughtUp);
        };
        let found = self.lock_folder().find(&self.tail.source.stream_name, &name)?;
        match found.filter(|last| *last > self.tail.read) {
            Some(last) => {
                let hour = partition(&self.tail.source.stream_name, name.received_ms);
                sync_names(&self.lock_folder().root().join(hour))?;
                self.tail.read = last;
                self.tail.move_cursor();
                Ok(Step::Again)
            }
            None => Ok(Step::CaughtUp),
        }
    }

    /// The name of a file that starts with the next record.
    fn next_name(&mut self) -> Result<Option<FileName>, StepError> {
        while self.tail.read_block(&mut self.block)? {
            for entry in self.block.entries(self.tail.read) {
                if let Entry::Record(record) = &entry {
                    return Ok(Some(name_from(record)));
                }
                self.tail.pass(&entry);
            }
        }
        Ok(None)
    }

    /// Writes one batch to the file, or closes the file if it is due.
    fn step(&mut self) -> Result<Step, StepError> {
        if self.tail.source.link.borrow().is_down() {
            return Ok(Step::CaughtUp);
        }
        let _call = self.tail.source.beat.at_disk();
        if self.is_due() {
            self.close()?;
        }
        if self.tail.is_behind() && self.lock_folder().is_out_of_space()? {
            // What is written already is finished: it needs little more.
            self.close()?;
            return Err(StepError::NoSpace);
        }
        let committed = *self.tail.source.committed.borrow();
        if committed <= self.tail.read {
            return Ok(Step::CaughtUp);
        }
        if !self.tail.read_block(&mut self.block)? {
            return Ok(Step::CaughtUp);
        }
        let block = std::mem::take(&mut self.block);
        let result = self.write_block(&block);
        self.block = block;
        result?;
        Ok(Step::Again)
    }

    /// Writes the records of a batch; damaged ones are skipped and counted.
    fn write_block(&mut self, block: &Block) -> Result<(), StepError> {
        for entry in block.entries(self.tail.read) {
            if let Entry::Record(record) = &entry {
                self.make_room_for(&name_from(record))?;
                self.open.as_mut().expect("opened above").file.write(record)?;
            }
            self.tail.pass(&entry);
        }
        Ok(())
    }

    /// Makes sure that a file of the right hour with room is open.
    fn make_room_for(&mut self, name: &FileName) -> Result<(), StepError> {
        let hour = partition(&self.tail.source.stream_name, name.received_ms);
        let fits = self.open.as_ref().is_some_and(|open| open.hour == hour && !self.is_full(open));
        if fits {
            return Ok(());
        }
        self.close()?;
        let folder = self.lock_folder().root().join(&hour);
        std::fs::create_dir_all(&folder)?;
        let unfinished = folder.join(format!("{}{UNFINISHED}", name.format()));
        let file = File::create(&unfinished)?;
        let file =
            RecordFile::begin(self.settings.format, &self.tail.source.stream_name, Output::plain(Target::File(file)))?;
        self.open = Some(OpenFile { file, unfinished, name: *name, hour, opened: Instant::now() });
        Ok(())
    }

    fn is_full(&self, open: &OpenFile) -> bool {
        open.file.is_full() || open.file.bytes() >= self.settings.rotate_bytes
    }

    fn is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.opened.elapsed() >= self.settings.rotate_after || self.is_full(open))
    }

    /// Finishes the open file, which makes its records delivered.
    fn close(&mut self) -> Result<(), StepError> {
        let _call = self.tail.source.beat.at_disk();
        let Some(open) = self.open.take() else {
            // Possibly only damaged batches were read.
            if self.tail.read > self.tail.source.cursor.cursor {
                self.tail.move_cursor();
            }
            return Ok(());
        };
        let finished = FileName { last_sequence: self.tail.read, ..open.name };
        let path = open.unfinished.with_file_name(finished.format() + self.settings.format.suffix());
        let output = open.file.finish()?;
        let bytes = output.bytes;
        if let Target::File(file) = output.target {
            file.sync_all()?;
        }
        std::fs::rename(&open.unfinished, &path)?;
        sync_names(path.parent().expect("a file of an hour"))?;
        // Before enforcing the size limit: if that fails, these records must not be written again.
        self.tail.move_cursor();
        let (before, result, after) = {
            let mut folder = self.lock_folder();
            (folder.removed, folder.added(&path, bytes, (self.settings.now_ms)()), folder.removed)
        };
        self.tail.source.status.sent_bytes.add(bytes);
        self.tail.source.status.files_removed.add(after.files - before.files);
        self.tail.source.status.records_removed.add(after.records - before.records);
        if before.files == 0 && after.files > 0 {
            tracing::warn!(
                sink = self.tail.source.sink,
                "the archive is at its size limit, or its disk is too full: the oldest files are removed and counted in the status"
            );
        }
        result?;
        self.works();
        Ok(())
    }

    fn give_up_file(&mut self) {
        if let Some(open) = self.open.take() {
            let _ = std::fs::remove_file(&open.unfinished);
        }
        self.tail.rewind();
    }

    fn lock_folder(&self) -> std::sync::MutexGuard<'_, ArchiveFolder> {
        self.settings.folder.lock().expect("nothing panics while it is held")
    }

    /// Waits until something is committed, the file is due, or the link changes.
    async fn wait(&mut self) {
        let due = self.open.as_ref().map(|open| open.opened + self.settings.rotate_after);
        let is_down = self.tail.source.link.borrow().is_down();
        let is_behind = self.tail.is_behind();
        if is_behind && !is_down {
            return;
        }
        tokio::select! {
            _ = self.tail.source.committed.changed(), if !is_down => {}
            _ = self.tail.source.link.changed() => {}
            () = sleep_until(due), if !is_down => {}
        }
    }
}

/// Makes a new file's name durable. The folders of its hour, its day and its stream may be new too.
fn sync_names(hour: &Path) -> io::Result<()> {
    hour.ancestors().take(4).try_for_each(disk::sync_folder)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The name of a file that starts with this record.
fn name_from(record: &Record<'_>) -> FileName {
    FileName {
        received_ms: record.received_ms,
        run: record.run,
        position: record.position,
        first_sequence: record.sequence,
        last_sequence: 0,
    }
}

#[cfg(test)]
mod tests;

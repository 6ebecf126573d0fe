//! The local archive: compressed NDJSON files, one stream a folder.
//!
//! A record counts as delivered when its file has been closed, fsynced and renamed, and its folder fsynced; then the cursor moves. The
//! thread reads the store in order and keeps one file open, so a crash loses only the unfinished file, whose records are still stored.

pub mod folder;
pub mod sink;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::ranges::Ranges;
use crate::disk;
use crate::errors::with_causes;
use crate::pipeline::Message;
use crate::sinks::status::Link;
use crate::sinks::stream::StreamParts;
use crate::store::cursors::CursorChange;
use crate::store::log::{Block, Entry, Next, Record};
use crate::store::unreadable::Unreadable;
use folder::{ArchiveFolder, FileName, SUFFIX, UNFINISHED, partition};

/// What the archiver of one stream works with.
pub struct ArchiverParts {
    pub rotate_after: Duration,
    pub rotate_bytes: u64,
    pub folder: Arc<Mutex<ArchiveFolder>>,
    pub source: StreamParts,
    pub now_ms: fn() -> i64,
}

/// Level 1 and a window of 512 KiB: a gateway has neither processor time nor memory to spare, and the lines repeat within less.
const COMPRESSION_LEVEL: i32 = 1;
const WINDOW_LOG: u32 = 19;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

struct OpenFile {
    encoder: zstd::Encoder<'static, Counted>,
    unfinished: PathBuf,
    name: FileName,
    hour: PathBuf,
    opened: Instant,
}

/// Counts the bytes written to the file.
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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
    parts: ArchiverParts,
    open: Option<OpenFile>,
    /// The last sequence written to the open file.
    written: u64,
    /// Records of damaged batches since the cursor last moved.
    unreadable: Ranges,
    /// Missing records since the cursor last moved.
    lost: Ranges,
    /// What comes next may still be taken over from a damaged store.
    is_salvaging: bool,
    block: Block,
    line: Vec<u8>,
    /// A step has failed, and no file has been finished since.
    failing: bool,
}

/// Runs until the process ends and everything committed is archived.
pub async fn run(parts: ArchiverParts) {
    let mut archiver = Archiver::new(parts);
    let mut recovered = false;
    let mut unreadable_since = Unreadable::default();
    loop {
        let step = if recovered { archiver.step() } else { archiver.recover() };
        match step {
            Ok(Step::Again) => {
                unreadable_since.is_over();
                // One thread serves all streams: let the others run.
                tokio::task::yield_now().await;
            }
            Ok(Step::CaughtUp) => {
                recovered = true;
                unreadable_since.is_over();
                if archiver.open.is_none() && !archiver.is_behind() {
                    archiver.works();
                }
                if *archiver.parts.source.link.borrow() == Link::Ending && !archiver.is_behind() {
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
                    tracing::error!(sink = archiver.parts.source.sink, "{text}; retrying until it works");
                    archiver.parts.source.status.set_error(Some(text));
                }
                archiver.failing = true;
                // The file may already have its final name, without the cursor having moved: look for it again.
                recovered = false;
                if let StepError::Store(error) = &error
                    && unreadable_since.is_damage(error, Instant::now())
                {
                    // Without a pipeline the process is ending; the next start detects the damage too.
                    let _ = archiver.parts.source.pipeline.send(Message::Damaged(archiver.parts.source.reader.file()));
                }
                archiver.give_up_file();
                if *archiver.parts.source.link.borrow() == Link::Ending {
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
        let written = parts.source.cursor.cursor;
        let (block, line) = (Block::default(), Vec::new());
        Archiver {
            parts,
            open: None,
            written,
            unreadable: Ranges::default(),
            lost: Ranges::default(),
            is_salvaging: false,
            block,
            line,
            failing: false,
        }
    }

    /// Only a finished file, or having nothing to write, shows that a failure is over.
    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(sink = self.parts.source.sink, "the archive is writable again");
            self.parts.source.status.set_error(None);
        }
    }

    fn is_behind(&self) -> bool {
        !self.is_salvaging && *self.parts.source.committed.borrow() > self.written
    }

    /// Skips files that were finished before a crash but not recorded in the cursor.
    fn recover(&mut self) -> Result<Step, StepError> {
        let _call = self.parts.source.beat.at_disk();
        let Some(name) = self.next_name()? else {
            return Ok(Step::CaughtUp);
        };
        let found = self.lock_folder().find(&self.parts.source.stream_name, &name)?;
        match found.filter(|last| *last > self.written) {
            Some(last) => {
                let hour = partition(&self.parts.source.stream_name, name.received_ms);
                sync_names(&self.lock_folder().root().join(hour))?;
                self.written = last;
                self.move_cursor();
                Ok(Step::Again)
            }
            None => Ok(Step::CaughtUp),
        }
    }

    /// The name of a file that starts with the next record.
    fn next_name(&mut self) -> Result<Option<FileName>, StepError> {
        while self.read_block()? {
            for entry in self.block.entries(self.written) {
                match entry {
                    Entry::Record(record) => return Ok(Some(name_from(&record))),
                    Entry::Damaged { through, count } => {
                        note_damaged(&self.parts.source.sink, through, count);
                        self.unreadable.push(through + 1 - count, through);
                        self.written = through;
                    }
                    Entry::Gap { through, lost } => {
                        self.lost.push(through + 1 - lost, through);
                        self.written = through;
                    }
                }
            }
        }
        Ok(None)
    }

    fn read_block(&mut self) -> rusqlite::Result<bool> {
        let source = &mut self.parts.source;
        let next = source.reader.read_strictly(source.stream, self.written, &mut self.block)?;
        self.is_salvaging = next == Next::Salvaging;
        Ok(next == Next::Block)
    }

    /// Writes one batch to the file, or closes the file if it is due.
    fn step(&mut self) -> Result<Step, StepError> {
        if self.parts.source.link.borrow().is_down() {
            return Ok(Step::CaughtUp);
        }
        let _call = self.parts.source.beat.at_disk();
        if self.is_due() {
            self.close()?;
        }
        if self.is_behind() && self.lock_folder().is_out_of_space()? {
            // What is written already is finished: it needs little more.
            self.close()?;
            return Err(StepError::NoSpace);
        }
        let committed = *self.parts.source.committed.borrow();
        if committed <= self.written {
            return Ok(Step::CaughtUp);
        }
        if !self.read_block()? {
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
        for entry in block.entries(self.written) {
            let through = entry.through();
            match entry {
                Entry::Record(record) => {
                    self.make_room_for(&name_from(&record))?;
                    self.line.clear();
                    record.write(&mut self.line);
                    let open = self.open.as_mut().expect("opened above");
                    open.encoder.write_all(&self.line)?;
                }
                Entry::Damaged { count, .. } => {
                    note_damaged(&self.parts.source.sink, through, count);
                    self.unreadable.push(through + 1 - count, through);
                }
                Entry::Gap { through, lost } => self.lost.push(through + 1 - lost, through),
            }
            self.written = through;
        }
        Ok(())
    }

    /// Makes sure that a file of the right hour with room is open.
    fn make_room_for(&mut self, name: &FileName) -> Result<(), StepError> {
        let hour = partition(&self.parts.source.stream_name, name.received_ms);
        let fits = self
            .open
            .as_ref()
            .is_some_and(|open| open.hour == hour && open.encoder.get_ref().bytes < self.parts.rotate_bytes);
        if fits {
            return Ok(());
        }
        self.close()?;
        let folder = self.lock_folder().root().join(&hour);
        std::fs::create_dir_all(&folder)?;
        let unfinished = folder.join(format!("{}{UNFINISHED}", name.format().trim_end_matches(SUFFIX)));
        let file = Counted { file: File::create(&unfinished)?, bytes: 0 };
        let mut encoder = zstd::Encoder::new(file, COMPRESSION_LEVEL)?;
        encoder.window_log(WINDOW_LOG)?;
        self.open = Some(OpenFile { encoder, unfinished, name: *name, hour, opened: Instant::now() });
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.opened.elapsed() >= self.parts.rotate_after || open.encoder.get_ref().bytes >= self.parts.rotate_bytes
        })
    }

    /// Finishes the open file, which makes its records delivered.
    fn close(&mut self) -> Result<(), StepError> {
        let _call = self.parts.source.beat.at_disk();
        let Some(open) = self.open.take() else {
            // Possibly only damaged batches were read.
            if self.written > self.parts.source.cursor.cursor {
                self.move_cursor();
            }
            return Ok(());
        };
        let finished = FileName { last_sequence: self.written, ..open.name };
        let path = open.unfinished.with_file_name(finished.format());
        let Counted { file, bytes } = open.encoder.finish()?;
        file.sync_all()?;
        std::fs::rename(&open.unfinished, &path)?;
        sync_names(path.parent().expect("a file of an hour"))?;
        // Before enforcing the size limit: if that fails, these records must not be written again.
        self.move_cursor();
        let (before, result, after) = {
            let mut folder = self.lock_folder();
            (folder.removed, folder.added(&path, bytes, (self.parts.now_ms)()), folder.removed)
        };
        self.parts.source.status.sent_bytes.add(bytes);
        self.parts.source.status.files_removed.add(after.files - before.files);
        self.parts.source.status.records_removed.add(after.records - before.records);
        if before.files == 0 && after.files > 0 {
            tracing::warn!(
                sink = self.parts.source.sink,
                "the archive is at its size limit, or its disk is too full: the oldest files are removed and counted in the status"
            );
        }
        result?;
        self.works();
        Ok(())
    }

    fn move_cursor(&mut self) {
        self.parts.source.cursor.advance_to(self.written);
        let change = CursorChange {
            sink: self.parts.source.sink.clone(),
            stream: self.parts.source.stream,
            state: self.parts.source.cursor.clone(),
            dead_letters: Vec::new(),
            unreadable: std::mem::take(&mut self.unreadable),
            lost: std::mem::take(&mut self.lost),
            passed_over: 0,
            held_keys: vec![],
        };
        // Without a pipeline the process is ending; at the next start the file's name says what it holds.
        let _ = self.parts.source.pipeline.send(Message::Cursor(change));
    }

    fn give_up_file(&mut self) {
        if let Some(open) = self.open.take() {
            let _ = std::fs::remove_file(&open.unfinished);
        }
        self.written = self.parts.source.cursor.cursor;
        (self.unreadable, self.lost) = (Ranges::default(), Ranges::default());
    }

    fn lock_folder(&self) -> std::sync::MutexGuard<'_, ArchiveFolder> {
        self.parts.folder.lock().expect("nothing panics while it is held")
    }

    /// Waits until something is committed, the file is due, or the link changes.
    async fn wait(&mut self) {
        let due = self.open.as_ref().map(|open| open.opened + self.parts.rotate_after);
        let is_down = self.parts.source.link.borrow().is_down();
        let is_behind = self.is_behind();
        if is_behind && !is_down {
            return;
        }
        tokio::select! {
            _ = self.parts.source.committed.changed(), if !is_down => {}
            _ = self.parts.source.link.changed() => {}
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

fn note_damaged(sink: &str, last_sequence: u64, count: u64) {
    tracing::error!(sink, last_sequence, count, "a stored batch is damaged and is skipped");
}

#[cfg(test)]
mod tests;

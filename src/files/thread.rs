//! The thread of one `[[file]]`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::FileSettings;
use super::folder::{Folder, Opened};
use super::lines::Content;
use super::refused::RefusedLines;
use super::status::{FILES_SHOWN, FilesSource, FilesView};
use super::telling::tell;
use crate::core::files::{
    FileSystem, Follower, GenerationNumber, Mark, Place, PlaceChange, Portion, Start, place_key, place_number,
};
use crate::core::mqtt::pace::Urgency;
use crate::core::reading::Readings;
use crate::handoff::{
    Entry, EntryChange, Input, PipelineGone, PipelineHandle, SessionProgress, Submission, Undecodable,
};
use crate::heartbeat::Beat;
use crate::ingest::undecodable::UndecodableKinds;
use crate::ingest::{Decoded, Ingest, NO_MATCH, SAMPLE_BYTES_MAX, UNROUTED};

/// How often the files are looked at, at rest and while they are written to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Looks take no more than this part of the time, however many files there are.
const LOOK_SHARE: u32 = 20;
/// Text of one submission: its readings are stored in one commit.
const SUBMISSION_BYTES: usize = 256 * 1024;
/// Pause before what was refused is read again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// What is unpacked of new compressed files between two looks, and before the first one.
const UNPACKED_BYTES: u64 = 8 << 20;
const UNPACKED_BYTES_FIRST: u64 = 64 << 20;
/// Samples of lines that cannot be decoded, in one submission. The others are counted all the same.
const SAMPLED_BYTES_MAX: usize = 64 * 1024;

/// What the thread needs.
pub struct FilesParts<'a, T: From<Input>> {
    pub settings: FileSettings,
    pub ingest: Ingest,
    pub pipeline: PipelineHandle<T>,
    /// Where lines that cannot be decoded are shown.
    pub undecodable: Arc<UndecodableKinds>,
    /// All that is kept in the store.
    pub entries: &'a [Entry],
    pub now_ms: fn() -> i64,
    /// Of this thread.
    pub beat: Beat,
    /// Set when the process is ending.
    pub stop: watch::Receiver<bool>,
}

/// A running thread.
#[derive(Debug)]
pub struct FilesThread {
    pub name: String,
    pub thread: JoinHandle<()>,
    pub source: FilesSource,
}

/// Starts the thread of one `[[file]]`.
///
/// # Errors
///
/// If the system starts no thread.
pub fn start<T: From<Input> + Send + 'static>(parts: FilesParts<'_, T>) -> std::io::Result<FilesThread> {
    let name = format!("file {}", parts.settings.path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (mut stop, beat) = (parts.stop.clone(), parts.beat.clone());
    let source = FilesSource::new(parts.settings.path.clone());
    let reader = Reader::new(parts, source.clone());
    let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        // Whatever is polled first may already be where it stands still.
        beat.moved();
        runtime.block_on(async {
            tokio::select! {
                // Without a pipeline the process is ending.
                _ = reader.run() => {}
                () = beat.pulse() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    })?;
    Ok(FilesThread { name, thread, source })
}

struct Reader<T: From<Input>> {
    settings: FileSettings,
    ingest: Ingest,
    pipeline: PipelineHandle<T>,
    undecodable: Arc<UndecodableKinds>,
    now_ms: fn() -> i64,
    follower: Follower<Opened>,
    files: Folder,
    started: Instant,
    payload: Vec<u8>,
    source: FilesSource,
    view: FilesView,
}

/// What is stored in one commit.
#[derive(Default)]
struct Batch {
    bytes: usize,
    readings: Readings,
    undecodable: Vec<Undecodable>,
    refused: RefusedLines,
    sampled_bytes: usize,
    lines: u64,
    marks: Vec<(GenerationNumber, Mark)>,
    places: Vec<(GenerationNumber, Place)>,
    changes: Vec<PlaceChange>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.changes.is_empty()
    }
}

impl<T: From<Input>> Reader<T> {
    fn new(parts: FilesParts<'_, T>, source: FilesSource) -> Reader<T> {
        let FilesParts { settings, ingest, pipeline, undecodable, entries, now_ms, beat, .. } = parts;
        let place = |entry: &Entry| {
            let number = place_number(&settings.path, &entry.key)?;
            Some((number, Place::from_bytes(&entry.value)?))
        };
        let places: Vec<(GenerationNumber, Place)> = entries.iter().filter_map(place).collect();
        let skips_packed = places.is_empty() && settings.follow.start == Start::End;
        let known = places.iter().map(|(_, place)| place);
        let files = Folder::new(settings.folder.clone(), settings.names.clone(), beat, known, skips_packed);
        Reader {
            follower: Follower::new(settings.follow.clone(), places, 0),
            settings,
            ingest,
            pipeline,
            undecodable,
            now_ms,
            files,
            started: Instant::now(),
            payload: Vec::new(),
            source,
            view: FilesView::default(),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn run(mut self) -> Result<(), PipelineGone> {
        let mut progress = Arc::<SessionProgress>::default();
        let mut ordinal = 0;
        // So that what was compressed while nobody looked is there when its original is missed.
        if self.files.list().is_ok() {
            self.files.unpack(UNPACKED_BYTES_FIRST);
        }
        loop {
            let looked = Instant::now();
            self.look();
            let rest = looked.elapsed() * LOOK_SHARE;
            let mut has_read = self.files.unpack(UNPACKED_BYTES);
            loop {
                let batch = self.batch();
                if batch.is_empty() {
                    break;
                }
                (ordinal, has_read) = (ordinal + 1, true);
                if !self.store(batch, &progress, ordinal).await? {
                    // A session that was refused is answered no more.
                    (progress, ordinal) = (Arc::default(), 0);
                    tokio::time::sleep(RETRY_PAUSE).await;
                    break;
                }
                // However much there is to be read, the files are looked at: they may be rotated away meanwhile.
                if looked.elapsed() >= rest.max(LOOK_EVERY) {
                    break;
                }
            }
            self.show();
            let pause = if has_read { LOOK_AGAIN } else { LOOK_EVERY };
            tokio::time::sleep(rest.max(pause).saturating_sub(looked.elapsed())).await;
        }
    }

    fn look(&mut self) {
        let now_ms = self.elapsed_ms();
        let looked = self.follower.look(now_ms, &mut self.files);
        let folder = self.files.folder.display();
        match (&looked, &self.view.last_error) {
            (Err(fault), None) => tracing::warn!("cannot list {folder}: {fault}; tried again each second"),
            (Ok(()), Some(_)) => tracing::info!("{folder} can be listed again"),
            _ => {}
        }
        self.view.last_error = looked.err().map(|fault| fault.to_string());
        self.follower.take_notes().iter().for_each(tell);
        for (path, why) in self.files.take_damaged() {
            self.view.damaged += 1;
            tracing::error!("not all of {path} is read: {why}");
        }
        self.show();
    }

    /// Tells the administration interface.
    fn show(&mut self) {
        (self.view.overview, self.view.counts) = (self.follower.overview(FILES_SHOWN), self.follower.counts());
        self.source.set(&self.view);
    }

    /// Reads and decodes what is stored next.
    fn batch(&mut self) -> Batch {
        let now_ms = self.elapsed_ms();
        let mut batch = Batch { changes: self.follower.take_changes(), ..Batch::default() };
        while batch.bytes < SUBMISSION_BYTES {
            let Some(portion) = self.follower.read(now_ms, &mut self.files) else { break };
            batch.bytes += portion.byte_size();
            self.decode(&portion, &mut batch);
            batch.marks.push((portion.number, portion.mark));
            // The place after two portions of one file is the later one's.
            batch.places.retain(|(number, _)| *number != portion.number);
            batch.places.push((portion.number, portion.place));
        }
        batch
    }

    fn decode(&mut self, portion: &Portion, batch: &mut Batch) {
        let topic = self.settings.topic.of(&portion.place.path);
        let file: Arc<str> = portion.place.path.as_str().into();
        let received_at_ms = (self.now_ms)();
        let content: &Content = &self.settings.content;
        for line in portion.lines() {
            batch.lines += 1;
            let is_made = content.payload(portion.header.as_deref(), line, &mut self.payload);
            let decoded = match is_made {
                true => self.ingest.decode(&topic, &self.payload, received_at_ms, &mut batch.readings),
                false => Decoded::Undecodable { reason: NO_MATCH },
            };
            let reason = match decoded {
                Decoded::Stored { .. } => continue,
                Decoded::Unrouted => UNROUTED,
                Decoded::Undecodable { reason } => reason,
            };
            batch.refused.note((reason, &topic), &file, line, &self.payload);
            let room = SAMPLED_BYTES_MAX.saturating_sub(batch.sampled_bytes).min(SAMPLE_BYTES_MAX);
            let sample = line[..line.len().min(room)].to_vec();
            batch.sampled_bytes += sample.len();
            let (topic, file) = (topic.clone(), Some(Arc::clone(&file)));
            batch.undecodable.push(Undecodable { reason, topic, file, sample, received_at_ms });
        }
    }

    /// Returns whether it is stored; if not, all of it is read again.
    async fn store(
        &mut self,
        batch: Batch,
        progress: &Arc<SessionProgress>,
        ordinal: u64,
    ) -> Result<bool, PipelineGone> {
        // With more to come, this waits for the commit.
        let urgency = if batch.bytes < SUBMISSION_BYTES { Urgency::Relaxed } else { Urgency::Urgent };
        let Batch { readings, undecodable, refused, marks, places, changes, lines, .. } = batch;
        let lines_refused = undecodable.len() as u64;
        let stored = places.into_iter().map(|(number, place)| PlaceChange { number, place: Some(place) });
        let entry = |change: &PlaceChange| EntryChange {
            key: place_key(&self.settings.path, change.number),
            value: change.place.as_ref().map(Place::to_bytes),
        };
        let stored: Vec<PlaceChange> = stored.collect();
        let entries = changes.iter().chain(&stored).map(entry).collect();
        let mut turn = self.pipeline.place();
        turn.turn().await;
        self.pipeline.submit(Submission {
            session: Arc::clone(progress),
            through: ordinal,
            publishes: 1,
            wants_answer: true,
            urgency,
            readings,
            undecodable,
            ruled: None,
            entries,
            held_bytes: 0,
            share: None,
        })?;
        drop(turn);
        if is_stored(progress, ordinal).await {
            marks.into_iter().for_each(|(number, mark)| self.follower.committed(number, mark));
            self.view.lines += lines - lines_refused;
            self.view.lines_refused += lines_refused;
            refused.show(&self.ingest, &self.undecodable);
            if lines > 0 {
                self.view.newest_line_ms = Some((self.now_ms)());
            }
            Ok(true)
        } else {
            self.follower.return_changes(changes);
            self.follower.rewind();
            Ok(false)
        }
    }
}

/// Waits until it is known. A disk that hangs may store what nobody waits for any more, so only a refusal says that it is not.
async fn is_stored(progress: &SessionProgress, ordinal: u64) -> bool {
    loop {
        if progress.committed() >= ordinal {
            return true;
        }
        if progress.take_refused().is_some_and(|refused| refused.contains(&ordinal)) {
            return false;
        }
        // The bell may have rung before this began to wait.
        let _ = timeout(LOOK_EVERY, progress.changed()).await;
    }
}

#[cfg(test)]
mod tests;

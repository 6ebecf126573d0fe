//! The thread of one `[[file]]`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::FileSettings;
use super::folder::Folder;
use super::lines::Content;
use crate::core::files::{
    Follower, GenerationNumber, Mark, Note, Place, PlaceChange, Portion, place_key, place_number,
};
use crate::core::mqtt::pace::Urgency;
use crate::core::reading::Readings;
use crate::handoff::{
    Entry, EntryChange, Input, PipelineGone, PipelineHandle, SessionProgress, Submission, Undecodable,
};
use crate::ingest::{Decoded, Ingest, SAMPLE_BYTES_MAX};

/// How often the files are looked at, at rest and while they are written to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Looks take no more than this part of the time, however many files there are.
const LOOK_SHARE: u32 = 20;
/// Text of one submission: its readings are stored in one commit.
const SUBMISSION_BYTES: usize = 256 * 1024;
/// Pause before what was refused is read again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Samples of lines that cannot be decoded, in one submission. The others are counted all the same.
const SAMPLED_BYTES_MAX: usize = 64 * 1024;

/// What the thread needs.
pub struct FilesParts<'a, T: From<Input>> {
    pub settings: FileSettings,
    pub ingest: Ingest,
    pub pipeline: PipelineHandle<T>,
    /// All that is kept in the store.
    pub entries: &'a [Entry],
    pub now_ms: fn() -> i64,
    /// Set when the process is ending.
    pub stop: watch::Receiver<bool>,
}

/// A running thread.
#[derive(Debug)]
pub struct FilesThread {
    pub name: String,
    pub thread: JoinHandle<()>,
}

/// Starts the thread of one `[[file]]`.
///
/// # Errors
///
/// If the system starts no thread.
pub fn start<T: From<Input> + Send + 'static>(parts: FilesParts<'_, T>) -> std::io::Result<FilesThread> {
    let name = format!("file {}", parts.settings.path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut stop = parts.stop.clone();
    let reader = Reader::new(parts);
    let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Without a pipeline the process is ending.
                _ = reader.run() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    })?;
    Ok(FilesThread { name, thread })
}

struct Reader<T: From<Input>> {
    settings: FileSettings,
    ingest: Ingest,
    pipeline: PipelineHandle<T>,
    now_ms: fn() -> i64,
    follower: Follower<std::fs::File>,
    files: Folder,
    started: Instant,
    payload: Vec<u8>,
    is_unlistable: bool,
}

/// What is stored in one commit.
#[derive(Default)]
struct Batch {
    bytes: usize,
    readings: Readings,
    undecodable: Vec<Undecodable>,
    sampled_bytes: usize,
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
    fn new(parts: FilesParts<'_, T>) -> Reader<T> {
        let FilesParts { settings, ingest, pipeline, entries, now_ms, .. } = parts;
        let place = |entry: &Entry| {
            let number = place_number(&settings.path, &entry.key)?;
            Some((number, Place::from_bytes(&entry.value)?))
        };
        let follower = Follower::new(settings.follow.clone(), entries.iter().filter_map(place), 0);
        let files = Folder { folder: settings.folder.clone(), names: settings.names.clone() };
        let started = Instant::now();
        Reader {
            settings,
            ingest,
            pipeline,
            now_ms,
            follower,
            files,
            started,
            payload: Vec::new(),
            is_unlistable: false,
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn run(mut self) -> Result<(), PipelineGone> {
        let mut progress = Arc::<SessionProgress>::default();
        let mut ordinal = 0;
        loop {
            let looked = Instant::now();
            self.look();
            let took = looked.elapsed();
            let mut has_read = false;
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
            }
            let pause = if has_read { LOOK_AGAIN } else { LOOK_EVERY };
            tokio::time::sleep(pause.saturating_sub(looked.elapsed()).max(took * LOOK_SHARE)).await;
        }
    }

    fn look(&mut self) {
        let now_ms = self.elapsed_ms();
        let was_unlistable = self.is_unlistable;
        let looked = self.follower.look(now_ms, &mut self.files);
        self.is_unlistable = looked.is_err();
        let folder = self.files.folder.display();
        match looked {
            Err(fault) if !was_unlistable => tracing::warn!("cannot list {folder}: {fault}; tried again each second"),
            Ok(()) if was_unlistable => tracing::info!("{folder} can be listed again"),
            _ => {}
        }
        self.follower.take_notes().iter().for_each(tell);
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
        let received_at_ms = (self.now_ms)();
        let content: &Content = &self.settings.content;
        for line in portion.lines() {
            let is_made = content.payload(portion.header.as_deref(), line, &mut self.payload);
            let decoded = match is_made {
                true => self.ingest.decode(&topic, &self.payload, received_at_ms, &mut batch.readings),
                false => Decoded::Undecodable { reason: "no_match" },
            };
            let reason = match decoded {
                Decoded::Stored { .. } => continue,
                Decoded::Unrouted => "unrouted",
                Decoded::Undecodable { reason } => reason,
            };
            let room = SAMPLED_BYTES_MAX.saturating_sub(batch.sampled_bytes).min(SAMPLE_BYTES_MAX);
            let sample = line[..line.len().min(room)].to_vec();
            batch.sampled_bytes += sample.len();
            batch.undecodable.push(Undecodable { reason, topic: topic.clone(), sample, received_at_ms });
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
        let Batch { readings, undecodable, marks, places, changes, .. } = batch;
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

fn tell(note: &Note) {
    match note {
        Note::Cut { path, unread_bytes } => tracing::warn!(
            unread_bytes,
            "{path} was cut: what was written after the last look is lost; rename files to rotate them, and nothing is"
        ),
        Note::Vanished { path, unread_bytes } => {
            tracing::warn!(unread_bytes, "{path} went away while it was not open: what was written last may be lost");
        }
        Note::LetGo { path, unread_bytes } => {
            tracing::error!(
                unread_bytes,
                "{path} was deleted, and is let go before it is read: its bytes fill the disk"
            );
        }
        Note::Copy { path, original } => tracing::info!(
            "{path} is what {original} was before it was cut; what was written between copy and cut, if anything, is lost"
        ),
        Note::TooLong { path, offset } => tracing::warn!(offset, "a line of {path} is too long, and is left out"),
        Note::Fault { path, why } => tracing::warn!("{path} cannot be read: {why}"),
    }
}

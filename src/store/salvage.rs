//! Salvages in the background what a damaged store still has, and hands it to the pipeline, which puts it where it was: under its old
//! sequences, before everything that was accepted since. A sink that comes to where something may still be taken over waits for it, so that
//! each device's readings stay in order; what is not found in the end is a gap, and lost.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::log::{Block, HeldBatch};
use super::reader::{LogRun, Reader};
use super::retention::Capacity;
use super::runs::{self, Run};
use super::scan::Scan;
use super::schema::{self, store_path};
use super::{set_aside, streams};
use crate::core::identity::{Stream, Streams};
use crate::core::pipeline::SealedBatch;
use crate::disk;

/// A batch of a damaged store on its way into the new one; without a batch, only how far the damaged store has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Name of the damaged store.
    pub folder: String,
    pub stream: Stream,
    /// Sequence in the damaged store.
    pub through: u64,
    /// The damaged store holds nothing more of the stream.
    pub is_end: bool,
    pub batch: Option<(Run, SealedBatch)>,
}

/// A stream of a damaged store that has not been read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub folder: String,
    pub stream: Stream,
    pub through: u64,
}

/// A chunk that is handed over is full with so many batches or bytes.
const CHUNK_BATCHES: usize = 64;
const CHUNK_BYTES: u64 = 1 << 20;
/// How often to check whether the store has room.
pub(crate) const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// Where the batches of a damaged store go.
pub trait Destination: Send + Sync {
    /// Returns once they are durable; `None` when the process ends.
    fn hand_over(&self, chunk: Vec<Salvaged>) -> Option<()>;
    /// Bytes that the store may still take; `None` when the process ends.
    fn room_bytes(&self) -> Option<u64>;
    fn started(&self);
    fn finished(&self);
}

pub struct Salvage {
    pub store: PathBuf,
    /// Gateway of the records, if the damaged store does not name it.
    pub gateway: String,
    pub capacity: Capacity,
    pub destination: Arc<dyn Destination>,
}

/// What is to be done next with a damaged store.
pub(crate) enum Step {
    HandOver(Vec<Salvaged>),
    /// Old readings must not displace new ones. New ones leave some room for them.
    WaitForRoom,
    Finished,
}

/// The streams of damaged stores on their way.
pub(crate) struct Salvaging {
    salvage: Salvage,
    left: VecDeque<Unfinished>,
    folders: Vec<String>,
    reading: Option<StreamReading>,
}

/// One of the streams.
struct StreamReading {
    unfinished: Unfinished,
    found: Found,
    after: u64,
    records: u64,
    /// Read, and not handed over yet.
    chunk: Vec<Salvaged>,
    bytes: u64,
}

impl Salvage {
    /// Starts or resumes a thread that salvages. It ends when everything is read, or when the pipeline has ended.
    pub fn spawn(self, unfinished: Vec<Unfinished>) {
        if unfinished.is_empty() {
            return;
        }
        self.destination.started();
        let destination = Arc::clone(&self.destination);
        let spawned = std::thread::Builder::new().name("salvage".to_owned()).spawn(move || {
            // If it returns nothing, the process is ending.
            let _ = Salvaging::new(self, unfinished).run();
        });
        if let Err(error) = spawned {
            destination.finished();
            tracing::error!(%error, "no thread can be started to salvage the damaged store; the next start tries again");
        }
    }

    /// A salvaged store is kept for inspection, but not at the cost of new readings.
    fn let_go(&self, folder: &str) {
        let folder = set_aside::folder_of(&self.store).join(folder);
        let wanted = self.capacity.bytes_max.saturating_add(self.capacity.free_bytes_min);
        let is_tight = disk::space(&folder).is_ok_and(|space| space.free_bytes < wanted);
        if is_tight && std::fs::remove_dir_all(&folder).is_ok() {
            tracing::info!(folder = %folder.display(), "the salvaged store is deleted, because the disk has no room for it");
        }
    }

    fn salvaged(&self, folder: &str, stream: Stream, batch: HeldBatch) -> Salvaged {
        let sealed = SealedBatch {
            stream,
            last_sequence: batch.last_sequence,
            first_position: batch.first_position,
            count: batch.count,
            first_ms: batch.first_ms,
            last_ms: batch.last_ms,
            payload: batch.payload,
        };
        let LogRun { run, gateway, started_ms, .. } = &*batch.run;
        let gateway = if gateway.is_empty() { &self.gateway } else { gateway };
        let run = Run { run: *run, gateway: gateway.clone(), started_ms: *started_ms };
        Salvaged {
            folder: folder.to_owned(),
            stream,
            through: batch.last_sequence,
            is_end: false,
            batch: Some((run, sealed)),
        }
    }
}

impl Salvaging {
    pub fn new(salvage: Salvage, unfinished: Vec<Unfinished>) -> Salvaging {
        let folders = unfinished.iter().map(|stream| stream.folder.clone()).collect();
        Salvaging { salvage, left: unfinished.into(), folders, reading: None }
    }

    /// `None` when the process ends.
    fn run(mut self) -> Option<()> {
        loop {
            let room_bytes = self.salvage.destination.room_bytes()?;
            match self.step(room_bytes) {
                Step::HandOver(chunk) => self.salvage.destination.hand_over(chunk)?,
                Step::WaitForRoom => std::thread::sleep(ROOM_PAUSE),
                Step::Finished => return Some(()),
            }
        }
    }

    /// `room_bytes`: what the store may still take. The chunk before is durable.
    pub fn step(&mut self, room_bytes: u64) -> Step {
        let Some(reading) = &mut self.reading else {
            let Some(unfinished) = self.left.pop_front() else {
                self.salvage.destination.finished();
                self.folders.iter().for_each(|folder| self.salvage.let_go(folder));
                return Step::Finished;
            };
            self.reading = Some(StreamReading::begin(&self.salvage, unfinished));
            return self.step(room_bytes);
        };
        if reading.chunk.is_empty() {
            reading.fill(&self.salvage);
        }
        if reading.chunk.is_empty() {
            let end = reading.end();
            self.reading = None;
            return Step::HandOver(vec![end]);
        }
        if room_bytes <= 2 * reading.bytes {
            return Step::WaitForRoom;
        }
        Step::HandOver(std::mem::take(&mut reading.chunk))
    }
}

impl StreamReading {
    fn begin(salvage: &Salvage, unfinished: Unfinished) -> StreamReading {
        let source = store_path(&set_aside::folder_of(&salvage.store).join(&unfinished.folder));
        let found = Found::open(&source, &salvage.store, unfinished.stream);
        StreamReading { found, after: unfinished.through, records: 0, chunk: Vec::new(), bytes: 0, unfinished }
    }

    fn fill(&mut self, salvage: &Salvage) {
        self.bytes = 0;
        while self.chunk.len() < CHUNK_BATCHES && self.bytes < CHUNK_BYTES {
            let Some(batch) = self.found.next(self.after) else { break };
            self.after = batch.last_sequence;
            self.bytes += batch.payload.len() as u64;
            self.records += u64::from(batch.count);
            self.chunk.push(salvage.salvaged(&self.unfinished.folder, self.unfinished.stream, batch));
        }
    }

    fn end(&self) -> Salvaged {
        let Unfinished { folder, stream, .. } = &self.unfinished;
        tracing::info!(
            folder,
            ?stream,
            records = self.records,
            "a stream of the damaged store is salvaged as far as it could be read"
        );
        Salvaged { folder: folder.clone(), stream: *stream, through: self.after, is_end: true, batch: None }
    }
}

/// The intact batches of a stream in a damaged store, in order.
struct Found {
    scan: Option<Scan>,
    /// For the batches that a migration had not moved yet: they come after the others.
    probe: Option<Probe>,
    stream: Stream,
}

impl Found {
    /// `present`: the store that took its place, which has its runs as far as they were known.
    fn open(store: &Path, present: &Path, stream: Stream) -> Found {
        let (runs, streams) = known(present).unwrap_or_default();
        let reader = if schema::has_pages(store) { Reader::open(store, None).ok() } else { None };
        let scan = Scan::open(store, &runs).map(|scan| scan.named(&streams));
        if let Err(error) = &scan {
            tracing::warn!(%error, "the pages of the damaged store cannot be read");
        }
        let probe = reader.filter(|reader| reader.has_table_of_1(stream)).map(|reader| Probe { reader, stream });
        Found { scan: scan.ok(), probe, stream }
    }

    fn next(&mut self, after: u64) -> Option<HeldBatch> {
        if let Some(scan) = &mut self.scan {
            match scan.next(self.stream, after) {
                Ok(Some(batch)) => return Some(batch),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the pages of the damaged store cannot be read any further"),
            }
            self.scan = None;
        }
        self.probe.as_mut()?.next(after)
    }
}

/// The runs and the streams of a store.
fn known(store: &Path) -> Option<(Vec<(i64, Run)>, Streams)> {
    let mut reader = Reader::open(store, None).ok()?;
    Some((runs::all(reader.connection()).ok()?, streams::load(reader.connection()).ok()?))
}

/// Finds the intact batches in a damaged table.
struct Probe {
    reader: Reader,
    stream: Stream,
}

impl Probe {
    /// The next intact batch that ends after `after`; `None` if there is none.
    fn next(&mut self, mut after: u64) -> Option<HeldBatch> {
        loop {
            let mut block = Block::default();
            match self.reader.read(self.stream, after, &mut block) {
                Ok(true) => {
                    after = block.last_sequence();
                    if let Some(batch) = block.into_batch() {
                        return Some(batch);
                    }
                }
                Ok(false) => return None,
                Err(error) if schema::is_corrupt(&error) => after = self.behind_damage(after)?,
                Err(error) => {
                    tracing::warn!(%error, "the damaged store cannot be read any further");
                    return None;
                }
            }
        }
    }

    /// Where reading can continue after the damage at `after`: found in doubling steps, and then by bisection.
    fn behind_damage(&mut self, after: u64) -> Option<u64> {
        let mut step = 1u64;
        while !self.is_readable(after.checked_add(step)?) {
            step = step.checked_mul(2).filter(|step| i64::try_from(after.saturating_add(*step)).is_ok())?;
        }
        let (mut bad, mut good) = (after + step / 2, after + step);
        while bad + 1 < good {
            let middle = bad + (good - bad) / 2;
            if self.is_readable(middle) { good = middle } else { bad = middle }
        }
        Some(good)
    }

    fn is_readable(&mut self, after: u64) -> bool {
        self.reader.read(self.stream, after, &mut Block::default()).is_ok()
    }
}

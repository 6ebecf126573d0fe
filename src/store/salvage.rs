//! Salvages in the background what a damaged store still has, and hands it to the pipeline, which puts it where it was: under its old
//! sequences, before everything that was accepted since. A sink that comes to where something may still be taken over waits for it, so that
//! each device's readings stay in order; what is not found in the end is a gap, and lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::log::{Block, HeldBatch};
use super::reader::{LogRun, Reader};
use super::retention::Capacity;
use super::runs::{self, Run};
use super::scan::Scan;
use super::schema::{self, store_path};
use super::set_aside;
use crate::core::identity::Stream;
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
const CHUNK_BYTES: usize = 1 << 20;
/// How often to check whether the store has room.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

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

impl Salvage {
    /// Starts or resumes a thread that salvages. It ends when everything is read, or when the pipeline has ended.
    pub fn spawn(self, unfinished: Vec<Unfinished>) {
        if unfinished.is_empty() {
            return;
        }
        self.destination.started();
        let destination = Arc::clone(&self.destination);
        let spawned = std::thread::Builder::new().name("salvage".to_owned()).spawn(move || {
            for stream in &unfinished {
                if self.run(stream).is_none() {
                    return;
                }
            }
            self.destination.finished();
            unfinished.iter().for_each(|stream| self.let_go(&stream.folder));
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

    /// `None` when the process ends.
    fn run(&self, unfinished: &Unfinished) -> Option<()> {
        let Unfinished { folder, stream, through } = unfinished;
        let mut records = 0;
        let source = store_path(&set_aside::folder_of(&self.store).join(folder));
        let mut after = *through;
        let mut found = Found::open(&source, &self.store, *stream);
        loop {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while chunk.len() < CHUNK_BATCHES && bytes < CHUNK_BYTES {
                let Some(batch) = found.next(after) else { break };
                after = batch.last_sequence;
                bytes += batch.payload.len();
                records += u64::from(batch.count);
                chunk.push(self.salvaged(folder, *stream, batch));
            }
            if chunk.is_empty() {
                break;
            }
            self.wait_for_room(bytes as u64)?;
            self.destination.hand_over(chunk)?;
        }
        let end = Salvaged { folder: folder.clone(), stream: *stream, through: after, is_end: true, batch: None };
        self.destination.hand_over(vec![end])?;
        tracing::info!(
            folder,
            stream = stream.name(),
            records,
            "a stream of the damaged store is salvaged as far as it could be read"
        );
        Some(())
    }

    /// Old readings must not displace new ones. New ones leave some room for them.
    fn wait_for_room(&self, bytes: u64) -> Option<()> {
        while self.destination.room_bytes()? <= 2 * bytes {
            std::thread::sleep(ROOM_PAUSE);
        }
        Some(())
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
        let runs = Reader::open(present, None).ok().and_then(|mut reader| runs::all(reader.connection()).ok());
        let runs = runs.unwrap_or_default();
        let reader = if schema::has_pages(store) { Reader::open(store, None).ok() } else { None };
        let scan = Scan::open(store, &runs);
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

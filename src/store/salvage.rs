//! Reads in the background what can be read of a damaged store, and hands it to the pipeline, which appends it to the log.
//!
//! A batch keeps its identity (run and positions) and is checked by its CRC; only its place in the log is new. So it reaches the sinks
//! after newer readings, and a sink may get a record again, which its identity reveals.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::log::{Block, HeldBatch};
use super::reader::{LogRun, Reader};
use super::retention::Capacity;
use super::runs::Run;
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
        let mut probe = Reader::open(&source, None).ok().map(|reader| Probe { reader, stream: *stream });
        while let Some(probe) = &mut probe {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while chunk.len() < CHUNK_BATCHES && bytes < CHUNK_BYTES {
                let Some(batch) = probe.next(after) else { break };
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

    /// Old readings must not displace new ones.
    fn wait_for_room(&self, bytes: u64) -> Option<()> {
        while self.destination.room_bytes()? <= 2 * bytes {
            std::thread::sleep(ROOM_PAUSE);
        }
        Some(())
    }

    fn salvaged(&self, folder: &str, stream: Stream, batch: HeldBatch) -> Salvaged {
        let sealed = SealedBatch {
            stream,
            last_sequence: 0,
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

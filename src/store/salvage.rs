//! Reads in the background what can be read of a damaged store, and hands it to the pipeline, which puts it behind what is there.
//!
//! A batch keeps its identity (run and positions) and is checked by its CRC; only its place in the log is new. So it reaches the sinks
//! later than newer readings do, and a sink may get again what it had: its identity tells.

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

/// A batch of a damaged store on its way into the new one; without one, how far the damaged store has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Name of the damaged store.
    pub folder: String,
    pub stream: Stream,
    /// Sequence in the damaged store.
    pub through: u64,
    /// There is nothing more in it.
    pub is_end: bool,
    pub batch: Option<(Run, SealedBatch)>,
}

/// A stream of a damaged store that is not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub folder: String,
    pub stream: Stream,
    pub through: u64,
}

/// What is handed over at once.
const CHUNK_BATCHES: usize = 64;
const CHUNK_BYTES: usize = 1 << 20;
/// How long the store is left alone when it has no room for more.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// Where the batches of a damaged store go.
pub trait Destination: Send + Sync {
    /// Returns once they are durable; `None` when the process ends.
    fn hand_over(&self, chunk: Vec<Salvaged>) -> Option<()>;
    /// What the store may still take; `None` when the process ends.
    fn room_bytes(&self) -> Option<u64>;
    fn started(&self);
    fn finished(&self);
}

pub struct Salvage {
    pub store: PathBuf,
    /// Whose records they are where the damaged store does not say.
    pub gateway: String,
    pub capacity: Capacity,
    pub destination: Arc<dyn Destination>,
}

impl Salvage {
    /// Begins, or goes on. The thread ends when everything is read or when the pipeline has.
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
            tracing::error!(%error, "no thread to salvage the damaged store with; the next start tries again");
        }
    }

    /// What has been taken over is kept for whoever wants to look into it, but not at the cost of new readings.
    fn let_go(&self, folder: &str) {
        let folder = set_aside::folder_of(&self.store).join(folder);
        let wanted = self.capacity.bytes_max.saturating_add(self.capacity.free_bytes_min);
        let is_tight = disk::space(&folder).is_ok_and(|space| space.free_bytes < wanted);
        if is_tight && std::fs::remove_dir_all(&folder).is_ok() {
            tracing::info!(folder = %folder.display(), "the damaged store is removed: the disk has no room for it");
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
            "what could be read of the damaged store is taken over"
        );
        Some(())
    }

    /// What is old must not push out what is new.
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

/// Looks for intact batches in a table with holes.
struct Probe {
    reader: Reader,
    stream: Stream,
}

impl Probe {
    /// The next intact batch behind `after`; `None` if there is none.
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

    /// A place behind the damage at `after` from which reading goes on: found in ever larger steps, and then exactly.
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

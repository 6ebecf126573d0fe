//! Hands batches of a damaged store to the pipeline as messages.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use super::Message;
use super::counters::StoreCounters;
use crate::store::salvage::{Destination, Salvage, Salvaged, Unfinished};
use crate::store::writer::Writer;

struct IntoPipeline {
    counters: Arc<StoreCounters>,
    pipeline: Sender<Message>,
}

impl Destination for IntoPipeline {
    fn hand_over(&self, chunk: Vec<Salvaged>) -> Option<()> {
        let (committed, wait) = channel();
        self.pipeline.send(Message::Salvaged { chunk, committed }).ok()?;
        // Nothing is ever sent: the sender is dropped after the commit, or with the pipeline.
        let _ = wait.recv();
        (!self.counters.is_ending()).then_some(())
    }

    fn room_bytes(&self) -> Option<u64> {
        (!self.counters.is_ending()).then(|| self.counters.room_bytes.get())
    }

    fn started(&self) {
        self.counters.salvaging.add(1);
    }

    fn finished(&self) {
        self.counters.salvaged_stores.add(1);
    }
}

/// What salvages in the background: a thread, or the simulation.
pub(crate) type SpawnSalvage = fn(Salvage, Vec<Unfinished>);

/// Salvages in the background what is left in damaged stores.
pub(super) fn start(
    spawn: SpawnSalvage,
    writer: &Writer,
    counters: &Arc<StoreCounters>,
    pipeline: &Sender<Message>,
    unfinished: Vec<Unfinished>,
) {
    let destination = IntoPipeline { counters: Arc::clone(counters), pipeline: pipeline.clone() };
    let settings = writer.settings();
    let salvage = Salvage {
        store: settings.path.clone(),
        gateway: settings.gateway.clone(),
        capacity: settings.capacity,
        destination: Arc::new(destination),
    };
    spawn(salvage, unfinished);
}

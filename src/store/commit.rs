//! The input of one transaction.

use super::cursors::CursorChange;
use super::letters::DeliveredLetter;
use super::salvage::Salvaged;
use crate::core::pipeline::{Sealed, SealedBatch};
use crate::handoff::{EntryChange, Undecodable};

#[derive(Debug, Default)]
pub struct CommitInput {
    pub sealed: Sealed,
    pub undecodable: Vec<Undecodable>,
    pub cursors: Vec<CursorChange>,
    /// Salvaged from a damaged store, with sequences assigned by the pipeline.
    pub salvaged: Vec<Salvaged>,
    /// Kept for others.
    pub entries: Vec<EntryChange>,
    /// Dead letters that were delivered after all.
    pub letters: Vec<DeliveredLetter>,
    /// Sinks whose cursors are to be deleted, unless they are configured.
    pub dropped_sinks: Vec<String>,
}

impl CommitInput {
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty()
            && self.undecodable.is_empty()
            && self.cursors.is_empty()
            && self.salvaged.is_empty()
            && self.entries.is_empty()
            && self.letters.is_empty()
            && self.dropped_sinks.is_empty()
    }

    pub fn batches(&self) -> impl Iterator<Item = &SealedBatch> {
        let salvaged = self.salvaged.iter().filter_map(|salvaged| salvaged.batch.as_ref());
        self.sealed.batches.iter().chain(salvaged.map(|(_, batch)| batch))
    }
}

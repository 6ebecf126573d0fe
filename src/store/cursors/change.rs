//! What a sink reports of its progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::held_keys::HeldKeyChange;
use super::super::letters::DeadLetter;
use super::super::links::CountedLink;
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;
use crate::core::ranges::Ranges;

/// Where a sink stands now: the whole state, so that only the latest change matters.
#[derive(Clone, Debug)]
pub struct CursorChange {
    pub sink: String,
    pub stream: Stream,
    pub state: CursorState,
    pub dead_letters: Vec<DeadLetter>,
    /// Records that could not be read, because their batch was damaged.
    pub unreadable: Ranges,
    /// Those of the newly finished records that were missing in the store. They count as quarantined since it was found to be damaged.
    pub lost: Ranges,
    /// Of all that `state` says is done with, so much the sink does not take: a total, so that saying it twice counts it once.
    pub passed_over: u64,
    /// Those of the newly finished records that became too old to be sent, as runs of sequences, in no order.
    pub expired: Vec<(u64, u64)>,
    /// Keys that are set aside, as far as they have changed. Their dead letters are in the list as well.
    pub held_keys: Vec<HeldKeyChange>,
    /// What was spent on the link that the sink uses, if it has one that is counted.
    pub link: Option<Arc<dyn CountedLink>>,
    /// Told when it is durable.
    pub save: Option<Save>,
}

impl CursorChange {
    /// Only that a sink has come this far.
    #[cfg(test)]
    pub fn to(sink: &str, stream: Stream, state: CursorState) -> CursorChange {
        CursorChange {
            sink: sink.to_owned(),
            stream,
            state,
            dead_letters: Vec::new(),
            unreadable: Ranges::default(),
            lost: Ranges::default(),
            passed_over: 0,
            expired: Vec::new(),
            held_keys: Vec::new(),
            link: None,
            save: None,
        }
    }

    /// Whether a later change of the same sink makes this one redundant.
    pub fn is_replaceable(&self) -> bool {
        self.dead_letters.is_empty()
            && self.unreadable.is_empty()
            && self.lost.is_empty()
            && self.expired.is_empty()
            && self.held_keys.is_empty()
    }
}

/// The saves of one sink's progress in one stream, for a sink that keeps something until its progress is durable.
#[derive(Debug, Default)]
pub struct Saves {
    begun: AtomicU64,
    durable: AtomicU64,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Save {
    saves: Arc<Saves>,
    number: u64,
}

impl Saves {
    /// A save of everything that is done with by now.
    pub fn begin(self: &Arc<Saves>) -> Save {
        Save { saves: Arc::clone(self), number: self.begun.fetch_add(1, Ordering::AcqRel) + 1 }
    }

    /// How many have begun. What was done with before is durable once [`Self::durable`] is more.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The last one that is durable, and all before it; 0 if none is.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

impl Save {
    pub fn is_durable(&self) {
        self.saves.durable.fetch_max(self.number, Ordering::AcqRel);
    }
}

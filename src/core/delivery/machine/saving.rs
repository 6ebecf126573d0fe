//! When progress is saved, and what of it.

use super::super::{Persist, Refused};
use super::Delivery;

/// The cursor is saved at most so often, however fast it moves.
const PERSIST_PAUSE_US_MIN: u64 = 100_000;

#[derive(Debug, Default)]
pub(super) struct Saving {
    pub saved_us: u64,
    pub unsaved_since_us: Option<u64>,
    pub unsaved_sequences: u64,
    pub refused: Vec<Refused>,
    pub refused_bytes: usize,
    pub passed_over: u64,
    pub expired: Vec<(u64, u64)>,
}

impl Saving {
    pub fn refuse(&mut self, refused: Refused) {
        self.refused_bytes += refused.line.len() + refused.reason.len() + size_of::<Refused>();
        self.refused.push(refused);
    }
}

impl Delivery {
    /// What has changed since the last save, whether or not a save is due. `None` if nothing has.
    pub fn save(&mut self, now_us: u64) -> Option<Persist> {
        self.saving.unsaved_since_us.take()?;
        self.saving.saved_us = now_us;
        self.saving.unsaved_sequences = 0;
        self.saving.refused_bytes = 0;
        let (refused, keys) = (std::mem::take(&mut self.saving.refused), self.aside_changes());
        let expired = std::mem::take(&mut self.saving.expired);
        Some(Persist { state: self.progress.state(), refused, expired, passed_over: self.saving.passed_over, keys })
    }

    pub(super) fn save_due_us(&self) -> Option<u64> {
        let since_us = self.saving.unsaved_since_us?;
        let soonest_us = self.saving.saved_us + PERSIST_PAUSE_US_MIN;
        if !self.saving.refused.is_empty() || (self.flushing && self.is_drained()) {
            Some(since_us)
        } else if self.saving.unsaved_sequences >= self.settings.patience.persist_sequences {
            Some(soonest_us)
        } else {
            Some((since_us + self.settings.patience.persist_interval_us).max(soonest_us))
        }
    }

    pub(in super::super) fn is_save_due(&self, now_us: u64) -> bool {
        self.save_due_us().is_some_and(|due_us| due_us <= now_us)
    }
}

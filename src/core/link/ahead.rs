//! Spending is stored before it happens: a process that is killed has spent no more than what is stored.
//!
//! A budget is stored with an *advance*, and no more goes out than what was durable with it; when half of it is used up, it is stored anew.
//! Whoever finds a budget with an advance was not told how much of it was spent, and takes all of it for spent. A process that ends in order
//! stores it without.

use super::LinkSettings;

/// Of a budget, an advance is one part in so many; within bounds.
const PARTS: u64 = 64;
const BYTES_MIN: u64 = 16 << 10;
const BYTES_MAX: u64 = 256 << 10;
/// Where nothing may be overdrawn, what was counted is stored when it is so much.
const UNSAVED_BYTES_MAX: u64 = 64 << 10;

/// What of the outlay is stored. All of it is in bytes that were ever counted, with those under way.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    /// Up to here it is durable, and may be spent.
    stored_through: u64,
    /// Up to here it was handed over to be stored.
    handed_through: u64,
    /// It is to be stored, and is not yet.
    is_saving: bool,
}

/// How much is stored before it is spent.
pub fn advance(settings: &LinkSettings) -> u64 {
    let limits = [settings.bytes_per_day, settings.bytes_per_month];
    let least = limits.into_iter().flatten().min().unwrap_or(0);
    (least / PARTS).clamp(BYTES_MIN, BYTES_MAX)
}

impl Ahead {
    /// What may be spent before more is stored.
    pub fn left(&self, outlay: u64) -> u64 {
        self.stored_through.saturating_sub(outlay)
    }

    /// Whether it is to be stored now. Asked for once: then it is waited for. Without an advance nothing waits.
    pub fn wants_saving(&mut self, outlay: u64, advance: Option<u64>) -> bool {
        let wants = match advance {
            Some(advance) => self.left(outlay) < advance / 2,
            None => outlay.saturating_sub(self.handed_through) >= UNSAVED_BYTES_MAX,
        };
        let is_new = wants && !self.is_saving;
        self.is_saving |= is_new;
        is_new
    }

    /// It is handed over to be stored up to there. Until it is durable, neither what was nor what will be stored may be passed.
    pub fn hand_over(&mut self, through: u64) {
        self.handed_through = through;
        self.stored_through = self.stored_through.min(through);
    }

    /// What was handed over last is durable.
    pub fn is_stored(&mut self) {
        self.stored_through = self.handed_through;
        self.is_saving = false;
    }
}

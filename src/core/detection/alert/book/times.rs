//! How long what lasts in an alert's life.

use crate::core::detection::alert::Alert;

/// Each return doubles the good time that clears an alert, so often at the most.
const DOUBLINGS_MAX: u32 = 4;

/// Durations of an alert's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// After good readings for so long it clears.
    pub clear_after_ms: u64,
    /// Cleared for so long, it is gone.
    pub remove_after_ms: u64,
    /// An alert that only goes on is not updated more often.
    pub update_every_ms: u64,
    /// Nothing heard for so long at least, or for five of the series' intervals, it is stale.
    pub stale_after_ms: u64,
    /// Nothing heard for so long, nobody waits for the series any more.
    pub silent_max_ms: u64,
    /// Gone for so long, it is forgotten that it was there.
    pub forget_after_ms: u64,
}

impl Default for AlertTimes {
    fn default() -> Self {
        AlertTimes {
            clear_after_ms: 30_000,
            remove_after_ms: 60_000,
            update_every_ms: 5_000,
            stale_after_ms: 30_000,
            silent_max_ms: 7 * 24 * 3_600_000,
            forget_after_ms: 600_000,
        }
    }
}

impl AlertTimes {
    /// For how long good readings must have come.
    pub(super) fn clear_after_ms(&self, alert: &Alert) -> u64 {
        self.clear_after_ms << alert.returns.min(DOUBLINGS_MAX)
    }
}

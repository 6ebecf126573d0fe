//! How long what lasts in an alert's life.

use crate::detection::alert::Alert;

/// Each return doubles how long good readings must come to clear an alert; at most so often.
const DOUBLINGS_MAX: u32 = 4;

/// Durations of an alert's life, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// Good readings for so long clear an alert; for twice as long after each return, up to sixteen times.
    pub clear_after_ms: u64,
    /// A cleared alert is removed after so long.
    pub remove_after_ms: u64,
    /// An alert that only goes on is updated no more often than this.
    pub update_every_ms: u64,
    /// An alert is stale when its series was silent for so long, and for five of its usual intervals.
    pub stale_after_ms: u64,
    /// When a series was silent for so long, nobody waits for it any more: its alerts are cleared.
    pub silent_max_ms: u64,
    /// So long after an alert was removed it is forgotten: if it is raised again after that, it does not count as a return.
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

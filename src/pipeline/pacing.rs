//! How commits are paced, and what happens when one takes too long.

use std::time::Duration;

use crate::core::pipeline::commit_clock::CommitDelays;

/// When a batch is sealed, once the commit before it has returned.
#[derive(Clone, Copy, Debug)]
pub struct CommitPacing {
    pub delays: CommitDelays,
    /// Acknowledges before the commit, which must never be done: the durability tests must detect it.
    pub acknowledge_early: bool,
    /// An alert that waits longer than this for its commit is published anyway, marked as unstored: a driver is told within seconds,
    /// whatever the disk does.
    pub unstored_after: Duration,
}

impl Default for CommitPacing {
    fn default() -> Self {
        CommitPacing {
            delays: CommitDelays {
                delay: Duration::from_millis(40),
                delay_max: Duration::from_secs(1),
                readings: 500,
                hung_after: Duration::from_secs(5),
            },
            acknowledge_early: false,
            unstored_after: Duration::from_secs(1),
        }
    }
}

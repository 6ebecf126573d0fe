//! How commits are paced, and what is done when one does not come.

use std::time::Duration;

use crate::core::pipeline::commit_clock::CommitDelays;

/// When a batch is sealed, once the commit before it has returned.
#[derive(Clone, Copy, Debug)]
pub struct CommitPacing {
    pub delays: CommitDelays,
    /// Acknowledges before the commit: what must never be, and what the tests of durability must notice.
    pub acknowledge_early: bool,
    /// An alert that waits longer than this for its commit is published all the same, and says so: a driver is told within seconds,
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

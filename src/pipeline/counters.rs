//! What the pipeline and the committer show of themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::counter::{Counter, Gauge, Histogram};

/// Why nothing can be stored at present: what comes is judged, and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstorable {
    /// The disk answers with errors.
    DiskFailing,
    /// A commit has been under way for seconds.
    DiskHung,
    /// There is no room, and readings are to be refused rather than older ones removed.
    StoreFull,
}

impl Unstorable {
    pub fn name(self) -> &'static str {
        match self {
            Unstorable::DiskFailing => "disk_failing",
            Unstorable::DiskHung => "disk_hung",
            Unstorable::StoreFull => "store_full",
        }
    }
}

/// What the two threads show of themselves.
#[derive(Debug, Default)]
pub struct StoreCounters {
    pub commits: Counter,
    /// How long commits took.
    pub commit: Histogram,
    pub commit_us_last: Gauge,
    pub commit_us_max: Gauge,
    /// Payloads since the start, as they are stored: what the store fills with.
    pub payload_bytes: Counter,
    /// Readings that were stored since the start.
    pub readings: Counter,
    pub series: Gauge,
    pub readings_unwatched: Gauge,
    pub anomalies: Gauge,
    pub alerts_unraised: Gauge,
    /// Acknowledgements of alerts that are not there.
    pub acknowledgements_unknown: Counter,
    /// Readings turned away because they could not be stored.
    pub readings_refused: Counter,
    /// Alerts that were raised while nothing could be stored.
    pub raised_unstored: Gauge,
    /// Alerts that are raised, stored or not.
    pub alerts_raised: Gauge,
    /// Damaged stores that are, or were, salvaged since the start; and those of them that are done.
    pub salvaging: Counter,
    pub salvaged_stores: Counter,
    /// What further raw readings may take of the store.
    pub(crate) room_bytes: Gauge,
    pub(super) failing: AtomicBool,
    pub(crate) hung: AtomicBool,
    pub(crate) expiring: AtomicBool,
    pub(crate) refusing: AtomicBool,
    pub(crate) ending: AtomicBool,
    abandoned: AtomicBool,
    readings_abandoned: Gauge,
}

impl StoreCounters {
    pub fn unstorable(&self) -> Option<Unstorable> {
        if self.is_failing() {
            Some(Unstorable::DiskFailing)
        } else if self.hung.load(Ordering::Relaxed) {
            Some(Unstorable::DiskHung)
        } else if self.is_refusing() {
            Some(Unstorable::StoreFull)
        } else {
            None
        }
    }

    /// The disk answers with errors.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// The store is full, and the oldest readings go.
    pub fn is_expiring(&self) -> bool {
        self.expiring.load(Ordering::Relaxed)
    }

    /// The store is full, and readings are turned away.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// A damaged store is being read.
    pub fn is_salvaging(&self) -> bool {
        self.salvaging.get() > self.salvaged_stores.get()
    }

    /// The process ends, and so many readings that nobody was told of as taken could not be stored.
    pub(crate) fn abandon(&self, readings: u64) {
        self.readings_abandoned.set(readings);
        self.abandoned.store(true, Ordering::Release);
    }

    /// Readings that the end of the process left unstored and unacknowledged; `None` if the store was written to the last.
    pub fn readings_abandoned(&self) -> Option<u64> {
        self.abandoned.load(Ordering::Acquire).then(|| self.readings_abandoned.get())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

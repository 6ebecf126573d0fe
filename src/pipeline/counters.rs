//! Counters and states of the pipeline and the committer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counter::{Counter, Gauge, Histogram};

/// Why nothing can be stored now: readings are judged, but not acknowledged.
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

/// Most rules of which the last failure is kept; those that were replaced count as well.
const RULE_FAILURES_MAX: usize = 1_024;
const FAILURE_CHARS_MAX: usize = 300;

/// Counters and states that the two threads publish.
#[derive(Debug, Default)]
pub struct StoreCounters {
    pub commits: Counter,
    /// How long commits took.
    pub commit: Histogram,
    pub commit_us_last: Gauge,
    pub commit_us_max: Gauge,
    /// Compressed bytes of the payloads that were stored since the start.
    pub payload_bytes: Counter,
    /// Readings that were stored since the start.
    pub readings: Counter,
    pub series: Gauge,
    pub readings_unwatched: Gauge,
    /// Readings that no condition of a rule saw, because there are too many devices.
    pub readings_no_rule_saw: Gauge,
    pub anomalies: Gauge,
    pub alerts_unraised: Gauge,
    /// Acknowledgements of alerts that do not exist.
    pub acknowledgements_unknown: Counter,
    /// Readings turned away because they could not be stored.
    pub readings_refused: Counter,
    /// Alerts that were raised while nothing could be stored.
    pub raised_unstored: Gauge,
    /// Alerts that are raised, stored or not.
    pub alerts_raised: Gauge,
    /// Damaged stores whose salvaging has begun since the start, and those for which it has finished.
    pub salvaging: Counter,
    pub salvaged_stores: Counter,
    /// Bytes that further raw readings may take in the store.
    pub(crate) room_bytes: Gauge,
    /// Once readings are turned away, so much room is needed before they are taken again.
    pub(crate) room_again_bytes: Gauge,
    pub(super) failing: AtomicBool,
    pub(crate) hung: AtomicBool,
    pub(crate) expiring: AtomicBool,
    pub(crate) refusing: AtomicBool,
    pub(crate) ending: AtomicBool,
    abandoned: AtomicBool,
    readings_abandoned: Gauge,
    rule_failures: Mutex<HashMap<Arc<str>, String>>,
}

impl StoreCounters {
    /// How a rule has failed last, if it has.
    pub fn rule_failure(&self, rule: &str) -> Option<String> {
        self.rule_failures().get(rule).cloned()
    }

    pub(super) fn note_rule_failure(&self, rule: Arc<str>, failure: &str) {
        let mut failures = self.rule_failures();
        if failures.len() < RULE_FAILURES_MAX || failures.contains_key(&rule) {
            failures.insert(rule, failure.chars().take(FAILURE_CHARS_MAX).collect());
        }
    }

    fn rule_failures(&self) -> MutexGuard<'_, HashMap<Arc<str>, String>> {
        self.rule_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.failing.store(is_failing, Ordering::Relaxed);
    }

    /// The store is full, and the oldest readings are removed.
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

    /// The process ends, and so many readings could not be stored; they were not acknowledged.
    pub(crate) fn abandon(&self, readings: u64) {
        self.readings_abandoned.set(readings);
        self.abandoned.store(true, Ordering::Release);
    }

    /// Readings that were not stored or acknowledged when the process ended; `None` if everything was stored.
    pub fn readings_abandoned(&self) -> Option<u64> {
        self.abandoned.load(Ordering::Acquire).then(|| self.readings_abandoned.get())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

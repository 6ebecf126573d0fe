//! What each rule has done so far. Counted by whichever thread runs the rule, read by whoever shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts of one rule since the start of the process.
#[derive(Debug, Default)]
pub struct Tally {
    evaluations: AtomicU64,
    matches: AtomicU64,
    begins: AtomicU64,
    errors: AtomicU64,
    loops: AtomicU64,
    nanoseconds: AtomicU64,
    has_alert: AtomicBool,
}

/// The counts as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it was evaluated: for a message, for a reading, or because time has passed.
    pub evaluations: u64,
    /// Those for which it held.
    pub matches: u64,
    /// Evaluations and actions that failed.
    pub errors: u64,
    /// Messages that it did not see, because it had made them.
    pub loops: u64,
    /// Time that its evaluations and the making of its results took.
    pub nanoseconds: u64,
}

impl Tally {
    /// The counts as they stand.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            evaluations: of(&self.evaluations),
            matches: of(&self.matches),
            errors: of(&self.errors),
            loops: of(&self.loops),
            nanoseconds: of(&self.nanoseconds),
        }
    }

    /// Whether an alert of the rule may be raised: only then is it worth saying that all is well.
    pub fn has_alert(&self) -> bool {
        self.has_alert.load(Ordering::Relaxed)
    }

    /// Says whether an alert of the rule is raised.
    pub fn set_alert(&self, is_raised: bool) {
        self.has_alert.store(is_raised, Ordering::Relaxed);
    }

    pub(super) fn evaluated(&self, nanoseconds: u64) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How often its condition has begun to hold; 0 of a rule that sees messages.
    pub fn begins(&self) -> u64 {
        self.begins.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) {
        self.begins.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn matched(&self) {
        self.matches.fetch_add(1, Ordering::Relaxed);
    }

    /// An evaluation or an action failed.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn looped(&self) {
        self.loops.fetch_add(1, Ordering::Relaxed);
    }
}

/// Nanoseconds since the last lap, by a stopwatch that runs on.
pub(super) fn laps<'s>(stopwatch: &'s dyn Fn() -> u64) -> impl FnMut() -> u64 + 's {
    let mut before = stopwatch();
    move || {
        let now = stopwatch();
        now.saturating_sub(std::mem::replace(&mut before, now))
    }
}

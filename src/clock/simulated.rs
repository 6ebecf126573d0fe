//! Virtual time: the simulation sets it for its own thread, on which everything else of it runs too.

use std::cell::Cell;
use std::time::Instant;

#[derive(Clone, Copy)]
struct Time {
    instant: Instant,
    wall_ms: i64,
}

thread_local! {
    static NOW: Cell<Option<Time>> = const { Cell::new(None) };
}

/// From now on this thread is told this time.
pub fn set(instant: Instant, wall_ms: i64) {
    NOW.set(Some(Time { instant, wall_ms }));
}

/// From now on this thread is told the real time.
pub fn clear() {
    NOW.set(None);
}

pub(super) fn instant() -> Option<Instant> {
    NOW.get().map(|now| now.instant)
}

pub(super) fn now_ms() -> Option<i64> {
    NOW.get().map(|now| now.wall_ms)
}

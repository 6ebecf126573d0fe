//! What network cards call interrupt moderation: under a light load the edge's thread does not listen for a moment before it waits again, so that
//! publishes that come one by one are taken several at a time. A wake-up for each costs more than all else that is done with it.
//!
//! An idle gateway wakes up at once, and a busy one never waits: this is for what lies between.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// An answer is late by as much at the most.
const PAUSE: Duration = Duration::from_millis(3);
/// So many publishes at one time are a load that needs no help to gather.
const LIGHT_PUBLISHES_MAX: usize = 32;

thread_local! {
    static PUBLISHES: Cell<usize> = const { Cell::new(0) };
}

/// The runtime of the edge's thread.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().on_thread_park(before_waiting).build()
}

/// Publishes were taken from a socket.
pub(super) fn note(publishes: usize) {
    PUBLISHES.set(PUBLISHES.get() + publishes);
}

fn before_waiting() {
    if (1..=LIGHT_PUBLISHES_MAX).contains(&PUBLISHES.take()) {
        std::thread::sleep(PAUSE);
    }
}

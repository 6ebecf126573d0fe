//! Works like the interrupt moderation of network cards: under a light load the MQTT thread pauses for a moment before it polls again, so
//! that publishes that come one by one are handled several at a time. A wake-up for each costs more than everything else that is done with
//! it.
//!
//! An idle gateway wakes up at once, and a busy one never pauses: this is for the loads in between.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Delays an answer by at most this much.
const PAUSE: Duration = Duration::from_millis(3);
/// With more publishes at a time than this, the load batches by itself.
const LIGHT_PUBLISHES_MAX: usize = 32;

thread_local! {
    static PUBLISHES: Cell<usize> = const { Cell::new(0) };
}

/// The runtime of the MQTT thread.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().on_thread_park(before_waiting).build()
}

/// Publishes were read from a socket.
pub(super) fn note(publishes: usize) {
    PUBLISHES.set(PUBLISHES.get() + publishes);
}

fn before_waiting() {
    if (1..=LIGHT_PUBLISHES_MAX).contains(&PUBLISHES.take()) {
        std::thread::sleep(PAUSE);
    }
}

//! One clock for a whole run: microseconds since its start, and the offset to epoch microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The wall clock is read once and advanced by the monotonic one, so latencies do not depend on clock changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    epoch_offset_us: u64,
}

impl Clock {
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_offset_us = u64::try_from(since_epoch.as_micros()).expect("this age fits 64 bits of microseconds");
        Clock { start: Instant::now(), epoch_offset_us }
    }

    /// Microseconds since the start, and the epoch microsecond of the start.
    pub fn now_us(&self) -> (u64, u64) {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).expect("a run is shorter than 64 bits of us");
        (elapsed, self.epoch_offset_us)
    }

    pub fn instant_of_us(&self, time_us: u64) -> Instant {
        self.start + Duration::from_micros(time_us)
    }
}

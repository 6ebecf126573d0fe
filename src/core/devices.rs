//! A device: whether it is silent, or asleep.
//!
//! A device that goes away takes all its series with it: that is one thing to tell, not one for each of them. A device whose client took
//! its leave is asleep, and nobody misses it.

use super::past::Past;
use super::silence::Rhythm;

/// Who published: a connection of a client. 0 is nobody.
pub type Publisher = u64;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    pub rhythm: Rhythm,
    /// Series are not missed that have not spoken since.
    pub woke_ms: i64,
    pub publisher: Publisher,
    pub is_asleep: bool,
    /// Whether silence of any of its series is trouble.
    pub has_gaps: bool,
    pub past: Past,
}

impl Device {
    pub const NEW: Device = Device {
        rhythm: Rhythm::NEW,
        woke_ms: i64::MIN,
        publisher: 0,
        is_asleep: false,
        has_gaps: false,
        past: Past::NONE,
    };

    /// One of its readings has arrived, and we have been listening since. Returns whether that ends a silence that was noticed.
    pub fn hear(&mut self, now_ms: i64, listening_ms: i64, publisher: Publisher) -> bool {
        self.publisher = publisher;
        let expected_ms = if self.is_asleep { now_ms } else { listening_ms };
        let was_silent = self.rhythm.hear(now_ms, expected_ms);
        if was_silent || self.is_asleep {
            self.woke_ms = now_ms;
        }
        self.is_asleep = false;
        was_silent
    }

    pub fn falls_silent(&mut self, now_ms: i64, listening_ms: i64) -> bool {
        self.has_gaps && !self.is_asleep && self.rhythm.falls_silent(now_ms, listening_ms)
    }
}

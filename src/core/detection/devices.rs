//! What is known of a device: when it was heard, whether it is silent or asleep, and its clock.
//!
//! A device that goes away takes all its series with it: that is reported once, not for each of them. A device whose client has
//! disconnected in order is asleep, and its silence is not reported.

use crate::detection::rewind_guard::RewindGuard;
use crate::detection::silence::Rhythm;
use crate::device_clock::DeviceClock;

/// Stands for the metric in findings and alerts about a device as a whole.
pub const DEVICE_METRIC: &str = "_device";

/// Which connection of a client published; 0 stands for none.
pub type Publisher = u64;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    /// Of readings whose absence is trouble. Metrics that are reported on change, or only while driving, do not count.
    pub rhythm: Rhythm,
    /// When the newest reading of any metric came.
    heard_ms: i64,
    /// Series that have not been heard since then are not missed.
    pub woke_ms: i64,
    pub publisher: Publisher,
    /// The client to whose share its series belong: the one that brought it, or the first to be heard after a start.
    pub client: Publisher,
    pub is_asleep: bool,
    /// Whether silence of any of its series is trouble.
    pub has_gaps: bool,
    pub rewind_guard: RewindGuard,
    /// `None` for most devices, whose clocks are right.
    pub clock: Option<Box<DeviceClock>>,
}

impl Device {
    pub const NEW: Device = Device {
        rhythm: Rhythm::NEW,
        heard_ms: i64::MIN,
        woke_ms: i64::MIN,
        publisher: 0,
        client: 0,
        is_asleep: false,
        has_gaps: false,
        rewind_guard: RewindGuard::NONE,
        clock: None,
    };

    /// Takes note of a reading; we have been listening since `listening_ms`. `is_missed`: its absence would be trouble; `is_late`: it was
    /// measured long before. Returns whether this ends a silence that was noticed.
    pub fn hear(
        &mut self,
        now_ms: i64,
        listening_ms: i64,
        publisher: Publisher,
        (is_missed, is_late): (bool, bool),
    ) -> bool {
        self.publisher = publisher;
        self.heard_ms = now_ms;
        let expected_ms = if self.is_asleep { now_ms } else { listening_ms.max(self.woke_ms) };
        let was_silent = match is_missed {
            true => self.rhythm.hear(now_ms, expected_ms, is_late),
            false => std::mem::take(&mut self.rhythm.is_silent),
        };
        if was_silent || self.is_asleep {
            self.woke_ms = now_ms;
        }
        self.is_asleep = false;
        was_silent
    }

    pub fn falls_silent(&mut self, now_ms: i64, listening_ms: i64) -> bool {
        self.has_gaps
            && !self.is_asleep
            && self.rhythm.has_stayed()
            && self.rhythm.falls_silent(now_ms, listening_ms.max(self.heard_ms))
    }

    /// Since when it is silent, if we have been listening since `listening_ms`.
    pub fn silent_from_ms(&self, listening_ms: i64) -> i64 {
        self.rhythm.silent_from_ms(listening_ms.max(self.heard_ms))
    }
}

//! Derives how much time went by from the times of a device's readings.

use crate::core::detection::alert::Moment;
use crate::core::detection::window::JUMP_MS;
use crate::core::identity::RunId;
use crate::core::reading::TimeQuality;

#[derive(Clone, Copy, Debug)]
struct Last {
    run: RunId,
    quality: TimeQuality,
}

#[derive(Debug, Default)]
pub struct Clock {
    /// The newest time in the device's readings.
    wall_ms: i64,
    pub received_ms: i64,
    pub steady_ms: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    Elapsed {
        elapsed_ms: u64,
    },
    /// The gateway was off until now, or this is the first reading.
    Started,
}

impl Clock {
    pub fn hear(&mut self, run: RunId, at_ms: i64, received_ms: i64, quality: TimeQuality) -> Passage {
        let before = self.last.replace(Last { run, quality });
        // Sessions submit concurrently, so a receive time that is slightly earlier does not mean that the clock was set back.
        let is_set_back = before.is_some() && received_ms < self.received_ms.saturating_sub(JUMP_MS);
        self.received_ms = if is_set_back { received_ms } else { self.received_ms.max(received_ms) };
        let elapsed_ms = at_ms.saturating_sub(self.wall_ms);
        // Any other older reading was sent again or arrived late.
        if before.is_none() || is_set_back || elapsed_ms > 0 {
            self.wall_ms = at_ms;
        }
        match before.filter(|before| before.run == run) {
            None => Passage::Started,
            Some(before) => {
                let is_set = is_set_back || before.quality == TimeQuality::Unsynced && quality == TimeQuality::Synced;
                let elapsed_ms = if is_set { 0 } else { u64::try_from(elapsed_ms).unwrap_or(0) };
                self.steady_ms += elapsed_ms;
                Passage::Elapsed { elapsed_ms }
            }
        }
    }

    /// Lets time pass without a reading.
    pub fn go_on(&mut self, elapsed_ms: u64) -> Passage {
        self.wall_ms = self.wall_ms.saturating_add_unsigned(elapsed_ms);
        self.steady_ms += elapsed_ms;
        Passage::Elapsed { elapsed_ms }
    }

    pub fn is_of(&self, run: RunId) -> bool {
        self.last.is_some_and(|last| last.run == run)
    }

    pub fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, steady_ms: self.steady_ms }
    }
}

//! Derives how much time went by from the times of a device's readings, and lets it pass for whoever replays them.

use crate::core::detection::alert::Moment;
use crate::core::detection::window::JUMP_MS;
use crate::core::identity::RunId;
use crate::core::reading::{Reading, TimeQuality};

/// How far a clock advances between two looks at what time alone brings, as in the gateway.
const TICK_MS: u64 = 500;

/// A run of the gateway, and when it was first and last heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub run: RunId,
    pub since_ms: i64,
    pub last_ms: i64,
}

impl Heard {
    /// Takes note of something from a run, which may be another one than before.
    pub fn note(heard: &mut Option<Heard>, run: RunId, at_ms: i64) {
        match heard {
            // Not the latest time: the system's clock may have been set back.
            Some(heard) if heard.run == run => heard.last_ms = at_ms,
            heard => *heard = Some(Heard { run, since_ms: at_ms, last_ms: at_ms }),
        }
    }
}

/// What is told of the passing of time.
#[derive(Clone, Copy, Debug)]
pub enum Passed {
    /// The gateway was off until now, or this is the beginning.
    Started(Moment),
    /// It is time to look what time alone has brought.
    Tick(Moment),
}

#[derive(Clone, Copy, Debug)]
struct Last {
    run: RunId,
    quality: TimeQuality,
}

#[derive(Debug, Default)]
pub struct Clock {
    /// The newest time in the device's readings.
    wall_ms: i64,
    received_ms: i64,
    pub steady_ms: u64,
    last: Option<Last>,
    ticked_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Elapsed {
        elapsed_ms: u64,
    },
    /// The gateway was off until now, or this is the first reading.
    Started,
}

impl Clock {
    /// Lets time pass up to a reading. A long pause is divided into at most `steps_max` steps.
    pub fn pass_to(&mut self, run: RunId, reading: &Reading<'_>, steps_max: u64, tell: &mut dyn FnMut(Passed)) {
        let Reading { measured_at_ms, received_at_ms, time_quality, .. } = *reading;
        // A device clock that is ahead of ours is wrong.
        let is_ahead = measured_at_ms > received_at_ms.saturating_add(JUMP_MS);
        let at_ms = if is_ahead { received_at_ms } else { measured_at_ms };
        let passage = self.hear(run, at_ms, received_at_ms, time_quality);
        self.pass(passage, steps_max, tell);
    }

    /// The device has been silent since its last reading, until the run was heard last.
    pub fn pass_to_end(&mut self, heard: Heard, steps_max: u64, tell: &mut dyn FnMut(Passed)) {
        let silent_from_ms = match self.last.is_some_and(|last| last.run == heard.run) {
            true => self.received_ms,
            false => {
                self.pass(Passage::Started, steps_max, tell);
                heard.since_ms
            }
        };
        let silent_ms = heard.last_ms.saturating_sub(silent_from_ms);
        let passage = self.go_on(u64::try_from(silent_ms).unwrap_or(0));
        self.pass(passage, steps_max, tell);
    }

    fn pass(&mut self, passage: Passage, steps_max: u64, tell: &mut dyn FnMut(Passed)) {
        let now = self.moment();
        let Passage::Elapsed { elapsed_ms } = passage else { return tell(Passed::Started(now)) };
        let step_ms = TICK_MS.max(elapsed_ms / steps_max);
        while now.steady_ms - self.ticked_ms >= step_ms {
            self.ticked_ms += step_ms;
            let before_ms = i64::try_from(now.steady_ms - self.ticked_ms).unwrap_or(i64::MAX);
            tell(Passed::Tick(Moment { wall_ms: now.wall_ms.saturating_sub(before_ms), steady_ms: self.ticked_ms }));
        }
    }

    fn hear(&mut self, run: RunId, at_ms: i64, received_ms: i64, quality: TimeQuality) -> Passage {
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
    fn go_on(&mut self, elapsed_ms: u64) -> Passage {
        self.wall_ms = self.wall_ms.saturating_add_unsigned(elapsed_ms);
        self.steady_ms += elapsed_ms;
        Passage::Elapsed { elapsed_ms }
    }

    pub fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, steady_ms: self.steady_ms }
    }
}

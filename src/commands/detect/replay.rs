//! One pass over a log drives two pipelines: the gateway's own, with all that it does to a reading, once with each setting.
//!
//! The clock is when readings were received. It stands still where the gateway was away: at a start of another run, and where the
//! system's clock was set. So its own absence is no silence, and no quiet that would clear an alert.

use crate::core::alert::{self, AlertTimes, Moment};
use crate::core::batch::{Damaged, Decoder, Stored};
use crate::core::identity::RunId;
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings, TimeQuality};
use crate::core::watch::WatchSettings;
use crate::core::window::JUMP_MS;

use super::comparison::Comparison;

/// How far the clock goes before silences are looked for again, as the gateway does.
const TICK_MS: u64 = 500;
/// A long pause is walked through in at most so many steps.
const STEPS_MAX: u64 = 256;

/// How readings are watched, and what becomes of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub watch: WatchSettings,
    pub alerts: AlertTimes,
}

#[derive(Debug)]
pub struct Replay {
    /// Present and changed.
    sides: [Pipeline; 2],
    comparison: Comparison,
    clock: Clock,
    ticked_ms: u64,
    /// What was received in one moment.
    group: Readings,
    group_ms: i64,
    readings: u64,
}

impl Replay {
    pub fn new(present: &Setting, changed: &Setting) -> Replay {
        let pipeline = |setting: &Setting| {
            Pipeline::new(PipelineSettings {
                gateway: String::new(),
                run: RunId([0; 8]),
                watch: setting.watch.clone(),
                alerts: setting.alerts,
                last_raw_sequence: 0,
                last_anomaly_sequence: 0,
            })
        };
        Replay {
            sides: [pipeline(present), pipeline(changed)],
            comparison: Comparison::default(),
            clock: Clock::default(),
            ticked_ms: 0,
            group: Readings::default(),
            group_ms: 0,
            readings: 0,
        }
    }

    /// The next batch of the log.
    pub fn batch(&mut self, run: RunId, payload: &[u8]) -> Result<(), Damaged> {
        let result = self.records(run, payload);
        self.take_group();
        self.compare();
        result
    }

    fn records(&mut self, run: RunId, payload: &[u8]) -> Result<(), Damaged> {
        for record in Decoder::new(payload)? {
            let Stored::Reading(reading) = record? else { continue };
            if reading.received_at_ms != self.group_ms {
                self.take_group();
            }
            if self.group.is_empty() {
                self.arrive(run, &reading);
            }
            self.group.push(&reading);
            self.readings += 1;
        }
        Ok(())
    }

    /// The clock goes on to when this reading came.
    fn arrive(&mut self, run: RunId, reading: &Reading<'_>) {
        self.group_ms = reading.received_at_ms;
        match self.clock.hear(run, reading.received_at_ms, reading.time_quality) {
            Passage::Elapsed { elapsed_ms } => self.pass(elapsed_ms),
            Passage::Started => {
                let now = self.clock.moment();
                self.sides.iter_mut().for_each(|side| side.listen_from(now));
            }
        }
    }

    fn pass(&mut self, elapsed_ms: u64) {
        let now = self.clock.moment();
        let step_ms = TICK_MS.max(elapsed_ms / STEPS_MAX);
        while now.steady_ms - self.ticked_ms >= step_ms {
            self.ticked_ms += step_ms;
            let before_ms = i64::try_from(now.steady_ms - self.ticked_ms).unwrap_or(i64::MAX);
            let then = Moment { wall_ms: now.wall_ms.saturating_sub(before_ms), steady_ms: self.ticked_ms };
            self.sides.iter_mut().for_each(|side| side.tick(then));
            self.compare_changes();
        }
    }

    fn take_group(&mut self) {
        if !self.group.is_empty() {
            let now = self.clock.moment();
            self.sides.iter_mut().for_each(|side| side.take(&self.group, now));
            self.group.clear();
            self.compare_changes();
        }
    }

    fn compare_changes(&mut self) {
        if self.sides.iter().any(|side| !side.open_alerts().is_empty()) {
            self.compare();
        }
    }

    /// Empties the open batches, which nobody is to have, and compares the alerts that changed.
    fn compare(&mut self) {
        let changes = self.sides.each_mut().map(|side| {
            let bodies = side.seal().alerts.into_iter().filter_map(|row| row.body);
            let known = bodies.filter_map(|body| alert::read_alert(&body));
            known.map(|(key, alert)| (key, alert.state)).collect()
        });
        self.comparison.step(changes);
    }

    pub fn comparison(&mut self) -> &mut Comparison {
        &mut self.comparison
    }

    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// How long the gateway listened, as far as can be told.
    pub fn listened_ms(&self) -> u64 {
        self.clock.steady_ms
    }

    /// The run that was heard last, and its clock.
    pub fn last_heard(&self) -> Option<(RunId, i64)> {
        self.clock.last.map(|last| (last.run, self.clock.wall_ms))
    }

    /// Watched with each setting.
    pub fn sides(&self) -> &[Pipeline; 2] {
        &self.sides
    }

    pub fn finish(mut self) -> Comparison {
        self.comparison.finish();
        self.comparison
    }
}

#[derive(Clone, Copy, Debug)]
struct Last {
    run: RunId,
    quality: TimeQuality,
}

/// What the times of receipt say of the time that went by.
#[derive(Debug, Default)]
struct Clock {
    wall_ms: i64,
    steady_ms: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Elapsed {
        elapsed_ms: u64,
    },
    /// The gateway was away until now, or nothing is known of before.
    Started,
}

impl Clock {
    fn hear(&mut self, run: RunId, at_ms: i64, quality: TimeQuality) -> Passage {
        let before = self.last.replace(Last { run, quality });
        let elapsed_ms = at_ms.saturating_sub(self.wall_ms);
        // Sessions hand over side by side: a little earlier is not set back.
        let is_set_back = elapsed_ms < -JUMP_MS;
        let Some(before) = before.filter(|before| before.run == run) else {
            self.wall_ms = at_ms;
            return Passage::Started;
        };
        let is_set = is_set_back || before.quality == TimeQuality::Unsynced && quality == TimeQuality::Synced;
        self.wall_ms = if is_set_back { at_ms } else { self.wall_ms.max(at_ms) };
        let elapsed_ms = if is_set { 0 } else { u64::try_from(elapsed_ms).unwrap_or(0) };
        self.steady_ms += elapsed_ms;
        Passage::Elapsed { elapsed_ms }
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, steady_ms: self.steady_ms }
    }
}

#[cfg(test)]
mod tests;

//! One pass over a log drives two of the gateway's own pipelines for each device, with all that they do to a reading: once with each
//! setting.
//!
//! The clock is that of the readings, for each device its own: what a device had in its buffer counts as if it had come when it was
//! measured. It stands still where the gateway was away, at a start of another run, and where the system's clock was set; so the gateway's
//! own absence is no silence, and no quiet that would clear an alert.

use std::collections::HashMap;

use crate::core::detection::alert::{self, AlertTimes, Moment};
use crate::core::detection::monitor::{LATE_AFTER_MS, MonitorSettings};
use crate::core::detection::window::JUMP_MS;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::Reading;

use super::clock::{Clock, Passage};
use super::comparison::{Comparison, Side};

/// How far the clock goes before silences are looked for again, as the gateway does.
const TICK_MS: u64 = 500;
/// A long pause is walked through in at most so many steps.
const STEPS_MAX: u64 = 256;
/// Records in an open batch before it is emptied.
const OPEN_MAX: u32 = 64;
/// Devices that are looked at; readings of further ones are counted.
const DEVICES_MAX: usize = 50_000;

/// How readings are watched, and what becomes of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
}

#[derive(Debug)]
pub struct Replay {
    /// Present and changed.
    settings: [Setting; 2],
    devices: HashMap<Box<str>, Device>,
    devices_max: usize,
    comparison: Comparison,
    /// The run that is heard, when it was heard first, and last.
    heard: Option<Heard>,
    readings: u64,
    late: u64,
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    run: RunId,
    since_ms: i64,
    last_ms: i64,
}

/// Present and changed.
#[derive(Debug)]
struct Device {
    sides: [Pipeline; 2],
    clock: Clock,
    ticked_ms: u64,
}

impl Replay {
    pub fn new(present: &Setting, changed: &Setting) -> Replay {
        Replay {
            settings: [present.clone(), changed.clone()],
            devices: HashMap::new(),
            devices_max: DEVICES_MAX,
            comparison: Comparison::default(),
            heard: None,
            readings: 0,
            late: 0,
            left_out: 0,
        }
    }

    /// The next reading of the log.
    pub fn take(&mut self, run: RunId, reading: &Reading<'_>) {
        self.readings += 1;
        let last_ms = reading.received_at_ms;
        self.late += u64::from(last_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS);
        match &mut self.heard {
            Some(heard) if heard.run == run => heard.last_ms = last_ms,
            heard => *heard = Some(Heard { run, since_ms: last_ms, last_ms }),
        }
        if !self.devices.contains_key(reading.device) {
            if self.devices.len() >= self.devices_max {
                self.left_out += 1;
                return;
            }
            self.devices.insert(reading.device.into(), Device::new(&self.settings));
        }
        let device = self.devices.get_mut(reading.device).expect("just inserted");
        device.take(run, reading, &mut self.comparison);
    }

    pub fn comparison(&mut self) -> &mut Comparison {
        &mut self.comparison
    }

    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Readings that came so late that the gateway raised nothing for them.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Readings of devices that were too many.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The longest that any device was listened to, by its own time and as far as can be told.
    pub fn covered_ms(&self) -> u64 {
        self.devices.values().map(|device| device.clock.steady_ms).max().unwrap_or(0)
    }

    /// The run that was heard last, and when.
    pub fn last_heard(&self) -> Option<(RunId, i64)> {
        self.heard.map(|heard| (heard.run, heard.last_ms))
    }

    /// Series that are watched with one of the settings.
    pub fn series(&self, side: Side) -> usize {
        self.devices.values().map(|device| device.sides[side as usize].monitor().series_count()).sum()
    }

    /// The log is over. A device that was heard last before that has been silent since.
    pub fn finish(&mut self) {
        let Some(heard) = self.heard else { return };
        for device in self.devices.values_mut() {
            device.end(heard, &mut self.comparison);
        }
        self.comparison.finish();
    }

    pub fn into_comparison(self) -> Comparison {
        self.comparison
    }
}

impl Device {
    fn new(settings: &[Setting; 2]) -> Device {
        let pipeline = |setting: &Setting| {
            Pipeline::new(
                PipelineSettings {
                    gateway: String::new(),
                    run: RunId([0; 8]),
                    monitor: setting.monitor.clone(),
                    alerts: setting.alerts,
                },
                &PerStream::default(),
            )
        };
        Device { sides: settings.each_ref().map(pipeline), clock: Clock::default(), ticked_ms: 0 }
    }

    fn take(&mut self, run: RunId, reading: &Reading<'_>, comparison: &mut Comparison) {
        let Reading { measured_at_ms, received_at_ms, time_quality, .. } = *reading;
        // A clock that is ahead of ours is wrong.
        let is_ahead = measured_at_ms > received_at_ms.saturating_add(JUMP_MS);
        let at_ms = if is_ahead { received_at_ms } else { measured_at_ms };
        let passage = self.clock.hear(run, at_ms, received_at_ms, time_quality);
        self.pass(passage, comparison);
        let now = self.clock.moment();
        let reading = Reading { received_at_ms: now.wall_ms, ..*reading };
        self.sides.iter_mut().for_each(|side| side.take_judged(&reading, now));
        self.compare(comparison);
    }

    fn pass(&mut self, passage: Passage, comparison: &mut Comparison) {
        let now = self.clock.moment();
        let Passage::Elapsed { elapsed_ms } = passage else {
            self.sides.iter_mut().for_each(|side| side.listen_from(now));
            return;
        };
        let step_ms = TICK_MS.max(elapsed_ms / STEPS_MAX);
        while now.steady_ms - self.ticked_ms >= step_ms {
            self.ticked_ms += step_ms;
            let before_ms = i64::try_from(now.steady_ms - self.ticked_ms).unwrap_or(i64::MAX);
            let then = Moment { wall_ms: now.wall_ms.saturating_sub(before_ms), steady_ms: self.ticked_ms };
            self.sides.iter_mut().for_each(|side| side.tick(then));
            self.compare(comparison);
        }
    }

    fn end(&mut self, heard: Heard, comparison: &mut Comparison) {
        let silent_from_ms = match self.clock.is_of(heard.run) {
            true => self.clock.received_ms,
            false => {
                self.pass(Passage::Started, comparison);
                heard.since_ms
            }
        };
        let silent_ms = heard.last_ms.saturating_sub(silent_from_ms);
        let passage = self.clock.go_on(u64::try_from(silent_ms).unwrap_or(0));
        self.pass(passage, comparison);
    }

    /// Empties the open batches, which nobody is to have, and compares the alerts that changed.
    fn compare(&mut self, comparison: &mut Comparison) {
        let is_quiet = self.sides.iter().all(|side| side.open_alerts().is_empty());
        if is_quiet && self.sides[0].open_count() < OPEN_MAX {
            return;
        }
        let changes = self.sides.each_mut().map(|side| {
            let bodies = side.seal().alerts.into_iter().filter_map(|row| row.body);
            let known = bodies.filter_map(|body| alert::read_alert(&body));
            known.map(|(key, alert)| (key, alert.state)).collect()
        });
        if !is_quiet {
            comparison.step(changes);
        }
    }
}

#[cfg(test)]
mod tests;

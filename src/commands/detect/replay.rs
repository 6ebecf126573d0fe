//! In one pass over a log, two of the gateway's own pipelines for each device process every reading completely: one with each setting.
//!
//! The clock of each device is that of its readings: what a device had buffered counts as if it had arrived when it was measured. The clock
//! stands still while the gateway was off, at the start of another run, and where the system's clock was set, so the gateway's own absence
//! counts neither as silence nor as a quiet time that would clear an alert.

use std::collections::HashMap;

use crate::core::detection::alert::{self, AlertTimes, Moment};
use crate::core::detection::monitor::{LATE_AFTER_MS, MonitorSettings};
use crate::core::detection::window::JUMP_MS;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::Reading;

use super::clock::{Clock, Passage};
use super::comparison::{Comparison, Side};

/// How far the clock advances between two checks for silences, as in the gateway.
const TICK_MS: u64 = 500;
/// A long pause is divided into at most this many steps.
const STEPS_MAX: u64 = 256;
/// The open batch is emptied at this many records.
const OPEN_MAX: u32 = 64;
/// Most devices that are watched; readings of further ones are counted.
const DEVICES_MAX: usize = 50_000;

/// How readings are watched, and how alerts are handled.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
}

#[derive(Debug)]
pub struct Replay {
    /// The present and the changed setting.
    settings: [Setting; 2],
    devices: HashMap<Box<str>, Device>,
    devices_max: usize,
    comparison: Comparison,
    /// The current run, and when it was first and last heard.
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

/// One device, with a pipeline for each setting.
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

    /// Takes the next reading of the log.
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

    /// Readings that arrived so late that the gateway raised no alert for them.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Readings of devices beyond the limit.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The longest time covered by any device, by its own clock and as far as known.
    pub fn covered_ms(&self) -> u64 {
        self.devices.values().map(|device| device.clock.steady_ms).max().unwrap_or(0)
    }

    /// The run that was heard last, and when.
    pub fn last_heard(&self) -> Option<(RunId, i64)> {
        self.heard.map(|heard| (heard.run, heard.last_ms))
    }

    /// Number of series watched with one of the settings.
    pub fn series(&self, side: Side) -> usize {
        self.devices.values().map(|device| device.sides[side as usize].monitor().series_count()).sum()
    }

    /// The log has ended. A device that was last heard earlier has been silent since.
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
                    rules: Default::default(),
                },
                &PerStream::default(),
            )
        };
        Device { sides: settings.each_ref().map(pipeline), clock: Clock::default(), ticked_ms: 0 }
    }

    fn take(&mut self, run: RunId, reading: &Reading<'_>, comparison: &mut Comparison) {
        let Reading { measured_at_ms, received_at_ms, time_quality, .. } = *reading;
        // A device clock that is ahead of ours is wrong.
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

    /// Empties the open batches, which are not needed, and compares the alerts that changed.
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

//! In one pass over a log, two of the gateway's own pipelines for each device process every reading completely: one with each setting.
//!
//! The clock of each device is that of its readings: what a device had buffered counts as if it had arrived when it was measured. The clock
//! stands still while the gateway was off, at the start of another run, and where the system's clock was set, so the gateway's own absence
//! counts neither as silence nor as a quiet time that would clear an alert.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::detection::alert::{self, AlertTimes};
use crate::core::detection::monitor::{LATE_AFTER_MS, MonitorSettings};
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings, RuleSettings};
use crate::core::reading::Reading;
use crate::core::rulebook::ModelDetectors;

use super::clock::{Clock, Heard, Passed};
use super::comparison::{Comparison, Side};

/// A long pause is divided into at most this many steps.
const STEPS_MAX: u64 = 256;
/// The open batch is emptied at this many records.
const OPEN_MAX: u32 = 64;
/// Most devices that are watched; readings of further ones are counted.
const DEVICES_MAX: usize = 50_000;

/// How readings are watched, and how alerts are handled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setting {
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
    pub models: ModelDetectors,
}

#[derive(Debug)]
pub struct Replay {
    /// The present and the changed setting.
    settings: [PipelineSettings; 2],
    devices: HashMap<Box<str>, Device>,
    devices_max: usize,
    comparison: Comparison,
    /// The current run, and when it was first and last heard.
    heard: Option<Heard>,
    readings: u64,
    late: u64,
    left_out: u64,
}

/// Of the rules, only those of models with a threshold: the others have `outrider rules backtest`.
fn settings_of(setting: &Setting) -> PipelineSettings {
    PipelineSettings {
        monitor: setting.monitor.clone(),
        alerts: setting.alerts,
        rules: RuleSettings { book: Arc::new(setting.models.book()), ..RuleSettings::default() },
        ..PipelineSettings::new("", RunId([0; 8]))
    }
}

/// One device, with a pipeline for each setting.
#[derive(Debug)]
struct Device {
    sides: [Pipeline; 2],
    clock: Clock,
}

impl Replay {
    pub fn new(present: &Setting, changed: &Setting) -> Replay {
        Replay {
            settings: [present, changed].map(settings_of),
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
        Heard::note(&mut self.heard, run, last_ms);
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
    fn new(settings: &[PipelineSettings; 2]) -> Device {
        let pipeline = |settings: &PipelineSettings| Pipeline::new(settings.clone(), &PerStream::default());
        Device { sides: settings.each_ref().map(pipeline), clock: Clock::default() }
    }

    fn take(&mut self, run: RunId, reading: &Reading<'_>, comparison: &mut Comparison) {
        let Device { sides, clock } = self;
        clock.pass_to(run, reading, STEPS_MAX, &mut |passed| pass(sides, passed, comparison));
        let now = clock.moment();
        let reading = Reading { received_at_ms: now.wall_ms, ..*reading };
        sides.iter_mut().for_each(|side| side.take_judged(&reading, now));
        compare(sides, comparison);
    }

    fn end(&mut self, heard: Heard, comparison: &mut Comparison) {
        let Device { sides, clock } = self;
        clock.pass_to_end(heard, STEPS_MAX, &mut |passed| pass(sides, passed, comparison));
    }
}

fn pass(sides: &mut [Pipeline; 2], passed: Passed, comparison: &mut Comparison) {
    match passed {
        Passed::Started(now) => sides.iter_mut().for_each(|side| side.listen_from(now)),
        Passed::Tick(now) => {
            sides.iter_mut().for_each(|side| side.tick(now));
            compare(sides, comparison);
        }
    }
}

/// Empties the open batches, which are not needed, and compares the alerts that changed.
fn compare(sides: &mut [Pipeline; 2], comparison: &mut Comparison) {
    let is_quiet = sides.iter().all(|side| side.open_alerts().is_empty());
    if is_quiet && sides[0].open_count() < OPEN_MAX {
        return;
    }
    let changes = sides.each_mut().map(|side| {
        let bodies = side.seal().alerts.into_iter().filter_map(|row| row.body);
        let known = bodies.filter_map(|body| alert::read_alert(&body));
        known.map(|(key, alert)| (key, alert.state)).collect()
    });
    if !is_quiet {
        comparison.step(changes);
    }
}

#[cfg(test)]
mod tests;

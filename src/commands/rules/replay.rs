//! Replays readings through the gateway's own pipeline, one for each device, and tells when conditions begin to hold and alerts change.
//!
//! The clock of each device is that of its readings, so what a device had buffered counts as if it had arrived when it was measured. Nothing
//! is stored or published. What a rule makes for another device stays with the device that it was made of.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock;
use crate::commands::detect::clock::{Clock, Heard, Passed};
use crate::config::Configuration;
use crate::core::detection::alert::{self, State};
use crate::core::detection::monitor::LATE_AFTER_MS;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings, RuleSettings};
use crate::core::reading::Reading;
use crate::core::rulebook::Rulebook;

/// The open batch is emptied at this many records.
const OPEN_MAX: u32 = 64;
/// Most devices that are replayed; readings of further ones are counted.
const DEVICES_MAX: usize = 50_000;

/// What happened to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its condition began to hold, and what it does was done.
    Begins,
    Raised,
    Cleared,
    Failed(String),
}

/// What happened, to which rule and when.
#[derive(Clone, Debug)]
pub struct Event<'e> {
    pub what: What,
    pub rule: &'e str,
    pub device: &'e str,
    pub at_ms: i64,
    /// What brought it about; `None` if time alone did.
    pub reading: Option<&'e Reading<'e>>,
}

type Listener<'l> = dyn FnMut(&Event<'_>) + 'l;

#[derive(Debug)]
pub struct Replay {
    settings: PipelineSettings,
    /// A long pause is divided into at most this many steps.
    steps_max: u64,
    book: Arc<Rulebook>,
    /// How often each rule has begun to hold, as last told.
    told: Vec<u64>,
    devices: HashMap<Box<str>, Device>,
    heard: Option<Heard>,
    pub readings: u64,
    /// Readings that arrived so late that no rule looks at them.
    pub late: u64,
    /// Readings that were older than one before of their device.
    pub disordered: u64,
    /// Readings of devices beyond the limit.
    pub left_out: u64,
}

#[derive(Debug)]
struct Device {
    pipeline: Pipeline,
    clock: Clock,
}

impl Replay {
    pub fn new(configuration: &Configuration, steps_max: u64) -> Replay {
        let book = Arc::clone(&configuration.rules.book);
        let settings = PipelineSettings {
            gateway: String::new(),
            run: RunId([0; 8]),
            monitor: configuration.monitor.clone(),
            alerts: configuration.alerts,
            rules: RuleSettings { book: Arc::clone(&book), stopwatch: clock::nanoseconds },
        };
        let told = book.rules().iter().map(|rule| rule.tally.begins()).collect();
        Replay {
            settings,
            steps_max,
            book,
            told,
            devices: HashMap::new(),
            heard: None,
            readings: 0,
            late: 0,
            disordered: 0,
            left_out: 0,
        }
    }

    /// Takes the next reading. `run` is the run of the gateway that took it: what it missed while it was off is no silence.
    pub fn take(&mut self, run: RunId, reading: &Reading<'_>, listener: &mut Listener<'_>) {
        self.readings += 1;
        Heard::note(&mut self.heard, run, reading.received_at_ms);
        if !self.devices.contains_key(reading.device) {
            if self.devices.len() >= DEVICES_MAX {
                self.left_out += 1;
                return;
            }
            let pipeline = Pipeline::new(self.settings.clone(), &PerStream::default());
            let device = Device { pipeline, clock: Clock::default() };
            self.devices.insert(reading.device.into(), device);
        }
        let device = self.devices.get_mut(reading.device).expect("just inserted");
        let mut teller = Teller { book: &self.book, told: &mut self.told, device: reading.device, listener };
        let Device { pipeline, clock } = device;
        clock.pass_to(run, reading, self.steps_max, &mut |passed| teller.pass(pipeline, passed));
        let now = clock.moment();
        self.disordered += u64::from(reading.measured_at_ms < now.wall_ms);
        let reading = Reading { received_at_ms: now.wall_ms, ..*reading };
        self.late += u64::from(now.wall_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS);
        pipeline.take_judged(&reading, now);
        teller.tell(pipeline, reading.measured_at_ms, Some(&reading));
    }

    /// There are no further readings until `end_ms`, or until the last one of all devices.
    pub fn finish(&mut self, end_ms: Option<i64>, listener: &mut Listener<'_>) {
        let Some(heard) = self.heard else { return };
        let last_ms = end_ms.unwrap_or(heard.last_ms).max(heard.last_ms);
        let mut devices: Vec<_> = self.devices.iter_mut().collect();
        devices.sort_unstable_by_key(|(name, _)| *name);
        for (name, device) in devices {
            let mut teller = Teller { book: &self.book, told: &mut self.told, device: name, listener };
            let Device { pipeline, clock } = device;
            let heard = Heard { last_ms, ..heard };
            clock.pass_to_end(heard, self.steps_max, &mut |passed| teller.pass(pipeline, passed));
        }
    }

    /// The longest time covered by any device, by its own clock and without the time when the gateway was off.
    pub fn covered_ms(&self) -> u64 {
        self.devices.values().map(|device| device.clock.steady_ms).max().unwrap_or(0)
    }

    pub fn devices(&self) -> usize {
        self.devices.len()
    }
}

/// Finds out what has happened to a device's rules, and passes it on.
struct Teller<'t, 'l> {
    book: &'t Rulebook,
    told: &'t mut Vec<u64>,
    device: &'t str,
    listener: &'t mut Listener<'l>,
}

impl Teller<'_, '_> {
    fn pass(&mut self, pipeline: &mut Pipeline, passed: Passed) {
        match passed {
            Passed::Started(now) => pipeline.listen_from(now),
            Passed::Tick(now) => {
                pipeline.tick(now);
                self.tell(pipeline, now.wall_ms, None);
            }
        }
    }

    fn tell(&mut self, pipeline: &mut Pipeline, at_ms: i64, reading: Option<&Reading<'_>>) {
        let device = self.device;
        let mut tell = |what, rule: &str, device: &str| {
            (self.listener)(&Event { what, rule, device, at_ms, reading });
        };
        for (rule, told) in self.book.rules().iter().zip(self.told.iter_mut()) {
            let begins = rule.tally.begins();
            for _ in *told..begins {
                tell(What::Begins, &rule.name, device);
            }
            *told = begins;
        }
        for (rule, message) in pipeline.take_rule_failures() {
            tell(What::Failed(message), &rule, device);
        }
        // Nobody is there to be told.
        drop(pipeline.take_rule_messages());
        if pipeline.open_alerts().is_empty() && pipeline.open_count() < OPEN_MAX {
            return;
        }
        for body in pipeline.seal().alerts.into_iter().filter_map(|row| row.body) {
            let Some((key, alert)) = alert::read_alert(&body).filter(|(key, _)| self.book.raises(&key.kind)) else {
                continue;
            };
            match alert.state {
                State::Raised if alert.revision == 1 => tell(What::Raised, &key.kind, &key.device),
                State::Cleared => tell(What::Cleared, &key.kind, &key.device),
                State::Raised => {}
            }
        }
    }
}

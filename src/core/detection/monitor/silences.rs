//! Silences: series and devices that should have been heard.

use super::{GRACE_MS, Monitor, SWEEP_AFTER_MS};
use crate::detection::alert::{Severity, Weight};
use crate::detection::detectors::maturity::Maturity;
use crate::detection::detectors::{Detector, Finding, short};
use crate::detection::devices::{DEVICE_METRIC, Publisher};
use crate::detection::silence::Rhythm;

/// A silence that is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// One series, by its place in the table, while its device is heard.
    Series(usize),
    /// A device as a whole, by its place: none of its series is reported by itself.
    Device(u32),
}

impl Monitor {
    /// The listener was away until now. Silences are counted from here, and none is reported for a minute.
    pub fn listen_from(&mut self, now_ms: i64) {
        self.listening_ms = now_ms;
        self.next_sweep_ms = now_ms.saturating_add(SWEEP_AFTER_MS);
    }

    /// A client has disconnected in order: devices that it was the last to publish for are asleep, and their silence is not reported.
    pub fn sleep(&mut self, publisher: Publisher) {
        for (_, device) in self.table.devices.iter_mut() {
            if device.publisher == publisher {
                device.is_asleep = true;
                device.rhythm.is_silent = false;
            }
        }
        for index in 0..self.rhythms.len() {
            if self.rhythms[index].is_silent && self.table.device_of(index).publisher == publisher {
                self.rhythms[index].is_silent = false;
            }
        }
    }

    /// Calls `missed` for each silence that begins to be reported. If a device as a whole is silent, its series are not reported.
    pub fn tick(&mut self, now_ms: i64, mut missed: impl FnMut(Missed)) {
        self.now_ms = self.now_ms.max(now_ms);
        if now_ms < self.listening_ms.saturating_add(GRACE_MS) {
            return;
        }
        for (place, device) in self.table.devices.iter_mut() {
            if device.falls_silent(now_ms, self.listening_ms) {
                missed(Missed::Device(place));
            }
        }
        for index in 0..self.rhythms.len() {
            if self.is_missed(index, now_ms) {
                self.rhythms[index].is_silent = true;
                missed(Missed::Series(index));
            }
        }
    }

    /// Whether a series is silent while its device is not: the device must have been heard well after the series should have been.
    fn is_missed(&self, index: usize, now_ms: i64) -> bool {
        let rhythm = &self.rhythms[index];
        if rhythm.is_silent || now_ms <= rhythm.due_ms(self.listening_ms) {
            return false;
        }
        let device = self.table.device_of(index);
        let expected_ms = self.listening_ms.max(device.woke_ms);
        let heard_after_ms = device.silent_from_ms(i64::MIN).saturating_sub(rhythm.silent_from_ms(expected_ms));
        let is_alone = heard_after_ms as f32 > rhythm.limit_ms() / 2.0;
        is_alone && !device.rhythm.is_silent && !device.is_asleep && self.profile_of(index).gap
    }

    /// Like [`Monitor::tick`], but for each silent series, whatever its device does. `missed` gets its place.
    pub fn tick_series(&mut self, now_ms: i64, mut missed: impl FnMut(&Monitor, usize)) {
        for index in 0..self.rhythms.len() {
            if self.rhythms[index].falls_silent(now_ms, self.listening_ms) && self.profile_of(index).gap {
                missed(self, index);
            }
        }
    }

    /// Takes a silence as reported, because an alert from before the start is raised for it.
    pub fn restore_missed(&mut self, device: &str, metric: &str) {
        let Some(place) = self.table.devices.find(device) else { return };
        if self.table.devices.get(place).is_asleep {
            return;
        }
        if let Some(rhythm) = self.rhythm_mut(device, metric) {
            rhythm.is_silent = true;
        }
    }

    /// Takes note that an alert was raised for this silence.
    pub fn note_missed(&mut self, missed: Missed) {
        match missed {
            Missed::Series(index) => self.rhythms[index].may_have_alert = true,
            Missed::Device(place) => self.table.devices.get_mut(place).rhythm.may_have_alert = true,
        }
    }

    /// Says whether a series, or with [`DEVICE_METRIC`] a device, may have an alert that is raised. If so, the book of alerts hears of its
    /// readings.
    pub fn note_alert(&mut self, device: &str, metric: &str, may_have_alert: bool) {
        if let Some(rhythm) = self.rhythm_mut(device, metric) {
            rhythm.may_have_alert = may_have_alert;
        }
    }

    fn rhythm_mut(&mut self, device: &str, metric: &str) -> Option<&mut Rhythm> {
        match metric {
            DEVICE_METRIC => {
                let place = self.table.devices.find(device)?;
                Some(&mut self.table.devices.get_mut(place).rhythm)
            }
            _ => Some(&mut self.rhythms[self.table.find(device, metric)?]),
        }
    }

    /// Device and metric of what is silent; [`DEVICE_METRIC`] for a device as a whole.
    pub fn name_of_missed(&self, missed: Missed) -> (&str, &str) {
        match missed {
            Missed::Series(index) => self.name_of(index),
            Missed::Device(place) => (self.table.devices.name(place), DEVICE_METRIC),
        }
    }

    /// Whether the silence of the series at this place has been noticed.
    pub fn is_silent(&self, index: usize) -> bool {
        self.rhythms[index].is_silent && self.profile_of(index).gap
    }

    /// How severe this silence is.
    pub fn weight_of(&self, missed: Missed) -> Weight {
        let (severity, severity_max) = match missed {
            Missed::Series(index) => (Severity::Minor, self.profile_of(index).severity_max),
            Missed::Device(_) => (Severity::Major, Severity::Critical),
        };
        Weight { severity, severity_max }
    }

    /// How well the silent series is known; `None` for a device as a whole.
    pub fn maturity_of(&self, missed: Missed) -> Option<Maturity> {
        match missed {
            Missed::Series(index) => Some(self.table.get(index).series.maturity()),
            Missed::Device(_) => None,
        }
    }

    /// The silence as a finding; its score grows as it lasts.
    pub fn gap_of(&self, missed: Missed, now_ms: i64) -> Finding {
        let (rhythm, silent_from_ms) = match missed {
            Missed::Series(index) => (&self.rhythms[index], self.rhythms[index].silent_from_ms(self.listening_ms)),
            Missed::Device(place) => {
                let device = self.table.devices.get(place);
                (&device.rhythm, device.silent_from_ms(self.listening_ms))
            }
        };
        let silent_ms = now_ms.saturating_sub(silent_from_ms) as f64;
        Finding {
            detector: Detector::Gap,
            score: (silent_ms / f64::from(rhythm.limit_ms())).max(1.0),
            expected: None,
            spread: None,
            reason: format!(
                "nothing for {} s; a reading every {} s is usual",
                short(silent_ms / 1000.0),
                short(f64::from(rhythm.interval_ms) / 1000.0)
            ),
        }
    }
}

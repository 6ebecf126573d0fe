//! Which series are watched: they come, are forgotten, or have been silent for too long.

use super::table::Newcomer;
use super::{Arrival, FORGET_MS, Monitor, reserve};
use crate::detection::detectors::series::Series;
use crate::detection::devices::Publisher;
use crate::detection::silence::Rhythm;
use crate::reading::Reading;

/// How often series that have been silent are looked for.
const SWEEP_EVERY_MS: i64 = 60_000;

impl Monitor {
    /// Adds a series that is not there yet, if there is room for it or another one gives way.
    pub(super) fn admit(&mut self, reading: &Reading<'_>, rule: u8, arrival: Arrival) -> Option<usize> {
        if self.table.count() >= self.settings.series_max && !self.displace_for(reading.device, arrival) {
            return None;
        }
        self.add(reading.device, reading.metric, rule, arrival.publisher)
    }

    /// Adds a series that is not there yet, unless there are too many.
    pub(super) fn add(&mut self, device: &str, metric: &str, rule: u8, publisher: Publisher) -> Option<usize> {
        if self.table.count() >= self.settings.series_max {
            return None;
        }
        self.unwatched.remove(device, metric);
        let profile = self.settings.profiles.get(rule);
        let index = self.table.add(Newcomer { device, metric, rule, series: Series::new(profile) });
        let place = self.table.get(index).device;
        let is_new = self.table.devices.holders(place) == 1;
        let device = self.table.devices.get_mut(place);
        device.has_gaps |= profile.gap;
        if is_new {
            device.client = publisher;
        }
        self.shares.hold(device.client);
        if index == self.rhythms.len() {
            reserve(&mut self.rhythms);
            self.rhythms.push(Rhythm::NEW);
        }
        Some(index)
    }

    /// Forgets a series of a device, or all of them, as if nobody had ever heard of them. `gone` gets the metric of each.
    pub fn forget_series(&mut self, device: &str, metric: Option<&str>, mut gone: impl FnMut(&str)) {
        self.unwatched.forget(device, metric);
        for index in 0..self.rhythms.len() {
            if !self.table.is_used(index) {
                continue;
            }
            let (known, known_metric) = self.table.name_of(index);
            if known == device && metric.is_none_or(|metric| metric == known_metric) {
                gone(known_metric);
                self.forget(index);
            }
        }
    }

    pub(super) fn forget(&mut self, index: usize) {
        self.shares.release(self.table.device_of(index).client, 1);
        self.table.remove(index);
        self.rhythms[index] = Rhythm::NEW;
    }

    /// Forgets series that have not been heard for a week. To be called after a tick, when the names of silent series have been used.
    pub fn sweep(&mut self, now_ms: i64) {
        if now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = now_ms.saturating_add(SWEEP_EVERY_MS);
        self.holds.sweep(now_ms, FORGET_MS);
        self.unwatched.sweep(now_ms, FORGET_MS);
        for index in 0..self.rhythms.len() {
            let Rhythm { arrivals, heard_ms, .. } = self.rhythms[index];
            if arrivals > 0 && now_ms.saturating_sub(heard_ms) >= FORGET_MS {
                self.forget(index);
            }
        }
    }
}

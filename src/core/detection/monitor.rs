//! All watched series: the one place that a reading is judged at.
//!
//! One slab of series, found by device and metric. A series costs about 900 bytes at 1 Hz. The number of series and the samples of each are
//! bounded; what is beyond the bound is counted, not watched. A series that was silent for a week is dropped; when there is no room left,
//! those that matter least give way (`shares`).

mod clocks;
mod listing;
mod membership;
mod names;
mod shares;
mod silences;
mod snapshot;
mod table;
mod teaching;
mod unwatched;
mod values;

pub use crate::device_clock::LATE_AFTER_MS;
pub use clocks::{Place, TimeVerdict};
pub use listing::{ListedSeries, WrongDeviceClock};
pub use silences::Missed;
pub use snapshot::{CHUNK_SERIES, RestoreError};
pub use unwatched::UnwatchedReason;
pub use values::{DeviceSummary, LastValue};

use super::alert::{Alert, AlertKey, GATEWAY_KIND, Holder, Moment, Severity};
use super::detectors::hold::Holds;
use super::detectors::limit::{self, Exceeded, Limits};
use super::detectors::profile::{Profile, Profiles};
use super::detectors::{Findings, Verdict};
use super::silence::Rhythm;
use super::window::Sample;
use crate::detection::devices::{DEVICE_METRIC, Publisher};
use crate::reading::Reading;
use shares::Shares;
use table::Table;
use unwatched::Unwatched;

/// After a start devices have so long to come back before any is reported as silent.
pub const GRACE_MS: i64 = 60_000;
/// A series that was silent for so long is forgotten, and how long after a start such series are looked for.
const FORGET_MS: i64 = 7 * 24 * 3_600_000;
const SWEEP_AFTER_MS: i64 = 3_600_000;

/// What is watched, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorSettings {
    /// Most series that are watched; 0 watches none.
    pub series_max: usize,
    /// Samples that the window of one series holds before it is thinned, 12 bytes each; at least 64.
    pub window_samples_max: usize,
    /// Configured limits.
    pub limits: Limits,
    /// Which profile holds for which metric.
    pub profiles: Profiles,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        MonitorSettings {
            series_max: 10_000,
            window_samples_max: 512,
            limits: Limits::default(),
            profiles: Profiles::default(),
        }
    }
}

/// When a reading arrived by the listener's clock, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Milliseconds of the listener's steady clock.
    pub now_ms: i64,
    /// 0 if it comes from no client.
    pub publisher: Publisher,
}

/// All watched series, and the devices that they belong to.
#[derive(Debug)]
pub struct Monitor {
    settings: MonitorSettings,
    table: Table,
    /// Of devices that have no series.
    unwatched_clocks: clocks::UnwatchedClocks,
    unwatched: Unwatched,
    /// Of each place of the table: apart, because ticks look at all of them.
    rhythms: Vec<Rhythm>,
    shares: Shares,
    over_cap_readings: u64,
    /// Limits that wait before they raise an alert.
    holds: Holds,
    /// Newest time of the listener's clock that was given.
    now_ms: i64,
    /// Since when we listen: before that, hearing nothing does not count as silence.
    listening_ms: i64,
    next_sweep_ms: i64,
}

impl Monitor {
    /// A monitor that has heard nothing yet.
    pub fn new(settings: MonitorSettings) -> Monitor {
        Monitor {
            settings,
            table: Table::default(),
            unwatched_clocks: clocks::UnwatchedClocks::default(),
            unwatched: Unwatched::default(),
            rhythms: Vec::new(),
            shares: Shares::default(),
            over_cap_readings: 0,
            holds: Holds::default(),
            now_ms: i64::MIN,
            listening_ms: i64::MIN,
            next_sweep_ms: i64::MIN,
        }
    }

    /// Series that are watched.
    pub fn series_count(&self) -> usize {
        self.table.count()
    }

    /// Series that may be watched.
    pub fn series_max(&self) -> usize {
        self.settings.series_max
    }

    /// Readings that were not watched because there are too many series.
    pub fn over_cap_readings(&self) -> u64 {
        self.over_cap_readings
    }

    /// Series that gave way to others because there are too many.
    pub fn displaced_series(&self) -> u64 {
        self.shares.displaced
    }

    /// Takes device and metric of what was reported as silent and then gave way, so that it is not watched any more.
    pub fn take_unmissed(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.shares.unmissed)
    }

    /// Takes device and metric of series that gave way and may have an alert: their readings will not clear it any more.
    pub fn take_abandoned(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.shares.abandoned)
    }

    /// Whose share the alerts of a series, or of a device as a whole, belong to. `publisher` has just published for it; 0 is nobody.
    pub fn holder_of(&self, device: &str, metric: &str, publisher: Publisher) -> Holder {
        let Some(place) = self.table.devices.find(device) else {
            return Holder { client: publisher, is_stranger: true, is_limit_set: false };
        };
        let known = self.table.devices.get(place);
        let series = || self.table.find(device, metric).is_some_and(|index| self.rhythms[index].has_history());
        let client = if publisher == 0 { known.client } else { publisher };
        Holder { client, is_stranger: !(known.rhythm.has_history() || series()), is_limit_set: false }
    }

    /// Whether a watched series belongs to the device.
    pub fn knows_device(&self, device: &str) -> bool {
        self.table.devices.find(device).is_some()
    }

    /// The place of a series in the table; `None` if it is not watched.
    pub fn index_of(&self, device: &str, metric: &str) -> Option<usize> {
        self.table.find(device, metric)
    }

    /// Judges a reading, whose time is not in doubt, against its past, then learns from it. `findings` is overwritten.
    pub fn judge(&mut self, reading: &Reading<'_>, arrival: Arrival, findings: &mut Findings) -> Verdict {
        let place = self.locate(reading.device, reading.metric);
        findings.late = reading.received_at_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS;
        self.judge_at(place, reading, arrival, findings)
    }

    /// Like [`Self::judge`] for a known place. `findings.late` says whether the reading is late; the rest is overwritten.
    pub fn judge_at(
        &mut self,
        place: Place,
        reading: &Reading<'_>,
        arrival: Arrival,
        findings: &mut Findings,
    ) -> Verdict {
        let Arrival { now_ms, publisher } = arrival;
        self.now_ms = self.now_ms.max(now_ms);
        findings.list.clear();
        (findings.is_usable, findings.is_judged, findings.has_level) = (false, false, false);
        (findings.rhythm, findings.maturity) = (None, None);
        (findings.series_may_have_alert, findings.device_may_have_alert) = (false, false);
        (findings.limit, findings.due_limits, findings.uncleared_limits) = (None, 0, 0);
        let Place { series: known, device, is_doubtful } = place;
        let rule = match known {
            Some(index) => self.table.rule_of(index),
            None => self.settings.profiles.of_metric(reading.metric),
        };
        let profile = *self.settings.profiles.get(rule);
        findings.severity_max = profile.severity_max;
        // Also for a metric that is not watched, because the reading shows that its device is there.
        if let Some(place) = device {
            let device = self.table.devices.get_mut(place);
            device.hear(now_ms, self.listening_ms, publisher, (profile.gap, findings.late));
            findings.device_may_have_alert = device.rhythm.may_have_alert;
            if device.client == 0 && publisher != 0 {
                self.claim(place, publisher);
            }
        }
        let is_limited = self.judge_alone(reading, &profile, now_ms, findings);
        if !profile.is_watched {
            self.unwatched.note(reading, UnwatchedReason::Profile, now_ms);
        }
        if !profile.is_watched && !is_limited {
            return Verdict::Unwatched;
        }
        let is_repeat = !findings.list.is_empty() && known.is_some_and(|index| self.is_repeat(index, reading));
        if is_repeat {
            findings.list.clear();
        }
        findings.series_may_have_alert = true;
        let mut verdict = Verdict::Normal;
        if profile.is_watched {
            let is_usable = findings.is_usable;
            let index = match known {
                None if is_usable => self.admit(reading, rule, arrival),
                known => known,
            };
            match index {
                Some(index) => {
                    // A sensor that reports its own failure is heard, too.
                    let expected_ms = self.listening_ms.max(self.table.device_of(index).woke_ms);
                    let rhythm = &mut self.rhythms[index];
                    rhythm.hear(now_ms, expected_ms, findings.late);
                    findings.series_may_have_alert = rhythm.may_have_alert;
                    findings.rhythm = Some(*rhythm);
                    if is_usable && !is_doubtful {
                        verdict = self.judge_value(index, reading, findings);
                        findings.is_judged = !matches!(verdict, Verdict::Unjudged | Verdict::WarmingUp);
                    }
                    findings.maturity = Some(self.table.get(index).series.maturity());
                }
                None if is_usable => {
                    self.over_cap_readings += 1;
                    self.unwatched.note(reading, UnwatchedReason::Crowded, now_ms);
                    verdict = Verdict::Unwatched;
                }
                None => self.unwatched.note(reading, UnwatchedReason::Valueless, now_ms),
            }
        }
        // It was judged when it first came, so it does not count as a good reading now.
        findings.series_may_have_alert &= !is_repeat;
        if findings.list.is_empty() { verdict } else { Verdict::Anomalous }
    }

    /// Judges a value without its history. Returns whether a limit holds for it.
    fn judge_alone(&mut self, reading: &Reading<'_>, profile: &Profile, now_ms: i64, findings: &mut Findings) -> bool {
        let &Reading { device, metric, value, .. } = reading;
        let bounds = self.settings.limits.of(metric);
        findings.limit_severity_max = profile.severity_max;
        if bounds.is_empty() && (!profile.is_watched || limit::is_plain(value, profile)) {
            findings.is_usable = true;
            return false;
        }
        let judged = limit::judge(value, device, profile, bounds);
        if judged.limits == 0 && !profile.is_watched {
            return false;
        }
        if judged.limits != 0 {
            findings.limit_severity_max = profile.set_limit_severity_max;
        }
        findings.is_usable = judged.is_usable;
        findings.uncleared_limits = judged.uncleared;
        findings.due_limits = judged.exceeded;
        if judged.is_usable {
            if !findings.late && bounds.iter().any(|bounds| bounds.hold_ms > 0) {
                findings.due_limits = self.holds.due((device, metric), reading.measured_at_ms, now_ms, &judged, bounds);
            }
            findings.limit = limit::gravest(value, bounds, findings.due_limits);
        } else {
            findings.limit = Some(Exceeded { severity: judged.severity, score: 1.0, bound: None });
        }
        findings.list.extend(judged.finding);
        judged.limits != 0
    }

    /// Whether a device sends a reading again because it was not acknowledged. Without a time of the device's own this cannot be known.
    fn is_repeat(&self, index: usize, reading: &Reading<'_>) -> bool {
        let sample = Sample { at_ms: reading.measured_at_ms, value: reading.value };
        reading.measured_at_ms != reading.received_at_ms && self.table.get(index).series.holds(sample)
    }

    fn judge_value(&mut self, index: usize, reading: &Reading<'_>, findings: &mut Findings) -> Verdict {
        let profile = self.settings.profiles.get(self.table.rule_of(index));
        let entry = self.table.get(index);
        let (is_long_past, device) = (entry.series.is_long_past(reading.measured_at_ms), entry.device);
        // A clock that was set back is recognised by its offset before the reading comes here, so a late reading from long ago is history.
        // Nor may a late reading replace a newer one that waits to be confirmed.
        if findings.late && (is_long_past || entry.series.has_newer_suspect(reading.measured_at_ms)) {
            return Verdict::Unjudged;
        }
        let rewind_guard = &mut self.table.devices.get_mut(device).rewind_guard;
        if !is_long_past {
            rewind_guard.hear_present(reading.measured_at_ms, reading.received_at_ms);
        } else if !rewind_guard.hear(reading.measured_at_ms, reading.received_at_ms) {
            return Verdict::Unjudged;
        }
        let sample = Sample { at_ms: reading.measured_at_ms, value: reading.value };
        let series = &mut self.table.get_mut(index).series;
        if profile.startup.contains(&reading.value) && !series.is_last(reading.value) {
            findings.severity_max = findings.severity_max.min(Severity::Warning);
        }
        let verdict = series.judge(sample, profile, self.settings.window_samples_max, &mut findings.list);
        findings.has_level = series.has_level(sample.at_ms, profile);
        verdict
    }

    /// The state of limits that wait, and a fingerprint of the configured limits.
    pub fn holds(&self) -> (&Holds, u64) {
        (&self.holds, self.settings.limits.fingerprint())
    }

    /// Takes over the state of limits that wait, as a snapshot has it.
    pub fn restore_holds(&mut self, holds: Holds) {
        self.holds = holds;
    }

    /// Whether the present configuration could still raise such an alert.
    pub fn can_raise(&self, key: &AlertKey, alert: &Alert) -> bool {
        let profile = self.settings.profiles.get(self.settings.profiles.of_metric(&key.metric));
        let is_watched = profile.is_watched && self.settings.series_max > 0;
        let of_device = || self.settings.limits.of(&key.metric).iter().filter(|bounds| bounds.is_for(&key.device));
        match key.kind.as_str() {
            "limit" if alert.expected.is_some() => of_device().any(|bounds| bounds.low.or(bounds.high).is_some()),
            "limit" => is_watched || of_device().next().is_some(),
            "anomaly" => is_watched && (profile.burst.is_some() || alert.detectors.iter().any(|name| name != "burst")),
            "stuck" => is_watched && profile.stuck,
            "gap" if key.metric == DEVICE_METRIC => {
                let place = self.table.devices.find(&key.device);
                place.is_none_or(|place| self.table.devices.get(place).has_gaps)
            }
            "gap" => is_watched && profile.gap,
            kind => kind == GATEWAY_KIND,
        }
    }

    /// How often a series, or with [`DEVICE_METRIC`] a device, is heard, and when it last was. `None` if it is not known.
    pub fn rhythm_of(&self, device: &str, metric: &str) -> Option<Rhythm> {
        match metric {
            DEVICE_METRIC => Some(self.table.devices.get(self.table.devices.find(device)?).rhythm),
            _ => Some(self.rhythms[self.table.find(device, metric)?]),
        }
    }

    fn profile_of(&self, index: usize) -> &Profile {
        self.settings.profiles.get(self.table.rule_of(index))
    }

    /// As if all series had been heard for a day.
    #[cfg(test)]
    pub fn make_known(&mut self) {
        (0..self.rhythms.len()).for_each(|index| self.table.get_mut(index).series.make_known());
    }

    /// Device and metric of the series at this place.
    ///
    /// # Panics
    ///
    /// If the place is not in use.
    pub fn name_of(&self, index: usize) -> (&str, &str) {
        self.table.name_of(index)
    }
}

/// Makes room for one more: a thirty-second, instead of doubling. With fifty thousand series the difference is megabytes.
fn reserve<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 32 + 16);
    }
}

#[cfg(test)]
mod tests;

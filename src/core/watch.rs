//! All watched series: the one place that a reading is judged at.
//!
//! One slab of series, found by device and metric. A series costs about 500 bytes at 1 Hz; their number and the samples of each are
//! bounded, and what is beyond the bound is counted, not watched.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::alert::Severity;
use super::batch::varint::{self, Cursor};
use super::detector::limit::{self, Bounds, Limits};
use super::detector::profile::{Profile, Profiles};
use super::detector::series::Series;
use super::detector::{Detector, Finding, Findings, Verdict, short, state};
use super::devices::{Devices, Publisher};
use super::past::Past;
use super::reading::Reading;
use super::silence::Rhythm;
use super::window::Sample;

/// A reading that took longer than this from the sensor to us is late.
pub const LATE_AFTER_MS: i64 = 60_000;
/// Series in one chunk of a snapshot.
pub const CHUNK_SERIES: usize = 256;
/// After a start devices have so long to come back before they are missed.
pub const GRACE_MS: i64 = 60_000;
/// The metric of what concerns a device as a whole.
pub const DEVICE_METRIC: &str = "_device";
const SNAPSHOT_VERSION: u8 = 3;

#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    pub series_max: usize,
    /// Samples that the window of one series holds before it is thinned, 16 bytes each; at least 64.
    pub window_samples_max: usize,
    pub limits: Limits,
    pub profiles: Profiles,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings {
            series_max: 10_000,
            window_samples_max: 512,
            limits: Limits::default(),
            profiles: Profiles::default(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// Device and metric, one after the other.
    name: Box<str>,
    device_len: u16,
    /// Of the table of profiles.
    rule: u8,
    device: u32,
    series: Series,
}

impl Entry {
    fn parts(&self) -> (&str, &str) {
        self.name.split_at(usize::from(self.device_len))
    }
}

/// When a reading arrived by the listener's clock, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub now_ms: i64,
    pub publisher: Publisher,
}

/// What is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    Series(usize),
    /// All series of this device.
    Device(u32),
}

#[derive(Debug)]
pub struct Watch {
    settings: WatchSettings,
    entries: Vec<Entry>,
    /// Of each entry: apart, because ticks look at all of them.
    rhythms: Vec<Rhythm>,
    devices: Devices,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    over_cap_readings: u64,
    /// The listener's clock when it was last told.
    now_ms: i64,
    /// No silence is noticed before.
    grace_until_ms: i64,
}

/// A chunk that cannot have come from a snapshot, or came from a newer version. Nothing of it was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    UnknownVersion(u8),
    Damaged,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::UnknownVersion(version) => write!(f, "detector snapshot of unknown version {version}"),
            RestoreError::Damaged => write!(f, "detector snapshot is damaged"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Watch {
    pub fn new(settings: WatchSettings) -> Watch {
        Watch {
            settings,
            entries: Vec::new(),
            rhythms: Vec::new(),
            devices: Devices::default(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            over_cap_readings: 0,
            now_ms: i64::MIN,
            grace_until_ms: i64::MIN,
        }
    }

    /// Series that are watched.
    pub fn series_count(&self) -> usize {
        self.entries.len()
    }

    /// Readings that were not watched because there are too many series.
    pub fn over_cap_readings(&self) -> u64 {
        self.over_cap_readings
    }

    /// Where a series is; one that is added later is behind all that are there.
    pub fn index_of(&self, device: &str, metric: &str) -> Option<usize> {
        self.find(device, metric)
    }

    /// Judges a reading against its past, then learns from it. `findings` is overwritten.
    pub fn judge(&mut self, reading: &Reading<'_>, arrival: Arrival, findings: &mut Findings) -> Verdict {
        let Arrival { now_ms, publisher } = arrival;
        self.now_ms = self.now_ms.max(now_ms);
        findings.list.clear();
        (findings.ends_silence, findings.ends_device_silence) = (false, false);
        findings.late = reading.received_at_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS;
        let known = self.find(reading.device, reading.metric);
        let rule = match known {
            Some(index) => self.entries[index].rule,
            None => self.settings.profiles.of_metric(reading.metric),
        };
        let profile = *self.settings.profiles.get(rule);
        findings.severity_max = profile.severity_max;
        // Of a metric that is not watched too: it shows that its device is there.
        if let Some(place) = known.map(|index| self.entries[index].device).or_else(|| self.devices.find(reading.device))
        {
            findings.ends_device_silence = self.devices.get_mut(place).hear(now_ms, publisher);
        }
        let bounds = self.settings.limits.of(reading.metric);
        findings.limit_severity_max =
            if bounds.is_some() { profile.set_limit_severity_max } else { profile.severity_max };
        if !profile.is_watched && bounds.is_none() {
            return Verdict::Unwatched;
        }
        let bounds = bounds.unwrap_or(&Bounds::NONE);
        findings.list.extend(limit::judge(reading.value, &profile, bounds));
        let mut verdict = Verdict::Normal;
        if profile.is_watched {
            let is_usable = limit::is_usable(reading.value, &profile, bounds);
            let index = match known {
                None if is_usable => self.add(reading.device, reading.metric, rule),
                known => known,
            };
            match index {
                Some(index) => {
                    // A sensor that reports its own failure is not silent.
                    let rhythm = &mut self.rhythms[index];
                    rhythm.rest_until(self.devices.get(self.entries[index].device).woke_ms);
                    findings.ends_silence = rhythm.hear(now_ms);
                    if is_usable {
                        verdict = self.judge_value(index, reading, findings);
                    }
                }
                None if is_usable => {
                    self.over_cap_readings += 1;
                    verdict = Verdict::Unwatched;
                }
                None => {}
            }
        }
        if findings.list.is_empty() { verdict } else { Verdict::Anomalous }
    }

    fn judge_value(&mut self, index: usize, reading: &Reading<'_>, findings: &mut Findings) -> Verdict {
        let entry = &mut self.entries[index];
        let profile = self.settings.profiles.get(entry.rule);
        let past = &mut self.devices.get_mut(entry.device).past;
        if entry.series.is_long_past(reading.measured_at_ms)
            && !past.hear(reading.measured_at_ms, reading.received_at_ms)
        {
            return Verdict::Normal;
        }
        let sample = Sample { at_ms: reading.measured_at_ms, value: reading.value };
        entry.series.judge(sample, profile, self.settings.window_samples_max, &mut findings.list)
    }

    fn find(&self, device: &str, metric: &str) -> Option<usize> {
        let hash = self.hasher.hash_one((device, metric));
        let is_it = |&place: &u32| self.entries[place as usize].parts() == (device, metric);
        self.places.find(hash, is_it).map(|&place| place as usize)
    }

    /// Adds a series that is not there yet, unless there are too many.
    fn add(&mut self, device: &str, metric: &str, rule: u8) -> Option<usize> {
        let index = self.entries.len();
        let place = u32::try_from(index).ok().filter(|_| index < self.settings.series_max)?;
        let device_len = u16::try_from(device.len()).ok()?;
        if index == self.entries.capacity() {
            // By an eighth, not twofold: at fifty thousand series the difference is megabytes.
            self.entries.reserve_exact(index / 8 + 16);
            self.rhythms.reserve_exact(index / 8 + 16);
        }
        let series = Series::new(self.settings.profiles.get(rule));
        let place_of_device = self.devices.place(device);
        self.devices.get_mut(place_of_device).has_gaps |= self.settings.profiles.get(rule).gap;
        let name = [device, metric].concat().into();
        self.entries.push(Entry { name, device_len, rule, device: place_of_device, series });
        self.rhythms.push(Rhythm::NEW);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_of = |place: &u32| hasher.hash_one(entries[*place as usize].parts());
        self.places.insert_unique(hasher.hash_one((device, metric)), place, hash_of);
        Some(index)
    }

    /// Chunks that a snapshot has now. Series are never removed: a chunk keeps its series.
    pub fn snapshot_chunks(&self) -> usize {
        self.entries.len().div_ceil(CHUNK_SERIES)
    }

    /// The state of up to [`CHUNK_SERIES`] series; empty of series beyond the last chunk.
    pub fn snapshot_chunk(&self, index: usize) -> Vec<u8> {
        let start = index.saturating_mul(CHUNK_SERIES).min(self.entries.len());
        let end = self.entries.len().min(start + CHUNK_SERIES);
        let mut out = vec![SNAPSHOT_VERSION];
        varint::put(&mut out, (end - start) as u64);
        for (at, entry) in (start..end).zip(&self.entries[start..end]) {
            let (device, metric) = entry.parts();
            varint::put_bytes(&mut out, device.as_bytes());
            varint::put_bytes(&mut out, metric.as_bytes());
            state::encode(&entry.series, &mut out);
            state::encode_rhythm(&self.rhythms[at], self.now_ms, &mut out);
            // Again with each of its series: a device is known by them alone.
            let device = self.devices.get(entry.device);
            state::encode_rhythm(&device.rhythm, self.now_ms, &mut out);
            out.push(u8::from(device.is_asleep));
            state::encode_past(&device.past, &mut out);
        }
        out
    }

    /// Takes over the series of a chunk, all or, on an error, none; known ones are replaced. Their silence goes on at `now_ms`, see
    /// [`Watch::listen_from`]. Returns how many were left out because there are too many, or because their metric is not watched any more.
    pub fn restore(&mut self, chunk: &[u8], now_ms: i64) -> Result<usize, RestoreError> {
        let mut cursor = Cursor { rest: chunk };
        match cursor.byte() {
            Some(SNAPSHOT_VERSION) => {}
            Some(version) => return Err(RestoreError::UnknownVersion(version)),
            None => return Err(RestoreError::Damaged),
        }
        let profiles = &self.settings.profiles;
        let restored = decode_entries(&mut cursor, profiles, now_ms)
            .filter(|_| cursor.rest.is_empty())
            .ok_or(RestoreError::Damaged)?;
        self.now_ms = self.now_ms.max(now_ms);
        let mut left_out = 0;
        for Restored { device, metric, rule, series, rhythm, device_rhythm, is_asleep, past } in restored {
            let is_watched = self.settings.profiles.get(rule).is_watched;
            let known = self.find(device, metric);
            let index = match known {
                None if is_watched => self.add(device, metric, rule),
                known => known,
            };
            match index {
                Some(index) => {
                    self.entries[index].series = series;
                    self.rhythms[index] = rhythm;
                    let device = self.devices.get_mut(self.entries[index].device);
                    (device.rhythm, device.is_asleep, device.past) = (device_rhythm, is_asleep, past);
                }
                None => left_out += 1,
            }
        }
        Ok(left_out)
    }

    /// The listener was away until now: that nothing was heard meanwhile is no silence, and whoever comes back is given a minute.
    pub fn listen_from(&mut self, now_ms: i64) {
        self.grace_until_ms = now_ms.saturating_add(GRACE_MS);
        let of_devices = self.devices.iter_mut().map(|device| &mut device.rhythm);
        for rhythm in self.rhythms.iter_mut().chain(of_devices).filter(|rhythm| !rhythm.is_silent) {
            rhythm.rest_until(now_ms);
        }
    }

    /// Its client took its leave: devices that it published for last are asleep. `woken` gets what was missed until now.
    pub fn sleep(&mut self, publisher: Publisher, mut woken: impl FnMut(Missed)) {
        for place in 0..self.devices.len() {
            let device = self.devices.get_mut(place);
            if device.publisher == publisher {
                device.is_asleep = true;
                if std::mem::take(&mut device.rhythm.is_silent) {
                    woken(Missed::Device(place));
                }
            }
        }
        for index in 0..self.rhythms.len() {
            if self.rhythms[index].is_silent && self.devices.get(self.entries[index].device).publisher == publisher {
                self.rhythms[index].is_silent = false;
                woken(Missed::Series(index));
            }
        }
    }

    /// Time has gone by: `missed` gets what is missed since this tick. Of a device that is silent as a whole, the series are not missed.
    pub fn tick(&mut self, now_ms: i64, mut missed: impl FnMut(&Watch, Missed)) {
        self.now_ms = self.now_ms.max(now_ms);
        if now_ms < self.grace_until_ms {
            return;
        }
        for place in 0..self.devices.len() {
            if self.devices.get_mut(place).falls_silent(now_ms) {
                missed(self, Missed::Device(place));
            }
        }
        for index in 0..self.rhythms.len() {
            if self.is_missed(index, now_ms) {
                self.rhythms[index].is_silent = true;
                missed(self, Missed::Series(index));
            }
        }
    }

    /// Whether a series is silent while its device is not: the device must have been heard well after the series should have been.
    fn is_missed(&self, index: usize, now_ms: i64) -> bool {
        let rhythm = &self.rhythms[index];
        if rhythm.is_silent || now_ms <= rhythm.due_ms() {
            return false;
        }
        let device = self.devices.get(self.entries[index].device);
        let from_ms = rhythm.heard_ms.max(device.woke_ms);
        let is_alone = device.rhythm.heard_ms.saturating_sub(from_ms) as f32 > rhythm.limit_ms() / 2.0;
        is_alone && !device.rhythm.is_silent && !device.is_asleep && self.profile_of(index).gap
    }

    /// Like [`Watch::tick`], for one who looks at series only: each that is silent, whatever its device does.
    pub fn tick_series(&mut self, now_ms: i64, mut missed: impl FnMut(&Watch, usize)) {
        for index in 0..self.rhythms.len() {
            if self.rhythms[index].falls_silent(now_ms) && self.profile_of(index).gap {
                missed(self, index);
            }
        }
    }

    /// An alert of before the start says that it is missed. Returns whether it is known at all.
    pub fn restore_missed(&mut self, device: &str, metric: &str) -> bool {
        let rhythm = match metric {
            DEVICE_METRIC => self.devices.find(device).map(|place| &mut self.devices.get_mut(place).rhythm),
            _ => self.find(device, metric).map(|index| &mut self.rhythms[index]),
        };
        rhythm.map(|rhythm| rhythm.is_silent = true).is_some()
    }

    fn profile_of(&self, index: usize) -> &Profile {
        self.settings.profiles.get(self.entries[index].rule)
    }

    /// Device and metric of a series.
    pub fn name_of(&self, index: usize) -> (&str, &str) {
        self.entries[index].parts()
    }

    /// Device and metric of what is missed; a device as a whole has a metric of its own.
    pub fn name_of_missed(&self, missed: Missed) -> (&str, &str) {
        match missed {
            Missed::Series(index) => self.name_of(index),
            Missed::Device(place) => (self.devices.get(place).name(), DEVICE_METRIC),
        }
    }

    /// Whether its silence has been noticed.
    pub fn is_silent(&self, index: usize) -> bool {
        self.rhythms[index].is_silent && self.profile_of(index).gap
    }

    pub fn severity_max_of(&self, missed: Missed) -> Severity {
        match missed {
            Missed::Series(index) => self.profile_of(index).severity_max,
            Missed::Device(_) => Severity::Critical,
        }
    }

    /// What its silence is, as a finding.
    pub fn gap_of(&self, missed: Missed, now_ms: i64) -> Finding {
        let rhythm = match missed {
            Missed::Series(index) => &self.rhythms[index],
            Missed::Device(place) => &self.devices.get(place).rhythm,
        };
        let silent_ms = now_ms.saturating_sub(rhythm.heard_ms) as f64;
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

struct Restored<'a> {
    device: &'a str,
    metric: &'a str,
    rule: u8,
    series: Series,
    rhythm: Rhythm,
    device_rhythm: Rhythm,
    is_asleep: bool,
    past: Past,
}

fn decode_entries<'a>(cursor: &mut Cursor<'a>, profiles: &Profiles, now_ms: i64) -> Option<Vec<Restored<'a>>> {
    let count = cursor.number().filter(|&count| count <= CHUNK_SERIES as u64)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let device = std::str::from_utf8(cursor.bytes()?).ok()?;
        let metric = std::str::from_utf8(cursor.bytes()?).ok()?;
        let rule = profiles.of_metric(metric);
        let series = state::decode(cursor, profiles.get(rule))?;
        let rhythm = state::decode_rhythm(cursor, now_ms)?;
        let device_rhythm = state::decode_rhythm(cursor, now_ms)?;
        let is_asleep = cursor.byte()? != 0;
        let past = state::decode_past(cursor)?;
        entries.push(Restored { device, metric, rule, series, rhythm, device_rhythm, is_asleep, past });
    }
    Some(entries)
}

#[cfg(test)]
mod tests;

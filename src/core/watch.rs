//! All watched series: the one place that a reading is judged at.
//!
//! One slab of series, found by device and metric. A series costs about 500 bytes at 1 Hz; their number and the samples of each are
//! bounded, and what is beyond the bound is counted, not watched.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::batch::varint::{self, Cursor};
use super::detector::limit::{self, Bounds, Limits};
use super::detector::profile::Profile;
use super::detector::series::Series;
use super::detector::{Findings, Verdict, state};
use super::reading::Reading;
use super::window::Sample;

/// A reading that took longer than this from the sensor to us is late.
pub const LATE_AFTER_MS: i64 = 60_000;
/// Series in one chunk of a snapshot.
pub const CHUNK_SERIES: usize = 256;
const SNAPSHOT_VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    pub series_max: usize,
    /// Samples that the window of one series holds before it is thinned, 16 bytes each; at least 64.
    pub window_samples_max: usize,
    pub limits: Limits,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings { series_max: 10_000, window_samples_max: 512, limits: Limits::default() }
    }
}

#[derive(Debug)]
struct Entry {
    /// Device and metric, one after the other.
    name: Box<str>,
    device_len: usize,
    series: Series,
}

impl Entry {
    fn parts(&self) -> (&str, &str) {
        self.name.split_at(self.device_len)
    }
}

#[derive(Debug)]
pub struct Watch {
    settings: WatchSettings,
    entries: Vec<Entry>,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    over_cap_readings: u64,
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
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            over_cap_readings: 0,
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
    pub fn judge(&mut self, reading: &Reading<'_>, findings: &mut Findings) -> Verdict {
        findings.list.clear();
        findings.late = reading.received_at_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS;
        let known = self.find(reading.device, reading.metric);
        let profile = match known {
            Some(index) => self.entries[index].series.profile(),
            None => Profile::of_metric(reading.metric),
        };
        findings.severity_max = profile.severity_max();
        let bounds = self.settings.limits.of(reading.metric);
        if profile == Profile::Off && bounds.is_none() {
            return Verdict::Unwatched;
        }
        let bounds = bounds.unwrap_or(&Bounds::NONE);
        findings.list.extend(limit::judge(reading.value, profile, bounds));
        let mut verdict = Verdict::Normal;
        if profile != Profile::Off && limit::is_usable(reading.value, profile, bounds) {
            let sample = Sample { at_ms: reading.measured_at_ms, value: reading.value };
            verdict = match known.or_else(|| self.add(reading.device, reading.metric, Series::new(profile))) {
                Some(index) => {
                    let series = &mut self.entries[index].series;
                    series.judge(sample, self.settings.window_samples_max, &mut findings.list)
                }
                None => {
                    self.over_cap_readings += 1;
                    Verdict::Unwatched
                }
            };
        }
        if findings.list.is_empty() { verdict } else { Verdict::Anomalous }
    }

    fn find(&self, device: &str, metric: &str) -> Option<usize> {
        let hash = self.hasher.hash_one((device, metric));
        let is_it = |&place: &u32| self.entries[place as usize].parts() == (device, metric);
        self.places.find(hash, is_it).map(|&place| place as usize)
    }

    /// Adds a series that is not there yet, unless there are too many.
    fn add(&mut self, device: &str, metric: &str, series: Series) -> Option<usize> {
        let index = self.entries.len();
        let place = u32::try_from(index).ok().filter(|_| index < self.settings.series_max)?;
        self.entries.push(Entry { name: [device, metric].concat().into(), device_len: device.len(), series });
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
        let entries = &self.entries[start..self.entries.len().min(start + CHUNK_SERIES)];
        let mut out = vec![SNAPSHOT_VERSION];
        varint::put(&mut out, entries.len() as u64);
        for entry in entries {
            let (device, metric) = entry.parts();
            varint::put_bytes(&mut out, device.as_bytes());
            varint::put_bytes(&mut out, metric.as_bytes());
            state::encode(&entry.series, &mut out);
        }
        out
    }

    /// Takes over the series of a chunk, all or, on an error, none; known ones are replaced. Returns how many were left out because
    /// there are too many, or because their metric is not watched any more.
    pub fn restore(&mut self, chunk: &[u8]) -> Result<usize, RestoreError> {
        let mut cursor = Cursor { rest: chunk };
        match cursor.byte() {
            Some(SNAPSHOT_VERSION) => {}
            Some(version) => return Err(RestoreError::UnknownVersion(version)),
            None => return Err(RestoreError::Damaged),
        }
        let restored = decode_entries(&mut cursor).filter(|_| cursor.rest.is_empty()).ok_or(RestoreError::Damaged)?;
        let mut left_out = 0;
        for (device, metric, series) in restored {
            if let Some(index) = self.find(device, metric) {
                self.entries[index].series = series;
            } else if series.profile() == Profile::Off || self.add(device, metric, series).is_none() {
                left_out += 1;
            }
        }
        Ok(left_out)
    }
}

fn decode_entries<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<(&'a str, &'a str, Series)>> {
    let count = cursor.number().filter(|&count| count <= CHUNK_SERIES as u64)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let device = std::str::from_utf8(cursor.bytes()?).ok()?;
        let metric = std::str::from_utf8(cursor.bytes()?).ok()?;
        entries.push((device, metric, state::decode(cursor, Profile::of_metric(metric))?));
    }
    Some(entries)
}

#[cfg(test)]
mod tests;

//! The last ten seconds of one series, by the device's own time.
//!
//! The window of a reading at `t` is `(t - 10 s, t)`: without the reading itself, and without others of the same time. Late readings are
//! inserted where they belong, so samples are held for 5 s more: a reading that is late by up to that finds its window whole. No running
//! sums are kept: one outlier would leave them inexact for ever, and ten additions are cheaper than avoiding that.
//!
//! Memory follows the rate up to a bound. Above it the window keeps every second reading, then every fourth, so that it spans ten
//! seconds at any rate; statistics are then those of the sample.

mod numbers;

use std::collections::VecDeque;
use std::ops::Range;

use numbers::{mean, median, roughness};

/// Length of the window.
pub const SPAN_MS: i64 = 10_000;
/// A reading that is late by up to this finds its window whole.
pub const LATE_MS: i64 = 5_000;
pub(super) const HELD_MS: i64 = SPAN_MS + LATE_MS;
/// A step of the device's time beyond this, either way, is believed only when a second reading confirms it.
pub const JUMP_MS: i64 = 60_000;
/// Readings that a summary looks at; more than these are sampled evenly.
const SUMMARY_MAX: usize = 64;
/// `newest_ms` before the first reading.
const NEVER_MS: i64 = i64::MIN;

/// A value and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// In milliseconds, by the clock of the series that holds it.
    pub at_ms: i64,
    /// Finite wherever a window holds it.
    pub value: f64,
}

/// How a reading's time relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The first reading, or a confirmed jump backwards: nothing from before it is held any more.
    NewEpoch,
    /// Near the newest reading, before or after it.
    Continues,
    /// A confirmed jump forwards: there was a silence.
    Resumes {
        /// From the newest reading before it, in milliseconds.
        silent_ms: i64,
    },
    /// Far from the others, and not confirmed yet. It must not be inserted: the window keeps it aside.
    Suspect,
}

/// The exact statistics of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Readings in the window.
    pub count: usize,
    /// `NaN` without a reading.
    pub mean: f64,
    /// Standard deviation of a sample; `NaN` of fewer than two readings.
    pub deviation: f64,
}

/// What the detectors need of a window that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Values that were looked at: all of the window, or an even sample of a larger one.
    pub count: usize,
    /// Mean of these values.
    pub mean: f64,
    /// Median of these values.
    pub median: f64,
    /// Mean square of the differences between successive values, without the two largest: a spike causes two, a step one. In a ramp the
    /// usual step is subtracted first. `NaN` for too few values.
    pub roughness: f64,
    /// The newest reading of the window.
    pub last: Sample,
    /// All values are equal.
    pub is_still: bool,
}

/// A sample as it is held, packed because these are most of a gateway's memory. Only the low half of the time is kept: with the newest time
/// it gives the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, packed(4))]
pub(super) struct PackedSample {
    low_ms: u32,
    value: f64,
}

impl PackedSample {
    fn new(sample: Sample) -> PackedSample {
        PackedSample { low_ms: sample.at_ms as u32, value: sample.value }
    }

    /// No held sample is newer than `newest_ms`, or older by more than [`JUMP_MS`] and [`HELD_MS`] together.
    fn age_ms(self, newest_ms: i64) -> i64 {
        i64::from((newest_ms as u32).wrapping_sub(self.low_ms))
    }

    fn sample(self, newest_ms: i64) -> Sample {
        Sample { at_ms: newest_ms - self.age_ms(newest_ms), value: self.value }
    }
}

/// The last readings of one series, in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    samples: VecDeque<PackedSample>,
    pub(super) newest_ms: i64,
    pub(super) suspect: Option<Box<Sample>>,
    /// One reading in `2^thinning` is kept.
    pub(super) thinning: u8,
    pub(super) skipped: u32,
}

impl Default for Window {
    fn default() -> Self {
        Window { samples: VecDeque::new(), newest_ms: NEVER_MS, suspect: None, thinning: 0, skipped: 0 }
    }
}

impl Window {
    /// Places a finite reading in time, before it is judged and inserted.
    pub fn admit(&mut self, reading: Sample) -> Admission {
        if self.newest_ms == NEVER_MS {
            self.newest_ms = reading.at_ms;
            return Admission::NewEpoch;
        }
        let ahead_ms = reading.at_ms.saturating_sub(self.newest_ms);
        if ahead_ms.saturating_abs() <= JUMP_MS {
            self.suspect = None;
            return Admission::Continues;
        }
        let confirmed = self.suspect.replace(Box::new(reading));
        match confirmed.filter(|s| s.at_ms.saturating_sub(reading.at_ms).saturating_abs() <= JUMP_MS) {
            None => Admission::Suspect,
            Some(first) => {
                *self = Window { newest_ms: first.at_ms, ..Window::default() };
                self.samples.push_back(PackedSample::new(*first));
                if ahead_ms < 0 { Admission::NewEpoch } else { Admission::Resumes { silent_ms: ahead_ms } }
            }
        }
    }

    /// Held samples, oldest first.
    pub(super) fn held(&self) -> impl ExactSizeIterator<Item = Sample> {
        self.samples.iter().map(|held| held.sample(self.newest_ms))
    }

    /// The one before the newest held sample.
    pub(super) fn before_last(&self) -> Option<Sample> {
        let place = self.samples.len().checked_sub(2)?;
        self.samples.get(place).map(|held| held.sample(self.newest_ms))
    }

    /// Takes back what was held, in the same order.
    pub(super) fn restore_held(&mut self, samples: impl ExactSizeIterator<Item = Sample>) {
        self.samples = samples.map(PackedSample::new).collect();
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<PackedSample>()
    }

    /// Newest time of the readings that are believed; `None` before the first.
    pub fn newest_ms(&self) -> Option<i64> {
        (self.newest_ms != NEVER_MS).then_some(self.newest_ms)
    }

    /// The newest reading that is held.
    pub fn newest(&self) -> Option<Sample> {
        self.samples.back().map(|held| held.sample(self.newest_ms))
    }

    /// Whether no held reading is newer than this time.
    pub fn is_newest(&self, at_ms: i64) -> bool {
        at_ms >= self.newest_ms
    }

    /// Whether this time is before the newest by more than [`JUMP_MS`].
    pub fn is_long_past(&self, at_ms: i64) -> bool {
        self.newest_ms != NEVER_MS && self.newest_ms.saturating_sub(at_ms) > JUMP_MS
    }

    /// Whether a reading newer than this is held aside until another confirms it.
    pub fn has_newer_suspect(&self, at_ms: i64) -> bool {
        self.suspect.as_ref().is_some_and(|suspect| suspect.at_ms > at_ms)
    }

    /// Whether a reading was sent again because its device was not told that it was received. Readings older than all that are held count
    /// as seen: there is nothing to compare them with.
    pub fn has_seen(&self, reading: Sample) -> bool {
        if reading.at_ms > self.newest_ms {
            return false;
        }
        if reading.at_ms <= self.newest_ms.saturating_sub(HELD_MS) {
            return true;
        }
        self.holds(reading)
    }

    /// Whether exactly this reading is held.
    pub fn holds(&self, reading: Sample) -> bool {
        let newest_first = self.samples.iter().rev().map(|held| held.sample(self.newest_ms));
        newest_first.take_while(|held| held.at_ms >= reading.at_ms).any(|held| held == reading)
    }

    /// Inserts an admitted reading. More than `samples_max` (at least 64) are thinned. `evicted` gets each reading that has become too old,
    /// oldest first.
    pub fn insert(&mut self, reading: Sample, samples_max: usize, mut evicted: impl FnMut(Sample)) {
        self.newest_ms = self.newest_ms.max(reading.at_ms);
        let horizon_ms = self.newest_ms.saturating_sub(HELD_MS);
        let newest_ms = self.newest_ms;
        while let Some(oldest) = self.samples.pop_front_if(|oldest| oldest.age_ms(newest_ms) >= HELD_MS) {
            evicted(oldest.sample(newest_ms));
        }
        if self.thinning > 0 && self.samples.len() < samples_max / 4 {
            self.thinning -= 1;
        }
        if reading.at_ms <= horizon_ms || self.skip() {
            return;
        }
        self.fit_capacity();
        let age_ms = newest_ms - reading.at_ms;
        let place = match age_ms {
            0 => self.samples.len(),
            _ => self.samples.partition_point(|held| held.age_ms(newest_ms) >= age_ms),
        };
        self.samples.insert(place, PackedSample::new(reading));
        while self.samples.len() > samples_max.max(SUMMARY_MAX) {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.thinning = (self.thinning + 1).min(31);
        }
    }

    fn skip(&mut self) -> bool {
        self.skipped += 1;
        if self.skipped < 1 << self.thinning {
            return true;
        }
        self.skipped = 0;
        false
    }

    /// Grows by a quarter, not twofold (most series hold fifteen readings), and gives back what a faster past needed.
    fn fit_capacity(&mut self) {
        let len = self.samples.len();
        if len == self.samples.capacity() {
            self.samples.reserve_exact((len / 4).max(4));
        } else if self.samples.capacity() > 4 * len + 16 {
            self.samples.shrink_to(2 * len + 4);
        }
    }

    fn range(&self, at_ms: i64) -> Range<usize> {
        let start_ms = at_ms.saturating_sub(SPAN_MS);
        let before = |end_ms: i64| {
            let age_ms = self.newest_ms.saturating_sub(end_ms);
            self.samples.partition_point(|held| held.age_ms(self.newest_ms) > age_ms)
        };
        let start = before(start_ms.saturating_add(1));
        start..before(at_ms).max(start)
    }

    /// Statistics of the window of a reading at `at_ms`, in two passes.
    pub fn statistics(&self, at_ms: i64) -> Statistics {
        let range = self.range(at_ms);
        let count = range.len();
        let mean = mean(self.samples.range(range.clone()).map(|held| held.value), count);
        let (squares, rest) = self.samples.range(range).fold((0.0, 0.0), |(squares, rest), held| {
            let residual = held.value - mean;
            (squares + residual * residual, rest + residual)
        });
        // In exact arithmetic `rest` would be zero: it corrects for the rounding of the mean.
        let deviation = match count {
            0 | 1 => f64::NAN,
            _ => ((squares - rest * rest / count as f64) / (count - 1) as f64).sqrt(),
        };
        Statistics { count, mean, deviation }
    }

    /// Summary of the window of a reading at `at_ms`: of all its readings up to 64, of an even sample of more. `None` if it is empty.
    pub fn summary(&self, at_ms: i64) -> Option<Summary> {
        let mut values = [0.0; SUMMARY_MAX];
        let (last, count) = match self.newest_values(at_ms, &mut values) {
            Some(count) => (*self.samples.back()?, count),
            None => self.sampled_values(at_ms, &mut values)?,
        };
        let last = last.sample(self.newest_ms);
        let values = values.get_mut(..count).filter(|values| !values.is_empty())?;
        let mean = mean(values.iter().copied(), count);
        let roughness = roughness(values);
        let is_still = values.iter().all(|value| *value == values[0]);
        Some(Summary { count, mean, median: median(values), roughness, last, is_still })
    }

    /// The common case, without a search: the reading is newer than all that are held, and its window is small. Newest first.
    fn newest_values(&self, at_ms: i64, values: &mut [f64; SUMMARY_MAX]) -> Option<usize> {
        let ahead_ms = at_ms.saturating_sub(self.newest_ms);
        let (older, newer) = self.samples.as_slices();
        let mut count = 0;
        for held in newer.iter().rev().chain(older.iter().rev()) {
            let before_ms = held.age_ms(self.newest_ms).saturating_add(ahead_ms);
            if before_ms >= SPAN_MS {
                break;
            }
            if before_ms <= 0 {
                return None;
            }
            *values.get_mut(count)? = held.value;
            count += 1;
        }
        Some(count)
    }

    fn sampled_values(&self, at_ms: i64, values: &mut [f64; SUMMARY_MAX]) -> Option<(PackedSample, usize)> {
        let range = self.range(at_ms);
        let last = *self.samples.get(range.end.checked_sub(1)?).filter(|_| !range.is_empty())?;
        let step = range.len().div_ceil(SUMMARY_MAX);
        let mut count = 0;
        for (slot, held) in values.iter_mut().zip(self.samples.range(range).rev().step_by(step)) {
            *slot = held.value;
            count += 1;
        }
        Some((last, count))
    }
}

#[cfg(test)]
mod tests;

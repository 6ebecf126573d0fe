//! The last ten seconds of one series, by the device's own time.
//!
//! The window of a reading at `t` is `(t - 10 s, t)`: without the reading itself, and without others of its instant. Late readings are
//! inserted where they belong, so 5 s more are held: a reading late by as much finds its window whole. Sums are never kept: one outlier
//! leaves a running sum wrong for ever, and ten additions are cheaper than the care that would take.
//!
//! Memory follows the rate up to a bound. Above it the window keeps every second reading, then every fourth, so that it spans ten
//! seconds at any rate; statistics are then those of the sample.

use std::collections::VecDeque;
use std::ops::Range;

/// Length of the window.
pub const SPAN_MS: i64 = 10_000;
/// Lateness up to which a reading's window is whole.
pub const LATE_MS: i64 = 5_000;
pub(super) const HELD_MS: i64 = SPAN_MS + LATE_MS;
/// A step of the device's time beyond this, either way, is believed only when a second reading confirms it.
pub const JUMP_MS: i64 = 60_000;
/// Readings that a summary looks at; more than these are sampled evenly.
const SUMMARY_MAX: usize = 64;
/// Of so many steps so many go one way: that is a ramp, which noise makes in less than one of a thousand windows.
const RAMP_STEPS: usize = 8;
const RAMP_OF: usize = 9;
/// Up to so many values are ranked one by one.
const RANKED_MAX: usize = 16;
/// Fewer say nothing of how rough a signal is.
const ROUGHNESS_READINGS_MIN: usize = 6;
/// `newest_ms` before the first reading.
const NEVER_MS: i64 = i64::MIN;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub at_ms: i64,
    pub value: f64,
}

/// How a reading's time stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The first reading, or a confirmed jump backwards: what was held is gone.
    NewEpoch,
    Continues,
    /// A confirmed jump forwards: a silence of so long.
    Resumes {
        silent_ms: i64,
    },
    /// Far from the others, and nothing confirms it yet: it must not be inserted. The window holds it aside.
    Suspect,
}

/// The exact statistics of a window; the standard deviation is that of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    pub count: usize,
    pub mean: f64,
    pub deviation: f64,
}

/// What the detectors need of a window with at least one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub count: usize,
    pub mean: f64,
    pub median: f64,
    /// Mean square of the differences of successive readings without the two largest: a spike has two, a step one. In a ramp, of what they
    /// differ from the usual one. `NaN` of too few.
    pub roughness: f64,
    pub last: Sample,
}

/// A sample as it is held. Most of a gateway's memory is these: their times are kept as the low half, which with the newest of them says
/// all, and they are packed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, packed(4))]
pub(super) struct Held {
    low_ms: u32,
    value: f64,
}

impl Held {
    fn new(sample: Sample) -> Held {
        Held { low_ms: sample.at_ms as u32, value: sample.value }
    }

    /// None that is held is newer than `newest_ms`, or older than that by [`JUMP_MS`] and [`HELD_MS`].
    fn age_ms(self, newest_ms: i64) -> i64 {
        i64::from((newest_ms as u32).wrapping_sub(self.low_ms))
    }

    fn sample(self, newest_ms: i64) -> Sample {
        Sample { at_ms: newest_ms - self.age_ms(newest_ms), value: self.value }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    samples: VecDeque<Held>,
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
                self.samples.push_back(Held::new(*first));
                if ahead_ms < 0 { Admission::NewEpoch } else { Admission::Resumes { silent_ms: ahead_ms } }
            }
        }
    }

    /// What is held, oldest first.
    pub(super) fn held(&self) -> impl ExactSizeIterator<Item = Sample> {
        self.samples.iter().map(|held| held.sample(self.newest_ms))
    }

    /// Takes back what was held, in the same order.
    pub(super) fn restore_held(&mut self, samples: impl ExactSizeIterator<Item = Sample>) {
        self.samples = samples.map(Held::new).collect();
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<Held>()
    }

    /// Of the readings that are believed.
    pub fn newest_ms(&self) -> Option<i64> {
        (self.newest_ms != NEVER_MS).then_some(self.newest_ms)
    }

    /// Whether a reading of this time is the newest, or as new as that.
    pub fn is_newest(&self, at_ms: i64) -> bool {
        at_ms >= self.newest_ms
    }

    /// Whether a reading of this time is so much older than the newest that it is a jump.
    pub fn is_long_past(&self, at_ms: i64) -> bool {
        self.newest_ms != NEVER_MS && self.newest_ms.saturating_sub(at_ms) > JUMP_MS
    }

    /// Whether a reading comes again: a device that has not heard that it was taken sends it once more. Of what is older than all that is
    /// held there is no telling, and nothing that it could be judged by.
    pub fn has_seen(&self, reading: Sample) -> bool {
        if reading.at_ms > self.newest_ms {
            return false;
        }
        if reading.at_ms <= self.newest_ms.saturating_sub(HELD_MS) {
            return true;
        }
        let newest_first = self.samples.iter().rev().map(|held| held.sample(self.newest_ms));
        newest_first.take_while(|held| held.at_ms >= reading.at_ms).any(|held| held == reading)
    }

    /// Inserts an admitted reading; `evicted` gets each one that leaves, oldest first.
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
        self.samples.insert(place, Held::new(reading));
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

    /// Two-pass count, mean and standard deviation of the window of a reading at `at_ms`, `NaN` where undefined.
    pub fn statistics(&self, at_ms: i64) -> Statistics {
        let range = self.range(at_ms);
        let count = range.len();
        let mean = mean(self.samples.range(range.clone()).map(|held| held.value), count);
        let (squares, rest) = self.samples.range(range).fold((0.0, 0.0), |(squares, rest), held| {
            let residual = held.value - mean;
            (squares + residual * residual, rest + residual)
        });
        // `rest` would be zero in exact arithmetic: it is what rounding left in the mean.
        let deviation = match count {
            0 | 1 => f64::NAN,
            _ => ((squares - rest * rest / count as f64) / (count - 1) as f64).sqrt(),
        };
        Statistics { count, mean, deviation }
    }

    /// Mean and median of the window of a reading at `at_ms`: of all readings up to 64, of an even sample of more.
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
        Some(Summary { count, mean, median: median(values), roughness, last })
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

    fn sampled_values(&self, at_ms: i64, values: &mut [f64; SUMMARY_MAX]) -> Option<(Held, usize)> {
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

/// The mean, summed as distances from the first value, so that a large offset costs no digits.
fn mean(mut values: impl Iterator<Item = f64>, count: usize) -> f64 {
    let Some(first) = values.next() else { return f64::NAN };
    first + values.map(|value| value - first).sum::<f64>() / count as f64
}

/// See [`Summary::roughness`].
fn roughness(values: &[f64]) -> f64 {
    if values.len() < ROUGHNESS_READINGS_MIN {
        return f64::NAN;
    }
    let steps = values.len() - 1;
    let rising = values.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let falling = values.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // On its way up or down a signal is not rough for that: what counts is how far its steps are from the usual one.
    let is_ramp = rising.max(falling) * RAMP_OF >= steps * RAMP_STEPS;
    let usual = if is_ramp { (values[steps] - values[0]) / steps as f64 } else { 0.0 };
    let (mut sum, mut largest, mut second) = (0.0, 0.0f64, 0.0f64);
    for pair in values.windows(2) {
        let distance = pair[1] - pair[0] - usual;
        let square = distance * distance;
        sum += square;
        let smaller = if square < largest { square } else { largest };
        second = if smaller > second { smaller } else { second };
        largest = if square > largest { square } else { largest };
    }
    // Not below zero, whatever rounding leaves behind a large outlier.
    (sum - largest - second).max(0.0) / (steps - 2) as f64
}

/// The median of at least one value; reorders them.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    if values.len() <= RANKED_MAX {
        let smallest = smallest(values);
        return if odd { smallest[middle] } else { between(smallest[middle - 1], smallest[middle]) };
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return *upper;
    }
    between(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), *upper)
}

fn between(lower: f64, upper: f64) -> f64 {
    lower + (upper - lower) / 2.0
}

/// The smaller half of a few values, and one more, in order. Each value sinks to its place without a branch: which way it goes is
/// anybody's guess, and a wrong one costs more than a comparison.
fn smallest(values: &[f64]) -> [f64; RANKED_MAX / 2 + 1] {
    let mut smallest = [f64::INFINITY; RANKED_MAX / 2 + 1];
    let places = &mut smallest[..values.len() / 2 + 1];
    for &value in values {
        let mut sinking = value;
        for place in &mut *places {
            let (lower, upper) = if sinking < *place { (sinking, *place) } else { (*place, sinking) };
            (*place, sinking) = (lower, upper);
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 512;

    fn put(window: &mut Window, at_ms: i64, value: f64) -> Admission {
        let sample = Sample { at_ms, value };
        let admission = window.admit(sample);
        if admission != Admission::Suspect {
            window.insert(sample, MAX, |_| ());
        }
        admission
    }

    /// What the window of a reading is by its definition; of one instant, in the order of arrival.
    fn naive_samples(all: &[Sample], at_ms: i64) -> Vec<Sample> {
        let mut window: Vec<Sample> = all.to_vec();
        window.retain(|s| s.at_ms > at_ms - SPAN_MS && s.at_ms < at_ms);
        window.sort_by_key(|s| s.at_ms);
        window
    }

    fn naive(all: &[Sample], at_ms: i64) -> Vec<f64> {
        naive_samples(all, at_ms).iter().map(|s| s.value).collect()
    }

    fn newest_before(all: &[Sample], at_ms: i64) -> Option<Sample> {
        naive_samples(all, at_ms).last().copied()
    }

    fn naive_roughness(all: &[Sample], at_ms: i64) -> f64 {
        let values = naive(all, at_ms);
        if values.len() < ROUGHNESS_READINGS_MIN {
            return f64::NAN;
        }
        let steps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let one_way = |sign: f64| steps.iter().filter(|step| **step * sign > 0.0).count() * 9 >= steps.len() * 8;
        let usual = if one_way(1.0) || one_way(-1.0) { steps.iter().sum::<f64>() / steps.len() as f64 } else { 0.0 };
        let mut squares: Vec<f64> = steps.iter().map(|step| (step - usual).powi(2)).collect();
        squares.sort_by(f64::total_cmp);
        squares.truncate(squares.len() - 2);
        squares.iter().sum::<f64>() / squares.len() as f64
    }

    fn is_close(a: f64, b: f64) -> bool {
        (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    }

    proptest! {
        #[test]
        fn windows_are_exact_up_to_five_seconds_late(
            steps in prop::collection::vec((0i64..2_500, 0i64..5_000, -1e3..1e3f64), 1..200),
        ) {
            let (mut window, mut all, mut now) = (Window::default(), Vec::new(), 1_700_000_000_000);
            for (step, late, value) in steps {
                now += step;
                let at_ms = if late % 3 == 0 { now - late } else { now };
                // Late by the newest seen, which is what the promise is about.
                let sample = Sample { at_ms, value };
                prop_assert_ne!(window.admit(sample), Admission::Suspect);
                let late_by = window.newest_ms - at_ms;
                if late_by < LATE_MS {
                    let mut expected = naive(&all, at_ms);
                    let got = window.statistics(at_ms);
                    prop_assert_eq!(got.count, expected.len());
                    if !expected.is_empty() {
                        let count = expected.len() as f64;
                        let mean = expected.iter().sum::<f64>() / count;
                        prop_assert!((got.mean - mean).abs() <= 1e-9 * 1e3);
                        let squares: f64 = expected.iter().map(|v| (v - mean).powi(2)).sum();
                        if expected.len() > 1 {
                            prop_assert!((got.deviation - (squares / (count - 1.0)).sqrt()).abs() <= 1e-6);
                        }
                        let summary = window.summary(at_ms).expect("not empty");
                        expected.sort_by(f64::total_cmp);
                        let middle = expected.len() / 2;
                        if expected.len() <= SUMMARY_MAX {
                            let median = if expected.len() % 2 == 1 { expected[middle] } else {
                                (expected[middle - 1] + expected[middle]) / 2.0
                            };
                            prop_assert!((summary.median - median).abs() <= 1e-9);
                            prop_assert!(is_close(summary.roughness, naive_roughness(&all, at_ms)));
                            prop_assert_eq!(Some(summary.last), newest_before(&all, at_ms));
                            prop_assert!((summary.mean - mean).abs() <= 1e-6);
                        }
                    }
                }
                window.insert(sample, MAX, |_| ());
                all.push(sample);
            }
        }

        #[test]
        fn any_times_keep_the_window_sorted_and_bounded(
            readings in prop::collection::vec((any::<i64>(), any::<bool>(), 0i64..3_000), 1..300),
        ) {
            let (mut window, mut at_ms) = (Window::default(), 0i64);
            for (wild, jump, step) in readings {
                at_ms = if jump { wild } else { at_ms.saturating_add(step) };
                put(&mut window, at_ms, 1.0);
                let times: Vec<_> = window.held().map(|s| s.at_ms).collect();
                prop_assert!(times.is_sorted());
                prop_assert!(times.iter().all(|&t| t <= window.newest_ms && window.newest_ms.saturating_sub(t) < HELD_MS));
            }
        }
    }

    #[test]
    fn one_wild_time_changes_nothing_and_two_that_agree_are_believed() {
        let mut window = Window::default();
        (0..10).for_each(|i| _ = put(&mut window, i * 1_000, 1.0));
        let before: Vec<Sample> = window.held().collect();
        assert_eq!(put(&mut window, 1 << 50, 9.0), Admission::Suspect);
        assert_eq!(window.held().collect::<Vec<_>>(), before);
        assert_eq!(put(&mut window, 10_000, 1.0), Admission::Continues);
        assert_eq!(put(&mut window, -90_000, 1.0), Admission::Suspect);
        assert_eq!(put(&mut window, -89_000, 1.0), Admission::NewEpoch);
        assert_eq!(window.statistics(-88_000).count, 2, "the first of the two is in the window");
        assert_eq!(put(&mut window, 0, 1.0), Admission::Suspect);
        assert_eq!(put(&mut window, 500, 1.0), Admission::Resumes { silent_ms: 89_500 });
    }

    #[test]
    fn a_fast_series_is_thinned_and_still_spans_ten_seconds() {
        let mut window = Window::default();
        for i in 0..60_000 {
            put(&mut window, i / 2, i as f64);
        }
        assert!(window.samples.len() <= MAX && window.samples.capacity() <= 2 * MAX, "{}", window.samples.len());
        assert!(window.statistics(30_000).count >= MAX / 8);
        let range = window.range(30_000);
        assert!(window.held().nth(range.start).is_some_and(|oldest| oldest.at_ms < 20_200));
        for i in 0..60 {
            put(&mut window, 30_000 + i * 1_000, 1.0);
        }
        assert_eq!((window.thinning, window.statistics(89_500).count), (0, 10));
        assert!(window.samples.capacity() <= 80, "{}", window.samples.capacity());
    }

    #[test]
    fn an_outlier_leaves_no_trace() {
        let mut window = Window::default();
        for i in 0..60 {
            put(&mut window, i * 1_000, if i == 20 { 1e15 } else { 0.1 });
        }
        assert_eq!(window.statistics(59_500), Statistics { count: 10, mean: 0.1, deviation: 0.0 });
    }
}

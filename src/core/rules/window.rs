//! Readings of one series over the last seconds, minutes or hours, for rules such as `avg(engine_temperature, 30) > 100`.
//!
//! Up to [`SAMPLES_MAX`] readings are kept as they came. When there are more, readings that are close in time are merged into buckets, so
//! that a window takes at most some 60 KiB whatever a device sends. A bucket covers less than [`RESOLUTION`] of the span with which it was
//! pushed. It counts as a whole where any part of it is within the span that is asked for, so a statistic may take in readings that are
//! that much too old (or too new), and leaves none out. Most of the readings at the end of the window, those since the last merging, are
//! still exact.
//!
//! Deliberately absent: a clock. Times are those of the device, in milliseconds since 1970, and `now_ms` is an argument. A time that is
//! far ahead empties the window, so implausible times are corrected before they come here.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::batch::varint::{self, Cursor};

/// Readings and buckets of a window at most.
pub const SAMPLES_MAX: usize = 1_024;
/// Buckets that a span is divided into: one covers less than this part of it, and no less than a millisecond.
pub const RESOLUTION: i64 = 512;
/// Merging leaves at most so many, so that it is rare.
const MERGED_MAX: usize = SAMPLES_MAX * 3 / 4;

/// What is asked about the readings of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// `avg`: the arithmetic mean, each reading counting alike.
    Average,
    /// `min`: the smallest.
    Minimum,
    /// `max`: the largest.
    Maximum,
    /// `count`: how many there are.
    Count,
    /// `stddev`: the standard deviation of these readings, as of a whole population.
    Deviation,
    /// `rate`: the last less the first, per second.
    Rate,
    /// The change per second, of the straight line with the least squares; all readings of a bucket count as of its middle.
    Slope,
    /// The last.
    Last,
}

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at_ms: i64,
    value: f64,
}

/// Two or more readings that follow each other.
#[derive(Clone, Debug, PartialEq)]
struct Bucket {
    first: Sample,
    last: Sample,
    count: u64,
    sum: f64,
    /// Squares of their distances from their own mean: small, so nothing is lost beside a large mean.
    squares: f64,
    min: f64,
    max: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    One(Sample),
    Many(Box<Bucket>),
}

impl Entry {
    fn first(&self) -> Sample {
        match self {
            Entry::One(sample) => *sample,
            Entry::Many(bucket) => bucket.first,
        }
    }

    fn last(&self) -> Sample {
        match self {
            Entry::One(sample) => *sample,
            Entry::Many(bucket) => bucket.last,
        }
    }

    fn count(&self) -> u64 {
        match self {
            Entry::One(_) => 1,
            Entry::Many(bucket) => bucket.count,
        }
    }

    fn sum(&self) -> f64 {
        match self {
            Entry::One(sample) => sample.value,
            Entry::Many(bucket) => bucket.sum,
        }
    }

    fn min(&self) -> f64 {
        match self {
            Entry::One(sample) => sample.value,
            Entry::Many(bucket) => bucket.min,
        }
    }

    fn max(&self) -> f64 {
        match self {
            Entry::One(sample) => sample.value,
            Entry::Many(bucket) => bucket.max,
        }
    }

    /// Squares of the distances of its readings from this mean.
    fn squares_around(&self, mean: f64) -> f64 {
        match self {
            Entry::One(sample) => (sample.value - mean).powi(2),
            Entry::Many(bucket) => {
                let count = bucket.count as f64;
                count.mul_add((bucket.sum / count - mean).powi(2), bucket.squares)
            }
        }
    }

    fn as_bucket(&self) -> Bucket {
        match self {
            Entry::One(sample) => Bucket {
                first: *sample,
                last: *sample,
                count: 1,
                sum: sample.value,
                squares: 0.0,
                min: sample.value,
                max: sample.value,
            },
            Entry::Many(bucket) => (**bucket).clone(),
        }
    }
}

impl Bucket {
    /// Takes in the readings of another entry, which begins no earlier.
    fn absorb(&mut self, other: &Entry) {
        let count = self.count.saturating_add(other.count());
        let sum = self.sum + other.sum();
        let mean = sum / count as f64;
        let own_distance = self.sum / self.count as f64 - mean;
        self.squares += (self.count as f64).mul_add(own_distance.powi(2), other.squares_around(mean));
        (self.count, self.sum) = (count, sum);
        (self.min, self.max) = (self.min.min(other.min()), self.max.max(other.max()));
        if other.last().at_ms >= self.last.at_ms {
            self.last = other.last();
        }
    }
}

/// The readings of one series, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleWindow {
    /// None of them begins before the one before it ends.
    entries: VecDeque<Entry>,
}

impl SampleWindow {
    /// A window without readings.
    pub fn new() -> SampleWindow {
        SampleWindow::default()
    }

    /// Adds a reading at its place in time; of one time, all count, in the order in which they came. Readings that are more than `span_ms`
    /// older than the newest are dropped, also this one. A value that is infinite or no number is left out. `span_ms` is the longest span
    /// that [`SampleWindow::statistic`] is asked for; below 0 it counts as 0.
    pub fn push(&mut self, at_ms: i64, value: f64, span_ms: i64) {
        if !value.is_finite() {
            return;
        }
        let span_ms = span_ms.max(0);
        let newest_ms = self.entries.back().map_or(at_ms, |entry| entry.last().at_ms.max(at_ms));
        let oldest_ms = newest_ms.saturating_sub(span_ms);
        while self.entries.front().is_some_and(|entry| entry.last().at_ms < oldest_ms) {
            self.entries.pop_front();
        }
        if at_ms < oldest_ms {
            return;
        }
        if self.entries.len() >= SAMPLES_MAX {
            self.merge(span_ms);
        }
        self.insert(Sample { at_ms, value });
    }

    fn insert(&mut self, sample: Sample) {
        let behind = self.entries.partition_point(|entry| entry.first().at_ms <= sample.at_ms);
        let before = behind.checked_sub(1).and_then(|before| self.entries.get_mut(before));
        match before {
            Some(Entry::Many(bucket)) if sample.at_ms < bucket.last.at_ms => bucket.absorb(&Entry::One(sample)),
            _ => self.entries.insert(behind, Entry::One(sample)),
        }
    }

    /// Merges what lies in the same part of the span. Parts are whole multiples of their width since 1970, so merging again makes no
    /// bucket wider. A bucket of a longer span lies in more than one part and stays as it is; parts become wider if too many of these remain.
    fn merge(&mut self, span_ms: i64) {
        let mut part_ms = (span_ms / RESOLUTION).saturating_add(1);
        while self.entries.len() > MERGED_MAX {
            let mut merged: VecDeque<Entry> = VecDeque::with_capacity(SAMPLES_MAX);
            for entry in self.entries.drain(..) {
                match merged.back_mut() {
                    Some(last) if part(last.first(), part_ms) == part(entry.last(), part_ms) => {
                        let mut bucket = last.as_bucket();
                        bucket.absorb(&entry);
                        *last = Entry::Many(Box::new(bucket));
                    }
                    _ => merged.push_back(entry),
                }
            }
            self.entries = merged;
            part_ms = part_ms.saturating_mul(2);
        }
    }

    /// The statistic of the readings in (`now_ms` - `span_ms`, `now_ms`]. [`Statistic::Count`] of none is 0, any other is `None`;
    /// [`Statistic::Deviation`] and [`Statistic::Rate`] need two readings, the latter at different times. A result that is too large for a
    /// double is `None`. It takes as long as there are readings, at most [`SAMPLES_MAX`] steps.
    pub fn statistic(&self, statistic: Statistic, now_ms: i64, span_ms: i64) -> Option<f64> {
        let after_ms = now_ms.saturating_sub(span_ms.max(0));
        let from = self.entries.partition_point(|entry| entry.last().at_ms <= after_ms);
        let to = self.entries.partition_point(|entry| entry.first().at_ms <= now_ms);
        let asked = || self.entries.range(from..to.max(from));
        let count = asked().fold(0_u64, |count, entry| count.saturating_add(entry.count()));
        let min = || asked().map(Entry::min).fold(f64::INFINITY, f64::min);
        let max = || asked().map(Entry::max).fold(f64::NEG_INFINITY, f64::max);
        // Rounding must not put the mean of equal readings beside them.
        let average = || match accurate_sum(asked().map(Entry::sum)) / count as f64 {
            average if average.is_finite() => average.max(min()).min(max()),
            infinite => infinite,
        };
        let result = match statistic {
            Statistic::Count => count as f64,
            _ if count == 0 => return None,
            Statistic::Average => average(),
            Statistic::Minimum => min(),
            Statistic::Maximum => max(),
            Statistic::Last => asked().next_back()?.last().value,
            _ if count < 2 => return None,
            Statistic::Deviation if min() == max() => 0.0,
            Statistic::Deviation => {
                let mean = average();
                (asked().map(|entry| entry.squares_around(mean)).sum::<f64>() / count as f64).sqrt()
            }
            Statistic::Rate => {
                let (first, last) = (asked().next()?.first(), asked().next_back()?.last());
                let elapsed_ms = last.at_ms.checked_sub(first.at_ms).filter(|elapsed_ms| *elapsed_ms > 0)?;
                (last.value - first.value) / (elapsed_ms as f64 / 1_000.0)
            }
            Statistic::Slope => slope(asked())?,
        };
        result.is_finite().then_some(result)
    }

    /// Memory that it takes, in bytes.
    #[cfg(test)]
    fn byte_size(&self) -> usize {
        let buckets = self.entries.iter().filter(|entry| matches!(entry, Entry::Many(_))).count();
        size_of::<SampleWindow>() + self.entries.capacity() * size_of::<Entry>() + buckets * size_of::<Bucket>()
    }

    /// Appends it, for the snapshot.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.entries.len() as u64);
        let mut before_ms = 0_i64;
        for entry in &self.entries {
            let (first, last) = (entry.first(), entry.last());
            varint::put(out, entry.count());
            varint::put_signed(out, first.at_ms.wrapping_sub(before_ms));
            put_double(out, first.value);
            if let Entry::Many(bucket) = entry {
                varint::put_signed(out, last.at_ms.wrapping_sub(first.at_ms));
                for double in [last.value, bucket.sum, bucket.squares, bucket.min, bucket.max] {
                    put_double(out, double);
                }
            }
            before_ms = last.at_ms;
        }
    }

    /// Reads what [`SampleWindow::encode`] has written; `None` if it is anything else.
    pub fn decode(cursor: &mut Cursor<'_>) -> Option<SampleWindow> {
        let len = usize::try_from(cursor.number()?).ok().filter(|len| *len <= SAMPLES_MAX)?;
        let mut entries: VecDeque<Entry> = VecDeque::with_capacity(len.min(cursor.rest.len()));
        for _ in 0..len {
            let before_ms = entries.back().map(|entry| entry.last().at_ms);
            let entry = decode_entry(cursor, before_ms.unwrap_or(0))?;
            if before_ms.is_some_and(|before_ms| entry.first().at_ms < before_ms) {
                return None;
            }
            entries.push_back(entry);
        }
        Some(SampleWindow { entries })
    }
}

/// The slope of the line with the least squares, per second; `None` of readings of one time.
fn slope<'e>(entries: impl Iterator<Item = &'e Entry> + Clone) -> Option<f64> {
    let first_ms = entries.clone().next()?.first().at_ms;
    let second = |entry: &Entry| {
        let (from_ms, to_ms) =
            (entry.first().at_ms.saturating_sub(first_ms), entry.last().at_ms.saturating_sub(first_ms));
        (from_ms as f64 + to_ms as f64) / 2_000.0
    };
    let count: f64 = entries.clone().map(|entry| entry.count() as f64).sum();
    let mean_s = entries.clone().map(|entry| entry.count() as f64 * second(entry)).sum::<f64>() / count;
    let mean = accurate_sum(entries.clone().map(Entry::sum)) / count;
    let (mut products, mut squares) = (0.0, 0.0);
    for entry in entries {
        let apart_s = second(entry) - mean_s;
        products += apart_s * (entry.sum() - entry.count() as f64 * mean);
        squares += entry.count() as f64 * apart_s * apart_s;
    }
    (squares > 0.0).then(|| products / squares)
}

fn part(sample: Sample, part_ms: i64) -> i64 {
    sample.at_ms.div_euclid(part_ms)
}

/// The sum with what each addition rounds off (Neumaier), so that the order of large and small values does not matter.
fn accurate_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    sum + lost
}

fn put_double(out: &mut Vec<u8>, double: f64) {
    out.extend_from_slice(&double.to_bits().to_le_bytes());
}

fn double(cursor: &mut Cursor<'_>) -> Option<f64> {
    let (bytes, _) = cursor.take(8)?.split_first_chunk::<8>()?;
    Some(f64::from_bits(u64::from_le_bytes(*bytes)))
}

fn decode_entry(cursor: &mut Cursor<'_>, before_ms: i64) -> Option<Entry> {
    let count = cursor.number()?;
    let first = Sample { at_ms: before_ms.wrapping_add(cursor.signed()?), value: double(cursor)? };
    if count == 1 {
        return first.value.is_finite().then_some(Entry::One(first));
    }
    let last = Sample { at_ms: first.at_ms.wrapping_add(cursor.signed()?), value: double(cursor)? };
    let (sum, squares) = (double(cursor)?, double(cursor)?);
    let (min, max) = (double(cursor)?, double(cursor)?);
    let are_finite = [first.value, last.value, min, max].iter().all(|double| double.is_finite());
    // Sums of very large values may have become infinite: then the statistics that need them are `None`.
    let is_bucket = count > 1 && are_finite && first.at_ms <= last.at_ms && min <= max;
    is_bucket.then(|| Entry::Many(Box::new(Bucket { first, last, count, sum, squares, min, max })))
}

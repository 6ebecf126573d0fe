//! Numbers that many threads change and the status reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number with the value it was last set to.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One count for each of [`Histogram::BOUNDS_MS`], and one for anything longer.
    counts: [Counter; Histogram::BOUNDS_MS.len() + 1],
    sum_us: Counter,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramView {
    /// For each bound, how many durations were at most that long.
    pub at_most: Vec<u64>,
    pub count: u64,
    pub sum_us: u64,
}

impl Histogram {
    pub const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

    /// Records that something took this long, `count` times.
    pub fn record(&self, took: Duration, count: u64) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = Self::BOUNDS_MS.iter().position(|bound_ms| took_us <= bound_ms * 1000);
        self.counts[place.unwrap_or(Self::BOUNDS_MS.len())].add(count);
        self.sum_us.add(took_us.saturating_mul(count));
    }

    pub fn view(&self) -> HistogramView {
        let mut view = HistogramView { sum_us: self.sum_us.get(), ..HistogramView::default() };
        for (place, count) in self.counts.iter().enumerate() {
            view.count += count.get();
            if place < Self::BOUNDS_MS.len() {
                view.at_most.push(view.count);
            }
        }
        view
    }
}

/// `1 record`, `2 records`.
pub fn many(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_at_most_so_long() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(1), 2);
        histogram.record(Duration::from_micros(1_001), 3);
        histogram.record(Duration::from_secs(31), 1);
        let view = histogram.view();
        assert_eq!((view.at_most[0], view.at_most[1], view.at_most[13], view.count), (2, 5, 5, 6));
        assert_eq!(view.sum_us, 2_000 + 3_003 + 31_000_000);
    }
}

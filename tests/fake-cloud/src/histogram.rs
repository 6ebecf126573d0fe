//! Counts milliseconds in buckets: exact below 128 ms, then 64 buckets per octave (at most 1.6 % off). Fixed size.

use crate::stats::LatencyStats;

const EXACT: u64 = 128;
const PER_OCTAVE: u64 = 64;
const BITS_MAX: u32 = 40;
const BUCKETS: usize = (EXACT + (BITS_MAX as u64 - 7) * PER_OCTAVE) as usize;

#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }

    /// A negative time (if clocks disagree) counts as zero.
    pub(crate) fn add(&mut self, milliseconds: i64) {
        let value = u64::try_from(milliseconds).unwrap_or(0).min((1 << BITS_MAX) - 1);
        self.buckets[index(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The lower edge of the bucket that holds this share of the values; 0 without values.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (i, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return lower_edge(i as u64);
            }
        }
        0
    }

    pub(crate) fn stats(&self) -> LatencyStats {
        LatencyStats {
            count: self.count,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            max: self.max,
        }
    }
}

fn index(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let shift = u64::from(value.ilog2()) - 6;
    (EXACT + (shift - 1) * PER_OCTAVE + (value >> shift) - PER_OCTAVE) as usize
}

fn lower_edge(index: u64) -> u64 {
    if index < EXACT {
        return index;
    }
    let shift = (index - EXACT) / PER_OCTAVE + 1;
    ((index - EXACT) % PER_OCTAVE + PER_OCTAVE) << shift
}

#[cfg(test)]
mod tests {
    use super::{BITS_MAX, BUCKETS, Histogram, index, lower_edge};

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        for value in (0..100_000).chain([1 << 30, (1 << BITS_MAX) - 1]) {
            let edge = lower_edge(index(value) as u64);
            assert!(edge <= value && value < lower_edge(index(value) as u64 + 1), "{value}");
            assert!((value - edge) as f64 <= value as f64 / 64.0, "{value} in {edge}");
        }
        assert_eq!(index((1 << BITS_MAX) - 1), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut histogram = Histogram::new();
        (1..=100).for_each(|value| histogram.add(value));
        let stats = histogram.stats();
        assert_eq!((stats.count, stats.p50, stats.p90, stats.p99, stats.max), (100, 50, 90, 99, 100));
        histogram.add(-5);
        assert_eq!(histogram.stats().count, 101);
    }
}

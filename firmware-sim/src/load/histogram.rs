//! Latencies in microseconds, in buckets at most 1.6 % wide: fixed memory, two instructions per value.

const STEPS_BITS: u32 = 6;
const STEPS: u64 = 1 << STEPS_BITS;
/// Enough for every u64.
const BUCKETS: usize = ((64 - STEPS_BITS as usize) + 1) * STEPS as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that the given share of values, 0 to 1, does not exceed, rounded up within its bucket; 0 if empty.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_last(place).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_BITS;
    (u64::from(shift + 1) * STEPS + ((value >> shift) - STEPS)) as usize
}

fn bucket_last(place: usize) -> u64 {
    let (octave, step) = (place as u64 / STEPS, place as u64 % STEPS);
    match octave {
        0 => step,
        _ => ((STEPS + step) << (octave - 1)) + ((1 << (octave - 1)) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_narrow_bucket() {
        for value in (0..5_000).chain([1 << 20, (1 << 20) + 12_345, u64::MAX - 1, u64::MAX]) {
            let last = bucket_last(bucket(value));
            assert!(last >= value && (last - value) as f64 <= value as f64 / 64.0, "{value}: {last}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        (1..=5_000).for_each(|value| low.record(value));
        (5_001..=10_000).for_each(|value| high.record(value));
        low.add(&high);
        assert_eq!((low.count(), low.max()), (10_000, 10_000));
        for (share, exact) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0)] {
            let found = low.quantile(share) as f64;
            assert!((exact..=exact * 1.017).contains(&found), "{share}: {found}");
        }
        assert_eq!(low.quantile(1.0), 10_000);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}

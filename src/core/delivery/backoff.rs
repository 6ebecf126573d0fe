//! Pauses with full jitter: anything between nothing and a limit that doubles with each failure.

/// A small generator for jitter alone (xorshift64*), so that a seed gives the same run again.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same pauses.
    pub fn new(seed: u64) -> Self {
        // The state must not be zero, or it stays there.
        Jitter(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between half of `max` and `max`.
    pub fn half_pause_us(&mut self, max_us: u64) -> u64 {
        let half_us = max_us / 2;
        max_us - half_us + self.next() % (half_us + 1)
    }

    /// Between 1 and `base << failures - 1`, the limit itself at most `max`.
    pub fn pause_us(&mut self, base_us: u64, failures: u32, max_us: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let limit = base_us.saturating_mul(1 << doublings).clamp(1, max_us.max(1));
        1 + self.next() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_fill_the_range_and_stop_growing() {
        let mut jitter = Jitter::new(7);
        for (failures, limit) in [(1, 100), (3, 400), (60, 10_000)] {
            let pauses: Vec<u64> = (0..1000).map(|_| jitter.pause_us(100, failures, 10_000)).collect();
            assert!(pauses.iter().all(|pause| (1..=limit).contains(pause)));
            assert!(pauses.iter().any(|pause| *pause < limit / 5) && pauses.iter().any(|pause| *pause > limit * 4 / 5));
        }
    }
}

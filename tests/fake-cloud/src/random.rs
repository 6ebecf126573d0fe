//! A seeded generator (splitmix64): the same seed and the same requests give the same faults.

#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// True in `fraction` of the cases. Draws nothing for 0, so that a disabled fault does not change when others strike.
    pub(crate) fn happens(&mut self, fraction: f64) -> bool {
        fraction > 0.0 && ((self.next() >> 11) as f64) < fraction * (1_u64 << 53) as f64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn fractions_are_kept_and_bounds_are_exact() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.happens(0.1)).count();
        assert!((900..1_100).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| random.happens(1.0) && !random.happens(0.0)));
    }
}

//! Stateless randomness: a number is a hash of seed, stream and index, so any sample can be computed at any time.

/// The finaliser of splitmix64: every input bit changes every output bit with a probability near one half.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A family of independent random sequences from one seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(mix(seed))
    }

    /// A separate family for one purpose, vehicle or metric.
    pub fn stream(self, stream: u64) -> Self {
        Random(mix(self.0 ^ mix(stream)))
    }

    fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    /// Uniform in [0, 1).
    pub fn unit(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(self, index: u64, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit(index)
    }

    /// Mean 0, standard deviation 1, never beyond 3.47: a sum of four uniforms. Healthy sensors must have no outliers of their own, or a
    /// false alarm could not be told from chance.
    pub fn bell(self, index: u64) -> f64 {
        let bits = self.bits(index);
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xFFFF).sum();
        (sum as f64 / 65_535.0 - 2.0) * 3f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_has_the_stated_moments_and_no_tails() {
        let random = Random::new(7).stream(1);
        let count = 20_000;
        let values: Vec<f64> = (0..count).map(|index| random.bell(index)).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        assert!(values.iter().all(|value| value.abs() < 3.47));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let random = Random::new(7);
        assert_eq!(random.stream(1).unit(5), Random::new(7).stream(1).unit(5));
        assert_ne!(random.stream(1).unit(5), random.stream(2).unit(5));
        assert_ne!(random.unit(5), Random::new(8).unit(5));
    }
}

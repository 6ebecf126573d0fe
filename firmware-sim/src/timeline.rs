//! When a vehicle measures: sample `index` at `origin + index * interval`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    pub origin_ms: i64,
    /// Positive.
    pub interval_ms: i64,
}

impl Timeline {
    pub fn measured_at_ms(&self, index: u64) -> i64 {
        self.origin_ms + index as i64 * self.interval_ms
    }

    /// How many samples were measured at or before this time.
    pub fn measured_by(&self, now_ms: i64) -> u64 {
        u64::try_from((now_ms - self.origin_ms).div_euclid(self.interval_ms) + 1).unwrap_or(0)
    }

    /// The first sample measured at or after this time.
    pub fn first_at_or_after(&self, time_ms: i64) -> u64 {
        self.measured_by(time_ms - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_times_agree() {
        let timeline = Timeline { origin_ms: 1_000, interval_ms: 250 };
        assert_eq!(timeline.measured_at_ms(3), 1_750);
        assert_eq!([0, 999, 1_000, 1_249, 1_250].map(|ms| timeline.measured_by(ms)), [0, 0, 1, 1, 2]);
        assert_eq!([0, 1_000, 1_001, 1_250].map(|ms| timeline.first_at_or_after(ms)), [0, 0, 1, 1]);
    }
}

//! How fast time passes for a series.
//!
//! A window of ten seconds is empty if a sensor reports once a minute. Such a series is watched as if its clock were slower: a power of two
//! of seconds counts as one in its window and in all that is learned, so that about one reading comes in each second or two of its own. A
//! series that usually has three readings in ten seconds keeps common time.

/// Readings are at most so far apart, in seconds of the series: three of them in a window.
const INTERVAL_MAX_MS: f32 = 3_300.0;
/// At least so far apart, or the series has become faster than its pace assumes.
const INTERVAL_MIN_MS: f32 = 700.0;
/// A new pace is chosen so that the interval is at most this.
const INTERVAL_NEW_MS: f32 = 2_500.0;
/// The usual interval follows the median of the steps: each moves it by a fixed factor, so that none of them, not even one of years, counts
/// for more than another. A step that is much longer counts double.
const STEP: f32 = 1.125;
const LONG_STEP: f32 = 1.25;
const LONG: f32 = 4.0;
/// The slowest pace: a reading every eleven days.
pub(super) const EXPONENT_MAX: u8 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    pub interval_ms: f32,
    /// A second of the series is `2^exponent` seconds.
    pub exponent: u8,
}

impl Pace {
    pub const NEW: Pace = Pace { interval_ms: 1_000.0, exponent: 0 };

    /// Takes note that a reading came `step_ms` after the newest before it. Returns whether that changes the pace.
    pub fn observe(&mut self, step_ms: i64) -> bool {
        if step_ms <= 0 {
            return false;
        }
        let step_ms = step_ms as f32;
        if step_ms > LONG * self.interval_ms {
            self.interval_ms *= LONG_STEP;
        } else if step_ms > self.interval_ms {
            self.interval_ms *= STEP;
        } else {
            self.interval_ms = (self.interval_ms / STEP).max(INTERVAL_MIN_MS);
        }
        let own_ms = self.interval_ms / self.seconds() as f32;
        let is_right = own_ms <= INTERVAL_MAX_MS && (own_ms >= INTERVAL_MIN_MS || self.exponent == 0);
        if is_right {
            return false;
        }
        let doublings = (self.interval_ms / INTERVAL_NEW_MS).log2().ceil().max(0.0) as u8;
        let before = std::mem::replace(&mut self.exponent, doublings.min(EXPONENT_MAX));
        before != self.exponent
    }

    /// Seconds that one of the series stands for.
    pub fn seconds(self) -> u32 {
        1 << self.exponent
    }

    /// Factor for a threshold: `times` for a slow series, else 1.
    pub fn caution(self, times: f64) -> f64 {
        if self.exponent > 0 { times } else { 1.0 }
    }

    /// How many seconds ten of the series' own are.
    pub fn span_s(self) -> u32 {
        10 * self.seconds()
    }

    /// Common time as the series counts it.
    pub fn own_ms(self, common_ms: i64) -> i64 {
        common_ms >> self.exponent
    }

    /// Common time at a time of the series.
    pub fn common_ms(self, own_ms: i64) -> i64 {
        own_ms << self.exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace in the end, and how often it changed.
    fn after(mut pace: Pace, steps: impl IntoIterator<Item = i64>) -> (Pace, usize) {
        let changes = steps.into_iter().filter(|&step_ms| pace.observe(step_ms)).count();
        (pace, changes)
    }

    fn seconds(steps: impl IntoIterator<Item = i64>) -> u32 {
        after(Pace::NEW, steps).0.seconds()
    }

    #[test]
    fn a_slow_series_has_a_slow_clock_and_changes_it_seldom() {
        let (slow, changes) = after(Pace::NEW, [60_000; 1_000]);
        assert_eq!((slow.seconds(), changes <= 5), (32, true), "{changes} changes");
        assert_eq!((seconds([1_000_000; 200]), seconds([4_000; 200])), (512, 2));
        let (quick, changes) = after(slow, [1_000; 200]);
        assert_eq!((quick.seconds(), changes <= 4), (1, true), "{changes} changes");
    }

    #[test]
    fn silences_and_wild_clocks_do_not_slow_a_series() {
        // Of ten readings one is after a silence, and one of a clock that is years ahead.
        let steps = (0..10_000).map(|i| match i % 10 {
            3 => 120_000,
            6 => 1 << 50,
            _ => 1_000,
        });
        assert_eq!(seconds(steps), 1);
        assert_eq!(seconds((0..10_000).map(|i| 200 + i * 7919 % 2_800)), 1);
        assert_eq!(seconds([1; 10_000]), 1);
    }
}

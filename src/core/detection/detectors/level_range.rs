//! Between which levels a series moves: the lowest and the highest mean of ten seconds in which nothing was found.
//!
//! Of this week and the last one, in time of being heard: what was never reached again is forgotten.

use crate::core::detection::window::SPAN_MS;

/// Minutes of being heard, after which a range begins anew and the one before it goes: a week.
pub(super) const PERIOD_MINUTES: u32 = 10_080;

/// In the precision of what people read, which takes half the room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    /// Of nothing: it has no level.
    pub const EMPTY: Bounds = Bounds { low: f32::MAX, high: f32::MIN };

    fn take(&mut self, level: f32) {
        (self.low, self.high) = (self.low.min(level), self.high.max(level));
    }

    fn with(self, other: Bounds) -> Bounds {
        Bounds { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LevelRange {
    pub now: Bounds,
    pub before: Bounds,
    /// When something was found last, in the series' own time.
    pub found_ms: i64,
}

impl LevelRange {
    pub const EMPTY: LevelRange = LevelRange { now: Bounds::EMPTY, before: Bounds::EMPTY, found_ms: i64::MIN };

    /// Takes the level of the window before this time. `is_found`: a detector told something there, or is about to.
    pub fn take(&mut self, own_ms: i64, level: f64, is_found: bool) {
        if is_found {
            self.found_ms = own_ms;
        } else if own_ms.saturating_sub(self.found_ms) > SPAN_MS || own_ms < self.found_ms {
            self.now.take((level as f32).clamp(f32::MIN, f32::MAX));
        }
    }

    /// It has been heard for so many minutes, and for so many before.
    pub fn age(&mut self, before: u32, minutes: u32) {
        let periods = minutes / PERIOD_MINUTES - before / PERIOD_MINUTES;
        if periods > 0 {
            self.before = if periods == 1 { self.now } else { Bounds::EMPTY };
            self.now = Bounds::EMPTY;
        }
    }

    /// Times are of another clock from now on.
    pub fn change_clock(&mut self) {
        self.found_ms = i64::MIN;
    }

    /// The lowest and the highest level; `None` before the first.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        let Bounds { low, high } = self.now.with(self.before);
        (low <= high).then_some((f64::from(low), f64::from(high)))
    }

    /// How many minutes of a series that has been heard for so many it covers.
    pub fn covered_minutes(minutes: u32) -> u32 {
        minutes.min(PERIOD_MINUTES + minutes % PERIOD_MINUTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_over_two_weeks_of_being_heard() {
        let mut range = LevelRange::EMPTY;
        assert_eq!(range.bounds(), None);
        for (before, minutes, level, bounds) in [
            (0, 1, 20.0, (20.0, 20.0)),
            (1, 2, 30.0, (20.0, 30.0)),
            (10_079, 10_080, 25.0, (20.0, 30.0)),
            (10_080, 10_081, 10.0, (10.0, 30.0)),
            (20_159, 20_160, 12.0, (10.0, 25.0)),
            (20_160, 90_000, 14.0, (14.0, 14.0)),
            (90_000, 90_001, 1e300, (14.0, f64::from(f32::MAX))),
        ] {
            range.age(before, minutes);
            range.take(0, level, false);
            assert_eq!(range.bounds(), Some(bounds), "after {minutes}");
        }
        let covered = [5, 10_080, 15_000, 20_160, 25_000].map(LevelRange::covered_minutes);
        assert_eq!(covered, [5, 10_080, 15_000, 10_080, 14_920]);
    }

    #[test]
    fn what_was_found_is_no_usual_level() {
        let mut range = LevelRange::EMPTY;
        range.take(0, 20.0, false);
        range.take(1_000, 90.0, true);
        // The window still holds it.
        range.take(11_000, 27.0, false);
        assert_eq!(range.bounds(), Some((20.0, 20.0)));
        range.take(11_001, 21.0, false);
        assert_eq!(range.bounds(), Some((20.0, 21.0)));
        range.take(500_000, 99.0, true);
        range.take(100, 22.0, false);
        assert_eq!(range.bounds(), Some((20.0, 22.0)), "a clock was set back");
    }
}

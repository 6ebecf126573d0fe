//! How old a line is, for sinks with `max_age`.
//!
//! A clock that is ahead for a moment must not make everything too old: what is expired is never sent. So the time goes on no faster than time
//! does; a clock that is put forward by more than an hour is believed when it has been there for an hour. At a start it is believed if the
//! system says that it is synchronised.

use std::time::{Duration, Instant};

use crate::clock;

const AHEAD_MS: i64 = 3_600_000;
const BELIEVED_AFTER: Duration = Duration::from_millis(AHEAD_MS as u64);

/// Tells ages, if anybody wants to know.
#[derive(Debug)]
pub struct Ages {
    is_wanted: bool,
    began: Instant,
    /// The time that is believed, and when it was.
    believed: Option<(i64, Instant)>,
    /// Since when the clock is further ahead than time can have brought it.
    ahead_since: Option<Instant>,
}

impl Ages {
    /// Without `is_wanted`, everything is new.
    pub fn new(is_wanted: bool) -> Ages {
        Ages { is_wanted, began: clock::instant(), believed: None, ahead_since: None }
    }

    /// The age of what was received then, in microseconds.
    pub fn of(&mut self, received_ms: i64) -> u64 {
        if !self.is_wanted {
            return 0;
        }
        let now_ms = self.advance(clock::now_ms(), clock::instant(), clock::is_synchronised);
        let age_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(received_ms));
        u64::try_from(age_ms).unwrap_or(0).saturating_mul(1_000)
    }

    /// The time that is believed, given what the clock shows.
    fn advance(&mut self, shown_ms: i64, now: Instant, is_synchronised: impl Fn() -> bool) -> Option<i64> {
        let Some((before_ms, at)) = self.believed else {
            if is_synchronised() || now.saturating_duration_since(self.began) >= BELIEVED_AFTER {
                self.believed = Some((shown_ms, now));
            }
            return self.believed.map(|(ms, _)| ms);
        };
        let passed_ms = i64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
        let reachable_ms = before_ms.saturating_add(passed_ms);
        let is_ahead = shown_ms > reachable_ms.saturating_add(AHEAD_MS);
        let since = if is_ahead { Some(*self.ahead_since.get_or_insert(now)) } else { None };
        self.ahead_since = since;
        let is_believed = since.is_none_or(|since| now.saturating_duration_since(since) >= BELIEVED_AFTER);
        let now_ms = if is_believed { shown_ms } else { reachable_ms };
        self.believed = Some((now_ms, now));
        Some(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_for_a_moment_makes_nothing_old() {
        let mut ages = Ages::new(true);
        let began = ages.began;
        let at = |minutes: u64| began + Duration::from_secs(60 * minutes);
        let year_ms = 365 * 86_400_000;
        assert_eq!(ages.advance(year_ms, at(0), || false), None, "not synchronised");
        assert_eq!(ages.advance(1_000, at(1), || true), Some(1_000));
        assert_eq!(ages.advance(61_000, at(2), || true), Some(61_000));
        assert_eq!(ages.advance(year_ms, at(3), || true), Some(121_000), "a year ahead");
        assert_eq!(ages.advance(181_000, at(4), || true), Some(181_000), "and back");
        assert_eq!(ages.advance(year_ms, at(5), || true), Some(241_000));
        assert_eq!(ages.advance(year_ms, at(66), || true), Some(year_ms), "after an hour");
        assert_eq!(ages.advance(1_000, at(67), || true), Some(1_000), "back is always believed");
    }

    #[test]
    fn nobody_who_does_not_want_to_know_is_told() {
        assert_eq!(Ages::new(false).of(0), 0);
    }
}

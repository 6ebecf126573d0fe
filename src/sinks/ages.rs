//! How old a line is, for sinks with `max_age`.
//!
//! A clock that is ahead for a moment must not make everything too old: what is expired is never sent. So the time goes on no faster than time
//! does; a clock that is put forward by more than an hour is believed when it has been there for an hour. At a start it is believed if the
//! system says that it is synchronised.
//!
//! Before it is, times of receipt may be days in the past: a box without a clock of its own begins with the newest time that it has stored. So
//! what was committed since the start is never older than the time that has really passed since then, whatever the calendar says; of heads of
//! the log, with when they were seen, enough are kept to tell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clock;

const AHEAD_MS: i64 = 3_600_000;
const BELIEVED_AFTER: Duration = Duration::from_millis(AHEAD_MS as u64);
/// While there are few, heads of the log are kept so often.
const HEAD_EVERY_US: u64 = 1_000_000;
/// At this number every other one is forgotten, and they are kept half as often.
const HEADS_MAX: usize = 4_096;
/// Where nothing happens, the head is looked at so often nevertheless.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells ages, if anybody wants to know.
#[derive(Debug)]
pub struct Ages {
    is_wanted: bool,
    began: Instant,
    /// The time that is believed, and when it was.
    believed: Option<(i64, Instant)>,
    /// Since when the clock is further ahead than time can have brought it.
    ahead_since: Option<Instant>,
    /// Heads of the log, and when each was the head, in microseconds since the machine was started. The first is that of the start.
    heads: VecDeque<(u64, u64)>,
    head_every_us: u64,
}

impl Ages {
    /// Without `is_wanted`, everything is new. What is in the log already ends with `head`.
    pub fn new(is_wanted: bool, head: u64) -> Ages {
        let (began, heads) = (clock::instant(), VecDeque::from([(head, clock::since_boot_us())]));
        Ages { is_wanted, began, believed: None, ahead_since: None, heads, head_every_us: HEAD_EVERY_US }
    }

    /// Whether anybody wants to know.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The log ends with this now.
    pub fn note_head(&mut self, head: u64) {
        if self.is_wanted {
            self.note(head, clock::since_boot_us());
        }
    }

    fn note(&mut self, head: u64, now_us: u64) {
        match self.heads.back_mut() {
            Some((known, at_us)) if *known == head => *at_us = now_us,
            Some((_, at_us)) if now_us < at_us.saturating_add(self.head_every_us) => {}
            _ => self.heads.push_back((head, now_us)),
        }
        if self.heads.len() >= HEADS_MAX {
            let mut is_kept = false;
            self.heads.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.head_every_us = self.head_every_us.saturating_mul(2);
        }
    }

    /// The age of what was received then, in microseconds.
    pub fn of(&mut self, sequence: u64, received_ms: i64) -> u64 {
        if !self.is_wanted {
            return 0;
        }
        let now_ms = self.advance(clock::now_ms(), clock::instant(), clock::is_synchronised);
        self.age_us(sequence, received_ms, now_ms, clock::since_boot_us())
    }

    fn age_us(&self, sequence: u64, received_ms: i64, now_ms: Option<i64>, now_us: u64) -> u64 {
        let age_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(received_ms));
        let by_calendar_us = u64::try_from(age_ms).unwrap_or(0).saturating_mul(1_000);
        // It came after the last head that it is beyond.
        let before = self.heads.partition_point(|(head, _)| *head < sequence);
        let since_us = before.checked_sub(1).and_then(|at| self.heads.get(at)).map(|(_, at_us)| *at_us);
        since_us.map_or(by_calendar_us, |since_us| by_calendar_us.min(now_us.saturating_sub(since_us)))
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
        let mut ages = Ages::new(true, 0);
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

    /// A box that was off for eight days begins with the newest time that it has stored, and is told the time a minute later.
    #[test]
    fn what_came_since_the_start_is_not_old_whatever_the_clock_was() {
        let mut ages = Ages::new(true, 100);
        let (day_ms, second_us) = (86_400_000, 1_000_000);
        let began_us = ages.heads[0].1;
        let at = |seconds: u64| began_us + seconds * second_us;
        ages.note(100, at(30));
        ages.note(105, at(31));
        assert_eq!(ages.age_us(103, 30_500, Some(8 * day_ms), at(60)), 30 * second_us, "since it was not there");
        assert_eq!(ages.age_us(106, 31_500, Some(8 * day_ms), at(60)), 29 * second_us);
        assert_eq!(ages.age_us(100, 0, Some(8 * day_ms), at(60)), 8 * 86_400 * second_us, "it was there before");
        assert_eq!(ages.age_us(106, 8 * day_ms - 5_000, Some(8 * day_ms), at(60)), 5 * second_us);
        // However long it runs, few heads are kept.
        for second in 0..100_000 {
            ages.note(106 + second, at(60 + second));
        }
        assert!(ages.heads.len() < HEADS_MAX);
        let age_us = ages.age_us(50_106, 0, Some(8 * day_ms), at(100_060));
        assert!((50_000 * second_us..50_100 * second_us).contains(&age_us), "{age_us}");
        assert_eq!(ages.age_us(100, 0, Some(8 * day_ms), at(100_060)), 8 * 86_400 * second_us);
    }

    #[test]
    fn nobody_who_does_not_want_to_know_is_told() {
        assert_eq!(Ages::new(false, 0).of(1, 0), 0);
    }
}

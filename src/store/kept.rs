//! Which delivered records are recent enough to be kept as history.
//!
//! Only the store knows what is recent: a clock that is not set yet must not make everything look new, and one that is ahead for a moment must
//! not make everything look old. So history ends with the newest record that is held, and its end goes on no faster than time does.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::held;
use crate::core::identity::Streams;

/// What a clock may be put forward at once, and for how long it may be further ahead before that is believed.
const AHEAD_MS: i64 = 3_600_000;
const BELIEVED_AFTER: Duration = Duration::from_millis(AHEAD_MS as u64);

/// The receive times that count as history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    from_ms: i64,
    /// Of records that were received later than this, nobody knows when they become old.
    through_ms: i64,
}

impl Kept {
    pub fn has(&self, last_ms: i64) -> bool {
        (self.from_ms..=self.through_ms).contains(&last_ms)
    }
}

/// Where history ends.
#[derive(Clone, Copy, Debug)]
pub struct HistoryEnd {
    length_ms: u64,
    /// `None` before there is a record.
    end_ms: Option<i64>,
    at: Instant,
    /// Since when the newest record is further ahead than time can have brought it.
    ahead_since: Option<Instant>,
}

impl HistoryEnd {
    pub fn new(length_ms: u64, now: Instant) -> HistoryEnd {
        HistoryEnd { length_ms, end_ms: None, at: now, ahead_since: None }
    }

    /// What counts as history now; `None` if nothing is to be kept.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn look(&mut self, db: &Connection, streams: &Streams, now: Instant) -> rusqlite::Result<Option<Kept>> {
        if self.length_ms == 0 {
            return Ok(None);
        }
        let mut newest = None;
        for stream in streams.all() {
            newest = newest.max(held::newest(db, stream)?.map(|newest| newest.last_ms));
        }
        Ok(newest.map(|newest_ms| self.advance(newest_ms, now)))
    }

    fn advance(&mut self, newest_ms: i64, now: Instant) -> Kept {
        let passed_ms = i64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(i64::MAX);
        self.at = now;
        let reachable_ms = self.end_ms.map(|end_ms| end_ms.saturating_add(passed_ms));
        let end_ms = match reachable_ms {
            Some(reachable_ms) if newest_ms > reachable_ms.saturating_add(AHEAD_MS) => {
                let since = *self.ahead_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= BELIEVED_AFTER { newest_ms } else { reachable_ms }
            }
            _ => {
                self.ahead_since = None;
                newest_ms
            }
        };
        self.end_ms = Some(end_ms);
        let length_ms = i64::try_from(self.length_ms).unwrap_or(i64::MAX);
        Kept { from_ms: end_ms.saturating_sub(length_ms), through_ms: newest_ms.saturating_add(AHEAD_MS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn history_ends_with_the_newest_record_and_a_clock_ahead_for_a_moment_moves_nothing() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut end = HistoryEnd::new(DAY_MS as u64, start);
        let from = |end: &mut HistoryEnd, newest_ms, minutes| end.advance(newest_ms, at(minutes)).from_ms + DAY_MS;
        assert_eq!(from(&mut end, 1_000, 0), 1_000);
        assert_eq!(from(&mut end, 61_000, 1), 61_000);
        // A clock that is set for the first time, or put right, by up to an hour.
        assert_eq!(from(&mut end, 61_000 + AHEAD_MS, 1), 61_000 + AHEAD_MS);
        assert_eq!(from(&mut end, 61_000, 1), 61_000, "and back");
        // Years ahead, for ten minutes.
        assert_eq!(from(&mut end, 9_000 * DAY_MS, 2), 121_000);
        assert_eq!(from(&mut end, 9_000 * DAY_MS, 12), 721_000);
        assert_eq!(from(&mut end, 722_000, 12), 722_000);
        // After weeks without power it is soon believed.
        let later_ms = 30 * DAY_MS;
        assert_eq!(from(&mut end, later_ms, 20), 722_000 + 8 * 60_000);
        assert_eq!(from(&mut end, later_ms + 60 * 60_000, 80), later_ms + 60 * 60_000);
    }

    #[test]
    fn what_was_received_in_the_future_is_no_history() {
        let start = Instant::now();
        let kept = HistoryEnd::new(DAY_MS as u64, start).advance(10 * DAY_MS, start);
        assert!(kept.has(9 * DAY_MS) && kept.has(10 * DAY_MS + AHEAD_MS));
        assert!(!kept.has(9 * DAY_MS - 1) && !kept.has(12 * DAY_MS));
    }
}

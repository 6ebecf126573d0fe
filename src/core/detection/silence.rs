//! How often something is heard, and since when it is silent. Measured by the listener's clock, not by the device's: what counts is that
//! nothing arrives.

use super::window::JUMP_MS;

/// No shorter silence is news.
const SILENCE_MIN_MS: f32 = 5_000.0;
/// Nor is one of less than so many usual intervals.
const INTERVALS: f32 = 5.0;
/// The usual interval is that of about so many arrivals.
const MEMORY: f32 = 10.0;
/// Readings out of a buffer come as quickly as they can: only those that are so far apart say how often there is one.
const LATE_INTERVAL_MIN_MS: f32 = 500.0;
/// Before so many arrivals nothing is usual.
const ARRIVALS_MIN: u16 = 10;
/// Heard for so long, and so often, it has a history; or, where the readings follow each other fast, if there were so many of them.
const HISTORY_MS: f32 = 600_000.0;
const HISTORY_ARRIVALS: u16 = 5;
const HISTORY_ARRIVALS_ENOUGH: u16 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// Also by the clock of an earlier start: then it is far in the past.
    pub(super) heard_ms: i64,
    pub(super) interval_ms: f32,
    pub(super) arrivals: u16,
    /// Its silence has been noticed.
    pub(super) is_silent: bool,
    /// It may have an alert that is raised. Here because it costs no byte, and because whoever hears a reading looks here.
    pub(super) may_have_alert: bool,
}

impl Rhythm {
    /// Nothing is known yet, also not whether there is an alert of before the start.
    pub(super) const NEW: Rhythm =
        Rhythm { heard_ms: i64::MIN, interval_ms: 0.0, arrivals: 0, is_silent: false, may_have_alert: true };

    /// Something has arrived, perhaps long after it was measured; nobody expected anything before `expected_ms`. Returns whether that ends a
    /// silence that was noticed.
    pub fn hear(&mut self, now_ms: i64, expected_ms: i64, is_late: bool) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.silent_from_ms(expected_ms)) as f32;
        if self.arrivals == 0 {
            self.arrivals = 1;
        } else if self.heard_ms >= expected_ms && elapsed_ms > if is_late { LATE_INTERVAL_MIN_MS } else { 0.0 } {
            // How long the first one took to come back, when it was expected again, is no interval.
            // What comes at once counts as one arrival. An interval weighs by its own length: a backlog that is sent within a second
            // after an hour says nothing of the rhythm. Nor does a silence that was noticed, but that the rhythm may be slower now.
            let counted_ms = if self.is_silent { elapsed_ms.min(INTERVALS * self.interval_ms) } else { elapsed_ms };
            let weight =
                if self.interval_ms == 0.0 { 1.0 } else { counted_ms / (counted_ms + MEMORY * self.interval_ms) };
            self.interval_ms += weight * (counted_ms - self.interval_ms);
            self.arrivals = self.arrivals.saturating_add(1);
        }
        // A clock that was set back: all else would wait for it to catch up.
        let is_set_back = now_ms < self.heard_ms.saturating_sub(JUMP_MS);
        self.heard_ms = if is_set_back { now_ms } else { self.heard_ms.max(now_ms) };
        std::mem::take(&mut self.is_silent)
    }

    /// Since when nothing was heard that was expected.
    pub fn silent_from_ms(&self, expected_ms: i64) -> i64 {
        self.heard_ms.max(expected_ms)
    }

    pub(super) fn limit_ms(&self) -> f32 {
        SILENCE_MIN_MS.max(INTERVALS * self.interval_ms)
    }

    /// Whether it was heard for as long as the silence that would be news: who comes for a moment is not missed.
    pub fn has_stayed(&self) -> bool {
        f32::from(self.arrivals) * self.interval_ms >= SILENCE_MIN_MS
    }

    /// Whether it has been heard for so long that it is here to stay.
    pub fn has_history(&self) -> bool {
        let heard_for_ms = f32::from(self.arrivals) * self.interval_ms;
        self.arrivals >= HISTORY_ARRIVALS && (heard_for_ms >= HISTORY_MS || self.arrivals >= HISTORY_ARRIVALS_ENOUGH)
    }

    /// When silence becomes news; never of what was hardly heard yet.
    pub fn due_ms(&self, expected_ms: i64) -> i64 {
        if self.arrivals < ARRIVALS_MIN {
            return i64::MAX;
        }
        self.silent_from_ms(expected_ms).saturating_add(self.limit_ms() as i64)
    }

    /// Whether the silence has become news since it was looked at last.
    pub fn falls_silent(&mut self, now_ms: i64, expected_ms: i64) -> bool {
        let falls = !self.is_silent && now_ms > self.due_ms(expected_ms);
        self.is_silent |= falls;
        falls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_every(interval_ms: i64, times: i64) -> Rhythm {
        let mut rhythm = Rhythm::NEW;
        (0..times).for_each(|i| _ = rhythm.hear(i * interval_ms, i64::MIN, false));
        rhythm
    }

    #[test]
    fn silence_is_news_after_five_intervals_and_five_seconds_at_least() {
        let mut quick = heard_every(100, 100);
        assert_eq!(quick.due_ms(i64::MIN), 9_900 + 5_000);
        assert!(!quick.falls_silent(14_900, i64::MIN));
        assert!(quick.falls_silent(14_901, i64::MIN));
        assert!(!quick.falls_silent(15_000, i64::MIN), "once");
        assert!(quick.hear(60_000, i64::MIN, false) && !quick.hear(60_100, i64::MIN, false));
        assert!(quick.due_ms(i64::MIN) < 60_000 + 7_000, "the silence did not become the rhythm");
        assert_eq!(heard_every(60_000, 20).due_ms(i64::MIN), 19 * 60_000 + 300_000);
        assert_eq!(heard_every(1_000, 9).due_ms(i64::MIN), i64::MAX);
    }

    #[test]
    fn what_nobody_expected_is_no_silence_and_no_interval() {
        let mut rhythm = heard_every(1_000, 20);
        assert!(!rhythm.falls_silent(3_600_000, 3_598_000));
        rhythm.hear(3_600_000, 3_599_000, false);
        assert_eq!(rhythm.interval_ms, 1_000.0);
    }

    #[test]
    fn how_long_it_took_to_come_back_does_not_slow_the_rhythm() {
        let mut rhythm = heard_every(1_000, 20);
        let started_ms = 3_600_000;
        rhythm.hear(started_ms + 20_000, started_ms, false);
        assert_eq!(rhythm.due_ms(started_ms), started_ms + 25_000);
    }

    #[test]
    fn a_backlog_sent_at_once_does_not_hasten_the_rhythm() {
        let mut rhythm = heard_every(60_000, 20);
        (0..500).for_each(|i| _ = rhythm.hear(20 * 60_000 + i / 2, i64::MIN, false));
        assert!(rhythm.due_ms(i64::MIN) > 20 * 60_000 + 250_000, "{}", rhythm.due_ms(i64::MIN));
        let mut new = Rhythm::NEW;
        (0..500).for_each(|i| _ = new.hear(2 * i, i64::MIN, true));
        assert_eq!(new.due_ms(i64::MIN), i64::MAX, "of one that begins with a backlog nothing is known");
    }
}

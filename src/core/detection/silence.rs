//! How often something is heard, and since when it is silent. The listener's clock counts, not the device's, because what matters is that
//! nothing arrives.

use super::window::JUMP_MS;

/// A shorter silence is never reported.
const SILENCE_MIN_MS: f32 = 5_000.0;
/// Nor is one of fewer usual intervals than this.
const INTERVALS: f32 = 5.0;
/// The usual interval is a mean over about so many arrivals.
const MEMORY: f32 = 10.0;
/// Readings from a buffer come as fast as they can be sent: only those that are so far apart show how often there is one.
const LATE_INTERVAL_MIN_MS: f32 = 500.0;
/// Before so many arrivals no interval is usual.
const ARRIVALS_MIN: u16 = 10;
/// What was heard for so long and so often has a history. If readings follow each other fast, a large number of them is enough.
const HISTORY_MS: f32 = 600_000.0;
const HISTORY_ARRIVALS: u16 = 5;
const HISTORY_ARRIVALS_ENOUGH: u16 = 20_000;

/// How often a series or a device is heard, and when it last was, by the listener's steady clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// It may lie before the start of the process, and then far in the past.
    pub(super) heard_ms: i64,
    pub(super) interval_ms: f32,
    pub(super) arrivals: u16,
    /// Its silence has been noticed.
    pub(super) is_silent: bool,
    /// It may have an alert that is raised. Kept here because it takes no extra byte, and because this is looked at for each reading.
    pub(super) may_have_alert: bool,
}

impl Rhythm {
    /// Nothing is known yet, not even whether an alert from before the start is raised.
    pub(super) const NEW: Rhythm =
        Rhythm { heard_ms: i64::MIN, interval_ms: 0.0, arrivals: 0, is_silent: false, may_have_alert: true };

    /// Takes note of an arrival; `is_late` says that the reading was measured long before. Nothing was expected before `expected_ms`.
    /// Returns whether this ends a silence that was noticed.
    pub fn hear(&mut self, now_ms: i64, expected_ms: i64, is_late: bool) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.silent_from_ms(expected_ms)) as f32;
        if self.arrivals == 0 {
            self.arrivals = 1;
        } else if self.heard_ms >= expected_ms && elapsed_ms > if is_late { LATE_INTERVAL_MIN_MS } else { 0.0 } {
            // The first arrival since `expected_ms` gives no interval: it only shows how long the series took to come back. Arrivals at the
            // same time count as one. An interval weighs by its own length, so a backlog that is sent within a second after an hour changes
            // nothing. A silence that was noticed shows no more than that the rhythm may be slower now.
            let counted_ms = if self.is_silent { elapsed_ms.min(INTERVALS * self.interval_ms) } else { elapsed_ms };
            let weight =
                if self.interval_ms == 0.0 { 1.0 } else { counted_ms / (counted_ms + MEMORY * self.interval_ms) };
            self.interval_ms += weight * (counted_ms - self.interval_ms);
            self.arrivals = self.arrivals.saturating_add(1);
        }
        // The clock was set back: go on from there, or everything would wait until it has caught up.
        let is_set_back = now_ms < self.heard_ms.saturating_sub(JUMP_MS);
        self.heard_ms = if is_set_back { now_ms } else { self.heard_ms.max(now_ms) };
        std::mem::take(&mut self.is_silent)
    }

    /// Since when nothing was heard although it was expected.
    pub fn silent_from_ms(&self, expected_ms: i64) -> i64 {
        self.heard_ms.max(expected_ms)
    }

    pub(super) fn limit_ms(&self) -> f32 {
        SILENCE_MIN_MS.max(INTERVALS * self.interval_ms)
    }

    /// Whether it was heard for at least as long as a silence that is reported: what appears only for a moment is not missed.
    pub fn has_stayed(&self) -> bool {
        f32::from(self.arrivals) * self.interval_ms >= SILENCE_MIN_MS
    }

    /// Whether it has been heard for so long that it is likely to stay.
    pub fn has_history(&self) -> bool {
        let heard_for_ms = f32::from(self.arrivals) * self.interval_ms;
        self.arrivals >= HISTORY_ARRIVALS && (heard_for_ms >= HISTORY_MS || self.arrivals >= HISTORY_ARRIVALS_ENOUGH)
    }

    /// When the silence is to be reported; `i64::MAX` before there were enough arrivals.
    pub fn due_ms(&self, expected_ms: i64) -> i64 {
        if self.arrivals < ARRIVALS_MIN {
            return i64::MAX;
        }
        self.silent_from_ms(expected_ms).saturating_add(self.limit_ms() as i64)
    }

    /// Notices a silence that is to be reported. Returns whether it was not noticed before.
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

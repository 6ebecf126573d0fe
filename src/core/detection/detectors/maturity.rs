//! How well a series is known: by how long it has been heard.
//!
//! Only minutes in which it is heard count, in common time: a vehicle that stands still does not get to know its driver. A minute of a slow
//! series is many common ones, see `pace`.

use serde::{Deserialize, Serialize};

use super::Detector;
use super::pace::Pace;
use crate::detection::severity::Severity;

/// A series is new in its first minutes, and known after so many: a day.
const NEW_MINUTES: u32 = 10;
const KNOWN_MINUTES: u32 = 1_440;
/// So many times as far as what was learned. On recordings of real vehicles in their first day the farthest went 10 times as far.
const EXCEPTIONAL: f64 = 12.0;
const MINUTE_MS: i64 = 60_000;
/// A reading that is so much older is of a clock that was set back, not a late one.
const SET_BACK_MINUTES: i64 = 5;
/// A time before all others.
const NEVER_MS: i64 = i64::MIN;

/// How well a series is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Maturity {
    /// It has been heard for less than ten minutes.
    New,
    /// It has been heard for less than a day.
    Learning,
    /// What is rare in a day is known of it.
    Known,
}

impl Maturity {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            Maturity::New => "new",
            Maturity::Learning => "learning",
            Maturity::Known => "known",
        }
    }

    /// How severe at most a finding may be of a series that is known so well. What is rare may not have been seen yet, so only what goes
    /// far beyond anything is more than minor. A run of equal values is held against the longest one, which says nothing for so long.
    pub(super) fn severity_max(self, detector: Detector, score: f64) -> Severity {
        let is_exceptional = detector != Detector::Stuck && score >= EXCEPTIONAL;
        if self == Maturity::Known || is_exceptional { Severity::Critical } else { Severity::Minor }
    }

    fn after(minutes: u32) -> Maturity {
        match minutes {
            0..NEW_MINUTES => Maturity::New,
            NEW_MINUTES..KNOWN_MINUTES => Maturity::Learning,
            KNOWN_MINUTES.. => Maturity::Known,
        }
    }
}

/// Since when and for how long a series has been heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeardTime {
    /// Common time of the first reading; `i64::MIN` before it.
    pub since_ms: i64,
    /// The minute that is going on, of the series' own time; `i64::MIN` if none is.
    pub minute: i64,
    /// Common minutes in which it was heard.
    pub minutes: u32,
    pub readings: u32,
}

impl HeardTime {
    pub const NONE: HeardTime = HeardTime { since_ms: NEVER_MS, minute: NEVER_MS, minutes: 0, readings: 0 };

    /// Counts a reading of this time of the series.
    pub fn hear(&mut self, own_ms: i64, pace: Pace) {
        let common_ms = pace.common_ms(own_ms);
        // A clock that was ahead at first has been set right.
        self.since_ms = if self.since_ms == NEVER_MS { common_ms } else { self.since_ms.min(common_ms) };
        self.readings = self.readings.saturating_add(1);
        let minute = own_ms.div_euclid(MINUTE_MS);
        if minute > self.minute || minute < self.minute.saturating_sub(SET_BACK_MINUTES) {
            if self.minute != NEVER_MS {
                self.minutes = self.minutes.saturating_add(pace.seconds());
            }
            self.minute = minute;
        }
    }

    /// Times are of another clock from now on.
    pub fn change_clock(&mut self) {
        self.minute = NEVER_MS;
    }

    /// When it was first heard, if that is known.
    pub fn since_ms(&self) -> Option<i64> {
        Some(self.since_ms).filter(|since_ms| *since_ms != NEVER_MS)
    }

    pub fn maturity(&self) -> Maturity {
        Maturity::after(self.minutes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_known_after_a_day_of_being_heard() {
        let cases = [
            (0, Maturity::New, "new"),
            (9, Maturity::New, "new"),
            (10, Maturity::Learning, "learning"),
            (1_439, Maturity::Learning, "learning"),
            (1_440, Maturity::Known, "known"),
            (u32::MAX, Maturity::Known, "known"),
        ];
        for (minutes, maturity, name) in cases {
            assert_eq!(Maturity::after(minutes), maturity, "{minutes}");
            assert_eq!(serde_json::json!(maturity), maturity.name());
            assert_eq!(maturity.name(), name);
        }
    }

    #[test]
    fn only_minutes_in_which_it_is_heard_count_in_common_time() {
        let heard = |exponent: u8, own_seconds: &[i64]| {
            let pace = Pace { exponent, ..Pace::NEW };
            let mut heard = HeardTime::NONE;
            own_seconds.iter().for_each(|second| heard.hear(second * 1_000, pace));
            (heard.minutes, heard.readings, heard.since_ms)
        };
        assert_eq!((heard(0, &[]), HeardTime::NONE.since_ms()), ((0, 0, NEVER_MS), None));
        assert_eq!(heard(0, &[0, 1, 59]), (0, 3, 0), "the minute is not over");
        assert_eq!(heard(0, &[7, 60, 61, 125]), (2, 4, 7_000));
        assert_eq!(heard(0, &[0, 86_400, 86_460]), (2, 3, 0), "a night of silence counts for nothing");
        assert_eq!(heard(5, &[1, 60, 120]), (64, 3, 32_000), "a second of it stands for 32");
        assert_eq!(heard(0, &[7_200, 7_190, 0, 60]), (2, 4, 0), "a clock was set back by two hours");
        let mut moved = HeardTime { minutes: 3, minute: 9, ..HeardTime::NONE };
        moved.change_clock();
        moved.hear(60_000, Pace { exponent: 3, ..Pace::NEW });
        assert_eq!(moved.minutes, 3, "how much of the minute there was is not known");
    }
}

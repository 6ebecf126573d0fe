//! What the month will cost at this pace.

use super::calendar::{self, DAY_MS};
use super::periods::{Period, Periods};

/// The pace is that of so many days.
const DAYS: i64 = 7;
/// Less says nothing about a pace.
const OBSERVED_MS_MIN: i64 = 3_600_000;

/// Where a link will be at the end of its month, if it goes on as in the last days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes a day, by the last seven days.
    pub bytes_per_day: u64,
    /// Bytes of the whole month.
    pub bytes_of_month: u64,
    /// When the budget of the month is spent, if that is before its end; in milliseconds since 1970.
    pub spent_at_ms: Option<i64>,
}

impl Forecast {
    /// `None` if there is not enough to tell.
    pub(super) fn of(
        days: &Periods,
        month: Period,
        now_ms: i64,
        reset_day: u8,
        limit: Option<u64>,
    ) -> Option<Forecast> {
        let today = calendar::day_of(now_ms);
        let is_seen = |period: &&Period| (today - DAYS..=today).contains(&period.number);
        let seen: Vec<&Period> = days.known().iter().filter(is_seen).collect();
        let first = seen.iter().map(|period| period.number).min()?;
        // Of a first day, nobody knows when it began to be counted, so it tells less than it seems to.
        let observed_ms = now_ms - first * DAY_MS;
        if observed_ms < OBSERVED_MS_MIN {
            return None;
        }
        let spent: u64 = seen.iter().map(|period| period.spent).sum();
        let per_ms = spent as f64 / observed_ms as f64;
        let end_ms = calendar::month_end_ms(calendar::month_of(now_ms, reset_day), reset_day);
        let left_ms = (end_ms - now_ms).max(0);
        let bytes_of_month = month.spent.saturating_add((per_ms * left_ms as f64) as u64);
        let spent_at_ms = limit.filter(|limit| bytes_of_month >= *limit).map(|limit| {
            let left = limit.saturating_sub(month.spent) as f64;
            if left > 0.0 { now_ms + (left / per_ms) as i64 } else { now_ms }
        });
        Some(Forecast { bytes_per_day: (per_ms * DAY_MS as f64) as u64, bytes_of_month, spent_at_ms })
    }
}

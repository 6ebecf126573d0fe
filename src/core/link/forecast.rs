//! What the month will cost at this pace.

use super::LinkSettings;
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
    pub(super) fn of(days: &Periods, month: Period, now_ms: i64, settings: &LinkSettings) -> Option<Forecast> {
        let (reset_day, limit) = (settings.reset_day, settings.bytes_per_month);
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
        // More than its budget no day will take, whatever the pace is within this one.
        let most_per_ms = settings.bytes_per_day.map_or(f64::INFINITY, |bytes| bytes as f64 / DAY_MS as f64);
        let per_ms = (spent as f64 / observed_ms as f64).min(most_per_ms);
        let end_ms = calendar::month_end_ms(calendar::month_of(now_ms, reset_day), reset_day);
        let spent_today = seen.iter().find(|period| period.number == today).map_or(0, |period| period.spent);
        let is_day_over = settings.bytes_per_day.is_some_and(|bytes| spent_today >= bytes);
        let from_ms = if is_day_over { (today + 1) * DAY_MS } else { now_ms };
        let left_ms = (end_ms - from_ms).max(0);
        let bytes_of_month = month.spent.saturating_add((per_ms * left_ms as f64) as u64);
        let spent_at_ms = limit.filter(|limit| bytes_of_month >= *limit).map(|limit| {
            let left = limit.saturating_sub(month.spent) as f64;
            if left > 0.0 { now_ms + (left / per_ms) as i64 } else { now_ms }
        });
        Some(Forecast { bytes_per_day: (per_ms * DAY_MS as f64) as u64, bytes_of_month, spent_at_ms })
    }
}

//! Days and months, in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

pub const DAY_MS: i64 = 86_400_000;

/// The day of a time, counted from 1970.
pub fn day_of(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// The month of a time, counted from 1970, where months begin with `reset_day`.
pub fn month_of(ms: i64, reset_day: u8) -> i64 {
    let date = date_of(ms);
    let month = i64::from(date.year() - 1970) * 12 + i64::from(date.month()) - 1;
    if date.day() >= first_day(date, reset_day) { month } else { month - 1 }
}

/// When a month of that number is over, in milliseconds since 1970.
pub fn month_end_ms(month: i64, reset_day: u8) -> i64 {
    let next = month + 1;
    let year = i16::try_from(1970 + next.div_euclid(12)).unwrap_or(Date::MAX.year());
    let first = Date::new(year, i8::try_from(next.rem_euclid(12) + 1).unwrap_or(1), 1).unwrap_or(Date::MAX);
    let begins = first.checked_add((first_day(first, reset_day) - 1).days()).unwrap_or(Date::MAX);
    TimeZone::UTC.to_timestamp(begins.at(0, 0, 0, 0)).map_or(i64::MAX, Timestamp::as_millisecond)
}

/// The day that the month of a date begins with.
fn first_day(date: Date, reset_day: u8) -> i8 {
    i8::try_from(reset_day).unwrap_or(i8::MAX).min(date.days_in_month())
}

fn date_of(ms: i64) -> Date {
    let ms = ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(ms).map_or(Date::default(), |at| TimeZone::UTC.to_datetime(at).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    #[test]
    fn months_begin_on_the_day_of_the_contract_or_on_the_last_day() {
        for (at, reset_day, before, end) in [
            ("2026-11-01T00:00:00Z", 1, "2026-10-31T23:59:59Z", "2026-12-01T00:00:00Z"),
            ("2026-11-17T00:00:00Z", 17, "2026-11-16T23:59:59Z", "2026-12-17T00:00:00Z"),
            ("2027-01-05T00:00:00Z", 5, "2027-01-04T23:59:59Z", "2027-02-05T00:00:00Z"),
            ("2027-02-28T00:00:00Z", 31, "2027-02-27T23:59:59Z", "2027-03-31T00:00:00Z"),
            ("2028-02-29T00:00:00Z", 30, "2028-02-28T23:59:59Z", "2028-03-30T00:00:00Z"),
            ("1969-12-31T00:00:00Z", 31, "1969-12-30T00:00:00Z", "1970-01-31T00:00:00Z"),
        ] {
            let month = month_of(ms(at), reset_day);
            assert_eq!(month_of(ms(before), reset_day), month - 1, "{at}");
            assert_eq!(month_end_ms(month, reset_day), ms(end), "{at}");
            assert_eq!(month_of(month_end_ms(month, reset_day) - 1, reset_day), month, "{at}");
        }
    }

    #[test]
    fn no_time_is_too_far_away() {
        for ms in [i64::MIN, -1, 0, i64::MAX] {
            assert!(month_end_ms(month_of(ms, 15), 15) >= ms.min(month_end_ms(month_of(ms, 15), 15)));
        }
        assert_eq!((day_of(-1), day_of(0), day_of(DAY_MS)), (-1, 0, 1));
    }
}

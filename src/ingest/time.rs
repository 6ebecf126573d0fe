//! Parses times as devices write them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Year 2200: a larger number is not a time.
const LATEST_MS: i64 = 7_258_118_400_000;
/// A clock that was never set says the first moment of 1970, which in its own zone may be a day before.
const EARLIEST_MS: i64 = -86_400_000;

/// Unit of a time field, by its name. `Some(None)` means that the unit is guessed from the magnitude.
///
/// Names are those that devices use for the time of what they send, in any case, alone or with a unit: `ts`, `tst` (OwnTracks), `timestamp_ms`,
/// `timestampMs`.
pub fn time_field(name: &str) -> Option<Option<Unit>> {
    const NAME_BYTES_MAX: usize = 16;
    if name.len() > NAME_BYTES_MAX || !may_be_time_field(name) {
        return None;
    }
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = &mut lower[..name.len()];
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let (base, unit) = match *lower {
        [ref base @ .., b'_', b's'] => (base, Some(Unit::Seconds)),
        [ref base @ .., b'm', b's'] => (base, Some(Unit::Milliseconds)),
        [ref base @ .., b'u', b's'] => (base, Some(Unit::Microseconds)),
        [ref base @ .., b'n', b's'] => (base, Some(Unit::Nanoseconds)),
        ref base => (base, None),
    };
    let base = if unit.is_some() { base.strip_suffix(b"_").unwrap_or(base) } else { base };
    let is_time = matches!(base, b"ts" | b"tst" | b"time" | b"timestamp" | b"datetime" | b"date_time" | b"measured_at");
    is_time.then_some(unit)
}

/// Nearly every name is something else, which its last two letters show: they are those of `ts`, `tst`, `time`, `timestamp`,
/// `measured_at`, or of a unit. The parts before, if it is dotted, do not matter.
pub fn may_be_time_field(name: &str) -> bool {
    let Some(last) = name.as_bytes().last_chunk::<2>() else { return false };
    matches!(
        &last.map(|byte| byte.to_ascii_lowercase()),
        b"ts" | b"st" | b"me" | b"mp" | b"at" | b"_s" | b"ms" | b"us" | b"ns"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// Epoch milliseconds of a number; `None` if it cannot be a time.
pub fn from_number(number: f64, unit: Option<Unit>) -> Option<i64> {
    let unit = unit.unwrap_or(match number {
        n if n < 1e11 => Unit::Seconds,
        n if n < 1e14 => Unit::Milliseconds,
        n if n < 1e17 => Unit::Microseconds,
        _ => Unit::Nanoseconds,
    });
    let ms = match unit {
        Unit::Seconds => number * 1e3,
        Unit::Milliseconds => number,
        Unit::Microseconds => number / 1e3,
        Unit::Nanoseconds => number / 1e6,
    };
    (ms >= 0.0 && ms <= LATEST_MS as f64).then_some(ms as i64)
}

/// Epoch milliseconds of an RFC 3339 time; a space may stand for the `T`. `None` if it is not one.
///
/// A leap second is accepted at any minute, as the first second of the next one: a device in local time, or with a clock that is slightly
/// off, does not place it where the calendar does.
pub fn from_rfc_3339(text: &str) -> Option<i64> {
    if let Some(text) = with_colon_in_zone(text) {
        return from_rfc_3339(&text);
    }
    // The parser accepts any character here.
    if !matches!(text.as_bytes().get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let (time, leap_ms) = match (text.get(..16), text.get(16..19), text.get(19..)) {
        (Some(minute), Some(":60"), Some(rest)) => {
            (OffsetDateTime::parse(&format!("{minute}:59{rest}"), &Rfc3339).ok()?, 1000)
        }
        _ => (OffsetDateTime::parse(text, &Rfc3339).ok()?, 0),
    };
    checked_ms(time.unix_timestamp() * 1000 + i64::from(time.millisecond()) + leap_ms)
}

/// `None` for milliseconds that cannot be a time.
pub fn checked_ms(ms: i64) -> Option<i64> {
    (EARLIEST_MS..=LATEST_MS).contains(&ms).then_some(ms)
}

/// ISO 8601 also allows `+0100`, and many devices write it.
fn with_colon_in_zone(text: &str) -> Option<String> {
    let at = text.len().checked_sub("+0100".len()).filter(|at| *at >= "2026-11-24T10:46".len())?;
    let (before, zone) = (text.get(..at)?, text.get(at..)?);
    let digits = zone.strip_prefix(['+', '-'])?;
    let is_basic = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_basic.then(|| format!("{before}{}:{}", &zone[..3], &zone[3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_times_are_known_in_every_spelling() {
        for (name, unit) in [
            ("ts", None),
            ("tst", None),
            ("Timestamp", None),
            ("ts_s", Some(Unit::Seconds)),
            ("timestampMs", Some(Unit::Milliseconds)),
            ("time_us", Some(Unit::Microseconds)),
            ("ts_ns", Some(Unit::Nanoseconds)),
            ("measured_at", None),
            ("measured_at_ms", Some(Unit::Milliseconds)),
            ("TIME", None),
            ("datetime", None),
            ("date_time_ns", Some(Unit::Nanoseconds)),
        ] {
            assert_eq!(time_field(name), Some(unit), "{name}");
        }
        for other in
            ["", "t", "temp", "times", "date", "timer", "tms", "datas", "ts_h", "title_ms", "timestamp_of_a_thing"]
        {
            assert_eq!(time_field(other), None, "{other}");
        }
    }

    #[test]
    fn the_unit_is_told_by_the_magnitude() {
        for number in [1_795_465_865.0, 1_795_465_865_000.0, 1_795_465_865_000_000.0, 1_795_465_865_000_000_000.0] {
            assert_eq!(from_number(number, None), Some(1_795_465_865_000));
        }
        assert_eq!(from_number(12.5, Some(Unit::Seconds)), Some(12_500));
        assert_eq!(
            (from_number(-1.0, None), from_number(0.0, None), from_number(f64::NAN, None)),
            (None, Some(0), None)
        );
        assert_eq!(from_number(1e300, Some(Unit::Seconds)), None);
    }

    #[test]
    fn rfc_3339_is_read() {
        assert_eq!(from_rfc_3339("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(from_rfc_3339("1970-01-01T00:00:00+02:00"), Some(-7_200_000), "a clock that was never set");
        assert_eq!(from_rfc_3339("2026-11-24T10:46:05.120Z"), Some(1_795_517_165_120));
        assert_eq!(from_rfc_3339("2026-11-24 12:46:05.1200009+02:00"), Some(1_795_517_165_120));
        assert_eq!(from_rfc_3339("2000-02-29t00:00:00z"), Some(951_782_400_000));
        assert_eq!(from_rfc_3339("2023-01-10T22:55:31+0100"), Some(1_673_387_731_000));
        for wrong in [
            "",
            "2026-11-24",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T10:46:05",
            "2026-11-24T10:46:05.Z",
            "2026-11-24T24:00:00Z",
            "x026-11-24T10:46:05Z",
            "2026-11-24T10:46:05+2:00",
            "2026-11-24T10:46:05+24:00",
            "2026-11-24T10:46:05+02:60",
            "2026-11-24T10:46:05Z ",
            "2026-11-24x10:46:05Z",
            "2026-11-24T10:60:05Z",
            "2026-11-24T10:46:61Z",
            "-026-11-24T10:46:05Z",
            "-2026-11-24T10:46:05Z",
            "+002026-11-24T10:46:05Z",
            "1969-12-30T23:59:59Z",
            "2200-01-01T00:00:00.001Z",
            "9999-12-31T23:59:60-23:59",
            "2026-11-24T10:46:05\u{e9}",
        ] {
            assert_eq!(from_rfc_3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_leap_second_is_the_first_one_of_the_next_minute() {
        assert_eq!(from_rfc_3339("2016-12-31T23:59:60Z"), Some(1_483_228_800_000));
        assert_eq!(from_rfc_3339("2026-11-24T12:45:60.25+02:00"), Some(1_795_517_160_250));
    }

    /// Days since 1970-01-01, counted year by year and month by month.
    fn days(year: i64, month: usize, day: i64) -> i64 {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let years: i64 = (1970..year).map(|year| 365 + i64::from(is_leap(year))).sum();
        let months = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30];
        years + months[..month - 1].iter().sum::<i64>() + day - 1
    }

    proptest::proptest! {
        #[test]
        fn fields_fractions_and_offsets_add_up(
            (year, month, day) in (1971..2199i64, 1..=12usize, 1..=28i64),
            (hour, minute, second) in (0..24i64, 0..60i64, 0..=60i64),
            fraction in "(\\.[0-9]{1,12})?",
            separator in "[Tt ]",
            (sign, ahead_h, ahead_min) in (proptest::bool::ANY, 0..24i64, 0..60i64),
        ) {
            let (sign, ahead) = (if sign { "+" } else { "-" }, (ahead_h * 60 + ahead_min) * if sign { 1 } else { -1 });
            let text = format!(
                "{year}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{sign}{ahead_h:02}:{ahead_min:02}"
            );
            let digits = format!("{:0<3.3}", fraction.trim_start_matches('.'));
            let ms = digits.parse::<i64>().expect("three digits");
            let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - ahead;
            proptest::prop_assert_eq!(from_rfc_3339(&text), Some((minutes * 60 + second) * 1000 + ms), "{}", text);
        }
    }
}

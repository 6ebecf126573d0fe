//! Times as devices write them.

/// Year 2200: beyond it a number is not a time.
const LATEST_MS: i64 = 7_258_118_400_000;

/// Unit of a time field by its name; `None` in the inner place means that the magnitude tells.
pub fn time_field(name: &str) -> Option<Option<Unit>> {
    match name {
        "ts" | "time" | "timestamp" => Some(None),
        "ts_ms" => Some(Some(Unit::Milliseconds)),
        "ts_us" => Some(Some(Unit::Microseconds)),
        "ts_s" => Some(Some(Unit::Seconds)),
        _ => None,
    }
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
    (ms > 0.0 && ms <= LATEST_MS as f64).then_some(ms as i64)
}

/// Epoch milliseconds of an RFC 3339 time; a blank may stand for the `T`. `None` if it is not one.
pub fn from_rfc_3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let number = |at: usize, len: usize| -> Option<i64> {
        let digits = bytes.get(at..at + len)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let separated = bytes[4] == b'-' && bytes[7] == b'-' && bytes[13] == b':' && bytes[16] == b':';
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let in_range = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60;
    if !separated || !in_range || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if bytes[at] == b'.' {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let first = &bytes[at + 1..at + 1 + digits.min(3)];
        let scale = 10i64.pow(3 - first.len() as u32);
        fraction_ms = first.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')) * scale;
        at += 1 + digits;
        if digits == 0 {
            return None;
        }
    }
    let offset_min = match bytes.get(at..)? {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let days = days_from_epoch(year, month, day);
    let ms = (((days * 24 + hour) * 60 + minute - offset_min) * 60 + second) * 1000 + fraction_ms;
    (ms > 0 && ms <= LATEST_MS).then_some(ms)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_told_by_the_magnitude() {
        for number in [1_795_465_865.0, 1_795_465_865_000.0, 1_795_465_865_000_000.0, 1_795_465_865_000_000_000.0] {
            assert_eq!(from_number(number, None), Some(1_795_465_865_000));
        }
        assert_eq!(from_number(12.5, Some(Unit::Seconds)), Some(12_500));
        assert_eq!((from_number(-1.0, None), from_number(0.0, None), from_number(f64::NAN, None)), (None, None, None));
        assert_eq!(from_number(1e300, Some(Unit::Seconds)), None);
    }

    #[test]
    fn rfc_3339_is_read() {
        assert_eq!(from_rfc_3339("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(from_rfc_3339("2026-11-24T10:46:05.120Z"), Some(1_795_517_165_120));
        assert_eq!(from_rfc_3339("2026-11-24 12:46:05.1200009+02:00"), Some(1_795_517_165_120));
        assert_eq!(from_rfc_3339("2000-02-29t00:00:00z"), Some(951_782_400_000));
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
        ] {
            assert_eq!(from_rfc_3339(wrong), None, "{wrong}");
        }
    }
}

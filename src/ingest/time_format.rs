//! How a route says that its times are written, and in which zone.

use ::time::{Date, Month};

use super::time::{self, Unit};

/// How a time is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// A number whose unit its size tells, or RFC 3339, which may lack the zone if the route has one.
    #[default]
    Auto,
    Unix(Unit),
    Rfc3339,
    /// With `%` as in strptime.
    Pattern(Vec<Piece>),
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(char),
    Year,
    YearOfCentury,
    Month,
    MonthName,
    Day,
    Hour,
    HourOfHalf,
    Half,
    Minute,
    Second,
    Fraction,
    Zone,
    WeekdayName,
    UnixSeconds,
}

/// Why a time was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    NoTime,
    /// It has no zone, nor has the route.
    NoZone,
}

impl TimeFormat {
    /// The formats that have a name; anything with a `%` is a pattern.
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        let named = [
            ("auto", TimeFormat::Auto),
            ("unix_s", TimeFormat::Unix(Unit::Seconds)),
            ("unix_ms", TimeFormat::Unix(Unit::Milliseconds)),
            ("unix_us", TimeFormat::Unix(Unit::Microseconds)),
            ("unix_ns", TimeFormat::Unix(Unit::Nanoseconds)),
            ("rfc3339", TimeFormat::Rfc3339),
        ];
        if let Some((_, format)) = named.into_iter().find(|(name, _)| *name == text) {
            return Ok(format);
        }
        if !text.contains('%') {
            return Err(
                "neither a pattern with %, as of strptime, nor one of auto, unix_s, unix_ms, unix_us, unix_ns, rfc3339"
                    .to_owned(),
            );
        }
        let mut pieces = Vec::new();
        add_pieces(text, &mut pieces)?;
        let has = |wanted: &[Piece]| wanted.iter().any(|piece| pieces.contains(piece));
        let is_date =
            has(&[Piece::Year, Piece::YearOfCentury]) && has(&[Piece::Month, Piece::MonthName]) && has(&[Piece::Day]);
        if is_date || has(&[Piece::UnixSeconds]) {
            Ok(TimeFormat::Pattern(pieces))
        } else {
            Err("a pattern needs year, month and day: a time without a date is not known".to_owned())
        }
    }

    /// Epoch milliseconds of a number.
    pub fn read_number(&self, number: f64) -> Result<i64, Unread> {
        let unit = match self {
            TimeFormat::Auto => None,
            TimeFormat::Unix(unit) => Some(*unit),
            TimeFormat::Pattern(_) => return self.read_text(&number.to_string(), None),
            TimeFormat::Rfc3339 => return Err(Unread::NoTime),
        };
        time::from_number(number, unit).ok_or(Unread::NoTime)
    }

    /// Epoch milliseconds of a text. `zone_s` is the zone of times that have none, in seconds east of UTC.
    pub fn read_text(&self, text: &str, zone_s: Option<i32>) -> Result<i64, Unread> {
        let text = text.trim();
        match self {
            TimeFormat::Pattern(pieces) => read_pattern(pieces, text, zone_s),
            TimeFormat::Unix(_) => text.parse().map_err(|_| Unread::NoTime).and_then(|number| self.read_number(number)),
            TimeFormat::Auto if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
                text.parse().map_err(|_| Unread::NoTime).and_then(|number| self.read_number(number))
            }
            TimeFormat::Auto | TimeFormat::Rfc3339 => {
                if let Some(ms) = time::from_rfc_3339(text) {
                    return Ok(ms);
                }
                let utc_ms = time::from_rfc_3339(&format!("{text}Z")).ok_or(Unread::NoTime)?;
                Ok(utc_ms - i64::from(zone_s.ok_or(Unread::NoZone)?) * 1000)
            }
        }
    }
}

/// Seconds east of UTC: `UTC`, `Z`, `+02:00`, `-0330`.
pub fn parse_zone(text: &str) -> Option<i32> {
    if ["UTC", "utc", "Z", "z"].contains(&text) {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_at_checked(2)?;
    let two_digits = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes.strip_prefix(':').unwrap_or(minutes))?);
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn add_pieces(text: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            pieces.push(Piece::Literal(c));
            continue;
        }
        pieces.push(match chars.next() {
            Some('Y') => Piece::Year,
            Some('y') => Piece::YearOfCentury,
            Some('m') => Piece::Month,
            Some('b' | 'B' | 'h') => Piece::MonthName,
            Some('d' | 'e') => Piece::Day,
            Some('H' | 'k') => Piece::Hour,
            Some('I' | 'l') => Piece::HourOfHalf,
            Some('p') => Piece::Half,
            Some('M') => Piece::Minute,
            Some('S') => Piece::Second,
            Some('f' | 'L' | 'N') => Piece::Fraction,
            Some('z') => Piece::Zone,
            Some('a' | 'A') => Piece::WeekdayName,
            Some('s') => Piece::UnixSeconds,
            Some('%') => Piece::Literal('%'),
            Some('F') => {
                add_pieces("%Y-%m-%d", pieces)?;
                continue;
            }
            Some('T') => {
                add_pieces("%H:%M:%S", pieces)?;
                continue;
            }
            Some(other) => {
                return Err(format!(
                    "%{other} is not known; there are %Y %y %m %b %d %H %I %p %M %S %f %z %a %s %F %T"
                ));
            }
            None => return Err("it ends with a %".to_owned()),
        });
    }
    Ok(())
}

/// What a pattern has found.
#[derive(Default)]
struct Found {
    year: i32,
    month: u8,
    day: u8,
    hour: i64,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction_ms: i64,
    zone_s: Option<i32>,
    unix_s: Option<i64>,
}

impl Found {
    fn epoch_ms(&self, zone_s: Option<i32>) -> Result<i64, Unread> {
        let ms = match self.unix_s {
            Some(unix_s) => unix_s.checked_mul(1000).ok_or(Unread::NoTime)? + self.fraction_ms,
            None => {
                let zone_s = self.zone_s.or(zone_s).ok_or(Unread::NoZone)?;
                let month = Month::try_from(self.month).map_err(|_| Unread::NoTime)?;
                let date = Date::from_calendar_date(self.year, month, self.day).map_err(|_| Unread::NoTime)?;
                let days = i64::from(date.to_julian_day() - 2_440_588);
                let hour = match self.is_afternoon {
                    Some(is_afternoon) => self.hour % 12 + if is_afternoon { 12 } else { 0 },
                    None => self.hour,
                };
                if hour > 23 || self.minute > 59 || self.second > 60 {
                    return Err(Unread::NoTime);
                }
                let seconds = ((days * 24 + hour) * 60 + self.minute) * 60 + self.second - i64::from(zone_s);
                seconds * 1000 + self.fraction_ms
            }
        };
        time::checked_ms(ms).ok_or(Unread::NoTime)
    }
}

fn read_pattern(pieces: &[Piece], text: &str, zone_s: Option<i32>) -> Result<i64, Unread> {
    let mut found = Found::default();
    let mut rest = text;
    for piece in pieces {
        rest = read_piece(*piece, rest, &mut found).ok_or(Unread::NoTime)?;
    }
    if rest.is_empty() { found.epoch_ms(zone_s) } else { Err(Unread::NoTime) }
}

/// What remains of the text.
fn read_piece<'a>(piece: Piece, rest: &'a str, found: &mut Found) -> Option<&'a str> {
    match piece {
        Piece::Literal(c) if c.is_whitespace() => return Some(rest.trim_start()),
        Piece::Literal(c) => return rest.strip_prefix(c),
        Piece::Half => {
            let (half, rest) = rest.split_at_checked(2)?;
            found.is_afternoon = Some(half.eq_ignore_ascii_case("pm"));
            return Some(rest).filter(|_| half.eq_ignore_ascii_case("am") || half.eq_ignore_ascii_case("pm"));
        }
        Piece::MonthName => {
            let (name, rest) = split_word(rest);
            found.month = month_of(name)?;
            return Some(rest);
        }
        Piece::WeekdayName => return Some(split_word(rest).1),
        Piece::Zone => {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-:".contains(c))).unwrap_or(rest.len());
            let (zone, rest) = rest.split_at(len);
            found.zone_s = Some(parse_zone(zone)?);
            return Some(rest);
        }
        _ => {}
    }
    let digits_max = match piece {
        Piece::Year => 4,
        Piece::Fraction => 9,
        Piece::UnixSeconds => 12,
        _ => 2,
    };
    let unpadded = rest.trim_start_matches(' ');
    let len = unpadded.bytes().take(digits_max).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = unpadded.split_at(len);
    let number: i64 = digits.parse().ok()?;
    match piece {
        Piece::Year => found.year = number as i32,
        Piece::YearOfCentury => found.year = 2000 + number as i32,
        Piece::Month => found.month = number as u8,
        Piece::Day => found.day = number as u8,
        Piece::Hour | Piece::HourOfHalf => found.hour = number,
        Piece::Minute => found.minute = number,
        Piece::Second => found.second = number,
        Piece::Fraction => found.fraction_ms = format!("{digits:0<3.3}").parse().ok()?,
        _ => found.unix_s = Some(number),
    }
    Some(rest)
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len()))
}

fn month_of(name: &str) -> Option<u8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let short = name.get(..3)?;
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(short))?;
    u8::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, text: &str, zone: &str) -> Result<i64, Unread> {
        TimeFormat::parse(format).expect("a format").read_text(text, parse_zone(zone))
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (format, text, zone, ms) in [
            ("auto", "2022-12-31 05:33:33", "+01:00", 1_672_461_213_000),
            ("auto", "2022-12-31T05:33:33.5Z", "", 1_672_464_813_500),
            ("auto", "1672464813", "", 1_672_464_813_000),
            ("rfc3339", "2022-12-31T05:33:33+0000", "", 1_672_464_813_000),
            ("unix_s", "1672464813.25", "", 1_672_464_813_250),
            ("%d.%m.%Y %H:%M:%S", "31.12.2022 05:33:33", "UTC", 1_672_464_813_000),
            ("%Y%m%d%H%M%S", "20221231053333", "UTC", 1_672_464_813_000),
            ("%a %b %e %T %Y", "Sat Dec 31 05:33:33 2022", "UTC", 1_672_464_813_000),
            ("%m/%d/%y %I:%M:%S %p", "12/31/22 05:33:33 pm", "UTC", 1_672_508_013_000),
            ("%FT%T.%f%z", "2022-12-31T05:33:33.120+0200", "", 1_672_457_613_120),
            ("%s.%f", "1672464813.5", "", 1_672_464_813_500),
        ] {
            assert_eq!(read(format, text, zone), Ok(ms), "{format} {text}");
        }
        assert_eq!(TimeFormat::parse("%Y%m%d%H%M%S").expect("a format").read_number(1.0), Err(Unread::NoTime));
        assert_eq!(TimeFormat::parse("unix_ns").expect("a format").read_number(1.5e18), Ok(1_500_000_000_000));
    }

    #[test]
    fn what_is_not_certain_is_not_read() {
        assert_eq!(read("auto", "2022-12-31 05:33:33", ""), Err(Unread::NoZone));
        assert_eq!(read("%F %T", "2022-12-31 05:33:33", ""), Err(Unread::NoZone));
        for (format, text) in [
            ("%F %T", "2022-13-31 05:33:33"),
            ("%F", "2022-12-31x"),
            ("%F %T", "2022-12-31 25:33:33"),
            ("unix_s", "now"),
            ("auto", ""),
        ] {
            assert_eq!(read(format, text, "UTC"), Err(Unread::NoTime), "{text}");
        }
        for format in ["%H:%M", "%Q", "%Y-%m-%", "iso"] {
            assert!(TimeFormat::parse(format).is_err(), "{format}");
        }
        let zones = ["UTC", "+02:00", "-0330", "+2", "Europe/Berlin", "+99:00", "+1:000"].map(parse_zone);
        assert_eq!(zones, [Some(0), Some(7200), Some(-12600), None, None, None, None]);
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_or_text_is_too_odd(format in "[%YmdHMSfzabsp: -]{0,12}", text in "[0-9: +-äAPM]{0,20}") {
            if let Ok(format) = TimeFormat::parse(&format) {
                let _ = format.read_text(&text, Some(0));
            }
        }
    }
}

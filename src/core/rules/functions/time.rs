//! From milliseconds since 1970 to dates and back. The time zones are those of the IANA, which are part of the program.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::pattern::{Dialect, Part, Pattern, Unit};
use super::text::{bounded, text};
use super::{Answer, Frame, Function, Prepared, argument, prepared};
use crate::rules::number::Number;
use crate::rules::value::Value;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Characters of a name that is shortened.
const SHORT_CHARS: usize = 3;
/// Digits of a number in a text.
const NUMBER_DIGITS_MAX: usize = 10;
/// Steps for a pattern that is not constant, and for the search of a zone.
const PATTERN_STEPS: u32 = 50;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

pub(super) static FUNCTIONS: [Function; 2] = [
    prepared("parse_time", (2, 3), parse_time, 0, |pattern| {
        Pattern::parse(pattern, Dialect::Joda).map(Prepared::Pattern)
    }),
    prepared("time_to_epoch", (2, 2), time_to_epoch, 1, |pattern| {
        Pattern::parse(pattern, Dialect::Jdk).map(Prepared::Pattern)
    }),
];

/// Calls with the pattern, whether it was read before or is read now.
fn with_pattern<'v>(
    frame: &mut Frame<'_, 'v>,
    pattern: &Value<'v>,
    dialect: Dialect,
    apply: impl FnOnce(&Pattern) -> Answer<'v>,
) -> Answer<'v> {
    frame.budget.take(PATTERN_STEPS)?;
    match frame.prepared {
        Some(Prepared::Pattern(pattern)) => return apply(pattern),
        Some(_) => return Ok(Value::Undefined),
        None => {}
    }
    let Some(pattern) = pattern.to_text()? else { return Ok(Value::Undefined) };
    Pattern::parse(&pattern, dialect).map_or(Ok(Value::Undefined), |pattern| apply(&pattern))
}

/// A zone by its name in the IANA's database, or by its offset: `America/Belize`, `UTC`, `+01:00`, `GMT+2`.
fn zone(name: &str) -> Option<TimeZone> {
    let is_utc = ["UTC", "GMT", "UT", "Z"].iter().any(|utc| name.eq_ignore_ascii_case(utc));
    if is_utc {
        return Some(TimeZone::UTC);
    }
    let offset = ["UTC", "GMT", "UT"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    match offset.strip_prefix('+').map(|size| (1, size)).or_else(|| offset.strip_prefix('-').map(|size| (-1, size))) {
        Some((sign, size)) => Some(TimeZone::fixed(Offset::from_seconds(sign * offset_seconds(size)?).ok()?)),
        None => ZONES.get(name).ok(),
    }
}

/// `1`, `01`, `0130` or `01:30`.
fn offset_seconds(text: &str) -> Option<i32> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = match text.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if text.len() == 4 => text.split_at_checked(2)?,
        None => (text, "0"),
    };
    let is_written_well = is_digits(hours) && hours.len() <= 2 && is_digits(minutes) && minutes.len() <= 2;
    let (hours, minutes): (i32, i32) = is_written_well.then_some((hours.parse().ok()?, minutes.parse().ok()?))?;
    (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)
}

fn parse_time<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let zone = match arguments.len() {
        3 => text(frame, arguments, 2)?.and_then(|name| zone(&name)),
        _ => Some(TimeZone::UTC),
    };
    let at = argument(arguments, 1).to_int().and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
    let Some((zone, at)) = zone.zip(at) else { return Ok(Value::Undefined) };
    with_pattern(frame, argument(arguments, 0), Dialect::Joda, |pattern| bounded(printed(pattern, at, &zone)))
}

fn printed(pattern: &Pattern, at: Timestamp, zone: &TimeZone) -> String {
    let local = zone.to_datetime(at);
    let info = zone.to_offset_info(at);
    let mut out = String::new();
    for part in &pattern.0 {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Number(unit, digits) => out.push_str(&padded(unit.of(local), *digits)),
            Part::ShortYear => out.push_str(&padded(i64::from(local.year()).rem_euclid(100), 2)),
            Part::Fraction(digits) => {
                let nanoseconds = format!("{:09}", local.subsec_nanosecond());
                out.push_str(nanoseconds.get(..*digits).unwrap_or(&nanoseconds));
            }
            Part::Month { is_full } => out.push_str(name(&MONTHS, i64::from(local.month()), *is_full)),
            Part::Weekday { is_full } => out.push_str(name(&WEEKDAYS, Unit::DayOfWeek.of(local), *is_full)),
            Part::HalfDay => out.push_str(if local.hour() < 12 { "AM" } else { "PM" }),
            Part::Era => out.push_str(if local.year() > 0 { "AD" } else { "BC" }),
            Part::ZoneName => out.push_str(info.abbreviation()),
            Part::ZoneId => match zone.iana_name() {
                Some(name) => out.push_str(name),
                None => push_offset(&mut out, info.offset(), true),
            },
            Part::Offset { is_z_for_zero: true, .. } if info.offset().seconds() == 0 => out.push('Z'),
            Part::Offset { has_colon, .. } => push_offset(&mut out, info.offset(), *has_colon),
        }
    }
    out
}

fn padded(number: i64, digits: usize) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:0digits$}", number.unsigned_abs(), digits = digits.min(NUMBER_DIGITS_MAX))
}

fn name(names: &[&'static str], number: i64, is_full: bool) -> &'static str {
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let full = index.and_then(|index| names.get(index)).copied().unwrap_or_default();
    if is_full { full } else { full.get(..SHORT_CHARS).unwrap_or(full) }
}

fn push_offset(out: &mut String, offset: Offset, has_colon: bool) {
    let seconds = offset.seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    let colon = if has_colon { ":" } else { "" };
    out.push_str(&format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60));
}

impl Unit {
    fn of(self, local: DateTime) -> i64 {
        let (year, hour) = (i64::from(local.year()), i64::from(local.hour()));
        // There is no year 0 in either era.
        let year_of_era = if year > 0 { year } else { 1 - year };
        match self {
            Unit::Year => year,
            Unit::YearOfEra => year_of_era,
            Unit::WeekYear => local.date().iso_week_date().year().into(),
            Unit::Century => year_of_era / 100,
            Unit::Month => local.month().into(),
            Unit::Week => local.date().iso_week_date().week().into(),
            Unit::Day => local.day().into(),
            Unit::DayOfYear => local.date().day_of_year().into(),
            Unit::DayOfWeek => local.date().weekday().to_monday_one_offset().into(),
            Unit::Hour => hour,
            Unit::HourFrom1 => (hour + 23) % 24 + 1,
            Unit::HalfDayHour => hour % 12,
            Unit::HalfDayHourFrom1 => (hour + 11) % 12 + 1,
            Unit::Minute => local.minute().into(),
            Unit::Second => local.second().into(),
        }
    }
}

fn time_to_epoch<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let Some(text) = text(frame, arguments, 0)? else { return Ok(Value::Undefined) };
    with_pattern(frame, argument(arguments, 1), Dialect::Jdk, |pattern| {
        Ok(read(pattern, &text).map(Number::from).into())
    })
}

/// What a text says of a time.
#[derive(Default)]
struct Parsed {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    hour: Option<i64>,
    half_day_hour: Option<i64>,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    nanosecond: i64,
    is_before_christ: bool,
    zone: Option<TimeZone>,
}

/// Milliseconds since 1970; `None` if the text is not written as the pattern says, or there is no such time.
fn read(pattern: &Pattern, text: &str) -> Option<i64> {
    let mut parsed = Parsed::default();
    let mut rest = text;
    for (at, part) in pattern.0.iter().enumerate() {
        let is_number_next =
            matches!(pattern.0.get(at + 1), Some(Part::Number(..) | Part::ShortYear | Part::Fraction(_)));
        rest = parsed.take(part, rest, is_number_next)?;
    }
    if rest.is_empty() { parsed.at_ms() } else { None }
}

/// The number at the beginning, and what follows it.
fn digits(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let len = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(len).filter(|_| len >= min && len > 0)?;
    Some((digits.parse().ok()?, rest))
}

/// The place of the name at the beginning, counted from 1, and what follows it.
fn take_name<'a>(names: &[&str], is_full: bool, text: &'a str) -> Option<(i64, &'a str)> {
    (1..).zip(names).find_map(|(number, full)| {
        let name = if is_full { full } else { full.get(..SHORT_CHARS)? };
        text.strip_prefix(name).map(|rest| (number, rest))
    })
}

impl Parsed {
    fn take<'a>(&mut self, part: &Part, text: &'a str, is_number_next: bool) -> Option<&'a str> {
        let rest = match part {
            Part::Literal(literal) => text.strip_prefix(literal.as_str())?,
            Part::Number(unit, count) => {
                let is_open =
                    !is_number_next && (*count == 1 || (matches!(unit, Unit::Year | Unit::YearOfEra) && *count > 2));
                let (number, rest) = digits(text, *count, if is_open { NUMBER_DIGITS_MAX } else { *count })?;
                self.set(*unit, number)?;
                rest
            }
            Part::ShortYear => {
                let (year, rest) = digits(text, 2, 2)?;
                self.year = Some(2000 + year);
                rest
            }
            Part::Fraction(count) => {
                let (fraction, rest) = digits(text, *count, *count)?;
                self.nanosecond = fraction * 10_i64.pow(9_u32.saturating_sub(*count as u32));
                rest
            }
            Part::Month { is_full } => {
                let (month, rest) = take_name(&MONTHS, *is_full, text)?;
                self.month = Some(month);
                rest
            }
            Part::Weekday { is_full } => {
                let (weekday, rest) = take_name(&WEEKDAYS, *is_full, text)?;
                self.weekday = Some(weekday);
                rest
            }
            Part::HalfDay => {
                let (half, rest) = take_name(&["AM", "PM"], true, text)?;
                self.is_afternoon = Some(half == 2);
                rest
            }
            Part::Era => {
                let (era, rest) = take_name(&["BC", "AD"], true, text)?;
                self.is_before_christ = era == 1;
                rest
            }
            Part::ZoneName | Part::ZoneId | Part::Offset { .. } => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':');
                let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
                let is_offset = matches!(part, Part::Offset { .. });
                if is_offset && !name.starts_with(['+', '-']) && name != "Z" {
                    return None;
                }
                self.zone = Some(zone(name)?);
                rest
            }
        };
        Some(rest)
    }

    fn set(&mut self, unit: Unit, number: i64) -> Option<()> {
        match unit {
            Unit::Year | Unit::YearOfEra => self.year = Some(number),
            Unit::Month => self.month = Some(number),
            Unit::Day => self.day = Some(number),
            Unit::DayOfYear => self.day_of_year = Some(number),
            Unit::Hour => self.hour = Some(number),
            Unit::HourFrom1 => self.hour = (1..=24).contains(&number).then_some(number % 24),
            Unit::HalfDayHour => self.half_day_hour = (0..12).contains(&number).then_some(number),
            Unit::HalfDayHourFrom1 => self.half_day_hour = (1..=12).contains(&number).then_some(number % 12),
            Unit::Minute => self.minute = number,
            Unit::Second => self.second = number,
            Unit::WeekYear | Unit::Century | Unit::Week | Unit::DayOfWeek => return None,
        }
        Some(())
    }

    fn date(&self) -> Option<Date> {
        let stated = self.year?;
        let year = i16::try_from(if self.is_before_christ { 1 - stated } else { stated }).ok()?;
        let date = match (self.month, self.day, self.day_of_year) {
            (Some(month), Some(day), _) => Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?,
            (None, None, Some(day)) => {
                Date::new(year, 1, 1).ok()?.with().day_of_year(i16::try_from(day).ok()?).build().ok()?
            }
            _ => return None,
        };
        let is_that_day =
            self.weekday.is_none_or(|weekday| weekday == i64::from(date.weekday().to_monday_one_offset()));
        is_that_day.then_some(date)
    }

    fn at_ms(self) -> Option<i64> {
        let hour = match (self.hour, self.half_day_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.is_afternoon? { 12 } else { 0 },
            (None, None) => 0,
        };
        let small = |number: i64| i8::try_from(number).ok();
        let nanosecond = i32::try_from(self.nanosecond).ok()?;
        let time = Time::new(small(hour)?, small(self.minute)?, small(self.second)?, nanosecond).ok()?;
        let local = DateTime::from_parts(self.date()?, time);
        let zone = self.zone.unwrap_or(TimeZone::UTC);
        Some(zone.to_ambiguous_timestamp(local).compatible().ok()?.as_millisecond())
    }
}

//! Patterns of dates and times, as Joda-Time (`parse_time`) and the JDK (`time_to_epoch`) write them: the part that does not depend on a
//! language other than English.

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// Whose letters a pattern is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Joda,
    Jdk,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    /// A number with at least so many digits.
    Number(Unit, usize),
    /// A year of two digits, of this century.
    ShortYear,
    /// So many digits of the fraction of a second.
    Fraction(usize),
    Month {
        is_full: bool,
    },
    Weekday {
        is_full: bool,
    },
    /// AM or PM.
    HalfDay,
    /// AD or BC.
    Era,
    /// What clocks there call the time: CST, UTC.
    ZoneName,
    /// `America/Belize`
    ZoneId,
    Offset {
        has_colon: bool,
        is_z_for_zero: bool,
    },
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    YearOfEra,
    WeekYear,
    Century,
    Month,
    Week,
    Day,
    DayOfYear,
    /// Monday is 1.
    DayOfWeek,
    /// 0 to 23
    Hour,
    /// 1 to 24
    HourFrom1,
    /// 0 to 11
    HalfDayHour,
    /// 1 to 12
    HalfDayHourFrom1,
    Minute,
    Second,
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(pub(super) Vec<Part>);

impl Pattern {
    /// Reads a pattern; the error says which letter is not supported.
    pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Pattern, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = rest.find(|c| c != first).unwrap_or(rest.len());
            let (run, after) = rest.split_at(len);
            rest = after;
            if first == '\'' {
                rest = quoted(run.len(), after, &mut literal)?;
            } else if first.is_ascii_alphabetic() {
                push_literal(&mut parts, &mut literal);
                parts.push(part(first, len, dialect).ok_or_else(|| format!("{run} is not supported in a pattern"))?);
            } else if matches!(first, '[' | ']' | '{' | '}' | '#') && dialect == Dialect::Jdk {
                return Err(format!("{first} is not supported in a pattern"));
            } else {
                literal.push_str(run);
            }
        }
        push_literal(&mut parts, &mut literal);
        Ok(Pattern(parts))
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

/// A text in quotes, the first of which were read; two of them are one in the text. Returns what follows it.
fn quoted<'a>(quotes: usize, after: &'a str, literal: &mut String) -> Result<&'a str, String> {
    literal.push_str(&"'".repeat(quotes / 2));
    if quotes.is_multiple_of(2) {
        return Ok(after);
    }
    let mut rest = after;
    loop {
        let (inside, after) = rest.split_once('\'').ok_or("a quote in the pattern is not closed")?;
        literal.push_str(inside);
        match after.strip_prefix('\'') {
            Some(more) => {
                literal.push('\'');
                rest = more;
            }
            None => return Ok(after),
        }
    }
}

fn part(letter: char, count: usize, dialect: Dialect) -> Option<Part> {
    let is_jdk = dialect == Dialect::Jdk;
    Some(match (letter, count) {
        ('y' | 'u', 2) if letter == 'y' || is_jdk => Part::ShortYear,
        ('y', _) if !is_jdk => Part::Number(Unit::Year, count),
        ('y', _) => Part::Number(Unit::YearOfEra, count),
        ('u', _) if is_jdk => Part::Number(Unit::Year, count),
        ('Y', _) if !is_jdk => Part::Number(Unit::YearOfEra, count),
        ('x', _) if !is_jdk => Part::Number(Unit::WeekYear, count),
        ('w', _) if !is_jdk => Part::Number(Unit::Week, count),
        ('C', _) if !is_jdk => Part::Number(Unit::Century, count),
        ('e', _) if !is_jdk => Part::Number(Unit::DayOfWeek, count),
        ('G', 1..=3) => Part::Era,
        ('M' | 'L', 1..=2) if letter == 'M' || is_jdk => Part::Number(Unit::Month, count),
        ('M' | 'L', 3..=4) if letter == 'M' || is_jdk => Part::Month { is_full: count == 4 },
        ('d', _) => Part::Number(Unit::Day, count),
        ('D', _) => Part::Number(Unit::DayOfYear, count),
        ('E', 1..=4) => Part::Weekday { is_full: count == 4 },
        ('a', 1) => Part::HalfDay,
        ('H', _) => Part::Number(Unit::Hour, count),
        ('k', _) => Part::Number(Unit::HourFrom1, count),
        ('K', _) => Part::Number(Unit::HalfDayHour, count),
        ('h', _) => Part::Number(Unit::HalfDayHourFrom1, count),
        ('m', _) => Part::Number(Unit::Minute, count),
        ('s', _) => Part::Number(Unit::Second, count),
        ('S', 1..=9) => Part::Fraction(count),
        ('z', 1..=3) => Part::ZoneName,
        ('V', 2) if is_jdk => Part::ZoneId,
        ('Z', _) if !is_jdk && count >= 3 => Part::ZoneId,
        ('Z', 2) if !is_jdk => Part::Offset { has_colon: true, is_z_for_zero: false },
        ('Z', 1) => Part::Offset { has_colon: false, is_z_for_zero: false },
        ('Z', 2 | 3) => Part::Offset { has_colon: false, is_z_for_zero: false },
        ('Z', 5) => Part::Offset { has_colon: true, is_z_for_zero: true },
        ('X', 2..=3) if is_jdk => Part::Offset { has_colon: count == 3, is_z_for_zero: true },
        ('x', 2..=3) if is_jdk => Part::Offset { has_colon: count == 3, is_z_for_zero: false },
        _ => return None,
    })
}

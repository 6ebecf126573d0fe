//! The name of the index that a record goes to, which follows from the record and the configuration alone: a record that is sent again finds
//! itself in the same index, whenever that is.

use std::fmt::Write as _;

use crate::clock;

/// The service allows no longer name.
const NAME_BYTES_MAX: usize = 255;
/// The longest id of a gateway, and the longest name of a stream.
const GATEWAY_BYTES_MAX: usize = 127;
const STREAM_BYTES_MAX: usize = 64;

/// A name with places for the gateway, the stream, and the day of receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Gateway,
    Stream,
    Year,
    Month,
    Day,
    Hour,
}

impl Part {
    fn bytes_max(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Gateway => GATEWAY_BYTES_MAX,
            Part::Stream => STREAM_BYTES_MAX,
            Part::Year => 4,
            Part::Month | Part::Day | Part::Hour => 2,
        }
    }
}

/// What services allow in the name of an index, of which there are no capital letters. Some of them allow more.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.+".contains(&byte)
}

impl IndexTemplate {
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<IndexTemplate, String> {
        if !text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            return Err("the name of an index has to begin with a letter of a-z or a digit".to_owned());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(first) = rest.chars().next() {
            let (part, bytes) = match first {
                '{' => place(rest)?,
                '%' => time(rest)?,
                _ => {
                    let end = rest.find(['{', '%']).unwrap_or(rest.len());
                    (literal(&rest[..end])?, end)
                }
            };
            parts.push(part);
            rest = &rest[bytes..];
        }
        let template = IndexTemplate { text: text.to_owned(), parts };
        match template.bytes_max() > NAME_BYTES_MAX {
            true => Err(format!("the name of an index may become longer than the {NAME_BYTES_MAX} bytes it may have")),
            false => Ok(template),
        }
    }

    /// The longest name that can come of it.
    pub fn bytes_max(&self) -> usize {
        self.parts.iter().map(Part::bytes_max).sum()
    }

    /// Whether what is old is in indices of its own, which can be deleted as a whole.
    pub fn is_by_time(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Year))
            && self.parts.iter().any(|part| matches!(part, Part::Month))
    }

    /// Whether each stream has indices of its own.
    pub fn is_by_stream(&self) -> bool {
        self.parts.contains(&Part::Stream)
    }

    /// As it stands in the configuration.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// Of this stream.
    pub fn names(&self, stream: &str) -> IndexNames {
        let mut parts: Vec<Part> = Vec::new();
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text.clone(),
                Part::Stream => stream.to_owned(),
                of_record => {
                    parts.push(of_record.clone());
                    continue;
                }
            };
            match parts.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ => parts.push(Part::Text(text)),
            }
        }
        IndexNames { parts }
    }
}

fn place(rest: &str) -> Result<(Part, usize), String> {
    for (name, part) in [("{gateway}", Part::Gateway), ("{stream}", Part::Stream)] {
        if rest.starts_with(name) {
            return Ok((part, name.len()));
        }
    }
    Err("unknown placeholder; there are {gateway} and {stream}, and %Y, %m, %d and %H".to_owned())
}

fn time(rest: &str) -> Result<(Part, usize), String> {
    let part = match rest.as_bytes().get(1) {
        Some(b'Y') => Part::Year,
        Some(b'm') => Part::Month,
        Some(b'd') => Part::Day,
        Some(b'H') => Part::Hour,
        _ => return Err("unknown part of a time; there are %Y, %m, %d and %H".to_owned()),
    };
    Ok((part, 2))
}

fn literal(text: &str) -> Result<Part, String> {
    match text.bytes().all(is_allowed) {
        true => Ok(Part::Text(text.to_owned())),
        false => Err("the name of an index has a-z, 0-9, -, _, . and + only, and no capital letters".to_owned()),
    }
}

/// What a gateway's id has that a name of an index must not have becomes a `-`.
fn lowered(c: char) -> char {
    let c = c.to_ascii_lowercase();
    if u8::try_from(c).is_ok_and(is_allowed) { c } else { '-' }
}

/// Names of the indices of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexNames {
    parts: Vec<Part>,
}

impl IndexNames {
    /// Appends the name of the index of what this gateway received then. The record says both: the gateway may have another id today.
    pub fn write(&self, out: &mut String, gateway: &str, received_at_ms: i64) {
        let at = clock::utc(received_at_ms);
        for part in &self.parts {
            let _ = match part {
                Part::Text(text) => write!(out, "{text}"),
                Part::Year => write!(out, "{:04}", at.year()),
                Part::Month => write!(out, "{:02}", u8::from(at.month())),
                Part::Day => write!(out, "{:02}", at.day()),
                Part::Hour => write!(out, "{:02}", at.hour()),
                Part::Gateway => {
                    out.extend(gateway.chars().map(lowered));
                    Ok(())
                }
                Part::Stream => Ok(()),
            };
        }
    }

    /// Whether the index of what was received then is of a time that is over: what is received now goes into a later one.
    pub fn is_over(&self, received_at_ms: i64, now_ms: i64) -> bool {
        let (then, now) = (clock::utc(received_at_ms), clock::utc(now_ms));
        let is_another = |part: &Part| match part {
            Part::Year => then.year() != now.year(),
            Part::Month => then.month() != now.month(),
            Part::Day => then.day() != now.day(),
            Part::Hour => then.hour() != now.hour(),
            Part::Text(_) | Part::Gateway | Part::Stream => false,
        };
        received_at_ms < now_ms && self.parts.iter().any(is_another)
    }

    pub fn at(&self, gateway: &str, received_at_ms: i64) -> String {
        let mut name = String::new();
        self.write(&mut name, gateway, received_at_ms);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MS: i64 = 1_795_465_865_131;
    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn names_follow_from_gateway_stream_and_receipt() {
        for (template, expected) in [
            ("outrider-{stream}-%Y.%m.%d", "outrider-raw-2026.11.23"),
            ("o.{gateway}+{stream}_%Y-%m-%dt%H", "o.truck-42--a-+raw_2026-11-23t20"),
            ("logs", "logs"),
        ] {
            let names = IndexTemplate::parse(template).expect(template).names("raw");
            assert_eq!(names.at("Truck-42/\u{e4}A ", AT_MS), expected, "{template}");
        }
        let by_day = IndexTemplate::parse("a-%Y.%m.%d").expect("right").names("raw");
        assert_eq!(
            (by_day.at("g", i64::MIN), by_day.at("g", i64::MAX)),
            ("a-0000.01.01".into(), "a-9999.12.31".into())
        );
        assert_eq!(by_day.at("g", -1), "a-1969.12.31");
    }

    #[test]
    fn an_index_is_over_when_what_comes_now_goes_into_another() {
        let is_over = |template: &str, then_ms, now_ms| {
            IndexTemplate::parse(template).expect("right").names("raw").is_over(then_ms, now_ms)
        };
        let midnight_ms = AT_MS - AT_MS % DAY_MS;
        for (template, later_ms, expected) in [
            ("a-%Y.%m.%d", 0, false),
            ("a-%Y.%m.%d", DAY_MS - 1, false),
            ("a-%Y.%m.%d", DAY_MS, true),
            ("a-%Y.%m", DAY_MS, false),
            ("a-%Y.%m", 31 * DAY_MS, true),
            ("a-%Y.%m.%d.%H", 3_600_000, true),
            ("a-{gateway}-{stream}", 365 * DAY_MS, false),
        ] {
            assert_eq!(is_over(template, midnight_ms, midnight_ms + later_ms), expected, "{template} {later_ms}");
        }
        assert!(!is_over("a-%Y.%m.%d", midnight_ms + DAY_MS, midnight_ms), "the clock was set back");
    }

    #[test]
    fn what_services_refuse_as_a_name_is_refused_here() {
        for (template, problem) in [
            ("", "has to begin"),
            ("_a", "has to begin"),
            ("-a", "has to begin"),
            ("Outrider", "has to begin"),
            ("{gateway}-x", "has to begin"),
            ("a b", "only"),
            ("outRider", "no capital letters"),
            ("a/b", "only"),
            ("a{device}", "there are {gateway} and {stream}"),
            ("a{stream", "there are {gateway} and {stream}"),
            ("a-%y", "there are %Y"),
            ("a-%", "there are %Y"),
            ("a%\u{e4}", "there are %Y"),
        ] {
            let said = IndexTemplate::parse(template).expect_err(template);
            assert!(said.contains(problem), "{template}: {said}");
        }
        assert!(IndexTemplate::parse(&format!("a{{gateway}}{{stream}}{}", "x".repeat(63))).is_ok());
        assert!(IndexTemplate::parse(&format!("a{{gateway}}{{stream}}{}", "x".repeat(64))).is_err());
    }

    #[test]
    fn what_lasts_is_told_from_what_can_be_deleted_by_index() {
        let is_by_time = |text: &str| IndexTemplate::parse(text).expect(text).is_by_time();
        assert!(is_by_time("a-%Y.%m.%d") && is_by_time("a-%Y.%m"));
        assert!(!is_by_time("a") && !is_by_time("a-%Y") && !is_by_time("a-%d"));
    }
}

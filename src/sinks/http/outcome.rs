//! What a response means for the delivery.

use aws_smithy_types::date_time::{DateTime, Format};

use crate::core::delivery::Outcome;

/// A response, with its body shortened.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub date: Option<String>,
    pub text: Vec<u8>,
}

/// A longer pause is not honoured: the service may have a wrong clock.
const RETRY_AFTER_SECONDS_MAX: u64 = 3600;
/// At most this much of a service's message is shown.
const SHOWN_CHARS_MAX: usize = 200;

pub fn of(answer: &Answer) -> Outcome {
    let said = said(answer);
    match answer.status {
        200..=299 => Outcome::Accepted { shard: None },
        413 => Outcome::TooLarge(said),
        400 | 422 => Outcome::Reject(said),
        408 | 425 | 429 | 500..=599 => Outcome::Later { reason: said, after_us: retry_after_us(answer) },
        // Wrong credentials, an unknown path, a redirect: somebody has to fix it.
        _ => Outcome::Halt(said),
    }
}

/// The status, with the beginning of the service's message in one line.
pub fn said(answer: &Answer) -> String {
    let shown = shown(&String::from_utf8_lossy(&answer.text));
    match shown.is_empty() {
        true => format!("HTTP status {}", answer.status),
        false => format!("HTTP status {}: {shown}", answer.status),
    }
}

/// The beginning of a service's message, in one line.
pub fn shown(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    let shown: String = words.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if shown.len() < words.len() { "..." } else { "" };
    format!("{shown}{dots}")
}

/// Either seconds, or a date, which is compared with the service's own clock.
fn retry_after_us(answer: &Answer) -> Option<u64> {
    let text = answer.retry_after.as_ref()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = |text: &str| DateTime::from_str(text, Format::HttpDate).ok().map(|date| date.secs());
            let pause = date(text)?.saturating_sub(date(answer.date.as_ref()?)?);
            u64::try_from(pause).unwrap_or(0)
        }
    };
    Some(seconds.min(RETRY_AFTER_SECONDS_MAX) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, text: &str) -> Answer {
        Answer {
            status,
            retry_after: retry_after.map(str::to_owned),
            date: Some("Sat, 28 Nov 2026 03:00:00 GMT".to_owned()),
            text: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        let of = |status| of(&answer(status, None, ""));
        assert_eq!(of(204), Outcome::Accepted { shard: None });
        for status in [408, 425, 429, 500, 503] {
            assert!(matches!(of(status), Outcome::Later { after_us: None, .. }), "{status}");
        }
        assert!(matches!(of(413), Outcome::TooLarge(_)));
        for status in [400, 422] {
            assert!(matches!(of(status), Outcome::Reject(_)), "{status}");
        }
        for status in [301, 401, 403, 404, 405] {
            assert!(matches!(of(status), Outcome::Halt(_)), "{status}");
        }
    }

    #[test]
    fn a_service_may_ask_for_time() {
        let after = |text| retry_after_us(&answer(429, Some(text), ""));
        assert_eq!(after("7"), Some(7_000_000));
        assert_eq!(after("Sat, 28 Nov 2026 03:00:05 GMT"), Some(5_000_000));
        assert_eq!(after("Sat, 28 Nov 2026 02:00:05 GMT"), Some(0));
        assert_eq!(after("999999999"), Some(3_600_000_000));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn what_a_service_says_is_shown_in_one_short_line() {
        assert_eq!(said(&answer(500, None, " no\r\n\u{1b}room ")), "HTTP status 500: no room");
        assert_eq!(said(&answer(500, None, &"x".repeat(900))).chars().count(), "HTTP status 500: ".len() + 203);
    }
}

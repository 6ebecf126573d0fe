//! Bare numbers that are text and CBOR at once: `1` is also -18, `85` is also -54, `9.5` is also -11830. Nothing in such a payload says which
//! of them is meant, so it is refused until its topic has sent a bare number that can only be one of the two.
//!
//! What topics have sent is kept in memory: it is bounded, and after a restart each topic has to show again what it sends.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::flatten::is_plain_text;
use super::mend;
use super::route::Format;

/// Why a payload is refused that could be either.
pub const JSON_OR_CBOR: &str = "json_or_cbor";

/// Longer bare numbers are not examined. No number of CBOR takes more than nine bytes.
const BARE_BYTES_MAX: usize = 32;
/// More than there may be series. Of more topics, those that sent bare numbers least recently are forgotten, whoever published to the others.
const TOPICS_MAX: usize = 16 * 1024;

/// What a bare payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Cbor,
    Either,
    /// No bare number.
    Other,
}

/// In what a topic has sent bare numbers that can be one thing only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Text,
    Cbor,
    Both,
}

#[derive(Debug, Default)]
pub struct BareNumbers {
    /// By the hash of the topic. When this is full it becomes `earlier`, and what was there is forgotten.
    recent: HashMap<u64, Sent>,
    earlier: HashMap<u64, Sent>,
    hasher: RandomState,
}

impl BareNumbers {
    /// The format of this payload, whose route says `format`; or the reason of its refusal.
    pub fn format(&mut self, format: Format, topic: &str, payload: &[u8]) -> Result<Format, &'static str> {
        if format != Format::Auto {
            return Ok(format);
        }
        match kind(payload) {
            Kind::Other => Ok(Format::Auto),
            Kind::Text => {
                self.remember(topic, Some(Sent::Text));
                Ok(Format::Auto)
            }
            Kind::Cbor => {
                self.remember(topic, Some(Sent::Cbor));
                Ok(Format::Cbor)
            }
            Kind::Either => match self.remember(topic, None) {
                Some(Sent::Text) => Ok(Format::Auto),
                Some(Sent::Cbor) => Ok(Format::Cbor),
                Some(Sent::Both) | None => Err(JSON_OR_CBOR),
            },
        }
    }

    /// What the topic has sent, this included.
    fn remember(&mut self, topic: &str, sent: Option<Sent>) -> Option<Sent> {
        let key = self.hasher.hash_one(topic);
        let recent = self.recent.get(&key).copied();
        let before = recent.or_else(|| self.earlier.get(&key).copied());
        let now = match (before, sent) {
            (Some(before), Some(sent)) if before != sent => Some(Sent::Both),
            _ => before.or(sent),
        };
        if now != recent
            && let Some(now) = now
        {
            if recent.is_none() && self.recent.len() == TOPICS_MAX {
                std::mem::swap(&mut self.recent, &mut self.earlier);
                self.recent.clear();
            }
            self.recent.insert(key, now);
        }
        now
    }
}

fn kind(payload: &[u8]) -> Kind {
    // All numbers of CBOR begin like this, and so do those in text.
    if payload.len() > BARE_BYTES_MAX || !matches!(payload.first(), Some(0x00..=0x3b | 0xf9..=0xfb)) {
        return Kind::Other;
    }
    match (is_number_of_cbor(payload), is_plain_text(mend::trimmed(payload))) {
        (true, false) => Kind::Cbor,
        // As text it may be no number: a line end, the `-` of a sensor that has none, or `8c`. That makes -14 or -100 no more certain.
        (true, true) => Kind::Either,
        (false, true) if begins_number(payload) => Kind::Text,
        (false, _) => Kind::Other,
    }
}

/// An integer or a float, and nothing else.
fn is_number_of_cbor(payload: &[u8]) -> bool {
    let following = match payload[0] {
        0x00..=0x17 | 0x20..=0x37 => 0,
        0x18 | 0x38 => 1,
        0x19 | 0x39 | 0xf9 => 2,
        0x1a | 0x3a | 0xfa => 4,
        0x1b | 0x3b | 0xfb => 8,
        _ => return false,
    };
    payload.len() == 1 + following
}

fn begins_number(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    unsigned.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const EITHER: [&[u8]; 10] = [b"1", b"7", b"85", b"912", b"9.5", b"8\n", b"8\0", b"\x38\x63", b" ", b"\n"];

    #[test]
    fn what_could_be_either_waits_for_what_can_be_one_thing_only() {
        let mut bare = BareNumbers::default();
        let mut format = |topic: &str, payload: &[u8]| bare.format(Format::Auto, topic, payload);
        for either in EITHER {
            assert_eq!(format("a", either), Err(JSON_OR_CBOR), "{either:?}");
        }
        assert_eq!(format("a", b"{\"t\":1}"), Ok(Format::Auto));
        assert_eq!(format("a", b"\xa1\x61a\x01"), Ok(Format::Auto));
        assert_eq!(format("a", b"1"), Err(JSON_OR_CBOR), "an object says nothing of bare numbers");
        assert_eq!(format("text", b"22.4"), Ok(Format::Auto));
        assert_eq!(format("cbor", &[0x38, 0xc7]), Ok(Format::Cbor));
        for either in EITHER {
            assert_eq!(format("text", either), Ok(Format::Auto), "{either:?}");
            assert_eq!(format("cbor", either), Ok(Format::Cbor), "{either:?}");
            assert_eq!(format("a", either), Err(JSON_OR_CBOR), "each topic for itself");
        }
        assert_eq!(format("text", &[0x05]), Ok(Format::Cbor), "certain by itself");
        assert_eq!(format("cbor", b"12"), Ok(Format::Auto), "certain by itself");
        for topic in ["text", "cbor"] {
            assert_eq!(format(topic, b"1"), Err(JSON_OR_CBOR), "it has sent both");
        }
        assert_eq!(bare.format(Format::Json, "a", b"1"), Ok(Format::Json), "the route says it");
    }

    #[test]
    fn each_payload_is_text_or_cbor_or_either() {
        for text in
            ["12", "-1", " 1", "1\n", "8", "9", "22.4", "8.5", "1000", "+3", ".5", "22,5", "82C", "-40.0 °C", "22\0"]
        {
            assert_eq!(kind(text.as_bytes()), Kind::Text, "{text:?}");
        }
        let cbor: [&[u8]; 9] = [
            b"\x00",
            b"\x05",
            b"\x18\x63",
            b"\x19\x31\x32",
            b"\x38\xff",
            b"\xf9\x4d\x60",
            b"\x3a1234",
            b"\x1b12345678",
            b"\x39\x00\x31",
        ];
        for cbor in cbor {
            let expected = if cbor[0] == 0x3a { Kind::Either } else { Kind::Cbor };
            assert_eq!(kind(cbor), expected, "{cbor:?}");
        }
        for other in ["", "offline", "true", "\"1\"", "[1]", "--", "{\"a\":1}", "nan"] {
            assert_eq!(kind(other.as_bytes()), Kind::Other, "{other:?}");
        }
    }

    #[test]
    fn what_it_remembers_is_bounded_and_what_is_used_stays() {
        let mut bare = BareNumbers::default();
        for n in 0..5 * TOPICS_MAX {
            assert_eq!(bare.format(Format::Auto, &format!("t{n}"), b"12"), Ok(Format::Auto));
            assert_eq!(bare.format(Format::Auto, "used", if n == 0 { b"22" } else { b"85" }), Ok(Format::Auto));
        }
        assert!(bare.recent.len() <= TOPICS_MAX && bare.earlier.len() <= TOPICS_MAX);
        let mut format = |n: usize| bare.format(Format::Auto, &format!("t{n}"), b"1");
        assert_eq!(format(0), Err(JSON_OR_CBOR), "forgotten");
        assert_eq!(format(5 * TOPICS_MAX - TOPICS_MAX), Ok(Format::Auto));
    }
}

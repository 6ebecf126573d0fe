//! Topics that send bare values in CBOR. Some of these could be text as well: 0x31 is `1`, or -18. Which of the two a device means is known
//! from what else its topic has sent.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::flatten::begins_json;
use super::route::Format;

/// No bare number takes more bytes in CBOR.
const BARE_BYTES_MAX: usize = 9;
/// Later ones are not remembered.
const TOPICS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct BareCborTopics {
    topics: HashSet<u64>,
    hasher: RandomState,
}

impl BareCborTopics {
    /// The format of this payload, of which the route says `format`.
    pub fn format(&mut self, format: Format, topic: &str, payload: &[u8]) -> Format {
        if format != Format::Auto || payload.is_empty() || payload.len() > BARE_BYTES_MAX {
            return format;
        }
        if !begins_json(payload[0]) {
            if is_bare_cbor(payload) && self.topics.len() < TOPICS_MAX {
                self.topics.insert(self.hasher.hash_one(topic));
            }
        } else if is_either(payload) && self.topics.contains(&self.hasher.hash_one(topic)) {
            return Format::Cbor;
        }
        format
    }
}

/// Digits that are also a whole integer of CBOR: one, 80 to 89, or 900 to 999.
fn is_either(payload: &[u8]) -> bool {
    let is_digits = payload.iter().all(u8::is_ascii_digit);
    is_digits && matches!(payload, [b'0'..=b'7'] | [b'8', _] | [b'9', _, _])
}

/// An integer or a float that no text begins like.
fn is_bare_cbor(payload: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_text_is_cbor_where_a_topic_sends_that() {
        let mut topics = BareCborTopics::default();
        let mut format = |topic: &str, payload: &[u8]| topics.format(Format::Auto, topic, payload);
        assert_eq!(
            (format("a", b"1"), format("a", b"85"), format("a", b"912")),
            (Format::Auto, Format::Auto, Format::Auto)
        );
        assert_eq!(format("a", &[0x18, 0x63]), Format::Auto);
        assert_eq!(
            (format("a", b"1"), format("a", b"85"), format("a", b"912")),
            (Format::Cbor, Format::Cbor, Format::Cbor)
        );
        assert_eq!(
            (format("a", b"12"), format("a", b"8"), format("b", b"1")),
            (Format::Auto, Format::Auto, Format::Auto)
        );
        assert_eq!(format("b", b"\xa1\x61a\x01"), Format::Auto);
        assert_eq!(format("b", b"1"), Format::Auto, "an object says nothing of bare values");
        assert_eq!(topics.format(Format::Json, "a", b"1"), Format::Json);
    }
}

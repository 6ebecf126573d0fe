//! Records of a cloud stream that hold several others, in the format of the Kinesis Producer Library (KPL): consumers that know it get each
//! line as a record of its own, with a place that a checkpoint can name.
//!
//! Four bytes of magic, a message of Protocol Buffers, and the MD5 of that message. All records within have one partition key, which is the
//! one that the whole is sent under: a consumer drops what does not belong to the shard that it reads, so another key could lose records.

use md5::{Digest, Md5};

use crate::batch::varint;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;
/// Tags of fields of bytes: their number and the type of what follows, a length.
const PARTITION_KEYS: u8 = 1 << 3 | 2;
const RECORDS: u8 = 3 << 3 | 2;
const DATA: u8 = 3 << 3 | 2;
/// A field with a number: which partition key a record has.
const PARTITION_KEY_INDEX: u8 = 1 << 3;

/// Lines are JSON with the identity of a record and more: none is shorter.
const LINE_BYTES_MIN: usize = 100;
/// What a line takes beside itself: three tags, an index, and two lengths, which are below 32 MiB.
const LINE_FRAME_BYTES_MAX: usize = 4 + 4 + 4;
/// What a record takes beside its lines and its partition key.
const RECORD_FRAME_BYTES: usize = MAGIC.len() + DIGEST_BYTES + 1 + 3;
/// Of a cloud stream.
const PARTITION_KEY_BYTES_MAX: usize = 256;

/// A record of these complete lines. One line needs no format: it stays as it is, and any consumer can read it.
pub fn encode(partition_key: &str, lines: &[u8]) -> Vec<u8> {
    if lines.split_inclusive(|byte| *byte == b'\n').nth(1).is_none() {
        return lines.to_vec();
    }
    let mut out = Vec::with_capacity(lines.len() + lines.len() / 16 + 64 + partition_key.len());
    out.extend_from_slice(&MAGIC);
    out.push(PARTITION_KEYS);
    varint::put_bytes(&mut out, partition_key.as_bytes());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let mut length = Vec::with_capacity(4);
        varint::put(&mut length, line.len() as u64);
        out.push(RECORDS);
        varint::put(&mut out, (3 + length.len() + line.len()) as u64);
        out.extend_from_slice(&[PARTITION_KEY_INDEX, 0, DATA]);
        out.extend_from_slice(&length);
        out.extend_from_slice(line);
    }
    let digest = Md5::digest(&out[MAGIC.len()..]);
    out.extend_from_slice(&digest);
    out
}

/// So many bytes of lines become at most `bytes` of a record.
pub fn lines_bytes_max(bytes: usize) -> usize {
    let for_lines = bytes.saturating_sub(RECORD_FRAME_BYTES + PARTITION_KEY_BYTES_MAX);
    for_lines / (LINE_BYTES_MIN + LINE_FRAME_BYTES_MAX) * LINE_BYTES_MIN
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the format by its description, as a consumer would: any field may come in any order, and unknown ones are passed over.
    fn decode(data: &[u8]) -> Vec<(String, Vec<u8>)> {
        let (magic, rest) = data.split_at(4);
        assert_eq!(magic, b"\xf3\x89\x9a\xc2");
        let (message, sum) = rest.split_at(rest.len() - 16);
        assert_eq!(Md5::digest(message).as_slice(), sum);
        let (mut keys, mut records) = (Vec::new(), Vec::new());
        for (number, bytes) in fields(message) {
            match (number, bytes) {
                (1, Field::Bytes(key)) => keys.push(String::from_utf8(key).unwrap()),
                (3, Field::Bytes(record)) => records.push(fields(&record)),
                other => panic!("not known: {other:?}"),
            }
        }
        let take = |record: Vec<(u64, Field)>| {
            let (mut key, mut data) = (None, None);
            for field in record {
                match field {
                    (1, Field::Number(index)) => key = keys.get(usize::try_from(index).unwrap()).cloned(),
                    (3, Field::Bytes(bytes)) => data = Some(bytes),
                    other => panic!("not known: {other:?}"),
                }
            }
            (key.unwrap(), data.unwrap())
        };
        records.into_iter().map(take).collect()
    }

    #[derive(Debug)]
    enum Field {
        Number(u64),
        Bytes(Vec<u8>),
    }

    fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
        fn number(message: &mut &[u8]) -> u64 {
            let end = message.iter().position(|byte| byte & 0x80 == 0).unwrap();
            let (digits, rest) = message.split_at(end + 1);
            *message = rest;
            digits.iter().rev().fold(0, |value, byte| value * 128 + u64::from(byte % 128))
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let tag = number(&mut message);
            let field = match tag % 8 {
                0 => Field::Number(number(&mut message)),
                2 => {
                    let length = number(&mut message) as usize;
                    let (bytes, rest) = message.split_at(length);
                    message = rest;
                    Field::Bytes(bytes.to_vec())
                }
                other => panic!("not a type of this format: {other}"),
            };
            found.push((tag / 8, field));
        }
        found
    }

    #[test]
    fn two_lines_are_these_bytes() {
        let record = encode("k", b"one\ntwo\n");
        let message = b"\x0a\x01k\x1a\x08\x08\x00\x1a\x04one\n\x1a\x08\x08\x00\x1a\x04two\n";
        assert_eq!(&record[..4], b"\xf3\x89\x9a\xc2");
        assert_eq!(&record[4..record.len() - 16], message);
        let sum: String = record[record.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, "ec264b73cc0d4609a2ef37a02129fff2");
    }

    #[test]
    fn a_line_alone_stays_as_it_is() {
        assert_eq!(encode("k", b"one\n"), b"one\n");
    }

    proptest! {
        #[test]
        fn every_line_comes_out_under_the_key_and_in_order(
            key in "[a-z/_-]{1,200}",
            lines in prop::collection::vec(("[ -~]{100}", 0usize..300), 2..8),
        ) {
            // Their lengths take one, two and three bytes.
            let lines: Vec<String> = lines.into_iter().map(|(line, times)| line.repeat(1 + times) + "\n").collect();
            let together = lines.concat().into_bytes();
            let record = encode(&key, &together);
            let expected: Vec<(String, Vec<u8>)> = lines.into_iter().map(|line| (key.clone(), line.into_bytes())).collect();
            prop_assert_eq!(decode(&record), expected);
        }

        #[test]
        fn a_record_is_never_larger_than_was_said(bytes in 1usize..300_000, line in 99usize..20_000) {
            let most = lines_bytes_max(bytes);
            let line = [vec![b'x'; line], vec![b'\n']].concat();
            let lines = line.repeat(most / line.len());
            let record = encode(&"k".repeat(256), &lines);
            prop_assert!(record.len() <= bytes || lines.is_empty(), "{} of {bytes}", record.len());
        }
    }
}

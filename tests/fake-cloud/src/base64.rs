//! Base64 (standard alphabet, padded) into a growing buffer, at the speed that a counting benchmark needs.

use std::io;

/// Set in a table for a byte outside the alphabet; no valid group of four sets it.
const INVALID: u32 = 1 << 31;

const fn table(shift: u32) -> [u32; 256] {
    let mut table = [INVALID; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < 64 {
        table[alphabet[i] as usize] = (i as u32) << shift;
        i += 1;
    }
    table
}

static TABLES: [[u32; 256]; 4] = [table(18), table(12), table(6), table(0)];

/// Appends the decoded bytes; on an error `out` is as it was before.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    decode_groups(text, out).ok_or_else(|| {
        out.truncate(start);
        io::Error::new(io::ErrorKind::InvalidData, "not base64")
    })
}

fn decode_groups(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let (whole, last) = text.split_at(if padding == 0 { text.len() } else { text.len() - 4 });
    let start = out.len();
    out.resize(start + whole.len() / 4 * 3, 0);
    let mut seen = 0;
    for (group, bytes) in whole.as_chunks::<4>().0.iter().zip(out[start..].as_chunks_mut::<3>().0) {
        let bits = bits(*group);
        seen |= bits;
        *bytes = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
    }
    if let Some((&group, _)) = last.split_first_chunk::<4>() {
        let mut filled = group;
        filled[4 - padding..].fill(b'A');
        let bits = bits(filled);
        seen |= bits;
        out.extend_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8][..3 - padding]);
    }
    (seen & INVALID == 0).then_some(())
}

fn bits(group: [u8; 4]) -> u32 {
    (0..4).fold(0, |bits, i| bits | TABLES[i][usize::from(group[i])])
}

/// For the consumer API, where speed does not matter.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let symbol = alphabet[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn every_length_and_byte_survives_the_round_trip() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for len in 0..bytes.len() {
            let mut out = b"before".to_vec();
            decode(encode(&bytes[..len]).as_bytes(), &mut out).expect("base64");
            assert_eq!(&out[6..], &bytes[..len]);
        }
        assert_eq!(encode(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    }

    #[test]
    fn anything_else_is_refused_and_leaves_nothing() {
        for text in ["A", "AAA", "AA=A", "A===", "====", "AA*A", "AAAA\n", "A-_A"] {
            let mut out = vec![7];
            assert!(decode(text.as_bytes(), &mut out).is_err(), "{text}");
            assert_eq!(out, [7]);
        }
    }
}

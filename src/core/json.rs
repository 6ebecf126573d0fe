//! JSON strings, written by hand: the records are the hottest path towards the cloud.

pub(super) const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the text as a JSON string, quotes included.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK_BYTES>();
    match blocks.iter().any(|block| has_escapes(block)) || has_escapes(rest) {
        true => write_escaped(out, text),
        false => out.extend_from_slice(text.as_bytes()),
    }
    out.push(b'"');
}

/// So many bytes are compared at once.
const BLOCK_BYTES: usize = 16;

fn has_escapes(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |is_any, byte| is_any | is_escaped(*byte))
}

fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !is_escaped(byte) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX_DIGITS[usize::from(byte >> 4)],
                HEX_DIGITS[usize::from(byte & 15)],
            ]),
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
}

/// How many bytes [`write_text`] appends.
pub fn text_bytes(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    });
    text.len() + 2 + escapes.sum::<usize>()
}

/// The text as it stands inside a JSON string, without the quotes.
pub fn escape(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    write_text(&mut quoted, text);
    String::from_utf8_lossy(&quoted[1..quoted.len() - 1]).into_owned()
}

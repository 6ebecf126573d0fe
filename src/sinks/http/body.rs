//! The body of a request: records as lines or as an array. And how the protocols of other bodies write an id.

/// How the records of a request are framed in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Newline-delimited JSON.
    Lines,
    /// One JSON array.
    Array,
}

impl Framing {
    pub fn content_type(self) -> &'static str {
        match self {
            Framing::Lines => "application/x-ndjson",
            Framing::Array => "application/json",
        }
    }

    /// The body for these lines, each of which may or may not end with a newline.
    pub fn body<'a>(self, lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut body = Vec::new();
        for line in lines {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if self == Framing::Array {
                body.push(if body.is_empty() { b'[' } else { b',' });
            }
            body.extend_from_slice(line);
            if self == Framing::Lines {
                body.push(b'\n');
            }
        }
        if self == Framing::Array {
            if body.is_empty() {
                body.push(b'[');
            }
            body.push(b']');
        }
        body
    }
}

/// The form of a UUID.
pub fn guid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_lines_or_one_array() {
        let lines = || [b"{\"a\":1}\n".as_slice(), b"{\"b\":2}"].into_iter();
        assert_eq!(Framing::Lines.body(lines()), b"{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(Framing::Array.body(lines()), b"[{\"a\":1},{\"b\":2}]");
        assert_eq!(Framing::Array.body(std::iter::empty()), b"[]");
    }
}

//! Where a line ends.

use std::ops::Range;

use regex::bytes::Regex;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What ends a line.
#[derive(Clone, Debug)]
pub enum Framing {
    /// A newline.
    Lines,
    /// A newline that is not within quotes (RFC 4180).
    Csv {
        /// Between two cells.
        separator: u8,
    },
    /// The next line that matches.
    Start(Regex),
}

/// What the next bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line, without its end, and where the next one begins. Empty if there is nothing but white space.
    Line {
        /// What it says.
        text: Range<usize>,
        /// Where the next one begins.
        end: usize,
    },
    /// A line that is too long: up to here.
    TooLong {
        /// Where the next one begins, or where what follows of this one does.
        end: usize,
        /// Its end is still to come.
        is_open: bool,
    },
    /// Bytes of zero where a line should begin: a hole that a writer left which went on at its old place in a file that was cut.
    Hole {
        /// Where it ends.
        end: usize,
    },
    /// The line is not complete.
    Incomplete,
}

/// What is known about the bytes that are to be split.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// They are the beginning of the file.
    pub is_beginning: bool,
    /// They reach to the end of the file as it is now.
    pub reaches_end: bool,
    /// What there is of the last line is all that will come.
    pub is_last: bool,
    /// A longer line is left out.
    pub line_bytes_max: usize,
}

impl Framing {
    /// The first piece of these bytes, which begin with a line.
    pub fn split(&self, bytes: &[u8], situation: Situation) -> Piece {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        // A writer that reserved room may still fill it, so zeros at the end of a file are left alone.
        if zeros > 0 && (zeros < bytes.len() || !situation.reaches_end) {
            return Piece::Hole { end: zeros };
        }
        let is_rest = situation.is_last && situation.reaches_end && !bytes.is_empty() && zeros == 0;
        let end = self.end(bytes).or_else(|| is_rest.then_some(bytes.len()));
        match end {
            Some(end) if end <= situation.line_bytes_max.saturating_add(2) => {
                Piece::Line { text: trim(bytes, end, situation.is_beginning), end }
            }
            Some(end) => Piece::TooLong { end: self.recovery(bytes, end).unwrap_or(end), is_open: false },
            None if bytes.len() > situation.line_bytes_max.saturating_add(2) => match self.recovery(bytes, bytes.len())
            {
                Some(end) => Piece::TooLong { end, is_open: false },
                None => Piece::TooLong { end: bytes.len(), is_open: true },
            },
            None => Piece::Incomplete,
        }
    }

    /// Where the first line ends, with its newline.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Framing::Lines => newline(bytes),
            Framing::Csv { separator } => end_of_row(bytes, *separator),
            Framing::Start(pattern) => {
                let mut at = newline(bytes)?;
                loop {
                    let next = newline(&bytes[at..]).map(|length| at + length)?;
                    if pattern.is_match(bytes[at..next].trim_ascii_end()) {
                        return Some(at);
                    }
                    at = next;
                }
            }
        }
    }

    /// Where to go on after a line that is too long and has several: a quote that is never closed must not take the rest of the file with it.
    fn recovery(&self, bytes: &[u8], end: usize) -> Option<usize> {
        match self {
            Framing::Lines => None,
            Framing::Csv { .. } => newline(&bytes[..end]),
            Framing::Start(_) => bytes[..end].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1),
        }
    }
}

/// Where the line that these bytes are within ends.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

fn end_of_row(bytes: &[u8], separator: u8) -> Option<usize> {
    let (mut is_quoted, mut begins_cell) = (false, true);
    let mut rest = bytes.strip_prefix(BOM).unwrap_or(bytes).iter().peekable();
    let before = bytes.len() - rest.len();
    let mut at = before;
    while let Some(byte) = rest.next() {
        at += 1;
        match (*byte, is_quoted) {
            (b'"', true) if rest.peek() == Some(&&b'"') => {
                rest.next();
                at += 1;
            }
            (b'"', true) => is_quoted = false,
            (b'"', false) => is_quoted = begins_cell,
            (b'\n', false) => return Some(at),
            _ => {}
        }
        begins_cell = *byte == separator && !is_quoted;
    }
    None
}

fn trim(bytes: &[u8], end: usize, is_beginning: bool) -> Range<usize> {
    let start = if is_beginning && bytes.starts_with(BOM) { BOM.len() } else { 0 };
    // Not all white space: empty cells at the end of a row may be tabs.
    let ends = bytes[start..end].iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = start..end - ends;
    if bytes[text.clone()].trim_ascii().is_empty() { start..start } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: Situation = Situation { is_beginning: false, reaches_end: true, is_last: false, line_bytes_max: 40 };

    /// All lines of a text, with what is left out in brackets, and what remains.
    fn split(framing: &Framing, text: &str, situation: Situation) -> (Vec<String>, String) {
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            let bytes = &text.as_bytes()[at..];
            let here = Situation { is_beginning: situation.is_beginning && at == 0, ..situation };
            let piece = framing.split(bytes, here);
            let show = |range: Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
            at += match piece {
                Piece::Line { text, end } => {
                    found.push(show(text));
                    end
                }
                Piece::TooLong { end, .. } => {
                    found.push(format!("[{}]", end));
                    end
                }
                Piece::Hole { end } => end,
                Piece::Incomplete => return (found, show(0..bytes.len())),
            };
            if at == text.len() {
                return (found, String::new());
            }
        }
    }

    #[test]
    fn lines_lose_bom_return_and_zeros_and_the_last_one_waits() {
        let situation = Situation { is_beginning: true, ..MIDDLE };
        let (lines, rest) = split(&Framing::Lines, "\u{feff}a\r\n\0\0\0b\n \r\n\nc", situation);
        assert_eq!((lines, rest), (vec!["a".into(), "b".into(), String::new(), String::new()], "c".into()));
        let (lines, rest) = split(&Framing::Lines, "a\nc", Situation { is_last: true, ..MIDDLE });
        assert_eq!((lines.join(" "), rest), ("a c".into(), String::new()));
    }

    #[test]
    fn zeros_at_the_end_of_a_file_may_still_be_filled() {
        assert_eq!(Framing::Lines.split(b"\0\0\0", MIDDLE), Piece::Incomplete);
        assert_eq!(Framing::Lines.split(b"\0\0\0", Situation { is_last: true, ..MIDDLE }), Piece::Incomplete);
        assert_eq!(Framing::Lines.split(b"\0\0\0", Situation { reaches_end: false, ..MIDDLE }), Piece::Hole { end: 3 });
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_what_follows_is_not() {
        let text = format!("a\n{}\nb\n", "x".repeat(50));
        assert_eq!(split(&Framing::Lines, &text, MIDDLE).0, ["a", "[51]", "b"]);
        let long = "x".repeat(50);
        assert_eq!(Framing::Lines.split(long.as_bytes(), MIDDLE), Piece::TooLong { end: 50, is_open: true });
        let quote = format!("a,\"{}\nb\nc\n", "x".repeat(50));
        assert_eq!(split(&Framing::Csv { separator: b',' }, &quote, MIDDLE).0, ["[54]", "b", "c"]);
    }

    #[test]
    fn a_row_has_the_newlines_that_are_in_quotes() {
        let csv = Framing::Csv { separator: b',' };
        let (rows, rest) = split(&csv, "a,\"b\n\"\"c\"\"\n\",d\r\n5\" pipe,e\n\"open\n", MIDDLE);
        assert_eq!(rows, ["a,\"b\n\"\"c\"\"\n\",d", "5\" pipe,e"]);
        assert_eq!(rest, "\"open\n");
    }

    #[test]
    fn a_record_ends_where_the_next_one_starts() {
        let start = Framing::Start(Regex::new(r"(?-u)^\d\d ").expect("a pattern"));
        let (records, rest) = split(&start, "01 a\n b\n c\n02 d\n03 e\n f\n", MIDDLE);
        assert_eq!((records, rest), (vec!["01 a\n b\n c".into(), "02 d".into()], "03 e\n f\n".into()));
        let (records, _) = split(&start, "01 a\n b\n", Situation { is_last: true, ..MIDDLE });
        assert_eq!(records, ["01 a\n b"]);
    }
}

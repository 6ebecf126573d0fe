//! Line protocol, in the part of it that all servers read alike.
//!
//! It has no escape for a backslash: InfluxDB 1 and 2 keep the one of `a\b`, and take the one of `a\,b` for an escape; VictoriaMetrics and InfluxDB 3
//! turn two into one. None of them can store a name that ends with one. Line ends, and the `#` that begins a comment, have no escape either. So these are
//! written as `%5C`, `%0A`, `%23`, and a percent sign that two hexadecimal digits follow as `%25`: no two names become one.
//!
//! A number is always a float. It is written with a decimal point, and an exponent with its sign, because older parsers of InfluxDB 3 want both.

use crate::core::record::{write_f64, write_i64};

/// A line that is being written behind others.
pub struct Line<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
    bytes_max: usize,
    has_fields: bool,
}

impl<'a> Line<'a> {
    /// The tags follow, then the fields. A line that becomes longer than this is none.
    pub fn begin(out: &'a mut Vec<u8>, measurement: &str, bytes_max: usize) -> Line<'a> {
        let begin = out.len();
        match measurement.strip_prefix('#') {
            Some(rest) => {
                out.extend_from_slice(b"%23");
                write_name(out, rest, b", ");
            }
            None => write_name(out, measurement, b", "),
        }
        Line { out, begin, bytes_max, has_fields: false }
    }

    /// Whether it is too long already, so that nothing more is written.
    pub fn is_too_long(&self) -> bool {
        self.out.len() - self.begin > self.bytes_max
    }

    /// A tag that is empty is left out: there is no way to write it.
    pub fn tag(&mut self, key: &str, value: &str) {
        assert!(!self.has_fields, "tags come before fields");
        if value.is_empty() || self.is_too_long() {
            return;
        }
        self.out.push(b',');
        write_name(self.out, key, b",= ");
        self.out.push(b'=');
        write_name(self.out, value, b",= ");
    }

    /// What is not finite is left out: there is no way to write it.
    pub fn number(&mut self, key: &str, value: f64) {
        if value.is_finite() && !self.is_too_long() {
            self.field(key);
            write_float(self.out, value);
        }
    }

    pub fn text(&mut self, key: &str, value: &str) {
        if self.is_too_long() {
            return;
        }
        self.field(key);
        self.out.push(b'"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.out.extend_from_slice(&[b'\\', c as u8]),
                c if c.is_control() => self.out.push(b' '),
                c => self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.out.push(b'"');
    }

    fn field(&mut self, key: &str) {
        self.out.push(if self.has_fields { b',' } else { b' ' });
        self.has_fields = true;
        write_name(self.out, key, b",= ");
        self.out.push(b'=');
    }

    /// Whether it is a line: without a field, or too long, it is taken back.
    pub fn end(self, time: i64) -> bool {
        let is_line = self.has_fields && !self.is_too_long();
        if is_line {
            self.out.push(b' ');
            write_i64(self.out, time);
            self.out.push(b'\n');
        } else {
            self.out.truncate(self.begin);
        }
        is_line
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// A name in which these bytes have an escape.
fn write_name(out: &mut Vec<u8>, name: &str, escaped: &[u8]) {
    let bytes = name.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_ambiguous = || bytes[at + 1..].iter().take(2).filter(|byte| byte.is_ascii_hexdigit()).count() == 2;
        match byte {
            b'\\' | 0..0x20 | 0x7f => write_percent(out, *byte),
            b'%' if is_ambiguous() => write_percent(out, b'%'),
            byte if escaped.contains(byte) => out.extend_from_slice(&[b'\\', *byte]),
            byte => out.push(*byte),
        }
    }
}

fn write_percent(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[b'%', HEX_DIGITS[usize::from(byte >> 4)], HEX_DIGITS[usize::from(byte & 15)]]);
}

fn write_float(out: &mut Vec<u8>, number: f64) {
    let begin = out.len();
    write_f64(out, number);
    let Some(at) = out[begin..].iter().position(|byte| *byte == b'e') else { return };
    let exponent = out.split_off(begin + at + 1);
    let e = out.pop();
    if !out[begin..].contains(&b'.') {
        out.extend_from_slice(b".0");
    }
    out.extend(e);
    if exponent.first() != Some(&b'-') {
        out.push(b'+');
    }
    out.extend_from_slice(&exponent);
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A value of a field, as a server understands it.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Value {
        Float(f64),
        Text(String),
    }

    /// A line, as a server understands it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Parsed {
        pub measurement: String,
        pub tags: BTreeMap<String, String>,
        pub fields: BTreeMap<String, Value>,
        pub time: i64,
    }

    /// How servers differ about a backslash.
    #[derive(Clone, Copy, Debug)]
    pub enum Reader {
        /// It escapes what has to be escaped, and is itself otherwise; one that another precedes is no different.
        Influx1,
        /// It escapes another one as well, and must not be the last.
        Influx3,
    }

    impl Reader {
        /// Takes a name up to one of the ends, and what is behind it.
        fn name<'a>(self, rest: &'a str, ends: &[char]) -> (String, &'a str) {
            let mut name = String::new();
            let mut chars = rest.char_indices();
            while let Some((at, c)) = chars.next() {
                if ends.contains(&c) {
                    return (name, &rest[at..]);
                }
                if c != '\\' {
                    name.push(c);
                    continue;
                }
                let next = chars.clone().next().map(|(_, next)| next);
                let is_escape = match self {
                    Reader::Influx1 => next.is_some_and(|next| ",= ".contains(next)),
                    Reader::Influx3 => next.is_some_and(|next| ",= \\".contains(next)),
                };
                if is_escape {
                    name.extend(next);
                    chars.next();
                } else {
                    name.push(c);
                }
            }
            (name, "")
        }

        /// Written by the description of the protocol, without a look at what writes it.
        pub fn parse(self, line: &str) -> Option<Parsed> {
            if line.starts_with('#') || line.contains(['\n', '\r', '\0']) {
                return None;
            }
            let (measurement, mut rest) = self.name(line, &[',', ' ']);
            let mut tags = BTreeMap::new();
            while let Some(tag) = rest.strip_prefix(',') {
                let (key, behind) = self.name(tag, &['=', ',', ' ']);
                let (value, behind) = self.name(behind.strip_prefix('=')?, &[',', ' ', '=']);
                rest = behind;
                if key.is_empty() || value.is_empty() || tags.insert(key, value).is_some() {
                    return None;
                }
            }
            let mut fields = BTreeMap::new();
            let mut separator = ' ';
            while let Some(field) = rest.strip_prefix(separator) {
                let (key, behind) = self.name(field, &['=', ',', ' ']);
                let behind = behind.strip_prefix('=')?;
                let (value, behind) = match behind.strip_prefix('"') {
                    Some(text) => {
                        let (text, behind) = quoted(text)?;
                        (Value::Text(text), behind)
                    }
                    None => {
                        let end = behind.find([',', ' '])?;
                        let number = &behind[..end];
                        let is_float = number.contains('.') && (!number.contains('e') || number.contains(['+', '-']));
                        (Value::Float(number.parse().ok().filter(|_| is_float)?), &behind[end..])
                    }
                };
                rest = behind;
                if key.is_empty() || fields.insert(key, value).is_some() {
                    return None;
                }
                separator = ',';
            }
            let time = rest.strip_prefix(' ')?.parse().ok()?;
            (!measurement.is_empty() && !fields.is_empty()).then_some(Parsed { measurement, tags, fields, time })
        }
    }

    fn quoted(rest: &str) -> Option<(String, &str)> {
        let mut text = String::new();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Some((text, &rest[at + 1..])),
                '\\' if rest[at + 1..].starts_with(['"', '\\']) => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        None
    }

    pub const READERS: [Reader; 2] = [Reader::Influx1, Reader::Influx3];

    /// What a name was before it was written.
    pub fn original(name: &str) -> String {
        crate::core::mqtt::topic::percent_decode(name)
    }

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, "m", 1 << 10);
        write(&mut line);
        line.end(7);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_written_as_they_are_documented() {
        let line = written(|line| {
            line.tag("device", "tank 1,a=b");
            line.tag("road", "");
            line.number("value", 22.4);
            line.number("nothing", f64::NAN);
            line.text("note", "say \"hi\"\\\n");
        });
        assert_eq!(line, "m,device=tank\\ 1\\,a\\=b value=22.4,note=\"say \\\"hi\\\"\\\\ \" 7\n");
        assert_eq!(written(|line| line.tag("device", "x")), "", "no field, no line");
        assert_eq!(written(|line| line.number("value", f64::INFINITY)), "");
        let names = [("a\\", "a%5C"), ("50%", "50%"), ("a%5Cb", "a%255Cb"), ("a\nb", "a%0Ab"), ("ü#", "ü#")];
        for (name, expected) in names {
            let line = written(|line| {
                line.tag("t", name);
                line.number("v", 1.0);
            });
            assert_eq!(line, format!("m,t={expected} v=1.0 7\n"));
        }
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, "#m=1 x", 1 << 10);
        line.number("v", 1e16);
        assert!(line.end(-1));
        assert_eq!(String::from_utf8_lossy(&out), "%23m=1\\ x v=1.0e+16 -1\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_none() {
        for (bytes_max, is_line) in [("m,t=x a=1.0".len(), true), ("m,t=x a=1.".len(), false), (0, false)] {
            let mut out = b"before ".to_vec();
            let mut line = Line::begin(&mut out, "m", bytes_max);
            line.tag("t", "x");
            line.number("a", 1.0);
            assert_eq!(line.end(7), is_line, "{bytes_max}");
            assert_eq!(out.len() > "before ".len(), is_line);
        }
    }

    #[test]
    fn numbers_are_floats_that_old_parsers_read() {
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (5e-324, "5.0e-324"),
            (-1.5e300, "-1.5e+300"),
            (1e16, "1.0e+16"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            let mut out = Vec::new();
            write_float(&mut out, number);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    /// Names with everything that means something to a server.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[a%5C\\\\,= #\"\n\r\t0]{0,12}"]
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_every_server_reads(
            measurement in name().prop_filter("not empty", |name| !name.is_empty()),
            tag in name(),
            key in name().prop_filter("not empty", |name| !name.is_empty()),
            number in any::<f64>(),
            text in any::<String>(),
            time in any::<i64>(),
        ) {
            let mut out = Vec::new();
            let mut line = Line::begin(&mut out, &measurement, usize::MAX);
            line.tag(&key, &tag);
            line.number("value", number);
            line.text("note", &text);
            prop_assert!(line.end(time));
            let line = String::from_utf8(out).expect("text");
            prop_assert_eq!(line.matches('\n').count(), 1);
            for reader in READERS {
                let parsed = reader.parse(line.trim_end_matches('\n')).expect("a line");
                prop_assert_eq!(original(&parsed.measurement), &*measurement);
                prop_assert_eq!(parsed.time, time);
                match parsed.tags.iter().next() {
                    Some((parsed_key, value)) => {
                        prop_assert_eq!((original(parsed_key), original(value)), (key.clone(), tag.clone()));
                    }
                    None => prop_assert!(tag.is_empty()),
                }
                let float = number.is_finite().then_some(Value::Float(number));
                prop_assert_eq!(parsed.fields.get("value").cloned(), float);
                let in_one_line = text.replace(char::is_control, " ");
                prop_assert_eq!(parsed.fields.get("note").cloned(), Some(Value::Text(in_one_line)));
            }
        }

        /// Two names never become one.
        #[test]
        fn names_stay_apart(first in name(), second in name()) {
            let of = |name: &str| {
                let mut out = Vec::new();
                write_name(&mut out, name, b",= ");
                out
            };
            prop_assert_eq!(of(&first) == of(&second), first == second);
        }
    }

    /// The control: with a backslash as it is, a name is misread.
    #[test]
    fn a_backslash_as_it_is_would_be_misread() {
        for line in ["m,t=a\\ v=1.0 7", "m,t=a\\\\,u=b v=1.0 7"] {
            let [one, three] = READERS.map(|reader| reader.parse(line));
            assert!(one.is_none() || one != three, "{line}");
        }
    }
}

//! Finds the fields that identify a line. The gateway writes its fields in a fixed order, which is read without a JSON parser; any other
//! order goes through one, at a tenth of the speed.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reading,
    Anomaly,
    Alert,
    Gateway,
    Other,
}

/// Texts are only compared with each other, so on the fast path they keep their escapes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) kind: Kind,
    pub(crate) gateway: Cow<'a, [u8]>,
    pub(crate) run: Cow<'a, [u8]>,
    pub(crate) position: u64,
    pub(crate) device: Option<Cow<'a, [u8]>>,
    pub(crate) measured_at_ms: Option<i64>,
    pub(crate) received_at_ms: Option<i64>,
    pub(crate) sequence: Option<u64>,
}

/// `None` if the line is not JSON or has no identity.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    parse_in_order(line).or_else(|| parse_any(line))
}

fn kind(name: &[u8]) -> Kind {
    match name {
        b"reading" => Kind::Reading,
        b"anomaly" => Kind::Anomaly,
        b"alert" => Kind::Alert,
        b"gateway" => Kind::Gateway,
        _ => Kind::Other,
    }
}

fn parse_in_order(line: &[u8]) -> Option<Line<'_>> {
    let mut scan = Scan(line);
    let name = scan.text(b"{\"v\":1,\"type\":\"")?;
    let gateway = scan.text(b",\"gateway\":\"")?;
    let run = scan.text(b",\"run\":\"")?;
    let position = scan.integer(b",\"position\":")?;
    let device = scan.text(b",\"device\":\"")?;
    scan.text(b",\"metric\":\"")?;
    scan.skip_number(b",\"value\":")?;
    let measured_at_ms = scan.integer(b",\"measured_at_ms\":")?;
    let received_at_ms = scan.integer(b",\"received_at_ms\":")?;
    scan.text(b",\"time_quality\":\"")?;
    let sequence = scan.integer(b",\"seq\":");
    Some(Line {
        kind: kind(name),
        gateway: Cow::Borrowed(gateway),
        run: Cow::Borrowed(run),
        position: u64::try_from(position).ok()?,
        device: Some(Cow::Borrowed(device)),
        measured_at_ms: Some(measured_at_ms),
        received_at_ms: Some(received_at_ms),
        sequence: sequence.and_then(|sequence| u64::try_from(sequence).ok()),
    })
}

/// The rest of a line; each step consumes a literal and the value after it.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    /// The text after a literal that ends in its opening quote.
    fn text(&mut self, literal: &[u8]) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(literal)?;
        let mut end = 0;
        loop {
            end += memchr2(b'"', b'\\', rest.get(end..)?)?;
            if rest[end] == b'"' {
                break;
            }
            end += 2;
        }
        self.0 = &rest[end + 1..];
        Some(&rest[..end])
    }

    /// An integer of at most 18 digits.
    fn integer(&mut self, literal: &[u8]) -> Option<i64> {
        let rest = self.0.strip_prefix(literal)?;
        let (negative, digits) = rest.strip_prefix(b"-").map_or((false, rest), |digits| (true, digits));
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 || len > 18 || !matches!(digits.get(len), Some(b',' | b'}')) {
            return None;
        }
        let number = digits[..len].iter().fold(0, |number, byte| number * 10 + i64::from(byte - b'0'));
        self.0 = &digits[len..];
        Some(if negative { -number } else { number })
    }

    fn skip_number(&mut self, literal: &[u8]) -> Option<()> {
        let rest = self.0.strip_prefix(literal)?;
        self.0 = &rest[memchr(b',', rest)?..];
        Some(())
    }
}

#[derive(Deserialize)]
struct AnyLine {
    #[serde(default, rename = "type")]
    kind: String,
    gateway: String,
    run: String,
    position: u64,
    device: Option<String>,
    measured_at_ms: Option<i64>,
    ts: Option<serde_json::Number>,
    received_at_ms: Option<i64>,
    seq: Option<u64>,
}

fn parse_any<'a>(line: &[u8]) -> Option<Line<'a>> {
    let line: AnyLine = serde_json::from_slice(line).ok()?;
    Some(Line {
        kind: kind(line.kind.as_bytes()),
        gateway: Cow::Owned(line.gateway.into_bytes()),
        run: Cow::Owned(line.run.into_bytes()),
        position: line.position,
        device: line.device.map(|device| Cow::Owned(device.into_bytes())),
        measured_at_ms: line.measured_at_ms.or_else(|| line.ts?.as_i64()),
        received_at_ms: line.received_at_ms,
        sequence: line.seq,
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, parse, parse_any, parse_in_order};

    const READING: &str = concat!(
        r#"{"v":1,"type":"reading","gateway":"truck-0042","run":"7f3c9a1e5b20d4c8","position":1812345,"device":"tank-1","#,
        r#""metric":"container_temperature","value":22.4,"measured_at_ms":1795465865120,"received_at_ms":1795465865131,"#,
        r#""time_quality":"synced","seq":4711,"attributes":{"road":"dry"}}"#,
    );

    #[test]
    fn both_ways_find_the_same() {
        let line = parse_in_order(READING.as_bytes()).expect("in order");
        assert_eq!(line, parse_any(READING.as_bytes()).expect("JSON"));
        assert_eq!((line.kind, line.position, line.sequence), (Kind::Reading, 1_812_345, Some(4711)));
        assert_eq!((line.measured_at_ms, line.received_at_ms), (Some(1_795_465_865_120), Some(1_795_465_865_131)));
        let without_value = READING.replace("22.4", "null").replace(r#""seq":4711,"#, "");
        let line = parse_in_order(without_value.as_bytes()).expect("in order");
        assert_eq!((line.sequence, line.device.as_deref()), (None, Some(b"tank-1".as_slice())));
    }

    #[test]
    fn another_order_is_read_too() {
        let line = br#"{"position":5,"run":"r","type":"alert","gateway":"g","ts":9}"#;
        assert!(parse_in_order(line).is_none());
        let line = parse(line).expect("JSON");
        assert_eq!((line.kind, line.position, line.measured_at_ms), (Kind::Alert, 5, Some(9)));
    }

    #[test]
    fn quotes_inside_texts_do_not_end_them() {
        let escaped = READING.replace("tank-1", r#"t\"\\"#);
        let line = parse_in_order(escaped.as_bytes()).expect("in order");
        assert_eq!(line.device.as_deref(), Some(br#"t\"\\"#.as_slice()));
    }

    #[test]
    fn cut_and_foreign_lines_have_no_identity() {
        assert!((0..READING.len() - 1).all(|len| parse_any(&READING.as_bytes()[..len]).is_none()));
        assert!(parse(b"{}").is_none() && parse(b"\x80").is_none() && parse(b"22.4").is_none());
        assert!(parse(&READING.as_bytes()[..60]).is_none());
    }
}

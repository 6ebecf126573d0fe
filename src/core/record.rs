//! Records as consumers read them: one line of JSON each, ending in a line feed.
//!
//! Written by hand into a buffer that is used again: this is the hottest path towards the cloud, and it allocates nothing.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::identity::RunId;
use super::json::{HEX_DIGITS, write_text};
use super::reading::{Attributes, DeviceTime, Reading, TimeQuality};

/// What makes a reading an anomaly.
#[derive(Clone, Copy, Debug)]
pub struct AnomalyPart<'a> {
    /// Position of the reading in the raw stream, in the same run. `None` for a silence, which has no reading.
    pub raw_position: Option<u64>,
    /// Name of the first detector that found something.
    pub detector: &'a str,
    /// Names of the other detectors that did.
    pub also: &'a [&'a str],
    /// How many times its threshold the statistic is.
    pub score: f64,
    /// What was normal, or the limit; `None` is written as null.
    pub expected: Option<f64>,
    /// Usual size of the deviation; `None` is written as null.
    pub spread: Option<f64>,
    /// A phrase for people.
    pub reason: &'a str,
    /// The reading was measured long before it was received.
    pub late: bool,
    /// How well its series is known, as it is called; left out if it is not watched.
    pub maturity: Option<&'a str>,
}

/// What a rule wrote to a stream.
#[derive(Clone, Copy, Debug)]
pub struct RuleRecord<'a> {
    /// Name of the stream that it goes to.
    pub stream: &'a str,
    /// Name of the rule.
    pub rule: &'a str,
    /// The device of the message that the rule saw; `None` if it has none.
    pub device: Option<&'a str>,
    /// The topic of that message; `None` if the rule saw a reading.
    pub topic: Option<&'a str>,
    /// When it was received, in milliseconds since 1970 (UTC).
    pub received_at_ms: i64,
    /// What the rule made of it.
    pub payload: RulePayload<'a>,
}

/// The payload of a rule's record.
#[derive(Clone, Copy, Debug)]
pub enum RulePayload<'a> {
    /// A valid JSON text; whoever makes the record has made sure of that.
    Json(&'a [u8]),
    /// Anything else.
    Binary(&'a [u8]),
}

/// Appends a rule's record. `gateway` is escaped beforehand.
pub fn write_rule_record(out: &mut Vec<u8>, gateway: &str, run: RunId, position: u64, record: &RuleRecord<'_>) {
    write_start(out, "record", gateway, run, position);
    out.extend_from_slice(b",\"stream\":");
    write_text(out, record.stream);
    out.extend_from_slice(b",\"rule\":");
    write_text(out, record.rule);
    out.extend_from_slice(b",\"device\":");
    match record.device {
        Some(device) => write_text(out, device),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"topic\":");
    match record.topic {
        Some(topic) => write_text(out, topic),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"received_at_ms\":");
    write_i64(out, record.received_at_ms);
    match record.payload {
        RulePayload::Json(json) => {
            out.extend_from_slice(b",\"payload\":");
            // Between the tokens of a JSON text there may be line ends, but the record is one line.
            let in_one_line = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
            out.extend(json.iter().map(in_one_line));
        }
        RulePayload::Binary(bytes) => {
            out.extend_from_slice(b",\"payload_base64\":\"");
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a reading. `gateway` is escaped by [`super::json::escape`] beforehand, because it is the same in every record.
pub fn write_reading(out: &mut Vec<u8>, gateway: &str, run: RunId, position: u64, reading: &Reading<'_>) {
    write_start(out, "reading", gateway, run, position);
    write_reading_fields(out, reading);
    out.extend_from_slice(b"}\n");
}

/// Appends an anomaly: the reading, under a position of the second stream, and why it stands out.
pub fn write_anomaly(
    out: &mut Vec<u8>,
    gateway: &str,
    run: RunId,
    position: u64,
    reading: &Reading<'_>,
    anomaly: &AnomalyPart<'_>,
) {
    write_start(out, "anomaly", gateway, run, position);
    write_reading_fields(out, reading);
    match anomaly.raw_position {
        Some(raw_position) => {
            out.extend_from_slice(b",\"raw_run\":\"");
            write_hex(out, run);
            out.extend_from_slice(b"\",\"raw_position\":");
            write_u64(out, raw_position);
        }
        None => out.extend_from_slice(b",\"raw_run\":null,\"raw_position\":null"),
    }
    out.extend_from_slice(b",\"detector\":\"");
    out.extend_from_slice(anomaly.detector.as_bytes());
    out.extend_from_slice(b"\",\"also\":[");
    for (at, other) in anomaly.also.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, other);
    }
    out.extend_from_slice(b"],\"score\":");
    write_f64(out, anomaly.score);
    out.extend_from_slice(b",\"expected\":");
    write_optional(out, anomaly.expected);
    out.extend_from_slice(b",\"spread\":");
    write_optional(out, anomaly.spread);
    out.extend_from_slice(b",\"reason\":");
    write_text(out, anomaly.reason);
    out.extend_from_slice(if anomaly.late { b",\"late\":true".as_slice() } else { b",\"late\":false" });
    if let Some(maturity) = anomaly.maturity {
        out.extend_from_slice(b",\"maturity\":\"");
        out.extend_from_slice(maturity.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

/// The position of a record that is shown without being stored; it is written as null. Real positions begin with 1.
pub const NO_POSITION: u64 = 0;

/// Appends the fields that every record begins with, without closing the object. `gateway` is escaped beforehand.
pub fn write_start(out: &mut Vec<u8>, kind: &str, gateway: &str, run: RunId, position: u64) {
    out.extend_from_slice(b"{\"v\":1,\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"gateway\":\"");
    out.extend_from_slice(gateway.as_bytes());
    out.extend_from_slice(b"\",\"run\":\"");
    write_hex(out, run);
    out.extend_from_slice(b"\",\"position\":");
    match position {
        NO_POSITION => out.extend_from_slice(b"null"),
        position => write_u64(out, position),
    }
}

fn write_reading_fields(out: &mut Vec<u8>, reading: &Reading<'_>) {
    out.push(b',');
    write_series_and_value(out, reading);
    out.extend_from_slice(b",\"measured_at_ms\":");
    write_i64(out, reading.measured_at_ms);
    out.extend_from_slice(b",\"received_at_ms\":");
    write_i64(out, reading.received_at_ms);
    out.extend_from_slice(match reading.time_quality {
        TimeQuality::Synced => b",\"time_quality\":\"synced\"".as_slice(),
        TimeQuality::Unsynced => b",\"time_quality\":\"unsynced\"",
    });
    if let Some(DeviceTime { fault, device_ms }) = reading.device_time {
        out.extend_from_slice(b",\"device_clock\":\"");
        out.extend_from_slice(fault.name().as_bytes());
        out.extend_from_slice(b"\",\"device_time_ms\":");
        write_i64(out, device_ms);
    }
    if let Some(sequence) = reading.sequence {
        out.extend_from_slice(b",\"seq\":");
        write_u64(out, sequence);
    }
    if !reading.attributes.is_empty() {
        write_attributes(out, reading.attributes);
    }
}

/// Appends the device, the metric and the value, with no comma before them.
pub fn write_series_and_value(out: &mut Vec<u8>, reading: &Reading<'_>) {
    out.extend_from_slice(b"\"device\":");
    write_text(out, reading.device);
    out.extend_from_slice(b",\"metric\":");
    write_text(out, reading.metric);
    out.extend_from_slice(b",\"value\":");
    write_f64(out, reading.value);
    if let Some(rounding) = reading.rounding {
        out.extend_from_slice(b",\"value_exact\":\"");
        let _ = write!(out, "{}", rounding.exact(reading.value));
        out.push(b'"');
    }
}

/// Appends the attributes, with a comma before them.
pub fn write_attributes(out: &mut Vec<u8>, attributes: Attributes<'_>) {
    out.extend_from_slice(b",\"attributes\":{");
    for (at, (key, value)) in attributes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, key);
        out.push(b':');
        write_text(out, value);
    }
    out.push(b'}');
}

fn write_hex(out: &mut Vec<u8>, run: RunId) {
    for byte in run.0 {
        out.extend_from_slice(&[HEX_DIGITS[usize::from(byte >> 4)], HEX_DIGITS[usize::from(byte & 15)]]);
    }
}

/// Appends the number in decimal.
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the number in decimal.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the number, or null for infinity and `NaN`, which JSON does not have.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn write_optional(out: &mut Vec<u8>, number: Option<f64>) {
    write_f64(out, number.unwrap_or(f64::NAN));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::text_bytes;
    use crate::reading::{ClockFault, pack_attribute};
    use proptest::prelude::*;

    const RUN: RunId = RunId([0x7f, 0x3c, 0x9a, 0x1e, 0x5b, 0x20, 0xd4, 0xc8]);

    #[test]
    fn a_reading_is_the_line_that_is_documented() {
        let mut packed = Vec::new();
        pack_attribute(&mut packed, "road", "dry");
        let reading = Reading {
            device: "tank-1",
            metric: "container_temperature",
            value: 22.4,
            rounding: None,
            measured_at_ms: 1_795_465_865_120,
            received_at_ms: 1_795_465_865_131,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: Some(4711),
            attributes: Attributes::from_packed(&packed).expect("packed"),
        };
        let mut out = Vec::new();
        write_reading(&mut out, "truck-0042", RUN, 1_812_345, &reading);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            concat!(
                r#"{"v":1,"type":"reading","gateway":"truck-0042","run":"7f3c9a1e5b20d4c8","position":1812345,"device":"tank-1","#,
                r#""metric":"container_temperature","value":22.4,"measured_at_ms":1795465865120,"received_at_ms":1795465865131,"#,
                r#""time_quality":"synced","seq":4711,"attributes":{"road":"dry"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn an_anomaly_carries_its_reading_and_its_reason() {
        let reading = Reading {
            device: "tank",
            metric: "t",
            value: f64::NAN,
            rounding: None,
            measured_at_ms: 1,
            received_at_ms: 2,
            time_quality: TimeQuality::Unsynced,
            device_time: Some(DeviceTime { fault: ClockFault::Ahead, device_ms: 60_003 }),
            sequence: None,
            attributes: Attributes::NONE,
        };
        let anomaly = AnomalyPart {
            raw_position: Some(9),
            detector: "limit",
            also: &["spike"],
            score: 1.5,
            expected: Some(2.0),
            spread: None,
            reason: "not \"finite\"",
            late: false,
            maturity: Some("learning"),
        };
        let mut out = Vec::new();
        write_anomaly(&mut out, "g", RUN, 3, &reading, &anomaly);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(line["value"], serde_json::Value::Null);
        assert_eq!((&line["position"], &line["raw_position"]), (&3.into(), &9.into()));
        assert_eq!((&line["also"][0], &line["reason"]), (&"spike".into(), &"not \"finite\"".into()));
        assert_eq!((&line["late"], &line["maturity"]), (&false.into(), &"learning".into()));
        out.clear();
        write_anomaly(&mut out, "g", RUN, 3, &reading, &AnomalyPart { maturity: None, late: true, ..anomaly });
        assert!(out.ends_with(b",\"late\":true}\n"));
    }

    #[test]
    fn a_record_of_a_rule_is_the_line_that_is_documented() {
        let record = RuleRecord {
            stream: "trips",
            rule: "doors",
            device: None,
            topic: Some("a/\"b\""),
            received_at_ms: 5,
            payload: RulePayload::Json(b"{\n  \"a\": \"x\\ny\"\r\n}"),
        };
        let text = |record: &RuleRecord<'_>| {
            let mut out = Vec::new();
            write_rule_record(&mut out, "truck-0042", RUN, 7, record);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            text(&record),
            concat!(
                r#"{"v":1,"type":"record","gateway":"truck-0042","run":"7f3c9a1e5b20d4c8","position":7,"stream":"trips","#,
                r#""rule":"doors","device":null,"topic":"a/\"b\"","received_at_ms":5,"payload":{   "a": "x\ny"  }}"#,
                "\n"
            )
        );
        let binary = RuleRecord { device: Some("tank-1"), payload: RulePayload::Binary(&[0, 255, 10]), ..record };
        let line: serde_json::Value = serde_json::from_str(&text(&binary)).expect("JSON");
        assert_eq!((&line["device"], &line["payload_base64"]), (&"tank-1".into(), &"AP8K".into()));
        assert_eq!(line.get("payload"), None);
    }

    proptest! {
        #[test]
        fn any_text_and_number_survives(text in any::<String>(), number in any::<f64>()) {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert_eq!(out.len(), text_bytes(&text));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("a JSON string"), text);
            prop_assert_eq!(reread(number), Some(number).filter(|number| number.is_finite()));
        }
    }

    #[test]
    fn attributes_take_what_is_counted_for_them() {
        let mut packed = Vec::new();
        let line_bytes = |packed: &[u8]| {
            let attributes = Attributes::from_packed(packed).expect("packed");
            let mut out = Vec::new();
            write_reading(&mut out, "g", RUN, 1, &Reading { attributes, ..Reading::at(1, "d", "m", 1.0) });
            (out.len(), attributes.json_bytes())
        };
        let (bare, nothing) = line_bytes(&packed);
        assert_eq!(nothing, 0);
        for (key, value) in [("road", "dry"), ("\u{1}", "\"\\\n\r\t\u{1f}ä"), ("", "")] {
            pack_attribute(&mut packed, key, value);
            let (whole, counted) = line_bytes(&packed);
            assert_eq!(whole - bare, counted);
        }
    }

    fn reread(number: f64) -> Option<f64> {
        let mut out = Vec::new();
        write_f64(&mut out, number);
        serde_json::from_slice(&out).expect("a JSON number or null")
    }

    #[test]
    fn an_integer_that_a_double_rounds_is_written_exactly_too() {
        let (value, rounding) = crate::reading::Rounding::of(8_121_069_193_333_309_404);
        let mut out = Vec::new();
        write_reading(&mut out, "g", RUN, 1, &Reading { rounding, ..Reading::at(1, "d", "m", value) });
        let line: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(line["value_exact"], "8121069193333309404");
        assert_eq!(line["value"], 8.121_069_193_333_309e18);
    }

    #[test]
    fn the_smallest_numbers_survive_to_the_last_digit() {
        for number in [-1.4267169384279e-309, 5e-324, 0.1 + 0.2] {
            assert_eq!(reread(number), Some(number));
        }
    }
}

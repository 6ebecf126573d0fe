//! What a record becomes: a line that says what it is, and one that is the record itself with a time that the service knows.
//!
//! The record's own bytes are not touched: `@timestamp` is put before its first field, and nothing is parsed and written again.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

use super::index::IndexNames;
use crate::clock;
use crate::core::json::{text_bytes, write_text};

/// Which record it is: nothing else has the same run and position in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    run: u64,
    position: u64,
}

/// What is needed of a record.
#[derive(Debug)]
pub struct Document<'a> {
    pub key: RecordKey,
    /// Its identity as a text: `gateway.run.stream.position`.
    pub id: String,
    gateway: Cow<'a, str>,
    pub received_at_ms: i64,
    /// When what it tells of happened.
    happened_at_ms: i64,
    /// The record without its opening brace and its line feed.
    fields: &'a [u8],
}

/// Fields of the records of all types; no other one is looked at.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    gateway: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    position: u64,
    measured_at_ms: Option<i64>,
    received_at_ms: Option<i64>,
    updated_at_ms: Option<i64>,
    at_ms: Option<i64>,
}

/// What stands around the index, the id and the record, in two lines.
const ACTION: [&str; 3] = ["{\"create\":{\"_index\":\"", "\",\"_id\":", "}}\n"];
const TIME: [&str; 2] = ["{\"@timestamp\":\"", "\","];
const TIME_BYTES: usize = "2026-11-30T16:54:36.123Z".len();
/// Years of four digits, since 1970.
const HAPPENED_MS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799_999;

impl Document<'_> {
    /// `None` if the line is no record of a gateway.
    pub fn of<'a>(line: &'a [u8], stream: &str) -> Option<Document<'a>> {
        let head: Head<'a> = serde_json::from_slice(line).ok()?;
        let received_at_ms = head.received_at_ms.or(head.updated_at_ms).or(head.at_ms)?;
        let run = u64::from_str_radix(&head.run, 16).ok()?;
        let Head { gateway, position, .. } = head;
        Some(Document {
            key: RecordKey { run, position },
            id: format!("{gateway}.{}.{stream}.{position}", head.run),
            gateway,
            received_at_ms,
            happened_at_ms: head.measured_at_ms.filter(|ms| HAPPENED_MS.contains(ms)).unwrap_or(received_at_ms),
            fields: line.strip_suffix(b"\n").unwrap_or(line).strip_prefix(b"{")?,
        })
    }

    /// Appends both lines.
    pub fn write(&self, out: &mut Vec<u8>, index: &IndexNames) {
        let [before, between, behind] = ACTION;
        let mut head = String::with_capacity(96);
        head.push_str(before);
        index.write(&mut head, &self.gateway, self.received_at_ms);
        head.push_str(between);
        out.extend_from_slice(head.as_bytes());
        write_text(out, &self.id);
        head.clear();
        head.push_str(behind);
        head.push_str(TIME[0]);
        write_time(&mut head, self.happened_at_ms);
        head.push_str(TIME[1]);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.fields);
        out.push(b'\n');
    }
}

fn write_time(out: &mut String, ms: i64) {
    let at = clock::utc(ms);
    let (date, ms) = (at.date(), ms.rem_euclid(1000));
    let _ = write!(out, "{date}T{:02}:{:02}:{:02}.{ms:03}Z", at.hour(), at.minute(), at.second());
}

/// The most that is added to a record of this gateway, relative to the record's length: those of a time when its id was longer are longer
/// themselves.
pub fn overhead_bytes(index_bytes_max: usize, gateway: &str) -> usize {
    let numbers = ".7f3c9a1e5b20d4c8..18446744073709551615".len();
    let stream = 64;
    let around: usize = ACTION.iter().chain(&TIME).map(|text| text.len()).sum();
    around + index_bytes_max + text_bytes(gateway) + numbers + stream + TIME_BYTES
}

/// No record of a gateway is shorter.
const RECORD_BYTES_MIN: usize = 128;

/// How many bytes of records fit into a request, however short they are.
pub fn data_bytes_max(request_bytes_max: usize, overhead_bytes: usize) -> usize {
    let share = RECORD_BYTES_MIN as u64 * request_bytes_max as u64 / (RECORD_BYTES_MIN + overhead_bytes) as u64;
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// The longest record that fits into a request, behind shorter ones of so many bytes.
pub fn record_bytes_max(request_bytes_max: usize, overhead_bytes: usize, shorter_bytes: usize) -> usize {
    let records = shorter_bytes / RECORD_BYTES_MIN + 1;
    request_bytes_max.saturating_sub(records.saturating_mul(overhead_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::core::identity::RunId;
    use crate::core::json::escape;
    use crate::core::reading::Reading;
    use crate::core::record::{RulePayload, RuleRecord, write_reading, write_rule_record};
    use crate::sinks::opensearch::index::IndexTemplate;

    const RUN: RunId = RunId([0x7f, 0x3c, 0x9a, 0x1e, 0x5b, 0x20, 0xd4, 0xc8]);

    fn names() -> IndexNames {
        IndexTemplate::parse("outrider-{stream}-%Y.%m.%d").expect("right").names("raw")
    }

    fn written(line: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        Document::of(line, "raw")?.write(&mut out, &names());
        Some(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn each_type_of_record_has_its_time_and_its_index() {
        let start = r#"{"v":1,"type":"x","gateway":"g","run":"7f3c9a1e5b20d4c8","position":7,"#;
        let [day, next] = [1_795_478_399_999_i64, 1_795_478_400_000];
        for (fields, time, index) in [
            (format!(r#""measured_at_ms":{day},"received_at_ms":{next}}}"#), "2026-11-23T23:59:59.999Z", "24"),
            (format!(r#""measured_at_ms":null,"received_at_ms":{day}}}"#), "2026-11-23T23:59:59.999Z", "23"),
            (format!(r#""measured_at_ms":-5,"received_at_ms":{day}}}"#), "2026-11-23T23:59:59.999Z", "23"),
            (
                format!(r#""raised_at_ms":0,"updated_at_ms":{next},"cleared_at_ms":null}}"#),
                "2026-11-24T00:00:00.000Z",
                "24",
            ),
            (format!(r#""version":"0","at_ms":{next},"ledger":[{{"at_ms":1}}]}}"#), "2026-11-24T00:00:00.000Z", "24"),
        ] {
            let line = format!("{start}{fields}\n");
            assert_eq!(
                written(line.as_bytes()).expect("a record"),
                format!(
                    "{{\"create\":{{\"_index\":\"outrider-raw-2026.11.{index}\",\"_id\":\"g.7f3c9a1e5b20d4c8.raw.7\"}}}}\n\
                     {{\"@timestamp\":\"{time}\",{}",
                    &line[1..]
                )
            );
        }
    }

    #[test]
    fn what_is_no_record_is_not_sent() {
        for line in [
            "",
            "{}",
            "[1]",
            "nonsense",
            r#"{"gateway":"g","run":"7f","position":1}"#,
            r#"{"gateway":"g","run":"no","position":1,"at_ms":1}"#,
            r#"{"gateway":"g","run":"7f","position":null,"at_ms":1}"#,
            r#"{"gateway":"g","run":"7f","position":1,"at_ms":1"#,
            r#" {"gateway":"g","run":"7f","position":1,"at_ms":1}"#,
        ] {
            assert!(Document::of(line.as_bytes(), "raw").is_none(), "{line}");
        }
    }

    fn rule_record(gateway: &str, payload: &str) -> Vec<u8> {
        let mut line = Vec::new();
        let record = RuleRecord {
            stream: "s",
            rule: "r",
            device: None,
            topic: None,
            received_at_ms: 5,
            payload: RulePayload::Json(payload.as_bytes()),
        };
        write_rule_record(&mut line, &escape(gateway), RUN, 1, &record);
        line
    }

    /// Its index follows from the record alone: what is sent again after the gateway got another id finds itself.
    #[test]
    fn a_record_of_another_gateway_keeps_its_index() {
        let names = IndexTemplate::parse("o-{gateway}-{stream}").expect("right").names("raw");
        for (gateway, index) in [("Old", "o-old-raw"), ("new", "o-new-raw")] {
            let line = format!("{{\"gateway\":\"{gateway}\",\"run\":\"7f\",\"position\":1,\"at_ms\":5}}\n");
            let mut out = Vec::new();
            Document::of(line.as_bytes(), "raw").expect("a record").write(&mut out, &names);
            let head = format!("{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{gateway}.7f.raw.1\"}}}}\n");
            assert!(out.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&out));
        }
    }

    /// The shortest records fill a request with what is added to them, and do not overfill it.
    #[test]
    fn requests_are_no_larger_than_allowed() {
        let index = IndexTemplate::parse("outrider-{stream}-%Y.%m.%d").expect("right");
        let gateway = "g\"";
        let line = rule_record(gateway, "1");
        assert!(line.len() >= RECORD_BYTES_MIN, "{}", line.len());
        let stream = "s".repeat(64);
        let mut out = Vec::new();
        let document = Document {
            id: format!("{gateway}.7f3c9a1e5b20d4c8.{stream}.{}", u64::MAX),
            ..Document::of(&line, "s").expect("a record")
        };
        document.write(&mut out, &index.names(&stream));
        assert!(out.len() - line.len() <= overhead_bytes(index.bytes_max(), gateway));
        assert_eq!(data_bytes_max(5 << 20, 0), 5 << 20);
        assert_eq!(data_bytes_max(256 << 10, 128), 128 << 10);
    }

    proptest! {
        /// However long the id was that the gateway had when it wrote them.
        #[test]
        fn records_of_another_id_overfill_no_request(old in "[a-z\"]{1,127}", template in proptest::sample::select(vec!["a", "outrider-{stream}-%Y.%m.%d", "a-{gateway}"])) {
            let index = IndexTemplate::parse(template).expect("right");
            let max = 64 << 10;
            let overhead = overhead_bytes(index.bytes_max(), "g");
            let line = rule_record(&old, "1");
            let count = data_bytes_max(max, overhead) / line.len();
            let mut out = Vec::new();
            for _ in 0..count {
                Document::of(&line, "s").expect("a record").write(&mut out, &index.names("s"));
            }
            prop_assert!(out.len() <= max, "{} bytes", out.len());
        }

        /// What is sent, read again as JSON, is the record and the time, whatever the record holds.
        #[test]
        fn what_is_sent_is_the_record(
            gateway in "\\PC{1,20}",
            device in "\\PC{1,20}",
            value in proptest::num::f64::ANY,
            position in 1..u64::MAX,
            measured_at_ms in proptest::num::i64::ANY,
            received_at_ms in 0..4_102_444_800_000_i64,
        ) {
            let mut line = Vec::new();
            let reading = Reading { received_at_ms, ..Reading::at(measured_at_ms, &device, "m", value) };
            write_reading(&mut line, &escape(&gateway), RUN, position, &reading);
            let text = written(&line).expect("a record");
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            prop_assert_eq!(lines.len(), 2);
            prop_assert_eq!(&lines[0]["create"]["_id"], &Value::from(format!("{gateway}.{RUN}.raw.{position}")));
            let mut sent = lines[1].clone();
            let time = sent.as_object_mut().expect("an object").remove("@timestamp");
            prop_assert!(time.is_some_and(|time| time.as_str().is_some_and(|time| time.len() == TIME_BYTES)));
            prop_assert_eq!(sent, serde_json::from_slice::<Value>(&line).expect("JSON"));
            prop_assert!(text.as_bytes().ends_with(&line[1..]), "the record's own bytes");
        }

        #[test]
        fn payloads_of_rules_are_sent_as_they_are(payload in "(\\{\"@timestamp\": ?[1-9][0-9]{0,2}\\}|\\[\\]|\"[a-z ]*\"|-?[1-9][0-9]{0,30})") {
            let line = rule_record("g", &payload);
            let text = written(&line).expect("a record");
            let sent = text.lines().nth(1).expect("two lines").to_owned() + "\n";
            prop_assert!(sent.as_bytes().ends_with(&line[1..]));
            prop_assert!(serde_json::from_str::<Value>(&sent).is_ok());
        }
    }
}

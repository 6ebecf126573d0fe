//! A record as an event of the collector: the record itself, its time in seconds, and what it is found by.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::forms::SplunkForm;
use crate::core::device_clock::UNSET_BEFORE_MS;

/// What is looked at in a record.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    gateway: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    device: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    metric: Option<Cow<'a, str>>,
    measured_at_ms: Option<i64>,
    /// Of an alert.
    updated_at_ms: Option<i64>,
    /// Of the gateway about itself.
    at_ms: Option<i64>,
    received_at_ms: Option<i64>,
}

/// Adds one event to a body. Events follow each other without anything between them.
pub fn write(body: &mut Vec<u8>, form: &SplunkForm, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = serde_json::from_slice::<Head<'_>>(line).ok();
    body.push(b'{');
    let Some(Head { gateway, device, metric, measured_at_ms, updated_at_ms, at_ms, received_at_ms }) = head else {
        origin(body, form, None);
        body.extend_from_slice(b"\"event\":");
        text(body, &String::from_utf8_lossy(line));
        body.push(b'}');
        return;
    };
    let time_ms = measured_at_ms.or(updated_at_ms).or(at_ms).or(received_at_ms);
    // Splunk deletes what it takes for old, and gives an event without a time its own.
    if let Some(ms) = time_ms.filter(|ms| *ms >= UNSET_BEFORE_MS) {
        body.extend_from_slice(format!("\"time\":{}.{:03},", ms / 1000, ms % 1000).as_bytes());
    }
    origin(body, form, gateway.as_deref());
    body.extend_from_slice(b"\"event\":");
    body.extend_from_slice(line);
    let fields: Vec<(&str, &str)> = [("device", &device), ("metric", &metric)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref().filter(|value| !value.is_empty())?)))
        .collect();
    for (at, (name, value)) in fields.iter().enumerate() {
        body.extend_from_slice(if at == 0 { b",\"fields\":{\"" } else { b",\"" });
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":");
        text(body, value);
    }
    body.extend_from_slice(if fields.is_empty() { b"}" } else { b"}}" });
}

fn origin(body: &mut Vec<u8>, form: &SplunkForm, host: Option<&str>) {
    let index = form.index.as_deref();
    for (name, value) in
        [("host", host), ("source", Some(&*form.source)), ("sourcetype", Some(&*form.sourcetype)), ("index", index)]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            body.extend_from_slice(format!("\"{name}\":").as_bytes());
            text(body, value);
            body.push(b',');
        }
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a text can be written to memory");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::sinks::secret::Secret;

    fn form(index: Option<&str>) -> SplunkForm {
        SplunkForm {
            token: Secret("t".to_owned()),
            index: index.map(str::to_owned),
            source: "outrider".to_owned(),
            sourcetype: "_json".to_owned(),
            acknowledged_within: None,
        }
    }

    fn events(lines: &[&str], index: Option<&str>) -> Vec<Value> {
        let mut body = Vec::new();
        lines.iter().for_each(|line| write(&mut body, &form(index), line.as_bytes()));
        let events = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
        events.collect::<Result<_, _>>().expect("concatenated JSON")
    }

    #[test]
    fn an_event_has_the_record_its_time_and_what_it_is_found_by() {
        let reading = r#"{"v":1,"type":"reading","gateway":"g\"1","run":"07","position":3,"device":"tank \u00e9","metric":"level","value":22.40,"measured_at_ms":1795465865005,"received_at_ms":1795465865131}"#;
        let mut body = Vec::new();
        write(&mut body, &form(Some("fleet")), format!("{reading}\n").as_bytes());
        let text = String::from_utf8(body).expect("a text");
        // To the last digit, as it is in the store.
        assert!(text.starts_with("{\"time\":1795465865.005,\"host\":\"g\\\"1\",") && text.contains(reading), "{text}");
        let event: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(event["fields"], json!({"device": "tank é", "metric": "level"}));
        assert_eq!(
            (&event["source"], &event["sourcetype"], &event["index"]),
            (&json!("outrider"), &json!("_json"), &json!("fleet"))
        );
    }

    #[test]
    fn each_kind_of_record_has_its_time() {
        let lines = [
            r#"{"type":"alert","device":"d","metric":"_device","raised_at_ms":1795465861000,"updated_at_ms":1795465862500}"#,
            r#"{"type":"gateway","gateway":"g","at_ms":1795465863500}"#,
            r#"{"type":"record","device":null,"received_at_ms":1795465864500}"#,
            r#"{"type":"reading","measured_at_ms":-5}"#,
            // Of a gateway that has never known the time.
            r#"{"type":"reading","measured_at_ms":12500,"received_at_ms":12500}"#,
            "no JSON \u{1}",
        ];
        let events = events(&lines, None);
        let times: Vec<&Value> = events.iter().map(|event| &event["time"]).collect();
        let expected =
            [json!(1795465862.5), json!(1795465863.5), json!(1795465864.5), Value::Null, Value::Null, Value::Null];
        assert_eq!(times, expected.iter().collect::<Vec<_>>());
        assert_eq!(events[1].get("fields"), None);
        assert_eq!((&events[5]["event"], events[5].get("host")), (&json!(lines[5]), None));
        assert!(events.iter().all(|event| event.get("index").is_none()));
    }

    proptest! {
        /// Whatever a line holds, a reader of concatenated JSON finds one event for each, with the line in it.
        #[test]
        fn a_body_holds_its_lines(lines in proptest::collection::vec(("\\PC{0,20}", any::<f64>(), any::<i64>()), 1..6)) {
            let values: Vec<Value> = lines
                .iter()
                .map(|(name, value, ms)| json!({"gateway": name, "device": name, "value": value, "measured_at_ms": ms}))
                .collect();
            let texts: Vec<String> = values.iter().map(Value::to_string).collect();
            let events = events(&texts.iter().map(String::as_str).collect::<Vec<_>>(), None);
            prop_assert_eq!(events.iter().map(|event| &event["event"]).collect::<Vec<_>>(), values.iter().collect::<Vec<_>>());
            for (event, (_, _, ms)) in events.iter().zip(&lines) {
                prop_assert_eq!(event.get("time").is_some(), *ms >= UNSET_BEFORE_MS);
            }
        }
    }
}

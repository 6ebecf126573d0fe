//! The key `test` of a route.

use super::value::Value;
use crate::ingest::route_test::{Expected, ExpectedReading, RouteTest};

const KEYS: &str = "topic, payload or payload_hex, expect";
const READING_KEYS: &str = "device, metric, value, measured_at_ms";

pub fn tests(value: &Value) -> Result<Vec<RouteTest>, String> {
    match value {
        Value::List(tests) => tests.iter().map(test).collect(),
        one => Ok(vec![test(one)?]),
    }
}

fn test(value: &Value) -> Result<RouteTest, String> {
    let entries = value.tree().ok_or_else(|| format!("not a table of {KEYS}"))?;
    let (mut topic, mut payload, mut expected) = (None, None, None);
    for (key, value) in entries {
        match (key, value.text()) {
            ("topic", Some(text)) => topic = Some(text.to_owned()),
            ("payload", Some(text)) => payload = Some(text.as_bytes().to_vec()),
            ("payload_hex", Some(text)) => {
                payload = Some(bytes(text).ok_or("payload_hex holds no pairs of hex digits")?)
            }
            ("expect", _) => expected = Some(read_expected(&value)?),
            ("topic" | "payload" | "payload_hex", None) => return Err(format!("`{key}` is not a text")),
            _ => return Err(format!("`{key}` is unknown; there are {KEYS}")),
        }
    }
    let missing = || format!("not all of {KEYS} are there");
    Ok(RouteTest {
        topic: topic.ok_or_else(missing)?,
        payload: payload.ok_or_else(missing)?,
        expected: expected.ok_or_else(missing)?,
    })
}

fn read_expected(value: &Value) -> Result<Expected, String> {
    match value {
        Value::Text(reason) => Ok(Expected::Refused(reason.clone())),
        Value::List(readings) => readings.iter().map(reading).collect::<Result<_, _>>().map(Expected::Readings),
        _ => Err("`expect` is a list of readings, or the reason of a refusal".to_owned()),
    }
}

fn reading(value: &Value) -> Result<ExpectedReading, String> {
    let entries = value.tree().ok_or_else(|| format!("a reading is a table of {READING_KEYS}"))?;
    let mut reading = ExpectedReading::default();
    for (key, value) in entries {
        let integer = || value.integer().and_then(|integer| i64::try_from(integer).ok());
        match (key, value.text(), value.numbers().as_deref()) {
            ("device", Some(text), _) => reading.device = Some(text.to_owned()),
            ("metric", Some(text), _) => reading.metric = Some(text.to_owned()),
            ("value", _, Some(&[number])) => reading.value = Some(number),
            ("measured_at_ms", ..) if integer().is_some() => reading.measured_at_ms = integer(),
            ("device" | "metric" | "value" | "measured_at_ms", ..) => {
                return Err(format!("`expect`: `{key}` has no such value"));
            }
            _ => return Err(format!("`expect`: `{key}` is unknown; there are {READING_KEYS}")),
        }
    }
    Ok(reading)
}

pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.len().is_multiple_of(2) { digits.chunks(2).map(byte).collect() } else { None }
}

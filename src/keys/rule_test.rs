//! The key `test` of a rule.

use serde_json::{Map, Number, Value as Json};

use super::route_test::bytes;
use super::units::parse_duration;
use super::value::Value;
use crate::core::reading::NAME_BYTES_MAX;
use crate::core::rulebook::{Begin, Example, RuleTest, TestReading};
use crate::core::rules::GivenProperties;

const KEYS: &str = "topic, payload or payload_hex, client_id, properties (of `sql`); readings, lasts (of `when`); timestamp_ms, expect";
const READING_KEYS: &str = "device, metric, value, at";
const BEGIN_KEYS: &str = "at, device";
/// What is expected where nothing should come.
const NO_MATCH: &str = "no match";
/// The device of a reading that names none.
const DEVICE: &str = "device";
/// When a test takes place that does not say when: the first moment of 2026. Otherwise its result would depend on the clock.
const AT_MS: i64 = 1_767_225_600_000;
/// Longest time of a test.
const LASTS_MS_MAX: i64 = 86_400_000;

pub fn tests(value: &Value) -> Result<Vec<RuleTest>, String> {
    match value {
        Value::List(tests) => tests.iter().map(test).collect(),
        one => Ok(vec![test(one)?]),
    }
}

/// The keys of a test, each checked by itself.
#[derive(Default)]
struct Given {
    topic: Option<String>,
    payload: Option<Vec<u8>>,
    client_id: Option<String>,
    properties: Option<GivenProperties>,
    readings: Option<Vec<TestReading>>,
    lasts_ms: Option<i64>,
    at_ms: Option<i64>,
    expected: Option<Value>,
}

fn test(value: &Value) -> Result<RuleTest, String> {
    let entries = value.tree().ok_or_else(|| format!("not a table of {KEYS}"))?;
    let mut given = Given::default();
    for (key, value) in entries {
        let text = || value.text().map(str::to_owned).ok_or_else(|| format!("`{key}` is not a text"));
        match key {
            "topic" => given.topic = Some(text()?),
            "payload" => given.payload = Some(payload(&value, "payload")?),
            "payload_hex" => {
                let digits = bytes(&text()?).ok_or("`payload_hex` holds no pairs of hex digits")?;
                given.payload = Some(digits);
            }
            "client_id" => given.client_id = Some(text()?),
            "properties" => given.properties = Some(properties(&value)?),
            "readings" => given.readings = Some(readings(&value)?),
            "lasts" => given.lasts_ms = Some(moment(&value, "lasts")?),
            "timestamp_ms" => {
                let at_ms = value.integer().and_then(|at_ms| i64::try_from(at_ms).ok());
                given.at_ms = Some(at_ms.ok_or("`timestamp_ms` is milliseconds since 1970")?);
            }
            "expect" => given.expected = Some(value),
            _ => return Err(format!("`{key}` is unknown; there are {KEYS}")),
        }
    }
    given.whole()
}

impl Given {
    fn whole(self) -> Result<RuleTest, String> {
        let at_ms = self.at_ms.unwrap_or(AT_MS);
        let expected = self.expected.ok_or("`expect` is missing")?;
        let (has_payload, has_properties) = (self.payload.is_some(), self.properties.is_some());
        let has_message = self.topic.is_some() || has_payload || self.client_id.is_some() || has_properties;
        let example = match (self.readings, self.topic, self.payload) {
            (Some(_), ..) if has_message => return Err("a test has either readings or a message, not both".to_owned()),
            (Some(readings), ..) => {
                let expected = begins(&expected)?;
                let last_ms = readings.last().map(|reading| reading.at_ms);
                let lasts_ms = expected.last().map(|begin| begin.at_ms).max(last_ms).max(self.lasts_ms).unwrap_or(0);
                Example::Readings { readings, lasts_ms, expected }
            }
            (None, Some(topic), Some(payload)) if self.lasts_ms.is_none() => {
                let expected = match expected.text() {
                    Some(NO_MATCH) => None,
                    _ => Some(self::payload(&expected, "expect")?),
                };
                let (client_id, properties) = (self.client_id, self.properties.unwrap_or_default());
                Example::Message { topic, payload, client_id, properties, expected }
            }
            _ => {
                return Err(format!(
                    "needs either topic, payload and expect, or readings and expect; there are {KEYS}"
                ));
            }
        };
        Ok(RuleTest { example, at_ms })
    }
}

/// A text as it is, and anything else as JSON.
fn payload(value: &Value, key: &str) -> Result<Vec<u8>, String> {
    match value {
        Value::Text(text) | Value::Variable(text) => Ok(text.clone().into_bytes()),
        other => json(other)
            .map(|json| json.to_string().into_bytes())
            .ok_or_else(|| format!("`{key}` holds something that JSON does not have, such as a date")),
    }
}

fn properties(value: &Value) -> Result<GivenProperties, String> {
    let given = json(value).ok_or("`properties` is a table of texts")?;
    serde_json::from_value(given).map_err(|error| format!("`properties`: {error}"))
}

fn json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Text(text) | Value::Variable(text) => Json::String(text.clone()),
        Value::Integer(number) => Json::Number(Number::from(i64::try_from(*number).ok()?)),
        Value::Float(number) => Json::Number(Number::from_f64(*number)?),
        Value::Boolean(boolean) => Json::Bool(*boolean),
        Value::List(items) => Json::Array(items.iter().map(json).collect::<Option<_>>()?),
        Value::Table(_) | Value::Tree(_) => {
            let entries = value.tree()?.into_iter().map(|(name, value)| Some((name.to_owned(), json(&value)?)));
            Json::Object(entries.collect::<Option<Map<_, _>>>()?)
        }
        Value::Other => return None,
    })
}

fn readings(value: &Value) -> Result<Vec<TestReading>, String> {
    let mut readings = match value {
        Value::List(readings) => readings.iter().map(reading).collect::<Result<Vec<_>, _>>()?,
        one => vec![reading(one)?],
    };
    readings.sort_by_key(|reading| reading.at_ms);
    Ok(readings)
}

fn reading(value: &Value) -> Result<TestReading, String> {
    let entries = value.tree().ok_or_else(|| format!("`readings`: each is a table of {READING_KEYS}"))?;
    let mut found = TestReading { device: DEVICE.to_owned(), metric: String::new(), value: f64::NAN, at_ms: 0 };
    for (key, value) in entries {
        match (key, value.numbers().as_deref()) {
            ("device", _) => found.device = name(&value, "device")?,
            ("metric", _) => found.metric = name(&value, "metric")?,
            ("value", Some(&[number])) if number.is_finite() => found.value = number,
            ("value", _) => return Err("`readings`: `value` is a number, without quotes".to_owned()),
            ("at", _) => found.at_ms = moment(&value, "at")?,
            _ => return Err(format!("`readings`: `{key}` is unknown; there are {READING_KEYS}")),
        }
    }
    match found.metric.is_empty() || found.value.is_nan() {
        true => Err("`readings`: each has a metric and a value".to_owned()),
        false => Ok(found),
    }
}

fn name(value: &Value, key: &str) -> Result<String, String> {
    let text = value.text().filter(|text| (1..=NAME_BYTES_MAX).contains(&text.len()));
    text.map(str::to_owned).ok_or_else(|| format!("`{key}` is a text of 1 to {NAME_BYTES_MAX} bytes"))
}

/// A time since the beginning of the test.
fn moment(value: &Value, key: &str) -> Result<i64, String> {
    let since_ms = value.text().and_then(parse_duration).and_then(|since| i64::try_from(since.as_millis()).ok());
    let is_allowed = |since_ms: &i64| *since_ms <= LASTS_MS_MAX;
    since_ms
        .filter(is_allowed)
        .ok_or_else(|| format!("`{key}` is a duration since the test's beginning, \"0s\" to \"1d\""))
}

fn begins(value: &Value) -> Result<Vec<Begin>, String> {
    let mut begins = match value {
        Value::Text(text) if text == NO_MATCH => Vec::new(),
        Value::List(items) => items.iter().map(begin).collect::<Result<Vec<_>, _>>()?,
        one => vec![begin(one)?],
    };
    begins.sort_by_key(|begin| begin.at_ms);
    Ok(begins)
}

fn begin(value: &Value) -> Result<Begin, String> {
    let Some(entries) = value.tree() else {
        return match moment(value, "expect") {
            Ok(at_ms) => Ok(Begin { at_ms, device: None }),
            Err(_) => Err(
                "`expect` is \"no match\", or says when the condition begins to hold: \"5s\", { at = \"5s\", device = \"a\" }, or a list of them"
                    .to_owned(),
            ),
        };
    };
    let (mut at_ms, mut device) = (None, None);
    for (key, value) in entries {
        match key {
            "at" => at_ms = Some(moment(&value, "at")?),
            "device" => device = Some(name(&value, "device")?),
            _ => return Err(format!("`expect`: `{key}` is unknown; there are {BEGIN_KEYS}")),
        }
    }
    Ok(Begin { at_ms: at_ms.ok_or("`expect`: `at` is missing")?, device })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn tree(entries: &[(&str, Value)]) -> Value {
        Value::Tree(entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn of_readings(expect: Value) -> Result<RuleTest, String> {
        let reading = tree(&[("metric", text("t")), ("value", Value::Integer(5)), ("at", text("3s"))]);
        test(&tree(&[("readings", Value::List(vec![reading])), ("expect", expect)]))
    }

    #[test]
    fn a_condition_is_expected_to_begin_at_no_moment_at_one_or_at_several() {
        let expected = |expect: Value| match of_readings(expect).expect("right").example {
            Example::Readings { expected, lasts_ms, .. } => {
                (expected.into_iter().map(|begin| (begin.at_ms, begin.device)).collect::<Vec<_>>(), lasts_ms)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(expected(text("no match")), (vec![], 3_000));
        assert_eq!(expected(text("1.5s")), (vec![(1_500, None)], 3_000));
        let of_device = tree(&[("at", text("9s")), ("device", text("a"))]);
        let several = Value::List(vec![of_device, text("2s")]);
        assert_eq!(expected(several), (vec![(2_000, None), (9_000, Some("a".to_owned()))], 9_000));
    }

    #[test]
    fn a_message_is_a_text_bytes_or_a_table() {
        let example = |payload: (&str, Value), expect: Value| {
            let test = test(&tree(&[("topic", text("a")), payload, ("expect", expect)])).expect("right");
            match test.example {
                Example::Message { payload, expected, .. } => (payload, expected),
                other => panic!("{other:?}"),
            }
        };
        let (payload, expected) = example(("payload", text("on")), text("no match"));
        assert_eq!((&*payload, expected), (&b"on"[..], None));
        let (payload, expected) = example(("payload_hex", text("00 ff")), tree(&[("n", Value::Float(1.5))]));
        assert_eq!((&*payload, expected.as_deref()), (&[0, 255][..], Some(&br#"{"n":1.5}"#[..])));
        let (payload, expected) = example(("payload", tree(&[("on", Value::Boolean(true))])), text(""));
        assert_eq!((&*payload, expected.as_deref()), (&br#"{"on":true}"#[..], Some(&b""[..])));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |entries: &[(&str, Value)]| test(&tree(entries)).expect_err("wrong");
        assert!(message(&[("topic", text("a")), ("payload", text("b"))]).contains("`expect` is missing"));
        assert!(message(&[("expect", text("no match"))]).contains("either topic, payload and expect, or readings"));
        assert!(message(&[("topik", text("a"))]).contains("`topik` is unknown"));
        let both = [("topic", text("a")), ("readings", Value::List(Vec::new())), ("expect", text("1s"))];
        assert!(message(&both).contains("not both"));
        let properties = [("properties", tree(&[])), ("readings", Value::List(Vec::new())), ("expect", text("1s"))];
        assert!(message(&properties).contains("not both"));
        let unknown = tree(&[("expiry", Value::Integer(1))]);
        assert!(message(&[("properties", unknown)]).contains("`properties`: unknown field `expiry`"));
        assert!(of_readings(text("soon")).expect_err("wrong").contains("when the condition begins"));
        assert!(of_readings(text("2d")).is_err(), "too long");
        let no_value = Value::List(vec![tree(&[("metric", text("t"))])]);
        assert!(message(&[("readings", no_value), ("expect", text("1s"))]).contains("a metric and a value"));
    }
}

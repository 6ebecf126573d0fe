//! An example that the configuration gives with a rule, and what the rule should make of it.

use serde_json::Value;

use crate::rules::GivenProperties;

/// An example, and what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    /// What the rule sees, and what should come of it.
    pub example: Example,
    /// When the message comes, or the first moment of the readings, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What a rule sees, and what should come of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// Of a rule with `sql`.
    Message {
        /// Where it is published to.
        topic: String,
        /// What is published.
        payload: Vec<u8>,
        /// Who publishes it.
        client_id: Option<String>,
        /// What it has besides.
        properties: GivenProperties,
        /// What the statement makes of it; `None` if it does not pass.
        expected: Option<Vec<u8>>,
    },
    /// Of a rule with `when`.
    Readings {
        /// In the order of their times.
        readings: Vec<TestReading>,
        /// How long it takes, in milliseconds: time alone may bring something after the last reading.
        lasts_ms: i64,
        /// When the condition begins to hold, in the order of the times; at no other moment does it.
        expected: Vec<Begin>,
    },
}

/// A reading of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestReading {
    /// Whose it is.
    pub device: String,
    /// What is measured.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Since the beginning of the test.
    pub at_ms: i64,
}

/// A moment at which a condition begins to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Since the beginning of the test.
    pub at_ms: i64,
    /// For which device; `None` means any.
    pub device: Option<String>,
}

/// Whether two payloads are the same: as JSON by value, and anything else byte for byte.
pub fn is_same_payload(a: &[u8], b: &[u8]) -> bool {
    match (serde_json::from_slice::<Value>(a), serde_json::from_slice::<Value>(b)) {
        (Ok(a), Ok(b)) => is_same(&a, &b),
        _ => a == b,
    }
}

/// Whether two values are equal. 8 and 8.0 are: the language does not tell them apart.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && !(a.is_i64() && b.is_i64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_compared_by_value_and_other_texts_by_their_bytes() {
        let is_same = |a: &str, b: &str| is_same_payload(a.as_bytes(), b.as_bytes());
        assert!(is_same(r#"{"a":8,"b":[1,{"c":null}]}"#, r#"{ "b": [1.0, {"c": null}], "a": 8.0 }"#));
        assert!(is_same("on", "on") && !is_same("on", "on "));
        assert!(is_same("", "") && !is_same("", "{}"));
        assert!(!is_same(r#"{"a":8}"#, r#"{"a":"8"}"#) && !is_same(r#"{"a":8}"#, r#"{"a":8,"b":1}"#));
        assert!(!is_same("[1,2]", "[2,1]"));
        assert!(!is_same("9007199254740993", "9007199254740992"), "whole numbers are compared exactly");
    }
}

//! What a field is where no path of the route says so: by its name, its value, and what else its item holds.

use super::time;
use super::value::Value;
use crate::core::device_clock::UNSET_BEFORE_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Metric,
    Time,
    Sequence,
    Attribute,
}

/// The times within an item.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The first at the top of the item.
    top_ms: Option<i64>,
    /// The first below, and whether another one below contradicts it.
    nested_ms: Option<i64>,
    is_contradicted: bool,
}

impl Times {
    /// The time of the item: one below its top only if there is none at its top, and no other that contradicts it.
    pub fn of_item(&self) -> Option<i64> {
        self.top_ms.or(self.nested_ms.filter(|_| !self.is_contradicted))
    }

    /// Takes note of a field that may be a time. `text` is that of a text.
    pub fn note(&mut self, name: &str, value: Value, text: &str) {
        if let Some((_, last)) = name.rsplit_once('.') {
            let Some(ms) = as_time(last, value, text).filter(|ms| *ms >= UNSET_BEFORE_MS) else { return };
            self.is_contradicted |= self.nested_ms.is_some_and(|known_ms| known_ms != ms);
            self.nested_ms = self.nested_ms.or(Some(ms));
        } else if self.top_ms.is_none() {
            self.top_ms = as_time(name, value, text);
        }
    }
}

/// Below the top of an item, a name such as `time` may stand for anything (a running time, say), so only a value that can be a date makes
/// it a time. `text` is that of a text.
pub fn role(name: &str, value: Value, text: &str, times: &Times) -> Role {
    if name == "seq" {
        return if as_sequence(value).is_some() { Role::Sequence } else { Role::Attribute };
    }
    let nested = name.rsplit_once('.').map(|(_, last)| last);
    let is_time_name = time::time_field(nested.unwrap_or(name)).is_some();
    let time_ms = if is_time_name { as_time(nested.unwrap_or(name), value, text) } else { None };
    match (is_time_name, nested, time_ms) {
        (true, None, Some(ms)) if times.top_ms == Some(ms) => Role::Time,
        (true, Some(_), Some(ms)) if times.of_item() == Some(ms) => Role::Time,
        (true, Some(_), Some(ms)) if ms >= UNSET_BEFORE_MS => Role::Attribute,
        (true, None, _) => Role::Attribute,
        _ if matches!(value, Value::Text { .. }) => Role::Attribute,
        _ => Role::Metric,
    }
}

pub fn as_sequence(value: Value) -> Option<u64> {
    match value {
        Value::Integer(integer) => u64::try_from(integer).ok(),
        Value::Wide { beyond, is_negative: false } => Some(beyond),
        _ => None,
    }
}

fn as_time(name: &str, value: Value, text: &str) -> Option<i64> {
    let unit = time::time_field(name)?;
    match value {
        Value::Integer(integer) => time::from_number(integer as f64, unit),
        Value::Number(number) => time::from_number(number, unit),
        Value::Boolean(_) | Value::Wide { .. } => None,
        Value::Text { .. } => time::from_rfc_3339(text),
    }
}

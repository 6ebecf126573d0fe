//! What a field is where no path of the route says so: by its name, its value, and what else its item holds.

use super::meaning::Meaning;
use super::time::{self, Unit};
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
    /// The first at the top of the item, and which of its fields that is.
    top: Option<(usize, i64)>,
    /// The first below, and whether another one below contradicts it.
    nested_ms: Option<i64>,
    is_contradicted: bool,
}

impl Times {
    /// The time of the item: one below its top only if there is none at its top, and no other that contradicts it.
    pub fn of_item(&self) -> Option<i64> {
        self.top.map(|(_, ms)| ms).or(self.nested_ms.filter(|_| !self.is_contradicted))
    }

    /// Takes note of a field that may be a time. `at` tells it from the others; `text` gives that of a text.
    pub fn note<'a>(&mut self, at: usize, meaning: Meaning, value: Value, text: impl FnOnce() -> &'a str) {
        let Meaning::Time { unit, is_nested } = meaning else { return };
        if is_nested {
            let Some(ms) = as_time(unit, value, text()).filter(|ms| *ms >= UNSET_BEFORE_MS) else { return };
            self.is_contradicted |= self.nested_ms.is_some_and(|known_ms| known_ms != ms);
            self.nested_ms = self.nested_ms.or(Some(ms));
        } else if self.top.is_none() {
            self.top = as_time(unit, value, text()).map(|ms| (at, ms));
        }
    }
}

/// Below the top of an item, a name such as `time` may stand for anything (a running time, say), so only a value that can be a date makes
/// it a time. `at` is what [`Times::note`] was given; `text` gives that of a text.
pub fn role<'a>(at: usize, meaning: Meaning, value: Value, text: impl FnOnce() -> &'a str, times: &Times) -> Role {
    let other = if matches!(value, Value::Text { .. }) { Role::Attribute } else { Role::Metric };
    match meaning {
        Meaning::Nothing => other,
        Meaning::Sequence if as_sequence(value).is_some() => Role::Sequence,
        Meaning::Sequence => Role::Attribute,
        Meaning::Time { is_nested: false, .. } => match times.top.is_some_and(|(top, _)| top == at) {
            true => Role::Time,
            false => Role::Attribute,
        },
        Meaning::Time { unit, is_nested: true } => {
            match as_time(unit, value, text()).filter(|ms| *ms >= UNSET_BEFORE_MS) {
                Some(ms) if times.of_item() == Some(ms) => Role::Time,
                Some(_) => Role::Attribute,
                None => other,
            }
        }
    }
}

/// Whether a field, of which this is the dotted name, is a time and can be nothing else.
pub fn is_time<'a>(name: &str, value: Value, text: impl FnOnce() -> &'a str) -> bool {
    let Meaning::Time { unit, .. } = Meaning::of(name) else { return false };
    as_time(unit, value, text()).is_some_and(|ms| ms >= UNSET_BEFORE_MS)
}

pub fn as_sequence(value: Value) -> Option<u64> {
    match value {
        Value::Integer(integer) => u64::try_from(integer).ok(),
        Value::Wide { beyond, is_negative: false } => Some(beyond),
        _ => None,
    }
}

fn as_time(unit: Option<Unit>, value: Value, text: &str) -> Option<i64> {
    match value {
        Value::Integer(integer) => time::from_number(integer as f64, unit),
        Value::Number(number) => time::from_number(number, unit),
        Value::Boolean(_) | Value::Wide { .. } => None,
        Value::Text { .. } => time::from_rfc_3339(text),
    }
}

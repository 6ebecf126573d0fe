//! Values of a payload's fields, whatever it is written in.

use super::meaning::Meaning;
use crate::core::reading::Rounding;

/// Of its digits some would be lost, and nothing would say so.
pub const INTEGER_TOO_LONG: &str = "integer_too_long";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    /// Separate from numbers: a double cannot hold every sequence, or every time in microseconds, exactly.
    Integer(i64),
    /// As a metric it is 0 or 1.
    Boolean(bool),
    /// An integer that `Integer` cannot hold: less than nothing it is `-1 - beyond`, as CBOR writes it.
    Wide {
        beyond: u64,
        is_negative: bool,
    },
    Text {
        start: usize,
        end: usize,
    },
}

impl Value {
    /// `None` for an integer of more than 64 bits.
    pub fn of_integer(integer: i128) -> Option<Value> {
        let is_negative = integer < 0;
        let beyond = if is_negative { -1 - integer } else { integer };
        match (i64::try_from(integer), u64::try_from(beyond)) {
            (Ok(integer), _) => Some(Value::Integer(integer)),
            (_, Ok(beyond)) => Some(Value::Wide { beyond, is_negative }),
            _ => None,
        }
    }

    /// Appends a number as it is usually written; nothing for a text.
    pub fn push_number(self, out: &mut String) {
        match self {
            Value::Number(number) => out.push_str(ryu::Buffer::new().format(number)),
            Value::Integer(integer) => out.push_str(itoa::Buffer::new().format(integer)),
            Value::Boolean(is_true) => out.push_str(if is_true { "true" } else { "false" }),
            Value::Wide { beyond, is_negative: false } => out.push_str(itoa::Buffer::new().format(beyond)),
            Value::Wide { beyond, is_negative: true } => {
                out.push_str(itoa::Buffer::new().format(-1 - i128::from(beyond)));
            }
            Value::Text { .. } => {}
        }
    }

    /// The number as a double, and what that lacks of an integer; `None` for a text.
    pub fn number(self) -> Option<(f64, Option<Rounding>)> {
        match self {
            Value::Number(number) => Some((number, None)),
            Value::Integer(integer) => Some(Rounding::of(integer.into())),
            Value::Boolean(is_true) => Some((f64::from(u8::from(is_true)), None)),
            Value::Wide { beyond, is_negative: false } => Some(Rounding::of(beyond.into())),
            Value::Wide { beyond, is_negative: true } => Some(Rounding::of(-1 - i128::from(beyond))),
            Value::Text { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name_start: usize,
    pub name_end: usize,
    pub meaning: Meaning,
    pub value: Value,
}

impl Field {
    pub fn name_in<'a>(&self, texts: &'a str) -> &'a str {
        &texts[self.name_start..self.name_end]
    }
}

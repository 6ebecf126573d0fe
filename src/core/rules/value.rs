//! Values of the language, and how one becomes another.
//!
//! A value borrows what it can from the payload or the statement. Arrays and objects that a rule makes are shared, not copied.

use std::borrow::Cow;
use std::sync::Arc;

use super::document::{Content, Document, NodeRef};
use super::number::{Number, Rounding};
use super::problem::EvaluationError;
use crate::json;

/// Longest text that a function makes, in bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Largest result, in bytes of JSON.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// A value.
#[derive(Clone, Debug, Default)]
pub enum Value<'v> {
    /// Not a value: left out of results.
    #[default]
    Undefined,
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// An Int or a Decimal.
    Number(Number),
    /// A String.
    Text(Cow<'v, str>),
    /// An array or an object of the payload.
    Node(NodeRef<'v>),
    /// An array that the rule made.
    Array(Arc<Vec<Value<'v>>>),
    /// An object that the rule made.
    Object(Arc<Vec<(Cow<'v, str>, Value<'v>)>>),
    /// A payload that is no object. Nothing but `encode` and the result itself takes it.
    Bytes(&'v [u8]),
}

impl<'v> From<NodeRef<'v>> for Value<'v> {
    /// A number that is beyond all numbers of the language is Undefined.
    fn from(node: NodeRef<'v>) -> Value<'v> {
        match node.content() {
            Content::Null => Value::Null,
            Content::Boolean(is_true) => Value::Boolean(is_true),
            Content::Number(text) => Number::from_json(text).into(),
            Content::Text(text) => Value::Text(Cow::Borrowed(text)),
            Content::Array | Content::Object => Value::Node(node),
        }
    }
}

impl From<Option<Number>> for Value<'_> {
    fn from(number: Option<Number>) -> Self {
        number.map_or(Value::Undefined, Value::Number)
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(is_true: Option<bool>) -> Self {
        is_true.map_or(Value::Undefined, Value::Boolean)
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'v> From<Option<Cow<'v, str>>> for Value<'v> {
    fn from(text: Option<Cow<'v, str>>) -> Value<'v> {
        text.map_or(Value::Undefined, Value::Text)
    }
}

impl<'v> Value<'v> {
    /// The same value, borrowing from this one.
    pub fn borrowed(&'v self) -> Value<'v> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    /// The value of a document that does not outlive the call.
    pub fn owned(node: NodeRef<'_>) -> Value<'v> {
        match node.content() {
            Content::Null => Value::Null,
            Content::Boolean(is_true) => Value::Boolean(is_true),
            Content::Number(text) => Number::from_json(text).into(),
            Content::Text(text) => Value::Text(Cow::Owned(text.to_owned())),
            Content::Array => Value::Array(Arc::new(node.elements().map(Value::owned).collect())),
            Content::Object => {
                let member = |(name, value): (&str, NodeRef<'_>)| (Cow::Owned(name.to_owned()), Value::owned(value));
                Value::Object(Arc::new(node.members().map(member).collect()))
            }
        }
    }

    /// The same value with texts of its own. Values of a payload are not in it; where they are, they become Undefined.
    pub(super) fn into_static(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Boolean(is_true) => Value::Boolean(is_true),
            Value::Number(number) => Value::Number(number),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Array(elements) => {
                Value::Array(Arc::new(elements.iter().cloned().map(Value::into_static).collect()))
            }
            Value::Object(members) => {
                let member = |(name, value): &(Cow<'v, str>, Value<'v>)| {
                    (Cow::Owned(name.clone().into_owned()), value.clone().into_static())
                };
                Value::Object(Arc::new(members.iter().map(member).collect()))
            }
            Value::Undefined | Value::Node(_) | Value::Bytes(_) => Value::Undefined,
        }
    }

    /// Reads JSON of any kind into a value of its own.
    pub fn from_json(text: &[u8]) -> Option<Value<'v>> {
        Document::read_json(text).map(|document| Value::owned(document.root()))
    }

    /// Whether it is Undefined.
    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined)
    }

    /// Whether JSON has nothing for it.
    fn is_left_out(&self) -> bool {
        matches!(self, Value::Undefined | Value::Bytes(_))
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        match self {
            Value::Node(node) => node.content() == Content::Array,
            Value::Array(_) => true,
            _ => false,
        }
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        match self {
            Value::Node(node) => node.content() == Content::Object,
            Value::Object(_) => true,
            _ => false,
        }
    }

    /// As a Decimal: a number, or a text that is one.
    pub fn to_number(&self) -> Option<Number> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Text(text) => Number::from_text(text),
            _ => None,
        }
    }

    /// As an index or a count, where the reference says that it is rounded down.
    pub fn to_int_down(&self) -> Option<i64> {
        self.to_number().map(|number| number.clamped(Rounding::Floor))
    }

    /// As an Int by the conversion that holds where the reference says nothing: a number is rounded to the nearest, of a text the fraction is
    /// cut off.
    pub fn to_int(&self) -> Option<i64> {
        let rounding = if matches!(self, Value::Text(_)) { Rounding::Cut } else { Rounding::Nearest };
        self.to_number().map(|number| number.clamped(rounding))
    }

    /// As a Boolean: one, or a text that says so.
    pub fn to_boolean(&self) -> Option<bool> {
        match self {
            Value::Boolean(is_true) => Some(*is_true),
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// As a String; `None` for Undefined, null and bytes.
    ///
    /// # Errors
    ///
    /// If it is an array or object of more than [`TEXT_BYTES_MAX`] bytes.
    pub fn to_text(&self) -> Result<Option<Cow<'v, str>>, EvaluationError> {
        Ok(Some(match self {
            Value::Undefined | Value::Null | Value::Bytes(_) => return Ok(None),
            Value::Text(text) => text.clone(),
            Value::Boolean(true) => Cow::Borrowed("true"),
            Value::Boolean(false) => Cow::Borrowed("false"),
            Value::Number(number) => number.to_string().into(),
            Value::Node(_) | Value::Array(_) | Value::Object(_) => {
                let mut out = Vec::new();
                self.write_json(&mut out, TEXT_BYTES_MAX)?;
                String::from_utf8_lossy(&out).into_owned().into()
            }
        }))
    }

    /// The member of an object; Undefined if there is none, or it is no object.
    pub fn member(&self, name: &str) -> Value<'v> {
        match self {
            Value::Node(node) => node.member(name).map_or(Value::Undefined, Value::from),
            Value::Object(members) => {
                let found = members.iter().rev().find(|(key, _)| key == name);
                found.map_or(Value::Undefined, |(_, value)| value.clone())
            }
            _ => Value::Undefined,
        }
    }

    /// Elements of an array, or members of an object; 0 of anything else.
    pub fn count(&self) -> usize {
        match self {
            Value::Node(node) => node.count(),
            Value::Array(elements) => elements.len(),
            Value::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// The element of an array, the first of which is 0.
    pub fn element(&self, index: usize) -> Value<'v> {
        match self {
            Value::Node(node) => node.elements().nth(index).map_or(Value::Undefined, Value::from),
            Value::Array(elements) => elements.get(index).cloned().unwrap_or_default(),
            _ => Value::Undefined,
        }
    }

    /// The elements of an array; none of anything else.
    pub fn elements(&self) -> Elements<'_, 'v> {
        match self {
            Value::Node(node) => Elements::Node(Box::new(node.elements())),
            Value::Array(elements) => Elements::Made(elements.iter()),
            _ => Elements::Made([].iter()),
        }
    }

    /// The members of an object with their names; none of anything else.
    pub fn members(&self) -> Vec<(Cow<'v, str>, Value<'v>)> {
        match self {
            Value::Node(node) => node.members().map(|(name, value)| (name.into(), value.into())).collect(),
            Value::Object(members) => members.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Appends it as JSON; nothing if it is Undefined or bytes.
    ///
    /// # Errors
    ///
    /// If more than so many bytes are in `out` then.
    pub fn write_json(&self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), EvaluationError> {
        match self {
            Value::Undefined | Value::Bytes(_) => {}
            Value::Null => out.extend_from_slice(b"null"),
            Value::Boolean(is_true) => out.extend_from_slice(if *is_true { b"true" } else { b"false" }),
            Value::Number(number) => number.write(out),
            Value::Text(text) => json::write_text(out, text),
            Value::Node(node) => write_node(*node, out, bytes_max)?,
            Value::Array(elements) => {
                let mut separator = b'[';
                for element in elements.iter().filter(|element| !element.is_left_out()) {
                    out.push(std::mem::replace(&mut separator, b','));
                    element.write_json(out, bytes_max)?;
                }
                out.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
            }
            Value::Object(members) => {
                let mut separator = b'{';
                for (name, value) in members.iter().filter(|(_, value)| !value.is_left_out()) {
                    out.push(std::mem::replace(&mut separator, b','));
                    json::write_text(out, name);
                    out.push(b':');
                    value.write_json(out, bytes_max)?;
                }
                out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
            }
        }
        if out.len() > bytes_max { Err(EvaluationError::TooLarge { max: bytes_max }) } else { Ok(()) }
    }
}

/// Elements of an array.
pub enum Elements<'a, 'v> {
    /// Of the payload.
    Node(Box<dyn Iterator<Item = NodeRef<'v>> + 'v>),
    /// Made by the rule.
    Made(std::slice::Iter<'a, Value<'v>>),
}

impl<'v> Iterator for Elements<'_, 'v> {
    type Item = Value<'v>;

    fn next(&mut self) -> Option<Value<'v>> {
        match self {
            Elements::Node(nodes) => nodes.next().map(Value::from),
            Elements::Made(values) => values.next().cloned(),
        }
    }
}

/// Writes a value of the payload: numbers in their one form, so that `*` and a name give the same.
fn write_node(node: NodeRef<'_>, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), EvaluationError> {
    match node.content() {
        Content::Null => out.extend_from_slice(b"null"),
        Content::Boolean(is_true) => out.extend_from_slice(if is_true { b"true" } else { b"false" }),
        Content::Number(text) => write_number(text, out),
        Content::Text(text) => json::write_text(out, text),
        Content::Array => {
            let mut separator = b'[';
            for element in node.elements() {
                out.push(std::mem::replace(&mut separator, b','));
                write_node(element, out, bytes_max)?;
            }
            out.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
        }
        Content::Object => {
            let mut separator = b'{';
            for (name, value) in node.members() {
                out.push(std::mem::replace(&mut separator, b','));
                json::write_text(out, name);
                out.push(b':');
                write_node(value, out, bytes_max)?;
            }
            out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
        }
    }
    if out.len() > bytes_max { Err(EvaluationError::TooLarge { max: bytes_max }) } else { Ok(()) }
}

/// A number that nothing was calculated with keeps its digits, however many, and is only written in its one form if it is short enough.
fn write_number(text: &str, out: &mut Vec<u8>) {
    let is_plain = !text.bytes().any(|byte| matches!(byte, b'e' | b'E' | b'.')) && text != "-0";
    let is_in_form = is_plain || text.len() > 36;
    match Number::from_json(text).filter(|_| !is_in_form) {
        Some(number) => number.write(out),
        None => out.extend_from_slice(text.as_bytes()),
    }
}

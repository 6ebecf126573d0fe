//! YAML as CloudFormation uses it, as the JSON that it stands for: `!Sub x` is `{"Fn::Sub": "x"}`.
//!
//! Deliberately absent: anchors and aliases, with which a short text can stand for a very large one.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// How deeply lists and objects may be nested.
const DEPTH_MAX: usize = 64;

/// Why a text is not read. Lines and columns are counted from 1.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct YamlError {
    line: usize,
    column: usize,
    reason: String,
}

/// A list or an object that is not complete yet.
enum Open {
    List(Vec<Value>),
    Object { members: Map<String, Value>, name: Option<String> },
}

/// The only document of the text; null if there is none.
pub fn read(text: &str) -> Result<Value, YamlError> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<(Open, Option<String>)> = Vec::new();
    let mut root = None;
    loop {
        let (event, mark) = parser.next_token().map_err(broken)?;
        let value = match event {
            Event::StreamEnd => return Ok(root.unwrap_or_default()),
            Event::DocumentStart if root.is_some() => return Err(at(mark, "only one document is expected")),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => continue,
            Event::Alias(_) => return Err(at(mark, "aliases are not understood: write the value out")),
            Event::SequenceStart(_, tag) => {
                open.push((Open::List(Vec::new()), function(tag)));
                None
            }
            Event::MappingStart(_, tag) => {
                open.push((Open::Object { members: Map::new(), name: None }, function(tag)));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|(closed, function)| {
                let value = match closed {
                    Open::List(elements) => Value::Array(elements),
                    Open::Object { members, .. } => Value::Object(members),
                };
                called(function, value)
            }),
            Event::Scalar(text, style, _, tag) => Some(scalar(text, style, tag)),
        };
        if open.len() > DEPTH_MAX {
            return Err(at(mark, "nested too deeply"));
        }
        let Some(value) = value else { continue };
        match open.last_mut() {
            None => root = Some(value),
            Some((Open::List(elements), _)) => elements.push(value),
            Some((Open::Object { members, name }, _)) => match (name.take(), value) {
                (Some(known), _) if members.contains_key(&known) => {
                    return Err(at(mark, &format!("{known} is there twice")));
                }
                (Some(known), value) => _ = members.insert(known, value),
                (None, Value::String(text)) => *name = Some(text),
                (None, Value::Null | Value::Array(_) | Value::Object(_)) => {
                    return Err(at(mark, "the name of a member is a text"));
                }
                (None, plain) => *name = Some(plain.to_string()),
            },
        }
    }
}

fn broken(error: ScanError) -> YamlError {
    at(*error.marker(), error.info())
}

fn at(mark: Marker, reason: &str) -> YamlError {
    YamlError { line: mark.line(), column: mark.col() + 1, reason: reason.to_owned() }
}

/// The function that a tag of CloudFormation is short for.
fn function(tag: Option<Tag>) -> Option<String> {
    let tag = tag.filter(|tag| tag.handle == "!")?;
    Some(match tag.suffix.as_str() {
        "Ref" | "Condition" => tag.suffix,
        name => format!("Fn::{name}"),
    })
}

fn called(function: Option<String>, argument: Value) -> Value {
    match function {
        Some(function) => Value::Object(Map::from_iter([(function, argument)])),
        None => argument,
    }
}

/// A text, unless it is plain and certainly something else.
fn scalar(text: String, style: TScalarStyle, tag: Option<Tag>) -> Value {
    let is_text = style != TScalarStyle::Plain || tag.is_some();
    let value = match text.as_str() {
        _ if is_text => Value::String(text),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => Value::String(text),
    };
    called(function(tag), value)
}

//! The line protocol of InfluxDB: `measurement,tag=value field=1.5,other=2i 1465839830100400200`.
//!
//! A line becomes an object of `measurement`, `tags`, `fields` (its numbers), `texts` and `time`.

use super::plain_number;
use crate::core::path::{Path, Text};
use crate::ingest::document::{Content, Document};
use crate::ingest::places::{Attribute, Measure, Places};
use crate::ingest::time::Unit;
use crate::ingest::time_format::TimeFormat;
use crate::ingest::value::Value;

const FAULT: &str = "not_influx";

pub fn places() -> Places {
    let path = |text: &str| Path::parse(text).expect("a path");
    let all = |text: &str| Attribute { path: path(text), name: None };
    Places {
        each: Some(path("$[*]")),
        metric: Some(Text::parse("{@.measurement}").expect("a text")),
        metrics: Some(vec![Measure { path: path("@.fields"), name: None, factor: 1.0, offset: 0.0 }]),
        attributes: Some(vec![all("@.tags.*"), all("@.texts.*")]),
        time: Some(path("@.time")),
        time_format: TimeFormat::Unix(Unit::Nanoseconds),
        ..Places::default()
    }
}

pub fn read(text: &str, document: &mut Document) -> Result<(), &'static str> {
    let list = document.open("", Content::List)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for (index, line) in lines.enumerate() {
        let object = document.open(&index.to_string(), Content::Object)?;
        read_line(line, document)?;
        document.close(object);
    }
    document.close(list);
    Ok(())
}

fn read_line(line: &str, document: &mut Document) -> Result<(), &'static str> {
    let (series, rest) = split_unescaped(line, ' ', false).ok_or(FAULT)?;
    let rest = rest.trim_start();
    let (fields, time) = match split_unescaped(rest, ' ', true) {
        Some((fields, time)) => (fields, Some(time.trim())),
        None => (rest, None),
    };
    let (measurement, tags) = split_unescaped(series, ',', false).unwrap_or((series, ""));
    if measurement.is_empty() {
        return Err(FAULT);
    }
    document.add_text("measurement", &unescape(measurement))?;
    let node = document.open("tags", Content::Object)?;
    for_each_pair(tags, false, |name, value| document.add_text(&unescape(name), &unescape(value)))?;
    document.close(node);
    for is_text in [false, true] {
        let node = document.open(if is_text { "texts" } else { "fields" }, Content::Object)?;
        for_each_pair(fields, true, |name, value| match field(value)? {
            Field::Number(number) if !is_text => document.add(&unescape(name), number),
            Field::Text(text) if is_text => document.add_text(&unescape(name), &unescape(text)),
            _ => Ok(()),
        })?;
        document.close(node);
    }
    if let Some(time) = time.filter(|time| !time.is_empty()) {
        document.add("time", Value::Integer(time.parse().map_err(|_| FAULT)?))?;
    }
    Ok(())
}

enum Field<'a> {
    Number(Value),
    Text(&'a str),
}

fn field(value: &str) -> Result<Field<'_>, &'static str> {
    if let Some(text) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Ok(Field::Text(text));
    }
    let number = match value {
        "t" | "T" | "true" | "True" | "TRUE" => Some(Value::Boolean(true)),
        "f" | "F" | "false" | "False" | "FALSE" => Some(Value::Boolean(false)),
        _ => match value.strip_suffix(['i', 'u']) {
            Some(integer) => integer.parse().ok().and_then(Value::of_integer),
            None => plain_number(value),
        },
    };
    number.map(Field::Number).ok_or(FAULT)
}

/// Shows each `name=value`, separated by commas.
fn for_each_pair<'a>(
    pairs: &'a str,
    has_quotes: bool,
    mut see: impl FnMut(&'a str, &'a str) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut rest = Some(pairs).filter(|pairs| !pairs.is_empty());
    while let Some(pairs) = rest {
        let (pair, after) = match split_unescaped(pairs, ',', has_quotes) {
            Some((pair, after)) => (pair, Some(after)),
            None => (pairs, None),
        };
        let (name, value) = split_unescaped(pair, '=', false).ok_or(FAULT)?;
        if name.is_empty() || value.is_empty() {
            return Err(FAULT);
        }
        see(name, value)?;
        rest = after;
    }
    Ok(())
}

/// Splits at the first separator that no backslash stands before, and that is not in quotes where quotes count.
fn split_unescaped(text: &str, separator: char, has_quotes: bool) -> Option<(&str, &str)> {
    let (mut is_escaped, mut is_quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' if has_quotes => is_quoted = !is_quoted,
            c if c == separator && !is_quoted => return Some((&text[..at], &text[at + c.len_utf8()..])),
            _ => {}
        }
    }
    None
}

/// Takes away the backslash before what would otherwise separate; any other stands for itself.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek().is_some_and(|next| ",= \"\\".contains(*next)) {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}

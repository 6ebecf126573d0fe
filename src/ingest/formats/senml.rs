//! SenML (RFC 8428) in JSON and CBOR. Base fields are resolved, and times relative to now are made absolute.
//!
//! A pack becomes an object of `records` (each with `name`, `value`, `unit`, `time` in milliseconds) and `texts`.

use crate::core::path::{Path, Text};
use crate::ingest::document::{self, Content, Document, NodeId};
use crate::ingest::places::{Attribute, Places};
use crate::ingest::route::Format;
use crate::ingest::time::Unit;
use crate::ingest::time_format::TimeFormat;
use crate::ingest::value::Value;

const FAULT: &str = "not_senml";
/// A smaller time is relative to now.
const ABSOLUTE_FROM_S: f64 = 268_435_456.0;
/// The version that the RFC describes.
const VERSION_MAX: f64 = 10.0;
/// Labels of fields in CBOR, and their names in JSON.
const LABELS: [(&str, &str); 15] = [
    ("-1", "bver"),
    ("-2", "bn"),
    ("-3", "bt"),
    ("-4", "bu"),
    ("-5", "bv"),
    ("-6", "bs"),
    ("0", "n"),
    ("1", "u"),
    ("2", "v"),
    ("3", "vs"),
    ("4", "vb"),
    ("5", "s"),
    ("6", "t"),
    ("7", "ut"),
    ("8", "vd"),
];

pub fn places() -> Places {
    let path = |text: &str| Path::parse(text).expect("a path");
    Places {
        each: Some(path("$.records[*]")),
        metric: Some(Text::parse("{@.name}").expect("a text")),
        value: Some(path("@.value")),
        metrics: Some(Vec::new()),
        attributes: Some(vec![
            Attribute { path: path("@.unit"), name: None },
            Attribute { path: path("$.texts.*"), name: None },
        ]),
        time: Some(path("@.time")),
        time_format: TimeFormat::Unix(Unit::Milliseconds),
        ..Places::default()
    }
}

#[derive(Default)]
struct Base<'a> {
    name: &'a str,
    time_s: f64,
    unit: Option<&'a str>,
    value: Option<f64>,
    sum: Option<f64>,
}

pub fn read(payload: &[u8], format: Format, received_at_ms: i64, out: &mut Document) -> Result<(), &'static str> {
    let mut pack = Document::default();
    document::read(payload, format, &mut pack)?;
    if pack.content(Document::ROOT) != Content::List {
        return Err(FAULT);
    }
    let whole = out.open("", Content::Object)?;
    for is_text in [false, true] {
        let content = if is_text { Content::Object } else { Content::List };
        let node = out.open(if is_text { "texts" } else { "records" }, content)?;
        let mut base = Base::default();
        for record in pack.children(Document::ROOT) {
            read_base(&pack, record, &mut base)?;
            read_record(&Record { pack: &pack, record, base: &base }, is_text, received_at_ms, out)?;
        }
        out.close(node);
    }
    out.close(whole);
    Ok(())
}

fn read_base<'a>(pack: &'a Document, record: NodeId, base: &mut Base<'a>) -> Result<(), &'static str> {
    if pack.content(record) != Content::Object {
        return Err(FAULT);
    }
    for field in pack.children(record) {
        let name = pack.name(field);
        let name = LABELS.iter().find(|(label, _)| *label == name).map_or(name, |(_, name)| *name);
        let number = || pack.number(field).ok_or(FAULT);
        match name {
            "bn" => base.name = pack.text(field).ok_or(FAULT)?,
            "bt" => base.time_s = number()?,
            "bu" => base.unit = Some(pack.text(field).ok_or(FAULT)?),
            "bv" => base.value = Some(number()?),
            "bs" => base.sum = Some(number()?),
            "bver" if number()? > VERSION_MAX => return Err(FAULT),
            // Whoever does not know such a field must not use the record.
            name if name.ends_with('_') => return Err(FAULT),
            _ => {}
        }
    }
    Ok(())
}

struct Record<'a> {
    pack: &'a Document,
    record: NodeId,
    base: &'a Base<'a>,
}

impl Record<'_> {
    fn field(&self, wanted: &str) -> Option<NodeId> {
        let label = LABELS.iter().find(|(_, name)| *name == wanted).map(|(label, _)| *label);
        self.pack.children(self.record).find(|field| {
            let name = self.pack.name(*field);
            name == wanted || Some(name) == label
        })
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.field(name).and_then(|field| self.pack.number(field))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(|field| self.pack.text(field))
    }

    fn name(&self) -> Result<String, &'static str> {
        let name = format!("{}{}", self.base.name, self.text("n").unwrap_or_default());
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte);
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && name.bytes().all(is_allowed) { Ok(name) } else { Err(FAULT) }
    }

    /// `None` for now.
    fn time_ms(&self, received_at_ms: i64) -> Option<i64> {
        let time_s = self.base.time_s + self.number("t").unwrap_or(0.0);
        match time_s {
            0.0 => None,
            relative_s if relative_s < ABSOLUTE_FROM_S => {
                Some(received_at_ms.saturating_add((relative_s * 1e3).round() as i64))
            }
            absolute_s => Some((absolute_s * 1e3).round() as i64),
        }
    }

    /// A number with the base value, or a boolean; an integer without a base value keeps all its digits.
    fn value(&self) -> Option<Value> {
        let (field, base) = match self.field("v") {
            Some(field) => (field, self.base.value),
            None => (self.field("vb")?, None),
        };
        let Content::Scalar(value) = self.pack.content(field) else { return None };
        let (number, _) = value.number()?;
        Some(base.map_or(value, |base| Value::Number(base + number)))
    }

    fn sum(&self) -> Option<Value> {
        let sum = self.number("s")?;
        Some(Value::Number(sum + self.base.sum.unwrap_or(0.0)))
    }
}

fn read_record(
    record: &Record<'_>,
    is_text: bool,
    received_at_ms: i64,
    out: &mut Document,
) -> Result<(), &'static str> {
    if is_text {
        return match record.text("vs").or(record.text("vd")) {
            Some(text) => out.add_text(&record.name()?, text),
            None => Ok(()),
        };
    }
    for (value, suffix) in [(record.value(), ""), (record.sum(), ".sum")] {
        let Some(value) = value else { continue };
        let node = out.open("", Content::Object)?;
        out.add_text("name", &format!("{}{suffix}", record.name()?))?;
        out.add("value", value)?;
        if let Some(unit) = record.text("u").or(record.base.unit) {
            out.add_text("unit", unit)?;
        }
        if let Some(time_ms) = record.time_ms(received_at_ms) {
            out.add("time", Value::Integer(time_ms))?;
        }
        out.close(node);
    }
    Ok(())
}

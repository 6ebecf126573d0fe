//! Formats by name: each turns bytes into a document, and says where things are in it unless the route does.

mod csv;
mod influx;
mod protobuf;
mod senml;
mod sparkplug;

pub use sparkplug::Births;

use super::document::{self, Document};
use super::mend;
use super::numbers::Numbers;
use super::places::Places;
use super::route::Format;
use super::value::Value;

/// A publish as it came, and how it is to be read.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub format: Format,
    pub places: &'a Places,
    pub received_at_ms: i64,
}

/// Reads a payload; the reason if that is not possible, in one word.
pub fn read(source: &Source<'_>, births: &mut Births, document: &mut Document) -> Result<(), &'static str> {
    let &Source { topic, payload, format, places, received_at_ms } = source;
    document.clear();
    // A message of Protocol Buffers in which everything is left out has no bytes.
    if payload.is_empty() && format != Format::Sparkplug {
        return Err("empty");
    }
    match format {
        Format::Auto | Format::Json | Format::Cbor => document::read(payload, format, document),
        Format::Number => read_number(payload, document),
        Format::Csv => csv::read(text(payload, "not_csv")?, places, document),
        Format::SenmlJson => senml::read(payload, Format::Json, received_at_ms, document),
        Format::SenmlCbor => senml::read(payload, Format::Cbor, received_at_ms, document),
        Format::Influx => influx::read(text(payload, "not_influx")?, document),
        Format::Sparkplug => sparkplug::read(payload, topic, births, document),
    }?;
    match format {
        // These have done so.
        Format::Auto | Format::Json | Format::Cbor => Ok(()),
        _ => document.settle_repeats(),
    }
}

/// Where things are in the documents of a format.
pub fn places(format: Format) -> Places {
    match format {
        Format::Auto | Format::Json | Format::Cbor | Format::Csv => Places::default(),
        Format::Number => Places { numbers: Some(Numbers::Lenient { has_comma: false }), ..Places::default() },
        Format::SenmlJson | Format::SenmlCbor => senml::places(),
        Format::Influx => influx::places(),
        Format::Sparkplug => sparkplug::places(),
    }
}

fn text<'a>(payload: &'a [u8], fault: &'static str) -> Result<&'a str, &'static str> {
    std::str::from_utf8(mend::trimmed(payload)).map_err(|_| fault)
}

/// A number and nothing else, perhaps with its unit.
fn read_number(payload: &[u8], document: &mut Document) -> Result<(), &'static str> {
    let text = text(payload, "no_number")?.trim();
    match plain_number(text) {
        Some(value) => document.add("", value),
        None => document.add_text("", text),
    }
}

/// A number as programs write it, with all the digits of an integer.
fn plain_number(text: &str) -> Option<Value> {
    if let Ok(integer) = text.parse::<i128>() {
        return Value::of_integer(integer);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = text.parse().ok().filter(|number: &f64| is_number && number.is_finite())?;
    Some(Value::Number(number))
}

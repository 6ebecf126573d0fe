//! JSON and CBOR into a document: both drive one visitor.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{Content, Document, NodeId};
use crate::ingest::flatten::{Name, begins_json, is_plain_text};
use crate::ingest::mend;
use crate::ingest::route::Format;
use crate::ingest::value::{INTEGER_TOO_LONG, Value};

/// No telemetry is nested more deeply than this.
const DEPTH_MAX: usize = 16;

/// Reads JSON or CBOR; the reason if that is not possible, in one word.
pub fn read(payload: &[u8], format: Format, document: &mut Document) -> Result<(), &'static str> {
    let is_json = match format {
        Format::Json => true,
        Format::Cbor => false,
        _ => mend::trimmed(payload).first().is_some_and(|byte| begins_json(*byte)),
    };
    match is_json {
        true => match read_json(payload, document) {
            Err("not_json") if format == Format::Auto && !begins_group(payload) && is_plain_text(payload) => {
                document.clear();
                read_text(payload, document)
            }
            read => read,
        },
        false if format == Format::Auto && is_plain_text(payload) => read_text(payload, document),
        false => read_cbor(payload, document),
    }
}

/// Whether it can only be meant as JSON.
fn begins_group(payload: &[u8]) -> bool {
    matches!(mend::trimmed(payload).trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
}

/// A word that is no JSON: where texts may be numbers, it may be one.
fn read_text(payload: &[u8], document: &mut Document) -> Result<(), &'static str> {
    let text = std::str::from_utf8(mend::trimmed(payload)).map_err(|_| "not_json")?.trim();
    match mend::non_finite(text) {
        Some(number) => document.add("", Value::Number(number)),
        None => document.add_text("", text),
    }
}

/// Reads JSON; the reason if it is none.
fn read_json(payload: &[u8], document: &mut Document) -> Result<(), &'static str> {
    let payload = mend::trimmed(payload);
    match read_plain_json(payload, document) {
        Err("not_json") => {
            let mended = mend::with_marked_words(payload).ok_or("not_json")?;
            document.clear();
            document.has_marks = true;
            read_plain_json(mended.as_bytes(), document)
        }
        read => read,
    }
}

fn read_plain_json(payload: &[u8], document: &mut Document) -> Result<(), &'static str> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let place = Place { document, name: "", depth: 0 };
    let result = place.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    result.map_err(|_| document.fault.unwrap_or("not_json"))?;
    if document.has_huge && mend::has_long_integer(payload) {
        return Err(INTEGER_TOO_LONG);
    }
    document.settle_repeats()
}

/// Reads CBOR; the reason if it is none.
fn read_cbor(payload: &[u8], document: &mut Document) -> Result<(), &'static str> {
    let mut rest = payload;
    *document = ciborium::from_reader(&mut rest).map_err(|_| "not_cbor")?;
    match document.fault {
        Some(fault) => Err(fault),
        None if rest.is_empty() => document.settle_repeats(),
        None => Err("not_cbor"),
    }
}

/// ciborium deserializes only into types, so the document is one.
impl<'de> de::Deserialize<'de> for Document {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut document = Document::default();
        let place = Place { document: &mut document, name: "", depth: 0 };
        match place.deserialize(deserializer) {
            Err(error) if document.fault.is_none() => Err(error),
            _ => Ok(document),
        }
    }
}

/// Where the visitor is: about to read the value of this name.
struct Place<'a> {
    document: &'a mut Document,
    name: &'a str,
    depth: usize,
}

impl Place<'_> {
    fn done<T, E: de::Error>(document: &mut Document, result: Result<T, &'static str>) -> Result<T, E> {
        result.map_err(|fault| {
            document.fault = Some(fault);
            E::custom(fault)
        })
    }

    fn scalar<E: de::Error>(self, value: Value) -> Result<(), E> {
        let result = self.document.add(self.name, value);
        Place::done(self.document, result)
    }

    fn open<E: de::Error>(&mut self, content: Content) -> Result<NodeId, E> {
        let result = if self.depth == DEPTH_MAX { Err("too_deep") } else { self.document.open(self.name, content) };
        Place::done(self.document, result)
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, texts, objects and lists of them")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Value::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.scalar(Value::of_integer(value.into()).expect("64 bits"))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<(), E> {
        match Value::of_integer(value) {
            Some(value) => self.scalar(value),
            None => Place::done(self.document, Err(INTEGER_TOO_LONG)),
        }
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<(), E> {
        self.visit_i128(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.document.has_huge |= value.abs() >= u64::MAX as f64;
        self.scalar(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let marked = text.strip_prefix(mend::NON_FINITE_MARK).filter(|_| self.document.has_marks);
        if let Some(number) = marked.and_then(mend::non_finite) {
            return self.scalar(Value::Number(number));
        }
        let result = self.document.add_text(self.name, text);
        Place::done(self.document, result)
    }

    fn visit_bytes<E: de::Error>(mut self, _: &[u8]) -> Result<(), E> {
        self.open(Content::Nothing).map(|_| ())
    }

    fn visit_unit<E: de::Error>(mut self) -> Result<(), E> {
        self.open(Content::Nothing).map(|_| ())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let node = self.open(Content::Object)?;
        while let Some(name) = map.next_key_seed(Name)? {
            map.next_value_seed(Place { document: self.document, name: &name, depth: self.depth + 1 })?;
        }
        self.document.close(node);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let node = self.open(Content::List)?;
        for index in 0_u32.. {
            let mut digits = itoa::Buffer::new();
            let place = Place { document: self.document, name: digits.format(index), depth: self.depth + 1 };
            if list.next_element_seed(place)?.is_none() {
                break;
            }
        }
        self.document.close(node);
        Ok(())
    }

    /// A CBOR tag is ignored, as by [`crate::ingest::flatten`].
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        let (_, tagged) = data.variant::<de::IgnoredAny>()?;
        tagged.tuple_variant(2, Tagged(self))
    }
}

struct Tagged<'a>(Place<'a>);

impl<'de> Visitor<'de> for Tagged<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag and its content")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        let _: Option<u64> = parts.next_element()?;
        parts.next_element_seed(self.0)?;
        Ok(())
    }
}

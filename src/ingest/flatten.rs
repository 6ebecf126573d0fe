//! Turns a payload into a flat list of fields; JSON and CBOR drive the same visitor.

mod name;
mod visitor;

use serde::de::{self, DeserializeSeed};

pub use name::Name;
use visitor::Place;

use super::meaning::Meaning;
use super::route::Format;
use super::value::{Field, INTEGER_TOO_LONG, Value};
use super::{mend, repeats};

/// Most fields of one publish; a hostile packet of the largest size could have a hundred thousand.
const FIELDS_MAX: usize = 20_000;
/// Buffers are reused, but memory beyond this that a large publish needed is released.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Fields of each top-level item, with dotted names. A bare value is an item with one unnamed field.
#[derive(Debug, Default)]
pub struct FlatPayload {
    texts: String,
    fields: Vec<Field>,
    /// For each item, the end of its fields.
    item_ends: Vec<usize>,
    /// Dotted name of the visitor's position.
    path: String,
    /// Scratch space for finding names that stand twice.
    order: Vec<u32>,
    /// Texts that begin with [`mend::NON_FINITE_MARK`] are numbers.
    has_marks: bool,
    /// Some number is beyond all integers of 64 bits.
    has_huge: bool,
    fault: Option<&'static str>,
}

impl FlatPayload {
    pub fn items(&self) -> impl Iterator<Item = &[Field]> {
        let mut start = 0;
        self.item_ends.iter().map(move |end| {
            let item = &self.fields[start..*end];
            start = *end;
            item
        })
    }

    pub fn name(&self, field: &Field) -> &str {
        field.name_in(&self.texts)
    }

    pub fn text(&self, start: usize, end: usize) -> &str {
        &self.texts[start..end]
    }

    /// Empty if the field is no text.
    pub fn text_of(&self, field: &Field) -> &str {
        match field.value {
            Value::Text { start, end } => self.text(start, end),
            _ => "",
        }
    }

    fn clear(&mut self) {
        self.texts.clear();
        self.texts.shrink_to(KEPT_BYTES_MAX);
        self.fields.clear();
        self.fields.shrink_to(KEPT_BYTES_MAX / size_of::<Field>());
        self.item_ends.clear();
        self.item_ends.shrink_to(KEPT_BYTES_MAX / size_of::<usize>());
        self.path.clear();
        self.order.clear();
        self.order.shrink_to(KEPT_BYTES_MAX / size_of::<u32>());
        (self.has_marks, self.has_huge) = (false, false);
        self.fault = None;
    }

    fn add<E: de::Error>(&mut self, value: Value) -> Result<(), E> {
        if self.fields.len() == FIELDS_MAX {
            return Err(self.fail("too_many_fields"));
        }
        let name_start = self.texts.len();
        self.texts.push_str(&self.path);
        let meaning = Meaning::of(&self.path);
        self.fields.push(Field { name_start, name_end: self.texts.len(), meaning, value });
        Ok(())
    }

    fn add_text<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        if self.has_marks
            && let Some(number) = text.strip_prefix(mend::NON_FINITE_MARK).and_then(mend::non_finite)
        {
            return self.add(Value::Number(number));
        }
        let start = self.texts.len();
        self.texts.push_str(text);
        let end = self.texts.len();
        self.add(Value::Text { start, end })
    }

    fn fail<E: de::Error>(&mut self, fault: &'static str) -> E {
        self.fault = Some(fault);
        E::custom(fault)
    }

    fn end_item(&mut self) {
        self.item_ends.push(self.fields.len());
    }

    /// Leaves each name once in each item.
    fn settle_repeats(&mut self) -> Result<(), &'static str> {
        let mut order = std::mem::take(&mut self.order);
        let is_any = self.items().any(|item| repeats::is_any(item, &self.texts, &mut order));
        let result = if is_any { self.without_repeats(&mut order) } else { Ok(()) };
        self.order = order;
        result
    }

    fn without_repeats(&mut self, order: &mut Vec<u32>) -> Result<(), &'static str> {
        let (mut fields, mut item_ends) = (Vec::new(), Vec::new());
        for item in self.items() {
            fields.extend(repeats::settle(item, &self.texts, order).map_err(|_| "key_twice")?);
            item_ends.push(fields.len());
        }
        (self.fields, self.item_ends) = (fields, item_ends);
        Ok(())
    }
}

/// Fills `flat`, or returns the reason why the payload cannot be decoded, in one word.
pub fn flatten(payload: &[u8], format: Format, flat: &mut FlatPayload) -> Result<(), &'static str> {
    flat.clear();
    if payload.is_empty() {
        return Err("empty");
    }
    let payload = if format == Format::Cbor { payload } else { mend::trimmed(payload) };
    if let Some(number) = bare_non_finite(payload).filter(|_| format != Format::Cbor) {
        flat.fields.push(Field { name_start: 0, name_end: 0, meaning: Meaning::Nothing, value: Value::Number(number) });
        flat.end_item();
        return Ok(());
    }
    let json = match format {
        Format::Json => true,
        Format::Cbor => false,
        _ => payload.first().is_some_and(|byte| begins_json(*byte)),
    };
    if json {
        match read_json(payload, flat) {
            Err("not_json") => {
                let mended = mend::with_marked_words(payload).ok_or("not_json")?;
                flat.clear();
                flat.has_marks = true;
                read_json(mended.as_bytes(), flat)
            }
            read => read,
        }
    } else if format == Format::Auto && is_plain_text(payload) {
        Err("not_json")
    } else {
        let mut rest = payload;
        *flat = ciborium::from_reader(&mut rest).map_err(|_| "not_cbor")?;
        match flat.fault {
            Some(fault) => Err(fault),
            None if rest.is_empty() => flat.settle_repeats(),
            None => Err("not_cbor"),
        }
    }
}

fn read_json(payload: &[u8], flat: &mut FlatPayload) -> Result<(), &'static str> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let place = Place { flat, depth: 0, in_list: false };
    let result = place.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    result.map_err(|_| flat.fault.unwrap_or("not_json"))?;
    if flat.has_huge && mend::has_long_integer(payload) {
        return Err(INTEGER_TOO_LONG);
    }
    flat.settle_repeats()
}

/// Plain words such as `offline`, which are not meant as CBOR.
pub fn is_plain_text(payload: &[u8]) -> bool {
    std::str::from_utf8(payload).is_ok_and(|text| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()))
}

/// Drivers of broken sensors print values such as NaN that JSON does not know. They are readings, which the limits report.
fn bare_non_finite(payload: &[u8]) -> Option<f64> {
    // CBOR cannot both begin and end like this.
    const WORD_BYTES_MAX: usize = 32;
    let text = (payload.len() <= WORD_BYTES_MAX).then(|| std::str::from_utf8(payload).ok())??;
    mend::non_finite(text.trim())
}

pub fn begins_json(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b' ' | b'\n' | b'\r' | b'\t')
}

/// ciborium deserializes only into types, so the flat payload is one.
impl<'de> de::Deserialize<'de> for FlatPayload {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = FlatPayload::default();
        let place = Place { flat: &mut flat, depth: 0, in_list: false };
        match place.deserialize(deserializer) {
            Err(error) if flat.fault.is_none() => Err(error),
            // Our own reasons are in `flat`; they are reported instead of the library's error.
            _ => Ok(flat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_held(flat: &FlatPayload) -> usize {
        flat.texts.capacity()
            + flat.fields.capacity() * size_of::<Field>()
            + flat.item_ends.capacity() * size_of::<usize>()
            + flat.order.capacity() * size_of::<u32>()
    }

    fn cbor(start: &[u8], repeated: &[u8], times: usize) -> Vec<u8> {
        [start, &repeated.repeat(times)].concat()
    }

    #[test]
    fn no_payload_takes_more_than_a_few_times_its_size() {
        const PACKET: usize = 256 * 1024;
        let long_path = format!("{{\"{}\":{{{}\"z\":1}}}}", "n".repeat(100_000), "\"a\":1,".repeat(20_000));
        let many = format!("[{}1]", "1,".repeat(PACKET / 2 - 2));
        let nulls = format!("[{}1]", "null,".repeat(PACKET / 5 - 2));
        let fields = format!("{{{}\"z\":1}}", "\"a\":1,".repeat(19_999));
        let text = format!("\"{}\"", "\\u00e4".repeat(PACKET / 6 - 2));
        let json = [long_path, many, nulls, fields, text, "{\"a\":".repeat(40_000), "[".repeat(PACKET)];
        let length_lies = [
            // A text, bytes, a list and a map that each claim 2^62 elements, and an endless text in pieces.
            cbor(&[0x7b, 0x40, 0, 0, 0, 0, 0, 0, 0], b"x", 1000),
            cbor(&[0x5b, 0x40, 0, 0, 0, 0, 0, 0, 0], b"x", 1000),
            cbor(&[0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0], &[1], 1000),
            cbor(&[0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0], &[0x61, b'a', 1], 1000),
            cbor(&[0x7f], &[0x7b, 0x40, 0, 0, 0, 0, 0, 0, 0], 100),
            // Deep nesting of tags, of lists and of maps.
            cbor(&[], &[0xc1], PACKET),
            cbor(&[], &[0x9f], PACKET),
            cbor(&[], &[0xbf, 0x61, b'a'], PACKET / 3),
            cbor(&[0xbf], &[0x60, 1], PACKET / 2),
            cbor(&[0x9f], &[1], PACKET),
        ];
        let mut flat = FlatPayload::default();
        for payload in json.iter().map(|text| text.as_bytes()).chain(length_lies.iter().map(Vec::as_slice)) {
            let _ = flatten(payload, Format::Auto, &mut flat);
            assert!(bytes_held(&flat) < 8 << 20, "{} for {:?}", bytes_held(&flat), &payload[..12]);
        }
        flatten(b"1", Format::Auto, &mut flat).expect("a number");
        assert!(bytes_held(&flat) <= 4 * KEPT_BYTES_MAX, "given back");
    }
}

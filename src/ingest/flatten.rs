//! Turns a payload into a flat list of fields; JSON and CBOR drive the same visitor.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::meaning::Meaning;
use super::route::Format;
use super::value::{Field, INTEGER_TOO_LONG, Value};
use super::{NAME_BYTES_MAX, mend, repeats};

/// No telemetry is nested more deeply than this.
const DEPTH_MAX: usize = 16;
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

/// The visitor's position: at the top (depth 0), in a list at the top, or within an item.
struct Place<'a> {
    flat: &'a mut FlatPayload,
    depth: usize,
    in_list: bool,
}

impl Place<'_> {
    fn scalar<E: de::Error>(self, value: Value) -> Result<(), E> {
        self.flat.add(value)?;
        self.end();
        Ok(())
    }

    /// Ends an item if this is the top or the list there.
    fn end(self) {
        if self.depth == 0 {
            self.flat.end_item();
        }
    }

    /// Descends one step, under a name. A field's name is its whole path, so the length is bounded here: a long path above many fields
    /// would be copied for each of them.
    fn enter<T, E: de::Error>(&mut self, name: &str, read: impl FnOnce(Place<'_>) -> Result<T, E>) -> Result<T, E> {
        if self.depth == DEPTH_MAX {
            return Err(self.flat.fail("too_deep"));
        }
        let parent_len = self.flat.path.len();
        if parent_len > 0 {
            self.flat.path.push('.');
        }
        if self.flat.path.len() + name.len() > NAME_BYTES_MAX {
            return Err(self.flat.fail("name_too_long"));
        }
        self.flat.path.push_str(name);
        let place = Place { flat: self.flat, depth: self.depth + 1, in_list: false };
        let result = read(place);
        self.flat.path.truncate(parent_len);
        result
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
        match i64::try_from(value) {
            Ok(integer) => self.scalar(Value::Integer(integer)),
            Err(_) => self.scalar(Value::Wide { beyond: value, is_negative: false }),
        }
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<(), E> {
        match Value::of_integer(value) {
            Some(value) => self.scalar(value),
            None => Err(self.flat.fail(INTEGER_TOO_LONG)),
        }
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<(), E> {
        self.visit_i128(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.flat.has_huge |= value.abs() >= u64::MAX as f64;
        self.scalar(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.flat.add_text(text)?;
        self.end();
        Ok(())
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<(), E> {
        self.end();
        Ok(())
    }

    /// Null: the field is absent.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.end();
        Ok(())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            self.enter(&name, |place| map.next_value_seed(place))?;
        }
        self.end();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        if self.in_list {
            return Err(self.flat.fail("nested_array"));
        }
        if self.depth == 0 {
            loop {
                let place = Place { flat: self.flat, depth: 0, in_list: true };
                if list.next_element_seed(place)?.is_none() {
                    return Ok(());
                }
            }
        }
        let mut index = 0u32;
        while self.enter(itoa::Buffer::new().format(index), |place| list.next_element_seed(place))?.is_some() {
            index += 1;
        }
        Ok(())
    }

    /// A CBOR tag is ignored: what it says of its content (a time, a decimal) is given here by the field's name.
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

/// A key, borrowed if the text has no escapes. CBOR's integer keys become names too.
pub struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(number.to_string()))
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

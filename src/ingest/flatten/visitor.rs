//! What serde is driven with: it visits a payload and adds its fields to the flat one.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::FlatPayload;
use super::name::Name;
use crate::ingest::NAME_BYTES_MAX;
use crate::ingest::value::{INTEGER_TOO_LONG, Value};

/// No telemetry is nested more deeply than this.
const DEPTH_MAX: usize = 16;

/// The visitor's position: at the top (depth 0), in a list at the top, or within an item.
pub struct Place<'a> {
    pub flat: &'a mut FlatPayload,
    pub depth: usize,
    pub in_list: bool,
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

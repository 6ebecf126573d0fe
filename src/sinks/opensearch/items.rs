//! Reads the answer of `_bulk` item by item, and no further than it is about the documents that were sent.
//!
//! Whoever is on the way may send an answer of any length; of no more items than documents is anything kept.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    create: Created<'a>,
}

/// What is said of one document.
#[derive(Deserialize)]
pub struct Created<'a> {
    #[serde(borrow)]
    _id: Cow<'a, str>,
    pub status: u16,
    pub error: Option<ItemError>,
    /// Of data streams of Elasticsearch that put what does not fit somewhere else, and say that all is well.
    #[serde(borrow)]
    pub failure_store: Option<Cow<'a, str>>,
}

/// Of a document, or of a whole request.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ItemError {
    pub r#type: String,
    pub reason: Option<String>,
    pub caused_by: Option<Cause>,
}

#[derive(Deserialize)]
pub struct Cause {
    pub reason: Option<String>,
}

/// What each item of an answer means, if they are those of the documents with these ids, in their order. `None` if the answer is not about exactly these: cut off, of
/// something in between, or of another request.
pub fn read<T>(body: &[u8], ids: &[String], of_item: &dyn Fn(Created<'_>) -> T) -> Option<Vec<T>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let verdicts = Whole(&About { ids, of_item }).deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(verdicts)
}

struct About<'a, T> {
    ids: &'a [String],
    of_item: &'a dyn Fn(Created<'_>) -> T,
}

struct Whole<'a, T>(&'a About<'a, T>);

impl<'de, T> DeserializeSeed<'de> for Whole<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T> Visitor<'de> for Whole<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an answer of _bulk")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut verdicts = None;
        while let Some(field) = map.next_key::<String>()? {
            match (&*field, &verdicts) {
                ("items", None) => verdicts = Some(map.next_value_seed(Items(self.0))?),
                ("items", Some(_)) => return Err(Error::duplicate_field("items")),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        verdicts.ok_or_else(|| Error::missing_field("items"))
    }
}

struct Items<'a, T>(&'a About<'a, T>);

impl<'de, T> DeserializeSeed<'de> for Items<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T> Visitor<'de> for Items<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} items", self.0.ids.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let About { ids, of_item } = *self.0;
        let mut verdicts = Vec::with_capacity(ids.len());
        for id in ids {
            match seq.next_element::<Item<'de>>()? {
                Some(Item { create }) if *create._id == **id => verdicts.push(of_item(create)),
                Some(_) => return Err(Error::custom("an item is about another document")),
                None => return Err(Error::invalid_length(verdicts.len(), &self)),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(verdicts),
            Some(_) => Err(Error::custom("there are more items than documents")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Of an answer that goes on for megabytes, no more is made than of one that is right.
    #[test]
    fn an_answer_is_read_no_further_than_it_is_about_what_was_sent() {
        let ids: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
        let made = Cell::new(0);
        let of_item = |created: Created<'_>| {
            made.set(made.get() + 1);
            created.status
        };
        let item = |id: &str| format!("{{\"create\":{{\"_id\":\"{id}\",\"status\":201}}}}");
        let answer = |items: &[String]| format!("{{\"errors\":false,\"items\":[{}]}}", items.join(","));
        let read = |body: String| {
            made.set(0);
            (read(body.as_bytes(), &ids, &of_item), made.get())
        };
        assert_eq!(read(answer(&[item("a"), item("b")])), (Some(vec![201, 201]), 2));
        let many: Vec<String> = std::iter::repeat_n(item("a"), 10_000).collect();
        assert_eq!(read(answer(&many)), (None, 1), "the second is about another one");
        let more = [vec![item("a"), item("b")], many].concat();
        assert_eq!(read(answer(&more)), (None, 2));
        assert_eq!(read(answer(&[item("a"), item("b")]) + "x"), (None, 2));
        let twice = answer(&[item("a"), item("b")]).replace("\"errors\":false", "\"items\":[]");
        assert_eq!(read(twice).0, None);
    }
}

//! A payload as a tree, whatever it was written in: what paths lead into.
//!
//! The nodes stand in one list, each before those below it, so a publish costs no allocation once the buffers have their size.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::flatten::{KEPT_BYTES_MAX, Name, begins_json, is_plain_text};
use super::mend;
use super::route::Format;
use super::value::{INTEGER_TOO_LONG, Value};
use crate::core::path::Step;

/// No telemetry is nested more deeply than this.
const DEPTH_MAX: usize = 16;
/// Most values of one publish.
const NODES_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Null, or superseded by another one of its name.
    Nothing,
    List,
    Object,
    Scalar(Value),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    name_start: usize,
    name_end: usize,
    content: Content,
    /// The first node that is not below this one.
    end: usize,
}

/// Place of a node.
pub type NodeId = usize;

#[derive(Debug, Default)]
pub struct Document {
    texts: String,
    nodes: Vec<Node>,
    has_marks: bool,
    has_huge: bool,
    fault: Option<&'static str>,
}

impl Document {
    pub const ROOT: NodeId = 0;

    pub fn clear(&mut self) {
        self.texts.clear();
        self.texts.shrink_to(KEPT_BYTES_MAX);
        self.nodes.clear();
        self.nodes.shrink_to(KEPT_BYTES_MAX / size_of::<Node>());
        (self.has_marks, self.has_huge, self.fault) = (false, false, None);
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn content(&self, node: NodeId) -> Content {
        self.nodes[node].content
    }

    pub fn name(&self, node: NodeId) -> &str {
        &self.texts[self.nodes[node].name_start..self.nodes[node].name_end]
    }

    pub fn text(&self, node: NodeId) -> Option<&str> {
        match self.content(node) {
            Content::Scalar(Value::Text { start, end }) => Some(&self.texts[start..end]),
            _ => None,
        }
    }

    /// A number or a boolean, as a double.
    pub fn number(&self, node: NodeId) -> Option<f64> {
        match self.content(node) {
            Content::Scalar(value) => value.number().map(|(number, _)| number),
            _ => None,
        }
    }

    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let end = self.nodes[node].end;
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let child = next;
            next = self.nodes.get(child).map_or(end, |node| node.end);
            (child < end).then_some(child)
        })
    }

    /// Nodes below this one, at any depth.
    pub fn below(&self, node: NodeId) -> std::ops::Range<NodeId> {
        node + 1..self.nodes[node].end
    }

    /// What one step of a path leads to, if that is one node.
    fn step(&self, from: NodeId, step: &Step) -> Option<NodeId> {
        match (step, self.content(from)) {
            (Step::Name(name), Content::Object) => {
                let is_there = |child: &NodeId| self.content(*child) != Content::Nothing && self.name(*child) == name;
                self.children(from).find(is_there)
            }
            (Step::Index(index), Content::List) => self.children(from).nth(*index),
            _ => None,
        }
    }

    /// What a path without `*` leads to. Null is nothing.
    pub fn find(&self, from: NodeId, steps: &[Step]) -> Option<NodeId> {
        let node = steps.iter().try_fold(from, |node, step| self.step(node, step))?;
        Some(node).filter(|node| self.content(*node) != Content::Nothing)
    }

    /// Everything that a path leads to, with the node whose name tells it from the others: that of the last `*` that went through an object,
    /// or else of the last one at all.
    pub fn find_all(
        &self,
        from: NodeId,
        steps: &[Step],
        key: Option<NodeId>,
        found: &mut Vec<(NodeId, Option<NodeId>)>,
    ) {
        let Some((step, rest)) = steps.split_first() else {
            if self.content(from) != Content::Nothing {
                found.push((from, key));
            }
            return;
        };
        match (step, self.content(from)) {
            (Step::Members, Content::Object) => {
                self.children(from).for_each(|child| self.find_all(child, rest, Some(child), found));
            }
            (Step::Elements, Content::List) => {
                self.children(from).for_each(|child| self.find_all(child, rest, key.or(Some(child)), found));
            }
            _ => {
                if let Some(child) = self.step(from, step) {
                    self.find_all(child, rest, key, found);
                }
            }
        }
    }

    /// Begins an object or a list; what is added until [`Self::close`] is below it.
    pub fn open(&mut self, name: &str, content: Content) -> Result<NodeId, &'static str> {
        if self.nodes.len() == NODES_MAX {
            return Err("too_many_fields");
        }
        let name_start = self.texts.len();
        self.texts.push_str(name);
        let node = self.nodes.len();
        self.nodes.push(Node { name_start, name_end: self.texts.len(), content, end: node + 1 });
        Ok(node)
    }

    pub fn close(&mut self, node: NodeId) {
        self.nodes[node].end = self.nodes.len();
    }

    pub fn add(&mut self, name: &str, value: Value) -> Result<(), &'static str> {
        self.open(name, Content::Scalar(value)).map(|_| ())
    }

    pub fn add_text(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        let start = self.texts.len();
        self.texts.push_str(text);
        let end = self.texts.len();
        self.add(name, Value::Text { start, end })
    }

    /// Leaves each name once in each object, see [`super::repeats`].
    pub fn settle_repeats(&mut self) -> Result<(), &'static str> {
        let mut children: Vec<NodeId> = Vec::new();
        for node in 0..self.nodes.len() {
            if self.content(node) != Content::Object {
                continue;
            }
            children.clear();
            children.extend(self.children(node));
            // Sorted, so that a hostile payload costs no more than that.
            children.sort_by(|a, b| self.name(*a).cmp(self.name(*b)).then(a.cmp(b)));
            for pair in children.windows(2) {
                if self.name(pair[0]) == self.name(pair[1]) {
                    self.supersede(pair[0], pair[1])?;
                }
            }
        }
        Ok(())
    }

    fn supersede(&mut self, earlier: NodeId, later: NodeId) -> Result<(), &'static str> {
        let is_same = match (self.content(earlier), self.content(later)) {
            (Content::Nothing, _) | (_, Content::Nothing) => return Ok(()),
            (Content::Scalar(Value::Text { .. }), Content::Scalar(Value::Text { .. })) => true,
            (Content::Scalar(a), Content::Scalar(b)) => a == b,
            _ => false,
        };
        self.nodes[earlier].content = Content::Nothing;
        if is_same { Ok(()) } else { Err("key_twice") }
    }
}

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

    /// A CBOR tag is ignored, as by [`super::flatten`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::path::Path;

    fn document(json: &str) -> Document {
        let mut document = Document::default();
        read_json(json.as_bytes(), &mut document).expect("JSON");
        document
    }

    fn found(json: &str, path: &str) -> Vec<(String, String)> {
        let document = document(json);
        let mut found = Vec::new();
        document.find_all(Document::ROOT, &Path::parse(path).expect("a path").steps, None, &mut found);
        let name = |node: Option<NodeId>| node.map(|node| document.name(node).to_owned()).unwrap_or_default();
        found.into_iter().map(|(node, key)| (document.name(node).to_owned(), name(key))).collect()
    }

    #[test]
    fn paths_lead_into_a_document() {
        let json = r#"{"a":{"b-c":[1,{"x":2}]},"l":[{"k":1},{"k":2}],"n":null}"#;
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(found(json, "$.a.\"b-c\"[1].x"), pairs(&[("x", "")]));
        assert_eq!(found(json, "$.l[*].k"), pairs(&[("k", "0"), ("k", "1")]));
        assert_eq!(found(json, "$.*"), pairs(&[("a", "a"), ("l", "l")]));
        assert_eq!(found(json, "$.*[*].k"), pairs(&[("k", "l"), ("k", "l")]));
        for nothing in ["$.n", "$.l.k", "$.a[0]", "$.l[2]", "$.x.y"] {
            assert_eq!(found(json, nothing), [], "{nothing}");
        }
    }

    #[test]
    fn a_name_stands_once() {
        assert_eq!(found(r#"{"a":"x","a":"y"}"#, "$.*"), [("a".to_owned(), "a".to_owned())]);
        let mut document = Document::default();
        assert_eq!(read_json(br#"{"a":1,"a":2}"#, &mut document), Err("key_twice"));
        document.clear();
        assert_eq!(read_json(br#"[{"a":{},"a":2}]"#, &mut document), Err("key_twice"));
    }
}

//! Turns a document into readings, by what the route says of where things are in it.

mod metrics;
mod naming;

use super::NAME_BYTES_MAX;
use super::document::{Content, Document, NodeId};
use super::formats::Source;
use super::meaning::Meaning;
use super::readings::{self, ATTRIBUTES_BYTES_MAX, UNNAMED_METRIC};
use super::roles::{self, Role, Times};
use super::route::Matched;
use super::time;
use super::time_format::{TimeFormat, Unread};
use super::value::Value;
use crate::core::path::{Path, Root};
use crate::core::reading::{Readings, Rounding, TimeQuality, pack_attribute};

/// A publish, and what its topic says.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    pub source: Source<'a>,
    pub topic: &'a Matched<'a>,
    pub time_quality: TimeQuality,
}

/// Buffers that are used again for every publish.
#[derive(Debug, Default)]
pub struct Locator {
    pub document: Document,
    elements: Vec<Found>,
    /// Nodes that the route has given a meaning, so that they are no metrics or attributes as well.
    is_used: Vec<bool>,
    scratch: Scratch,
}

/// A node, and the one whose name tells it from the others.
type Found = (NodeId, Option<NodeId>);

#[derive(Debug, Default)]
struct Scratch {
    found: Vec<Found>,
    device: String,
    /// The metric, or what the names of metrics begin with.
    prefix: String,
    metric: String,
    attributes: Vec<u8>,
}

impl Locator {
    /// Appends the readings of the document.
    pub fn make(&mut self, publish: &Publish<'_>, readings: &mut Readings) -> Result<(), &'static str> {
        let Locator { document, elements, is_used, scratch } = self;
        is_used.clear();
        is_used.resize(document.len(), false);
        elements.clear();
        match &publish.source.places.each {
            Some(path) => document.find_all(Document::ROOT, &path.steps, None, elements),
            // As everywhere, a list at the top is several publishes in one.
            None if document.content(Document::ROOT) == Content::List => {
                elements.extend(document.children(Document::ROOT).map(|child| (child, Some(child))));
            }
            None => elements.push((Document::ROOT, None)),
        }
        if elements.is_empty() {
            return if publish.source.places.may_be_empty { Ok(()) } else { Err("no_element") };
        }
        let (before, mark) = (readings.len(), readings.mark());
        for &(node, key) in elements.iter() {
            let payload = if publish.source.places.each.is_some() { Document::ROOT } else { node };
            let mut element = Element { document, publish, is_used, scratch, payload, node, key };
            element.make(readings)?;
            if readings.repeated_bytes_since(mark) > readings::repeated_bytes_max(publish.source.payload.len()) {
                return Err("expands");
            }
        }
        readings.sort_since(mark);
        if readings.len() > before { Ok(()) } else { Err("no_number") }
    }
}

struct Element<'a> {
    document: &'a Document,
    publish: &'a Publish<'a>,
    is_used: &'a mut Vec<bool>,
    scratch: &'a mut Scratch,
    /// What `$` stands for.
    payload: NodeId,
    /// What `@` stands for.
    node: NodeId,
    key: Option<NodeId>,
}

/// What all readings of an element have in common.
#[derive(Clone, Copy)]
struct Common {
    measured_at_ms: i64,
    sequence: Option<u64>,
    /// Whether topic or route say how the metric is called.
    is_named: bool,
}

impl Element<'_> {
    fn make(&mut self, readings: &mut Readings) -> Result<(), &'static str> {
        let places = self.publish.source.places;
        self.name_device()?;
        let is_named = self.name_metric()?;
        for path in &places.ignore {
            self.use_all(path);
        }
        let value = places.value.as_ref().map(|path| self.find(path).ok_or("no_value")).transpose()?;
        let times = self.times()?;
        let measured_at_ms = self.time(&times)?;
        let sequence = match &places.sequence {
            Some(path) => self.document.find(self.root(path), &path.steps),
            None => self.child("seq"),
        };
        let is_sequence = |node: &NodeId| scalar(self.document, *node).and_then(roles::as_sequence).is_some();
        let sequence = sequence.filter(is_sequence).and_then(|node| {
            self.is_used[node] = true;
            scalar(self.document, node).and_then(roles::as_sequence)
        });
        let common = Common { measured_at_ms, sequence, is_named };
        self.use_paths();
        self.pack_attributes(&times)?;
        if let Some(node) = value {
            let (number, rounding) = self.number(node).ok_or("not_a_number")?;
            self.scratch.metric.clear();
            let own = places.value.as_ref().and_then(Path::last_name).unwrap_or(UNNAMED_METRIC);
            let name = if is_named { self.scratch.prefix.as_str() } else { own };
            self.scratch.metric.push_str(name);
            self.push(common, number, rounding, readings)?;
        }
        match &places.metrics {
            Some(metrics) => metrics.iter().try_for_each(|measure| self.make_measure(common, measure, readings)),
            None => self.make_all(common, value, &times, readings),
        }
    }

    /// What a path without `*` leads to; it is used then.
    fn find(&mut self, path: &Path) -> Option<NodeId> {
        let found = self.document.find(self.root(path), &path.steps)?;
        self.is_used[found] = true;
        Some(found)
    }

    fn root(&self, path: &Path) -> NodeId {
        match path.root {
            Root::Payload => self.payload,
            Root::Element => self.node,
        }
    }

    fn child(&self, name: &str) -> Option<NodeId> {
        if self.document.content(self.node) != Content::Object {
            return None;
        }
        self.document.children(self.node).find(|child| self.document.name(*child) == name)
    }

    /// Gives a meaning to everything that a path leads to, and all below.
    fn use_all(&mut self, path: &Path) {
        self.find_all(path);
        for at in 0..self.scratch.found.len() {
            let (node, _) = self.scratch.found[at];
            self.is_used[node] = true;
            self.document.below(node).for_each(|below| self.is_used[below] = true);
        }
    }

    fn find_all(&mut self, path: &Path) {
        self.scratch.found.clear();
        self.document.find_all(self.root(path), &path.steps, None, &mut self.scratch.found);
    }

    /// What is named elsewhere is no attribute of its own.
    fn use_paths(&mut self) {
        for measure in self.publish.source.places.metrics.iter().flatten() {
            self.find_all(&measure.path);
            for &(node, _) in &self.scratch.found {
                self.is_used[node] |= matches!(self.document.content(node), Content::Scalar(_));
            }
        }
    }

    /// The number that a node holds, or that its text stands for.
    fn number(&self, node: NodeId) -> Option<(f64, Option<Rounding>)> {
        match self.document.text(node) {
            Some(text) => self.publish.source.places.numbers().read(text).map(|number| (number, None)),
            None => scalar(self.document, node)?.number(),
        }
    }

    /// Times under the usual names, if the route names none.
    fn times(&self) -> Result<Times, &'static str> {
        let mut times = Times::default();
        if self.publish.source.places.time.is_none() {
            self.walk(&mut |name, node, value| {
                times.note(node, Meaning::of(name), value, || self.document.text(node).unwrap_or_default());
                Ok(())
            })?;
        }
        Ok(times)
    }

    fn time(&mut self, times: &Times) -> Result<i64, &'static str> {
        let received_at_ms = self.publish.source.received_at_ms;
        let Source { places, .. } = self.publish.source;
        let found = match (&places.time, times.of_item()) {
            (Some(path), _) => self.find(path),
            (None, Some(ms)) => return Ok(ms),
            // With the route's zone or format, a usual name may hold a time that cannot be read otherwise.
            (None, None) if places.zone_s.is_some() || places.time_format != TimeFormat::Auto => self.usual_time(),
            (None, None) => None,
        };
        // A device that has no time yet leaves it out.
        let Some(node) = found else { return Ok(received_at_ms) };
        let number = scalar(self.document, node).filter(|value| !matches!(value, Value::Boolean(_)));
        let read = match (self.document.text(node), number.and_then(Value::number)) {
            (Some(text), _) => places.time_format.read_text(text, places.zone_s),
            (None, Some((number, _))) => places.time_format.read_number(number),
            (None, None) => Err(Unread::NoTime),
        };
        read.map_err(|unread| match unread {
            Unread::NoTime => "no_time",
            Unread::NoZone => "no_zone",
        })
    }

    fn usual_time(&mut self) -> Option<NodeId> {
        let is_usual = |child: &NodeId| time::time_field(self.document.name(*child)).is_some();
        let is_object = self.document.content(self.node) == Content::Object;
        let found = is_object.then(|| self.document.children(self.node).find(is_usual)).flatten()?;
        self.is_used[found] = true;
        Some(found)
    }

    fn pack_attributes(&mut self, times: &Times) -> Result<(), &'static str> {
        let mut packed = std::mem::take(&mut self.scratch.attributes);
        packed.clear();
        for (name, text) in &self.publish.topic.attributes {
            pack_attribute(&mut packed, name, text);
        }
        let result = match &self.publish.source.places.attributes {
            Some(_) => self.pack_named(&mut packed),
            None => self.pack_texts(&mut packed, times),
        };
        self.scratch.attributes = packed;
        result
    }

    fn pack_named(&mut self, packed: &mut Vec<u8>) -> Result<(), &'static str> {
        let Publish { source: Source { places, .. }, topic, .. } = *self.publish;
        for attribute in places.attributes.iter().flatten() {
            self.find_all(&attribute.path);
            for &(node, key) in &self.scratch.found {
                let own = key.map(|key| self.document.name(key)).or(attribute.path.last_name()).unwrap_or("value");
                let name = attribute.name.as_deref().unwrap_or(own);
                let mut text = String::new();
                if push_scalar(&mut text, self.document, node) {
                    readings::pack_own(packed, topic, &self.scratch.device, name, &text);
                }
                self.is_used[node] = true;
            }
        }
        if packed.len() > ATTRIBUTES_BYTES_MAX { Err("attributes_too_long") } else { Ok(()) }
    }

    /// Everything that is neither a number nor used otherwise.
    fn pack_texts(&self, packed: &mut Vec<u8>, times: &Times) -> Result<(), &'static str> {
        let Publish { source: Source { places, .. }, topic, .. } = *self.publish;
        self.walk(&mut |name, node, value| {
            if self.is_used[node] {
                return Ok(());
            }
            let text = self.document.text(node).unwrap_or_default();
            let is_number = matches!(value, Value::Text { .. }) && places.numbers().read(text).is_some();
            if is_number || roles::role(node, Meaning::of(name), value, || text, times) != Role::Attribute {
                return Ok(());
            }
            let mut shown = String::new();
            push_scalar(&mut shown, self.document, node);
            readings::pack_own(packed, topic, &self.scratch.device, name, &shown);
            if packed.len() > ATTRIBUTES_BYTES_MAX { Err("attributes_too_long") } else { Ok(()) }
        })
    }

    /// Each scalar of the element, under its dotted name.
    fn walk(&self, see: &mut See<'_>) -> Result<(), &'static str> {
        walk_below(self.document, self.node, &mut String::new(), see)
    }
}

/// Is shown the dotted name of a scalar, its node and its value.
type See<'a> = dyn FnMut(&str, NodeId, Value) -> Result<(), &'static str> + 'a;

fn walk_below(document: &Document, node: NodeId, name: &mut String, see: &mut See<'_>) -> Result<(), &'static str> {
    match document.content(node) {
        Content::Nothing => Ok(()),
        Content::Scalar(value) => see(name, node, value),
        Content::List | Content::Object => document.children(node).try_for_each(|child| {
            let parent_len = name.len();
            if parent_len > 0 {
                name.push('.');
            }
            // A path above many fields is copied for each of them.
            if name.len() + document.name(child).len() > NAME_BYTES_MAX {
                return Err("name_too_long");
            }
            name.push_str(document.name(child));
            walk_below(document, child, name, see)?;
            name.truncate(parent_len);
            Ok(())
        }),
    }
}

fn scalar(document: &Document, node: NodeId) -> Option<Value> {
    match document.content(node) {
        Content::Scalar(value) => Some(value),
        _ => None,
    }
}

/// Appends a scalar as a text. Returns whether it is one.
fn push_scalar(out: &mut String, document: &Document, node: NodeId) -> bool {
    match scalar(document, node) {
        Some(Value::Text { .. }) => out.push_str(document.text(node).unwrap_or_default()),
        Some(value) => value.push_number(out),
        None => return false,
    }
    true
}

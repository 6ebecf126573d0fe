//! Turns a document into readings, by what the route says of where things are in it.

use super::NAME_BYTES_MAX;
use super::document::{Content, Document, NodeId};
use super::formats::Source;
use super::numbers::Numbers;
use super::places::Measure;
use super::readings::{self, ATTRIBUTES_BYTES_MAX, RESERVED_NAME, UNNAMED_METRIC};
use super::roles::{self, Role, Times};
use super::route::Matched;
use super::time;
use super::time_format::{TimeFormat, Unread};
use super::value::Value;
use crate::core::detection::alert;
use crate::core::path::{Part, Path, Root, Text};
use crate::core::reading::{Attributes, Reading, Readings, Rounding, TimeQuality, pack_attribute};

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
        let times = self.times();
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

    fn name_device(&mut self) -> Result<(), &'static str> {
        let mut device = std::mem::take(&mut self.scratch.device);
        device.clear();
        let is_filled = match &self.publish.source.places.device {
            Some(text) => self.fill(text, &mut device),
            None => {
                device.push_str(self.publish.topic.device);
                true
            }
        };
        self.scratch.device = device;
        match self.scratch.device.as_str() {
            "" => Err("no_device"),
            _ if !is_filled => Err("no_device"),
            device if device.len() > NAME_BYTES_MAX => Err("name_too_long"),
            device if device.chars().any(char::is_control) => Err("no_device"),
            device if alert::is_own_device(device) => Err(RESERVED_NAME),
            _ => Ok(()),
        }
    }

    /// Whether there is a name of the metric, or one that all names of metrics begin with.
    fn name_metric(&mut self) -> Result<bool, &'static str> {
        let mut prefix = std::mem::take(&mut self.scratch.prefix);
        prefix.clear();
        let is_filled = match &self.publish.source.places.metric {
            Some(text) => self.fill(text, &mut prefix),
            None => {
                push_levels(&mut prefix, self.publish.topic.metric);
                true
            }
        };
        let is_named = !prefix.is_empty();
        self.scratch.prefix = prefix;
        if is_filled && (is_named || self.publish.source.places.metric.is_none()) {
            Ok(is_named)
        } else {
            Err("no_metric")
        }
    }

    /// Appends the text with everything filled in. Returns whether all of it was there.
    fn fill(&mut self, text: &Text, out: &mut String) -> bool {
        text.0.iter().all(|part| match part {
            Part::Literal(literal) => {
                out.push_str(literal);
                true
            }
            Part::Level(name) => push_level(out, self.publish.topic, name),
            Part::Key => self.key.is_some_and(|key| {
                out.push_str(self.document.name(key));
                true
            }),
            Part::Place(path) => self.find(path).is_some_and(|node| push_scalar(out, self.document, node)),
        })
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
            Some(text) => self.publish.source.places.numbers.read(text).map(|number| (number, None)),
            None => scalar(self.document, node)?.number(),
        }
    }

    /// Times under the usual names, if the route names none.
    fn times(&self) -> Times {
        let mut times = Times::default();
        if self.publish.source.places.time.is_none() {
            self.walk(&mut |name, node, value| {
                times.note(node, name, value, self.document.text(node).unwrap_or_default());
                Ok(())
            })
            .expect("taking note cannot fail");
        }
        times
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
            let text = self.document.text(node).unwrap_or_default();
            let is_number = matches!(value, Value::Text { .. }) && places.numbers.read(text).is_some();
            if self.is_used[node] || is_number || roles::role(node, name, value, text, times) != Role::Attribute {
                return Ok(());
            }
            let mut shown = String::new();
            push_scalar(&mut shown, self.document, node);
            readings::pack_own(packed, topic, &self.scratch.device, name, &shown);
            if packed.len() > ATTRIBUTES_BYTES_MAX { Err("attributes_too_long") } else { Ok(()) }
        })
    }

    /// Every number that has no other meaning.
    fn make_all(
        &mut self,
        common: Common,
        value: Option<NodeId>,
        times: &Times,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        let only = match value {
            Some(_) => None,
            None => self.only_metric(common.is_named),
        };
        let (document, numbers) = (self.document, self.publish.source.places.numbers);
        walk_below(document, self.node, &mut String::new(), &mut |name, node, value| {
            let text = document.text(node).unwrap_or_default();
            let role = roles::role(node, name, value, text, times);
            let is_metric = match value {
                Value::Text { .. } => numbers != Numbers::Strict && role == Role::Attribute,
                _ => role == Role::Metric,
            };
            if self.is_used[node] || !(is_metric || only == Some(node)) {
                return Ok(());
            }
            let Some((number, rounding)) = self.number(node) else { return Ok(()) };
            self.name_below(common.is_named, if only == Some(node) { "" } else { name });
            self.push(common, number, rounding, readings)
        })
    }

    /// If the metric has a name, the field that is its value.
    fn only_metric(&self, is_named: bool) -> Option<NodeId> {
        if !is_named || matches!(self.document.content(self.node), Content::Scalar(_)) {
            return None;
        }
        let prefix = self.scratch.prefix.as_str();
        let is_number = |node: &NodeId| !self.is_used[*node] && self.number(*node).is_some();
        let mut named = [Some("value"), Some(prefix), prefix.rsplit('.').next()].into_iter().flatten();
        named.find_map(|name| self.child(name).filter(is_number))
    }

    fn make_measure(&mut self, common: Common, measure: &Measure, readings: &mut Readings) -> Result<(), &'static str> {
        self.find_all(&measure.path);
        let found = std::mem::take(&mut self.scratch.found);
        let result = found.iter().try_for_each(|&(node, key)| self.make_found(common, measure, (node, key), readings));
        self.scratch.found = found;
        result
    }

    fn make_found(
        &mut self,
        common: Common,
        measure: &Measure,
        (node, key): Found,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        if !matches!(self.document.content(node), Content::Scalar(_)) {
            return self.make_group(common, measure, node, readings);
        }
        let Some(number) = self.number(node) else { return Ok(()) };
        let (number, rounding) = measure.scaled(number);
        let own = key.map(|key| self.document.name(key)).or(measure.path.last_name()).unwrap_or("");
        match &measure.name {
            Some(name) => {
                self.scratch.metric.clear();
                self.scratch.metric.push_str(name);
            }
            None => self.name_below(common.is_named, own),
        }
        self.push(common, number, rounding, readings)
    }

    /// All numbers below a node.
    fn make_group(
        &mut self,
        common: Common,
        measure: &Measure,
        node: NodeId,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        walk_below(self.document, node, &mut String::new(), &mut |name, node, _| {
            let Some(number) = self.number(node).filter(|_| !self.is_used[node]) else { return Ok(()) };
            let (number, rounding) = measure.scaled(number);
            self.name_below(common.is_named, name);
            self.push(common, number, rounding, readings)
        })
    }

    /// The metric's full name: that of topic or route, if there is one, then that of the field.
    fn name_below(&mut self, is_named: bool, own: &str) {
        let Scratch { metric, prefix, .. } = &mut *self.scratch;
        metric.clear();
        if is_named {
            metric.push_str(prefix);
        }
        if !metric.is_empty() && !own.is_empty() {
            metric.push('.');
        }
        metric.push_str(own);
        if metric.is_empty() {
            metric.push_str(UNNAMED_METRIC);
        }
    }

    fn push(
        &self,
        common: Common,
        value: f64,
        rounding: Option<Rounding>,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        let Scratch { device, metric, attributes, .. } = &*self.scratch;
        if metric.is_empty() || metric.chars().any(char::is_control) {
            return Err("no_metric");
        }
        if metric.len() > NAME_BYTES_MAX {
            return Err("name_too_long");
        }
        if alert::is_own_metric(metric) {
            return Err(RESERVED_NAME);
        }
        readings.push(&Reading {
            device,
            metric,
            value,
            rounding,
            measured_at_ms: common.measured_at_ms,
            received_at_ms: self.publish.source.received_at_ms,
            time_quality: self.publish.time_quality,
            device_time: None,
            sequence: common.sequence,
            attributes: Attributes::from_packed(attributes).expect("packed here"),
        });
        Ok(())
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

impl Measure {
    fn scaled(&self, (number, rounding): (f64, Option<Rounding>)) -> (f64, Option<Rounding>) {
        match self.factor == 1.0 && self.offset == 0.0 {
            true => (number, rounding),
            false => (number * self.factor + self.offset, None),
        }
    }
}

fn scalar(document: &Document, node: NodeId) -> Option<Value> {
    match document.content(node) {
        Content::Scalar(value) => Some(value),
        _ => None,
    }
}

fn push_levels(out: &mut String, levels: Option<&str>) {
    for (at, level) in levels.into_iter().flat_map(|levels| levels.split('/')).enumerate() {
        if at > 0 {
            out.push('.');
        }
        out.push_str(level);
    }
}

/// Appends a level of the topic, by its name in the route. Returns whether there is one.
fn push_level(out: &mut String, topic: &Matched<'_>, name: &str) -> bool {
    match name {
        "device" => out.push_str(topic.device),
        "metric" => push_levels(out, topic.metric),
        name => match topic.attributes.iter().find(|(known, _)| *known == name) {
            Some((_, level)) => out.push_str(level),
            None => return false,
        },
    }
    true
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

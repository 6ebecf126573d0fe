//! Turns flat fields into readings: decides which fields are metrics, which are the time, which are attributes.

use super::NAME_BYTES_MAX;
use super::flatten::FlatPayload;
use super::roles::{self, Role, Times};
use super::route::Matched;
use super::value::{Field, Value};
use crate::core::detection::alert;
use crate::core::mqtt::topic;
use crate::core::reading::{Attributes, Reading, Readings, TimeQuality, pack_attribute};

/// Most bytes of attributes for one reading; more are refused.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;
/// Attributes are repeated in each record of a publish: a few kilobytes of them with thousands of metrics would become hundreds of
/// megabytes. All repeats together may take this many bytes, or a multiple of the publish's own size.
const REPEATED_BYTES_FREE: usize = 256 * 1024;
const EXPANSION_MAX: usize = 16;

/// Bytes that the attributes of a publish may take in all of its records.
pub fn repeated_bytes_max(payload_bytes: usize) -> usize {
    REPEATED_BYTES_FREE.max(EXPANSION_MAX * payload_bytes)
}

/// Metric of a bare value if neither the topic nor the route names one.
pub const UNNAMED_METRIC: &str = "value";

/// A name used by the gateway's own alerts: a reading under it could raise or clear them.
pub const RESERVED_NAME: &str = "reserved_name";

/// Makes the readings of one publish.
pub struct Maker<'a> {
    pub route: &'a Matched<'a>,
    pub received_at_ms: i64,
    pub time_quality: TimeQuality,
    pub scratch: &'a mut Scratch,
}

/// Buffers that are used again for every item.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What each field is.
    roles: Vec<Role>,
    /// The packed attributes.
    attributes: Vec<u8>,
    /// The metric's full name.
    metric: String,
}

/// What the fields of an item say that are not metrics.
struct About {
    measured_at_ms: i64,
    sequence: Option<u64>,
}

impl Maker<'_> {
    pub fn make(
        &mut self,
        flat: &FlatPayload,
        payload_bytes: usize,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        if self.route.device.len() > NAME_BYTES_MAX {
            return Err("name_too_long");
        }
        if alert::is_own_device(self.route.device) {
            return Err(RESERVED_NAME);
        }
        let (before, mark) = (readings.len(), readings.mark());
        let repeated_bytes_max = repeated_bytes_max(payload_bytes);
        for item in flat.items() {
            self.make_item(flat, item, readings)?;
            if readings.repeated_bytes_since(mark) > repeated_bytes_max {
                return Err("expands");
            }
        }
        // A buffer may be sent from its end: judged in that order, each reading would be older than all that is known.
        readings.sort_since(mark);
        if readings.len() > before { Ok(()) } else { Err("no_number") }
    }

    fn make_item(&mut self, flat: &FlatPayload, item: &[Field], readings: &mut Readings) -> Result<(), &'static str> {
        let only = self.only_metric(flat, item);
        let about = self.read_about(flat, item, only)?;
        let attributes = Attributes::from_own(&self.scratch.attributes);
        let before = readings.len();
        for (at, (field, role)) in item.iter().zip(&self.scratch.roles).enumerate() {
            if Some(at) != only && *role != Role::Metric {
                continue;
            }
            let Some((value, rounding)) = field.value.number() else { continue };
            let name = if only == Some(at) { "" } else { flat.name(field) };
            name_metric(self.route.metric, name, &mut self.scratch.metric)?;
            readings.push(&Reading {
                device: self.route.device,
                metric: &self.scratch.metric,
                value,
                rounding,
                measured_at_ms: about.measured_at_ms,
                received_at_ms: self.received_at_ms,
                time_quality: self.time_quality,
                device_time: None,
                sequence: about.sequence,
                attributes,
            });
        }
        if readings.len() == before { Err("no_number") } else { Ok(()) }
    }

    /// If the topic names the metric, the field that is its value: one without a name, `value`, or one with the metric's name. Other numbers
    /// are metrics below that name.
    fn only_metric(&self, flat: &FlatPayload, item: &[Field]) -> Option<usize> {
        let wanted = self.route.metric?;
        let last_level = wanted.rsplit('/').next();
        let rank = |field: &Field| match flat.name(field) {
            "" => Some(0),
            "value" => Some(1),
            name if is_joined(wanted, name) => Some(2),
            name if Some(name) == last_level => Some(3),
            _ => None,
        };
        let numbers = item.iter().enumerate().filter(|(_, field)| !matches!(field.value, Value::Text { .. }));
        numbers.filter_map(|(at, field)| Some((rank(field)?, at))).min().map(|(_, at)| at)
    }

    /// Reads time and sequence, says what each field is, and packs the attributes.
    fn read_about(&mut self, flat: &FlatPayload, item: &[Field], only: Option<usize>) -> Result<About, &'static str> {
        let mut times = Times::default();
        for (at, field) in item.iter().enumerate() {
            times.note(at, field.meaning, field.value, || flat.text_of(field));
        }
        let mut sequence = None;
        self.scratch.roles.clear();
        self.scratch.attributes.clear();
        for (name, value) in &self.route.attributes {
            pack_attribute(&mut self.scratch.attributes, name, value);
        }
        for (at, field) in item.iter().enumerate() {
            let role = roles::role(at, field.meaning, field.value, || flat.text_of(field), &times);
            self.scratch.roles.push(role);
            match role {
                _ if Some(at) == only => {}
                Role::Sequence => sequence = roles::as_sequence(field.value),
                Role::Attribute => match field.value {
                    Value::Text { start, end } => self.pack(flat.name(field), flat.text(start, end)),
                    value => {
                        let mut number = String::new();
                        value.push_number(&mut number);
                        self.pack(flat.name(field), &number);
                    }
                },
                Role::Metric | Role::Time => {}
            }
        }
        if self.scratch.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return Err("attributes_too_long");
        }
        Ok(About { measured_at_ms: times.of_item().unwrap_or(self.received_at_ms), sequence })
    }

    fn pack(&mut self, name: &str, text: &str) {
        pack_own(&mut self.scratch.attributes, self.route, self.route.device, name, text);
    }
}

/// Packs an attribute of the payload. Most devices repeat in the payload what the topic says, and a record has each name once.
pub fn pack_own(attributes: &mut Vec<u8>, route: &Matched<'_>, device: &str, name: &str, text: &str) {
    if name == "device" && text == device {
        return;
    }
    match route.attributes.iter().find(|(of_topic, _)| *of_topic == name) {
        Some((_, of_topic)) if *of_topic == text => {}
        Some(_) => pack_attribute(attributes, &format!("payload.{name}"), text),
        None => pack_attribute(attributes, name, text),
    }
}

/// The metric's full name: the topic's levels, then the field's, all joined with dots.
pub fn name_metric(levels: Option<&str>, field: &str, metric: &mut String) -> Result<(), &'static str> {
    metric.clear();
    for part in levels.into_iter().flat_map(topic::levels).chain((!field.is_empty()).then_some(field)) {
        if !metric.is_empty() {
            metric.push('.');
        }
        metric.push_str(part);
    }
    if metric.is_empty() {
        metric.push_str(UNNAMED_METRIC);
    }
    match metric.as_str() {
        name if name.len() > NAME_BYTES_MAX => Err("name_too_long"),
        name if alert::is_own_metric(name) => Err(RESERVED_NAME),
        _ => Ok(()),
    }
}

/// Whether `name` is `levels` joined with dots.
fn is_joined(levels: &str, name: &str) -> bool {
    levels.len() == name.len() && levels.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'/' && b == b'.'))
}

/// Whether a field is a number that is neither a time nor a sequence.
pub fn is_measured(flat: &FlatPayload, field: &Field) -> bool {
    roles::role(0, field.meaning, field.value, || flat.text_of(field), &Times::default()) == Role::Metric
}

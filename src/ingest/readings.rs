//! Turns flat fields into readings: decides which fields are metrics, which are the time, which are attributes.

use super::NAME_BYTES_MAX;
use super::flatten::{Field, FlatPayload, Value};
use super::route::Matched;
use super::time;
use crate::core::detection::alert;
use crate::core::reading::{Attributes, Reading, Readings, TimeQuality, pack_attribute};

/// Most bytes of attributes for one reading; more are refused.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;
/// Attributes are repeated in each record of a publish: a few kilobytes of them with thousands of metrics would become hundreds of
/// megabytes. All repeats together may take this many bytes, or a multiple of the publish's own size.
const REPEATED_BYTES_FREE: usize = 256 * 1024;
const EXPANSION_MAX: usize = 16;
/// Metric of a bare value if neither the topic nor the route names one.
const UNNAMED_METRIC: &str = "value";

/// A name used by the gateway's own alerts: a reading under it could raise or clear them.
const RESERVED_NAME: &str = "reserved_name";

/// Makes the readings of one publish.
pub struct Maker<'a> {
    pub route: &'a Matched<'a>,
    pub received_at_ms: i64,
    pub time_quality: TimeQuality,
    /// Scratch buffers: the packed attributes of the current item, and the metric's full name.
    pub attributes: &'a mut Vec<u8>,
    pub metric: &'a mut String,
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
        let repeated_bytes_max = REPEATED_BYTES_FREE.max(EXPANSION_MAX * payload_bytes);
        for item in flat.items() {
            self.make_item(flat, item, readings)?;
            if readings.repeated_bytes_since(mark) > repeated_bytes_max {
                return Err("expands");
            }
        }
        if readings.len() > before { Ok(()) } else { Err("no_number") }
    }

    fn make_item(&mut self, flat: &FlatPayload, item: &[Field], readings: &mut Readings) -> Result<(), &'static str> {
        let only = self.only_metric(flat, item);
        let about = self.read_about(flat, item, only)?;
        let attributes = Attributes::from_packed(self.attributes).expect("packed above");
        let before = readings.len();
        for (at, field) in item.iter().enumerate() {
            let name = flat.name(field);
            let is_metric = match only {
                Some(only) => at == only,
                None => !is_about_name(name),
            };
            let value = match field.value {
                Value::Number(number) => number,
                Value::Integer(integer) => integer as f64,
                Value::Text { .. } => continue,
            };
            if is_metric {
                name_metric(self.route.metric, if only.is_some() { "" } else { name }, self.metric)?;
                readings.push(&Reading {
                    device: self.route.device,
                    metric: self.metric,
                    value,
                    measured_at_ms: about.measured_at_ms,
                    received_at_ms: self.received_at_ms,
                    time_quality: self.time_quality,
                    device_time: None,
                    sequence: about.sequence,
                    attributes,
                });
            }
        }
        if readings.len() == before { Err("no_number") } else { Ok(()) }
    }

    /// If the topic names the metric, the one field that is its value: `value`, or one with the metric's name.
    fn only_metric(&self, flat: &FlatPayload, item: &[Field]) -> Option<usize> {
        let wanted = self.route.metric?;
        let last_level = wanted.rsplit('/').next();
        let is_number = |field: &Field| !matches!(field.value, Value::Text { .. });
        let named = |matches: &dyn Fn(&str) -> bool| {
            item.iter().position(|field| is_number(field) && matches(flat.name(field)))
        };
        named(&|name| name.is_empty())
            .or_else(|| named(&|name| name == "value"))
            .or_else(|| named(&|name| is_joined(wanted, name)))
            .or_else(|| named(&|name| Some(name) == last_level))
    }

    /// Reads time and sequence, and packs the attributes.
    fn read_about(&mut self, flat: &FlatPayload, item: &[Field], only: Option<usize>) -> Result<About, &'static str> {
        let mut about = About { measured_at_ms: self.received_at_ms, sequence: None };
        self.attributes.clear();
        for (name, value) in &self.route.attributes {
            pack_attribute(self.attributes, name, value);
        }
        for (at, field) in item.iter().enumerate() {
            let name = flat.name(field);
            if Some(at) == only {
                continue;
            }
            if let Some(ms) = as_time(flat, name, field) {
                about.measured_at_ms = ms;
            } else if let (Some(sequence), "seq") = (as_sequence(field), name) {
                about.sequence = Some(sequence);
            } else {
                match field.value {
                    Value::Text { start, end } => {
                        let text = flat.text(start, end);
                        // Most devices repeat their own name in the payload, but the reading already has it.
                        if name != "device" || text != self.route.device {
                            pack_attribute(self.attributes, name, text);
                        }
                    }
                    // A number beside the one metric, or under a name for a time or sequence: kept as an attribute.
                    Value::Integer(integer) if only.is_some() || is_about_name(name) => {
                        pack_attribute(self.attributes, name, itoa::Buffer::new().format(integer));
                    }
                    Value::Number(number) if only.is_some() || is_about_name(name) => {
                        pack_attribute(self.attributes, name, ryu::Buffer::new().format(number));
                    }
                    _ => {}
                }
            }
        }
        if self.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return Err("attributes_too_long");
        }
        Ok(about)
    }
}

/// The metric's full name: the topic's levels, then the field's, all joined with dots.
fn name_metric(levels: Option<&str>, field: &str, metric: &mut String) -> Result<(), &'static str> {
    metric.clear();
    for level in levels.into_iter().flat_map(|levels| levels.split('/')).chain((!field.is_empty()).then_some(field)) {
        if !metric.is_empty() {
            metric.push('.');
        }
        metric.push_str(level);
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
    !matches!(field.value, Value::Text { .. }) && !is_about_name(flat.name(field))
}

fn is_about_name(name: &str) -> bool {
    name == "seq" || time::time_field(name).is_some()
}

fn as_sequence(field: &Field) -> Option<u64> {
    match field.value {
        Value::Integer(integer) => u64::try_from(integer).ok(),
        // Only the largest unsigned integers do not fit.
        _ => None,
    }
}

fn as_time(flat: &FlatPayload, name: &str, field: &Field) -> Option<i64> {
    let unit = time::time_field(name)?;
    match field.value {
        Value::Integer(integer) => time::from_number(integer as f64, unit),
        Value::Number(number) => time::from_number(number, unit),
        Value::Text { start, end } => time::from_rfc_3339(flat.text(start, end)),
    }
}

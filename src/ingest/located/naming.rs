//! The names of device and metric, as the route's texts fill them in for each element.

use super::{Element, push_scalar};
use crate::core::detection::alert;
use crate::core::path::{Part, Text};
use crate::ingest::NAME_BYTES_MAX;
use crate::ingest::readings::RESERVED_NAME;
use crate::ingest::route::Matched;

impl Element<'_> {
    pub(super) fn name_device(&mut self) -> Result<(), &'static str> {
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
    pub(super) fn name_metric(&mut self) -> Result<bool, &'static str> {
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

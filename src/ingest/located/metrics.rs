//! The numbers of an element: those that the route names, or all of them.

use super::{Common, Element, Found, Scratch, walk_below};
use crate::core::detection::alert;
use crate::core::reading::{Attributes, Reading, Readings, Rounding};
use crate::ingest::NAME_BYTES_MAX;
use crate::ingest::document::{Content, NodeId};
use crate::ingest::meaning::Meaning;
use crate::ingest::numbers::Numbers;
use crate::ingest::places::Measure;
use crate::ingest::readings::{RESERVED_NAME, UNNAMED_METRIC};
use crate::ingest::roles::{self, Role, Times};
use crate::ingest::value::Value;

impl Element<'_> {
    /// Every number that has no other meaning.
    pub(super) fn make_all(
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
        let (document, numbers) = (self.document, self.publish.source.places.numbers());
        walk_below(document, self.node, &mut String::new(), &mut |name, node, value| {
            if self.is_used[node] {
                return Ok(());
            }
            let role = roles::role(node, Meaning::of(name), value, || document.text(node).unwrap_or_default(), times);
            let is_metric = match value {
                Value::Text { .. } => numbers != Numbers::Strict && role == Role::Attribute,
                _ => role == Role::Metric,
            };
            if !(is_metric || only == Some(node)) {
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

    pub(super) fn make_measure(
        &mut self,
        common: Common,
        measure: &Measure,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
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

    /// All numbers below a node, except those that are times by their name and size, and those that a path before this one has taken.
    fn make_group(
        &mut self,
        common: Common,
        measure: &Measure,
        node: NodeId,
        readings: &mut Readings,
    ) -> Result<(), &'static str> {
        walk_below(self.document, node, &mut String::new(), &mut |name, node, value| {
            if self.is_used[node] || roles::is_time(name, value, || self.document.text(node).unwrap_or_default()) {
                return Ok(());
            }
            let Some(number) = self.number(node) else { return Ok(()) };
            let (number, rounding) = measure.scaled(number);
            self.is_used[node] = true;
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

    pub(super) fn push(
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
            attributes: Attributes::from_own(attributes),
        });
        Ok(())
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

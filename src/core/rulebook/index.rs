//! Which rules a reading concerns, and what has to be kept of each device for them: found out once, when the book is made.

use std::collections::HashMap;

use super::compile::{span_ms, text};
use super::functions::{ReadingFunction, of_readings};
use super::models::NamedModel;
use super::rule::{LookedUp, Rule};
use super::surroundings::Surroundings;

/// Metrics that rules name get a slot each, conditions a number each.
#[derive(Debug, Default)]
pub(super) struct ReadingIndex {
    slots: HashMap<Box<str>, u16>,
    /// Of each slot.
    pub metrics: Vec<Metric>,
    /// Places of the rules with conditions, in their order: a condition is known by its number here.
    pub conditions: Vec<u16>,
    /// Conditions that any reading concerns.
    every: Vec<u16>,
    /// Conditions in which time alone may change something.
    pub ticking: Vec<u16>,
}

/// A metric that rules name.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: Box<str>,
    /// The longest window over it; 0 if there is none.
    pub span_ms: i64,
    /// Conditions that a reading of it concerns, in their order.
    concerned: Vec<u16>,
}

impl ReadingIndex {
    pub fn new(rules: &[Rule], surroundings: &Surroundings) -> ReadingIndex {
        let mut index = ReadingIndex::default();
        for (place, rule) in (0..).zip(rules) {
            if rule.condition().is_some() {
                let number = index.conditions.len() as u16;
                index.conditions.push(place);
                index.add(rule, number, surroundings);
            }
        }
        for metric in &mut index.metrics {
            metric.concerned.extend(&index.every);
            metric.concerned.sort_unstable();
            metric.concerned.dedup();
        }
        index
    }

    fn add(&mut self, rule: &Rule, number: u16, surroundings: &Surroundings) {
        let (asks, fills_in) = (rule.asks(), rule.fills_in());
        self.look_up(&asks, Some(number), surroundings);
        self.look_up(&fills_in, None, surroundings);
        let functions = || asks.calls.iter().filter_map(|call| of_readings(call.function));
        if functions().any(|function| function == ReadingFunction::Age) {
            self.ticking.push(number);
        }
        let is_any =
            |function| matches!(function, ReadingFunction::Metric | ReadingFunction::Value | ReadingFunction::Device);
        if functions().any(is_any) || asks.names.is_empty() && asks.calls.is_empty() {
            self.every.push(number);
        }
    }

    /// Gives all metrics that are named a slot. `asked_by`: the condition whose answer a reading of them may change.
    fn look_up(&mut self, found: &LookedUp<'_>, asked_by: Option<u16>, surroundings: &Surroundings) {
        for name in &found.names {
            self.metric(name, asked_by);
        }
        for call in &found.calls {
            if of_readings(call.function).is_some_and(ReadingFunction::asks_model)
                && let Some(model) = text(call, 0).and_then(|name| surroundings.models.get(&name))
            {
                self.look_at_metrics_of(model, asked_by);
            }
            let places = match of_readings(call.function) {
                Some(ReadingFunction::Age | ReadingFunction::Verdict | ReadingFunction::Score) => 0..1,
                Some(ReadingFunction::Window(_)) => 0..1,
                Some(ReadingFunction::Zone) => 0..2,
                Some(ReadingFunction::Inside | ReadingFunction::Entered | ReadingFunction::Left) => 1..3,
                _ => continue,
            };
            for name in places.filter_map(|place| text(call, place)) {
                let span_ms = match of_readings(call.function) {
                    Some(ReadingFunction::Window(_)) => span_ms(call, 1).unwrap_or(0),
                    _ => 0,
                };
                if let Some(metric) = self.metric(&name, asked_by) {
                    metric.span_ms = metric.span_ms.max(span_ms);
                }
            }
        }
    }

    /// A model looks at windows of all its metrics.
    fn look_at_metrics_of(&mut self, model: &NamedModel, asked_by: Option<u16>) {
        for metric in model.metrics() {
            if let Some(metric) = self.metric(metric, asked_by) {
                metric.span_ms = metric.span_ms.max(model.kept_ms());
            }
        }
    }

    fn metric(&mut self, name: &str, asked_by: Option<u16>) -> Option<&mut Metric> {
        let slot = match self.slots.get(name) {
            Some(slot) => *slot,
            None => {
                let slot = u16::try_from(self.metrics.len()).ok()?;
                self.metrics.push(Metric { name: name.into(), span_ms: 0, concerned: Vec::new() });
                self.slots.insert(name.into(), slot);
                slot
            }
        };
        let metric = self.metrics.get_mut(usize::from(slot))?;
        if let Some(number) = asked_by.filter(|number| !metric.concerned.contains(number)) {
            metric.concerned.push(number);
        }
        Some(metric)
    }

    pub fn slot(&self, metric: &str) -> Option<u16> {
        self.slots.get(metric).copied()
    }

    /// Conditions that a reading concerns.
    pub fn concerned(&self, slot: Option<u16>) -> &[u16] {
        match slot.and_then(|slot| self.metrics.get(usize::from(slot))) {
            Some(metric) => &metric.concerned,
            None => &self.every,
        }
    }

    /// The rule of a condition.
    pub fn place(&self, number: u16) -> Option<u16> {
        self.conditions.get(usize::from(number)).copied()
    }
}

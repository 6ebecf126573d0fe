//! Models that raise alerts by themselves, when a threshold is exceeded: each by a rule that asks it.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rulebook;
use super::definition::{ActionDefinition, Definition};
use super::models::NamedModel;
use super::rule::Rule;
use super::surroundings::Surroundings;
use crate::detection::severity::Severity;
use crate::models::shown;

/// When a model raises alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Above this.
    pub above: f64,
    /// Not until the score is at most this does an alert clear.
    pub clear: Option<f64>,
    /// Of a classifier, the label whose probability is meant.
    pub label: Option<String>,
    /// Which devices it is for; `None` means all.
    pub from: Option<String>,
    /// For how long the score has to be above, in milliseconds by the device's time.
    pub hold_ms: i64,
    /// How severe the alert is.
    pub severity: Severity,
}

impl Threshold {
    /// The rule that raises the alerts of the model of this name. It is one like any other, so they have the life of others, and it can be
    /// tried on recorded readings.
    pub fn rule(&self, name: &str) -> Definition {
        let Threshold { above, label, .. } = self;
        let label = label.as_deref().map(quoted);
        let arguments = match &label {
            Some(label) => format!("'{name}', {label}"),
            None => format!("'{name}'"),
        };
        let asked = format!("model_score({arguments})");
        let what = match &self.label {
            // As an expression: a label is anything.
            Some(label) => format!("sees ${{{}}} with", quoted(&shown(label))),
            None => "says".to_owned(),
        };
        let message = format!("the model {name} {what} ${{model_reason({arguments})}}; its threshold is {above}");
        Definition {
            name: name.to_owned(),
            when: Some(format!("{asked} > {above:?}")),
            until: self.clear.map(|clear| format!("{asked} <= {clear:?}")),
            from: self.from.clone(),
            hold_ms: self.hold_ms,
            actions: vec![ActionDefinition::Alert { severity: self.severity, message: Some(message), device: None }],
            ..Definition::default()
        }
    }
}

/// A text of the language.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// All models, and those of them that raise alerts by themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelDetectors {
    /// By their names.
    pub models: HashMap<String, Arc<NamedModel>>,
    /// Each with the name of its model, in the order of the configuration.
    pub thresholds: Vec<(String, Threshold)>,
}

impl ModelDetectors {
    /// Their rules.
    pub fn rules(&self) -> impl Iterator<Item = Definition> {
        self.thresholds.iter().map(|(name, threshold)| threshold.rule(name))
    }

    /// A book of their rules and no others.
    ///
    /// # Panics
    ///
    /// If a rule cannot be compiled: a configuration that has one does not load.
    pub fn book(&self) -> Rulebook {
        let surroundings = Surroundings { models: self.models.clone(), ..Surroundings::default() };
        let compile = |definition| Rule::compile(&definition, &surroundings).expect("the configuration was read");
        let rules = self.rules().map(compile).collect();
        Rulebook::new(rules, surroundings)
    }
}

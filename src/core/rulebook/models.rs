//! Models that rules ask: what each is given, and what comes of it.
//!
//! A model of several metrics is asked about one time that all of them have reached: the earliest of their newest readings. So it does not
//! matter in which order the readings of one moment come, and whoever trains it can make the same rows of the same readings. Windows reach
//! back from there, so their readings are kept for half a window longer, and a metric that is behind by more than that leaves the model
//! without an answer.

use std::borrow::Cow;
use std::sync::Arc;

use crate::detection::severity::Severity;
use crate::models::{Feature, INPUTS_MAX, Input, Kind, Model, Scores};
use crate::rules::{Number, Statistic, Value};

use super::definition::{ActionDefinition, Definition};

/// Most models of a gateway.
pub const MODELS_MAX: usize = 32;
/// What a step of the language is worth, in steps of a model and in names that are compared.
const MODEL_STEPS_A_STEP: usize = 16;
const NAMES_A_STEP: usize = 16;

/// A model under its name, with what it is given here.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// As it was trained.
    pub model: Model,
    /// In the order of the model's columns.
    pub inputs: Box<[Input]>,
    /// The length of the windows, in milliseconds.
    pub window_ms: i64,
}

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

impl NamedModel {
    /// How far apart the newest readings of its metrics may be, in milliseconds.
    pub(super) fn apart_ms_max(&self) -> i64 {
        self.window_ms / 2
    }

    /// How long readings are kept for it, in milliseconds.
    pub(super) fn kept_ms(&self) -> i64 {
        self.window_ms + self.apart_ms_max()
    }

    /// Metrics of its inputs, each once.
    pub fn metrics(&self) -> Vec<&str> {
        let mut metrics: Vec<&str> = Vec::new();
        for (metric, _) in self.inputs.iter().filter_map(|input| input.of.as_ref()) {
            if !metrics.contains(&&**metric) {
                metrics.push(metric);
            }
        }
        metrics
    }

    /// An input that is no feature of a metric, so that only a rule can give it.
    pub fn unknown_input(&self) -> Option<&Input> {
        self.inputs.iter().find(|input| input.of.is_none())
    }

    /// Steps of an evaluation: those of the language are larger than those of a model.
    pub(super) fn steps(&self) -> u32 {
        u32::try_from(self.model.steps() / MODEL_STEPS_A_STEP + self.inputs.len()).unwrap_or(u32::MAX)
    }

    /// The same for a record, among whose members each input is looked for.
    pub(super) fn steps_of_record(&self, record: &Value<'_>) -> u32 {
        let looking = self.inputs.len().saturating_mul(record.count() / NAMES_A_STEP);
        self.steps().saturating_add(u32::try_from(looking).unwrap_or(u32::MAX))
    }

    /// The rule that raises its alerts. It is one like any other, so they have the life of others, and it can be tried on recorded readings.
    pub fn detector(&self, name: &str, threshold: &Threshold) -> Definition {
        let asked = match &threshold.label {
            Some(label) => format!("model_score('{name}', '{}')", label.replace('\'', "''")),
            None => format!("model_score('{name}')"),
        };
        let what = match &threshold.label {
            // As an expression: a label is anything.
            Some(label) => {
                format!("the model {name} sees ${{'{}'}} with ${{trunc({asked}, 3)}}", label.replace('\'', "''"))
            }
            None => format!("the model {name} says ${{trunc({asked}, 3)}}"),
        };
        Definition {
            name: name.to_owned(),
            when: Some(format!("{asked} > {}", threshold.above)),
            until: threshold.clear.map(|clear| format!("{asked} <= {clear}")),
            from: threshold.from.clone(),
            hold_ms: threshold.hold_ms,
            actions: vec![ActionDefinition::Alert {
                severity: threshold.severity,
                message: Some(format!("{what}, above {}", threshold.above)),
                device: None,
            }],
            ..Definition::default()
        }
    }

    /// What it makes of the members of a record, which have the names of its inputs.
    pub(super) fn of_record(&self, record: &Value<'_>) -> Option<Scores> {
        self.of(|input| match record.member(&input.name) {
            Value::Boolean(is_true) => Some(f64::from(u8::from(is_true))),
            value => value.to_number().map(Number::to_double),
        })
    }

    /// What it makes of windows: `statistic` looks at the readings of a metric.
    pub(super) fn of_windows(&self, statistic: impl Fn(&str, Statistic) -> Option<f64>) -> Option<Scores> {
        self.of(|input| {
            let (metric, feature) = input.of.as_ref()?;
            statistic(metric, statistic_of(*feature))
        })
    }

    fn of(&self, value: impl Fn(&Input) -> Option<f64>) -> Option<Scores> {
        let mut values = [0.0; INPUTS_MAX];
        for (place, input) in values.iter_mut().zip(&self.inputs) {
            *place = value(input)?;
        }
        self.model.scores(values.get(..self.inputs.len())?)
    }

    /// The score as AWS IoT gives it to a rule.
    pub(super) fn answer(&self, scores: Option<Scores>) -> Value<'static> {
        let Some(scores) = scores else { return Value::Undefined };
        let model = &self.model;
        let mut members: Vec<(Cow<'static, str>, Value<'static>)> = Vec::with_capacity(4);
        let (kind, label) = match model.kind() {
            Kind::Regression => ("REGRESSION", None),
            Kind::Classification => {
                let kind = if model.labels().len() == 2 { "BINARY" } else { "MULTICLASS" };
                (kind, model.labels().get(scores.greatest()).map(|label| label.to_string()))
            }
            Kind::Outlier => {
                let is_outlier = scores.values().get(1).is_some_and(|decision| *decision < 0.0);
                ("OUTLIER", Some(if is_outlier { "outlier" } else { "inlier" }.to_owned()))
            }
        };
        let details = vec![("Algorithm", text(model.algorithm())), ("PredictiveModelType", text(kind))];
        members.push(("details".into(), object(details)));
        if let Some(label) = label {
            members.push(("predictedLabel".into(), Value::Text(label.into())));
        }
        match model.kind() {
            Kind::Regression => {}
            Kind::Classification => {
                let labels = model.labels().iter().map(|label| Cow::Owned(label.to_string()));
                let each = labels.zip(scores.values().iter().map(|score| number(*score))).collect();
                members.push(("predictedScores".into(), Value::Object(Arc::new(each))));
            }
            Kind::Outlier => {
                let names = ["score_samples", "decision_function"].into_iter();
                let each = names.zip(scores.values()).map(|(name, score)| (name, number(*score))).collect();
                members.push(("predictedScores".into(), object(each)));
            }
        }
        if model.kind() != Kind::Classification
            && let Some(score) = model.score(&scores, None)
        {
            members.push(("predictedValue".into(), number(score)));
        }
        Value::Object(Arc::new(members))
    }

    /// The number that a threshold is for.
    pub(super) fn number(&self, scores: Option<Scores>, label: Option<&str>) -> Option<f64> {
        self.model.score(&scores?, label)
    }
}

fn statistic_of(feature: Feature) -> Statistic {
    match feature {
        Feature::Mean => Statistic::Average,
        Feature::Deviation => Statistic::Deviation,
        Feature::Minimum => Statistic::Minimum,
        Feature::Maximum => Statistic::Maximum,
        Feature::Slope => Statistic::Slope,
        Feature::Last => Statistic::Last,
        Feature::Count => Statistic::Count,
    }
}

fn number(double: f64) -> Value<'static> {
    Number::from_double(double).into()
}

fn text(text: &'static str) -> Value<'static> {
    Value::Text(Cow::Borrowed(text))
}

fn object(members: Vec<(&'static str, Value<'static>)>) -> Value<'static> {
    Value::Object(Arc::new(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect()))
}

#[cfg(test)]
mod tests;

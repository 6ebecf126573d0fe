//! Models that rules ask: what each is given, and what comes of it.
//!
//! A model of several metrics is asked about one time that all of them have reached: the earliest of their newest readings. So it does not
//! matter in which order the readings of one moment come, and whoever trains it can make the same rows of the same readings. Windows reach
//! back from there, so their readings are kept for half a window longer, and a metric that is behind by more than that leaves the model
//! without an answer.

use std::borrow::Cow;
use std::sync::Arc;

use crate::detection::detectors::short;
use crate::models::{Feature, INPUTS_MAX, Input, Kind, Model, Scores, shown};
use crate::rules::{Number, Statistic, Value};

/// Most models of a gateway.
pub const MODELS_MAX: usize = 32;
/// What a step of the language is worth, in steps of a model and in names that are compared.
const MODEL_STEPS_A_STEP: usize = 16;
const NAMES_A_STEP: usize = 16;
/// Inputs that a text for people names: as many as fit into so many bytes, so that a threshold behind them fits into an alert.
const REASON_BYTES_MAX: usize = 320;

/// A model under its name, with what it is given here.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedModel {
    model: Model,
    /// In the order of the model's columns.
    inputs: Box<[Input]>,
    /// Of its inputs, each once.
    metrics: Box<[Box<str>]>,
    window_ms: i64,
}

/// What a model is given, in the order of its columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    /// Where the windows end.
    pub until_ms: i64,
    values: [f64; INPUTS_MAX],
}

impl NamedModel {
    /// A model as it was trained, with its inputs as they are called here, and the length of the windows in milliseconds.
    pub fn new(model: Model, inputs: Box<[Input]>, window_ms: i64) -> NamedModel {
        let mut metrics: Vec<Box<str>> = Vec::new();
        for (metric, _) in inputs.iter().filter_map(|input| input.of.as_ref()) {
            if !metrics.contains(metric) {
                metrics.push(metric.clone());
            }
        }
        NamedModel { model, inputs, metrics: metrics.into(), window_ms }
    }

    /// The model as it was trained.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What it is given, in the order of its columns.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The length of the windows, in milliseconds.
    pub fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// Metrics of its inputs, each once.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(|metric| &**metric)
    }

    /// An input that is no feature of a metric, so that only a rule can give it.
    pub fn unknown_input(&self) -> Option<&Input> {
        self.inputs.iter().find(|input| input.of.is_none())
    }

    /// How far apart the newest readings of its metrics may be, in milliseconds.
    pub(super) fn apart_ms_max(&self) -> i64 {
        self.window_ms / 2
    }

    /// How long readings are kept for it, in milliseconds.
    pub(super) fn kept_ms(&self) -> i64 {
        self.window_ms + self.apart_ms_max()
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

    /// What it makes of the members of a record, which have the names of its inputs.
    pub(super) fn of_record(&self, record: &Value<'_>) -> Option<Value<'static>> {
        let given = self.given(0, |input| match record.member(&input.name) {
            Value::Boolean(is_true) => Some(f64::from(u8::from(is_true))),
            value => value.to_number().map(Number::to_double),
        });
        Some(self.answer(&self.scores(&given?)?))
    }

    /// What windows give it that end at a time: `statistic` looks at the readings of a metric.
    pub(super) fn given_by_windows(
        &self,
        until_ms: i64,
        statistic: impl Fn(&str, Statistic) -> Option<f64>,
    ) -> Option<Given> {
        self.given(until_ms, |input| {
            let (metric, feature) = input.of.as_ref()?;
            statistic(metric, statistic_of(*feature))
        })
    }

    fn given(&self, until_ms: i64, value: impl Fn(&Input) -> Option<f64>) -> Option<Given> {
        let mut values = [0.0; INPUTS_MAX];
        for (place, input) in values.iter_mut().zip(&self.inputs) {
            *place = value(input)?;
        }
        Some(Given { until_ms, values })
    }

    /// Each input, with what it is given for it.
    pub(super) fn named<'g>(&'g self, given: &'g Given) -> impl Iterator<Item = (&'g str, f64)> {
        self.inputs.iter().map(|input| &*input.name).zip(given.values)
    }

    /// What it makes of what it is given.
    pub(super) fn scores(&self, given: &Given) -> Option<Scores> {
        self.model.scores(given.values.get(..self.inputs.len())?)
    }

    /// The number that a threshold is for.
    pub(super) fn score(&self, given: &Given, label: Option<&str>) -> Option<f64> {
        self.model.score(&self.scores(given)?, label)
    }

    /// The score and what it was made of, for people.
    pub(super) fn reason(&self, given: &Given, label: Option<&str>) -> Option<String> {
        let mut text = short(self.score(given, label)?);
        for (place, (name, value)) in self.named(given).enumerate() {
            let before = if place == 0 { " of " } else { ", " };
            let one = format!("{before}{} {}", shown(name), short(value));
            if text.len() + one.len() > REASON_BYTES_MAX {
                text.push_str(&format!(" and {} more", self.inputs.len() - place));
                break;
            }
            text.push_str(&one);
        }
        Some(text)
    }

    /// The scores as AWS IoT gives them to a rule.
    pub(super) fn answer(&self, scores: &Scores) -> Value<'static> {
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
            && let Some(score) = model.score(scores, None)
        {
            members.push(("predictedValue".into(), number(score)));
        }
        Value::Object(Arc::new(members))
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

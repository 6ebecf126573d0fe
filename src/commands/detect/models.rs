//! Models that have a threshold, over recorded readings: what would raise an alert, and what they say in the end.

use serde::Serialize;

use crate::core::detection::alert::Moment;
use crate::core::detection::detectors::Verdict;
use crate::core::detection::severity::Severity;
use crate::core::pattern;
use crate::core::reading::Reading;
use crate::core::rulebook::{AlertVerdict, Conditions, Effects, ModelDetectors, ModelWord, Rulebook, Seen, Threshold};

/// All of them, and what they know of the devices.
pub(super) struct Models {
    detectors: ModelDetectors,
    book: Rulebook,
    conditions: Conditions,
    effects: Effects,
}

/// What a model says of a reading for which it would raise its alert.
pub(super) struct Flagged {
    pub model: String,
    pub severity: Severity,
    pub said: ModelWord,
}

/// What a model says in the end.
#[derive(Debug, Serialize)]
pub(super) struct ModelExplained {
    model: String,
    threshold: f64,
    /// `None` if it says nothing.
    score: Option<f64>,
    /// By the device's time.
    at_ms: Option<i64>,
    /// Its inputs by name.
    inputs: serde_json::Map<String, serde_json::Value>,
    /// All of it in a line.
    pub text: String,
}

impl Models {
    pub fn new(detectors: ModelDetectors) -> Models {
        let book = detectors.book();
        Models { detectors, book, conditions: Conditions::default(), effects: Effects::default() }
    }

    /// Readings that no model saw, because there are too many devices.
    pub fn left_out(&self) -> u64 {
        self.conditions.left_out()
    }

    /// Shows a reading to the models.
    pub fn see(&mut self, reading: &Reading<'_>, is_late: bool, now_ms: i64) -> Vec<Flagged> {
        if self.detectors.thresholds.is_empty() {
            return Vec::new();
        }
        let now = Moment { wall_ms: now_ms, steady_ms: u64::try_from(now_ms).unwrap_or(0) };
        // No model asks what the detectors say.
        let seen = Seen { reading, verdict: Verdict::Unjudged, score: 0.0, is_late, now, made_by: &[] };
        self.conditions.see(&self.book, &seen, &|| 0, &mut self.effects);
        let words = std::mem::take(&mut self.effects).words.into_iter();
        words
            .filter_map(|word| {
                let AlertVerdict::Raised { severity, .. } = word.verdict else { return None };
                let (model, threshold) = self.detectors.thresholds.get(usize::from(word.rule))?;
                let said = self.ask(reading.device, model, threshold)?;
                Some(Flagged { model: model.clone(), severity, said })
            })
            .collect()
    }

    fn ask(&self, device: &str, model: &str, threshold: &Threshold) -> Option<ModelWord> {
        self.conditions.ask_model(&self.book, device, model, threshold.label.as_deref())
    }

    /// What the models say that are given something of this series.
    pub fn explain(&self, device: &str, metric: &str) -> Vec<ModelExplained> {
        let is_for =
            |threshold: &Threshold| threshold.from.as_deref().is_none_or(|from| pattern::is_like(device, from));
        let of_it = self.detectors.thresholds.iter().filter(|(name, threshold)| {
            let model = self.detectors.models.get(name);
            is_for(threshold) && model.is_some_and(|model| model.metrics().any(|known| known == metric))
        });
        of_it.map(|(name, threshold)| explained(name, threshold, self.ask(device, name, threshold))).collect()
    }
}

fn explained(name: &str, threshold: &Threshold, said: Option<ModelWord>) -> ModelExplained {
    let above = threshold.above;
    let text = match &said {
        Some(word) => {
            let is_above = if word.score > above { "is above" } else { "is not above" };
            format!("the model {name} says {}, which {is_above} its threshold of {above}", word.reason)
        }
        None => format!(
            "the model {name} says nothing, because one of its metrics is missing or behind, or has too few readings; \
             its threshold is {above}"
        ),
    };
    ModelExplained {
        model: name.to_owned(),
        threshold: above,
        score: said.as_ref().map(|word| word.score),
        at_ms: said.as_ref().map(|word| word.at_ms),
        inputs: said
            .map(|word| word.given.into_iter().map(|(name, value)| (name, value.into())).collect())
            .unwrap_or_default(),
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::{Format, Options, Watching, run};
    use super::*;
    use crate::core::models::{Input, Model};
    use crate::core::rulebook::NamedModel;

    /// Twice the mean of the heat; above 3 it is told.
    fn detectors() -> ModelDetectors {
        let file = r#"{"format":"outrider-model","version":1,"inputs":[{"name":"heat"}],
            "estimator":{"type":"dense","layers":[{"weights":[[2]],"bias":[0],"activation":"identity"}]}}"#;
        let model = Model::parse(file.as_bytes()).expect("a model");
        let named = NamedModel::new(model, [Input::named("heat.mean")].into(), 10_000);
        let threshold = Threshold {
            above: 3.0,
            clear: None,
            label: None,
            from: Some("t*".to_owned()),
            hold_ms: 1_000,
            severity: Severity::Minor,
        };
        ModelDetectors {
            models: [("hot".to_owned(), named.into())].into(),
            thresholds: vec![("hot".to_owned(), threshold)],
        }
    }

    fn rows(format: Format, severity_min: Option<Severity>) -> Vec<String> {
        let line = |second: i64| format!("t/heat,{0},{1}\nv/heat,{0},9\n", second * 1_000, second / 3);
        let input: String = (0..13).map(line).collect();
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let options = Options { format, severity_min, unit: None };
        let watching = Watching { models: detectors(), ..Watching::default() };
        run(input.as_bytes(), (&mut output, &mut errors), watching, options, None).expect("memory");
        assert_eq!(String::from_utf8(errors).expect("text"), "");
        String::from_utf8(output).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn readings_for_which_a_model_would_raise_its_alert_are_printed() {
        // The mean is above 1.5 from 11 s on, and has to be for a second; of another device nothing is told.
        assert_eq!(rows(Format::Rows, Some(Severity::Minor)), ["t/heat,12000,4,hot,4.4000,"]);
        assert!(rows(Format::Rows, Some(Severity::Major)).is_empty());
        let json: serde_json::Value = serde_json::from_str(&rows(Format::Json, None)[0]).expect("JSON");
        assert_eq!((&json["detector"], &json["severity"]), (&"hot".into(), &"minor".into()));
        assert_eq!((&json["score"], &json["reason"]), (&4.4.into(), &"4.4 of heat.mean 2.2".into()));
    }

    #[test]
    fn a_model_is_explained_by_score_threshold_and_inputs() {
        let mut models = Models::new(detectors());
        assert_eq!(models.explain("t", "heat").len(), 1);
        let text = |models: &Models| models.explain("t", "heat").pop().expect("a model").text;
        assert!(text(&models).starts_with("the model hot says nothing, because one of its metrics is missing"));
        assert!(models.see(&Reading::at(1_000, "t", "heat", 1.25), false, 1_000).is_empty());
        assert_eq!(text(&models), "the model hot says 2.5 of heat.mean 1.25, which is not above its threshold of 3");
        models.see(&Reading::at(2_000, "t", "heat", 3.75), false, 2_000);
        assert_eq!(text(&models), "the model hot says 5 of heat.mean 2.5, which is above its threshold of 3");
        let json = serde_json::to_value(models.explain("t", "heat")).expect("plain data");
        assert_eq!((&json[0]["inputs"]["heat.mean"], &json[0]["score"]), (&2.5.into(), &5.0.into()));
        assert!(models.explain("t", "speed").is_empty() && models.explain("van", "heat").is_empty());
    }
}

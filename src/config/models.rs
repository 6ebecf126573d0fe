//! Reads `[[model]]`: models of files, and the rules that raise their alerts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::rules::bytes_of;
use super::sections::Reader;
use crate::core::detection::severity::Severity;
use crate::core::models::{Input, Kind, MODEL_BYTES_MAX, Model};
use crate::core::rulebook::{Definition, MODELS_MAX, NamedModel, Threshold};
use crate::keys::key::Group;
use crate::keys::section::Section;
use crate::keys::units::format_size;

/// All files of models together: what they take of memory is about half of it.
const FILES_BYTES_MAX: usize = 64 << 20;

/// Models by their names, and the rules of those with a threshold.
pub(super) type Models = (HashMap<String, NamedModel>, Vec<Definition>);

impl Reader<'_> {
    /// Reads all models. Files beside that of the configuration may be named without a folder; they are watched.
    pub(super) fn models(&mut self, beside: &Path, watched: &mut Vec<PathBuf>) -> Models {
        let (mut models, mut detectors): Models = Default::default();
        let mut bytes = 0;
        self.each(Group::Model, |mut section| {
            let name = section.text("name").unwrap_or_default();
            let file = section.path("file").map(|file| beside.join(file));
            let window_ms = i64::try_from(section.milliseconds("window")).unwrap_or(i64::MAX);
            let inputs = section.texts_if_there("inputs");
            let threshold = threshold(&mut section);
            let model = file.as_ref().and_then(|file| {
                let loaded = load(file, &mut bytes);
                loaded.map_err(|message| section.blame("file", format!("{}: {message}", file.display()))).ok()
            });
            watched.extend(file);
            if models.len() >= MODELS_MAX {
                section.blame_section(format!("more than {MODELS_MAX} models"));
            } else if models.contains_key(&name) {
                section.blame("name", "another [[model]] has this name");
            } else if let Some(model) = model {
                let inputs = inputs_of(&mut section, &model, inputs);
                let named = NamedModel { model, inputs, window_ms };
                if let Some(threshold) = threshold {
                    check_threshold(&mut section, &named, &threshold);
                    detectors.push(named.detector(&name, &threshold));
                }
                models.insert(name, named);
            }
            section.finish();
        });
        (models, detectors)
    }
}

fn load(file: &Path, bytes: &mut usize) -> Result<Model, String> {
    let text = bytes_of(file, MODEL_BYTES_MAX)?;
    *bytes += text.len();
    if *bytes > FILES_BYTES_MAX {
        return Err(format!("the files of all models are larger than {}", format_size(FILES_BYTES_MAX as u64)));
    }
    Model::parse(&text).map_err(|error| error.to_string())
}

/// What the columns of the model are here.
fn inputs_of(section: &mut Section<'_>, model: &Model, names: Option<Vec<String>>) -> Box<[Input]> {
    let Some(names) = names else { return model.inputs().into() };
    let known: Vec<&str> = model.inputs().iter().map(|input| &*input.name).collect();
    if names.len() != known.len() {
        let message = format!("{} are named; the model has {}: {}", names.len(), known.len(), known.join(", "));
        section.blame("inputs", message);
        return model.inputs().into();
    }
    let inputs: Box<[Input]> = names.iter().map(|name| Input::named(name)).collect();
    if let Some(same) = inputs.iter().enumerate().find(|(place, input)| inputs[..*place].contains(input)) {
        section.blame("inputs", format!("{} is there twice", same.1.name));
    }
    inputs
}

fn threshold(section: &mut Section<'_>) -> Option<Threshold> {
    let above = section.number("threshold");
    let severities = Severity::ALL.map(|severity| (severity.name(), severity));
    let rest = Threshold {
        above: above.unwrap_or_default(),
        clear: section.number("clear"),
        label: section.text("label"),
        from: section.text("device"),
        hold_ms: i64::try_from(section.milliseconds("for")).unwrap_or(i64::MAX),
        severity: section.choice("severity", &severities).unwrap_or(Severity::Major),
    };
    if above.is_none() {
        for key in ["clear", "label", "device"] {
            if section.has(key) {
                section.blame(key, "it belongs to a threshold, which is missing");
            }
        }
    }
    above.map(|_| rest)
}

fn check_threshold(section: &mut Section<'_>, named: &NamedModel, threshold: &Threshold) {
    if let Some(input) = named.unknown_input() {
        let message = format!(
            "the input \"{}\" is no feature of a metric; inputs = [...] can say which each is, as in \"engine_temperature.mean\"",
            input.name
        );
        section.blame("threshold", message);
    }
    if threshold.clear.is_some_and(|clear| clear > threshold.above) {
        section.blame("clear", "it is above the threshold");
    }
    let labels: Vec<&str> = named.model.labels().iter().map(|label| &**label).collect();
    match (&threshold.label, named.model.kind()) {
        (None, Kind::Classification) if labels.len() > 2 => {
            section.blame(
                "label",
                format!("it is missing; the threshold is for the probability of one of {}", labels.join(", ")),
            );
        }
        (Some(_), Kind::Regression | Kind::Outlier) => section.blame("label", "the model has no labels"),
        (Some(label), Kind::Classification) if !labels.contains(&&**label) => {
            section.blame("label", format!("there is no label \"{label}\"; there are {}", labels.join(", ")));
        }
        _ => {}
    }
}

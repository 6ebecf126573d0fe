//! Reads `[[model]]`: models of files, and the rules that raise their alerts.

use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rules::bytes_of;
use super::sections::Reader;
use crate::core::detection::severity::Severity;
use crate::core::models::{Input, Kind, MODEL_BYTES_MAX, Model};
use crate::core::rulebook::{MODELS_MAX, ModelDetectors, NamedModel, Threshold};
use crate::counter::many;
use crate::keys::key::Group;
use crate::keys::section::Section;
use crate::keys::units::format_size;

/// All files of models together. In memory they are about as large, and at most four times: a number takes two bytes of a file or more.
const FILES_BYTES_MAX: usize = 64 << 20;

impl Reader<'_> {
    /// Reads all models. Files beside that of the configuration may be named without a folder; they are watched.
    pub(super) fn models(&mut self, beside: &Path, watched: &mut Vec<PathBuf>) -> ModelDetectors {
        let mut found = ModelDetectors::default();
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
            if found.models.len() >= MODELS_MAX {
                section.blame_section(format!("more than {MODELS_MAX} models"));
            } else if let Some(model) = model {
                let inputs = inputs_of(&mut section, &model, inputs);
                let named = NamedModel::new(model, inputs, window_ms);
                match found.models.entry(name) {
                    Entry::Occupied(_) => section.blame("name", "another [[model]] has this name"),
                    Entry::Vacant(place) => {
                        if let Some(threshold) = threshold {
                            check_threshold(&mut section, &named, &threshold);
                            found.thresholds.push((place.key().clone(), threshold));
                        }
                        place.insert(Arc::new(named));
                    }
                }
            }
            section.finish();
        });
        found
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

/// `is 1 name`, `are 2 names`.
fn names_of(count: usize) -> String {
    format!("{} {}", if count == 1 { "is" } else { "are" }, many(count as u64, "name"))
}

/// What the columns of the model are here.
fn inputs_of(section: &mut Section<'_>, model: &Model, names: Option<Vec<String>>) -> Box<[Input]> {
    let Some(names) = names else { return model.inputs().into() };
    let known: Vec<&str> = model.inputs().iter().map(|input| &*input.name).collect();
    if names.len() != known.len() {
        let message = format!("there {}; the model has {}: {}", names_of(names.len()), known.len(), known.join(", "));
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
        for key in ["clear", "label", "device", "for", "severity"] {
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
    let what = match named.model().kind() {
        Kind::Classification => Some("a probability"),
        Kind::Outlier => Some("how unusual its inputs are"),
        Kind::Regression => None,
    };
    if let Some(what) = what.filter(|_| !(0.0..1.0).contains(&threshold.above)) {
        section.blame("threshold", format!("the model gives {what}, from 0 to 1: write 0 or more, and less than 1"));
    }
    if threshold.clear.is_some_and(|clear| clear > threshold.above) {
        section.blame("clear", "it is above the threshold");
    }
    let labels: Vec<&str> = named.model().labels().iter().map(|label| &**label).collect();
    match (&threshold.label, named.model().kind()) {
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

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::super::{Configuration, Sources};

    const BINARY: &str = r#"{"format":"outrider-model","version":1,"inputs":[{"name":"a"},{"name":"b"}],"labels":["good","worn"],
        "estimator":{"type":"dense","layers":[{"weights":[[1,2]],"bias":[0],"activation":"logistic"}]}}"#;
    const VALUE: &str = r#"{"format":"outrider-model","version":1,"inputs":[{"name":"heat.mean","metric":"heat","feature":"mean"}],
        "estimator":{"type":"dense","layers":[{"weights":[[1]],"bias":[0],"activation":"identity"}]}}"#;

    fn read(text: &str) -> Result<Configuration, Vec<String>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in [("binary.json", BINARY), ("value.json", VALUE), ("bad.json", "{}")] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let host = Host { system_file: std::path::PathBuf::new(), ..Host::read() };
        Configuration::parse(&folder.path().join("file"), text, &Sources::default(), &host)
            .map_err(|problems| problems.iter().map(|problem| problem.message.clone()).collect())
    }

    fn wrong(text: &str) -> String {
        read(text).expect_err(text).join("; ")
    }

    #[test]
    fn a_threshold_becomes_a_rule_of_the_same_name() {
        let asked_only = read("[[model]]\nname = 'm'\nfile = 'value.json'\n").expect("right");
        assert_eq!(asked_only.rules.book.rules().len(), 0);
        let config = "[[model]]\nname = 'm'\nfile = 'value.json'\nthreshold = -0.5\nseverity = 'minor'\n";
        let with_threshold = read(config).expect("right");
        let rules = with_threshold.rules.book.rules();
        assert_eq!((&*rules[0].name, rules[0].does()), ("m", vec!["raises alerts (minor)".to_owned()]));
        assert!(with_threshold.rules.watched.iter().any(|file| file.ends_with("value.json")));
        let inputs = "[[model]]\nname = 'm'\nfile = 'binary.json'\nthreshold = 0.5\nlabel = 'good'\ninputs = ['x.last', 'y.z.mean']\n";
        assert_eq!(read(inputs).expect("right").rules.book.rules().len(), 1);
        let same = wrong(&format!("{config}[[rule]]\nname = 'm'\nwhen = 'heat > 1'\ncount = true\n"));
        assert!(same.contains("another [[rule]], or a [[model]] with a threshold, has this name"), "{same}");
    }

    #[test]
    fn what_is_wrong_with_a_model_is_said() {
        for (keys, expected) in [
            ("file = 'bad.json'", "bad.json: $: expected a member \"format\""),
            ("file = 'missing.json'", "missing.json: cannot be read"),
            ("file = 'binary.json'\nthreshold = 0.5", "the input \"a\" is no feature of a metric"),
            ("file = 'binary.json'\ninputs = ['x.mean']", "there is 1 name; the model has 2: a, b"),
            ("file = 'binary.json'\ninputs = ['x.mean', 'x.mean']", "x.mean is there twice"),
            ("file = 'value.json'\nthreshold = 1.0\nlabel = 'worn'", "the model has no labels"),
            ("file = 'value.json'\nlabel = 'worn'", "it belongs to a threshold, which is missing"),
            ("file = 'value.json'\nthreshold = 1.0\nclear = 2.0", "it is above the threshold"),
            ("file = 'value.json'\nfor = '5s'", "it belongs to a threshold, which is missing"),
            ("file = 'binary.json'\ninputs = ['x.mean', 'y.mean']\nthreshold = 50", "a probability, from 0 to 1"),
            (
                "file = 'binary.json'\ninputs = ['x.mean', 'y.mean']\nthreshold = 0.5\nlabel = 'old'",
                "there is no label \"old\"; there are good, worn",
            ),
        ] {
            let told = wrong(&format!("[[model]]\nname = 'm'\n{keys}\n"));
            assert!(told.contains(expected), "{told} is not {expected}");
        }
        let twice = wrong("[[model]]\nname = 'm'\nfile = 'value.json'\n[[model]]\nname = 'm'\nfile = 'value.json'\n");
        assert!(twice.contains("another [[model]] has this name"), "{twice}");
    }
}

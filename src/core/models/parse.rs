//! A file into a model.

use super::dense::{Activation, Network};
use super::reader::{Read, Reader, shown};
use super::trees::{Forest, ForestReader};
use super::{
    EXAMPLE_TOLERANCE, EXAMPLES_MAX, Estimator, Feature, INPUTS_MAX, Input, MODEL_BYTES_MAX, Model, ModelError,
    ModelFault, OUTPUTS_MAX, Scaler,
};

/// What a file says that it is.
const FORMAT: &str = "outrider-model";
const VERSION: f64 = 1.0;

const MEMBERS: [&str; 8] = ["format", "version", "about", "inputs", "labels", "scaler", "estimator", "examples"];

/// Whether the members have come that say how long the others are.
#[derive(Default)]
struct Head {
    format: Option<String>,
    version: Option<f64>,
    about: String,
    inputs: Vec<Input>,
    labels: Vec<Box<str>>,
    scaler: Option<Scaler>,
    estimator: Option<Estimator>,
    /// Inputs and outputs.
    examples: Vec<(Vec<f64>, Vec<f64>)>,
}

pub(super) fn model(file: &[u8]) -> Result<Model, ModelError> {
    let whole = |fault| ModelError { path: "$".to_owned(), fault };
    if file.len() > MODEL_BYTES_MAX {
        return Err(whole(ModelFault::TooLong));
    }
    let text = std::str::from_utf8(file).map_err(|_| whole(ModelFault::NotText))?;
    let mut reader = Reader::new(text);
    let mut head = Head::default();
    reader.object(&MEMBERS, |reader, place| head.member(reader, place))?;
    reader.end()?;
    let missing = [
        ("format", head.format.is_none()),
        ("version", head.version.is_none()),
        ("inputs", head.inputs.is_empty()),
        ("estimator", head.estimator.is_none()),
    ];
    if let Some((name, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
        return reader.expected(format!("a member \"{name}\""));
    }
    let Some(estimator) = head.estimator else { return reader.expected("a member \"estimator\"") };
    let model = Model {
        about: head.about.into(),
        inputs: head.inputs.into(),
        labels: head.labels.into(),
        scaler: head.scaler,
        estimator,
    };
    for (number, (inputs, outputs)) in head.examples.iter().enumerate() {
        check_example(&model, inputs, outputs)
            .map_err(|fault| ModelError { path: format!("$.examples[{number}]"), fault })?;
    }
    Ok(model)
}

impl Head {
    fn member(&mut self, reader: &mut Reader<'_>, place: usize) -> Read<()> {
        let needs_version = self.version.is_none() || self.format.is_none();
        match place {
            0 => match reader.text()? {
                format if format == FORMAT => self.format = Some(format),
                _ => return reader.expected(format!("\"{FORMAT}\"")),
            },
            1 => match reader.number()? {
                VERSION => self.version = Some(VERSION),
                other => return reader.expected(format!("version {VERSION}; this is {other}, of a newer exporter")),
            },
            _ if needs_version => return reader.expected("format and version before this"),
            2 => self.about = shown(&reader.text()?),
            3 => self.inputs = inputs(reader)?,
            4 => self.labels = labels(reader)?,
            _ if self.inputs.is_empty() => return reader.expected("inputs before this"),
            5 => self.scaler = Some(scaler(reader, self.inputs.len())?),
            6 => self.estimator = Some(estimator(reader, self.inputs.len(), self.labels.len())?),
            _ => self.examples = examples(reader)?,
        }
        // Labels that come later would be those of nothing.
        match place == 4 && self.estimator.is_some() {
            true => reader.expected("labels before the estimator"),
            false => Ok(()),
        }
    }
}

fn inputs(reader: &mut Reader<'_>) -> Read<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    reader.array(INPUTS_MAX, |reader, _| {
        let input = input(reader)?;
        if inputs.iter().any(|known| known.name == input.name) {
            return reader.expected("a name that no other input has");
        }
        inputs.push(input);
        Ok(())
    })?;
    if inputs.is_empty() { reader.expected("at least one input") } else { Ok(inputs) }
}

fn input(reader: &mut Reader<'_>) -> Read<Input> {
    let (mut name, mut metric, mut feature) = (None, None, None);
    reader.object(&["name", "metric", "feature"], |reader, place| {
        let text = reader.text()?;
        if text.is_empty() {
            return reader.expected("a text that is not empty");
        }
        match place {
            0 => name = Some(text),
            1 => metric = Some(text),
            _ => match Feature::named(&text) {
                Some(known) => feature = Some(known),
                None => {
                    let names = Feature::ALL.map(|(name, _)| name);
                    return reader.expected(format!("one of {}", names.join(", ")));
                }
            },
        }
        Ok(())
    })?;
    match (name, metric, feature) {
        (Some(name), None, None) => Ok(Input { name: name.into(), of: None }),
        (Some(name), Some(metric), Some(feature)) => {
            Ok(Input { name: name.into(), of: Some((metric.into(), feature)) })
        }
        (None, ..) => reader.expected("a member \"name\""),
        _ => reader.expected("metric and feature, or none of the two"),
    }
}

fn labels(reader: &mut Reader<'_>) -> Read<Vec<Box<str>>> {
    let mut labels: Vec<Box<str>> = Vec::new();
    reader.array(OUTPUTS_MAX, |reader, _| {
        let label = reader.text()?;
        if labels.iter().any(|known| **known == *label) {
            return reader.expected("a label that is not there twice");
        }
        labels.push(label.into());
        Ok(())
    })?;
    if labels.len() < 2 { reader.expected("at least two labels") } else { Ok(labels) }
}

fn scaler(reader: &mut Reader<'_>, inputs: usize) -> Read<Scaler> {
    let (mut mean, mut scale) = (Vec::new(), Vec::new());
    reader.object(&["mean", "scale"], |reader, place| {
        let numbers = reader.numbers(inputs)?;
        if numbers.len() != inputs {
            return reader.expected(format!("{inputs} numbers, one for each input"));
        }
        match place {
            0 => mean = numbers,
            _ if numbers.contains(&0.0) => {
                return reader.expected("numbers other than 0, which nothing can be divided by");
            }
            _ => scale = numbers,
        }
        Ok(())
    })?;
    if mean.is_empty() || scale.is_empty() {
        return reader.expected("mean and scale");
    }
    Ok(Scaler { mean: mean.into(), scale: scale.into() })
}

const ESTIMATOR: [&str; 7] = ["type", "layers", "trees", "initial", "rate", "link", "offset"];
/// How many samples each tree of an isolation forest was made of.
const SAMPLES: &str = "samples";

/// The members that have come.
#[derive(Default)]
struct Parts {
    kind: Option<String>,
    network: Option<Network>,
    forest: Option<Forest>,
    initial: Option<Vec<f64>>,
    rate: Option<f64>,
    link: Option<Activation>,
    offset: Option<f64>,
    samples: Option<f64>,
}

/// The members of a kind besides its type. A member of another kind is refused, because whoever wrote it means something by it.
fn members(kind: &str) -> Option<&'static [usize]> {
    match kind {
        "dense" => Some(&[1]),
        "forest" => Some(&[2]),
        "boosting" => Some(&[2, 3, 4, 5]),
        "isolation_forest" => Some(&[2, 6, 7]),
        _ => None,
    }
}

fn estimator(reader: &mut Reader<'_>, inputs: usize, labels: usize) -> Read<Estimator> {
    let mut names = ESTIMATOR.to_vec();
    names.push(SAMPLES);
    let mut parts = Parts::default();
    let mut came = Vec::new();
    reader.object(&names, |reader, place| {
        let kind = match (place, &parts.kind) {
            (0, _) => {
                let kind = reader.text()?;
                if members(&kind).is_none() {
                    return reader.expected("one of dense, forest, boosting, isolation_forest");
                }
                parts.kind = Some(kind);
                return Ok(());
            }
            (_, None) => return reader.expected("type before this"),
            (_, Some(kind)) => kind.clone(),
        };
        let allowed = members(&kind).unwrap_or_default();
        if !allowed.contains(&place) {
            let allowed: Vec<&str> = allowed.iter().filter_map(|place| names.get(*place).copied()).collect();
            return reader.expected(format!("no such member of {kind}, which has {}", allowed.join(", ")));
        }
        came.push(place);
        // The leaves of a forest of classifiers have a value for each label.
        let width = if kind == "forest" { labels.max(1) } else { 1 };
        match place {
            1 => parts.network = Some(Network::read(reader, inputs)?),
            2 => parts.forest = Some(ForestReader::read(reader, inputs, width)?),
            3 => parts.initial = Some(reader.numbers(OUTPUTS_MAX)?),
            4 => parts.rate = Some(reader.number()?),
            5 => parts.link = Some(Activation::read(reader, &Activation::LINKS)?),
            6 => parts.offset = Some(reader.number()?),
            _ => match reader.number()? {
                samples if samples >= 2.0 && samples.fract() == 0.0 => parts.samples = Some(samples),
                _ => return reader.expected("a whole number of 2 or more"),
            },
        }
        Ok(())
    })?;
    let Some(kind) = &parts.kind else { return reader.expected("a member \"type\"") };
    let missing = members(kind).unwrap_or_default().iter().find(|place| !came.contains(place));
    if let Some(name) = missing.and_then(|place| names.get(*place)) {
        return reader.expected(format!("in $.estimator a member \"{name}\""));
    }
    parts.into_estimator(reader, labels)
}

impl Parts {
    fn into_estimator(self, reader: &Reader<'_>, labels: usize) -> Read<Estimator> {
        // Of two labels, one probability says everything.
        let outputs_are_right = |outputs: usize| match labels {
            0 => outputs == 1,
            2 => outputs == 1 || outputs == 2,
            labels => outputs == labels,
        };
        let expected_outputs = || match labels {
            0 => "one output, since there are no labels".to_owned(),
            labels => format!("one output for each of the {labels} labels"),
        };
        match self {
            Parts { network: Some(network), .. } if !outputs_are_right(network.outputs()) => {
                reader.expected(expected_outputs())
            }
            Parts { network: Some(network), .. } => Ok(Estimator::Dense(network)),
            Parts { initial: Some(initial), .. } if !outputs_are_right(initial.len()) => {
                reader.expected(format!("in initial {}", expected_outputs()))
            }
            Parts { forest: Some(forest), initial: Some(initial), rate: Some(rate), link: Some(link), .. } => {
                if !forest.trees().is_multiple_of(initial.len()) {
                    return reader
                        .expected(format!("a multiple of {} trees, one for each output in turn", initial.len()));
                }
                Ok(Estimator::Boosting { forest, initial: initial.into(), rate, link })
            }
            Parts { forest: Some(forest), offset: Some(offset), samples: Some(samples), .. } => match labels {
                0 => Ok(Estimator::Isolation { forest, usual_length: usual_length(samples), offset }),
                _ => reader.expected("no labels of an isolation forest"),
            },
            Parts { forest: Some(forest), .. } => Ok(Estimator::Mean(forest)),
            _ => reader.expected("all members of its type"),
        }
    }
}

/// The usual length of a way to one of so many samples in a binary tree that was grown at random.
fn usual_length(samples: f64) -> f64 {
    /// Euler's constant.
    const GAMMA: f64 = 0.577_215_664_901_532_9;
    match samples <= 2.0 {
        true => 1.0,
        false => 2.0 * ((samples - 1.0).ln() + GAMMA) - 2.0 * (samples - 1.0) / samples,
    }
}

fn examples(reader: &mut Reader<'_>) -> Read<Vec<(Vec<f64>, Vec<f64>)>> {
    let mut examples = Vec::new();
    reader.array(EXAMPLES_MAX, |reader, _| {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        reader.object(&["inputs", "outputs"], |reader, place| {
            let (numbers, count_max) = if place == 0 { (&mut inputs, INPUTS_MAX) } else { (&mut outputs, OUTPUTS_MAX) };
            *numbers = reader.numbers(count_max)?;
            Ok(())
        })?;
        examples.push((inputs, outputs));
        Ok(())
    })?;
    Ok(examples)
}

fn check_example(model: &Model, inputs: &[f64], outputs: &[f64]) -> Result<(), ModelFault> {
    if inputs.len() != model.inputs.len() {
        return Err(ModelFault::Expected(format!("{} inputs", model.inputs.len())));
    }
    let scores = model.scores(inputs);
    let found = scores.as_ref().map_or(&[][..], |scores| scores.values());
    let is_met =
        |(found, expected): (&f64, &f64)| (found - expected).abs() <= EXAMPLE_TOLERANCE * expected.abs().max(1.0);
    match found.len() == outputs.len() && found.iter().zip(outputs).all(is_met) {
        true => Ok(()),
        false => Err(ModelFault::Example { found: format!("{found:?}"), expected: format!("{outputs:?}") }),
    }
}

//! Layers of a neural network, and linear models, which are one layer.

use super::reader::{Read, Reader};
use super::{INPUTS_MAX, OUTPUTS_MAX, WEIGHTS_MAX, WIDTH_MAX};

/// Layers at most.
const LAYERS_MAX: usize = 16;

/// What a layer makes of its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Identity,
    Relu,
    Tanh,
    Logistic,
    Softmax,
}

impl Activation {
    const ALL: [(&'static str, Activation); 5] = [
        ("identity", Activation::Identity),
        ("relu", Activation::Relu),
        ("tanh", Activation::Tanh),
        ("logistic", Activation::Logistic),
        ("softmax", Activation::Softmax),
    ];

    /// Those that turn sums into something else, without `relu` and `tanh`, which are for layers within.
    pub const LINKS: [&'static str; 3] = ["identity", "logistic", "softmax"];

    pub fn read(reader: &mut Reader<'_>, names: &[&str]) -> Read<Activation> {
        let name = reader.text()?;
        let known = Activation::ALL.into_iter().find(|(known, _)| *known == name && names.contains(known));
        match known {
            Some((_, activation)) => Ok(activation),
            None => reader.expected(format!("one of {}", names.join(", "))),
        }
    }

    fn names() -> [&'static str; 5] {
        Activation::ALL.map(|(name, _)| name)
    }

    pub fn apply(self, values: &mut [f64]) {
        match self {
            Activation::Identity => {}
            // What is no number stays that: `max` would make it 0.
            Activation::Relu => values.iter_mut().filter(|value| **value < 0.0).for_each(|value| *value = 0.0),
            Activation::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
            Activation::Logistic => values.iter_mut().for_each(|value| *value = logistic(*value)),
            Activation::Softmax => softmax(values),
        }
    }
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// With the greatest value taken off first, so that no power is too large.
fn softmax(values: &mut [f64]) {
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - greatest).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}

#[derive(Clone, Debug, PartialEq)]
struct Layer {
    /// Of each output, the weights of all inputs.
    weights: Box<[f64]>,
    bias: Box<[f64]>,
    inputs: usize,
    activation: Activation,
}

/// Layers, each on top of the one before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    layers: Box<[Layer]>,
}

impl Network {
    pub fn read(reader: &mut Reader<'_>, inputs: usize) -> Read<Network> {
        let mut layers: Vec<Layer> = Vec::new();
        let (mut width, mut weights) = (inputs, 0);
        reader.array(LAYERS_MAX, |reader, _| {
            let layer = layer(reader, width)?;
            weights += layer.weights.len();
            if weights > WEIGHTS_MAX {
                return reader.expected(format!("at most {WEIGHTS_MAX} weights in all layers"));
            }
            width = layer.bias.len();
            layers.push(layer);
            Ok(())
        })?;
        match layers.len() {
            0 => reader.expected("at least one layer"),
            _ if width > OUTPUTS_MAX => reader.expected(format!("at most {OUTPUTS_MAX} outputs of the last layer")),
            _ => Ok(Network { layers: layers.into() }),
        }
    }

    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.bias.len())
    }

    pub fn weights(&self) -> usize {
        self.layers.iter().map(|layer| layer.weights.len()).sum()
    }

    /// What the last layer makes of the inputs.
    pub fn apply(&self, inputs: &[f64; INPUTS_MAX], outputs: &mut [f64; OUTPUTS_MAX]) {
        let (mut before, mut after) = ([0.0; WIDTH_MAX], [0.0; WIDTH_MAX]);
        before[..INPUTS_MAX].copy_from_slice(inputs);
        for layer in &self.layers {
            let rows = layer.weights.chunks_exact(layer.inputs);
            for ((sum, row), bias) in after.iter_mut().zip(rows).zip(&layer.bias) {
                *sum = product(row, &before) + bias;
            }
            layer.activation.apply(&mut after[..layer.bias.len()]);
            std::mem::swap(&mut before, &mut after);
        }
        outputs.copy_from_slice(&before[..OUTPUTS_MAX]);
    }
}

/// The sum of the products. Four sums at once, because each addition waits for the one before it in its sum.
fn product(weights: &[f64], values: &[f64; WIDTH_MAX]) -> f64 {
    let mut sums = [0.0; 4];
    let (fours, rest) = weights.as_chunks::<4>();
    for (weights, values) in fours.iter().zip(values.as_chunks::<4>().0) {
        for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
            *sum += weight * value;
        }
    }
    let rest = rest.iter().zip(&values[fours.len() * 4..]).map(|(weight, value)| weight * value).sum::<f64>();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn layer(reader: &mut Reader<'_>, inputs: usize) -> Read<Layer> {
    let (mut weights, mut bias, mut activation) = (Vec::new(), Vec::new(), None);
    reader.object(&["weights", "bias", "activation"], |reader, place| {
        match place {
            0 => {
                reader.array(WIDTH_MAX, |reader, _| {
                    let row = reader.numbers(inputs)?;
                    if row.len() != inputs {
                        return reader.expected(format!("{inputs} weights, one for each value that comes in"));
                    }
                    weights.extend_from_slice(&row);
                    Ok(())
                })?;
            }
            1 => bias = reader.numbers(WIDTH_MAX)?,
            _ => activation = Some(Activation::read(reader, &Activation::names())?),
        }
        Ok(())
    })?;
    let Some(activation) = activation else { return reader.expected("weights, bias and activation") };
    if bias.is_empty() || weights.len() != bias.len() * inputs {
        return reader.expected("a row of weights for each number of bias");
    }
    Ok(Layer { weights: weights.into(), bias: bias.into(), inputs, activation })
}

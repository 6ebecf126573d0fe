//! Models that were trained elsewhere: read from a file of JSON, and evaluated on a few numbers. `docs/MODELS.md` is the format.
//!
//! A model is parsed once into flat lists, and everything about it is checked then: every index, every bound, that trees are trees, and that
//! it makes of its own examples what its author's library made of them. Evaluating it afterwards allocates nothing and cannot fail, except that
//! there is no score where an input is missing or no finite number: a guess for a missing value would be a score of something else.
//!
//! ```text
//! reader -> dense, trees -> parse -> Model -> Scores
//! features: a window of readings into numbers
//! ```
//!
//! Deliberately absent: training, files, and formats of others.

mod dense;
mod parse;
mod reader;
mod trees;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use dense::{Activation, Network};
use trees::Forest;

pub(crate) use reader::shown;

/// Longest file, in bytes.
pub const MODEL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Inputs of a model at most.
pub const INPUTS_MAX: usize = 128;
/// Labels of a classifier at most.
pub const OUTPUTS_MAX: usize = 64;
/// Values of a layer at most.
pub const WIDTH_MAX: usize = 256;
/// Weights of all layers at most.
pub const WEIGHTS_MAX: usize = 131_072;
/// Trees of a model at most.
pub const TREES_MAX: usize = 2_000;
/// Nodes of all trees at most, without leaves.
pub const NODES_MAX: usize = 500_000;
/// Depth of a tree at most.
pub const DEPTH_MAX: usize = 64;
/// Depths of all trees together at most: what a score may cost.
pub const STEPS_MAX: usize = 30_000;
/// Examples of a model at most.
pub const EXAMPLES_MAX: usize = 256;
/// An example counts as met within this, beside 1 or beside its own size, whichever is larger.
pub const EXAMPLE_TOLERANCE: f64 = 1e-9;

/// What is wrong with a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelFault {
    /// The file is too long.
    #[error("longer than {MODEL_BYTES_MAX} bytes")]
    TooLong,
    /// It is not text.
    #[error("not UTF-8")]
    NotText,
    /// It is no JSON.
    #[error("no JSON at byte {byte}: {what}")]
    NotJson {
        /// Counted from 0.
        byte: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Something else is there than there may be.
    #[error("expected {0}")]
    Expected(String),
    /// The model does not do what its author says it does.
    #[error(
        "the model makes {found} of this, and should make {expected}: the file was changed, or is of another program's version"
    )]
    Example {
        /// What it makes of the example's inputs.
        found: String,
        /// What the file says that it makes.
        expected: String,
    },
}

/// Why a model is refused, and where in its file that is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct ModelError {
    /// As in `$.estimator.trees[3].left`.
    pub path: String,
    /// What is wrong there.
    pub fault: ModelFault,
}

/// What is computed of the readings of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The arithmetic mean.
    Mean,
    /// The standard deviation, as of a whole population; of two readings or more.
    Deviation,
    /// The smallest.
    Minimum,
    /// The largest.
    Maximum,
    /// The change a second, of the straight line with the least squares; of two readings of different times or more.
    Slope,
    /// The newest.
    Last,
    /// How many there are.
    Count,
}

impl Feature {
    /// Each of them, by its name in files and in the configuration.
    pub const ALL: [(&'static str, Feature); 7] = [
        ("mean", Feature::Mean),
        ("deviation", Feature::Deviation),
        ("minimum", Feature::Minimum),
        ("maximum", Feature::Maximum),
        ("slope", Feature::Slope),
        ("last", Feature::Last),
        ("count", Feature::Count),
    ];

    /// The feature of this name.
    pub fn named(name: &str) -> Option<Feature> {
        Feature::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, feature)| feature)
    }
}

/// One of the numbers that a model is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Unique within the model: `engine_temperature.mean`, or any name of a member of a record.
    pub name: Box<str>,
    /// Which feature of which metric it is; `None` if only a rule can say what it is.
    pub of: Option<(Box<str>, Feature)>,
}

impl Input {
    /// An input by its name: with a metric and a feature behind the last dot, it is that.
    pub fn named(name: &str) -> Input {
        let of = name.rsplit_once('.').and_then(|(metric, feature)| {
            let feature = Feature::named(feature).filter(|_| !metric.is_empty())?;
            Some((metric.into(), feature))
        });
        Input { name: name.into(), of }
    }
}

/// What a model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Regression,
    /// How probable each label is.
    Classification,
    /// How unusual its inputs are: what scikit-learn calls `score_samples` and `decision_function`.
    Outlier,
}

/// Brings each input to mean 0 and deviation 1.
#[derive(Clone, Debug, PartialEq)]
struct Scaler {
    mean: Box<[f64]>,
    scale: Box<[f64]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Estimator {
    /// `link` of the last layer is its activation.
    Dense(Network),
    /// The mean of all trees.
    Mean(Forest),
    /// The sum of all trees, each for one output in turn.
    Boosting { forest: Forest, initial: Box<[f64]>, rate: f64, link: Activation },
    /// The mean length of the ways to the leaves, beside the usual one among so many samples.
    Isolation { forest: Forest, usual_length: f64, offset: f64 },
}

/// A model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    about: Box<str>,
    inputs: Box<[Input]>,
    labels: Box<[Box<str>]>,
    scaler: Option<Scaler>,
    estimator: Estimator,
}

/// What a model makes of its inputs: one number, a probability for each label, or the two numbers of [`Kind::Outlier`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    values: [f64; OUTPUTS_MAX],
    count: usize,
}

impl Scores {
    /// In the order of the labels.
    pub fn values(&self) -> &[f64] {
        &self.values[..self.count]
    }

    /// The place of the greatest; the first of several.
    pub fn greatest(&self) -> usize {
        let mut greatest = 0;
        for (place, value) in self.values().iter().enumerate() {
            if *value > self.values[greatest] {
                greatest = place;
            }
        }
        greatest
    }
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Model, ModelError> {
        parse::model(file)
    }

    /// Where it comes from, as its author says.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// What it is given, in this order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Of a classifier, what it distinguishes.
    pub fn labels(&self) -> &[Box<str>] {
        &self.labels
    }

    /// What it says.
    pub fn kind(&self) -> Kind {
        match (&self.estimator, self.labels.is_empty()) {
            (Estimator::Isolation { .. }, _) => Kind::Outlier,
            (_, true) => Kind::Regression,
            (_, false) => Kind::Classification,
        }
    }

    /// The kind of its estimator, in a word.
    pub fn algorithm(&self) -> &'static str {
        match &self.estimator {
            Estimator::Dense(_) => "dense",
            Estimator::Mean(_) => "forest",
            Estimator::Boosting { .. } => "boosting",
            Estimator::Isolation { .. } => "isolation_forest",
        }
    }

    /// How large it is: trees and their nodes with leaves, or 0 and its weights.
    pub fn size(&self) -> (usize, usize) {
        match &self.estimator {
            Estimator::Dense(network) => (0, network.weights()),
            Estimator::Mean(forest) | Estimator::Boosting { forest, .. } | Estimator::Isolation { forest, .. } => {
                (forest.trees(), forest.nodes())
            }
        }
    }

    /// What a score costs: multiplications, or steps in trees.
    pub fn steps(&self) -> usize {
        match &self.estimator {
            Estimator::Dense(network) => network.weights(),
            Estimator::Mean(forest) | Estimator::Boosting { forest, .. } | Estimator::Isolation { forest, .. } => {
                forest.steps() + forest.trees()
            }
        }
    }

    /// What it makes of these numbers, which are in the order of its inputs. `None` if there are more or fewer, or one of them or of the
    /// results is infinite or no number; for trees, also if one is too large for single precision.
    pub fn scores(&self, inputs: &[f64]) -> Option<Scores> {
        if inputs.len() != self.inputs.len() {
            return None;
        }
        let mut values = [0.0; INPUTS_MAX];
        values[..inputs.len()].copy_from_slice(inputs);
        if let Some(Scaler { mean, scale }) = &self.scaler {
            for ((value, mean), scale) in values.iter_mut().zip(mean).zip(scale) {
                *value = (*value - mean) / scale;
            }
        }
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut scores = Scores { values: [0.0; OUTPUTS_MAX], count: 1 };
        self.estimate(&values, &mut scores)?;
        if self.labels.len() == 2 && scores.count == 1 {
            // The probability of the second label.
            let second = scores.values[0];
            (scores.values[0], scores.values[1], scores.count) = (1.0 - second, second, 2);
        }
        scores.values().iter().all(|value| value.is_finite()).then_some(scores)
    }

    fn estimate(&self, inputs: &[f64; INPUTS_MAX], scores: &mut Scores) -> Option<()> {
        match &self.estimator {
            Estimator::Dense(network) => {
                network.apply(inputs, &mut scores.values);
                scores.count = network.outputs();
            }
            Estimator::Mean(forest) => {
                scores.count = self.labels.len().max(1);
                let sums = &mut scores.values[..scores.count];
                forest.walk(&single(inputs)?, |_, values| {
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                });
                let trees = forest.trees() as f64;
                sums.iter_mut().for_each(|sum| *sum /= trees);
            }
            Estimator::Boosting { forest, initial, rate, link } => {
                scores.count = initial.len();
                let sums = &mut scores.values[..scores.count];
                sums.copy_from_slice(initial);
                forest.walk(&single(inputs)?, |tree, values| {
                    let sum = tree % initial.len();
                    sums[sum] += rate * values.first().copied().unwrap_or(f64::NAN);
                });
                link.apply(sums);
            }
            Estimator::Isolation { forest, usual_length, offset } => {
                let mut length = 0.0;
                forest.walk(&single(inputs)?, |_, values| length += values.first().copied().unwrap_or(f64::NAN));
                let score = -(-length / (forest.trees() as f64 * usual_length)).exp2();
                (scores.values[0], scores.values[1], scores.count) = (score, score - offset, 2);
            }
        }
        Some(())
    }

    /// The one number that a threshold is for: of a regression its value, of a classification how probable the label is, of an outlier how
    /// unusual it is, from 0 to 1. Without a label the last one is meant, which of two is the one that was found.
    pub fn score(&self, scores: &Scores, label: Option<&str>) -> Option<f64> {
        match (self.kind(), label) {
            (Kind::Outlier, _) => Some(-scores.values[0]),
            (_, None) => scores.values().last().copied(),
            (_, Some(label)) => {
                let place = self.labels.iter().position(|known| **known == *label)?;
                scores.values().get(place).copied()
            }
        }
    }
}

/// Trees compare in single precision.
fn single(inputs: &[f64; INPUTS_MAX]) -> Option<[f32; INPUTS_MAX]> {
    let single = inputs.map(|value| value as f32);
    single.iter().all(|value| value.is_finite()).then_some(single)
}

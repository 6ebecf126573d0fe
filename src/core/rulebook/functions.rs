//! Functions of rules that AWS IoT SQL does not have.

use crate::rules::{ExtraFunction, Statistic};

/// A function of rules that see readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadingFunction {
    /// Over the last seconds of a metric.
    Window(Statistic),
    /// Seconds since a metric was heard.
    Age,
    /// What the detectors say of a metric's latest reading, in a word.
    Verdict,
    /// The same as a number: 1 is their threshold.
    Score,
    /// The metric of the reading that has come.
    Metric,
    /// Its value.
    Value,
    /// Its device.
    Device,
    Inside,
    Entered,
    Left,
    /// The zone that the device is in.
    Zone,
    Lookup,
    /// What a model makes of the last readings of the device.
    Predict,
    /// The same as one number.
    ModelScore,
    /// The same for people, with what the model was given.
    ModelReason,
    /// What a model makes of a record.
    PredictRecord,
}

impl ReadingFunction {
    /// Whether it asks a model about the last readings of the device.
    pub fn asks_model(self) -> bool {
        matches!(self, ReadingFunction::Predict | ReadingFunction::ModelScore | ReadingFunction::ModelReason)
    }
}

/// A function of rules that see messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageFunction {
    Lookup,
    Inside,
    Zone,
    /// What a model makes of a record.
    PredictRecord,
}

const fn function(name: &'static str, arguments_min: usize, arguments_max: usize, names: usize) -> ExtraFunction {
    ExtraFunction { name, arguments_min, arguments_max, names }
}

/// As in AWS IoT: the model, a role, which means nothing here, and the record.
const PREDICT_RECORD: ExtraFunction = function("machinelearning_predict", 3, 3, 1);

const READING: [(ReadingFunction, ExtraFunction); 21] = [
    (ReadingFunction::Window(Statistic::Average), function("avg", 2, 2, 1)),
    (ReadingFunction::Window(Statistic::Minimum), function("min", 2, 2, 1)),
    (ReadingFunction::Window(Statistic::Maximum), function("max", 2, 2, 1)),
    (ReadingFunction::Window(Statistic::Count), function("count", 2, 2, 1)),
    (ReadingFunction::Window(Statistic::Deviation), function("stddev", 2, 2, 1)),
    (ReadingFunction::Window(Statistic::Rate), function("rate", 2, 2, 1)),
    (ReadingFunction::Age, function("age", 1, 1, 1)),
    (ReadingFunction::Verdict, function("verdict", 1, 1, 1)),
    (ReadingFunction::Score, function("score", 1, 1, 1)),
    (ReadingFunction::Metric, function("metric", 0, 0, 0)),
    (ReadingFunction::Value, function("value", 0, 0, 0)),
    (ReadingFunction::Device, function("device", 0, 0, 0)),
    (ReadingFunction::Inside, function("inside", 3, 3, 3)),
    (ReadingFunction::Entered, function("entered", 3, 4, 3)),
    (ReadingFunction::Left, function("left", 3, 4, 3)),
    (ReadingFunction::Zone, function("zone", 2, 2, 2)),
    (ReadingFunction::Lookup, function("lookup", 2, 2, 1)),
    (ReadingFunction::Predict, function("predict", 1, 1, 1)),
    (ReadingFunction::ModelScore, function("model_score", 1, 2, 1)),
    (ReadingFunction::ModelReason, function("model_reason", 1, 2, 1)),
    (ReadingFunction::PredictRecord, PREDICT_RECORD),
];

const MESSAGE: [(MessageFunction, ExtraFunction); 4] = [
    (MessageFunction::Lookup, function("lookup", 2, 2, 1)),
    (MessageFunction::Inside, function("inside", 3, 3, 1)),
    (MessageFunction::Zone, function("zone", 2, 2, 0)),
    (MessageFunction::PredictRecord, PREDICT_RECORD),
];

/// In the order of [`READING`].
pub(super) const READING_FUNCTIONS: [ExtraFunction; READING.len()] = {
    let mut functions = [READING[0].1; READING.len()];
    let mut at = 0;
    while at < READING.len() {
        functions[at] = READING[at].1;
        at += 1;
    }
    functions
};

/// In the order of [`MESSAGE`].
pub(super) const MESSAGE_FUNCTIONS: [ExtraFunction; MESSAGE.len()] =
    [MESSAGE[0].1, MESSAGE[1].1, MESSAGE[2].1, MESSAGE[3].1];

pub(super) fn of_readings(place: usize) -> Option<ReadingFunction> {
    READING.get(place).map(|(function, _)| *function)
}

pub(super) fn of_messages(place: usize) -> Option<MessageFunction> {
    MESSAGE.get(place).map(|(function, _)| *function)
}

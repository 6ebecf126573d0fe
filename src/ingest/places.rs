//! What a route says of where things are in a payload.

use super::numbers::Numbers;
use super::time_format::TimeFormat;
use crate::core::path::{Path, Text};

/// One metric, or several if its path leads to several values.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    pub path: Path,
    /// Without one it is called as the payload calls it.
    pub name: Option<String>,
    pub factor: f64,
    pub offset: f64,
}

/// A text that is kept beside the readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub path: Path,
    pub name: Option<String>,
}

/// All of it. What is `None` is found as in a payload of the built-in routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// What is a reading, or a few of one time: all that the path leads to.
    pub each: Option<Path>,
    pub device: Option<Text>,
    pub metric: Option<Text>,
    pub value: Option<Path>,
    pub time: Option<Path>,
    pub time_format: TimeFormat,
    /// Zone of times without one, in seconds east of UTC.
    pub zone_s: Option<i32>,
    pub sequence: Option<Path>,
    pub metrics: Option<Vec<Measure>>,
    pub attributes: Option<Vec<Attribute>>,
    pub ignore: Vec<Path>,
    pub numbers: Option<Numbers>,
    /// Names of the columns of CSV; without them its first line names them.
    pub columns: Option<Vec<String>>,
    pub separator: Option<char>,
    /// Messages without a reading belong to the format.
    pub may_be_empty: bool,
}

impl Places {
    /// With what `defaults` say where this says nothing.
    pub fn or(self, defaults: Places) -> Places {
        let is_timed = self.time.is_some() || self.time_format != TimeFormat::Auto;
        Places {
            each: self.each.or(defaults.each),
            device: self.device.or(defaults.device),
            metric: self.metric.or(defaults.metric),
            value: self.value.or(defaults.value),
            time: self.time.or(defaults.time),
            time_format: if is_timed { self.time_format } else { defaults.time_format },
            zone_s: self.zone_s.or(defaults.zone_s),
            sequence: self.sequence.or(defaults.sequence),
            metrics: self.metrics.or(defaults.metrics),
            attributes: self.attributes.or(defaults.attributes),
            ignore: if self.ignore.is_empty() { defaults.ignore } else { self.ignore },
            numbers: self.numbers.or(defaults.numbers),
            columns: self.columns.or(defaults.columns),
            separator: self.separator.or(defaults.separator),
            may_be_empty: self.may_be_empty || defaults.may_be_empty,
        }
    }

    /// Which texts are numbers.
    pub fn numbers(&self) -> Numbers {
        self.numbers.unwrap_or_default()
    }

    /// Whether it says anything: otherwise payloads need not become documents.
    pub fn is_any(&self) -> bool {
        *self != Places::default()
    }
}

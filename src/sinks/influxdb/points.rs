//! Records as points: what becomes of each, and what has no form as one.
//!
//! A series has one value a timestamp: a second one takes the place of the first, silently. Readings have milliseconds, and two of one series may share
//! theirs; so the part of a timestamp below the millisecond tells them apart. It follows from the identity of the record, so that one that is written again
//! is the same point.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use super::line::Line;
use crate::core::delivery::OutgoingRecord;

#[cfg(test)]
mod tests;

/// Measurements of what is no reading.
pub const ANOMALIES: &str = "outrider_anomalies";
pub const ALERTS: &str = "outrider_alerts";
pub const GATEWAY: &str = "outrider_gateway";
pub const LEDGER: &str = "outrider_ledger";

/// Names that attributes cannot have as tags: they are tags or fields already, or servers keep them for themselves.
pub const TAKEN: [&str; 11] =
    ["gateway", "device", "metric", "detector", "kind", "rule", "stream", "sink", "time", "value", "value_exact"];

const PLACE_OF_METRIC: &str = "{metric}";
const NANOSECONDS: i64 = 1_000_000;

/// A nested field is named by its whole path, so a record may be much shorter than its line. VictoriaMetrics takes no line of more than 256 KiB.
const LINE_BYTES_MAX: usize = 128 << 10;

/// The measurement of readings: one for each metric, or one for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    before: String,
    /// What follows the metric, if it is part of the name.
    after: Option<String>,
}

impl Measurement {
    /// The text may have the metric's place in it, once.
    pub fn parse(text: &str) -> Option<Measurement> {
        let (before, after) = match text.split_once(PLACE_OF_METRIC) {
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (text, None),
        };
        let is_right = !before.contains(['{', '}']) && !after.iter().any(|after| after.contains(['{', '}']));
        is_right.then(|| Measurement { before: before.to_owned(), after })
    }

    fn of<'a>(&'a self, metric: &'a str) -> Cow<'a, str> {
        match &self.after {
            None => Cow::Borrowed(&self.before),
            Some(after) if self.before.is_empty() && after.is_empty() => Cow::Borrowed(metric),
            Some(after) => Cow::Owned(format!("{}{metric}{after}", self.before)),
        }
    }
}

/// How exact timestamps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Milliseconds,
    /// Of which those below a millisecond are zero.
    WholeMilliseconds,
    /// Of which those below a millisecond follow from the record's identity.
    Nanoseconds,
}

/// Which form records get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub measurement: Measurement,
    /// Attributes that become tags.
    pub tags: Vec<String>,
    pub precision: Precision,
    /// Whether fields may be texts.
    pub has_texts: bool,
}

/// A point, by where it is in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub range: Range<usize>,
    pub record: usize,
    pub time: i64,
}

/// What becomes of the records of a request.
#[derive(Debug, Default)]
pub struct Points {
    /// Lines, one a point.
    pub body: Vec<u8>,
    pub points: Vec<Point>,
    /// For each record, how many of its lines have no form as a point.
    pub passed_over: Vec<u64>,
}

impl Points {
    /// The lines of these points.
    pub fn body_of(&self, points: &[usize]) -> Vec<u8> {
        points.iter().flat_map(|point| &self.body[self.points[*point].range.clone()]).copied().collect()
    }
}

/// What is needed of records of any type.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    gateway: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    position: u64,
    #[serde(default)]
    device: Option<String>,
    #[serde(default, borrow)]
    metric: Cow<'a, str>,
    #[serde(default)]
    value: Option<f64>,
    #[serde(default)]
    value_exact: Option<String>,
    #[serde(default)]
    measured_at_ms: Option<i64>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Anomaly {
    detector: String,
    score: Option<f64>,
    expected: Option<f64>,
    spread: Option<f64>,
    reason: String,
    late: bool,
}

#[derive(Deserialize)]
struct Alert {
    kind: String,
    state: String,
    severity: String,
    expected: Option<f64>,
    score: Option<f64>,
    count: f64,
    updated_at_ms: i64,
    message: String,
}

#[derive(Deserialize)]
struct RuleRecord {
    stream: String,
    rule: String,
    received_at_ms: i64,
    payload: Option<Value>,
}

impl Form {
    /// The points of these records, in their order.
    pub fn points(&self, records: &[OutgoingRecord]) -> Points {
        let mut points = Points { passed_over: vec![0; records.len()], ..Points::default() };
        for (number, record) in records.iter().enumerate() {
            for line in record.data.split_inclusive(|byte| *byte == b'\n') {
                let before = points.points.len();
                let bytes_max = (8 * line.len() + (4 << 10)).min(LINE_BYTES_MAX);
                let mut writer = Writer { form: self, points: &mut points, record: number, bytes_max };
                writer.line(line);
                if points.points.len() == before {
                    points.passed_over[number] += 1;
                }
            }
        }
        points
    }
}

/// Writes what becomes of one record's lines.
struct Writer<'a> {
    form: &'a Form,
    points: &'a mut Points,
    record: usize,
    /// Of each of its points.
    bytes_max: usize,
}

impl Writer<'_> {
    fn line(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else { return };
        match &*record.kind {
            "reading" => self.reading(&record),
            "anomaly" => {
                if let Ok(anomaly) = serde_json::from_slice(line) {
                    self.anomaly(&record, &anomaly);
                }
            }
            "alert" => {
                if let Ok(alert) = serde_json::from_slice(line) {
                    self.alert(&record, &alert);
                }
            }
            "gateway" => {
                if let Ok(Value::Object(state)) = serde_json::from_slice(line) {
                    self.gateway(&record, &state);
                }
            }
            "record" => {
                if let Ok(rule) = serde_json::from_slice(line) {
                    self.rule(&record, &rule);
                }
            }
            _ => {}
        }
    }

    fn reading(&mut self, record: &Record<'_>) {
        let form = self.form;
        let measurement = form.measurement.of(&record.metric);
        let metric = if form.measurement.after.is_none() { &record.metric } else { "" };
        let mut tags = vec![("device", record.device.as_deref().unwrap_or_default()), ("metric", metric)];
        for name in &form.tags {
            tags.extend(record.attributes.get(name).map(|value| (&**name, &**value)));
        }
        self.point(record, &measurement, tags, record.measured_at_ms, |line| {
            let Some(value) = record.value else { return };
            line.number("value", value);
            if let (Some(exact), true) = (&record.value_exact, form.has_texts) {
                line.text("value_exact", exact);
            }
        });
    }

    fn anomaly(&mut self, record: &Record<'_>, anomaly: &Anomaly) {
        let has_texts = self.form.has_texts;
        let device = record.device.as_deref().unwrap_or_default();
        let tags = vec![("device", device), ("metric", &record.metric), ("detector", &anomaly.detector)];
        self.point(record, ANOMALIES, tags, record.measured_at_ms, |line| {
            let Anomaly { score, expected, spread, late, reason, .. } = anomaly;
            for (key, value) in [("score", score), ("value", &record.value), ("expected", expected), ("spread", spread)]
            {
                value.iter().for_each(|value| line.number(key, *value));
            }
            line.number("late", f64::from(u8::from(*late)));
            if has_texts {
                line.text("reason", reason);
            }
        });
    }

    fn alert(&mut self, record: &Record<'_>, alert: &Alert) {
        let has_texts = self.form.has_texts;
        let device = record.device.as_deref().unwrap_or_default();
        let tags = vec![("device", device), ("metric", &record.metric), ("kind", &alert.kind)];
        self.point(record, ALERTS, tags, Some(alert.updated_at_ms), |line| {
            let Alert { state, severity, expected, score, count, message, .. } = alert;
            line.number("raised", f64::from(u8::from(state == "raised")));
            let severities = ["warning", "minor", "major", "critical"];
            if let Some(at) = severities.iter().position(|name| name == severity) {
                line.number("severity", (at + 1) as f64);
            }
            line.number("count", *count);
            for (key, value) in [("value", &record.value), ("expected", expected), ("score", score)] {
                value.iter().for_each(|value| line.number(key, *value));
            }
            if has_texts {
                line.text("message", message);
            }
        });
    }

    /// The state itself, and a point for each row of the ledger.
    fn gateway(&mut self, record: &Record<'_>, state: &serde_json::Map<String, Value>) {
        let at_ms = state.get("at_ms").and_then(Value::as_i64);
        self.point(record, GATEWAY, Vec::new(), at_ms, |line| {
            let is_synced = state.get("clock").is_some_and(|clock| clock == "synced");
            line.number("clock_synced", f64::from(u8::from(is_synced)));
            let ours = state.iter().filter(|(key, _)| !["v", "position", "at_ms"].contains(&key.as_str()));
            for (key, value) in ours {
                numbers(line, &mut key.clone(), value, '_');
            }
        });
        let rows = state.get("ledger").and_then(Value::as_array);
        for row in rows.into_iter().flatten() {
            let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
            let tags = vec![("stream", text("stream")), ("sink", text("sink"))];
            self.point(record, LEDGER, tags, at_ms, |line| {
                for (key, value) in row.as_object().into_iter().flatten() {
                    numbers(line, &mut key.clone(), value, '_');
                }
            });
        }
    }

    /// All numbers of a rule's payload.
    fn rule(&mut self, record: &Record<'_>, rule: &RuleRecord) {
        let device = record.device.as_deref().unwrap_or_default();
        let tags = vec![("device", device), ("rule", &rule.rule)];
        self.point(record, &rule.stream, tags, Some(rule.received_at_ms), |line| match &rule.payload {
            Some(Value::Object(payload)) => {
                for (key, value) in payload {
                    // A field cannot have the name of a tag, and none can be named time.
                    let is_taken = TAKEN.contains(&key.as_str()) && key != "value";
                    let mut key = if is_taken || key.is_empty() { format!("{key}_") } else { key.clone() };
                    numbers(line, &mut key, value, '.');
                }
            }
            Some(payload) => numbers(line, &mut "value".to_owned(), payload, '.'),
            None => {}
        });
    }

    /// Adds a point, if it has a time and fields.
    fn point(
        &mut self,
        record: &Record<'_>,
        measurement: &str,
        tags: Vec<(&str, &str)>,
        at_ms: Option<i64>,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        let time = at_ms.and_then(|at_ms| time(self.form.precision, at_ms, record));
        let Some(time) = time.filter(|_| !measurement.is_empty()) else { return };
        let begin = self.points.body.len();
        let mut line = Line::begin(&mut self.points.body, measurement, self.bytes_max);
        let mut tags: Vec<(&str, &str)> = tags.into_iter().chain([("gateway", &*record.gateway)]).collect();
        // In the order in which servers keep them.
        tags.sort_unstable();
        tags.iter().for_each(|(key, value)| line.tag(key, value));
        fields(&mut line);
        if line.end(time) {
            self.points.points.push(Point { range: begin..self.points.body.len(), record: self.record, time });
        }
    }
}

/// Adds the number that this is, or those that it holds, by names that begin with `key`. Booleans are 0 and 1.
fn numbers(line: &mut Line<'_>, key: &mut String, value: &Value, separator: char) {
    match value {
        Value::Number(number) => number.as_f64().into_iter().for_each(|number| line.number(key, number)),
        Value::Bool(is_true) => line.number(key, f64::from(u8::from(*is_true))),
        Value::Object(object) => {
            for (inner, value) in object {
                let outer = key.len();
                key.push(separator);
                key.push_str(inner);
                numbers(line, key, value, separator);
                key.truncate(outer);
            }
        }
        Value::Array(_) | Value::String(_) | Value::Null => {}
    }
}

fn time(precision: Precision, at_ms: i64, record: &Record<'_>) -> Option<i64> {
    match precision {
        Precision::Milliseconds => Some(at_ms),
        Precision::WholeMilliseconds => at_ms.checked_mul(NANOSECONDS),
        Precision::Nanoseconds => {
            // Positions begin anew with each run.
            let run = u64::from_str_radix(&record.run, 16).unwrap_or(0) % NANOSECONDS as u64;
            let below = (record.position % NANOSECONDS as u64 + run) % NANOSECONDS as u64;
            at_ms.checked_mul(NANOSECONDS)?.checked_add(below as i64)
        }
    }
}

//! Prints the findings of a line, or its window with `--stats`.

use std::collections::HashMap;
use std::io::{self, Write};

use super::parse::Line;
use crate::core::detection::detectors::Finding;
use crate::core::detection::detectors::maturity::Maturity;
use crate::core::detection::severity::Severity;
use crate::core::detection::window::{Admission, Sample, Window};
use crate::core::rulebook::ModelWord;
use crate::core::{json, record};

/// With `--stats`, windows are exact up to some four thousand readings per second.
const STATS_SAMPLES_MAX: usize = 1 << 16;

/// What a detector says, or a model.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub detector: &'a str,
    pub score: f64,
    pub expected: Option<f64>,
    pub spread: Option<f64>,
    pub reason: &'a str,
}

impl<'a> Said<'a> {
    pub fn by(finding: &'a Finding) -> Said<'a> {
        let Finding { detector, score, expected, spread, .. } = *finding;
        Said { detector: detector.name(), score, expected, spread, reason: &finding.reason }
    }

    /// Its score is its own, and not in thresholds: those may be 0 or less.
    pub fn by_model(model: &'a str, word: &'a ModelWord) -> Said<'a> {
        Said { detector: model, score: word.score, expected: None, spread: None, reason: &word.reason }
    }
}

/// What is printed of a finding.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub device: &'a str,
    pub metric: &'a str,
    pub at_ms: i64,
    /// `None` of a silence.
    pub value: Option<f64>,
    pub said: Said<'a>,
    pub maturity: Option<Maturity>,
    /// `None` if it raises no alert.
    pub severity: Option<Severity>,
}

pub(super) fn write_row(output: &mut impl Write, json: bool, row: &Row<'_>) -> io::Result<()> {
    let &Row { device, metric, at_ms, value, said, maturity, severity } = row;
    let name = said.detector;
    if json {
        let mut row = b"{\"device\":".to_vec();
        json::write_text(&mut row, device);
        row.extend_from_slice(b",\"metric\":");
        json::write_text(&mut row, metric);
        row.extend_from_slice(format!(",\"timestamp_ms\":{at_ms},\"detector\":\"{name}\"").as_bytes());
        let numbers =
            [("value", value), ("score", Some(said.score)), ("expected", said.expected), ("spread", said.spread)];
        for (key, number) in numbers {
            row.extend_from_slice(format!(",\"{key}\":").as_bytes());
            record::write_f64(&mut row, number.unwrap_or(f64::NAN));
        }
        row.extend_from_slice(b",\"reason\":");
        json::write_text(&mut row, said.reason);
        for (key, name) in [("severity", severity.map(Severity::name)), ("maturity", maturity.map(Maturity::name))] {
            let name = name.map_or("null".to_owned(), |name| format!("\"{name}\""));
            row.extend_from_slice(format!(",\"{key}\":{name}").as_bytes());
        }
        row.extend_from_slice(b"}\n");
        return output.write_all(&row);
    }
    if !device.is_empty() {
        write!(output, "{device}/")?;
    }
    write!(output, "{metric},{at_ms},")?;
    if let Some(value) = value {
        write!(output, "{value}")?;
    }
    write!(output, ",{name},{:.4},", said.score)?;
    match said.expected {
        Some(expected) => writeln!(output, "{expected}"),
        None => writeln!(output),
    }
}

pub(super) fn write_statistics(
    windows: &mut HashMap<String, Window>,
    line: &Line<'_>,
    output: &mut impl Write,
) -> io::Result<()> {
    let Line { ref series, at_ms, value, .. } = *line;
    if !windows.contains_key(&**series) {
        windows.insert(series.to_string(), Window::default());
    }
    let window = windows.get_mut(&**series).expect("just inserted");
    let sample = Sample { at_ms, value };
    let admitted = value.is_finite().then(|| window.admit(sample));
    let statistics = window.statistics(at_ms);
    if admitted.is_some_and(|admission| admission != Admission::Suspect) {
        window.insert(sample, STATS_SAMPLES_MAX, |_| ());
    }
    write!(output, "{series},{at_ms},{},", statistics.count)?;
    write_number(output, statistics.mean)?;
    output.write_all(b",")?;
    write_number(output, statistics.deviation)?;
    output.write_all(b"\n")
}

fn write_number(output: &mut impl Write, number: f64) -> io::Result<()> {
    if number.is_nan() { output.write_all(b"nan") } else { write!(output, "{number:e}") }
}

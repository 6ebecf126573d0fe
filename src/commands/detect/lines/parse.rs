//! Parses lines of the input: `series,timestamp,value`, or records written by the gateway.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use clap::ValueEnum;

/// A longer line is malformed, which bounds the memory whatever the file is.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// The unit of timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    S,
    Ms,
    Us,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    pub series: Cow<'a, str>,
    /// Length of the device's name in it; `None` for a recording of its own.
    pub device_len: Option<usize>,
    pub at_ms: i64,
    pub value: f64,
}

impl Line<'_> {
    pub fn names(&self) -> (&str, &str) {
        match self.device_len {
            Some(len) => (&self.series[..len], &self.series[len + 1..]),
            None => ("", &self.series),
        }
    }
}

pub enum Parsed<'a> {
    Line(Line<'a>),
    /// An empty line, or a record that is not a reading.
    Other,
    Malformed,
}

/// `None` stands for a line that is too long.
pub fn parse(line: Option<&[u8]>, unit: Unit) -> Parsed<'_> {
    let Some(line) = line else { return Parsed::Malformed };
    // Spreadsheets write a byte order mark at the beginning.
    let Ok(text) = std::str::from_utf8(line) else { return Parsed::Malformed };
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim_ascii().is_empty() {
        return Parsed::Other;
    }
    if text.starts_with('{') {
        return parse_record(text);
    }
    parse_fields(text, unit).map_or(Parsed::Malformed, Parsed::Line)
}

fn parse_fields(text: &str, unit: Unit) -> Option<Line<'_>> {
    let mut fields = text.rsplitn(3, ',');
    let value = fields.next()?.trim().parse().ok()?;
    let at_ms = parse_time(fields.next()?.trim(), unit)?;
    let series = fields.next().filter(|series| !series.is_empty() && !series.contains(','))?;
    Some(Line { series: series.into(), device_len: series.rfind('/'), at_ms, value })
}

fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    match (text.parse::<i64>(), unit) {
        (Ok(number), Unit::S) => Some(number.saturating_mul(1000)),
        (Ok(number), Unit::Ms) => Some(number),
        (Ok(number), Unit::Us) => Some(number.div_euclid(1000)),
        (Err(_), Unit::S) => text.parse::<f64>().ok().filter(|s| s.is_finite()).map(|s| (s * 1000.0).round() as i64),
        (Err(_), _) => None,
    }
}

/// A record written by the gateway. An anomaly is skipped: it repeats a reading of the raw stream.
fn parse_record(text: &str) -> Parsed<'_> {
    #[derive(serde::Deserialize)]
    struct Record<'a> {
        #[serde(rename = "type")]
        kind: Option<&'a str>,
        #[serde(borrow)]
        device: Option<Cow<'a, str>>,
        #[serde(borrow)]
        metric: Option<Cow<'a, str>>,
        value: Option<f64>,
        measured_at_ms: Option<i64>,
    }
    match serde_json::from_str(text) {
        Ok(Record {
            kind: Some("reading"),
            device: Some(device),
            metric: Some(metric),
            value,
            measured_at_ms: Some(at_ms),
        }) => {
            let series = format!("{device}/{metric}").into();
            Parsed::Line(Line { series, device_len: Some(device.len()), at_ms, value: value.unwrap_or(f64::NAN) })
        }
        Ok(Record { kind: Some("anomaly" | "alert" | "gateway" | "record"), .. }) => Parsed::Other,
        _ => Parsed::Malformed,
    }
}

/// Calls `act` with each line and its length, and without the line's text if it is too long.
pub fn for_each_line(
    mut input: impl BufRead,
    mut act: impl FnMut(Option<&[u8]>, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            let skipped = input.skip_until(b'\n')?;
            act(None, line.len() + skipped)?;
            continue;
        }
        act(Some(&line), line.len())?;
    }
}

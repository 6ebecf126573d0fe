//! The detectors over lines of `series,timestamp_ms,value`.
//!
//! A series is `<device>/<metric>`, split at the last slash. A line that begins with a brace is a record as the gateway writes it, of which
//! the readings count. Lines that are not well formed are skipped, and counted at the end. Memory
//! grows with the number of series, never with the length of the input.
//!
//! Nothing arrives in a file: time is what its lines say. A series is silent as soon as a line of any other is later than its next
//! reading should have been. One without a device in its name is a recording by itself, which ends where it ends: its silence is told
//! when it is over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::ValueEnum;

use super::input::Files;
use super::progress::Progress;
use crate::core::detection::detectors::{Finding, Findings};
use crate::core::detection::monitor::{Arrival, Missed, Monitor, MonitorSettings};
use crate::core::detection::window::{Admission, JUMP_MS, Sample, Window};
use crate::core::reading::Reading;
use crate::core::{json, record};

/// A longer line is malformed: memory stays bounded whatever the file is.
const LINE_BYTES_MAX: usize = 1 << 20;
/// More than the gateway's: whoever gives us a file wants all of it looked at.
pub const SERIES_MAX: usize = 1_000_000;
/// A step of the lines' time beyond so many of the one before is far.
const FAR_STEPS: i64 = 4;
/// With `--stats`, windows are exact up to some four thousand readings a second.
const STATS_SAMPLES_MAX: usize = 1 << 16;
/// How far the lines' time goes on before silences are looked for again, as the gateway does.
const TICK_MS: i64 = 500;

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Rows,
    Json,
    Statistics,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    S,
    Ms,
    Us,
}

/// Timestamps between these are seconds since 1970, or milliseconds of a time before any telemetry.
const LIKE_SECONDS: std::ops::Range<i64> = 500_000_000..100_000_000_000;

/// Reads the files one after the other, or standard input, and prints to standard output.
pub fn run_files(
    files: &[PathBuf],
    settings: MonitorSettings,
    format: Format,
    unit: Option<Unit>,
) -> Result<(), DetectError> {
    let mut bytes = 0;
    let mut input: Box<dyn BufRead> = match files {
        [] => Box::new(io::stdin().lock()),
        paths => {
            let files = Files::find(paths).map_err(DetectError::Io)?;
            // Of what is compressed nobody knows how long it is.
            bytes =
                if paths.iter().all(|path| path.extension().is_some_and(|end| end == "csv")) { files.bytes } else { 0 };
            Box::new(BufReader::with_capacity(1 << 16, files))
        }
    };
    // Who sees the rows go by sees how far it is.
    let is_watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut progress = is_watched.then(|| Progress::new("lines", bytes));
    let outputs = (io::stdout().lock(), io::stderr().lock());
    match run(&mut input, outputs, settings, format, unit, progress.as_mut()) {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(DetectError::Io(error)),
        Ok(Seen { readings: 0, malformed: 1.. }) => Err(DetectError::NothingRead),
        Ok(_) => Ok(()),
    }
}

/// What stopped it.
#[derive(Debug)]
pub enum DetectError {
    /// Of reading, which names its file, or of printing.
    Io(io::Error),
    NothingRead,
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetectError::Io(error) => error.fmt(f),
            DetectError::NothingRead => f.write_str(
                "no line could be read; expected are lines of series,timestamp_ms,value without a header, or the gateway's own records",
            ),
        }
    }
}

impl std::error::Error for DetectError {}

/// What was in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub readings: u64,
    pub malformed: u64,
}

/// Prints a row for each finding of each reading and for each silence, or the window of every reading. The second of the outputs is for
/// what is to be said about the input.
pub fn run(
    input: impl BufRead,
    (output, mut errors): (impl Write, impl Write),
    settings: MonitorSettings,
    format: Format,
    unit: Option<Unit>,
    mut progress: Option<&mut Progress>,
) -> io::Result<Seen> {
    let mut output = io::BufWriter::with_capacity(1 << 16, output);
    let mut replay = Replay::new(settings, format == Format::Json);
    let mut windows = HashMap::new();
    let mut seen = Seen::default();
    for_each_line(input, |line, bytes| {
        if let Some(progress) = &mut progress {
            progress.note(bytes as u64, 1, &mut errors)?;
        }
        let line = match parse(line, unit.unwrap_or(Unit::Ms)) {
            Parsed::Line(line) => line,
            Parsed::Other => return Ok(()),
            Parsed::Malformed => {
                seen.malformed += 1;
                return Ok(());
            }
        };
        seen.readings += 1;
        if seen.readings == 1 && unit.is_none() && LIKE_SECONDS.contains(&line.at_ms) {
            writeln!(
                errors,
                "warning: the timestamp {} looks like seconds and is taken as milliseconds; if it is seconds, say --unit s",
                line.at_ms
            )?;
        }
        match format {
            Format::Statistics => write_statistics(&mut windows, &line, &mut output),
            Format::Rows | Format::Json => replay.line(&line, &mut output),
        }
    })?;
    replay.end(&mut output)?;
    output.flush()?;
    if let Some(progress) = progress {
        progress.end(&mut errors)?;
    }
    match seen.malformed {
        0 => {}
        1 => writeln!(errors, "1 malformed line skipped")?,
        many => writeln!(errors, "{many} malformed lines skipped")?,
    }
    if replay.monitor.over_cap_readings() > 0 {
        writeln!(errors, "{} readings not watched: more than {SERIES_MAX} series", replay.monitor.over_cap_readings())?;
    }
    Ok(seen)
}

/// The detectors, with the lines' time as their clock.
struct Replay {
    monitor: Monitor,
    findings: Findings,
    json: bool,
    now_ms: Option<i64>,
    ticked_ms: i64,
    /// A time far ahead of the others. It is believed when a second line confirms it, or one wild line would silence all the rest.
    suspect_ms: Option<i64>,
    /// The last step ahead: of recordings with a line every few minutes no step of minutes is far.
    step_ms: i64,
}

impl Replay {
    fn new(settings: MonitorSettings, json: bool) -> Replay {
        Replay {
            monitor: Monitor::new(settings),
            findings: Findings::default(),
            json,
            now_ms: None,
            ticked_ms: i64::MIN,
            suspect_ms: None,
            step_ms: 0,
        }
    }

    fn line(&mut self, line: &Line<'_>, output: &mut impl Write) -> io::Result<()> {
        let now_ms = self.advance(line.at_ms, output)?;
        if now_ms >= self.ticked_ms.saturating_add(TICK_MS) || now_ms < self.ticked_ms {
            self.tick(now_ms, output)?;
        }
        let Line { at_ms, value, .. } = *line;
        let (device, metric) = line.names();
        let reading = Reading::at(at_ms, device, metric, value);
        if device.is_empty()
            && let Some(index) = self.monitor.index_of(device, metric).filter(|&index| self.monitor.is_silent(index))
        {
            let gap = self.monitor.gap_of(Missed::Series(index), now_ms);
            write_row(output, self.json, (device, metric), at_ms, None, &gap)?;
        }
        self.monitor.judge(&reading, Arrival { now_ms, publisher: 0 }, &mut self.findings);
        for finding in &self.findings.list {
            write_row(output, self.json, (device, metric), at_ms, Some(value), finding)?;
        }
        Ok(())
    }

    /// The clock, after a line of this time.
    fn advance(&mut self, at_ms: i64, output: &mut impl Write) -> io::Result<i64> {
        let Some(now_ms) = self.now_ms else {
            self.now_ms = Some(at_ms);
            return Ok(at_ms);
        };
        let ahead_ms = at_ms.saturating_sub(now_ms);
        if ahead_ms > JUMP_MS.max(self.step_ms.saturating_mul(FAR_STEPS)) {
            let confirmed = self.suspect_ms.filter(|&suspect_ms| {
                let further_ms = at_ms.saturating_sub(suspect_ms);
                (-JUMP_MS..=JUMP_MS.max(suspect_ms.saturating_sub(now_ms))).contains(&further_ms)
            });
            let Some(suspect_ms) = confirmed else {
                self.suspect_ms = Some(at_ms);
                return Ok(now_ms);
            };
            // Whoever is missed was silent until then.
            self.tick(suspect_ms.min(at_ms), output)?;
            self.step_ms = at_ms.saturating_sub(suspect_ms);
        } else if ahead_ms > 0 {
            self.step_ms = ahead_ms;
        }
        self.suspect_ms = None;
        self.now_ms = Some(at_ms);
        Ok(at_ms)
    }

    fn tick(&mut self, now_ms: i64, output: &mut impl Write) -> io::Result<()> {
        self.ticked_ms = now_ms;
        let json = self.json;
        let mut result = Ok(());
        self.monitor.tick_series(now_ms, |monitor, index| {
            let (device, _) = monitor.name_of(index);
            if result.is_ok() && !device.is_empty() {
                let gap = monitor.gap_of(Missed::Series(index), now_ms);
                result = write_row(output, json, monitor.name_of(index), now_ms, None, &gap);
            }
        });
        result
    }

    fn end(&mut self, output: &mut impl Write) -> io::Result<()> {
        match self.now_ms {
            Some(now_ms) => self.tick(now_ms, output),
            None => Ok(()),
        }
    }
}

fn write_row(
    output: &mut impl Write,
    json: bool,
    (device, metric): (&str, &str),
    at_ms: i64,
    value: Option<f64>,
    finding: &Finding,
) -> io::Result<()> {
    let name = finding.detector.name();
    if json {
        let mut row = b"{\"device\":".to_vec();
        json::write_text(&mut row, device);
        row.extend_from_slice(b",\"metric\":");
        json::write_text(&mut row, metric);
        row.extend_from_slice(format!(",\"timestamp_ms\":{at_ms},\"detector\":\"{name}\"").as_bytes());
        let numbers = [
            ("value", value),
            ("score", Some(finding.score)),
            ("expected", finding.expected),
            ("spread", finding.spread),
        ];
        for (key, number) in numbers {
            row.extend_from_slice(format!(",\"{key}\":").as_bytes());
            record::write_f64(&mut row, number.unwrap_or(f64::NAN));
        }
        row.extend_from_slice(b",\"reason\":");
        json::write_text(&mut row, &finding.reason);
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
    write!(output, ",{name},{:.4},", finding.score)?;
    match finding.expected {
        Some(expected) => writeln!(output, "{expected}"),
        None => writeln!(output),
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Line<'a> {
    series: Cow<'a, str>,
    /// Of the device's name in it; `None` is a recording by itself.
    device_len: Option<usize>,
    at_ms: i64,
    value: f64,
}

impl Line<'_> {
    fn names(&self) -> (&str, &str) {
        match self.device_len {
            Some(len) => (&self.series[..len], &self.series[len + 1..]),
            None => ("", &self.series),
        }
    }
}

enum Parsed<'a> {
    Line(Line<'a>),
    /// Nothing, or a record that is no reading.
    Other,
    Malformed,
}

/// `None` is a line that is too long.
fn parse(line: Option<&[u8]>, unit: Unit) -> Parsed<'_> {
    let Some(line) = line else { return Parsed::Malformed };
    // Spreadsheets write a mark in front.
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

/// A record of the gateway's own. An anomaly repeats a reading that the other stream has.
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

/// Calls `act` for each line and its length, without what it says if it is too long.
fn for_each_line(
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

fn write_statistics(windows: &mut HashMap<String, Window>, line: &Line<'_>, output: &mut impl Write) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(input: &str, stats: bool) -> (String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let format = if stats { Format::Statistics } else { Format::Rows };
        run(input.as_bytes(), (&mut output, &mut errors), MonitorSettings::default(), format, None, None)
            .expect("memory takes everything");
        (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"))
    }

    #[test]
    fn flagged_readings_are_printed_in_order() {
        let mut input: String = (0..100).map(|i| format!("t/engine_temp,{},{}\n", i * 1_000, 90 + i % 2)).collect();
        input += "t/engine_temp,100000,nan\nt/engine_temp,101000,120\nt/lat,0,nan";
        let (output, errors) = detect(&input, false);
        let rows: Vec<Vec<&str>> = output.lines().map(|row| row.split(',').collect()).collect();
        assert_eq!(rows[0], ["t/engine_temp", "100000", "NaN", "limit", "1.0000", ""]);
        assert_eq!(rows[1][..4], ["t/engine_temp", "101000", "120", "spike"]);
        assert_eq!((rows[1][5], rows.len(), errors.as_str()), ("90.5", 2, ""));
    }

    #[test]
    fn a_lone_slow_recording_has_its_gaps() {
        for period_s in [1, 100, 1_000] {
            let at = |i: i64| (if i < 30 { i } else { i + 12 }) * period_s * 1_000;
            let input: String = (0..40).map(|i| format!("a/temp,{},{}\n", at(i), 20 + i % 2)).collect();
            let (output, _) = detect(&input, false);
            let gaps: Vec<&str> = output.lines().filter(|row| row.contains(",gap,")).collect();
            assert_eq!(gaps.len(), 1, "every {period_s} s: {gaps:?}");
            let at_ms: i64 = gaps[0].split(',').nth(1).expect("a time").parse().expect("a number");
            assert!(at_ms > at(29) && at_ms <= at(30), "{gaps:?}");
        }
    }

    #[test]
    fn times_from_one_end_to_the_other_are_no_harm() {
        let times = [i64::MIN, i64::MAX, i64::MAX - 1, 0, i64::MIN + 1, i64::MAX];
        let input: String = times.map(|at_ms| format!("a/temp,{at_ms},1\n")).concat();
        assert_eq!(detect(&input, false).1, "");
        assert_eq!(detect(&input, true).0.lines().count(), times.len());
    }

    #[test]
    fn malformed_lines_are_skipped_and_counted() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let input = format!("garbage line\nx,notatime,5\n,,\n\n{long}\na b/é,7,1.5\r\na,b,1,2\n");
        let (output, errors) = detect(&input, true);
        assert_eq!(output, "a b/é,7,0,nan,nan\n");
        assert_eq!(errors, "5 malformed lines skipped\n");
    }

    #[test]
    fn times_that_look_like_seconds_are_told_and_units_can_be_said() {
        let rows = |input: &str, unit| {
            let (mut output, mut errors) = (Vec::new(), Vec::new());
            let outputs = (&mut output, &mut errors);
            run(input.as_bytes(), outputs, MonitorSettings::default(), Format::Statistics, unit, None).expect("memory");
            (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"))
        };
        let (output, errors) = rows("s,1795465865,1\ns,1795465866,1\n", None);
        assert!(output.starts_with("s,1795465865,0"), "taken as it stands");
        assert_eq!((errors.matches("looks like seconds").count(), errors.contains("--unit s")), (1, true), "{errors}");
        assert_eq!(rows("s,1795465865.5,1", Some(Unit::S)), ("s,1795465865500,0,nan,nan\n".to_owned(), String::new()));
        assert!(rows("s,1795465865120000,1", Some(Unit::Us)).0.starts_with("s,1795465865120,"));
        assert_eq!((rows("s,0,1", None).1, rows("s,1795465865120,1", None).1), Default::default());
    }

    #[test]
    fn records_of_the_gateway_are_readings_as_well() {
        let record = |kind: &str, value: &str| {
            format!(
                "{{\"v\":1,\"type\":\"{kind}\",\"gateway\":\"g\",\"device\":\"a/\\\"b\",\"metric\":\"m/x\",\"value\":{value},\
                 \"measured_at_ms\":1795465865120,\"attributes\":{{\"road\":\"dry\"}}}}\n"
            )
        };
        let input = record("reading", "null") + &record("anomaly", "7") + &record("alert", "1") + &record("other", "1");
        let (output, errors) = detect(&input, false);
        assert_eq!(output, "a/\"b/m/x,1795465865120,NaN,limit,1.0000,\n");
        assert_eq!(errors, "1 malformed line skipped\n");
    }

    #[test]
    fn statistics_leave_the_reading_itself_out() {
        let (output, _) = detect("s,0,1\ns,1000,3\ns,2000,nan\ns,3000,100\ns,10999,0\n", true);
        let expected = "s,0,0,nan,nan\ns,1000,1,1e0,nan\ns,2000,2,2e0,1.4142135623730951e0\n\
                        s,3000,2,2e0,1.4142135623730951e0\ns,10999,2,5.15e1,6.858935777509511e1\n";
        assert_eq!(output, expected);
    }
}

//! `outrider detect`: the gateway's own detectors over lines of `series,timestamp_ms,value`.
//!
//! A series is `<device>/<metric>`, split at the last slash. Lines that are not well formed are skipped, and counted at the end.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use crate::core::detector::Findings;
use crate::core::reading::{Attributes, Reading, TimeQuality};
use crate::core::watch::{Watch, WatchSettings};
use crate::core::window::{Admission, Sample, Window};

/// A longer line is malformed: memory stays bounded whatever the file is.
const LINE_BYTES_MAX: usize = 4096;
/// More than the gateway's: whoever gives us a file wants all of it looked at.
const SERIES_MAX: usize = 1_000_000;
/// With `--stats`, windows are exact up to some four thousand readings a second.
const STATS_SAMPLES_MAX: usize = 1 << 16;

pub const HELP: &str = "\
A series is DEVICE/METRIC; the metric's name decides how it is watched. One row a flagged reading and detector, in
the order of the input: series,timestamp_ms,value,detector,score,expected. A score of 1 is the detector's line.
Malformed lines are skipped and counted on standard error.

Example:
  outrider detect readings.csv";

/// Reads the files one after the other, or standard input, and prints to standard output.
pub fn run_files(files: &[PathBuf], stats: bool) -> Result<(), DetectError> {
    let mut input: Box<dyn BufRead> = match files {
        [] => Box::new(io::stdin().lock()),
        files => {
            let mut all: Box<dyn BufRead> = Box::new(io::empty());
            for path in files {
                let file = File::open(path).map_err(|source| DetectError { path: Some(path.clone()), source })?;
                all = Box::new(all.chain(BufReader::with_capacity(1 << 16, file)));
            }
            all
        }
    };
    match run(&mut input, io::stdout().lock(), io::stderr().lock(), stats) {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| DetectError { path: None, source }),
    }
}

/// What stopped the reading or the printing.
#[derive(Debug)]
pub struct DetectError {
    path: Option<PathBuf>,
    source: io::Error,
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "cannot read {}: {}", path.display(), self.source),
            None => write!(f, "cannot read or print: {}", self.source),
        }
    }
}

impl std::error::Error for DetectError {}

/// Prints a row for each finding of each reading, or with `stats` the window of every reading.
pub fn run(input: impl BufRead, output: impl Write, mut errors: impl Write, stats: bool) -> io::Result<()> {
    let mut output = io::BufWriter::with_capacity(1 << 16, output);
    let settings = WatchSettings { series_max: SERIES_MAX, ..WatchSettings::default() };
    let mut watch = Watch::new(settings);
    let mut findings = Findings::default();
    let mut windows = HashMap::new();
    let malformed = for_each_line(input, |line| {
        if stats {
            write_statistics(&mut windows, line, &mut output)
        } else {
            write_findings(&mut watch, &mut findings, line, &mut output)
        }
    })?;
    output.flush()?;
    if malformed > 0 {
        writeln!(errors, "{malformed} malformed lines skipped")?;
    }
    if watch.over_cap_readings() > 0 {
        writeln!(errors, "{} readings not watched: more than {SERIES_MAX} series", watch.over_cap_readings())?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Line<'a> {
    series: &'a str,
    at_ms: i64,
    value: f64,
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = std::str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']).rsplitn(3, ',');
    let value = fields.next()?.trim().parse().ok()?;
    let at_ms = fields.next()?.trim().parse().ok()?;
    let series = fields.next().filter(|series| !series.is_empty() && !series.contains(','))?;
    Some(Line { series, at_ms, value })
}

/// Calls `act` for each well-formed line; returns how many were not.
fn for_each_line(mut input: impl BufRead, mut act: impl FnMut(Line<'_>) -> io::Result<()>) -> io::Result<u64> {
    let mut malformed = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(malformed);
        }
        if line.len() == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            malformed += 1;
            continue;
        }
        match parse(&line) {
            Some(parsed) => act(parsed)?,
            None if line.trim_ascii().is_empty() => {}
            None => malformed += 1,
        }
    }
}

fn write_findings(
    watch: &mut Watch,
    findings: &mut Findings,
    line: Line<'_>,
    output: &mut impl Write,
) -> io::Result<()> {
    let Line { series, at_ms, value } = line;
    let (device, metric) = series.rsplit_once('/').unwrap_or(("", series));
    let reading = Reading {
        device,
        metric,
        value,
        measured_at_ms: at_ms,
        received_at_ms: at_ms,
        time_quality: TimeQuality::Synced,
        sequence: None,
        attributes: Attributes::NONE,
    };
    watch.judge(&reading, findings);
    for finding in &findings.list {
        write!(output, "{series},{at_ms},{value},{},{:.4},", finding.detector.name(), finding.score)?;
        match finding.expected {
            Some(expected) => writeln!(output, "{expected}")?,
            None => writeln!(output)?,
        }
    }
    Ok(())
}

fn write_statistics(windows: &mut HashMap<String, Window>, line: Line<'_>, output: &mut impl Write) -> io::Result<()> {
    let Line { series, at_ms, value } = line;
    if !windows.contains_key(series) {
        windows.insert(series.to_owned(), Window::default());
    }
    let window = windows.get_mut(series).expect("just inserted");
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
        run(input.as_bytes(), &mut output, &mut errors, stats).expect("memory takes everything");
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
    fn malformed_lines_are_skipped_and_counted() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let input = format!("garbage line\nx,notatime,5\n,,\n\n{long}\na b/é,7,1.5\r\na,b,1,2\n");
        let (output, errors) = detect(&input, true);
        assert_eq!(output, "a b/é,7,0,nan,nan\n");
        assert_eq!(errors, "5 malformed lines skipped\n");
    }

    #[test]
    fn statistics_leave_the_reading_itself_out() {
        let (output, _) = detect("s,0,1\ns,1000,3\ns,2000,nan\ns,3000,100\ns,10999,0\n", true);
        let expected = "s,0,0,nan,nan\ns,1000,1,1e0,nan\ns,2000,2,2e0,1.4142135623730951e0\n\
                        s,3000,2,2e0,1.4142135623730951e0\ns,10999,2,5.15e1,6.858935777509511e1\n";
        assert_eq!(output, expected);
    }
}

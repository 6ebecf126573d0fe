//! Runs the detectors over lines of `series,timestamp_ms,value`.
//!
//! A series is `<device>/<metric>`, split at the last slash. A line that begins with a brace is a record written by the gateway; of these,
//! readings count. Malformed lines are skipped, and counted at the end. Memory grows with the number of series, never with the length of
//! the input.
//!
//! The clock is that of the lines. A series is silent once a line of any other is later than its next reading should have been. A series
//! without a device in its name is a recording of its own, whose end is no silence: a gap in it is reported when its next reading ends it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;

mod parse;
mod print;

pub use parse::{Line, Parsed, Unit, for_each_line, parse};
use print::{Row, Said, write_row, write_statistics};

use super::input::Files;
use super::models::Models;
use super::progress::Progress;
use crate::core::detection::alert::Company;
use crate::core::detection::detectors::Findings;
use crate::core::detection::monitor::{Arrival, Missed, Monitor, MonitorSettings};
use crate::core::detection::severity::Severity;
use crate::core::detection::window::JUMP_MS;
use crate::core::reading::Reading;
use crate::core::rulebook::ModelDetectors;

/// More than the gateway's limit: whoever passes a file wants all of it watched.
pub const SERIES_MAX: usize = 1_000_000;
/// A step forward of more than this many times the last one is suspicious.
const FAR_STEPS: i64 = 4;
/// How far the lines' time advances between two checks for silences, as in the gateway.
const TICK_MS: i64 = 500;

/// What looks at the readings.
#[derive(Debug, Default)]
pub struct Watching {
    pub monitor: MonitorSettings,
    pub models: ModelDetectors,
}

/// What to print, and how the input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub format: Format,
    /// Findings that are less severe are left out.
    pub severity_min: Option<Severity>,
    /// Of timestamps; milliseconds if it is not said.
    pub unit: Option<Unit>,
}

/// How findings are printed, or what instead of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Rows,
    Json,
    Statistics,
}

/// Timestamps in this range are seconds since 1970, or milliseconds of a time before any telemetry.
const LIKE_SECONDS: std::ops::Range<i64> = 500_000_000..100_000_000_000;

/// Reads the files one after the other, or standard input, and prints to standard output.
pub fn run_files(files: &[PathBuf], watching: Watching, options: Options) -> Result<(), DetectError> {
    let (mut input, mut progress) = open(files).map_err(DetectError::Io)?;
    let outputs = (io::stdout().lock(), io::stderr().lock());
    match run(&mut input, outputs, watching, options, progress.as_mut()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(DetectError::Io(error)),
        Ok(Seen { readings: 0, malformed: 1.. }) => Err(DetectError::NothingRead),
        Ok(_) => Ok(()),
    }
}

/// The input, and what shows the progress if somebody watches.
pub(super) fn open(files: &[PathBuf]) -> io::Result<(Box<dyn BufRead>, Option<Progress>)> {
    let mut bytes = 0;
    let input: Box<dyn BufRead> = match files {
        [] => Box::new(io::stdin().lock()),
        paths => {
            let files = Files::find(paths)?;
            // The uncompressed length of compressed files is unknown.
            bytes =
                if paths.iter().all(|path| path.extension().is_some_and(|end| end == "csv")) { files.bytes } else { 0 };
            Box::new(BufReader::with_capacity(1 << 16, files))
        }
    };
    // If the rows are printed on a terminal, they show the progress.
    let is_watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
    Ok((input, is_watched.then(|| Progress::new("lines", bytes))))
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// An error of reading, which names its file, or of printing.
    #[error(transparent)]
    Io(io::Error),
    #[error(
        "no line could be read; expected are lines of series,timestamp_ms,value without a header, or the gateway's own records"
    )]
    NothingRead,
    #[error("{0}")]
    UnknownSeries(String),
}

/// Counts of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub readings: u64,
    pub malformed: u64,
}

/// Prints a row for each finding of each reading and for each silence, or the window of every reading. The second output is for messages
/// about the input.
pub fn run(
    input: impl BufRead,
    (output, mut errors): (impl Write, impl Write),
    watching: Watching,
    options: Options,
    mut progress: Option<&mut Progress>,
) -> io::Result<Seen> {
    let mut output = io::BufWriter::with_capacity(1 << 16, output);
    let Options { format, severity_min, unit } = options;
    let mut replay = Replay::new(watching, Choice { json: format == Format::Json, severity_min });
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
    if replay.models.left_out() > 0 {
        writeln!(errors, "{} readings not shown to models: too many devices", replay.models.left_out())?;
    }
    Ok(seen)
}

/// Which rows are printed, and how.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub json: bool,
    pub severity_min: Option<Severity>,
}

impl Choice {
    fn write(self, output: &mut impl Write, row: &Row<'_>) -> io::Result<()> {
        match self.severity_min.is_some() && row.severity < self.severity_min {
            true => Ok(()),
            false => write_row(output, self.json, row),
        }
    }
}

/// The detectors, with the lines' time as their clock.
pub(super) struct Replay {
    pub monitor: Monitor,
    pub models: Models,
    findings: Findings,
    choice: Choice,
    /// As in the gateway's book of alerts.
    company: Company,
    now_ms: Option<i64>,
    ticked_ms: i64,
    /// A time far ahead of the others. It is accepted only if a second line confirms it; otherwise one wrong line would make all other
    /// series silent.
    suspect_ms: Option<i64>,
    /// The last step forward: in a recording with a line every few minutes, steps of minutes are not suspicious.
    step_ms: i64,
}

impl Replay {
    pub fn new(watching: Watching, choice: Choice) -> Replay {
        Replay {
            monitor: Monitor::new(watching.monitor),
            models: Models::new(watching.models),
            findings: Findings::default(),
            choice,
            company: Company::default(),
            now_ms: None,
            ticked_ms: i64::MIN,
            suspect_ms: None,
            step_ms: 0,
        }
    }

    pub fn line(&mut self, line: &Line<'_>, output: &mut impl Write) -> io::Result<()> {
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
            write_gap(output, self.choice, &self.monitor, index, now_ms, at_ms)?;
        }
        self.monitor.judge(&reading, Arrival { now_ms, publisher: 0 }, &mut self.findings);
        for finding in &self.findings.list {
            let weight = self.findings.weight_of(finding);
            let kind = finding.detector.alert_kind();
            let severity = weight.map(|weight| match device.is_empty() {
                // A recording of its own keeps no company.
                true => weight.alone(),
                false => self.company.severity(now_ms, (device, metric), kind, weight),
            });
            let (said, maturity) = (Said::by(finding), self.findings.maturity);
            self.choice.write(output, &Row { device, metric, at_ms, value: Some(value), said, maturity, severity })?;
        }
        for word in self.models.see(&reading, self.findings.late, now_ms) {
            let (said, severity) = (Said::by_model(&word.model, &word.said), Some(word.severity));
            let row = Row { device, metric, at_ms, value: Some(value), said, maturity: None, severity };
            self.choice.write(output, &row)?;
        }
        Ok(())
    }

    /// Advances the clock for a line of this time.
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
            // Silent series were silent until then.
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
        self.company.tick(now_ms);
        let choice = self.choice;
        let mut result = Ok(());
        self.monitor.tick_series(now_ms, |monitor, index| {
            let (device, _) = monitor.name_of(index);
            if result.is_ok() && !device.is_empty() {
                result = write_gap(output, choice, monitor, index, now_ms, now_ms);
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

/// A silence that lasts until `now_ms`, in the row of the time `at_ms`.
fn write_gap(
    output: &mut impl Write,
    choice: Choice,
    monitor: &Monitor,
    index: usize,
    now_ms: i64,
    at_ms: i64,
) -> io::Result<()> {
    let missed = Missed::Series(index);
    let (device, metric) = monitor.name_of(index);
    let (finding, maturity) = (monitor.gap_of(missed, now_ms), monitor.maturity_of(missed));
    let severity = Some(monitor.weight_of(missed).alone());
    choice.write(output, &Row { device, metric, at_ms, value: None, said: Said::by(&finding), maturity, severity })
}

#[cfg(test)]
mod tests;

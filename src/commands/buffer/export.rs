//! `outrider buffer export`: what the store holds, as lines of JSON.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::commands::Exit;
use crate::commands::detect::progress::Progress;
use crate::commands::operate::Place;
use crate::core::batch::Stored;
use crate::core::identity::Stream;
use crate::core::pattern;
use crate::counter::many;
use crate::keys::units::parse_duration;
use crate::store::log::{Block, Entry, Record};
use crate::store::reader::Reader;
use crate::store::streams;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ExportArguments {
    /// The stream: raw, anomalies, or one of the configuration
    #[arg(long, default_value = "raw")]
    stream: String,
    /// Records that came at this time or later: 2026-11-23T20:31:05Z, or so long ago as 90m or 2d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Records that came before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Of this device; * stands for any text
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Of this metric; * stands for any text
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Write to this file, which must not be there yet, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

const HELP: &str = "\
The lines are those that sinks are sent (config/schema/). The store holds what
is not delivered yet, and what was delivered last. A running gateway goes on.
  outrider buffer export --since 2h --device truck-7 --metric 'tank_*'

Exit codes:
   0  printed
   1  the store cannot be read, something in it is damaged, or the file cannot be written
   2  usage
  78  the configuration is wrong, or the store is of a newer version or of another program";

/// A time in words, as milliseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    if let Some(ago) = parse_duration(text) {
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(clock::now_ms().saturating_sub(ago_ms));
    }
    let at = OffsetDateTime::parse(text, &Rfc3339);
    let at = at.map_err(|_| "neither a time such as 2026-11-23T20:31:05Z nor an age such as 90m".to_owned())?;
    Ok((at.unix_timestamp_nanos() / 1_000_000) as i64)
}

pub fn command(arguments: &ExportArguments) -> ExitCode {
    let (configuration, mut reader) = match super::open(&arguments.place) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let known = match streams::load(reader.connection()) {
        Ok(known) => known,
        Err(error) => return super::unreadable(&configuration, error),
    };
    let Some(stream) = known.rows().iter().find(|row| *row.name == *arguments.stream).map(|row| row.stream) else {
        let names: Vec<&str> = known.rows().iter().map(|row| &*row.name).collect();
        eprintln!("outrider: the store has no stream {}; there are {}", arguments.stream, names.join(", "));
        return Exit::RunTime.into();
    };
    let mut export = match Export::begin(arguments) {
        Ok(export) => export,
        Err(error) => {
            let file = arguments.output.as_deref().unwrap_or_else(|| std::path::Path::new("standard output"));
            eprintln!("outrider: {}: {error}", file.display());
            return Exit::RunTime.into();
        }
    };
    match export.all(&mut reader, stream) {
        Ok(()) => export.end(),
        // The reader has closed the pipe: it has what it wants.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(ExportError::Write(error)) => {
            eprintln!("outrider: cannot write: {error}");
            Exit::RunTime.into()
        }
        Err(ExportError::Store(error)) => super::unreadable(&configuration, error),
    }
}

enum ExportError {
    Write(io::Error),
    Store(rusqlite::Error),
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> ExportError {
        ExportError::Write(error)
    }
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> ExportError {
        ExportError::Store(error)
    }
}

struct Export<'a> {
    arguments: &'a ExportArguments,
    out: Box<dyn Write>,
    printed: u64,
    damaged: u64,
    /// Records that are not there yet, because a damaged store is being salvaged.
    salvaging: u64,
    shows_progress: bool,
}

impl Export<'_> {
    fn begin(arguments: &ExportArguments) -> io::Result<Export<'_>> {
        let out: Box<dyn Write> = match &arguments.output {
            Some(file) => Box::new(BufWriter::new(OpenOptions::new().write(true).create_new(true).open(file)?)),
            None => Box::new(BufWriter::new(io::stdout().lock())),
        };
        let shows_progress = io::stderr().is_terminal() && (arguments.output.is_some() || !io::stdout().is_terminal());
        Ok(Export { arguments, out, printed: 0, damaged: 0, salvaging: 0, shows_progress })
    }

    /// Up to the record that is the last one at the beginning: a running gateway adds more.
    fn all(&mut self, reader: &mut Reader, stream: Stream) -> Result<(), ExportError> {
        let (before, last) = reader.extent(stream)?;
        let mut progress = Progress::new("records", last.saturating_sub(before));
        let (mut block, mut line, mut terminal) = (Block::default(), Vec::new(), io::stderr());
        let mut after = before;
        while after < last && reader.read(stream, after, &mut block)? {
            // A batch whose times are all outside need not be decoded.
            let is_outside = block.batch().is_some_and(|batch| {
                self.arguments.since.is_some_and(|since| batch.last_ms < since)
                    || self.arguments.until.is_some_and(|until| batch.first_ms >= until)
            });
            let before = self.printed;
            for entry in block.entries(after) {
                match entry {
                    Entry::Record(record) if !is_outside => self.print(&record, &mut line)?,
                    Entry::Record(_) => {}
                    Entry::Damaged { count, .. } | Entry::Gap { lost: count, .. } => self.damaged += count,
                }
            }
            if self.shows_progress {
                let _ = progress.note(block.last_sequence() - after, self.printed - before, &mut terminal);
            }
            after = block.last_sequence();
        }
        self.salvaging = last.saturating_sub(after);
        self.out.flush()?;
        if self.shows_progress {
            let _ = progress.end(&mut terminal);
        }
        Ok(())
    }

    fn print(&mut self, record: &Record<'_>, line: &mut Vec<u8>) -> io::Result<()> {
        if !self.arguments.wants(record) {
            return Ok(());
        }
        line.clear();
        record.write(line);
        self.printed += 1;
        self.out.write_all(line)
    }

    fn end(&self) -> ExitCode {
        if self.shows_progress || self.arguments.output.is_some() {
            eprintln!("{} written", many(self.printed, "record"));
        }
        if self.salvaging > 0 {
            let later = many(self.salvaging, "record");
            eprintln!("outrider: {later} are not there yet: a damaged store is being salvaged; try again later");
            return Exit::RunTime.into();
        }
        if self.damaged > 0 {
            eprintln!("outrider: {} cannot be read: outrider buffer verify says where", many(self.damaged, "record"));
            return Exit::RunTime.into();
        }
        ExitCode::SUCCESS
    }
}

impl ExportArguments {
    fn wants(&self, record: &Record<'_>) -> bool {
        let is_in_time = self.since.is_none_or(|since| record.received_ms >= since)
            && self.until.is_none_or(|until| record.received_ms < until);
        let is_like =
            |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| pattern::is_like(name, wanted));
        is_in_time
            && is_like(&self.device, record.stored.device())
            && (self.metric.is_none() || is_like(&self.metric, &metric(&record.stored)))
    }
}

/// Empty for a record that has none.
fn metric(stored: &Stored<'_>) -> String {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        metric: String,
    }
    match stored {
        Stored::Reading(reading) => reading.metric.to_owned(),
        Stored::Line { line, .. } => serde_json::from_slice::<Line>(line).map_or(String::new(), |line| line.metric),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_an_age() {
        assert_eq!(moment("2026-11-23T20:31:05Z"), Ok(1_795_465_865_000));
        assert_eq!(moment("2026-11-23T21:31:05.25+01:00"), Ok(1_795_465_865_250));
        let ago = clock::now_ms() - moment("2h").expect("an age");
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        assert!(moment("yesterday").is_err() && moment("12").is_err());
    }
}

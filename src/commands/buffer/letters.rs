//! `outrider buffer dead-letters`: what sinks have refused for good.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::{alerts, control};
use crate::commands::Exit;
use crate::commands::operate::{self, Method, Place};
use crate::config::Configuration;
use crate::counter::many;
use crate::store::letters::{self, Letter, Selection};
use crate::store::reader::Reader;

#[derive(Debug, Subcommand)]
pub enum LettersCommand {
    /// List them, each with the reason
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
    /// Let the running gateway send them again; those that are delivered now are counted so
    Retry {
        /// The sink that refused them
        sink: String,
        /// Only this one, as `list` numbers them
        #[arg(long)]
        id: Option<i64>,
        #[command(flatten)]
        place: Place,
    },
    /// Print them, a line of JSON for each, with the record that was refused
    Export {
        #[command(flatten)]
        which: Which,
        /// Write to this file, which must not be there yet, instead of standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Which {
    /// Of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Of this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only this one
    #[arg(long)]
    id: Option<i64>,
}

impl Which {
    fn selection(&self) -> Selection {
        Selection { sink: self.sink.clone(), stream: self.stream.clone(), id: self.id }
    }
}

pub fn command(command: &LettersCommand) -> ExitCode {
    match command {
        LettersCommand::List { which, place } => with_store(place, |reader| list(reader, &which.selection())),
        LettersCommand::Export { which, output, place } => {
            with_store(place, |reader| export(reader, &which.selection(), output.as_ref()))
        }
        LettersCommand::Retry { sink, id, place } => {
            let id = id.map_or(String::new(), |id| format!("/{id}"));
            let path = format!("{}{}{id}", control::LETTERS_PATH, alerts::encode(sink));
            operate::tell(operate::ask(place, &Method::Post, &path))
        }
    }
}

enum LettersError {
    Write(io::Error),
    Store(rusqlite::Error),
}

impl From<io::Error> for LettersError {
    fn from(error: io::Error) -> LettersError {
        LettersError::Write(error)
    }
}

impl From<rusqlite::Error> for LettersError {
    fn from(error: rusqlite::Error) -> LettersError {
        LettersError::Store(error)
    }
}

fn with_store(place: &Place, look: impl FnOnce(&mut Reader) -> Result<(), LettersError>) -> ExitCode {
    let (configuration, mut reader): (Configuration, Reader) = match super::open(place) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    match look(&mut reader) {
        Ok(()) => ExitCode::SUCCESS,
        Err(LettersError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(LettersError::Write(error)) => {
            eprintln!("outrider: cannot write: {error}");
            Exit::RunTime.into()
        }
        Err(LettersError::Store(error)) => super::unreadable(&configuration, error),
    }
}

/// One after the other, each in a transaction of its own.
fn each(
    reader: &mut Reader,
    selection: &Selection,
    mut show: impl FnMut(&Letter) -> io::Result<()>,
) -> Result<u64, LettersError> {
    let (mut after, mut count) = (0, 0);
    while let Some(letter) = letters::next(reader.connection(), selection, after)? {
        show(&letter)?;
        (after, count) = (letter.id, count + 1);
    }
    Ok(count)
}

fn list(reader: &mut Reader, selection: &Selection) -> Result<(), LettersError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let count = each(reader, selection, |letter| {
        let Letter { id, sink, stream, sequence, reason, line } = letter;
        let what = subject(line);
        let reason: String = reason.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        writeln!(out, "{id}  {sink} {stream} {sequence}{what}, {} B: {reason}", line.len())
    })?;
    match count {
        0 => writeln!(out, "no dead letters are kept")?,
        _ => writeln!(out, "{}", many(count, "dead letter"))?,
    }
    Ok(out.flush()?)
}

/// What the record is about, as far as it says that.
fn subject(line: &[u8]) -> String {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |key: &str| value[key].as_str().map(|text| text.escape_debug().to_string());
    match (text("device"), text("metric")) {
        (Some(device), Some(metric)) => format!(", {metric} of {device}"),
        (Some(device), None) => format!(", {device}"),
        _ => String::new(),
    }
}

fn export(reader: &mut Reader, selection: &Selection, output: Option<&PathBuf>) -> Result<(), LettersError> {
    let mut out: Box<dyn Write> = match output {
        Some(file) => Box::new(BufWriter::new(OpenOptions::new().write(true).create_new(true).open(file)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let count = each(reader, selection, |letter| writeln!(out, "{}", as_json(letter)))?;
    out.flush()?;
    if output.is_some() {
        eprintln!("{} written", many(count, "dead letter"));
    }
    Ok(())
}

fn as_json(letter: &Letter) -> Value {
    let Letter { id, sink, stream, sequence, reason, line } = letter;
    let mut json = json!({ "id": id, "sink": sink, "stream": stream, "sequence": sequence, "reason": reason });
    match serde_json::from_slice::<Value>(line) {
        Ok(record) => json["record"] = record,
        Err(_) => json["record_base64"] = BASE64.encode(line).into(),
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_shown_with_its_record_whatever_that_is() {
        let letter = |line: &[u8]| Letter {
            id: 7,
            sink: "cloud".to_owned(),
            stream: "raw".to_owned(),
            sequence: 9,
            reason: "too large".to_owned(),
            line: line.to_vec(),
        };
        let json = as_json(&letter(b"{\"device\":\"a\",\"metric\":\"t\"}\n"));
        assert_eq!((&json["record"]["device"], &json["sequence"]), (&"a".into(), &9.into()));
        assert_eq!(as_json(&letter(b"\xff"))["record_base64"], "/w==");
        assert_eq!(subject(b"{\"device\":\"a\\n\",\"metric\":\"t\"}"), ", t of a\\n");
        assert_eq!(subject(b"nothing"), "");
    }
}

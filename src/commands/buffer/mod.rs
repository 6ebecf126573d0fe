//! `outrider buffer`: what the store holds, and what became of what sinks refused. The store is read in steps of a batch, so that a running gateway
//! is not held up; what changes something is done by the gateway itself.

mod export;
mod letters;
mod stats;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::Exit;
use super::detect::from_store::{self, StoreError};
use super::operate::{self, Place};
use crate::config::Configuration;
use crate::store::reader::Reader;
use crate::store::schema::{OpenError, store_path};

#[derive(Debug, Subcommand)]
pub enum BufferCommand {
    /// Show what waits for each sink: records, bytes, the oldest, and for how long there is room
    Stats(stats::StatsArguments),
    /// Read all that the store holds and check it; exit code 1 if something is damaged
    Verify(verify::VerifyArguments),
    /// Print what the store holds, a line of JSON for each record
    Export(export::ExportArguments),
    /// Look at what sinks have refused for good, and send it again
    #[command(subcommand)]
    DeadLetters(letters::LettersCommand),
    /// Discard what waits for a sink that is no longer configured, counted as expired; the same as `outrider sinks drop`
    DropSink {
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

pub fn command(command: &BufferCommand) -> ExitCode {
    match command {
        BufferCommand::Stats(arguments) => stats::command(arguments),
        BufferCommand::Verify(arguments) => verify::command(arguments),
        BufferCommand::Export(arguments) => export::command(arguments),
        BufferCommand::DeadLetters(command) => letters::command(command),
        BufferCommand::DropSink { name, place } => operate::drop_sink(place, name),
    }
}

/// The configuration, and its store, which has to be there.
fn open(place: &Place) -> Result<(Configuration, Reader), ExitCode> {
    let configuration = place.load()?;
    match from_store::open(&store_path(&configuration.store.folder)) {
        Ok(reader) => Ok((configuration, reader)),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &StoreError) -> ExitCode {
    eprintln!("outrider: {}", error.explained());
    match error {
        StoreError::Open(OpenError::Newer { .. } | OpenError::NotAStore { .. }) => Exit::Configuration.into(),
        _ => Exit::RunTime.into(),
    }
}

/// What SQLite says of a store that was opened.
fn unreadable(configuration: &Configuration, source: rusqlite::Error) -> ExitCode {
    failed(&StoreError::Read { path: store_path(&configuration.store.folder), source })
}

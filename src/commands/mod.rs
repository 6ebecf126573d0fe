//! What can be asked of the program, and with which code it exits.

mod configuration;
pub mod demo;
pub mod detect;
mod logging;
mod port_holder;
pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// IoT edge-to-cloud telemetry gateway: takes readings over MQTT, keeps them in SQLite until they are delivered, watches each series
/// over ten seconds, alerts over MQTT, and forwards everything to cloud streams.
#[derive(Debug, Parser)]
#[command(name = "outrider", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until a signal ends it
    Run(run::RunArguments),
    /// Show what it does: a simulated fleet, faults, a cut link, and a summary that adds up
    Demo(demo::DemoArguments),
    /// Find anomalies in a file of series,timestamp_ms,value lines, with the gateway's own detectors
    Detect(DetectArguments),
}

#[derive(Debug, Args)]
#[command(after_help = detect::HELP)]
struct DetectArguments {
    /// Files of lines `series,timestamp_ms,value`; standard input if there is none
    files: Vec<PathBuf>,
    /// Print the ten-second window of every reading instead: series,timestamp_ms,n,mean,std
    #[arg(long)]
    stats: bool,
}

/// Exit codes beyond 0; 2 is clap's, for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    RunTime = 1,
    /// Another process has the state folder: it may be gone the next time.
    Temporary = 75,
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

pub fn dispatch(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Demo(arguments) => demo::command(&arguments),
        Command::Detect(arguments) => detect_anomalies(&arguments),
    }
}

fn detect_anomalies(arguments: &DetectArguments) -> ExitCode {
    match detect::run_files(&arguments.files, arguments.stats) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrider: {error}");
            Exit::RunTime.into()
        }
    }
}

//! The command line: its arguments, and what the commands share.
//!
//! It is part of the library so that tests of other programs can run it.

mod fleet;
mod load;
mod reach;
mod record;

use clap::{Parser, Subcommand};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::iter::successors;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Simulated vehicles for a telemetry gateway that speaks MQTT: a fleet to look at, load for measurements, or days of readings as lines.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Start a gateway first, for example `outrider run`, then one of these; `record` needs none.

Examples:
  Twenty trucks that have ten minutes to catch up on, one of which gets a warm container:
    firmware-sim fleet --history 10m --fault step:truck-07:container_temperature:+6@8s..20s
  How much does the gateway take?
    firmware-sim load --connections 50 --duration 30s
  How soon does the driver know, at 1,000 readings a second?
    firmware-sim load --rate 1000 --alerts
  The same gateway over TLS, as a client with a certificate of its own, in MQTT 5 with QoS 2:
    firmware-sim load --broker localhost:8883 --ca ca.pem --certificate device.pem --key device.key --mqtt 5 --qos 2
  A month of a delivery van, to try detectors on, and the faults that are in it:
    firmware-sim record --days 30 --faults-per-day 4 --ground-truth faults.csv

Exit codes: 0 all was acknowledged or written, 1 the run failed, 2 usage.";

#[derive(Debug, Subcommand)]
enum Command {
    Fleet(fleet::FleetArguments),
    Load(load::LoadArguments),
    Record(record::RecordArguments),
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments are invalid: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Exit code 1.
    #[error("{0}")]
    Run(String),
}

impl Failure {
    fn exit_status(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Run(_) => 1,
        }
    }
}

/// Prints why a run failed, if it did.
pub fn exit_status(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("firmware-sim: {failure}");
            failure.exit_status()
        }
    }
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    // One thread: a simulator on the gateway's own machine should leave it the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(run_failure)?;
    runtime.block_on(async {
        match arguments.command {
            Command::Fleet(arguments) => fleet::run(arguments).await,
            Command::Load(arguments) => load::run(arguments).await,
            Command::Record(arguments) => record::run(&arguments),
        }
    })
}

fn run_failure(error: impl Error + 'static) -> Failure {
    Failure::Run(with_causes(&error))
}

fn usage_failure(error: impl Error + 'static) -> Failure {
    Failure::Usage(with_causes(&error))
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Turns true at the first SIGINT or SIGTERM, so that the run ends cleanly; the second one exits at once.
fn stop_on_signal() -> io::Result<(watch::Sender<bool>, watch::Receiver<bool>, impl Future<Output = Infallible>)> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (stop, stopped) = watch::channel(false);
    let sender = stop.clone();
    let listening = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(1);
            }
        }
    };
    Ok((stop, stopped, listening))
}

/// Prints a line for programs. If nobody reads it, the run goes on.
fn print_line(line: &impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let lines: Vec<_> = EXAMPLES.lines().filter(|line| line.starts_with("    firmware-sim")).collect();
        assert_eq!(lines.len(), 5);
        for line in lines {
            let parsed = Arguments::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for line in [
            "firmware-sim load --duration 10",
            "firmware-sim load --broker nowhere",
            "firmware-sim load --rate fast",
            "firmware-sim fleet --fault leap:truck-01:speed:1@1s",
            "firmware-sim fleet --format xml",
            "firmware-sim fleet --qos 3",
            "firmware-sim load --mqtt 4",
        ] {
            let error = Arguments::try_parse_from(line.split_whitespace()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}

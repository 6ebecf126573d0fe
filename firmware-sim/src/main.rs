//! Parses the arguments, runs a fleet or a load, returns an exit code.

use clap::Parser;
use firmware_sim::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Clap prints help and usage errors itself, the latter with exit code 2.
    ExitCode::from(cli::exit_status(cli::run(cli::Arguments::parse())))
}

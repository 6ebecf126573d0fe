//! Parses the arguments, runs a fleet or a load, returns an exit code.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Clap prints help and usage errors itself, the latter with exit code 2.
    match cli::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("firmware-sim: {failure}");
            failure.exit_code()
        }
    }
}

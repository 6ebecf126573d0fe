//! Parses the arguments, runs a command, returns an exit code.

use std::process::ExitCode;

use clap::Parser;
use outrider::commands::{self, Arguments};

fn main() -> ExitCode {
    commands::dispatch(Arguments::parse())
}

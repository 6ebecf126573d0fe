//! Parses the arguments, runs a command, returns an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    outrider::commands::run_command()
}

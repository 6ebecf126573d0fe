//! `outrider config show`: what is set, and what is in force.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Exit;
use super::configuration::ConfigArguments;
use crate::config::Configuration;
use crate::config::effective::Shown;
use crate::config::host::Host;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what the file, the variables and the arguments set
    Show(ShowArguments),
}

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ShowArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Show the defaults of all other keys, too
    #[arg(long)]
    effective: bool,
}

const HELP: &str = "\
Takes the same file, variables and arguments as `outrider run`. What is printed
is a configuration that means the same; behind each value stands where it comes
from, and defaults are comments. Passwords, tokens and URLs that may hold one are left out. Rules of the
rules' folder are not shown; `outrider rules list` does that.

Exit codes:
   0  the configuration is on standard output
   2  usage
  78  the configuration is wrong: see `outrider check`";

pub fn command(command: &ConfigCommand) -> ExitCode {
    let ConfigCommand::Show(arguments) = command;
    let shown = if arguments.effective { Shown::Effective } else { Shown::Set };
    match Configuration::show(&arguments.config.sources(), &Host::read(), shown) {
        Ok(text) => {
            // The reader may have closed the pipe early.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            Exit::Configuration.into()
        }
    }
}

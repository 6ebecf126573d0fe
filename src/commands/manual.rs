//! `outrider manual`: the pages for `man`, which packages of the gateway bring along.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::Exit;

#[derive(Debug, Args)]
pub struct ManualArguments {
    /// An existing folder for a page of each command
    folder: PathBuf,
}

pub fn command(arguments: &ManualArguments) -> ExitCode {
    match write(&arguments.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrider: cannot write into {}: {error}", arguments.folder.display());
            Exit::RunTime.into()
        }
    }
}

/// The pages say nothing of the help that each command has, and of commands that are for packages only.
fn write(folder: &std::path::Path) -> io::Result<()> {
    let command = super::Arguments::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path()).expect("a folder of our own");
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        assert!(page("outrider.1").contains("outrider\\-run(1)"), "{}", page("outrider.1"));
        assert!(page("outrider-run.1").contains("\\-\\-listen"));
        assert!(page("outrider-rules-test.1").contains("SYNOPSIS"));
        assert!(!page("outrider.1").contains("outrider\\-manual"), "it is for packages only");
    }
}

//! `outrider completions`: a script that lets a shell complete commands, options and files.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CompletionsArguments {
    shell: Shell,
}

const HELP: &str = "\
The script goes where the shell looks for it:
  outrider completions bash > /usr/share/bash-completion/completions/outrider
  outrider completions zsh > /usr/share/zsh/vendor-completions/_outrider
  outrider completions fish > ~/.config/fish/completions/outrider.fish";

pub fn command(arguments: &CompletionsArguments) -> ExitCode {
    // The reader may have closed the pipe early.
    let _ = io::stdout().write_all(&script(arguments.shell));
    ExitCode::SUCCESS
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Arguments::command(), "outrider", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_is_told_of_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell)).expect("a text");
            assert!(script.contains("detect") && script.contains("severity-min"), "{shell}");
        }
    }
}

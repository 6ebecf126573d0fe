//! `outrider token`: writes lines of the tokens file of the administration interface.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Subcommand, ValueEnum};

use super::Exit;
use super::secrets::{random, read_if_there, write};
use crate::admin::role::Role;
use crate::admin::tokens::{self, Holder, Tokens};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once: the file holds its digest only
    #[command(after_help = HELP)]
    Add {
        /// The tokens file; it is created if it does not exist
        file: PathBuf,
        /// Whom it is for; the token of a name that is there already is replaced
        name: String,
        /// What it allows: view, also acknowledge alerts, or also operate (forget, clear, drop, reload)
        #[arg(long)]
        role: Role,
    },
    /// Remove a token
    Remove {
        /// The tokens file
        file: PathBuf,
        /// Whom it is for
        name: String,
    },
}

const HELP: &str = "\
The administration interface with `tokens` reads the file; a running gateway
notices when it changes. A browser is asked for the token; programs send it:
  curl -H \"Authorization: Bearer $TOKEN\" https://gateway:9464/api/status

Exit codes:
   0  written
   1  the file cannot be read or written, or is wrong
   2  usage";

impl ValueEnum for Role {
    fn value_variants<'a>() -> &'a [Role] {
        &[Role::View, Role::Acknowledge, Role::Operate]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

pub fn command(command: &TokenCommand) -> ExitCode {
    let done = match command {
        TokenCommand::Add { file, name, role } => add(file, &Holder { name: name.clone(), role: *role }),
        TokenCommand::Remove { file, name } => remove(file, name),
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("outrider: {problem}");
            Exit::RunTime.into()
        }
    }
}

/// Returns the token.
fn add(file: &Path, holder: &Holder) -> Result<String, String> {
    let before = read_if_there(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let token = tokens::token_text(random()?);
    let text = tokens::with_token(&before, holder, &token).map_err(|problem| problem.to_string())?;
    change(file, &text)?;
    Ok(token)
}

fn remove(file: &Path, name: &str) -> Result<String, String> {
    let shown = file.display();
    let before = std::fs::read_to_string(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = tokens::without_token(&before, name).ok_or_else(|| format!("{shown} has no token of {name}"))?;
    change(file, &text)?;
    Ok(format!("the token of {name} is removed from {shown}"))
}

/// Writes only what the gateway would read.
fn change(file: &Path, text: &str) -> Result<(), String> {
    let shown = file.display();
    if let Err(problems) = Tokens::parse(text) {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{shown}: {problem}")).collect();
        return Err(format!("nothing is written, because other lines are wrong:\n{}", lines.join("\n")));
    }
    write(file, text).map_err(|error| format!("{shown} cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_was_made_lets_in_until_it_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tokens");
        let parsed = || Tokens::parse(&std::fs::read_to_string(&file).expect("a file")).expect("right");
        let anna = Holder { name: "anna".to_owned(), role: Role::Acknowledge };
        let token = add(&file, &anna).expect("written");
        assert_eq!(parsed().holder(&token), Some(&anna));
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&file).expect("a file").contains(&token), "it is printed and not kept");
        let other = add(&file, &anna).expect("written");
        assert!(other != token && parsed().holder(&token).is_none(), "it is replaced");
        assert!(remove(&file, "bob").is_err_and(|problem| problem.contains("no token of bob")));
        remove(&file, "anna").expect("removed");
        assert!(parsed().is_empty());
        assert!(remove(&folder.path().join("none"), "anna").is_err());
        std::fs::write(&file, "view x\n").expect("a file");
        assert!(add(&file, &anna).is_err_and(|problem| problem.contains("tokens: line 1:")), "nothing is written");
        assert_eq!(std::fs::read_to_string(&file).expect("a file"), "view x\n");
    }
}

//! `outrider passwd`: writes lines of a users file.

use std::fs;
use std::io::{self, IsTerminal, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Exit;
use super::secrets::{random, read_if_there, write};
use crate::core::mqtt::access::password::{self, Memory, PASSWORD_MAX};
use crate::core::mqtt::access::users::{self, Users};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PasswdArguments {
    /// The users file; it is created if it does not exist
    file: PathBuf,
    /// Who may log in; the line of a user who is there already is replaced
    name: String,
    /// Make a random token instead of asking for a password, and print it: checked in no time, as fleets of thousands need it
    #[arg(long, conflicts_with = "delete")]
    token: bool,
    /// Remove the user
    #[arg(long)]
    delete: bool,
}

const HELP: &str = "\
The password is asked for twice, or read from standard input if that is no
terminal (up to the end, without a line break behind it):
  printf '%s' \"$PASSWORD\" | outrider passwd /etc/outrider/users truck-7

A [[listener]] with `users` reads the file; a running gateway notices when it
changes. Passwords are hashed with Argon2id; files of mosquitto_passwd are
understood and can be changed, too.

Exit codes:
   0  written
   1  the file cannot be read or written, or is wrong
   2  usage";

pub fn command(arguments: &PasswdArguments) -> ExitCode {
    match change(arguments) {
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

/// The answer for the user, or what is wrong.
fn change(arguments: &PasswdArguments) -> Result<String, String> {
    let PasswdArguments { file, name, token, delete } = arguments;
    let shown = file.display();
    let before = if *delete { fs::read_to_string(file) } else { read_if_there(file) };
    let before = before.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let (text, said) = match (*delete, *token) {
        (true, _) => {
            let text = users::without_user(&before, name).ok_or(format!("{shown} has no user {name}"))?;
            (text, format!("{name} is removed from {shown}"))
        }
        (false, true) => {
            let token = password::token_text(random()?);
            let text = users::with_user(&before, name, &password::token(&token)).map_err(|error| error.to_string())?;
            (text, token)
        }
        (false, false) => {
            // The name may be wrong: that is said before the password is asked for.
            users::with_user(&before, name, &password::token("")).map_err(|error| error.to_string())?;
            let secret = password::argon2id(&ask(name)?, random()?, &mut Memory::default());
            let text = users::with_user(&before, name, &secret).map_err(|error| error.to_string())?;
            (text, format!("{name} may log in by {shown}"))
        }
    };
    if let Err(problems) = Users::parse(&text) {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{shown}: {problem}")).collect();
        return Err(format!("nothing is written, because other lines are wrong:\n{}", lines.join("\n")));
    }
    write(file, &text).map_err(|error| format!("{shown} cannot be written: {error}"))?;
    Ok(said)
}

fn ask(name: &str) -> Result<Vec<u8>, String> {
    let mut password = Vec::new();
    if io::stdin().is_terminal() {
        let ask = |prompt: String| rpassword::prompt_password(prompt).map_err(|error| error.to_string());
        let first = ask(format!("Password of {name}: "))?;
        if ask("Once more: ".to_owned())? != first {
            return Err("the passwords are not the same; nothing is written".to_owned());
        }
        password = first.into_bytes();
    } else {
        let limit = PASSWORD_MAX as u64 + 2;
        io::stdin().lock().take(limit).read_to_end(&mut password).map_err(|error| error.to_string())?;
        for line_break in [b'\n', b'\r'] {
            password.pop_if(|last| *last == line_break);
        }
    }
    match password.len() {
        0 => Err("an empty password lets everybody in who knows the name; nothing is written".to_owned()),
        length if length > PASSWORD_MAX => Err(format!("a password has at most {PASSWORD_MAX} bytes")),
        _ => Ok(password),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_lets_in_whoever_has_it_and_a_file_is_closed_to_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("users");
        let arguments =
            |name: &str, token, delete| PasswdArguments { file: file.clone(), name: name.to_owned(), token, delete };
        let token = change(&arguments("truck-7", true, false)).expect("written");
        let users = Users::parse(&fs::read_to_string(&file).expect("a file")).expect("right");
        let secret = users.secret("truck-7").expect("it is there");
        assert!(secret.verify(token.as_bytes(), &mut Memory::default()));
        assert!(!secret.verify(b"truck-7", &mut Memory::default()));
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(change(&arguments("anonymous", true, false)).is_err());
        assert!(change(&arguments("truck-8", false, true)).is_err_and(|problem| problem.contains("no user truck-8")));
        change(&arguments("truck-7", false, true)).expect("removed");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "");
    }
}

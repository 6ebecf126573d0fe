//! The file `environment` beside the configuration file: variables, mostly secrets, as the service gets them from its unit (`EnvironmentFile=`).
//!
//! Each command takes those that are not set, so that one which somebody starts by hand sees the same configuration as the service.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use crate::config::host::SYSTEM_FILE;

const NAME: &str = "environment";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Sets the variables that are not set. The only thread of the process calls this.
pub fn take(matches: &ArgMatches) {
    let Some(file) = beside(&configuration_file(matches)) else { return };
    if std::fs::metadata(&file).is_ok_and(|there| there.len() > FILE_BYTES_MAX) {
        eprintln!("outrider: {}: larger than {FILE_BYTES_MAX} bytes, so it is not read", file.display());
        return;
    }
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        // The service itself may not read it: it has the variables from its unit.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return,
        Err(error) => return eprintln!("outrider: {}: {error}", file.display()),
    };
    for (number, line) in (1..).zip(text.lines()) {
        match variable(line) {
            Ok(Some((name, value))) if std::env::var_os(name).is_none() => {
                // SAFETY: no other thread is there yet that could read the variables.
                unsafe { std::env::set_var(name, value) };
            }
            Ok(_) => {}
            Err(expected) => eprintln!("outrider: {}:{number}: {expected}; the line is ignored", file.display()),
        }
    }
}

/// What the innermost command was given, or else the system's.
fn configuration_file(matches: &ArgMatches) -> PathBuf {
    match matches.subcommand() {
        Some((_, inner)) => configuration_file(inner),
        None => match matches.try_get_one::<PathBuf>("config") {
            Ok(Some(file)) => file.clone(),
            _ => PathBuf::from(SYSTEM_FILE),
        },
    }
}

fn beside(configuration: &Path) -> Option<PathBuf> {
    Some(configuration.parent()?.join(NAME))
}

/// A line as systemd reads it, without continuations.
fn variable(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("NAME=VALUE is expected")?;
    let name = name.trim_end();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if name.is_empty() || !name.chars().all(is_letter) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("a name of letters, digits and _ is expected before the =");
    }
    Ok(Some((name, unquoted(value.trim_start())?)))
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    const OPEN: &str = "a quotation mark has no end";
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(str::to_owned).ok_or(OPEN);
    }
    let (text, is_quoted) = match value.strip_prefix('"') {
        Some(rest) => (rest, true),
        None => (value, false),
    };
    let (mut plain, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\0' => return Err("a value without NUL is expected"),
            '"' if is_quoted => {
                return if letters.next().is_none() {
                    Ok(plain)
                } else {
                    Err("nothing is expected behind the quotation mark")
                };
            }
            '\\' => plain.push(letters.next().ok_or("a line does not go on in the next one")?),
            letter => plain.push(letter),
        }
    }
    if is_quoted { Err(OPEN) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_mean_to_systemd() {
        for (line, expected) in [
            ("", None),
            ("  # TOKEN=x", None),
            ("; TOKEN=x", None),
            ("TOKEN=abc", Some(("TOKEN", "abc"))),
            (" TOKEN = a b=c ", Some(("TOKEN", "a b=c"))),
            ("TOKEN=", Some(("TOKEN", ""))),
            ("TOKEN='a \"b\" \\n'", Some(("TOKEN", "a \"b\" \\n"))),
            (r#"TOKEN="a \"b\" \\ 'c' ""#, Some(("TOKEN", "a \"b\" \\ 'c' "))),
            (r"TOKEN=a\ b", Some(("TOKEN", "a b"))),
        ] {
            let expected = expected.map(|(name, value): (_, &str)| (name, value.to_owned()));
            assert_eq!(variable(line), Ok(expected), "{line}");
        }
        for line in ["TOKEN", "=x", "A-B=x", "1A=x", "A='x", "A=\"x", "A=\"x\" y", "A=x\\"] {
            assert!(variable(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_file_is_beside_the_one_that_the_innermost_command_names() {
        use clap::CommandFactory;
        for (line, expected) in [
            ("outrider status --config /a/b.toml", "/a/environment"),
            ("outrider status", "/etc/outrider/environment"),
            ("outrider rules list --config c.toml", "environment"),
            ("outrider completions bash", "/etc/outrider/environment"),
        ] {
            let matches = super::super::Arguments::command().get_matches_from(line.split(' '));
            assert_eq!(beside(&configuration_file(&matches)), Some(PathBuf::from(expected)), "{line}");
        }
    }
}

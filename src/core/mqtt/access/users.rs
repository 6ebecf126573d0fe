//! The users file: a line `name:secret` for each user who may log in. Empty lines and lines that begin with `#` are
//! skipped.
//!
//! A file with any problem is refused as a whole, with what is wrong in which line: a broker that starts with half of
//! its users would look well. Edits keep every other line as it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::LineProblem;
use super::password::{Secret, SecretProblem};

/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
const USERS_MAX: usize = 100_000;
const PROBLEMS_MAX: usize = 20;
/// Stands for clients without a login where access is granted to users by name.
const ANONYMOUS: &str = "anonymous";
/// Some editors put it before the first line.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The users who may log in, by name.
#[derive(Debug, Default)]
pub struct Users {
    secrets: HashMap<Box<str>, Secret>,
}

/// Why a line of the file cannot be of this name, or of this secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// No name at all.
    #[error("the name is empty; it has 1 to {NAME_BYTES_MAX} bytes")]
    Empty,
    /// A name that is too long.
    #[error("the name is too long; it has 1 to {NAME_BYTES_MAX} bytes")]
    Long,
    /// A name that would break its line or deceive who looks at it.
    #[error("the name has a control character; it has letters, digits and other visible characters")]
    Control,
    /// A name that would end at its `:`.
    #[error("the name has a `:`, which ends a name in the file")]
    Colon,
    /// A name whose line would be a comment.
    #[error("the name begins with `#`, which begins a comment in the file")]
    Comment,
    /// A name that looks like another.
    #[error("the name begins or ends with white space; it has white space only within")]
    WhiteSpace,
    /// The name of nobody.
    #[error("the name `{ANONYMOUS}` stands for clients without a login; choose another")]
    Anonymous,
    /// The name is right, but the secret would not be read again.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
}

impl Users {
    /// Reads a file. Tells all problems, but no more than 20.
    pub fn parse(text: &str) -> Result<Self, Vec<LineProblem>> {
        let mut users = Self::default();
        let mut lines = HashMap::new();
        let mut problems = Vec::new();
        for (line, (name, secret)) in entries(text) {
            let first = match lines.entry(name) {
                Entry::Occupied(entry) => Some(*entry.get()),
                Entry::Vacant(entry) => {
                    entry.insert(line);
                    None
                }
            };
            let is_full = lines.len() > USERS_MAX;
            match read(name, secret, first) {
                _ if is_full => problems.push(LineProblem { line, text: format!("more than {USERS_MAX} users") }),
                Ok(secret) => drop(users.secrets.insert(name.into(), secret)),
                Err(text) => problems.push(LineProblem { line, text }),
            }
            if is_full || problems.len() == PROBLEMS_MAX {
                break;
            }
        }
        if problems.is_empty() { Ok(users) } else { Err(problems) }
    }

    /// The secret of the user with exactly this name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }
}

/// The text of the file with this user's line replaced, or appended if there is none. The file need not be valid;
/// further lines of the same name, which no valid file has, are left out.
pub fn with_user(file: &str, name: &str, secret: &str) -> Result<String, NameProblem> {
    check_name(name)?;
    Secret::parse(secret)?;
    let first = file.split_inclusive('\n').next().unwrap_or_default();
    let ending = if first.ends_with("\r\n") { "\r\n" } else { "\n" };
    let entry = format!("{name}:{secret}");
    let mut edited = String::with_capacity(file.len() + entry.len() + 2 * ending.len());
    let mut is_written = false;
    let (mark, body) = split_mark(file);
    edited.push_str(mark);
    for line in body.split_inclusive('\n') {
        if !is_of(line, name) {
            edited.push_str(line);
        } else if !is_written {
            edited.extend([&entry, line_ending(line).unwrap_or(ending)]);
            is_written = true;
        }
    }
    if !is_written {
        let is_unended = !body.is_empty() && !body.ends_with('\n');
        edited.extend([if is_unended { ending } else { "" }, &entry, ending]);
    }
    Ok(edited)
}

/// The text of the file without this user, if there is one.
pub fn without_user(file: &str, name: &str) -> Option<String> {
    let (mark, body) = split_mark(file);
    let kept: String = body.split_inclusive('\n').filter(|line| !is_of(line, name)).collect();
    (kept.len() < body.len()).then(|| [mark, &kept].concat())
}

/// The lines that are neither empty nor comments, with their numbers, split at the first `:`.
fn entries(text: &str) -> impl Iterator<Item = (usize, (&str, Option<&str>))> {
    let lines = (1..).zip(split_mark(text).1.lines().map(str::trim_end));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| (number, line.split_once(':').map_or((line, None), |(name, rest)| (name, Some(rest)))))
}

/// The secret of a line, or what is wrong in it. `first` is an earlier line of the same name.
fn read(name: &str, secret: Option<&str>, first: Option<usize>) -> Result<Secret, String> {
    // The text may be a password: it is not shown.
    let secret = secret.ok_or_else(|| "there is no `:`; a line is `name:secret`".to_owned())?;
    check_name(name).map_err(|problem| problem.to_string())?;
    if let Some(first) = first {
        return Err(format!("the name is in line {first} already; each user has one line"));
    }
    Secret::parse(secret).map_err(|problem| problem.to_string())
}

fn check_name(name: &str) -> Result<(), NameProblem> {
    match name {
        "" => Err(NameProblem::Empty),
        ANONYMOUS => Err(NameProblem::Anonymous),
        _ if name.len() > NAME_BYTES_MAX => Err(NameProblem::Long),
        _ if name.contains(char::is_control) => Err(NameProblem::Control),
        _ if name.contains(':') => Err(NameProblem::Colon),
        _ if name.starts_with('#') => Err(NameProblem::Comment),
        _ if name.starts_with(BYTE_ORDER_MARK) || name.trim() != name => Err(NameProblem::WhiteSpace),
        _ => Ok(()),
    }
}

fn split_mark(file: &str) -> (&str, &str) {
    file.split_at(if file.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 })
}

fn is_of(line: &str, name: &str) -> bool {
    !line.starts_with('#') && line.split_once(':').is_some_and(|(found, _)| found == name)
}

fn line_ending(line: &str) -> Option<&str> {
    let ending = &line[line.trim_end_matches(['\r', '\n']).len()..];
    (!ending.is_empty()).then_some(ending)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

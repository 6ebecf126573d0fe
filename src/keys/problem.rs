//! Problems of a configuration: the place, the value, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value, or its absence, was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Line {
        file: PathBuf,
        line: usize,
    },
    /// The file as a whole: it cannot be read, or lacks something that has no line.
    File {
        file: PathBuf,
    },
    Variable {
        name: String,
    },
    Argument {
        name: &'static str,
    },
    /// Set neither in a file nor by a variable.
    BuiltIn,
}

impl Origin {
    pub fn line(file: &Path, line: usize) -> Origin {
        Origin::Line { file: file.to_owned(), line }
    }

    pub fn variable(name: &str) -> Origin {
        Origin::Variable { name: name.to_owned() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Origin::File { file } => write!(f, "{}", file.display()),
            Origin::Variable { name } => f.write_str(name),
            Origin::Argument { name } => f.write_str(name),
            Origin::BuiltIn => f.write_str("configuration"),
        }
    }
}

/// One problem, printed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    /// `store.size_max`, `sink[0].region`; empty if no key is to blame.
    pub key: String,
    /// As written in the file or the variable, shortened.
    pub value: Option<String>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        match &self.value {
            Some(value) if !self.key.is_empty() => write!(f, "{} = {value}: ", self.key)?,
            None if !self.key.is_empty() => write!(f, "{}: ", self.key)?,
            _ => {}
        }
        f.write_str(&self.message)
    }
}

/// All problems of a configuration, ordered by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// Lines that are not valid TOML: other problems on them are not reported.
    broken: Vec<Origin>,
}

impl Problems {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.list.iter()
    }

    /// For the log and alerts.
    pub fn in_one_line(&self) -> String {
        self.list.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The sections of the problems' keys.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|problem| problem.key.split(['[', '.']).next().unwrap_or_default())
    }

    pub fn push(&mut self, problem: Problem) {
        if !self.broken.contains(&problem.origin) {
            self.list.push(problem);
        }
    }

    /// A line that cannot be parsed; no other problem of it is reported.
    pub fn add_broken(&mut self, origin: &Origin, message: impl Into<String>) {
        self.add(origin, "", None, message);
        self.broken.push(origin.clone());
    }

    pub fn add(&mut self, origin: &Origin, key: &str, value: Option<String>, message: impl Into<String>) {
        self.push(Problem { origin: origin.clone(), key: key.to_owned(), value, message: message.into() });
    }

    /// Problems with lines first, in order; those without lines after them.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| match problem.origin {
            Origin::Line { line, .. } => (0, line),
            Origin::File { .. } => (1, 0),
            Origin::Variable { .. } => (2, 0),
            Origin::Argument { .. } => (3, 0),
            Origin::BuiltIn => (4, 0),
        });
    }
}

/// One problem per line, then their number.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        match self.list.len() {
            1 => f.write_str("1 problem in the configuration"),
            many => write!(f, "{many} problems in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}

/// Most characters of a value that a problem repeats.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// A value as shown in a problem: one line, of limited length, without control characters for a terminal.
pub fn shown(value: &str) -> String {
    let value = value.trim();
    let mut text: String = value
        .chars()
        .take(SHOWN_CHARACTERS_MAX)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if value.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        text.push_str("...");
    }
    text
}

/// The known word that was most likely meant.
pub fn near_miss<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let tolerated = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (edit_distance(&word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= tolerated || is_part(&word, candidate))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Whether it is the same words, with some left out or in another order, or the beginning of it: `size` or `max_size` for `size_max`, `user` for
/// `username`.
fn is_part(word: &str, candidate: &str) -> bool {
    let begins = || candidate.starts_with(word);
    word.len() >= 4 && (word.split('_').all(|part| candidate.split('_').any(|other| other == part)) || begins())
}

/// Counts insertions, deletions, replacements and swapped neighbours. Words longer than any key are not compared.
fn edit_distance(a: &str, b: &str) -> usize {
    const CHARACTERS_MAX: usize = 64;
    if a.chars().count().max(b.chars().count()) > CHARACTERS_MAX {
        return usize::MAX;
    }
    strsim::osa_distance(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word() {
        let known = ["size_max", "when_full", "listen", "free_space_min"];
        for (word, expected) in [
            ("size_mx", Some("size_max")),
            ("max_size", Some("size_max")),
            ("size", Some("size_max")),
            ("when-full", Some("when_full")),
            ("lsiten", Some("listen")),
            ("Listen", Some("listen")),
            ("free", Some("free_space_min")),
            ("colour", None),
            ("", None),
            (&"x".repeat(10_000), None),
        ] {
            assert_eq!(near_miss(word, known), expected, "{word}");
        }
    }

    #[test]
    fn a_shown_value_is_one_bounded_line() {
        assert_eq!(shown("\"a\n\u{1b}[31mb\""), "\"a  [31mb\"");
        assert_eq!(shown(&"é".repeat(200)).chars().count(), 83);
    }
}

//! Where something is in a payload: `$.a.b`, `$.list[*]`, `$."b-c"[0]`; and texts with such places in them, `{site}-{$.unit}`.
//!
//! ```text
//! path = root step*        root = $ (the payload) | @ (the element that `each` is at)
//! step = .name | ."any text" | .* (all members) | [0] | [*] (all elements)
//! text = any text with {level} (of the topic), {path} and {@key} (under which the element stands) in it
//! ```
//! A name without quotes has letters, digits and `_`; it may begin with a digit. Parsed once, when the configuration is read; what a path
//! finds is decided by whoever holds the payload.

use std::fmt;

/// Longest path or text, in bytes.
pub const PATH_BYTES_MAX: usize = 512;
/// Most steps of a path: no payload is nested more deeply.
const STEPS_MAX: usize = 16;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// At the whole payload.
    Payload,
    /// At the element that `each` is at.
    Element,
}

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The member of this name.
    Name(String),
    /// The element in this place, the first of which is 0.
    Index(usize),
    /// Every member of an object.
    Members,
    /// Every element of a list.
    Elements,
}

/// A place in a payload, or several if it has a `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it begins.
    pub root: Root,
    /// From there on, in their order.
    pub steps: Vec<Step>,
}

/// A piece of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands as it is.
    Literal(String),
    /// A level of the topic, by its name in the route.
    Level(String),
    /// What is found in the payload.
    Place(Path),
    /// The name under which the element stands.
    Key,
}

/// A text that is filled in for each element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub Vec<Part>);

/// What is wrong with a path or a text, and in which column, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {fault}")]
pub struct PathError {
    /// Characters before it, and one.
    pub column: usize,
    /// What is wrong there.
    pub fault: PathFault,
}

/// What may be wrong with a path or a text; printed, it says what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// It begins with neither root.
    #[error("a path begins with $, the payload, or with @, the element of `each`")]
    NoRoot,
    /// Something follows that is no step.
    #[error("a step begins with . or [")]
    NoStep,
    /// Nothing stands after a dot.
    #[error("a name is missing after the dot")]
    NoName,
    /// A character that only names in quotes have.
    #[error("a name with such a character stands in quotes, as in $.\"b-c\"")]
    Unquoted,
    /// The end of a quoted name is missing.
    #[error("the quotes are not closed")]
    QuotesOpen,
    /// Brackets hold something else.
    #[error("between [ and ] stands a number or *")]
    NoIndex,
    /// It has too many steps.
    #[error("a path has at most {STEPS_MAX} steps")]
    TooManySteps,
    /// The end of a place is missing.
    #[error("a brace is not closed")]
    BraceOpen,
    /// Braces hold something else.
    #[error("between braces stands the name of a level of the topic, a path, or @key")]
    NoPlace,
    /// A text has one value in each place.
    #[error("a path that may find several values cannot be part of a text")]
    Several,
    /// It is too long.
    #[error("longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
}

impl Path {
    /// Reads a path as it is written.
    ///
    /// # Errors
    ///
    /// If it is not written as the module says.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        let mut parser = Parser::new(text)?;
        let path = parser.path()?;
        if parser.rest.is_empty() { Ok(path) } else { Err(parser.fault(PathFault::NoStep)) }
    }

    /// Whether it may find more than one value.
    pub fn is_several(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Members | Step::Elements))
    }

    /// The last name in it: what is found there is usually called so.
    pub fn last_name(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// Prints it as it is written.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.root {
            Root::Payload => "$",
            Root::Element => "@",
        })?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Name(name) if !name.is_empty() && name.chars().all(is_plain) => write!(f, ".{name}"),
            Step::Name(name) => write!(f, ".\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Members => f.write_str(".*"),
            Step::Elements => f.write_str("[*]"),
        })
    }
}

impl Text {
    /// Reads a text as it is written.
    ///
    /// # Errors
    ///
    /// If a place in it is not written as the module says.
    pub fn parse(text: &str) -> Result<Text, PathError> {
        let mut parser = Parser::new(text)?;
        let mut parts = Vec::new();
        while !parser.rest.is_empty() {
            let literal_len = parser.rest.find(['{', '}']).unwrap_or(parser.rest.len());
            if literal_len > 0 {
                parts.push(Part::Literal(parser.take(literal_len).to_owned()));
            }
            match parser.rest.chars().next() {
                Some('{') => parts.push(parser.braces()?),
                Some(_) => return Err(parser.fault(PathFault::NoPlace)),
                None => {}
            }
        }
        Ok(Text(parts))
    }

    /// The text, if nothing in it is to be filled in.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Levels of the topic that it names.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Level(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Places in the payload that it names.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|part| match part {
            Part::Place(path) => Some(path),
            _ => None,
        })
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, PathError> {
        let parser = Parser { whole: text, rest: text };
        if text.len() > PATH_BYTES_MAX { Err(parser.fault(PathFault::TooLong)) } else { Ok(parser) }
    }

    fn fault(&self, fault: PathFault) -> PathError {
        let before = &self.whole[..self.whole.len() - self.rest.len()];
        PathError { column: before.chars().count() + 1, fault }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, expected: &str) -> bool {
        let after = self.rest.strip_prefix(expected);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn path(&mut self) -> Result<Path, PathError> {
        let root = match self.rest.chars().next() {
            Some('$') => Root::Payload,
            Some('@') => Root::Element,
            _ => return Err(self.fault(PathFault::NoRoot)),
        };
        self.take(1);
        let mut steps = Vec::new();
        while self.rest.starts_with(['.', '[']) {
            if steps.len() == STEPS_MAX {
                return Err(self.fault(PathFault::TooManySteps));
            }
            steps.push(if self.skip(".") { self.member()? } else { self.element()? });
        }
        Ok(Path { root, steps })
    }

    fn member(&mut self) -> Result<Step, PathError> {
        if self.skip("*") {
            return Ok(Step::Members);
        }
        if self.rest.starts_with('"') {
            return self.quoted().map(Step::Name);
        }
        let len = self.rest.find(|c| !is_plain(c)).unwrap_or(self.rest.len());
        let ends_name = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[', '}']);
        match (len, ends_name(&self.rest[len..])) {
            (0, true) => Err(self.fault(PathFault::NoName)),
            (_, true) => Ok(Step::Name(self.take(len).to_owned())),
            (_, false) => {
                self.take(len);
                Err(self.fault(PathFault::Unquoted))
            }
        }
    }

    /// A name in quotes; `\"` and `\\` stand for the characters themselves.
    fn quoted(&mut self) -> Result<String, PathError> {
        let open = self.fault(PathFault::QuotesOpen);
        self.take(1);
        let mut name = String::new();
        loop {
            let c = self.rest.chars().next().ok_or(open.clone())?;
            self.take(c.len_utf8());
            match c {
                '"' => return Ok(name),
                '\\' => {
                    let escaped = self.rest.chars().next().ok_or(open.clone())?;
                    name.push(escaped);
                    self.take(escaped.len_utf8());
                }
                c => name.push(c),
            }
        }
    }

    fn element(&mut self) -> Result<Step, PathError> {
        self.take(1);
        let no_index = self.fault(PathFault::NoIndex);
        let (inside, after) = self.rest.split_once(']').ok_or(no_index.clone())?;
        let is_index = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit());
        let step = match inside {
            "*" => Step::Elements,
            digits if is_index => Step::Index(digits.parse().map_err(|_| no_index)?),
            _ => return Err(no_index),
        };
        self.rest = after;
        Ok(step)
    }

    fn braces(&mut self) -> Result<Part, PathError> {
        let open = self.fault(PathFault::BraceOpen);
        self.take(1);
        let part = if self.rest.starts_with("@key}") {
            self.take("@key".len());
            Part::Key
        } else if self.rest.starts_with(['$', '@']) {
            let several = self.fault(PathFault::Several);
            let path = self.path()?;
            if path.is_several() {
                return Err(several);
            }
            Part::Place(path)
        } else {
            let len = self.rest.find(|c| !is_plain(c)).unwrap_or(self.rest.len());
            if len == 0 {
                return Err(self.fault(PathFault::NoPlace));
            }
            Part::Level(self.take(len).to_owned())
        };
        match self.rest.is_empty() {
            true => Err(open),
            false if self.skip("}") => Ok(part),
            false => Err(self.fault(PathFault::NoPlace)),
        }
    }
}

/// Of a name without quotes.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Step {
        Step::Name(text.to_owned())
    }

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    #[test]
    fn paths_are_read() {
        assert_eq!(path("$").steps, []);
        assert_eq!(path("$.a.b").steps, [name("a"), name("b")]);
        assert_eq!(path("$.list[*].66").steps, [name("list"), Step::Elements, name("66")]);
        assert_eq!(path("$.a.\"b-c\"[0]").steps, [name("a"), name("b-c"), Step::Index(0)]);
        assert_eq!(path("@.*").steps, [Step::Members]);
        assert_eq!(path("$.\"a\\\"b\\\\\"").steps, [name("a\"b\\")]);
        assert_eq!(path("@.größe").root, Root::Element);
        assert!(path("$.*[*]").is_several() && !path("$.a[3]").is_several());
        assert_eq!(path("$.a.b[0]").last_name(), Some("b"));
    }

    #[test]
    fn texts_are_read() {
        let parts = |text: &str| Text::parse(text).expect("a text").0;
        assert_eq!(parts("boiler"), [Part::Literal("boiler".into())]);
        assert_eq!(
            parts("{site}-{$.a.\"b}c\"[0]}"),
            [Part::Level("site".into()), Part::Literal("-".into()), Part::Place(path("$.a.\"b}c\"[0]"))]
        );
        assert_eq!(parts("{@key}{@}"), [Part::Key, Part::Place(path("@"))]);
        assert_eq!(Text::parse("").expect("a text").literal(), Some(""));
        assert_eq!(Text::parse("a{b}").expect("a text").literal(), None);
    }

    #[test]
    fn faults_name_their_column() {
        let fault = |text: &str| Path::parse(text).map_err(|error| (error.column, error.fault));
        assert_eq!(fault("a.b"), Err((1, PathFault::NoRoot)));
        assert_eq!(fault("$a"), Err((2, PathFault::NoStep)));
        assert_eq!(fault("$."), Err((3, PathFault::NoName)));
        assert_eq!(fault("$.ä.b-c"), Err((6, PathFault::Unquoted)));
        assert_eq!(fault("$.\"b"), Err((3, PathFault::QuotesOpen)));
        assert_eq!(fault("$[x]"), Err((3, PathFault::NoIndex)));
        assert_eq!(fault("$[0"), Err((3, PathFault::NoIndex)));
        assert_eq!(fault("$[99999999999999999999]"), Err((3, PathFault::NoIndex)));
        assert_eq!(fault(&format!("${}", ".a".repeat(17))), Err((34, PathFault::TooManySteps)));
        let fault = |text: &str| Text::parse(text).map_err(|error| (error.column, error.fault));
        assert_eq!(fault("a{b"), Err((2, PathFault::BraceOpen)));
        assert_eq!(fault("a}"), Err((2, PathFault::NoPlace)));
        assert_eq!(fault("{}"), Err((2, PathFault::NoPlace)));
        assert_eq!(fault("{a b}"), Err((3, PathFault::NoPlace)));
        assert_eq!(fault("{$.a[*]}"), Err((2, PathFault::Several)));
        assert_eq!(fault(&"x".repeat(513)), Err((1, PathFault::TooLong)));
        assert_eq!(
            Path::parse("$.b-c").expect_err("quotes are missing").to_string(),
            "column 4: a name with such a character stands in quotes, as in $.\"b-c\""
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(names in prop::collection::vec("[a-c\"\\\\.*{}ä-]{0,3}", 0..5), index in 0..9usize) {
            let steps = names.into_iter().map(Step::Name).chain([Step::Index(index), Step::Members, Step::Elements]);
            let path = Path { root: Root::Payload, steps: steps.collect() };
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn no_text_is_too_odd(text in "[$@.a\"\\\\\\[\\]{}*0ä key-]{0,30}") {
            let _ = (Path::parse(&text), Text::parse(&text));
        }
    }
}

//! ACL files in the format of mosquitto's `acl_file`.
//!
//! A line is `user NAME`, `topic [ACCESS] TOPIC` or `pattern [ACCESS] TOPIC`, with an access of `read`, `write`, `readwrite` (if there is
//! none) or `deny`. `topic` is for the user above it, or for anonymous clients if there is none; `pattern` is for every client, with its name
//! for `%u` and its client id for `%c`. What nothing allows is refused, and a `deny` wins wherever it stands. As there, a wildcard at the
//! front does not match topics that begin with `$`. What mosquitto takes only in some versions, or what is most likely a mistake, is a
//! problem here rather than a guess.

use std::collections::HashMap;
use std::sync::Arc;

use super::template::{Template, TemplateError, shown};
use super::{Action, By, Decision, Identity, LineProblem, filter};
use crate::mqtt::topic;

/// Most lines of a file.
pub const LINES_MAX: usize = 100_000;
/// Most `pattern` lines: each message of each client may be held against all of them.
pub const PATTERNS_MAX: usize = 1_000;
/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Most problems that are told at once.
pub const PROBLEMS_MAX: usize = 20;

/// What an ACL file says.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    anonymous: Arc<[Line]>,
    users: HashMap<String, Arc<[Line]>>,
    patterns: Box<[Pattern]>,
}

/// The lines that are for one client.
#[derive(Clone, Debug)]
pub(super) struct ClientLines {
    /// Shared by all clients of this name.
    own: Option<Arc<[Line]>>,
    patterns: Box<[Line]>,
}

#[derive(Clone, Debug)]
struct Line {
    number: usize,
    effect: Effect,
    filter: Arc<str>,
}

#[derive(Clone, Debug)]
struct Pattern {
    number: usize,
    effect: Effect,
    template: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Read,
    Write,
    ReadWrite,
    Deny,
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("the file has more than {LINES_MAX} lines")]
    TooManyLines,
    #[error("there are more than {PATTERNS_MAX} pattern lines; topic lines below a user have no such limit")]
    TooManyPatterns,
    #[error("the line holds a tab or another control character: words are separated by spaces")]
    Control,
    #[error("a line begins with user, topic, pattern or #, not with {0:?}")]
    UnknownWord(String),
    #[error("user is without a name: topics for anonymous clients stand before the first user")]
    NoName,
    #[error("the name of the user has more than {NAME_BYTES_MAX} bytes")]
    LongName,
    #[error("{0} is without a topic")]
    NoTopic(String),
    #[error("{0} is without a topic; if the topic is called {0}, write readwrite {0}")]
    NoTopicAfter(&'static str),
    #[error("{0:?} is no access: read, write, readwrite or deny must stand before a topic that holds spaces")]
    UnknownAccess(String),
    #[error(transparent)]
    Topic(#[from] TemplateError),
}

#[derive(Default)]
struct Reader {
    user: Option<String>,
    anonymous: Vec<Line>,
    users: HashMap<String, Vec<Line>>,
    patterns: Vec<Pattern>,
}

impl Acl {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// What is wrong with its lines, all at once but for those after the first [`PROBLEMS_MAX`].
    pub fn parse(text: &str) -> Result<Acl, Vec<LineProblem>> {
        let mut reader = Reader::default();
        let mut problems = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let result = if number > LINES_MAX { Err(LineError::TooManyLines) } else { reader.line(number, line) };
            let Err(error) = result else { continue };
            let is_end = matches!(error, LineError::TooManyLines | LineError::TooManyPatterns);
            problems.push(LineProblem { line: number, text: error.to_string() });
            if is_end || problems.len() == PROBLEMS_MAX {
                break;
            }
        }
        if problems.is_empty() { Ok(reader.finish()) } else { Err(problems) }
    }

    pub(super) fn for_client(&self, identity: &Identity) -> ClientLines {
        let own = match &identity.name {
            Some(name) => self.users.get(name),
            None => Some(&self.anonymous),
        };
        let patterns = self.patterns.iter().filter_map(|pattern| {
            let filter = pattern.template.fill(identity)?;
            Some(Line { number: pattern.number, effect: pattern.effect, filter })
        });
        ClientLines { own: own.cloned(), patterns: patterns.collect() }
    }
}

impl ClientLines {
    /// Of shared subscriptions the filter behind the group is asked about. As in mosquitto, one is granted if any of it may be read: what is
    /// received is held against the lines again.
    pub(super) fn decide(&self, action: Action, asked: &str) -> Decision {
        if let Some(line) = self.find(|line| line.effect == Effect::Deny && line.applies(action, asked)) {
            return Decision::refused(By::AclLine(line.number));
        }
        match self.find(|line| line.effect.allows(action) && line.applies(action, asked)) {
            Some(line) => Decision::allowed(By::AclLine(line.number)),
            None => Decision::refused(By::NoAclLine),
        }
    }

    fn find(&self, is_wanted: impl Fn(&Line) -> bool) -> Option<&Line> {
        self.own.as_deref().unwrap_or_default().iter().chain(&self.patterns).find(|line| is_wanted(line))
    }
}

impl Line {
    fn applies(&self, action: Action, asked: &str) -> bool {
        if asked.starts_with('$') && !self.filter.starts_with('$') {
            return false;
        }
        match action {
            Action::Subscribe if self.effect == Effect::Deny => filter::covers(&self.filter, asked),
            // A subscription to `#` is sent nothing of what is asked for by name only.
            Action::Subscribe if asked.starts_with(['+', '#']) && topic::is_asked_for_by_name(&self.filter) => false,
            Action::Subscribe => filter::overlaps(&self.filter, asked),
            Action::Publish | Action::Acknowledge | Action::Receive => filter::matches(&self.filter, asked),
        }
    }
}

impl Acl {
    /// Whether a line of it allows this to anybody.
    pub(super) fn allows_somebody(&self, action: Action) -> bool {
        let lines = self.users.values().chain([&self.anonymous]).flat_map(|lines| lines.iter());
        let effects = lines.map(|line| line.effect).chain(self.patterns.iter().map(|pattern| pattern.effect));
        effects.into_iter().any(|effect| effect.allows(action))
    }
}

impl Effect {
    const NAMES: [(&'static str, Effect); 4] =
        [("read", Effect::Read), ("write", Effect::Write), ("readwrite", Effect::ReadWrite), ("deny", Effect::Deny)];

    fn allows(self, action: Action) -> bool {
        match action {
            Action::Publish | Action::Acknowledge => matches!(self, Effect::Write | Effect::ReadWrite),
            Action::Subscribe | Action::Receive => matches!(self, Effect::Read | Effect::ReadWrite),
        }
    }
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), LineError> {
        let line = line.trim_end_matches(is_space).trim_start_matches(' ');
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.chars().any(char::is_control) {
            return Err(LineError::Control);
        }
        let (word, rest) = split_word(line);
        match word {
            "user" if rest.is_empty() => return Err(LineError::NoName),
            "user" if rest.len() > NAME_BYTES_MAX => return Err(LineError::LongName),
            "user" => {
                self.users.entry(rest.to_owned()).or_default();
                self.user = Some(rest.to_owned());
            }
            "topic" => {
                let (effect, topic) = split_effect(word, rest)?;
                let line = Line { number, effect, filter: Template::plain(topic)?.text() };
                let of_user = self.user.as_ref().and_then(|user| self.users.get_mut(user));
                of_user.unwrap_or(&mut self.anonymous).push(line);
            }
            "pattern" => {
                let (effect, topic) = split_effect(word, rest)?;
                let template = Template::with_percents(topic)?;
                if self.patterns.len() == PATTERNS_MAX {
                    return Err(LineError::TooManyPatterns);
                }
                self.patterns.push(Pattern { number, effect, template });
            }
            _ => return Err(LineError::UnknownWord(shown(word))),
        }
        Ok(())
    }

    fn finish(self) -> Acl {
        let users = self.users.into_iter().map(|(user, lines)| (user, lines.into())).collect();
        Acl { anonymous: self.anonymous.into(), users, patterns: self.patterns.into() }
    }
}

/// The access and the topic behind `topic` or `pattern`. A single word is a topic, even if it is called like an access: that is a problem,
/// since hardly anyone means it.
fn split_effect<'a>(word: &str, rest: &'a str) -> Result<(Effect, &'a str), LineError> {
    let (access, topic) = split_word(rest);
    let known = Effect::NAMES.into_iter().find(|(name, _)| *name == access);
    match known {
        _ if rest.is_empty() => Err(LineError::NoTopic(word.to_owned())),
        Some((name, _)) if topic.is_empty() => Err(LineError::NoTopicAfter(name)),
        Some((_, effect)) => Ok((effect, topic)),
        None if topic.is_empty() => Ok((Effect::ReadWrite, access)),
        None => Err(LineError::UnknownAccess(shown(access))),
    }
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_start_matches(' ')))
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_mosquitto_takes_are_taken() {
        let text = "# topic write a\n\n  \r\ntopic  a/b  \r\n topic readwrite  a b/+\n\
            user  ann smith \ntopic write read\npattern x/y\n  # user x\n#";
        let acl = Acl::parse(text).unwrap();
        for (name, topic, by) in [
            (None, "a", By::NoAclLine),
            (None, "a/b", By::AclLine(4)),
            (None, "a b/c", By::AclLine(5)),
            (Some("ann smith"), "read", By::AclLine(7)),
            (Some("ann smith"), "a/b", By::NoAclLine),
            (Some("eve"), "x/y", By::AclLine(8)),
        ] {
            let client = Identity { name: name.map(str::to_owned), ..Identity::default() };
            assert_eq!(acl.for_client(&client).decide(Action::Publish, topic).by, by, "{name:?} {topic}");
        }
    }

    #[test]
    fn lines_that_could_be_misread_are_problems() {
        let long_topic = format!("topic {}", "a".repeat(topic::TOPIC_BYTES_MAX + 1));
        let long_name = format!("user {}", "a".repeat(NAME_BYTES_MAX + 1));
        for (line, expected) in [
            ("topics a", "begins with user, topic, pattern or #, not with \"topics\""),
            ("Topic a", "not with \"Topic\""),
            ("\u{feff}topic a", "not with \"\\u{feff}topic\""),
            ("topic", "topic is without a topic"),
            ("pattern  ", "pattern is without a topic"),
            ("topic read", "if the topic is called read, write readwrite read"),
            ("topic deny ", "if the topic is called deny"),
            ("topic a b", "\"a\" is no access"),
            ("topic READ b", "\"READ\" is no access"),
            ("user", "user is without a name"),
            (&long_name, "more than 1024 bytes"),
            ("topic read\ta", "separated by spaces"),
            ("\ttopic read a", "separated by spaces"),
            ("user a\0b", "separated by spaces"),
            ("topic read a # mine", "# before the end"),
            ("topic read a/b #", "wildcard that is not a whole level"),
            ("topic a/#/b", "# before the end"),
            ("topic read $share/g/a", "begins with $share"),
            ("pattern a-%c/b", "within a level"),
            (&long_topic, "is too long"),
        ] {
            let problems = Acl::parse(&format!("topic x\n{line}\n")).unwrap_err();
            let [LineProblem { line: 2, text }] = &problems[..] else { panic!("{line}: {problems:?}") };
            assert!(text.contains(expected) && text.len() < 300, "{line}: {text}");
        }
        let problems = Acl::parse("bad\ntopic a\ntopic +a").unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            problems[1].to_string(),
            "line 3: the topic has a wildcard that is not a whole level, or # before the end"
        );
    }

    #[test]
    fn a_file_is_bounded() {
        assert!(Acl::parse(&"topic a\n".repeat(LINES_MAX)).is_ok());
        let last = |text: String| Acl::parse(&text).unwrap_err().pop().unwrap();
        let problem = last("\n".repeat(LINES_MAX + 2));
        assert_eq!((problem.line, problem.text.as_str()), (LINES_MAX + 1, "the file has more than 100000 lines"));
        assert!(Acl::parse(&"pattern a\n".repeat(PATTERNS_MAX)).is_ok());
        assert_eq!(last("pattern a\n".repeat(PATTERNS_MAX + 2)).line, PATTERNS_MAX + 1);
        assert_eq!(last("bad\n".repeat(50)).line, PROBLEMS_MAX);
    }
}

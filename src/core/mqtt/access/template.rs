//! Filters with gaps for what is known of a client: `{client_id}`, `{user}` and `{cn}` in rights, `%c` and `%u` in ACL files.

use std::sync::Arc;

use super::Identity;
use crate::mqtt::topic::{self, TOPIC_BYTES_MAX, TopicError};

/// How much of a wrong word an error shows.
const SHOWN_CHARS_MAX: usize = 40;

/// A filter with gaps, valid whatever is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    /// Empty if there are no gaps: all clients share the text then.
    pieces: Box<[Piece]>,
}

/// What fills a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// What the client calls itself.
    ClientId,
    /// Its login.
    User,
    /// What its certificate gave.
    Cn,
    /// Its name, whichever way it proved it.
    Name,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("the topic has an unknown placeholder {0:?}: there are {{client_id}}, {{user}} and {{cn}}")]
    UnknownPlaceholder(String),
    /// A brace has no other half.
    #[error("the topic has a lone brace: they stand around the placeholders {{client_id}}, {{user}} and {{cn}} only")]
    LoneBrace,
    /// `%u` or `%c` is not a whole level.
    #[error("the topic has %u or %c within a level: they must be a whole one, as in devices/%c/data")]
    WithinLevel,
    /// It begins with `$share`.
    #[error("the topic begins with $share: a right is on the filter behind the group, and holds for every group")]
    Shared,
    /// It is no valid filter.
    #[error("the topic {}", .0.reason())]
    Filter(TopicError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Gap(Placeholder),
}

impl Template {
    /// Reads a filter without placeholders.
    ///
    /// # Errors
    ///
    /// If it is no valid filter.
    pub fn plain(text: &str) -> Result<Template, TemplateError> {
        Template::new(text, vec![Piece::Text(text.into())])
    }

    /// Reads a filter whose placeholders stand in braces, anywhere in a level.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown, a brace is alone, or the filter is not valid.
    pub fn with_braces(text: &str) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let inside = rest[at..].strip_prefix('{').ok_or(TemplateError::LoneBrace)?;
            let end = inside.find(['{', '}']).filter(|end| inside[*end..].starts_with('}'));
            let (name, after) = end.map(|end| (&inside[..end], &inside[end + 1..])).ok_or(TemplateError::LoneBrace)?;
            pieces.push(Piece::Text(rest[..at].into()));
            pieces.push(Piece::Gap(match name {
                "client_id" => Placeholder::ClientId,
                "user" => Placeholder::User,
                "cn" => Placeholder::Cn,
                _ => return Err(TemplateError::UnknownPlaceholder(shown(&format!("{{{name}}}")))),
            }));
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        Template::new(text, pieces)
    }

    /// Reads a filter in which `%u` is the client's name and `%c` what it calls itself, each as a whole level.
    ///
    /// # Errors
    ///
    /// If a placeholder is not a whole level, or the filter is not valid.
    pub fn with_percents(text: &str) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        for (index, level) in text.split('/').enumerate() {
            if index > 0 {
                pieces.push(Piece::Text("/".into()));
            }
            pieces.push(match level {
                "%u" => Piece::Gap(Placeholder::Name),
                "%c" => Piece::Gap(Placeholder::ClientId),
                _ if level.contains("%u") || level.contains("%c") => return Err(TemplateError::WithinLevel),
                _ => Piece::Text(level.into()),
            });
        }
        Template::new(text, pieces)
    }

    /// The filter for a client; `None` if there is none: a value is missing, or would not be (part of) one level, or the filter becomes longer
    /// than any topic.
    pub fn fill(&self, identity: &Identity) -> Option<Arc<str>> {
        if self.pieces.is_empty() {
            return Some(Arc::clone(&self.text));
        }
        let mut filled = String::new();
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Gap(placeholder) => identity.value(*placeholder).filter(|value| is_level(value))?,
            };
            if filled.len() + text.len() > TOPIC_BYTES_MAX {
                return None;
            }
            filled.push_str(text);
        }
        Some(filled.into())
    }

    /// The filter as it is written.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    fn new(text: &str, pieces: Vec<Piece>) -> Result<Template, TemplateError> {
        let probe: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Gap(_) => "x",
            })
            .collect();
        if topic::split_level(&probe).0 == "$share" {
            return Err(TemplateError::Shared);
        }
        topic::check_filter(&probe).map_err(TemplateError::Filter)?;
        let has_gap = pieces.iter().any(|piece| matches!(piece, Piece::Gap(_)));
        let pieces = if has_gap { pieces.into() } else { Box::default() };
        Ok(Template { text: text.into(), pieces })
    }
}

/// The beginning of a text from a file, for an error.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether a value is text within one level. Others could widen the rights of a client that chooses its own.
fn is_level(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '+', '#']) && !value.chars().any(char::is_control)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: Some("ann".into()),
            user: Some("ann".into()),
            cn: Some("7".into()),
            client_id: "c".repeat(TOPIC_BYTES_MAX - 2),
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let read = Template::with_braces("truck-{cn}{user}/+/{user}").unwrap();
        assert_eq!(read.fill(&identity()).as_deref(), Some("truck-7ann/+/ann"));
        let read = Template::with_percents("a/%u/b%/#").unwrap();
        assert_eq!(read.fill(&identity()).as_deref(), Some("a/ann/b%/#"));
        assert_eq!(Template::plain("{user}/%c").unwrap().fill(&identity()).as_deref(), Some("{user}/%c"));
    }

    #[test]
    fn a_filter_that_becomes_longer_than_any_topic_is_for_nobody() {
        let fill = |text: &str| Template::with_braces(text).unwrap().fill(&identity()).map(|filter| filter.len());
        assert_eq!(fill("a/{client_id}"), Some(TOPIC_BYTES_MAX));
        assert_eq!(fill("ab/{client_id}"), None);
    }

    #[test]
    fn a_value_that_is_no_text_within_a_level_is_for_nobody() {
        let template = Template::with_braces("a/x-{client_id}").unwrap();
        for (value, is_filled) in
            [("1", true), ("é $%{}", true), ("a\0", false), ("\u{85}", false), ("a/b", false), ("", false)]
        {
            let identity = Identity { client_id: value.into(), ..Identity::default() };
            assert_eq!(template.fill(&identity).is_some(), is_filled, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        let long_name = format!("{{{}}}", "é".repeat(100));
        for (text, expected) in [
            ("a/{name}", "unknown placeholder \"{name}\": there are {client_id}, {user} and {cn}"),
            ("a/{}", "unknown placeholder \"{}\""),
            (&long_name, "é...\""),
            ("a/{user", "lone brace"),
            ("a/user}", "lone brace"),
            ("a/{{user}}", "lone brace"),
            ("a/}{user}", "lone brace"),
            ("a/+{user}", "not a whole level"),
            ("{user}#", "not a whole level"),
            ("#/{user}", "not a whole level"),
            ("", "is empty"),
            ("a\tb", "control"),
            ("$share/g/{user}", "begins with $share"),
            ("$share", "begins with $share"),
        ] {
            let error = Template::with_braces(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for text in ["a%u", "%cx/b", "%u%c"] {
            assert_eq!(Template::with_percents(text), Err(TemplateError::WithinLevel), "{text}");
        }
    }
}

//! Secrets that only the service may see.

use crate::keys::section::Section;

/// Prefix of a value that is taken from an environment variable.
const FROM_ENVIRONMENT: &str = "env:";

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// The text itself, or the value of the environment variable that it names.
pub fn from_environment(section: &mut Section<'_>, key: &str, text: String) -> Option<Secret> {
    let Some(variable) = text.strip_prefix(FROM_ENVIRONMENT) else { return Some(Secret(text)) };
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty() && !value.contains(['\r', '\n']));
    if value.is_none() {
        section.blame(key, format!("the environment variable {variable} is not set to a text of one line"));
    }
    value.map(Secret)
}

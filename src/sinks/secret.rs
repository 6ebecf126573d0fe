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
        section.blame(key, format!("the environment variable {variable} is not set to a text of one line, nor in the file `environment` beside the configuration"));
    }
    value.map(Secret)
}

/// A shorter level of a path is a word such as `services`, not a secret.
const LEVEL_BYTES_MIN: usize = 8;
const VALUE_BYTES_MIN: usize = 4;

/// What of a secret URL somebody may repeat who is asked for it: itself, what comes behind its host, and the parts that may be secret by themselves.
pub fn parts_of_url(url: &str) -> Vec<&str> {
    let Some((_, rest)) = url.split_once("://") else { return vec![url] };
    let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
    let login = authority.rsplit_once('@').into_iter().flat_map(|(login, _)| login.split(':'));
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let short = login.chain(values).filter(|part| part.len() >= VALUE_BYTES_MIN);
    let levels = path.split('/').filter(|level| level.len() >= LEVEL_BYTES_MIN);
    let whole = [url, behind, path].into_iter().filter(|part| part.len() >= LEVEL_BYTES_MIN);
    // The longest first: one may be a part of another.
    let mut parts: Vec<&str> = whole.chain(levels).chain(short).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_whatever_may_be_secret_is_known() {
        let url = "https://anna:pass@hooks.example.com/services/T0/B0/t0k3n-of-ours?key=1234&v=1";
        let parts = parts_of_url(url);
        for secret in ["pass", "/services/T0/B0/t0k3n-of-ours", "t0k3n-of-ours", "1234", url] {
            assert!(parts.contains(&secret), "{secret}");
        }
        assert!(!parts.contains(&"T0") && !parts.contains(&"1"));
        assert_eq!(parts_of_url("http://127.0.0.1:8080/"), ["http://127.0.0.1:8080/"]);
    }
}

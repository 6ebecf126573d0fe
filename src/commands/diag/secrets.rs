//! Whatever is secret, so that it can be searched for.

use crate::config::host::Host;
use crate::config::{Configuration, Sources};
use crate::sinks::secret::parts_of_url;

/// Variables of the environment that are secret, besides those that the configuration names.
const VARIABLES: [&str; 3] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"];
/// A shorter text would hide half of everything, and is no secret.
const BYTES_MIN: usize = 4;
const HIDDEN: &str = "(not shown)";

pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn of(sources: &Sources, host: &Host) -> Secrets {
        let environment = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
        Secrets::new(Configuration::secrets(sources, host).into_iter().chain(environment))
    }

    fn new(texts: impl Iterator<Item = String>) -> Secrets {
        let mut all: Vec<String> = texts
            .flat_map(|text| match text.contains("://") {
                true => parts_of_url(&text).into_iter().map(str::to_owned).collect(),
                false => vec![text],
            })
            // As JSON writes them, too.
            .flat_map(|text| {
                let json = serde_json::Value::from(text.as_str()).to_string();
                [json[1..json.len() - 1].to_owned(), text]
            })
            .filter(|text| text.len() >= BYTES_MIN)
            .collect();
        // The longest first: one may be a part of another.
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all.dedup();
        Secrets(all)
    }

    /// The text without them.
    pub fn hidden(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), HIDDEN),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_also_where_one_is_within_another_and_in_json() {
        let secrets = Secrets::new(["pass", "password", "a\"quote", "x"].map(str::to_owned).into_iter());
        assert_eq!(secrets.hidden("password pass x"), "(not shown) (not shown) x");
        assert_eq!(secrets.hidden("{\"a\":\"a\\\"quote\"}"), "{\"a\":\"(not shown)\"}");
    }
}

//! What a line becomes: a topic and a payload, as if it had been published.

use regex::bytes::Regex;

/// The topic that lines of a file are published to. `{file}` is the file's name up to its first dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicText(pub String);

impl TopicText {
    /// The topic of a file's lines.
    pub fn of(&self, path: &str) -> String {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let stem = name.split('.').next().unwrap_or_default();
        // What a topic may not hold.
        let stem = stem.replace(|c: char| c.is_control() || "+#/".contains(c), "_");
        self.0.replace("{file}", &stem)
    }
}

/// What lines say.
#[derive(Clone, Debug)]
pub enum Content {
    /// Each is a payload.
    Payloads,
    /// Each is a row; the payload is the line that names the columns, and the row. Without such a line, the route names them.
    Csv,
    /// Each is taken apart.
    Pattern(Pattern),
}

/// A regular expression with named groups, each of which becomes a field.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// Of the groups that have one, with their numbers.
    names: Vec<(usize, String)>,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("{0}")]
    Wrong(String),
    #[error("no group has a name, such as (?<value>[0-9.]+)")]
    NoNames,
}

/// Memory that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

impl Pattern {
    /// Compiles a pattern.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let regex = compile(text)?;
        let named = regex.capture_names().enumerate().filter_map(|(number, name)| Some((number, name?.to_owned())));
        let names: Vec<(usize, String)> = named.collect();
        if names.is_empty() { Err(PatternError::NoNames) } else { Ok(Pattern { regex, names }) }
    }

    /// A JSON object with the groups of a line; `None` if it does not match.
    pub fn payload(&self, line: &[u8]) -> Option<Vec<u8>> {
        let found = self.regex.captures(line)?;
        let mut fields = serde_json::Map::new();
        for (number, name) in &self.names {
            let Some(text) = found.get(*number).and_then(|group| std::str::from_utf8(group.as_bytes()).ok()) else {
                continue;
            };
            // A number keeps its digits; 007 and the like are names.
            let value = serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Into::into);
            fields.insert(name.clone(), value);
        }
        Some(serde_json::to_vec(&fields).expect("texts and numbers"))
    }
}

/// A regular expression of bounded size. Its classes are those of ASCII: tables of all of Unicode are not built in.
pub fn compile(text: &str) -> Result<Regex, PatternError> {
    let built = regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(PATTERN_BYTES_MAX).build();
    built.map_err(|error| PatternError::Wrong(error.to_string().lines().last().unwrap_or_default().to_owned()))
}

impl Content {
    /// Puts the payload of a line into the buffer; `false` if it has none, because it does not match.
    pub fn payload(&self, header: Option<&[u8]>, line: &[u8], payload: &mut Vec<u8>) -> bool {
        payload.clear();
        match self {
            Content::Payloads => payload.extend_from_slice(line),
            Content::Csv => {
                if let Some(header) = header {
                    payload.extend_from_slice(header);
                    payload.push(b'\n');
                }
                payload.extend_from_slice(line);
            }
            Content::Pattern(pattern) => match pattern.payload(line) {
                Some(made) => *payload = made,
                None => return false,
            },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_files_name() {
        let topic = TopicText("plant/{file}/data".into());
        assert_eq!(topic.of("/data/truck-7.csv.1"), "plant/truck-7/data");
        assert_eq!(topic.of("/data/a+b.csv"), "plant/a_b/data");
    }

    #[test]
    fn named_groups_are_fields_and_numbers_keep_their_digits() {
        let pattern = Pattern::parse(r"^(?<time>\S+) (?<unit>\w+)=(?<value>[-0-9.]+)(?<more> x)?$").expect("right");
        let payload = |line: &str| pattern.payload(line.as_bytes()).map(|made| String::from_utf8(made).expect("JSON"));
        let expected = r#"{"time":"2026-11-30T07:00:00Z","unit":"C","value":21.50}"#;
        let made = payload("2026-11-30T07:00:00Z C=21.50").expect("it matches");
        let fields = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(fields(&made), fields(expected));
        assert_eq!(fields(&payload("007 C=007").expect("it matches"))["time"], "007");
        assert_eq!(payload("nothing of that"), None);
        assert_eq!(Pattern::parse("a").expect_err("no name"), PatternError::NoNames);
        assert!(matches!(Pattern::parse("(").expect_err("open"), PatternError::Wrong(_)));
    }
}

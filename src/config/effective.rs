//! What is in force: every key with its value and where that comes from, as a file that means the same. Defaults are comments, as in
//! `config/outrider.toml`: some may be written only beside other keys.

use std::fmt::Write as _;

use super::{Configuration, Sources, reference};
use crate::config::host::Host;
use crate::keys::key::{Fallback, Form, Group, Key, SECTIONS};
use crate::keys::kind::Kind;
use crate::keys::problem::{Origin, Problems};
use crate::keys::raw::{Entry, Table};
use crate::keys::value::Value;

/// Which keys are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Those that a file, a variable or an argument sets.
    Set,
    /// The defaults of all others, too.
    Effective,
}

impl Configuration {
    /// Keys with their values, each with its origin. Secrets are left out.
    pub fn show(sources: &Sources, host: &Host, shown: Shown) -> Result<String, Problems> {
        // Once: what comes through a pipe is there only once.
        let file = Configuration::text(sources, host)?;
        let file = file.as_ref().map(|(file, text)| (file.as_path(), text.as_str()));
        let configuration = Configuration::read(file, sources, host)?;
        let document = Configuration::merged(file, sources, &mut Problems::default());
        let mut out = String::new();
        for (name, form) in SECTIONS {
            match form {
                Form::Single => {
                    let table = document.sections.get(name);
                    if table.is_some() || shown == Shown::Effective {
                        section(&mut out, (&format!("[{name}]"), name), table, shown);
                    }
                }
                Form::List => {
                    for table in document.lists.get(name).into_iter().flatten() {
                        section(&mut out, (&format!("[[{name}]]"), name), Some(table), shown);
                    }
                }
            }
        }
        if !document.lists.contains_key("sink") && shown == Shown::Effective {
            for sink in &configuration.sinks {
                let _ = writeln!(out, "\n# Without a [[sink]]: {}, {}", sink.name, sink.sink.describe());
            }
        }
        Ok(match out.trim_start() {
            "" => "# Nothing is set: the defaults apply, which --effective shows.\n".to_owned(),
            out => out.to_owned(),
        })
    }
}

impl Configuration {
    /// Every text that a file, a variable or an argument sets for a key whose value is secret; also of a configuration that is wrong. Of a value
    /// that names a variable of the environment, what that holds.
    pub fn secrets(sources: &Sources, host: &Host) -> Vec<String> {
        let Ok(file) = Configuration::text(sources, host) else { return Vec::new() };
        let file = file.as_ref().map(|(file, text)| (file.as_path(), text.as_str()));
        let document = Configuration::merged(file, sources, &mut Problems::default());
        let is_secret = |name: &str| reference::all().iter().any(|key| key.name == name && key.kind.is_secret());
        let tables = document.sections.values().chain(document.lists.values().flatten());
        let values =
            tables.flat_map(|table| &table.entries).filter(|(name, _)| is_secret(name)).map(|(_, entry)| &entry.value);
        let mut texts: Vec<String> = Vec::new();
        for value in values {
            match value {
                Value::Text(text) | Value::Variable(text) => texts.push(text.clone()),
                Value::Table(entries) => texts.extend(entries.iter().map(|(_, text)| text.clone())),
                _ => {}
            }
        }
        let named = texts.iter().filter_map(|text| std::env::var(text.strip_prefix("env:")?).ok());
        let named: Vec<String> = named.collect();
        texts.extend(named);
        texts
    }
}

fn section(out: &mut String, (header, name): (&str, &'static str), table: Option<&Table>, shown: Shown) {
    let _ = writeln!(out, "\n{header}");
    let kind = table.and_then(|table| table.entries.get("type")).and_then(|entry| entry.value.text());
    let is_here = |key: &&&'static Key| match key.group {
        Group::SinkOf(of) => name == "sink" && kind == Some(of),
        group => group.section() == name,
    };
    let mut lines = Vec::new();
    for key in reference::all().iter().filter(is_here) {
        match table.and_then(|table| table.entries.get(key.name)) {
            Some(entry) => lines.push(set(key, entry)),
            None if shown == Shown::Effective => lines.extend(default(key)),
            None => {}
        }
    }
    let width = lines.iter().map(|(text, _)| text.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    for (text, from) in lines {
        let _ = writeln!(out, "{text:width$}  # {from}");
    }
}

fn set(key: &Key, entry: &Entry) -> (String, String) {
    let from = match &entry.origin {
        Origin::BuiltIn => "default".to_owned(),
        origin => origin.to_string(),
    };
    match key.kind.is_secret() {
        true => (format!("#{} is set, and not shown", key.name), from),
        false => (format!("{} = {}", key.name, written(key.kind, &entry.value)), from),
    }
}

fn default(key: &Key) -> Option<(String, String)> {
    match key.fallback {
        Fallback::Literal(literal) => Some((format!("#{} = {literal}", key.name), "default".to_owned())),
        Fallback::Otherwise { meaning, .. } => Some((format!("#{} is not set", key.name), meaning.to_owned())),
        // Of two keys of which one is required, the other one is there.
        Fallback::Required { .. } => None,
    }
}

/// A value as TOML; one of a variable as its key understands it.
fn written(kind: Kind, value: &Value) -> String {
    let Value::Variable(text) = value else { return toml(value) };
    match kind {
        Kind::Boolean | Kind::Integer { .. } | Kind::Number => text.trim().to_owned(),
        Kind::Numbers { .. } => format!("[{}]", text.trim()),
        Kind::Texts { .. } => list(value.texts().unwrap_or_default().into_iter().map(quoted)),
        Kind::StreamTargets => {
            let targets = value.table().unwrap_or_default();
            table(targets.into_iter().map(|(name, target)| (name, quoted(&target))))
        }
        _ => quoted(text),
    }
}

fn toml(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Variable(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::List(items) => list(items.iter().map(toml)),
        Value::Table(entries) => table(entries.iter().map(|(name, text)| (name.clone(), quoted(text)))),
        Value::Tree(entries) => table(entries.iter().map(|(name, value)| (name.clone(), toml(value)))),
        Value::Other => "...".to_owned(),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn table(entries: impl Iterator<Item = (String, String)>) -> String {
    let is_bare =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let entry = |(name, value): (String, String)| match is_bare(&name) {
        true => format!("{name} = {value}"),
        false => format!("{} = {value}", quoted(&name)),
    };
    let entries: Vec<String> = entries.map(entry).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn host() -> Host {
        Host { system_file: "/does/not/exist".into(), ..Host::read() }
    }

    fn sources(folder: &Path, text: &str, variables: &[(&str, &str)]) -> Sources {
        let file = folder.join("outrider.toml");
        std::fs::write(&file, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { file: Some(file), variables, ..Sources::default() }
    }

    const TEXT: &str = r#"
[gateway]
id = "truck \"7\""
[store]
size_max = "1GiB"
[[limit]]
metric = "speed"
max = 130.5
[[stream]]
name = "trips"
[[rule]]
name = "stop"
sql = """
SELECT *
FROM 'devices/+'"""
[rule.stream]
name = "trips"
[[sink]]
name = "cloud"
type = "kinesis"
raw = "r"
streams = { trips = "t" }
[[sink]]
name = "web"
type = "http"
url = "https://example.com/token"
headers = { Authorization = "Bearer secret" }
"#;

    #[test]
    fn what_is_shown_means_the_same_as_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let text = &TEXT[..TEXT.find("[[sink]]\nname = \"web\"").unwrap()];
        let variables = [("OUTRIDER__STORE__SIZE_MAX", "2GiB"), ("OUTRIDER__MQTT__KEEP_ALIVE_MAX", "60s")];
        let meant = |sources: &Sources| {
            let all = Configuration::load(sources, &host()).unwrap();
            format!(
                "{:?}",
                (all.gateway_id, all.store, all.edge, all.listeners, all.sinks, all.monitor.limits, all.streams)
            )
        };
        for shown in [Shown::Set, Shown::Effective] {
            let given = sources(folder.path(), text, &variables);
            let expected = meant(&given);
            let out = Configuration::show(&given, &host(), shown).unwrap();
            assert_eq!(meant(&sources(folder.path(), &out, &[])), expected, "{out}");
        }
    }

    #[test]
    fn a_file_that_can_be_read_only_once_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let writer = pipe.clone();
        // Whoever reads it a second time gets nothing.
        std::thread::spawn(move || {
            ["[gateway]\nid = \"piped\"\n", ""].into_iter().for_each(|text| std::fs::write(&writer, text).unwrap());
        });
        let given = Sources { file: Some(pipe), ..Sources::default() };
        let out = Configuration::show(&given, &host(), Shown::Set).unwrap();
        assert!(out.contains("id = \"piped\""), "{out}");
    }

    #[test]
    fn each_value_says_where_it_is_from_and_secrets_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let given = sources(folder.path(), TEXT, &[("OUTRIDER__STORE__SIZE_MAX", "2GiB")]);
        let out = Configuration::show(&given, &host(), Shown::Effective).unwrap();
        let line =
            |start: &str| out.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {out}"));
        assert!(line("id = \"truck \\\"7\\\"\"").ends_with("outrider.toml:3"));
        assert!(line("size_max = \"2GiB\"").ends_with("# OUTRIDER__STORE__SIZE_MAX"));
        assert!(line("#when_full = \"drop_oldest\"").ends_with("# default"));
        assert!(line("max = 130.5").ends_with("outrider.toml:8"));
        assert!(line("#url is set, and not shown").ends_with("outrider.toml:26"));
        assert!(!out.contains("secret") && !out.contains("token\""), "{out}");
        let set = Configuration::show(&given, &host(), Shown::Set).unwrap();
        assert!(!set.contains("# default") && !set.contains("[admin]") && set.contains("[gateway]"), "{set}");
        let nothing = Sources::default();
        let set = Configuration::show(&nothing, &host(), Shown::Set).unwrap();
        assert!(set.starts_with("# Nothing is set"), "{set}");
        let built_in = Configuration::show(&nothing, &host(), Shown::Effective).unwrap();
        assert!(built_in.contains("# Without a [[sink]]: archive, "), "{built_in}");
    }
}

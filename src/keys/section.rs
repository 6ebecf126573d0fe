//! Reads one section: each key is checked by its kind, and whatever is left over is unknown.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::key::{Fallback, Group, Key};
use super::kind::Checked;
use super::problem::{Origin, Problems, near_miss, shown};
use super::raw::{Entry, Table};
use super::value::Value;
use crate::core::path::Path;
use crate::core::rulebook::{ActionDefinition, RuleTest};
use crate::ingest::places::{Attribute, Measure};
use crate::ingest::route_test::RouteTest;

/// A key is read by asking for it by name; keys that were not asked for are reported by [`Section::finish`].
pub struct Section<'a> {
    table: Table,
    /// `store`, `sink[0]`.
    at: String,
    groups: Vec<Group>,
    /// The keys of all sections, to recognise one in the wrong section.
    keys: &'static [&'static Key],
    read: BTreeSet<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    pub fn new(
        table: Table,
        at: String,
        group: Group,
        keys: &'static [&'static Key],
        problems: &'a mut Problems,
    ) -> Section<'a> {
        Section { table, at, groups: vec![group], keys, read: BTreeSet::new(), problems }
    }

    /// Allows the keys of this group from here on, too.
    pub fn extend(&mut self, group: Group) {
        self.groups.push(group);
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.value(name)? {
            Checked::Text(text) => Some(text),
            other => wrong_kind(name, &other),
        }
    }

    pub fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// What the configured word means; the table of keys lists the same words.
    pub fn choice<T: Copy>(&mut self, name: &str, meanings: &[(&str, T)]) -> Option<T> {
        match self.value(name)? {
            Checked::Choice(word) => {
                let found = meanings.iter().find(|(known, _)| *known == word);
                Some(found.expect("every word of the table has a meaning").1)
            }
            other => wrong_kind(name, &other),
        }
    }

    pub fn texts(&mut self, name: &str) -> Vec<String> {
        match self.defaulted(name) {
            Checked::Texts(texts) => texts,
            other => wrong_kind(name, &other),
        }
    }

    /// For a key whose absence means something else than an empty list.
    pub fn texts_if_there(&mut self, name: &str) -> Option<Vec<String>> {
        match self.value(name)? {
            Checked::Texts(texts) => Some(texts),
            other => wrong_kind(name, &other),
        }
    }

    /// Names of streams, and where each goes; empty if the key is absent.
    pub fn stream_targets(&mut self, name: &str) -> Vec<(String, String)> {
        match self.value(name) {
            Some(Checked::StreamTargets(targets)) => targets,
            None => Vec::new(),
            Some(other) => wrong_kind(name, &other),
        }
    }

    /// Names and values; empty if the key is absent.
    pub fn headers(&mut self, name: &str) -> Vec<(String, String)> {
        match self.value(name) {
            Some(Checked::Headers(headers)) => headers,
            None => Vec::new(),
            Some(other) => wrong_kind(name, &other),
        }
    }

    pub fn paths(&mut self, name: &str) -> Option<Vec<Path>> {
        match self.value(name)? {
            Checked::Paths(paths) => Some(paths),
            other => wrong_kind(name, &other),
        }
    }

    pub fn measures(&mut self, name: &str) -> Option<Vec<Measure>> {
        match self.value(name)? {
            Checked::Measures(measures) => Some(measures),
            other => wrong_kind(name, &other),
        }
    }

    pub fn attributes(&mut self, name: &str) -> Option<Vec<Attribute>> {
        match self.value(name)? {
            Checked::Attributes(attributes) => Some(attributes),
            other => wrong_kind(name, &other),
        }
    }

    pub fn route_tests(&mut self, name: &str) -> Vec<RouteTest> {
        match self.value(name) {
            Some(Checked::RouteTests(tests)) => tests,
            None => Vec::new(),
            Some(other) => wrong_kind(name, &other),
        }
    }

    pub fn rule_tests(&mut self, name: &str) -> Vec<RuleTest> {
        match self.value(name) {
            Some(Checked::RuleTests(tests)) => tests,
            None => Vec::new(),
            Some(other) => wrong_kind(name, &other),
        }
    }

    pub fn actions(&mut self, name: &str) -> Vec<ActionDefinition> {
        match self.value(name) {
            Some(Checked::Actions(actions)) => actions,
            None => Vec::new(),
            Some(other) => wrong_kind(name, &other),
        }
    }

    pub fn boolean(&mut self, name: &str) -> bool {
        match self.defaulted(name) {
            Checked::Boolean(boolean) => boolean,
            other => wrong_kind(name, &other),
        }
    }

    /// Only for keys with a default, like all below.
    pub fn integer(&mut self, name: &str) -> u64 {
        match self.defaulted(name) {
            Checked::Integer(number) => number,
            other => wrong_kind(name, &other),
        }
    }

    /// An integer, for a key whose range fits the type.
    pub fn count<T: TryFrom<u64>>(&mut self, name: &str) -> T {
        fitting(self.integer(name))
    }

    /// A size, for a key whose range fits the type.
    pub fn bytes<T: TryFrom<u64>>(&mut self, name: &str) -> T {
        fitting(self.size(name))
    }

    pub fn size(&mut self, name: &str) -> u64 {
        self.size_or_auto(name).expect("asked only where auto is not allowed")
    }

    /// `None` means `"auto"`.
    pub fn size_or_auto(&mut self, name: &str) -> Option<u64> {
        match self.defaulted(name) {
            Checked::Size(bytes) => Some(bytes),
            Checked::Auto => None,
            other => wrong_kind(name, &other),
        }
    }

    pub fn duration(&mut self, name: &str) -> Duration {
        match self.defaulted(name) {
            Checked::Duration(duration) => duration,
            other => wrong_kind(name, &other),
        }
    }

    /// A duration that has no default.
    pub fn given_duration(&mut self, name: &str) -> Option<Duration> {
        match self.value(name)? {
            Checked::Duration(duration) => Some(duration),
            other => wrong_kind(name, &other),
        }
    }

    /// An integer that has no default, for a key whose range fits the type.
    pub fn given_count<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        match self.value(name)? {
            Checked::Integer(number) => Some(fitting(number)),
            other => wrong_kind(name, &other),
        }
    }

    pub fn given_boolean(&mut self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Checked::Boolean(is_on) => Some(is_on),
            other => wrong_kind(name, &other),
        }
    }

    pub fn milliseconds(&mut self, name: &str) -> u64 {
        u64::try_from(self.duration(name).as_millis()).expect("ranges of durations fit a u64 of milliseconds")
    }

    /// `None` means `"off"`.
    pub fn listen(&mut self, name: &str) -> Option<SocketAddr> {
        match self.defaulted(name) {
            Checked::Listen(address) => Some(address),
            Checked::Off => None,
            other => wrong_kind(name, &other),
        }
    }

    /// An address that has no default.
    pub fn given_listen(&mut self, name: &str) -> Option<SocketAddr> {
        match self.value(name)? {
            Checked::Listen(address) => Some(address),
            other => wrong_kind(name, &other),
        }
    }

    /// A size that has no default, for a key whose range fits the type.
    pub fn given_bytes<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        match self.value(name)? {
            Checked::Size(bytes) => Some(fitting(bytes)),
            other => wrong_kind(name, &other),
        }
    }

    pub fn numbers(&mut self, name: &str) -> Option<Vec<f64>> {
        match self.value(name)? {
            Checked::Numbers(numbers) => Some(numbers),
            other => wrong_kind(name, &other),
        }
    }

    pub fn number(&mut self, name: &str) -> Option<f64> {
        self.numbers(name)?.first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        self.table.entries.contains_key(name)
    }

    /// Reports a key that is valid by itself but not together with others; blames the whole section if the key is absent.
    pub fn blame(&mut self, name: &str, message: impl Into<String>) {
        match self.table.entries.get(name) {
            Some(entry) => {
                let key = format!("{}.{name}", self.at);
                self.problems.add(&entry.origin, &key, Some(self.shown(name, entry)), message);
            }
            None => self.blame_section(message),
        }
    }

    /// Reports a key of another kind of section that people look for here. It counts as read.
    pub fn refuse(&mut self, name: &'static str, message: &str) {
        if self.has(name) {
            self.read.insert(name);
            self.blame(name, message);
        }
    }

    /// Where it is in the file, and what it is called in problems.
    pub fn place(&self) -> (Origin, String) {
        (self.table.origin.clone(), self.at.clone())
    }

    pub fn blame_section(&mut self, message: impl Into<String>) {
        self.problems.add(&self.table.origin, &self.at, None, message);
    }

    /// Reports keys that were not asked for.
    pub fn finish(self) {
        for (name, entry) in &self.table.entries {
            if !self.read.contains(name.as_str()) {
                let key = format!("{}.{}", self.at, shown(name));
                let message = self.unknown(name);
                self.problems.add(&entry.key_origin, &key, Some(self.shown(name, entry)), message);
            }
        }
    }

    /// A value as it may be shown. If a misspelled key is probably a secret, its value is hidden too.
    fn shown(&self, name: &str, entry: &Entry) -> String {
        let secrets = self.keys.iter().filter(|key| key.kind.is_secret()).map(|key| key.name);
        let is_secret = secrets.clone().any(|known| known == name) || near_miss(name, secrets).is_some();
        if is_secret { "(not shown)".to_owned() } else { entry.shown.clone() }
    }

    fn unknown(&self, name: &str) -> String {
        let section = self.groups[0].section();
        let belongs = |key: &&&Key| self.groups.contains(&key.group);
        if let Some(key) = self.keys.iter().find(|key| key.name == name && key.group.section() == section) {
            return format!("a key of {}, not of this one", key.group.header());
        }
        let known: Vec<&str> = self.keys.iter().filter(belongs).map(|key| key.name).collect();
        if let Some(meant) = near_miss(name, known.iter().copied()) {
            return format!("unknown key; did you mean `{meant}`?");
        }
        if let Some(key) = self.keys.iter().find(|key| key.name == name) {
            return format!("unknown key here; did you mean `{name}` in {}?", key.group.header());
        }
        format!("unknown key; there are {}", known.join(", "))
    }

    fn value(&mut self, name: &str) -> Option<Checked> {
        let key = self.key(name);
        if let Some(entry) = self.table.entries.get(name) {
            match key.kind.check(&entry.value) {
                Ok(checked) => return Some(checked),
                Err(message) => {
                    let at = format!("{}.{name}", self.at);
                    self.problems.add(&entry.origin, &at, Some(self.shown(name, entry)), message);
                    // The key is there but invalid; reporting it as missing would be a second problem for one mistake.
                    return default_of(key);
                }
            }
        }
        if let Fallback::Required { example } = key.fallback {
            let message = format!("`{name}` is missing; for example {name} = {example}");
            self.problems.add(&self.table.origin, &self.at, None, message);
        }
        default_of(key)
    }

    fn defaulted(&mut self, name: &str) -> Checked {
        self.value(name).expect("asked only for keys that have a default")
    }

    /// Panics on a key that is in no table: a programming error that the first test finds.
    fn key(&mut self, name: &str) -> &'static Key {
        let of = |group: &Group| self.keys.iter().copied().find(|key| key.group == *group && key.name == name);
        let key = self.groups.iter().find_map(of).expect("the parser asks for keys of the tables only");
        self.read.insert(key.name);
        key
    }
}

fn default_of(key: &Key) -> Option<Checked> {
    let Fallback::Literal(literal) = key.fallback else { return None };
    let value = match literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) => Value::Text(text.to_owned()),
        None if literal == "[]" => Value::List(Vec::new()),
        None => match literal.parse() {
            Ok(boolean) => Value::Boolean(boolean),
            Err(_) => Value::Integer(literal.parse().expect("other defaults are texts or whole numbers")),
        },
    };
    Some(key.kind.check(&value).expect("defaults are within their own range"))
}

/// All current ranges fit a `u32`, the smallest type that is asked for; a test asks for each key.
fn fitting<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).ok().expect("the range of a key fits the type that it is asked for as")
}

fn wrong_kind(name: &str, value: &Checked) -> ! {
    unreachable!("`{name}` is asked for as something else than its kind says: {value:?}")
}

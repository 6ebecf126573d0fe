//! The content of the file and of the variables, not yet checked: sections and lists of sections, each value with its origin.
//!
//! Nothing here stops at the first problem: reading continues where possible, so that one run reports everything.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{self, Form, Key};
use super::problem::{Origin, Problems, near_miss, shown};
use super::units::{parse_duration, parse_size};
use super::value::Value;

/// Prefix of the environment variables that set keys.
pub const VARIABLE_PREFIX: &str = "OUTRIDER__";

/// A command-line argument that sets a key of a section that appears once.
#[derive(Clone, Debug)]
pub struct Argument {
    /// As the user writes it: `--listen`.
    pub name: &'static str,
    pub section: &'static str,
    pub key: &'static str,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    /// As it was written, for messages.
    pub shown: String,
    pub origin: Origin,
    /// Where the key is; its value may extend over further lines.
    pub key_origin: Origin,
}

impl Entry {
    /// An entry from outside the file.
    fn overlay(text: &str, origin: Origin) -> Entry {
        Entry {
            value: Value::Variable(text.to_owned()),
            shown: format!("\"{}\"", shown(text)),
            origin: origin.clone(),
            key_origin: origin,
        }
    }
}

/// One section, or one item of a list of sections.
#[derive(Clone, Debug)]
pub struct Table {
    pub origin: Origin,
    pub entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default)]
pub struct Document {
    pub sections: BTreeMap<&'static str, Table>,
    pub lists: BTreeMap<&'static str, Vec<Table>>,
}

impl Document {
    /// Parses a file's text as far as possible.
    pub fn parse(file: &Path, text: &str, keys: &[&'static Key], problems: &mut Problems) -> Document {
        let source = Source { file, text, keys };
        let mut document = Document::default();
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut is_structure_lost = false;
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            let line_text = source.line_text(at);
            is_structure_lost |= line_text.starts_with('[');
            let message = syntax_message(line_text, error.message());
            problems.add_broken(&source.origin(at), message);
        }
        // After a broken header, all keys below it would be blamed for being in the wrong section.
        if is_structure_lost {
            return document;
        }
        for (key, value) in root.get_ref().iter() {
            document.add_section(&source, key, value, problems);
        }
        document
    }

    fn add_section(
        &mut self,
        source: &Source<'_>,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Problems,
    ) {
        let name: &str = key.get_ref();
        let origin = source.origin(key.span().start);
        match (key::section(name), value.get_ref()) {
            (None, DeValue::Table(_) | DeValue::Array(_)) => {
                problems.add(&origin, name, None, unknown_section(name));
            }
            (None, _) => problems.add(&origin, name, Some(source.shown(value)), misplaced_key(source.keys, name)),
            (Some((name, Form::Single)), DeValue::Table(table)) => {
                self.sections.insert(name, source.table(origin, table));
            }
            (Some((name, Form::List)), DeValue::Array(items)) => {
                let tables = items.iter().filter_map(|item| {
                    let origin = source.origin(item.span().start);
                    match item.get_ref() {
                        DeValue::Table(table) => Some(source.table(origin, table)),
                        _ => {
                            problems.add(
                                &origin,
                                name,
                                Some(source.shown(item)),
                                format!("not a section; write [[{name}]]"),
                            );
                            None
                        }
                    }
                });
                let tables = tables.collect();
                self.lists.insert(name, tables);
            }
            (Some((name, Form::Single)), _) => {
                problems.add(&origin, name, None, format!("a section that stands once; write [{name}]"));
            }
            (Some((name, Form::List)), _) => {
                problems.add(&origin, name, None, format!("a section that may stand several times; write [[{name}]]"));
            }
        }
    }

    /// Overrides everything else with an argument.
    pub fn apply_argument(&mut self, argument: &Argument) {
        let origin = Origin::Argument { name: argument.name };
        let table = self.sections.entry(argument.section).or_insert_with(|| Table::new(origin.clone()));
        table.entries.insert(argument.key.to_owned(), Entry::overlay(&argument.text, origin));
    }

    /// Overrides the file with variables; items of lists from the first to the last.
    pub fn apply_variables(&mut self, variables: &[(String, String)], problems: &mut Problems) {
        let mut variables: Vec<_> = variables.iter().collect();
        // Sorted as text, 10 would come before 2.
        let by_number = |name: &str| -> Vec<(u64, String)> {
            name.split("__").map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
        };
        variables.sort_by_key(|(name, _)| by_number(name));
        for (name, text) in variables {
            self.apply_variable(name, text, problems);
        }
    }

    fn apply_variable(&mut self, variable: &str, text: &str, problems: &mut Problems) {
        let origin = Origin::variable(variable);
        let path = variable[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
        let parts: Vec<&str> = path.split("__").collect();
        let form = key::section(parts[0]);
        let (table, key) = match (form, parts.as_slice()) {
            (None, _) => return problems.add(&origin, "", None, unknown_section(parts[0])),
            (Some((name, Form::Single)), [_, key]) => {
                let table = self.sections.entry(name).or_insert_with(|| Table::new(origin.clone()));
                (table, *key)
            }
            (Some((name, Form::List)), [_, index, key]) => match self.item(name, index, &origin) {
                Ok(table) => (table, *key),
                Err(message) => return problems.add(&origin, "", None, message),
            },
            (Some((name, Form::Single)), _) => {
                let upper = name.to_ascii_uppercase();
                return problems.add(&origin, "", None, format!("not a key; write {VARIABLE_PREFIX}{upper}__KEY"));
            }
            (Some((name, Form::List)), _) => {
                let upper = name.to_ascii_uppercase();
                let message = format!("not a key; write {VARIABLE_PREFIX}{upper}__0__KEY for the first [[{name}]]");
                return problems.add(&origin, "", None, message);
            }
        };
        table.entries.insert(key.to_owned(), Entry::overlay(text, origin));
    }

    fn item(&mut self, name: &'static str, index: &str, origin: &Origin) -> Result<&mut Table, String> {
        let list = self.lists.entry(name).or_default();
        let there = list.len();
        let at: usize =
            index.parse().map_err(|_| format!("`{index}` is not a number; [[{name}]] are counted from 0"))?;
        if at > there {
            return Err(format!("there are {there} [[{name}]], counted from 0; the next is {there}"));
        }
        if at == there {
            list.push(Table::new(origin.clone()));
        }
        Ok(&mut list[at])
    }
}

/// All lists of sections of a text, by their names, which need not be known ones.
pub fn lists(file: &Path, text: &str, problems: &mut Problems) -> BTreeMap<String, Vec<Table>> {
    let source = Source { file, text, keys: &[] };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.add_broken(&source.origin(error.span().map_or(0, |span| span.start)), error.message().to_owned());
    }
    let mut lists = BTreeMap::new();
    for (name, value) in root.get_ref().iter() {
        let DeValue::Array(items) = value.get_ref() else { continue };
        let tables = items.iter().filter_map(|item| match item.get_ref() {
            DeValue::Table(table) => Some(source.table(source.origin(item.span().start), table)),
            _ => None,
        });
        lists.insert(name.get_ref().to_string(), tables.collect());
    }
    lists
}

impl Table {
    pub fn new(origin: Origin) -> Table {
        Table { origin, entries: BTreeMap::new() }
    }
}

struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    /// All keys, to recognise misplaced ones.
    keys: &'a [&'static Key],
}

impl Source<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        Origin::line(self.file, 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn line_text(&self, at: usize) -> &str {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[start..].lines().next().unwrap_or_default().trim()
    }

    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        shown(self.text.get(value.span()).unwrap_or_default())
    }

    fn table(&self, origin: Origin, table: &DeTable<'_>) -> Table {
        let entries = table.iter().map(|(key, value)| {
            let entry = Entry {
                value: convert(value.get_ref()),
                shown: self.shown(value),
                origin: self.origin(value.span().start),
                key_origin: self.origin(key.span().start),
            };
            (key.get_ref().to_string(), entry)
        });
        Table { origin, entries: entries.collect() }
    }
}

fn convert(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other, Value::Integer)
        }
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Other, Value::Float),
        DeValue::Array(items) => Value::List(items.iter().map(|item| convert(item.get_ref())).collect()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Table(table) => {
            let texts = table.iter().map(|(name, value)| match value.get_ref() {
                DeValue::String(text) => Some((name.get_ref().to_string(), text.to_string())),
                _ => None,
            });
            let values = || table.iter().map(|(name, value)| (name.get_ref().to_string(), convert(value.get_ref())));
            texts.collect::<Option<_>>().map_or_else(|| Value::Tree(values().collect()), Value::Table)
        }
        DeValue::Datetime(_) => Value::Other,
    }
}

fn unknown_section(name: &str) -> String {
    let names = || key::SECTIONS.iter().map(|(name, _)| *name);
    match near_miss(name, names()) {
        Some(meant) => format!("unknown section `{}`; did you mean `{meant}`?", shown(name)),
        None => {
            let known: Vec<_> = names().collect();
            format!("unknown section `{}`; there are {}", shown(name), known.join(", "))
        }
    }
}

/// The message for a key above the first section header.
fn misplaced_key(keys: &[&'static Key], name: &str) -> String {
    match key::near_key(keys, name) {
        Some(key) => {
            let mut headers: Vec<_> =
                keys.iter().filter(|other| other.name == key.name).map(|other| other.group.header()).collect();
            headers.dedup();
            format!("stands in no section; did you mean `{}` in {}?", key.name, headers.join(" or "))
        }
        None => "a key that stands in no section, and no section has one like it".to_owned(),
    }
}

/// The most common syntax errors are texts and values with units without quotes; the parser's own messages do not help there.
fn syntax_message(line: &str, message: &str) -> String {
    let value = line.split_once('=').map(|(_, value)| value.split('#').next().unwrap_or_default().trim());
    match value {
        Some(value) if parse_size(value).is_some() || parse_duration(value).is_some() => {
            format!("a value with a unit stands in quotes; write \"{value}\"")
        }
        Some(value) if !value.is_empty() && !value.contains(['"', '\'', '[', ']', '{', '}']) => {
            format!("a text stands in quotes; write \"{}\"", shown(value))
        }
        _ => format!("not TOML: {}", shown(message)),
    }
}

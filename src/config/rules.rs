//! Reads `[rules]`, `[[table]]` and `[[rule]]`, and the files of the folder of rules, and compiles all of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reference;
use super::sections::Reader;
use crate::core::rulebook::{
    ActionDefinition, Definition, Example, ModelDetectors, RULES_MAX, Rule, RuleProblem, RuleTest, Rulebook,
    Surroundings,
};
use crate::core::rules::{TABLE_BYTES_MAX, Table as LookupTable, ZONES_BYTES_MAX, Zones};
use crate::ingest::Route;
use crate::keys::key::Group;
use crate::keys::problem::{Origin, Problem};
use crate::keys::raw::{Document, Table};
use crate::keys::section::Section;
use crate::keys::units::format_size;
use crate::sinks::http;
use crate::sinks::kind::SinkSettings;

/// A larger file is none of rules.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most files of the folder.
const FILES_MAX: usize = 256;

/// The rules, and the files that they come from.
#[derive(Clone, Debug, Default)]
pub struct RulesConfiguration {
    pub book: Arc<Rulebook>,
    /// The rules of those with a threshold are in the book, too.
    pub models: ModelDetectors,
    /// Files and folders which, when they change, may say something else.
    pub watched: Vec<PathBuf>,
    /// Each with the name of its rule.
    pub tests: Vec<(String, RuleTest)>,
    /// What is allowed and probably not meant: the rule, its key, and what is to be said.
    pub warnings: Vec<String>,
}

impl Reader<'_> {
    /// Reads and compiles all rules. `file` is that of the configuration: the folder of rules is beside it.
    pub(super) fn rules(
        &mut self,
        file: Option<&Path>,
        routes: &[Route],
        streams: Vec<String>,
        sinks: &[SinkSettings],
    ) -> RulesConfiguration {
        let beside = file.and_then(Path::parent).map(Path::to_owned);
        let mut section = self.single(Group::Rules);
        let folder = section.path("folder").zip(beside.clone()).map(|(folder, beside)| beside.join(folder));
        let beside = beside.unwrap_or_default();
        let mut watched: Vec<PathBuf> = file.map(Path::to_owned).into_iter().chain(folder.clone()).collect();
        let zones = zones(&mut section, &beside, &mut watched);
        section.finish();
        let tables = self.lookup_tables(&beside, &mut watched);
        let models = self.models(&beside, &mut watched);
        let surroundings = Surroundings { zones, tables, models: models.models.clone(), streams };
        let mut tables: Vec<(usize, Table)> = self.tables_of(Group::Rule);
        let files = match self.rules.clone() {
            Some(only) => {
                tables.clear();
                vec![only]
            }
            None => folder.map(|folder| self.files_of(&folder)).unwrap_or_default(),
        };
        for file in files {
            match text_of(&file, FILE_BYTES_MAX) {
                Ok(text) => tables.extend(self.tables_in(&file, &text)),
                Err(message) => self.problem(&file, message),
            }
            watched.push(file);
        }
        let (mut rules, mut tests, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        // A file of rules that takes the place of all others has no thresholds of models either.
        for detector in models.rules().filter(|_| self.rules.is_none()) {
            match Rule::compile(&detector, &surroundings) {
                Ok(rule) => rules.push(rule),
                // What is wrong with its section has been said there.
                Err(_) if !self.problems.is_empty() => {}
                Err(problems) => {
                    let message = format!("{}: {}", detector.name, problems.first().map_or("", |one| &one.message));
                    self.problems.add(&self.origin, "model", None, message);
                }
            }
        }
        for (index, table) in tables {
            let at = format!("rule[{index}]");
            let section = Section::new(table, at, Group::Rule, reference::all(), self.problems);
            if let Some((rule, tests_of_it)) = read(section, &surroundings, (routes, sinks), &rules) {
                tests.extend(tests_of_it.into_iter().map(|test| (rule.name.to_string(), test)));
                let warning = |one: &RuleProblem| format!("{}: {}: {}", rule.name, one.key, one.message);
                warnings.extend(rule.warnings.iter().map(warning));
                rules.push(rule);
            }
        }
        if rules.len() > RULES_MAX {
            let message = format!("there are {} rules; there may be {RULES_MAX}", rules.len());
            self.problems.add(&self.origin, "rule", None, message);
            rules.truncate(RULES_MAX);
        }
        RulesConfiguration { book: Arc::new(Rulebook::new(rules, surroundings)), models, watched, tests, warnings }
    }

    fn lookup_tables(&mut self, beside: &Path, watched: &mut Vec<PathBuf>) -> HashMap<String, LookupTable> {
        let mut tables = HashMap::new();
        self.each(Group::Table, |mut section| {
            let (name, file, key) = (section.text("name"), section.path("file"), section.text("key"));
            if let (Some(name), Some(file)) = (name, file) {
                let file = beside.join(file);
                match lookup_table(&file, key.as_deref()) {
                    Ok(_) if tables.contains_key(&name) => section.blame("name", "another [[table]] has this name"),
                    Ok(table) => _ = tables.insert(name, table),
                    Err((key, message)) => section.blame(key, format!("{}: {message}", file.display())),
                }
                watched.push(file);
            }
            section.finish();
        });
        tables
    }

    fn tables_of(&mut self, group: Group) -> Vec<(usize, Table)> {
        self.document.lists.remove(group.section()).unwrap_or_default().into_iter().enumerate().collect()
    }

    /// The `.toml` files of the folder, in the order of their names. There need not be such a folder.
    fn files_of(&mut self, folder: &Path) -> Vec<PathBuf> {
        let listed = match std::fs::read_dir(folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.problem(folder, format!("cannot be read: {error}"));
                return Vec::new();
            }
        };
        let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && !is_hidden(file));
        files.sort();
        if files.len() > FILES_MAX {
            self.problem(folder, format!("it holds {} files; there may be {FILES_MAX}", files.len()));
            files.truncate(FILES_MAX);
        }
        files
    }

    fn problem(&mut self, file: &Path, message: String) {
        let origin = Origin::File { file: file.to_owned() };
        self.problems.push(Problem { origin, key: String::new(), value: None, message });
    }

    /// The `[[rule]]` of a file, which holds nothing else.
    fn tables_in(&mut self, file: &Path, text: &str) -> Vec<(usize, Table)> {
        let mut document = Document::parse(file, text, reference::all(), self.problems);
        let rules = document.lists.remove(Group::Rule.section()).unwrap_or_default();
        let others = document.sections.iter().map(|(name, table)| (*name, table.origin.clone()));
        let lists = document.lists.iter().filter_map(|(name, tables)| Some((*name, tables.first()?.origin.clone())));
        for (name, origin) in others.chain(lists).collect::<Vec<_>>() {
            let message = "a file of rules holds [[rule]] only; this belongs into the file of the configuration";
            self.problems.add(&origin, name, None, message);
        }
        rules.into_iter().enumerate().collect()
    }
}

fn zones(section: &mut Section<'_>, beside: &Path, watched: &mut Vec<PathBuf>) -> Zones {
    let Some(file) = section.path("zones").map(|file| beside.join(file)) else { return Zones::default() };
    let zones = text_of(&file, ZONES_BYTES_MAX).and_then(|text| Zones::parse(&text).map_err(|error| error.to_string()));
    watched.push(file.clone());
    zones.unwrap_or_else(|message| {
        section.blame("zones", format!("{}: {message}", file.display()));
        Zones::default()
    })
}

/// A file of rows; or the key to be blamed, and what is wrong.
fn lookup_table(file: &Path, key: Option<&str>) -> Result<LookupTable, (&'static str, String)> {
    let text = text_of(file, TABLE_BYTES_MAX).map_err(|message| ("file", message))?;
    let table = match (file.extension().and_then(|extension| extension.to_str()), key) {
        (Some("csv"), Some(key)) => LookupTable::from_csv(&text, key),
        (Some("csv"), None) => return Err(("key", "a .csv file needs the column that rows are found by".to_owned())),
        (Some("json"), key) => LookupTable::from_json(&text, key),
        _ => return Err(("file", "a table is a .csv or a .json file".to_owned())),
    };
    table.map_err(|error| ("file", error.to_string()))
}

fn text_of(file: &Path, bytes_max: usize) -> Result<String, String> {
    String::from_utf8(bytes_of(file, bytes_max)?).map_err(|_| "not UTF-8".to_owned())
}

pub(super) fn bytes_of(file: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > bytes_max as u64 {
        return Err(format!("larger than {}", format_size(bytes_max as u64)));
    }
    std::fs::read(file).map_err(unreadable)
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

/// One rule, compiled, and its tests; `None` if it is switched off, or wrong, which is blamed.
fn read(
    mut section: Section<'_>,
    surroundings: &Surroundings,
    (routes, sinks): (&[Route], &[SinkSettings]),
    others: &[Rule],
) -> Option<(Rule, Vec<RuleTest>)> {
    let name = section.text("name");
    let is_enabled = section.boolean("enabled");
    let mut actions = Vec::new();
    for key in ["alert", "republish", "stream", "readings"] {
        actions.extend(section.actions(key));
    }
    let posted = section.actions("webhook");
    check_posted(&mut section, &posted, &surroundings.streams, sinks);
    actions.extend(posted);
    for (key, action) in [("count", ActionDefinition::Count), ("drop", ActionDefinition::Drop)] {
        if section.boolean(key) {
            actions.push(action);
        }
    }
    actions.extend(section.actions("downsample"));
    let definition = Definition {
        name: name.clone().unwrap_or_default(),
        sql: section.text("sql"),
        when: section.text("when"),
        from: section.text("from"),
        hold_ms: i64::try_from(section.milliseconds("for")).unwrap_or(i64::MAX),
        until: section.text("until"),
        repeats: section.boolean("repeat"),
        actions,
        on_error: section.actions("error"),
    };
    if others.iter().any(|other| *other.name == *definition.name) {
        section.blame("name", "another [[rule]], or a [[model]] with a threshold, has this name");
    }
    let tests = section.rule_tests("test");
    let compiled = match Rule::compile(&definition, surroundings) {
        Ok(rule) => {
            check_route(&mut section, &rule, routes);
            check_tests(&mut section, &rule, &tests);
            Some(rule)
        }
        Err(problems) => {
            for problem in problems {
                let (key, rest) = problem.key.split_once('.').unwrap_or((problem.key, ""));
                let place = if rest.is_empty() { String::new() } else { format!("{rest}: ") };
                section.blame(key, format!("{place}{}", problem.message));
            }
            None
        }
    };
    section.finish();
    compiled.filter(|_| name.is_some() && is_enabled).map(|rule| (rule, tests))
}

/// What is to be posted has to be in a stream that is posted. That a stream is not there at all is said elsewhere.
fn check_posted(section: &mut Section<'_>, actions: &[ActionDefinition], streams: &[String], sinks: &[SinkSettings]) {
    for action in actions {
        let ActionDefinition::Record { stream } = action else { continue };
        let is_posted = sinks.iter().any(|sink| sink.kind == http::sink::KIND.name && sink.takes(stream));
        if streams.contains(stream) && !is_posted {
            let message =
                format!("no [[sink]] of type \"http\" takes the stream {stream}; add streams = [\"{stream}\"] to one");
            section.blame("webhook", message);
        }
    }
}

/// A test shows a rule what it looks at.
fn check_tests(section: &mut Section<'_>, rule: &Rule, tests: &[RuleTest]) {
    let is_of_messages = |test: &RuleTest| matches!(test.example, Example::Message { .. });
    if tests.iter().any(|test| is_of_messages(test) != rule.sees_messages()) {
        let message = match rule.sees_messages() {
            true => "the rule sees messages, so a test has topic, payload and expect",
            false => "the rule sees readings, so a test has readings and expect",
        };
        section.blame("test", message);
    }
}

/// An alert is about a device: if no route can say which, the rule has to.
fn check_route(section: &mut Section<'_>, rule: &Rule, routes: &[Route]) {
    let Some(filter) = rule.filter().filter(|_| rule.needs_route()) else { return };
    if !routes.iter().any(|route| route.may_meet(filter)) {
        let message = format!(
            "no route takes topics of '{filter}', so nobody says which device the alert is about; name it, for example \
             alert = {{ severity = \"major\", device = \"${{topic(2)}}\" }}"
        );
        section.blame("alert", message);
    }
}

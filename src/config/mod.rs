//! The configuration: what the file, the environment variables and the arguments set, checked completely in one pass.
//!
//! ```text
//! file -> keys::raw (sections of values, each with its line) -> keys::section (each key by its kind) -> Configuration -> GatewaySettings
//! ```
//!
//! [`mod@reference`] is the only table of keys, kinds, ranges and defaults, together with those in each sink's folder; everything here uses
//! it. Nothing is read from the environment implicitly: the machine's names are passed in as a [`Host`], variables and arguments as
//! [`Sources`].

pub mod admin;
mod aws;
mod bridges;
pub mod effective;
mod exposure;
mod files;
pub mod host;
mod inputs;
mod links;
pub mod listeners;
mod models;
mod presets;
pub mod reference;
mod routes;
pub mod rules;
mod sections;
mod settings;
mod sinks;
mod streams;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bridge::BridgeSettings;
use crate::core::detection::alert::AlertTimes;
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::NamedStream;
use crate::files::FileSettings;
use crate::ingest::Route;
use crate::ingest::route_test::RouteTest;
use crate::keys::problem::{Origin, Problem, Problems};
pub use crate::keys::raw::Argument;
use crate::keys::raw::Document;
use crate::mqtt::EdgeSettings;
use crate::pipeline::CommitPacing;
use crate::sinks::archive::sink::ArchiveSink;
use crate::sinks::kind::SinkSettings;
use crate::sinks::links::LinkConfiguration;
use crate::store::retention::WhenFull;
use admin::AdminConfiguration;
use host::Host;
use listeners::ListenersConfiguration;
use rules::RulesConfiguration;

/// A longer file is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The sources of a configuration; later fields override earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file that the user names; otherwise the system's if it exists, otherwise built-in defaults.
    pub file: Option<PathBuf>,
    /// A file of rules that takes the place of all others: only its rules are read, with everything else of the configuration.
    pub rules: Option<PathBuf>,
    /// `OUTRIDER__SECTION__KEY` and its text.
    pub variables: Vec<(String, String)>,
    pub arguments: Vec<Argument>,
}

impl Sources {
    /// Those of this process: its environment variables, and its command line.
    pub fn of_process(file: Option<PathBuf>, arguments: Vec<Argument>) -> Sources {
        Sources { file, variables: host::environment(), arguments, rules: None }
    }
}

/// All settings, checked. [`Configuration::settings`] decides what depends on the disk.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `None` if there is no file, only built-in defaults.
    pub file: Option<PathBuf>,
    /// Names of the variables that had an effect.
    pub variables: Vec<String>,
    pub gateway_id: String,
    /// How long sinks may take to flush when the process ends.
    pub grace: Duration,
    pub store: StoreConfiguration,
    pub listeners: ListenersConfiguration,
    pub admin: AdminConfiguration,
    pub edge: EdgeSettings,
    /// Most bytes that may wait for their commit, over all connections.
    pub uncommitted_bytes_max: u32,
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
    pub routes: Vec<Route>,
    /// Each with the name of its section.
    pub route_tests: Vec<(String, RouteTest)>,
    /// Files that are read.
    pub inputs: Vec<FileSettings>,
    /// Besides the built-in ones.
    pub streams: Vec<NamedStream>,
    pub rules: RulesConfiguration,
    pub links: Vec<LinkConfiguration>,
    pub sinks: Vec<SinkSettings>,
    pub bridges: Vec<BridgeSettings>,
}

#[derive(Clone, Debug)]
pub struct StoreConfiguration {
    pub folder: PathBuf,
    /// If `None`, the size is derived from the disk.
    pub bytes_max: Option<u64>,
    pub free_bytes_min: Option<u64>,
    pub when_full: WhenFull,
    /// How long what every sink has stays readable.
    pub history: Duration,
    pub pacing: CommitPacing,
}

impl Configuration {
    /// Whether files are written on this machine.
    pub fn has_archive(&self) -> bool {
        self.sinks.iter().any(|sink| ArchiveSink::of(sink).is_some())
    }

    /// What another configuration says differently, apart from rules: it holds from the next start only.
    pub fn differences(&self, other: &Configuration) -> Vec<&'static str> {
        let is_other = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") != format!("{b:?}");
        let parts = [
            ("gateway", is_other(&(&self.gateway_id, self.grace), &(&other.gateway_id, other.grace))),
            ("store", is_other(&self.store, &other.store)),
            ("mqtt", is_other(&self.edge, &other.edge)),
            ("listener", is_other(&self.listeners.listeners, &other.listeners.listeners)),
            ("admin", is_other(&self.admin.fixed(), &other.admin.fixed())),
            ("detection, limit and profile", self.monitor != other.monitor),
            ("alert", self.alerts != other.alerts),
            ("route and ingest", is_other(&self.routes, &other.routes)),
            ("file", is_other(&self.inputs, &other.inputs)),
            ("link", is_other(&self.links, &other.links)),
            ("sink", is_other(&self.sinks, &other.sinks)),
            ("bridge", is_other(&self.bridges, &other.bridges)),
        ];
        parts.into_iter().filter(|(_, is_other)| *is_other).map(|(name, _)| name).collect()
    }

    pub fn load(sources: &Sources, host: &Host) -> Result<Configuration, Problems> {
        let file = Configuration::text(sources, host)?;
        Configuration::read(file.as_ref().map(|(file, text)| (file.as_path(), text.as_str())), sources, host)
    }

    /// The file that is to be read, with its text.
    fn text(sources: &Sources, host: &Host) -> Result<Option<(PathBuf, String)>, Problems> {
        let system_file = || Some(host.system_file.clone()).filter(|file| file.exists());
        let Some(file) = sources.file.clone().or_else(system_file) else { return Ok(None) };
        match read_file(&file) {
            Ok(text) => Ok(Some((file, text))),
            Err(problem) => {
                let mut problems = Problems::default();
                problems.push(problem);
                Err(problems)
            }
        }
    }

    /// What the file, the variables and the arguments set, in that order.
    fn merged(file: Option<(&Path, &str)>, sources: &Sources, problems: &mut Problems) -> Document {
        let mut document = match file {
            Some((file, text)) => Document::parse(file, text, reference::all(), problems),
            None => Document::default(),
        };
        document.apply_variables(&sources.variables, problems);
        sources.arguments.iter().for_each(|argument| document.apply_argument(argument));
        document
    }

    /// Parses the text of a file, overridden by the variables and arguments.
    pub fn parse(file: &Path, text: &str, sources: &Sources, host: &Host) -> Result<Configuration, Problems> {
        Configuration::read(Some((file, text)), sources, host)
    }

    fn read(file: Option<(&Path, &str)>, sources: &Sources, host: &Host) -> Result<Configuration, Problems> {
        let mut problems = Problems::default();
        let document = Configuration::merged(file, sources, &mut problems);
        let origin = file.map_or(Origin::BuiltIn, |(file, _)| Origin::File { file: file.to_owned() });
        let rules = sources.rules.clone();
        let mut reader = sections::Reader { document, host, origin, rules, problems: &mut problems };
        let variables = sources.variables.iter().map(|(name, _)| name.clone()).collect();
        let configuration = reader.configuration(file.map(|(file, _)| file.to_owned()), variables);
        match configuration {
            Some(configuration) if problems.is_empty() => Ok(configuration),
            _ => {
                assert!(!problems.is_empty(), "a configuration that is not complete says why");
                problems.sort();
                Err(problems)
            }
        }
    }
}

fn read_file(file: &Path) -> Result<String, Problem> {
    let problem =
        |message| Problem { origin: Origin::File { file: file.to_owned() }, key: String::new(), value: None, message };
    let mut bytes = Vec::new();
    // Any kind of file is accepted, /dev/null and a shell's <(...) too, but reading stops at a limit.
    File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(problem(format!(
            "larger than {}, so it is not a configuration",
            crate::keys::units::format_size(FILE_BYTES_MAX)
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Problem { origin: Origin::line(file, line), ..problem("not UTF-8".to_owned()) }
    })
}

#[cfg(test)]
mod book;
#[cfg(test)]
mod file;
#[cfg(test)]
mod tests;

//! `outrider check`: prints every problem of a configuration, or a summary of what would run.

mod notes;

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::configuration::{ConfigArguments, absolute, no_file};
use super::{bridge, rules, run};
use crate::admin::ledger::{self, StoreView};
use crate::config::Configuration;
use crate::core::detection::detectors::limit::Bounds;
use crate::core::detection::detectors::profile::Rule;
use crate::core::identity::NamedStream;
use crate::core::link::{Class, Classes, LinkSettings};
use crate::core::rulebook::{NamedModel, Threshold};
use crate::counter::many;
use crate::errors::with_causes;
use crate::ingest::Ingest;
use crate::ingest::explain::{self, Explained};
use crate::keys::units::{approximate_size, format_duration, format_size};
use crate::mqtt::Unrouted;
use crate::sinks::links::LinkConfiguration;
use crate::sinks::links::metering::MeteredBy;
use crate::store::retention::{Capacity, WhenFull};
use crate::store::schema::{self, FileState, OpenError, store_path};

/// More is no payload of MQTT.
const PAYLOAD_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Show what a publish to this topic would become, instead of the configuration
    #[arg(long, requires = "payload")]
    topic: Option<String>,
    /// The payload of that publish; - reads standard input
    #[arg(long, value_name = "FILE", requires = "topic")]
    payload: Option<PathBuf>,
}

const HELP: &str = "\
Takes the same file, variables and arguments as `outrider run`, but starts
nothing; a gateway may be running meanwhile. Each problem is a line on
standard error:
  FILE:LINE: KEY = VALUE: what is wrong; what is allowed

With --topic and --payload it prints a line of JSON for each reading that would
come of the publish, or one that says why it is refused and what would help:
  printf '{\"temperature\":\"22.5\"}' | outrider check --topic devices/a --payload -

Exit codes:
   0  all is well; what would run is on standard output
   1  the disk or the store cannot be read, or the publish is refused
   2  usage
  78  the configuration is wrong, or the store is of a newer version or of another program";

pub fn command(arguments: &CheckArguments) -> ExitCode {
    let configuration = match arguments.config.load() {
        Ok(configuration) => configuration,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Configuration.into();
        }
    };
    if let (Some(topic), Some(payload)) = (&arguments.topic, &arguments.payload) {
        return explain(&configuration, topic, payload);
    }
    let failed = failed_tests(&configuration);
    if !failed.is_empty() {
        eprint!("{failed}");
        return Exit::Configuration.into();
    }
    match summary(&configuration) {
        Ok(summary) => {
            // The reader may have closed the pipe early.
            let _ = io::stdout().write_all(summary.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("outrider: {}", with_causes(&error));
            match error {
                CheckError::Store(OpenError::Newer { .. } | OpenError::NotAStore { .. }) => Exit::Configuration.into(),
                _ => Exit::RunTime.into(),
            }
        }
    }
}

/// Shows what becomes of one publish.
fn explain(configuration: &Configuration, topic: &str, file: &Path) -> ExitCode {
    let payload = match file == Path::new("-") {
        true => {
            let mut payload = Vec::new();
            io::stdin().lock().take(PAYLOAD_BYTES_MAX).read_to_end(&mut payload).map(|_| payload)
        }
        false => std::fs::read(file),
    };
    let payload = match payload {
        Ok(payload) => payload,
        Err(error) => {
            eprintln!("outrider: cannot read {}: {error}", file.display());
            return Exit::RunTime.into();
        }
    };
    let explained = explain::explain(&configuration.routes, topic, &payload, crate::gateway::now_ms());
    let _ = io::stdout().write_all(&explained.lines(&configuration.monitor.profiles));
    match explained {
        Explained::Readings(_) => ExitCode::SUCCESS,
        Explained::Refused { .. } => Exit::RunTime.into(),
    }
}

/// A paragraph for each test of a route, and a line for each of a rule, from which something else comes than is expected.
pub(super) fn failed_tests(configuration: &Configuration) -> String {
    let now_ms = crate::gateway::now_ms();
    let failed = configuration.route_tests.iter().filter_map(|(name, test)| {
        let found = test.run(&configuration.routes, now_ms).err()?;
        Some(format!("{name}: from the publish to {} comes not what is expected, but\n{found}\n", test.topic))
    });
    let of_rules = rules::test::run(configuration).into_iter().filter_map(|outcome| {
        let failure = outcome.failure?;
        Some(format!("rule {}: {failure}\n", outcome.name))
    });
    failed.chain(of_rules).collect()
}

/// Problems that the configuration did not cause but that would keep the gateway from starting.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("cannot look at the state folder {}", folder.display())]
    Disk { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(OpenError),
    #[error("cannot read the store")]
    Sqlite(#[source] rusqlite::Error),
}

fn summary(configuration: &Configuration) -> Result<String, CheckError> {
    let unseen = |source| CheckError::Disk { folder: configuration.store.folder.clone(), source };
    let capacity = configuration.capacity().map_err(unseen)?;
    let file_bytes = configuration.store_file_bytes().map_err(unseen)?;
    let held = if file_bytes > 0 { look(configuration)? } else { Held::Nothing };
    let mut text = String::new();
    let mut last = "";
    let mut row = |label: &'static str, value: String| {
        let shown = if label == last { "" } else { label };
        last = label;
        writeln!(text, "{shown:<16}{value}").expect("a text takes everything");
    };
    let file = configuration.file.as_ref().map(|file| file.display().to_string());
    row("configuration", file.unwrap_or_else(no_file));
    for variable in &configuration.variables {
        row("variables", variable.clone());
    }
    row("gateway", configuration.gateway_id.clone());
    let listeners = &configuration.listeners;
    for (listener, policy) in listeners.listeners.iter().zip(&listeners.policies) {
        row("listeners", format!("{}: {}", listener.name, run::describe(listener.listen, listener, policy)));
    }
    row("status page", status_page(configuration));
    row("state folder", absolute(&configuration.store.folder).display().to_string());
    row("store", store(&capacity, &held));
    let builtin = Ingest::default_routes();
    for route in &configuration.routes {
        row(if builtin.contains(route) { "built-in routes" } else { "routes" }, route.to_string());
    }
    for file in &configuration.inputs {
        row("files", format!("{}, as if published to {}", file.path, file.topic.0));
    }
    for bridge in &configuration.bridges {
        bridge::described(bridge).into_iter().for_each(|line| row("bridges", line));
    }
    let other_topics = match configuration.edge.unrouted {
        Unrouted::Pass => "passed on to subscribers, acknowledged, not stored",
        Unrouted::Reject => "acknowledged, dropped",
    };
    if !configuration.route_tests.is_empty() {
        row("tests", format!("{} of routes, all as expected", configuration.route_tests.len()));
    }
    if !configuration.rules.tests.is_empty() {
        row("tests", format!("{} of rules, all as expected", configuration.rules.tests.len()));
    }
    row("other topics", other_topics.to_owned());
    for (metric, bounds) in configuration.monitor.limits.iter() {
        let device = bounds.device.as_ref().map_or(String::new(), |device| format!(" of {device}"));
        row("limits", format!("{metric}{device} {}", limit(bounds)));
    }
    for rule in configuration.monitor.profiles.own() {
        row("profiles", profile(rule));
    }
    for NamedStream { name, keep } in &configuration.streams {
        row("streams", format!("{name}, kept in {}", keep.name()));
    }
    let mut models: Vec<_> = configuration.rules.models.models.iter().collect();
    models.sort_unstable_by_key(|(name, _)| *name);
    for (name, model) in models {
        let thresholds = &configuration.rules.models.thresholds;
        let threshold = thresholds.iter().find(|(of, _)| of == name).map(|(_, threshold)| threshold);
        row("models", format!("{name}: {}", model_line(model, threshold)));
    }
    for rule in configuration.rules.book.rules() {
        row("rules", rule_line(rule));
    }
    for one in &configuration.sinks {
        row("sinks", format!("{}: {}", one.name, one.sink.describe()));
    }
    for link in &configuration.links {
        row("links", link_line(link));
    }
    for note in notes::all(configuration, &capacity, &held) {
        row("notes", note);
    }
    Ok(text)
}

/// What the store holds.
enum Held {
    /// It does not exist yet.
    Nothing,
    /// An earlier version created it.
    Earlier,
    View(Box<StoreView>),
}

fn look(configuration: &Configuration) -> Result<Held, CheckError> {
    let path = store_path(&configuration.store.folder);
    let db = schema::open_reader(&path, None).map_err(CheckError::Store)?;
    match schema::examine(&db, &path).map_err(CheckError::Store)? {
        FileState::New => Ok(Held::Nothing),
        FileState::Earlier => Ok(Held::Earlier),
        FileState::Present => ledger::look(&db).map(|view| Held::View(Box::new(view))).map_err(CheckError::Sqlite),
    }
}

fn status_page(configuration: &Configuration) -> String {
    match configuration.admin.listen {
        Some(listen) => run::describe_page(listen, &configuration.admin.access),
        None => "off".to_owned(),
    }
}

fn store(capacity: &Capacity, held: &Held) -> String {
    let held = match held {
        Held::View(view) => format!("holds {} now", approximate_size(view.used_bytes)),
        Held::Earlier => "made by an earlier version, and migrated at the next start".to_owned(),
        Held::Nothing => "to be created".to_owned(),
    };
    let when_full = match capacity.when_full {
        WhenFull::DropOldest => "when full, the oldest readings are dropped",
        WhenFull::Refuse => "when full, nothing more is acknowledged",
    };
    let (size, free) = (approximate_size(capacity.bytes_max), approximate_size(capacity.free_bytes_min));
    format!("{held}, at most {size}; {when_full}; leaves {free} of the disk free")
}

/// How a model computes, how large it is, what it is given, and when it raises an alert.
fn model_line(model: &NamedModel, threshold: Option<&Threshold>) -> String {
    let of = model.model();
    let size = match of.size() {
        (0, weights) => many(weights as u64, "weight"),
        (trees, nodes) => format!("{} with {}", many(trees as u64, "tree"), many(nodes as u64, "node")),
    };
    let window = format_duration(Duration::from_millis(model.window_ms().unsigned_abs()));
    let inputs = many(model.inputs().len() as u64, "input");
    let mut line = format!("{}, {size}, {inputs} over {window}", of.algorithm());
    match threshold {
        None => line.push_str("; asked by rules only"),
        Some(Threshold { above, label, from, .. }) => {
            let label = label.as_ref().map_or(String::new(), |label| format!(" for {label}"));
            let from = from.as_ref().map_or(String::new(), |device| format!(" of {device}"));
            write!(line, "; an alert above {above}{label}{from}").expect("a text takes everything");
        }
    }
    line
}

/// What a link allows while it is metered.
fn link_line(link: &LinkConfiguration) -> String {
    let LinkSettings { bytes_per_day, bytes_per_month, reset_day, rate, alert_reserve_percent, carries } =
        &link.settings;
    let mut parts = Vec::new();
    parts.extend(bytes_per_day.map(|bytes| format!("{} a day", format_size(bytes))));
    parts.extend(bytes_per_month.map(|bytes| format!("{} a month from day {reset_day}", format_size(bytes))));
    if link.settings.has_budget() {
        parts.push(format!("{alert_reserve_percent}% of it for alerts alone"));
    }
    parts.extend(rate.map(|bytes| format!("{} a second", format_size(bytes))));
    if *carries != Classes::ALL {
        let carried: Vec<&str> = Class::ALL.into_iter().filter(|class| carries.has(*class)).map(Class::name).collect();
        parts.push(format!("carries {}", carried.join(", ")));
    }
    if parts.is_empty() {
        parts.push("counted, and not limited".to_owned());
    }
    let metered = match &link.metered {
        MeteredBy::Yes => "always metered".to_owned(),
        MeteredBy::No => "never metered".to_owned(),
        MeteredBy::Auto { file, interface } => {
            let file = file.as_ref().map(|file| file.display().to_string());
            let asked: Vec<String> = file.into_iter().chain(interface.clone()).collect();
            if asked.is_empty() {
                "nothing says whether it is metered".to_owned()
            } else {
                format!("metered as {} says", asked.join(" or "))
            }
        }
    };
    format!("{}: {}; {metered}", link.name, parts.join(", "))
}

fn rule_line(rule: &crate::core::rulebook::Rule) -> String {
    let sees = match (rule.sees_messages(), rule.filter()) {
        (true, Some(filter)) => format!("messages of {filter}"),
        (true, None) => format!("messages of $aws/rules/{}/...", rule.name),
        (false, _) => "readings".to_owned(),
    };
    format!("{}: sees {sees}; {}", rule.name, rule.does().join(", "))
}

fn limit(bounds: &Bounds) -> String {
    let mut parts = Vec::new();
    match (bounds.low, bounds.high) {
        (Some(low), Some(high)) => parts.push(format!("{low} to {high}")),
        (Some(low), None) => parts.push(format!("from {low}")),
        (None, Some(high)) => parts.push(format!("up to {high}")),
        (None, None) => {}
    }
    if let Some(sentinels) = &bounds.sentinels {
        let sentinels: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
        parts.push(format!("never {}", sentinels.join(", ")));
    }
    if bounds.hold_ms > 0 {
        parts.push(format!("when exceeded for {}", format_duration(Duration::from_millis(bounds.hold_ms))));
    }
    match (bounds.clear_low, bounds.clear_high) {
        (Some(low), Some(high)) => parts.push(format!("clears at {low} to {high}")),
        (Some(low), None) => parts.push(format!("clears from {low}")),
        (None, Some(high)) => parts.push(format!("clears at up to {high}")),
        (None, None) => {}
    }
    parts.push(bounds.severity.name().to_owned());
    parts.join(", ")
}

fn profile(rule: &Rule) -> String {
    let Rule { words, profile } = rule;
    let on = |is_on: bool| if is_on { "on" } else { "off" };
    format!("{}: like {}, gap {}, stuck {}", words.join(" "), profile.name, on(profile.gap), on(profile.stuck))
}

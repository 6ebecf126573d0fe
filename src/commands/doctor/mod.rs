//! `outrider doctor`: looks at everything that has to be right around a gateway, and says in a line each how it is and what to do about it.
//!
//! It only looks: it never writes to the store, and takes no lock of it. What needs the network or may hang is on a thread of its own, and has a
//! time limit. The checks are listed in [`CHECKS`]; what a sink needs is known to the sink (`ConfiguredSink::probe`).

mod bridges;
mod broker;
mod certificates;
mod echo;
mod flash;
mod folder;
mod gateway;
mod listeners;
mod sinks;
mod store;
mod system;
mod user;

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::configuration::{ConfigArguments, no_file};
use super::{Exit, check};
use crate::config::Configuration;
use crate::counter::many;
use crate::finding::{Finding, Verdict};
use crate::keys::problem::Problems;
use gateway::Running;

/// The longest that a check may take; one that takes longer says so, and the others are not held up.
const CHECK_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DoctorArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// With what the broker is tried, where it does not let in everybody.
#[derive(Clone, Debug, Default, Args)]
pub struct Login {
    /// Log in as this user where a listener asks for a login
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// The password of that user: the first line of this file
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// Show this certificate where a listener asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Also check that devices which trust these CAs would trust the certificates of listeners
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

const HELP: &str = "\
Takes the same file, variables and arguments as `outrider run`, and looks at what
a gateway needs with them, and at the running gateway that has the state folder:
  outrider doctor --config /etc/outrider/outrider.toml
Run it as the user of the gateway, or as root: it takes the rights of the user who
owns the state folder then. It sends the sinks nothing that they keep, and publishes
to the broker below outrider-doctor/, which is not stored.

Exit codes:
   0  nothing is bad; there may be warnings
   1  something is bad
   2  usage
  78  the configuration is wrong";

/// What the checks look at.
struct Case {
    configuration: Configuration,
    running: Running,
    login: Login,
}

/// A part of a check that may run beside all others.
struct Task {
    /// What the line begins with.
    name: String,
    look: Box<dyn FnOnce() -> Vec<Finding> + Send>,
}

impl Task {
    fn new(name: impl Into<String>, look: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Task {
        Task { name: name.into(), look: Box::new(look) }
    }
}

/// How a check is made.
enum Look {
    /// It needs no configuration.
    AtSystem(fn() -> Vec<Finding>),
    At(fn(&Case) -> Vec<Finding>),
    /// It has several parts, or may have to wait for others.
    InParts(fn(&Arc<Case>) -> Vec<Task>),
}

/// All checks, in the order in which they are told.
const CHECKS: &[(&str, Look)] = &[
    ("gateway", Look::At(gateway::look)),
    ("alerts", Look::At(gateway::alerts)),
    ("clock", Look::At(system::clock)),
    ("state folder", Look::At(folder::look)),
    ("disk space", Look::At(folder::space)),
    ("file system", Look::At(folder::file_system)),
    ("flash wear", Look::At(flash::look)),
    ("store", Look::InParts(store::tasks)),
    ("listener", Look::InParts(listeners::tasks)),
    ("rights", Look::At(listeners::rights)),
    ("broker", Look::InParts(broker::tasks)),
    ("certificates", Look::At(certificates::look)),
    ("CAs of the system", Look::AtSystem(certificates::of_system)),
    ("sink", Look::InParts(sinks::tasks)),
    ("bridge", Look::InParts(bridges::tasks)),
    ("open files", Look::At(system::open_files)),
    ("service", Look::At(system::service)),
];

/// What is printed of one finding.
#[derive(Debug, Serialize)]
struct Line {
    check: String,
    #[serde(flatten)]
    finding: Finding,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst of all.
    verdict: Verdict,
    findings: Vec<Line>,
    #[serde(skip)]
    is_configuration_wrong: bool,
}

pub fn command(arguments: &DoctorArguments) -> ExitCode {
    let user = user::become_gateways(&arguments.config);
    let mut report = Report::new();
    report.add("user", user.into_iter().collect());
    report.examine(&arguments.config, &arguments.login);
    let text = match arguments.json {
        true => report.json(),
        false => report.text(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()),
    };
    // The reader may have closed the pipe early.
    let _ = io::stdout().write_all(text.as_bytes());
    match (report.is_configuration_wrong, report.verdict) {
        (true, _) => Exit::Configuration.into(),
        (false, Verdict::Bad) => Exit::RunTime.into(),
        (false, _) => ExitCode::SUCCESS,
    }
}

/// Makes all checks, with the rights that this process has.
pub(super) fn examine(config: &ConfigArguments, login: &Login) -> Report {
    let mut report = Report::new();
    report.examine(config, login);
    report
}

/// A task under way.
struct Begun {
    name: String,
    found: Receiver<Vec<Finding>>,
}

fn begin(name: &str, look: &Look, case: &Arc<Case>) -> Vec<Begun> {
    let shared = Arc::clone(case);
    let tasks = match look {
        Look::AtSystem(look) => vec![Task::new(name, *look)],
        Look::At(look) => {
            let look = *look;
            vec![Task::new(name, move || look(&shared))]
        }
        Look::InParts(tasks) => tasks(case),
    };
    tasks.into_iter().map(Task::begin).collect()
}

impl Task {
    fn begin(self) -> Begun {
        let (sender, found) = channel();
        let Task { name, look } = self;
        let thread = std::thread::Builder::new().name(name.clone());
        // If it cannot be started, its channel is closed, which is told.
        let _ = thread.spawn(move || {
            let _ = sender.send(look());
        });
        Begun { name, found }
    }
}

fn wait(found: &Receiver<Vec<Finding>>, until: Instant) -> Vec<Finding> {
    match found.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(findings) => findings,
        Err(RecvTimeoutError::Timeout) => {
            let found = format!("it does not come to an end within {} s", CHECK_WITHIN.as_secs());
            vec![Finding::bad(found, "look at what it waits for: a disk that hangs, a network that swallows packets")]
        }
        Err(RecvTimeoutError::Disconnected) => {
            vec![Finding::bad("it could not be made", "try again; the system may be out of memory or threads")]
        }
    }
}

fn of_configuration(configuration: &Configuration) -> Vec<Finding> {
    let failed = check::failed_tests(configuration);
    let mut findings = Vec::new();
    if !failed.is_empty() {
        let found = failed.trim_end().lines().collect::<Vec<_>>().join("; ");
        findings.push(Finding::bad(found, "correct the route, the rule or its test; `outrider check` says the same"));
    }
    let file = configuration.file.as_ref().map(|file| file.display().to_string());
    let mut found = file.unwrap_or_else(no_file);
    if !configuration.variables.is_empty() {
        found += &format!(", and {}", configuration.variables.join(", "));
    }
    if findings.is_empty() {
        findings.push(Finding::well(found));
    }
    let warnings = configuration.rules.warnings.iter().map(|warning| format!("rule {warning}"));
    findings.extend(warnings.map(|warning| Finding::warning(warning, "look whether this is meant")));
    findings
}

impl Report {
    fn new() -> Report {
        Report { verdict: Verdict::Well, findings: Vec::new(), is_configuration_wrong: false }
    }

    fn examine(&mut self, config: &ConfigArguments, login: &Login) {
        let configuration = match config.load() {
            Ok(configuration) => configuration,
            Err(problems) => return self.add_without_configuration(&problems),
        };
        self.add("configuration", of_configuration(&configuration));
        let running = gateway::ask(&configuration.store.folder);
        let case = Arc::new(Case { configuration, running, login: login.clone() });
        let begun: Vec<Vec<Begun>> = CHECKS.iter().map(|(name, look)| begin(name, look, &case)).collect();
        let until = Instant::now() + CHECK_WITHIN;
        for Begun { name, found } in begun.into_iter().flatten() {
            self.add(&name, wait(&found, until));
        }
    }

    fn add(&mut self, check: &str, findings: Vec<Finding>) {
        for finding in findings {
            self.verdict = self.verdict.max(finding.verdict);
            self.findings.push(Line { check: check.to_owned(), finding });
        }
    }

    fn add_without_configuration(&mut self, problems: &Problems) {
        self.is_configuration_wrong = true;
        let text = problems.to_string();
        // The last line counts them.
        let lines: Vec<&str> = text.lines().collect();
        let remedy = "correct it; `outrider check` says the same, config/outrider.toml has every key";
        let findings = lines[..lines.len() - 1].iter().map(|line| Finding::bad(*line, remedy)).collect();
        self.add("configuration", findings);
        for (name, look) in CHECKS {
            let findings = match look {
                Look::AtSystem(look) => look(),
                Look::At(_) | Look::InParts(_) => vec![Finding::skipped("the configuration comes first")],
            };
            self.add(name, findings);
        }
    }

    /// Without what is wrong with the configuration, which quotes its values.
    pub(super) fn without_configuration(mut self) -> Report {
        for Line { check, finding } in &mut self.findings {
            if check == "configuration" {
                *finding = Finding::bad("something is wrong with it", "outrider check says what");
            }
        }
        self
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    pub(super) fn text(&self, is_coloured: bool) -> String {
        let mut text = String::new();
        let mut counts = [0_usize; 4];
        for Line { check, finding: Finding { verdict, found, remedy } } in &self.findings {
            let (word, colour) = word(*verdict);
            counts[*verdict as usize] += 1;
            let word = match is_coloured {
                true => format!("\x1b[{colour}m{word:7}\x1b[0m"),
                false => format!("{word:7}"),
            };
            text += &format!("{word}  {check}: {}\n", one_line(found));
            if let Some(remedy) = remedy {
                text += &format!("         -> {}\n", one_line(remedy));
            }
        }
        let [well, skipped, warnings, bad] = counts;
        let warnings = many(warnings as u64, "warning");
        text += &format!("{bad} bad, {warnings}, {well} well, {skipped} skipped\n");
        text
    }
}

fn word(verdict: Verdict) -> (&'static str, u8) {
    match verdict {
        Verdict::Well => ("well", 32),
        Verdict::Skipped => ("skipped", 36),
        Verdict::Warning => ("warning", 33),
        Verdict::Bad => ("BAD", 31),
    }
}

/// Names come from devices and services: whatever they hold, they are one line, and do not control a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_debug()),
            letter => line.push(letter),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_hangs_says_so_and_one_that_dies_as_well() {
        let (sender, found) = channel();
        let hung = &wait(&found, Instant::now() + Duration::from_millis(10))[0];
        assert!(hung.verdict == Verdict::Bad && hung.found.contains("does not come to an end"), "{hung:?}");
        drop(sender);
        let dead = &wait(&found, Instant::now() + Duration::from_secs(60))[0];
        assert!(dead.verdict == Verdict::Bad && dead.found.contains("could not be made"), "{dead:?}");
    }

    #[test]
    fn the_worst_finding_decides_and_each_is_one_line_with_what_to_do_below() {
        let mut report = Report::new();
        report.add("clock", vec![Finding::well("it is set")]);
        report.add("sink a", vec![Finding::warning("slow\nand\x1b[2J", "wait"), Finding::skipped("no")]);
        assert_eq!(report.verdict, Verdict::Warning);
        assert_eq!(
            report.text(false),
            "well     clock: it is set\nwarning  sink a: slow and\\u{1b}[2J\n         -> wait\nskipped  sink a: no\n\
             0 bad, 1 warning, 1 well, 1 skipped\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!((&json["verdict"], &json["findings"][1]["remedy"]), (&"warning".into(), &"wait".into()));
        assert_eq!(json["findings"][0]["check"], "clock");
    }
}

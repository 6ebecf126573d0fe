//! `outrider detect`: runs the gateway's own detectors over recorded data.
//!
//! Either over the lines of a file, with a row for each flagged reading; or over the readings in the local store, once as they are watched
//! now and once as a changed configuration would watch them, to compare the alerts.

pub(super) mod clock;
mod comparison;
mod explain;
pub(super) mod from_store;
pub(super) mod input;
pub(super) mod lines;
#[cfg(test)]
mod live;
mod models;
pub(super) mod progress;
mod replay;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::Exit;
use super::configuration;
use crate::core::detection::detectors::profile::{Profile, Profiles};
use crate::core::detection::severity::Severity;
pub use lines::{Format, Options, Unit, Watching, run};

const HELP: &str = "\
Reads lines of series,timestamp_ms,value, and the records that the gateway itself writes: files of its archive, also compressed, or the \
archive's folder. A series is DEVICE/METRIC; the metric's name decides how it is watched. Prints one row for each flagged reading and \
detector, in the order of the input: series,timestamp_ms,value,detector,score,expected. A score of 1 is the detector's threshold. \
Models of the configuration that have a threshold are detectors, too, under their names; their scores are their own. \
Malformed lines are skipped and counted on standard error.

With --from-store: which alerts would a changed configuration raise, and which no longer? The readings that the local store \
holds are replayed twice, as the present configuration watches them and as the changed one would, models with a threshold included. The store is that of the \
changed configuration; it is only read, and a gateway may be running on it. It holds what some sink has not taken yet, \
which may be minutes or days; the output says how much. Clean disconnects are not stored, so devices that disconnected count as \
silent, on both sides.

Examples:
  outrider detect readings.csv
  outrider detect ~/.local/state/outrider/archive
  outrider detect --severity-min major readings.csv
  outrider detect --explain truck-7/engine_temp readings.csv
  outrider detect --from-store --config changed.toml
  outrider detect --from-store --config changed.toml --against /etc/outrider/outrider.toml --json

Exit codes:
   0  all is well
   1  the input or the store cannot be read, no line could be, the store holds no readings, or there is no such series to explain
   2  usage
  78  a configuration is wrong";

/// If generated from the arguments, the usage would offer files together with --from-store.
const USAGE: &str = "\
outrider detect [OPTIONS] [FILES]...
       outrider detect --from-store <--config FILE|--profile NAME> [--against FILE] [--state FOLDER] [--json]";

#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = USAGE, group(ArgGroup::new("change").args(["config", "profile"]).multiple(true)))]
pub struct DetectArguments {
    /// Files of lines `series,timestamp_ms,value`, files of the gateway's archive, or its folder [default: standard input]
    files: Vec<PathBuf>,
    /// Unit of the timestamps of series,timestamp,value lines [default: ms]
    #[arg(long, value_name = "UNIT", value_enum, conflicts_with = "from_store")]
    unit: Option<Unit>,
    /// Print the ten-second window of every reading instead: series,timestamp_ms,n,mean,std
    #[arg(long, conflicts_with_all = ["profile", "json"])]
    stats: bool,
    /// Monitor every series with this profile, whatever its name: off, temperature, slow, driven, generic, plant
    #[arg(long, value_name = "NAME", value_parser = profile_of)]
    profile: Option<Profile>,
    /// Print one JSON object per line, with the spread, the reason, the severity, and how well the series is known
    #[arg(long)]
    json: bool,
    /// Print only what the gateway would raise an alert for that is at least so severe: warning, minor, major, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity_of, conflicts_with_all = ["stats", "from_store"])]
    severity_min: Option<Severity>,
    /// Print what has been learned of one series, DEVICE/METRIC, at the end of the input, what would be told of it, and what models say
    #[arg(long, value_name = "SERIES", conflicts_with_all = ["stats", "severity_min", "from_store"])]
    explain: Option<String>,
    /// Monitor with the profiles, limits and models of this configuration [default: built-in ones]. With --from-store: the changed configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replay what the local store holds, and show how the alerts would differ
    #[arg(long, conflicts_with_all = ["files", "stats"], requires = "change")]
    from_store: bool,
    /// The present configuration [default: /etc/outrider/outrider.toml if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE", requires = "from_store")]
    against: Option<PathBuf>,
    /// The state folder whose store is replayed, instead of store.path
    #[arg(long, value_name = "FOLDER", requires = "from_store")]
    state: Option<String>,
}

fn profile_of(name: &str) -> Result<Profile, String> {
    Profile::by_name(name).ok_or_else(|| {
        let names = Profile::ALL.map(|profile| profile.name).join(", ");
        format!("there are {names}")
    })
}

fn severity_of(name: &str) -> Result<Severity, String> {
    Severity::ALL.into_iter().find(|severity| severity.name() == name).ok_or_else(|| {
        let names = Severity::ALL.map(Severity::name).join(", ");
        format!("there are {names}")
    })
}

pub fn command(arguments: &DetectArguments) -> ExitCode {
    if arguments.from_store { compare(arguments) } else { detect(arguments) }
}

fn detect(arguments: &DetectArguments) -> ExitCode {
    let configuration = arguments.config.as_deref().map(configuration::load_file).transpose();
    let (mut settings, models) = match configuration {
        Ok(Some(configuration)) => (configuration.monitor, configuration.rules.models),
        Ok(None) => Default::default(),
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Configuration.into();
        }
    };
    settings.series_max = lines::SERIES_MAX;
    if let Some(profile) = arguments.profile {
        let false_alarms = settings.profiles.false_alarms_per_week();
        settings.profiles = Profiles::always(profile).with_false_alarms_per_week(false_alarms);
    }
    let watching = Watching { monitor: settings, models };
    if let Some(series) = &arguments.explain {
        return ended(explain::run_files(series, &arguments.files, watching, (arguments.json, arguments.unit)));
    }
    let format = match (arguments.stats, arguments.json) {
        (true, _) => Format::Statistics,
        (false, true) => Format::Json,
        (false, false) => Format::Rows,
    };
    let options = Options { format, severity_min: arguments.severity_min, unit: arguments.unit };
    ended(lines::run_files(&arguments.files, watching, options))
}

fn compare(arguments: &DetectArguments) -> ExitCode {
    let question = from_store::Question {
        changed: arguments.config.clone(),
        profile: arguments.profile,
        present: arguments.against.clone(),
        state: arguments.state.clone(),
    };
    match question.load() {
        Ok(plan) => ended(report::run(&plan, arguments.json).map_err(|error| error.explained())),
        Err(problems) => {
            eprintln!("{problems}");
            Exit::Configuration.into()
        }
    }
}

fn ended(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrider: {error}");
            Exit::RunTime.into()
        }
    }
}

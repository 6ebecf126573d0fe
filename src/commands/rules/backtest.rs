//! `outrider rules backtest`: replays recorded readings through the `when` rules of a file.
//!
//! `sql` rules look at messages, which are not recorded; they are named and left out.

mod report;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::recorded::{self, Recorded};
use super::replay::{Event, Replay, What};
use crate::commands::Exit;
use crate::commands::configuration::load_rules;
use crate::config::Configuration;
use crate::core::identity::RunId;
use crate::core::reading::Reading;
use crate::store::schema::store_path;

const HELP: &str = "\
Replays recorded readings through the rules that have `when`, and says of each how many readings it looked at, how often it began to \
hold, how many alerts it would have raised, and when it began at first. Rules that have `sql` look at messages, which are not recorded: \
they are left out. Nothing is published or stored, and no gateway need be running.

--csv reads lines of series,timestamp_ms,value in the order of their times, and the files and folders of the gateway's archive. A series \
is DEVICE/METRIC; one without a slash is a metric of the device \"device\". --from-store reads what the local store holds, which a \
gateway may be using: what some sink has not taken yet.

Examples:
  outrider rules backtest --rule hot.toml --csv readings.csv
  outrider rules backtest --rule rules.d/hot.toml --config /etc/outrider/outrider.toml --from-store

Exit codes:
   0  all is well
   1  the readings cannot be read, or there are none
   2  usage
  78  a file is wrong";

/// A long pause is divided into at most this many steps.
const STEPS_MAX: u64 = 256;
/// Most moments of a rule that are shown.
const MOMENTS_MAX: usize = 5;

#[derive(Debug, Args)]
#[command(after_help = HELP, group(ArgGroup::new("source").args(["from_store", "csv"]).required(true)))]
pub struct BacktestArguments {
    /// The file with the rules: one of the folder rules.d, or a whole configuration
    #[arg(long, value_name = "FILE")]
    rule: PathBuf,
    /// The configuration whose zones, tables, detectors and alert times hold, and whose store is read [default: the file with the rules]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replay what the local store holds
    #[arg(long)]
    from_store: bool,
    /// Replay files of lines `series,timestamp_ms,value`, or of the gateway's archive
    #[arg(long, value_name = "FILE", num_args = 1..)]
    csv: Vec<PathBuf>,
    /// The state folder whose store is replayed, instead of store.path
    #[arg(long, value_name = "FOLDER", requires = "from_store")]
    state: Option<String>,
}

/// What was found out.
#[derive(Debug)]
pub struct Found {
    /// Of the rules that have `when`, in their order.
    pub rules: Vec<RuleFound>,
    /// Names of those that have `sql`.
    pub left_out: Vec<String>,
    pub recorded: Recorded,
    pub readings: u64,
    pub devices: usize,
    pub covered_ms: u64,
    pub late: u64,
    pub disordered: u64,
    pub readings_left_out: u64,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleFound {
    pub name: String,
    /// Readings that it was evaluated for.
    pub looked_at: u64,
    /// How often its condition began to hold.
    pub begins: u64,
    pub raised: u64,
    pub cleared: u64,
    pub errors: u64,
    /// The first error.
    pub error: Option<String>,
    pub nanoseconds: u64,
    /// The first times at which its condition began to hold.
    pub moments: Vec<Moment>,
}

/// When a condition began to hold, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub at_ms: i64,
    pub device: String,
    /// Metric and value of the reading; `None` if time alone brought it about.
    pub reading: Option<(String, f64)>,
}

pub fn command(arguments: &BacktestArguments) -> ExitCode {
    let configuration = match load_rules(&arguments.rule, arguments.config.as_deref(), arguments.state.as_deref()) {
        Ok(configuration) => configuration,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Configuration.into();
        }
    };
    let failed = |message: String| {
        eprintln!("outrider: {message}");
        Exit::RunTime.into()
    };
    let found = match arguments.from_store {
        true => backtest(&configuration, |take| {
            let path = store_path(&configuration.store.folder);
            recorded::of_store(&path, &mut |run, reading| take(run, reading)).map_err(|error| error.explained())
        }),
        false => backtest(&configuration, |take| {
            let mut take = |reading: &Reading<'_>| take(RunId([0; 8]), reading);
            recorded::of_files(&arguments.csv, &mut take).map_err(|error| error.to_string())
        }),
    };
    match found {
        Err(message) => failed(message),
        Ok(found) if found.readings == 0 => {
            failed("there are no readings; expected are lines of series,timestamp_ms,value without a header".to_owned())
        }
        Ok(found) => {
            // The reader may have closed the pipe early.
            let _ = io::stdout().write_all(report::text(&found).as_bytes());
            ExitCode::SUCCESS
        }
    }
}

type Take<'t> = &'t mut dyn FnMut(RunId, &Reading<'_>);

/// Replays what `read` gives.
pub fn backtest(
    configuration: &Configuration,
    read: impl FnOnce(Take<'_>) -> Result<Recorded, String>,
) -> Result<Found, String> {
    let mut replay = Replay::new(configuration, STEPS_MAX);
    let mut by_rule: HashMap<String, RuleFound> = HashMap::new();
    let mut listen = |event: &Event<'_>| match by_rule.get_mut(event.rule) {
        Some(found) => found.note(event),
        None => {
            let mut found = RuleFound::default();
            found.note(event);
            by_rule.insert(event.rule.to_owned(), found);
        }
    };
    let recorded = read(&mut |run, reading| replay.take(run, reading, &mut listen))?;
    replay.finish(None, &mut listen);
    let (of_messages, of_readings): (Vec<_>, Vec<_>) =
        configuration.rules.book.rules().iter().partition(|rule| rule.sees_messages());
    let rules = of_readings.into_iter().map(|rule| {
        let counts = rule.tally.counts();
        let mut found = by_rule.remove(&*rule.name).unwrap_or_default();
        // The end of a silence is told when its device is heard again, behind what others did meanwhile.
        found.moments.sort_by_key(|moment| moment.at_ms);
        RuleFound {
            name: rule.name.to_string(),
            looked_at: counts.evaluations,
            errors: counts.errors,
            nanoseconds: counts.nanoseconds,
            ..found
        }
    });
    Ok(Found {
        rules: rules.collect(),
        left_out: of_messages.into_iter().map(|rule| rule.name.to_string()).collect(),
        recorded,
        readings: replay.readings,
        devices: replay.devices(),
        covered_ms: replay.covered_ms(),
        late: replay.late,
        disordered: replay.disordered,
        readings_left_out: replay.left_out,
    })
}

impl RuleFound {
    fn note(&mut self, event: &Event<'_>) {
        match &event.what {
            What::Begins => {
                self.begins += 1;
                if self.moments.len() < MOMENTS_MAX {
                    let reading = event.reading.map(|reading| (reading.metric.to_owned(), reading.value));
                    self.moments.push(Moment { at_ms: event.at_ms, device: event.device.to_owned(), reading });
                }
            }
            What::Raised => self.raised += 1,
            What::Cleared => self.cleared += 1,
            What::Failed(message) => {
                self.error.get_or_insert_with(|| message.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::host::Host;

    const HOUR_MS: i64 = 3_600_000;
    const START_MS: i64 = 1_767_225_600_000;

    /// Two devices for two hours, a reading a second; `hot` is hot for a minute in each hour.
    fn replayed(rules: &str) -> Found {
        let sources =
            Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
        let configuration = Configuration::parse(std::path::Path::new("file"), rules, &sources, &Host::read());
        let configuration = configuration.unwrap_or_else(|problems| panic!("{problems}"));
        let found = backtest(&configuration, |take| {
            for second in 0..2 * 3_600 {
                let at_ms = START_MS + second * 1_000;
                let is_hot = (1_800..1_860).contains(&(second % 3_600));
                take(RunId([0; 8]), &Reading::at(at_ms, "hot", "t", if is_hot { 120.0 } else { 80.0 }));
                take(RunId([0; 8]), &Reading::at(at_ms, "cold", "t", 20.0));
            }
            Ok(Recorded { within_ms: Some((START_MS, START_MS + 2 * HOUR_MS)), ..Recorded::default() })
        });
        found.expect("read")
    }

    #[test]
    fn a_rule_is_told_how_often_it_would_have_held_and_raised_its_alert() {
        let found = replayed(
            "[[rule]]\nname = \"hot\"\nwhen = \"t > 110\"\nfor = \"10s\"\nalert = \"major\"\n\
             [[rule]]\nname = \"never\"\nwhen = \"t > 200\"\nalert = \"major\"\n\
             [[rule]]\nname = \"quiet\"\nwhen = \"t < 30\"\ncount = true\n\
             [[rule]]\nname = \"of_messages\"\nsql = \"SELECT * FROM '#'\"\ndrop = true\n",
        );
        assert_eq!((found.readings, found.devices, found.left_out.len()), (14_400, 2, 1));
        let [hot, never, quiet] = &found.rules[..] else { panic!("{found:?}") };
        assert_eq!((hot.looked_at, hot.begins, hot.raised, hot.cleared), (14_400, 2, 2, 2));
        let first =
            Moment { at_ms: START_MS + 1_810_000, device: "hot".to_owned(), reading: Some(("t".to_owned(), 120.0)) };
        assert_eq!((hot.moments.len(), &hot.moments[0]), (2, &first));
        assert_eq!((never.begins, never.raised, never.looked_at), (0, 0, 14_400));
        assert_eq!((quiet.begins, quiet.raised, &*quiet.moments[0].device), (1, 0, "cold"));
        assert_eq!(found.covered_ms, 7_199_000);
        assert!(hot.nanoseconds > 0);
    }

    #[test]
    fn an_alert_that_has_not_cleared_yet_is_not_raised_again() {
        let rule = "[[rule]]\nname = \"hot\"\nwhen = \"t > 110\"\nuntil = \"t < 50\"\nalert = \"major\"\n";
        let found = replayed(rule);
        assert_eq!((found.rules[0].begins, found.rules[0].raised, found.rules[0].cleared), (2, 1, 0));
    }
}

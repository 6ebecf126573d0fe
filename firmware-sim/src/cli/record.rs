//! `firmware-sim record`: days of normal life on standard output.

use super::{Failure, run_failure};
use crate::record::{Kind, RecordError, RecordSettings, record};
use clap::Args;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Print days of normal life of a machine as lines of series,timestamp_ms,value, for `outrider detect`
#[derive(Args, Debug)]
#[command(after_help = KINDS)]
pub(super) struct RecordArguments {
    /// What is simulated, see below
    #[arg(long, value_enum, default_value = "vehicle")]
    kind: Kind,
    /// Number of them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    devices: u16,
    /// Simulated days
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// The same seed produces the same readings
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Mean number of faults of each device, at random times; none on the first day unless there is only one
    #[arg(long, default_value_t = 0.0, value_name = "N", value_parser = parse_rate)]
    faults_per_day: f64,
    /// Write the faults that were made to this file: lines of series,fault,start_ms,end_ms,size below a header
    #[arg(long, value_name = "FILE")]
    ground_truth: Option<PathBuf>,
}

/// So many that each of them could still be told from the next.
const FAULTS_PER_DAY_MAX: f64 = 100.0;

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.0..=FAULTS_PER_DAY_MAX).contains(rate));
    rate.ok_or_else(|| format!("write a number from 0 to {FAULTS_PER_DAY_MAX}"))
}

// Paragraphs are single lines; the terminal wraps them.
const KINDS: &str = "\
Days begin at 2026-01-05T00:00:00Z, a Monday; times are in milliseconds and UTC. Lines are in the order of time over all series. A sensor \
has its noise, resolution and interval; about one reading of 2,500 is lost.

Kinds:
  vehicle  a delivery van: six to nine trips a day between 6 and 19 h, stop and go. Reads every second from ignition on to off (the fuel every \
10 s); parked, only the battery once a minute for ten minutes, then the box sleeps until the next trip
  tanker   a fuel tanker: two long rounds a day, each loaded at the rack for half an hour and unloaded at two to four stations; its compartment \
reports day and night, every 10 s or minute
  reefer   a refrigerated trailer, frozen or chilled: compressor cycles, four defrosts a day, doors open at stops. Every 10 s or minute
  cold-store  a room at 2.5 degrees with compressor cycles, four defrosts a day and doors open in working hours, and a fridge that is read every \
15 minutes. Every 1 to 30 s
  plant    a filling line in two shifts, on Saturday one and on Sunday none: motor, conveyor, pump, a tank filled and emptied in batches. Every 1 to 5 s

Faults of sensors are spike, step, drift, stuck, dropout and noise; those of machines are overheating, undervoltage, leak, cooling_failure and \
bearing_damage, as the kind can have them. A spike is 6 to 10 times as far off as the signal usually strays within minutes, a \
step 4 to 7 times, a drift 5 to 8 times at its end; noise has 2 to 3 times that as its standard deviation. Readings of the series in \
[start_ms, end_ms) are affected. The size is the largest departure in the metric's unit, of noise its standard deviation, of a dropout 0; of a machine's \
fault it is the largest excess beyond what a sound one reaches, of a leak what ran out. A machine's fault is listed with the metric that shows it best, \
from its cause until the machine has recovered; other series of the machine may show it, too.

Examples:
  firmware-sim record --days 7 --kind cold-store | outrider detect
  firmware-sim record --days 30 --faults-per-day 4 --ground-truth faults.csv > month.csv

Exit codes: 0 all was written, or the reader wanted no more; 1 an output cannot be written; 2 usage.";

pub(super) fn run(arguments: &RecordArguments) -> Result<(), Failure> {
    let settings = RecordSettings {
        kind: arguments.kind,
        devices: arguments.devices,
        days: arguments.days,
        seed: arguments.seed,
        faults_per_day: arguments.faults_per_day,
    };
    let mut ground_truth: Box<dyn Write> = match &arguments.ground_truth {
        Some(path) => {
            let failed = |error| Failure::Run(format!("cannot write {}: {error}", path.display()));
            Box::new(BufWriter::new(File::create(path).map_err(failed)?))
        }
        None => Box::new(io::sink()),
    };
    match record(&settings, &mut io::stdout().lock(), &mut ground_truth) {
        // Who reads no further, such as `head`, has what it wanted.
        Err(RecordError::Readings(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map(drop).map_err(run_failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::Parser;

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let lines: Vec<_> = KINDS.lines().filter(|line| line.starts_with("  firmware-sim")).collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            let words = line.split_whitespace().take_while(|word| ![">", "|"].contains(word));
            let parsed = Arguments::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn wrong_numbers_are_usage_errors() {
        for line in ["--days 0", "--devices 0", "--faults-per-day -1", "--faults-per-day nan", "--kind ship"] {
            let words = ["firmware-sim", "record"].into_iter().chain(line.split_whitespace());
            assert_eq!(Arguments::try_parse_from(words).expect_err(line).exit_code(), 2, "{line}");
        }
    }
}

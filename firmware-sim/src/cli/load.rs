//! `firmware-sim load`: measures what a gateway acknowledges.

use super::reach::{Reach, ReachArguments};
use super::{Failure, print_line, run_failure, stop_on_signal};
use crate::duration::parse_duration;
use crate::load::{Load, LoadError, LoadReport, LoadSettings, SpikeSettings, write_sequences};
use clap::Args;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Publish as fast as is acknowledged, or at a rate, and print the measurements as one JSON line
#[derive(Args, Debug)]
#[command(after_help = OUTPUT)]
pub(super) struct LoadArguments {
    #[command(flatten)]
    pub(super) reach: ReachArguments,
    /// Number of devices, one connection each
    #[arg(long, default_value_t = 50, value_name = "N")]
    connections: u16,
    /// End after this time [default: 10s, with --alerts 2m, with --count no such end]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// End after this many publishes, all devices together
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Publishes per second, all devices together [default: as fast as they are acknowledged]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Publishes that a connection may have unacknowledged
    #[arg(long, default_value_t = 100, value_name = "N")]
    window: u16,
    /// Size that each payload is padded to
    #[arg(long, default_value_t = 150, value_name = "BYTES")]
    payload: u16,
    /// Also publish spikes, and measure how long their alerts take to arrive on alerts/#
    #[arg(long)]
    alerts: bool,
    /// When the first spike is published; detectors must have seen a device for a while [default: 65s]
    #[arg(long, requires = "alerts", value_name = "TIME", value_parser = parse_duration)]
    spikes_after: Option<Duration>,
    /// Time from one spike to the next, all devices together [default: 1s, or 35s for each device if that is more]
    #[arg(long, requires = "alerts", value_name = "TIME", value_parser = parse_duration)]
    spikes_every: Option<Duration>,
    /// Reconnect when the connection is lost, and send again what was not acknowledged
    #[arg(long)]
    reconnect: bool,
    /// Sequence number of each device's first reading
    #[arg(long, default_value_t = 1, value_name = "N")]
    first_sequence: u64,
    /// How long to wait at the end for acknowledgements
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    drain: Duration,
    /// The same seed produces the same readings
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Write the acknowledged sequence numbers to this file, one JSON line per device, when the run ends
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
}

// Paragraphs are single lines; the terminal wraps them.
const OUTPUT: &str = "\
Each connection is a device d00, d01, ... that publishes on devices/dNN/temperature. Without --rate every connection keeps \
its window full: what the broker acknowledges sets the pace, with QoS 0 what the sockets take. Publishing begins when all are connected, \
with TLS or a login a few at a time.

The JSON line, on standard output:
  mqtt, qos, acknowledged_by   PUBACK, with QoS 2 PUBCOMP, with QoS 0 null: what was acknowledged is null as well
  published, acknowledged, unacknowledged, redelivered   publishes
  refused                  of MQTT 5, with a reason of 0x80 or above; neither acknowledged nor unacknowledged
  elapsed_s                first publish to last acknowledgement, with QoS 0 to the last publish
  acknowledged_per_second  acknowledged by elapsed_s
  puback_ms_p50/p99/max    from the publish to its acknowledgement
  cpu_s                    processor time of this program, not the gateway's
  errors, last_error       lost or refused connections
  spikes                   with --alerts: made, alerted, and from publish to alert: alert_ms_p50/p99/max
  failure                  why the exit code is 1; null if it is 0

TIME is a number with a unit: 200ms, 8s, 10m, 1h.";

pub(super) async fn run(arguments: LoadArguments) -> Result<(), Failure> {
    let load = Load::new(settings(&arguments, arguments.reach.read()?)).map_err(|error| match error {
        LoadError::Setting { .. } => Failure::Usage(error.to_string()),
        _ => run_failure(error),
    })?;
    let (_stop, stopped, listening) = stop_on_signal().map_err(run_failure)?;
    let report = tokio::select! {
        report = load.run(stopped) => report.map_err(run_failure)?,
        never = listening => match never {},
    };
    print_line(&report.to_json());
    if let Some(path) = &arguments.acknowledged {
        write_file(path, &report)?;
    }
    match report.failure() {
        Some(reason) => Err(Failure::Run(reason)),
        None => Ok(()),
    }
}

fn write_file(path: &Path, report: &LoadReport) -> Result<(), Failure> {
    let failed = |error| Failure::Run(format!("cannot write {}: {error}", path.display()));
    let file = File::create(path).map_err(failed)?;
    write_sequences(&report.sequences, BufWriter::new(file)).map_err(failed)
}

fn settings(arguments: &LoadArguments, reach: Reach) -> LoadSettings {
    let usual = SpikeSettings::for_connections(arguments.connections);
    let spikes = arguments.alerts.then(|| SpikeSettings {
        first_after: arguments.spikes_after.unwrap_or(usual.first_after),
        every: arguments.spikes_every.unwrap_or(usual.every),
    });
    let duration = match (arguments.duration, arguments.count) {
        (None, None) => Some(Duration::from_secs(if arguments.alerts { 120 } else { 10 })),
        (duration, _) => duration,
    };
    LoadSettings {
        access: reach.access,
        qos: reach.qos,
        connections: arguments.connections,
        count_max: arguments.count,
        duration,
        rate_per_second: arguments.rate,
        window: arguments.window,
        payload_bytes: arguments.payload,
        seed: arguments.seed,
        first_sequence: arguments.first_sequence,
        reconnect: arguments.reconnect,
        spikes,
        drain_max: arguments.drain,
        ..LoadSettings::new(reach.broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;

    fn settings_of(line: &str) -> LoadSettings {
        match Arguments::parse_from(line.split_whitespace()).command {
            Command::Load(arguments) => settings(&arguments, arguments.reach.read().expect("no files are named")),
            Command::Fleet(_) | Command::Record(_) => panic!("{line} is no load"),
        }
    }

    #[test]
    fn the_end_of_a_run_is_what_was_asked_for() {
        let seconds = |line: &str| settings_of(line).duration.map(|duration| duration.as_secs());
        assert_eq!(seconds("firmware-sim load"), Some(10));
        assert_eq!(seconds("firmware-sim load --alerts"), Some(120));
        assert_eq!(seconds("firmware-sim load --count 5"), None);
        assert_eq!(seconds("firmware-sim load --count 5 --duration 3s"), Some(3));
    }

    #[test]
    fn defaults_of_the_command_are_those_of_the_library() {
        let settings = settings_of("firmware-sim load --broker 127.0.0.1:1883");
        assert_eq!(settings, LoadSettings::new(settings.broker));
        let spikes = settings_of("firmware-sim load --alerts --spikes-every 3s").spikes;
        assert_eq!(spikes.map(|spikes| (spikes.first_after.as_secs(), spikes.every.as_secs())), Some((65, 3)));
    }
}

//! `firmware-sim fleet`: vehicles with buffered history, live readings and faults.

use super::reach::{Reach, ReachArguments};
use super::{Failure, print_line, run_failure, stop_on_signal};
use crate::access::{Qos, Version};
use crate::duration::parse_duration;
use crate::fault::Fault;
use crate::fleet::{Fleet, FleetError, FleetEvent, FleetReport, FleetSettings};
use crate::payload::{Format, Shape};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Run a fleet of vehicles: buffered history first, then live, with faults on a schedule
#[derive(Args, Debug)]
#[command(after_help = FAULTS)]
pub(super) struct FleetArguments {
    #[command(flatten)]
    reach: ReachArguments,
    /// Number of vehicles
    #[arg(long, default_value_t = 20, value_name = "N")]
    vehicles: u16,
    /// Time from one sample of a vehicle to the next
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = parse_duration)]
    interval: Duration,
    /// How much past each vehicle has buffered and sends first, as fast as it is acknowledged
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = parse_duration)]
    history: Duration,
    /// End after this time [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// A fault, KIND:DEVICE:METRIC:MAGNITUDE@START..END, see below; may be given several times
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Write each fault that was made to this file, one JSON line each
    #[arg(long, value_name = "FILE")]
    ground_truth: Option<PathBuf>,
    /// Payload encoding
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArgument,
    /// object: one publish per sample. metric: one publish per metric, on vehicles/truck-NN/METRIC
    #[arg(long, value_enum, default_value = "object")]
    shape: ShapeArgument,
    /// Publishes that a vehicle may have unacknowledged
    #[arg(long, default_value_t = 16, value_name = "N")]
    window: u16,
    /// Most overdue samples, such as history, in one publish
    #[arg(long, default_value_t = 50, value_name = "N")]
    batch: u16,
    /// Sequence number of each vehicle's first sample
    #[arg(long, default_value_t = 1, value_name = "N")]
    first_sequence: u64,
    /// How long to wait at the end for acknowledgements
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    drain: Duration,
    /// The same seed produces the same readings
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

// Paragraphs are single lines; the terminal wraps them.
const FAULTS: &str = "\
The vehicles are truck-01, truck-02, ... and publish on vehicles/truck-NN. They keep what is not acknowledged and send it again. \
Events are printed on standard error; the summary is one JSON line on standard output. In MQTT 5 a gateway may refuse a publish, which \
is then neither acknowledged nor sent again. With QoS 0 nothing is acknowledged: the summary says what was sent.

Faults; times count from the moment when all history is delivered:
  spike:truck-03:engine_temperature:+39@19s          one reading is off
  step:truck-07:container_temperature:+6@8s..20s     every reading is off
  drift:truck-07:container_temperature:+6@8s..20s    off more and more, up to the magnitude
  noise:truck-07:speed:5@8s..20s                     noise of this standard deviation is added
  stuck:truck-07:speed@8s..20s                       the last good reading is repeated
  dropout:truck-07:speed@8s..20s                     no readings; * is all metrics
  step:truck-07:container_temperature:+6@8s..20s/1m  with /TIME: again and again, here every minute
Metrics: container_temperature, engine_temperature, speed, latitude, longitude; and the road, which is dry, wet or gravel.

TIME is a number with a unit: 200ms, 8s, 10m, 1h.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArgument {
    Json,
    Cbor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShapeArgument {
    Object,
    Metric,
}

/// Capacity for events on their way to standard error.
const EVENTS_WAITING_MAX: usize = 256;

pub(super) async fn run(arguments: FleetArguments) -> Result<(), Failure> {
    let (events, told) = mpsc::channel(EVENTS_WAITING_MAX);
    let duration = arguments.duration;
    let reach = arguments.reach.read()?;
    let (version, qos) = (reach.access.version, reach.qos);
    let fleet = Fleet::new(settings(arguments, reach), Some(events)).map_err(|error| match error {
        FleetError::Setting { .. } | FleetError::UnknownDevice { .. } => Failure::Usage(error.to_string()),
        _ => run_failure(error),
    })?;
    let ledger = fleet.acknowledged();
    let (stop, stopped, listening) = stop_on_signal().map_err(run_failure)?;
    let (report, ()) = tokio::select! {
        ended = async { tokio::join!(fleet.run(stopped), tell(told)) } => ended,
        never = listening => match never {},
        never = stop_after(duration, stop) => match never {},
    };
    let report = report.map_err(run_failure)?;
    print_line(&summary(&report, version, qos, ledger.repeats()));
    failure(&report, qos).map_or(Ok(()), |reason| Err(Failure::Run(reason)))
}

/// Why a run does not count as a success; `None` if it does.
fn failure(report: &FleetReport, qos: Qos) -> Option<String> {
    let last_error = report.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    let is_unanswered = qos == Qos::AtMostOnce;
    match report {
        FleetReport { readings_refused: 1.., .. } => {
            Some(format!("{} readings were refused{last_error}", report.readings_refused))
        }
        FleetReport { readings_unacknowledged: 1.., .. } => {
            let what = if is_unanswered { "sent" } else { "acknowledged" };
            Some(format!("{} readings were not {what}{last_error}", report.readings_unacknowledged))
        }
        FleetReport { readings_sent: 0, .. } if is_unanswered => Some(format!("nothing was sent{last_error}")),
        FleetReport { readings_acknowledged: 0, .. } if !is_unanswered => {
            Some(format!("nothing was acknowledged{last_error}"))
        }
        _ => None,
    }
}

/// Requests the stop after this time. Never returns: the fleet ends some time after the request.
async fn stop_after(duration: Option<Duration>, stop: watch::Sender<bool>) -> Infallible {
    if let Some(duration) = duration {
        sleep(duration).await;
        stop.send_replace(true);
    }
    std::future::pending().await
}

/// Prints events until the fleet is gone.
async fn tell(mut events: mpsc::Receiver<FleetEvent>) {
    // A gateway that accepts nobody has the same reason for each vehicle.
    let mut last_reason = None;
    while let Some(event) = events.recv().await {
        match event {
            FleetEvent::Connected { .. } => {}
            FleetEvent::Disconnected { device } => eprintln!("{device} lost its connection, reconnecting"),
            FleetEvent::NotConnected { reason, .. } if last_reason.as_ref() == Some(&reason) => {}
            FleetEvent::NotConnected { device, reason } => {
                eprintln!("{device} cannot connect, and tries again: {reason}");
                last_reason = Some(reason);
            }
            FleetEvent::HistoryDone { readings_acknowledged: 0 } => {}
            FleetEvent::HistoryDone { readings_acknowledged } => {
                eprintln!("history of {readings_acknowledged} readings delivered");
            }
            FleetEvent::LiveStarted { .. } => eprintln!("live; Ctrl-C ends the run cleanly"),
            FleetEvent::FaultStarted(truth) => {
                eprintln!("fault: {} of {} {}", truth.fault.name(), truth.device, truth.metric);
            }
            FleetEvent::FaultEnded(truth) => {
                eprintln!("fault over: {} of {} {}", truth.fault.name(), truth.device, truth.metric);
            }
        }
    }
}

fn summary(report: &FleetReport, version: Version, qos: Qos, repeats: u64) -> Value {
    // With QoS 0 there are no acknowledgements, and a zero would look as if there should have been some.
    let acknowledged_by = qos.acknowledged_by();
    let mut line = json!({
        "event": "fleet",
        "mqtt": version.name(),
        "qos": qos.level(),
        "acknowledged_by": acknowledged_by,
        "readings_made": report.readings_made,
        "readings_acknowledged": acknowledged_by.map(|_| report.readings_acknowledged),
        "readings_unacknowledged": acknowledged_by.map(|_| report.readings_unacknowledged),
        "readings_refused": report.readings_refused,
        "publishes_acknowledged": acknowledged_by.map(|_| report.publishes_acknowledged),
        "publishes_refused": report.publishes_refused,
        "repeats": repeats,
        "connections_lost": report.connections_lost,
        "last_error": report.last_error,
        "faults": report.faults,
    });
    if acknowledged_by.is_none() {
        line["readings_sent"] = report.readings_sent.into();
        line["readings_unsent"] = report.readings_unacknowledged.into();
    }
    line
}

fn settings(arguments: FleetArguments, reach: Reach) -> FleetSettings {
    FleetSettings {
        access: reach.access,
        vehicles: arguments.vehicles,
        seed: arguments.seed,
        interval: arguments.interval,
        history: arguments.history,
        format: match arguments.format {
            FormatArgument::Json => Format::Json,
            FormatArgument::Cbor => Format::Cbor,
        },
        shape: match arguments.shape {
            ShapeArgument::Object => Shape::Object,
            ShapeArgument::Metric => Shape::Metric,
        },
        qos: reach.qos,
        faults: arguments.faults,
        ground_truth: arguments.ground_truth,
        first_sequence: arguments.first_sequence,
        window: arguments.window,
        samples_per_publish_max: arguments.batch,
        drain_max: arguments.drain,
        ..FleetSettings::new(reach.broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;

    fn settings_of(words: &[&str]) -> FleetSettings {
        let words = ["firmware-sim", "fleet", "--broker", "127.0.0.1:1883"].iter().chain(words);
        match Arguments::parse_from(words).command {
            Command::Fleet(arguments) => {
                let reach = arguments.reach.read().expect("no files are named");
                settings(arguments, reach)
            }
            Command::Load(_) | Command::Record(_) => panic!("no fleet"),
        }
    }

    #[test]
    fn defaults_of_the_command_are_those_of_the_library() {
        let settings = settings_of(&[]);
        assert_eq!(settings, FleetSettings::new(settings.broker));
    }

    #[test]
    fn every_fault_of_the_help_is_understood() {
        let lines: Vec<_> = FAULTS.lines().filter(|line| line.contains(":truck-")).collect();
        assert_eq!(lines.len(), 7);
        for line in lines {
            let fault = line.split_whitespace().next().expect("the line is not empty");
            assert_eq!(settings_of(&["--fault", fault]).faults.len(), 1);
        }
    }

    #[test]
    fn the_summary_claims_no_acknowledgement_that_there_is_not() {
        let report = FleetReport {
            readings_made: 10,
            publishes_acknowledged: 0,
            readings_acknowledged: 0,
            readings_unacknowledged: 0,
            readings_sent: 10,
            publishes_refused: 0,
            readings_refused: 0,
            connections_lost: 0,
            last_error: None,
            last_sequences: vec![10],
            faults: Vec::new(),
        };
        let line = summary(&report, Version::V5, Qos::AtMostOnce, 0);
        for key in ["acknowledged_by", "readings_acknowledged", "readings_unacknowledged", "publishes_acknowledged"] {
            assert!(line.as_object().expect("an object").contains_key(key) && line[key].is_null(), "{key}: {line}");
        }
        assert_eq!([&line["readings_sent"], &line["readings_unsent"]], [10, 0]);
        assert_eq!(failure(&report, Qos::AtMostOnce), None);
        let nothing = FleetReport { last_error: Some("not authorised".to_owned()), ..report.clone() };
        let told = failure(&nothing, Qos::AtLeastOnce).expect("a failure");
        assert_eq!(told, "nothing was acknowledged (not authorised)");
        let refused = FleetReport { readings_acknowledged: 6, readings_refused: 4, ..report };
        let line = summary(&refused, Version::V5, Qos::ExactlyOnce, 0);
        assert_eq!((&line["acknowledged_by"], &line["readings_acknowledged"]), (&"PUBCOMP".into(), &6.into()));
        assert!(line.get("readings_sent").is_none());
        assert_eq!(failure(&refused, Qos::ExactlyOnce).as_deref(), Some("4 readings were refused"));
    }
}

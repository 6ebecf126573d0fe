//! `firmware-sim fleet`: vehicles with buffered history, live readings and faults.

use super::{Failure, parse_broker, print_line, run_failure, stop_on_signal};
use clap::{Args, ValueEnum};
use firmware_sim::duration::parse_duration;
use firmware_sim::fault::Fault;
use firmware_sim::fleet::{Fleet, FleetError, FleetEvent, FleetReport, FleetSettings, Qos};
use firmware_sim::payload::{Format, Shape};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Run a fleet of vehicles: buffered history first, then live, with faults on a schedule
#[derive(Args, Debug)]
#[command(after_help = FAULTS)]
pub(super) struct FleetArguments {
    /// The gateway's MQTT address
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT", value_parser = parse_broker)]
    broker: SocketAddr,
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
    /// 1: acknowledged by the gateway. 0: not acknowledged, nothing is counted
    #[arg(long, default_value_t = 1, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
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
Events are printed on standard error; the summary is one JSON line on standard output.

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
    let qos = arguments.qos;
    let fleet = Fleet::new(settings(arguments), Some(events)).map_err(|error| match error {
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
    print_line(&summary(&report, ledger.repeats()));
    match report.readings_unacknowledged {
        0 if qos == 1 && report.readings_acknowledged == 0 => Err(Failure::Run("nothing was acknowledged".to_owned())),
        0 => Ok(()),
        missing => Err(Failure::Run(format!("{missing} readings were not acknowledged"))),
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
    while let Some(event) = events.recv().await {
        match event {
            FleetEvent::Connected { .. } => {}
            FleetEvent::Disconnected { device } => eprintln!("{device} lost its connection, reconnecting"),
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

fn summary(report: &FleetReport, repeats: u64) -> Value {
    json!({
        "event": "fleet",
        "readings_made": report.readings_made,
        "readings_acknowledged": report.readings_acknowledged,
        "readings_unacknowledged": report.readings_unacknowledged,
        "publishes_acknowledged": report.publishes_acknowledged,
        "repeats": repeats,
        "connections_lost": report.connections_lost,
        "faults": report.faults,
    })
}

fn settings(arguments: FleetArguments) -> FleetSettings {
    FleetSettings {
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
        qos: if arguments.qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
        faults: arguments.faults,
        ground_truth: arguments.ground_truth,
        first_sequence: arguments.first_sequence,
        window: arguments.window,
        samples_per_publish_max: arguments.batch,
        drain_max: arguments.drain,
        ..FleetSettings::new(arguments.broker)
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
            Command::Fleet(arguments) => settings(arguments),
            Command::Load(_) => panic!("no fleet"),
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
}

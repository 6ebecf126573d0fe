//! `outrider demo`: the real gateway and a simulated fleet in one process, with faults and link cuts on a schedule. The summary does not
//! rely on the gateway: the devices count what was acknowledged to them, and the archive's files are read back.
//!
//! `stage` is the gateway, `schedule` what happens when, `show` the run, `matching` which alert belongs to which fault, `archive_check` the
//! evidence of the summary, `narrate` and `screen` the texts and how they are shown.

pub mod archive_check;
mod figures;
mod folder;
pub mod matching;
mod narrate;
mod schedule;
mod screen;
mod show;
mod stage;
mod subscriber;

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use firmware_sim::duration::parse_duration;
use firmware_sim::fleet::{Fleet, FleetError, FleetEvent, FleetReport, FleetSettings};
use firmware_sim::vehicle::Vehicle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, LocalSet};

use super::Exit;
use super::run::{self, first_signal};
use crate::errors::with_causes;
use crate::gateway::GatewayError;
use crate::store::lock::LockError;
use crate::store::schema::OpenError;
use archive_check::Known;
use figures::FiguresReader;
use folder::FolderError;
use matching::{AlertHeard, Scoreboard};
use schedule::{Plan, VEHICLES_MIN};
use screen::Screen;
use show::{Parts, Show};
use stage::{Stage, StageSettings};
use subscriber::Subscriber;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct DemoArguments {
    /// End after this time, with the summary [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    length: Option<Duration>,
    /// Number of simulated vehicles, five readings a second each
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(i64::from(VEHICLES_MIN)..=1000))]
    vehicles: u16,
    /// Port of the MQTT broker [default: 1883, or any free one if that is taken]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The same seed makes the same readings
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

// Paragraphs are single lines; the terminal wraps them.
const HELP: &str = "\
Needs nothing but this program: no account, no server, no file. The vehicles first send ten minutes of readings that they had \
buffered, then live ones. On a schedule, a sensor is made to fail or the link to the archive is cut, and you see what the gateway \
makes of it. A line in capitals is something that we did or that the gateway noticed.

The summary at the end counts what was acknowledged at the vehicles, reads the archive's files again and compares.

Everything is kept in ./outrider-demo/ until the next demo replaces it, and listens on 127.0.0.1 only.

Example:
  outrider demo --for 30s

Exit codes: 0 all agrees and every fault was found, 1 not so and the summary says why, 2 usage, 75 another demo runs here.

TIME is a number with a unit: 30s, 5m, 1h.";

const FOLDER: &str = "./outrider-demo";
/// How much data the vehicles have buffered at the start.
const HISTORY: Duration = Duration::from_secs(600);
const MQTT_PORT: u16 = 1883;
/// In a short demonstration the archive's files are closed soon; in a long one that would make a million of them.
const SHORT: Duration = Duration::from_secs(600);
const ROTATE_AFTER_SHORT: Duration = Duration::from_millis(250);
const ROTATE_AFTER: Duration = Duration::from_secs(1);
/// How often time-dependent state is updated.
const TICK: Duration = Duration::from_millis(100);
const EVENTS_WAITING_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Folder(FolderError),
    #[error("cannot write the log {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot wait for timers or signals")]
    System(#[source] io::Error),
    #[error(transparent)]
    Gateway(GatewayError),
    #[error(transparent)]
    Store(OpenError),
    #[error("cannot read the store")]
    Sqlite(#[source] rusqlite::Error),
    #[error(transparent)]
    Fleet(FleetError),
    #[error("the simulated fleet has ended")]
    FleetTask(#[source] JoinError),
    #[error("cannot subscribe to the alerts: {0}")]
    Subscribe(String),
    #[error("the gateway has stopped acknowledging; see {FOLDER}/log")]
    Stalled,
    #[error("cannot read the archive")]
    Archive(#[source] io::Error),
}

impl DemoError {
    /// The error with its causes, and with a hint how to fix it.
    fn explained(&self) -> String {
        match self {
            DemoError::Gateway(error @ GatewayError::Listen { .. }) => {
                format!("{}; --port chooses another port", run::with_holder(error))
            }
            _ => with_causes(self),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            DemoError::Folder(FolderError::InUse(LockError::Taken { .. })) => Exit::Temporary,
            DemoError::Gateway(error) => run::exit_of(error),
            _ => Exit::RunTime,
        }
    }
}

pub fn command(arguments: &DemoArguments) -> ExitCode {
    match demonstrate(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => Exit::RunTime.into(),
        Err(error) => {
            eprintln!("outrider: {}", error.explained());
            error.exit().into()
        }
    }
}

/// Runs in the current folder. Returns whether everything agreed.
fn demonstrate(arguments: &DemoArguments) -> Result<bool, DemoError> {
    let folder = Path::new(FOLDER);
    folder::prepare(folder).map_err(DemoError::Folder)?;
    log_to(&folder.join("log"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::System)?;
    LocalSet::new().block_on(&runtime, play(arguments, folder))
}

/// The gateway's log goes to a file: the terminal shows the demonstration.
fn log_to(path: &Path) -> Result<(), DemoError> {
    let file = File::create(path).map_err(|source| DemoError::Log { path: path.to_owned(), source })?;
    tracing_subscriber::fmt().with_ansi(false).with_target(false).with_writer(Mutex::new(file)).init();
    Ok(())
}

/// The simulated fleet, its events, and the way to stop it.
struct Actors {
    fleet: JoinHandle<Result<FleetReport, FleetError>>,
    events: mpsc::Receiver<FleetEvent>,
    stop: watch::Sender<bool>,
    alerts: mpsc::Receiver<AlertHeard>,
    subscriber: JoinHandle<()>,
}

async fn play(arguments: &DemoArguments, folder: &Path) -> Result<bool, DemoError> {
    let mut signal = Box::pin(first_signal().map_err(DemoError::System)?);
    let mut screen = Screen::on_standard_output(Instant::now());
    let mut stage = Stage::start(folder, stage_settings(arguments)).await.map_err(DemoError::Gateway)?;
    let lines = narrate::header(arguments.vehicles, &stage.ready, folder, arguments.length);
    lines.iter().for_each(|line| screen.text(line));
    screen.text("");

    let plan = Plan::new(arguments.vehicles, arguments.length);
    let subscriber = Subscriber::subscribe(stage.ready.mqtt).await.map_err(DemoError::Subscribe)?;
    let (events_sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let settings = FleetSettings {
        vehicles: arguments.vehicles,
        seed: arguments.seed,
        history: HISTORY,
        faults: plan.faults.clone(),
        ground_truth: Some(folder.join("faults.ndjson")),
        ..FleetSettings::new(stage.ready.mqtt)
    };
    let fleet = Fleet::new(settings, Some(events_sender)).map_err(DemoError::Fleet)?;
    let acknowledged = fleet.acknowledged();
    let mut show = Show::new(Parts {
        screen,
        board: Scoreboard::new((1..=arguments.vehicles).map(Vehicle::name)),
        plan,
        length: arguments.length,
        figures: FiguresReader::open(folder).map_err(DemoError::Store)?,
        acknowledged: acknowledged.clone(),
        link: stage.link.clone(),
    });
    let (stop, stopped) = watch::channel(false);
    let (alerts_sender, alerts) = mpsc::channel(EVENTS_WAITING_MAX);
    let mut actors = Actors {
        fleet: tokio::task::spawn_local(fleet.run(stopped)),
        events,
        stop,
        alerts,
        subscriber: tokio::task::spawn_local(subscriber.run(alerts_sender)),
    };

    follow(&mut show, &mut stage, &mut actors, &mut signal).await?;
    show.finish().map_err(DemoError::Sqlite)?;
    let report = end(&mut show, actors).await?;
    let ended = show.screen.elapsed();
    show.screen.status("ending", "the gateway finishes its files");
    stage.end().await.map_err(DemoError::Gateway)?;

    let known = Known {
        acknowledged: acknowledged.devices(),
        last_sequences: report.last_sequences,
        alerts: std::mem::take(&mut show.board.alerts),
        connections_lost: report.connections_lost,
    };
    let found = archive_check::check(&folder.join("archive"), &known).map_err(DemoError::Archive)?;
    let failures = narrate::failures(&found, &known, show.board.missed(ended));
    show.screen.event("summary", "");
    narrate::summary(&found, show.board.score(ended)).iter().for_each(|line| show.screen.text(line));
    failures.iter().for_each(|reason| show.screen.text(&format!("  FAILED  {reason}")));
    if failures.is_empty() {
        show.screen.text(&format!("  all of it agrees; the files stay in {}/ until the next demo", folder.display()));
    }
    Ok(failures.is_empty())
}

fn stage_settings(arguments: &DemoArguments) -> StageSettings {
    let is_short = arguments.length.is_some_and(|length| length <= SHORT);
    StageSettings {
        port: arguments.port.unwrap_or(MQTT_PORT),
        or_any_port: arguments.port.is_none(),
        rotate_after: if is_short { ROTATE_AFTER_SHORT } else { ROTATE_AFTER },
    }
}

/// Runs until the time is over or somebody stops it.
async fn follow(
    show: &mut Show<io::Stdout>,
    stage: &mut Stage,
    actors: &mut Actors,
    signal: &mut (impl Future<Output = ()> + Unpin),
) -> Result<(), DemoError> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Handle a fault before the alert about it.
            biased;
            Some(event) = actors.events.recv() => show.fleet_event(event),
            Some(alert) = actors.alerts.recv() => show.alert(&alert),
            error = stage.failure() => return Err(DemoError::Gateway(error)),
            report = &mut actors.fleet => {
                return Err(match report.map_err(DemoError::FleetTask)? {
                    Err(error) => DemoError::Fleet(error),
                    Ok(_) => unreachable!("nobody has told the fleet to stop"),
                });
            }
            () = &mut *signal => return Ok(()),
            _ = ticks.tick() => show.tick().map_err(DemoError::Sqlite)?,
        }
        if show.is_stalled() {
            return Err(DemoError::Stalled);
        }
        if show.is_over() || show.screen.is_closed() {
            return Ok(());
        }
    }
}

/// The vehicles get their last acknowledgements, then everything ends.
async fn end(show: &mut Show<io::Stdout>, mut actors: Actors) -> Result<FleetReport, DemoError> {
    show.screen.status("ending", "the vehicles wait for their last acknowledgements");
    actors.stop.send_replace(true);
    let report = loop {
        tokio::select! {
            biased;
            Some(event) = actors.events.recv() => show.fleet_event(event),
            Some(alert) = actors.alerts.recv() => show.alert(&alert),
            report = &mut actors.fleet => break report,
        }
    };
    actors.subscriber.abort();
    report.map_err(DemoError::FleetTask)?.map_err(DemoError::Fleet)
}

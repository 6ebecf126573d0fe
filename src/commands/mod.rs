//! What can be asked of the program, and with which code it exits.

pub mod detect;
pub mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::edge::EdgeSettings;
use crate::gateway::{GatewayError, GatewaySettings, SinkKind, SinkSettings};
use crate::ingest::Ingest;
use crate::store::lock::LockError;
use crate::store::retention::Capacity;
use crate::store::schema::Synchronous;
use crate::store::threads::CommitPacing;

/// IoT edge-to-cloud telemetry gateway: takes readings over MQTT, keeps them in SQLite until they are delivered, watches each series
/// over ten seconds, alerts over MQTT, and forwards everything to cloud streams.
#[derive(Debug, Parser)]
#[command(name = "outrider", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until a signal ends it
    Run(RunArguments),
    /// Find anomalies in a file of series,timestamp_ms,value lines, with the gateway's own detectors
    Detect(DetectArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Where to listen for MQTT, instead of mqtt.listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of the store, instead of store.path
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = detect::HELP)]
struct DetectArguments {
    /// Files of lines `series,timestamp_ms,value`; standard input if there is none
    files: Vec<PathBuf>,
    /// Print the ten-second window of every reading instead: series,timestamp_ms,n,mean,std
    #[arg(long)]
    stats: bool,
}

/// Exit codes beyond 0; 2 is clap's, for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    RunTime = 1,
    /// Another process has the state folder: it may be gone the next time.
    Temporary = 75,
    Configuration = 78,
}

pub fn dispatch(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Run(arguments) => run_gateway(arguments),
        Command::Detect(arguments) => detect_anomalies(&arguments),
    }
}

fn detect_anomalies(arguments: &DetectArguments) -> ExitCode {
    match detect::run_files(&arguments.files, arguments.stats) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrider: {error}");
            ExitCode::from(Exit::RunTime as u8)
        }
    }
}

fn run_gateway(arguments: RunArguments) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut settings = default_settings(arguments.state);
    if let Some(listen) = arguments.listen {
        settings.mqtt_listen = listen;
    }
    match run::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(exit_of(&error) as u8)
        }
    }
}

pub fn default_settings(state_folder: PathBuf) -> GatewaySettings {
    GatewaySettings {
        gateway_id: "gateway".to_owned(),
        mqtt_listen: SocketAddr::from(([127, 0, 0, 1], 1883)),
        admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        watch: Default::default(),
        alerts: Default::default(),
        edge: EdgeSettings::default(),
        routes: Ingest::default_routes(),
        capacity: Capacity::new(4 << 30),
        synchronous: Synchronous::Full,
        pacing: CommitPacing::default(),
        uncommitted_bytes_max: 32 << 20,
        sinks: vec![SinkSettings {
            name: "archive".to_owned(),
            kind: SinkKind::Archive {
                folder: state_folder.join("archive"),
                bytes_max: 2 << 30,
                free_percent_min: 10,
                rotate_after: Duration::from_secs(60),
                rotate_bytes: 16 << 20,
            },
        }],
        grace: Duration::from_secs(10),
        state_folder,
    }
}

fn exit_of(error: &GatewayError) -> Exit {
    match error {
        GatewayError::Locked(LockError::Held { .. }) => Exit::Temporary,
        _ => Exit::RunTime,
    }
}

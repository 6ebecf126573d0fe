//! Requests to the running gateway over its control socket: `outrider series forget`, `alerts clear`, `sinks drop`, `reload`, `rules list`
//! and `status`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::configuration::{ConfigArguments, absolute};
use crate::admin::{alerts, control};
use crate::config::Configuration;
use crate::core::mqtt::topic;

/// Longer than the gateway itself waits for its disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// More than the status takes, whatever devices are called.
pub const STATUS_BYTES_MAX: u64 = 16 << 20;

/// What is asked for.
pub enum Method {
    Get { bytes_max: u64 },
    Post,
    Delete,
}

/// Which gateway: the one that has this state folder.
#[derive(Debug, Args)]
pub struct Place {
    /// Its configuration file, for store.path [default: as for `outrider run`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its state folder, instead of store.path
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum SeriesCommand {
    /// Forget a device, or one metric of it: its silence raises no alert any more, its alerts are cleared, and it makes room for others. If
    /// it reports again, it counts as new
    Forget {
        /// As in the topics of alerts: a slash within a name is written %2F
        #[arg(value_name = "DEVICE[/METRIC]")]
        series: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Clear an alert for everybody; if its reason is still there, it is raised again
    Clear {
        /// As in the alert's topic, alerts/DEVICE/METRIC/KIND
        device: String,
        metric: String,
        kind: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum SinksCommand {
    /// Discard what waits for a sink that is no longer configured, counted as expired
    Drop {
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

pub fn series(command: &SeriesCommand) -> ExitCode {
    let SeriesCommand::Forget { series, place } = command;
    let levels: Vec<&str> = series.splitn(2, '/').collect();
    delete(place, "series", &levels)
}

pub fn alerts(command: &AlertsCommand) -> ExitCode {
    let AlertsCommand::Clear { device, metric, kind, place } = command;
    delete(place, "alerts", &[device, metric, kind])
}

pub fn sinks(command: &SinksCommand) -> ExitCode {
    let SinksCommand::Drop { name, place } = command;
    drop_sink(place, name)
}

pub fn drop_sink(place: &Place, name: &str) -> ExitCode {
    delete(place, "sinks", &[name])
}

fn delete(place: &Place, what: &str, levels: &[&str]) -> ExitCode {
    let mut path = format!("/api/{what}");
    for level in levels {
        path.push('/');
        path.push_str(&alerts::encode(&topic::percent_decode(level)));
    }
    tell(ask(place, &Method::Delete, &path))
}

/// Loads the rules again.
pub fn reload(place: &Place) -> ExitCode {
    tell(ask(place, &Method::Post, control::RELOAD_PATH))
}

pub fn tell(answer: Result<String, ExitCode>) -> ExitCode {
    match answer {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(exit) => exit,
    }
}

impl Place {
    /// The configuration. What is wrong with it is told, and leads to an exit code.
    pub fn load(&self) -> Result<Configuration, ExitCode> {
        ConfigArguments::of(self.config.clone(), self.state.clone()).load().map_err(|problems| {
            eprintln!("{problems}");
            ExitCode::from(Exit::Configuration)
        })
    }
}

/// The answer of the gateway, if it is a good one. Any other is told, and leads to an exit code.
pub fn ask(place: &Place, method: &Method, path: &str) -> Result<String, ExitCode> {
    let configuration = place.load()?;
    let folder = &configuration.store.folder;
    match exchange(folder, method, path, ANSWER_WITHIN) {
        Ok((200, text)) => Ok(text),
        Ok((_, text)) => Err(failed(&text)),
        Err(error) => Err(failed(&explained(&error, folder))),
    }
}

pub fn failed(text: &str) -> ExitCode {
    eprintln!("{text}");
    Exit::RunTime.into()
}

/// What it means that the gateway with this state folder was not reached.
pub fn explained(error: &io::Error, folder: &Path) -> String {
    let folder = absolute(folder);
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no gateway is running with its state in {folder}; --config or --state names another folder")
        }
        io::ErrorKind::PermissionDenied => {
            format!("only the user that the gateway in {folder} runs as may do this (or root)")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("the gateway in {folder} does not answer"),
        _ => format!("cannot speak to the gateway in {folder}: {error}"),
    }
}

/// The status code and text of the response, if each part of it comes in time.
pub fn exchange(folder: &Path, method: &Method, path: &str, within: Duration) -> io::Result<(u16, String)> {
    let (verb, bytes_max) = match method {
        Method::Get { bytes_max } => ("GET", *bytes_max),
        Method::Post => ("POST", ANSWER_BYTES_MAX),
        Method::Delete => ("DELETE", ANSWER_BYTES_MAX),
    };
    let mut stream = UnixStream::connect(control::socket_path(folder))?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    write!(stream, "{verb} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(bytes_max).read_to_string(&mut answer)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "its response is not understood");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok((code, body.trim_end().to_owned()))
}

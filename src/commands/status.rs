//! `outrider status`: what the running gateway says of itself, for people.

use std::fmt::{self, Write};
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::bridge::Bridge;
use super::file::Input;
use super::operate::{Method, Place, STATUS_BYTES_MAX, ask, failed};
use super::text::{Plain, section};
use crate::counter::many;
use crate::keys::units::{approximate_duration, approximate_size};

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Of what cannot be decoded, so much is shown.
const SAMPLE_CHARS_SHOWN: usize = 100;
/// On a terminal: to the first place of an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print /api/status as it is
    #[arg(long)]
    json: bool,
    /// Look again every two seconds, until it is interrupted; also while the gateway is away
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    place: Place,
}

pub fn command(arguments: &StatusArguments) -> ExitCode {
    if !arguments.watch {
        return match look(arguments) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(exit) => exit,
        };
    }
    let before = if io::stdout().is_terminal() { CLEAR } else { "\n" };
    loop {
        // What is wrong is on standard error.
        let text = look(arguments).unwrap_or_default();
        let mut out = io::stdout().lock();
        // Whoever reads it may have gone.
        if write!(out, "{before}{text}").and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        drop(out);
        std::thread::sleep(WATCH_EVERY);
    }
}

fn look(arguments: &StatusArguments) -> Result<String, ExitCode> {
    let text = ask(&arguments.place, &Method::Get { bytes_max: STATUS_BYTES_MAX }, "/api/status")?;
    if arguments.json {
        return Ok(text + "\n");
    }
    match serde_json::from_str::<Status>(&text) {
        Ok(status) => Ok(status.to_string()),
        Err(error) => Err(failed(&format!("the gateway's answer is not understood: {error}"))),
    }
}

/// What is shown of `/api/status`.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    gateway: String,
    state: String,
    clock: String,
    uptime_s: u64,
    now_ms: i64,
    received: Received,
    mqtt: Mqtt,
    store: Store,
    disk: Option<Disk>,
    ledger: Vec<Flow>,
    ledger_adds_up: bool,
    sinks: Vec<Sink>,
    files: Vec<Input>,
    #[serde(default)]
    bridges: Vec<Bridge>,
    #[serde(default)]
    links: Vec<Link>,
    unrouted: Unrouted,
    undecodable: Vec<Undecodable>,
    series: Option<Series>,
    alerts: Vec<Alert>,
    alerts_total: usize,
}

#[derive(Debug, Deserialize)]
struct Mqtt {
    publishes_denied: u64,
}

#[derive(Debug, Deserialize)]
struct Received {
    accepted: u64,
    undecodable: u64,
}

#[derive(Debug, Deserialize)]
struct Store {
    bytes: u64,
    bytes_max: u64,
    oldest_age_s: Option<u64>,
    holds_days: Option<f64>,
    writing: bool,
}

#[derive(Debug, Deserialize)]
struct Disk {
    free_bytes: u64,
}

/// What became of what a sink is to get of one stream.
#[derive(Debug, Deserialize)]
struct Flow {
    sink: String,
    stream: String,
    delivered: u64,
    buffered: u64,
    expired: u64,
    dead_lettered: u64,
    quarantined: u64,
}

#[derive(Debug, Deserialize)]
struct Sink {
    name: String,
    stream: String,
    last_error: Option<String>,
    #[serde(default)]
    waiting: Option<String>,
}

/// A link that costs money.
#[derive(Debug, Deserialize)]
struct Link {
    name: String,
    metered: bool,
    bytes_today: u64,
    bytes_per_day: Option<u64>,
    bytes_this_month: u64,
    bytes_per_month: Option<u64>,
    forecast_bytes_this_month: Option<u64>,
    spent_at_ms: Option<i64>,
    waiting: Option<String>,
    alerts_waiting: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Unrouted {
    count: u64,
    topics: Vec<String>,
    routes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Undecodable {
    topic: String,
    count: u64,
    sample: String,
    hint: String,
}

#[derive(Debug, Deserialize)]
struct Series {
    watched: Vec<Line>,
    watched_total: usize,
    unwatched: Vec<Line>,
    unwatched_total: usize,
    device_clocks: Vec<DeviceClock>,
    device_clocks_total: usize,
}

#[derive(Debug, Deserialize)]
struct Line {
    device: String,
    metric: String,
    profile: String,
    reason: String,
    limit: bool,
}

#[derive(Debug, Deserialize)]
struct DeviceClock {
    device: String,
    device_clock: String,
    offset_ms: i64,
}

#[derive(Debug, Deserialize)]
struct Alert {
    device: String,
    state: String,
    severity: String,
    message: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, gateway, state, clock, uptime_s, received, unrouted, undecodable, .. } = self;
        let up = approximate_duration(Duration::from_secs(*uptime_s));
        writeln!(f, "Outrider {version} on {}: {state}, up {up}, clock {clock}", Plain(gateway))?;
        let Received { accepted, undecodable: refused } = received;
        let lost = unrouted.count;
        let stored = many(*accepted, "reading");
        write!(f, "{stored} stored; not stored: {refused} undecodable, {lost} unrouted")?;
        let denied = self.mqtt.publishes_denied;
        if denied > 0 {
            write!(f, ", {denied} denied for want of a right")?;
        }
        writeln!(f)?;
        self.store.write(f, self.disk.as_ref())?;
        if !self.ledger_adds_up {
            writeln!(f, "the ledger does not add up: see `ledger` of --json")?;
        }
        section(f, "sinks", self.ledger.iter().map(|flow| flow.text(&self.sinks)), self.ledger.len())?;
        let files = self.files.iter().map(|input| input.text(self.now_ms));
        section(f, "files", files, self.files.len())?;
        section(f, "bridges", self.bridges.iter().map(Bridge::text), self.bridges.len())?;
        section(f, "links", self.links.iter().map(Link::text), self.links.len())?;
        let alerts = self.alerts.iter().map(|Alert { device, state, severity, message }| {
            format!("{state}, {severity}: {} ({})", Plain(message), Plain(device))
        });
        section(f, "alerts", alerts, self.alerts_total)?;
        if let Some(series) = &self.series {
            write!(f, "{series}")?;
        } else {
            writeln!(f, "\nwhat is watched is not known at present")?;
        }
        let topics = unrouted.topics.iter().map(|topic| Plain(topic).to_string());
        section(f, "topics without a route", topics, unrouted.topics.len())?;
        unrouted.routes.iter().try_for_each(|route| {
            advice(f, "to store what is a number or JSON there, add to the configuration, and restart:", route)
        })?;
        section(f, "kinds of payloads that could not be decoded", std::iter::empty::<String>(), undecodable.len())?;
        undecodable.iter().try_for_each(|kind| kind.write(f))
    }
}

impl Undecodable {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undecodable { topic, count, sample, hint } = self;
        let (why, lines) = hint.split_once('\n').unwrap_or((hint, ""));
        let count = match count {
            0 => "before the last start".to_owned(),
            count => count.to_string(),
        };
        let mut cut: String = sample.chars().take(SAMPLE_CHARS_SHOWN).collect();
        if cut.len() < sample.len() {
            cut.push_str("...");
        }
        writeln!(f, "  {} ({count}): {}", Plain(topic), Plain(&cut))?;
        advice(f, &format!("  {}", Plain(why)), lines)
    }
}

impl Store {
    fn write(&self, f: &mut fmt::Formatter<'_>, disk: Option<&Disk>) -> fmt::Result {
        let Store { bytes, bytes_max, oldest_age_s, holds_days, writing } = self;
        write!(f, "store: {} of {}", approximate_size(*bytes), approximate_size(*bytes_max))?;
        if let Some(age_s) = oldest_age_s {
            write!(f, ", the oldest record is {} old", approximate_duration(Duration::from_secs(*age_s)))?;
        }
        if let Some(days) = holds_days {
            match *days {
                days if days < 10.0 => write!(f, ", room for {days:.1} days at this rate")?,
                days => write!(f, ", room for {days:.0} days at this rate")?,
            }
        }
        if let Some(Disk { free_bytes }) = disk {
            write!(f, "; {} of the disk are free", approximate_size(*free_bytes))?;
        }
        f.write_str(if *writing { "\n" } else { "; nothing can be written at present\n" })
    }
}

impl Flow {
    fn text(&self, sinks: &[Sink]) -> String {
        let Flow { sink, stream, delivered, buffered, expired, dead_lettered, quarantined } = self;
        let mut text = format!("{sink} {stream}: {delivered} delivered, {buffered} buffered");
        let losses = [(expired, "expired"), (dead_lettered, "dead letters"), (quarantined, "lost to damage")];
        for (count, what) in losses.into_iter().filter(|(count, _)| **count > 0) {
            let _ = write!(text, ", {count} {what}");
        }
        let of_it = sinks.iter().find(|one| one.name == *sink && one.stream == *stream);
        if let Some(error) = of_it.and_then(|sink| sink.last_error.as_ref()) {
            let _ = write!(text, "; {}", Plain(error));
        } else if let Some(waiting) = of_it.and_then(|sink| sink.waiting.as_ref()) {
            let _ = write!(text, "; {}", Plain(waiting));
        }
        text
    }
}

impl Link {
    fn text(&self) -> String {
        let size = approximate_size;
        let of = |limit: Option<u64>| limit.map_or(String::new(), |limit| format!(" of {}", size(limit)));
        let mut text = Plain(&self.name).to_string();
        text.push_str(if self.metered { ": " } else { ": not metered now; " });
        let (today, month) = (size(self.bytes_today), size(self.bytes_this_month));
        let _ = write!(text, "{today}{} today, {month}{} this month", of(self.bytes_per_day), of(self.bytes_per_month));
        if let Some(bytes) = self.forecast_bytes_this_month {
            let _ = write!(text, ", {} by its end at this pace", size(bytes));
        }
        if let Some(ms) = self.spent_at_ms {
            let _ = write!(text, ", spent by {}", crate::clock::utc(ms).date());
        }
        if let Some(waiting) = &self.waiting {
            let _ = write!(text, "; {}", Plain(waiting));
            text.push_str(if self.alerts_waiting.is_some() {
                ", alerts too"
            } else {
                "; alerts go on with what is kept for them"
            });
        }
        text
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |Line { device, metric, profile, reason, limit }: &Line| {
            let limit = if *limit { ", and a limit" } else { "" };
            format!("{} {}: {profile}{limit} ({})", Plain(device), Plain(metric), Plain(reason))
        };
        section(f, "watched series", self.watched.iter().map(line), self.watched_total)?;
        section(f, "series that are not watched", self.unwatched.iter().map(line), self.unwatched_total)?;
        let clocks = self.device_clocks.iter().map(|DeviceClock { device, device_clock, offset_ms }| {
            let seconds = offset_ms.unsigned_abs() as f64 / 1e3;
            match device_clock.as_str() {
                "unset" => format!("{}: not set", Plain(device)),
                _ => format!("{}: {seconds:.1} s {device_clock}", Plain(device)),
            }
        });
        section(f, "devices with a wrong clock", clocks, self.device_clocks_total)
    }
}

/// Lines of a configuration, to be copied.
fn advice(f: &mut fmt::Formatter<'_>, what: &str, lines: &str) -> fmt::Result {
    writeln!(f, "  {what}")?;
    lines.lines().try_for_each(|line| writeln!(f, "    {}", Plain(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_shown_and_nothing_controls_the_terminal() {
        let line = |metric: &str, profile: &str, limit: bool, reason: &str| serde_json::json!({ "device": "t\u{1b}[2J", "metric": metric, "profile": profile, "limit": limit, "reason": reason });
        let status = serde_json::json!({
            "version": "1", "gateway": "g", "state": "running", "clock": "synced", "uptime_s": 5, "now_ms": 1, "files": [], "new": "ignored",
            "received": { "accepted": 7, "undecodable": 1 }, "mqtt": { "publishes_denied": 3 },
            "store": { "bytes": 1 << 20, "bytes_max": 1_u64 << 32, "oldest_age_s": 90, "holds_days": 12.34, "writing": true },
            "disk": { "free_bytes": 3_u64 << 30 },
            "ledger": [
                { "sink": "cloud", "stream": "raw", "delivered": 4, "buffered": 2, "expired": 1, "dead_lettered": 0, "quarantined": 0 },
                { "sink": "cloud", "stream": "trips", "delivered": 1, "buffered": 0, "expired": 0, "dead_lettered": 0, "quarantined": 0 },
            ],
            "ledger_adds_up": true,
            "sinks": [
                { "name": "cloud", "stream": "raw", "last_error": "no connection\u{1b}" },
                { "name": "cloud", "stream": "trips", "last_error": null, "waiting": "waiting for the budget of the next day" },
            ],
            "links": [{
                "name": "lte", "metered": true, "bytes_today": 20 << 20, "bytes_per_day": 20 << 20, "bytes_this_month": 1 << 30,
                "bytes_per_month": 2_u64 << 30, "forecast_bytes_this_month": 3_u64 << 30, "spent_at_ms": 1_795_517_165_120_i64,
                "waiting": "waiting for the budget of the next day", "alerts_waiting": null,
            }],
            "unrouted": { "count": 2, "topics": ["a/b"], "routes": ["[[route]]\ntopic = \"a/{device}\""] },
            "undecodable": [{ "topic": "c", "count": 5, "sample": "\"22.5\"", "hint": "no number; add:\nnumbers = \"lenient\"" }],
            "series": {
                "watched": [line("temp", "temperature", true, "the word")], "watched_total": 3,
                "unwatched": [line("lat", "off", false, "a position")], "unwatched_total": 1,
                "device_clocks": [
                    { "device": "x", "device_clock": "behind", "offset_ms": 90_000 },
                    { "device": "y", "device_clock": "unset", "offset_ms": 1 },
                ],
                "device_clocks_total": 2,
            },
            "alerts": [], "alerts_total": 0,
        });
        let status: Status = serde_json::from_value(status).expect("as it is sent");
        let expected = r#"Outrider 1 on g: running, up 5 s, clock synced
7 readings stored; not stored: 1 undecodable, 2 unrouted, 3 denied for want of a right
store: 1 MiB of 4 GiB, the oldest record is 1.5 m old, room for 12 days at this rate; 3 GiB of the disk are free

sinks: 2
  cloud raw: 4 delivered, 2 buffered, 1 expired; no connection\u{1b}
  cloud trips: 1 delivered, 0 buffered; waiting for the budget of the next day

links: 1
  lte: 20 MiB of 20 MiB today, 1 GiB of 2 GiB this month, 3 GiB by its end at this pace, spent by 2026-11-24; waiting for the budget of the next day; alerts go on with what is kept for them

watched series: 3
  t\u{1b}[2J temp: temperature, and a limit (the word)
  and 2 more

series that are not watched: 1
  t\u{1b}[2J lat: off (a position)

devices with a wrong clock: 2
  x: 90.0 s behind
  y: not set

topics without a route: 1
  a/b
  to store what is a number or JSON there, add to the configuration, and restart:
    [[route]]
    topic = "a/{device}"

kinds of payloads that could not be decoded: 1
  c (5): "22.5"
    no number; add:
    numbers = "lenient"
"#;
        assert_eq!(status.to_string(), expected);
    }
}

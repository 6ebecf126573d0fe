//! The fake cloud as a program of its own: prints one line when it is ready, then serves until a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fake_cloud::{FakeCloud, Faults, Limits, Mode, Settings, ShardLimits, StreamSettings};
use serde_json::{Map, Value, json};

/// A strict Kinesis (and Firehose, for PutRecordBatch) on this machine: enforces the limits of the service, injects faults, counts what arrives.
///
/// Point a producer at it with AWS_ENDPOINT_URL=http://127.0.0.1:4567 and any credentials. When it listens it prints
/// one line, {"event":"ready","address":"IP:PORT"}, and serves until SIGINT or SIGTERM.
#[derive(Parser)]
#[command(version, after_help = HELP)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:4567")]
    listen: SocketAddr,
    /// A stream and its number of shards; it is unknown until SECONDS after the start, if given. May be repeated
    #[arg(long = "stream", value_name = "NAME:SHARDS[:SECONDS]", value_parser = parse_stream)]
    streams: Vec<(String, u32, Duration)>,
    /// count: counts in bounded memory. keep: keeps every record too, for GetRecords
    #[arg(long, value_enum, default_value = "count")]
    mode: ModeArgument,
    /// Records per second that one shard accepts, or "unlimited"
    #[arg(long, default_value = "1000", value_parser = parse_limit)]
    shard_records_per_second: Limit,
    /// Bytes per second that one shard accepts, or "unlimited"
    #[arg(long, default_value = "1048576", value_parser = parse_limit)]
    shard_bytes_per_second: Limit,
    /// Most bytes of one request
    #[arg(long, default_value_t = 5 * 1024 * 1024, value_parser = clap::value_parser!(u32).range(1_024..=10 * 1024 * 1024))]
    request_bytes_max: u32,
    /// A fault, such as record_throttled=0.1. May be repeated
    #[arg(long = "fault", value_name = "NAME=VALUE", value_parser = parse_fault)]
    faults: Vec<(String, Value)>,
    /// Seed of the faults: the same seed and requests give the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const HELP: &str = "\
Faults (fractions from 0 to 1, default 0):
  of records   record_throttled, record_internal_failure
  of requests  request_throttled, limit_exceeded, reply_lost, server_error, service_unavailable, hang,
               expired_token, access_denied, kms_throttled, kms_access_denied, kms_disabled,
               invalid_kms_resource, invalid_source
  others       hang_ms=N, latency_ms=N, clock_offset_ms=N, skew_code=InvalidSignatureException|RequestExpired,
               poison_marker=TEXT, expired_access_keys=[\"AKID\"], reset_connections=true, shuffle_records=true

Admin, over HTTP on the same port:
  GET  /fake/stats     requests, and by stream: records, distinct, duplicates, latency, order, shards; faults; CPU
  GET  /fake/faults    the faults in force
  POST /fake/faults    replaces them all: {\"record_throttled\":0.1}
  POST /fake/offline   refuses connections for a while: {\"seconds\":8}
  POST /fake/reset     forgets records and counts

Example:
  fake-cloud --stream fleet-raw:4 --stream fleet-anomalies:1 --fault reply_lost=0.2";

#[derive(Clone, Copy, ValueEnum)]
enum ModeArgument {
    Count,
    Keep,
}

#[derive(Clone, Copy)]
struct Limit(Option<u64>);

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text.parse::<u64>() {
        _ if text == "unlimited" => Ok(Limit(None)),
        Ok(limit) if limit > 0 => Ok(Limit(Some(limit))),
        _ => Err("must be a number from 1 on, or \"unlimited\"".to_owned()),
    }
}

fn parse_stream(text: &str) -> Result<(String, u32, Duration), String> {
    let wrong =
        || format!("must be NAME:SHARDS or NAME:SHARDS:SECONDS, SHARDS from 1 to {}", StreamSettings::SHARDS_MAX);
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(shards)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let shards = shards.parse().map_err(|_| wrong())?;
    let seconds: f64 = parts.next().map_or(Ok(0.0), str::parse).map_err(|_| wrong())?;
    let appears_after = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    Ok((name.to_owned(), shards, appears_after))
}

/// The value as JSON if it is valid JSON, otherwise as text.
fn parse_fault(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

impl Arguments {
    fn settings(self) -> Result<Settings, serde_json::Error> {
        let faults: Faults = serde_json::from_value(Value::Object(Map::from_iter(self.faults)))?;
        let shard_limits = ShardLimits {
            records_per_second: self.shard_records_per_second.0,
            bytes_per_second: self.shard_bytes_per_second.0,
        };
        let stream = |(name, shards, appears_after)| StreamSettings { name, shards, shard_limits, appears_after };
        Ok(Settings {
            listen: self.listen,
            mode: match self.mode {
                ModeArgument::Count => Mode::Count,
                ModeArgument::Keep => Mode::Keep,
            },
            limits: Limits { request_bytes: self.request_bytes_max as usize, ..Limits::default() },
            shard_limits,
            streams: self.streams.into_iter().map(stream).collect(),
            faults,
            seed: self.seed,
        })
    }
}

fn main() -> ExitCode {
    let settings = match Arguments::parse().settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("fake-cloud: --fault: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake-cloud: {error}");
            ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}

fn serve(settings: Settings) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let cloud = FakeCloud::start(settings).await?;
        writeln!(io::stdout(), "{}", json!({"event": "ready", "address": cloud.address().to_string()}))?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })
}

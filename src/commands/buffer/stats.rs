//! `outrider buffer stats`: what waits for each sink.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::admin::ledger::{self, LedgerLine};
use crate::clock;
use crate::commands::operate::Place;
use crate::config::Configuration;
use crate::core::identity::Stream;
use crate::keys::units::{approximate_duration, approximate_size};
use crate::store::held::{self, Extent};
use crate::store::reader::Reader;
use crate::store::{retention, streams};

/// Over a shorter time than this a rate says nothing.
const RATE_OVER_MS_MIN: i64 = 60_000;
const DAY_MS: f64 = 86_400_000.0;

#[derive(Debug, Args)]
pub struct StatsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Serialize)]
struct Stats {
    store: Used,
    streams: Vec<OfStream>,
    sinks: Vec<OfSink>,
}

#[derive(Debug, Serialize)]
struct Used {
    bytes: u64,
    bytes_max: u64,
    /// How long what is free lasts at the rate of what is held; `None` if it is held for too short a time to tell.
    room_days: Option<f64>,
}

/// What is held of a stream, delivered or not.
#[derive(Debug, Serialize)]
struct OfStream {
    stream: String,
    #[serde(flatten)]
    held: Extent,
}

/// What waits for a sink.
#[derive(Debug, Serialize)]
struct OfSink {
    sink: String,
    stream: String,
    records: u64,
    /// Of the batches that hold them, compressed. Others may want these, too.
    bytes: u64,
    oldest_ms: Option<i64>,
    dead_lettered: u64,
}

pub fn command(arguments: &StatsArguments) -> ExitCode {
    let (configuration, mut reader) = match super::open(&arguments.place) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    match look(&configuration, &mut reader) {
        Ok(stats) => {
            let text = match arguments.json {
                true => serde_json::to_string_pretty(&stats).expect("plain data") + "\n",
                false => stats.text(clock::now_ms()),
            };
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => super::unreadable(&configuration, error),
    }
}

fn look(configuration: &Configuration, reader: &mut Reader) -> rusqlite::Result<Stats> {
    let db = reader.connection();
    let known = streams::load(db)?;
    let of_streams = known
        .rows()
        .iter()
        .map(|row| Ok(OfStream { stream: row.name.to_string(), held: held::extent_behind(db, row.stream, 0)? }));
    let of_streams = of_streams.collect::<rusqlite::Result<Vec<_>>>()?;
    let stream = |name: &str| known.rows().iter().find(|row| *row.name == *name).map(|row| row.stream);
    let mut sinks = Vec::new();
    for line in ledger::ledger(db)? {
        sinks.push(of_sink(db, &line, stream(&line.stream))?);
    }
    let bytes = retention::used_bytes(db)?;
    let bytes_max = configuration.capacity().map_or(0, |capacity| capacity.bytes_max);
    let room_days = room_days(bytes_max.saturating_sub(bytes), &of_streams);
    Ok(Stats { store: Used { bytes, bytes_max, room_days }, streams: of_streams, sinks })
}

fn of_sink(db: &rusqlite::Connection, line: &LedgerLine, stream: Option<Stream>) -> rusqlite::Result<OfSink> {
    let behind = match stream.filter(|_| line.buffered > 0) {
        Some(stream) => held::extent_behind(db, stream, line.cursor)?,
        None => Extent::default(),
    };
    Ok(OfSink {
        sink: line.sink.clone(),
        stream: line.stream.clone(),
        records: line.buffered,
        bytes: behind.bytes,
        oldest_ms: behind.first_ms,
        dead_lettered: line.dead_lettered,
    })
}

/// By what was stored between the first and the last record of each stream.
fn room_days(free: u64, streams: &[OfStream]) -> Option<f64> {
    let rates = streams.iter().filter_map(|OfStream { held, .. }| {
        let over_ms = held.last_ms?.saturating_sub(held.first_ms?);
        (over_ms >= RATE_OVER_MS_MIN).then(|| held.bytes as f64 / over_ms as f64)
    });
    let bytes_a_ms: f64 = rates.sum();
    (bytes_a_ms > 0.0).then(|| (free as f64 / bytes_a_ms / DAY_MS * 10.0).round() / 10.0)
}

impl Stats {
    fn text(&self, now_ms: i64) -> String {
        let Used { bytes, bytes_max, room_days } = &self.store;
        let room = room_days.map_or(String::new(), |days| format!(", room for {days} days more at this rate"));
        let mut text = format!("store: {} of {}{room}\n", approximate_size(*bytes), approximate_size(*bytes_max));
        let _ = writeln!(text, "{:24} {:>12} {:>10}  oldest", "held", "records", "bytes");
        let age = |ms: Option<i64>| match ms {
            Some(ms) => approximate_duration(Duration::from_millis((now_ms - ms).max(0).unsigned_abs())),
            None => "-".to_owned(),
        };
        for OfStream { stream, held } in &self.streams {
            let Extent { records, bytes, first_ms, .. } = held;
            let _ = writeln!(text, "{stream:24} {records:>12} {:>10}  {}", approximate_size(*bytes), age(*first_ms));
        }
        let _ = writeln!(text, "{:24} {:>12} {:>10}  oldest", "waiting for", "records", "bytes");
        for OfSink { sink, stream, records, bytes, oldest_ms, dead_lettered } in &self.sinks {
            let name = format!("{sink} {stream}");
            let size = approximate_size(*bytes);
            let dead = match dead_lettered {
                0 => String::new(),
                count => format!("; {count} dead letters"),
            };
            let _ = writeln!(text, "{name:24} {records:>12} {size:>10}  {}{dead}", age(*oldest_ms));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_by_the_rate_of_what_is_held() {
        let of = |bytes, first_ms, last_ms| OfStream {
            stream: "raw".to_owned(),
            held: Extent { records: 1, batches: 1, bytes, first_ms: Some(first_ms), last_ms: Some(last_ms) },
        };
        assert_eq!(room_days(0, &[]), None);
        assert_eq!(room_days(1 << 20, &[of(1_000, 0, 59_999)]), None, "too short");
        // 1 MB in an hour is 24 MB a day.
        assert_eq!(room_days(48_000_000, &[of(1_000_000, 0, 3_600_000)]), Some(2.0));
        assert_eq!(room_days(48_000_000, &[of(500_000, 0, 3_600_000), of(500_000, 0, 3_600_000)]), Some(2.0));
    }
}

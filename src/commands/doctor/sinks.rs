//! The sinks: whether each can be reached and would be let in, what waits for it, and what it said last.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::LocalSet;

use super::{Case, Task};
use crate::admin::ledger::{self, LedgerLine};
use crate::admin::status::drop_command;
use crate::clock;
use crate::counter::many;
use crate::finding::Finding;
use crate::keys::units::approximate_duration;
use crate::sinks::kind::SinkSettings;
use crate::sinks::probe::Probing;
use crate::store::reader::Reader;
use crate::store::schema::store_path;
use crate::store::{held, streams};

/// What waits for longer than this is told as a warning; the slowest sink keeps its records for a quarter of an hour by default.
const WAITS_LONG: Duration = Duration::from_secs(2 * 3600);

pub fn tasks(case: &Arc<Case>) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for sink in &case.configuration.sinks {
        let (shared, sink) = (Arc::clone(case), sink.clone());
        tasks.push(Task::new(format!("sink {}", sink.name), move || probe(&shared, &sink)));
    }
    let shared = Arc::clone(case);
    tasks.push(Task::new("delivery", move || delivery(&shared)));
    tasks
}

/// Asks the sink itself.
fn probe(case: &Case, sink: &SinkSettings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::skipped(format!("it cannot be tried: {error}"))],
    };
    let probing = Probing {
        gateway_id: case.configuration.gateway_id.clone(),
        free_bytes_min: case.configuration.capacity().map(|capacity| capacity.free_bytes_min).unwrap_or(0),
    };
    let findings = LocalSet::new().block_on(&runtime, sink.sink.probe(&probing));
    // Names that are still looked up are not waited for.
    runtime.shutdown_background();
    findings
}

/// What waits for each sink and stream, in the store, and why not more is delivered.
fn delivery(case: &Case) -> Vec<Finding> {
    let path = store_path(&case.configuration.store.folder);
    if !path.exists() {
        return vec![Finding::skipped("nothing is stored yet")];
    }
    let lines = match waiting(&path) {
        Ok(lines) => lines,
        Err(text) => return vec![Finding::skipped(format!("what waits is not known: {text}"))],
    };
    let status = case.running.answers().map_or(&Value::Null, |answers| &answers.status);
    let now_ms = clock::now_ms();
    let is_configured = |line: &LedgerLine| {
        case.configuration.sinks.iter().any(|sink| sink.name == line.sink && sink.takes(&line.stream))
    };
    let findings: Vec<Finding> = lines
        .iter()
        .map(|(line, oldest_ms)| of_line(line, *oldest_ms, is_configured(line), (status, now_ms)))
        .collect();
    match findings.is_empty() {
        true => vec![Finding::skipped("no sink has run yet")],
        false => findings,
    }
}

/// The ledger, and of each line when the oldest record came that is not delivered.
fn waiting(path: &std::path::Path) -> Result<Vec<(LedgerLine, Option<i64>)>, String> {
    let mut reader = Reader::open(path, None).map_err(|error| crate::errors::with_causes(&error))?;
    let db = reader.connection();
    let read = || -> rusqlite::Result<_> {
        let known = streams::load(db)?;
        let stream = |name: &str| known.rows().iter().find(|row| *row.name == *name).map(|row| row.stream);
        let mut lines = Vec::new();
        for line in ledger::ledger(db)? {
            let oldest = match stream(&line.stream).filter(|_| line.buffered > 0) {
                Some(stream) => held::first_behind(db, stream, line.cursor)?.map(|held| held.first_ms),
                None => None,
            };
            lines.push((line, oldest));
        }
        Ok(lines)
    };
    read().map_err(|error| error.to_string())
}

fn of_line(line: &LedgerLine, oldest_ms: Option<i64>, is_configured: bool, (status, now_ms): (&Value, i64)) -> Finding {
    let LedgerLine { sink, stream, buffered, delivered, dead_lettered, .. } = line;
    let age = oldest_ms.map(|oldest_ms| Duration::from_millis((now_ms - oldest_ms).max(0).unsigned_abs()));
    let mut found = format!("{stream} to {sink}: {delivered} delivered, {} waiting", many(*buffered, "record"));
    if let Some(age) = age {
        found += &format!(", the oldest for {}", approximate_duration(age));
    }
    if *dead_lettered > 0 {
        found += &format!(", {} refused for good (outrider buffer dead-letters list)", many(*dead_lettered, "record"));
    }
    if !is_configured {
        if *buffered == 0 {
            return Finding::well(format!("{found}; the configuration does not name it any more"));
        }
        let remedy = format!("name it again, or {}", drop_command(sink));
        return Finding::warning(format!("{found}; the configuration does not name it any more"), remedy);
    }
    let sinks = status["sinks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_it = sinks.iter().find(|one| one["name"] == sink.as_str() && one["stream"] == stream.as_str());
    if let Some(error) = of_it.and_then(|sink| sink["last_error"].as_str()) {
        return Finding::bad(format!("{found}; {error}"), "mend that; what waits is delivered then");
    }
    match age {
        Some(age) if age > WAITS_LONG => {
            Finding::warning(found, "look whether the gateway runs, and whether the link takes as much as comes")
        }
        _ => Finding::well(found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn what_waits_is_told_with_its_age_and_the_last_error() {
        let line = LedgerLine {
            stream: "raw".to_owned(),
            sink: "cloud".to_owned(),
            accepted: 7,
            delivered: 5,
            buffered: 2,
            ..LedgerLine::default()
        };
        let of = |line: &LedgerLine, age_ms: i64, is_configured, status: &Value| {
            of_line(line, Some(1_000_000_000 - age_ms), is_configured, (status, 1_000_000_000))
        };
        let fresh = of(&line, 3_000, true, &Value::Null);
        assert_eq!(
            (fresh.verdict, fresh.found.as_str()),
            (Verdict::Well, "raw to cloud: 5 delivered, 2 records waiting, the oldest for 3 s")
        );
        assert_eq!(of(&line, 10_000_000, true, &Value::Null).verdict, Verdict::Warning);
        let failing = json!({ "sinks": [{ "name": "cloud", "stream": "raw", "last_error": "no link" }] });
        let found = of(&line, 3_000, true, &failing);
        assert!(found.verdict == Verdict::Bad && found.found.ends_with("no link"), "{found:?}");
        let left = of(&line, 3_000, false, &Value::Null);
        assert!(
            left.verdict == Verdict::Warning
                && left.remedy.is_some_and(|remedy| remedy.ends_with("outrider sinks drop cloud"))
        );
        assert_eq!(of(&LedgerLine { buffered: 0, ..line }, 0, false, &Value::Null).verdict, Verdict::Well);
    }
}

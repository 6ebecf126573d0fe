//! Points by line protocol, to InfluxDB 1, 2 and 3 and to VictoriaMetrics.
//!
//! A point is known by its series and its time, so one that is written again takes its own place, and a lost answer costs nothing. That is also how the
//! points are found that a server refuses among others: they are written again in smaller groups.
//!
//! Deliberately absent: Prometheus remote write, OTLP, and the metrics of Datadog and New Relic. They refuse or drop what is late, which is what a gateway has after
//! each hour without a link.

mod answer;
mod line;
mod pause;
mod points;
mod refusals;
mod server;
mod sieve;
pub mod sink;
mod target;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use tokio::time::Instant;

use answer::Verdict;
use pause::Pause;
use points::{Form, Points};
use refusals::Refusals;
use sieve::{Fate, Sieve};
use target::InfluxTarget;

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason, Scope};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;
use crate::sinks::http::client::{Client, Question};

/// InfluxDB 3 names each line that it refuses. An answer that is cut off is no JSON, and then the lines are found as with the others.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Writes one stream of the store.
pub struct InfluxSink {
    client: Client,
    /// Where points are posted.
    path: String,
    form: Form,
    compression: Compression,
    refusals: RefCell<Refusals>,
    pause: RefCell<Pause>,
}

impl InfluxSink {
    pub fn new(client: Client, target: &InfluxTarget) -> InfluxSink {
        InfluxSink {
            client,
            path: target.place.write_path(),
            form: target.form.clone(),
            compression: target.compression,
            refusals: RefCell::default(),
            pause: RefCell::default(),
        }
    }

    async fn write(&self, body: Vec<u8>, points: usize) -> Verdict {
        let body = match self.compression.compress(body) {
            Ok(body) => body,
            Err(error) => {
                let reason = format!("cannot compress: {error}");
                return Verdict::Whole(Outcome::Later { reason, after_us: None });
            }
        };
        let question = Question {
            method: "POST",
            path: &self.path,
            headers: &[("content-type", CONTENT_TYPE.to_owned())],
            encoding: self.compression.encoding(),
            body,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match self.client.ask(question).await {
            Ok(answered) => answer::of(answered.shown, points),
            Err(outcome) => Verdict::Whole(outcome),
        }
    }
}

impl Sink for InfluxSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        if let Some(later) = self.pause.borrow_mut().left(Instant::now()) {
            return Reply::whole(later, records.len());
        }
        let points = self.form.points(&records);
        let mut sieve = Sieve::new(points.points.iter().map(|point| point.time));
        while let Some(group) = sieve.next() {
            let verdict = self.write(points.body_of(&group), group.len()).await;
            sieve.note(group, verdict);
        }
        let (fates, stopped) = sieve.end();
        self.pause.borrow_mut().note(stopped.as_ref(), Instant::now());
        let is_any_stored = fates.contains(&Fate::Stored);
        let is_one_line = |record: &OutgoingRecord| record.data.split_inclusive(|byte| *byte == b'\n').count() == 1;
        let lines_alone: Vec<bool> = records.iter().map(is_one_line).collect();
        self.refusals.borrow_mut().judge(reply(&points, &fates, stopped), is_any_stored, &lines_alone)
    }
}

/// What became of the points of a record.
#[derive(Clone, Default)]
struct Tally<'a> {
    stored: usize,
    unknown: usize,
    too_old: Option<&'a str>,
    refused: Option<&'a str>,
}

/// What became of the records, given what became of their points.
fn reply(points: &Points, fates: &[Fate], stopped: Option<Outcome>) -> Reply {
    let records = points.passed_over.len();
    let is_nothing_known = fates.iter().all(|fate| *fate == Fate::Unknown);
    let rest = match stopped {
        Some(outcome) if is_nothing_known => return Reply::whole(outcome, records),
        // It was small enough to be refused for something else a moment ago.
        Some(Outcome::TooLarge(_)) | None => Outcome::Retry(RetryReason::Internal),
        Some(outcome) => outcome,
    };
    let mut tallies = vec![Tally::default(); records];
    for (point, fate) in points.points.iter().zip(fates) {
        let tally = &mut tallies[point.record];
        match fate {
            Fate::Stored => tally.stored += 1,
            Fate::TooOld(said) => tally.too_old = Some(said),
            Fate::Refused(said) => tally.refused = Some(said),
            Fate::Unknown => tally.unknown += 1,
        }
    }
    let outcome = |(tally, passed_over): (&Tally<'_>, &u64)| match tally {
        Tally { refused: None, too_old: None, unknown: 0, .. } => Outcome::Accepted { shard: None },
        Tally { refused: None, too_old: None, .. } => rest.clone(),
        Tally { refused: None, too_old: Some(said), stored: 0, unknown: 0 } if *passed_over == 0 => {
            Outcome::RejectLines((*said).to_owned())
        }
        // It is halved, so that in the end only what is refused is given up.
        Tally { refused: Some(said), .. } | Tally { too_old: Some(said), .. } => Outcome::Reject((*said).to_owned()),
    };
    let outcomes: Vec<Outcome> = tallies.iter().zip(&points.passed_over).map(outcome).collect();
    let is_accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted { .. });
    let taken = outcomes.iter().zip(&points.passed_over).filter(|(outcome, _)| is_accepted(outcome));
    let passed_over = taken.map(|(_, passed_over)| passed_over).sum();
    Reply { scope: Scope::Records, outcomes, passed_over }
}

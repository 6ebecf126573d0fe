//! Points by line protocol, to InfluxDB 1, 2 and 3 and to VictoriaMetrics.
//!
//! A point is known by its series and its time, so one that is written again takes its own place, and a lost answer costs nothing. That is also how the
//! points are found that a server refuses among others: they are written again in smaller groups.
//!
//! Deliberately absent: Prometheus remote write, OTLP, and the metrics of Datadog and New Relic. They refuse or drop what is late, which is what a gateway has after
//! each hour without a link.

mod answer;
mod line;
mod points;
mod server;
mod sieve;
pub mod sink;
mod target;

use answer::Verdict;
use points::{Form, Points};
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
}

impl InfluxSink {
    pub fn new(client: Client, target: &InfluxTarget) -> InfluxSink {
        InfluxSink { client, path: target.place.write_path(), form: target.form.clone(), compression: target.compression }
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
        let points = self.form.points(&records);
        let mut sieve = Sieve::new(points.points.iter().map(|point| point.time));
        while let Some(group) = sieve.next() {
            let verdict = self.write(points.body_of(&group), group.len()).await;
            sieve.note(group, verdict);
        }
        let (fates, stopped) = sieve.end();
        reply(&points, &fates, stopped)
    }
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
    let mut outcomes = vec![Outcome::Accepted { shard: None }; records];
    for (point, fate) in points.points.iter().zip(fates) {
        let outcome = &mut outcomes[point.record];
        match fate {
            Fate::Stored => {}
            // Of several lines it is halved, so that in the end the one is given up that is to blame.
            Fate::Refused(said) => *outcome = Outcome::Reject(said.clone()),
            Fate::Unknown if *outcome == (Outcome::Accepted { shard: None }) => *outcome = rest.clone(),
            Fate::Unknown => {}
        }
    }
    let is_accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted { .. });
    let taken = outcomes.iter().zip(&points.passed_over).filter(|(outcome, _)| is_accepted(outcome));
    let passed_over = taken.map(|(_, passed_over)| passed_over).sum();
    Reply { scope: Scope::Records, outcomes, passed_over }
}

#[cfg(test)]
mod tests {
    use super::points::Point;
    use super::*;

    const ACCEPTED: Outcome = Outcome::Accepted { shard: None };

    /// Points of the records 0, 0, 1 and 2; record 3 has none.
    fn four() -> Points {
        let point = |record| Point { range: 0..0, record, time: 0 };
        Points { points: vec![point(0), point(0), point(1), point(2)], passed_over: vec![1, 2, 4, 8], body: Vec::new() }
    }

    #[test]
    fn a_record_is_done_with_when_all_of_its_points_are() {
        let refused = || Fate::Refused("old".to_owned());
        let all = reply(&four(), &[Fate::Stored, Fate::Stored, Fate::Stored, Fate::Stored], None);
        assert_eq!((all.outcomes, all.passed_over), (vec![ACCEPTED; 4], 15));
        let later = Outcome::Later { reason: "busy".to_owned(), after_us: None };
        let some = reply(&four(), &[Fate::Stored, Fate::Unknown, refused(), Fate::Stored], Some(later.clone()));
        assert_eq!(some.outcomes, [later.clone(), Outcome::Reject("old".to_owned()), ACCEPTED, ACCEPTED]);
        assert_eq!((some.scope, some.passed_over), (Scope::Records, 12));
        // What is refused is found by halving its record.
        let halved = reply(&four(), &[refused(), Fate::Unknown, Fate::Stored, Fate::Stored], Some(later.clone()));
        assert_eq!(halved.outcomes[0], Outcome::Reject("old".to_owned()));
        let too_large = Some(Outcome::TooLarge("413".to_owned()));
        let smaller = reply(&four(), &[Fate::Stored, Fate::Unknown, Fate::Stored, Fate::Stored], too_large);
        assert_eq!(smaller.outcomes[0], Outcome::Retry(RetryReason::Internal));
    }

    #[test]
    fn what_was_said_of_the_whole_request_is_said_of_the_whole_request() {
        for outcome in [Outcome::Halt("401".to_owned()), Outcome::TooLarge("413".to_owned())] {
            let whole = reply(&four(), &vec![Fate::Unknown; 4], Some(outcome.clone()));
            assert_eq!(whole, Reply::whole(outcome, 4));
        }
        let nothing = Points { passed_over: vec![3], ..Points::default() };
        assert_eq!(reply(&nothing, &[], None), Reply { scope: Scope::Records, outcomes: vec![ACCEPTED], passed_over: 3 });
    }
}

//! Records of the delivery, which hold many documents, and requests of the service, which answers for each document.
//!
//! A record of which one document is refused is halved by the delivery until that one is alone. What the service has said of the others is
//! remembered meanwhile, so that none of them is sent a second time, and the dead letter has the words that were said of it.
//!
//! Where mostly refusals come back, it is not the documents that are to blame, but the mapping that they meet. Then none is given up, and the
//! sink halts until somebody has mended it.

use std::collections::HashMap;
use std::time::Instant;

use super::document::{Document, RecordKey};
use super::index::IndexNames;
use super::outcome::Verdict;
use super::refusals::Refusals;
use super::shut::ShutIndices;
use crate::core::delivery::{Outcome, OutgoingRecord, Reply, Scope};

/// Most verdicts that are remembered. When there are more, all are forgotten: what was stored is then sent again, and known by its id.
const KNOWN_MAX: usize = 16_384;

/// What the service has said of documents whose record is not done with.
#[derive(Debug, Default)]
pub struct Known {
    said: HashMap<RecordKey, Said>,
    refusals: Refusals,
    shut: ShutIndices,
}

/// What holds for good.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Accepted,
    Rejected(String),
}

/// One request, and what becomes of the records in it.
#[derive(Debug, Default)]
pub struct Batch {
    /// The documents of which nothing is known, with their ids.
    pub body: Vec<u8>,
    pub ids: Vec<String>,
    /// Of each of them, whether its index is of a time that is over.
    over: Vec<bool>,
    records: Vec<Vec<Line>>,
}

#[derive(Debug)]
struct Line {
    key: Option<RecordKey>,
    /// `None`: it is in the body, and the answer says it.
    verdict: Option<Verdict>,
}

impl Batch {
    /// `now_ms` tells which indices are of a time that is over.
    pub fn of(records: &[OutgoingRecord], stream: &str, index: &IndexNames, known: &Known, now_ms: i64) -> Batch {
        let mut batch = Batch::default();
        for record in records {
            let lines = record.data.split_inclusive(|byte| *byte == b'\n');
            let lines = lines.map(|line| batch.add(line, stream, index, known, now_ms)).collect();
            batch.records.push(lines);
        }
        batch
    }

    fn add(&mut self, line: &[u8], stream: &str, index: &IndexNames, known: &Known, now_ms: i64) -> Line {
        let Some(document) = Document::of(line, stream) else {
            return Line { key: None, verdict: Some(Verdict::Rejected("not a record of a gateway".to_owned())) };
        };
        let key = Some(document.key);
        if let Some(said) = known.said.get(&document.key) {
            let verdict = match said {
                Said::Accepted => Verdict::Accepted,
                Said::Rejected(reason) => Verdict::Rejected(reason.clone()),
            };
            return Line { key, verdict: Some(verdict) };
        }
        document.write(&mut self.body, index);
        self.over.push(index.is_over(document.received_at_ms, now_ms));
        self.ids.push(document.id);
        Line { key, verdict: None }
    }

    /// What the answer means for each record. `verdicts` are those of the documents in the body, in their order.
    pub fn reply(self, mut verdicts: Vec<Verdict>, known: &mut Known, now: Instant) -> Reply {
        assert_eq!(verdicts.len(), self.ids.len(), "there is one for each document");
        known.judge(&mut verdicts, &self.over, now);
        let count = self.records.len();
        let mut answered = verdicts.into_iter();
        let records: Vec<Vec<(Option<RecordKey>, Verdict)>> = self
            .records
            .into_iter()
            .map(|lines| {
                let verdict = |line: Line| (line.key, line.verdict.or_else(|| answered.next()).expect("one for each"));
                lines.into_iter().map(verdict).collect()
            })
            .collect();
        let of_all = if self.ids.is_empty() { None } else { of_all(&records) };
        let outcomes = records.into_iter().map(|lines| known.settle(lines)).collect();
        match of_all {
            Some(outcome) => Reply::whole(outcome, count),
            None => Reply { scope: Scope::Records, outcomes, passed_over: 0 },
        }
    }
}

/// The outcome of a request of which nothing came through.
fn of_all(records: &[Vec<(Option<RecordKey>, Verdict)>]) -> Option<Outcome> {
    if records.iter().flatten().any(|(_, verdict)| *verdict == Verdict::Accepted) {
        return None;
    }
    let gravest: Vec<&Verdict> = records.iter().filter_map(|lines| gravest(lines)).collect();
    if gravest.iter().any(|verdict| matches!(verdict, Verdict::Rejected(_) | Verdict::GivenUp(_))) {
        return None;
    }
    match gravest.iter().rev().max_by_key(|verdict| rank(verdict))? {
        Verdict::Waits(_, reason) => Some(Outcome::Later { reason: reason.clone(), after_us: None }),
        Verdict::Halted(reason) => Some(Outcome::Halt(reason.clone())),
        Verdict::Rejected(_) | Verdict::GivenUp(_) | Verdict::Accepted | Verdict::Shut(_) => None,
    }
}

fn gravest(lines: &[(Option<RecordKey>, Verdict)]) -> Option<&Verdict> {
    // Of several that are equally grave, the first.
    lines.iter().rev().map(|(_, verdict)| verdict).max_by_key(|verdict| rank(verdict))
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Accepted => Outcome::Accepted { shard: None },
        Verdict::Rejected(reason) | Verdict::GivenUp(reason) => Outcome::Reject(reason),
        Verdict::Waits(reason, _) => Outcome::Retry(reason),
        Verdict::Halted(reason) => Outcome::Halt(reason),
        Verdict::Shut(_) => unreachable!("it was judged"),
    }
}

/// Which verdict on a document decides for its record: what waits must not be given up, and what is refused must not be passed over.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Accepted => 0,
        Verdict::Rejected(_) | Verdict::GivenUp(_) => 1,
        Verdict::Waits(..) => 2,
        Verdict::Halted(_) | Verdict::Shut(_) => 3,
    }
}

impl Known {
    /// What an answer refuses waits for somebody instead, if too much is refused; what is for an index that is shut waits, if not for ever. `over` tells of each document
    /// whether its index is of a time that is over.
    fn judge(&mut self, verdicts: &mut [Verdict], over: &[bool], now: Instant) {
        for (verdict, is_over) in verdicts.iter_mut().zip(over) {
            if let Verdict::Shut(shut) = verdict {
                *verdict = self.shut.judge(shut.clone(), *is_over, now);
            }
        }
        let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
        let refused = count(|verdict| matches!(verdict, Verdict::Rejected(_)));
        if self.refusals.may_give_up(refused, count(|verdict| *verdict == Verdict::Accepted)) {
            return;
        }
        for verdict in verdicts {
            if let Verdict::Rejected(reason) = verdict {
                *verdict = Verdict::Halted(format!(
                    "more documents are refused than taken, so it is not the fault of single ones: {reason}"
                ));
            }
        }
    }

    /// The outcome of one record. What is said for good is remembered as long as the record is not done with.
    fn settle(&mut self, lines: Vec<(Option<RecordKey>, Verdict)>) -> Outcome {
        let is_single = lines.len() == 1;
        let are_given_up = lines.iter().all(|(_, verdict)| matches!(verdict, Verdict::GivenUp(_)));
        let outcome = match gravest(&lines) {
            None => Outcome::Accepted { shard: None },
            // None of them is to be looked for, and how many there are proves nothing.
            Some(Verdict::GivenUp(reason)) if are_given_up => Outcome::RejectLines(reason.clone()),
            Some(verdict) => outcome(verdict.clone()),
        };
        let is_done = match outcome {
            Outcome::Accepted { .. } | Outcome::RejectLines(_) => true,
            Outcome::Reject(_) => is_single,
            _ => false,
        };
        for (key, verdict) in lines {
            let Some(key) = key else { continue };
            let said = match verdict {
                _ if is_done => None,
                Verdict::Accepted => Some(Said::Accepted),
                Verdict::Rejected(reason) => Some(Said::Rejected(reason)),
                Verdict::Waits(..) | Verdict::Halted(_) | Verdict::GivenUp(_) | Verdict::Shut(_) => None,
            };
            match said {
                Some(said) => self.remember(key, said),
                None => drop(self.said.remove(&key)),
            }
        }
        outcome
    }

    fn remember(&mut self, key: RecordKey, said: Said) {
        if self.said.len() >= KNOWN_MAX {
            self.said.clear();
        }
        self.said.insert(key, said);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::delivery::RetryReason;
    use crate::sinks::opensearch::index::IndexTemplate;
    use crate::sinks::opensearch::outcome::Shut;

    /// In the hour of all records.
    const NOW_MS: i64 = 6;

    fn record(positions: &[u64]) -> OutgoingRecord {
        let line = |position: &u64| {
            format!("{{\"gateway\":\"g\",\"run\":\"7f\",\"position\":{position},\"received_at_ms\":5}}\n")
        };
        OutgoingRecord { device: Arc::from("d"), data: positions.iter().map(line).collect::<String>().into() }
    }

    fn batch(records: &[&[u64]], known: &Known) -> Batch {
        let index = IndexTemplate::parse("a").expect("right").names("raw");
        let records: Vec<OutgoingRecord> = records.iter().map(|positions| record(positions)).collect();
        Batch::of(&records, "raw", &index, known, NOW_MS)
    }

    fn sent(batch: &Batch) -> Vec<&str> {
        batch.ids.iter().map(|id| id.rsplit('.').next().unwrap_or_default()).collect()
    }

    fn rejected(reason: &str) -> Verdict {
        Verdict::Rejected(reason.to_owned())
    }

    fn waits() -> Verdict {
        Verdict::Waits(RetryReason::Throttled, "busy".to_owned())
    }

    const ACCEPTED: Outcome = Outcome::Accepted { shard: None };

    /// The whole way of a document that is refused among others, as the delivery goes it.
    #[test]
    fn of_a_record_with_one_that_is_refused_nothing_is_sent_twice() {
        let mut known = Known::default();
        let first = batch(&[&[1, 2, 3, 4], &[5]], &known);
        assert_eq!(sent(&first), ["1", "2", "3", "4", "5"]);
        let verdicts =
            vec![Verdict::Accepted, Verdict::Accepted, rejected("why"), Verdict::Accepted, Verdict::Accepted];
        let reply = first.reply(verdicts, &mut known, Instant::now());
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![Outcome::Reject("why".to_owned()), ACCEPTED]));
        for (half, outcome) in [
            (&[1, 2][..], ACCEPTED),
            (&[3, 4], Outcome::Reject("why".to_owned())),
            (&[3], Outcome::Reject("why".to_owned())),
            (&[4], ACCEPTED),
        ] {
            let again = batch(&[half], &known);
            assert_eq!(sent(&again), Vec::<&str>::new(), "{half:?}");
            let reply = again.reply(Vec::new(), &mut known, Instant::now());
            assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![outcome]), "{half:?}");
        }
        assert!(known.said.is_empty(), "{known:?}");
        // A dead letter that an operator sends again is sent.
        assert_eq!(sent(&batch(&[&[3]], &known)), ["3"]);
    }

    #[test]
    fn of_a_record_only_what_waits_is_sent_again() {
        let mut known = Known::default();
        let reply = batch(&[&[1, 2, 3], &[4]], &known).reply(
            vec![Verdict::Accepted, waits(), rejected("why"), Verdict::Accepted],
            &mut known,
            Instant::now(),
        );
        assert_eq!(reply.outcomes, [Outcome::Retry(RetryReason::Throttled), ACCEPTED]);
        let again = batch(&[&[1, 2, 3]], &known);
        assert_eq!(sent(&again), ["2"]);
        let reply = again.reply(vec![Verdict::Accepted], &mut known, Instant::now());
        assert_eq!(
            reply.outcomes,
            [Outcome::Reject("why".to_owned())],
            "and then the one that is refused is looked for"
        );
    }

    #[test]
    fn where_all_wait_the_sink_does_and_says_why() {
        let mut known = Known::default();
        let reply =
            batch(&[&[1], &[2, 3]], &known).reply(vec![waits(), rejected("why"), waits()], &mut known, Instant::now());
        assert_eq!(reply, Reply::whole(Outcome::Later { reason: "busy".to_owned(), after_us: None }, 2));
        assert_eq!(sent(&batch(&[&[1], &[2, 3]], &known)), ["1", "3"], "what is refused for good is not asked again");
        let mut known = Known::default();
        let halted = Verdict::Halted("mend".to_owned());
        let reply = batch(&[&[1], &[2]], &known).reply(vec![halted.clone(), halted], &mut known, Instant::now());
        assert_eq!(reply.outcomes, vec![Outcome::Halt("mend".to_owned()); 2]);
        assert!(known.said.is_empty());
    }

    #[test]
    fn where_few_are_refused_they_are_and_where_most_are_the_sink_halts() {
        let mut known = Known::default();
        let reply = batch(&[&[1], &[3]], &known).reply(vec![rejected("a"), rejected("c")], &mut known, Instant::now());
        let refused = |reason: &str| Outcome::Reject(reason.to_owned());
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![refused("a"), refused("c")]));
        let reply =
            batch(&[&[1], &[3]], &known).reply(vec![Verdict::Accepted, rejected("c")], &mut known, Instant::now());
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![ACCEPTED, refused("c")]));
        // One of ten is taken, by a mapping that was guessed.
        let positions: Vec<Vec<u64>> = (1..=1000_u64).map(|position| vec![position]).collect();
        let records: Vec<&[u64]> = positions.iter().map(Vec::as_slice).collect();
        let verdict = |at: usize| if at.is_multiple_of(10) { Verdict::Accepted } else { rejected("a date") };
        let reply = batch(&records, &known).reply((0..1000).map(verdict).collect(), &mut known, Instant::now());
        let count = |is: fn(&Outcome) -> bool| reply.outcomes.iter().filter(|outcome| is(outcome)).count();
        assert_eq!(count(|outcome| *outcome == ACCEPTED), 100);
        assert_eq!(count(|outcome| matches!(outcome, Outcome::Halt(reason) if reason.ends_with(": a date"))), 900);
        // What was not given up is sent again, and if nothing else is, the sink says so as a whole.
        let again = batch(&[&[2, 3]], &known);
        assert_eq!(sent(&again), ["2", "3"]);
        let reply = again.reply(vec![rejected("a date"), rejected("a date")], &mut known, Instant::now());
        assert!(reply.scope == Scope::Request && matches!(&reply.outcomes[0], Outcome::Halt(_)), "{reply:?}");
        // The mapping is mended.
        assert_eq!(
            batch(&[&[2, 3]], &known).reply(vec![Verdict::Accepted; 2], &mut known, Instant::now()).outcomes,
            [ACCEPTED]
        );
    }

    /// With the control: of the index of today nothing is given up.
    #[test]
    fn what_is_for_a_day_that_is_over_and_shut_holds_up_nothing_for_ever() {
        let shut = || Verdict::Shut(Shut { said: "index_closed_exception: closed".to_owned(), is_gone: false });
        let days = IndexTemplate::parse("a-%Y.%m.%d").expect("right").names("raw");
        for (now_ms, is_over) in [(NOW_MS, false), (NOW_MS + 86_400_000, true)] {
            let (mut known, start) = (Known::default(), Instant::now());
            let mut send = |minutes: u64, verdicts: Vec<Verdict>| {
                let records = [record(&[1, 2]), record(&[3])];
                let batch = Batch::of(&records, "raw", &days, &known, now_ms);
                batch.reply(verdicts, &mut known, start + Duration::from_secs(60 * minutes)).outcomes
            };
            let mut last = Vec::new();
            for minutes in 0..16 {
                last = send(minutes, vec![shut(), shut(), Verdict::Accepted]);
                assert!(
                    minutes == 15 || matches!(last[..], [Outcome::Retry(_), Outcome::Accepted { .. }]),
                    "{minutes}: {last:?}"
                );
            }
            let is_given_up = matches!(&last[0], Outcome::RejectLines(reason) if reason.starts_with("index_closed_exception: closed"));
            assert_eq!((is_given_up, &last[1]), (is_over, &ACCEPTED), "{last:?}");
            // However many there are: it is no fault of the mapping.
            for _ in 0..1_000 {
                last = send(16, vec![shut(), shut(), shut()]);
            }
            assert_eq!(last.iter().all(|outcome| matches!(outcome, Outcome::RejectLines(_))), is_over, "{last:?}");
            // Beside one that is stored they are looked for.
            last = send(16, vec![shut(), Verdict::Accepted, shut()]);
            assert_eq!(matches!(last[0], Outcome::Reject(_)), is_over, "{last:?}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused_without_being_sent() {
        let mut known = Known::default();
        let index = IndexTemplate::parse("a").expect("right").names("raw");
        let data = bytes::Bytes::from_static(b"nonsense\n");
        let batch = Batch::of(&[OutgoingRecord { device: Arc::from("d"), data }], "raw", &index, &known, NOW_MS);
        assert!(batch.body.is_empty());
        let reply = batch.reply(Vec::new(), &mut known, Instant::now());
        assert_eq!(reply.outcomes, [Outcome::Reject("not a record of a gateway".to_owned())]);
    }

    #[test]
    fn memory_is_bounded_and_forgetting_costs_a_repeat_only() {
        let mut known = Known::default();
        let positions: Vec<u64> = (1..=KNOWN_MAX as u64 + 10).collect();
        let mut verdicts = vec![Verdict::Accepted; positions.len()];
        verdicts[0] = waits();
        let _ = batch(&[&positions], &known).reply(verdicts, &mut known, Instant::now());
        assert!(known.said.len() <= KNOWN_MAX, "{}", known.said.len());
        let again = batch(&[&positions], &known);
        assert!(again.ids.len() > KNOWN_MAX - 10);
        let count = again.ids.len();
        assert_eq!(again.reply(vec![Verdict::Accepted; count], &mut known, Instant::now()).outcomes, [ACCEPTED]);
        assert!(known.said.is_empty());
    }
}

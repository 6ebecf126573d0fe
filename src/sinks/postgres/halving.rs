//! Which rows of a request are tried together, until each record has an outcome. Pure.
//!
//! A statement that is refused for a row is repeated in halves. While nothing at all is taken, that ends soon, but for what halts: then what is
//! left is tried as it is, and taken apart only if something of it is taken, so that a few refused records at the head say nothing about those
//! behind them.

use std::ops::Range;

use super::outcome::Verdict;
use crate::core::delivery::{Outcome, Reply, RetryReason, Scope};

/// When so many records were refused one by one, and none was taken, the others are not taken apart.
const REFUSED_MAX: usize = 8;

pub struct Halving {
    work: Vec<Range<usize>>,
    /// Refused as they are, and not taken apart.
    left: Vec<(Range<usize>, Outcome)>,
    outcomes: Vec<Option<Outcome>>,
    refused: usize,
    is_any_stored: bool,
    /// What ended it for all that was not done.
    failure: Option<Outcome>,
}

impl Halving {
    pub fn new(records: usize) -> Halving {
        let everything = 0..records;
        Halving {
            work: vec![everything],
            left: Vec::new(),
            outcomes: vec![None; records],
            refused: 0,
            is_any_stored: false,
            failure: None,
        }
    }

    /// What is to be tried next.
    pub fn next(&mut self) -> Option<Range<usize>> {
        if self.work.is_empty() && self.is_any_stored {
            self.work.extend(self.left.drain(..).map(|(range, _)| range));
        }
        self.work.pop()
    }

    pub fn answered(&mut self, range: Range<usize>, verdict: Verdict) {
        match verdict {
            Verdict::Stored => {
                self.is_any_stored = true;
                self.outcomes[range].fill(Some(Outcome::Accepted { shard: None }));
            }
            Verdict::Row(outcome) if range.len() > 1 => {
                // Who halts comes back with the same records in the same order, so none of them may be left out.
                let may_be_left = !matches!(outcome, Outcome::Halt(_));
                if may_be_left && self.refused >= REFUSED_MAX && !self.is_any_stored {
                    return self.left.push((range, outcome));
                }
                let middle = range.start + range.len() / 2;
                self.work.push(middle..range.end);
                self.work.push(range.start..middle);
            }
            Verdict::Row(outcome) => {
                self.refused += 1;
                self.outcomes[range].fill(Some(outcome));
            }
            Verdict::Whole(outcome) => {
                self.work.clear();
                self.left.clear();
                self.failure = Some(outcome);
            }
        }
    }

    /// What each record has got.
    pub fn done(self) -> Outcomes {
        let Halving { left, mut outcomes, is_any_stored, failure, .. } = self;
        left.into_iter().for_each(|(range, outcome)| outcomes[range].fill(Some(outcome)));
        let of_undone = failure.clone().unwrap_or(Outcome::Retry(RetryReason::Internal));
        let of_row = |outcome: Option<Outcome>| match outcome {
            // Of what suits no row this would be true; others were taken.
            Some(Outcome::Halt(reason)) if is_any_stored => Outcome::Later { reason, after_us: None },
            outcome => outcome.unwrap_or_else(|| of_undone.clone()),
        };
        Outcomes { of_records: outcomes.into_iter().map(of_row).collect(), failure }
    }
}

/// What became of the records of a request.
pub struct Outcomes {
    of_records: Vec<Outcome>,
    failure: Option<Outcome>,
}

impl Outcomes {
    /// Why some records wait by themselves.
    pub fn reason_of_waiting(&self) -> Option<&str> {
        self.of_records.iter().find_map(|outcome| match outcome {
            Outcome::Later { reason, .. } if self.failure.is_none() => Some(&**reason),
            _ => None,
        })
    }

    /// What the delivery hears. A refusal is to be believed if something was taken beside it, or if it was of everything.
    pub fn reply(self) -> Reply {
        let Outcomes { of_records, failure } = self;
        let count = of_records.len();
        let is_accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted { .. });
        let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Reject(_));
        if of_records.iter().all(is_accepted) {
            return Reply::whole(Outcome::Accepted { shard: None }, count);
        }
        let is_any_accepted = of_records.iter().any(is_accepted);
        if !is_any_accepted {
            let waits = of_records.iter().any(|outcome| matches!(outcome, Outcome::Later { .. }));
            let halts = of_records.iter().find(|outcome| !waits && matches!(outcome, Outcome::Halt(_)));
            let refused = of_records.first().filter(|_| of_records.iter().all(is_refused));
            if let Some(outcome) = failure.as_ref().or(halts).or(refused) {
                return Reply::whole(outcome.clone(), count);
            }
        }
        let of_record = |outcome| match outcome {
            // It is no sign that the server has too much to do, as which it would be taken.
            Outcome::Later { .. } => Outcome::Retry(RetryReason::Internal),
            Outcome::Reject(_) | Outcome::Halt(_) if !is_any_accepted => Outcome::Retry(RetryReason::Internal),
            outcome => outcome,
        };
        Reply { scope: Scope::Records, outcomes: of_records.into_iter().map(of_record).collect(), passed_over: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Outcome = Outcome::Retry(RetryReason::Internal);
    const ACCEPTED: Outcome = Outcome::Accepted { shard: None };

    fn reject() -> Outcome {
        Outcome::Reject("no".to_owned())
    }

    fn later() -> Outcome {
        Outcome::Later { reason: "no partition".to_owned(), after_us: None }
    }

    fn halt() -> Outcome {
        Outcome::Halt("no permission".to_owned())
    }

    /// Of a server that refuses these records; and how many statements it took.
    fn halved(refusals: &[Option<Outcome>]) -> (Reply, usize) {
        let (mut halving, mut statements) = (Halving::new(refusals.len()), 0);
        while let Some(range) = halving.next() {
            statements += 1;
            let refusal = refusals[range.clone()].iter().flatten().next().cloned();
            halving.answered(range, refusal.map_or(Verdict::Stored, Verdict::Row));
        }
        (halving.done().reply(), statements)
    }

    fn refusals(count: usize, first: usize, outcome: &Outcome) -> Vec<Option<Outcome>> {
        (0..count).map(|at| (at < first).then(|| outcome.clone())).collect()
    }

    #[test]
    fn those_at_the_head_do_not_hold_up_those_behind_them() {
        for (refused, of_refused) in [(later(), RETRY), (halt(), RETRY), (reject(), reject())] {
            for first in [1, 8, 9] {
                let (reply, _) = halved(&refusals(20, first, &refused));
                assert_eq!(reply.scope, Scope::Records);
                assert!(reply.outcomes[..first].iter().all(|outcome| *outcome == of_refused), "{first} {reply:?}");
                assert!(reply.outcomes[first..].iter().all(|outcome| *outcome == ACCEPTED), "{first} {reply:?}");
            }
        }
    }

    #[test]
    fn one_among_many_that_may_not_be_written_is_found() {
        for at in 0..20 {
            let refusals: Vec<_> = (0..20).map(|other| (other != at).then(halt)).collect();
            let (reply, _) = halved(&refusals);
            assert!(reply.scope == Scope::Records && reply.outcomes[at] == ACCEPTED, "{at} {reply:?}");
        }
    }

    #[test]
    fn what_is_refused_everywhere_is_known_soon() {
        for (outcome, scope, of_each) in [
            (reject(), Scope::Request, reject()),
            // No pause of the sink: a device that comes later may have a partition.
            (later(), Scope::Records, RETRY),
        ] {
            let (reply, statements) = halved(&refusals(500, 500, &outcome));
            assert_eq!((reply.scope, &reply.outcomes), (scope, &vec![of_each; 500]));
            assert!(statements < 40, "{statements}");
        }
        let (halted, _) = halved(&refusals(500, 500, &halt()));
        assert_eq!((halted.scope, halted.outcomes), (Scope::Request, vec![halt(); 500]));
        let (alone, _) = halved(&[Some(later())]);
        assert_eq!((alone.scope, alone.outcomes), (Scope::Records, vec![RETRY]));
    }

    #[test]
    fn a_refusal_beside_one_that_waits_is_not_believed_while_nothing_is_taken() {
        let (reply, _) = halved(&[Some(reject()), Some(later())]);
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![RETRY, RETRY]));
        let (reply, _) = halved(&[Some(halt()), Some(later())]);
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![RETRY, RETRY]));
        let (reply, _) = halved(&[Some(reject()), Some(halt())]);
        assert_eq!((reply.scope, reply.outcomes), (Scope::Request, vec![halt(), halt()]));
    }

    #[test]
    fn what_was_taken_stays_taken_when_all_else_fails() {
        let gone = Outcome::Unreachable("gone".to_owned());
        let mut halving = Halving::new(4);
        let verdicts = [Verdict::Row(reject()), Verdict::Stored, Verdict::Row(reject()), Verdict::Row(reject())];
        for verdict in verdicts.into_iter().chain([Verdict::Whole(gone.clone())]) {
            let range = halving.next().expect("not all is done");
            halving.answered(range, verdict);
        }
        assert_eq!(halving.next(), None);
        let reply = halving.done().reply();
        assert_eq!((reply.scope, reply.outcomes), (Scope::Records, vec![ACCEPTED, ACCEPTED, reject(), gone]));
    }

    proptest! {
        #[test]
        fn what_is_good_is_taken_if_anything_is_and_what_is_bad_never(
            refusals in prop::collection::vec(prop::option::weighted(0.7, prop_oneof![Just(reject()), Just(later()), Just(halt())]), 1..80),
        ) {
            let (reply, statements) = halved(&refusals);
            prop_assert!(statements < 2 * refusals.len() + 20);
            let is_any_taken = reply.outcomes.contains(&ACCEPTED);
            for (refusal, outcome) in refusals.iter().zip(&reply.outcomes) {
                match refusal {
                    None if is_any_taken => prop_assert_eq!(outcome, &ACCEPTED),
                    None => prop_assert!(reply.scope == Scope::Request || *outcome == RETRY),
                    Some(refusal @ Outcome::Reject(_)) if is_any_taken => prop_assert_eq!(outcome, refusal),
                    Some(_) => prop_assert!(*outcome != ACCEPTED),
                }
            }
        }
    }
}

//! Finds out which points a server does not keep that only says how many: groups of points are written again in halves.
//!
//! A point that is written again takes its own place, so nothing is stored twice by that. What is too old is what is oldest, so points are in the order
//! of their times: after a few requests one half has only good ones, and of the other all are refused.

use super::answer::Verdict;
use crate::core::delivery::{Outcome, RetryReason};

/// What is known of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Unknown,
    Stored,
    /// It is older than is kept.
    TooOld(String),
    /// For something else.
    Refused(String),
}

/// A sink has a turn of so many requests; what is not decided by then has another one.
const REQUESTS_MAX: usize = 64;

#[derive(Debug)]
pub struct Sieve {
    times: Vec<i64>,
    fates: Vec<Fate>,
    /// To be written; the last one is next.
    groups: Vec<Vec<usize>>,
    requests: usize,
    /// Why no more are written.
    stopped: Option<Outcome>,
}

impl Sieve {
    /// For points with these times.
    pub fn new(times: impl IntoIterator<Item = i64>) -> Sieve {
        let times: Vec<i64> = times.into_iter().collect();
        let fates = vec![Fate::Unknown; times.len()];
        // In the order in which they came, until it matters which is older.
        let all: Vec<usize> = (0..times.len()).collect();
        let groups = if all.is_empty() { Vec::new() } else { vec![all] };
        Sieve { times, fates, groups, requests: 0, stopped: None }
    }

    /// The points to be written next.
    pub fn next(&mut self) -> Option<Vec<usize>> {
        if self.stopped.is_some() {
            return None;
        }
        if self.requests == REQUESTS_MAX && !self.groups.is_empty() {
            self.stopped = Some(Outcome::Retry(RetryReason::Internal));
            return None;
        }
        self.requests += 1;
        self.groups.pop()
    }

    /// What became of points that [`Self::next`] gave.
    pub fn note(&mut self, mut group: Vec<usize>, verdict: Verdict) {
        match verdict {
            Verdict::Whole(Outcome::Accepted { .. }) => self.decide(&group, &Fate::Stored),
            Verdict::These(refused) => {
                self.decide(&group, &Fate::Stored);
                for (at, said) in refused {
                    self.fates[group[at]] = Fate::Refused(said);
                }
            }
            Verdict::TooOld { dropped, said } => {
                if group.len() == 1 && dropped.is_none() {
                    self.refuse_up_to(self.times[group[0]], &said);
                }
                if group.len() == 1 || dropped.is_some_and(|dropped| dropped >= group.len()) {
                    self.decide(&group, &Fate::TooOld(said));
                    return;
                }
                group.sort_by_key(|point| self.times[*point]);
                self.halve(group);
                // The newest one that is too old tells of all that are older.
                if let (None, [.., newer, older]) = (dropped, &mut self.groups[..]) {
                    std::mem::swap(newer, older);
                }
            }
            // Beside those that are too old there is something else.
            Verdict::Whole(Outcome::Reject(said)) if self.requests > 1 => match group.len() {
                1 => self.decide(&group, &Fate::Refused(said)),
                _ => self.halve(group),
            },
            Verdict::Whole(outcome) => self.stopped = Some(outcome),
        }
    }

    fn decide(&mut self, group: &[usize], fate: &Fate) {
        group.iter().for_each(|point| self.fates[*point] = fate.clone());
    }

    /// A server that does not keep one point does not keep older ones.
    fn refuse_up_to(&mut self, time: i64, said: &str) {
        let Sieve { times, fates, groups, .. } = self;
        for group in groups.iter_mut() {
            group.retain(|point| {
                let is_newer = times[*point] > time;
                if !is_newer {
                    fates[*point] = Fate::TooOld(said.to_owned());
                }
                is_newer
            });
        }
        groups.retain(|group| !group.is_empty());
    }

    fn halve(&mut self, mut group: Vec<usize>) {
        let newer = group.split_off(group.len() / 2);
        self.groups.push(newer);
        self.groups.push(group);
    }

    /// What is known of each point, and why the rest is not.
    pub fn end(self) -> (Vec<Fate>, Option<Outcome>) {
        (self.fates, self.stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn too_old(dropped: Option<usize>) -> Verdict {
        Verdict::TooOld { dropped, said: "old".to_owned() }
    }

    const ACCEPTED: Verdict = Verdict::Whole(Outcome::Accepted { shard: None });

    /// A server that keeps what is not older, and says so in its way. Returns what it has stored, and the number of requests.
    fn sifted(times: &[i64], oldest: i64, counts: bool) -> (Vec<Fate>, BTreeSet<usize>, usize) {
        let mut sieve = Sieve::new(times.iter().copied());
        let (mut stored, mut requests) = (BTreeSet::new(), 0);
        while let Some(group) = sieve.next() {
            requests += 1;
            let (kept, old): (Vec<usize>, Vec<usize>) = group.iter().partition(|point| times[**point] >= oldest);
            stored.extend(kept);
            let verdict = if old.is_empty() { ACCEPTED } else { too_old(counts.then_some(old.len())) };
            sieve.note(group, verdict);
        }
        let (fates, stopped) = sieve.end();
        assert_eq!(stopped, None);
        (fates, stored, requests)
    }

    proptest! {
        #[test]
        fn exactly_what_is_too_old_is_refused_after_few_requests(
            times in proptest::collection::vec(0_i64..100, 1..2_000),
            oldest in 0_i64..101,
            counts in any::<bool>(),
        ) {
            let (fates, stored, requests) = sifted(&times, oldest, counts);
            for (point, time) in times.iter().enumerate() {
                let expected = if *time < oldest { Fate::TooOld("old".to_owned()) } else { Fate::Stored };
                prop_assert_eq!(&fates[point], &expected);
                prop_assert_eq!(stored.contains(&point), *time >= oldest);
            }
            prop_assert!(requests <= 25, "{} requests", requests);
        }
    }

    #[test]
    fn what_is_not_decided_is_tried_again() {
        let mut sieve = Sieve::new(0..4);
        let all = sieve.next().expect("all");
        assert_eq!(all, [0, 1, 2, 3]);
        sieve.note(all, too_old(Some(1)));
        let old = sieve.next().expect("a half");
        assert_eq!(old, [0, 1]);
        sieve.note(old, Verdict::Whole(Outcome::Retry(RetryReason::TimedOut)));
        assert_eq!(sieve.next(), None);
        let (fates, stopped) = sieve.end();
        assert_eq!(fates, vec![Fate::Unknown; 4]);
        assert_eq!(stopped, Some(Outcome::Retry(RetryReason::TimedOut)));
    }

    #[test]
    fn what_is_refused_as_a_whole_at_first_is_left_to_others() {
        let mut sieve = Sieve::new(0..4);
        let all = sieve.next().expect("all");
        sieve.note(all, Verdict::Whole(Outcome::Reject("no".to_owned())));
        assert_eq!(sieve.next(), None);
        assert_eq!(sieve.end().1, Some(Outcome::Reject("no".to_owned())));
    }

    #[test]
    fn beside_what_is_too_old_a_bad_point_is_found() {
        let mut sieve = Sieve::new(0..4);
        while let Some(group) = sieve.next() {
            let verdict = match group[..] {
                [0] => too_old(Some(1)),
                [..] if group.len() == 4 => too_old(Some(1)),
                [..] if group.contains(&0) => too_old(Some(1)),
                [..] if group.contains(&3) => Verdict::Whole(Outcome::Reject("no".to_owned())),
                _ => ACCEPTED,
            };
            sieve.note(group, verdict);
        }
        let (old, bad) = (Fate::TooOld("old".to_owned()), Fate::Refused("no".to_owned()));
        assert_eq!(sieve.end(), (vec![old, Fate::Stored, Fate::Stored, bad], None));
    }

    #[test]
    fn a_turn_has_an_end() {
        let mut sieve = Sieve::new(0..1_000);
        let mut requests = 0;
        while let Some(group) = sieve.next() {
            requests += 1;
            sieve.note(group, too_old(Some(1)));
        }
        let (fates, stopped) = sieve.end();
        assert_eq!((requests, stopped), (REQUESTS_MAX, Some(Outcome::Retry(RetryReason::Internal))));
        assert!(fates.iter().any(|fate| *fate != Fate::Unknown), "the next turn has fewer");
    }

    #[test]
    fn lines_that_are_named_are_refused() {
        let mut sieve = Sieve::new(0..3);
        let all = sieve.next().expect("all");
        sieve.note(all, Verdict::These(vec![(1, "no".to_owned())]));
        assert_eq!(sieve.end().0, [Fate::Stored, Fate::Refused("no".to_owned()), Fate::Stored]);
        assert_eq!(Sieve::new([]).next(), None);
    }
}

//! How long a post is waited for, and what it means when its time is over. All times are since the post.

use std::time::Duration;

use super::verdict::Polled;
use crate::core::delivery::Outcome;

/// Acknowledgements are asked for first after the shortest pause, which doubles up to the longest: indexers take from a moment to minutes.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// An indexer says only once that it has stored a post. If that answer may be lost, the post is waited for at least this much longer.
const AFTER_LOST_MIN: Duration = Duration::from_secs(30);

/// For the acknowledgement of one post.
pub struct Wait {
    within: Duration,
    until: Duration,
    pause: Duration,
    /// How long the post before took, if there was one.
    usual: Option<Duration>,
    /// An answer of an indexer has come.
    is_heard: bool,
    /// An answer may have been lost since the last one that came.
    is_lost: bool,
    /// What was answered last in place of an acknowledgement, or why nothing was.
    last: Option<Outcome>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Stored,
    Failed(Outcome),
    /// No indexer has answered any question: before anything more is posted, one should.
    Unheard(Outcome),
}

impl Wait {
    pub fn new(within: Duration, usual: Option<Duration>) -> Wait {
        let (is_heard, is_lost, last) = (false, false, None);
        Wait { within, until: within, pause: PAUSE_MIN, usual, is_heard, is_lost, last }
    }

    /// When to ask next.
    pub fn next(&self, now: Duration) -> Duration {
        (now + self.pause).min(self.until)
    }

    pub fn hear(&mut self, polled: Polled, now: Duration) -> Option<End> {
        match polled {
            Polled::Stored => return Some(End::Stored),
            Polled::Failed(outcome) => return Some(End::Failed(outcome)),
            Polled::NotYet => {
                if let (true, Some(usual)) = (self.is_lost, self.usual) {
                    self.until = self.until.min(now + AFTER_LOST_MIN.max(usual * 2));
                }
                (self.is_heard, self.is_lost, self.last) = (true, false, None);
            }
            Polled::Other(outcome) => self.last = Some(outcome),
            Polled::Lost(outcome) => {
                self.is_lost = true;
                self.last.get_or_insert(outcome);
            }
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        (now >= self.until).then(|| self.end(now))
    }

    fn end(&mut self, now: Duration) -> End {
        let waited = match self.until < self.within {
            true => format!("the indexers did not acknowledge within {} s, and an answer may be lost", now.as_secs()),
            false => format!("the indexers did not acknowledge within {} s", self.within.as_secs()),
        };
        let (is_halt, said) = match self.last.take() {
            Some(Outcome::Halt(said)) => (true, said),
            Some(Outcome::Later { reason, .. }) => (false, reason),
            Some(Outcome::Retry(reason)) => (false, reason.to_string()),
            _ => (false, String::new()),
        };
        let reason = match said.is_empty() {
            true => waited,
            false => format!("{waited}; {}: {said}", super::ACKNOWLEDGEMENTS),
        };
        let outcome = match is_halt && !self.is_heard {
            true => Outcome::Halt(reason),
            false => Outcome::Later { reason, after_us: None },
        };
        if self.is_heard { End::Failed(outcome) } else { End::Unheard(outcome) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::delivery::RetryReason;

    const LIMIT: Duration = Duration::from_secs(300);

    fn lost() -> Polled {
        Polled::Lost(Outcome::Retry(RetryReason::Connection))
    }

    fn other() -> Polled {
        Polled::Other(Outcome::Halt("HTTP status 404".to_owned()))
    }

    /// The end, and when it was, if each question is answered by what `answer` has for its time in seconds.
    fn ended(usual: Option<u64>, answer: impl Fn(u64) -> Polled) -> (u64, End) {
        let mut wait = Wait::new(LIMIT, usual.map(Duration::from_secs));
        let mut now = Duration::ZERO;
        loop {
            now = wait.next(now);
            if let Some(end) = wait.hear(answer(now.as_secs()), now) {
                return (now.as_secs(), end);
            }
        }
    }

    #[test]
    fn after_an_answer_that_may_be_lost_a_post_is_not_waited_for_to_the_last() {
        let lost_at = |from: u64| move |at: u64| if (from..from + 10).contains(&at) { lost() } else { Polled::NotYet };
        for (usual, expected) in [(None, 300..=300), (Some(5), 45..=65), (Some(60), 135..=155), (Some(200), 300..=300)]
        {
            let (at, end) = ended(usual, lost_at(10));
            assert!(expected.contains(&at), "{usual:?}: {at}");
            assert!(matches!(end, End::Failed(Outcome::Later { .. })), "{end:?}");
        }
        // Where none was lost, all the time is its own, as it is where nothing is heard after it.
        assert_eq!(ended(Some(5), |_| Polled::NotYet).0, 300);
        assert_eq!(ended(Some(5), |at| if at < 10 { Polled::NotYet } else { lost() }).0, 300);
        // An answer after a break is in time.
        assert_eq!(ended(Some(5), |at| if at < 200 { lost() } else { Polled::Stored }).1, End::Stored);
    }

    #[test]
    fn what_answers_in_place_of_indexers_is_told() {
        let (_, End::Unheard(Outcome::Halt(said))) = ended(None, |_| other()) else { panic!() };
        assert!(said.contains("/services/collector/ack: HTTP status 404"), "{said}");
        // A question that is lost does not hide what the others got.
        let (_, End::Unheard(Outcome::Halt(_))) = ended(None, |at| if at < 250 { other() } else { lost() }) else {
            panic!()
        };
        // Where indexers have answered, it is nobody's fault for ever.
        let (_, End::Failed(Outcome::Later { reason, .. })) =
            ended(None, |at| if at < 100 { Polled::NotYet } else { other() })
        else {
            panic!()
        };
        assert!(reason.contains("HTTP status 404"), "{reason}");
        assert!(matches!(ended(None, |_| lost()).1, End::Unheard(Outcome::Later { .. })));
        let refused = Outcome::Halt("token".to_owned());
        assert_eq!(ended(None, |_| Polled::Failed(refused.clone())).1, End::Failed(refused.clone()));
    }
}

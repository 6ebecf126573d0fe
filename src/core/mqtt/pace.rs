//! Whether a client waits for its PUBACK before it goes on, as far as its publishes show it.

use std::time::Duration;

/// How urgent it is that a publish becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody is known to wait.
    #[default]
    Relaxed,
    /// The client may be waiting. As long as PUBACKs are quick, there is no telling whether it would go on without them.
    Likely,
    /// A client or a subscriber waits.
    Urgent,
}

/// A client that publishes so soon after a PUBACK has perhaps waited for it.
const SOON_AFTER: Duration = Duration::from_millis(100);
/// A client that publishes so soon has surely waited: nothing else is that quick more than by chance.
const AT_ONCE: Duration = Duration::from_millis(5);
/// A burst takes no longer. A later publish without a PUBACK in between shows a client that does not wait.
const BURST_MAX: Duration = Duration::from_millis(20);
/// A client that once went on without an answer counts as one that waits again after it has reacted to so many answers in a row.
const REACTIONS: u32 = 4;

/// The pace of one connection. Times are since any fixed moment.
#[derive(Debug, Default)]
pub struct PublishPace {
    has_published: bool,
    /// When a PUBACK was last written.
    answered: Option<Duration>,
    /// The oldest publish without its PUBACK came then or later.
    unanswered: Option<Duration>,
    /// It has published although the PUBACK for an earlier publish had not come.
    goes_on: bool,
    /// Nothing was published since the last answer.
    is_first_since: bool,
    reactions: u32,
}

impl PublishPace {
    /// Takes note of publishes and says how urgent they are. `wants_answer`: one of them is to get a PUBACK.
    pub fn published(&mut self, now: Duration, wants_answer: bool) -> Urgency {
        let is_within = |since: Option<Duration>, max: Duration| since.is_some_and(|since| now < since + max);
        if self.unanswered.is_some() && !is_within(self.unanswered, BURST_MAX) && !is_within(self.answered, BURST_MAX) {
            (self.goes_on, self.reactions) = (true, 0);
        }
        let is_soon = is_within(self.answered, SOON_AFTER);
        if std::mem::take(&mut self.is_first_since) {
            self.reactions = if is_soon { self.reactions + 1 } else { 0 };
            self.goes_on &= self.reactions < REACTIONS;
        }
        if wants_answer {
            self.unanswered.get_or_insert(now);
        }
        let is_first = !std::mem::replace(&mut self.has_published, true);
        match is_soon && !self.goes_on {
            _ if is_first => Urgency::Urgent,
            false => Urgency::Relaxed,
            true if is_within(self.answered, AT_ONCE) => Urgency::Urgent,
            true => Urgency::Likely,
        }
    }

    /// Takes note that PUBACKs were written. `has_more`: other publishes still wait for theirs.
    pub fn answered(&mut self, now: Duration, has_more: bool) {
        self.answered = Some(now);
        self.unanswered = has_more.then_some(now);
        self.is_first_since = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_publish_and_one_right_after_its_answer_are_urgent() {
        let mut pace = PublishPace::default();
        assert_eq!(pace.published(ms(0), true), Urgency::Urgent);
        pace.answered(ms(10), false);
        assert_eq!(pace.published(ms(11), true), Urgency::Urgent);
        pace.answered(ms(20), false);
        assert_eq!(pace.published(ms(70), true), Urgency::Likely);
        pace.answered(ms(80), false);
        assert_eq!(pace.published(ms(180), true), Urgency::Relaxed, "100 ms after its answer");
    }

    #[test]
    fn a_client_that_goes_on_unanswered_does_not_wait() {
        let mut pace = PublishPace::default();
        pace.published(ms(0), true);
        pace.published(ms(100), true);
        pace.answered(ms(150), false);
        assert_eq!(pace.published(ms(200), true), Urgency::Relaxed);
        for at in [300, 400, 500, 600] {
            pace.answered(ms(at), false);
            pace.published(ms(at + 1), true);
        }
        pace.answered(ms(700), false);
        assert_eq!(pace.published(ms(701), true), Urgency::Urgent, "it reacts to each answer by now");
    }

    #[test]
    fn a_window_of_publishes_at_once_is_no_going_on() {
        let mut pace = PublishPace::default();
        for at in [0, 1, 2] {
            pace.published(ms(at), true);
        }
        pace.answered(ms(300), true);
        assert_eq!(pace.published(ms(301), true), Urgency::Urgent);
    }
}

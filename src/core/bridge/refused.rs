//! What becomes of a message that the other broker has refused for a reason that may be over soon, or never: 0x80, 0x83, 0x97 and whatever
//! else says neither that the message is at fault nor that a right is missing.
//!
//! Such a message is put behind what follows it, and tried again after pauses that grow. It is given up only when it was refused again and
//! again and others were taken in between each time: a broker that refuses everything is at fault itself, however long that lasts. A quota
//! may be used up by the others, and be there again a minute later: so much more has to speak against a message that is refused for one.

use crate::mqtt::client::Reason;

/// A message that was refused so often, while others were taken, is given up.
const STRIKES_MAX: u32 = 3;
/// The same if the reason is a quota: ten minutes of attempts.
const QUOTA_STRIKES_MAX: u32 = 12;
const PAUSE_MS_MAX: u64 = 60_000;
/// After so many refusals without anything that is taken in between, somebody should know.
const OF_ALL_FROM: u32 = 3;
/// So many messages are remembered: as many as may be on their way.
const KNOWN_MAX: usize = 64;

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// How long a message that was refused is not tried again: after the first time, the second time, and from then on.
    pub try_after_ms: [u64; 3],
    /// While nothing is taken, nothing is sent for so long after a refusal, and for twice as long after the next one.
    pub pause_ms_min: u64,
}

impl Default for Pacing {
    /// A broker that has too much to do for some seconds costs no message.
    fn default() -> Pacing {
        Pacing { try_after_ms: [2_000, 30_000, 60_000], pause_ms_min: 1_000 }
    }
}

/// The messages that were refused, of one bridge, over its connections.
#[derive(Debug, Default)]
pub struct RefusedMessages {
    pacing: Pacing,
    /// The latest last.
    known: Vec<Strikes>,
    /// Refusals since something was taken; those that came during a pause, and most of a message that is alone, are not counted.
    in_a_row: u32,
    paused_until_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Strikes {
    /// Of the message.
    digest: u64,
    attempts: usize,
    /// Attempts before which others were taken, the first one included.
    count: u32,
    /// Others were taken since the last attempt.
    others_pass: bool,
    /// When it is tried again.
    due_ms: u64,
}

/// What is done with a message that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again when it is due, and others go first.
    Later,
    /// It is given up.
    GiveUp,
}

impl RefusedMessages {
    /// None yet.
    pub fn new(pacing: Pacing) -> RefusedMessages {
        RefusedMessages { pacing, ..RefusedMessages::default() }
    }

    /// A message was refused. Times are milliseconds of a clock that does not go back.
    pub fn refused(&mut self, digest: u64, reason: Reason, now_ms: u64) -> Fate {
        let is_quota = reason == Reason::Quota;
        let is_alone = self.known.iter().all(|strikes| strikes.digest == digest);
        self.pause(is_quota, is_alone, now_ms);
        let before = self.known.iter().position(|strikes| strikes.digest == digest).map(|at| self.known.remove(at));
        let mut strikes = match before {
            None => Strikes { digest, attempts: 1, count: 1, others_pass: false, due_ms: 0 },
            // It was sent before its time, because there was no room to keep it: that is no attempt more.
            Some(strikes) if now_ms < strikes.due_ms => {
                self.known.push(strikes);
                return Fate::Later;
            }
            Some(strikes) => Strikes {
                attempts: strikes.attempts + 1,
                count: strikes.count + u32::from(strikes.others_pass),
                others_pass: false,
                ..strikes
            },
        };
        if strikes.count >= if is_quota { QUOTA_STRIKES_MAX } else { STRIKES_MAX } {
            return Fate::GiveUp;
        }
        let try_after_ms = self.pacing.try_after_ms;
        let pause_ms = try_after_ms[(strikes.attempts - 1).min(try_after_ms.len() - 1)];
        strikes.due_ms = now_ms.saturating_add(pause_ms);
        if self.known.len() >= KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push(strikes);
        Fate::Later
    }

    /// One refusal may be of its message alone, as often as that is tried; a quota, and the refusal of a second message, may be of all.
    fn pause(&mut self, is_quota: bool, is_alone: bool, now_ms: u64) {
        // Messages that were sent together are refused together.
        if now_ms < self.paused_until_ms {
            return;
        }
        let pauses_before = if is_alone { 0 } else { self.in_a_row.saturating_sub(u32::from(!is_quota)).min(16) };
        if is_quota || !is_alone && self.in_a_row > 0 {
            self.paused_until_ms = now_ms.saturating_add((self.pacing.pause_ms_min << pauses_before).min(PAUSE_MS_MAX));
        }
        self.in_a_row = match is_alone {
            true => (self.in_a_row + 1).min(OF_ALL_FROM),
            false => self.in_a_row.saturating_add(1),
        };
    }

    /// A message was taken.
    pub fn accepted(&mut self, digest: u64) {
        self.in_a_row = 0;
        self.known.retain(|strikes| strikes.digest != digest);
        self.known.iter_mut().for_each(|strikes| strikes.others_pass = true);
    }

    /// When a message that was refused is tried again; `None` if it was not refused.
    pub fn due_ms(&self, digest: u64) -> Option<u64> {
        self.known.iter().find(|strikes| strikes.digest == digest).map(|strikes| strikes.due_ms)
    }

    /// Before this time nothing is sent at all.
    pub fn paused_until_ms(&self) -> u64 {
        self.paused_until_ms
    }

    /// Whether all that was sent lately was refused: then it may be the broker that refuses everything, and a person has to look.
    pub fn is_of_all(&self) -> bool {
        self.in_a_row >= OF_ALL_FROM
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POISON: u64 = 7;

    /// Refused each time that it is due, for so often, with others taken in between or not. When it was given up, and after how many attempts.
    fn given_up(reason: Reason, others_pass: bool, attempts: u32) -> Option<(u32, u64)> {
        let (mut refused, mut now_ms) = (RefusedMessages::default(), 0);
        for attempt in 1..=attempts {
            if refused.refused(POISON, reason, now_ms) == Fate::GiveUp {
                return Some((attempt, now_ms));
            }
            if others_pass {
                refused.accepted(u64::from(attempt) + 100);
            }
            now_ms = refused.due_ms(POISON).expect("it was refused").max(refused.paused_until_ms());
        }
        None
    }

    #[test]
    fn a_message_is_given_up_only_if_others_are_taken() {
        for (reason, others_pass, expected) in [
            (Reason::Other, true, Some((3, 32_000))),
            (Reason::Implementation, true, Some((3, 32_000))),
            (Reason::IdInUse, true, Some((3, 32_000))),
            (Reason::Quota, true, Some((12, 572_000))),
            (Reason::Other, false, None),
            (Reason::Implementation, false, None),
            (Reason::Quota, false, None),
        ] {
            assert_eq!(given_up(reason, others_pass, 10_000), expected, "{reason:?} {others_pass}");
        }
    }

    #[test]
    fn an_attempt_counts_if_others_were_taken_since_the_one_before() {
        let mut refused = RefusedMessages::default();
        let mut at = |now_ms| refused.refused(POISON, Reason::Other, now_ms);
        assert_eq!((at(0), at(1), at(1_999)), (Fate::Later, Fate::Later, Fate::Later), "before its time");
        assert_eq!([at(2_000), at(40_000), at(120_000), at(300_000)], [Fate::Later; 4]);
        refused.accepted(1);
        assert_eq!(refused.refused(POISON, Reason::Other, 400_000), Fate::Later);
        assert_eq!(refused.refused(POISON, Reason::Other, 500_000), Fate::Later, "nothing was taken since");
        refused.accepted(2);
        assert_eq!(refused.refused(POISON, Reason::Other, 600_000), Fate::GiveUp);
        assert_eq!(refused.due_ms(POISON), None);
        assert_eq!(refused.refused(POISON, Reason::Other, 600_000), Fate::Later, "another one that says the same");
        refused.accepted(POISON);
        assert_eq!(refused.due_ms(POISON), None, "it was taken after all");
    }

    #[test]
    fn what_is_sent_before_its_time_is_no_attempt() {
        let mut refused = RefusedMessages::default();
        for now_ms in 0..2_000 {
            assert_eq!(refused.refused(POISON, Reason::Other, now_ms), Fate::Later);
            assert_eq!(refused.due_ms(POISON), Some(2_000));
            refused.accepted(now_ms + 100);
        }
        assert_eq!(refused.refused(POISON, Reason::Other, 2_000), Fate::Later);
        assert_eq!(refused.due_ms(POISON), Some(32_000));
    }

    #[test]
    fn while_nothing_is_taken_little_is_sent() {
        let mut refused = RefusedMessages::default();
        let (mut now_ms, mut pauses) = (0, Vec::new());
        for digest in 0..9 {
            refused.refused(digest, Reason::Other, now_ms);
            // What was on its way together with it.
            (100..120).for_each(|other| _ = refused.refused(other, Reason::Other, now_ms));
            pauses.push(refused.paused_until_ms() - now_ms);
            now_ms = refused.paused_until_ms();
        }
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert!(refused.is_of_all());
        refused.accepted(1);
        assert!(!refused.is_of_all());
        refused.refused(2, Reason::Other, now_ms);
        assert!(refused.paused_until_ms() <= now_ms, "one refusal holds up nothing");
        refused.accepted(1);
        refused.refused(3, Reason::Quota, now_ms);
        assert_eq!(refused.paused_until_ms(), now_ms + 1_000, "a quota may be of all");
    }

    #[test]
    fn one_message_that_is_tried_again_and_again_holds_up_no_other_one() {
        for (reason, pause_ms) in [(Reason::Other, 0), (Reason::Quota, 1_000)] {
            let (mut refused, mut now_ms) = (RefusedMessages::default(), 0);
            for _ in 0..1_000 {
                assert_eq!(refused.refused(POISON, reason, now_ms), Fate::Later);
                assert!(refused.paused_until_ms() <= now_ms + pause_ms, "{reason:?}");
                now_ms = refused.due_ms(POISON).expect("it was refused");
            }
            assert!(refused.is_of_all(), "nothing else was tried");
            refused.refused(8, reason, now_ms);
            assert!(refused.paused_until_ms() <= now_ms + 8_000, "{reason:?}");
        }
    }

    proptest! {
        /// Whatever is refused, and when: without anything that is taken nothing is given up, and what is remembered is bounded.
        #[test]
        fn a_broker_that_takes_nothing_costs_nothing(
            steps in prop::collection::vec((0_u64..100, 0_u64..100_000, prop::sample::select(vec![0x80, 0x83, 0x91, 0x97])), 0..400),
        ) {
            let (mut refused, mut now_ms) = (RefusedMessages::default(), 0);
            for (digest, later_ms, code) in steps {
                now_ms += later_ms;
                prop_assert_eq!(refused.refused(digest, Reason::of(code), now_ms), Fate::Later);
                prop_assert!(refused.known.len() <= KNOWN_MAX);
                prop_assert!(refused.paused_until_ms() <= now_ms + PAUSE_MS_MAX);
            }
        }
    }
}

//! Finds the message at which a broker takes offence. A broker ends the connection at a message that it cannot take, and does not say at
//! which; what is sent again ends the next connection, and so on, on a link that may cost money.
//!
//! So after such an end messages are sent one at a time for a while: the one that is alone when the connection ends is to blame. What is
//! blamed is given up only if the broker says that a message is at fault. An end without a reason may have any, so such a message is blamed
//! only if others come through between its attempts; so those that are suspected are tried after the others.

use super::{End, Reason};

/// For so many messages at first. If the culprit is not among them, it is looked for twice as long the next time.
const CAREFUL_FOR_MIN: u32 = 256;
const CAREFUL_FOR_MAX: u32 = 8_192;
/// After so many ends without a reason and without an acknowledgement in between, messages are sent one at a time.
pub const CLOSINGS_MAX: u32 = 3;
/// A message at which so many connections have ended without a reason is blamed.
const STRIKES_MAX: u32 = 3;
/// When so many are blamed one after the other, and nothing comes through, it is not the fault of one.
const BLAMED_IN_A_ROW_MAX: u32 = 10;
/// So many are suspected at a time.
const SUSPECTS_MAX: usize = 16;

/// What is known about the connections of one client, from one to the next.
#[derive(Debug)]
pub struct Blame {
    /// So many more messages are sent one at a time.
    careful_for: u32,
    next_careful_for: u32,
    closings: u32,
    takeovers: u32,
    blamed_in_a_row: u32,
    /// Those at which a connection has ended without a reason, the latest last.
    suspects: Vec<Strikes>,
}

#[derive(Clone, Copy, Debug)]
struct Strikes {
    /// Of the message.
    digest: u64,
    count: u32,
    /// Others were taken since the first one.
    others_pass: bool,
}

/// What is done with a message that was alone when the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// It is sent again.
    Again,
    /// It is given up.
    GiveUp,
    /// So many messages have met the same that it is the fault of something else, which somebody has to mend.
    NotItsFault,
}

impl Default for Blame {
    fn default() -> Blame {
        Blame {
            careful_for: 0,
            next_careful_for: CAREFUL_FOR_MIN,
            closings: 0,
            takeovers: 0,
            blamed_in_a_row: 0,
            suspects: Vec::new(),
        }
    }
}

impl Blame {
    /// Whether messages are sent one at a time.
    pub fn is_careful(&self) -> bool {
        self.careful_for > 0
    }

    /// So many connections have ended without a reason, one after the other, and nothing came through in between.
    pub fn closings(&self) -> u32 {
        self.closings
    }

    /// So many connections were ended one after the other by another client of the same id, as far as the broker says so.
    pub fn takeovers(&self) -> u32 {
        self.takeovers
    }

    /// A connection that was open has ended.
    pub fn ended(&mut self, end: &End) {
        self.takeovers = if end.reason() == Some(Reason::TakenOver) { self.takeovers.saturating_add(1) } else { 0 };
        if is_unexplained(end) {
            self.closings = self.closings.saturating_add(1);
        }
        let is_of_a_message = end.reason().is_some_and(Reason::is_of_a_message);
        if !self.is_careful() && (is_of_a_message || self.closings >= CLOSINGS_MAX) {
            self.careful_for = self.next_careful_for;
            self.next_careful_for = (self.next_careful_for * 2).min(CAREFUL_FOR_MAX);
        }
    }

    /// The same, and this message was alone on its way.
    pub fn ended_at(&mut self, end: &End, digest: u64) -> Sentence {
        if end.reason().is_some_and(Reason::is_of_a_message) {
            return self.give_up();
        }
        if !is_unexplained(end) {
            return Sentence::Again;
        }
        // Others are tried in between, and may be suspected, too.
        let strikes = match self.suspects.iter().position(|strikes| strikes.digest == digest) {
            Some(at) => self.suspects.remove(at),
            None => Strikes { digest, count: 0, others_pass: false },
        };
        let strikes = Strikes { count: strikes.count + 1, ..strikes };
        if strikes.count >= STRIKES_MAX && strikes.others_pass {
            return self.give_up();
        }
        if self.suspects.len() >= SUSPECTS_MAX {
            self.suspects.remove(0);
        }
        self.suspects.push(strikes);
        if strikes.count < STRIKES_MAX { Sentence::Again } else { Sentence::NotItsFault }
    }

    /// Whether a connection has ended at this message without a reason.
    pub fn suspects(&self, digest: u64) -> bool {
        self.suspects.iter().any(|strikes| strikes.digest == digest)
    }

    /// What is tried next is a part of what was blamed last: that is the same fault, counted once.
    pub fn of_the_same(&mut self) {
        self.blamed_in_a_row = self.blamed_in_a_row.saturating_sub(1);
    }

    fn give_up(&mut self) -> Sentence {
        if self.blamed_in_a_row >= BLAMED_IN_A_ROW_MAX {
            return Sentence::NotItsFault;
        }
        self.blamed_in_a_row += 1;
        self.next_careful_for = CAREFUL_FOR_MIN;
        Sentence::GiveUp
    }

    /// The broker has taken a message.
    pub fn accepted(&mut self, digest: u64) {
        (self.closings, self.takeovers, self.blamed_in_a_row) = (0, 0, 0);
        self.suspects.retain(|strikes| strikes.digest != digest);
        self.suspects.iter_mut().for_each(|strikes| strikes.others_pass = true);
        if self.careful_for == 1 {
            self.suspects.clear();
        }
        self.careful_for = self.careful_for.saturating_sub(1);
    }
}

fn is_unexplained(end: &End) -> bool {
    matches!(end, End::Closed) || end.reason() == Some(Reason::Other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::client::{Farewell, Refusal};

    fn told(code: u8) -> End {
        End::Told(Farewell { why: Refusal::of(code, None), server: None })
    }

    #[test]
    fn after_an_end_that_a_message_may_have_caused_they_go_one_at_a_time() {
        for code in [0x95, 0x90, 0x99, 0x81, 0x82] {
            let mut blame = Blame::default();
            blame.ended(&told(code));
            assert!(blame.is_careful(), "{code:x}");
            assert_eq!(blame.ended_at(&told(code), 1), Sentence::GiveUp);
        }
        for end in [told(0x8e), told(0x97), told(0x93), told(0x8b), End::Silent, End::NotAcknowledged, End::Left] {
            let mut blame = Blame::default();
            (0..10).for_each(|_| blame.ended(&end));
            assert!(!blame.is_careful(), "{end}");
            assert_eq!(blame.ended_at(&end, 1), Sentence::Again, "{end}");
        }
    }

    #[test]
    fn care_ends_and_is_taken_for_longer_if_it_was_in_vain() {
        let mut blame = Blame::default();
        for careful_for in [256, 512, 1_024] {
            blame.ended(&told(0x95));
            for digest in 0..careful_for {
                assert!(blame.is_careful());
                blame.accepted(digest);
            }
            assert!(!blame.is_careful());
        }
        blame.ended(&told(0x95));
        assert_eq!(blame.ended_at(&told(0x95), 7), Sentence::GiveUp);
        assert_eq!(blame.next_careful_for, CAREFUL_FOR_MIN);
    }

    #[test]
    fn a_broker_that_refuses_everything_is_at_fault_itself() {
        let mut blame = Blame::default();
        for digest in 0..u64::from(BLAMED_IN_A_ROW_MAX) {
            assert_eq!(blame.ended_at(&told(0x95), digest), Sentence::GiveUp);
        }
        assert_eq!(blame.ended_at(&told(0x95), 77), Sentence::NotItsFault);
        blame.accepted(78);
        assert_eq!(blame.ended_at(&told(0x95), 79), Sentence::GiveUp);
    }

    #[test]
    fn without_a_reason_a_message_is_given_up_only_if_others_pass() {
        let mut blame = Blame::default();
        (0..CLOSINGS_MAX).for_each(|_| blame.ended(&End::Closed));
        assert!(blame.is_careful());
        let sentences: Vec<Sentence> = (0..5).map(|_| blame.ended_at(&End::Closed, 7)).collect();
        let (again, not) = (Sentence::Again, Sentence::NotItsFault);
        assert_eq!(sentences, [again, again, not, not, not], "perhaps nothing passes there");
        blame.accepted(8);
        assert_eq!(blame.ended_at(&End::Closed, 7), Sentence::GiveUp);
        assert_eq!(blame.ended_at(&End::Closed, 9), Sentence::Again, "the next one is not blamed for it");
        blame.accepted(9);
        assert_eq!(blame.ended_at(&End::Closed, 9), Sentence::Again, "it has passed, so it is not to blame");
    }

    #[test]
    fn several_are_suspected_at_a_time_and_a_part_of_what_was_blamed_counts_once() {
        let mut blame = Blame::default();
        (0..CLOSINGS_MAX).for_each(|_| blame.ended(&End::Closed));
        for sentence in [Sentence::Again, Sentence::Again, Sentence::GiveUp] {
            for poison in [7, 8] {
                assert_eq!(blame.ended_at(&End::Closed, poison), sentence);
                assert_eq!(blame.suspects(poison), sentence == Sentence::Again);
            }
            blame.accepted(1);
        }
        (0..1_000).for_each(|digest| assert_eq!(blame.ended_at(&End::Closed, digest), Sentence::Again));
        assert_eq!(blame.suspects.len(), SUSPECTS_MAX);
        for digest in 0..u64::from(2 * BLAMED_IN_A_ROW_MAX) {
            assert_eq!(blame.ended_at(&told(0x95), digest), Sentence::GiveUp);
            blame.of_the_same();
        }
    }

    #[test]
    fn a_link_that_breaks_now_and_then_blames_nobody() {
        let mut blame = Blame::default();
        for digest in 0..100 {
            blame.ended(&End::Closed);
            blame.accepted(digest);
        }
        assert!(!blame.is_careful());
        (0..3).for_each(|_| blame.ended(&told(0x8e)));
        assert_eq!(blame.takeovers(), 3);
        blame.ended(&End::Closed);
        assert_eq!(blame.takeovers(), 0);
    }
}

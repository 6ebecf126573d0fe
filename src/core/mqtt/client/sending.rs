//! What was asked of the broker and awaits its answer: messages of QoS 1 and 2, and changes of subscriptions.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::{Answer, End, Refusal};
use crate::mqtt::packet::{Version, reason, server};

/// Something that was asked of the broker. Never used twice by one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wish(pub u64);

/// Why nothing may be published at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// Until the broker has acknowledged something.
    WindowIsFull,
    /// Until this time, in milliseconds: so much a second is taken.
    Until(u64),
    /// Until what was sent is with the network.
    NotWritten,
    /// The connection is not open.
    NotOpen,
}

/// Before version 5 a server cannot say how many messages it takes at once. Mosquitto closes the connection at more than these of QoS 2.
const UNTOLD_WINDOW_OF_QOS_2: usize = 20;

/// What an answer is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// PUBACK.
    Acknowledge,
    /// PUBREC.
    Receive,
    /// PUBCOMP.
    Complete,
    /// SUBACK, with so many codes.
    Subscribe(usize),
    /// UNSUBACK.
    Unsubscribe(usize),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    packet_id: u16,
    step: Step,
    /// When it was asked, or last stood behind something that got on: bytes before its end, or an answer to what was asked before it.
    since_ms: u64,
    /// Where it ends, among all bytes of the connection.
    ends_at: u64,
}

/// Everything that waits for an answer, by the order in which it was asked.
#[derive(Debug, Default)]
pub(super) struct Sending {
    window: usize,
    /// The server cannot say what it takes.
    is_untold: bool,
    next_wish: u64,
    last_packet_id: u16,
    waiting: BTreeMap<Wish, Waiting>,
    by_packet_id: HashMap<u16, Wish>,
    /// Messages among them.
    messages: usize,
    rate: Option<Rate>,
}

/// What a server answers with, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answered<'a> {
    PubAck(server::Answer<'a>),
    PubRec(server::Answer<'a>),
    PubComp(server::Answer<'a>),
    SubAck(u16, &'a [u8]),
    UnsubAck(u16, &'a [u8]),
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    /// PUBREL has to be sent, with this reason code.
    Release(u16, u8),
    Done(Wish, Answer),
}

impl Sending {
    pub(super) fn new(version: Version, window: u16, publishes_per_second: Option<u32>) -> Sending {
        Sending {
            window: usize::from(window),
            is_untold: version < Version::V5,
            rate: publishes_per_second.map(Rate::new),
            ..Sending::default()
        }
    }

    /// The server may take less than we would have sent.
    pub(super) fn narrow(&mut self, window: u16) {
        self.window = self.window.min(usize::from(window));
    }

    pub(super) fn window(&self) -> u16 {
        u16::try_from(self.window).unwrap_or(u16::MAX)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.messages
    }

    pub(super) fn may_publish(&self, qos: u8, now_ms: u64) -> Result<(), NotNow> {
        let window = match qos {
            2 if self.is_untold => self.window.min(UNTOLD_WINDOW_OF_QOS_2),
            _ => self.window,
        };
        if qos > 0 && self.messages >= window {
            return Err(NotNow::WindowIsFull);
        }
        match self.rate.as_ref().map(Rate::ready_at_ms) {
            Some(at_ms) if at_ms > now_ms => Err(NotNow::Until(at_ms)),
            _ => Ok(()),
        }
    }

    /// A message is sent: it counts, whatever its quality of service is.
    pub(super) fn count(&mut self, now_ms: u64) {
        if let Some(rate) = &mut self.rate {
            rate.take(now_ms);
        }
    }

    /// Of something that needs no answer.
    pub(super) fn wish(&mut self) -> Wish {
        self.next_wish += 1;
        Wish(self.next_wish)
    }

    /// The wish and its packet id; `None` if all ids are in use.
    pub(super) fn begin(&mut self, step: Step, now_ms: u64) -> Option<(Wish, u16)> {
        if self.waiting.len() >= usize::from(u16::MAX) {
            return None;
        }
        let packet_id = loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if !self.by_packet_id.contains_key(&self.last_packet_id) {
                break self.last_packet_id;
            }
        };
        let wish = self.wish();
        self.waiting.insert(wish, Waiting { packet_id, step, since_ms: now_ms, ends_at: 0 });
        self.by_packet_id.insert(packet_id, wish);
        self.messages += usize::from(step.is_of_message());
        Some((wish, packet_id))
    }

    /// Where the bytes of what was asked end; of what awaits no answer nothing is kept.
    pub(super) fn ends_at(&mut self, wish: Wish, ends_at: u64) {
        if let Some(waiting) = self.waiting.get_mut(&wish) {
            waiting.ends_at = ends_at;
        }
    }

    /// The same of a message of which PUBREL is the last that was sent.
    pub(super) fn release_ends_at(&mut self, packet_id: u16, ends_at: u64) {
        if let Some(wish) = self.by_packet_id.get(&packet_id).copied() {
            self.ends_at(wish, ends_at);
        }
    }

    /// More is with the network than so many bytes: whoever was not wholly there begins to wait anew.
    pub(super) fn written(&mut self, before: u64, now_ms: u64) {
        self.waiting
            .values_mut()
            .filter(|waiting| waiting.ends_at > before)
            .for_each(|waiting| waiting.since_ms = now_ms);
    }

    /// What was asked before has its answer: the broker gets on, though perhaps slowly. What was asked later proves nothing.
    fn gets_on(&mut self, answered: Wish, now_ms: u64) {
        let later = (Bound::Excluded(answered), Bound::Unbounded);
        self.waiting.range_mut(later).for_each(|(_, waiting)| waiting.since_ms = now_ms);
    }

    /// What an answer means.
    ///
    /// # Errors
    ///
    /// If something else was asked under its id.
    pub(super) fn answered(&mut self, answered: Answered<'_>, now_ms: u64) -> Result<Follows, &'static str> {
        let packet_id = answered.packet_id();
        let wish = self.by_packet_id.get(&packet_id).copied();
        let Some((wish, waiting)) = wish.and_then(|wish| self.waiting.get_mut(&wish).map(|waiting| (wish, waiting)))
        else {
            // It costs nothing to let it be; only of QoS 2 the server waits for more.
            return Ok(match answered {
                Answered::PubRec(ack) if ack.reason < reason::UNSPECIFIED => {
                    Follows::Release(packet_id, reason::UNKNOWN_ID)
                }
                _ => Follows::Nothing,
            });
        };
        let answer = match (waiting.step, answered) {
            (Step::Acknowledge, Answered::PubAck(ack)) => of_message(ack),
            (Step::Receive, Answered::PubRec(ack)) if ack.reason < reason::UNSPECIFIED => {
                (waiting.step, waiting.since_ms) = (Step::Complete, now_ms);
                self.gets_on(wish, now_ms);
                return Ok(Follows::Release(packet_id, reason::SUCCESS));
            }
            (Step::Receive, Answered::PubRec(ack)) => of_message(ack),
            // The server has sent it again because it did not get the first PUBREL in time.
            (Step::Complete, Answered::PubRec(_)) => return Ok(Follows::Release(packet_id, reason::SUCCESS)),
            // Whatever the code: the server does not know the message any more, so it was complete.
            (Step::Complete, Answered::PubComp(_)) => Answer::Accepted,
            (Step::Subscribe(filters), Answered::SubAck(_, codes)) if codes.len() == filters => {
                Answer::Filters(codes.iter().map(|code| granted(*code)).collect())
            }
            (Step::Unsubscribe(filters), Answered::UnsubAck(_, codes))
                if codes.is_empty() || codes.len() == filters =>
            {
                Answer::Filters(codes.iter().map(|code| granted(*code)).collect())
            }
            _ => return Err("an answer of another kind than was asked for"),
        };
        self.done(wish);
        self.gets_on(wish, now_ms);
        Ok(Follows::Done(wish, answer))
    }

    fn done(&mut self, wish: Wish) {
        if let Some(waiting) = self.waiting.remove(&wish) {
            self.by_packet_id.remove(&waiting.packet_id);
            self.messages -= usize::from(waiting.step.is_of_message());
        }
    }

    /// Since when one has waited longest.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.waiting.values().map(|waiting| waiting.since_ms).min()
    }

    /// Everything is given back, in the order in which it was asked.
    pub(super) fn give_back(&mut self, end: &End) -> impl Iterator<Item = (Wish, Answer)> + use<> {
        self.by_packet_id.clear();
        self.messages = 0;
        let end = end.clone();
        std::mem::take(&mut self.waiting).into_keys().map(move |wish| (wish, Answer::Unanswered(end.clone())))
    }
}

impl Step {
    fn is_of_message(self) -> bool {
        matches!(self, Step::Acknowledge | Step::Receive | Step::Complete)
    }
}

impl Answered<'_> {
    fn packet_id(&self) -> u16 {
        match self {
            Answered::PubAck(ack) | Answered::PubRec(ack) | Answered::PubComp(ack) => ack.packet_id,
            Answered::SubAck(packet_id, _) | Answered::UnsubAck(packet_id, _) => *packet_id,
        }
    }
}

fn of_message(ack: server::Answer<'_>) -> Answer {
    match ack.reason {
        reason::NO_MATCHING_SUBSCRIBERS => Answer::NobodySubscribed,
        code if code < reason::UNSPECIFIED => Answer::Accepted,
        code => Answer::Refused(Refusal::of(code, ack.text)),
    }
}

fn granted(code: u8) -> Result<u8, u8> {
    if code < reason::UNSPECIFIED { Ok(code) } else { Err(code) }
}

/// At most so many within any second, also if there was a pause before.
#[derive(Debug)]
struct Rate {
    cost_us: u64,
    /// So much may be saved up for a burst.
    saved_us_max: u64,
    /// When everything that was sent is paid for.
    paid_at_us: u64,
}

/// A burst is this part of what a second takes.
const BURST_SHARE: u64 = 20;

impl Rate {
    fn new(per_second: u32) -> Rate {
        let per_second = u64::from(per_second.max(1));
        let burst = (per_second / BURST_SHARE).max(1);
        // The burst and what is earned in a second after it are together what a second takes.
        let cost_us = 1_000_000_u64.div_ceil(per_second.saturating_sub(burst).max(1));
        Rate { cost_us, saved_us_max: (burst - 1) * cost_us, paid_at_us: 0 }
    }

    fn ready_at_ms(&self) -> u64 {
        self.paid_at_us.saturating_sub(self.saved_us_max).div_ceil(1_000)
    }

    fn take(&mut self, now_ms: u64) {
        self.paid_at_us = self.paid_at_us.max(now_ms.saturating_mul(1_000)).saturating_add(self.cost_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_no_second_more_is_sent_than_is_taken() {
        for (per_second, before) in [(100, 0), (100, 60_000), (7, 5_000), (1, 0)] {
            let mut rate = Rate::new(per_second);
            let mut sent = Vec::new();
            for now_ms in before..before + 10_000 {
                while rate.ready_at_ms() <= now_ms {
                    rate.take(now_ms);
                    sent.push(now_ms);
                }
            }
            let most =
                sent.iter().map(|from| sent.iter().filter(|at| (*from..from + 1_000).contains(*at)).count()).max();
            assert!(most <= Some(per_second as usize), "{per_second}: {most:?}");
            assert!(sent.len() >= 9 * per_second as usize || per_second < 10, "{per_second}: {}", sent.len());
            assert!(sent.len() >= 9, "{per_second}: {}", sent.len());
        }
    }
}

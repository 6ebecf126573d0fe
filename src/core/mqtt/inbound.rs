//! The publishing half of a session.
//!
//! A publish gets an ordinal when it comes in and is answered, in order, when the pipeline says that everything up to its ordinal is durable:
//! at QoS 1 with PUBACK, at QoS 2 with PUBREC.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::packet::{Publish, Version, ack, reason};
use super::publishing::{self, PublishVerdict, Voice};
use super::session::{ALIASES_MAX, Close};
use crate::mqtt::access::Permissions;

/// Most messages of QoS 2 that a client may have sent and not released.
pub const UNRELEASED_MAX: usize = 1_024;

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

/// Ids of messages of QoS 2 that the client may send again: such a message is taken once. They belong to the session, not to its connection.
#[derive(Debug, Default)]
pub struct Unreleased {
    /// Each with whether its message is stored.
    ids: HashMap<u16, bool>,
}

impl Unreleased {
    /// Whether a message waits for its commit.
    pub fn is_storing(&self) -> bool {
        self.ids.values().any(|is_stored| !is_stored)
    }

    /// Messages that are not known to be stored are not known at all: they come again.
    pub fn forget_unstored(&mut self) {
        self.ids.retain(|_, is_stored| *is_stored);
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids.keys().copied()
    }

    /// One that was stored before a restart.
    pub fn restore(&mut self, packet_id: u16) {
        self.ids.insert(packet_id, true);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// A publish that is to be answered.
#[derive(Debug)]
struct Waiting {
    ordinal: u64,
    packet_id: u16,
    /// First byte of its answer.
    answer: u8,
    reason: u8,
}

/// What becomes of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It has the next ordinal.
    New {
        /// What is to be done with it.
        verdict: PublishVerdict,
        /// The topic that its alias stands for, if it has no topic of its own.
        topic: Option<Rc<str>>,
    },
    /// It was taken before.
    Repeat,
}

/// The publishes of one connection.
#[derive(Debug, Default)]
pub struct Inbound {
    version: Version,
    receive_maximum: Option<u16>,
    aliases: HashMap<u16, Rc<str>>,
    last_ordinal: u64,
    committed: u64,
    /// Ordinal of the last publish that was refused. Those up to it no longer count as uncommitted.
    refused: u64,
    /// Publishes up to this one may still be committed, but no longer count as uncommitted.
    excused: u64,
    /// A publish was refused that was to be answered: its answer will never come.
    is_unanswered: bool,
    waiting: VecDeque<Waiting>,
}

impl Inbound {
    /// For a client of this version, which may have so many unacknowledged messages if that is limited.
    pub fn new(version: Version, receive_maximum: Option<u16>) -> Inbound {
        Inbound { version, receive_maximum, ..Inbound::default() }
    }

    /// Judges a PUBLISH. A new one has the next ordinal; one that was taken before is answered at once if it is stored.
    ///
    /// # Errors
    ///
    /// The reason to close the connection.
    pub fn publish(
        &mut self,
        publish: &Publish<'_>,
        permissions: &Permissions,
        unreleased: &mut Unreleased,
        out: &mut Vec<u8>,
    ) -> Result<Judged, Close> {
        let &Publish { qos, packet_id, .. } = publish;
        let topic = self.resolve(publish)?;
        let verdict = publishing::judge(Voice::Publish, topic.as_deref().unwrap_or(publish.topic), permissions);
        let verdict = verdict.map_err(Close::Topic)?;
        if qos == 2
            && let Some(is_stored) = unreleased.ids.get(&packet_id)
        {
            if *is_stored {
                ack(self.version, PUBREC, packet_id, reason::SUCCESS, out);
            }
            return Ok(Judged::Repeat);
        }
        self.check_quota(qos, unreleased)?;
        self.last_ordinal += 1;
        if qos > 0 {
            let reason = match verdict {
                PublishVerdict::Take | PublishVerdict::AcknowledgeAlert => reason::SUCCESS,
                PublishVerdict::Refuse => reason::NOT_AUTHORIZED,
                PublishVerdict::Deny(code) => code.reason(),
            };
            let answer = if qos == 2 { PUBREC } else { PUBACK };
            self.waiting.push_back(Waiting { ordinal: self.last_ordinal, packet_id, answer, reason });
        }
        if qos == 2 {
            unreleased.ids.insert(packet_id, false);
        }
        Ok(Judged::New { verdict, topic })
    }

    /// Remembers what an alias stands for, or looks it up.
    fn resolve(&mut self, publish: &Publish<'_>) -> Result<Option<Rc<str>>, Close> {
        let Some(alias) = publish.alias else { return Ok(None) };
        if alias == 0 || alias > ALIASES_MAX {
            return Err(Close::BadAlias(alias));
        }
        if publish.topic.is_empty() {
            return self.aliases.get(&alias).cloned().map(Some).ok_or(Close::UnknownAlias);
        }
        self.aliases.insert(alias, publish.topic.into());
        Ok(None)
    }

    fn check_quota(&self, qos: u8, unreleased: &Unreleased) -> Result<(), Close> {
        let is_over = match (qos, self.receive_maximum) {
            (0, _) => false,
            (_, Some(max)) => {
                let of_qos_1 = self.waiting.iter().filter(|waiting| waiting.answer == PUBACK).count();
                of_qos_1 + unreleased.len() >= usize::from(max)
            }
            (_, None) => qos == 2 && unreleased.len() >= UNRELEASED_MAX,
        };
        if is_over { Err(Close::ReceiveMaximum) } else { Ok(()) }
    }

    /// Takes a PUBREL: the client will not send this message again, so its id is free. Returns whether there is such a message.
    pub fn release(&self, packet_id: u16, unreleased: &mut Unreleased, out: &mut Vec<u8>) -> bool {
        let is_known = unreleased.ids.remove(&packet_id).is_some();
        let reason = if is_known { reason::SUCCESS } else { reason::UNKNOWN_ID };
        ack(self.version, PUBCOMP, packet_id, reason, out);
        is_known
    }

    /// Ordinal of the newest publish that was not refused by [`Self::publish`]; the first is 1, and 0 means none.
    pub fn last_ordinal(&self) -> u64 {
        self.last_ordinal
    }

    /// Publishes that are neither committed nor refused yet, QoS 0 included.
    pub fn uncommitted(&self) -> u64 {
        self.last_ordinal - self.committed.max(self.refused).max(self.excused)
    }

    /// The disk is in trouble: publishes up to this one keep nobody waiting, whether or not they are committed in the end.
    pub fn excuse(&mut self, through: u64) {
        self.excused = self.excused.max(through.min(self.last_ordinal));
    }

    /// Whether a publish is neither committed nor refused yet, or an answer will never come.
    pub fn is_waiting(&self) -> bool {
        self.is_answerable() || self.is_unanswered
    }

    /// Whether a publish is neither committed nor refused yet, or waits for its answer.
    pub fn is_answerable(&self) -> bool {
        self.uncommitted() > 0 || !self.waiting.is_empty()
    }

    /// These publishes are not stored, and get no answer.
    pub fn refused(&mut self, publishes: RangeInclusive<u64>, unreleased: &mut Unreleased) {
        self.refused = self.refused.max((*publishes.end()).min(self.last_ordinal));
        let before = self.waiting.len();
        self.waiting.retain(|waiting| {
            let is_refused = publishes.contains(&waiting.ordinal);
            if is_refused && waiting.answer == PUBREC {
                unreleased.ids.remove(&waiting.packet_id);
            }
            !is_refused
        });
        self.is_unanswered |= self.waiting.len() < before;
    }

    /// Everything up to `through` is durable: appends the answers that this sets free.
    pub fn committed(&mut self, through: u64, unreleased: &mut Unreleased, out: &mut Vec<u8>) {
        self.committed = self.committed.max(through.min(self.last_ordinal));
        while let Some(Waiting { packet_id, answer, reason, .. }) =
            self.waiting.pop_front_if(|waiting| waiting.ordinal <= self.committed)
        {
            ack(self.version, answer, packet_id, reason, out);
            let is_refused = self.version == Version::V5 && reason >= reason::UNSPECIFIED;
            match unreleased.ids.get_mut(&packet_id) {
                Some(_) if answer == PUBREC && is_refused => _ = unreleased.ids.remove(&packet_id),
                Some(is_stored) if answer == PUBREC => *is_stored = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic::TopicError;

    /// A client, and what it was answered.
    #[derive(Default)]
    struct Client {
        inbound: Inbound,
        unreleased: Unreleased,
        out: Vec<u8>,
    }

    impl Client {
        fn of(version: Version, receive_maximum: Option<u16>) -> Client {
            Client { inbound: Inbound::new(version, receive_maximum), ..Client::default() }
        }

        fn publish(&mut self, topic: &str, qos: u8, packet_id: u16) -> Result<Option<PublishVerdict>, Close> {
            self.publish_by(topic, qos, packet_id, None)
        }

        fn publish_by(
            &mut self,
            topic: &str,
            qos: u8,
            packet_id: u16,
            alias: Option<u16>,
        ) -> Result<Option<PublishVerdict>, Close> {
            let publish = Publish { topic, qos, packet_id, alias, ..Publish::default() };
            let everything = Permissions::everything();
            self.inbound.publish(&publish, &everything, &mut self.unreleased, &mut self.out).map(
                |judged| match judged {
                    Judged::New { verdict, .. } => Some(verdict),
                    Judged::Repeat => None,
                },
            )
        }

        fn committed(&mut self, through: u64) -> Vec<u8> {
            self.inbound.committed(through, &mut self.unreleased, &mut self.out);
            std::mem::take(&mut self.out)
        }
    }

    const TAKEN: Result<Option<PublishVerdict>, Close> = Ok(Some(PublishVerdict::Take));

    #[test]
    fn acknowledgements_wait_for_the_commit_and_keep_their_order() {
        let mut client = Client::default();
        assert_eq!(client.publish("a", 1, 10), TAKEN);
        assert_eq!(client.publish("a", 0, 0), TAKEN);
        assert_eq!(client.publish("alerts/x", 1, 11), Ok(Some(PublishVerdict::Refuse)));
        assert_eq!((client.committed(0), client.inbound.uncommitted()), (vec![], 3));
        assert_eq!(client.committed(2), [0x40, 2, 0, 10]);
        assert_eq!(client.committed(99), [0x40, 2, 0, 11], "3.1.1 has no reason");
        assert_eq!(client.inbound.uncommitted(), 0);
    }

    #[test]
    fn what_a_failing_disk_has_not_taken_yet_holds_up_nobody_and_is_still_acknowledged() {
        let mut client = Client::default();
        (1..=5).for_each(|id| assert_eq!(client.publish("a", 1, id), TAKEN));
        client.inbound.excuse(3);
        assert_eq!((client.inbound.uncommitted(), client.inbound.is_answerable()), (2, true));
        client.inbound.excuse(99);
        assert_eq!((client.inbound.uncommitted(), client.inbound.is_answerable()), (0, true));
        assert_eq!(client.committed(2), [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
    }

    #[test]
    fn a_message_of_qos_2_is_taken_once_until_it_is_released() {
        let mut client = Client::of(Version::V5, None);
        assert_eq!(client.publish("a", 2, 7), TAKEN);
        assert_eq!(client.publish("a", 2, 7), Ok(None), "it is being stored");
        assert!(client.out.is_empty() && client.unreleased.is_storing());
        assert_eq!(client.committed(1), [0x50, 2, 0, 7]);
        assert_eq!(client.publish("a", 2, 7), Ok(None));
        assert_eq!(std::mem::take(&mut client.out), [0x50, 2, 0, 7], "answered at once");
        assert_eq!(client.inbound.last_ordinal(), 1);
        client.inbound.release(7, &mut client.unreleased, &mut client.out);
        client.inbound.release(7, &mut client.unreleased, &mut client.out);
        assert_eq!(std::mem::take(&mut client.out), [0x70, 2, 0, 7, 0x70, 3, 0, 7, 0x92]);
        assert_eq!(client.publish("a", 2, 7), TAKEN, "another one");
        client.inbound.refused(2..=2, &mut client.unreleased);
        assert_eq!(client.publish("a", 2, 7), TAKEN, "it was not stored");
        assert_eq!(client.publish("alerts/x", 2, 8), Ok(Some(PublishVerdict::Refuse)));
        assert_eq!(client.committed(9), [0x50, 2, 0, 7, 0x50, 3, 0, 8, 0x87]);
        assert_eq!(client.unreleased.len(), 1, "a refusal frees its id");
        assert_eq!(client.publish("a", 2, 9), TAKEN);
        client.unreleased.forget_unstored();
        assert_eq!((client.publish("a", 2, 7), client.publish("a", 2, 9)), (Ok(None), TAKEN));
    }

    #[test]
    fn what_is_not_allowed_closes() {
        let mut client = Client::of(Version::V5, Some(2));
        assert_eq!(client.publish("a/#", 0, 0), Err(Close::Topic(TopicError::Wildcard)));
        assert_eq!(client.publish("", 0, 0), Err(Close::Topic(TopicError::Empty)));
        assert_eq!(client.publish("$SYS/x", 1, 1), Ok(Some(PublishVerdict::Refuse)));
        assert_eq!(client.publish("a", 2, 2), TAKEN);
        assert_eq!((client.publish("a", 1, 3), client.publish("a", 0, 0)), (Err(Close::ReceiveMaximum), TAKEN));
        assert_eq!(client.committed(1), [0x40, 3, 0, 1, 0x87]);
        assert_eq!(client.publish("a", 1, 3), TAKEN, "there is room again");
        let mut client = Client::default();
        (0..UNRELEASED_MAX as u16).for_each(|id| assert_eq!(client.publish("a", 2, id + 1), TAKEN));
        assert_eq!(client.publish("a", 2, 9_999), Err(Close::ReceiveMaximum));
    }

    #[test]
    fn an_alias_stands_for_the_topic_that_was_given_last() {
        let mut client = Client::of(Version::V5, None);
        assert_eq!(client.publish_by("", 0, 0, Some(1)), Err(Close::UnknownAlias));
        for (topic, stands_for) in [("a", None), ("", Some("a")), ("b", None), ("", Some("b"))] {
            let publish = Publish { topic, alias: Some(1), ..Publish::default() };
            let judged =
                client.inbound.publish(&publish, &Permissions::everything(), &mut client.unreleased, &mut client.out);
            let topic = stands_for.map(Into::into);
            assert_eq!(judged, Ok(Judged::New { verdict: PublishVerdict::Take, topic }));
        }
        for alias in [0, ALIASES_MAX + 1] {
            assert_eq!(client.publish_by("a", 0, 0, Some(alias)), Err(Close::BadAlias(alias)));
        }
    }
}

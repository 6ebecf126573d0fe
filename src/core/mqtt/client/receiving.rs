//! Messages that arrive, and their acknowledgements: whoever gets a message says when it is done with, and acknowledgements leave in the order
//! in which the messages came, as MQTT demands.

use std::collections::{HashSet, VecDeque};

use crate::mqtt::packet::{Publish, Version, ack, reason};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

/// So many more messages than the broker was told of are taken. Mosquitto 2.0.11 sends more at QoS 2, and all that was on its way again after an
/// outage: if that ended the connection, it would end each one after it, too, for ever.
const EXCESS_MAX: usize = 4_096;

/// Stands for a message that is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

#[derive(Clone, Copy, Debug)]
struct Taken {
    token: Token,
    packet_id: u16,
    qos: u8,
    is_done: bool,
}

/// What becomes of a message of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It goes to the owner, to be acknowledged by this token.
    New(Option<Token>),
    /// The owner has it already.
    Repeat,
}

/// Of one connection.
#[derive(Debug)]
pub(super) struct Receiving {
    version: Version,
    maximum: usize,
    tokens: u64,
    taken: VecDeque<Taken>,
    /// Ids of messages of QoS 2 whose PUBREC was sent, and PUBREL has not come.
    unreleased: HashSet<u16>,
}

impl Receiving {
    pub(super) fn new(version: Version, maximum: u16, unreleased: &[u16]) -> Receiving {
        let unreleased = unreleased.iter().copied().collect();
        Receiving { version, maximum: usize::from(maximum), tokens: 0, taken: VecDeque::new(), unreleased }
    }

    /// The broker has not kept the session: it begins with new ids.
    pub(super) fn forget(&mut self) {
        self.unreleased.clear();
    }

    pub(super) fn unreleased(&self) -> Vec<u16> {
        let mut ids: Vec<u16> = self.unreleased.iter().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Messages that the owner has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.taken.iter().filter(|taken| !taken.is_done).count()
    }

    /// A message has come.
    ///
    /// # Errors
    ///
    /// If the broker does not keep to the standard.
    pub(super) fn message(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<Judged, &'static str> {
        let &Publish { qos, packet_id, .. } = publish;
        if qos == 0 {
            return Ok(Judged::New(None));
        }
        if qos == 2 && self.unreleased.contains(&packet_id) {
            ack(self.version, PUBREC, packet_id, reason::SUCCESS, out);
            return Ok(Judged::Repeat);
        }
        match self.taken.iter().find(|taken| taken.packet_id == packet_id) {
            // Older brokers repeat on a live connection what is not acknowledged for a while, and its owner may take its time.
            Some(taken) if publish.dup && taken.qos == qos => return Ok(Judged::Repeat),
            Some(_) => return Err("a packet id that is in use"),
            None => {}
        }
        // Before version 5 the broker has not been told how many it may send.
        if self.version == Version::V5 && self.taken.len() >= self.maximum + EXCESS_MAX {
            return Err("more messages than may be unacknowledged");
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.taken.push_back(Taken { token, packet_id, qos, is_done: false });
        Ok(Judged::New(Some(token)))
    }

    /// The owner is done with a message.
    pub(super) fn acknowledge(&mut self, token: Token, out: &mut Vec<u8>) {
        // They are in the order of their tokens.
        if let Ok(at) = self.taken.binary_search_by_key(&token, |taken| taken.token) {
            self.taken[at].is_done = true;
        }
        while let Some(taken) = self.taken.pop_front_if(|taken| taken.is_done) {
            let first = if taken.qos == 2 { PUBREC } else { PUBACK };
            ack(self.version, first, taken.packet_id, reason::SUCCESS, out);
            if taken.qos == 2 {
                self.unreleased.insert(taken.packet_id);
            }
        }
    }

    /// PUBREL has come.
    pub(super) fn released(&mut self, packet_id: u16, out: &mut Vec<u8>) {
        let reason = match self.unreleased.remove(&packet_id) {
            true => reason::SUCCESS,
            false => reason::UNKNOWN_ID,
        };
        ack(self.version, PUBCOMP, packet_id, reason, out);
    }
}

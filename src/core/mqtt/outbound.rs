//! The subscribing half of a session: what waits for the client, and what it has not acknowledged.
//!
//! A message of QoS 1 is kept until its PUBACK; one of QoS 2 until its PUBREC, and its id until its PUBCOMP. It outlives connections: each has
//! its own [`Limits`], and begins with what was not acknowledged.
//!
//! A session that is stored can go on after a restart. For QoS 2 this takes order: it has to be stored under which id a message is sent before
//! it is sent, and that the client has it before it is told to release the id. At QoS 1 a message may be sent again, so nothing waits.

mod answers;
mod in_flight;
mod message;
mod storing;
mod unfinished;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

pub use in_flight::Restored;
pub use message::{Message, Shelf, Stored};

use super::keeping::MessageNumber;
use super::packet::{self, Outgoing, Version, reason};
use in_flight::InFlight;
use unfinished::Unfinished;

/// Most messages of QoS 1 and 2 that a client has been sent and not acknowledged.
pub const IN_FLIGHT_MAX: usize = 64;
/// Most aliases that are used towards a client.
const ALIASES_MAX: u16 = 64;

const PUBREL: u8 = 0x62;

/// Bytes that are kept for a client, see [`Message::cost`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of other clients' messages.
    pub bytes: usize,
    /// Of the gateway's own.
    pub own_bytes: usize,
}

impl Kept {
    fn of(&mut self, is_own: bool) -> &mut usize {
        if is_own { &mut self.own_bytes } else { &mut self.bytes }
    }
}

/// What a client takes, as long as it is connected.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the connection.
    pub version: Version,
    /// Most messages of QoS 1 and 2 before one is acknowledged.
    pub receive_maximum: usize,
    /// Largest packet.
    pub packet_bytes_max: usize,
    /// Most aliases of topics.
    pub aliases_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        let receive_maximum = usize::from(u16::MAX);
        Limits { version: Version::default(), receive_maximum, packet_bytes_max: usize::MAX, aliases_max: 0 }
    }
}

/// The subscribing half.
#[derive(Debug)]
pub struct Outbound<P> {
    limits: Limits,
    /// Copies: a topic may be a slice of its whole message, and would keep all of it.
    aliases: HashMap<Box<[u8]>, u16>,
    own: VecDeque<Message<P>>,
    queue: VecDeque<Message<P>>,
    /// Cost of both queues, and of what is in flight.
    kept: Kept,
    in_flight: VecDeque<InFlight<P>>,
    /// How many of those in flight were not sent over this connection yet.
    unsent: usize,
    /// Messages that the client has, and whose ids it is told to release once that is stored.
    unreleased: usize,
    last_packet_id: u16,
    /// Messages with lower numbers may have been sent before a restart.
    sent_before: Option<MessageNumber>,
    /// What is needed after a restart is stored.
    is_stored: bool,
    unfinished: Unfinished,
    /// Increases with each change that has to be stored before what follows from it is sent.
    revision: u64,
    stored_revision: u64,
    /// Something has changed that is stored when there is time.
    is_changed: bool,
}

impl<P> Default for Outbound<P> {
    fn default() -> Self {
        Outbound {
            limits: Limits::default(),
            aliases: HashMap::new(),
            own: VecDeque::new(),
            queue: VecDeque::new(),
            kept: Kept::default(),
            in_flight: VecDeque::new(),
            unsent: 0,
            unreleased: 0,
            last_packet_id: 0,
            sent_before: None,
            is_stored: false,
            unfinished: Unfinished::default(),
            revision: 0,
            stored_revision: 0,
            is_changed: false,
        }
    }
}

impl<P: AsRef<[u8]>> Outbound<P> {
    /// The client is there, over a new connection: what it has not acknowledged is sent again.
    pub fn connect(&mut self, limits: Limits) {
        self.limits = limits;
        self.aliases.clear();
        (self.unsent, self.unreleased) = (self.in_flight.len(), 0);
        self.in_flight.iter_mut().for_each(InFlight::connection_ended);
    }

    /// Queues a message. Nothing bounds the queue here: the caller looks at [`Self::kept`].
    pub fn push(&mut self, message: Message<P>) {
        *self.kept.of(message.is_own) += message.cost();
        message.number().into_iter().for_each(|number| self.unfinished.expect(number));
        if message.is_own { &mut self.own } else { &mut self.queue }.push_back(message);
    }

    /// What is kept for the client: until it is sent, at QoS 1 and 2 until the client has it.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Messages of clients that were not sent yet.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Messages that were sent, or are about to be sent again, and are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Messages of the gateway's own that were not sent yet.
    pub fn own_waiting(&self) -> usize {
        self.own.len()
    }

    fn has_window(&self) -> bool {
        self.in_flight.len() - self.unsent < self.limits.receive_maximum.min(IN_FLIGHT_MAX)
    }

    /// Appends packets until `out` holds `bytes_max` bytes or more, or as much is unacknowledged as may be. What is of no use any more, or
    /// larger than the client takes, is left out. Returns how many messages were.
    pub fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize, now_ms: u64) -> usize {
        self.release_stored(out);
        let mut left_out = self.send_again(out, bytes_max, now_ms);
        while out.len() < bytes_max && self.unsent == 0 {
            let queue = if self.own.is_empty() { &self.queue } else { &self.own };
            let Some(next) = queue.front() else { break };
            if next.qos > 0 && !self.has_window() {
                break;
            }
            if next.qos == 2 && self.is_stored {
                self.assign();
                break;
            }
            let is_own = next.is_own;
            let queue = if is_own { &mut self.own } else { &mut self.queue };
            let Some(message) = queue.pop_front() else { break };
            let packet_id = if message.qos > 0 { self.next_packet_id(message.number()) } else { 0 };
            let dup = message.qos > 0 && message.number() < self.sent_before && message.number().is_some();
            let is_sent = !message.is_over(now_ms) && self.write(&message, packet_id, dup, now_ms, out);
            left_out += usize::from(!is_sent);
            if is_sent && message.qos > 0 {
                self.note_sent(&message);
                self.in_flight.push_back(InFlight::sent(packet_id, message));
            } else {
                self.let_go(Some(message));
            }
        }
        left_out
    }

    /// Gives ids to messages of QoS 2, as many as may be sent next.
    fn assign(&mut self) {
        let window = self.limits.receive_maximum.min(IN_FLIGHT_MAX);
        self.revision += 1;
        while self.in_flight.len() < window {
            let queue = if self.own.is_empty() { &mut self.queue } else { &mut self.own };
            let Some(message) = queue.pop_front_if(|next| next.qos == 2) else { break };
            self.note_sent(&message);
            let packet_id = self.next_packet_id(message.number());
            self.in_flight.push_back(InFlight::assigned(packet_id, message, self.revision));
            self.unsent += 1;
        }
    }

    fn note_sent(&mut self, message: &Message<P>) {
        self.is_changed = true;
        message.number().into_iter().for_each(|number| self.unfinished.sent(number));
    }

    /// Tells the client to release the ids of what it is known to have.
    fn release_stored(&mut self, out: &mut Vec<u8>) {
        if self.unreleased == 0 {
            return;
        }
        for sent in &mut self.in_flight {
            if sent.owes_release && sent.revision <= self.stored_revision {
                sent.owes_release = false;
                self.unreleased -= 1;
                packet::ack(self.limits.version, PUBREL, sent.packet_id, reason::SUCCESS, out);
            }
        }
    }

    /// Sends again what an earlier connection has sent, and what has got its id, in the same order.
    fn send_again(&mut self, out: &mut Vec<u8>, bytes_max: usize, now_ms: u64) -> usize {
        let mut left_out = 0;
        while self.unsent > 0 && out.len() < bytes_max && self.has_window() {
            let Some(at) = self.in_flight.iter().position(|sent| !sent.is_sent) else { break };
            let sent = &mut self.in_flight[at];
            if self.is_stored && sent.revision > self.stored_revision {
                break;
            }
            let (packet_id, dup, message) = (sent.packet_id, sent.was_sent, sent.message.take());
            self.unsent -= 1;
            let is_sent = match &message {
                Some(message) => self.write(message, packet_id, dup, now_ms, out),
                None => {
                    packet::ack(self.limits.version, PUBREL, packet_id, reason::SUCCESS, out);
                    true
                }
            };
            if is_sent {
                self.in_flight[at].sends(message);
            } else {
                self.in_flight.remove(at);
                self.let_go(message);
                left_out += 1;
            }
        }
        left_out
    }

    /// Returns whether the client takes it.
    fn write(&mut self, message: &Message<P>, packet_id: u16, dup: bool, now_ms: u64, out: &mut Vec<u8>) -> bool {
        let Limits { version, packet_bytes_max, aliases_max, .. } = self.limits;
        let remaining_s = |deadline_ms: u64| deadline_ms.saturating_sub(now_ms).div_ceil(1_000);
        let mut packet = Outgoing {
            topic: message.topic.as_ref(),
            payload: message.payload.as_ref(),
            qos: message.qos,
            retain: message.retain,
            dup,
            packet_id,
            passed_on: message.passed_on.as_ref(),
            expiry_s: message
                .deadline_ms
                .map(|deadline_ms| u32::try_from(remaining_s(deadline_ms)).unwrap_or(u32::MAX)),
            alias: None,
            identifiers: &message.identifiers,
        };
        let known = self.aliases.get(message.topic.as_ref()).copied();
        let aliases_max = aliases_max.min(ALIASES_MAX);
        packet.alias = known.or_else(|| {
            let next = u16::try_from(self.aliases.len()).ok()? + 1;
            (next <= aliases_max).then_some(next)
        });
        if known.is_some() {
            packet.topic = &[];
        }
        if packet_bytes_max < usize::MAX && packet.packet_len(version) > packet_bytes_max {
            return false;
        }
        packet::publish(version, &packet, out);
        if let (None, Some(alias)) = (known, packet.alias) {
            self.aliases.insert(message.topic.as_ref().into(), alias);
        }
        true
    }

    /// Drops the QoS 0 messages, because the client is away.
    pub fn drop_qos_0(&mut self) {
        for queue in [&mut self.own, &mut self.queue] {
            queue.retain(|message| {
                let is_kept = message.qos > 0;
                *self.kept.of(message.is_own) -= if is_kept { 0 } else { message.cost() };
                is_kept
            });
        }
    }

    /// Whether anything was sent, or is about to be, and is not acknowledged.
    pub fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// A message that is stored has an id by its number, so that it has the same one after a restart, if that is free.
    fn next_packet_id(&mut self, number: Option<MessageNumber>) -> u16 {
        let is_free = |id: u16| self.in_flight.iter().all(|sent| sent.packet_id != id);
        let by_number = number.map(|number| (number.0.wrapping_sub(1) % u64::from(u16::MAX)) as u16 + 1);
        if let Some(id) = by_number.filter(|id| is_free(*id)) {
            return id;
        }
        loop {
            self.last_packet_id = if self.last_packet_id == u16::MAX { 1 } else { self.last_packet_id + 1 };
            if is_free(self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

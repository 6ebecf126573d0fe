//! The subscribing half of a session: what waits for the client, and what it has not acknowledged.
//!
//! A message of QoS 1 is kept until its PUBACK; one of QoS 2 until its PUBREC, and its id until its PUBCOMP. It outlives connections: each has
//! its own [`Limits`], and begins with what was not acknowledged.

use std::collections::{HashMap, VecDeque};

use super::packet::{self, Outgoing, Version, reason};
use super::session::Close;

/// Most messages of QoS 1 and 2 that a client has been sent and not acknowledged.
pub const IN_FLIGHT_MAX: usize = 64;
/// Most aliases that are used towards a client.
const ALIASES_MAX: u16 = 64;

const PUBREL: u8 = 0x62;

/// What a client wants of the messages that match a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Highest quality of service.
    pub qos: u8,
    /// Not those that it has published itself.
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// Sent along; 0 if there is none.
    pub identifier: u32,
}

/// A message for one client. `P` holds bytes, owned or shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// UTF-8, at most 65,535 bytes.
    pub topic: P,
    /// What was published.
    pub payload: P,
    /// Properties of version 5 that are passed on, encoded.
    pub passed_on: P,
    /// By the steady clock, in milliseconds: from then on it is of no use.
    pub deadline_ms: Option<u64>,
    /// Of the client's subscriptions that it matches.
    pub identifiers: Box<[u32]>,
    /// The lower of what was published and what was granted: 0 to 2.
    pub qos: u8,
    /// The RETAIN flag that the client is sent.
    pub retain: bool,
    /// One of the gateway's own: sent before those of clients, and counted separately.
    pub is_own: bool,
}

impl<P: AsRef<[u8]>> Message<P> {
    /// Bytes that it is counted as while it is kept: its own, and 64 for the bookkeeping.
    pub fn cost(&self) -> usize {
        let [topic, payload, passed_on] = [&self.topic, &self.payload, &self.passed_on].map(|part| part.as_ref().len());
        topic + payload + passed_on + 64
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
    }
}

#[derive(Debug)]
struct InFlight<P> {
    packet_id: u16,
    /// `None` once the client has said that it has it: it only has to release the id.
    message: Option<Message<P>>,
    /// Whether it was sent over this connection.
    is_sent: bool,
}

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
    last_packet_id: u16,
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
            last_packet_id: 0,
        }
    }
}

impl<P: AsRef<[u8]>> Outbound<P> {
    /// The client is there, over a new connection: what it has not acknowledged is sent again.
    pub fn connect(&mut self, limits: Limits) {
        self.limits = limits;
        self.aliases.clear();
        self.unsent = self.in_flight.len();
        self.in_flight.iter_mut().for_each(|sent| sent.is_sent = false);
    }

    /// Queues a message. Nothing bounds the queue here: the caller looks at [`Self::kept`].
    pub fn push(&mut self, message: Message<P>) {
        *self.kept.of(message.is_own) += message.cost();
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
        let mut left_out = self.send_again(out, bytes_max, now_ms);
        while out.len() < bytes_max && self.unsent == 0 {
            let queue = if self.own.is_empty() { &self.queue } else { &self.own };
            let Some(next) = queue.front() else { break };
            if next.qos > 0 && !self.has_window() {
                break;
            }
            let is_own = next.is_own;
            let queue = if is_own { &mut self.own } else { &mut self.queue };
            let Some(message) = queue.pop_front() else { break };
            let packet_id = if message.qos > 0 { self.next_packet_id() } else { 0 };
            let is_sent = !message.is_over(now_ms) && self.write(&message, packet_id, false, now_ms, out);
            left_out += usize::from(!is_sent);
            if is_sent && message.qos > 0 {
                self.in_flight.push_back(InFlight { packet_id, message: Some(message), is_sent: true });
            } else {
                *self.kept.of(is_own) -= message.cost();
            }
        }
        left_out
    }

    /// Sends again what an earlier connection has sent, in the same order.
    fn send_again(&mut self, out: &mut Vec<u8>, bytes_max: usize, now_ms: u64) -> usize {
        let mut left_out = 0;
        while self.unsent > 0 && out.len() < bytes_max && self.has_window() {
            let Some(at) = self.in_flight.iter().position(|sent| !sent.is_sent) else { break };
            let InFlight { packet_id, message, .. } = &mut self.in_flight[at];
            let (packet_id, message) = (*packet_id, message.take());
            self.unsent -= 1;
            let is_sent = match &message {
                Some(message) => self.write(message, packet_id, true, now_ms, out),
                None => {
                    packet::ack(self.limits.version, PUBREL, packet_id, reason::SUCCESS, out);
                    true
                }
            };
            if is_sent {
                self.in_flight[at] = InFlight { packet_id, message, is_sent };
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

    /// Takes a PUBACK: the message is no longer kept. One for what was not sent, as after a reconnect, means nothing.
    ///
    /// # Errors
    ///
    /// If what has this id is no message of QoS 1.
    pub fn acknowledged(&mut self, packet_id: u16) -> Result<(), Close> {
        let is_meant = |message: Option<&Message<P>>| message.is_some_and(|message| message.qos == 1);
        let at = self.place_of(packet_id, is_meant)?;
        at.into_iter().for_each(|at| self.remove(at));
        Ok(())
    }

    /// Takes a PUBREC: the client has the message, or refuses it.
    ///
    /// # Errors
    ///
    /// If what has this id is no message of QoS 2.
    pub fn received(&mut self, packet_id: u16, reason: u8, out: &mut Vec<u8>) -> Result<(), Close> {
        let is_meant = |message: Option<&Message<P>>| message.is_none_or(|message| message.qos == 2);
        let at = self.place_of(packet_id, is_meant)?;
        if reason >= reason::UNSPECIFIED {
            at.into_iter().for_each(|at| self.remove(at));
            return Ok(());
        }
        let message = at.and_then(|at| self.in_flight[at].message.take());
        self.let_go(message);
        let reason = if at.is_some() { reason::SUCCESS } else { reason::UNKNOWN_ID };
        packet::ack(self.limits.version, PUBREL, packet_id, reason, out);
        Ok(())
    }

    /// Takes a PUBCOMP: the id is free.
    ///
    /// # Errors
    ///
    /// If what has this id was not released.
    pub fn completed(&mut self, packet_id: u16) -> Result<(), Close> {
        let at = self.place_of(packet_id, |message| message.is_none())?;
        at.into_iter().for_each(|at| self.remove(at));
        Ok(())
    }

    /// Where it is among what is in flight, if it is there at all.
    fn place_of(&self, packet_id: u16, is_meant: impl Fn(Option<&Message<P>>) -> bool) -> Result<Option<usize>, Close> {
        let Some(at) = self.in_flight.iter().position(|sent| sent.packet_id == packet_id) else { return Ok(None) };
        let sent = &self.in_flight[at];
        // What was not sent over this connection may have been answered over the one before.
        match is_meant(sent.message.as_ref()) {
            true => Ok(Some(at)),
            false if sent.is_sent => Err(Close::WrongAnswer),
            false => Ok(None),
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(InFlight { message, is_sent, .. }) = self.in_flight.remove(at) else { return };
        self.unsent -= usize::from(!is_sent);
        self.let_go(message);
    }

    fn let_go(&mut self, message: Option<Message<P>>) {
        if let Some(message) = message {
            *self.kept.of(message.is_own) -= message.cost();
        }
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

    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = if self.last_packet_id == u16::MAX { 1 } else { self.last_packet_id + 1 };
            if self.in_flight.iter().all(|sent| sent.packet_id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &[u8], qos: u8) -> Message<Vec<u8>> {
        Message {
            topic: topic.into(),
            payload: payload.to_vec(),
            passed_on: Vec::new(),
            deadline_ms: None,
            identifiers: Box::default(),
            qos,
            retain: false,
            is_own: false,
        }
    }

    fn filled(outbound: &mut Outbound<Vec<u8>>, now_ms: u64) -> Vec<u8> {
        let mut out = Vec::new();
        outbound.fill(&mut out, usize::MAX, now_ms);
        out
    }

    #[test]
    fn the_window_bounds_what_is_unacknowledged_and_ids_are_not_given_twice() {
        let mut outbound = Outbound::default();
        for n in 0..300u16 {
            outbound.push(message("t", &n.to_be_bytes(), 1));
        }
        let mut seen = 0;
        while seen < 300 {
            let out = filled(&mut outbound, 0);
            assert!(!out.is_empty());
            for packet in out.chunks(9) {
                assert_eq!(packet[7..9], (seen as u16).to_be_bytes());
                outbound.acknowledged(u16::from_be_bytes([packet[5], packet[6]])).expect("sent");
                seen += 1;
            }
        }
        outbound.acknowledged(1).expect("nothing");
        assert_eq!((outbound.kept(), outbound.waiting()), (Kept::default(), 0), "one too many means nothing");
    }

    #[test]
    fn own_messages_go_first_and_are_counted_by_themselves() {
        let mut outbound = Outbound::default();
        for (topic, is_own) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            outbound.push(Message { is_own, ..message(topic, b"", 1) });
        }
        assert_eq!(outbound.kept(), Kept { bytes: 130, own_bytes: 130 });
        assert_eq!((outbound.waiting(), outbound.own_waiting()), (2, 2));
        let topics: Vec<u8> = filled(&mut outbound, 0).chunks(7).map(|packet| packet[4]).collect();
        assert_eq!(topics, b"bdac");
        outbound.acknowledged(1).expect("sent");
        outbound.acknowledged(3).expect("sent");
        assert_eq!(outbound.kept(), Kept { bytes: 65, own_bytes: 65 });
    }

    #[test]
    fn a_client_that_returns_gets_the_unacknowledged_again_marked_as_duplicates() {
        let mut outbound = Outbound::default();
        outbound.push(message("t", b"x", 1));
        outbound.push(message("t", b"y", 0));
        let mut out = Vec::new();
        outbound.fill(&mut out, 1, 0);
        outbound.drop_qos_0();
        outbound.connect(Limits::default());
        assert_eq!(filled(&mut outbound, 0), [0x3a, 6, 0, 1, b't', 0, 1, b'x']);
        assert!(filled(&mut outbound, 0).is_empty(), "once a connection");
        assert_eq!((outbound.waiting(), outbound.kept().bytes), (0, 66), "what is in flight is counted too");
    }

    #[test]
    fn a_message_of_qos_2_is_sent_until_the_client_has_it_and_released_until_it_says_so() {
        let mut outbound = Outbound::default();
        outbound.push(message("t", b"x", 2));
        outbound.push(message("t", b"y", 2));
        assert_eq!(filled(&mut outbound, 0).len(), 16);
        let mut out = Vec::new();
        let wrong = [outbound.acknowledged(1), outbound.completed(1)];
        assert_eq!(wrong, [Err(Close::WrongAnswer); 2]);
        for _ in 0..2 {
            outbound.received(1, 0, &mut out).expect("sent");
        }
        assert_eq!(out, [0x62, 2, 0, 1, 0x62, 2, 0, 1], "PUBREL, as often as it is asked for");
        assert_eq!(outbound.kept().bytes, 66);
        let limits = Limits { receive_maximum: 1, version: Version::V5, ..Limits::default() };
        outbound.connect(limits);
        assert_eq!(filled(&mut outbound, 0), [0x62, 2, 0, 1], "released, and no more than the client takes");
        outbound.completed(1).expect("released");
        assert_eq!(filled(&mut outbound, 0), [0x3c, 7, 0, 1, b't', 0, 2, 0, b'y']);
        out.clear();
        outbound.received(2, 0x97, &mut out).expect("sent");
        assert!(out.is_empty() && outbound.kept() == Kept::default(), "it refuses it, so nothing is released");
        outbound.received(9, 0, &mut out).expect("nothing");
        assert_eq!(out, [0x62, 3, 0, 9, 0x92]);
    }

    #[test]
    fn version_5_is_sent_what_the_publisher_said_and_how_long_it_is_of_use() {
        let mut outbound = Outbound::default();
        outbound.connect(Limits { version: Version::V5, aliases_max: 1, packet_bytes_max: 30, ..Limits::default() });
        let full = Message {
            passed_on: vec![1, 1],
            deadline_ms: Some(10_000),
            identifiers: [5, 200].into(),
            ..message("tt", b"x", 0)
        };
        outbound.push(full.clone());
        outbound.push(Message { deadline_ms: None, ..full.clone() });
        outbound.push(message("u", &[b'y'; 40], 1));
        outbound.push(full);
        let mut out = Vec::new();
        assert_eq!(outbound.fill(&mut out, 30, 5_500), 0);
        assert_eq!(out[..9], [0x30, 21, 0, 2, b't', b't', 15, 2, 0], "expiry");
        assert_eq!(
            out[9..],
            [
                0, 0, 5, 0x23, 0, 1, 11, 5, 11, 200, 1, 1, 1, b'x', 0x30, 14, 0, 0, 10, 0x23, 0, 1, 11, 5, 11, 200, 1,
                1, 1, b'x'
            ]
        );
        out.clear();
        assert_eq!(outbound.fill(&mut out, usize::MAX, 10_000), 2, "too large for the client, and too late");
        assert_eq!((out.len(), outbound.kept()), (0, Kept::default()));
    }
}

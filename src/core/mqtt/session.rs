//! One MQTT 3.1.1 session as a state machine without I/O: packets, commits and forwards in; verdicts and bytes out.
//!
//! A publish gets an ordinal when it comes in and is acknowledged, in order, when the pipeline says that everything up to its
//! ordinal is durable. Towards the client at most [`IN_FLIGHT_MAX`] QoS 1 messages are unacknowledged at a time.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::publishing::{self, PublishVerdict, Voice};
use super::topic::TopicError;

/// Most QoS 1 messages that a client has been sent and not acknowledged.
pub const IN_FLIGHT_MAX: usize = 64;
/// Longest client id, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;

/// A will, as a client leaves it at CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: Vec<u8>,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the message is kept for later subscribers.
    pub retain: bool,
}

/// What the gateway uses of a CONNECT packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Empty if the gateway is to choose one.
    pub client_id: String,
    /// Whether the session ends with the connection, and no earlier one is resumed.
    pub clean_session: bool,
    /// Longest pause between two packets that the client promises, in seconds; 0 promises nothing.
    pub keep_alive_s: u16,
    /// Published when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    /// A user name or a password came with it.
    pub has_login: bool,
}

/// CONNACK return codes of MQTT 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectRefusal {
    /// The client id is too long or has forbidden characters, or is empty without a clean session.
    Identifier = 2,
    /// The server is unavailable. Not sent at present.
    Unavailable = 3,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// Another packet came before CONNECT.
    #[error("the first packet was not CONNECT")]
    NotConnected,
    /// CONNECT came twice.
    #[error("a second CONNECT")]
    SecondConnect,
    /// A packet that MQTT does not allow.
    #[error("a malformed packet")]
    Malformed,
    /// A PUBLISH at QoS 2, which is not served.
    #[error("a publish at QoS 2, which is not served: use QoS 1")]
    Qos2,
    /// A PUBLISH to a topic that is not valid.
    #[error("a publish to a topic that {}", .0.reason())]
    Topic(TopicError),
    /// A PUBACK for a packet id that is not in flight.
    #[error("an acknowledgement of what was not sent")]
    UnknownAcknowledgement,
    /// Nothing was heard for longer than [`silence_ms_max`].
    #[error("nothing was heard within one and a half keep-alives")]
    KeepAlive,
}

/// A message for one client. `P` holds bytes, owned or shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// UTF-8, at most 65,535 bytes.
    pub topic: P,
    /// What was published.
    pub payload: P,
    /// The lower of what was published and what was granted: 0 or 1.
    pub qos: u8,
    /// The RETAIN flag that the client is sent: set if the message was kept before the client subscribed.
    pub retain: bool,
    /// One of the gateway's own: sent before those of clients, and counted separately.
    pub is_own: bool,
}

impl<P: AsRef<[u8]>> Message<P> {
    /// Bytes that it is counted as while it is kept: its own, and 64 for the bookkeeping.
    pub fn cost(&self) -> usize {
        self.topic.as_ref().len() + self.payload.as_ref().len() + 64
    }
}

#[derive(Debug)]
struct InFlight<P> {
    packet_id: u16,
    message: Message<P>,
}

/// The publishing half: ordinals, and acknowledgements in order.
#[derive(Debug, Default)]
pub struct Inbound {
    last_ordinal: u64,
    committed: u64,
    /// Ordinal of the last publish that was refused. Those up to it no longer count as uncommitted.
    refused: u64,
    /// Publishes up to this one may still be committed, but no longer count as uncommitted.
    excused: u64,
    /// A QoS 1 publish was refused: its PUBACK will never come.
    is_unanswered: bool,
    /// Ordinal and packet id of the publishes that are to get a PUBACK when they are committed.
    waiting: VecDeque<(u64, u16)>,
}

impl Inbound {
    /// Judges a PUBLISH and gives it the next ordinal.
    ///
    /// # Errors
    ///
    /// The reason to close the connection: QoS 2, a malformed packet, or a topic that is not valid.
    pub fn publish(&mut self, topic: &str, qos: u8, packet_id: u16) -> Result<PublishVerdict, Close> {
        match qos {
            0 => {}
            1 if packet_id != 0 => {}
            2 => return Err(Close::Qos2),
            _ => return Err(Close::Malformed),
        }
        let verdict = publishing::judge(Voice::Publish, topic).map_err(Close::Topic)?;
        self.last_ordinal += 1;
        if qos == 1 {
            self.waiting.push_back((self.last_ordinal, packet_id));
        }
        Ok(verdict)
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

    /// Whether a publish is neither committed nor refused yet, or a PUBACK will never come.
    pub fn is_waiting(&self) -> bool {
        self.is_answerable() || self.is_unanswered
    }

    /// Whether a publish is neither committed nor refused yet, or waits for its PUBACK.
    pub fn is_answerable(&self) -> bool {
        self.uncommitted() > 0 || !self.waiting.is_empty()
    }

    /// These publishes are not stored, and get no PUBACK.
    pub fn refused(&mut self, publishes: RangeInclusive<u64>) {
        self.refused = self.refused.max((*publishes.end()).min(self.last_ordinal));
        let before = self.waiting.len();
        self.waiting.retain(|(ordinal, _)| !publishes.contains(ordinal));
        self.is_unanswered |= self.waiting.len() < before;
    }

    /// Everything up to `through` is durable: appends the PUBACKs that this sets free.
    pub fn committed(&mut self, through: u64, out: &mut Vec<u8>) {
        self.committed = self.committed.max(through.min(self.last_ordinal));
        while let Some((ordinal, packet_id)) = self.waiting.front() {
            if *ordinal > self.committed {
                break;
            }
            let [high, low] = packet_id.to_be_bytes();
            out.extend_from_slice(&[0x40, 2, high, low]);
            self.waiting.pop_front();
        }
    }
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

/// The subscribing half: what waits for the client, and what it has not acknowledged.
#[derive(Debug)]
pub struct Outbound<P> {
    own: VecDeque<Message<P>>,
    queue: VecDeque<Message<P>>,
    /// Cost of both queues, and of what is in flight.
    kept: Kept,
    in_flight: VecDeque<InFlight<P>>,
    last_packet_id: u16,
}

impl<P> Default for Outbound<P> {
    fn default() -> Self {
        Outbound {
            own: VecDeque::new(),
            queue: VecDeque::new(),
            kept: Kept::default(),
            in_flight: VecDeque::new(),
            last_packet_id: 0,
        }
    }
}

impl<P: AsRef<[u8]> + Clone> Outbound<P> {
    /// Queues a message. Nothing bounds the queue here: the caller looks at [`Self::kept`].
    pub fn push(&mut self, message: Message<P>) {
        *self.kept.of(message.is_own) += message.cost();
        if message.is_own { &mut self.own } else { &mut self.queue }.push_back(message);
    }

    /// What is kept for the client: until it is sent, at QoS 1 until it is acknowledged.
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

    /// Appends PUBLISH packets until `out` holds `bytes_max` bytes or more, or [`IN_FLIGHT_MAX`] is reached.
    pub fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        while out.len() < bytes_max {
            let queue = if self.own.is_empty() { &mut self.queue } else { &mut self.own };
            let Some(next) = queue.front() else { return };
            if next.qos > 0 && self.in_flight.len() >= IN_FLIGHT_MAX {
                return;
            }
            let message = queue.pop_front().expect("just looked at");
            let packet_id = if message.qos > 0 { self.next_packet_id() } else { 0 };
            encode_publish(&message, packet_id, false, out);
            if message.qos > 0 {
                self.in_flight.push_back(InFlight { packet_id, message });
            } else {
                *self.kept.of(message.is_own) -= message.cost();
            }
        }
    }

    /// Takes a PUBACK: the message is no longer kept.
    ///
    /// # Errors
    ///
    /// [`Close::UnknownAcknowledgement`] if no message with this packet id is in flight.
    pub fn acknowledge(&mut self, packet_id: u16) -> Result<(), Close> {
        let at = self.in_flight.iter().position(|sent| sent.packet_id == packet_id);
        let sent = at.and_then(|at| self.in_flight.remove(at)).ok_or(Close::UnknownAcknowledgement)?;
        *self.kept.of(sent.message.is_own) -= sent.message.cost();
        Ok(())
    }

    /// Appends what the client has not acknowledged, for one that has come back.
    pub fn resend(&self, out: &mut Vec<u8>) {
        for sent in &self.in_flight {
            encode_publish(&sent.message, sent.packet_id, true, out);
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

fn encode_publish<P: AsRef<[u8]>>(message: &Message<P>, packet_id: u16, dup: bool, out: &mut Vec<u8>) {
    let (topic, payload) = (message.topic.as_ref(), message.payload.as_ref());
    out.push(0x30 | (u8::from(dup) << 3) | (message.qos << 1) | u8::from(message.retain));
    let mut remaining = 2 + topic.len() + if message.qos > 0 { 2 } else { 0 } + payload.len();
    while remaining >= 0x80 {
        out.push(remaining as u8 | 0x80);
        remaining >>= 7;
    }
    out.push(remaining as u8);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    if message.qos > 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// The id under which a client is known: its own, or `generated` if that is empty and the session is clean.
///
/// # Errors
///
/// [`ConnectRefusal::Identifier`] if the id cannot be accepted.
pub fn check_connect(connect: &Connect, generated: impl FnOnce() -> String) -> Result<String, ConnectRefusal> {
    let id = &connect.client_id;
    if id.is_empty() {
        return if connect.clean_session { Ok(generated()) } else { Err(ConnectRefusal::Identifier) };
    }
    if id.len() > CLIENT_ID_BYTES_MAX || id.contains(['+', '$', '#', '/', '\0']) {
        return Err(ConnectRefusal::Identifier);
    }
    Ok(id.clone())
}

/// How long a client may be silent: one and a half keep-alives, in milliseconds. `None` with keep-alive 0.
pub fn silence_ms_max(keep_alive_s: u16) -> Option<u64> {
    (keep_alive_s > 0).then(|| u64::from(keep_alive_s) * 1500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_wait_for_the_commit_and_keep_their_order() {
        let mut inbound = Inbound::default();
        let mut out = Vec::new();
        assert_eq!(inbound.publish("a", 1, 10), Ok(PublishVerdict::Take));
        assert_eq!(inbound.publish("a", 0, 0), Ok(PublishVerdict::Take));
        assert_eq!(inbound.publish("alerts/x", 1, 11), Ok(PublishVerdict::Refuse));
        inbound.committed(0, &mut out);
        assert!(out.is_empty());
        assert_eq!(inbound.uncommitted(), 3);
        inbound.committed(2, &mut out);
        assert_eq!(out, [0x40, 2, 0, 10]);
        inbound.committed(99, &mut out);
        assert_eq!(out[4..], [0x40, 2, 0, 11]);
        assert_eq!(inbound.uncommitted(), 0);
    }

    #[test]
    fn what_a_failing_disk_has_not_taken_yet_holds_up_nobody_and_is_still_acknowledged() {
        let mut inbound = Inbound::default();
        let mut out = Vec::new();
        (1..=5).for_each(|id| assert_eq!(inbound.publish("a", 1, id), Ok(PublishVerdict::Take)));
        inbound.excuse(3);
        assert_eq!((inbound.uncommitted(), inbound.is_answerable()), (2, true));
        inbound.excuse(99);
        assert_eq!((inbound.uncommitted(), inbound.is_answerable()), (0, true));
        inbound.committed(2, &mut out);
        assert_eq!(out, [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
    }

    #[test]
    fn what_is_not_served_closes() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.publish("a", 2, 1), Err(Close::Qos2));
        assert_eq!(inbound.publish("a", 1, 0), Err(Close::Malformed));
        assert_eq!(inbound.publish("a", 3, 1), Err(Close::Malformed));
        assert_eq!(inbound.publish("a/#", 0, 0), Err(Close::Topic(TopicError::Wildcard)));
    }

    #[test]
    fn the_window_bounds_what_is_unacknowledged_and_ids_are_not_given_twice() {
        let mut outbound = Outbound::<Vec<u8>>::default();
        for n in 0..300u16 {
            outbound.push(Message {
                topic: b"t".to_vec(),
                payload: n.to_be_bytes().to_vec(),
                qos: 1,
                retain: false,
                is_own: false,
            });
        }
        let mut seen = 0;
        let mut out = Vec::new();
        while seen < 300 {
            out.clear();
            outbound.fill(&mut out, usize::MAX);
            assert!(!out.is_empty());
            for packet in out.chunks(9) {
                assert_eq!(packet[7..9], (seen as u16).to_be_bytes());
                outbound.acknowledge(u16::from_be_bytes([packet[5], packet[6]])).expect("sent");
                seen += 1;
            }
        }
        assert_eq!(outbound.acknowledge(1), Err(Close::UnknownAcknowledgement));
        assert_eq!((outbound.kept(), outbound.waiting()), (Kept::default(), 0));
    }

    #[test]
    fn own_messages_go_first_and_are_counted_by_themselves() {
        let mut outbound = Outbound::<Vec<u8>>::default();
        for (topic, is_own) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            outbound.push(Message { topic: topic.into(), payload: vec![], qos: 1, retain: false, is_own });
        }
        assert_eq!(outbound.kept(), Kept { bytes: 130, own_bytes: 130 });
        assert_eq!((outbound.waiting(), outbound.own_waiting()), (2, 2));
        let mut out = Vec::new();
        outbound.fill(&mut out, usize::MAX);
        let topics: Vec<u8> = out.chunks(7).map(|packet| packet[4]).collect();
        assert_eq!(topics, b"bdac");
        outbound.acknowledge(1).expect("sent");
        outbound.acknowledge(3).expect("sent");
        assert_eq!(outbound.kept(), Kept { bytes: 65, own_bytes: 65 });
    }

    #[test]
    fn a_client_that_returns_gets_the_unacknowledged_again_marked_as_duplicates() {
        let mut outbound = Outbound::<Vec<u8>>::default();
        outbound.push(Message { topic: b"t".to_vec(), payload: b"x".to_vec(), qos: 1, retain: false, is_own: false });
        outbound.push(Message { topic: b"t".to_vec(), payload: b"y".to_vec(), qos: 0, retain: false, is_own: false });
        let mut out = Vec::new();
        outbound.fill(&mut out, 1);
        outbound.drop_qos_0();
        out.clear();
        outbound.resend(&mut out);
        assert_eq!(out, [0x3a, 6, 0, 1, b't', 0, 1, b'x']);
        assert_eq!((outbound.waiting(), outbound.kept().bytes), (0, 66), "what is in flight is counted too");
    }

    #[test]
    fn client_ids_are_checked() {
        let connect = |id: &str, clean_session| Connect {
            client_id: id.to_owned(),
            clean_session,
            keep_alive_s: 0,
            will: None,
            has_login: false,
        };
        assert_eq!(check_connect(&connect("", true), || "made".into()), Ok("made".to_owned()));
        assert_eq!(check_connect(&connect("", false), String::new), Err(ConnectRefusal::Identifier));
        assert_eq!(check_connect(&connect("a/b", true), String::new), Err(ConnectRefusal::Identifier));
        assert_eq!(check_connect(&connect("truck-1", false), String::new), Ok("truck-1".to_owned()));
        assert_eq!((silence_ms_max(0), silence_ms_max(60)), (None, Some(90_000)));
    }
}

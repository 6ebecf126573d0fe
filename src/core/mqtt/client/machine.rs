//! The connection as a whole.

mod subscribing;

use std::collections::VecDeque;

use bytes::Bytes;

use super::keep_alive::{Due, KeepAlive};
use super::limits::check_message;
use super::receiving::{Judged, Receiving};
use super::sending::{Answered, Follows, Sending, Step};
use super::{
    Answer, Arrived, End, Event, Farewell, Limits, Message, NotNow, Refusal, Settings, Takes, Token, Unfit, Welcome,
    Wish,
};
use crate::mqtt::packet::server::{Connack, ServerPacket};
use crate::mqtt::packet::{self, Connect, DecodeError, Outgoing, PassedOn, Publish, Version, client, reason};

const CONNACK: u8 = 0x20;
const PUBREL: u8 = 0x62;

/// With so many bytes that the network has not taken, nothing more is published.
const UNWRITTEN_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The answer to CONNECT is waited for, until this time.
    Opening {
        until_ms: u64,
    },
    Open,
    Ended,
}

/// A connection of a client. Times are milliseconds of a clock that does not go back.
///
/// Whoever drives it writes what is in [`Client::take_output`], gives it frames and times, and looks for events after each.
#[derive(Debug)]
pub struct Client {
    version: Version,
    client_id: String,
    asked_keep_alive_s: u16,
    packet_bytes_max: u32,
    answer_within_ms: u64,
    /// Up to this time nobody has listened.
    excused_ms: u64,
    limits: Limits,
    state: State,
    takes: Takes,
    subscriptions: usize,
    keep_alive: KeepAlive,
    sending: Sending,
    receiving: Receiving,
    out: Vec<u8>,
    /// Of what was taken out, so much is not with the network yet.
    unwritten: usize,
    /// So many bytes are with the network.
    written: u64,
    /// Where the last question whether the broker is there ends, among all bytes.
    ping_ends_at: u64,
    events: VecDeque<Event>,
}

impl Client {
    /// Begins with CONNECT. Its texts are as long as MQTT allows at most.
    pub fn new(settings: &Settings, now_ms: u64) -> Client {
        let limits = settings.limits;
        let mut out = Vec::new();
        client::connect(&connect(settings), &mut out);
        Client {
            version: settings.version,
            client_id: settings.client_id.clone(),
            asked_keep_alive_s: settings.keep_alive_s,
            packet_bytes_max: settings.packet_bytes_max,
            answer_within_ms: settings.answer_within_ms,
            excused_ms: 0,
            limits,
            state: State::Opening { until_ms: now_ms.saturating_add(settings.welcome_within_ms) },
            takes: Takes { qos_max: 2, retain: true, packet_bytes_max: None, wildcards: true, shared: true },
            subscriptions: 0,
            keep_alive: KeepAlive::new(0, now_ms),
            sending: Sending::new(
                settings.version,
                settings.window.min(limits.window).max(1),
                limits.publishes_per_second,
            ),
            receiving: Receiving::new(settings.version, settings.receive_maximum, &settings.unreleased),
            out,
            unwritten: 0,
            written: 0,
            ping_ends_at: 0,
            events: VecDeque::new(),
        }
    }

    /// What is to be written, in order; empty if nothing is.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.unwritten += self.out.len();
        std::mem::take(&mut self.out)
    }

    /// So many bytes of what was taken are with the network.
    pub fn written(&mut self, bytes: usize, now_ms: u64) {
        self.unwritten = self.unwritten.saturating_sub(bytes);
        self.keep_alive.sent(now_ms);
        // Nobody answers what has not left: on a slow link a message may take longer than the time for its answer.
        self.sending.written(self.written, now_ms);
        if self.ping_ends_at > self.written {
            self.keep_alive.ping_left(now_ms);
        }
        self.written += bytes as u64;
    }

    /// Of all bytes, those that are not written yet included.
    fn ends_at(&self) -> u64 {
        self.written + (self.unwritten + self.out.len()) as u64
    }

    /// What has happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Length of the first frame in `bytes`; `None` until its header is complete. A frame that is not taken ends the connection.
    pub fn frame_len(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_opening = matches!(self.state, State::Opening { .. });
        if is_opening && bytes.first().is_some_and(|first| *first != CONNACK) {
            self.break_off("its first packet is no CONNACK");
            return None;
        }
        match packet::frame_len(bytes, self.packet_bytes_max as usize) {
            Ok(len) => len,
            Err(error) => {
                self.refuse(error);
                None
            }
        }
    }

    /// One whole frame has come.
    pub fn frame(&mut self, frame: &[u8], now_ms: u64) {
        if self.is_ended() {
            return;
        }
        self.keep_alive.heard(now_ms);
        match packet::server::decode(self.version, frame) {
            Ok(packet) => self.packet(&packet, now_ms),
            Err(error) => self.refuse(error),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        match self.state {
            State::Opening { until_ms } if until_ms <= now_ms => self.end(End::NoWelcome),
            State::Open => {
                match self.keep_alive.tick(now_ms) {
                    Due::Nothing => {}
                    Due::Ping => {
                        self.out.extend_from_slice(&client::PINGREQ);
                        self.ping_ends_at = self.ends_at();
                    }
                    Due::Silent => return self.end(End::Silent),
                }
                if self.answers_until_ms().is_some_and(|until_ms| until_ms <= now_ms) {
                    self.end(End::NotAcknowledged);
                }
            }
            State::Opening { .. } | State::Ended => {}
        }
    }

    /// When to come back with a tick at the latest.
    pub fn due_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Opening { until_ms } => Some(until_ms),
            State::Open => self.keep_alive.due_at_ms().into_iter().chain(self.answers_until_ms()).min(),
            State::Ended => None,
        }
    }

    fn answers_until_ms(&self) -> Option<u64> {
        self.sending.oldest_ms().map(|since_ms| since_ms.max(self.excused_ms).saturating_add(self.answer_within_ms))
    }

    /// Nobody has listened up to now, because what has arrived waits for its owner: that the broker was not heard proves nothing.
    pub fn excuse_silence(&mut self, now_ms: u64) {
        self.keep_alive.excuse(now_ms);
        self.excused_ms = now_ms;
    }

    /// Whether a message of this quality of service may be published now.
    ///
    /// # Errors
    ///
    /// What has to happen before.
    pub fn may_publish(&self, qos: u8, now_ms: u64) -> Result<(), NotNow> {
        if self.state != State::Open {
            return Err(NotNow::NotOpen);
        }
        if self.out.len() + self.unwritten >= UNWRITTEN_BYTES_MAX {
            return Err(NotNow::NotWritten);
        }
        self.sending.may_publish(qos, now_ms)
    }

    /// Whether a message can be sent at all.
    ///
    /// # Errors
    ///
    /// Why it can never be sent to this broker.
    pub fn check(&self, message: &Message) -> Result<(), Unfit> {
        check_message(message, self.version, &self.limits, Some(&self.takes))
    }

    /// Sends a message, of which [`Self::may_publish`] has said that it may be sent. At QoS 0 it is answered at once.
    ///
    /// # Errors
    ///
    /// Why it can never be sent to this broker.
    pub fn publish(&mut self, message: &Message, now_ms: u64) -> Result<Wish, Unfit> {
        self.check(message)?;
        self.sending.count(now_ms);
        let step = if message.qos == 2 { Step::Receive } else { Step::Acknowledge };
        let begun = if message.qos > 0 { self.sending.begin(step, now_ms) } else { Some((self.sending.wish(), 0)) };
        let (wish, packet_id) = begun.expect("a window is smaller than the number of ids");
        let is_5 = self.version == Version::V5;
        let outgoing = Outgoing {
            topic: message.topic.as_bytes(),
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            packet_id,
            passed_on: if is_5 { &message.properties } else { &[] },
            expiry_s: message.expiry_s.filter(|_| is_5),
            ..Outgoing::default()
        };
        packet::publish(self.version, &outgoing, &mut self.out);
        self.sending.ends_at(wish, self.ends_at());
        if message.qos == 0 {
            self.events.push_back(Event::Answered(wish, Answer::Accepted));
        }
        Ok(wish)
    }

    /// The owner is done with a message that has arrived.
    pub fn acknowledge(&mut self, token: Token) {
        if self.state == State::Open {
            self.receiving.acknowledge(token, &mut self.out);
        }
    }

    /// Leaves, with a reason code that only version 5 is told; 0 for a client that just goes. What is in the output is still to be written.
    pub fn leave(&mut self, reason: u8) {
        if self.state == State::Open {
            client::disconnect(self.version, reason, None, &mut self.out);
        }
        self.end(End::Left);
    }

    /// The connection has ended below.
    pub fn broken(&mut self, end: End) {
        self.end(end);
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Messages without an acknowledgement that we have sent.
    pub fn in_flight(&self) -> usize {
        self.sending.in_flight()
    }

    /// Messages that we have got and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.receiving.unacknowledged()
    }

    /// Ids of messages of QoS 2 that the broker has not released: for the next connection of the same session, so that what comes again is told
    /// from what is new.
    pub fn unreleased(&self) -> Vec<u16> {
        self.receiving.unreleased()
    }

    fn packet(&mut self, packet: &ServerPacket<'_>, now_ms: u64) {
        match (self.state, packet) {
            (State::Opening { .. }, ServerPacket::Connack(connack)) => self.connack(connack, now_ms),
            (State::Opening { .. }, _) => self.break_off("another packet before CONNACK"),
            (_, ServerPacket::Connack(_)) => self.break_off("a second CONNACK"),
            (_, ServerPacket::Publish(publish)) => self.message(publish),
            (_, ServerPacket::PubAck(ack)) => self.answered(Answered::PubAck(*ack), now_ms),
            (_, ServerPacket::PubRec(ack)) => self.answered(Answered::PubRec(*ack), now_ms),
            (_, ServerPacket::PubComp(ack)) => self.answered(Answered::PubComp(*ack), now_ms),
            (_, ServerPacket::PubRel(ack)) => self.receiving.released(ack.packet_id, &mut self.out),
            (_, ServerPacket::SubAck { packet_id, codes }) => {
                self.answered(Answered::SubAck(*packet_id, codes), now_ms)
            }
            (_, ServerPacket::UnsubAck { packet_id, codes }) => {
                self.answered(Answered::UnsubAck(*packet_id, codes), now_ms);
            }
            (_, ServerPacket::PingResp) => {}
            (_, ServerPacket::Disconnect(disconnect)) => self.end(End::Told(Farewell::of(disconnect))),
        }
    }

    fn connack(&mut self, connack: &Connack<'_>, now_ms: u64) {
        if connack.reason != reason::SUCCESS {
            return self.end(match connack.server_reference {
                Some(_) => End::Told(Farewell {
                    why: Refusal::of(connack.reason, connack.text),
                    server: connack.server_reference.map(str::to_owned),
                }),
                None => End::Refused(Refusal::of(connack.reason, connack.text)),
            });
        }
        if !connack.session_present {
            self.receiving.forget();
        }
        let keep_alive_s = connack.keep_alive_s.unwrap_or(self.asked_keep_alive_s);
        self.keep_alive = KeepAlive::new(keep_alive_s, now_ms);
        self.sending.narrow(connack.receive_maximum.unwrap_or(u16::MAX));
        // The broker may remember ids of the session's earlier messages of QoS 2, and would take new ones for repeats.
        let qos_max = if connack.session_present { connack.qos_max.min(1) } else { connack.qos_max };
        self.takes = Takes {
            qos_max,
            retain: connack.retain_available,
            packet_bytes_max: connack.packet_bytes_max,
            wildcards: connack.wildcard_available,
            shared: connack.shared_available,
        };
        self.state = State::Open;
        self.events.push_back(Event::Welcomed(Box::new(Welcome {
            session_present: connack.session_present,
            client_id: connack.assigned_client_id.unwrap_or(&self.client_id).to_owned(),
            window: self.sending.window(),
            keep_alive_s,
            session_expiry_s: connack.session_expiry_s,
            takes: self.takes,
        })));
    }

    fn message(&mut self, publish: &Publish<'_>) {
        // None was offered.
        if publish.alias.is_some() {
            return self.break_off_with(reason::BAD_ALIAS, "an alias of a topic, of which none is taken");
        }
        let token = match self.receiving.message(publish, &mut self.out) {
            Ok(Judged::New(token)) => token,
            Ok(Judged::Repeat) => return,
            Err(problem) => return self.break_off_with(reason::RECEIVE_MAXIMUM, problem),
        };
        self.events.push_back(Event::Arrived(Arrived {
            topic: publish.topic.to_owned(),
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            expiry_s: publish.expiry_s,
            properties: publish.passed_on.each().flatten().copied().collect(),
            token,
        }));
    }

    fn answered(&mut self, answered: Answered<'_>, now_ms: u64) {
        match self.sending.answered(answered, now_ms) {
            Ok(Follows::Nothing) => {}
            Ok(Follows::Release(packet_id, reason)) => {
                packet::ack(self.version, PUBREL, packet_id, reason, &mut self.out);
                self.sending.release_ends_at(packet_id, self.ends_at());
            }
            Ok(Follows::Done(wish, answer)) => self.events.push_back(Event::Answered(wish, answer)),
            Err(problem) => self.break_off(problem),
        }
    }

    fn refuse(&mut self, error: DecodeError) {
        if self.state == State::Open {
            client::disconnect(self.version, error.reason(), None, &mut self.out);
        }
        self.end(error.into());
    }

    fn break_off(&mut self, problem: &str) {
        self.break_off_with(reason::PROTOCOL_ERROR, problem);
    }

    fn break_off_with(&mut self, reason: u8, problem: &str) {
        if self.state == State::Open {
            client::disconnect(self.version, reason, None, &mut self.out);
        }
        self.end(End::Protocol(problem.to_owned()));
    }

    fn end(&mut self, end: End) {
        if self.is_ended() {
            return;
        }
        self.state = State::Ended;
        let given_back = self.sending.give_back(&end).map(|(wish, answer)| Event::Answered(wish, answer));
        self.events.extend(given_back);
        self.events.push_back(Event::Ended(end));
    }
}

fn connect(settings: &Settings) -> Connect<'_> {
    let is_5 = settings.version == Version::V5;
    Connect {
        version: settings.version,
        is_bridge: settings.is_bridge,
        client_id: &settings.client_id,
        clean_start: settings.clean_start,
        keep_alive_s: settings.keep_alive_s,
        will: settings.will.as_ref().map(|will| packet::Will {
            topic: &will.message.topic,
            payload: &will.message.payload,
            qos: will.message.qos,
            retain: will.message.retain,
            delay_s: will.delay_s,
            expiry_s: will.message.expiry_s,
            passed_on: PassedOn::from_own(&will.message.properties),
        }),
        user_name: settings.login.as_ref().map(|login| &*login.user_name),
        password: settings.login.as_ref().and_then(|login| login.password.as_deref()),
        session_expiry_s: is_5.then_some(settings.session_expiry_s),
        receive_maximum: is_5.then_some(settings.receive_maximum.max(1)),
        packet_bytes_max: is_5.then_some(settings.packet_bytes_max.max(1)),
        topic_alias_maximum: 0,
    }
}

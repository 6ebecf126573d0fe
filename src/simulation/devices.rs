//! Devices that publish at QoS 1 and send again what was not acknowledged, and the gateway's half of their connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use crate::core::mqtt::access::Permissions;
use crate::core::mqtt::inbound::{Inbound, Judged, Unreleased};
use crate::core::mqtt::pace::PublishPace;
use crate::core::mqtt::packet::Publish;
use crate::core::mqtt::publishing::PublishVerdict;
use crate::core::reading::Readings;
use crate::handoff::{PipelineHandle, SessionProgress, Submission};
use crate::ingest::{Decoded, Ingest};
use crate::pipeline::Message;

/// The metric that has a limit, and a value beyond it.
pub(super) const LIMITED: &str = "boiler";
pub(super) const LIMIT: f64 = 1_000.0;
/// The attribute of a reading that the cloud refuses for good.
pub(super) const POISON: &str = "poison";
/// Publishes of one connection that may wait for their commit, as in the configuration.
const UNCOMMITTED_MAX: u64 = 256;

/// A reading as its device has it. Its number is its place, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub value: f64,
    pub measured_at_ms: i64,
    pub is_poison: bool,
    /// Text that does not compress.
    pub attribute: String,
}

impl Reading {
    pub fn is_beyond_limit(&self) -> bool {
        self.value > LIMIT
    }

    fn payload(&self, number: usize) -> Vec<u8> {
        let Reading { value, measured_at_ms, is_poison, attribute } = self;
        let poison = if *is_poison { format!(",\"{POISON}\":\"yes\"") } else { String::new() };
        format!("{{\"value\":{value},\"seq\":{number},\"ts_ms\":{measured_at_ms},\"note\":\"{attribute}\"{poison}}}")
            .into_bytes()
    }
}

/// The gateway's half of a connection.
struct Session {
    inbound: Inbound,
    unreleased: Unreleased,
    progress: Arc<SessionProgress>,
    pace: PublishPace,
    connected_us: u64,
}

pub(super) struct Device {
    pub name: String,
    pub readings: Vec<Reading>,
    /// So many of them, from the first, are acknowledged.
    pub acknowledged: usize,
    /// So many are sent on this connection, or were acknowledged before.
    sent: usize,
    /// Packet ids and numbers of what was sent and is not acknowledged.
    in_flight: VecDeque<(u16, usize)>,
    last_packet_id: u16,
    /// So many were ever sent.
    sent_ever: usize,
    window: usize,
    session: Option<Session>,
}

/// What a publish shows of the gateway.
pub(super) struct Edge<'a> {
    pub ingest: &'a mut Ingest,
    pub pipeline: &'a PipelineHandle<Message>,
    pub now_us: u64,
    pub now_ms: i64,
}

/// What the gateway has said to a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub acknowledged: usize,
    pub is_turned_away: bool,
}

impl Device {
    pub fn new(number: u64, random: &mut Random) -> Device {
        Device {
            name: format!("device-{number}"),
            readings: Vec::new(),
            acknowledged: 0,
            sent: 0,
            in_flight: VecDeque::new(),
            last_packet_id: 0,
            sent_ever: 0,
            window: random.within(1, 24) as usize,
            session: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged == self.readings.len()
    }

    /// Everything that was not acknowledged is sent again, from the oldest on.
    pub fn connect(&mut self, session_number: u64, now_us: u64) {
        self.sent = self.acknowledged;
        self.in_flight.clear();
        self.session = Some(Session {
            inbound: Inbound::default(),
            unreleased: Unreleased::default(),
            progress: Arc::new(SessionProgress::numbered(session_number)),
            pace: PublishPace::default(),
            connected_us: now_us,
        });
    }

    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// Sends what its window allows, in one piece. Returns those of the readings that it had not sent before, if it sent any.
    pub fn publish(&mut self, edge: &mut Edge<'_>) -> Option<&[Reading]> {
        let Session { inbound, unreleased, progress, pace, connected_us } = self.session.as_mut()?;
        let (mut readings, before) = (Readings::default(), inbound.last_ordinal());
        while self.sent < self.readings.len()
            && self.in_flight.len() < self.window
            && inbound.uncommitted() < UNCOMMITTED_MAX
        {
            self.sent += 1;
            self.last_packet_id = self.last_packet_id % u16::MAX + 1;
            let topic = format!("devices/{}/{LIMITED}", self.name);
            let publish = Publish { topic: &topic, qos: 1, packet_id: self.last_packet_id, ..Publish::default() };
            let judged = inbound
                .publish(&publish, &Permissions::everything(), unreleased, &mut Vec::new())
                .expect("a valid publish");
            assert_eq!(judged, Judged::New { verdict: PublishVerdict::Take, topic: None });
            let payload = self.readings[self.sent - 1].payload(self.sent);
            let decoded = edge.ingest.decode(&topic, &payload, edge.now_ms, &mut readings);
            assert!(matches!(decoded, Decoded::Stored { readings: 1 }), "{decoded:?}");
            self.in_flight.push_back((self.last_packet_id, self.sent));
        }
        let publishes = inbound.last_ordinal() - before;
        if publishes == 0 {
            return None;
        }
        let since = Duration::from_micros(edge.now_us - *connected_us);
        let submission = Submission {
            session: Arc::clone(progress),
            through: inbound.last_ordinal(),
            publishes,
            wants_answer: true,
            urgency: pace.published(since, true),
            readings,
            undecodable: Vec::new(),
            ruled: None,
            entries: Vec::new(),
            held_bytes: 0,
            share: None,
        };
        edge.pipeline.submit(submission).expect("the pipeline is there as long as its sessions");
        let new = self.sent_ever.min(self.sent)..self.sent;
        self.sent_ever = self.sent_ever.max(self.sent);
        Some(&self.readings[new])
    }

    /// Takes the acknowledgements that have become due. Returns how many, and whether the gateway turns the client away.
    pub fn settle(&mut self, now_us: u64) -> Settled {
        let mut settled = Settled::default();
        let Some(Session { inbound, unreleased, progress, pace, connected_us }) = &mut self.session else {
            return settled;
        };
        while let Some(refused) = progress.take_refused() {
            inbound.refused(refused, unreleased);
        }
        inbound.excuse(progress.excused());
        let mut packets = Vec::new();
        if inbound.is_waiting() {
            inbound.committed(progress.committed(), unreleased, &mut packets);
        }
        if !packets.is_empty() {
            pace.answered(Duration::from_micros(now_us - *connected_us), inbound.is_waiting());
        }
        settled.is_turned_away = progress.is_failed();
        for packet in packets.chunks(4) {
            let packet_id = u16::from_be_bytes([packet[2], packet[3]]);
            let expected = self.in_flight.pop_front();
            assert_eq!(expected, Some((packet_id, self.acknowledged + 1)), "acknowledgements keep their order");
            self.acknowledged += 1;
            settled.acknowledged += 1;
        }
        settled
    }
}

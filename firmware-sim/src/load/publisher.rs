//! One connection's publishes as a pure machine: which to send now, which are unacknowledged, which to send again.
//!
//! A reading is kept as its numbers, and encoded again when it is redelivered: the same bytes except for the DUP flag, with the same
//! sequence number and packet id. With QoS 0 nothing is kept.

use super::AnomalyMade;
use super::frame::{Answer, Step, Wire, push_publish_header, push_release};
use super::histogram::Histogram;
use crate::access::Qos;
use crate::random::Random;
use crate::sequences::SequenceSet;
use std::collections::VecDeque;
use std::f64::consts::TAU;

/// What one connection has to publish.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its index among the connections, from 0, and their number.
    pub place: usize,
    pub places: usize,
    pub wire: Wire,
    pub seed: u64,
    pub first_sequence: u64,
    /// Most publishes.
    pub count_max: Option<u64>,
    /// Time between publishes; `None` means as fast as they are acknowledged.
    pub interval_us: Option<f64>,
    pub window: usize,
    pub payload_bytes: usize,
    /// When the first anomaly is due, over all connections.
    pub anomaly_first_us: Option<u64>,
    /// Time between anomalies, over all connections.
    pub anomaly_every_us: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sequence: u64,
    published_at_us: u64,
    centidegrees: i64,
    packet_id: u16,
    /// Between PUBREC and PUBCOMP.
    is_received: bool,
    is_redelivered: bool,
    is_settled: bool,
}

/// What came of an answer of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// With QoS 2: there is more to come.
    Continued,
    Refused {
        reason: u8,
    },
    /// Nothing that was sent has this answer.
    Unexpected,
}

/// In version 5 the reasons from here on are refusals.
const REFUSALS_FROM: u8 = 0x80;
/// The reason of a PUBCOMP for what the broker no longer knows.
const PACKET_ID_NOT_FOUND: u8 = 0x92;

/// Further anomalies are made but not listed.
const ANOMALIES_LISTED_MAX: usize = 10_000;
const ANOMALY_CENTIDEGREES: i64 = 4_000;

/// All times are microseconds since the start of the run.
#[derive(Debug)]
pub struct Publisher {
    plan: Plan,
    device: String,
    topic: String,
    random: Random,
    payload: Vec<u8>,
    pending: VecDeque<Pending>,
    unacknowledged: usize,
    /// What the broker takes in flight, at most the plan's window.
    window: usize,
    next_packet_id: u16,
    next_anomaly_us: Option<u64>,
    pub published: u64,
    pub redelivered: u64,
    pub refused: u64,
    pub first_published_us: Option<u64>,
    /// With QoS 0: when the last one was published.
    pub last_acknowledged_us: u64,
    pub acknowledged: SequenceSet,
    pub latency_us: Histogram,
    pub anomalies: Vec<AnomalyMade>,
}

impl Publisher {
    pub fn new(plan: Plan) -> Self {
        let device = device_name(plan.place);
        let anomaly_times = plan.anomaly_first_us.zip(plan.anomaly_every_us);
        let first_anomaly_us = anomaly_times.map(|(first_us, every_us)| first_us + every_us * plan.place as u64);
        Publisher {
            topic: format!("devices/{device}/temperature"),
            device,
            random: Random::new(plan.seed).stream(plan.place as u64),
            payload: Vec::with_capacity(plan.payload_bytes + 64),
            pending: VecDeque::with_capacity(plan.window),
            unacknowledged: 0,
            window: plan.window,
            next_packet_id: 1,
            next_anomaly_us: first_anomaly_us,
            published: 0,
            redelivered: 0,
            refused: 0,
            first_published_us: None,
            last_acknowledged_us: 0,
            acknowledged: SequenceSet::default(),
            latency_us: Histogram::default(),
            anomalies: Vec::new(),
            plan,
        }
    }

    /// A connection begins, whose broker takes so many publishes in flight.
    pub fn connected(&mut self, receive_max: u16) {
        self.window = self.plan.window.min(receive_max.into());
    }

    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// When the next publish is due; `None` if the window is full or nothing is left.
    pub fn next_due_us(&self) -> Option<u64> {
        // The window starts at the oldest unacknowledged publish, so packet ids in use are consecutive.
        if self.pending.len() >= self.window || self.plan.count_max.is_some_and(|max| self.published >= max) {
            return None;
        }
        Some(match self.plan.interval_us {
            None => 0,
            // Connections take turns within an interval.
            Some(interval_us) => {
                let turn = self.plan.place as f64 / self.plan.places as f64;
                ((self.published as f64 + turn) * interval_us) as u64
            }
        })
    }

    pub fn is_exhausted(&self) -> bool {
        self.plan.count_max.is_some_and(|max| self.published >= max)
    }

    /// Appends every publish that is due, as far as the window allows.
    pub fn publish_due(&mut self, out: &mut Vec<u8>, now_us: u64, epoch_offset_us: u64) {
        // With QoS 0 the window bounds what is written at once.
        for _ in 0..self.window {
            if self.next_due_us().is_none_or(|due_us| due_us > now_us) {
                break;
            }
            let sequence = self.plan.first_sequence + self.published;
            let mut centidegrees = self.centidegrees(sequence, now_us);
            let published_at_us = epoch_offset_us + now_us;
            if self.next_anomaly_us.is_some_and(|at_us| at_us <= now_us) {
                centidegrees += ANOMALY_CENTIDEGREES;
                self.note_anomaly(sequence, centidegrees, published_at_us, now_us);
            }
            let packet_id = self.next_packet_id;
            self.next_packet_id = if packet_id == u16::MAX { 1 } else { packet_id + 1 };
            let pending = Pending {
                sequence,
                published_at_us,
                centidegrees,
                packet_id,
                is_received: false,
                is_redelivered: false,
                is_settled: false,
            };
            if self.plan.wire.qos == Qos::AtMostOnce {
                self.last_acknowledged_us = now_us;
            } else {
                self.pending.push_back(pending);
                self.unacknowledged += 1;
            }
            self.published += 1;
            self.first_published_us.get_or_insert(now_us);
            self.write(out, pending);
        }
    }

    /// Appends everything again that is unacknowledged, on a new connection.
    pub fn redeliver(&mut self, out: &mut Vec<u8>) {
        for place in 0..self.pending.len() {
            let pending = &mut self.pending[place];
            if pending.is_settled {
                continue;
            }
            pending.is_redelivered = true;
            let pending = *pending;
            self.redelivered += 1;
            if pending.is_received {
                push_release(out, pending.packet_id);
            } else {
                self.write(out, pending);
            }
        }
    }

    /// Takes an answer, and appends what is to be said to it.
    pub fn take(&mut self, answer: Answer, out: &mut Vec<u8>, now_us: u64, epoch_offset_us: u64) -> Outcome {
        let Answer::Acknowledgement { step, packet_id, reason } = answer else {
            return Outcome::Continued;
        };
        let qos = self.plan.wire.qos;
        let Some(pending) = self.pending_with(packet_id) else {
            return Outcome::Unexpected;
        };
        match (qos, step) {
            _ if pending.is_settled => return Outcome::Unexpected,
            (Qos::AtLeastOnce, Step::Acknowledged) => {}
            (Qos::ExactlyOnce, Step::Received) if reason < REFUSALS_FROM => {
                pending.is_received = true;
                push_release(out, packet_id);
                return Outcome::Continued;
            }
            (Qos::ExactlyOnce, Step::Received) if !pending.is_received => {}
            (Qos::ExactlyOnce, Step::Complete) if pending.is_received => {}
            _ => return Outcome::Unexpected,
        }
        // After a reconnect the broker may have forgotten the packet id of what it has taken.
        let is_known_to_be_taken = step == Step::Complete && pending.is_redelivered && reason == PACKET_ID_NOT_FOUND;
        let is_refused = reason >= REFUSALS_FROM && !is_known_to_be_taken;
        pending.is_settled = true;
        let (sequence, published_at_us) = (pending.sequence, pending.published_at_us);
        self.unacknowledged -= 1;
        while self.pending.front().is_some_and(|oldest| oldest.is_settled) {
            self.pending.pop_front();
        }
        if is_refused {
            self.refused += 1;
            return Outcome::Refused { reason };
        }
        self.acknowledged.insert(sequence);
        self.last_acknowledged_us = now_us;
        self.latency_us.record((epoch_offset_us + now_us).saturating_sub(published_at_us));
        Outcome::Acknowledged
    }

    fn pending_with(&mut self, packet_id: u16) -> Option<&mut Pending> {
        let oldest = self.pending.front().filter(|_| packet_id != 0)?;
        // Ids count from 1 to 65,535 and pending ones are consecutive, so the distance is the index.
        let distance = (i32::from(packet_id) - i32::from(oldest.packet_id)).rem_euclid(i32::from(u16::MAX));
        self.pending.get_mut(distance as usize)
    }

    fn note_anomaly(&mut self, sequence: u64, centidegrees: i64, ts_us: u64, now_us: u64) {
        if self.anomalies.len() < ANOMALIES_LISTED_MAX {
            self.anomalies.push(AnomalyMade { device: self.device.clone(), seq: sequence, ts_us, centidegrees });
        }
        let round_us = self.plan.anomaly_every_us.map(|every_us| every_us * self.plan.places as u64);
        // Anomalies missed during a stall are left out: two in a row would not be single readings.
        self.next_anomaly_us = self.next_anomaly_us.zip(round_us).map(|(at_us, round_us)| {
            let round_us = round_us.max(1);
            at_us + ((now_us - at_us) / round_us + 1) * round_us
        });
    }

    /// A wave of minutes around the device's own level, with a little noise.
    fn centidegrees(&self, sequence: u64, now_us: u64) -> i64 {
        let level = 18.0 + 8.0 * self.random.stream(1).unit(0);
        let turns = now_us as f64 / 180e6 + self.random.stream(1).unit(1);
        ((level + 0.4 * (TAU * turns).sin() + 0.06 * self.random.bell(sequence)) * 100.0).round() as i64
    }

    fn write(&mut self, out: &mut Vec<u8>, pending: Pending) {
        let payload = &mut self.payload;
        payload.clear();
        payload.extend_from_slice(b"{\"device\":\"");
        payload.extend_from_slice(self.device.as_bytes());
        payload.extend_from_slice(b"\",\"seq\":");
        push_number(payload, pending.sequence);
        payload.extend_from_slice(b",\"ts_us\":");
        push_number(payload, pending.published_at_us);
        payload.extend_from_slice(b",\"temperature\":");
        push_number(payload, pending.centidegrees.unsigned_abs() / 100);
        let cents = (pending.centidegrees.unsigned_abs() % 100) as u8;
        payload.extend_from_slice(&[b'.', b'0' + cents / 10, b'0' + cents % 10]);
        payload.extend_from_slice(b",\"fw\":\"");
        let padded = self.plan.payload_bytes.saturating_sub(2).max(payload.len());
        payload.resize(padded, b'x');
        payload.extend_from_slice(b"\"}");
        let (wire, duplicate) = (self.plan.wire, pending.is_redelivered);
        push_publish_header(out, wire, &self.topic, pending.packet_id, duplicate, payload.len());
        out.extend_from_slice(payload);
    }
}

/// `d00`, `d01`, ...
pub fn device_name(place: usize) -> String {
    format!("d{place:02}")
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests;

//! One connection's publishes as a pure machine: which to send now, which are unacknowledged, which to send again.
//!
//! A reading is kept as its numbers, and encoded again when it is redelivered: the same bytes except for the DUP flag, with the same
//! sequence number and packet id.

use super::AnomalyMade;
use super::frame::push_publish_header;
use super::histogram::Histogram;
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
    acknowledged: bool,
}

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
    next_packet_id: u16,
    next_anomaly_us: Option<u64>,
    pub published: u64,
    pub redelivered: u64,
    pub first_published_us: Option<u64>,
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
            next_packet_id: 1,
            next_anomaly_us: first_anomaly_us,
            published: 0,
            redelivered: 0,
            first_published_us: None,
            last_acknowledged_us: 0,
            acknowledged: SequenceSet::default(),
            latency_us: Histogram::default(),
            anomalies: Vec::new(),
            plan,
        }
    }

    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// When the next publish is due; `None` if the window is full or nothing is left.
    pub fn next_due_us(&self) -> Option<u64> {
        // The window starts at the oldest unacknowledged publish, so packet ids in use are consecutive.
        if self.pending.len() >= self.plan.window || self.plan.count_max.is_some_and(|max| self.published >= max) {
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
        while self.next_due_us().is_some_and(|due_us| due_us <= now_us) {
            let sequence = self.plan.first_sequence + self.published;
            let mut centidegrees = self.centidegrees(sequence, now_us);
            let published_at_us = epoch_offset_us + now_us;
            if self.next_anomaly_us.is_some_and(|at_us| at_us <= now_us) {
                centidegrees += ANOMALY_CENTIDEGREES;
                self.note_anomaly(sequence, centidegrees, published_at_us, now_us);
            }
            let packet_id = self.next_packet_id;
            self.next_packet_id = if packet_id == u16::MAX { 1 } else { packet_id + 1 };
            let pending = Pending { sequence, published_at_us, centidegrees, packet_id, acknowledged: false };
            self.pending.push_back(pending);
            self.unacknowledged += 1;
            self.published += 1;
            self.first_published_us.get_or_insert(now_us);
            self.write(out, pending, false);
        }
    }

    /// Appends every unacknowledged publish again, on a new connection.
    pub fn redeliver(&mut self, out: &mut Vec<u8>) {
        for place in 0..self.pending.len() {
            let pending = self.pending[place];
            if !pending.acknowledged {
                self.redelivered += 1;
                self.write(out, pending, true);
            }
        }
    }

    /// Records an acknowledgement; false if no publish with this packet id is pending.
    pub fn acknowledge(&mut self, packet_id: u16, now_us: u64, epoch_offset_us: u64) -> bool {
        let Some(oldest) = self.pending.front() else {
            return false;
        };
        // Ids count from 1 to 65,535 and pending ones are consecutive, so the distance is the index.
        let distance = (i32::from(packet_id) - i32::from(oldest.packet_id)).rem_euclid(i32::from(u16::MAX));
        let Some(pending) = self.pending.get_mut(distance as usize) else {
            return false;
        };
        if packet_id == 0 || pending.acknowledged {
            return false;
        }
        pending.acknowledged = true;
        self.unacknowledged -= 1;
        self.acknowledged.insert(pending.sequence);
        self.last_acknowledged_us = now_us;
        self.latency_us.record((epoch_offset_us + now_us).saturating_sub(pending.published_at_us));
        while self.pending.front().is_some_and(|oldest| oldest.acknowledged) {
            self.pending.pop_front();
        }
        true
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

    fn write(&mut self, out: &mut Vec<u8>, pending: Pending, duplicate: bool) {
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
        push_publish_header(out, &self.topic, pending.packet_id, duplicate, payload.len());
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
mod tests {
    use super::*;

    const EPOCH_US: u64 = 1_795_465_865_120_000;

    fn plan() -> Plan {
        Plan {
            place: 7,
            places: 50,
            seed: 1,
            first_sequence: 100,
            count_max: None,
            interval_us: None,
            window: 4,
            payload_bytes: 150,
            anomaly_first_us: None,
            anomaly_every_us: None,
        }
    }

    /// Packet ids, DUP flags and payloads in the bytes.
    fn packets(mut bytes: &[u8]) -> Vec<(u16, bool, serde_json::Value, usize)> {
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            let len = usize::from(bytes[1] & 127) + (usize::from(bytes[2]) << 7);
            let (packet, rest) = bytes.split_at(3 + len);
            let topic_len = usize::from(packet[4]);
            assert_eq!(&packet[5..5 + topic_len], b"devices/d07/temperature");
            let (id, payload) = packet[5 + topic_len..].split_at(2);
            let json = serde_json::from_slice(payload).expect("json");
            packets.push((u16::from_be_bytes([id[0], id[1]]), packet[0] & 8 != 0, json, payload.len()));
            bytes = rest;
        }
        packets
    }

    #[test]
    fn a_publish_has_the_agreed_fields_and_size() {
        let (mut publisher, mut out) = (Publisher::new(plan()), Vec::new());
        publisher.publish_due(&mut out, 5, EPOCH_US);
        let packets = packets(&out);
        assert_eq!(packets.len(), 4, "a full window and no more");
        let (packet_id, duplicate, payload, len) = &packets[0];
        assert_eq!((*packet_id, *duplicate, *len), (1, false, 150));
        assert_eq!((&payload["device"], &payload["seq"]), (&"d07".into(), &100.into()));
        assert_eq!(payload["ts_us"], EPOCH_US + 5);
        assert!((15.0..30.0).contains(&payload["temperature"].as_f64().expect("a number")));
    }

    #[test]
    fn only_what_is_unacknowledged_is_sent_again_and_unchanged() {
        let (mut publisher, mut out) = (Publisher::new(plan()), Vec::new());
        publisher.publish_due(&mut out, 5, EPOCH_US);
        let first = packets(&out);
        assert!(publisher.acknowledge(3, 2_005, EPOCH_US));
        assert!(publisher.acknowledge(1, 1_005, EPOCH_US));
        for packet_id in [0, 1, 3, 9] {
            assert!(!publisher.acknowledge(packet_id, 1_005, EPOCH_US), "{packet_id}");
        }
        assert_eq!(publisher.unacknowledged(), 2);
        assert_eq!(publisher.acknowledged.iter().collect::<Vec<_>>(), [100, 102]);
        assert_eq!((publisher.latency_us.count(), publisher.latency_us.max()), (2, 2_000));
        out.clear();
        publisher.redeliver(&mut out);
        let again = packets(&out);
        assert_eq!(again.len(), 2);
        for (again, first) in again.iter().zip([&first[1], &first[3]]) {
            assert_eq!((again.0, again.1, &again.2), (first.0, true, &first.2));
        }
    }

    #[test]
    fn packet_ids_wrap_without_zero() {
        let (mut publisher, mut out) = (Publisher::new(Plan { window: 1_000, ..plan() }), Vec::new());
        for _ in 0..200 {
            out.clear();
            publisher.publish_due(&mut out, 5, EPOCH_US);
            for (packet_id, ..) in packets(&out) {
                assert!(publisher.acknowledge(packet_id, 6, EPOCH_US));
            }
        }
        assert_eq!((publisher.published, publisher.acknowledged.count()), (200_000, 200_000));
    }

    #[test]
    fn a_rate_is_kept_and_a_count_is_the_end() {
        let timed = Plan { interval_us: Some(25_000.0), window: 100, count_max: Some(5), place: 0, ..plan() };
        let (mut publisher, mut out) = (Publisher::new(timed), Vec::new());
        publisher.publish_due(&mut out, 60_000, EPOCH_US);
        assert_eq!((publisher.published, publisher.next_due_us()), (3, Some(75_000)));
        publisher.publish_due(&mut out, 1_000_000, EPOCH_US);
        assert!(publisher.is_exhausted());
        assert_eq!((publisher.published, publisher.next_due_us()), (5, None));
    }

    #[test]
    fn an_anomaly_is_one_reading_of_one_device() {
        let made = |place| {
            let plan = Plan { place, places: 2, window: 10_000, anomaly_first_us: Some(1_000_000), ..plan() };
            let plan = Plan { interval_us: Some(100_000.0), anomaly_every_us: Some(1_000_000), ..plan };
            let (mut publisher, mut out) = (Publisher::new(plan), Vec::new());
            for step in 0..45 {
                publisher.publish_due(&mut out, step * 100_000, EPOCH_US);
            }
            publisher.anomalies.iter().map(|made| (made.ts_us - EPOCH_US) / 100_000).collect::<Vec<_>>()
        };
        assert_eq!((made(0), made(1)), (vec![10, 30], vec![20, 40]));
    }
}

use super::*;
use crate::access::Version;

const EPOCH_US: u64 = 1_795_465_865_120_000;

fn plan() -> Plan {
    Plan {
        place: 7,
        places: 50,
        wire: Wire::default(),
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

fn take(publisher: &mut Publisher, step: Step, packet_id: u16, reason: u8, now_us: u64) -> (Outcome, Vec<u8>) {
    let mut out = Vec::new();
    let outcome = publisher.take(Answer::Acknowledgement { step, packet_id, reason }, &mut out, now_us, EPOCH_US);
    (outcome, out)
}

fn acknowledge(publisher: &mut Publisher, packet_id: u16, now_us: u64) -> Outcome {
    take(publisher, Step::Acknowledged, packet_id, 0, now_us).0
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
    assert_eq!(acknowledge(&mut publisher, 3, 2_005), Outcome::Acknowledged);
    assert_eq!(acknowledge(&mut publisher, 1, 1_005), Outcome::Acknowledged);
    for packet_id in [0, 1, 3, 9] {
        assert_eq!(acknowledge(&mut publisher, packet_id, 1_005), Outcome::Unexpected, "{packet_id}");
    }
    for step in [Step::Received, Step::Complete] {
        assert_eq!(take(&mut publisher, step, 2, 0, 1_005).0, Outcome::Unexpected, "an answer of QoS 2");
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
            assert_eq!(acknowledge(&mut publisher, packet_id, 6), Outcome::Acknowledged);
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

fn with(version: Version, qos: Qos) -> Publisher {
    Publisher::new(Plan { wire: Wire { version, qos }, ..plan() })
}

#[test]
fn with_qos_2_a_publish_is_acknowledged_when_both_steps_are_done() {
    let (mut publisher, mut out) = (with(Version::V3_1_1, Qos::ExactlyOnce), Vec::new());
    publisher.publish_due(&mut out, 5, EPOCH_US);
    assert_eq!((out[0], publisher.unacknowledged()), (0x34, 4));
    assert_eq!(take(&mut publisher, Step::Acknowledged, 1, 0, 10).0, Outcome::Unexpected);
    assert_eq!(take(&mut publisher, Step::Complete, 1, 0, 10).0, Outcome::Unexpected, "without PUBREC");
    assert_eq!(take(&mut publisher, Step::Received, 1, 0, 10), (Outcome::Continued, b"\x62\x02\x00\x01".to_vec()));
    assert_eq!((publisher.acknowledged.count(), publisher.unacknowledged()), (0, 4));
    assert_eq!(publisher.next_due_us(), None, "its packet id is still in use");
    // After a reconnect: what the broker has is released, what it may not have is published again.
    out.clear();
    publisher.redeliver(&mut out);
    assert_eq!(out[..4], *b"\x62\x02\x00\x01");
    assert_eq!((out[4], publisher.redelivered), (0x3c, 4));
    assert_eq!(take(&mut publisher, Step::Complete, 1, 0, 10), (Outcome::Acknowledged, Vec::new()));
    assert_eq!(take(&mut publisher, Step::Complete, 1, 0, 10).0, Outcome::Unexpected, "again");
    assert_eq!((publisher.acknowledged.count(), publisher.unacknowledged()), (1, 3));
    assert_eq!(publisher.next_due_us(), Some(0));
}

#[test]
fn what_version_5_refuses_is_counted_apart() {
    let (mut publisher, mut out) = (with(Version::V5, Qos::AtLeastOnce), Vec::new());
    publisher.publish_due(&mut out, 5, EPOCH_US);
    assert_eq!(take(&mut publisher, Step::Acknowledged, 1, 0x87, 10).0, Outcome::Refused { reason: 0x87 });
    assert_eq!(take(&mut publisher, Step::Acknowledged, 2, 0x10, 10).0, Outcome::Acknowledged, "nobody has subscribed");
    assert_eq!((publisher.acknowledged.count(), publisher.refused, publisher.unacknowledged()), (1, 1, 2));
    assert_eq!(publisher.acknowledged.iter().collect::<Vec<_>>(), [101]);
    publisher.redeliver(&mut out);
    assert_eq!(publisher.redelivered, 2);

    let (mut publisher, mut out) = (with(Version::V5, Qos::ExactlyOnce), Vec::new());
    publisher.publish_due(&mut out, 5, EPOCH_US);
    assert_eq!(take(&mut publisher, Step::Received, 1, 0x97, 10), (Outcome::Refused { reason: 0x97 }, Vec::new()));
    for packet_id in [2, 3] {
        assert_eq!(take(&mut publisher, Step::Received, packet_id, 0, 10).0, Outcome::Continued);
    }
    assert_eq!(take(&mut publisher, Step::Complete, 2, 0x92, 10).0, Outcome::Refused { reason: 0x92 });
    publisher.redeliver(&mut out);
    let forgotten = take(&mut publisher, Step::Complete, 3, 0x92, 10).0;
    assert_eq!(forgotten, Outcome::Acknowledged, "a broker that has restarted has what it received");
    assert_eq!((publisher.acknowledged.count(), publisher.refused, publisher.unacknowledged()), (1, 2, 1));
}

#[test]
fn a_broker_that_takes_less_than_the_window_gets_less() {
    let (mut publisher, mut out) = (with(Version::V5, Qos::AtLeastOnce), Vec::new());
    publisher.connected(3);
    publisher.publish_due(&mut out, 5, EPOCH_US);
    assert_eq!(publisher.unacknowledged(), 3);
    publisher.connected(u16::MAX);
    publisher.publish_due(&mut out, 5, EPOCH_US);
    assert_eq!(publisher.unacknowledged(), 4, "nor more than the window");
}

#[test]
fn with_qos_0_nothing_waits_and_nothing_is_acknowledged() {
    let (mut publisher, mut out) = (with(Version::V3_1_1, Qos::AtMostOnce), Vec::new());
    for round in 1..=3 {
        publisher.publish_due(&mut out, 5, EPOCH_US);
        assert_eq!(publisher.published, 4 * round, "a window at once");
    }
    assert_eq!((publisher.unacknowledged(), publisher.acknowledged.count()), (0, 0));
    assert_eq!(acknowledge(&mut publisher, 1, 10), Outcome::Unexpected);
    out.clear();
    publisher.redeliver(&mut out);
    assert!(out.is_empty());
}

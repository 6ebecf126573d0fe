//! Exactly once, over kills between any two steps of QoS 2, both ways.

use std::time::Duration;

use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::restart::{killed, publish_end, settle, start};
use crate::sessions_queue::Receiver;
use crate::wire::{Connect, Message, PUBACK, PUBCOMP, PUBREC, PUBREL, VERSIONS, Wire};

/// How far a message has got when the gateway is killed: the last packet that was sent or received.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Step {
    /// PUBLISH.
    Published,
    /// PUBREC.
    Received,
    /// PUBREL.
    Released,
    /// PUBCOMP.
    Completed,
}
use Step::{Completed, Published, Received, Released};

fn accepted(gateway: &Gateway) -> u64 {
    ledger_line(&gateway.status(), "archive", "raw")["accepted"].as_u64().unwrap()
}

/// A device publishes, at QoS 2 and always with the same packet id, readings that have neither sequence nor time: only the id tells a repeat.
/// In each round the gateway is killed so many milliseconds after this step. The device comes back and goes on where it was.
fn device_killed_after(step: Step, delays_ms: impl Iterator<Item = u64> + Clone) {
    const ID: u16 = 7;
    for version in VERSIONS {
        let (folder, mut gateway) = start();
        let [watcher, sensor] = ["watcher", "sensor"].map(|id| Connect::kept(version, id));
        assert_eq!(Wire::open(&gateway, &watcher).subscribe("devices/q2/#", 2), 2);
        let mut device = Wire::open(&gateway, &sensor);
        settle(&gateway, 1);
        let mut expected = Vec::new();
        for (round, delay_ms) in delays_ms.clone().enumerate() {
            let reading = Message::new("devices/q2/temp", &format!("1{round}.5"), 2, ID);
            device.send(&reading);
            if step >= Received {
                assert_eq!(device.expect(PUBREC, ID), 0);
            }
            if step >= Released {
                device.answer(PUBREL, ID);
            }
            if step == Completed {
                assert_eq!(device.expect(PUBCOMP, ID), 0, "round {round}, version {version:?}");
            }
            std::thread::sleep(Duration::from_millis(delay_ms));
            gateway = killed(&folder, gateway);
            device = Wire::resume(&gateway, &sensor);
            if step <= Received {
                device.send(&reading.again());
                assert_eq!(device.expect(PUBREC, ID), 0);
            }
            if step <= Released {
                device.answer(PUBREL, ID);
                // It may have been released before: then its id is not known any more, which is well.
                let reason = device.expect(PUBCOMP, ID);
                assert!(reason == 0 || (step == Released && reason == 0x92), "{reason:#x}");
            }
            device.publish(&Message::new("devices/q2/next", "0.25", 1, 9));
            wait_until("the count", || accepted(&gateway) >= 2 * (round as u64 + 1));
            assert_eq!(accepted(&gateway), 2 * (round as u64 + 1), "round {round}, {step:?}, {version:?}");
            expected.extend([reading.payload, "0.25".to_owned()]);
        }
        let mut receiver = Receiver::default();
        publish_end(&gateway, "devices/q2/end");
        receiver.run(&mut Wire::resume(&gateway, &watcher), "end").unwrap();
        receiver.got.pop();
        assert_eq!(receiver.got, expected, "{step:?}, {version:?}");
    }
}

#[test]
fn a_reading_of_qos_2_is_stored_once_if_a_kill_comes_before_its_pubrec() {
    device_killed_after(Published, (0..6).map(|round| round * 7));
}

#[test]
fn a_reading_of_qos_2_is_stored_once_if_a_kill_comes_behind_its_pubrec() {
    device_killed_after(Received, [0, 3].into_iter());
}

#[test]
fn a_reading_of_qos_2_is_stored_once_if_a_kill_comes_behind_its_pubrel() {
    device_killed_after(Released, [0, 1, 2, 5, 10, 20, 40].into_iter());
}

/// The device does not release it again, and its next message has the same id.
#[test]
fn an_id_of_qos_2_is_free_after_a_kill_if_the_device_was_told_so() {
    device_killed_after(Completed, [0, 0, 3, 20].into_iter());
}

/// A subscriber answers one message up to this step; then the gateway is killed after so many milliseconds, and the subscriber comes back.
/// `may_come` lists what may come of that message then: P for PUBLISH, R for PUBREL, in their order.
fn subscriber_killed_after(step: Step, delays_ms: &[u64], may_come: &[&str]) {
    for version in VERSIONS {
        let (folder, mut gateway) = start();
        let reader = Connect::kept(version, "reader");
        let mut client = Wire::open(&gateway, &reader);
        assert_eq!(client.subscribe("q2/#", 2), 2);
        for (round, delay_ms) in delays_ms.iter().enumerate() {
            let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
            publisher.publish(&Message::new("q2/t", &round.to_string(), 2, 1));
            let first = client.message();
            assert_eq!((first.payload.as_str(), first.qos, first.dup), (&*round.to_string(), 2, false));
            if step >= Received {
                client.answer(PUBREC, first.id);
            }
            if step >= Released {
                client.expect(PUBREL, first.id);
            }
            if step == Completed {
                client.answer(PUBCOMP, first.id);
            }
            std::thread::sleep(Duration::from_millis(*delay_ms));
            gateway = killed(&folder, gateway);
            client = Wire::resume(&gateway, &reader);
            publish_end(&gateway, "q2/end");
            let came = what_comes_of(&first, &mut client);
            assert!(may_come.contains(&&*came), "{came:?} after {step:?} and {delay_ms} ms in version {version:?}");
            client.client.ping();
        }
    }
}

/// Answers everything up to the message "end". Returns what came of `first`: the PUBLISH and PUBREL with its id.
fn what_comes_of(first: &Message, client: &mut Wire) -> String {
    let (mut came, mut is_over) = (String::new(), false);
    while !is_over || came.ends_with('P') {
        let packet = client.client.packet().unwrap();
        if packet.first == PUBREL {
            assert_eq!(packet.body[..2], first.id.to_be_bytes());
            client.answer(PUBCOMP, first.id);
            came.push('R');
            continue;
        }
        let message = Message::parse(client.version, &packet);
        if message.payload == "end" {
            client.answer(PUBACK, message.id);
            is_over = true;
        } else {
            assert_eq!(message, first.again());
            client.answer(PUBREC, message.id);
            came.push('P');
        }
    }
    came
}

#[test]
fn what_a_subscriber_has_not_answered_comes_again_with_its_id() {
    subscriber_killed_after(Published, &[0, 0, 20], &["PR"]);
}

#[test]
fn what_a_subscriber_has_just_received_comes_again_or_is_released() {
    subscriber_killed_after(Received, &[0, 1, 2, 4, 7, 12, 20, 40], &["PR", "R"]);
}

#[test]
fn what_was_released_is_released_again_and_never_sent_again() {
    subscriber_killed_after(Released, &[0, 0, 20], &["R"]);
}

#[test]
fn what_a_subscriber_has_completed_never_comes_again() {
    subscriber_killed_after(Completed, &[0, 1, 2, 4, 7, 12, 20, 40], &["R", ""]);
}

/// Several at different steps: each goes on at its own, under its own id.
#[test]
fn messages_at_different_steps_go_on_side_by_side() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let reader = Connect::kept(version, "reader");
        let mut client = Wire::open(&gateway, &reader);
        assert_eq!(client.subscribe("q2/#", 2), 2);
        Wire::open(&gateway, &Connect::kept(version, "publisher")).publish_numbers("q2/t", 2, 0..6);
        let sent: Vec<_> = (0..6).map(|_| client.message()).collect();
        // The second and the fifth are released; the third is completed.
        for at in [2, 1, 4] {
            client.answer(PUBREC, sent[at].id);
            client.expect(PUBREL, sent[at].id);
        }
        client.answer(PUBCOMP, sent[2].id);
        let gateway = killed(&folder, gateway);
        let mut client = Wire::resume(&gateway, &reader);
        publish_end(&gateway, "q2/end");
        let (mut released, mut again) = (Vec::new(), Vec::new());
        loop {
            let packet = client.client.packet().unwrap();
            if packet.first == PUBREL {
                released.push(u16::from_be_bytes([packet.body[0], packet.body[1]]));
                continue;
            }
            match Message::parse(version, &packet) {
                message if message.payload == "end" => break,
                message => again.push(message),
            }
        }
        assert_eq!(again, [0, 3, 5].map(|at: usize| sent[at].again()), "{version:?}");
        // What was completed may be released once more.
        released.retain(|id| *id != sent[2].id);
        assert_eq!(released, [sent[1].id, sent[4].id], "{version:?}");
    }
}

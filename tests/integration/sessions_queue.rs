//! What waits for a client when the gateway is killed: all of it comes, in its order.

use std::io;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Packet;
use crate::gateway::Gateway;
use crate::kill;
use crate::restart::{killed, publish_end, settle, start, start_again, wait_past};
use crate::wire::{Connect, Message, PUBACK, PUBCOMP, PUBREC, PUBREL, VERSIONS, Version, Wire};

fn numbers(range: std::ops::Range<u16>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Subscribes to `filter` and leaves; a hundred messages come, and right after the last acknowledgement the gateway is killed.
fn kill_with_a_hundred_waiting(version: Version, filter: &str, qos: u8, granted: u8) -> (TempDir, Gateway) {
    let (folder, gateway) = start();
    assert_eq!(Wire::open(&gateway, &Connect::kept(version, "away")).subscribe(filter, granted), granted);
    settle(&gateway, 0);
    Wire::open(&gateway, &Connect::kept(version, "publisher")).publish_numbers("queue/t", qos, 0..100);
    let gateway = killed(&folder, gateway);
    (folder, gateway)
}

#[test]
fn what_waits_for_a_client_that_is_away_outlives_a_kill() {
    for version in VERSIONS {
        for (filter, qos, granted) in [
            ("queue/#", 1, 1),
            ("queue/#", 2, 2),
            ("queue/#", 2, 1),
            ("$share/g/queue/#", 1, 1),
            ("$share/g/queue/#", 2, 2),
        ] {
            let (_folder, gateway) = kill_with_a_hundred_waiting(version, filter, qos, granted);
            let mut client = Wire::resume(&gateway, &Connect::kept(version, "away"));
            publish_end(&gateway, "queue/t");
            let got = client.take_until("end");
            assert_eq!(got, numbers(0..100), "{filter} at {qos}, granted {granted}, in version {version:?}");
        }
    }
}

/// A second kill before the client comes back, and a third one when it has taken half of it.
#[test]
fn what_waits_outlives_several_kills_and_what_was_taken_leaves_no_gap() {
    for version in VERSIONS {
        let (folder, gateway) = kill_with_a_hundred_waiting(version, "queue/#", 1, 1);
        let gateway = killed(&folder, gateway);
        let away = Connect::kept(version, "away");
        let mut client = Wire::resume(&gateway, &away);
        assert_eq!((0..50).map(|_| client.take().payload).collect::<Vec<_>>(), numbers(0..50));
        let gateway = killed(&folder, gateway);
        let mut client = Wire::resume(&gateway, &away);
        publish_end(&gateway, "queue/t");
        let got = client.take_until("end");
        let first: u16 = got[0].parse().unwrap();
        assert!(first <= 50, "{first} is behind a gap");
        assert_eq!(got, numbers(first..100));
    }
}

/// What was sent before the kill to a client that is there, and what comes after it.
fn unacknowledged_over_a_kill(version: Version, qos: u8) -> (Vec<Message>, Vec<Message>) {
    let (folder, gateway) = start();
    let reader = Connect::kept(version, "reader");
    let mut client = Wire::open(&gateway, &reader);
    assert_eq!(client.subscribe("queue/t", qos), qos);
    Wire::open(&gateway, &Connect::kept(version, "publisher")).publish_numbers("queue/t", qos, 0..100);
    let sent: Vec<_> = (0..20).map(|_| client.message()).collect();
    let gateway = killed(&folder, gateway);
    let mut client = Wire::resume(&gateway, &reader);
    publish_end(&gateway, "queue/t");
    let again = std::iter::repeat_with(|| client.take()).take_while(|message| message.payload != "end").collect();
    (sent, again)
}

#[test]
fn what_a_client_has_not_acknowledged_comes_again_after_a_kill() {
    for version in VERSIONS {
        for qos in [1, 2] {
            let (sent, again) = unacknowledged_over_a_kill(version, qos);
            assert!(sent.iter().all(|message| !message.dup));
            assert!(again.iter().map(|message| &message.payload).eq(&numbers(0..100)), "{version:?}, {qos}");
            let is_marked = again[..sent.len()].iter().all(|message| message.dup);
            assert!(is_marked, "{version:?}, {qos}: what was sent before is marked");
        }
    }
}

/// As the standard says of both qualities of service (MQTT-4.4.0-1).
#[test]
fn what_comes_again_after_a_kill_has_the_packet_id_that_it_had() {
    for version in VERSIONS {
        for qos in [1, 2] {
            let (sent, again) = unacknowledged_over_a_kill(version, qos);
            for (sent, again) in sent.iter().zip(&again) {
                assert_eq!(*again, sent.again(), "{version:?}, {qos}");
            }
        }
    }
}

#[test]
fn what_waits_is_of_no_use_when_its_time_has_passed_while_the_gateway_was_down() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let away = Connect::kept(version, "away");
        assert_eq!(Wire::open(&gateway, &away).subscribe("queue/t", 1), 1);
        settle(&gateway, 0);
        let mut publisher = Wire::open(&gateway, &Connect::fleeting(Version::Five, "publisher"));
        let published = Instant::now();
        for (payload, properties) in
            [("long", b"\x02\x00\x00\x02\x58"), ("short", b"\x02\x00\x00\x00\x01"), ("last", b"\x02\x00\x00\x02\x58")]
        {
            publisher.publish(&Message::new("queue/t", payload, 1, 1).with(properties));
        }
        gateway.kill();
        wait_past(published, Duration::from_millis(2_500));
        let gateway = start_again(&folder);
        let mut client = Wire::resume(&gateway, &away);
        for payload in ["long", "last"] {
            let message = client.take();
            assert_eq!(message.payload, payload);
            let expected = if version == Version::Five { 500..=598 } else { 0..=0 };
            assert!(expected.contains(&message.expiry_s().unwrap_or(0)), "{:?} s are left", message.expiry_s());
        }
    }
}

/// A client that publishes numbers, as the standard says: each is sent until it is acknowledged.
struct Sender {
    qos: u8,
    next: u16,
    /// Ids and numbers of those on their way, and whether the gateway has said that it has them.
    window: Vec<(u16, u16, bool)>,
}

impl Sender {
    /// Publishes up to `end` in tens, beginning with what is on its way.
    fn run(&mut self, wire: &mut Wire, end: u16) -> io::Result<()> {
        let of = |qos, id, number: u16| Message::new("order/t", &number.to_string(), qos, id);
        for &(id, number, is_taken) in &self.window {
            match is_taken {
                true => wire.try_answer(PUBREL, id)?,
                false => wire.try_send(&of(self.qos, id, number).again())?,
            }
        }
        loop {
            while let Some(packet) = (!self.window.is_empty()).then(|| wire.client.packet()) {
                let Packet { first, body } = packet?;
                let id = u16::from_be_bytes([body[0], body[1]]);
                let at = self.window.iter().position(|known| known.0 == id).expect("an id that is on its way");
                match first {
                    PUBREC => {
                        self.window[at].2 = true;
                        wire.try_answer(PUBREL, id)?;
                    }
                    PUBACK | PUBCOMP => _ = self.window.remove(at),
                    other => panic!("{other:#x}"),
                }
            }
            if self.next >= end {
                return Ok(());
            }
            let numbers = self.next..end.min(self.next + 10);
            self.next = numbers.end;
            // The same ids again and again.
            self.window = numbers.map(|number| (number % 10 + 1, number, false)).collect();
            for &(id, number, _) in &self.window {
                wire.try_send(&of(self.qos, id, number))?;
            }
        }
    }
}

/// A client that takes what comes, as the standard says: at QoS 2 it remembers the ids of what is not released, and takes each once.
#[derive(Default)]
pub struct Receiver {
    unreleased: Vec<u16>,
    pub got: Vec<String>,
}

impl Receiver {
    /// Takes and answers what comes, up to this message; an error if the gateway is gone.
    pub fn run(&mut self, wire: &mut Wire, end: &str) -> io::Result<()> {
        while self.got.last().is_none_or(|last| last != end) || !self.unreleased.is_empty() {
            let packet = wire.client.packet()?;
            if packet.first == PUBREL {
                let id = u16::from_be_bytes([packet.body[0], packet.body[1]]);
                self.unreleased.retain(|known| *known != id);
                wire.try_answer(PUBCOMP, id)?;
                continue;
            }
            let message = Message::parse(wire.version, &packet);
            let is_known = message.qos == 2 && self.unreleased.contains(&message.id);
            if message.qos == 2 && !is_known {
                self.unreleased.push(message.id);
            }
            if !is_known {
                self.got.push(message.payload);
            }
            wire.try_answer(if message.qos == 2 { PUBREC } else { PUBACK }, message.id)?;
        }
        Ok(())
    }
}

/// What a client has got of 200 messages, both ways at this quality, with five kills at random moments. At every other one it is away.
fn got_over_five_kills(version: Version, qos: u8) -> Vec<String> {
    let (folder, mut gateway) = start();
    let [publisher, subscriber] = ["publisher", "subscriber"].map(|id| Connect::kept(version, id));
    assert_eq!(Wire::open(&gateway, &subscriber).subscribe("order/t", qos), qos);
    drop(Wire::open(&gateway, &publisher));
    let mut sender = Sender { qos, next: 0, window: Vec::new() };
    let mut receiver = Receiver::default();
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ u64::from(qos) ^ version as u64;
    for number in 0..5 {
        let mut from = Wire::resume(&gateway, &publisher);
        let mut to = (number % 2 == 0).then(|| Wire::resume(&gateway, &subscriber));
        // A part without a kill, and a part in which it comes at any moment.
        let until = 200.min(sender.next + 10);
        sender.run(&mut from, until).unwrap();
        let moment = Duration::from_micros(kill::next(&mut seed) % 30_000);
        gateway = std::thread::scope(|scope| {
            scope.spawn(|| drop(sender.run(&mut from, 200)));
            scope.spawn(|| to.as_mut().map(|to| drop(receiver.run(to, "end"))));
            std::thread::sleep(moment);
            killed(&folder, gateway)
        });
    }
    let mut from = Wire::resume(&gateway, &publisher);
    sender.run(&mut from, 200).unwrap();
    let mut to = Wire::resume(&gateway, &subscriber);
    publish_end(&gateway, "order/t");
    receiver.run(&mut to, "end").unwrap();
    receiver.got.pop();
    receiver.got
}

#[test]
fn five_kills_neither_lose_nor_repeat_a_message_of_qos_2() {
    for version in VERSIONS {
        assert_eq!(got_over_five_kills(version, 2), numbers(0..200), "{version:?}");
    }
}

#[test]
fn five_kills_lose_no_message_of_qos_1() {
    for version in VERSIONS {
        let mut first = Vec::new();
        for number in got_over_five_kills(version, 1) {
            if !first.contains(&number) {
                first.push(number);
            }
        }
        assert_eq!(first, numbers(0..200), "{version:?}");
    }
}

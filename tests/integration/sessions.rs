//! What a client may rely on after the gateway was killed or stopped: retained messages, sessions, their subscriptions, and that what has
//! ended stays so.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::restart::{killed, publish_end, settle, start, start_again, start_with, wait_past};
use crate::wire::{
    Connect, EXPIRY, IDENTIFIER, Message, PUBACK, PUBCOMP, PUBREC, PUBREL, USER, VERSIONS, Version, Wire,
};

/// A user property `road: dry`.
const ROAD: &[u8] = b"\x26\x00\x04road\x00\x03dry";

/// Ten minutes.
const LONG: &[u8] = b"\x02\x00\x00\x02\x58";

/// What is retained below `state`, as a new client of this version gets it, in the order of topics.
fn retained(gateway: &Gateway, version: Version) -> Vec<Message> {
    let mut late = Wire::open(gateway, &Connect::fleeting(version, "late"));
    // Retained too, so that it comes behind the others.
    late.publish(&Message::new("late/end", "end", 1, 1).retained());
    assert_eq!(late.subscribe("state/#", 2), 2);
    assert_eq!(late.subscribe("late/end", 1), 1);
    let all = std::iter::repeat_with(|| late.take()).take_while(|message| message.topic != "late/end");
    let mut all: Vec<_> = all.map(|message| Message { id: 0, ..message }).collect();
    all.sort_by(|left, right| left.topic.cmp(&right.topic));
    all
}

fn payloads(messages: &[Message]) -> Vec<(&str, &str)> {
    messages.iter().map(|message| (message.topic.as_str(), message.payload.as_str())).collect()
}

#[test]
fn retained_messages_outlive_a_kill_with_what_belongs_to_them() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
        let properties = [LONG, ROAD].concat();
        for (topic, qos, id) in [("state/two", 2, 1), ("state/zero", 0, 0), ("state/one", 1, 2)] {
            publisher.publish(&Message::new(topic, topic, qos, id).retained().with(&properties));
        }
        let gateway = killed(&folder, gateway);
        for reader in VERSIONS {
            let found = retained(&gateway, reader);
            assert_eq!(
                payloads(&found),
                [("state/one", "state/one"), ("state/two", "state/two"), ("state/zero", "state/zero")]
            );
            for (message, qos) in found.iter().zip([1, 2, 0]) {
                assert_eq!((message.qos, message.retain, message.dup), (qos, true, false), "{message:?}");
                let is_told = version == Version::Five && reader == Version::Five;
                assert_eq!(message.property(USER), if is_told { vec![ROAD[1..].to_vec()] } else { vec![] });
                assert_eq!(message.property(EXPIRY).len(), usize::from(is_told));
                assert!(message.expiry_s().is_none_or(|left_s| (500..=600).contains(&left_s)), "{message:?}");
            }
        }
    }
}

#[test]
fn what_retained_messages_became_is_what_they_are_after_a_kill() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
        for topic in ["state/deleted", "state/deleted-at-0", "state/kept", "state/replaced"] {
            publisher.publish(&Message::new(topic, "old", 1, 1).retained());
        }
        publisher.publish(&Message::new("state/replaced", "new", 1, 1).retained());
        publisher.publish(&Message::new("state/deleted-at-0", "", 0, 0).retained());
        publisher.publish(&Message::new("state/deleted", "", 1, 1).retained());
        let gateway = killed(&folder, gateway);
        assert_eq!(payloads(&retained(&gateway, version)), [("state/kept", "old"), ("state/replaced", "new")]);
        // Also what came from the store.
        let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
        publisher.publish(&Message::new("state/replaced", "newer", 1, 1).retained());
        publisher.publish(&Message::new("state/kept", "", 1, 1).retained());
        let gateway = killed(&folder, gateway);
        assert_eq!(payloads(&retained(&gateway, version)), [("state/replaced", "newer")]);
    }
}

#[test]
fn a_retained_message_does_not_outlive_its_time_while_the_gateway_is_down() {
    let (folder, gateway) = start();
    let mut publisher = Wire::open(&gateway, &Connect::fleeting(Version::Five, "publisher"));
    let published = Instant::now();
    publisher.publish(&Message::new("state/long", "x", 1, 1).retained().with(LONG));
    publisher.publish(&Message::new("state/short", "x", 1, 1).retained().with(b"\x02\x00\x00\x00\x02"));
    gateway.kill();
    wait_past(published, Duration::from_millis(3_500));
    let gateway = start_again(&folder);
    let found = retained(&gateway, Version::Five);
    assert_eq!(payloads(&found), [("state/long", "x")]);
    let left_s = found[0].expiry_s().unwrap();
    assert!((500..=597).contains(&left_s), "the time that it was down counts: {left_s}");
}

#[test]
fn two_hundred_retained_messages_outlive_kills() {
    let (folder, mut gateway) = start();
    let mut publisher = Wire::open(&gateway, &Connect::fleeting(Version::Four, "publisher"));
    let of = |number: u16, payload: &str| {
        Message::new(&format!("state/{number:03}"), payload, 1, number + 1).retained().bytes(Version::Four)
    };
    publisher.client.send(&(0..200).flat_map(|number| of(number, "on")).collect::<Vec<u8>>());
    (0..200).for_each(|number| assert_eq!(publisher.expect(PUBACK, number + 1), 0));
    for _ in 0..2 {
        gateway = killed(&folder, gateway);
        assert_eq!(retained(&gateway, Version::Four).len(), 200);
    }
    let mut publisher = Wire::open(&gateway, &Connect::fleeting(Version::Four, "publisher"));
    publisher.client.send(&(0..100).flat_map(|number| of(number, "")).collect::<Vec<u8>>());
    (0..100).for_each(|number| assert_eq!(publisher.expect(PUBACK, number + 1), 0));
    gateway = killed(&folder, gateway);
    let found = retained(&gateway, Version::Four);
    assert_eq!((found.len(), found[0].topic.as_str()), (100, "state/100"));
}

#[test]
fn a_session_outlives_a_kill_with_its_subscriptions_and_their_options() {
    const NO_LOCAL: u8 = 0x04;
    const RETAIN_AS_PUBLISHED: u8 = 0x08;
    for version in VERSIONS {
        let (folder, gateway) = start();
        let keeper = Connect::kept(version, "keeper");
        let is_five = version == Version::Five;
        let mut client = Wire::open(&gateway, &keeper);
        assert!(!client.present);
        let options = if is_five { 1 | NO_LOCAL | RETAIN_AS_PUBLISHED } else { 1 };
        assert_eq!(client.subscribe("zero", 0), 0);
        assert_eq!(client.subscribe("two", 2), 2);
        let identifier: &[u8] = if is_five { b"\x0b\xc8\x01" } else { b"" };
        assert_eq!(client.subscribe_with(identifier, "one/#", options), 1);
        let gateway = killed(&folder, gateway);

        let mut client = Wire::resume(&gateway, &keeper);
        client.publish(&Message::new("one/own", "own", 1, 1));
        let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
        publisher.publish(&Message::new("one/x", "retained", 2, 1).retained());
        publisher.publish(&Message::new("zero", "at 0", 1, 2));
        publisher.publish(&Message::new("two", "at 2", 2, 3));
        if !is_five {
            assert_eq!(client.take().payload, "own");
        }
        let first = client.take();
        assert_eq!((first.payload.as_str(), first.qos, first.retain), ("retained", 1, is_five));
        assert_eq!(first.property(IDENTIFIER), if is_five { vec![b"\xc8\x01".to_vec()] } else { vec![] });
        for (payload, qos) in [("at 0", 0), ("at 2", 2)] {
            let next = client.take();
            assert_eq!((next.payload.as_str(), next.qos, next.retain), (payload, qos, false));
            assert_eq!(next.property(IDENTIFIER).len(), 0);
        }
    }
}

#[test]
fn an_unsubscribed_filter_stays_so_after_a_kill() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let keeper = Connect::kept(version, "keeper");
        let mut client = Wire::open(&gateway, &keeper);
        for filter in ["gone", "$share/g/gone", "stays"] {
            assert_eq!(client.subscribe(filter, 1), 1);
        }
        client.unsubscribe("$share/g/gone");
        client.unsubscribe("gone");
        let gateway = killed(&folder, gateway);
        let mut client = Wire::resume(&gateway, &keeper);
        publish_end(&gateway, "gone");
        publish_end(&gateway, "stays");
        assert_eq!(client.take().topic, "stays");
    }
}

/// How a client ends the session that it has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// It begins another one, which ends with the connection.
    Fleeting,
    /// It begins another one, which is kept.
    Anew,
    /// It says goodbye, and that the session is not to be kept.
    Goodbye,
}

#[test]
fn a_session_that_was_ended_stays_so_after_a_kill() {
    const CASES: [(Version, Ending); 4] = [
        (Version::Four, Ending::Fleeting),
        (Version::Five, Ending::Fleeting),
        (Version::Five, Ending::Anew),
        (Version::Five, Ending::Goodbye),
    ];
    for (version, ending) in CASES {
        let (folder, gateway) = start();
        let keeper = Connect::kept(version, "keeper");
        let mut client = Wire::open(&gateway, &keeper);
        assert_eq!(client.subscribe("old", 1), 1);
        drop(client);
        settle(&gateway, 0);
        publish_end(&gateway, "old");
        match ending {
            Ending::Fleeting => drop(Wire::open(&gateway, &Connect::fleeting(version, "keeper"))),
            Ending::Anew => drop(Wire::open(&gateway, &keeper)),
            Ending::Goodbye => {
                Wire::resume(&gateway, &keeper).disconnect_for_good();
                settle(&gateway, 0);
            }
        }
        let gateway = killed(&folder, gateway);
        let mut client = Wire::open(&gateway, &keeper.resumed());
        assert_eq!(client.present, ending == Ending::Anew, "{version:?}, {ending:?}");
        assert_eq!(client.subscribe("new", 1), 1);
        publish_end(&gateway, "old");
        publish_end(&gateway, "new");
        assert_eq!(client.take().topic, "new", "{version:?}, {ending:?}");
    }
}

#[test]
fn a_session_ends_in_time_while_the_gateway_is_down() {
    for version in VERSIONS {
        // Before version 5 clients do not say how long.
        let config = if version == Version::Four { "[mqtt]\nsession_expiry_max = \"2s\"\n" } else { "" };
        let (folder, gateway) = start_with(config);
        let [short, long] = [(2, "short"), (300, "long")]
            .map(|(expiry_s, client_id)| Connect { expiry_s, ..Connect::kept(version, client_id) });
        for connect in [&short, &long] {
            Wire::open(&gateway, connect).subscribe("t", 1);
        }
        settle(&gateway, 0);
        let left = Instant::now();
        gateway.kill();
        wait_past(left, Duration::from_millis(3_000));
        let gateway = start_again(&folder);
        assert!(!Wire::open(&gateway, &short.resumed()).present);
        assert_eq!(Wire::open(&gateway, &long.resumed()).present, version == Version::Five);
    }
}

/// The same things after SIGTERM, all at once.
#[test]
fn a_graceful_stop_keeps_all_of_it() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let [reader, device, ended] = ["reader", "device", "ended"].map(|id| Connect::kept(version, id));
        Wire::open(&gateway, &ended).subscribe("t", 2);
        drop(Wire::open(&gateway, &Connect::fleeting(version, "ended")));
        let mut client = Wire::open(&gateway, &reader);
        assert_eq!(client.subscribe("t", 2), 2);
        let mut publisher = Wire::open(&gateway, &device);
        publisher.publish(&Message::new("state/x", "on", 1, 1).retained());
        publisher.publish_numbers("t", 2, 0..3);
        // The first is released, the second only known, the third not answered; then more while it is away.
        let sent = [(); 3].map(|()| client.message());
        client.answer(PUBREC, sent[0].id);
        client.expect(PUBREL, sent[0].id);
        client.answer(PUBCOMP, sent[0].id);
        client.answer(PUBREC, sent[1].id);
        client.expect(PUBREL, sent[1].id);
        client.client.ping();
        drop(client);
        wait_until("it to leave", || gateway.status()["mqtt"]["connections"] == 1);
        publisher.publish_numbers("t", 2, 3..20);
        assert!(gateway.stop().success());

        let gateway = start_again(&folder);
        assert_eq!(payloads(&retained(&gateway, version)), [("state/x", "on")]);
        assert!(!Wire::open(&gateway, &ended.resumed()).present);
        let mut publisher = Wire::resume(&gateway, &device);
        publisher.send(&Message::new("t", "0", 2, 1).again());
        assert_eq!(publisher.expect(PUBREC, 1), 0, "it is known, so it is not passed on again");
        let mut client = Wire::resume(&gateway, &reader);
        client.expect(PUBREL, sent[1].id);
        client.answer(PUBCOMP, sent[1].id);
        let again = client.take();
        assert_eq!(again, sent[2].again());
        publish_end(&gateway, "t");
        let expected: Vec<String> = (3..20).map(|number| number.to_string()).collect();
        assert_eq!(client.take_until("end"), expected);
    }
}

/// A session with a gap is worse than none: the client would not know.
#[test]
fn a_session_that_has_too_much_to_keep_ends_and_is_never_resumed_with_a_gap() {
    const SIZE_MAX: &str = "[mqtt]\nsubscriber_size_max = \"16KiB\"\n";
    const CLIENTS: usize = 12;
    for version in VERSIONS {
        let (folder, mut gateway) = start_with(SIZE_MAX);
        let ids: Vec<String> = (0..CLIENTS).map(|number| format!("keeper-{number}")).collect();
        // Each one gets more of the messages than the one before.
        for (number, id) in ids.iter().enumerate() {
            let mut client = Wire::open(&gateway, &Connect::kept(version, id));
            (0..=number).for_each(|topic| assert_eq!(client.subscribe(&format!("t/{topic}"), 1), 1));
        }
        settle(&gateway, 0);
        let padding = "x".repeat(1_000);
        for numbers in [0..30, 30..60] {
            let mut publisher = Wire::open(&gateway, &Connect::fleeting(version, "publisher"));
            for number in numbers {
                let topic = format!("t/{}", number % CLIENTS);
                publisher.publish(&Message::new(&topic, &format!("{number} {padding}"), 1, 1));
            }
            // In each half some have got too much.
            wait_until("the count", || gateway.status()["mqtt"]["sessions_given_way"].as_u64() > Some(0));
            gateway = killed(&folder, gateway);
        }
        let is_present = |(number, id): (usize, &String)| {
            let mut client = Wire::open(&gateway, &Connect::kept(version, id).resumed());
            assert_eq!(client.subscribe("last", 1), 1);
            publish_end(&gateway, "last");
            let got = client.take_until("end");
            let expected: Vec<String> = (0..60).filter(|n| n % CLIENTS <= number).map(|n| n.to_string()).collect();
            let got: Vec<&str> = got.iter().map(|payload| payload.split(' ').next().unwrap()).collect();
            assert!(if client.present { got == expected } else { got.is_empty() }, "{id}: {got:?}");
            client.present
        };
        let present: Vec<bool> = ids.iter().enumerate().map(is_present).collect();
        assert!(present[0] && !present[CLIENTS - 1], "{present:?}");
    }
}

/// The same for one that is connected and does not read: it is disconnected, and its session has all or is gone.
#[test]
fn a_client_that_was_cut_off_is_never_resumed_with_a_gap() {
    for is_killed in [false, true] {
        let (folder, mut gateway) = start_with("[mqtt]\nsubscriber_size_max = \"16KiB\"\n");
        let slow = Connect::kept(Version::Four, "slow");
        let mut client = Wire::open(&gateway, &slow);
        assert_eq!(client.subscribe("t", 1), 1);
        let mut publisher = Client::connect(gateway.mqtt, "publisher");
        let padding = "x".repeat(1_000);
        for number in 0..100 {
            publisher.publish("t", format!("{number} {padding}"));
        }
        client.client.expect_close();
        if is_killed {
            gateway = killed(&folder, gateway);
        }
        let mut client = Wire::open(&gateway, &slow.resumed());
        assert_eq!(client.subscribe("last", 1), 1);
        publish_end(&gateway, "last");
        let got = client.take_until("end");
        let got: Vec<usize> = got.iter().map(|payload| payload.split(' ').next().unwrap().parse().unwrap()).collect();
        let is_whole = got.iter().copied().eq(0..100);
        assert!(if client.present { is_whole } else { got.is_empty() }, "{got:?}");
    }
}

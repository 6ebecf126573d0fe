//! MQTT 5 on the wire, and what broken and hostile clients of both versions send. Frames are written by hand.

use std::time::Duration;

use crate::client::{Client, Packet, frame, text};
use crate::gateway::{Gateway, wait_until};

fn start(config: &str) -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    (folder, gateway)
}

/// A CONNECT of version 5.
fn connect(client_id: &str, flags: u8, keep_alive_s: u16, properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05".to_vec();
    body.push(flags);
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    body.push(properties.len() as u8);
    body.extend_from_slice(properties);
    text(&mut body, client_id.as_bytes());
    frame(0x10, &body)
}

const CLEAN: u8 = 2;

/// Returns whether the session was present.
fn connected(gateway: &Gateway, client_id: &str, flags: u8, properties: &[u8]) -> (Client, bool) {
    let mut client = Client::raw(gateway.mqtt);
    client.send(&connect(client_id, flags, 0, properties));
    let answer = client.packet().unwrap();
    assert_eq!((answer.first, answer.body[1]), (0x20, 0), "{answer:?}");
    (client, answer.body[0] == 1)
}

fn five(gateway: &Gateway, client_id: &str) -> Client {
    connected(gateway, client_id, CLEAN, b"").0
}

fn publish(topic: &str, qos: u8, packet_id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    body.push(properties.len() as u8);
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    frame(0x30 | qos << 1, &body)
}

/// Returns the reason code.
fn subscribe(client: &mut Client, properties: &[u8], filter: &str, options: u8) -> u8 {
    let mut body = vec![0, 1, properties.len() as u8];
    body.extend_from_slice(properties);
    text(&mut body, filter.as_bytes());
    body.push(options);
    client.send(&frame(0x82, &body));
    *client.packet().unwrap().body.last().unwrap()
}

/// The next packet, which must be this one.
fn expect(client: &mut Client, first: u8, body: &[u8]) {
    assert_eq!(client.packet().unwrap(), Packet { first, body: body.to_vec() });
}

#[test]
fn a_client_is_told_what_it_may_do() {
    let (_folder, gateway) =
        start("[mqtt]\nkeep_alive_max = \"60s\"\nreceive_maximum = 20\nsession_expiry_max = \"1h\"\n");
    let told = |client_id: &str, keep_alive_s: u16, asked: &[u8], properties: &[u8]| {
        let mut client = Client::raw(gateway.mqtt);
        client.send(&connect(client_id, 0, keep_alive_s, asked));
        expect(&mut client, 0x20, &[&[0, 0, properties.len() as u8], properties].concat());
    };
    const ALWAYS: &[u8] = b"\x22\x00\x0a\x27\x00\x04\x00\x00\x21\x00\x14";
    // A session for ever, and a keep-alive of 120 s.
    let mut nameless = Client::raw(gateway.mqtt);
    nameless.send(&connect("", 0, 120, b"\x11\xff\xff\xff\xff"));
    let answer = nameless.packet().unwrap().body;
    let before_id = [b"\x00\x00\x31\x11\x00\x00\x0e\x10", ALWAYS, b"\x12\x00\x1boutrider-"].concat();
    assert!(answer.starts_with(&before_id) && answer.ends_with(b"-1\x13\x00\x3c"), "{answer:?}");
    told("content", 30, b"\x11\x00\x00\x00\x09", ALWAYS);
    told("endless", 0, b"", &[ALWAYS, b"\x13\x00\x3c"].concat());
}

#[test]
fn aliases_shorten_topics_both_ways() {
    let (_folder, gateway) = start("");
    let (mut subscriber, _) = connected(&gateway, "subscriber", CLEAN, b"\x22\x00\x01");
    assert_eq!(subscribe(&mut subscriber, b"", "devices/#", 1), 1);
    let mut device = five(&gateway, "device");
    device.send(&publish("devices/a/t", 1, 1, b"\x23\x00\x03", b"1.5"));
    device.send(&publish("", 1, 2, b"\x23\x00\x03", b"2.5"));
    device.send(&publish("devices/b/t", 1, 3, b"", b"3.5"));
    expect(&mut subscriber, 0x32, b"\x00\x0bdevices/a/t\x00\x01\x03\x23\x00\x011.5");
    expect(&mut subscriber, 0x32, b"\x00\x00\x00\x02\x03\x23\x00\x012.5");
    expect(&mut subscriber, 0x32, b"\x00\x0bdevices/b/t\x00\x03\x003.5");
    wait_until("the readings", || gateway.status()["received"]["accepted"] == 3);
}

#[test]
fn a_client_is_sent_no_more_and_nothing_larger_than_it_takes() {
    let (_folder, gateway) = start("");
    // Receive maximum 2, packet size 40.
    let (mut subscriber, _) = connected(&gateway, "subscriber", CLEAN, b"\x21\x00\x02\x27\x00\x00\x00\x28");
    assert_eq!(subscribe(&mut subscriber, b"", "t", 2), 2);
    let mut device = five(&gateway, "device");
    device.send(&publish("t", 1, 1, b"", &[b'x'; 60]));
    for id in 2..6 {
        device.send(&publish("t", 2, id, b"", &[b'0' + id as u8]));
    }
    expect(&mut subscriber, 0x34, b"\x00\x01t\x00\x02\x002");
    expect(&mut subscriber, 0x34, b"\x00\x01t\x00\x03\x003");
    assert!(!subscriber.wait_readable(Duration::from_millis(200)), "it has not answered");
    subscriber.send(&frame(0x50, b"\x00\x02"));
    expect(&mut subscriber, 0x62, b"\x00\x02");
    assert!(!subscriber.wait_readable(Duration::from_millis(200)), "the id is not free yet");
    subscriber.send(&frame(0x70, b"\x00\x02"));
    expect(&mut subscriber, 0x34, b"\x00\x01t\x00\x04\x004");
    subscriber.send(&frame(0x50, b"\x00\x03\x97"));
    expect(&mut subscriber, 0x34, b"\x00\x01t\x00\x05\x005");
}

#[test]
fn a_client_that_sends_more_than_it_may_is_told_so() {
    let (_folder, gateway) = start("[mqtt]\nreceive_maximum = 3\n");
    let mut device = five(&gateway, "device");
    for id in 1..=4 {
        device.send(&publish("t", 2, id, b"", b"1"));
    }
    let mut answers: Vec<u8> = (0..4).map(|_| device.packet().unwrap().first).collect();
    answers.sort_unstable();
    assert_eq!(answers, [0x50, 0x50, 0x50, 0xe0]);
    device.expect_close();
}

#[test]
fn a_subscription_says_which_message_is_for_it_and_how() {
    let (_folder, gateway) = start("");
    let mut client = five(&gateway, "client");
    assert_eq!(subscribe(&mut client, b"\x0b\x05", "a/+", 0x08), 0);
    assert_eq!(subscribe(&mut client, b"\x0b\xc8\x01", "a/#", 0x01), 1);
    let mut other = five(&gateway, "other");
    other.send(&publish("a/b", 1, 1, b"\x26\x00\x01k\x00\x01v", b"x"));
    // One message for both subscriptions.
    let mut packet = client.packet().unwrap();
    packet.body[8..13].sort_unstable();
    assert_eq!((packet.first, &packet.body[..8]), (0x32, &b"\x00\x03a/b\x00\x01\x0c"[..]));
    assert_eq!(packet.body[8..], *b"\x01\x05\x0b\x0b\xc8\x26\x00\x01k\x00\x01vx");
    client.send(&frame(0x40, b"\x00\x01"));
    // Retained messages: always, if the subscription is new, never.
    expect(&mut other, 0x40, b"\x00\x01");
    other.send(&frame(0x33, b"\x00\x03r/1\x00\x02\x00x"));
    expect(&mut other, 0x40, b"\x00\x02");
    for (options, is_sent) in [(0x20, false), (0x10, false), (0x00, true)] {
        assert_eq!(subscribe(&mut client, b"", "r/#", options), 0);
        if is_sent {
            expect(&mut client, 0x31, b"\x00\x03r/1\x00x");
        } else {
            client.ping();
        }
    }
}

#[test]
fn a_session_of_qos_2_survives_its_connections() {
    let (_folder, gateway) = start("");
    const KEPT: &[u8] = b"\x11\x00\x00\x00\x3c";
    let (mut device, _) = connected(&gateway, "device", CLEAN, KEPT);
    device.send(&publish("devices/d/t", 2, 7, b"", b"1.5"));
    expect(&mut device, 0x50, b"\x00\x07");
    drop(device);
    let (mut device, present) = connected(&gateway, "device", 0, KEPT);
    assert!(present);
    let mut again = publish("devices/d/t", 2, 7, b"", b"1.5");
    again[0] |= 8;
    device.send(&again);
    expect(&mut device, 0x50, b"\x00\x07");
    for code in [&b""[..], b"\x92"] {
        device.send(&frame(0x62, b"\x00\x07"));
        expect(&mut device, 0x70, &[b"\x00\x07", code].concat());
    }
    device.send(&publish("devices/d/t", 2, 7, b"", b"2.5"));
    expect(&mut device, 0x50, b"\x00\x07");
    wait_until("the readings", || gateway.status()["received"]["accepted"] == 2);
    assert_eq!(gateway.status()["received"]["duplicate"], 0, "the session knows it, not the reading");
}

/// A shared filter costs a publish as much as any other, also if its shape is known from a plain one that is gone.
#[test]
fn shared_filters_have_the_limit_of_others() {
    let (_folder, gateway) = start("[mqtt]\nfilters_per_client_max = 1000\n");
    let mut client = five(&gateway, "client");
    let mut granted = 0;
    for mask in 1..512 {
        let levels: Vec<&str> = (0..9).map(|at| if mask >> at & 1 == 1 { "+" } else { "a" }).collect();
        let plain = levels.join("/");
        subscribe(&mut client, b"", &plain, 0);
        granted += usize::from(subscribe(&mut client, b"", &format!("$share/g/{plain}"), 0) == 0);
        client.send(&frame(0xa2, &[&[0, 1, 0, 0, plain.len() as u8], plain.as_bytes()].concat()));
        assert_eq!(client.packet().unwrap().first, 0xb0);
    }
    assert!(granted > 0 && granted < 64, "{granted} of 511");
}

/// The session of a client that leaves may have to give way at once: then its will is not kept for the day that it asked for.
#[test]
fn a_will_does_not_wait_for_a_session_that_is_gone() {
    let (_folder, gateway) = start("[mqtt]\nsessions_max = 0\n");
    let mut watcher = five(&gateway, "watcher");
    assert_eq!(subscribe(&mut watcher, b"", "w", 0), 0);
    let mut mortal = Client::raw(gateway.mqtt);
    // Session expiry and will delay of a day.
    let mut body = b"\x00\x04MQTT\x05\x06\x00\x00\x05\x11\x00\x01\x51\x80\x00\x01m\x05\x18\x00\x01\x51\x80".to_vec();
    text(&mut body, b"w");
    text(&mut body, b"gone");
    mortal.send(&frame(0x10, &body));
    assert_eq!(mortal.packet().unwrap().body[1], 0);
    drop(mortal);
    expect(&mut watcher, 0x30, b"\x00\x01w\x00gone");
}

/// What a connected client sends.
enum Outcome {
    /// Its connection ends; version 5 is told this.
    Ends(u8),
    /// It is answered so.
    Answered(&'static [u8]),
}
use Outcome::{Answered, Ends};

const FOUR: u8 = 4;
const FIVE: u8 = 5;

#[rustfmt::skip]
const OFFENCES: [(&str, u8, &[u8], Outcome); 68] = [
    ("type 0", FOUR, b"\x00\x00", Ends(0)),
    ("type 0", FIVE, b"\x00\x00", Ends(0x82)),
    ("type 15 before version 5", FOUR, b"\xf0\x00", Ends(0)),
    ("AUTH that nobody began", FIVE, b"\xf0\x00", Ends(0x82)),
    ("a second CONNECT", FOUR, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a", Ends(0)),
    ("a second CONNECT", FIVE, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a", Ends(0x82)),
    ("CONNACK to a server", FOUR, b"\x20\x02\x00\x00", Ends(0)),
    ("CONNACK to a server", FIVE, b"\x20\x03\x00\x00\x00", Ends(0x82)),
    ("SUBACK to a server", FIVE, b"\x90\x03\x00\x01\x00", Ends(0x82)),
    ("UNSUBACK to a server", FOUR, b"\xb0\x02\x00\x01", Ends(0)),
    ("PINGRESP to a server", FIVE, b"\xd0\x00", Ends(0x82)),
    ("flags of PINGREQ", FOUR, b"\xc1\x00", Ends(0)),
    ("flags of PINGREQ", FIVE, b"\xc1\x00", Ends(0x81)),
    ("a body of PINGREQ", FOUR, b"\xc0\x01\x00", Ends(0)),
    ("a body of PINGREQ", FIVE, b"\xc0\x01\x00", Ends(0x81)),
    ("flags of DISCONNECT", FOUR, b"\xe1\x00", Ends(0)),
    ("flags of DISCONNECT", FIVE, b"\xe1\x00", Ends(0x82)),
    ("a body of DISCONNECT", FOUR, b"\xe0\x01\x00", Ends(0)),
    ("an unknown reason of DISCONNECT", FIVE, b"\xe0\x01\x05", Ends(0x82)),
    ("a session that was to end is to be kept", FIVE, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09", Ends(0x82)),
    ("a length of five bytes", FOUR, b"\x30\x80\x80\x80\x80\x01", Ends(0)),
    ("a length of five bytes", FIVE, b"\x30\x80\x80\x80\x80\x01", Ends(0x81)),
    ("a length that is longer than needed", FOUR, b"\xc0\x80\x00", Ends(0)),
    ("a length that is longer than needed", FIVE, b"\xc0\x80\x00", Ends(0x81)),
    ("a packet of 256 MiB", FOUR, b"\x30\xff\xff\xff\x7f", Ends(0)),
    ("a packet of 256 MiB", FIVE, b"\x30\xff\xff\xff\x7f", Ends(0x95)),
    ("QoS 3", FOUR, b"\x36\x06\x00\x01t\x00\x01x", Ends(0)),
    ("QoS 3", FIVE, b"\x36\x07\x00\x01t\x00\x01\x00x", Ends(0x81)),
    ("a repeat at QoS 0", FOUR, b"\x38\x04\x00\x01tx", Ends(0)),
    ("a repeat at QoS 0", FIVE, b"\x38\x05\x00\x01t\x00x", Ends(0x81)),
    ("packet id 0 of a PUBLISH", FOUR, b"\x32\x06\x00\x01t\x00\x00x", Ends(0)),
    ("packet id 0 of a PUBLISH", FIVE, b"\x32\x07\x00\x01t\x00\x00\x00x", Ends(0x82)),
    ("a topic behind the packet", FOUR, b"\x30\x04\x00\x09tx", Ends(0)),
    ("a topic behind the packet", FIVE, b"\x30\x04\x00\x09tx", Ends(0x81)),
    ("an empty topic", FOUR, b"\x30\x03\x00\x00x", Ends(0)),
    ("an empty topic without an alias", FIVE, b"\x30\x04\x00\x00\x00x", Ends(0x82)),
    ("a topic with a wildcard", FOUR, b"\x30\x06\x00\x03t/+x", Ends(0)),
    ("a topic with a wildcard", FIVE, b"\x30\x07\x00\x03t/#\x00x", Ends(0x90)),
    ("a topic with a NUL", FOUR, b"\x30\x05\x00\x02t\x00x", Ends(0)),
    ("a topic with a NUL", FIVE, b"\x30\x06\x00\x02t\x00\x00x", Ends(0x81)),
    ("a topic that is not UTF-8", FOUR, b"\x30\x05\x00\x02t\xffx", Ends(0)),
    ("a topic with half of a surrogate", FIVE, b"\x30\x07\x00\x03\xed\xa0\x80\x00x", Ends(0x81)),
    ("properties behind the packet", FIVE, b"\x30\x05\x00\x01t\x09x", Ends(0x81)),
    ("an unknown property", FIVE, b"\x30\x06\x00\x01t\x02\x7f\x00", Ends(0x81)),
    ("a property twice", FIVE, b"\x30\x08\x00\x01t\x04\x01\x00\x01\x00", Ends(0x82)),
    ("payload format 2", FIVE, b"\x30\x06\x00\x01t\x02\x01\x02", Ends(0x82)),
    ("a subscription identifier from a client", FIVE, b"\x30\x06\x00\x01t\x02\x0b\x01", Ends(0x82)),
    ("alias 0", FIVE, b"\x30\x07\x00\x01t\x03\x23\x00\x00", Ends(0x94)),
    ("an alias above the highest", FIVE, b"\x30\x07\x00\x01t\x03\x23\x00\x0b", Ends(0x94)),
    ("an alias that stands for nothing", FIVE, b"\x30\x06\x00\x00\x03\x23\x00\x01", Ends(0x82)),
    ("no filter", FOUR, b"\x82\x02\x00\x01", Ends(0)),
    ("no filter", FIVE, b"\x82\x03\x00\x01\x00", Ends(0x82)),
    ("flags of SUBSCRIBE", FOUR, b"\x80\x06\x00\x01\x00\x01a\x00", Ends(0)),
    ("a filter of QoS 3", FIVE, b"\x82\x07\x00\x01\x00\x00\x01a\x03", Ends(0x81)),
    ("an option of version 5", FOUR, b"\x82\x06\x00\x01\x00\x01a\x04", Ends(0)),
    ("retain handling 3", FIVE, b"\x82\x07\x00\x01\x00\x00\x01a\x30", Ends(0x82)),
    ("subscription identifier 0", FIVE, b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00", Ends(0x82)),
    ("a filter with a misplaced wildcard", FOUR, b"\x82\x08\x00\x01\x00\x03a#/\x00", Answered(b"\x90\x03\x00\x01\x80")),
    ("a filter with a misplaced wildcard", FIVE, b"\x82\x09\x00\x01\x00\x00\x03a#/\x00", Answered(b"\x90\x04\x00\x01\x00\x8f")),
    ("an empty filter", FIVE, b"\x82\x06\x00\x01\x00\x00\x00\x00", Ends(0x81)),
    ("a shared subscription without a group", FIVE, b"\x82\x0f\x00\x01\x00\x00\x09$share//a\x00", Answered(b"\x90\x04\x00\x01\x00\x8f")),
    ("no filter to be removed", FOUR, b"\xa2\x02\x00\x01", Ends(0)),
    ("a filter that is not there", FIVE, b"\xa2\x06\x00\x01\x00\x00\x01a", Answered(b"\xb0\x04\x00\x01\x00\x11")),
    ("a topic of the gateway's own", FIVE, b"\x32\x0f\x00\x08alerts/a\x00\x01\x00{}", Answered(b"\x40\x03\x00\x01\x87")),
    ("a topic of brokers", FOUR, b"\x32\x0b\x00\x06$SYS/a\x00\x01x", Answered(b"\x40\x02\x00\x01")),
    ("a topic of brokers", FIVE, b"\x32\x0c\x00\x06$SYS/a\x00\x01\x00x", Answered(b"\x40\x03\x00\x01\x87")),
    ("PUBREL of nothing", FOUR, b"\x62\x02\x00\x09", Answered(b"\x70\x02\x00\x09")),
    ("PUBREL of nothing", FIVE, b"\x62\x02\x00\x09", Answered(b"\x70\x03\x00\x09\x92")),
];

#[test]
fn offences_end_a_connection_or_are_answered_and_harm_nobody() {
    let (_folder, gateway) = start("");
    let mut bystander = five(&gateway, "bystander");
    for (about, version, sent, outcome) in OFFENCES {
        let mut client =
            if version == FIVE { five(&gateway, "offender") } else { Client::connect(gateway.mqtt, "offender") };
        client.send(sent);
        match outcome {
            Answered(answer) => {
                let Packet { first, body } = client.packet().unwrap_or_else(|error| panic!("{about}: {error}"));
                assert_eq!(frame(first, &body), answer, "{about} in version {version}");
                client.ping();
            }
            Ends(reason) => {
                if version == FIVE {
                    let told = client.packet().unwrap_or_else(|error| panic!("{about}: {error}"));
                    assert_eq!((told.first, told.body[0]), (0xe0, reason), "{about}");
                }
                client.expect_close();
            }
        }
    }
    bystander.ping();
    bystander.send(&publish("devices/d/t", 1, 1, b"", b"1"));
    expect(&mut bystander, 0x40, b"\x00\x01");
}

#[test]
fn who_does_not_begin_as_mqtt_does_gets_no_session() {
    let (_folder, gateway) = start("");
    let with = |properties: &[u8]| connect("x", CLEAN, 0, properties);
    let mut reserved = with(b"");
    reserved[9] |= 1;
    // Each with the reason code of CONNACK in version 5, or nothing.
    for (about, sent, reason) in [
        ("another packet", b"\xc0\x00".to_vec(), None),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: truck\r\n\r\n".to_vec(), None),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), None),
        ("another protocol", b"\x10\x0d\x00\x04AMQP\x05\x02\x00\x00\x00\x01a".to_vec(), None),
        ("a huge CONNECT", b"\x10\xff\xff\xff\x7f".to_vec(), None),
        ("a reserved flag", reserved, Some(0x81)),
        ("receive maximum 0", with(b"\x21\x00\x00"), Some(0x82)),
        ("packet size 0", with(b"\x27\x00\x00\x00\x00"), Some(0x82)),
        ("session expiry twice", with(b"\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"), Some(0x82)),
        ("a property of servers", with(b"\x12\x00\x01x"), Some(0x82)),
        ("an authentication method", with(b"\x15\x00\x05SCRAM"), Some(0x8c)),
        ("a client id of 129 bytes", connect(&"x".repeat(129), CLEAN, 0, b""), Some(0x85)),
        ("a client id with a NUL", connect("a\0b", CLEAN, 0, b""), Some(0x85)),
        ("a version to come", b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01a".to_vec(), Some(0x84)),
    ] {
        let mut client = Client::raw(gateway.mqtt);
        client.send(&sent);
        if let Some(reason) = reason {
            let answer = client.packet().unwrap_or_else(|error| panic!("{about}: {error}"));
            assert_eq!((answer.first, answer.body[..2].to_vec()), (0x20, vec![0, reason]), "{about}");
        }
        client.expect_close();
    }
    wait_until("the count", || gateway.status()["mqtt"]["connections_refused"] == 14);
}

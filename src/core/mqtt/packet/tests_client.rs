//! Both sides of a connection read what the other one writes.

use proptest::prelude::*;

use super::server::{self, Answer, Connack as Heard, Disconnect, ServerPacket};
use super::*;

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    assert_eq!(frame_len(&out, usize::MAX), Ok(Some(out.len())));
    out
}

fn subscription(filter: &str) -> Subscription<'_> {
    Subscription { filter, qos: 1, no_local: false, retain_as_published: false, retained: RetainHandling::Always }
}

#[test]
fn what_a_client_says_is_what_its_server_hears() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let is_5 = version == Version::V5;
        let filters = [subscription("a/+"), Subscription { qos: 2, ..subscription("b") }];
        let frame = written(|out| client::subscribe(version, 7, None, &filters, out));
        let expected = Subscribe { packet_id: 7, identifier: None, filters: filters.to_vec() };
        assert_eq!(decode(version, &frame), Ok(Packet::Subscribe(expected)));
        let frame = written(|out| client::unsubscribe(version, 8, &["a/+", "b"], out));
        assert_eq!(decode(version, &frame), Ok(Packet::Unsubscribe { packet_id: 8, filters: vec!["a/+", "b"] }));
        assert_eq!(decode(version, &client::PINGREQ), Ok(Packet::PingReq));
        let frame = written(|out| client::disconnect(version, 4, Some(9), out));
        let (reason, session_expiry_s) = if is_5 { (4, Some(9)) } else { (0, None) };
        assert_eq!(decode(version, &frame), Ok(Packet::Disconnect { reason, session_expiry_s }));
        let frame = written(|out| client::disconnect(version, 0, None, out));
        assert_eq!(decode(version, &frame), Ok(Packet::Disconnect { reason: 0, session_expiry_s: None }));
    }
    let options = Subscription {
        qos: 1,
        no_local: true,
        retain_as_published: true,
        retained: RetainHandling::IfNew,
        ..subscription("c")
    };
    let frame = written(|out| client::subscribe(Version::V5, 7, Some(300), &[options], out));
    let expected = Subscribe { packet_id: 7, identifier: Some(300), filters: vec![options] };
    assert_eq!(decode(Version::V5, &frame), Ok(Packet::Subscribe(expected)));
    let bridge = Connect { version: Version::V4, is_bridge: true, client_id: "b", ..Connect::default() };
    let frame = written(|out| client::connect(&bridge, out));
    assert_eq!(decode_connect(&frame), Ok(Some(bridge)));
}

#[test]
fn what_a_server_says_is_what_its_client_hears() {
    let said = Connack {
        session_present: true,
        session_expiry_s: Some(1),
        receive_maximum: Some(20),
        packet_bytes_max: Some(256),
        assigned_client_id: Some("x"),
        topic_alias_maximum: 10,
        keep_alive_s: Some(60),
        ..Connack::default()
    };
    let heard = Heard {
        session_present: true,
        session_expiry_s: Some(1),
        receive_maximum: Some(20),
        packet_bytes_max: Some(256),
        assigned_client_id: Some("x"),
        topic_alias_maximum: 10,
        keep_alive_s: Some(60),
        ..Heard::default()
    };
    let frame = written(|out| connack(Version::V5, &said, out));
    assert_eq!(server::decode(Version::V5, &frame), Ok(ServerPacket::Connack(Box::new(heard))));
    let frame = written(|out| connack(Version::V4, &said, out));
    let heard = Heard { session_present: true, ..Heard::default() };
    assert_eq!(server::decode(Version::V4, &frame), Ok(ServerPacket::Connack(Box::new(heard))));
    for reason in [reason::UNSUPPORTED_VERSION, reason::BAD_CLIENT_ID, reason::BAD_LOGIN, reason::NOT_AUTHORIZED] {
        let said = Connack { reason, text: Some("no"), ..Connack::default() };
        for (version, text) in [(Version::V4, None), (Version::V5, Some("no"))] {
            let frame = written(|out| connack(version, &said, out));
            let heard = Heard { reason, text, ..Heard::default() };
            assert_eq!(server::decode(version, &frame), Ok(ServerPacket::Connack(Box::new(heard))));
        }
    }
    // A server that knows 3.1.1 only answers a CONNECT of version 5 so.
    let heard = Heard { reason: reason::UNSUPPORTED_VERSION, ..Heard::default() };
    assert_eq!(server::decode(Version::V5, &[0x20, 2, 0, 1]), Ok(ServerPacket::Connack(Box::new(heard))));
    let frame = written(|out| disconnect(Version::V5, reason::TAKEN_OVER, "no", 100, out));
    let heard = Disconnect { reason: reason::TAKEN_OVER, text: Some("no"), server_reference: None };
    assert_eq!(server::decode(Version::V5, &frame), Ok(ServerPacket::Disconnect(heard)));
    let heard = Disconnect { reason: reason::SERVER_MOVED, text: None, server_reference: Some("b:1") };
    assert_eq!(server::decode(Version::V5, b"\xe0\x08\x9d\x06\x1c\x00\x03b:1"), Ok(ServerPacket::Disconnect(heard)));
    let codes = [1, reason::BAD_FILTER];
    let frame = written(|out| suback(Version::V5, 7, &codes, out));
    assert_eq!(server::decode(Version::V5, &frame), Ok(ServerPacket::SubAck { packet_id: 7, codes: &codes }));
    let frame = written(|out| suback(Version::V4, 7, &codes, out));
    assert_eq!(server::decode(Version::V4, &frame), Ok(ServerPacket::SubAck { packet_id: 7, codes: &[1, 0x80] }));
    for version in [Version::V4, Version::V5] {
        let frame = written(|out| unsuback(version, 7, &[0, 0x11], out));
        let codes: &[u8] = if version == Version::V5 { &[0, 0x11] } else { &[] };
        assert_eq!(server::decode(version, &frame), Ok(ServerPacket::UnsubAck { packet_id: 7, codes }));
        assert_eq!(server::decode(version, &PINGRESP), Ok(ServerPacket::PingResp));
        for (first, reason) in [(0x40, 0x97), (0x50, 0x10), (0x62, 0x92), (0x70, 0)] {
            let frame = written(|out| ack(version, first, 5, reason, out));
            let answer = Answer { packet_id: 5, reason: if version == Version::V5 { reason } else { 0 }, text: None };
            let expected = match first {
                0x40 => ServerPacket::PubAck(answer),
                0x50 => ServerPacket::PubRec(answer),
                0x62 => ServerPacket::PubRel(answer),
                _ => ServerPacket::PubComp(answer),
            };
            assert_eq!(server::decode(version, &frame), Ok(expected));
        }
    }
    let with_words = server::decode(Version::V5, b"\x40\x09\x00\x05\x97\x05\x1f\x00\x02no");
    assert_eq!(with_words, Ok(ServerPacket::PubAck(Answer { packet_id: 5, reason: 0x97, text: Some("no") })));
    // Of subscription identifiers there may be several, and they are not passed on.
    let frame = b"\x30\x0b\x00\x01a\x04\x0b\x01\x0b\x02hi!";
    let Ok(ServerPacket::Publish(publish)) = server::decode(Version::V5, frame) else { panic!("a message") };
    assert_eq!((publish.topic, publish.payload, publish.passed_on.len()), ("a", &b"hi!"[..], 0));
}

#[test]
fn what_a_server_must_not_say_is_refused() {
    for (version, frame) in [
        (Version::V4, &b"\x20\x02\x02\x00"[..]),                // reserved flags
        (Version::V4, b"\x20\x02\x00\x06"),                     // an unknown code
        (Version::V4, b"\x20\x02\x01\x05"),                     // a session, and refused
        (Version::V4, b"\x20\x03\x00\x00\x00"),                 // properties
        (Version::V5, b"\x20\x02\x00\x00"),                     // none
        (Version::V5, b"\x20\x03\x00\x10\x00"),                 // a reason that CONNACK cannot have
        (Version::V5, b"\x20\x06\x00\x00\x03\x21\x00\x00"),     // Receive Maximum 0
        (Version::V5, b"\x20\x05\x00\x00\x02\x24\x02"),         // Maximum QoS 2
        (Version::V5, b"\x20\x05\x00\x00\x02\x01\x01"),         // a property of messages
        (Version::V4, b"\x30\x03\x00\x01+"),                    // a topic with a wildcard
        (Version::V4, b"\x30\x02\x00\x00"),                     // no topic
        (Version::V4, b"\x30\x03\x00\x01\x00"),                 // a NUL
        (Version::V4, b"\x36\x05\x00\x01a\x00\x05"),            // QoS 3
        (Version::V4, b"\x90\x02\x00\x07"),                     // no code
        (Version::V4, b"\x90\x03\x00\x07\x87"),                 // a code of version 5
        (Version::V5, b"\x90\x04\x00\x07\x00\x03"),             // QoS 3 granted
        (Version::V5, b"\xb0\x03\x00\x07\x00"),                 // no code
        (Version::V4, b"\xe0\x00"),                             // only clients of 3.1.1 leave so
        (Version::V5, b"\xe0\x01\x04"),                         // a will, of a server
        (Version::V5, b"\xe0\x07\x8b\x05\x11\x00\x00\x00\x09"), // Session Expiry of a server
        (Version::V5, b"\xf0\x00"),                             // AUTH
        (Version::V4, b"\x10\x00"),                             // CONNECT
        (Version::V4, b"\x82\x06\x00\x07\x00\x01a\x00"),        // SUBSCRIBE
        (Version::V4, b"\xc0\x00"),                             // PINGREQ
        (Version::V4, b"\xd0\x01\x00"),                         // something behind PINGRESP
        (Version::V4, b"\x40\x02\x00\x00"),                     // packet id 0
        (Version::V4, b"\x60\x02\x00\x01"),                     // PUBREL has flags
        (Version::V4, b""),
    ] {
        assert!(server::decode(version, frame).is_err(), "{version:?} {frame:x?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß€]{0,12}"
}

proptest! {
    #[test]
    fn any_connect_is_read_as_it_was_written(
        version in prop::sample::select(&[Version::V3, Version::V4, Version::V5][..]),
        (client_id, user_name, password) in (text(), prop::option::of(text()), prop::option::of(prop::collection::vec(any::<u8>(), 0..20))),
        (clean_start, keep_alive_s, has_will, will_qos, will_retain) in (any::<bool>(), any::<u16>(), any::<bool>(), 0u8..3, any::<bool>()),
        (expiry, receive_maximum, packet_bytes_max, aliases) in (any::<u32>(), prop::option::of(1u16..), prop::option::of(1u32..), any::<u16>()),
        (delay_s, will_expiry, payload) in (any::<u32>(), prop::option::of(any::<u32>()), prop::collection::vec(any::<u8>(), 0..40)),
    ) {
        let is_5 = version == Version::V5;
        let password = password.as_deref().filter(|_| is_5 || user_name.is_some());
        let properties: &[u8] = if is_5 { b"\x01\x01\x26\x00\x01k\x00\x01v" } else { b"" };
        let asked = Connect {
            version,
            is_bridge: false,
            client_id: &client_id,
            clean_start,
            keep_alive_s,
            will: has_will.then_some(Will {
                topic: "w/x",
                payload: &payload,
                qos: will_qos,
                retain: will_retain,
                delay_s: if is_5 { delay_s } else { 0 },
                expiry_s: will_expiry.filter(|_| is_5),
                passed_on: PassedOn::from_own(properties),
            }),
            user_name: user_name.as_deref(),
            password,
            session_expiry_s: is_5.then_some(expiry),
            receive_maximum: receive_maximum.filter(|_| is_5),
            packet_bytes_max: packet_bytes_max.filter(|_| is_5),
            topic_alias_maximum: if is_5 { aliases } else { 0 },
        };
        let frame = written(|out| client::connect(&asked, out));
        let Ok(Some(mut heard)) = decode_connect(&frame) else { panic!("{frame:x?}") };
        // Those of a will that are for itself stand beside those for the receivers.
        if let Some(will) = &mut heard.will {
            let passed_on: Vec<u8> = will.passed_on.each().flatten().copied().collect();
            prop_assert_eq!(&passed_on[..], properties);
            will.passed_on = PassedOn::from_own(properties);
        }
        prop_assert_eq!(heard, asked);
    }

    #[test]
    fn a_message_of_a_server_is_read_as_it_was_written(
        topic in "[a-z/]{1,20}",
        payload in prop::collection::vec(any::<u8>(), 0..300),
        (qos, retain, dup) in (0u8..3, any::<bool>(), any::<bool>()),
        (expiry_s, identifiers) in (prop::option::of(any::<u32>()), prop::collection::vec(1u32..268_435_455, 0..4)),
        version in prop::sample::select(&[Version::V4, Version::V5][..]),
    ) {
        let is_5 = version == Version::V5;
        let packet_id = if qos > 0 { 9 } else { 0 };
        let passed_on: &[u8] = if is_5 { b"\x01\x01\x26\x00\x01k\x00\x01v" } else { b"" };
        let (expiry_s, dup) = (expiry_s.filter(|_| is_5), dup && qos > 0);
        let identifiers = if is_5 { &identifiers[..] } else { &[] };
        let sent =
            Outgoing { topic: topic.as_bytes(), payload: &payload, qos, retain, dup, packet_id, passed_on, expiry_s, alias: None, identifiers };
        let frame = written(|out| publish(version, &sent, out));
        let Ok(ServerPacket::Publish(heard)) = server::decode(version, &frame) else { panic!("{frame:x?}") };
        prop_assert_eq!((heard.topic, heard.payload, heard.qos, heard.retain), (&topic[..], &payload[..], qos, retain));
        prop_assert_eq!((heard.dup, heard.packet_id, heard.expiry_s), (dup, packet_id, expiry_s));
        prop_assert_eq!(heard.passed_on.each().flatten().copied().collect::<Vec<u8>>(), passed_on);
    }

    #[test]
    fn no_bytes_of_a_server_make_it_panic(
        which in 0usize..9,
        edits in prop::collection::vec((0usize..48, any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let frames: [&[u8]; 9] = [
            b"\x20\x1a\x01\x00\x17\x11\x00\x00\x00\x01\x22\x00\x0a\x27\x00\x00\x01\x00\x21\x00\x14\x12\x00\x01x\x13\x00\x3c",
            b"\x20\x02\x01\x00",
            b"\x33\x09\x00\x03a/b\x00\x05hi",
            b"\x3d\x1f\x00\x03a/b\x00\x05\x15\x26\x00\x01k\x00\x01v\x02\x00\x00\x00\x07\x26\x00\x01l\x00\x00\x0b\x01\x02hi",
            b"\x40\x09\x00\x05\x97\x05\x1f\x00\x02no",
            b"\x90\x05\x00\x07\x00\x01\x8f",
            b"\xb0\x05\x00\x07\x00\x00\x11",
            b"\xe0\x08\x9d\x06\x1c\x00\x03b:1",
            b"\x62\x03\x00\x01\x92",
        ];
        let mut bytes = frames[which].to_vec();
        for (at, value) in edits {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.extend_from_slice(&tail);
        if let Ok(Some(len)) = frame_len(&bytes, 1 << 20) && let Some(frame) = bytes.get(..len) {
            for version in [Version::V3, Version::V4, Version::V5] {
                if let Ok(ServerPacket::Publish(publish)) = server::decode(version, frame) {
                    prop_assert_eq!(publish.passed_on.properties().count(), publish.passed_on.each().count());
                }
            }
        }
    }
}

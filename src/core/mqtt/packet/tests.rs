//! Packets, byte by byte.

use proptest::prelude::*;

use super::*;

const CONNECT: &[u8] = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc";
const CONNECT_WITH_LOGIN: &[u8] = b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03abc\x00\x01a\x00\x01b";
const CONNECT_3: &[u8] = b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc";
/// With session expiry 10, receive maximum 3, topic alias maximum 4, packet size 500, no problem information, and a user property.
const CONNECT_5: &[u8] = b"\x10\x29\x00\x04MQTT\x05\x02\x00\x3c\x19\x11\x00\x00\x00\x0a\x21\x00\x03\x22\x00\x04\x27\x00\x00\x01\xf4\x17\x00\x26\x00\x01k\x00\x01v\x00\x03abc";
/// With a will: delay 2, expiry 9, a response topic; QoS 2, retained.
const CONNECT_WILL: &[u8] = b"\x10\x26\x00\x04MQTT\x05\x34\x00\x00\x00\x00\x00\x0e\x18\x00\x00\x00\x02\x02\x00\x00\x00\x09\x08\x00\x01r\x00\x01w\x00\x02hi";
const SUBSCRIBE: &[u8] = b"\x82\x0b\x00\x07\x00\x01a\x01\x00\x02b/\x02";
const SUBSCRIBE_5: &[u8] = b"\x82\x0b\x00\x07\x03\x0b\xc8\x01\x00\x01a\x2d";
const UNSUBSCRIBE: &[u8] = b"\xa2\x06\x00\x08\x00\x02b/";
const UNSUBSCRIBE_5: &[u8] = b"\xa2\x07\x00\x08\x00\x00\x02b/";
const PUBLISH: &[u8] = b"\x33\x09\x00\x03a/b\x00\x05hi";
/// With an expiry between two user properties, and an alias.
const PUBLISH_5: &[u8] =
    b"\x3d\x1f\x00\x03a/b\x00\x05\x15\x26\x00\x01k\x00\x01v\x02\x00\x00\x00\x07\x26\x00\x01l\x00\x00\x23\x00\x02hi";

#[test]
fn a_connect_says_who_it_is_and_what_it_wants() {
    let plain = Connect { client_id: "abc", clean_start: true, keep_alive_s: 60, ..Connect::default() };
    assert_eq!(decode_connect(CONNECT), Ok(Some(plain.clone())));
    let login = Connect { user_name: Some("a"), password: Some(b"b"), ..plain.clone() };
    assert_eq!(decode_connect(CONNECT_WITH_LOGIN), Ok(Some(login)));
    assert_eq!(decode_connect(CONNECT_3), Ok(Some(Connect { version: Version::V3, ..plain.clone() })));
    let five = Connect {
        version: Version::V5,
        session_expiry_s: Some(10),
        receive_maximum: Some(3),
        topic_alias_maximum: 4,
        packet_bytes_max: Some(500),
        ..plain
    };
    assert_eq!(decode_connect(CONNECT_5), Ok(Some(five)));
    let will = decode_connect(CONNECT_WILL).expect("right").expect("a CONNECT").will.expect("a will");
    assert_eq!((will.topic, will.payload, will.qos, will.retain), ("w", &b"hi"[..], 2, true));
    assert_eq!((will.delay_s, will.expiry_s), (2, Some(9)));
    assert_eq!(will.passed_on.each().collect::<Vec<_>>(), [b"\x08\x00\x01r"]);
    assert_eq!(decode_connect(SUBSCRIBE), Ok(None));
}

#[test]
fn other_protocols_are_told_apart() {
    for level in [1, 6, 0x85] {
        let mut other = CONNECT.to_vec();
        other[8] = level;
        assert_eq!(decode_connect(&other), Err(DecodeError::Level(level)));
    }
    let mut other = CONNECT.to_vec();
    other[4] = b'X';
    assert_eq!(decode_connect(&other), Err(DecodeError::Malformed("the name of another protocol")));
    let mut bridge = CONNECT.to_vec();
    bridge[8] = 0x84;
    let bridge = decode_connect(&bridge).expect("right").expect("a CONNECT");
    assert_eq!((bridge.version, bridge.is_bridge), (Version::V4, true));
    assert_eq!([CONNECT, CONNECT_3, CONNECT_5].map(version_of), [Version::V4, Version::V3, Version::V5].map(Some));
    assert_eq!([&other[..], SUBSCRIBE, b"\x10\x00"].map(version_of), [None; 3]);
}

#[test]
fn the_packets_of_3_1_1_are_decoded() {
    let publish = Publish { topic: "a/b", payload: b"hi", qos: 1, retain: true, packet_id: 5, ..Publish::default() };
    let subscription = |filter, qos| Subscription {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retained: RetainHandling::Always,
    };
    let filters = vec![subscription("a", 1), subscription("b/", 2)];
    for (frame, expected) in [
        (PUBLISH, Packet::Publish(publish)),
        (SUBSCRIBE, Packet::Subscribe(Subscribe { packet_id: 7, identifier: None, filters })),
        (UNSUBSCRIBE, Packet::Unsubscribe { packet_id: 8, filters: vec!["b/"] }),
        (b"\xc0\0", Packet::PingReq),
        (b"\xe0\0", Packet::Disconnect { reason: 0, session_expiry_s: None }),
        (b"\x40\x02\x01\x02", Packet::PubAck(Ack { packet_id: 0x102, reason: 0 })),
        (b"\x50\x02\x01\x02", Packet::PubRec(Ack { packet_id: 0x102, reason: 0 })),
        (b"\x62\x02\x01\x02", Packet::PubRel(Ack { packet_id: 0x102, reason: 0 })),
        (b"\x70\x02\x01\x02", Packet::PubComp(Ack { packet_id: 0x102, reason: 0 })),
    ] {
        for version in [Version::V3, Version::V4] {
            assert_eq!(decode(version, frame), Ok(expected.clone()), "{frame:x?}");
        }
    }
}

#[test]
fn the_packets_of_5_are_decoded() {
    let Ok(Packet::Publish(publish)) = decode(Version::V5, PUBLISH_5) else { panic!("a PUBLISH") };
    assert_eq!((publish.topic, publish.payload, publish.qos, publish.dup), ("a/b", &b"hi"[..], 2, true));
    assert_eq!((publish.packet_id, publish.alias, publish.expiry_s), (5, Some(2), Some(7)));
    let passed_on: Vec<&[u8]> = publish.passed_on.each().collect();
    assert_eq!(passed_on, [&b"\x26\x00\x01k\x00\x01v"[..], b"\x26\x00\x01l\x00\x00"]);
    assert_eq!((publish.passed_on.len(), publish.passed_on.is_empty()), (13, false));
    let Ok(Packet::Subscribe(subscribe)) = decode(Version::V5, SUBSCRIBE_5) else { panic!("a SUBSCRIBE") };
    let filters = [Subscription {
        filter: "a",
        qos: 1,
        no_local: true,
        retain_as_published: true,
        retained: RetainHandling::Never,
    }];
    assert_eq!((subscribe.identifier, &subscribe.filters[..]), (Some(200), &filters[..]));
    let unsubscribe = Packet::Unsubscribe { packet_id: 8, filters: vec!["b/"] };
    assert_eq!(decode(Version::V5, UNSUBSCRIBE_5), Ok(unsubscribe));
    let disconnect = |reason, session_expiry_s| Ok(Packet::Disconnect { reason, session_expiry_s });
    assert_eq!(decode(Version::V5, b"\xe0\x01\x04"), disconnect(4, None));
    assert_eq!(decode(Version::V5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09"), disconnect(0, Some(9)));
    let with_reason = Packet::PubRec(Ack { packet_id: 1, reason: 0x97 });
    assert_eq!(decode(Version::V5, b"\x50\x03\x00\x01\x97"), Ok(with_reason.clone()));
    assert_eq!(decode(Version::V5, b"\x50\x08\x00\x01\x97\x04\x1f\x00\x01x"), Ok(with_reason));
    assert_eq!(decode(Version::V5, b"\xf0\x00"), Ok(Packet::Auth));
}

#[test]
fn what_the_standards_forbid_is_refused() {
    // Each with the reason code that a client of version 5 is told.
    for (version, frame, code) in [
        (Version::V4, &b"\x36\x05\x00\x01a\x00\x05"[..], 0x81), // QoS 3
        (Version::V4, b"\x38\x03\x00\x01a", 0x81),              // a repeat at QoS 0
        (Version::V4, b"\x32\x05\x00\x01a\x00\x00", 0x82),      // packet id 0
        (Version::V4, b"\x30\x04\x00\x03ab", 0x81),             // a topic that goes on behind the packet
        (Version::V4, b"\x30\x03\x00\x01\xff", 0x81),           // not UTF-8
        (Version::V4, b"\x41\x02\x00\x01", 0x81),               // flags
        (Version::V4, b"\x60\x02\x00\x01", 0x82),               // PUBREL has flags
        (Version::V4, b"\x40\x03\x00\x01\x00", 0x81),           // 3.1.1 has no reasons
        (Version::V4, b"\x40\x02\x00\x00", 0x82),               // packet id 0
        (Version::V4, b"\x80\x06\x00\x07\x00\x01a\x00", 0x81),  // flags
        (Version::V4, b"\x82\x02\x00\x07", 0x82),               // no filter
        (Version::V4, b"\x82\x06\x00\x07\x00\x01a\x03", 0x81),  // QoS 3
        (Version::V4, b"\x82\x06\x00\x07\x00\x01a\x04", 0x81),  // an option of version 5
        (Version::V4, b"\xa2\x02\x00\x08", 0x82),               // no filter
        (Version::V4, b"\xa2\x06\x00\x08\x00\x02b\x00", 0x81),  // a NUL
        (Version::V4, b"\xc0\x01\x00", 0x81),                   // something behind PINGREQ
        (Version::V4, b"\xe0\x01\x00", 0x81),                   // 3.1.1 has no reasons
        (Version::V4, b"\xf0\x00", 0x82),                       // 3.1.1 has no AUTH
        (Version::V4, b"\x20\x02\x00\x00", 0x82),               // CONNACK to a server
        (Version::V5, b"\xd0\x00", 0x82),                       // PINGRESP to a server
        (Version::V5, b"\x00\x00", 0x82),                       // type 0
        (Version::V5, b"\x30\x05\x00\x01a\x02\x01", 0x81),      // properties that go on behind the packet
        (Version::V5, b"\x30\x06\x00\x01a\x02\x01\x02", 0x82),  // payload format 2
        (Version::V5, b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", 0x82), // twice
        (Version::V5, b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", 0x82), // session expiry in a PUBLISH
        (Version::V5, b"\x30\x06\x00\x01a\x02\x0b\x01", 0x82),  // subscription identifier from a client
        (Version::V5, b"\x30\x06\x00\x01a\x02\x7f\x01", 0x81),  // an unknown property
        (Version::V5, b"\x30\x08\x00\x01a\x04\x08\x00\x01+", 0x82), // a response topic with a wildcard
        (Version::V5, b"\x30\x05\x00\x01a\x80\x00", 0x81),      // a length that is longer than needed
        (Version::V5, b"\x40\x03\x00\x01\x92", 0x82),           // a reason that PUBACK cannot have
        (Version::V5, b"\x62\x03\x00\x01\x10", 0x82),           // a reason that PUBREL cannot have
        (Version::V5, b"\x82\x09\x00\x07\x02\x0b\x00\x00\x01a\x00", 0x82), // identifier 0
        (Version::V5, b"\x82\x07\x00\x07\x00\x00\x01a\x30", 0x82), // retain handling 3
        (Version::V5, b"\x82\x07\x00\x07\x00\x00\x01a\x40", 0x81), // a reserved option
        (Version::V5, b"\x82\x10\x00\x07\x00\x00\x0a$share/g/a\x04", 0x82), // no local in a group
        (Version::V5, b"\xe0\x01\x05", 0x82),                   // a reason that DISCONNECT cannot have
        (Version::V5, b"\xf0\x01\x01", 0x82),                   // a reason that AUTH cannot have
    ] {
        let refused = decode(version, frame).expect_err(&format!("{frame:x?}"));
        assert_eq!(refused.reason(), code, "{frame:x?}: {refused}");
    }
    for (change, at, code) in [
        (0x03, 9, 0x81),  // the reserved flag
        (0x1a, 9, 0x81),  // the QoS of a will without a will
        (0x42, 9, 0x81),  // a password without a name
        (0x1e, 9, 0x81),  // a will of QoS 3
        (0x82, 9, 0x81),  // a name that is not there
        (0x00, 14, 0x85), // a NUL in the client id
    ] {
        let mut connect = CONNECT.to_vec();
        connect[at] = change;
        let refused = decode_connect(&connect).expect_err(&format!("{change:x} at {at}"));
        assert_eq!(refused.reason(), code, "{refused}");
    }
    let with = |properties: &[u8]| {
        let body = [b"\x00\x04MQTT\x05\x02\x00\x3c", &[properties.len() as u8][..], properties, b"\x00\x01a"].concat();
        [&[0x10, body.len() as u8], &body[..]].concat()
    };
    for (properties, code) in [
        (&b"\x21\x00\x00"[..], 0x82),    // receive maximum 0
        (b"\x27\x00\x00\x00\x00", 0x82), // packet size 0
        (b"\x15\x00\x01x", 0x8c),        // an authentication method
        (b"\x16\x00\x01x", 0x82),        // its data without it
        (b"\x12\x00\x01x", 0x82),        // what only servers send
    ] {
        assert_eq!(decode_connect(&with(properties)).expect_err("wrong").reason(), code, "{properties:x?}");
    }
    assert_eq!(decode(Version::V4, b""), Err(DecodeError::Malformed("nothing")));
    assert_eq!(decode_connect(b"\x11\x00").expect_err("flags").reason(), 0x81);
}

#[test]
fn frames_are_measured_and_bounded() {
    assert_eq!(frame_len(&[0x30], 100), Ok(None));
    assert_eq!(frame_len(&[0x30, 0x80], 100), Ok(None));
    assert_eq!(frame_len(&[0x30, 0x80, 0x01], 1000), Ok(Some(131)));
    assert_eq!(frame_len(&[0x30, 0x80, 0x01], 100), Err(DecodeError::TooLarge { bytes: 131 }));
    for wrong in [&[0x30, 0x80, 0x80, 0x80, 0x80][..], &[0x30, 0x81, 0x00]] {
        assert_eq!(frame_len(wrong, usize::MAX).expect_err("wrong").reason(), 0x81);
    }
}

#[test]
fn answers_are_as_their_version_has_them() {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let refused = Connack { reason: reason::BAD_CLIENT_ID, text: Some("no"), ..Connack::default() };
    assert_eq!(encoded(&|out| connack(Version::V4, &refused, out)), [0x20, 2, 0, 2]);
    assert_eq!(encoded(&|out| connack(Version::V5, &refused, out)), *b"\x20\x08\x00\x85\x05\x1f\x00\x02no");
    let welcome = Connack {
        session_present: true,
        session_expiry_s: Some(1),
        receive_maximum: Some(20),
        packet_bytes_max: Some(256),
        assigned_client_id: Some("x"),
        topic_alias_maximum: 10,
        keep_alive_s: Some(60),
        ..Connack::default()
    };
    assert_eq!(encoded(&|out| connack(Version::V3, &welcome, out)), [0x20, 2, 1, 0]);
    assert_eq!(
        encoded(&|out| connack(Version::V5, &welcome, out)),
        *b"\x20\x1a\x01\x00\x17\x11\x00\x00\x00\x01\x22\x00\x0a\x27\x00\x00\x01\x00\x21\x00\x14\x12\x00\x01x\x13\x00\x3c"
    );
    let codes = [1, reason::BAD_FILTER];
    assert_eq!(encoded(&|out| suback(Version::V4, 7, &codes, out)), [0x90, 4, 0, 7, 1, 0x80]);
    assert_eq!(encoded(&|out| suback(Version::V5, 7, &codes, out)), [0x90, 5, 0, 7, 0, 1, 0x8f]);
    assert_eq!(encoded(&|out| unsuback(Version::V4, 7, &[0, 0x11], out)), [0xb0, 2, 0, 7]);
    assert_eq!(encoded(&|out| unsuback(Version::V5, 7, &[0, 0x11], out)), [0xb0, 5, 0, 7, 0, 0, 0x11]);
    let goodbye = |version, max| encoded(&|out| disconnect(version, reason::TAKEN_OVER, "no", max, out));
    assert_eq!(goodbye(Version::V4, 100), b"");
    assert_eq!(goodbye(Version::V5, 11), *b"\xe0\x07\x8e\x05\x1f\x00\x02no");
    assert_eq!(goodbye(Version::V5, 10), [0xe0, 1, 0x8e]);
}

#[test]
fn properties_that_are_passed_on_say_what_they_are() {
    let Ok(Packet::Publish(publish)) = decode(Version::V5, PUBLISH_5) else { panic!("not read") };
    let user = |name, value| Property::User { name, value };
    let said: Vec<_> = publish.passed_on.properties().collect();
    assert_eq!(said, [user("k", "v"), user("l", "")], "neither the expiry nor the alias");
    let all = [
        Property::PayloadFormat { is_utf8: true },
        Property::ContentType("c"),
        Property::ResponseTopic("a/b"),
        Property::CorrelationData(b"\x00\xff"),
        user("k", "v"),
        user("k", "w"),
    ];
    let encoded = encode_properties(&all).expect("right");
    assert_eq!(
        encoded,
        b"\x01\x01\x03\x00\x01c\x08\x00\x03a/b\x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w"
    );
    assert_eq!(PassedOn::from_own(&encoded).properties().collect::<Vec<_>>(), all);
    let long = "x".repeat(65_536);
    for wrong in [&[Property::ResponseTopic("+")][..], &[user("\0", "")], &[user("", &long)], &[all[1], all[1]]] {
        assert!(encode_properties(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        which in 0usize..10,
        edits in prop::collection::vec((0usize..48, any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let frames = [
            CONNECT, CONNECT_WITH_LOGIN, CONNECT_5, CONNECT_WILL, SUBSCRIBE, SUBSCRIBE_5, UNSUBSCRIBE, UNSUBSCRIBE_5, PUBLISH,
            PUBLISH_5,
        ];
        let mut bytes = frames[which].to_vec();
        for (at, value) in edits {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.extend_from_slice(&tail);
        if let Ok(Some(len)) = frame_len(&bytes, 1 << 20)
            && let Some(frame) = bytes.get(..len)
        {
            for version in [Version::V3, Version::V4, Version::V5] {
                if let Ok(Packet::Publish(publish)) = decode(version, frame) {
                    let passed_on: Vec<u8> = publish.passed_on.each().flatten().copied().collect();
                    prop_assert_eq!(passed_on.len(), publish.passed_on.len());
                    let said: Vec<_> = publish.passed_on.properties().collect();
                    prop_assert_eq!(encode_properties(&said), Ok(passed_on.clone()));
                    let again: Vec<u8> = PassedOn::from_own(&passed_on).each().flatten().copied().collect();
                    prop_assert_eq!(again, passed_on);
                }
            }
        }
    }

    #[test]
    fn a_message_that_is_sent_is_read_as_it_is(
        topic in "[a-z/]{1,20}",
        payload in prop::collection::vec(any::<u8>(), 0..300),
        (qos, retain, dup) in (0u8..3, any::<bool>(), any::<bool>()),
        (expiry_s, alias) in (prop::option::of(any::<u32>()), prop::option::of(1u16..)),
        version in prop::sample::select(&[Version::V4, Version::V5][..]),
    ) {
        let is_5 = version == Version::V5;
        let (expiry_s, alias, dup) = (expiry_s.filter(|_| is_5), alias.filter(|_| is_5), dup && qos > 0);
        let packet_id = if qos > 0 { 9 } else { 0 };
        let passed_on: &[u8] = if is_5 { b"\x01\x01\x26\x00\x01k\x00\x01v" } else { b"" };
        let sent = Outgoing {
            topic: topic.as_bytes(), payload: &payload, qos, retain, dup, packet_id, passed_on, expiry_s, alias, identifiers: &[],
        };
        let mut out = Vec::new();
        publish(version, &sent, &mut out);
        prop_assert_eq!(frame_len(&out, usize::MAX), Ok(Some(out.len())));
        prop_assert_eq!(sent.packet_len(version), out.len());
        let Ok(Packet::Publish(read)) = decode(version, &out) else { panic!("not read") };
        prop_assert_eq!((read.topic, read.payload, read.qos, read.retain), (&topic[..], &payload[..], qos, retain));
        prop_assert_eq!((read.dup, read.packet_id, read.expiry_s, read.alias), (dup, packet_id, expiry_s, alias));
        prop_assert_eq!(read.passed_on.each().flatten().copied().collect::<Vec<u8>>(), passed_on);
    }
}

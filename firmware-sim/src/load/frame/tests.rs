use super::*;

fn wire(version: Version, level: u8) -> Wire {
    Wire { version, qos: Qos::from_level(level).expect("a level") }
}

#[test]
fn packets_have_their_bytes() {
    let packet = |push: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        push(&mut out);
        out
    };
    let login = Login { username: "me".to_owned(), password: Some("pw".to_owned()) };
    let connect =
        |version, clean, login: Option<&Login>| packet(&|out| push_connect(out, version, "load-07", clean, login));
    assert_eq!(connect(Version::V3_1_1, false, None), b"\x10\x13\x00\x04MQTT\x04\x00\x00\x00\x00\x07load-07");
    assert_eq!(connect(Version::V5, true, None), b"\x10\x14\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x07load-07");
    assert_eq!(
        connect(Version::V5, false, None),
        b"\x10\x19\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x0e\x10\x00\x07load-07"
    );
    let with_login = b"\x10\x1b\x00\x04MQTT\x04\xc2\x00\x00\x00\x07load-07\x00\x02me\x00\x02pw";
    assert_eq!(connect(Version::V3_1_1, true, Some(&login)), with_login);
    let named = Login { password: None, ..login };
    let without_password = b"\x10\x17\x00\x04MQTT\x04\x82\x00\x00\x00\x07load-07\x00\x02me";
    assert_eq!(connect(Version::V3_1_1, true, Some(&named)), without_password);
    let header = |version, level, duplicate, payload_len| {
        packet(&|out| push_publish_header(out, wire(version, level), "a/b", 0x0102, duplicate, payload_len))
    };
    assert_eq!(header(Version::V3_1_1, 1, false, 3), b"\x32\x0a\x00\x03a/b\x01\x02");
    assert_eq!(header(Version::V3_1_1, 1, true, 150), b"\x3a\x9d\x01\x00\x03a/b\x01\x02");
    assert_eq!(header(Version::V3_1_1, 0, false, 3), b"\x30\x08\x00\x03a/b");
    assert_eq!(header(Version::V5, 0, false, 3), b"\x30\x09\x00\x03a/b\x00");
    assert_eq!(header(Version::V5, 2, true, 3), b"\x3c\x0b\x00\x03a/b\x01\x02\x00");
    assert_eq!(packet(&|out| push_release(out, 0x0102)), b"\x62\x02\x01\x02");
    assert_eq!(packet(&|out| push_disconnect(out)), b"\xe0\x00");
}

fn acknowledged(step: Step, packet_id: u16, reason: u8) -> Answer {
    Answer::Acknowledgement { step, packet_id, reason }
}

#[test]
fn answers_are_taken_whole_from_any_split() {
    let in_3 = b"\x20\x02\x00\x00\x40\x02\x00\x07\xd0\x00\x50\x02\x12\x34\x70\x02\x12\x34";
    let expected_in_3 = [
        Answer::ConnAck { code: 0, receive_max: u16::MAX },
        acknowledged(Step::Acknowledged, 7, 0),
        Answer::Other,
        acknowledged(Step::Received, 0x1234, 0),
        acknowledged(Step::Complete, 0x1234, 0),
    ];
    let in_5 = b"\x20\x0b\x00\x00\x08\x24\x01\x27\x00\x10\x00\x00\x22\
        \x20\x06\x00\x00\x03\x21\x00\x14\x40\x03\x00\x07\x87\x50\x09\x00\x08\x97\x05\x1f\x00\x02ab\xe0\x01\x8e\xe0\x00";
    // The first one is cut short within its properties.
    let expected_in_5 = [
        Answer::ConnAck { code: 0, receive_max: 20 },
        acknowledged(Step::Acknowledged, 7, 0x87),
        acknowledged(Step::Received, 8, 0x97),
        Answer::Disconnect { reason: 0x8e },
        Answer::Disconnect { reason: 0 },
    ];
    for (version, stream, expected) in
        [(Version::V3_1_1, &in_3[..], expected_in_3), (Version::V5, &in_5[13..], expected_in_5)]
    {
        for split in 0..=stream.len() {
            let (mut taken, mut held) = (Vec::new(), Vec::new());
            for part in [&stream[..split], &stream[split..]] {
                held.extend_from_slice(part);
                let mut rest = &held[..];
                while let Some(answer) = take_answer(&mut rest, version).expect("well formed") {
                    taken.push(answer);
                }
                held = rest.to_vec();
            }
            assert_eq!((taken.as_slice(), held.len()), (&expected[..], 0), "split at {split}");
        }
    }
    assert_eq!(take_answer(&mut &in_5[..13], Version::V5), Err(FrameError::Properties));
}

#[test]
fn the_receive_maximum_is_found_among_all_properties() {
    let all = b"\x11\x00\x00\x00\x05\x24\x01\x25\x01\x27\x00\x01\x00\x00\x12\x00\x01x\x22\x00\x0a\x1f\x00\x02no\
        \x26\x00\x01k\x00\x02vv\x28\x01\x29\x01\x2a\x01\x13\x00\x1e\x1a\x00\x00\x1c\x00\x00\x15\x00\x01p\x16\x00\x01q";
    let after = |properties: &[u8]| {
        let properties = [properties, b"\x21\x00\x07"].concat();
        receive_maximum(&[&[properties.len() as u8], &properties[..]].concat())
    };
    assert_eq!(after(all), Some(7));
    assert_eq!(after(b""), Some(7));
    assert_eq!(receive_maximum(b"\x00"), Some(u16::MAX));
    assert_eq!(receive_maximum(b""), Some(u16::MAX));
    for wrong in [&b"\x01"[..], b"\x01\x21", b"\x02\x21\x00", b"\x01\x7f", b"\x03\x1f\x00\x02", b"\x04\x26\x00\x00\x00"]
    {
        assert_eq!(receive_maximum(wrong), None, "{wrong:?}");
    }
}

#[test]
fn nonsense_is_an_error_not_a_wait() {
    let answer = |bytes: &[u8], version| take_answer(&mut &bytes[..], version);
    for version in [Version::V3_1_1, Version::V5] {
        assert_eq!(answer(b"\x40\xff\xff\xff\xff\x01", version), Err(FrameError::RemainingLength));
        assert_eq!(answer(b"\x30\xff\xff\x03", version), Err(FrameError::TooLarge { bytes: 65_535 }));
        assert_eq!(answer(b"\x40\x01\x00", version), Err(FrameError::WrongLength { packet_type: 4 }));
        assert_eq!(answer(b"\x20\x01\x00", version), Err(FrameError::WrongLength { packet_type: 2 }));
    }
    assert_eq!(answer(b"\x40\x03\x00\x01\x02", Version::V3_1_1), Err(FrameError::WrongLength { packet_type: 4 }));
}

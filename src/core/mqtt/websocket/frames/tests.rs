use super::super::tests::{Outcome, Random, client_frame, take_pieces};
use super::*;

/// The mask of the examples in section 5.7 of RFC 6455.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The masked "Hello" of those examples.
const HELLO: [u8; 5] = [0x7f, 0x9f, 0x4d, 0x51, 0x58];

fn take_whole(stream: &[u8]) -> Outcome {
    take_pieces(stream, || stream.len())
}

/// A frame whose first bytes are `start`, with `payload` as it is on the wire.
fn raw(start: &[u8], payload: &[u8]) -> Vec<u8> {
    [start, &MASK, payload].concat()
}

/// The first bytes of a frame with a length of eight bytes.
fn long(length: u64) -> Vec<u8> {
    [&[0x82, 0xFF][..], &length.to_be_bytes()].concat()
}

#[test]
fn the_frames_of_the_rfc_are_understood() {
    assert_eq!(take_whole(&raw(&[0x82, 0x85], &HELLO)).payload, b"Hello");
    let fragments = [raw(&[0x02, 0x83], &HELLO[..3]), client_frame(0x80, [1, 2, 3, 4], b"lo")].concat();
    assert_eq!(take_whole(&fragments), Outcome { payload: b"Hello".to_vec(), ..Outcome::default() });
    let ping = take_whole(&raw(&[0x89, 0x85], &HELLO));
    assert_eq!(ping, Outcome { replies: b"\x8a\x05Hello".to_vec(), ..Outcome::default() });
    assert_eq!(take_whole(&raw(&[0x8a, 0x85], &HELLO)), Outcome::default());
    for (len, expected) in [(256, &[0x82, 0x7E, 1, 0][..]), (65_536, &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0])] {
        let mut out = Vec::new();
        header(len, &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn what_is_sent_has_the_shortest_length() {
    for (len, expected) in
        [(0, &[0x82, 0][..]), (125, &[0x82, 125]), (126, &[0x82, 126, 0, 126]), (65_535, &[0x82, 126, 255, 255])]
    {
        let mut out = vec![7];
        header(len, &mut out);
        assert_eq!(out, [&[7], expected].concat());
    }
    let mut out = Vec::new();
    close(1001, &mut out);
    assert_eq!(out, [0x88, 2, 0x03, 0xE9]);
}

#[test]
fn every_fault_is_found_wherever_the_stream_is_cut() {
    let begun = client_frame(0x02, MASK, b"x");
    let cases = [
        (vec![0x82, 0x05], FrameError::Unmasked, 1002),
        (vec![0x89, 0x00], FrameError::Unmasked, 1002),
        (vec![0xC2, 0x80], FrameError::ReservedBits, 1002),
        (vec![0xA2, 0x80], FrameError::ReservedBits, 1002),
        (vec![0x92, 0x80], FrameError::ReservedBits, 1002),
        (vec![0x83, 0x80], FrameError::Opcode(3), 1002),
        (vec![0x87, 0x80], FrameError::Opcode(7), 1002),
        (vec![0x8B, 0x80], FrameError::Opcode(11), 1002),
        (vec![0x8F, 0x80], FrameError::Opcode(15), 1002),
        (vec![0x81, 0x80], FrameError::Text, 1003),
        (vec![0x01, 0x80], FrameError::Text, 1003),
        (vec![0x08, 0x80], FrameError::FragmentedControl, 1002),
        (vec![0x09, 0x80], FrameError::FragmentedControl, 1002),
        (vec![0x0A, 0x80], FrameError::FragmentedControl, 1002),
        (vec![0x88, 0xFE], FrameError::LongControl, 1002),
        (vec![0x89, 0xFE], FrameError::LongControl, 1002),
        (vec![0x8A, 0xFF], FrameError::LongControl, 1002),
        (vec![0x80, 0x80], FrameError::NothingToContinue, 1002),
        (vec![0x00, 0x80], FrameError::NothingToContinue, 1002),
        ([&client_frame(0x82, MASK, b"x")[..], &[0x80, 0x80]].concat(), FrameError::NothingToContinue, 1002),
        ([&begun[..], &client_frame(0x80, MASK, b"y"), &[0x80, 0x80]].concat(), FrameError::NothingToContinue, 1002),
        ([&begun[..], &[0x82, 0x80]].concat(), FrameError::Interrupted, 1002),
        ([&begun[..], &client_frame(0x89, MASK, b""), &[0x02, 0x80]].concat(), FrameError::Interrupted, 1002),
        (raw(&[0x82, 0xFE, 0, 0], b""), FrameError::Length, 1002),
        (raw(&[0x82, 0xFE, 0, 125], b""), FrameError::Length, 1002),
        (raw(&long(65_535), b""), FrameError::Length, 1002),
        (raw(&long(1 << 63), b""), FrameError::Length, 1002),
        (raw(&long(1 << 32), b""), FrameError::TooLong, 1009),
        (client_frame(0x88, MASK, b"\x03"), FrameError::CloseCode, 1002),
    ];
    for (stream, error, code) in cases {
        let found = take_whole(&stream);
        assert_eq!((found.error, found.is_closed), (Some(error), true), "{stream:02x?}");
        assert_eq!(error.code(), code);
        assert_eq!(take_pieces(&stream, || 1).error, Some(error), "{stream:02x?}");
        // Without its last byte it is faultless.
        assert_eq!(take_whole(&stream[..stream.len() - 1]).error, None, "{stream:02x?}");
        let mut out = Vec::new();
        error.close_frame(&mut out);
        let [start, len, high, low, reason @ ..] = &out[..] else { panic!("too short: {out:?}") };
        assert_eq!((*start, usize::from(*len), u16::from_be_bytes([*high, *low])), (0x88, reason.len() + 2, code));
        assert!(*len <= 125 && reason == error.to_string().as_bytes(), "{error}");
    }
}

#[test]
fn nothing_is_taken_after_a_fault() {
    let (mut frames, mut replies) = (Frames::default(), Vec::new());
    assert_eq!(frames.take(&mut [0x81, 0x80], &mut replies), Err(FrameError::Text));
    assert!(frames.is_closed());
    assert_eq!(frames.take(&mut client_frame(0x82, MASK, b"x"), &mut replies), Ok(0));
    assert_eq!(frames.take(&mut client_frame(0x89, MASK, b"x"), &mut replies), Ok(0));
    assert_eq!(replies, b"");
}

#[test]
fn a_close_is_answered_with_its_code_and_ends_the_stream() {
    let mut cases = vec![(vec![], Some(vec![0x88, 0])), (vec![3], None)];
    for code in [1000_u16, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        let answer = [&[0x88, 2][..], &code.to_be_bytes()].concat();
        cases.push(([&code.to_be_bytes()[..], b"bye"].concat(), Some(answer)));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        cases.push((code.to_be_bytes().to_vec(), None));
    }
    for (payload, answer) in cases {
        let ended = [client_frame(0x82, MASK, b"last"), client_frame(0x88, MASK, &payload)].concat();
        let stream = [&ended[..], &client_frame(0x82, MASK, b"later"), &client_frame(0x89, MASK, b"")].concat();
        let found = take_pieces(&stream, || 1);
        let error = answer.is_none().then_some(FrameError::CloseCode);
        let expected =
            Outcome { payload: b"last".to_vec(), replies: answer.unwrap_or_default(), error, is_closed: true };
        assert_eq!(found, expected, "{payload:?}");
        if error.is_none() {
            assert_eq!(take_whole(&stream), expected, "{payload:?}");
        }
    }
}

#[test]
fn payload_is_unmasked_at_every_place_and_length() {
    let plain = Random(3).bytes(70);
    for before in 0..9 {
        for len in 0..60 {
            let stream = client_frame(0x82, [0x11, 0x80, 0x00, 0xFF], &plain[..before + len]);
            let cuts = [6 + before, len + 1];
            let mut cuts = cuts.into_iter();
            let found = take_pieces(&stream, || cuts.next().expect("two pieces"));
            assert_eq!(found.payload, &plain[..before + len], "{before} {len}");
        }
    }
}

/// A stream of whole messages, and what has to become of it.
fn stream(random: &mut Random, lengths: &[usize]) -> (Vec<u8>, Outcome) {
    let (mut stream, mut expected) = (Vec::new(), Outcome::default());
    for _ in 0..1 + random.below(8) {
        let fragments = 1 + random.below(3);
        for fragment in 0..fragments {
            let opcode = if fragment == 0 { BINARY } else { CONTINUATION };
            let start = if fragment == fragments - 1 { FINAL | opcode } else { opcode };
            let len = lengths[random.below(lengths.len())];
            let payload = random.bytes(len);
            stream.extend(client_frame(start, (random.next() as u32).to_ne_bytes(), &payload));
            expected.payload.extend(payload);
            let control = [FINAL | PING, FINAL | PONG, 0, 0][random.below(4)];
            if control != 0 {
                let len = random.below(CONTROL_MAX + 1);
                let payload = random.bytes(len);
                stream.extend(client_frame(control, (random.next() as u32).to_ne_bytes(), &payload));
                if control == FINAL | PING {
                    append_control(PONG, &[&payload], &mut expected.replies);
                }
            }
        }
    }
    (stream, expected)
}

#[test]
fn a_stream_is_the_same_wherever_it_is_cut() {
    let mut random = Random(4);
    for _ in 0..20 {
        let (stream, expected) = stream(&mut random, &[0, 1, 7, 8, 30, 125, 126, 127]);
        for cut in 1..=stream.len() {
            let mut pieces = [cut, stream.len()].into_iter();
            assert_eq!(
                take_pieces(&stream, || pieces.next().expect("two pieces")),
                expected,
                "{cut} of {}",
                stream.len()
            );
        }
    }
    for round in 0..150 {
        let (stream, expected) = stream(&mut random, &[0, 5, 126, 1_000, 65_535, 65_536, 70_000]);
        let longest = [2, 20, 4_096, 200_000][round % 4];
        assert!(take_pieces(&stream, || 1 + random.below(longest)) == expected, "round {round}");
    }
}

#[test]
fn a_frame_may_be_as_long_as_is_counted() {
    let (mut frames, mut replies) = (Frames::default(), Vec::new());
    assert_eq!(frames.take(&mut raw(&long(u32::MAX.into()), b"x"), &mut replies), Ok(1));
    let frame = frames.frame.as_mut().expect("more payload");
    assert_eq!(frame.remaining, u32::MAX - 1);
    frame.remaining = 2;
    assert_eq!(frames.take(&mut [1, 2, 0x82], &mut replies), Ok(2));
    assert_eq!(frames.take(&mut [0x05], &mut replies), Err(FrameError::Unmasked));
}

#[test]
fn pongs_that_nobody_reads_are_left_out() {
    let (mut frames, mut replies) = (Frames::default(), Vec::new());
    let ping = client_frame(0x89, MASK, &[1; 125]);
    for _ in 0..100 {
        assert_eq!(frames.take(&mut ping.clone(), &mut replies), Ok(0));
    }
    assert_eq!(replies.len(), (REPLIES_MAX / 127 + 1) * 127);
    frames.take(&mut client_frame(0x88, MASK, b""), &mut replies).expect("no fault");
    assert!(replies.ends_with(&[0x88, 0]), "a close is answered all the same");

    let (mut frames, mut replies) = (Frames::default(), vec![0; REPLIES_MAX]);
    frames.take(&mut ping.clone(), &mut replies).expect("no fault");
    assert_eq!(replies.len(), REPLIES_MAX + 127);
    replies.clear();
    frames.take(&mut ping.clone(), &mut replies).expect("no fault");
    assert_eq!(replies.len(), 127, "there is room again");
}

#[test]
fn a_connection_costs_a_few_dozen_bytes() {
    assert!(size_of::<Frames>() <= 64, "{}", size_of::<Frames>());
    let (mut frames, mut replies) = (Frames::default(), Vec::new());
    frames.take(&mut client_frame(0x89, MASK, &[1; 125]), &mut replies).expect("no fault");
    assert_eq!(frames.control.capacity(), 0, "a ping leaves nothing behind");
}

//! What the tests of both halves share, and input that nobody has thought of.

use super::frames::{FrameError, Frames};
use super::handshake::judge;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A frame of a client. `start` is its first byte.
pub fn client_frame(start: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![start];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            frame.push(0xFE);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xFF);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What became of a stream of frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub payload: Vec<u8>,
    pub replies: Vec<u8>,
    pub error: Option<FrameError>,
    pub is_closed: bool,
}

/// Takes `stream` in pieces whose lengths `next` gives.
pub fn take_pieces(mut stream: &[u8], mut next: impl FnMut() -> usize) -> Outcome {
    let (mut frames, mut outcome) = (Frames::default(), Outcome::default());
    while !stream.is_empty() && outcome.error.is_none() {
        let (piece, rest) = stream.split_at(next().min(stream.len()));
        let mut piece = piece.to_vec();
        match frames.take(&mut piece, &mut outcome.replies) {
            Ok(len) => outcome.payload.extend_from_slice(&piece[..len]),
            Err(error) => outcome.error = Some(error),
        }
        stream = rest;
    }
    outcome.is_closed = frames.is_closed();
    outcome
}

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: gateway:8083\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://gateway:8083\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Bytes that say something to one half or the other, with faults in them.
fn input(random: &mut Random) -> Vec<u8> {
    let mut input = match random.below(4) {
        0 => {
            let len = random.below(64);
            random.bytes(len)
        }
        1 => REQUEST.as_bytes().to_vec(),
        _ => {
            let mut input = Vec::new();
            for _ in 0..random.below(6) {
                let start = [0x82, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88][random.below(7)];
                let [payload_len, mask] = [random.below(140), random.next() as usize];
                input.extend(client_frame(start, (mask as u32).to_ne_bytes(), &random.bytes(payload_len)));
            }
            input
        }
    };
    for _ in 0..random.below(3) {
        if !input.is_empty() {
            let at = random.below(input.len());
            match random.below(3) {
                0 => input[at] = random.next() as u8,
                1 => input[at] ^= 1 << random.below(8),
                _ => input.truncate(at),
            }
        }
    }
    input
}

/// Whether the request was granted.
fn check_judge(input: &[u8], random: &mut Random) -> bool {
    let prefix = &input[..random.below(input.len() + 1)];
    match judge(input, &[]) {
        Ok(Some(upgrade)) => {
            assert!(upgrade.response.starts_with(b"HTTP/1.1 101 ") && upgrade.response.ends_with(b"\r\n\r\n"));
            assert_eq!(judge(&input[..upgrade.used], &[]), Ok(Some(upgrade.clone())));
            assert!(prefix.len() >= upgrade.used || judge(prefix, &[]) == Ok(None));
            return true;
        }
        Ok(None) => assert_eq!(judge(prefix, &[]), Ok(None)),
        Err(refusal) => {
            assert!(matches!(&refusal.response[..10], b"HTTP/1.1 4" | b"HTTP/1.1 5"));
            assert!(refusal.response.ends_with(format!("\r\n\r\n{}\n", refusal.text).as_bytes()));
            assert!(!refusal.text.contains(char::is_control), "{refusal:?}");
        }
    }
    false
}

/// Whether the frames were faultless.
fn check_take(input: &[u8], random: &mut Random) -> bool {
    let whole = take_pieces(input, || input.len());
    let mut pieces = take_pieces(input, || 1 + random.below(20));
    if whole.error.is_some() {
        pieces.payload.clear();
    }
    assert_eq!(whole, pieces, "{input:02x?}");
    whole.error.is_none()
}

#[test]
fn no_input_does_harm_and_cuts_change_nothing() {
    let mut random = Random(1);
    let (mut granted, mut faultless) = (0, 0);
    for _ in 0..200_000 {
        let input = input(&mut random);
        granted += u32::from(check_judge(&input, &mut random));
        faultless += u32::from(check_take(&input, &mut random));
    }
    assert!(granted > 10_000 && faultless > 10_000, "the inputs get far enough: {granted}, {faultless}");
}

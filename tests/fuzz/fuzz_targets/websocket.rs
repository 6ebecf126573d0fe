//! Frames of WebSocket in pieces and as a whole: the same comes of both. And the request that begins it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::websocket::{frames::Frames, handshake};

/// What comes of frames that are read in pieces of so many bytes: MQTT's stream, and the answers; `None` if they are broken.
fn taken(stream: &[u8], piece: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut frames, mut mqtt, mut replies) = (Frames::default(), Vec::new(), Vec::new());
    for bytes in stream.chunks(piece) {
        let mut bytes = bytes.to_vec();
        let len = frames.take(&mut bytes, &mut replies).ok()?;
        assert!(len <= bytes.len());
        mqtt.extend_from_slice(&bytes[..len]);
        if frames.is_closed() {
            break;
        }
    }
    Some((mqtt, replies))
}

fuzz_target!(|input: &[u8]| {
    let _ = handshake::judge(input, &["https://fleet.example.com".to_owned()]);
    let Some((piece, stream)) = input.split_first() else { return };
    if stream.is_empty() {
        return;
    }
    let whole = taken(stream, stream.len());
    let pieces = taken(stream, usize::from(*piece).max(1));
    assert_eq!(whole, pieces);
});

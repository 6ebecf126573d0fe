//! A stream of bytes cut into packets as a connection does it, until one is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::mqtt::codec;

fuzz_target!(|stream: &[u8]| {
    let mut rest = stream;
    while let Ok(Some(len)) = codec::frame_len(rest, 1 << 20) {
        let Some((frame, behind)) = rest.split_at_checked(len) else { return };
        if codec::decode(frame).is_err() {
            return;
        }
        rest = behind;
    }
});

//! A stream of bytes cut into packets as a connection of each version does it, until one is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::packet::{self, Version};

fuzz_target!(|stream: &[u8]| {
    for version in [Version::V4, Version::V5] {
        let mut rest = stream;
        while let Ok(Some(len)) = packet::frame_len(rest, 1 << 20) {
            let Some((frame, behind)) = rest.split_at_checked(len) else { break };
            if packet::decode(version, frame).is_err() {
                break;
            }
            rest = behind;
        }
    }
});

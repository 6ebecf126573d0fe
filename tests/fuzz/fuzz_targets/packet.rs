//! A stream of bytes cut into packets as a connection of each version does it, until one is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::packet::{self, Packet, Version};

fuzz_target!(|stream: &[u8]| {
    for version in [Version::V4, Version::V5] {
        let mut rest = stream;
        while let Ok(Some(len)) = packet::frame_len(rest, 1 << 20) {
            let Some((frame, behind)) = rest.split_at_checked(len) else { break };
            match packet::decode(version, frame) {
                Ok(Packet::Publish(publish)) => {
                    // What rules see of a message is all that its receivers get.
                    let said: Vec<_> = publish.passed_on.properties().collect();
                    assert_eq!(said.len(), publish.passed_on.each().count());
                }
                Ok(_) => {}
                Err(_) => break,
            }
            rest = behind;
        }
    }
});

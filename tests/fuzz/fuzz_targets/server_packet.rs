//! A stream of bytes cut into packets as a connection to a broker does it, in both versions: whatever a broker says, each thing that was asked of
//! it has one answer, and the end is the last event.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::client::{Client, Event, Message, Settings, Token};
use outrider::core::mqtt::packet::Version;

const WELCOMES: [(Version, &[u8]); 2] = [(Version::V4, &[0x20, 2, 0, 0]), (Version::V5, &[0x20, 3, 0, 0, 0])];

fuzz_target!(|stream: &[u8]| {
    for (version, welcome) in WELCOMES {
        let settings = Settings { version, packet_bytes_max: 1 << 16, ..Settings::default() };
        let mut client = Client::new(&settings, 0);
        client.frame(welcome, 0);
        let mut asked = HashSet::new();
        for qos in [1, 2, 1, 2] {
            let message = Message { topic: "a".to_owned(), qos, ..Message::default() };
            asked.insert(client.publish(&message, 0).expect("it fits"));
        }
        let mut rest = stream;
        let (mut tokens, mut has_ended): (Vec<Token>, bool) = (Vec::new(), false);
        let mut look = |client: &mut Client, tokens: &mut Vec<Token>| {
            while let Some(event) = client.next_event() {
                assert!(!has_ended, "the end is the last event");
                match event {
                    Event::Answered(wish, _) => assert!(asked.remove(&wish), "one answer each"),
                    Event::Arrived(arrived) => tokens.extend(arrived.token),
                    Event::Ended(_) => has_ended = true,
                    Event::Welcomed(_) => {}
                }
            }
        };
        while let Some(len) = client.frame_len(rest) {
            let Some((frame, behind)) = rest.split_at_checked(len) else { break };
            client.frame(frame, 0);
            look(&mut client, &mut tokens);
            tokens.drain(..).rev().for_each(|token| client.acknowledge(token));
            rest = behind;
        }
        client.leave(0);
        look(&mut client, &mut tokens);
        assert!(asked.is_empty() && client.is_ended());
        client.take_output();
    }
});

//! A store that is full gives up the oldest readings, of which the sink has many in its memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::meter::Meter;
use super::{Receiver, sink};
use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, ledger_line, wait_until};

const WINDOW: u64 = 50;

/// A number, and text that cannot be compressed much.
fn payload(number: u64, seed: &mut u64) -> String {
    let mut text = String::with_capacity(4_000);
    while text.len() < 3_900 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _ = write!(text, "{:08x}", *seed >> 32);
    }
    format!("{{\"value\":20.5,\"seq\":{number},\"attributes\":{{\"note\":\"{text}\"}}}}")
}

/// What is counted as expired does not arrive, and what arrives is what is counted as delivered.
#[test]
fn what_a_full_store_has_given_up_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let meter = Meter::start(receiver.address);
    meter.set_open(false);
    let address = meter.address;
    let config = format!(
        "store.size_max = '16MiB'\n[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'http://{address}/in'\ntimeout = '5s'\nstreams = ['raw']\n"
    );
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[("NO_PROXY", "*")]);
    let expired = || ledger_line(&gateway.status(), "web", "raw")["expired"].as_u64().unwrap();
    let mut device = Client::connect(gateway.mqtt, "device");
    let (mut published, mut seed) = (0, 7);
    while expired() < 300 {
        assert!(published < 50_000, "the store never fills");
        let mut packets = Vec::new();
        for number in published + 1..=published + WINDOW {
            let id = device.next_packet_id();
            packets.extend(publish_packet(
                "devices/a/temperature",
                payload(number, &mut seed).as_bytes(),
                1,
                false,
                false,
                id,
            ));
        }
        device.send(&packets);
        (0..WINDOW).for_each(|_| assert_eq!(device.packet().unwrap().first, 0x40));
        published += WINDOW;
    }
    // They were read before they were given up.
    wait_until("the sink to have failed", || sink(&gateway.status(), "raw")["last_error"].is_string());
    meter.set_open(true);
    wait_until("everything is delivered", || ledger_line(&gateway.status(), "web", "raw")["buffered"] == 0);
    let arrived: BTreeSet<u64> = receiver.records().iter().filter_map(|record| record["seq"].as_u64()).collect();
    let status = gateway.status();
    let line = ledger_line(&status, "web", "raw");
    let count = |name: &str| line[name].as_u64().unwrap();
    assert_eq!(count("delivered"), arrived.len() as u64, "{line}");
    assert_eq!(count("accepted"), count("delivered") + count("expired"), "{line}");
    assert_eq!(arrived.first(), Some(&(published - arrived.len() as u64 + 1)), "the newest are there");
    assert_eq!(arrived.last(), Some(&published));
}

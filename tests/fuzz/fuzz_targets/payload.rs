//! A topic and a payload, separated by a line feed, through the built-in routes: taken whole or not at all.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use outrider::core::reading::Readings;
use outrider::ingest::{ClockState, Decoded, Ingest};

const RECEIVED_AT_MS: i64 = 1_795_465_865_131;

thread_local! {
    static INGEST: RefCell<Ingest> = RefCell::new(Ingest::new(Ingest::default_routes(), ClockState::new(true)));
}

fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (metric, payload) = input.split_at(at);
    let topic = format!("devices/d/{}", String::from_utf8_lossy(metric));
    INGEST.with_borrow_mut(|ingest| {
        let mut readings = Readings::default();
        match ingest.decode(&topic, payload, RECEIVED_AT_MS, &mut readings) {
            Decoded::Stored { readings: stored } => assert_eq!(stored, readings.len()),
            Decoded::Unrouted | Decoded::Undecodable { .. } => assert_eq!(readings.len(), 0),
        }
        assert!(readings.iter().all(|reading| !reading.device.is_empty() && !reading.metric.is_empty()));
        ingest.carries_number(payload);
    });
});

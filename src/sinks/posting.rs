//! What the sections of sinks have in common that send whole requests to a service: which streams they take, how much a request holds, and how long it waits.

use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::keys::key::Fallback::Literal;
use crate::keys::key::{Group, Key, count, key_of, milliseconds, seconds, size};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB};
use crate::sinks::kind::Surroundings;

pub const fn batch_delay(group: Group, default: &'static str) -> Key {
    let about = "How long a stored record waits for others to share its request.";
    key_of(group, "batch_delay", milliseconds(0, 60_000), Literal(default), about)
}

pub const fn requests_in_flight(group: Group) -> Key {
    let about = "Most requests in flight at one time, for each stream.";
    key_of(group, "requests_in_flight", count(1, 64), Literal("2"), about)
}

pub const fn held_size_max(group: Group, default: &'static str) -> Key {
    let about = "The most that is read from the store and not yet acknowledged, for each stream.";
    key_of(group, "held_size_max", size(256 * KIB, GIB), Literal(default), about)
}

pub const fn connect_timeout(group: Group) -> Key {
    key_of(group, "connect_timeout", seconds(1, 60), Literal("\"5s\""), "Time limit for connecting.")
}

pub const fn timeout(group: Group, default: &'static str) -> Key {
    let about = "Time limit for the response; after it the request is sent again.";
    key_of(group, "timeout", seconds(1, 300), Literal(default), about)
}

/// The streams that a section names; `None` is every one. `done` is what becomes of a stream, as in "is posted".
pub fn streams(section: &mut Section<'_>, surroundings: &Surroundings<'_>, done: &str) -> Option<Vec<String>> {
    let streams = section.texts_if_there("streams");
    for name in streams.iter().flatten() {
        surroundings.expect_stream(section, "streams", name);
    }
    if streams.as_ref().is_some_and(Vec::is_empty) {
        section.blame("streams", format!("names no stream; without this key, every stream is {done}"));
    }
    streams
}

/// How lines become records of a device, and records requests, by the keys above. Lines are added to a record of less than `record_bytes_soft`.
pub fn delivery(section: &mut Section<'_>, request_records_max: usize, record_bytes_soft: usize) -> DeliverySettings {
    let request_bytes_max = section.bytes("request_size_max");
    DeliverySettings {
        grouping: Grouping::Lines,
        partition: Partition::Device,
        linger_us: u64::try_from(section.duration("batch_delay").as_micros()).unwrap_or(u64::MAX),
        age_us_max: None,
        record_bytes_soft: record_bytes_soft.min(request_bytes_max),
        record_bytes_max: request_bytes_max,
        request_records_max,
        request_bytes_max,
        requests_in_flight_max: section.count("requests_in_flight"),
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    }
}

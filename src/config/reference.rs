//! Every key: its allowed values, its default, and its purpose, section by section.
//!
//! The parser takes kinds, ranges and defaults from here only, and a test compares `config/outrider.toml` with these tables.

mod bridges;
mod detection;
mod gateway;
mod ingest;
mod mqtt;
mod rules;
mod sinks;

use std::sync::LazyLock;

use crate::keys::key::Key;
use crate::sinks::registry;

/// The sections in the order of the documents.
const SECTIONS: [&[Key]; 23] = [
    gateway::GATEWAY,
    gateway::STORE,
    mqtt::MQTT,
    mqtt::LISTENER,
    mqtt::RIGHT,
    gateway::ADMIN,
    ingest::INGEST,
    detection::DETECTION,
    detection::ALERT,
    ingest::ROUTE,
    ingest::FILE,
    detection::LIMIT,
    detection::PROFILE,
    rules::STREAM,
    rules::RULES,
    rules::TABLE,
    detection::MODEL,
    rules::RULE,
    sinks::AWS,
    sinks::LINK,
    sinks::SINK,
    sinks::TRAVEL,
    bridges::BRIDGE,
];

/// All keys: those of the sections, and those of each type of sink.
pub fn all() -> &'static [&'static Key] {
    static ALL: LazyLock<Vec<&'static Key>> = LazyLock::new(|| {
        let of_sinks = registry::KINDS.iter().flat_map(|kind| kind.keys);
        SECTIONS.into_iter().flatten().chain(of_sinks).collect()
    });
    &ALL
}

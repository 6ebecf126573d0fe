//! Of each `[[bridge]]`.

use super::text::Text;
use crate::admin::status::{BridgeStatus, Status};

/// Name, kind, help and value of a metric of each `[[bridge]]`.
type OfBridges = (&'static str, &'static str, &'static str, fn(&BridgeStatus) -> f64);

const OF_BRIDGES: [OfBridges; 14] = [
    ("bridge_connected", "gauge", "1 while there is a connection to the other broker", |bridge| {
        f64::from(u8::from(bridge.connected))
    }),
    ("bridge_connections_total", "counter", "connections since the start", |bridge| bridge.connections as f64),
    ("bridge_filters_refused", "gauge", "filters that the other broker does not grant", |bridge| {
        bridge.filters_refused as f64
    }),
    ("bridge_received_total", "counter", "messages that came in and are stored, since the start", |bridge| {
        bridge.received as f64
    }),
    (
        "bridge_received_refused_total",
        "counter",
        "messages that came in and were left out, since the start",
        |bridge| bridge.received_refused as f64,
    ),
    ("bridge_sent_total", "counter", "messages that the other broker has, since the start", |bridge| {
        bridge.sent as f64
    }),
    ("bridge_sent_refused_total", "counter", "messages that the other broker never takes, since the start", |bridge| {
        bridge.sent_refused as f64
    }),
    (
        "bridge_dropped_total",
        "counter",
        "messages for the other broker that found no room, since the start",
        |bridge| bridge.dropped as f64,
    ),
    ("bridge_waiting", "gauge", "messages that wait for the other broker", |bridge| bridge.waiting as f64),
    ("bridge_commands_total", "counter", "commands that were published by their ids, since the start", |bridge| {
        bridge.commands as f64
    }),
    ("bridge_commands_repeated_total", "counter", "commands that came again, since the start", |bridge| {
        bridge.commands_repeated as f64
    }),
    (
        "bridge_commands_without_id_total",
        "counter",
        "messages on command topics without an id, since the start",
        |bridge| bridge.commands_without_id as f64,
    ),
    ("bridge_commands_waiting", "gauge", "commands that wait until the clock is set", |bridge| {
        bridge.commands_waiting as f64
    }),
    (
        "bridge_commands_without_room",
        "gauge",
        "commands that are not acknowledged, because too many wait until the clock is set",
        |bridge| bridge.commands_without_room as f64,
    ),
];

pub fn write(text: &mut Text, status: &Status) {
    if status.bridges.is_empty() {
        return;
    }
    for (name, kind, help, value) in OF_BRIDGES {
        text.family(name, kind, help);
        for bridge in &status.bridges {
            text.sample(name, &[("bridge", &bridge.name)], value(bridge));
        }
    }
    text.family(
        "bridge_commands_refused_total",
        "counter",
        "commands that were not published, by reason, since the start",
    );
    for bridge in &status.bridges {
        for (reason, count) in &bridge.commands_refused {
            text.sample(
                "bridge_commands_refused_total",
                &[("bridge", &bridge.name), ("reason", reason)],
                *count as f64,
            );
        }
    }
}

//! What the status says of each `[[bridge]]`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bridge::status::{BridgeSource, BridgeState};
use crate::core::bridge::Refusal;

/// One `[[bridge]]`; counts are since the start.
#[derive(Debug, Serialize)]
pub struct BridgeStatus {
    pub name: String,
    pub url: String,
    pub connected: bool,
    /// Since when.
    pub connected_at_ms: Option<i64>,
    pub connections: u64,
    /// What was wrong last; `None` once there is a connection again.
    pub last_error: Option<String>,
    /// Filters that the other broker does not grant.
    pub filters_refused: u64,
    /// Messages that came in and are stored.
    pub received: u64,
    /// Messages that came in and were left out: too large, for nobody's topic, or for one that belongs to the gateway.
    pub received_refused: u64,
    /// Messages that the other broker has.
    pub sent: u64,
    /// Messages that the other broker never takes.
    pub sent_refused: u64,
    /// Messages for the other broker that found no room.
    pub dropped: u64,
    /// Messages that wait for the other broker.
    pub waiting: u64,
    /// Commands that were published, by their ids.
    pub commands: u64,
    /// Commands that came again and were not published again.
    pub commands_repeated: u64,
    /// Messages on command topics without an id, published like any other.
    pub commands_without_id: u64,
    /// Commands that wait until the clock is set.
    pub commands_waiting: u64,
    /// Commands for which there is no room to wait: the other broker keeps them.
    pub commands_without_room: u64,
    /// Commands that were not published, by reason.
    pub commands_refused: BTreeMap<&'static str, u64>,
}

impl BridgeStatus {
    pub fn of(source: &BridgeSource) -> BridgeStatus {
        let BridgeState { connected_at_ms, connections, last_error, filters_refused, .. } = source.state();
        let counters = &source.counters;
        let refused = Refusal::ALL.iter().zip(&counters.commands_refused);
        BridgeStatus {
            name: source.name.clone(),
            url: source.url.clone(),
            connected: connected_at_ms.is_some(),
            connected_at_ms,
            connections,
            last_error,
            filters_refused,
            received: counters.received.get(),
            received_refused: counters.received_refused.get(),
            sent: counters.sent.get(),
            sent_refused: counters.sent_refused.get(),
            dropped: counters.dropped.get(),
            waiting: counters.waiting.get(),
            commands: counters.commands.get(),
            commands_repeated: counters.commands_repeated.get(),
            commands_without_id: counters.commands_without_id.get(),
            commands_waiting: counters.commands_waiting.get(),
            commands_without_room: counters.commands_without_room.get(),
            commands_refused: refused.map(|(refusal, counter)| (refusal.name(), counter.get())).collect(),
        }
    }
}

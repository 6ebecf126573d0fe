//! The limits of the MQTT side. What concerns one listener or one of its clients is in [`super::listener`].

/// All limits of the MQTT side.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub connections_max: usize,
    /// The part of the connections that one address may have, or one /64 of IPv6.
    pub connections_a_host_percent: usize,
    /// The largest packet that any listener takes.
    pub packet_bytes_max: usize,
    /// Most bytes of incomplete packets that are larger than a few KiB, over all connections.
    pub packets_under_way_bytes_max: usize,
    /// Most levels of all filters together.
    pub filter_levels_max: usize,
    pub retained_max: usize,
    pub retained_bytes_max: usize,
    /// Most bytes that may wait for all subscribers together.
    pub subscribers_bytes_max: usize,
    /// Most bytes of retained messages, and of messages for sessions that are stored, in the store.
    pub stored_bytes_max: usize,
    pub persistent_sessions_max: usize,
    /// Connections with much work take turns. Without it, one could block all; only tests switch it off, to show that they would notice.
    pub takes_turns: bool,
    /// The gateway's own messages, and filters on them, have reserved room. Again, only tests switch it off.
    pub reserves_own: bool,
    pub unrouted: Unrouted,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        EdgeSettings {
            connections_max: 4096,
            connections_a_host_percent: 75,
            packet_bytes_max: 256 * 1024,
            packets_under_way_bytes_max: 16 << 20,
            filter_levels_max: 65_536,
            retained_max: 10_000,
            retained_bytes_max: 16 << 20,
            subscribers_bytes_max: 64 << 20,
            stored_bytes_max: 80 << 20,
            persistent_sessions_max: 1024,
            takes_turns: true,
            reserves_own: true,
            unrouted: Unrouted::Pass,
        }
    }
}

/// What is done with a publish that no route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// Ordinary MQTT: passed on to subscribers, not stored.
    Pass,
    /// Acknowledged, so that it is not sent again, and dropped.
    Reject,
}

//! The cloud's statistics, for tests and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyStats {
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardStats {
    pub records: u64,
    pub bytes: u64,
    /// Refused by the shard's own limits, not by a fault.
    pub records_throttled: u64,
}

/// What one stream accepted. A record holds one or more lines; a line with gateway, run and position is identified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamStats {
    /// PutRecords calls with at least one accepted record.
    pub requests: u64,
    /// Body bytes of all PutRecords calls that named the stream, whatever their result.
    pub body_bytes: u64,
    pub records: u64,
    pub bytes: u64,
    /// By limits and by faults together.
    pub records_throttled: u64,
    pub records_failed: u64,
    pub lines: u64,
    /// Distinct identities.
    pub distinct: u64,
    pub duplicates: u64,
    /// Distinct lines, by type.
    pub readings: u64,
    pub anomalies: u64,
    pub alerts: u64,
    pub gateway: u64,
    pub other: u64,
    /// Lines without an identity; only `lines` counts them.
    pub unidentified: u64,
    /// Identified lines beyond the memory limits of the tally: if this is not 0, `distinct` is too low.
    pub uncounted: u64,
    pub runs: u64,
    pub devices: u64,
    /// First sends whose `seq` is below one that the device sent before.
    pub sequence_regressions: u64,
    /// First sends whose position is below an earlier one of the same device and run.
    pub position_regressions: u64,
    /// From `measured_at_ms` to arrival here, first sends only.
    pub since_measured_ms: LatencyStats,
    /// From `received_at_ms` to arrival here, first sends only.
    pub since_received_ms: LatencyStats,
    pub first_record_at_ms: Option<i64>,
    pub last_record_at_ms: Option<i64>,
    pub shards: Vec<ShardStats>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// API calls that arrived completely, whatever their result.
    pub requests: u64,
    /// Accepted connections.
    pub connections: u64,
    pub streams: BTreeMap<String, StreamStats>,
    /// How often each fault struck, and each limit was enforced, by name.
    pub faults: BTreeMap<String, u64>,
    pub uptime_seconds: f64,
    /// Processor time of the cloud's own thread, if the system tells.
    pub cpu_seconds: Option<f64>,
}

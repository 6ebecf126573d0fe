//! One stream: its shards with their limits, and what they accepted.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::Bucket;
use crate::settings::{ShardLimits, StreamSettings};
use crate::stats::{ShardStats, StreamStats};
use crate::tally::Tally;

/// An accepted record. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Index of the shard.
    pub shard: u32,
    /// Increases with each record that the cloud accepts, so within a shard too.
    pub sequence: u64,
    pub partition_key: Arc<str>,
    pub data: Bytes,
    /// The PutRecords call that brought it, counted from 1 over all streams.
    pub request_number: u64,
    pub arrived_at_ms: i64,
}

#[derive(Debug)]
struct Shard {
    records_bucket: Bucket,
    bytes_bucket: Bucket,
    records: u64,
    bytes: u64,
    records_throttled: u64,
}

impl Shard {
    fn new(limits: ShardLimits, now_ns: u64) -> Self {
        Shard {
            records_bucket: Bucket::new(limits.records_per_second, now_ns),
            bytes_bucket: Bucket::new(limits.bytes_per_second, now_ns),
            records: 0,
            bytes: 0,
            records_throttled: 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// The stream is unknown before this time since the start of the cloud.
    pub(crate) appears_at_ns: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) tally: Tally,
    pub(crate) requests: u64,
    pub(crate) body_bytes: u64,
    pub(crate) records_throttled: u64,
    pub(crate) records_failed: u64,
    pub(crate) first_record_at_ms: Option<i64>,
    pub(crate) last_record_at_ms: Option<i64>,
    shards: Vec<Shard>,
}

impl Stream {
    pub(crate) fn new(settings: &StreamSettings, now_ns: u64) -> Self {
        let appears_at_ns = now_ns.saturating_add(settings.appears_after.as_nanos().min(u128::from(u64::MAX)) as u64);
        Stream {
            appears_at_ns,
            records: Vec::new(),
            tally: Tally::new(),
            requests: 0,
            body_bytes: 0,
            records_throttled: 0,
            records_failed: 0,
            first_record_at_ms: None,
            last_record_at_ms: None,
            shards: (0..settings.shards).map(|_| Shard::new(settings.shard_limits, now_ns)).collect(),
        }
    }

    pub(crate) fn shard_count(&self) -> u32 {
        self.shards.len() as u32
    }

    /// First and last hash key of a shard: the key space is divided evenly, and the last shard takes the remainder.
    pub(crate) fn hash_range(&self, shard: u32) -> (u128, u128) {
        let width = u128::MAX / u128::from(self.shard_count());
        let last = if shard + 1 == self.shard_count() { u128::MAX } else { width * u128::from(shard + 1) - 1 };
        (width * u128::from(shard), last)
    }

    pub(crate) fn shard_of(&self, hash_key: u128) -> u32 {
        let width = u128::MAX / u128::from(self.shard_count());
        // Below 2^32: the quotient is at most the number of shards.
        ((hash_key / width) as u32).min(self.shard_count() - 1)
    }

    pub(crate) fn set_limits(&mut self, shard: Option<u32>, limits: ShardLimits, now_ns: u64) {
        let chosen = self.shards.iter_mut().enumerate().filter(|(i, _)| shard.is_none_or(|shard| shard as usize == *i));
        for (_, shard) in chosen {
            shard.records_bucket = Bucket::new(limits.records_per_second, now_ns);
            shard.bytes_bucket = Bucket::new(limits.bytes_per_second, now_ns);
        }
    }

    /// Takes the record from the shard's allowance; `false` if that is used up.
    pub(crate) fn admit(&mut self, shard: u32, bytes: u64, now_ns: u64) -> bool {
        let shard = &mut self.shards[shard as usize];
        if !shard.records_bucket.holds(1, now_ns) || !shard.bytes_bucket.holds(bytes, now_ns) {
            shard.records_throttled += 1;
            return false;
        }
        shard.records_bucket.take(1);
        shard.bytes_bucket.take(bytes);
        shard.records += 1;
        shard.bytes += bytes;
        true
    }

    /// Forgets all records and counts; shards keep their limits and the rest of their allowance.
    pub(crate) fn forget(&mut self) {
        self.records = Vec::new();
        self.tally = Tally::new();
        (self.requests, self.body_bytes, self.records_throttled, self.records_failed) = (0, 0, 0, 0);
        (self.first_record_at_ms, self.last_record_at_ms) = (None, None);
        for shard in &mut self.shards {
            (shard.records, shard.bytes, shard.records_throttled) = (0, 0, 0);
        }
    }

    pub(crate) fn stats(&self) -> StreamStats {
        let tally = &self.tally;
        let [readings, anomalies, alerts, gateway, other] = tally.by_kind;
        StreamStats {
            requests: self.requests,
            body_bytes: self.body_bytes,
            records: self.shards.iter().map(|shard| shard.records).sum(),
            bytes: self.shards.iter().map(|shard| shard.bytes).sum(),
            records_throttled: self.records_throttled,
            records_failed: self.records_failed,
            lines: tally.lines,
            distinct: tally.distinct,
            duplicates: tally.duplicates,
            readings,
            anomalies,
            alerts,
            gateway,
            other,
            unidentified: tally.unidentified,
            uncounted: tally.uncounted,
            runs: tally.runs(),
            devices: tally.devices(),
            sequence_regressions: tally.sequence_regressions,
            position_regressions: tally.position_regressions,
            since_measured_ms: tally.since_measured.stats(),
            since_received_ms: tally.since_received.stats(),
            first_record_at_ms: self.first_record_at_ms,
            last_record_at_ms: self.last_record_at_ms,
            shards: self.shards.iter().map(shard_stats).collect(),
        }
    }
}

fn shard_stats(shard: &Shard) -> ShardStats {
    ShardStats { records: shard.records, bytes: shard.bytes, records_throttled: shard.records_throttled }
}

pub(crate) fn shard_id(shard: u32) -> String {
    format!("shardId-{shard:012}")
}

pub(crate) fn parse_shard_id(id: &str) -> Option<u32> {
    id.strip_prefix("shardId-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Stream;
    use crate::settings::{ShardLimits, StreamSettings};

    #[test]
    fn hash_ranges_cover_the_space_without_gaps() {
        for shards in [1, 2, 3, 4, 7, 1_000] {
            let name = "s".to_owned();
            let (shard_limits, appears_after) = (ShardLimits::UNLIMITED, Duration::ZERO);
            let stream = Stream::new(&StreamSettings { name, shards, shard_limits, appears_after }, 0);
            let mut next = Some(0);
            for shard in 0..shards {
                let (first, last) = stream.hash_range(shard);
                assert_eq!(Some(first), next);
                assert_eq!((stream.shard_of(first), stream.shard_of(last)), (shard, shard));
                next = last.checked_add(1);
            }
            assert_eq!(next, None);
        }
    }
}

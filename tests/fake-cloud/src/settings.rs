//! The settings of a cloud.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::Faults;

/// What is kept of the accepted records. Both modes count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Keeps every record in memory to be looked at: for tests.
    #[default]
    Keep,
    /// Keeps only counts, in bounded memory: for benchmarks.
    Count,
}

/// What one shard accepts per second; `None` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardLimits {
    pub records_per_second: Option<u64>,
    pub bytes_per_second: Option<u64>,
}

impl ShardLimits {
    /// The limits of a provisioned shard of Amazon Kinesis.
    pub const KINESIS: ShardLimits =
        ShardLimits { records_per_second: Some(1_000), bytes_per_second: Some(1024 * 1024) };
    pub const UNLIMITED: ShardLimits = ShardLimits { records_per_second: None, bytes_per_second: None };
}

/// Limits of a request, independent of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub records_a_request: usize,
    /// For the data and the partition key together.
    pub record_bytes: usize,
    /// For all data and partition keys of a request together.
    pub request_bytes: usize,
    pub partition_key_chars: usize,
}

impl Limits {
    /// The limits of one PutRecordBatch request, whose records have no keys.
    pub const FIREHOSE: Limits = Limits {
        records_a_request: 500,
        record_bytes: 1_000 * 1024,
        request_bytes: 4 * 1024 * 1024,
        partition_key_chars: 0,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            records_a_request: 500,
            record_bytes: 1024 * 1024,
            request_bytes: 5 * 1024 * 1024,
            partition_key_chars: 256,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    pub name: String,
    /// At least 1, at most [`StreamSettings::SHARDS_MAX`].
    pub shards: u32,
    pub shard_limits: ShardLimits,
    /// How long after the start the stream stays unknown.
    pub appears_after: Duration,
}

impl StreamSettings {
    pub const SHARDS_MAX: u32 = 10_000;
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub mode: Mode,
    pub limits: Limits,
    /// For streams made later by CreateStream, and for those added by [`Settings::stream`] after it was set.
    pub shard_limits: ShardLimits,
    pub streams: Vec<StreamSettings>,
    pub faults: Faults,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode: Mode::default(),
            limits: Limits::default(),
            shard_limits: ShardLimits::KINESIS,
            streams: Vec::new(),
            faults: Faults::default(),
            seed: 1,
        }
    }
}

impl Settings {
    /// Adds a stream that exists from the start, with the shard limits set so far.
    pub fn stream(mut self, name: &str, shards: u32) -> Self {
        let (name, shard_limits) = (name.to_owned(), self.shard_limits);
        self.streams.push(StreamSettings { name, shards, shard_limits, appears_after: Duration::ZERO });
        self
    }
}

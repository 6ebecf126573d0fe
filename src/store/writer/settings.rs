//! What a writer is made from, and what it reports.

use std::path::{Path, PathBuf};

use crate::core::identity::{NamedStream, Stream};
use crate::store::cursors::DroppedSink;
use crate::store::retention::{Capacity, Deleted, Room};
use crate::store::schema::{self, Synchronous};

#[derive(Clone, Debug)]
pub struct WriterSettings {
    pub path: PathBuf,
    /// Id of the gateway that accepts the records.
    pub gateway: String,
    pub synchronous: Synchronous,
    pub vfs: Option<String>,
    pub capacity: Capacity,
    /// Streams of the configuration, besides the built-in ones.
    pub streams: Vec<NamedStream>,
}

impl WriterSettings {
    /// Of the tests' store in this folder: a small one that is synced with every commit.
    pub fn for_tests(folder: &Path) -> WriterSettings {
        WriterSettings {
            path: schema::store_path(folder),
            gateway: "g".to_owned(),
            synchronous: Synchronous::Full,
            vfs: None,
            capacity: Capacity::new(64 << 20),
            streams: Vec::new(),
        }
    }
}

/// Result of a commit, for counters and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    pub expired: Vec<(Stream, u64)>,
    /// Records that only sinks wanted which are not configured, removed to make room.
    pub given_up: u64,
    pub deleted: Deleted,
    pub used_bytes: u64,
    /// Compressed size of the payloads that it stored.
    pub payload_bytes: u64,
    pub room: Room,
    /// What further raw readings may take.
    pub left_for_raw: u64,
    /// Records of a damaged store that could not be salvaged, once that is known.
    pub lost: u64,
    pub dropped_sinks: Vec<(String, DroppedSink)>,
}

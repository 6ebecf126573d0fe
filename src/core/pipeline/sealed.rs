//! What a commit makes durable, as the store takes it.

use crate::core::identity::Stream;

/// A batch as the store takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    pub stream: Stream,
    /// Local sequence of its last record.
    pub last_sequence: u64,
    pub first_position: u64,
    pub count: u32,
    pub first_ms: i64,
    pub last_ms: i64,
    pub payload: Vec<u8>,
}

/// State of some series, for a start that needs no new warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    pub index: u32,
    /// The last raw record that it has seen.
    pub sequence: u64,
    pub state: Vec<u8>,
}

/// An alert as it stands after this commit; without a body it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    pub device: String,
    pub metric: String,
    pub kind: String,
    /// Its record, which is its retained message too.
    pub body: Option<Vec<u8>>,
}

/// All that one commit makes durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// In the order of their sequences, within each stream.
    pub batches: Vec<SealedBatch>,
    pub alerts: Vec<AlertRow>,
    pub snapshot: Vec<SnapshotChunk>,
    /// With these chunks the snapshot is whole: it has so many, and what an earlier one had beyond them is old.
    pub snapshot_chunks: Option<u32>,
    /// Raw records up to here are in the snapshot, once this is committed.
    pub snapshot_covers: u64,
    pub received: Vec<(&'static str, u64)>,
}

impl Sealed {
    /// The batches of one stream.
    pub fn of(&self, stream: Stream) -> impl Iterator<Item = &SealedBatch> {
        self.batches.iter().filter(move |batch| batch.stream == stream)
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.alerts.is_empty()
            && self.snapshot.is_empty()
            && self.snapshot_chunks.is_none()
            && self.received.is_empty()
    }
}

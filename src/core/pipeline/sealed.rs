//! What a commit makes durable, as the store takes it.

use crate::identity::Stream;

/// A batch as the store takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Where its records belong.
    pub stream: Stream,
    /// Local sequence of its last record.
    pub last_sequence: u64,
    /// Position of its first record; the others follow without a gap.
    pub first_position: u64,
    /// Number of its records, at least 1.
    pub count: u32,
    /// When its first record was received, in milliseconds since 1970 (UTC).
    pub first_ms: i64,
    /// When its last record was received, in milliseconds since 1970 (UTC).
    pub last_ms: i64,
    /// As [`BatchEncoder::finish`](crate::batch::BatchEncoder::finish) gives it; not compressed.
    pub payload: Vec<u8>,
}

/// A part of the detectors' state, for a start without a new warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Place in the snapshot, from 0 on; it replaces the chunk of the same index.
    pub index: u32,
    /// Sequence of the last raw record that it takes into account.
    pub sequence: u64,
    /// Bytes for [`Pipeline::restore`](super::Pipeline::restore).
    pub state: Vec<u8>,
}

/// An alert as it stands after this commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// As in [`AlertKey::device`](crate::detection::alert::AlertKey::device).
    pub device: String,
    /// As in [`AlertKey::metric`](crate::detection::alert::AlertKey::metric).
    pub metric: String,
    /// As in [`AlertKey::kind`](crate::detection::alert::AlertKey::kind).
    pub kind: String,
    /// Its record, which is its retained message too. `None` if the alert is gone.
    pub body: Option<Vec<u8>>,
}

/// All that one commit makes durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Batches of each stream are in the order of their sequences.
    pub batches: Vec<SealedBatch>,
    /// Alerts that changed, in the order in which they did.
    pub alerts: Vec<AlertRow>,
    /// Chunks of the snapshot under way; few at a time, so that no commit is large.
    pub snapshot: Vec<SnapshotChunk>,
    /// Set when these chunks complete the snapshot: how many it has. Chunks of an earlier one with a higher index are out of date.
    pub snapshot_chunks: Option<u32>,
    /// Once this is committed, the snapshot covers raw records up to this sequence.
    pub snapshot_covers: u64,
    /// Amounts to be added to the store's totals, by the total's name; none is 0.
    pub received: Vec<(&'static str, u64)>,
}

impl SealedBatch {
    /// Local sequence of its first record.
    pub fn first_sequence(&self) -> u64 {
        (self.last_sequence + 1).saturating_sub(u64::from(self.count)).max(1)
    }
}

impl Sealed {
    /// The batches of one stream.
    pub fn of(&self, stream: Stream) -> impl Iterator<Item = &SealedBatch> {
        self.batches.iter().filter(move |batch| batch.stream == stream)
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.alerts.is_empty()
            && self.snapshot.is_empty()
            && self.snapshot_chunks.is_none()
            && self.received.is_empty()
    }
}

//! What becomes of a reading: it is given its position, judged, and put into the open batch. Sealing hands the batch over to the writer.

use super::batch::BatchEncoder;
use super::identity::{RunId, Stream};
use super::reading::Readings;

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
    pub revision: u32,
    pub body: Option<Vec<u8>>,
}

/// All that one commit makes durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    pub raw: Option<SealedBatch>,
    pub anomalies: Option<SealedBatch>,
    pub alerts: Vec<AlertRow>,
    pub snapshot: Vec<SnapshotChunk>,
    /// Raw records up to here are in the snapshot.
    pub snapshot_covers: u64,
    pub received: Vec<(&'static str, u64)>,
}

impl Sealed {
    pub fn batches(&self) -> impl Iterator<Item = &SealedBatch> {
        self.raw.iter().chain(&self.anomalies)
    }

    pub fn is_empty(&self) -> bool {
        self.batches().next().is_none()
            && self.alerts.is_empty()
            && self.snapshot.is_empty()
            && self.received.is_empty()
    }
}

/// The open batch of one stream and the next numbers to give.
#[derive(Debug)]
struct OpenBatch {
    stream: Stream,
    encoder: BatchEncoder,
    /// Last position given in this run; the first is 1.
    position: u64,
    sequence: u64,
    first_ms: i64,
    last_ms: i64,
}

impl OpenBatch {
    fn new(stream: Stream, last_sequence: u64) -> Self {
        OpenBatch {
            stream,
            encoder: BatchEncoder::default(),
            position: 0,
            sequence: last_sequence,
            first_ms: 0,
            last_ms: 0,
        }
    }

    fn number(&mut self, received_at_ms: i64) {
        if self.encoder.count() == 0 {
            self.first_ms = received_at_ms;
        }
        self.last_ms = received_at_ms;
        self.position += 1;
        self.sequence += 1;
    }

    fn seal(&mut self) -> Option<SealedBatch> {
        let count = self.encoder.count();
        (count > 0).then(|| SealedBatch {
            stream: self.stream,
            last_sequence: self.sequence,
            first_position: self.position + 1 - u64::from(count),
            count,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            payload: self.encoder.finish(),
        })
    }
}

/// One owner, no locks: the pipeline thread drives it, and so can a test.
#[derive(Debug)]
pub struct Pipeline {
    run: RunId,
    raw: OpenBatch,
    accepted: u64,
}

impl Pipeline {
    pub fn new(run: RunId, last_raw_sequence: u64) -> Pipeline {
        Pipeline { run, raw: OpenBatch::new(Stream::Raw, last_raw_sequence), accepted: 0 }
    }

    pub fn run(&self) -> RunId {
        self.run
    }

    /// Records waiting in the open batch.
    pub fn open_count(&self) -> u32 {
        self.raw.encoder.count()
    }

    pub fn open_bytes(&self) -> usize {
        self.raw.encoder.byte_size()
    }

    pub fn take(&mut self, readings: &Readings) {
        for reading in readings.iter() {
            self.raw.number(reading.received_at_ms);
            self.raw.encoder.push_reading(&reading);
        }
        self.accepted += readings.len() as u64;
    }

    pub fn seal(&mut self) -> Sealed {
        let accepted = std::mem::take(&mut self.accepted);
        Sealed {
            raw: self.raw.seal(),
            snapshot_covers: self.raw.sequence,
            received: if accepted > 0 { vec![("accepted", accepted)] } else { Vec::new() },
            ..Sealed::default()
        }
    }
}

//! The batches of a stream for the next commit: the one being filled, and those that are full.

use super::SealedBatch;
use crate::batch::{BatchEncoder, CLOSED_AT_BYTES};
use crate::identity::Stream;

/// The open batch of one stream, those that were full before it, and the next numbers to give.
#[derive(Debug)]
pub struct OpenBatch {
    stream: Stream,
    pub encoder: BatchEncoder,
    full: Vec<SealedBatch>,
    /// The last position that was given in this run; the first is 1.
    pub position: u64,
    pub sequence: u64,
    first_ms: i64,
    last_ms: i64,
}

impl OpenBatch {
    pub fn new(stream: Stream, last_sequence: u64) -> Self {
        OpenBatch {
            stream,
            encoder: BatchEncoder::default(),
            full: Vec::new(),
            position: 0,
            sequence: last_sequence,
            first_ms: 0,
            last_ms: 0,
        }
    }

    /// Gives the next record its position. A batch that is large enough is closed first.
    pub fn number(&mut self, received_at_ms: i64) -> u64 {
        if self.encoder.byte_size() >= CLOSED_AT_BYTES {
            self.close();
        }
        if self.encoder.count() == 0 {
            self.first_ms = received_at_ms;
        }
        self.last_ms = received_at_ms;
        self.position += 1;
        self.sequence += 1;
        self.position
    }

    fn close(&mut self) {
        let count = self.encoder.count();
        if count > 0 {
            self.full.push(SealedBatch {
                stream: self.stream,
                last_sequence: self.sequence,
                first_position: self.position + 1 - u64::from(count),
                count,
                first_ms: self.first_ms,
                last_ms: self.last_ms,
                payload: self.encoder.finish(),
            });
        }
    }

    pub fn count(&self) -> u32 {
        self.encoder.count() + self.full.iter().map(|batch| batch.count).sum::<u32>()
    }

    pub fn byte_size(&self) -> usize {
        self.encoder.byte_size() + self.full.iter().map(|batch| batch.payload.len()).sum::<usize>()
    }

    pub fn seal(&mut self) -> Vec<SealedBatch> {
        self.close();
        std::mem::take(&mut self.full)
    }
}

//! Reads one stream of the store in order, and offers its lines.

use crate::core::batch::{Decoder, Stored};
use crate::core::delivery::Delivery;
use crate::core::identity::{RunId, Stream};
use crate::core::record;
use crate::store::reader::{FileId, HeldBatch, ReadError, Reader};

/// Lines offered before the forwarder looks at its replies again.
const LINES_A_TURN: usize = 2_000;

pub struct Source {
    reader: Reader,
    stream: Stream,
    /// The inside of a JSON string.
    gateway: String,
    batch: HeldBatch,
    /// The last sequence of the batch at hand; nothing beyond it is in memory.
    batch_through: u64,
    quarantined: u64,
}

/// What a turn of reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The turn is over, or the machine wants no more for now.
    Enough,
    /// Nothing more is stored.
    End,
}

impl Source {
    pub fn new(reader: Reader, stream: Stream, gateway: String) -> Self {
        Source { reader, stream, gateway, batch: HeldBatch::default(), batch_through: 0, quarantined: 0 }
    }

    /// The file that is read.
    pub fn file(&self) -> FileId {
        self.reader.file()
    }

    /// Records of damaged batches that were passed over since the last call.
    pub fn take_quarantined(&mut self) -> u64 {
        std::mem::take(&mut self.quarantined)
    }

    /// Offers the lines that come next, as many as are wanted and a turn allows.
    pub fn offer_to(&mut self, delivery: &mut Delivery, now_us: u64) -> rusqlite::Result<Read> {
        let mut lines_left = LINES_A_TURN;
        while lines_left > 0 && delivery.wants_more() {
            let after = delivery.offered_through();
            if after >= self.batch_through && !self.read_batch(delivery, now_us)? {
                return Ok(Read::End);
            }
            self.offer_batch(delivery, now_us, &mut lines_left);
        }
        Ok(Read::Enough)
    }

    /// Reads the batch after what was offered; damaged ones are passed over, counted.
    fn read_batch(&mut self, delivery: &mut Delivery, now_us: u64) -> rusqlite::Result<bool> {
        loop {
            match self.reader.next(self.stream, delivery.offered_through(), &mut self.batch) {
                Ok(true) => {
                    self.batch_through = self.batch.last_sequence;
                    return Ok(true);
                }
                Ok(false) => return Ok(false),
                Err(ReadError::Sqlite(error)) => return Err(error),
                Err(ReadError::Damaged { last_sequence, count }) => {
                    // What was cut away before the batch is not damaged, but gone: only the batch counts here.
                    let first = (last_sequence + 1).saturating_sub(u64::from(count));
                    delivery.skip_through(first.saturating_sub(1), now_us);
                    self.skip_damaged(delivery, last_sequence, now_us);
                }
            }
        }
    }

    fn skip_damaged(&mut self, delivery: &mut Delivery, last_sequence: u64, now_us: u64) {
        let count = last_sequence - delivery.offered_through();
        tracing::error!(last_sequence, count, "a stored batch is damaged and was skipped");
        self.quarantined += count;
        delivery.skip_through(last_sequence, now_us);
    }

    fn offer_batch(&mut self, delivery: &mut Delivery, now_us: u64, lines_left: &mut usize) {
        let run = self.batch.run.unwrap_or(RunId([0; 8]));
        let first_sequence = self.batch.first_sequence();
        let skip = (delivery.offered_through() + 1).saturating_sub(first_sequence);
        let Ok(decoder) = Decoder::new(&self.batch.payload) else {
            return self.skip_damaged(delivery, self.batch_through, now_us);
        };
        for (at, record) in (0u64..).zip(decoder).skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            if *lines_left == 0 || !delivery.wants_more() {
                return;
            }
            let (sequence, position) = (first_sequence + at, self.batch.first_position + at);
            match record {
                Ok(Stored::Reading(reading)) => delivery.offer(sequence, reading.device, now_us, |out| {
                    record::write_reading(out, &self.gateway, run, position, &reading);
                }),
                Ok(Stored::Line { device, line, .. }) => {
                    delivery.offer(sequence, device, now_us, |out| out.extend_from_slice(line));
                }
                Err(_) => return self.skip_damaged(delivery, self.batch_through, now_us),
            }
            *lines_left -= 1;
        }
        // A batch that holds fewer records than its row says is damaged as well.
        if delivery.offered_through() < self.batch_through {
            self.skip_damaged(delivery, self.batch_through, now_us);
        }
    }
}

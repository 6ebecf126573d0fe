//! Reads one stream of the store in order, and offers its lines to the delivery machine.

use crate::core::delivery::Delivery;
use crate::core::identity::Stream;
use crate::store::log::{Block, Entry};
use crate::store::reader::{FileId, Reader};

/// Most lines offered before the forwarder looks at its replies again.
const LINES_A_TURN: usize = 2_000;

pub struct Source {
    reader: Reader,
    stream: Stream,
    /// The block being read; nothing beyond it is in memory.
    block: Block,
    quarantined: u64,
}

/// How a turn of reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The turn is used up, or the machine wants no more for now.
    Enough,
    /// Nothing more is stored.
    End,
}

impl Source {
    pub fn new(reader: Reader, stream: Stream) -> Self {
        Source { reader, stream, block: Block::default(), quarantined: 0 }
    }

    /// The store's file that is being read.
    pub fn file(&self) -> FileId {
        self.reader.file()
    }

    /// Records of damaged batches skipped since the last call.
    pub fn take_quarantined(&mut self) -> u64 {
        std::mem::take(&mut self.quarantined)
    }

    /// Offers the next lines, as many as are wanted and a turn allows.
    pub fn offer_to(&mut self, delivery: &mut Delivery, now_us: u64) -> rusqlite::Result<Read> {
        let mut lines_left = LINES_A_TURN;
        while lines_left > 0 && delivery.wants_more() {
            let after = delivery.offered_through();
            if after >= self.block.last_sequence() && !self.reader.read(self.stream, after, &mut self.block)? {
                return Ok(Read::End);
            }
            self.offer_block(delivery, now_us, &mut lines_left);
        }
        Ok(Read::Enough)
    }

    /// Offers the lines of the current block; damaged ones are skipped and counted.
    fn offer_block(&mut self, delivery: &mut Delivery, now_us: u64, lines_left: &mut usize) {
        for entry in self.block.entries(delivery.offered_through()) {
            if *lines_left == 0 || !delivery.wants_more() {
                return;
            }
            match entry {
                Entry::Record(record) => {
                    delivery.offer(record.sequence, record.stored.device(), now_us, |out| {
                        record.write(out);
                    });
                    *lines_left -= 1;
                }
                Entry::Damaged { through, count } => {
                    tracing::error!(last_sequence = through, count, "a stored batch is damaged and is skipped");
                    self.quarantined += count;
                    delivery.skip_through(through, now_us);
                }
                Entry::Gap { through } => delivery.skip_through(through, now_us),
            }
        }
    }
}

//! Reads one stream of the store in order, and offers its lines to the delivery machine.

use crate::core::delivery::Delivery;
use crate::core::identity::Stream;
use crate::core::ranges::Ranges;
use crate::store::letters::{self, Letter, Selection};
use crate::store::log::{Block, Entry, Next};
use crate::store::reader::{FileId, Reader};

/// Most lines offered before the forwarder looks at its replies again.
const LINES_A_TURN: usize = 2_000;

pub struct Source {
    reader: Reader,
    stream: Stream,
    /// The block being read; nothing beyond it is in memory.
    block: Block,
    /// The block that is read for keys that are set aside, and behind which sequence it was looked for.
    aside: Block,
    aside_after: u64,
    damage: Damage,
}

/// Records that damage took, since it was last said where a sink is.
#[derive(Debug, Default)]
pub struct Damage {
    /// In damaged batches.
    pub unreadable: Ranges,
    /// Missing.
    pub lost: Ranges,
}

/// How a turn of reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The turn is used up, or the machine wants no more for now.
    Enough,
    /// Nothing more is stored.
    End,
    /// What comes next may still be taken over from a damaged store.
    Salvaging,
}

impl Source {
    pub fn new(reader: Reader, stream: Stream) -> Self {
        Source {
            reader,
            stream,
            block: Block::default(),
            aside: Block::default(),
            aside_after: 0,
            damage: Damage::default(),
        }
    }

    /// The store's file that is being read.
    pub fn file(&self) -> FileId {
        self.reader.file()
    }

    /// The first dead letter of a selection behind this id.
    pub fn next_letter(&mut self, selection: &Selection, after: i64) -> rusqlite::Result<Option<Letter>> {
        letters::next(self.reader.connection(), selection, after)
    }

    /// What could not be offered since the last call.
    pub fn take_damage(&mut self) -> Damage {
        std::mem::take(&mut self.damage)
    }

    /// Offers the next lines, as many as are wanted and a turn allows.
    pub fn offer_to(&mut self, delivery: &mut Delivery, now_us: u64) -> rusqlite::Result<Read> {
        let mut lines_left = LINES_A_TURN;
        while lines_left > 0 && delivery.wants_more() {
            let after = delivery.offered_through();
            if after >= self.block.last_sequence() {
                match self.reader.read_strictly(self.stream, after, &mut self.block)? {
                    Next::Block | Next::Missing => {}
                    Next::Salvaging => return Ok(Read::Salvaging),
                    Next::End => return Ok(Read::End),
                }
            }
            self.offer_block(delivery, now_us, &mut lines_left);
        }
        Ok(Read::Enough)
    }

    /// Offers the next block to the keys that are set aside, as far as they want it and as the cursor's own reading has come. What of it is
    /// damaged or gone is not counted here: either the cursor's own reading has counted it, or the store finds, when its keys follow the
    /// cursor again, that they have not got everything.
    pub fn offer_aside_to(&mut self, delivery: &mut Delivery, now_us: u64) -> rusqlite::Result<Read> {
        let Some(after) = delivery.aside_wants() else { return Ok(Read::End) };
        let is_read = (self.aside_after..self.aside.last_sequence()).contains(&after);
        if !is_read {
            match self.reader.read_strictly(self.stream, after, &mut self.aside)? {
                Next::Block | Next::Missing => self.aside_after = after,
                Next::Salvaging => return Ok(Read::Salvaging),
                Next::End => {
                    delivery.aside_was_read(after, u64::MAX, now_us);
                    return Ok(Read::End);
                }
            }
        }
        let mut through = after;
        for entry in self.aside.entries(after) {
            if !delivery.has_room_aside() || through >= delivery.offered_through() {
                break;
            }
            if let Entry::Record(record) = &entry {
                delivery.offer_aside(record.sequence, record.stored.device(), now_us, |out| record.write(out));
            }
            through = entry.through();
        }
        delivery.aside_was_read(after, through, now_us);
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
                    self.damage.unreadable.push(through + 1 - count, through);
                    delivery.skip_through(through, now_us);
                }
                Entry::Gap { through, lost } => {
                    self.damage.lost.push(through + 1 - lost, through);
                    delivery.skip_through(through, now_us);
                }
            }
        }
    }
}

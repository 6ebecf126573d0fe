//! Reads one stream of the store in order, and offers its lines to the delivery machine.

use std::time::Duration;

use super::ages::{self, Ages};
use crate::core::batch::Stored;
use crate::core::delivery::{Delivery, Offered, Parts};
use crate::core::identity::Stream;
use crate::core::link::Class;
use crate::core::ranges::Ranges;
use crate::store::letters::{self, Letter, Selection};
use crate::store::log::{Block, Entry, Next};
use crate::store::reader::{FileId, Reader};

/// Most lines offered before the forwarder looks at its replies again.
const LINES_A_TURN: usize = 2_000;

pub struct Source {
    reader: Reader,
    stream: Stream,
    /// For each part, the block being read; nothing beyond it is in memory.
    blocks: Vec<Block>,
    ages: Ages,
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
    /// For so many parts; `has_ages` where lines may become too old. What is stored ends with `head`.
    pub fn new(reader: Reader, stream: Stream, parts: usize, has_ages: bool, head: u64) -> Self {
        Source {
            reader,
            stream,
            blocks: std::iter::repeat_with(Block::default).take(parts).collect(),
            ages: Ages::new(has_ages, head),
            aside: Block::default(),
            aside_after: 0,
            damage: Damage::default(),
        }
    }

    /// From now on there are so many parts.
    pub fn set_parts(&mut self, parts: usize) {
        self.blocks.clear();
        self.blocks.resize_with(parts, Block::default);
    }

    /// What is stored ends with this now. Where this must not be long ago, it says within what time it is to be told again.
    pub fn note_head(&mut self, head: u64) -> Option<Duration> {
        self.ages.note_head(head);
        self.ages.is_wanted().then_some(ages::LOOK_EVERY)
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

    /// Offers the next lines to a part, as many as are wanted and a turn allows.
    pub fn offer_to(&mut self, parts: &mut Parts, part: usize, now_us: u64) -> rusqlite::Result<Read> {
        let mut lines_left = LINES_A_TURN;
        let is_whole = parts.count() == 1;
        while lines_left > 0 && parts.wants_more(part) {
            let after = parts.offered_through(part);
            // What comes behind is another part's.
            if !is_whole && parts.unread(part) == 0 {
                return Ok(Read::End);
            }
            let block = &mut self.blocks[part];
            if after >= block.last_sequence() {
                match self.reader.read_strictly(self.stream, after, block)? {
                    Next::Block | Next::Missing => {}
                    Next::Salvaging => return Ok(Read::Salvaging),
                    Next::End => return Ok(Read::End),
                }
            }
            self.offer_block(parts, part, now_us, &mut lines_left);
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
                let age_us = self.ages.of(record.sequence, record.received_ms);
                delivery.offer_aside_aged(record.sequence, record.stored.device(), age_us, now_us, |out| {
                    record.write(out);
                });
            }
            through = entry.through();
        }
        delivery.aside_was_read(after, through, now_us);
        Ok(Read::Enough)
    }

    /// Offers the lines of the current block; damaged ones are skipped and counted.
    fn offer_block(&mut self, parts: &mut Parts, part: usize, now_us: u64, lines_left: &mut usize) {
        let is_whole = parts.count() == 1;
        for entry in self.blocks[part].entries(parts.offered_through(part)) {
            if *lines_left == 0 || !parts.wants_more(part) || !is_whole && parts.unread(part) == 0 {
                return;
            }
            match entry {
                Entry::Record(record) => {
                    let class = match &record.stored {
                        Stored::Reading(_) => Class::Live,
                        Stored::Line { line, .. } => Class::of_line(line),
                    };
                    let age_us = self.ages.of(record.sequence, record.received_ms);
                    let (sequence, device) = (record.sequence, record.stored.device());
                    parts.offer(part, Offered { sequence, device, class, age_us }, now_us, |out| record.write(out));
                    *lines_left -= 1;
                }
                Entry::Damaged { through, count } => {
                    tracing::error!(last_sequence = through, count, "a stored batch is damaged and is skipped");
                    self.damage.unreadable.insert(through + 1 - count, through);
                    parts.skip_through(part, through, now_us);
                }
                Entry::Gap { through, lost } => {
                    self.damage.lost.insert(through + 1 - lost, through);
                    parts.skip_through(part, through, now_us);
                }
            }
        }
    }
}

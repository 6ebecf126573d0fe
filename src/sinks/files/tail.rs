//! How a sink that writes files reads its stream: in the order of the log, with one cursor that moves when a file is where it belongs.

use crate::core::ranges::Ranges;
use crate::pipeline::Message;
use crate::sinks::stream::StreamParts;
use crate::store::cursors::CursorChange;
use crate::store::log::{Block, Entry, Next};
use crate::store::unreadable::Unreadable;

pub struct Tail {
    pub source: StreamParts,
    /// The last sequence that was read; everything up to the cursor is delivered.
    pub read: u64,
    /// Records of damaged batches since the cursor last moved.
    pub unreadable: Ranges,
    /// Missing records since the cursor last moved.
    lost: Ranges,
    /// What comes next may still be taken over from a damaged store.
    pub is_salvaging: bool,
    unreadable_since: Unreadable,
}

impl Tail {
    pub fn new(source: StreamParts) -> Tail {
        let read = source.cursor.cursor;
        Tail {
            source,
            read,
            unreadable: Ranges::default(),
            lost: Ranges::default(),
            is_salvaging: false,
            unreadable_since: Unreadable::default(),
        }
    }

    pub fn is_behind(&self) -> bool {
        !self.is_salvaging && self.has_more()
    }

    /// There may be something to read.
    pub fn has_more(&self) -> bool {
        *self.source.committed.borrow() > self.read
    }

    /// Reads what comes next; `false` if there is nothing for now.
    pub fn read_block(&mut self, block: &mut Block) -> rusqlite::Result<bool> {
        let next = self.source.reader.read_strictly(self.source.stream, self.read, block)?;
        self.unreadable_since.is_over();
        self.is_salvaging = next == Next::Salvaging;
        Ok(next == Next::Block)
    }

    /// Goes on behind an entry; what of it is damaged or gone is counted when the cursor moves.
    pub fn pass(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Record(_) => {}
            Entry::Damaged { through, count } => {
                tracing::error!(
                    sink = self.source.sink,
                    last_sequence = through,
                    count,
                    "a stored batch is damaged and is skipped"
                );
                self.unreadable.push(through + 1 - count, *through);
            }
            Entry::Gap { through, lost } => self.lost.push(through + 1 - lost, *through),
        }
        self.read = entry.through();
    }

    /// What was read is delivered.
    pub fn move_cursor(&mut self) {
        self.source.cursor.advance_to(self.read);
        let change = CursorChange {
            sink: self.source.sink.clone(),
            stream: self.source.stream,
            state: self.source.cursor.clone(),
            dead_letters: Vec::new(),
            unreadable: std::mem::take(&mut self.unreadable),
            lost: std::mem::take(&mut self.lost),
            passed_over: 0,
            expired: vec![],
            held_keys: vec![],
            link: None,
            save: None,
        };
        // Without a pipeline the process is ending; at the next start the file's name says what it holds.
        let _ = self.source.pipeline.send(Message::Cursor(change));
    }

    /// Reads again what is not delivered.
    pub fn rewind(&mut self) {
        self.read = self.source.cursor.cursor;
        (self.unreadable, self.lost) = (Ranges::default(), Ranges::default());
    }

    /// Reports an error of the store that has lasted so long that it is damage.
    pub fn store_fails(&mut self, error: &rusqlite::Error) {
        if self.unreadable_since.is_damage(error, std::time::Instant::now()) {
            // Without a pipeline the process is ending; the next start detects the damage too.
            let _ = self.source.pipeline.send(Message::Damaged(self.source.reader.file()));
        }
    }
}

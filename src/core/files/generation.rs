//! One file from its first line to its last, whatever it is called in between.

use std::sync::Arc;

use super::Stat;
use super::identity::{FileId, Name};
use super::place::{GenerationNumber, Mark, Packed, Place};
use super::trail::Trail;

/// What a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is read.
    Reading,
    /// It may be a copy of this one, or become one. Up to its mark they are known to be equal.
    Copy { original: GenerationNumber },
    /// What it was has been cut off. It is known for a moment, because a copy may be found.
    Cut { at_ms: i64 },
    /// No file of the glob is it.
    Gone { since_ms: i64 },
}

#[derive(Debug)]
pub(super) struct Generation<H> {
    pub number: GenerationNumber,
    pub path: String,
    pub name: Name,
    pub file: FileId,
    /// If it is compressed: what tells its content from any other. Sizes and places are those of what is in it.
    pub packed: Option<u64>,
    pub read: Mark,
    pub committed: Mark,
    pub header: Option<Arc<[u8]>>,
    /// What stands before places up to the one that is read.
    pub trail: Trail,
    pub state: State,
    pub size: u64,
    /// The same before the last look, unless it was read since. If that look finds it cut, this is how much there was.
    pub size_before: u64,
    pub modified_ns: i64,
    /// Its time of writing and its size when it was last read to its end.
    pub checked: Option<(i64, u64)>,
    /// When a look found it changed.
    pub changed_ms: i64,
    /// Since when no path of the glob leads to it.
    pub unlisted_since_ms: Option<i64>,
    /// The last look that found it.
    pub look: u64,
    pub is_linked: bool,
    /// It was given another name, or none.
    pub is_rotated: bool,
    /// It has been rotated, and was read to its end when nobody had written to it for a while.
    pub is_finished: bool,
    /// It is compressed, and not all of it can be unpacked.
    pub is_damaged: bool,
    /// The last look found it changed.
    pub is_live: bool,
    /// It is known to be no copy, or not to be one any more.
    pub is_original: bool,
    /// Starts at which it was not found, one after the other.
    pub missed: u32,
    /// It could have been a copy of these, and is none.
    pub no_copy_of: Vec<GenerationNumber>,
    /// The copy that goes on where it was cut.
    pub continued_by: Option<GenerationNumber>,
    pub handle: Option<H>,
    /// It was closed, and has not been compared with what is known since it was opened again.
    pub is_reopened: bool,
    /// Its place is in the store.
    pub is_stored: bool,
}

impl<H> Generation<H> {
    pub fn new(number: GenerationNumber, path: String, stat: &Stat, now_ms: i64) -> Generation<H> {
        Generation {
            number,
            name: Name::of(&path),
            path,
            file: stat.file,
            packed: stat.packed,
            read: Mark::default(),
            committed: Mark::default(),
            header: None,
            trail: Trail::default(),
            state: State::Reading,
            size: stat.size,
            size_before: stat.size,
            modified_ns: stat.modified_ns,
            checked: None,
            changed_ms: now_ms,
            unlisted_since_ms: None,
            look: 0,
            is_linked: true,
            is_rotated: stat.packed.is_some(),
            is_finished: false,
            is_damaged: stat.is_damaged,
            is_live: false,
            is_original: false,
            missed: 0,
            no_copy_of: Vec::new(),
            continued_by: None,
            handle: None,
            is_reopened: false,
            is_stored: false,
        }
    }

    pub fn restored(number: GenerationNumber, place: Place, now_ms: i64) -> Generation<H> {
        let packed = place.packed.map(|packed| packed.seal);
        let (size, is_linked, is_damaged) = (place.mark.offset, !place.is_deleted, place.is_damaged);
        let stat = Stat { size, is_linked, packed, is_damaged, ..Stat::empty(place.file) };
        Generation {
            missed: place.missed,
            is_finished: place.is_finished,
            is_linked: !place.is_deleted,
            read: place.mark,
            committed: place.mark,
            state: State::Gone { since_ms: now_ms },
            is_stored: true,
            ..Generation::new(number, place.path, &stat, now_ms)
        }
    }

    /// It has been given another name.
    pub fn is_called(&mut self, path: &str) {
        self.is_rotated = true;
        path.clone_into(&mut self.path);
        self.name = Name::of(path);
    }

    /// Notes what a look has found.
    pub fn observe(&mut self, stat: &Stat, now_ms: i64) {
        self.is_live = (self.size, self.modified_ns) != (stat.size, stat.modified_ns) && self.modified_ns != 0;
        if (self.size, self.modified_ns) != (stat.size, stat.modified_ns) {
            self.changed_ms = now_ms;
        }
        self.is_finished &= self.size == stat.size;
        self.size_before = self.size;
        (self.size, self.modified_ns) = (stat.size, stat.modified_ns);
        (self.packed, self.is_damaged) = (stat.packed, stat.is_damaged);
    }

    pub fn place(&self, mark: Mark) -> Place {
        let packed = self.packed.map(|seal| Packed { seal, size: self.size });
        Place {
            path: self.path.clone(),
            file: self.file,
            mark,
            missed: self.missed,
            is_deleted: self.is_remembered(),
            is_finished: self.is_finished,
            is_damaged: self.is_damaged,
            packed,
        }
    }

    /// It was deleted after it had been read, and is known only because a compressed copy of it may come.
    pub fn is_remembered(&self) -> bool {
        !self.is_linked && self.is_settled() && matches!(self.state, State::Gone { .. })
    }

    /// Nothing of it is on its way to the store.
    pub fn is_settled(&self) -> bool {
        self.committed == self.read
    }

    pub fn is_listed(&self) -> bool {
        self.unlisted_since_ms.is_none()
    }

    /// Bytes that were seen and not read.
    pub fn unread_bytes(&self) -> u64 {
        self.size.saturating_sub(self.read.offset)
    }

    /// What there is of a last line is taken.
    pub fn is_last_line_due(&self, now_ms: i64, idle_ms: i64, grace_ms: i64) -> bool {
        now_ms - self.changed_ms >= if self.is_rotated { grace_ms } else { idle_ms }
    }
}

//! One file from its first line to its last, whatever it is called in between.

use std::sync::Arc;

use super::Stat;
use super::identity::{FileId, family};
use super::place::{GenerationNumber, Mark, Place};

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
    pub family: String,
    pub file: FileId,
    pub read: Mark,
    pub committed: Mark,
    pub header: Option<Arc<[u8]>>,
    pub state: State,
    pub size: u64,
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
    /// The last look found it changed.
    pub is_live: bool,
    /// It is known to be no copy, or not to be one any more.
    pub is_original: bool,
    /// Starts at which it was not found, one after the other.
    pub missed: u32,
    /// A copy goes on where it was cut.
    pub is_continued: bool,
    pub handle: Option<H>,
    /// It was closed, and has not been compared with what is known since it was opened again.
    pub is_reopened: bool,
    /// Its place is in the store.
    pub is_stored: bool,
}

impl<H> Generation<H> {
    pub fn new(number: GenerationNumber, path: String, family: String, stat: &Stat, now_ms: i64) -> Generation<H> {
        Generation {
            number,
            path,
            family,
            file: stat.file,
            read: Mark::default(),
            committed: Mark::default(),
            header: None,
            state: State::Reading,
            size: stat.size,
            modified_ns: stat.modified_ns,
            checked: None,
            changed_ms: now_ms,
            unlisted_since_ms: None,
            look: 0,
            is_linked: true,
            is_rotated: false,
            is_live: false,
            is_original: false,
            missed: 0,
            is_continued: false,
            handle: None,
            is_reopened: false,
            is_stored: false,
        }
    }

    pub fn restored(number: GenerationNumber, place: Place, family: String, now_ms: i64) -> Generation<H> {
        let stat = Stat { file: place.file, size: place.mark.offset, modified_ns: 0, is_linked: true };
        Generation {
            missed: place.missed,
            read: place.mark,
            committed: place.mark,
            state: State::Gone { since_ms: now_ms },
            is_stored: true,
            ..Generation::new(number, place.path, family, &stat, now_ms)
        }
    }

    /// Notes where a look has found it.
    pub fn is_at(&mut self, path: &str, look: u64) {
        if self.path != path {
            self.is_rotated = true;
            path.clone_into(&mut self.path);
            self.family = family(path);
        }
        (self.unlisted_since_ms, self.is_linked, self.look, self.missed) = (None, true, look, 0);
    }

    /// Notes what a look has found.
    pub fn observe(&mut self, stat: &Stat, now_ms: i64) {
        self.is_live = (self.size, self.modified_ns) != (stat.size, stat.modified_ns) && self.modified_ns != 0;
        if (self.size, self.modified_ns) != (stat.size, stat.modified_ns) {
            self.changed_ms = now_ms;
        }
        (self.size, self.modified_ns) = (stat.size, stat.modified_ns);
    }

    pub fn place(&self, mark: Mark) -> Place {
        Place { path: self.path.clone(), file: self.file, mark, missed: self.missed }
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

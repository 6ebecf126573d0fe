//! Tells a sector that the disk has lost from a disk that does not work for a while: both answer a read with an error, but only the first
//! goes on doing so while everything else works.

use std::path::Path;
use std::time::{Duration, Instant};

use super::schema;
use crate::disk;

/// A place that has been unreadable for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// A file that is written for a moment, to see whether the disk takes one.
pub(super) const TRIAL: &str = "outrider.trial";

/// Since when one reader of a store, or its writer, cannot read a place in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unreadable {
    since: Option<Instant>,
}

impl Unreadable {
    /// Whether the error means that the store is damaged: at once where SQLite finds so, and where something cannot be read, after some
    /// time in which every attempt has failed.
    pub fn is_damage(&mut self, error: &rusqlite::Error, now: Instant) -> bool {
        if !schema::is_unreadable(error) {
            self.since = None;
            return schema::is_corrupt(error);
        }
        now.saturating_duration_since(*self.since.get_or_insert(now)) >= LOST_AFTER
    }

    /// An attempt has succeeded.
    pub fn is_over(&mut self) {
        self.since = None;
    }
}

/// Whether the folder's disk stores a file. While it does not, that something cannot be read says nothing about the store.
pub fn disk_works(store: &Path) -> bool {
    store.parent().is_some_and(|folder| disk::stores(&folder.join(TRIAL)))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_cannot_be_read_for_a_while_is_lost_and_what_works_in_between_is_not() {
        let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let (unreadable, began) = (error(ffi::SQLITE_IOERR_CORRUPTFS), Instant::now());
        let mut reads = Unreadable::default();
        assert!(reads.is_damage(&error(ffi::SQLITE_CORRUPT), began));
        assert!(!reads.is_damage(&unreadable, began));
        assert!(!reads.is_damage(&error(ffi::SQLITE_IOERR_WRITE), began + LOST_AFTER), "that is the whole disk");
        assert!(!reads.is_damage(&unreadable, began + LOST_AFTER), "not the first time, whatever was before");
        assert!(reads.is_damage(&unreadable, began + 2 * LOST_AFTER));
        reads.is_over();
        assert!(!reads.is_damage(&unreadable, began + 3 * LOST_AFTER));
    }
}

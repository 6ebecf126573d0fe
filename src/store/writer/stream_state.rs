//! How far a stream has come, as the writer keeps it.

use rusqlite::Connection;

use super::super::cursors::Cursors;
use super::super::held;
use super::super::held::StreamProgress;
use crate::core::identity::{PerStream, Stream, Streams};

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StreamState {
    pub(super) progress: StreamProgress,
    /// Batches that are not in `held` yet.
    pub(super) unlisted: usize,
}

impl StreamState {
    pub(super) fn load_all(db: &Connection, streams: &Streams) -> rusqlite::Result<PerStream<StreamState>> {
        let mut states = PerStream::default();
        for stream in streams.all() {
            let progress = StreamProgress::read(db, stream)?;
            *states.entry(stream) = StreamState { progress, unlisted: held::unlisted(db, stream)? };
        }
        Ok(states)
    }

    pub(super) fn append(&mut self, db: &Connection, stream: Stream, last_sequence: u64) -> rusqlite::Result<()> {
        self.progress.last_sequence = last_sequence;
        self.unlisted += 1;
        if self.unlisted >= held::UNLISTED_MAX {
            held::list(db, stream)?;
            self.unlisted = 0;
        }
        Ok(())
    }

    /// Batches were removed: what is missing before the oldest that is left is missing for that.
    pub(super) fn removed(&mut self, db: &Connection, cursors: &Cursors, stream: Stream) -> rusqlite::Result<()> {
        let oldest = held::first_behind(db, stream, 0)?;
        let through = oldest.map_or(self.progress.last_sequence, |oldest| oldest.before_first());
        // Nothing is removed that a cursor has not passed: if more is missing, it is missing for another reason.
        let through = through.min(cursors.delivered_through(stream).unwrap_or(u64::MAX));
        self.progress.removed_through = self.progress.removed_through.max(through);
        Ok(())
    }
}

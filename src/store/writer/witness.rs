//! What is written beside the store, and when.

use std::time::{Duration, Instant};

use super::super::pages::LogState;
use super::super::witness::{StreamTestimony, Testimony, Witness};
use super::super::{runs, totals};
use super::Writer;
use crate::clock;
use crate::core::identity::StreamRow;

/// What is written beside the store, and when next.
#[derive(Debug)]
pub(super) struct WitnessState {
    pub(super) file: Witness,
    pub(super) number: u64,
    pub(super) written: Instant,
    /// All records that were accepted by then, of all streams.
    pub(super) records: u64,
    /// So many more at the most are accepted before it is written again.
    pub(super) records_until_next: u64,
    pub(super) has_failed: bool,
}

/// The log is moved into the file, and what was accepted is written beside it, at least so often while something is committed.
pub(super) const WITNESS_EVERY: Duration = Duration::from_secs(60);
/// It is not written more often than that, unless many more records come than before.
pub(super) const WITNESS_PAUSE: Duration = Duration::from_secs(1);
pub(super) const RECORDS_UNTIL_NEXT_MIN: u64 = 1_000;
/// Runs that are written beside the store: those of batches that wait are hardly older.
pub(super) const RUNS_WITNESSED: usize = 64;

/// When what is written beside the store is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Moment {
    Start,
    Running,
    End,
}

impl Writer {
    /// Records that were accepted, of all streams, since the store began.
    pub(super) fn accepted(&self) -> u64 {
        self.states.iter().map(|(_, state)| state.progress.last_sequence).sum()
    }

    /// The store is whole, and everything that was known beside it is in it: from here on it is written beside it.
    pub(in crate::store) fn begin(&mut self) {
        self.testify(Moment::Start);
    }

    /// Writes beside the store what it holds. If that fails the next time will do: what was written before still holds.
    pub(super) fn testify(&mut self, moment: Moment) {
        let accepted = self.accepted();
        let growth = accepted.saturating_sub(self.witness.records);
        let records_until_next = match moment {
            Moment::Running => (4 * growth).max(RECORDS_UNTIL_NEXT_MIN),
            Moment::Start | Moment::End => RECORDS_UNTIL_NEXT_MIN,
        };
        let streams = self.streams.rows().iter().map(|StreamRow { stream, name, keep, .. }| StreamTestimony {
            stream: name.to_string(),
            id: stream.id(),
            keep: keep.name().to_owned(),
            last_sequence: self.states.of(*stream).progress.last_sequence,
        });
        let log = LogState::of_header(&self.settings.path).unwrap_or_default();
        let mut testimony = Testimony {
            number: self.witness.number + 1,
            written_ms: clock::now_ms(),
            is_clean: moment == Moment::End,
            log_salt: if moment == Moment::Running { log.salt } else { None },
            log_bytes: log.bytes,
            records_until_next,
            streams: streams.collect(),
            cursors: self.cursors.rows(&self.streams),
            totals: totals::all(&self.db).unwrap_or_default(),
            ..Testimony::default()
        };
        let runs = runs::all(&self.db).unwrap_or_default();
        testimony.set_runs(&runs[runs.len().saturating_sub(RUNS_WITNESSED)..]);
        match self.witness.file.write(&testimony) {
            Ok(()) => {
                self.witness.number += 1;
                (self.witness.records, self.witness.records_until_next) = (accepted, records_until_next);
                self.witness.has_failed = false;
            }
            Err(error) if !std::mem::replace(&mut self.witness.has_failed, true) => {
                let file = self.witness.file.path().display();
                tracing::warn!(%error, "{file} cannot be written: if the store is lost, it is not known how much was in it");
            }
            Err(_) => {}
        }
        self.witness.written = clock::instant();
    }
}

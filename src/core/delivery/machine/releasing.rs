//! For parts of a stream: a delivery that leaves to another one what it has not delivered.

use super::super::progress::Progress;
use super::Delivery;
use crate::cursor::CursorState;

impl Delivery {
    /// It is a part of a stream: what is newly done with is collected for [`Self::take_finished`], and ranges are counted by whoever takes it.
    pub(in super::super) fn be_part(&mut self) {
        (self.is_part, self.finished) = (true, Some(Vec::new()));
    }

    /// Runs of sequences that it holds.
    pub(in super::super) fn outstanding_runs(&self) -> usize {
        self.outstanding_runs
    }

    /// What is newly done with since the last call, as runs of sequences, in no order.
    pub(in super::super) fn take_finished(&mut self) -> Vec<(u64, u64)> {
        self.finished.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A sequence that is no matter of this delivery.
    ///
    /// # Panics
    ///
    /// If `sequence` is not the next one.
    pub(in super::super) fn pass(&mut self, sequence: u64) {
        assert!(sequence == self.offered_through + 1, "sequence {sequence} does not follow");
        self.offered_through = sequence;
        self.progress.finish(sequence, sequence);
    }

    /// Whether nothing awaits its reply.
    pub(in super::super) fn is_grounded(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// When the oldest record that waits to be sent was taken.
    pub(in super::super) fn waiting_since_us(&self) -> Option<u64> {
        self.keys.waiting_since_us()
    }

    /// Leaves everything up to a sequence to another delivery, also what it has taken and not delivered.
    ///
    /// # Panics
    ///
    /// If something is in flight, or a key is set aside.
    pub(in super::super) fn release(&mut self, through: u64) {
        assert!(self.is_grounded() && self.aside.count() == 0, "it can be left to others");
        self.keys.forget_records();
        for lane in &mut self.lanes {
            lane.ready.clear();
        }
        self.pauses.clear();
        self.suspects.clear();
        (self.records, self.held_bytes, self.outstanding_runs, self.waiting_since_us) = (0, 0, 0, None);
        self.offered_through = self.offered_through.max(through);
        self.progress = Progress::new(&CursorState::at(self.offered_through));
    }

    /// Of the sequences done with, so many the sink did not take.
    pub(in super::super) fn passed_over(&self) -> u64 {
        self.saving.passed_over
    }

    /// What is done with.
    pub(in super::super) fn state(&self) -> CursorState {
        self.progress.state()
    }

    /// Whether it holds nothing: no line, no request, and no key that is set aside.
    pub(in super::super) fn has_nothing(&self) -> bool {
        self.is_drained() && self.is_grounded() && self.aside.count() == 0
    }
}

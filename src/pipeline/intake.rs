//! Under `refuse`, whether there is room for a reading is decided before it gets a position: a reading with a position is stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::StoreCounters;
use super::spell::Spell;
use crate::clock;
use crate::core::reading::Readings;
use crate::handoff::Undecodable;
use crate::store::retention::WhenFull;

pub(super) struct Intake {
    when_full: WhenFull,
    counters: Arc<StoreCounters>,
    /// Bytes that were accepted and are not sealed yet.
    open_bytes: u64,
    committing_bytes: u64,
    /// Bytes of a submission that was admitted, but is not completely in the open batch yet.
    begun_bytes: u64,
    refusing: Spell,
}

/// More than twice a chunk: salvage waits until the store has that much room.
const SALVAGE_BYTES: u64 = 4 << 20;
/// What becomes of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Taken,
    /// Room is being made for it.
    Later,
    Refused,
    /// There is nothing in it to be stored, and it is answered.
    Done,
}

impl Intake {
    pub fn new(when_full: WhenFull, counters: Arc<StoreCounters>) -> Intake {
        let refusing = Spell::default();
        Intake { when_full, counters, open_bytes: 0, committing_bytes: 0, begun_bytes: 0, refusing }
    }

    /// `ruled_bytes`: of what rules want stored. `makes_room`: the store is removing what nobody wants any more.
    pub fn admit(
        &mut self,
        readings: &Readings,
        undecodable: &[Undecodable],
        ruled_bytes: usize,
        makes_room: bool,
    ) -> Admission {
        let samples: usize = undecodable.iter().map(|one| one.topic.len() + one.sample.len()).sum();
        let bytes = (readings.grown_bytes() + samples + ruled_bytes) as u64;
        if self.when_full == WhenFull::Refuse && !self.counters.is_refusing() && !self.has_room(bytes) {
            // What is under way is counted as it came. Once it is stored, it is known what it takes.
            if makes_room || self.open_bytes + self.committing_bytes > 0 {
                return Admission::Later;
            }
            self.counters.refusing.store(true, Ordering::Relaxed);
        }
        if self.counters.is_refusing() {
            if self.refusing.comes(clock::instant()) {
                tracing::error!(
                    "the store is full: readings are judged, but neither stored nor acknowledged, until there is room"
                );
            }
            return Admission::Refused;
        }
        self.begun_bytes = bytes;
        Admission::Taken
    }

    /// The submission that was admitted last is completely in the open batch.
    pub fn taken(&mut self) {
        self.open_bytes += std::mem::take(&mut self.begun_bytes);
    }

    fn has_room(&self, bytes: u64) -> bool {
        // A reading takes little more in the store than here, even if it does not compress.
        let waiting = self.begun_bytes + self.open_bytes + self.committing_bytes + bytes;
        waiting + waiting / 16 + self.left_to_salvage() <= self.counters.room_bytes.get()
    }

    /// What is taken over from a damaged store needs room before it can be delivered and make room itself.
    fn left_to_salvage(&self) -> u64 {
        if self.counters.is_salvaging() { SALVAGE_BYTES } else { 0 }
    }

    pub fn sealed(&mut self) {
        self.committing_bytes = std::mem::take(&mut self.open_bytes);
    }

    pub fn committed(&mut self) {
        self.committing_bytes = 0;
        self.look_again();
    }

    pub fn look_again(&mut self) {
        if self.counters.is_refusing() && self.has_room(self.counters.room_again_bytes.get()) {
            self.counters.refusing.store(false, Ordering::Relaxed);
        }
        if !self.counters.is_refusing() && self.refusing.stays_away(clock::instant()) {
            tracing::info!("the store has room again: readings are accepted");
        }
    }
}

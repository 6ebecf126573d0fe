//! What of it is stored, and how it goes on after a restart.

use super::{InFlight, Outbound, Restored};
use crate::mqtt::keeping::{KeptProgress, MessageNumber};

impl<P: AsRef<[u8]>> Outbound<P> {
    /// Whether what is needed after a restart is stored.
    pub fn set_stored(&mut self, is_stored: bool) {
        self.is_stored = is_stored;
    }

    /// A message that is stored for the client is on its way to the queue.
    pub fn expect(&mut self, number: MessageNumber) {
        self.unfinished.expect(number);
    }

    /// It does not come.
    pub fn miss(&mut self, number: MessageNumber) {
        self.is_changed = true;
        self.unfinished.done(number);
    }

    /// The revision that has to be stored before all is sent that could be, and the one that is stored.
    pub fn revisions(&self) -> (u64, u64) {
        (self.revision, self.stored_revision)
    }

    /// Everything up to this revision is stored.
    pub fn stored_through(&mut self, revision: u64) {
        self.stored_revision = self.stored_revision.max(revision);
    }

    /// Whether something has changed since [`Self::progress`] that it tells of.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// What is to be stored; `next` is the number that the next message gets.
    pub fn progress(&mut self, next: MessageNumber) -> KeptProgress {
        self.is_changed = false;
        KeptProgress {
            waiting_from: self.unfinished.waiting_from(next).0,
            done: self.unfinished.done_after(),
            in_flight: self.in_flight.iter().map(InFlight::kept).collect(),
        }
    }

    /// What was in flight before a restart, in the order in which it was sent.
    pub fn restore(&mut self, sent: Restored<P>) {
        let Restored { packet_id, message } = sent;
        message.iter().for_each(|message| *self.kept.of(message.is_own) += message.cost());
        self.last_packet_id = packet_id;
        self.in_flight.push_back(InFlight::restored(packet_id, message));
        self.unsent += 1;
    }

    /// The client was there before a restart: messages up to the last number of then may have been sent to it, and not all of that was stored.
    pub fn may_have_sent(&mut self, before: MessageNumber) {
        self.sent_before = Some(before);
    }
}

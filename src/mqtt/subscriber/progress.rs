//! What is stored of a subscriber's session: how far it has come, and what is still to come.

use std::rc::Rc;

use bytes::Bytes;

use super::Subscriber;
use crate::core::mqtt::keeping::{self, Key, MessageNumber, SessionNumber};
use crate::core::mqtt::outbound::Restored;
use crate::mqtt::keeper::{Keeper, Known};

impl Subscriber {
    /// The number under which its session is stored, if it is.
    pub fn session(&self) -> Option<SessionNumber> {
        self.session.get()
    }

    pub fn set_session(&self, session: Option<SessionNumber>) {
        self.session.set(session);
        self.with_outbound(|outbound| outbound.set_stored(session.is_some()));
    }

    /// A message that is stored for it comes later.
    pub fn expect(&self, number: MessageNumber) {
        self.with_outbound(|outbound| outbound.expect(number));
    }

    /// It does not get this message, which was stored for it.
    pub fn miss(&self, number: MessageNumber) {
        self.with_outbound(|outbound| outbound.miss(number));
    }

    pub fn restore(&self, sent: Restored<Bytes>) {
        self.with_outbound(|outbound| outbound.restore(sent));
    }

    /// See [`Outbound::may_have_sent`].
    pub fn may_have_sent(&self, before: MessageNumber) {
        self.outbound.borrow_mut().may_have_sent(before);
    }

    /// Lets the outbound half know what is stored by now.
    pub(super) fn note_stored(self: &Rc<Self>, keeper: &Keeper) {
        let mut revisions = self.revisions.borrow_mut();
        while let Some((_, revision)) = revisions.pop_front_if(|(ticket, _)| keeper.is_settled(*ticket)) {
            self.outbound.borrow_mut().stored_through(revision);
        }
        if !revisions.is_empty() {
            keeper.tell(&self.changed);
        }
    }

    /// Has its progress stored if the next message or answer waits for that.
    pub(super) fn store_progress(self: &Rc<Self>, keeper: &Keeper) {
        let (revision, stored) = self.outbound.borrow().revisions();
        let asked_for = self.revisions.borrow().back().map_or(stored, |(_, revision)| *revision);
        if self.session.get().is_none() || asked_for >= revision {
            return;
        }
        self.put_progress(keeper);
        self.revisions.borrow_mut().push_back((keeper.ticket(), revision));
        keeper.tell(&self.changed);
    }

    /// Has its progress stored when there is time.
    pub fn put_progress(&self, keeper: &Keeper) {
        let Some(session) = self.session.get() else { return };
        let progress = self.outbound.borrow_mut().progress(keeper.next_message());
        let known = if self.has_progress.replace(true) { Known::Maybe } else { Known::No };
        keeper.put(&Key::Progress(session), keeping::to_value(&progress), known);
    }

    /// Whether its progress has changed since it was stored.
    pub fn has_come_further(&self) -> bool {
        self.session.get().is_some() && self.outbound.borrow().is_changed()
    }

    /// Whether retained messages of a filter may not all have reached the client, as far as is stored.
    pub fn has_scanned(&self) -> bool {
        self.session.get().is_some() && self.filters.borrow().values().any(|grant| grant.is_scanned)
    }
}

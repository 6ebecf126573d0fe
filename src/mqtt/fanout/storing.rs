//! What of a publish is stored for subscribers, in its own commit: a retained message, and a message for sessions that are stored. Who is to
//! get the message is decided before the commit, so that its acknowledgement covers that.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::receiver::Receiver;
use super::{Fanout, Inner, NODES_A_GLANCE};
use crate::clock;
use crate::core::mqtt::keeping::{
    self, Blob, KeptClient, KeptFilter, KeptMessage, KeptReceiver, KeptSession, Key, MessageNumber, SessionNumber,
};
use crate::core::mqtt::outbound::Stored;
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic;
use crate::handoff::EntryChange;
use crate::mqtt::keeper::Known;
use crate::mqtt::router::{Draft, Envelope};
use crate::mqtt::shared::Chosen;
use crate::mqtt::subscriber::{Grant, Handle, Subscriber};

/// Messages that are stored for sessions, or about to be, and that they have not got yet.
#[derive(Default)]
pub(super) struct Expected(HashMap<MessageNumber, ExpectedMessage>);

/// Who is to get a message when it is dealt out.
pub(super) struct ExpectedMessage {
    stored: Rc<Stored>,
    receivers: HashMap<SessionNumber, ExpectedBy>,
    /// Members of shared subscriptions.
    pub chosen: Vec<Chosen>,
}

struct ExpectedBy {
    subscriber: Rc<Subscriber>,
    has_got_it: bool,
}

impl ExpectedMessage {
    /// The hold on the message that a receiver gets, if it is stored for it.
    pub fn hold_of(&mut self, subscriber: &Subscriber) -> Option<Rc<Stored>> {
        let expected_by = self.receivers.get_mut(&subscriber.session()?)?;
        expected_by.has_got_it = true;
        Some(Rc::clone(&self.stored))
    }

    /// Those who did not get it, because they want it no longer, do not wait for it either.
    pub fn end(self) {
        let missing = self.receivers.values().filter(|expected_by| !expected_by.has_got_it);
        missing.for_each(|expected_by| expected_by.subscriber.miss(self.stored.number()));
    }
}

/// A message that sessions expect. When this is dropped before it is passed on, they do not get it.
pub struct Coming {
    number: Option<MessageNumber>,
    fanout: Fanout,
}

impl Coming {
    /// The message is stored: if nobody gets it, it is deleted there.
    pub fn mark_stored(&self) {
        let inner = self.fanout.inner.borrow();
        let message = self.number.and_then(|number| inner.expected.0.get(&number));
        message.into_iter().for_each(|message| message.stored.mark_stored());
    }

    /// It is on its way to those who expect it.
    pub(in crate::mqtt) fn passes_on(mut self) {
        self.number = None;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(message) = self.number.and_then(|number| self.fanout.take_expected(number)) {
            message.end();
        }
    }
}

/// A message that is ready to be passed on once it is stored.
pub struct Prepared {
    pub envelope: Envelope,
    pub coming: Option<Coming>,
}

impl Prepared {
    /// If nobody gets it, it is to be deleted in the store.
    pub fn mark_perhaps_stored(&self) {
        self.coming.iter().for_each(Coming::mark_stored);
    }
}

impl Fanout {
    /// Prepares a client's message, or that of a rule; adds what is to be stored with it.
    pub fn prepare(&self, mut draft: Draft<'_>, entries: &mut Vec<EntryChange>) -> Prepared {
        draft.retain = draft.retain && self.may_retain(&draft);
        if draft.retain {
            entries.push(self.retained_entry(&draft));
        }
        let Some(StoredReceivers { all, chosen }) = self.stored_receivers(&draft) else {
            return Prepared { envelope: Envelope::of(&draft), coming: None };
        };
        let number = self.keeper.new_message();
        let envelope = Envelope::of(&Draft { number: Some(number), ..draft });
        let (mut kept, mut receivers) = (Vec::new(), HashMap::new());
        for Receiver { subscriber, qos, keeps_retain, identifiers } in all {
            let qos = draft.qos.min(qos);
            let Some(session) = subscriber.session().filter(|_| qos > 0) else { continue };
            kept.push(KeptReceiver { session, qos, retain: keeps_retain && draft.retain, identifiers });
            subscriber.expect(number);
            receivers.insert(session, ExpectedBy { subscriber, has_got_it: false });
        }
        let value = self.entry_value(&envelope, kept);
        let stored = self.keeper.shelf().hold(number, value.len());
        entries.push(EntryChange { key: Key::Message(number).to_bytes(), value: Some(value) });
        self.inner.borrow_mut().expected.0.insert(number, ExpectedMessage { stored, receivers, chosen });
        Prepared { envelope, coming: Some(Coming { number: Some(number), fanout: self.clone() }) }
    }

    /// The same for a message that comes with no publish.
    pub(in crate::mqtt) fn prepare_and_store(&self, draft: Draft<'_>) -> Prepared {
        let mut entries = Vec::new();
        let prepared = self.prepare(draft, &mut entries);
        self.keeper.take(entries);
        prepared
    }

    pub(super) fn take_expected(&self, number: MessageNumber) -> Option<ExpectedMessage> {
        self.inner.borrow_mut().expected.0.remove(&number)
    }

    /// The sessions that a message has to be stored for; `None` if there are none.
    fn stored_receivers(&self, draft: &Draft<'_>) -> Option<StoredReceivers> {
        if draft.qos == 0 || !self.inner.borrow().may_reach_stored(draft.topic) {
            return None;
        }
        let (mut all, chosen) = (Vec::new(), {
            let inner = &mut *self.inner.borrow_mut();
            inner.groups.choose_for_stored(draft.topic, draft.payload.len())
        });
        self.inner.borrow_mut().find_stored_receivers(draft, &mut all);
        all.extend(chosen.iter().map(|Chosen { member, .. }| Receiver::new(&member.handle.0, member.wants)));
        all.retain(|receiver| receiver.subscriber.session().is_some() && receiver.qos > 0);
        if all.is_empty() {
            return None;
        }
        if !self.fits(draft.len()) {
            self.counters.messages_unstored.add(1);
            self.note_short();
            // They go on in memory. After a restart they are gone, rather than there without this message.
            for Receiver { subscriber, .. } in all {
                self.delete_stored(&subscriber);
                subscriber.is_in_memory_only.set(true);
            }
            return None;
        }
        self.inner.borrow().groups.take_turns(&chosen);
        Some(StoredReceivers { all, chosen })
    }

    /// Whether so much more may be in the store.
    fn fits(&self, bytes: usize) -> bool {
        let used = self.inner.borrow().retained.byte_size() + self.keeper.shelf().byte_size();
        used + bytes <= self.settings.stored_bytes_max
    }

    fn may_retain(&self, draft: &Draft<'_>) -> bool {
        let growth = self.inner.borrow().retained.growth(draft);
        let has_room = self.inner.borrow().retained.has_room(draft);
        let may = draft.payload.is_empty() || has_room && (growth == 0 || self.fits(growth));
        if !may {
            self.counters.retained_refused.add(1);
        }
        may
    }

    fn retained_entry(&self, draft: &Draft<'_>) -> EntryChange {
        let key = Key::Retained(draft.topic.into());
        self.keeper.supersede(&key);
        let key = key.to_bytes();
        let value = (!draft.payload.is_empty()).then(|| self.entry_value(&Envelope::of(draft), Vec::new()));
        EntryChange { key, value }
    }

    /// The store was told to retain a message, and memory has no room for it: it keeps what memory has.
    pub(in crate::mqtt) fn keep_as_retained(&self, envelope: &Envelope) {
        let key = Key::Retained(envelope.topic().into());
        match self.inner.borrow().retained.get(envelope.topic()) {
            Some(before) => self.keeper.put(&key, self.entry_value(before, Vec::new()), Known::Maybe),
            None => self.keeper.delete(&key),
        }
    }

    fn entry_value(&self, envelope: &Envelope, receivers: Vec<KeptReceiver>) -> Vec<u8> {
        keeping::to_value(&KeptMessage {
            envelope: Blob(envelope.as_bytes().to_vec()),
            steady_ms: self.now_ms(),
            wall_ms: clock::now_ms(),
            receivers,
        })
    }

    /// What a client is subscribed to is to be stored from here on, or no longer.
    pub(in crate::mqtt) fn set_stored(&self, subscriber: &Rc<Subscriber>, session: Option<SessionNumber>) {
        subscriber.set_session(session);
        let inner = &mut *self.inner.borrow_mut();
        for (filter, grant) in subscriber.filters.borrow().iter() {
            inner.note_stored_filter(subscriber, filter, grant.wants);
        }
    }
}

/// What is stored of sessions.
impl Fanout {
    /// A session begins to be stored, or goes on with other terms.
    pub(in crate::mqtt) fn store_session(
        &self,
        subscriber: &Rc<Subscriber>,
        expiry: Duration,
        left_at_ms: Option<i64>,
    ) {
        if subscriber.is_in_memory_only.get() {
            return;
        }
        let (session, known) = match subscriber.session() {
            Some(session) => (session, Known::Maybe),
            None => (self.keeper.new_session(), Known::No),
        };
        if known == Known::No {
            self.set_stored(subscriber, Some(session));
        }
        let client = subscriber.client();
        let value = KeptSession {
            client: KeptClient::new(&client.identity, &client.listener.settings.name),
            address: subscriber.address().to_string(),
            expiry_ms: u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX),
            left_at_ms,
        };
        self.keeper.put(&Key::Session(session), keeping::to_value(&value), known);
        if left_at_ms.is_some() {
            subscriber.put_progress(&self.keeper);
        }
        self.keeper.flush();
    }

    /// A filter was granted, or how it is served has changed.
    pub(in crate::mqtt) fn store_filter(&self, subscriber: &Subscriber, filter: &str, known: Known) {
        let grant = subscriber.filters.borrow().get(filter).copied();
        if let (Some(session), Some(Grant { wants, is_scanned, .. })) = (subscriber.session(), grant) {
            let value = keeping::to_value(&KeptFilter { wants, is_scanned });
            self.keeper.put(&Key::Filter(session, filter.to_owned()), value, known);
        }
    }

    /// What need not be stored at once: how far the client has come.
    pub(in crate::mqtt) fn store_progress(&self, subscriber: &Rc<Subscriber>) {
        if subscriber.has_come_further() {
            subscriber.put_progress(&self.keeper);
        }
        if !subscriber.has_scanned() || !subscriber.is_idle() {
            return;
        }
        let scanned = |filter: &mut (&String, &mut Grant)| std::mem::take(&mut filter.1.is_scanned);
        let filters: Vec<String> = subscriber
            .filters
            .borrow_mut()
            .iter_mut()
            .filter_map(|mut one| scanned(&mut one).then(|| one.0.clone()))
            .collect();
        filters.iter().for_each(|filter| self.store_filter(subscriber, filter, Known::Maybe));
    }

    /// Deletes what is stored of a session.
    pub(in crate::mqtt) fn delete_stored(&self, subscriber: &Rc<Subscriber>) {
        let Some(session) = subscriber.session() else { return };
        self.keeper.end_session(session);
        if subscriber.has_progress.take() {
            self.keeper.delete(&Key::Progress(session));
        }
        for filter in subscriber.filters.borrow().keys() {
            self.keeper.delete(&Key::Filter(session, filter.clone()));
        }
        for packet_id in subscriber.unreleased.borrow().ids() {
            self.keeper.delete(&Key::Unreleased(session, packet_id));
        }
        self.set_stored(subscriber, None);
    }
}

/// Who gets a message that is to be stored.
struct StoredReceivers {
    /// Those whose sessions are stored.
    all: Vec<Receiver>,
    /// Members of shared subscriptions, stored or not, as far as one of their group is.
    chosen: Vec<Chosen>,
}

impl Inner {
    fn may_reach_stored(&self, topic: &str) -> bool {
        self.stored_tree.levels() > 0 && self.stored_tree.may_match(topic, NODES_A_GLANCE) || self.groups.has_stored()
    }

    fn find_stored_receivers(&mut self, draft: &Draft<'_>, receivers: &mut Vec<Receiver>) {
        self.walks += 1;
        let walk = self.walks;
        self.stored_tree.each_match(draft.topic, |Handle(subscriber), wants: Wants| {
            if !(wants.no_local && subscriber.number == draft.publisher) && subscriber.may_receive(draft.topic) {
                Receiver::reach(receivers, walk, subscriber, wants);
            }
        });
    }

    /// A filter of a client was granted or changed, or its session is stored from here on, or no longer.
    pub(super) fn note_stored_filter(&mut self, subscriber: &Rc<Subscriber>, filter: &str, wants: Wants) {
        let Ok((group, pattern)) = topic::split_shared(filter) else { return };
        let (handle, is_stored) = (Handle(Rc::clone(subscriber)), subscriber.session().is_some() && wants.qos > 0);
        match (group, is_stored) {
            (Some(_), _) => self.groups.look_for_stored(filter),
            (None, true) if !topic::is_reserved(pattern) => _ = self.stored_tree.insert(pattern, handle, wants),
            (None, _) => _ = self.stored_tree.remove(pattern, &handle),
        }
    }
}

//! What the store has of sessions, retained messages and wills comes back at a start.
//!
//! Who was connected counts as having left now. What cannot be read, is over, or belongs to a listener that is gone, is deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::Edge;
use super::bridging;
use super::client::Client;
use super::fanout;
use super::listener::Listener;
use super::router::Envelope;
use super::subscriber::Subscriber;
use super::wills::{LeftWill, wait_with_will};
use crate::clock;
use crate::core::mqtt::keeping::{
    self, KeptClient, KeptFilter, KeptMessage, KeptProgress, KeptReceiver, KeptSession, KeptWill, Key, MessageNumber,
    SessionNumber,
};
use crate::core::mqtt::outbound::{Restored, Stored};
use crate::core::mqtt::packet::RetainHandling;
use crate::handoff::{Entry, Input};

/// Clients have at least so long after a start to come back before their wills are published: they find out by themselves that the gateway
/// was gone.
const WILLS_WAIT: Duration = Duration::from_secs(10);

/// Entries by what they are of.
#[derive(Default)]
struct Kept {
    sessions: BTreeMap<SessionNumber, SessionParts>,
    messages: BTreeMap<MessageNumber, KeptMessage>,
    retained: Vec<KeptMessage>,
    wills: Vec<(SessionNumber, KeptWill)>,
    last_session: u64,
    last_message: u64,
    /// Keys of what cannot be read.
    unreadable: Vec<Key>,
}

#[derive(Default)]
struct SessionParts {
    session: Option<KeptSession>,
    filters: Vec<(String, KeptFilter)>,
    unreleased: Vec<u16>,
    progress: Option<KeptProgress>,
}

/// A message that somebody may still get.
struct Message {
    envelope: Envelope,
    stored: Rc<Stored>,
}

impl Kept {
    fn read(entries: Vec<Entry>) -> Kept {
        let mut kept = Kept::default();
        for Entry { key, value } in entries {
            let Some(key) = Key::from_bytes(&key) else { continue };
            if kept.take(&key, &value).is_none() {
                kept.unreadable.push(key);
            }
        }
        kept
    }

    fn take(&mut self, key: &Key, value: &[u8]) -> Option<()> {
        let of_session = match key {
            Key::Message(number) => {
                let message: KeptMessage = keeping::from_value(value)?;
                self.last_message = self.last_message.max(number.0);
                // Of sessions that have ended, too: the number of one must not become that of another.
                let sessions = message.receivers.iter().map(|receiver| receiver.session.0);
                self.last_session = sessions.fold(self.last_session, u64::max);
                self.messages.insert(*number, message);
                return Some(());
            }
            Key::Retained(_) => {
                self.retained.push(keeping::from_value(value)?);
                return Some(());
            }
            Key::Will(number) => {
                self.last_session = self.last_session.max(number.0);
                self.wills.push((*number, keeping::from_value(value)?));
                return Some(());
            }
            Key::Session(session) | Key::Filter(session, _) | Key::Unreleased(session, _) | Key::Progress(session) => {
                *session
            }
        };
        self.last_session = self.last_session.max(of_session.0);
        let parts = self.sessions.entry(of_session).or_default();
        match key {
            Key::Session(_) => parts.session = Some(keeping::from_value(value)?),
            Key::Filter(_, filter) => parts.filters.push((filter.clone(), keeping::from_value(value)?)),
            Key::Unreleased(_, packet_id) => parts.unreleased.push(*packet_id),
            _ => {
                let progress: KeptProgress = keeping::from_value(value)?;
                // A session is done with numbers whose messages are there no more.
                let in_flight = progress.in_flight.iter().filter_map(|sent| sent.message).map(|number| number.0);
                let known = progress
                    .done
                    .iter()
                    .copied()
                    .chain(in_flight)
                    .fold(progress.waiting_from.saturating_sub(1), u64::max);
                self.last_message = self.last_message.max(known);
                parts.progress = Some(progress);
            }
        }
        Some(())
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Brings back what was kept. Before any client is let in.
    pub(super) fn restore(self: &Rc<Self>, entries: Vec<Entry>, listeners: &[Rc<Listener>]) {
        if entries.is_empty() {
            return;
        }
        let kept = Kept::read(entries);
        let keeper = &self.keeper;
        keeper.count_from(SessionNumber(kept.last_session), MessageNumber(kept.last_message));
        kept.unreadable.iter().for_each(|key| keeper.delete(key));
        let (retained, wills) = (kept.retained.len(), kept.wills.len());
        kept.retained.into_iter().for_each(|message| self.restore_retained(message));
        let (messages, mut receivers) = self.restore_messages(kept.messages);
        // In the order in which they left: who was connected comes last.
        let mut sessions: Vec<_> = kept.sessions.into_iter().collect();
        sessions.sort_by_key(|(_, parts)| parts.session.as_ref().map(|session| session.left_at_ms.unwrap_or(i64::MAX)));
        let mut restored = 0;
        for (number, parts) in sessions {
            let receivers = receivers.remove(&number).unwrap_or_default();
            let waiting = Waiting { messages: &messages, receivers };
            restored += usize::from(self.restore_session(number, parts, waiting, listeners));
        }
        // The newest of each client: one before it was published, or came to nothing.
        let mut newest = HashMap::new();
        for (number, will) in kept.wills {
            if let Some((before, _)) = newest.insert(will.client.client_id.clone(), (number, will)) {
                keeper.delete(&Key::Will(before));
            }
        }
        newest.into_values().for_each(|(number, will)| self.restore_will(number, will, listeners));
        keeper.flush();
        tracing::info!(
            sessions = restored,
            messages = messages.len(),
            retained,
            wills,
            "what clients have left with the gateway is restored"
        );
    }

    fn envelope_of(&self, message: KeptMessage) -> Option<Envelope> {
        let (age_ms, written_ms) = (message.age_ms(clock::now_ms()), message.steady_ms);
        let envelope = Envelope::stored(message.envelope.0)?;
        let Some(deadline_ms) = envelope.deadline_ms() else { return Some(envelope) };
        let left_ms = deadline_ms.saturating_sub(written_ms).checked_sub(age_ms).filter(|left_ms| *left_ms > 0)?;
        Some(envelope.until(self.fanout.now_ms() + left_ms))
    }

    fn restore_retained(&self, message: KeptMessage) {
        let topic = Envelope::topic_of(&message.envelope.0);
        let is_kept = self.envelope_of(message).is_some_and(|envelope| self.fanout.retain(&envelope).is_ok());
        if let Some(topic) = topic.filter(|_| !is_kept) {
            self.keeper.delete(&Key::Retained(topic));
        }
    }

    /// The messages that are of use, and what each session is to get of them.
    fn restore_messages(
        &self,
        kept: BTreeMap<MessageNumber, KeptMessage>,
    ) -> (HashMap<MessageNumber, Message>, HashMap<SessionNumber, Receivers>) {
        let (mut messages, mut receivers) = (HashMap::new(), HashMap::<SessionNumber, Receivers>::new());
        for (number, mut message) in kept {
            let of_message = std::mem::take(&mut message.receivers);
            let stored = self.keeper.shelf().hold(number, message.envelope.0.len());
            stored.mark_stored();
            let Some(envelope) = self.envelope_of(message) else { continue };
            for receiver in of_message {
                receivers.entry(receiver.session).or_default().push((number, receiver));
            }
            messages.insert(number, Message { envelope, stored });
        }
        (messages, receivers)
    }

    /// Returns whether there is such a session.
    fn restore_session(
        &self,
        number: SessionNumber,
        parts: SessionParts,
        waiting: Waiting<'_>,
        listeners: &[Rc<Listener>],
    ) -> bool {
        let SessionParts { session, filters, unreleased, progress } = parts;
        let left = session.as_ref().and_then(left_of);
        let client = session.as_ref().and_then(|session| client_of(&session.client, listeners));
        let address = session.as_ref().and_then(|session| session.address.parse().ok());
        let (Some(session), Some(left), Some(client), Some(address)) = (&session, left, client, address) else {
            let gone = session.as_ref().and_then(|session| bridging::name_of(&session.client.client_id));
            if let Some(bridge) = gone {
                self.note_bridge_gone(
                    bridge,
                    waiting.count(&progress.unwrap_or_default()),
                    "messages that waited for the other broker",
                );
            }
            let of_filters = filters.into_iter().map(|(filter, _)| Key::Filter(number, filter));
            let of_ids = unreleased.into_iter().map(|packet_id| Key::Unreleased(number, packet_id));
            let rest = [Key::Session(number), Key::Progress(number)].into_iter().chain(of_filters).chain(of_ids);
            rest.for_each(|key| self.keeper.delete(&key));
            return false;
        };
        let subscriber = self.fanout.subscriber(address, &Rc::new(client));
        subscriber.set_session(Some(number));
        subscriber.has_progress.set(progress.is_some());
        unreleased.iter().for_each(|packet_id| subscriber.unreleased.borrow_mut().restore(*packet_id));
        let mut is_whole = true;
        for (filter, KeptFilter { wants, is_scanned }) in filters {
            let scan = if is_scanned { RetainHandling::Always } else { RetainHandling::Never };
            is_whole &= self.fanout.restore_filter(&subscriber, &filter, wants, scan);
        }
        if !is_whole {
            // Limits are lower than they were. A client that finds its session does not ask for its filters again.
            self.fanout.note_short();
            self.sessions.end(&subscriber);
            return false;
        }
        subscriber.note_restored();
        waiting.restore_in_flight(&subscriber, progress.as_ref());
        // What was there before is there now, even if it is more than those who leave later may keep.
        waiting.queued(&progress.unwrap_or_default()).for_each(|message| subscriber.push(message));
        self.sessions.restore(&subscriber, left);
        if session.left_at_ms.is_none() {
            subscriber.may_have_sent(self.keeper.next_message());
            self.fanout.store_session(&subscriber, Duration::from_millis(session.expiry_ms), Some(clock::now_ms()));
        }
        true
    }

    fn restore_will(self: &Rc<Self>, number: SessionNumber, kept: KeptWill, listeners: &[Rc<Listener>]) {
        let Some(client) = client_of(&kept.client, listeners) else { return self.keeper.delete(&Key::Will(number)) };
        let will = LeftWill::restored(number, kept);
        let delay = will.delay.max(WILLS_WAIT);
        let back = self.sessions.keep_restored_will(client.id());
        tokio::task::spawn_local(wait_with_will(Rc::clone(self), Rc::new(client), will, delay, back));
    }
}

/// What a session is to get of the messages, in their order.
type Receivers = Vec<(MessageNumber, KeptReceiver)>;

struct Waiting<'a> {
    messages: &'a HashMap<MessageNumber, Message>,
    receivers: Receivers,
}

impl Waiting<'_> {
    fn message(&self, number: MessageNumber, receiver: &KeptReceiver) -> Option<super::subscriber::Message> {
        let Message { envelope, stored } = self.messages.get(&number)?;
        let identifiers = receiver.identifiers.clone().into();
        Some(fanout::message(envelope, receiver.qos, receiver.retain, identifiers, false, Some(Rc::clone(stored))))
    }

    /// What was sent. Of a message that is there no more the client has to release the id, at QoS 2; at QoS 1 it means nothing any more.
    fn restore_in_flight(&self, subscriber: &Subscriber, progress: Option<&KeptProgress>) {
        for sent in progress.iter().flat_map(|progress| &progress.in_flight) {
            let find = |number: MessageNumber| {
                let at = self.receivers.binary_search_by_key(&number, |(known, _)| *known).ok()?;
                self.message(number, &self.receivers[at].1)
            };
            let message = sent.message.and_then(find);
            if sent.qos == 2 || message.is_some() {
                subscriber.restore(Restored { packet_id: sent.packet_id, message });
            }
        }
    }

    /// How many were not acknowledged.
    fn count(&self, progress: &KeptProgress) -> usize {
        let in_flight = progress.in_flight.iter().filter_map(|sent| sent.message);
        let is_there = |number: &MessageNumber| {
            self.receivers.binary_search_by_key(number, |(known, _)| *known).is_ok()
                && self.messages.contains_key(number)
        };
        in_flight.filter(is_there).count() + self.queued(progress).count()
    }

    /// What was not sent.
    fn queued(&self, progress: &KeptProgress) -> impl Iterator<Item = super::subscriber::Message> + '_ {
        let in_flight = progress.in_flight.iter().filter_map(|sent| sent.message).map(|number| number.0);
        let done: HashSet<u64> = progress.done.iter().copied().chain(in_flight).collect();
        let from = progress.waiting_from;
        let waits = move |number: &MessageNumber| number.0 >= from && !done.contains(&number.0);
        let waiting = self.receivers.iter().filter(move |(number, _)| waits(number));
        waiting.filter_map(|(number, receiver)| self.message(*number, receiver))
    }
}

/// How long a session is still kept; `None` if it is over.
fn left_of(session: &KeptSession) -> Option<Duration> {
    let left_ms = session.expiry_ms.saturating_sub(session.away_ms(clock::now_ms()));
    (left_ms > 0).then(|| Duration::from_millis(left_ms))
}

fn client_of(kept: &KeptClient, listeners: &[Rc<Listener>]) -> Option<Client> {
    let listener = listeners.iter().find(|listener| listener.settings.name == kept.listener)?;
    Some(Client { identity: kept.identity(), listener: Rc::clone(listener), secret: None })
}

//! Queues a message for a subscriber, and decides who goes without when there is no room.

use std::rc::{Rc, Weak};

use super::Fanout;
use crate::core::mqtt::outbound::Stored;
use crate::mqtt::router::Envelope;
use crate::mqtt::subscriber::{Message, Subscriber};

impl Fanout {
    pub(in crate::mqtt) fn queue(&self, subscriber: &Rc<Subscriber>, message: Message) {
        let stored = message.stored.clone();
        if !self.try_queue(subscriber, message) {
            stored.into_iter().for_each(|stored| subscriber.miss(stored.number()));
        }
    }

    /// Returns whether the message waits for the subscriber now.
    fn try_queue(&self, subscriber: &Rc<Subscriber>, message: Message) -> bool {
        let (is_connected, cost) = (subscriber.is_connected(), message.cost());
        if subscriber.gave_way.get() {
            return false;
        }
        if message.is_own {
            let is_kept = is_connected || message.qos > 0;
            let is_queued = is_kept && subscriber.has_own_room(cost);
            match is_queued {
                true => subscriber.push(message),
                false => subscriber.miss_own(),
            }
            return is_queued;
        }
        if !is_connected && message.qos == 0 {
            return false;
        }
        let is_kept = is_connected || subscriber.is_bridge;
        if subscriber.has_room(cost) && (is_kept || self.make_away_room(subscriber, cost)) {
            subscriber.push(message);
            return true;
        }
        self.counters.messages_dropped.add(1);
        if subscriber.is_bridge {
            // Its session goes on without the message, which is told: there is nobody who would begin another one.
            subscriber.dropped.set(subscriber.dropped.get() + 1);
            self.note_short();
            return false;
        }
        if !is_connected {
            self.end_session(subscriber);
            return false;
        }
        if message.qos > 0 {
            // Its session must not go on without the message. It ends with the connection; what of it is stored is deleted at once.
            subscriber.has_gap.set(true);
            self.delete_stored(subscriber);
        }
        subscriber.cut_off();
        false
    }

    /// Ends the session of a client that is away: it must not resume one with missing messages.
    fn end_session(&self, subscriber: &Rc<Subscriber>) {
        self.delete_stored(subscriber);
        subscriber.give_way();
        self.forget(subscriber);
        self.counters.sessions_given_way.add(1);
        self.note_short();
    }

    /// While the sessions that are away keep too much, ends the one that has been away for longest. If the subscriber's host has more than
    /// half of it, only sessions of that host are ended.
    pub(super) fn make_away_room(&self, subscriber: &Rc<Subscriber>, cost: usize) -> bool {
        while self.pool.is_away_full(cost) {
            let is_host_greedy = subscriber.is_host_greedy();
            let gives_way = |other: &Rc<Subscriber>| {
                let is_other = !Rc::ptr_eq(other, subscriber) && other.bytes() > 0 && !other.is_bridge;
                is_other && (!is_host_greedy || Rc::ptr_eq(&other.host, &subscriber.host))
            };
            let first = self.inner.borrow().away.values().filter_map(Weak::upgrade).find(gives_way);
            let Some(first) = first else { return cost == 0 };
            self.end_session(&first);
        }
        true
    }
}

pub(in crate::mqtt) fn message(
    envelope: &Envelope,
    granted: u8,
    retain: bool,
    identifiers: Box<[u32]>,
    is_own: bool,
    stored: Option<Rc<Stored>>,
) -> Message {
    Message {
        topic: envelope.topic_bytes(),
        payload: envelope.payload(),
        passed_on: envelope.passed_on(),
        deadline_ms: envelope.deadline_ms(),
        identifiers,
        qos: envelope.qos().min(granted),
        retain,
        is_own,
        stored,
    }
}

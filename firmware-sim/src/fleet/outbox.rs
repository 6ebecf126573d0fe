//! Publishes that wait for their acknowledgement, as a pure structure.
//!
//! The client library forgets what is in flight when the broker no longer has a session for it, which is the case after the broker was
//! killed. So the vehicle keeps its publishes itself and hands all of them to each new connection.

use crate::ledger::MetricSet;
use bytes::Bytes;
use std::collections::VecDeque;

#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    /// Sequence number and metrics of each sample within.
    pub readings: Vec<(u64, MetricSet)>,
    /// The last sample within.
    pub last_index: u64,
}

impl Publish {
    pub fn reading_count(&self) -> u64 {
        self.readings.iter().map(|(_, metrics)| metrics.iter().count() as u64).sum()
    }
}

#[derive(Debug)]
struct Entry {
    publish: Publish,
    /// How many were handed over on this connection before it.
    turn: u64,
    packet_id: Option<u16>,
    /// The broker has it, but the two sides have not yet let go of its packet id: between PUBREC and PUBCOMP.
    is_received: bool,
}

/// Oldest first. On the current connection, the first `handed` were given to the client, and the first `numbered` of those have their
/// packet id.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    handed: usize,
    numbered: usize,
    next_turn: u64,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, publish: Publish) {
        self.entries.push_back(Entry { publish, turn: 0, packet_id: None, is_received: false });
    }

    /// Takes the oldest out, acknowledged or not.
    pub fn pop(&mut self) -> Option<Publish> {
        self.connection_lost();
        self.entries.pop_front().map(|entry| entry.publish)
    }

    /// The oldest entry: the oldest unacknowledged sample is in it or later.
    pub fn oldest(&self) -> Option<&Publish> {
        self.entries.front().map(|entry| &entry.publish)
    }

    /// The next publish to give to the client on this connection. From the oldest unsettled one to it there are at most `in_flight_max`: the
    /// client numbers them in a ring of that size, whatever the order in which they are settled.
    pub fn hand_next(&mut self, in_flight_max: u16) -> Option<&Publish> {
        let oldest_turn = self.entries.front().filter(|_| self.handed > 0).map_or(self.next_turn, |oldest| oldest.turn);
        if self.next_turn - oldest_turn >= in_flight_max.into() {
            return None;
        }
        let entry = self.entries.get_mut(self.handed)?;
        entry.turn = self.next_turn;
        self.next_turn += 1;
        self.handed += 1;
        Some(&entry.publish)
    }

    /// The client sent the oldest handed publish that had no packet id yet, with this one.
    pub fn sent(&mut self, packet_id: u16) {
        if self.numbered < self.handed {
            self.entries[self.numbered].packet_id = Some(packet_id);
            self.numbered += 1;
        }
    }

    /// The broker has the publish with this packet id, which is still to be completed.
    pub fn received(&mut self, packet_id: u16) {
        if let Some(place) = self.place(packet_id) {
            self.entries[place].is_received = true;
        }
    }

    /// Removes and returns the publish with this packet id; `None` if there is none.
    pub fn settled(&mut self, packet_id: u16) -> Option<Publish> {
        let place = self.place(packet_id)?;
        self.numbered -= 1;
        self.handed -= 1;
        self.entries.remove(place).map(|entry| entry.publish)
    }

    /// The same for a publish that the broker has; `None` if it never said so.
    pub fn completed(&mut self, packet_id: u16) -> Option<Publish> {
        let place = self.place(packet_id)?;
        if self.entries[place].is_received { self.settled(packet_id) } else { None }
    }

    /// Everything left will be handed over again on the next connection.
    pub fn connection_lost(&mut self) {
        (self.handed, self.numbered, self.next_turn) = (0, 0, 0);
        for entry in &mut self.entries {
            (entry.packet_id, entry.is_received) = (None, false);
        }
    }

    fn place(&self, packet_id: u16) -> Option<usize> {
        self.entries.iter().take(self.numbered).position(|entry| entry.packet_id == Some(packet_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(index: u64) -> Publish {
        Publish { topic: String::new(), payload: Bytes::new(), readings: Vec::new(), last_index: index }
    }

    #[test]
    fn what_was_not_acknowledged_is_handed_again_in_order() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|index| outbox.push(publish(index)));
        assert_eq!(outbox.hand_next(9), Some(&publish(1)));
        assert_eq!(outbox.hand_next(9), Some(&publish(2)));
        outbox.sent(7);
        outbox.sent(8);
        assert_eq!(outbox.settled(8), Some(publish(2)));
        assert_eq!(outbox.settled(8), None);
        outbox.connection_lost();
        assert_eq!(outbox.settled(7), None, "packet ids of a lost connection mean nothing");
        assert_eq!(outbox.hand_next(9), Some(&publish(1)));
        assert_eq!(outbox.hand_next(9), Some(&publish(3)));
        assert_eq!(outbox.hand_next(9), None);
    }

    #[test]
    fn the_oldest_unsettled_publish_holds_back_those_that_would_take_its_packet_id() {
        let mut outbox = Outbox::default();
        (1..=5).for_each(|index| outbox.push(publish(index)));
        for packet_id in [1, 2] {
            assert!(outbox.hand_next(2).is_some());
            outbox.sent(packet_id);
        }
        assert_eq!(outbox.hand_next(2), None);
        assert_eq!(outbox.settled(2), Some(publish(2)));
        assert_eq!(outbox.hand_next(2), None, "the next one would be the packet 1");
        assert_eq!(outbox.settled(1), Some(publish(1)));
        assert_eq!(outbox.hand_next(2), Some(&publish(3)));
        assert_eq!(outbox.hand_next(2), Some(&publish(4)));
        assert_eq!(outbox.hand_next(2), None);
        assert_eq!(outbox.hand_next(0), None);
    }

    #[test]
    fn what_the_broker_never_had_is_not_completed() {
        let mut outbox = Outbox::default();
        outbox.push(publish(1));
        outbox.hand_next(2);
        outbox.sent(1);
        assert_eq!(outbox.completed(1), None);
        outbox.received(9);
        assert_eq!(outbox.completed(1), None);
        outbox.received(1);
        outbox.connection_lost();
        outbox.hand_next(2);
        outbox.sent(1);
        assert_eq!(outbox.completed(1), None, "it was received on another connection");
        outbox.received(1);
        assert_eq!(outbox.completed(1), Some(publish(1)));
        assert_eq!(outbox.completed(1), None);
    }
}

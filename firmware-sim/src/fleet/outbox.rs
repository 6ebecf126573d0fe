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
    packet_id: Option<u16>,
}

/// Oldest first. On the current connection, the first `handed` were given to the client, and the first `numbered` of those have their
/// packet id.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    handed: usize,
    numbered: usize,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, publish: Publish) {
        self.entries.push_back(Entry { publish, packet_id: None });
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

    /// The next publish to give to the client on this connection.
    pub fn hand_next(&mut self) -> Option<&Publish> {
        let entry = self.entries.get(self.handed)?;
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

    /// Removes and returns the publish with this packet id; `None` if there is none.
    pub fn acknowledged(&mut self, packet_id: u16) -> Option<Publish> {
        let place = self.entries.iter().take(self.numbered).position(|entry| entry.packet_id == Some(packet_id))?;
        self.numbered -= 1;
        self.handed -= 1;
        self.entries.remove(place).map(|entry| entry.publish)
    }

    /// Everything left will be handed over again on the next connection.
    pub fn connection_lost(&mut self) {
        (self.handed, self.numbered) = (0, 0);
        for entry in &mut self.entries {
            entry.packet_id = None;
        }
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
        assert_eq!(outbox.hand_next(), Some(&publish(1)));
        assert_eq!(outbox.hand_next(), Some(&publish(2)));
        outbox.sent(7);
        outbox.sent(8);
        assert_eq!(outbox.acknowledged(8), Some(publish(2)));
        assert_eq!(outbox.acknowledged(8), None);
        outbox.connection_lost();
        assert_eq!(outbox.acknowledged(7), None, "packet ids of a lost connection mean nothing");
        assert_eq!(outbox.hand_next(), Some(&publish(1)));
        assert_eq!(outbox.hand_next(), Some(&publish(3)));
        assert_eq!(outbox.hand_next(), None);
    }
}

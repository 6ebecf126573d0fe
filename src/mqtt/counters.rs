//! What the MQTT side counts since the start, for the status and the metrics.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::counter::{Counter, Histogram};
use crate::ingest::undecodable::UndecodableKinds;

/// Most topics of unrouted publishes that the status lists.
const UNROUTED_TOPICS: usize = 16;

#[derive(Debug, Default)]
pub struct EdgeCounters {
    pub connections: Counter,
    pub disconnections: Counter,
    pub connections_refused: Counter,
    /// Connections that were accepted later, because too many came at once.
    pub connections_delayed: Counter,
    /// How often a client was not read for a while, because it had sent more than it may.
    pub clients_slowed: Counter,
    /// Connections that sent a user name or a password, which is not checked.
    pub logins_unchecked: Counter,
    pub publishes_qos_0: Counter,
    pub publishes_qos_1: Counter,
    pub publishes_qos_2: Counter,
    pub publishes_unrouted: Counter,
    pub publishes_refused: Counter,
    /// Publishes that their client has no right to.
    pub publishes_denied: Counter,
    /// Filters that their client has no right to.
    pub filters_denied: Counter,
    pub logins_refused: Counter,
    pub bytes_received: Counter,
    /// Time from reading a publish to writing its PUBACK.
    pub puback: Histogram,
    pub subscribers_overrun: Counter,
    pub messages_dropped: Counter,
    /// Messages for sessions that did not fit into the store: they wait in memory only.
    pub messages_unstored: Counter,
    /// Messages that their receiver does not take, because they are too large, or that were of no use any more.
    pub messages_left_out: Counter,
    pub sessions_given_way: Counter,
    pub sessions_expired: Counter,
    pub filters_refused: Counter,
    pub retained_refused: Counter,
    pub unrouted_topics: Mutex<VecDeque<String>>,
    /// Readers of files have it, too.
    pub undecodable: Arc<UndecodableKinds>,
}

impl EdgeCounters {
    pub(super) fn note_unrouted(&self, topic: &str) {
        self.publishes_unrouted.add(1);
        let mut topics = self.unrouted_topics.lock().expect("nothing panics while it is held");
        if topics.iter().any(|known| known == topic) {
            return;
        }
        if topics.len() == UNROUTED_TOPICS {
            topics.pop_front();
        }
        topics.push_back(topic.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_unrouted_topics_are_listed_once() {
        let counters = EdgeCounters::default();
        (0..=UNROUTED_TOPICS).for_each(|number| counters.note_unrouted(&format!("t/{number}")));
        counters.note_unrouted("t/5");
        let topics = counters.unrouted_topics.lock().expect("nothing panics while it is held").clone();
        assert_eq!(counters.publishes_unrouted.get(), UNROUTED_TOPICS as u64 + 2);
        assert_eq!((topics.len(), topics.front().map(String::as_str)), (UNROUTED_TOPICS, Some("t/1")));
    }
}

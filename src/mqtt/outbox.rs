//! The gateway's own messages on their way to subscribers: alerts, their acknowledgements, and the status.
//!
//! A newer message replaces a waiting one on the same topic, so the number of topics bounds the queue.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::alert_feed::AlertFeed;
use crate::core::rulebook::RuleMessage;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMessage {
    pub topic: String,
    pub payload: Vec<u8>,
    /// A state, retained for later subscribers; an empty payload removes it. Otherwise an event.
    pub retain: bool,
}

impl OwnMessage {
    pub fn state(topic: String, payload: Vec<u8>) -> OwnMessage {
        OwnMessage { topic, payload, retain: true }
    }

    pub fn event(topic: String, payload: Vec<u8>) -> OwnMessage {
        OwnMessage { topic, payload, retain: false }
    }
}

/// Most messages of rules that wait. Each is an event of its own: none replaces another one.
const OF_RULES_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<String>,
    messages: HashMap<String, OwnMessage>,
    of_rules: VecDeque<RuleMessage>,
}

/// What is to be published next.
#[derive(Debug)]
pub enum Outgoing {
    Own(OwnMessage),
    OfRule(RuleMessage),
}

/// Cheap to clone. Any thread adds messages; the MQTT thread takes them.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    waiting: Arc<Mutex<Waiting>>,
    changed: Arc<Notify>,
    alerts: AlertFeed,
}

impl Outbox {
    /// Where what becomes of alerts can be seen, besides here.
    pub fn alerts(&self) -> AlertFeed {
        self.alerts.clone()
    }

    pub fn put(&self, message: OwnMessage) {
        if message.retain {
            self.alerts.note(&message.topic, &message.payload);
        }
        let mut waiting = self.waiting.lock().expect("nothing panics while it is held");
        let topic = message.topic.clone();
        if waiting.messages.insert(topic.clone(), message).is_none() {
            waiting.order.push_back(topic);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Adds what rules publish, in order. Returns how many of the messages find no room.
    pub fn put_of_rules(&self, messages: Vec<RuleMessage>) -> usize {
        let mut waiting = self.waiting.lock().expect("nothing panics while it is held");
        let room = OF_RULES_MAX.saturating_sub(waiting.of_rules.len());
        let left_out = messages.len().saturating_sub(room);
        waiting.of_rules.extend(messages.into_iter().take(room));
        drop(waiting);
        self.changed.notify_one();
        left_out
    }

    fn take_of_rule(&self) -> Option<RuleMessage> {
        self.waiting.lock().expect("nothing panics while it is held").of_rules.pop_front()
    }

    pub fn take(&self) -> Option<OwnMessage> {
        let mut waiting = self.waiting.lock().expect("nothing panics while it is held");
        let topic = waiting.order.pop_front()?;
        Some(waiting.messages.remove(&topic).expect("each topic in the order has a message"))
    }

    /// Waits for the next message; alerts and the status come first. Only one task may wait.
    pub async fn next(&self) -> Outgoing {
        loop {
            if let Some(message) = self.take() {
                return Outgoing::Own(message);
            }
            if let Some(message) = self.take_of_rule() {
                return Outgoing::OfRule(message);
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_message_takes_the_place_of_one_that_waits() {
        let outbox = Outbox::default();
        for (topic, payload) in [("a", "1"), ("b", "1"), ("a", "2")] {
            outbox.put(OwnMessage::state(topic.to_owned(), payload.into()));
        }
        let taken: Vec<_> = std::iter::from_fn(|| outbox.take()).map(|m| (m.topic, m.payload)).collect();
        assert_eq!(taken, [("a".to_owned(), b"2".to_vec()), ("b".to_owned(), b"1".to_vec())]);
    }
}

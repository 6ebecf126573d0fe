//! Retained messages: ours, not the router's, which hands a new subscriber at most 100 of them and forgets one on an empty publish.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::core::topic;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    pub topic: Bytes,
    pub payload: Bytes,
    pub qos: u8,
}

/// Bounded in number and bytes; beyond either a new topic is refused, an old one can still be replaced by what is not larger.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<Bytes, (Bytes, u8)>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

/// The store of retained messages is full.
#[derive(Debug, PartialEq, Eq)]
pub struct RetainedFull;

impl Retained {
    pub fn new(count_max: usize, bytes_max: usize) -> Retained {
        Retained { messages: BTreeMap::new(), bytes: 0, count_max, bytes_max }
    }

    /// An empty payload deletes.
    pub fn set(&mut self, topic: &[u8], payload: &[u8], qos: u8) -> Result<(), RetainedFull> {
        let old = self.messages.get(topic).map(|(payload, _)| payload.len());
        if payload.is_empty() {
            if let Some(old) = old {
                self.messages.remove(topic);
                self.bytes -= topic.len() + old;
            }
            return Ok(());
        }
        let after = self.bytes - old.map_or(0, |old| topic.len() + old) + topic.len() + payload.len();
        let grows = after > self.bytes;
        if (old.is_none() && self.messages.len() >= self.count_max) || (grows && after > self.bytes_max) {
            return Err(RetainedFull);
        }
        self.bytes = after;
        self.messages.insert(Bytes::copy_from_slice(topic), (Bytes::copy_from_slice(payload), qos));
        Ok(())
    }

    pub fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = RetainedMessage> + 'a {
        self.messages
            .iter()
            .filter(|(topic, _)| std::str::from_utf8(topic).is_ok_and(|topic| topic::matches(filter, topic)))
            .map(|(topic, (payload, qos))| RetainedMessage {
                topic: topic.clone(),
                payload: payload.clone(),
                qos: *qos,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retained_messages_are_replaced_deleted_and_bounded() {
        let mut retained = Retained::new(2, 20);
        assert_eq!(retained.set(b"a", b"1", 0), Ok(()));
        assert_eq!(retained.set(b"a", b"22", 1), Ok(()));
        assert_eq!(retained.set(b"b", b"1", 0), Ok(()));
        assert_eq!(retained.set(b"c", b"1", 0), Err(RetainedFull), "too many");
        assert_eq!(retained.set(b"b", &[0; 30], 0), Err(RetainedFull), "too large");
        let all: Vec<_> = retained.matching("#").map(|message| (message.topic, message.payload, message.qos)).collect();
        assert_eq!(all, [("a".into(), "22".into(), 1), ("b".into(), "1".into(), 0)]);
        assert_eq!(retained.set(b"a", b"", 0), Ok(()));
        assert_eq!(retained.matching("a").count(), 0);
        assert_eq!(retained.set(b"a", b"", 0), Ok(()), "nothing to delete");
        assert_eq!((retained.messages.len(), retained.bytes), (1, 2));
    }
}

//! Retained messages. We do not use the router's: it gives a new subscriber at most 100 of them, and forgets one on an empty publish.
//!
//! A subscriber gets them gradually, as it reads: what waits for it is a position in this table, not a copy of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;

use super::router::{Draft, Envelope};
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic;

/// Bounded in number and bytes. Beyond either, a new topic is refused; a known one can still be replaced by a message that is not larger.
/// The gateway's own messages do not count: filling this table must not silence an alert.
#[derive(Debug)]
pub struct Retained {
    own: Messages,
    messages: Messages,
    bytes: usize,
    /// How many are of each publisher.
    of_publishers: HashMap<u64, usize>,
    count_max: usize,
    bytes_max: usize,
}

type Messages = BTreeMap<Bytes, Envelope>;

/// There is no room for another retained message.
#[derive(Debug, PartialEq, Eq)]
pub struct RetainedFull;

/// A subscriber's progress through the retained messages of one filter.
#[derive(Debug)]
pub struct Scan {
    pub filter: String,
    pub wants: Wants,
    /// Whether only the gateway's own messages are scanned; they always come first.
    pub own_only: bool,
    is_past_own: bool,
    /// The last topic that was given or did not match.
    after: Option<Bytes>,
}

impl Scan {
    pub fn new(filter: &str, wants: Wants) -> Scan {
        Scan { filter: filter.to_owned(), wants, own_only: false, is_past_own: false, after: None }
    }

    /// Scans the gateway's own messages only.
    pub fn of_own(filter: &str, wants: Wants) -> Scan {
        Scan { own_only: true, ..Scan::new(filter, wants) }
    }

    /// Whether it is still among the gateway's own messages.
    pub fn is_own(&self) -> bool {
        !self.is_past_own
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum ScanStep {
    Message(Envelope),
    /// It looked at as many messages as it may for now.
    Paused,
    Done,
}

impl Retained {
    pub fn new(count_max: usize, bytes_max: usize) -> Retained {
        Retained {
            own: BTreeMap::new(),
            messages: BTreeMap::new(),
            bytes: 0,
            of_publishers: HashMap::new(),
            count_max,
            bytes_max,
        }
    }

    /// Keeps a client's message; one without a payload deletes.
    pub fn set(&mut self, envelope: &Envelope) -> Result<(), RetainedFull> {
        let (topic, len) = (envelope.topic_bytes(), size(envelope));
        let old = self.messages.get(&topic).map(size);
        if envelope.payload().is_empty() {
            if let Some(removed) = self.messages.remove(&topic) {
                self.bytes -= size(&removed);
                self.count_of(removed.publisher(), usize::wrapping_sub);
            }
            return Ok(());
        }
        if !self.takes(old, len) {
            return Err(RetainedFull);
        }
        self.bytes = self.bytes - old.unwrap_or(0) + len;
        if let Some(old) = self.messages.get(&topic).map(Envelope::publisher) {
            self.count_of(old, usize::wrapping_sub);
        }
        self.count_of(envelope.publisher(), usize::wrapping_add);
        put(&mut self.messages, topic, envelope);
        Ok(())
    }

    pub fn byte_size(&self) -> usize {
        self.bytes
    }

    /// What is retained on a client's topic.
    pub fn get(&self, topic: &str) -> Option<&Envelope> {
        self.messages.get(topic.as_bytes())
    }

    /// Whether [`Self::set`] would keep this message now.
    pub fn has_room(&self, draft: &Draft<'_>) -> bool {
        let known = self.messages.get(draft.topic.as_bytes());
        let is_own = known.is_some_and(|known| known.publisher() == draft.publisher);
        let count = self.of_publishers.get(&draft.publisher).copied().unwrap_or(0);
        if !is_own && draft.retained_max.is_some_and(|max| count >= max) {
            return false;
        }
        self.takes(known.map(size), draft.topic.len() + draft.passed_on.len() + draft.payload.len())
    }

    /// Bytes by which all would grow.
    pub fn growth(&self, draft: &Draft<'_>) -> usize {
        let old = self.messages.get(draft.topic.as_bytes()).map_or(0, size);
        (draft.topic.len() + draft.passed_on.len() + draft.payload.len()).saturating_sub(old)
    }

    fn count_of(&mut self, publisher: u64, change: fn(usize, usize) -> usize) {
        let count = self.of_publishers.entry(publisher).or_default();
        *count = change(*count, 1);
        if *count == 0 {
            self.of_publishers.remove(&publisher);
        }
    }

    fn takes(&self, old: Option<usize>, len: usize) -> bool {
        let after = self.bytes - old.unwrap_or(0) + len;
        let is_over = after > self.bytes && after > self.bytes_max;
        !is_over && (old.is_some() || self.messages.len() < self.count_max)
    }

    /// Keeps one of the gateway's own messages, or with an empty payload deletes it. Clients cannot publish to its topic.
    pub fn set_own(&mut self, envelope: &Envelope) {
        let topic = envelope.topic_bytes();
        if envelope.payload().is_empty() {
            self.own.remove(&topic);
        } else {
            put(&mut self.own, topic, envelope);
        }
    }

    /// The next message of a scan. Looks at no more than `looks` messages, and counts it down.
    pub fn advance(&self, scan: &mut Scan, looks: &mut usize) -> ScanStep {
        if !scan.is_past_own {
            match advance_in(&self.own, scan, looks) {
                ScanStep::Done if !scan.own_only => (scan.is_past_own, scan.after) = (true, None),
                step => return step,
            }
        }
        advance_in(&self.messages, scan, looks)
    }
}

fn put(messages: &mut Messages, topic: Bytes, envelope: &Envelope) {
    // The old key is a slice of the old message, and would keep all of it in memory.
    messages.remove(&topic);
    messages.insert(topic, envelope.clone());
}

fn advance_in(messages: &Messages, scan: &mut Scan, looks: &mut usize) -> ScanStep {
    let prefix = literal_prefix(&scan.filter);
    let start = match &scan.after {
        Some(after) => Bound::Excluded(after.as_ref()),
        None => Bound::Included(prefix.as_bytes()),
    };
    let mut last: Option<&Bytes> = None;
    for (topic, envelope) in messages.range::<[u8], _>((start, Bound::Unbounded)) {
        if !topic.starts_with(prefix.as_bytes()) {
            break;
        }
        if *looks == 0 {
            scan.after = last.cloned().or(scan.after.take());
            return ScanStep::Paused;
        }
        *looks -= 1;
        last = Some(topic);
        if topic::matches(&scan.filter, envelope.topic()) {
            scan.after = Some(topic.clone());
            return ScanStep::Message(envelope.clone());
        }
    }
    ScanStep::Done
}

fn size(envelope: &Envelope) -> usize {
    envelope.topic().len() + envelope.passed_on().len() + envelope.payload().len()
}

/// The literal text that every topic matched by the filter begins with.
fn literal_prefix(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        // `a/#` matches `a` too.
        Some(wildcard) => filter[..wildcard].strip_suffix('/').unwrap_or(&filter[..wildcard]),
        None => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(retained: &mut Retained, topic: &str, payload: &[u8]) -> Result<(), RetainedFull> {
        retained.set(&Envelope::new(topic, payload, 1))
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let mut scan = Scan::new(filter, Wants::default());
        let mut found = Vec::new();
        loop {
            match retained.advance(&mut scan, &mut 1) {
                ScanStep::Message(envelope) => found.push(envelope.topic().to_owned()),
                // Pausing at once without having looked would go on for ever.
                ScanStep::Paused => {}
                ScanStep::Done => return found,
            }
        }
    }

    #[test]
    fn retained_messages_are_replaced_deleted_and_bounded() {
        let mut retained = Retained::new(2, 20);
        assert_eq!(set(&mut retained, "a", b"1"), Ok(()));
        assert_eq!(set(&mut retained, "a", b"22"), Ok(()));
        assert_eq!(set(&mut retained, "b", b"1"), Ok(()));
        assert_eq!(set(&mut retained, "c", b"1"), Err(RetainedFull), "too many");
        assert_eq!(set(&mut retained, "b", &[0; 30]), Err(RetainedFull), "too large");
        assert_eq!(topics(&retained, "#"), ["a", "b"]);
        retained.set_own(&Envelope::new("alerts/x", &[0; 30], 1));
        assert_eq!(topics(&retained, "alerts/#"), ["alerts/x"], "the gateway's own always have room");
        retained.set_own(&Envelope::new("alerts/x", b"", 1));
        assert_eq!(set(&mut retained, "a", b""), Ok(()));
        assert_eq!(topics(&retained, "a").len(), 0);
        assert_eq!(set(&mut retained, "a", b""), Ok(()), "nothing to delete");
        assert_eq!((retained.messages.len(), retained.own.len(), retained.bytes), (1, 0, 2));
    }

    #[test]
    fn a_scan_finds_each_match_once_and_looks_only_where_one_can_be() {
        let mut retained = Retained::new(100, 10_000);
        for topic in ["a", "a!", "a/b", "a/b/c", "a/c", "b", "/a"] {
            set(&mut retained, topic, b"1").expect("room");
        }
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/b/c", "a/c"]);
        assert_eq!(topics(&retained, "a/+"), ["a/b", "a/c"]);
        assert_eq!(topics(&retained, "+/b/#"), ["a/b", "a/b/c"]);
        assert_eq!(topics(&retained, "a/b"), ["a/b"]);
        assert_eq!(topics(&retained, "#").len(), 7);
        let mut looks = 100;
        while retained.advance(&mut Scan::new("b", Wants::default()), &mut looks) == ScanStep::Done {}
        assert_eq!(looks, 99, "a plain topic is looked up, not searched for");
    }
}

//! Local subscribers: who gets what, in bounded memory. Lives on the edge's one thread, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::retained::Retained;
use super::router::{FilterLog, RouterDead, RouterFeed};
use super::{EdgeCounters, EdgeSettings};
use crate::core::session::{Message, Outbound};
use crate::core::topic;

/// What one client is subscribed to and has yet to get. A persistent session keeps it while the client is away.
#[derive(Default)]
pub struct Subscriber {
    pub outbound: RefCell<Outbound<Bytes>>,
    pub changed: Notify,
    /// It did not read fast enough; the connection closes and says so.
    pub overrun: Cell<bool>,
    connected: Cell<bool>,
    filters: RefCell<HashMap<String, u8>>,
}

impl Subscriber {
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(connected);
        if !connected {
            self.outbound.borrow_mut().drop_qos_0();
            self.overrun.set(false);
        }
    }

    pub fn has_filters(&self) -> bool {
        !self.filters.borrow().is_empty()
    }
}

struct FilterEntry {
    subscribers: Vec<(Rc<Subscriber>, u8)>,
}

struct Inner {
    /// Every filter that ever was: the router keeps a log for each for ever.
    filters: HashMap<String, FilterEntry>,
    /// Subscriptions of clients that are there or have a session here.
    active: usize,
    retained: Retained,
    /// Hashes of the topics that went through the router, which remembers each of them.
    topics: HashSet<u64>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    inner: Rc<RefCell<Inner>>,
    router: RouterFeed,
    settings: Rc<EdgeSettings>,
    counters: Arc<EdgeCounters>,
}

/// A filter that cannot be granted.
#[derive(Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The cap on distinct filters, or on the client's own.
    TooMany,
    Router(RouterDead),
}

impl Fanout {
    pub fn new(router: RouterFeed, settings: Rc<EdgeSettings>, counters: Arc<EdgeCounters>) -> Fanout {
        let inner = Inner {
            filters: HashMap::new(),
            active: 0,
            retained: Retained::new(settings.retained_max, settings.retained_bytes_max),
            topics: HashSet::new(),
        };
        Fanout { inner: Rc::new(RefCell::new(inner)), router, settings, counters }
    }

    pub fn is_dead(&self) -> bool {
        self.router.is_dead()
    }

    /// Whether anybody may want a publish: while nobody does, its bytes need not be kept until the commit.
    pub fn wants(&self, retain: bool) -> bool {
        retain || self.inner.borrow().active > 0
    }

    /// Hands a message to the router, and keeps it if it is retained.
    pub async fn publish(&self, topic: &[u8], payload: &[u8], qos: u8, retain: bool) -> Result<(), RouterDead> {
        if retain && self.inner.borrow_mut().retained.set(topic, payload, qos).is_err() {
            self.counters.retained_refused.add(1);
        }
        if !self.is_matched(topic) {
            return Ok(());
        }
        if !self.remember_topic(topic) {
            self.counters.topics_refused.add(1);
            return Ok(());
        }
        self.router.publish(topic, payload, qos).await
    }

    /// The router drops a link that publishes what no filter matches, so it is asked here.
    fn is_matched(&self, topic: &[u8]) -> bool {
        let inner = self.inner.borrow();
        if inner.active == 0 {
            return false;
        }
        let Ok(topic) = std::str::from_utf8(topic) else {
            return false;
        };
        inner.filters.iter().any(|(filter, entry)| !entry.subscribers.is_empty() && topic::matches(filter, topic))
    }

    fn remember_topic(&self, topic: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        let mut inner = self.inner.borrow_mut();
        let hash = hasher.finish();
        if inner.topics.contains(&hash) {
            return true;
        }
        inner.topics.len() < self.settings.topics_max && inner.topics.insert(hash)
    }

    /// Grants a valid filter, and queues every retained message that it matches. Asked again, it grants anew.
    pub async fn subscribe(&self, subscriber: &Rc<Subscriber>, filter: &str, qos: u8) -> Result<(), SubscribeError> {
        let known = self.inner.borrow().filters.contains_key(filter);
        if !known {
            if self.inner.borrow().filters.len() >= self.settings.filters_max {
                return Err(SubscribeError::TooMany);
            }
            // Entered before the router is asked, so that two clients that ask at once make one link.
            self.inner.borrow_mut().filters.insert(filter.to_owned(), FilterEntry { subscribers: Vec::new() });
            let log = self.router.subscribe(filter).await.map_err(SubscribeError::Router)?;
            tokio::task::spawn_local(self.clone().deal_out(filter.to_owned(), log));
        }
        let has_it = subscriber.filters.borrow().contains_key(filter);
        if !has_it && subscriber.filters.borrow().len() >= self.settings.filters_a_client_max {
            return Err(SubscribeError::TooMany);
        }
        let mut inner = self.inner.borrow_mut();
        if !has_it {
            inner.active += 1;
        }
        let entry = inner.filters.get_mut(filter).expect("entered above, and never removed");
        entry.subscribers.retain(|(other, _)| !Rc::ptr_eq(other, subscriber));
        entry.subscribers.push((Rc::clone(subscriber), qos));
        subscriber.filters.borrow_mut().insert(filter.to_owned(), qos);
        let mut outbound = subscriber.outbound.borrow_mut();
        for message in inner.retained.matching(filter) {
            let qos = message.qos.min(qos);
            outbound.push(Message { topic: message.topic, payload: message.payload, qos, retain: true });
        }
        drop(outbound);
        subscriber.changed.notify_one();
        Ok(())
    }

    pub fn unsubscribe(&self, subscriber: &Rc<Subscriber>, filter: &str) {
        if subscriber.filters.borrow_mut().remove(filter).is_none() {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        inner.active -= 1;
        if let Some(entry) = inner.filters.get_mut(filter) {
            entry.subscribers.retain(|(other, _)| !Rc::ptr_eq(other, subscriber));
        }
    }

    /// The session is over.
    pub fn forget(&self, subscriber: &Rc<Subscriber>) {
        let filters: Vec<String> = subscriber.filters.borrow().keys().cloned().collect();
        for filter in filters {
            self.unsubscribe(subscriber, &filter);
        }
    }

    /// Reads one filter's log for as long as the process lives, and queues each message for everybody who has the filter.
    async fn deal_out(self, filter: String, mut log: FilterLog) {
        while let Ok(message) = log.next().await {
            let inner = self.inner.borrow();
            let entry = inner.filters.get(&filter).expect("a filter is never removed");
            for (subscriber, granted) in &entry.subscribers {
                if message.after_gap {
                    subscriber.overrun.set(true);
                    subscriber.changed.notify_one();
                }
                self.queue(subscriber, &message.topic, &message.payload, message.qos.min(*granted));
            }
        }
    }

    fn queue(&self, subscriber: &Subscriber, topic: &Bytes, payload: &Bytes, qos: u8) {
        if !subscriber.connected.get() && qos == 0 {
            return;
        }
        let mut outbound = subscriber.outbound.borrow_mut();
        if outbound.queued_bytes() > self.settings.subscriber_bytes_max {
            self.counters.messages_dropped.add(1);
            if subscriber.connected.get() {
                subscriber.overrun.set(true);
                subscriber.changed.notify_one();
            }
            return;
        }
        outbound.push(Message { topic: topic.clone(), payload: payload.clone(), qos, retain: false });
        drop(outbound);
        subscriber.changed.notify_one();
    }
}

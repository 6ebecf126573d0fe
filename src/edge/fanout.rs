//! Local subscribers: who gets what, in bounded memory. Lives on the edge's one thread, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::retained::{Retained, Scan, ScanStep};
use super::router::{Envelope, RouterDead, RouterFeed, RouterLog};
use super::{EdgeCounters, EdgeSettings};
use crate::core::session::{Close, Message, Outbound};
use crate::core::topic_tree::{self, TopicTree};

/// One client may take this part of the levels of filters that are still free, so that no number of clients takes the last one.
const FILTER_SHARE: usize = 64;
/// Retained messages that a subscriber's turn looks at; then it is the others' turn.
const LOOKS_A_TURN: usize = 512;
/// Retained messages that are queued ahead of what the client has read.
const RETAINED_AHEAD: usize = 64;
/// Passing on a message costs this beside its payload.
const MESSAGE_COST: usize = 64;
/// What is queued before others have their turn, among them those who write it out: a burst must not fill the queue of a subscriber
/// that reads.
const COST_A_TURN: usize = 64 * 1024;

/// Bytes that wait for subscribers, all together.
#[derive(Debug)]
struct Pool {
    used: Cell<usize>,
    bytes_max: usize,
    one_max: usize,
}

impl Pool {
    fn free(&self) -> usize {
        self.bytes_max.saturating_sub(self.used.get())
    }

    /// What may wait for one subscriber: never more than is free, so that slow ones share the pool and leave a part to the next.
    fn limit(&self) -> usize {
        self.one_max.min(self.free())
    }
}

/// What one client is subscribed to and has yet to get. A persistent session keeps it while the client is away.
pub struct Subscriber {
    outbound: RefCell<Outbound<Bytes>>,
    pub changed: Notify,
    /// It did not read fast enough; the connection closes and says so.
    pub overrun: Cell<bool>,
    /// Another connection wants the client id.
    pub taken_over: Cell<bool>,
    connected: Cell<bool>,
    filters: RefCell<HashMap<String, u8>>,
    filter_levels: Cell<usize>,
    /// Filters whose retained messages it has not all got yet; each filter at most once.
    scans: RefCell<VecDeque<Scan>>,
    /// What its connection has ready to be written.
    output_bytes: Cell<usize>,
    pool: Rc<Pool>,
    /// Number of the last message that reached it, and the quality of service: one that matches twice is sent once.
    reached: Cell<(u64, u8)>,
}

/// Two handles are equal when they are of one subscriber.
#[derive(Clone)]
struct Handle(Rc<Subscriber>);

impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Subscriber {
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(connected);
        self.taken_over.set(false);
        if !connected {
            self.with_outbound(Outbound::drop_qos_0);
            self.note_output(0);
            self.overrun.set(false);
        }
    }

    pub fn has_filters(&self) -> bool {
        !self.filters.borrow().is_empty()
    }

    pub fn take_over(&self) {
        self.taken_over.set(true);
        self.changed.notify_one();
    }

    pub fn acknowledge(&self, packet_id: u16) -> Result<(), Close> {
        self.with_outbound(|outbound| outbound.acknowledge(packet_id))
    }

    pub fn resend(&self, out: &mut Vec<u8>) {
        self.outbound.borrow().resend(out);
    }

    /// What is ready to be written counts like what waits: both are kept for a client that does not read.
    pub fn note_output(&self, bytes: usize) {
        let before = self.output_bytes.replace(bytes);
        self.pool.used.set(self.pool.used.get() - before + bytes);
    }

    fn bytes(&self) -> usize {
        self.outbound.borrow().bytes() + self.output_bytes.get()
    }

    fn cut_off(&self) {
        self.overrun.set(true);
        self.changed.notify_one();
    }

    fn with_outbound<R>(&self, change: impl FnOnce(&mut Outbound<Bytes>) -> R) -> R {
        let mut outbound = self.outbound.borrow_mut();
        let before = outbound.bytes();
        let result = change(&mut outbound);
        self.pool.used.set(self.pool.used.get() - before + outbound.bytes());
        result
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.pool.used.set(self.pool.used.get() - self.bytes());
    }
}

struct Inner {
    tree: TopicTree<Handle>,
    retained: Retained,
    /// Who gets the message at hand; here for its memory.
    receivers: Vec<Rc<Subscriber>>,
    dealt: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    inner: Rc<RefCell<Inner>>,
    pool: Rc<Pool>,
    router: RouterFeed,
    settings: Rc<EdgeSettings>,
    counters: Arc<EdgeCounters>,
}

/// A filter that cannot be granted: too many are there, or of this client.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyFilters;

impl Fanout {
    /// Deals out for as long as the process lives; must be called in a `LocalSet`.
    pub fn start(settings: Rc<EdgeSettings>, counters: Arc<EdgeCounters>) -> Result<Fanout, RouterDead> {
        let (router, log) = super::router::start().map_err(|_| RouterDead)?;
        let inner = Inner {
            tree: TopicTree::default(),
            retained: Retained::new(settings.retained_max, settings.retained_bytes_max),
            receivers: Vec::new(),
            dealt: 0,
        };
        let pool = Pool {
            used: Cell::new(0),
            bytes_max: settings.subscribers_bytes_max,
            one_max: settings.subscriber_bytes_max,
        };
        let fanout = Fanout { inner: Rc::new(RefCell::new(inner)), pool: Rc::new(pool), router, settings, counters };
        tokio::task::spawn_local(fanout.clone().deal_out(log));
        Ok(fanout)
    }

    pub fn is_dead(&self) -> bool {
        self.router.is_dead()
    }

    pub fn subscriber(&self) -> Rc<Subscriber> {
        Rc::new(Subscriber {
            outbound: RefCell::default(),
            changed: Notify::new(),
            overrun: Cell::new(false),
            taken_over: Cell::new(false),
            connected: Cell::new(false),
            filters: RefCell::default(),
            filter_levels: Cell::new(0),
            scans: RefCell::default(),
            output_bytes: Cell::new(0),
            pool: Rc::clone(&self.pool),
            reached: Cell::new((0, 0)),
        })
    }

    /// Whether anybody gets this: if not, its bytes need not be kept until the commit.
    pub fn wants(&self, topic: &str, retain: bool) -> bool {
        retain || self.inner.borrow().tree.has_match(topic)
    }

    /// Keeps a client's message if it is retained, and passes it on.
    pub async fn publish(&self, envelope: Envelope, retain: bool) -> Result<(), RouterDead> {
        if retain && self.inner.borrow_mut().retained.set(&envelope).is_err() {
            self.counters.retained_refused.add(1);
        }
        self.pass_on(envelope).await
    }

    /// The same for a message of the gateway's own.
    pub async fn publish_own(&self, envelope: Envelope, retain: bool) -> Result<(), RouterDead> {
        if retain {
            self.inner.borrow_mut().retained.set_own(&envelope);
        }
        self.pass_on(envelope).await
    }

    async fn pass_on(&self, envelope: Envelope) -> Result<(), RouterDead> {
        if self.inner.borrow().tree.has_match(envelope.topic()) {
            self.router.publish(envelope).await?;
        }
        Ok(())
    }

    /// Grants a valid filter; the retained messages that it matches follow as the client reads. Asked again, it grants anew.
    pub fn subscribe(&self, subscriber: &Rc<Subscriber>, filter: &str, qos: u8) -> Result<(), TooManyFilters> {
        let mut inner = self.inner.borrow_mut();
        let mut filters = subscriber.filters.borrow_mut();
        if !filters.contains_key(filter) {
            let levels = subscriber.filter_levels.get() + topic_tree::levels(filter);
            let free = self.settings.filter_levels_max.saturating_sub(inner.tree.levels());
            if filters.len() >= self.settings.filters_a_client_max || levels > free / FILTER_SHARE {
                return Err(TooManyFilters);
            }
            subscriber.filter_levels.set(levels);
        }
        filters.insert(filter.to_owned(), qos);
        inner.tree.insert(filter, Handle(Rc::clone(subscriber)), qos);
        let mut scans = subscriber.scans.borrow_mut();
        scans.retain(|scan| scan.filter != filter);
        scans.push_back(Scan::new(filter, qos));
        subscriber.changed.notify_one();
        Ok(())
    }

    pub fn unsubscribe(&self, subscriber: &Rc<Subscriber>, filter: &str) {
        if subscriber.filters.borrow_mut().remove(filter).is_some() {
            self.remove(subscriber, filter);
        }
    }

    fn remove(&self, subscriber: &Rc<Subscriber>, filter: &str) {
        subscriber.filter_levels.set(subscriber.filter_levels.get() - topic_tree::levels(filter));
        subscriber.scans.borrow_mut().retain(|scan| scan.filter != filter);
        self.inner.borrow_mut().tree.remove(filter, &Handle(Rc::clone(subscriber)));
    }

    /// The session is over.
    pub fn forget(&self, subscriber: &Rc<Subscriber>) {
        let filters = std::mem::take(&mut *subscriber.filters.borrow_mut());
        filters.keys().for_each(|filter| self.remove(subscriber, filter));
    }

    /// Appends to `out`, up to `bytes_max`, what waits for the client. Whether there may be more, after others had their turn.
    pub fn fill(&self, subscriber: &Subscriber, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        subscriber.with_outbound(|outbound| outbound.fill(out, bytes_max));
        if subscriber.scans.borrow().is_empty() {
            return false;
        }
        let paused = self.queue_retained(subscriber);
        subscriber.with_outbound(|outbound| outbound.fill(out, bytes_max));
        paused
    }

    fn queue_retained(&self, subscriber: &Subscriber) -> bool {
        let inner = self.inner.borrow();
        let mut scans = subscriber.scans.borrow_mut();
        let mut looks = LOOKS_A_TURN;
        while let Some(scan) = scans.front_mut() {
            let waiting = subscriber.outbound.borrow().waiting();
            let has_room = subscriber.bytes() + self.settings.packet_bytes_max <= self.pool.limit();
            if waiting >= RETAINED_AHEAD || (waiting > 0 && !has_room) {
                return false;
            }
            match inner.retained.advance(scan, &mut looks) {
                ScanStep::Message(envelope) => {
                    let qos = envelope.qos().min(scan.qos);
                    let message =
                        Message { topic: envelope.topic_bytes(), payload: envelope.payload(), qos, retain: true };
                    if message.cost() > self.pool.free() {
                        subscriber.cut_off();
                        return false;
                    }
                    subscriber.with_outbound(|outbound| outbound.push(message));
                }
                ScanStep::Done => {
                    scans.pop_front();
                }
                ScanStep::Paused => return true,
            }
        }
        false
    }

    /// Reads the router's log for as long as the process lives, and queues each message for everybody who has a filter for it.
    async fn deal_out(self, mut log: RouterLog) {
        let mut cost = 0;
        while let Ok(message) = log.next().await {
            cost += self.deal(&message);
            if cost >= COST_A_TURN {
                cost = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// What it has cost, in bytes over all receivers.
    fn deal(&self, message: &Envelope) -> usize {
        let inner = &mut *self.inner.borrow_mut();
        inner.dealt += 1;
        let Inner { tree, receivers, dealt, .. } = inner;
        tree.each_match(message.topic(), |Handle(subscriber), granted| match subscriber.reached.get() {
            (number, best) if number == *dealt => subscriber.reached.set((number, best.max(granted))),
            _ => {
                subscriber.reached.set((*dealt, granted));
                receivers.push(Rc::clone(subscriber));
            }
        });
        let (topic, payload, count) = (message.topic_bytes(), message.payload(), receivers.len());
        for subscriber in receivers.drain(..) {
            let qos = message.qos().min(subscriber.reached.get().1);
            self.queue(&subscriber, Message { topic: topic.clone(), payload: payload.clone(), qos, retain: false });
        }
        (1 + count) * (MESSAGE_COST + message.payload().len())
    }

    fn queue(&self, subscriber: &Subscriber, message: Message<Bytes>) {
        if !subscriber.connected.get() && message.qos == 0 {
            return;
        }
        let (bytes, cost) = (subscriber.bytes(), message.cost());
        // With nothing waiting, also what is larger than one subscriber's share.
        let has_room = if bytes == 0 { cost <= self.pool.free() } else { bytes + cost <= self.pool.limit() };
        if !has_room {
            self.counters.messages_dropped.add(1);
            if subscriber.connected.get() {
                subscriber.cut_off();
            }
            return;
        }
        subscriber.with_outbound(|outbound| outbound.push(message));
        subscriber.changed.notify_one();
    }
}

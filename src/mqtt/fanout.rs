//! Local subscribers: who gets which message, in bounded memory. Runs on the MQTT thread only, so nothing needs a lock.

mod filters;
mod storing;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

pub use filters::TooManyFilters;
pub use storing::Prepared;
use storing::{Coming, Expected, ExpectedMessage};

use super::client::Client;
use super::keeper::Keeper;
use super::pool::{Hosts, Pool};
use super::retained::{Retained, RetainedFull, ScanStep};
use super::router::{Envelope, RouterDead, RouterFeed, RouterLog};
use super::shared::{Chosen, Groups, Member};
use super::subscriber::{Handle, Message, Subscriber};
use super::{EdgeCounters, EdgeSettings};
use crate::core::mqtt::outbound::Stored;
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic_tree::TopicTree;

/// After this many tree nodes a publish is assumed to have a receiver. Who that is, is found when it is dealt out.
const NODES_A_GLANCE: usize = 32;
/// Most retained messages looked at in a subscriber's turn, before other tasks run.
const LOOKS_A_TURN: usize = 128;
/// Most retained messages queued ahead of what the client has read.
const RETAINED_AHEAD: usize = 64;
/// The gateway's own messages are rarely larger than this.
const OWN_MESSAGE_BYTES: usize = 4 * 1024;
/// The cost of passing on a message besides its payload: waking its receiver, and writing it.
const MESSAGE_COST: usize = 512;
/// The cost of visiting a tree node.
const NODE_COST: usize = 32;
/// The cost after which other tasks run, among them those that write the queues out: a burst must not overflow the queue of a subscriber
/// that reads.
const COST_A_TURN: usize = 64 * 1024;

struct Inner {
    tree: TopicTree<Handle, Wants>,
    /// Filters on the gateway's own topics. Clients cannot publish there, so these filters cost a client's publish nothing.
    own_tree: TopicTree<Handle, Wants>,
    groups: Groups,
    /// Filters on clients' topics of sessions that are stored, at QoS 1 and 2: they are in the first tree, too.
    stored_tree: TopicTree<Handle, Wants>,
    expected: Expected,
    /// Levels of filters beyond those reserved for each client.
    levels: usize,
    /// Bytes of all filters.
    filter_bytes: usize,
    retained: Retained,
    dealt: u64,
    /// Walks through the trees, each of which reaches a subscriber once.
    walks: u64,
    hosts: Hosts,
    /// Sessions whose clients are away, in order of departure.
    away: BTreeMap<u64, Weak<Subscriber>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    inner: Rc<RefCell<Inner>>,
    keeper: Keeper,
    pool: Rc<Pool>,
    clients: RouterFeed,
    own: RouterFeed,
    pinged: Rc<Notify>,
    settings: Rc<EdgeSettings>,
    counters: Arc<EdgeCounters>,
    /// Whether something was refused or dropped for lack of room since this was last asked.
    is_short: Rc<Cell<bool>>,
    started: Instant,
}

/// Who gets a message, and how.
struct Receiver {
    subscriber: Rc<Subscriber>,
    qos: u8,
    keeps_retain: bool,
    identifiers: Vec<u32>,
}

impl Receiver {
    /// A walk through a tree comes to a subscriber's filter, maybe not to its first.
    fn reach(receivers: &mut Vec<Receiver>, walk: u64, subscriber: &Rc<Subscriber>, wants: Wants) {
        match subscriber.reached.get() {
            (number, at) if number == walk => receivers[at].also(wants),
            _ => {
                subscriber.reached.set((walk, receivers.len()));
                receivers.push(Receiver::new(subscriber, wants));
            }
        }
    }

    fn new(subscriber: &Rc<Subscriber>, wants: Wants) -> Receiver {
        let mut receiver =
            Receiver { subscriber: Rc::clone(subscriber), qos: 0, keeps_retain: false, identifiers: Vec::new() };
        receiver.also(wants);
        receiver
    }

    /// Another of its filters matches too.
    fn also(&mut self, wants: Wants) {
        self.qos = self.qos.max(wants.qos);
        self.keeps_retain |= wants.retain_as_published;
        self.identifiers.extend((wants.identifier != 0).then_some(wants.identifier));
    }
}

/// A message that waits for its place in the router's log.
pub type PassingOn = Pin<Box<dyn Future<Output = Result<(), RouterDead>>>>;

impl Fanout {
    /// Starts the fan-out, which runs as long as the process. Must be called in a `LocalSet`.
    pub fn start(
        settings: Rc<EdgeSettings>,
        counters: Arc<EdgeCounters>,
        keeper: Keeper,
    ) -> Result<Fanout, RouterDead> {
        let [(clients, clients_log), (own, own_log)] = super::router::start().map_err(|_| RouterDead)?;
        let inner = Inner {
            tree: TopicTree::default(),
            own_tree: TopicTree::default(),
            groups: Groups::default(),
            stored_tree: TopicTree::default(),
            expected: Expected::default(),
            levels: 0,
            filter_bytes: 0,
            retained: Retained::new(settings.retained_max, settings.retained_bytes_max),
            dealt: 0,
            walks: 0,
            hosts: Hosts::default(),
            away: BTreeMap::new(),
        };
        let fanout = Fanout {
            inner: Rc::new(RefCell::new(inner)),
            keeper,
            pool: Rc::new(Pool::new(settings.subscribers_bytes_max)),
            clients,
            own,
            pinged: Rc::default(),
            settings,
            counters,
            is_short: Rc::default(),
            started: Instant::now(),
        };
        tokio::task::spawn_local(fanout.clone().deal_out(clients_log, false));
        tokio::task::spawn_local(fanout.clone().deal_out(own_log, true));
        Ok(fanout)
    }

    pub fn is_dead(&self) -> bool {
        self.clients.is_dead() || self.own.is_dead()
    }

    /// Whether filters, messages or sessions were refused or dropped for lack of room since this was last asked.
    pub fn was_short(&self) -> bool {
        self.is_short.take()
    }

    pub fn note_short(&self) {
        self.is_short.set(true);
    }

    pub fn subscriber(&self, address: IpAddr, client: &Rc<Client>) -> Rc<Subscriber> {
        let host = self.inner.borrow_mut().hosts.get(address);
        Rc::new(Subscriber::new(&self.pool, host, address, client))
    }

    /// The steady clock by which messages become useless; never 0.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether anybody may have subscribed to this topic.
    pub fn may_reach(&self, topic: &str) -> bool {
        self.inner.borrow().may_reach(topic)
    }

    /// Retains a client's message if requested, and passes it on. If there is no room for it at once, the returned future passes it on.
    pub fn pass_on(&self, prepared: Prepared) -> Result<Option<PassingOn>, RouterDead> {
        let Prepared { envelope, coming } = prepared;
        coming.iter().for_each(Coming::mark_stored);
        if envelope.retain() && self.retain(&envelope).is_err() {
            self.counters.retained_refused.add(1);
            self.keep_as_retained(&envelope);
        }
        if !self.may_reach(envelope.topic()) {
            return Ok(None);
        }
        coming.into_iter().for_each(Coming::passes_on);
        let envelope = self.clients.try_publish(envelope)?;
        Ok(envelope.map(|envelope| -> PassingOn {
            let clients = self.clients.clone();
            Box::pin(async move { clients.publish(envelope).await })
        }))
    }

    /// Keeps a client's message for later subscribers.
    pub(super) fn retain(&self, envelope: &Envelope) -> Result<(), RetainedFull> {
        self.inner.borrow_mut().retained.set(envelope)
    }

    /// Messages dealt out since the start: if this grows, the fan-out makes progress.
    pub fn dealt(&self) -> u64 {
        self.inner.borrow().dealt
    }

    /// Returns when a ping has come through both logs of the router.
    pub async fn ping(&self) -> Result<(), RouterDead> {
        for feed in [&self.clients, &self.own] {
            feed.publish(Envelope::ping()).await?;
            self.pinged.notified().await;
        }
        Ok(())
    }

    /// The same for one of the gateway's own messages.
    pub async fn publish_own(&self, envelope: Envelope, retain: bool) -> Result<(), RouterDead> {
        let is_wanted = {
            let mut inner = self.inner.borrow_mut();
            if retain {
                inner.retained.set_own(&envelope);
            }
            inner.own_tree.may_match(envelope.topic(), NODES_A_GLANCE) || inner.may_reach(envelope.topic())
        };
        if is_wanted { self.own.publish(envelope).await } else { Ok(()) }
    }

    /// Ends the session.
    pub fn forget(&self, subscriber: &Rc<Subscriber>) {
        let filters = std::mem::take(&mut *subscriber.filters.borrow_mut());
        filters.iter().for_each(|(filter, grant)| self.remove(subscriber, filter, grant));
        self.come_back(subscriber);
    }

    /// The client is away, but its session persists. `departure` increases with each departure.
    pub fn leave(&self, subscriber: &Rc<Subscriber>, departure: u64) {
        self.restore_away(subscriber, departure);
        // Its queue may exceed what all sessions that are away may keep.
        self.make_away_room(subscriber, 0);
    }

    /// The same after a restart, with which nobody loses a session.
    pub fn restore_away(&self, subscriber: &Rc<Subscriber>, departure: u64) {
        subscriber.departure.set(departure);
        self.inner.borrow_mut().away.insert(departure, Rc::downgrade(subscriber));
    }

    pub fn come_back(&self, subscriber: &Subscriber) {
        self.inner.borrow_mut().away.remove(&subscriber.departure.take());
    }

    /// Appends waiting messages to `out`, up to `bytes_max`. Returns whether there may be more once other tasks have run.
    pub fn fill(&self, subscriber: &Rc<Subscriber>, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let now_ms = self.now_ms();
        let mut left_out = subscriber.fill(out, bytes_max, now_ms, &self.keeper);
        subscriber.make_up_for_missed();
        let has_scans = !subscriber.scans.borrow().is_empty();
        let is_paused = has_scans && self.queue_retained(subscriber);
        if has_scans {
            left_out += subscriber.fill(out, bytes_max, now_ms, &self.keeper);
        }
        if left_out > 0 {
            self.counters.messages_left_out.add(left_out as u64);
        }
        is_paused
    }

    fn queue_retained(&self, subscriber: &Subscriber) -> bool {
        let inner = self.inner.borrow();
        let mut scans = subscriber.scans.borrow_mut();
        let (mut looks, now_ms) = (LOOKS_A_TURN, self.now_ms());
        while let Some(scan) = scans.front_mut() {
            let message_max = self.settings.packet_bytes_max;
            let (waiting, has_room) = match scan.is_own() {
                true => (subscriber.own_waiting(), subscriber.has_own_room(OWN_MESSAGE_BYTES)),
                false => (subscriber.waiting(), subscriber.has_room(message_max)),
            };
            if waiting >= RETAINED_AHEAD || (waiting > 0 && !has_room) {
                return false;
            }
            match inner.retained.advance(scan, &mut looks) {
                ScanStep::Message(envelope) => {
                    let is_own = scan.is_own() && self.settings.reserves_own;
                    let is_wanted = !(scan.wants.no_local && envelope.publisher() == subscriber.number)
                        && subscriber.may_receive(envelope.topic());
                    if !is_wanted || envelope.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                        continue;
                    }
                    let identifiers = Some(scan.wants.identifier).filter(|id| *id != 0).into_iter().collect();
                    let message = message(&envelope, scan.wants.qos, true, identifiers, is_own, None);
                    let has_room = message.is_own || subscriber.has_room(message.cost());
                    if !has_room && subscriber.is_bridge {
                        subscriber.dropped.set(subscriber.dropped.get() + 1);
                        continue;
                    }
                    if !has_room && subscriber.waiting() == 0 {
                        subscriber.cut_off();
                        return false;
                    }
                    subscriber.push(message);
                }
                ScanStep::Done => {
                    scans.pop_front();
                }
                ScanStep::Paused => return true,
            }
        }
        false
    }

    /// Reads one of the router's logs as long as the process lives, and queues each message for everybody whose filter matches, letting
    /// other tasks run in between.
    async fn deal_out(self, mut log: RouterLog, is_own: bool) {
        let (mut cost, mut receivers) = (0, Vec::new());
        while let Ok(envelope) = log.next().await {
            if envelope.is_ping() {
                self.pinged.notify_one();
                continue;
            }
            let mut expected = envelope.number().and_then(|number| self.take_expected(number));
            let chosen = expected.as_ref().map_or(&[][..], |expected| &expected.chosen);
            cost += NODE_COST * self.find_receivers(&envelope, is_own, chosen, &mut receivers);
            for Receiver { subscriber, qos, keeps_retain, identifiers } in receivers.drain(..) {
                let (retain, is_reserved) = (keeps_retain && envelope.retain(), is_own && self.settings.reserves_own);
                let stored = expected.as_mut().filter(|_| qos > 0).and_then(|expected| expected.hold_of(&subscriber));
                let message = message(&envelope, qos, retain, identifiers.into(), is_reserved, stored);
                self.queue(&subscriber, message);
                cost += MESSAGE_COST + envelope.len();
                if cost >= COST_A_TURN {
                    cost = 0;
                    tokio::task::yield_now().await;
                }
            }
            expected.into_iter().for_each(ExpectedMessage::end);
        }
    }

    /// Returns how many tree nodes were visited.
    fn find_receivers(
        &self,
        envelope: &Envelope,
        is_own: bool,
        chosen: &[Chosen],
        receivers: &mut Vec<Receiver>,
    ) -> usize {
        let Inner { tree, own_tree, groups, dealt, walks, .. } = &mut *self.inner.borrow_mut();
        *dealt += 1;
        *walks += 1;
        let (topic, publisher) = (envelope.topic(), envelope.publisher());
        let mut reach = |Handle(subscriber): &Handle, wants: Wants| {
            if !(wants.no_local && subscriber.number == publisher) && subscriber.may_receive(topic) {
                Receiver::reach(receivers, *walks, subscriber, wants);
            }
        };
        let mut nodes = tree.each_match(topic, &mut reach);
        if is_own {
            nodes += own_tree.each_match(topic, &mut reach);
        }
        // One of each group, even if it gets the message by a filter of its own too.
        nodes
            + groups.each_match(topic, envelope.len(), chosen, |Member { handle, wants }| {
                receivers.push(Receiver::new(&handle.0, *wants));
            })
    }

    pub(super) fn queue(&self, subscriber: &Rc<Subscriber>, message: Message) {
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
    fn make_away_room(&self, subscriber: &Rc<Subscriber>, cost: usize) -> bool {
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

pub(super) fn message(
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

impl Inner {
    fn may_reach(&self, topic: &str) -> bool {
        self.tree.may_match(topic, NODES_A_GLANCE) || self.groups.may_match(topic, NODES_A_GLANCE)
    }
}

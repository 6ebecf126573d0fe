//! Local subscribers: who gets which message, in bounded memory. Runs on the MQTT thread only, so nothing needs a lock.

mod dealing;
mod filling;
mod filters;
mod queueing;
mod receiver;
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
pub(super) use queueing::message;
pub use storing::Prepared;
use storing::{Coming, Expected};

use super::client::Client;
use super::keeper::Keeper;
use super::pool::{Hosts, Pool};
use super::retained::{Retained, RetainedFull};
use super::router::{Envelope, RouterDead, RouterFeed};
use super::shared::Groups;
use super::subscriber::{Handle, Subscriber};
use super::{EdgeCounters, EdgeSettings};
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic_tree::TopicTree;

/// After this many tree nodes a publish is assumed to have a receiver. Who that is, is found when it is dealt out.
const NODES_A_GLANCE: usize = 32;

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
}

impl Inner {
    fn may_reach(&self, topic: &str) -> bool {
        self.tree.may_match(topic, NODES_A_GLANCE) || self.groups.may_match(topic, NODES_A_GLANCE)
    }
}

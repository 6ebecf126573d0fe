//! The end of a bridge at our broker: a session of its own, and a publisher that stores like a client's connection. What it is connected to
//! is no matter of this module: a [`LinkEnd`] comes for as long as the other broker is there.
//!
//! *Out:* the session is there from the start of the gateway on, also before the other broker was reached for the first time, so what is
//! published at QoS 1 waits for it in the store. A message is done with when the other side has acknowledged it. *In:* a message is answered
//! when it is committed. So whatever is lost on the way is sent again by one of the two brokers, and nothing is kept here.

mod incoming;
mod outgoing;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::fanout::TooManyFilters;
use super::keeper::Known;
use super::listener::{ClientLimits, Listener, ListenerSettings, Policy};
use super::sessions::BelongsToAnother;
use super::subscriber::Subscriber;
use super::{Edge, Phase};
use crate::core::bridge::CommandSettings;
use crate::core::bridge::kept::BridgeKey;
use crate::core::mqtt::access::Identity;
use crate::core::mqtt::keeping::Key;
use crate::core::mqtt::packet::RetainHandling;
use crate::core::mqtt::session;
use crate::core::mqtt::subscription::Wants;
use crate::counter::{Counter, Gauge};
use crate::handoff::{Entry, EntryChange, Input};
use crate::ingest::ClockState;
use incoming::Incoming;

/// The session of a bridge does not end while it is configured.
const EXPIRY: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Most filters of one bridge, with room for those of a configuration before.
const FILTERS_MAX: usize = 1_024;
/// Where a bridge comes from, as clients come from an address.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// How often it is looked whether commands that wait may be published, and how much waits for the other side.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages on their way between the broker and the thread of a bridge, each way.
const ON_THEIR_WAY_MAX: usize = 64;

/// A bridge, as our broker sees it.
#[derive(Clone, Debug)]
pub struct LocalBridge {
    pub name: String,
    /// What it wants of our broker, with the quality of service.
    pub filters: Vec<(String, u8)>,
    /// Most bytes that may wait for it.
    pub queue_bytes_max: usize,
    pub commands: Option<CommandSettings>,
    /// Whether the time of a command is judged also while the system's clock is not synchronised.
    pub trusts_clock: bool,
}

/// What has passed since the start, and what waits. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct BridgeCounters {
    /// Messages that came in and are stored.
    pub received: Counter,
    /// Messages that the other side has acknowledged, or that went out at QoS 0.
    pub sent: Counter,
    /// Commands that were published, by their id.
    pub commands: Counter,
    /// Commands that had been published before.
    pub commands_repeated: Counter,
    /// Messages on command topics that have no id.
    pub commands_without_id: Counter,
    /// Commands that were not published, in the order of [`crate::core::bridge::Refusal::ALL`].
    pub commands_refused: [Counter; 3],
    /// Messages that came in for a topic that nobody may publish to, or that no line is for.
    pub received_refused: Counter,
    /// Messages that the other side does not take: too large, or with a topic that it refuses.
    pub sent_refused: Counter,
    /// Messages for the other side that found no room while they waited.
    pub dropped: Counter,
    /// Messages that wait for the other side.
    pub waiting: Gauge,
    /// Commands that wait until the clock is set.
    pub commands_waiting: Gauge,
    /// Commands for which there was no room to wait. They are not acknowledged.
    pub commands_without_room: Gauge,
}

/// A bridge at our broker, and where the links come from that it is connected by.
pub struct BridgeEnd {
    pub bridge: LocalBridge,
    pub links: mpsc::Receiver<LinkEnd>,
    pub counters: Arc<BridgeCounters>,
}

/// Our end of a connection to the other broker. It is over when the other end is gone.
pub struct LinkEnd {
    arriving: mpsc::Receiver<Arriving>,
    acknowledged: mpsc::Receiver<u16>,
    leaving: mpsc::Sender<Vec<u8>>,
}

/// The other end.
pub struct RemoteEnd {
    pub arriving: mpsc::Sender<Arriving>,
    /// Ids of packets that the other broker has.
    pub acknowledged: mpsc::Sender<u16>,
    /// Whole PUBLISH packets of MQTT 5.
    pub leaving: mpsc::Receiver<Vec<u8>>,
}

/// The two ends of a new link.
pub fn link() -> (LinkEnd, RemoteEnd) {
    let (arriving_in, arriving) = mpsc::channel(ON_THEIR_WAY_MAX);
    // Each id was sent once, and there are no more of them than may be in flight.
    let (acknowledged_in, acknowledged) = mpsc::channel(2 * ON_THEIR_WAY_MAX);
    let (leaving, leaving_out) = mpsc::channel(1);
    let remote = RemoteEnd { arriving: arriving_in, acknowledged: acknowledged_in, leaving: leaving_out };
    (LinkEnd { arriving, acknowledged, leaving }, remote)
}

/// A message from the other broker, under its name here.
#[derive(Debug)]
pub struct Arriving {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub expiry_s: Option<u32>,
    /// Properties for its receivers, encoded.
    pub passed_on: Vec<u8>,
    /// Told when the message is stored, or is done with otherwise. Dropped if it is not.
    pub stored: oneshot::Sender<()>,
}

/// What a bridge is at our broker, besides its links.
struct Local<T: From<Input>> {
    edge: Rc<Edge<T>>,
    bridge: LocalBridge,
    client: Rc<Client>,
    subscriber: RefCell<Rc<Subscriber>>,
    counters: Arc<BridgeCounters>,
}

/// The client id of a bridge, which no client may have.
fn client_id(bridge: &str) -> String {
    format!("{}{bridge}", session::BRIDGE_ID_PREFIX)
}

/// The bridge of a client id, if it is one's.
pub(super) fn name_of(client_id: &str) -> Option<&str> {
    client_id.strip_prefix(session::BRIDGE_ID_PREFIX)
}

/// What takes the place of a listener for the client that a bridge is: it may do everything.
pub(super) fn listener(bridge: &LocalBridge) -> Rc<Listener> {
    let nowhere = SocketAddr::new(NOWHERE, 0);
    let client = ClientLimits {
        session_expiry_max: EXPIRY,
        filters_max: FILTERS_MAX,
        subscriber_bytes_max: bridge.queue_bytes_max,
        ..ClientLimits::default()
    };
    let plain = ListenerSettings::plain(&client_id(&bridge.name), "bridge", nowhere);
    Rc::new(Listener::new(ListenerSettings { client, ..plain }, Arc::new(Policy::open())))
}

/// What is stored of bridges: theirs, and what no bridge of this configuration has any use for.
pub(super) struct StoredOfBridges {
    entries: Vec<Entry>,
}

impl StoredOfBridges {
    pub fn of(entries: &[Entry]) -> StoredOfBridges {
        let is_of_bridge = |entry: &&Entry| BridgeKey::from_bytes(&entry.key).is_some();
        StoredOfBridges { entries: entries.iter().filter(is_of_bridge).cloned().collect() }
    }

    /// Keys of bridges that there are no more, with their names.
    fn left<'a>(&'a self, bridges: &'a [BridgeEnd]) -> impl Iterator<Item = (&'a str, BridgeKey, &'a Entry)> {
        let keys = self.entries.iter().filter_map(|entry| Some((BridgeKey::from_bytes(&entry.key)?, entry)));
        keys.map(|((name, key), entry)| (name, key, entry))
            .filter(|(name, ..)| bridges.iter().all(|end| end.bridge.name != *name))
    }

    fn left_over(&self, bridges: &[BridgeEnd]) -> Vec<EntryChange> {
        self.left(bridges).map(|(_, _, entry)| EntryChange { key: entry.key.clone(), value: None }).collect()
    }

    /// How many commands waited for the clock, of each bridge that there is no more.
    fn commands_left_over<'a>(&'a self, bridges: &'a [BridgeEnd]) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for (name, key, _) in self.left(bridges) {
            *counts.entry(name).or_default() += usize::from(matches!(key, BridgeKey::Command(_)));
        }
        counts
    }
}

impl<T: From<Input>> Edge<T> {
    /// A bridge was taken out of the configuration, or got another name, and something was left for it.
    pub(super) fn note_bridge_gone(&self, bridge: &str, messages: usize, what: &str) {
        if messages == 0 {
            return;
        }
        self.counters.messages_dropped.add(messages as u64);
        tracing::warn!(messages, "there is no [[bridge]] named {bridge} any more: {what} are dropped");
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Begins with all bridges: their sessions are there before any client's message. Each goes on by itself, until the gateway ends.
    pub(super) async fn start_bridges(
        self: &Rc<Self>,
        bridges: Vec<BridgeEnd>,
        listeners: Vec<Rc<Listener>>,
        stored: StoredOfBridges,
        clock: &ClockState,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        for (bridge, commands) in stored.commands_left_over(&bridges) {
            self.note_bridge_gone(bridge, commands, "commands that waited for the clock");
        }
        self.keeper.take(stored.left_over(&bridges));
        let mut tasks = Vec::new();
        for (BridgeEnd { bridge, links, counters }, listener) in bridges.into_iter().zip(listeners) {
            let identity = Identity { name: None, user: None, cn: None, client_id: client_id(&bridge.name) };
            let client = Rc::new(Client { identity, listener, secret: None });
            let subscriber = RefCell::new(self.fanout.subscriber(NOWHERE, &client));
            let local = Rc::new(Local { edge: Rc::clone(self), bridge, client, subscriber, counters });
            local.begin().await;
            let incoming = Incoming::new(&local, &stored.entries, clock.clone());
            tasks.push(tokio::task::spawn_local(serve(local, incoming, links)));
        }
        tasks
    }
}

impl<T: From<Input> + 'static> Local<T> {
    /// Its session gets the filters of this configuration, and waits.
    async fn begin(&self) {
        let subscriber = self.attach().await;
        let wanted = |filter: &str| self.bridge.filters.iter().any(|(known, _)| known == filter);
        let left: Vec<String> = subscriber.filters.borrow().keys().filter(|filter| !wanted(filter)).cloned().collect();
        for filter in left {
            self.edge.fanout.unsubscribe(&subscriber, &filter);
            if let Some(session) = subscriber.session() {
                self.edge.keeper.delete(&Key::Filter(session, filter));
            }
        }
        for (filter, qos) in &self.bridge.filters {
            let wants = Wants { qos: *qos, no_local: true, retain_as_published: true, identifier: 0 };
            match self.edge.fanout.subscribe(&subscriber, filter, wants, RetainHandling::IfNew) {
                Ok(is_new) => {
                    let known = if is_new { Known::No } else { Known::Maybe };
                    self.edge.fanout.store_filter(&subscriber, filter, known);
                }
                Err(TooManyFilters) => {
                    self.edge.fanout.note_short();
                    tracing::error!("bridge {}: there is no room for the filter {filter}", self.bridge.name);
                }
            }
        }
        self.detach();
    }

    async fn attach(&self) -> Rc<Subscriber> {
        let attached = self.edge.sessions.attach(&self.client, false, EXPIRY, NOWHERE).await;
        let attached =
            attached.unwrap_or_else(|BelongsToAnother| unreachable!("no client may have the id of a bridge"));
        self.subscriber.replace(Rc::clone(&attached.subscriber));
        attached.subscriber
    }

    fn detach(&self) {
        self.edge.sessions.detach(self.client.id(), EXPIRY);
    }

    /// For whoever looks at the bridge.
    fn count_waiting(&self) {
        let subscriber = self.subscriber.borrow();
        self.counters.waiting.set(subscriber.unfinished() as u64);
        self.counters.dropped.add(subscriber.dropped.take());
    }
}

/// As long as the gateway runs, takes one link after the other.
async fn serve<T: From<Input> + 'static>(
    local: Rc<Local<T>>,
    mut incoming: Incoming<T>,
    mut links: mpsc::Receiver<LinkEnd>,
) {
    let mut phase = local.edge.phase.clone();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let link = tokio::select! {
            link = links.recv() => link,
            _ = look.tick() => {
                local.count_waiting();
                // Without a pipeline or a router the process is ending.
                if incoming.release().await.is_err() {
                    return;
                }
                continue;
            }
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        };
        let Some(LinkEnd { arriving, acknowledged, leaving }) = link else { return };
        let (taken, ()) = tokio::join!(incoming.take_all(arriving), local.send_all(acknowledged, leaving));
        if taken.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bridge_that_is_gone_has_left_is_known_by_its_name() {
        let entry = |bridge: &str, key: BridgeKey| Entry { key: key.to_bytes(bridge), value: Vec::new() };
        let stored = StoredOfBridges::of(&[
            entry("old", BridgeKey::Id("a".to_owned())),
            entry("old", BridgeKey::Command(1)),
            entry("old", BridgeKey::Command(2)),
            entry("stays", BridgeKey::Command(1)),
            entry("older", BridgeKey::Id("b".to_owned())),
            Entry { key: b"m12345678".to_vec(), value: Vec::new() },
        ]);
        let bridge = LocalBridge {
            name: "stays".to_owned(),
            filters: Vec::new(),
            queue_bytes_max: 1,
            commands: None,
            trusts_clock: false,
        };
        let bridges = [BridgeEnd { bridge, links: mpsc::channel(1).1, counters: Arc::default() }];
        let commands: Vec<(&str, usize)> = stored.commands_left_over(&bridges).into_iter().collect();
        assert_eq!(commands, [("old", 2), ("older", 0)]);
        assert_eq!(stored.left_over(&bridges).len(), 4);
        assert_eq!((name_of(&client_id("old")), name_of("old")), (Some("old"), None));
    }
}

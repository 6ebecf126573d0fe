//! What one client is subscribed to and has not received yet, and how much all of them together may keep.
//!
//! Messages of clients and the gateway's own are kept and counted separately, so that no flood takes the room of an alert. A client's
//! message that finds no room is lost, and its subscriber is disconnected; the gateway's own messages are states, and are sent again later
//! as they are then.

mod progress;
mod room;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::client::Client;
use super::keeper::{Bell, Keeper, Ticket};
use super::pool::{Host, Pool};
use super::retained::Scan;
use crate::core::mqtt::access::Permissions;
use crate::core::mqtt::inbound::Unreleased;
use crate::core::mqtt::keeping::SessionNumber;
use crate::core::mqtt::outbound::{Kept, Limits, Outbound};
use crate::core::mqtt::session::{BRIDGE_ID_PREFIX, Close, number_of};
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic;

/// A client's filter, and what it is charged for it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub wants: Wants,
    pub levels: usize,
    pub shapes: usize,
    /// Retained messages that it matches may not all have reached the client yet.
    pub is_scanned: bool,
}

/// A persistent session keeps it while the client is away.
pub struct Subscriber {
    outbound: RefCell<Outbound<Bytes>>,
    /// What the client has published at QoS 2 and may send again.
    pub unreleased: RefCell<Unreleased>,
    /// A number for its client id, by which its own messages are known.
    pub number: u64,
    /// It is one of the gateway's own bridges: away for as long as the other broker cannot be reached, and its session does not give way.
    pub is_bridge: bool,
    /// Who it is, since it connected last.
    client: RefCell<Rc<Client>>,
    permissions: RefCell<Rc<Permissions>>,
    /// Most bytes of clients' messages that may wait for it.
    bytes_max: Cell<usize>,
    pub changed: Rc<Bell>,
    /// The number under which its session is stored.
    session: Cell<Option<SessionNumber>>,
    /// There was no room in the store for a message to it: it is not stored any more.
    pub is_in_memory_only: Cell<bool>,
    /// Its progress has been stored at some time.
    pub has_progress: Cell<bool>,
    /// When revisions of its outbound half are stored.
    revisions: RefCell<VecDeque<(Ticket, u64)>>,
    /// It did not read fast enough; its connection closes and says so.
    pub overrun: Cell<bool>,
    /// A message of QoS 1 or 2 found no room: the session ends with its connection.
    pub has_gap: Cell<bool>,
    /// Messages that found no room; of a bridge only, whose session goes on without them.
    pub dropped: Cell<u64>,
    /// Another connection wants the client id.
    pub taken_over: Cell<bool>,
    /// While its client was away the session was ended to make room for others.
    pub gave_way: Cell<bool>,
    /// When it left, in the order of all departures.
    pub departure: Cell<u64>,
    connected: Cell<bool>,
    /// Nothing waits for it: its connection looks again only when woken.
    hungry: Cell<bool>,
    /// One of the gateway's own messages could not be queued.
    missed_own: Cell<bool>,
    pub filters: RefCell<HashMap<String, Grant>>,
    pub filter_levels: Cell<usize>,
    pub filter_bytes: Cell<usize>,
    /// Levels of its filters on the gateway's own topics, within what is reserved for each client.
    pub own_levels: Cell<usize>,
    pub shapes: Cell<usize>,
    /// Filters whose retained messages it has not all received yet; each filter at most once, and once more for the gateway's own messages.
    pub scans: RefCell<VecDeque<Scan>>,
    /// Bytes that its connection has ready to be written.
    output_bytes: Cell<usize>,
    pool: Rc<Pool>,
    pub host: Rc<Host>,
    /// Where the client came from when the session began.
    address: IpAddr,
    /// Number of the last message that reached it, and its place among that message's receivers: if it matches twice, it is sent once.
    pub reached: Cell<(u64, usize)>,
}

/// Two handles are equal if they belong to the same subscriber.
#[derive(Clone)]
pub(super) struct Handle(pub Rc<Subscriber>);

impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Subscriber {
    pub fn new(pool: &Rc<Pool>, host: Rc<Host>, address: IpAddr, client: &Rc<Client>) -> Subscriber {
        Subscriber {
            outbound: RefCell::default(),
            unreleased: RefCell::default(),
            number: number_of(client.id()),
            is_bridge: client.id().starts_with(BRIDGE_ID_PREFIX),
            client: RefCell::new(Rc::clone(client)),
            permissions: RefCell::new(Rc::new(client.permissions())),
            bytes_max: Cell::new(client.limits().subscriber_bytes_max),
            changed: Rc::default(),
            session: Cell::new(None),
            is_in_memory_only: Cell::new(false),
            has_progress: Cell::new(false),
            revisions: RefCell::default(),
            overrun: Cell::new(false),
            has_gap: Cell::new(false),
            dropped: Cell::new(0),
            taken_over: Cell::new(false),
            gave_way: Cell::new(false),
            departure: Cell::new(0),
            connected: Cell::new(true),
            hungry: Cell::new(true),
            missed_own: Cell::new(false),
            filters: RefCell::default(),
            filter_levels: Cell::new(0),
            filter_bytes: Cell::new(0),
            own_levels: Cell::new(0),
            shapes: Cell::new(0),
            scans: RefCell::default(),
            output_bytes: Cell::new(0),
            pool: Rc::clone(pool),
            host,
            address,
            reached: Cell::new((0, 0)),
        }
    }

    pub fn set_connected(&self, connected: bool) {
        if !connected {
            self.with_outbound(Outbound::drop_qos_0);
            self.note_output(0);
            self.overrun.set(false);
        } else if self.filters.borrow().iter().any(|(filter, grant)| grant.wants.qos == 0 && may_match_own(filter)) {
            // Messages for it at QoS 0 are not kept while it is away.
            self.missed_own.set(true);
        }
        self.taken_over.set(false);
        let bytes = self.bytes();
        self.count(bytes, 0);
        self.connected.set(connected);
        self.count(0, bytes);
    }

    /// The client is here again, maybe by another listener.
    pub fn set_client(&self, client: &Rc<Client>) {
        self.client.replace(Rc::clone(client));
        self.bytes_max.set(client.limits().subscriber_bytes_max);
        self.renew_permissions();
    }

    /// What its client may do has changed.
    pub fn renew_permissions(&self) {
        let permissions = self.client.borrow().permissions();
        self.permissions.replace(Rc::new(permissions));
    }

    /// Whether the session is this client's.
    pub fn belongs_to(&self, client: &Client) -> bool {
        let own = self.client.borrow();
        // Who is anonymous on one listener is not who is on another, where something else may be allowed.
        let is_there = client.identity.name.is_some() || Rc::ptr_eq(&own.listener, &client.listener);
        own.identity.name == client.identity.name && is_there
    }

    pub fn filters_max(&self) -> usize {
        self.client.borrow().limits().filters_max
    }

    /// Who has it, and by which listener.
    pub fn client(&self) -> Rc<Client> {
        Rc::clone(&self.client.borrow())
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The client is to be sent the gateway's own retained messages again.
    pub fn note_restored(&self) {
        self.missed_own.set(true);
    }

    /// Whether nothing waits for the client and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        let outbound = self.outbound.borrow();
        let is_empty = outbound.waiting() == 0 && outbound.own_waiting() == 0 && !outbound.has_in_flight();
        is_empty && self.scans.borrow().is_empty()
    }

    pub fn permissions(&self) -> Rc<Permissions> {
        Rc::clone(&self.permissions.borrow())
    }

    pub fn may_receive(&self, topic: &str) -> bool {
        self.permissions.borrow().receive(topic)
    }

    pub fn is_connected(&self) -> bool {
        self.connected.get()
    }

    pub fn has_filters(&self) -> bool {
        !self.filters.borrow().is_empty()
    }

    pub fn take_over(&self) {
        self.taken_over.set(true);
        self.changed.ring();
    }

    /// Its client is there, and takes so much.
    pub fn connect(&self, limits: Limits) {
        self.with_outbound(|outbound| outbound.connect(limits));
    }

    pub fn acknowledged(&self, packet_id: u16) -> Result<(), Close> {
        self.with_outbound(|outbound| outbound.acknowledged(packet_id))
    }

    pub fn received(&self, packet_id: u16, reason: u8, out: &mut Vec<u8>) -> Result<(), Close> {
        self.with_outbound(|outbound| outbound.received(packet_id, reason, out))
    }

    pub fn completed(&self, packet_id: u16) -> Result<(), Close> {
        self.with_outbound(|outbound| outbound.completed(packet_id))
    }

    /// Output that is ready to be written counts too: both are kept for a client that does not read.
    pub fn note_output(&self, bytes: usize) {
        let before = self.output_bytes.replace(bytes);
        self.count(before, bytes);
    }

    /// Appends waiting messages to `out`, up to `bytes_max`. Returns how many the client does not take, or are of no use any more.
    pub fn fill(self: &Rc<Self>, out: &mut Vec<u8>, bytes_max: usize, now_ms: u64, keeper: &Keeper) -> usize {
        self.note_stored(keeper);
        let left_out = self.with_outbound(|outbound| outbound.fill(out, bytes_max, now_ms));
        self.store_progress(keeper);
        let outbound = self.outbound.borrow();
        self.hungry.set(outbound.waiting() == 0 && outbound.own_waiting() == 0);
        left_out
    }

    pub fn push(&self, message: Message) {
        self.with_outbound(|outbound| outbound.push(message));
        // While something waits, its connection looks again anyway. Waking it for each message would be costly with a thousand clients that
        // do not read.
        if self.hungry.replace(false) {
            self.changed.ring();
        }
    }

    /// One of the gateway's own messages found no room: once the client has read the others, it gets those of all its filters again.
    pub fn miss_own(&self) {
        self.missed_own.set(true);
        if self.own_waiting() == 0 {
            self.changed.ring();
        }
    }

    /// Scans the gateway's own retained messages again, if one was missed and none of them waits.
    pub fn make_up_for_missed(&self) {
        if !self.missed_own.get() || self.own_waiting() > 0 {
            return;
        }
        self.missed_own.set(false);
        let mut scans = self.scans.borrow_mut();
        scans.retain(|scan| !scan.own_only);
        for (filter, grant) in self.filters.borrow().iter().filter(|(filter, _)| may_match_own(filter)) {
            scans.push_front(Scan::of_own(filter, grant.wants));
        }
    }

    pub fn waiting(&self) -> usize {
        self.outbound.borrow().waiting()
    }

    /// Messages that were not acknowledged: sent or not.
    pub fn unfinished(&self) -> usize {
        let outbound = self.outbound.borrow();
        outbound.waiting() + outbound.own_waiting() + outbound.in_flight()
    }

    pub fn own_waiting(&self) -> usize {
        self.outbound.borrow().own_waiting()
    }

    pub fn bytes(&self) -> usize {
        self.outbound.borrow().kept().bytes + self.output_bytes.get()
    }

    pub fn cut_off(&self) {
        self.overrun.set(true);
        self.changed.ring();
    }

    /// Ends the session and drops its messages, to make room for others.
    pub fn give_way(&self) {
        self.gave_way.set(true);
        self.with_outbound(|outbound| *outbound = Outbound::default());
    }

    fn with_outbound<R>(&self, change: impl FnOnce(&mut Outbound<Bytes>) -> R) -> R {
        let mut outbound = self.outbound.borrow_mut();
        let before = outbound.kept();
        let result = change(&mut outbound);
        let after = outbound.kept();
        drop(outbound);
        self.count(before.bytes, after.bytes);
        self.count_own(before, after);
        result
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.count(self.bytes(), 0);
        self.count_own(self.outbound.borrow().kept(), Kept::default());
    }
}

pub type Message = crate::core::mqtt::outbound::Message<Bytes>;

/// Whether a filter can match the gateway's own topics.
fn may_match_own(filter: &str) -> bool {
    topic::is_reserved(filter) || filter.starts_with(['+', '#'])
}

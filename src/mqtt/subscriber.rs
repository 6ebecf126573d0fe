//! What one client is subscribed to and has yet to get, and what all of them together may keep.
//!
//! Messages of clients and of the gateway's own are kept and counted apart, so that no flood takes the room of an alert. A message of a client that
//! finds no room is lost, with its subscriber's connection; an own one is a state, and is given again as it is then.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use tokio::sync::Notify;

use super::retained::Scan;
use crate::core::mqtt::session::{Close, Kept, Outbound};
use crate::core::mqtt::topic;

/// Own messages have this part of the pool.
const OWN_PART: usize = 8;
/// Sessions that are away share this part of the rest.
const AWAY_PART: usize = 4;
/// What may wait for one subscriber of the gateway's own.
const OWN_BYTES_MAX: usize = 64 * 1024;
/// What of the free room for own messages one subscriber may take.
const OWN_SHARE: usize = 8;
/// One session that is away may keep this part of what all of them may.
const AWAY_SHARE: usize = 8;

/// All subscribers of one host may take three quarters of anything.
pub fn host_part(of: usize) -> usize {
    of - of / 4
}

/// Bytes that wait for subscribers, all together.
#[derive(Debug)]
pub struct Pool {
    used: Cell<usize>,
    away: Cell<usize>,
    own: Cell<usize>,
    bytes_max: usize,
    own_max: usize,
    one_max: usize,
}

impl Pool {
    pub fn new(bytes_max: usize, one_max: usize) -> Pool {
        let own_max = bytes_max / OWN_PART;
        let [used, away, own] = [(); 3].map(|()| Cell::new(0));
        Pool { used, away, own, bytes_max: bytes_max - own_max, own_max, one_max }
    }

    fn free(&self) -> usize {
        self.bytes_max.saturating_sub(self.used.get())
    }

    fn away_max(&self) -> usize {
        self.bytes_max / AWAY_PART
    }

    pub fn is_away_full(&self, cost: usize) -> bool {
        self.away.get() + cost > self.away_max()
    }
}

/// The machine that a client is on, as far as its address tells.
#[derive(Debug, Default)]
pub struct Host {
    used: Cell<usize>,
    away: Cell<usize>,
    pub filter_levels: Cell<usize>,
    pub shapes: Cell<usize>,
}

/// Hosts of the sessions that there are.
#[derive(Debug, Default)]
pub struct Hosts {
    known: HashMap<IpAddr, Weak<Host>>,
    sweep_at: usize,
}

impl Hosts {
    pub fn get(&mut self, address: IpAddr) -> Rc<Host> {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, host| host.strong_count() > 0);
            self.sweep_at = 64 + 2 * self.known.len();
        }
        let known = self.known.entry(host_address(address)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let host = Rc::<Host>::default();
            *known = Rc::downgrade(&host);
            host
        })
    }
}

/// A host has a whole /64 of IPv6.
pub fn host_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// A filter of a client, and what it is charged for it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub qos: u8,
    pub levels: usize,
    pub shapes: usize,
}

/// A persistent session keeps it while the client is away.
pub struct Subscriber {
    outbound: RefCell<Outbound<Bytes>>,
    pub changed: Notify,
    /// It did not read fast enough; the connection closes and says so.
    pub overrun: Cell<bool>,
    /// Another connection wants the client id.
    pub taken_over: Cell<bool>,
    /// While it was away it gave way to others: the session is over.
    pub gave_way: Cell<bool>,
    /// When it left, in the order of all that did.
    pub departure: Cell<u64>,
    connected: Cell<bool>,
    /// Nothing waits: its connection does not look again unless it is told.
    hungry: Cell<bool>,
    /// A state of the gateway's own could not be queued.
    missed_own: Cell<bool>,
    pub filters: RefCell<HashMap<String, Grant>>,
    pub filter_levels: Cell<usize>,
    /// Of its filters on the gateway's own topics, within what everybody may have.
    pub own_levels: Cell<usize>,
    pub shapes: Cell<usize>,
    /// Filters whose retained messages it has not all got yet; each filter at most once, and once more for own messages.
    pub scans: RefCell<VecDeque<Scan>>,
    /// What its connection has ready to be written.
    output_bytes: Cell<usize>,
    pool: Rc<Pool>,
    pub host: Rc<Host>,
    /// Number of the last message that reached it, and its place among the receivers: one that matches twice is sent once.
    pub reached: Cell<(u64, usize)>,
}

impl Subscriber {
    pub fn new(pool: &Rc<Pool>, host: Rc<Host>) -> Subscriber {
        Subscriber {
            outbound: RefCell::default(),
            changed: Notify::new(),
            overrun: Cell::new(false),
            taken_over: Cell::new(false),
            gave_way: Cell::new(false),
            departure: Cell::new(0),
            connected: Cell::new(true),
            hungry: Cell::new(true),
            missed_own: Cell::new(false),
            filters: RefCell::default(),
            filter_levels: Cell::new(0),
            own_levels: Cell::new(0),
            shapes: Cell::new(0),
            scans: RefCell::default(),
            output_bytes: Cell::new(0),
            pool: Rc::clone(pool),
            host,
            reached: Cell::new((0, 0)),
        }
    }

    pub fn set_connected(&self, connected: bool) {
        if !connected {
            self.with_outbound(Outbound::drop_qos_0);
            self.note_output(0);
            self.overrun.set(false);
        } else if self.filters.borrow().iter().any(|(filter, grant)| grant.qos == 0 && may_match_own(filter)) {
            // What it was to get at QoS 0 is not kept.
            self.missed_own.set(true);
        }
        self.taken_over.set(false);
        let bytes = self.bytes();
        self.count(bytes, 0);
        self.connected.set(connected);
        self.count(0, bytes);
    }

    pub fn is_connected(&self) -> bool {
        self.connected.get()
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
        self.count(before, bytes);
    }

    /// Appends to `out`, up to `bytes_max`, what waits.
    pub fn fill(&self, out: &mut Vec<u8>, bytes_max: usize) {
        self.with_outbound(|outbound| outbound.fill(out, bytes_max));
        let outbound = self.outbound.borrow();
        self.hungry.set(outbound.waiting() == 0 && outbound.own_waiting() == 0);
    }

    pub fn push(&self, message: Message) {
        self.with_outbound(|outbound| outbound.push(message));
        // While something waits, its connection looks again by itself: a wake-up for each message is what a thousand that do not read would cost.
        if self.hungry.replace(false) {
            self.changed.notify_one();
        }
    }

    /// A state of the gateway's own finds no room: once the client has read the others, it gets those of all its filters again.
    pub fn miss_own(&self) {
        self.missed_own.set(true);
        if self.own_waiting() == 0 {
            self.changed.notify_one();
        }
    }

    /// Goes once more through the gateway's own retained messages, if one was missed and nothing of them waits.
    pub fn make_up_for_missed(&self) {
        if !self.missed_own.get() || self.own_waiting() > 0 {
            return;
        }
        self.missed_own.set(false);
        let mut scans = self.scans.borrow_mut();
        scans.retain(|scan| !scan.own_only);
        for (filter, grant) in self.filters.borrow().iter().filter(|(filter, _)| may_match_own(filter)) {
            scans.push_front(Scan::of_own(filter, grant.qos));
        }
    }

    pub fn waiting(&self) -> usize {
        self.outbound.borrow().waiting()
    }

    pub fn own_waiting(&self) -> usize {
        self.outbound.borrow().own_waiting()
    }

    pub fn bytes(&self) -> usize {
        self.outbound.borrow().kept().bytes + self.output_bytes.get()
    }

    /// Whether so much more of clients' messages may wait for it: never more than is free, so that slow ones share the pool and leave a
    /// part to the next. With nothing waiting, also what is larger than its share.
    pub fn has_room(&self, cost: usize) -> bool {
        let (pool, bytes) = (&self.pool, self.bytes());
        let free = pool.free().min(host_part(pool.bytes_max).saturating_sub(self.host.used.get()));
        match (self.connected.get(), bytes) {
            (_, 0) => cost <= free,
            (true, _) => bytes + cost <= pool.one_max.min(free),
            (false, _) => bytes + cost <= pool.one_max.min(free).min(pool.away_max() / AWAY_SHARE),
        }
    }

    /// The same for messages of the gateway's own.
    pub fn has_own_room(&self, cost: usize) -> bool {
        let free = self.pool.own_max.saturating_sub(self.pool.own.get());
        self.outbound.borrow().kept().own_bytes + cost <= OWN_BYTES_MAX.min(free / OWN_SHARE)
    }

    /// Its host has more than half of what those that are away may keep.
    pub fn is_host_greedy(&self) -> bool {
        self.host.away.get() > self.pool.away_max() / 2
    }

    pub fn cut_off(&self) {
        self.overrun.set(true);
        self.changed.notify_one();
    }

    /// What waits goes to others, and with it the session.
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

    fn count(&self, before: usize, after: usize) {
        let count = |used: &Cell<usize>| used.set(used.get() - before + after);
        count(&self.pool.used);
        count(&self.host.used);
        if !self.connected.get() {
            count(&self.pool.away);
            count(&self.host.away);
        }
    }

    fn count_own(&self, before: Kept, after: Kept) {
        self.pool.own.set(self.pool.own.get() - before.own_bytes + after.own_bytes);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.count(self.bytes(), 0);
        self.count_own(self.outbound.borrow().kept(), Kept::default());
    }
}

pub type Message = crate::core::mqtt::session::Message<Bytes>;

/// Whether a filter can match topics of the gateway's own.
fn may_match_own(filter: &str) -> bool {
    topic::is_reserved(filter) || filter.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_network_of_ipv6() {
        let mut hosts = Hosts::default();
        let mut get = |address: &str| hosts.get(address.parse().expect("an address"));
        let first = get("10.0.0.1");
        assert!(Rc::ptr_eq(&first, &get("::ffff:10.0.0.1")) && !Rc::ptr_eq(&first, &get("10.0.0.2")));
        let first = get("fd00::1:0:0:0:1");
        assert!(Rc::ptr_eq(&first, &get("fd00::1:0:0:0:2")) && !Rc::ptr_eq(&first, &get("fd00::2:0:0:0:1")));
        for n in 0..10_000u32 {
            hosts.get(IpAddr::V4(n.into()));
        }
        assert!(hosts.known.len() < 200, "those that are gone are forgotten");
    }
}

//! Client ids: which connection has which, and the sessions that outlive their connection.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::EdgeCounters;
use super::client::Client;
use super::fanout::Fanout;
use super::keeper::Keeper;
use super::pool::{Host, host_part};
use super::subscriber::Subscriber;
use crate::clock;
use crate::core::mqtt::session::BRIDGE_ID_PREFIX;

struct Entry {
    subscriber: Rc<Subscriber>,
    /// While there is no connection: its rank among the sessions that may be removed.
    away: Option<Departure>,
    gone: Rc<Notify>,
}

/// Sessions without subscriptions are removed first, then those that left first, so that a flood of new client ids does not cost a
/// subscriber its messages.
type Departure = (bool, u64);

struct Away {
    client_id: String,
    /// When its session ends.
    until: Instant,
    host: Rc<Host>,
}

#[derive(Clone)]
pub struct Sessions {
    inner: Rc<RefCell<Inner>>,
    departures: Rc<Cell<u64>>,
    fanout: Fanout,
    keeper: Keeper,
    counters: Arc<EdgeCounters>,
    persistent_max: usize,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    away: BTreeMap<Departure, Away>,
    /// Wills that wait for the end of their sessions, or for their delays.
    wills: HashMap<String, WaitingWill>,
}

struct WaitingWill {
    back: oneshot::Sender<ClientIsBack>,
    /// It was left before a restart: the client has not gone, the gateway has.
    is_restored: bool,
}

/// The client of a will that waits has come back in time: it is not published.
#[derive(Debug)]
pub struct ClientIsBack;

/// Another client has begun the session.
#[derive(Debug)]
pub struct BelongsToAnother;

/// A connection's hold on its client id.
pub struct Attached {
    pub subscriber: Rc<Subscriber>,
    pub session_present: bool,
    /// The session is begun, or another one ended: the client is told once that is stored.
    pub is_changed: bool,
}

impl Sessions {
    pub fn new(fanout: Fanout, keeper: Keeper, counters: Arc<EdgeCounters>, persistent_max: usize) -> Sessions {
        Sessions { inner: Rc::default(), departures: Rc::default(), fanout, keeper, counters, persistent_max }
    }

    /// Takes the client id, after any connection that has it is gone. The session is kept for so long when its client is gone.
    ///
    /// # Errors
    ///
    /// If the session of this client id belongs to somebody else.
    pub async fn attach(
        &self,
        client: &Rc<Client>,
        clean_start: bool,
        expiry: Duration,
        address: IpAddr,
    ) -> Result<Attached, BelongsToAnother> {
        let client_id = client.id();
        while let Some(gone) = self.make_leave(client)? {
            gone.notified().await;
        }
        let mut inner = self.inner.borrow_mut();
        let is_over = inner.is_over(client_id, Instant::now());
        let will = inner.wills.remove(client_id);
        let kept = inner.remove(client_id);
        let new = || self.fanout.subscriber(address, client);
        let mut is_changed = false;
        let (subscriber, session_present) = match kept {
            Some(subscriber) if !clean_start && !is_over && !subscriber.gave_way.get() => {
                // Otherwise its session has ended, which is when its will is published.
                will.into_iter().for_each(WaitingWill::cancel);
                (subscriber, true)
            }
            kept => {
                will.into_iter().filter(|will| will.is_restored).for_each(WaitingWill::cancel);
                kept.iter().for_each(|subscriber| is_changed |= self.end(subscriber));
                (new(), false)
            }
        };
        self.fanout.come_back(&subscriber);
        subscriber.set_client(client);
        subscriber.set_connected(true);
        if expiry.is_zero() {
            self.fanout.delete_stored(&subscriber);
        } else {
            self.fanout.store_session(&subscriber, expiry, None);
            is_changed |= !session_present;
        }
        let entry = Entry { subscriber: Rc::clone(&subscriber), away: None, gone: Rc::new(Notify::new()) };
        inner.entries.insert(client_id.to_owned(), entry);
        Ok(Attached { subscriber, session_present, is_changed })
    }

    /// Whether a connection of the same client is there.
    pub fn has_connection(&self, client: &Client) -> bool {
        let inner = self.inner.borrow();
        let entry = inner.entries.get(client.id());
        entry.is_some_and(|entry| entry.away.is_none() && entry.subscriber.belongs_to(client))
    }

    /// Asks the connection that has the client id to end. Returns what tells that it has; `None` if there is no such connection.
    fn make_leave(&self, client: &Client) -> Result<Option<Rc<Notify>>, BelongsToAnother> {
        let inner = self.inner.borrow();
        let Some(Entry { subscriber, away, gone }) = inner.entries.get(client.id()) else { return Ok(None) };
        if !subscriber.belongs_to(client) && !inner.is_over(client.id(), Instant::now()) {
            return Err(BelongsToAnother);
        }
        if away.is_some() {
            return Ok(None);
        }
        subscriber.take_over();
        Ok(Some(Rc::clone(gone)))
    }

    /// A will is to be published when the receiver says that its session has ended, or after its delay.
    pub fn keep_will(&self, client_id: &str) -> oneshot::Receiver<ClientIsBack> {
        let (sender, receiver) = oneshot::channel();
        let inner = &mut *self.inner.borrow_mut();
        // A session that had to give way as soon as it was left has ended: its will is due, and those that wait are no more than the sessions.
        if inner.entries.contains_key(client_id) {
            inner.wills.insert(client_id.to_owned(), WaitingWill { back: sender, is_restored: false });
        }
        receiver
    }

    /// The same for a will that was left before a restart: its client may have had no session.
    pub fn keep_restored_will(&self, client_id: &str) -> oneshot::Receiver<ClientIsBack> {
        let (back, receiver) = oneshot::channel();
        self.inner.borrow_mut().wills.insert(client_id.to_owned(), WaitingWill { back, is_restored: true });
        receiver
    }

    /// The will is published.
    pub fn forget_will(&self, client_id: &str) {
        self.inner.borrow_mut().wills.retain(|known, will| known != client_id || !will.back.is_closed());
    }

    /// The connection has ended. Its session is kept for so long; if there are too many, another one is removed.
    pub fn detach(&self, client_id: &str, expiry: Duration) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(entry) = inner.entries.get_mut(client_id) else {
            return;
        };
        let subscriber = Rc::clone(&entry.subscriber);
        subscriber.set_connected(false);
        let gone = Rc::clone(&entry.gone);
        let has_gap = subscriber.has_gap.get();
        self.counters.sessions_given_way.add(u64::from(has_gap && !expiry.is_zero()));
        if expiry.is_zero() || has_gap {
            inner.entries.remove(client_id);
            self.end(&subscriber);
        } else {
            self.fanout.store_session(&subscriber, expiry, Some(clock::now_ms()));

            let departure = self.depart(&mut inner.away, client_id, &subscriber, expiry);
            entry.away = Some(departure);
            self.fanout.leave(&subscriber, departure.1);
        }
        self.keep_to_cap(inner, &subscriber.host);
        // All waiting connections look again, and one of them finds the client id free.
        gone.notify_waiters();
    }

    /// The session is kept without a connection.
    fn depart(
        &self,
        all: &mut BTreeMap<Departure, Away>,
        client_id: &str,
        subscriber: &Rc<Subscriber>,
        expiry: Duration,
    ) -> Departure {
        self.departures.set(self.departures.get() + 1);
        // A bridge's session is never removed: it comes behind all others.
        let rank = if subscriber.is_bridge { u64::MAX - self.departures.get() } else { self.departures.get() };
        let departure = (subscriber.has_filters(), rank);
        let host = Rc::clone(&subscriber.host);
        let away = Away { client_id: client_id.to_owned(), until: Instant::now() + expiry, host };
        all.insert(departure, away);
        departure
    }

    /// A session of before a restart, whose client is away. It ends after `left`, unless the client comes back.
    pub fn restore(&self, subscriber: &Rc<Subscriber>, left: Duration) {
        let inner = &mut *self.inner.borrow_mut();
        let client = subscriber.client();
        subscriber.set_connected(false);
        let departure = self.depart(&mut inner.away, client.id(), subscriber, left);
        self.fanout.restore_away(subscriber, departure.1);
        let away = Some(departure);
        let entry = Entry { subscriber: Rc::clone(subscriber), away, gone: Rc::new(Notify::new()) };
        let before = inner.remove(client.id());
        inner.entries.insert(client.id().to_owned(), entry);
        before.iter().for_each(|before| _ = self.end(before));
    }

    /// Has stored what need not be stored at once, of all sessions.
    pub fn store_progress(&self) {
        let mut ids = 0;
        for Entry { subscriber, .. } in self.inner.borrow().entries.values() {
            self.fanout.store_progress(subscriber);
            ids += subscriber.session().map_or(0, |_| subscriber.unreleased.borrow().len());
        }
        self.keeper.count_ids(ids);
    }

    /// Ends a session. Returns whether it was stored.
    pub fn end(&self, subscriber: &Rc<Subscriber>) -> bool {
        let was_stored = subscriber.session().is_some();
        self.fanout.delete_stored(subscriber);
        self.fanout.forget(subscriber);
        was_stored
    }

    /// If a host has more than its part of the sessions, one of its own is removed.
    fn keep_to_cap(&self, inner: &mut Inner, host: &Rc<Host>) {
        if inner.away.len() <= self.persistent_max {
            return;
        }
        let of_host = inner.away.values().filter(|away| Rc::ptr_eq(&away.host, host)).count();
        let is_host_greedy = of_host > host_part(self.persistent_max);
        let may_go = |away: &&Away| !away.client_id.starts_with(BRIDGE_ID_PREFIX);
        let mut others = inner.away.values().filter(may_go);
        let first = others.find(|away| !is_host_greedy || Rc::ptr_eq(&away.host, host));
        let Some(client_id) = first.map(|away| away.client_id.clone()) else { return };
        inner.wills.remove(&client_id);
        if let Some(subscriber) = inner.remove(&client_id) {
            if subscriber.has_filters() {
                self.counters.sessions_given_way.add(1);
                self.fanout.note_short();
            }
            self.end(&subscriber);
        }
    }

    /// Ends the sessions whose clients have been away for too long.
    pub fn expire(&self) {
        let (now, inner) = (Instant::now(), &mut *self.inner.borrow_mut());
        let over = inner.away.values().filter(|away| away.until <= now).map(|away| away.client_id.clone());
        for client_id in over.collect::<Vec<_>>() {
            inner.wills.remove(&client_id);
            let Some(subscriber) = inner.remove(&client_id) else { continue };
            self.end(&subscriber);
            self.counters.sessions_expired.add(1);
        }
    }

    /// What clients may do has changed.
    pub fn renew_permissions(&self) {
        for entry in self.inner.borrow().entries.values() {
            entry.subscriber.renew_permissions();
        }
    }

    /// Makes every connection check its state.
    pub fn wake_all(&self) {
        for entry in self.inner.borrow().entries.values() {
            entry.subscriber.changed.ring();
        }
    }
}

impl WaitingWill {
    /// Its client is back.
    fn cancel(self) {
        // Its task may have ended by now.
        let _ = self.back.send(ClientIsBack);
    }
}

impl Inner {
    /// Whether the session has lasted for as long as it was to be kept.
    fn is_over(&self, client_id: &str, now: Instant) -> bool {
        let away = self.entries.get(client_id).and_then(|entry| self.away.get(entry.away.as_ref()?));
        away.is_some_and(|away| away.until <= now)
    }

    fn remove(&mut self, client_id: &str) -> Option<Rc<Subscriber>> {
        let entry = self.entries.remove(client_id)?;
        if let Some(departure) = entry.away {
            self.away.remove(&departure);
        }
        Some(entry.subscriber)
    }
}

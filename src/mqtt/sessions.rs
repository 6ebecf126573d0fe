//! Client ids: which connection has which, and the sessions that outlive their connection.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::EdgeCounters;
use super::fanout::Fanout;
use super::subscriber::{Host, Subscriber, host_part};

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
    since: Instant,
    host: Rc<Host>,
}

#[derive(Clone)]
pub struct Sessions {
    inner: Rc<RefCell<Inner>>,
    departures: Rc<Cell<u64>>,
    fanout: Fanout,
    counters: Arc<EdgeCounters>,
    persistent_max: usize,
    expiry_max: Duration,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    away: BTreeMap<Departure, Away>,
}

/// A connection's hold on its client id.
pub struct Attached {
    pub subscriber: Rc<Subscriber>,
    pub session_present: bool,
}

impl Sessions {
    pub fn new(fanout: Fanout, counters: Arc<EdgeCounters>, persistent_max: usize, expiry_max: Duration) -> Sessions {
        Sessions { inner: Rc::default(), departures: Rc::default(), fanout, counters, persistent_max, expiry_max }
    }

    /// Takes the client id, after any connection that has it is gone.
    pub async fn attach(&self, client_id: &str, clean_session: bool, address: IpAddr) -> Attached {
        loop {
            let gone = match self.inner.borrow().entries.get(client_id) {
                Some(Entry { away: None, subscriber, gone }) => {
                    subscriber.take_over();
                    Rc::clone(gone)
                }
                _ => break,
            };
            gone.notified().await;
        }
        self.expire();
        let mut inner = self.inner.borrow_mut();
        let kept = inner.remove(client_id);
        let (subscriber, session_present) = match kept {
            Some(subscriber) if !clean_session && !subscriber.gave_way.get() => (subscriber, true),
            Some(subscriber) => {
                self.fanout.forget(&subscriber);
                (self.fanout.subscriber(address), false)
            }
            None => (self.fanout.subscriber(address), false),
        };
        self.fanout.come_back(&subscriber);
        subscriber.set_connected(true);
        let entry = Entry { subscriber: Rc::clone(&subscriber), away: None, gone: Rc::new(Notify::new()) };
        inner.entries.insert(client_id.to_owned(), entry);
        Attached { subscriber, session_present }
    }

    /// The connection has ended. A persistent session is kept; if there are too many, another one is removed.
    pub fn detach(&self, client_id: &str, clean_session: bool) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(entry) = inner.entries.get_mut(client_id) else {
            return;
        };
        let subscriber = Rc::clone(&entry.subscriber);
        subscriber.set_connected(false);
        let gone = Rc::clone(&entry.gone);
        if clean_session {
            inner.entries.remove(client_id);
            self.fanout.forget(&subscriber);
        } else {
            let departure = (subscriber.has_filters(), self.departures.get() + 1);
            self.departures.set(departure.1);
            entry.away = Some(departure);
            let host = Rc::clone(&subscriber.host);
            inner.away.insert(departure, Away { client_id: client_id.to_owned(), since: Instant::now(), host });
            self.fanout.leave(&subscriber, departure.1);
        }
        self.keep_to_cap(inner, &subscriber.host);
        // All waiting connections look again, and one of them finds the client id free.
        gone.notify_waiters();
    }

    /// If a host has more than its part of the sessions, one of its own is removed.
    fn keep_to_cap(&self, inner: &mut Inner, host: &Rc<Host>) {
        if inner.away.len() <= self.persistent_max {
            return;
        }
        let of_host = inner.away.values().filter(|away| Rc::ptr_eq(&away.host, host)).count();
        let is_host_greedy = of_host > host_part(self.persistent_max);
        let first = inner.away.values().find(|away| !is_host_greedy || Rc::ptr_eq(&away.host, host));
        let Some(client_id) = first.map(|away| away.client_id.clone()) else { return };
        if let Some(subscriber) = inner.remove(&client_id) {
            if subscriber.has_filters() {
                self.counters.sessions_given_way.add(1);
                self.fanout.note_short();
            }
            self.fanout.forget(&subscriber);
        }
    }

    /// Ends the sessions whose clients have been away for too long.
    pub fn expire(&self) {
        let inner = &mut *self.inner.borrow_mut();
        for has_filters in [false, true] {
            // Within each kind, those that left first come first.
            while let Some((_, first)) = inner.away.range((has_filters, 0)..=(has_filters, u64::MAX)).next()
                && first.since.elapsed() >= self.expiry_max
            {
                let client_id = first.client_id.clone();
                let Some(subscriber) = inner.remove(&client_id) else { return };
                self.fanout.forget(&subscriber);
                self.counters.sessions_expired.add(1);
            }
        }
    }

    /// Makes every connection check its state.
    pub fn wake_all(&self) {
        for entry in self.inner.borrow().entries.values() {
            entry.subscriber.changed.notify_one();
        }
    }
}

impl Inner {
    fn remove(&mut self, client_id: &str) -> Option<Rc<Subscriber>> {
        let entry = self.entries.remove(client_id)?;
        if let Some(departure) = entry.away {
            self.away.remove(&departure);
        }
        Some(entry.subscriber)
    }
}

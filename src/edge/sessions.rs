//! Client ids: who is connected under which, and the sessions that outlive their connection.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tokio::sync::Notify;

use super::fanout::{Fanout, Subscriber};

struct Entry {
    subscriber: Rc<Subscriber>,
    /// While there is no connection: its place in the order in which sessions go.
    away: Option<Departure>,
    gone: Rc<Notify>,
}

/// Sessions that subscribed to nothing go first, then those that left first: a flood of new client ids costs no subscriber its messages.
type Departure = (bool, u64);

#[derive(Clone)]
pub struct Sessions {
    inner: Rc<RefCell<Inner>>,
    departures: Rc<Cell<u64>>,
    fanout: Fanout,
    persistent_max: usize,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    away: BTreeMap<Departure, String>,
}

/// A connection's hold on its client id.
pub struct Attached {
    pub subscriber: Rc<Subscriber>,
    pub session_present: bool,
}

impl Sessions {
    pub fn new(fanout: Fanout, persistent_max: usize) -> Sessions {
        Sessions { inner: Rc::default(), departures: Rc::default(), fanout, persistent_max }
    }

    /// Takes the client id, waiting until a connection that has it is gone.
    pub async fn attach(&self, client_id: &str, clean_session: bool) -> Attached {
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
        let mut inner = self.inner.borrow_mut();
        let kept = inner.entries.remove(client_id);
        if let Some(departure) = kept.as_ref().and_then(|entry| entry.away) {
            inner.away.remove(&departure);
        }
        let (subscriber, session_present) = match kept {
            Some(entry) if !clean_session => (entry.subscriber, true),
            Some(entry) => {
                self.fanout.forget(&entry.subscriber);
                (self.fanout.subscriber(), false)
            }
            None => (self.fanout.subscriber(), false),
        };
        subscriber.set_connected(true);
        let entry = Entry { subscriber: Rc::clone(&subscriber), away: None, gone: Rc::new(Notify::new()) };
        inner.entries.insert(client_id.to_owned(), entry);
        Attached { subscriber, session_present }
    }

    /// The connection has ended. A persistent session is kept; beyond the cap another one goes.
    pub fn detach(&self, client_id: &str, clean_session: bool) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(entry) = inner.entries.get_mut(client_id) else {
            return;
        };
        entry.subscriber.set_connected(false);
        let gone = Rc::clone(&entry.gone);
        if clean_session {
            let entry = inner.entries.remove(client_id).expect("just found");
            self.fanout.forget(&entry.subscriber);
        } else {
            let departure = (entry.subscriber.has_filters(), self.departures.get());
            self.departures.set(departure.1 + 1);
            entry.away = Some(departure);
            inner.away.insert(departure, client_id.to_owned());
        }
        if inner.away.len() > self.persistent_max
            && let Some((_, first)) = inner.away.pop_first()
            && let Some(entry) = inner.entries.remove(&first)
        {
            self.fanout.forget(&entry.subscriber);
        }
        // All who wait look again, and one of them finds the place free.
        gone.notify_waiters();
    }

    /// Every connection looks around.
    pub fn wake_all(&self) {
        for entry in self.inner.borrow().entries.values() {
            entry.subscriber.changed.notify_one();
        }
    }
}

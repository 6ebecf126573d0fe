//! Client ids: who is connected under which, and the sessions that outlive their connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::fanout::{Fanout, Subscriber};

struct Entry {
    subscriber: Rc<Subscriber>,
    /// Asks the connection to go; while there is one.
    takeover: Option<Rc<Notify>>,
    gone: Rc<Notify>,
    left_at_ms: i64,
}

#[derive(Clone)]
pub struct Sessions {
    entries: Rc<RefCell<HashMap<String, Entry>>>,
    fanout: Fanout,
    persistent_max: usize,
}

/// A connection's hold on its client id.
pub struct Attached {
    pub subscriber: Rc<Subscriber>,
    pub session_present: bool,
    /// Somebody else connects with this client id: close.
    pub takeover: Rc<Notify>,
}

impl Sessions {
    pub fn new(fanout: Fanout, persistent_max: usize) -> Sessions {
        Sessions { entries: Rc::default(), fanout, persistent_max }
    }

    /// Takes the client id, waiting until a connection that has it is gone.
    pub async fn attach(&self, client_id: &str, clean_session: bool) -> Attached {
        loop {
            let gone = match self.entries.borrow().get(client_id) {
                Some(Entry { takeover: Some(takeover), gone, .. }) => {
                    takeover.notify_one();
                    Rc::clone(gone)
                }
                _ => break,
            };
            gone.notified().await;
        }
        let kept = self.entries.borrow_mut().remove(client_id);
        let takeover = Rc::new(Notify::new());
        let (subscriber, session_present) = match kept {
            Some(entry) if !clean_session => (entry.subscriber, true),
            Some(entry) => {
                self.fanout.forget(&entry.subscriber);
                (Rc::default(), false)
            }
            None => (Rc::default(), false),
        };
        subscriber.set_connected(true);
        let entry = Entry {
            subscriber: Rc::clone(&subscriber),
            takeover: Some(Rc::clone(&takeover)),
            gone: Rc::new(Notify::new()),
            left_at_ms: 0,
        };
        self.entries.borrow_mut().insert(client_id.to_owned(), entry);
        Attached { subscriber, session_present, takeover }
    }

    /// The connection has ended. A persistent session is kept; beyond the cap the one that left first goes.
    pub fn detach(&self, client_id: &str, clean_session: bool, now_ms: i64) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(client_id) else {
            return;
        };
        entry.takeover = None;
        entry.left_at_ms = now_ms;
        entry.subscriber.set_connected(false);
        let gone = Rc::clone(&entry.gone);
        if clean_session {
            let entry = entries.remove(client_id).expect("just found");
            self.fanout.forget(&entry.subscriber);
        }
        let away = entries.values().filter(|entry| entry.takeover.is_none()).count();
        if away > self.persistent_max {
            let oldest = entries.iter().filter(|(_, entry)| entry.takeover.is_none());
            if let Some(oldest) = oldest.min_by_key(|(_, entry)| entry.left_at_ms).map(|(id, _)| id.clone())
                && let Some(entry) = entries.remove(&oldest)
            {
                self.fanout.forget(&entry.subscriber);
            }
        }
        // All who wait look again, and one of them finds the place free.
        gone.notify_waiters();
    }
}

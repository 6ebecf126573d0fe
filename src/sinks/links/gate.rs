//! The gate between one stream of a sink and the link that the sink uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{SharedLink, SocketBytes};
use crate::core::delivery::{Gate, Request, RequestId};
use crate::core::link::{self, Class, Permit};

/// Asks the link, if there is one; without it the gate is open.
#[derive(Debug)]
pub struct LinkGate {
    link: Option<Arc<SharedLink>>,
    socket: Arc<SocketBytes>,
    under_way: BTreeMap<RequestId, (Class, u64)>,
    /// So many bytes are reserved for a request that is not known yet.
    reserved: Option<usize>,
    /// Classes that were told to come again.
    has_asked: Vec<Class>,
    /// Nothing more is sent.
    is_closed: bool,
}

impl LinkGate {
    pub fn new(link: Option<Arc<SharedLink>>, socket: Arc<SocketBytes>) -> LinkGate {
        if let Some(link) = &link {
            link.begins_to_use();
        }
        LinkGate { link, socket, under_way: BTreeMap::new(), reserved: None, has_asked: Vec::new(), is_closed: false }
    }

    pub fn link(&self) -> Option<&Arc<SharedLink>> {
        self.link.as_ref()
    }

    /// More than it will be, as a rule.
    fn estimate(request: &Request) -> u64 {
        link::on_socket(request.records.iter().map(|record| record.data.len() as u64).sum())
    }

    /// A dead letter is on its way that may go: what is counted meanwhile is not for whoever asks.
    pub fn letter_begins(&self) {
        if self.link.is_some() {
            self.socket.begins();
        }
    }

    /// It was answered, or is not waited for any more. What it took is of this class, in whose name it has asked.
    pub fn letter_ends(&mut self, class: Class) {
        let Some(link) = &self.link else { return };
        self.socket.ends();
        let now = link.now();
        let mut budget = link.lock();
        if let Some(bytes_max) = self.reserved.take() {
            budget.give_back(class, bytes_max);
        }
        budget.spend(class, self.socket.take(), now);
    }

    /// Nothing more is sent. What is under way is spent, whatever becomes of it.
    pub fn close(&mut self) {
        if let Some(link) = &self.link
            && !std::mem::replace(&mut self.is_closed, true)
        {
            let now = link.now();
            let mut budget = link.lock();
            for (class, estimate) in std::mem::take(&mut self.under_way).into_values() {
                self.socket.ends();
                budget.done(class, estimate, self.socket.take(), now);
            }
            budget.spend(Class::Backlog, self.socket.take(), now);
            drop(budget);
            link.ends_to_use();
        }
    }
}

impl Gate for LinkGate {
    fn ask(&mut self, class: Class, first_bytes: usize, now_us: u64) -> Permit {
        let Some(link) = &self.link else { return Permit::Go { bytes_max: usize::MAX } };
        let now = link.now();
        let mut budget = link.lock();
        // What no request is answerable for: handshakes that failed, connections that were closed.
        if !self.socket.is_in_use() {
            budget.spend(class, self.socket.take(), now);
        }
        // Other streams share the budget, on other threads, and must not be told the same.
        let permit = budget.reserve(class, first_bytes, now);
        drop(budget);
        // The clocks of link and delivery have begun at different times.
        let mine = |at_us: u64| now_us + at_us.saturating_sub(now.steady_us);
        if !matches!(permit, Permit::Go { .. }) && !self.has_asked.contains(&class) {
            self.has_asked.push(class);
        }
        match permit {
            Permit::Go { bytes_max } => {
                self.reserved = Some(bytes_max);
                permit
            }
            Permit::Later { at_us } => Permit::Later { at_us: mine(at_us) },
            Permit::Wait { waiting, at_us } => Permit::Wait { waiting, at_us: mine(at_us) },
        }
    }

    fn sent(&mut self, class: Class, request: &Request, _: u64) {
        let Some(link) = &self.link else { return };
        let estimate = LinkGate::estimate(request);
        let now = link.now();
        let mut budget = link.lock();
        if let Some(bytes_max) = self.reserved.take() {
            budget.give_back(class, bytes_max);
        }
        budget.sent(class, estimate, now);
        drop(budget);
        self.socket.begins();
        self.under_way.insert(request.id, (class, estimate));
    }

    fn unused(&mut self, class: Class) {
        if let (Some(link), Some(bytes_max)) = (&self.link, self.reserved.take()) {
            link.lock().give_back(class, bytes_max);
        }
    }

    fn answered(&mut self, id: RequestId, _: u64) {
        let Some(link) = &self.link else { return };
        let Some((class, estimate)) = self.under_way.remove(&id) else { return };
        self.socket.ends();
        let now = link.now();
        link.lock().done(class, estimate, self.socket.take(), now);
    }

    fn wants_nothing(&mut self, class: Class) {
        if let Some(link) = &self.link
            && let Some(at) = self.has_asked.iter().position(|known| *known == class)
        {
            self.has_asked.swap_remove(at);
            link.lock().wants_nothing(class);
        }
    }
}

impl Drop for LinkGate {
    fn drop(&mut self) {
        self.close();
    }
}

//! What one user of a listener may take, over all its connections. A client without a name is a user of its own for each connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::core::mqtt::rate::TokenBucket;

/// Of a user by name, over all its connections; of a client without a name by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserLimits {
    pub connections_max: Option<usize>,
    /// What comes faster is read later.
    pub messages_a_second_max: Option<u64>,
    pub bytes_a_second_max: Option<u64>,
}

/// The users of one listener who are there.
#[derive(Debug)]
pub struct Quotas {
    known: RefCell<HashMap<String, Weak<Quota>>>,
    started: Instant,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas { known: RefCell::default(), started: Instant::now() }
    }
}

/// One user's.
#[derive(Debug)]
struct Quota {
    connections: Cell<usize>,
    messages: Option<Cell<TokenBucket>>,
    bytes: Option<Cell<TokenBucket>>,
}

/// A connection's part in it.
#[derive(Debug)]
pub struct QuotaSeat {
    quota: Rc<Quota>,
    started: Instant,
}

/// The user has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its user has {0} connections, which are all that it may have")]
pub struct TooManyConnections(usize);

impl Quotas {
    /// For a connection of the user of this name. `takes_over`: it takes the place of another one of the same user, which ends.
    ///
    /// # Errors
    ///
    /// If the user has as many connections as it may.
    pub fn seat(
        &self,
        name: Option<&str>,
        limits: &UserLimits,
        takes_over: bool,
    ) -> Result<QuotaSeat, TooManyConnections> {
        let new = || Rc::new(Quota::new(limits));
        let quota = match name {
            None => new(),
            Some(name) => {
                let mut known = self.known.borrow_mut();
                known.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
                    known.retain(|_, quota| quota.strong_count() > 0);
                    let quota = new();
                    known.insert(name.to_owned(), Rc::downgrade(&quota));
                    quota
                })
            }
        };
        let connections = quota.connections.get();
        match limits.connections_max {
            Some(max) if connections >= max && !takes_over => return Err(TooManyConnections(connections)),
            _ => quota.connections.set(connections + 1),
        }
        Ok(QuotaSeat { quota, started: self.started })
    }
}

impl Quota {
    fn new(limits: &UserLimits) -> Quota {
        let bucket = |rate: Option<u64>| rate.map(|rate| Cell::new(TokenBucket::new(rate)));
        Quota {
            connections: Cell::new(0),
            messages: bucket(limits.messages_a_second_max),
            bytes: bucket(limits.bytes_a_second_max),
        }
    }

    fn buckets(&self) -> impl Iterator<Item = &Cell<TokenBucket>> {
        self.messages.iter().chain(&self.bytes)
    }
}

impl QuotaSeat {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// So much was read of the user. Returns whether the user has to wait from here on.
    pub fn charge(&self, messages: u64, bytes: u64) -> bool {
        if self.quota.buckets().next().is_none() {
            return false;
        }
        let now = self.now();
        let was_ready = self.is_ready();
        for (bucket, count) in [(&self.quota.messages, messages), (&self.quota.bytes, bytes)] {
            if let Some(bucket) = bucket {
                let mut changed = bucket.get();
                changed.take(count, now);
                bucket.set(changed);
            }
        }
        was_ready && !self.is_ready()
    }

    /// Whether more may be read of the user.
    pub fn is_ready(&self) -> bool {
        self.wait().is_none()
    }

    /// How long nothing more is read of the user; `None` if it may be.
    pub fn wait(&self) -> Option<Duration> {
        let ready_at = self.quota.buckets().map(|bucket| bucket.get().ready_at()).max()?;
        ready_at.checked_sub(self.now()).filter(|wait| !wait.is_zero())
    }
}

impl Drop for QuotaSeat {
    fn drop(&mut self) {
        self.quota.connections.set(self.quota.connections.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_user_are_counted_and_share_a_rate() {
        let quotas = Quotas::default();
        let limits = UserLimits { connections_max: Some(2), messages_a_second_max: Some(10), bytes_a_second_max: None };
        let seat = |name, takes_over| quotas.seat(name, &limits, takes_over);
        let (first, second) = (seat(Some("a"), false).expect("one"), seat(Some("a"), false).expect("two"));
        assert_eq!(seat(Some("a"), false).map(drop), Err(TooManyConnections(2)));
        assert!(seat(Some("a"), true).is_ok() && seat(Some("b"), false).is_ok() && seat(None, false).is_ok());
        assert!(!first.charge(5, 1 << 30) && second.is_ready(), "bytes are not limited");
        assert!(first.charge(100, 0) && !second.charge(1, 0), "the second is told of the first's wait only once");
        assert!(!second.is_ready() && second.wait() > Some(Duration::from_secs(8)));
        assert!(seat(Some("b"), false).expect("another user").is_ready());
        drop((first, second));
        assert!(seat(Some("a"), false).expect("one again").is_ready(), "who was gone begins anew");
        assert!(quotas.known.borrow().len() <= 2);
    }
}

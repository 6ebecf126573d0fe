//! How much may wait for a subscriber, by what it, its host and all others have already.

use std::cell::Cell;

use super::Subscriber;
use crate::core::mqtt::outbound::Kept;
use crate::mqtt::pool::host_part;

/// Most bytes of the gateway's own messages that may wait for one subscriber.
const OWN_BYTES_MAX: usize = 64 * 1024;
/// One subscriber may take this fraction of the free room for the gateway's own messages.
const OWN_SHARE: usize = 8;
/// One session that is away may keep this fraction of what all of them may.
const AWAY_SHARE: usize = 8;

impl Subscriber {
    /// Whether this much more of clients' messages may wait for it: never more than is free, so that slow subscribers share the pool and
    /// leave a part to the next. If nothing is waiting, a message may be larger than its share.
    pub fn has_room(&self, cost: usize) -> bool {
        let (pool, bytes) = (&self.pool, self.bytes());
        let free = pool.free().min(host_part(pool.bytes_max).saturating_sub(self.host.used.get()));
        match (self.connected.get(), bytes) {
            (_, 0) => cost <= free,
            (true, _) => bytes + cost <= self.bytes_max.get().min(free),
            (false, _) if self.is_bridge => bytes + cost <= self.bytes_max.get().min(free),
            (false, _) => bytes + cost <= self.bytes_max.get().min(free).min(pool.away_max() / AWAY_SHARE),
        }
    }

    /// The same for the gateway's own messages.
    pub fn has_own_room(&self, cost: usize) -> bool {
        let free = self.pool.own_max.saturating_sub(self.pool.own.get());
        self.outbound.borrow().kept().own_bytes + cost <= OWN_BYTES_MAX.min(free / OWN_SHARE)
    }

    /// Its host has more than half of what the sessions that are away may keep.
    pub fn is_host_greedy(&self) -> bool {
        self.host.away.get() > self.pool.away_max() / 2
    }

    pub(super) fn count(&self, before: usize, after: usize) {
        let count = |used: &Cell<usize>| used.set(used.get() - before + after);
        count(&self.pool.used);
        count(&self.host.used);
        if !self.connected.get() && !self.is_bridge {
            count(&self.pool.away);
            count(&self.host.away);
        }
    }

    pub(super) fn count_own(&self, before: Kept, after: Kept) {
        self.pool.own.set(self.pool.own.get() - before.own_bytes + after.own_bytes);
    }
}

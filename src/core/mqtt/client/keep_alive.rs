//! When to ask whether the broker is there, and when to believe that it is not.

/// After a question so long at least, in milliseconds.
const WAIT_MS_MIN: u64 = 1_000;

/// Of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    /// 0: nothing is asked.
    interval_ms: u64,
    sent_ms: u64,
    heard_ms: u64,
    asked_ms: Option<u64>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// The other side is gone.
    Silent,
}

impl KeepAlive {
    pub(super) fn new(interval_s: u16, now_ms: u64) -> KeepAlive {
        KeepAlive { interval_ms: u64::from(interval_s) * 1_000, sent_ms: now_ms, heard_ms: now_ms, asked_ms: None }
    }

    pub(super) fn sent(&mut self, now_ms: u64) {
        self.sent_ms = now_ms;
    }

    /// Any packet shows that the other side is there.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.asked_ms = None;
    }

    /// The question was not with the network before.
    pub(super) fn ping_left(&mut self, now_ms: u64) {
        if let Some(asked_ms) = &mut self.asked_ms {
            *asked_ms = now_ms;
        }
    }

    /// Nothing could be heard up to now, because nobody has listened.
    pub(super) fn excuse(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.ping_left(now_ms);
    }

    /// Asks also when only sending goes on: what is sent may go nowhere.
    fn ping_at_ms(&self) -> u64 {
        self.sent_ms.min(self.heard_ms).saturating_add(self.interval_ms)
    }

    /// Half an interval, so that both together are what a server waits for, too.
    fn silent_at_ms(&self, asked_ms: u64) -> u64 {
        asked_ms.saturating_add((self.interval_ms / 2).max(WAIT_MS_MIN))
    }

    pub(super) fn due_at_ms(&self) -> Option<u64> {
        match (self.interval_ms, self.asked_ms) {
            (0, _) => None,
            (_, Some(asked_ms)) => Some(self.silent_at_ms(asked_ms)),
            (_, None) => Some(self.ping_at_ms()),
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64) -> Due {
        match (self.due_at_ms(), self.asked_ms) {
            (Some(at_ms), Some(_)) if at_ms <= now_ms => Due::Silent,
            (Some(at_ms), None) if at_ms <= now_ms => {
                self.asked_ms = Some(now_ms);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_not_heard_is_asked_and_then_given_up() {
        let mut keep_alive = KeepAlive::new(10, 0);
        assert_eq!(keep_alive.due_at_ms(), Some(10_000));
        keep_alive.sent(9_000);
        // What is sent proves nothing.
        assert_eq!((keep_alive.tick(9_999), keep_alive.tick(10_000)), (Due::Nothing, Due::Ping));
        assert_eq!((keep_alive.tick(14_999), keep_alive.tick(15_000)), (Due::Nothing, Due::Silent));
        keep_alive.heard(14_999);
        keep_alive.sent(15_500);
        assert_eq!(keep_alive.due_at_ms(), Some(24_999));
        assert_eq!(keep_alive.tick(24_999), Due::Ping);
        keep_alive.excuse(40_000);
        assert_eq!((keep_alive.tick(44_999), keep_alive.tick(45_000)), (Due::Nothing, Due::Silent));
        let mut idle = KeepAlive::new(10, 0);
        idle.heard(9_000);
        assert_eq!(idle.tick(10_000), Due::Ping, "the broker wants to hear something, too");
        let mut off = KeepAlive::new(0, 0);
        assert_eq!((off.due_at_ms(), off.tick(u64::MAX)), (None, Due::Nothing));
    }
}

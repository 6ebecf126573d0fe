//! How fast each shard is fed: as fast as it goes, until it throttles; then a little above what it was seen to take.
//!
//! A shard's limit is learned, not assumed: in a window with throttling, what was accepted *is* the limit. Sending a quarter more keeps the
//! shard busy all the time, at the cost of every fifth attempt; sending less would leave capacity unused that is needed after an outage.
//! Throttling that does not depend on the rate (a fault that hits some records at random) would make such a rule slow down for ever, so the
//! margin grows when slowing down has not helped.
//!
//! Costs are in the unit of a shard's limit: 1,000 records a second and 1 MB a second are the same, so a record costs one for each 1,000
//! bytes, and at least one.

/// Below this share of throttled cost nothing is held back: sending again is cheaper than waiting.
const THROTTLED_SHARE_TOLERATED: f64 = 0.15;
const MARGIN_MIN: f64 = 1.25;
const MARGIN_MAX: f64 = 4.0;
/// A rate never falls below this, in cost a second: even the slowest shard is asked a few times a second.
const RATE_MIN: f64 = 20.0;
/// Growth of the rate with each window that goes well.
const RATE_GROWTH: f64 = 1.1;
/// A rate that is so many times what is accepted has no effect any more, and is dropped.
const RATE_IDLE_FACTOR: f64 = 4.0;
const WINDOW_US_MIN: u64 = 250_000;
const WINDOW_US_MAX: u64 = 2_000_000;
/// A window with fewer attempts stays open for more, up to `WINDOW_US_MAX`.
const WINDOW_ATTEMPTS_MIN: u32 = 30;
/// Tokens are saved up for so long, because a slow reply may hold up the next request.
const BURST_SECONDS: f64 = 0.2;

pub fn cost(bytes: usize) -> f64 {
    (bytes as f64 / 1000.0).max(1.0)
}

#[derive(Clone, Debug)]
pub struct Pacer {
    /// Cost a second; `None` while nothing has to be held back.
    rate: Option<f64>,
    tokens: f64,
    refilled_us: u64,
    margin: f64,
    window: Window,
    /// Share throttled in the last window that ended in a lower rate.
    share_before: Option<f64>,
}

#[derive(Clone, Debug, Default)]
struct Window {
    started_us: u64,
    accepted: f64,
    throttled: f64,
    attempts: u32,
}

impl Pacer {
    pub fn new(now_us: u64) -> Self {
        Pacer {
            rate: None,
            tokens: 0.0,
            refilled_us: now_us,
            margin: MARGIN_MIN,
            window: Window { started_us: now_us, ..Window::default() },
            share_before: None,
        }
    }

    /// Whether the next record may go now. One that costs more than is saved up borrows, and the next waits for it.
    pub fn may_send(&mut self, now_us: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        let elapsed = now_us.saturating_sub(self.refilled_us) as f64 / 1e6;
        self.refilled_us = now_us;
        self.tokens = (self.tokens + rate * elapsed).min((rate * BURST_SECONDS).max(1.0));
        self.tokens >= 0.0
    }

    pub fn sent(&mut self, cost: f64) {
        if self.rate.is_some() {
            self.tokens -= cost;
        }
    }

    /// When [`Self::may_send`] becomes true, if it is not.
    pub fn ready_at_us(&self) -> u64 {
        match self.rate {
            Some(rate) if self.tokens < 0.0 => self.refilled_us + (-self.tokens / rate * 1e6).ceil() as u64 + 1,
            _ => self.refilled_us,
        }
    }

    pub fn accepted(&mut self, cost: f64, now_us: u64) {
        self.window.accepted += cost;
        self.count(now_us);
    }

    pub fn throttled(&mut self, cost: f64, now_us: u64) {
        self.window.throttled += cost;
        self.count(now_us);
    }

    fn count(&mut self, now_us: u64) {
        self.window.attempts += 1;
        let elapsed_us = now_us.saturating_sub(self.window.started_us);
        let is_full = elapsed_us >= WINDOW_US_MIN && self.window.attempts >= WINDOW_ATTEMPTS_MIN;
        if !is_full && elapsed_us < WINDOW_US_MAX {
            return;
        }
        let window = std::mem::replace(&mut self.window, Window { started_us: now_us, ..Window::default() });
        let share = window.throttled / (window.accepted + window.throttled);
        let goodput = window.accepted / (elapsed_us as f64 / 1e6);
        if share > THROTTLED_SHARE_TOLERATED {
            self.adapt(goodput, share, now_us);
        } else {
            self.relax(goodput);
        }
    }

    fn adapt(&mut self, goodput: f64, share: f64, now_us: u64) {
        let has_not_helped = self.share_before.is_some_and(|before| share > before * 0.8);
        self.margin = if has_not_helped {
            (MARGIN_MIN / (1.0 - share).max(0.01)).clamp(self.margin, MARGIN_MAX)
        } else {
            (self.margin * 0.9).max(MARGIN_MIN)
        };
        let rate = (goodput * self.margin).max(RATE_MIN);
        let is_lower = self.rate.is_none_or(|before| rate < before * 0.9);
        self.share_before = is_lower.then_some(share);
        if self.rate.is_none() {
            (self.tokens, self.refilled_us) = (0.0, now_us);
        }
        self.rate = Some(rate);
    }

    fn relax(&mut self, goodput: f64) {
        self.share_before = None;
        self.margin = (self.margin * 0.9).max(MARGIN_MIN);
        let faster = self.rate.map(|rate| rate * RATE_GROWTH);
        self.rate = faster.filter(|rate| *rate < goodput.max(RATE_MIN) * RATE_IDLE_FACTOR);
    }
}

/// The shards that have answered so far, by name.
#[derive(Clone, Debug, Default)]
pub struct Shards {
    names: Vec<Box<str>>,
}

/// Further shards are not told apart, and their keys are not paced.
const SHARDS_MAX: usize = 1_024;

/// Shard 0 stands for "not known".
pub const UNKNOWN_SHARD: usize = 0;

impl Shards {
    /// Its index, from 1 on.
    pub fn index(&mut self, name: &str) -> usize {
        // Newest first: after the stream was divided anew, the old names do not come up again.
        if let Some(at) = self.names.iter().rposition(|known| **known == *name) {
            return at + 1;
        }
        if self.names.len() == SHARDS_MAX {
            return UNKNOWN_SHARD;
        }
        self.names.push(name.into());
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one shard for `seconds`, all that the pacer lets through, in steps of a millisecond.
    fn feed(pacer: &mut Pacer, from_us: u64, seconds: u64, mut takes: impl FnMut(u64) -> bool) -> (u64, u64) {
        let (mut accepted, mut throttled) = (0, 0);
        for step in 0..seconds * 1000 {
            let now_us = from_us + step * 1000;
            for _ in 0..8 {
                if !pacer.may_send(now_us) {
                    break;
                }
                pacer.sent(1.0);
                if takes(now_us) {
                    accepted += 1;
                    pacer.accepted(1.0, now_us);
                } else {
                    throttled += 1;
                    pacer.throttled(1.0, now_us);
                }
            }
        }
        (accepted, throttled)
    }

    #[test]
    fn a_limit_is_found_and_used_up() {
        let mut pacer = Pacer::new(0);
        let (mut bucket, mut last_us) = (0.0f64, 0);
        let mut takes = |now_us: u64| {
            bucket = (bucket + (now_us - last_us) as f64 / 1000.0).min(20.0);
            last_us = now_us;
            let takes = bucket >= 1.0;
            bucket -= if takes { 1.0 } else { 0.0 };
            takes
        };
        feed(&mut pacer, 0, 2, &mut takes);
        let (accepted, throttled) = feed(&mut pacer, 2_000_000, 10, &mut takes);
        assert!(accepted >= 9_800, "{accepted} of 10,000");
        assert!(throttled <= 4_000, "{throttled}");
    }

    #[test]
    fn throttling_at_random_does_not_spiral_down() {
        for share in [10, 30, 50] {
            let mut pacer = Pacer::new(0);
            let mut count = 0u64;
            let (accepted, _) = feed(&mut pacer, 0, 20, |_| {
                count += 1;
                count * 37 % 100 >= share
            });
            assert!(accepted > 20_000, "{accepted} at {share} percent");
        }
    }
}

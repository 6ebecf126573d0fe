//! How fast each shard is fed: as fast as it goes, until it throttles; then a little above what it was seen to take.
//!
//! A shard's limit is learned, not assumed: in a window with throttling, what was accepted *is* the limit. Sending a quarter more keeps the
//! shard busy all the time, at the cost of every fifth attempt; sending less would leave capacity unused that is needed after an outage.
//! Throttling that does not depend on the rate (a fault that hits some records at random) would make such a rule slow down for ever, so the
//! margin grows when slowing down has not helped.
//!
//! A shard that takes nothing at all says nothing about its limit. It is only asked, with single records, until one is accepted; then
//! it gets at once what it took before. Without such a memory a rate below the limit doubles with each window in which nothing is refused.
//!
//! Costs are in the unit of a shard's limit: 1,000 records a second and 1 MB a second are the same, so a record costs one for each 1,000
//! bytes, and at least one.

/// Below this share of throttled cost nothing is held back: sending again is cheaper than waiting.
const THROTTLED_SHARE_TOLERATED: f64 = 0.15;
const MARGIN_MIN: f64 = 1.25;
const MARGIN_MAX: f64 = 4.0;
/// A rate never falls below this, in cost a second.
const RATE_MIN: f64 = 20.0;
/// Growth of the rate with each window in which something, but not much, was throttled.
const RATE_GROWTH: f64 = 1.1;
/// Growth of the rate with each window in which nothing was.
const RATE_GROWTH_CLEAN: f64 = 2.0;
/// A rate that is so many times what is accepted has no effect any more, and is dropped.
const RATE_IDLE_FACTOR: f64 = 4.0;
const WINDOW_US_MIN: u64 = 250_000;
const WINDOW_US_MAX: u64 = 1_000_000;
/// A window with throttling and fewer attempts stays open for more, up to `WINDOW_US_MAX`.
const WINDOW_ATTEMPTS_MIN: u32 = 30;
/// Fewer attempts than this prove nothing, however long they took.
const REFUSALS_MIN: u32 = 3;
/// Tokens are saved up for so long, because a slow reply may hold up the next request.
const BURST_SECONDS: f64 = 0.2;
/// A record is paid off within this time, however large it is: the slowest shard is asked at least twice a second.
const DEBT_SECONDS_MAX: f64 = 0.5;
/// What a shard was seen to take is half forgotten after so long.
const MEMORY_SECONDS: f64 = 60.0;

pub fn cost(bytes: usize) -> f64 {
    (bytes as f64 / 1000.0).max(1.0)
}

#[derive(Clone, Debug)]
pub struct Pacer {
    /// Cost a second; `None` while nothing has to be held back.
    rate: Option<f64>,
    /// The shard takes nothing: when it may be asked again, with one record.
    asks_at_us: Option<u64>,
    /// The most that it took, in cost a second, forgotten with time.
    remembered: f64,
    tokens: f64,
    refilled_us: u64,
    margin: f64,
    window: Window,
    /// Share throttled in the last window that ended in a lower rate.
    share_before: Option<f64>,
}

#[derive(Clone, Debug, Default)]
struct Window {
    /// `None` until something is sent.
    started_us: Option<u64>,
    accepted: f64,
    throttled: f64,
    attempts: u32,
}

impl Pacer {
    pub fn new(now_us: u64) -> Self {
        Pacer {
            rate: None,
            asks_at_us: None,
            remembered: 0.0,
            tokens: 0.0,
            refilled_us: now_us,
            margin: MARGIN_MIN,
            window: Window::default(),
            share_before: None,
        }
    }

    /// Whether the next record may go now. One that costs more than is saved up borrows, and the next waits for it.
    pub fn may_send(&mut self, now_us: u64) -> bool {
        if let Some(asks_at_us) = self.asks_at_us {
            return now_us >= asks_at_us;
        }
        let Some(rate) = self.rate else { return true };
        let elapsed = now_us.saturating_sub(self.refilled_us) as f64 / 1e6;
        self.refilled_us = now_us;
        self.tokens = (self.tokens + rate * elapsed).min((rate * BURST_SECONDS).max(1.0));
        self.tokens >= 0.0
    }

    /// A record is on its way. If the shard takes nothing, the next one goes after `pause_us` at the earliest.
    pub fn sent(&mut self, cost: f64, now_us: u64, pause_us: u64) {
        self.window.started_us.get_or_insert(now_us);
        if self.asks_at_us.is_some() {
            self.asks_at_us = Some(now_us + pause_us);
        } else if let Some(rate) = self.rate {
            self.tokens = (self.tokens - cost).max(-rate * DEBT_SECONDS_MAX);
        }
    }

    /// Whether records that are throttled need no pauses of their own, because their shard has one.
    pub fn holds_back(&self) -> bool {
        self.rate.is_some() || self.asks_at_us.is_some()
    }

    /// Whether the shard takes nothing at present.
    pub fn is_blocked(&self) -> bool {
        self.asks_at_us.is_some()
    }

    /// When [`Self::may_send`] becomes true, if it is not.
    pub fn ready_at_us(&self) -> u64 {
        match (self.asks_at_us, self.rate) {
            (Some(asks_at_us), _) => asks_at_us,
            (None, Some(rate)) if self.tokens < 0.0 => self.refilled_us + (-self.tokens / rate * 1e6).ceil() as u64 + 1,
            _ => self.refilled_us,
        }
    }

    pub fn accepted(&mut self, cost: f64, now_us: u64) {
        if self.asks_at_us.take().is_some() {
            (self.tokens, self.refilled_us, self.margin) = (0.0, now_us, MARGIN_MIN);
            (self.window, self.share_before) = (Window { started_us: Some(now_us), ..Window::default() }, None);
            self.rate = Some(self.remembered.max(RATE_MIN));
        }
        self.window.accepted += cost;
        self.count(now_us);
    }

    /// If it turns out that the shard takes nothing, it is asked again after `pause_us`.
    pub fn throttled(&mut self, cost: f64, now_us: u64, pause_us: u64) {
        if self.asks_at_us.is_some() {
            return;
        }
        self.window.throttled += cost;
        if self.count(now_us) {
            self.asks_at_us = Some(now_us + pause_us);
        }
    }

    /// Judges the window when it is over; whether the shard took nothing in it.
    fn count(&mut self, now_us: u64) -> bool {
        self.window.attempts += 1;
        let elapsed_us = now_us.saturating_sub(self.window.started_us.unwrap_or(now_us));
        // That nothing was refused needs no proof: if it was chance, the next window shows it.
        let is_proof = self.window.throttled == 0.0
            || self.window.attempts >= WINDOW_ATTEMPTS_MIN
            || (elapsed_us >= WINDOW_US_MAX && self.window.attempts >= REFUSALS_MIN);
        if elapsed_us < WINDOW_US_MIN || !is_proof {
            return false;
        }
        let window = std::mem::take(&mut self.window);
        if window.accepted == 0.0 {
            return true;
        }
        let share = window.throttled / (window.accepted + window.throttled);
        let seconds = elapsed_us as f64 / 1e6;
        let goodput = window.accepted / seconds;
        self.remembered = (self.remembered * 0.5f64.powf(seconds / MEMORY_SECONDS)).max(goodput);
        if share > THROTTLED_SHARE_TOLERATED {
            self.adapt(goodput, share, now_us);
        } else {
            self.relax(goodput, window.throttled == 0.0);
        }
        false
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

    fn relax(&mut self, goodput: f64, is_clean: bool) {
        self.share_before = None;
        self.margin = (self.margin * 0.9).max(MARGIN_MIN);
        let growth = if is_clean { RATE_GROWTH_CLEAN } else { RATE_GROWTH };
        let faster = self.rate.map(|rate| rate * growth);
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
                pacer.sent(1.0, now_us, 500_000);
                if takes(now_us) {
                    accepted += 1;
                    pacer.accepted(1.0, now_us);
                } else {
                    throttled += 1;
                    pacer.throttled(1.0, now_us, 500_000);
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

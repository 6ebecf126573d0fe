//! While the gateway's own clock is not synchronised: the pace of a device's time, and where it stands.

use super::offset::Offset;
use super::{AHEAD_MS, LATE_AFTER_MS, STALE_AFTER_MS};

/// Over so much device time the pace shows a buffer: it is emptied more than [`PACE_MAX`] times as fast as it was filled.
const PACE_OVER_MS: i64 = 5_000;
pub(super) const PACE_MAX: i64 = 2;

/// Two readings of different arrivals, at least five seconds of device time apart: how fast the device's time goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    /// Device time and time of receipt.
    older: (i64, i64),
    /// The newest of its arrival.
    newer: (i64, i64),
    /// The first of this arrival.
    first: (i64, i64),
}

impl Pace {
    fn from(device_ms: i64, now_ms: i64) -> Pace {
        let reading = (device_ms, now_ms);
        Pace { older: reading, newer: reading, first: reading }
    }

    /// Whether readings come faster than a clock runs. What arrives together took no time to come, so it is compared with what came before.
    fn is_fast(&mut self, device_ms: i64, now_ms: i64) -> bool {
        if now_ms != self.first.1 {
            self.first = (device_ms, now_ms);
        }
        if now_ms == self.newer.1 {
            self.newer.0 = self.newer.0.max(device_ms);
        } else if device_ms.saturating_sub(self.newer.0) >= PACE_OVER_MS {
            self.older = std::mem::replace(&mut self.newer, (device_ms, now_ms));
        }
        let ran_ms = device_ms.saturating_sub(self.older.0);
        let elapsed_ms = now_ms.saturating_sub(self.older.1);
        let is_batch = device_ms.saturating_sub(self.first.0) >= PACE_OVER_MS;
        // The end of a batch is late by the same measure as with a clock that is right.
        let is_held_up = is_batch && elapsed_ms.saturating_sub(ran_ms) > LATE_AFTER_MS;
        is_held_up || ran_ms >= PACE_OVER_MS && ran_ms > elapsed_ms.saturating_mul(PACE_MAX)
    }
}

/// The pace of the newest readings, and that of a history which is sent between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Paces {
    newest_device_ms: i64,
    present: Pace,
    history: Option<Pace>,
}

impl Paces {
    pub fn from(device_ms: i64, now_ms: i64) -> Paces {
        Paces { newest_device_ms: device_ms, present: Pace::from(device_ms, now_ms), history: None }
    }

    pub fn is_fast(&mut self, device_ms: i64, now_ms: i64) -> bool {
        if device_ms > self.newest_device_ms.saturating_sub(PACE_OVER_MS) {
            self.newest_device_ms = self.newest_device_ms.max(device_ms);
            return self.present.is_fast(device_ms, now_ms);
        }
        let history = self.history.get_or_insert(Pace::from(device_ms, now_ms));
        if device_ms < history.older.0 {
            *history = Pace::from(device_ms, now_ms);
        }
        history.is_fast(device_ms, now_ms)
    }
}

/// The client whose clock is taken for the device's as long as it is heard: times of others that are ahead of it are not of its present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lead {
    publisher: u64,
    /// The listener's steady clock less the device's.
    offset_ms: i64,
    is_steady: bool,
    heard_ms: i64,
}

impl Lead {
    /// Who leads now that this client has been heard.
    pub fn after(lead: Option<Lead>, publisher: u64, offset: &Offset, now_ms: i64) -> Option<Lead> {
        let offset_ms = offset.likely_ms()?;
        let new = Lead { publisher, offset_ms, is_steady: offset.steady_ms.is_some(), heard_ms: now_ms };
        let Some(mut lead) = lead else { return Some(new) };
        let is_outlasted = offset.since_ms().is_some_and(|since_ms| lead.heard_ms < since_ms);
        let is_taken_over = new.is_steady && (!lead.is_steady || is_outlasted);
        let is_stale = now_ms.saturating_sub(lead.heard_ms) > STALE_AFTER_MS;
        if lead.publisher == publisher || is_taken_over || is_stale {
            return Some(new);
        }
        // Another client with the same clock, such as after a reconnect.
        if new.offset_ms.abs_diff(lead.offset_ms) <= AHEAD_MS.unsigned_abs() {
            lead.heard_ms = now_ms;
        }
        Some(lead)
    }

    /// The present by that clock, where this time is ahead of it.
    pub fn present_before(&self, device_ms: i64, now_ms: i64) -> Option<i64> {
        let present_ms = now_ms.saturating_sub(self.offset_ms);
        (device_ms > present_ms.saturating_add(AHEAD_MS)).then_some(present_ms)
    }
}

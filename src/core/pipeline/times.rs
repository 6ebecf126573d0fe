//! Times that cannot be true: those of devices, and the gateway's own.

use super::*;
use crate::detection::alert::{REPORT_EVERY_MS, Trouble};
use crate::detection::monitor::Place;
use crate::reading::{ClockFault, DeviceTime, TimeQuality};

/// Most devices whose wrong clocks are reported by name.
const TOLD_MAX: usize = 16;
const NAMED_MAX: usize = 3;
/// A clock that was right for so long is reported as right.
const RIGHT_AFTER_MS: i64 = 60_000;
/// A wrong clock that was seen within so long counts as wrong now.
const PRESENT_MS: i64 = 5_000;
/// The gateway's own clock was set if it advanced by so much more or less than the steady clock.
const OWN_JUMP_MS: i64 = 5_000;
/// A receipt may be so much earlier than the newest, because sessions hand over side by side.
const SIDE_BY_SIDE_MS: i64 = 1_000;

/// Times of receipt: while the gateway's clock is not synchronised, none is before one that is stored.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    newest_ms: i64,
    /// By how much our clock is behind what it showed before.
    behind_ms: i64,
    pub is_unsynced: bool,
}

impl Receipts {
    pub fn correct(&mut self, reading: &mut Reading<'_>) {
        self.is_unsynced = reading.time_quality == TimeQuality::Unsynced;
        if self.is_unsynced {
            let received_ms = self.corrected(reading.received_at_ms);
            if reading.measured_at_ms == reading.received_at_ms {
                reading.measured_at_ms = received_ms;
            }
            reading.received_at_ms = received_ms;
        }
        self.newest_ms = self.newest_ms.max(reading.received_at_ms);
    }

    fn corrected(&mut self, received_ms: i64) -> i64 {
        let lacking_ms = self.newest_ms.saturating_sub(received_ms.saturating_add(self.behind_ms));
        if lacking_ms > SIDE_BY_SIDE_MS {
            self.behind_ms = self.behind_ms.saturating_add(lacking_ms);
        }
        received_ms.saturating_add(self.behind_ms).max(self.newest_ms)
    }

    /// Corrects the times of a record that is made now, without a reading.
    pub fn stamp(&mut self, reading: &mut Reading<'_>) {
        if self.is_unsynced {
            reading.time_quality = TimeQuality::Unsynced;
            self.correct(reading);
        }
    }
}

/// A change of what is known of a device's clock, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockNotice {
    /// Name of the device, not percent-encoded.
    pub device: String,
    /// What is wrong with it; `None` if it is right again.
    pub fault: Option<ClockFault>,
    /// Receipt less device time, in milliseconds: negative if the clock is ahead. `None` if the clock is unset or right again.
    pub offset_ms: Option<i64>,
}

#[derive(Debug)]
struct WrongClock {
    device: String,
    text: String,
    last_wrong_ms: i64,
}

/// The wrong clocks that are reported, and the notices that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct WrongClocks {
    told: Vec<WrongClock>,
    has_others: bool,
    notices: Vec<ClockNotice>,
    next_report_ms: u64,
    /// The gateway's own clocks at the last look.
    own: Option<Moment>,
}

impl WrongClocks {
    fn add(&mut self, device: &str, time: DeviceTime, received_ms: i64, now_ms: i64) {
        if let Some(known) = self.told.iter_mut().find(|known| known.device == device) {
            known.last_wrong_ms = now_ms;
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.has_others = true;
            return;
        }
        let offset_ms = received_ms.saturating_sub(time.device_ms);
        let offset_ms = (time.fault != ClockFault::Unset).then_some(offset_ms);
        let text = match offset_ms {
            None => "not set".to_owned(),
            Some(offset_ms) => format!("{} {}", duration(offset_ms.unsigned_abs()), time.fault.name()),
        };
        self.notices.push(ClockNotice { device: device.to_owned(), fault: Some(time.fault), offset_ms });
        self.told.push(WrongClock { device: device.to_owned(), text, last_wrong_ms: now_ms });
    }

    /// What is wrong now, in words; `None` if nothing is.
    fn text(&self) -> Option<String> {
        let [first, rest @ ..] = &self.told[..] else { return None };
        if rest.is_empty() && !self.has_others {
            let WrongClock { device, text, .. } = first;
            return Some(format!("the clock of {device} is {text}: its readings are judged by the gateway's clock"));
        }
        let names: Vec<&str> = self.told.iter().take(NAMED_MAX).map(|one| one.device.as_str()).collect();
        let others = if self.told.len() > NAMED_MAX || self.has_others { " and others" } else { "" };
        let names = names.join(", ");
        Some(format!("the clocks of {names}{others} are wrong: their readings are judged by the gateway's clock"))
    }
}

/// A duration in words, rounded for people.
fn duration(ms: u64) -> String {
    let s = (ms + 500) / 1_000;
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        172_800..=63_071_999 => format!("{} days", s / 86_400),
        _ => format!("{} years", s / 31_557_600),
    }
}

impl Pipeline {
    /// Sets the times by which a reading is judged. Returns whether it is late.
    pub(super) fn judge_times(&mut self, place: &mut Place, reading: &mut Reading<'_>, arrival: Arrival) -> bool {
        self.receipts.correct(reading);
        let verdict = self.monitor.judge_time(place, reading, arrival);
        if let Some(time) = reading.device_time.filter(|_| verdict.is_to_be_told) {
            self.wrong_clocks.add(reading.device, time, reading.received_at_ms, arrival.now_ms);
        }
        verdict.is_late
    }

    /// Says the newest time of receipt in the store, in milliseconds since 1970: while the gateway's clock is not synchronised, nothing
    /// counts as received before it.
    pub fn received_until(&mut self, newest_ms: i64) {
        self.receipts.newest_ms = self.receipts.newest_ms.max(newest_ms);
    }

    /// Takes the notices about clocks, for the log.
    pub fn take_clock_notices(&mut self) -> Vec<ClockNotice> {
        std::mem::take(&mut self.wrong_clocks.notices)
    }

    /// Looks whether the gateway's own clock was set since the last look. Returns by how many milliseconds, positive if forward.
    pub fn watch_own_clock(&mut self, now: Moment) -> Option<i64> {
        let before = self.wrong_clocks.own.replace(now)?;
        let went_ms = now.wall_ms.saturating_sub(before.wall_ms);
        let jump_ms = went_ms.saturating_sub(now.signed_steady_ms().saturating_sub(before.signed_steady_ms()));
        if jump_ms.saturating_abs() <= OWN_JUMP_MS {
            return None;
        }
        // Until it is synchronised, it is expected to be set.
        if !self.receipts.is_unsynced {
            let way = if jump_ms > 0 { "forward" } else { "back" };
            let text = format!("the gateway's own clock was set {way} by {}", duration(jump_ms.unsigned_abs()));
            self.report(&Report::new(Trouble::Clock, text), now);
        }
        Some(jump_ms)
    }

    /// Reports wrong clocks as long as there are any.
    pub(super) fn watch_clocks(&mut self, now: Moment) {
        let WrongClocks { told, has_others, notices, .. } = &mut self.wrong_clocks;
        let now_ms = now.signed_steady_ms();
        told.retain_mut(|one| {
            if self.monitor.is_clock_wrong(&one.device, now_ms) {
                one.last_wrong_ms = now_ms;
            }
            let is_right = now_ms.saturating_sub(one.last_wrong_ms) >= RIGHT_AFTER_MS;
            if is_right {
                notices.push(ClockNotice { device: std::mem::take(&mut one.device), fault: None, offset_ms: None });
            }
            !is_right
        });
        *has_others &= !told.is_empty();
        let is_present = told.iter().any(|one| now_ms.saturating_sub(one.last_wrong_ms) <= PRESENT_MS);
        if let Some(text) = self.wrong_clocks.text().filter(|_| is_present)
            && now.steady_ms >= self.wrong_clocks.next_report_ms
        {
            self.wrong_clocks.next_report_ms = now.steady_ms + REPORT_EVERY_MS;
            self.report(&Report::new(Trouble::Clock, text), now);
        }
    }
}

#[cfg(test)]
mod tests;

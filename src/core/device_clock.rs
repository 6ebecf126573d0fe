//! Which time a reading is judged by: a device's clock may be unset, ahead or behind, and then the time that it gives cannot be true.
//!
//! The offset of a clock (receipt less device time) includes the delay of the message, which is never negative. So the readings that came
//! fastest show the offset; slower ones were held up, or come from a buffer. An offset is believed when it stayed the same while the
//! device's clock ran on by ten seconds: a buffer is emptied faster than that.
//!
//! Each client that publishes for a device has a source of its own, so that none can unsettle what is known of another's clock. A new
//! client starts with what is known of the clock that its first reading fits, or else of the one heard last. A reading's own time comes
//! first: if it can be true it is taken as it is, whatever was known before.
//!
//! While the gateway's own clock is not synchronised it proves nothing: device times are taken as they are, and only their pace shows a
//! buffer. A time that is ahead of the device's known clock is stored as it is, but no series advances to it before that clock has fallen
//! silent.

mod offset;
mod unsynced;

use super::reading::{ClockFault, DeviceTime};
use offset::{Fit, Offset, STEADY_WITHIN_MS};
use unsynced::{Lead, PACE_MAX, Paces};

/// A reading that was received longer than this after it was measured is late; a clock that is behind by more is wrong.
pub const LATE_AFTER_MS: i64 = 60_000;
/// A clock that is ahead by more than this is wrong.
pub const AHEAD_MS: i64 = 5_000;
/// 2015-01-01: an earlier time comes from a clock that was never set.
pub const UNSET_BEFORE_MS: i64 = 1_420_070_400_000;
/// Most clients of one device whose clocks are told apart.
const SOURCES_MAX: usize = 4;
/// A source that was silent for so long says nothing of the present.
const STALE_AFTER_MS: i64 = 600_000;
/// A wrong clock is reported no more often than this.
const TELL_EVERY_MS: i64 = 5_000;

/// A reading's times, and who published it.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The time that the device gave, in milliseconds since 1970.
    pub device_ms: i64,
    /// When it was received, by the gateway's clock, in milliseconds since 1970.
    pub received_ms: i64,
    /// When it was received, by the listener's steady clock, in milliseconds.
    pub now_ms: i64,
    /// The client that published it; 0 is none.
    pub publisher: u64,
    /// Whether the gateway's clock was synchronised at that time.
    pub is_synced: bool,
}

impl Heard {
    /// From the device's time to receipt.
    fn delay_ms(&self) -> i64 {
        self.received_ms.saturating_sub(self.device_ms)
    }

    /// From the device's time to now.
    fn unsynced_delay_ms(&self) -> i64 {
        self.now_ms.saturating_sub(self.device_ms)
    }

    /// Whether a clock that was ahead by this offset seems right now: it was set, or the reading comes from a buffer.
    fn seems_right_now(&self, offset_ms: i64) -> bool {
        let held_up_ms = self.delay_ms().saturating_sub(offset_ms);
        offset_ms < -AHEAD_MS && held_up_ms >= STEADY_WITHIN_MS && is_plausible(self.device_ms, self.received_ms)
    }
}

/// The time that a reading is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Milliseconds since 1970 (UTC).
    pub measured_at_ms: i64,
    /// What the device said, where its clock is wrong.
    pub device_time: Option<DeviceTime>,
    /// It was measured long before it was received: by more than [`LATE_AFTER_MS`], or as the pace of the readings shows.
    pub is_late: bool,
    /// Set if this time is ahead of the device's present: that present. It need not be true, which only a synchronised clock of the gateway
    /// could tell.
    pub ahead_of_ms: Option<i64>,
}

/// Whether a reading may have been measured when its device says so, and have been sent at once.
pub fn is_plausible(device_ms: i64, received_ms: i64) -> bool {
    (-AHEAD_MS..=LATE_AFTER_MS).contains(&received_ms.saturating_sub(device_ms))
}

/// What is wrong with a clock, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongTime {
    /// In which way it is wrong.
    pub fault: ClockFault,
    /// Receipt less device time, in milliseconds: the steady offset, or before there is one that of the newest reading. Negative if the clock
    /// is ahead.
    pub offset_ms: i64,
}

/// What is known of the clock by which one client publishes for the device.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Source {
    publisher: u64,
    /// Offset to the time of receipt.
    offset: Offset,
    /// Offset to the listener's steady clock, learned while the gateway's own clock is not synchronised.
    unsynced_offset: Offset,
    paces: Option<Paces>,
    last_device_ms: i64,
    last_received_ms: i64,
    /// When it was heard last, by the listener's steady clock.
    heard_ms: i64,
    /// Whether its last reading was judged by the offset.
    is_by_offset: bool,
    is_late: bool,
    /// What its last reading showed.
    wrong: Option<WrongTime>,
}

impl Source {
    fn new(publisher: u64, offset: Offset, unsynced_offset: Offset) -> Source {
        Source {
            publisher,
            offset,
            unsynced_offset,
            paces: None,
            last_device_ms: i64::MIN,
            last_received_ms: i64::MIN,
            heard_ms: i64::MIN,
            is_by_offset: false,
            is_late: false,
            wrong: None,
        }
    }

    /// The offset by which this reading is to be judged.
    fn offset_for(&self, heard: &Heard) -> Option<i64> {
        let delay_ms = heard.delay_ms();
        // Nothing arrives before it is measured: that clock was set forward.
        let offset_ms = self.offset.steady_ms.filter(|offset_ms| delay_ms >= offset_ms.saturating_sub(AHEAD_MS))?;
        // A device's time runs on, unless its clock was set back.
        let is_set_right = !self.is_by_offset || heard.device_ms < self.last_device_ms;
        Some(offset_ms).filter(|offset_ms| !(is_set_right && heard.seems_right_now(*offset_ms)))
    }

    fn judge(&mut self, heard: &Heard) -> Judged {
        let Heard { device_ms, received_ms, .. } = *heard;
        let latest_ms = received_ms.saturating_add(AHEAD_MS);
        let offset_ms = self.offset_for(heard);
        self.is_by_offset = offset_ms.is_some();
        let Some(offset_ms) = offset_ms else {
            return match device_ms > latest_ms {
                true => Judged::wrong(ClockFault::Ahead, device_ms, received_ms),
                false => Judged { is_late: heard.delay_ms() > LATE_AFTER_MS, ..Judged::right(device_ms) },
            };
        };
        let corrected_ms = device_ms.saturating_add(offset_ms);
        let judged = if offset_ms < -AHEAD_MS {
            Judged::wrong(ClockFault::Ahead, device_ms, corrected_ms.min(latest_ms))
        } else if offset_ms > LATE_AFTER_MS {
            Judged::wrong(ClockFault::Behind, device_ms, corrected_ms)
        } else if device_ms > latest_ms {
            Judged::wrong(ClockFault::Ahead, device_ms, latest_ms)
        } else {
            let is_late = heard.delay_ms() > LATE_AFTER_MS.saturating_add(offset_ms.max(0));
            return Judged { is_late, ..Judged::right(device_ms) };
        };
        let is_late = heard.delay_ms().saturating_sub(offset_ms) > LATE_AFTER_MS;
        Judged { is_late: is_late && (!heard.seems_right_now(offset_ms) || self.is_buffered(heard)), ..judged }
    }

    /// Judges while the gateway's clock is not synchronised: any time since 2015 is taken as it is.
    fn judge_unsynced(&mut self, heard: &Heard, lead: &mut Option<Lead>) -> Judged {
        let &Heard { device_ms, received_ms, now_ms, .. } = heard;
        self.unsynced_offset.learn(device_ms, heard.unsynced_delay_ms());
        *lead = Lead::after(*lead, self.publisher, &self.unsynced_offset, now_ms);
        let is_fast = device_ms != received_ms
            && self.paces.get_or_insert(Paces::from(device_ms, now_ms)).is_fast(device_ms, now_ms);
        // Two clocks that agree are likely to be right: a reading of their present is not from a buffer, however fast it came.
        let is_late = is_fast && !is_plausible(device_ms, received_ms);
        let ahead_of_ms = lead.and_then(|lead| lead.present_before(device_ms, now_ms));
        Judged { is_late, ahead_of_ms, ..Judged::right(device_ms) }
    }

    /// Whether readings come faster than they were measured. Readings that come together are of the same kind as the first of them.
    fn is_buffered(&self, heard: &Heard) -> bool {
        let ran_ms = heard.device_ms.saturating_sub(self.last_device_ms);
        let elapsed_ms = heard.received_ms.saturating_sub(self.last_received_ms);
        if ran_ms == 0 && elapsed_ms == 0 { self.is_late } else { ran_ms > elapsed_ms.saturating_mul(PACE_MAX) }
    }
}

impl Judged {
    fn right(device_ms: i64) -> Judged {
        Judged { measured_at_ms: device_ms, device_time: None, is_late: false, ahead_of_ms: None }
    }

    fn wrong(fault: ClockFault, device_ms: i64, measured_at_ms: i64) -> Judged {
        let device_time = Some(DeviceTime { fault, device_ms });
        Judged { measured_at_ms, device_time, is_late: false, ahead_of_ms: None }
    }
}

/// What is known of a device's clock, for each of a few clients that publish for it. Nothing in it grows with what a device sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceClock {
    /// Offset that was known before the start.
    offset_ms: Option<i64>,
    sources: Vec<Source>,
    lead: Option<Lead>,
    told_ms: Option<i64>,
}

impl DeviceClock {
    /// A clock with the offset that a snapshot says: receipt less device time, in milliseconds.
    pub fn restored(offset_ms: i64) -> DeviceClock {
        DeviceClock { offset_ms: Some(offset_ms), ..DeviceClock::default() }
    }

    /// Forgets everything except when it was last reported.
    pub fn forget(&mut self) {
        *self = DeviceClock { told_ms: self.told_ms, ..DeviceClock::default() };
    }

    /// Whether an offset is steady: that would not be learned again at once.
    pub fn is_steady(&self) -> bool {
        self.sources.iter().any(Source::is_steady)
    }

    /// When it was heard last, by the listener's steady clock.
    pub fn heard_ms(&self) -> i64 {
        self.latest().map_or(i64::MIN, |source| source.heard_ms)
    }

    /// Whether it is time to report (again) that it is wrong. If so, that counts as reported.
    pub fn is_to_be_told(&mut self, now_ms: i64) -> bool {
        let is_due = self.told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= TELL_EVERY_MS);
        if is_due {
            self.told_ms = Some(now_ms);
        }
        is_due
    }

    /// The steady offset of the client that was heard last: receipt less device time, in milliseconds. Before any client is heard, the
    /// restored one. `None` if none is steady.
    pub fn offset_ms(&self) -> Option<i64> {
        self.latest().map_or(self.offset_ms, |source| source.offset.steady_ms)
    }

    /// Whether the newest reading of a client that was heard lately showed that the clock is wrong.
    pub fn is_wrong(&self, now_ms: i64) -> bool {
        self.sources.iter().any(|source| source.wrong.is_some() && !source.is_stale(now_ms))
    }

    /// How wrong the clock is by the newest reading of each client, and when that came by the listener's steady clock. Of several clients
    /// whose readings are wrong, the one that was heard last; `None` if all are right.
    pub fn wrong(&self) -> Option<(WrongTime, i64)> {
        let wrong = self.sources.iter().filter_map(|source| Some((source.wrong?, source.heard_ms)));
        wrong.max_by_key(|(_, heard_ms)| *heard_ms)
    }

    /// Judges the time of a reading, and learns from it.
    pub fn judge(&mut self, heard: &Heard) -> Judged {
        let place = self.source(heard);
        let source = &mut self.sources[place];
        let judged = match (heard.is_synced, heard.device_ms < UNSET_BEFORE_MS) {
            (true, true) => Judged::wrong(ClockFault::Unset, heard.device_ms, heard.received_ms),
            (true, false) => {
                source.offset.learn(heard.device_ms, heard.delay_ms());
                let judged = source.judge(heard);
                (source.last_device_ms, source.last_received_ms) = (heard.device_ms, heard.received_ms);
                judged
            }
            (false, true) => Judged::right(heard.received_ms),
            (false, false) => source.judge_unsynced(heard, &mut self.lead),
        };
        source.is_late = judged.is_late;
        source.wrong = judged.device_time.map(|time| source.wrong_time(time.fault, heard));
        source.heard_ms = heard.now_ms;
        judged
    }

    fn latest(&self) -> Option<&Source> {
        self.sources.iter().max_by_key(|source| source.heard_ms)
    }

    /// A source for a new client: it begins with what is known of the clock that the reading fits.
    fn new_source(&self, heard: &Heard) -> Source {
        let like = |source: &Source| Source::new(heard.publisher, source.offset, source.unsynced_offset);
        let fitting = self.sources.iter().filter_map(|source| Some((source.fit(heard)?, source)));
        if let Some((_, source)) = fitting.max_by_key(|(fit, source)| (*fit, source.heard_ms)) {
            return like(source);
        }
        let restored = Source::new(heard.publisher, Offset::known(self.offset_ms), Offset::default());
        match self.latest() {
            Some(latest) if restored.fit(heard).is_none() => like(latest),
            _ => restored,
        }
    }

    /// Place of a client's source. If there are too many, one gives way: one without a steady offset if there is any, and of several the
    /// one that was silent longest.
    fn source(&mut self, heard: &Heard) -> usize {
        let known = self.sources.iter().position(|source| source.publisher == heard.publisher);
        known.unwrap_or_else(|| {
            let new = self.new_source(heard);
            if self.sources.len() >= SOURCES_MAX {
                let worth = |source: &Source| (source.is_steady(), source.heard_ms);
                let least = (0..self.sources.len()).min_by_key(|&at| worth(&self.sources[at])).unwrap_or(0);
                self.sources[least] = new;
                return least;
            }
            self.sources.reserve_exact(1);
            self.sources.push(new);
            self.sources.len() - 1
        })
    }
}

impl Source {
    /// How wrong the clock is by a reading that showed it. A steady offset counts only if the reading was judged by it.
    fn wrong_time(&self, fault: ClockFault, heard: &Heard) -> WrongTime {
        let is_by_offset = self.is_by_offset && fault != ClockFault::Unset;
        let steady_ms = self.offset.steady_ms.filter(|ms| is_by_offset && !(-AHEAD_MS..=LATE_AFTER_MS).contains(ms));
        WrongTime { fault, offset_ms: steady_ms.unwrap_or_else(|| heard.delay_ms()) }
    }

    fn is_steady(&self) -> bool {
        self.offset.steady_ms.or(self.unsynced_offset.steady_ms).is_some()
    }

    /// Whether a reading may be by the same clock.
    fn fit(&self, heard: &Heard) -> Option<Fit> {
        match heard.is_synced {
            true => self.offset.fit(heard.delay_ms()),
            false => self.unsynced_offset.fit(heard.unsynced_delay_ms()),
        }
    }

    fn is_stale(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.heard_ms) > STALE_AFTER_MS
    }
}

#[cfg(test)]
mod tests;

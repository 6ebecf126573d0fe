//! What rules know of one device: the latest reading of each metric that a rule names, windows over them, and where each condition stands.

use std::collections::HashMap;

use super::Rulebook;
use super::index::ReadingIndex;
use crate::detection::detectors::Verdict;
use crate::reading::{Reading, Rounding};
use crate::rules::{Number, SampleWindow, Side, Value};

/// A metric that was not heard for so long, and for [`USUAL_INTERVALS`] of its usual intervals, is Undefined. Device time.
const OLD_AFTER_MS: i64 = 60_000;
const USUAL_INTERVALS: i64 = 5;
/// Weight of the latest interval in the usual one.
const INTERVAL_WEIGHT: f64 = 0.2;
/// Latitude and longitude are one position if their times differ by less than this, and by less than half of the usual interval.
const PAIR_MS: i64 = 2_000;

fn old_after_ms(interval_ms: i64) -> i64 {
    OLD_AFTER_MS.max(interval_ms.saturating_mul(USUAL_INTERVALS))
}

/// The usual interval, after another one.
fn usual(usual_ms: i64, apart_ms: i64) -> i64 {
    match usual_ms {
        0 => apart_ms,
        usual_ms => (usual_ms as f64 + INTERVAL_WEIGHT * (apart_ms as f64 - usual_ms as f64)) as i64,
    }
}

/// The latest reading of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latest {
    pub value: f64,
    pub rounding: Option<Rounding>,
    /// When it was measured.
    pub at_ms: i64,
    /// When it came, by the steady clock.
    pub heard_ms: i64,
    /// How often it usually comes, in milliseconds; 0 while that is not known.
    pub interval_ms: i64,
    pub verdict: Verdict,
    /// Of the gravest finding: 1 is the threshold of its detector; 0 if there is none.
    pub score: f64,
}

impl Latest {
    /// As a value of the language.
    pub fn value<'v>(&self) -> Value<'v> {
        match self.rounding {
            Some(rounding) => Number::from_int(rounding.exact(self.value)).into(),
            None => Number::from_double(self.value).into(),
        }
    }

    /// Whether it says something of this time.
    pub fn is_present(&self, at_ms: i64) -> bool {
        at_ms.saturating_sub(self.at_ms) <= old_after_ms(self.interval_ms)
    }

    /// Whether both belong to one position.
    pub fn is_pair_with(&self, other: &Latest) -> bool {
        let apart_ms = self.at_ms.saturating_sub(other.at_ms).saturating_abs();
        let interval_ms = self.interval_ms.max(other.interval_ms);
        apart_ms <= PAIR_MS && (apart_ms == 0 || interval_ms == 0 || apart_ms < interval_ms / 2)
    }
}

/// Where a condition stands with a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Since when it holds, by the device's time.
    pub since_ms: Option<i64>,
    /// When it was last looked at, by the device's time.
    pub seen_ms: i64,
    /// How often it is usually looked at, in milliseconds; 0 while that is not known.
    pub interval_ms: i64,
    /// It has held for long enough.
    pub has_begun: bool,
    /// Of each zone that it asks about the crossings of.
    pub sides: Vec<(Box<str>, Side)>,
}

/// What a condition has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has now held for long enough.
    Begins,
    GoesOn,
    /// It holds, and not yet for long enough.
    Waits,
    DoesNotHold,
    /// It is Undefined.
    Unknown,
}

impl State {
    /// Takes note of what the condition is worth now.
    pub fn step(&mut self, holds: Option<bool>, at_ms: i64, hold_ms: i64) -> Step {
        let apart_ms = at_ms.saturating_sub(self.seen_ms);
        if self.since_ms.is_some() && self.interval_ms > 0 && apart_ms > old_after_ms(self.interval_ms) {
            // Nobody knows whether it has held all the while.
            (self.since_ms, self.has_begun) = (None, false);
        }
        match holds {
            None => return Step::Unknown,
            Some(false) => (self.since_ms, self.has_begun) = (None, false),
            Some(true) => _ = self.since_ms.get_or_insert(at_ms),
        }
        if self.seen_ms != 0 && apart_ms > 0 {
            self.interval_ms = usual(self.interval_ms, apart_ms);
        }
        self.seen_ms = self.seen_ms.max(at_ms);
        match self.since_ms {
            None => Step::DoesNotHold,
            Some(since_ms) if at_ms.saturating_sub(since_ms) < hold_ms => Step::Waits,
            Some(_) if self.has_begun => Step::GoesOn,
            Some(_) => {
                self.has_begun = true;
                Step::Begins
            }
        }
    }
}

/// Readings of a series in one span of time, which become one reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    /// Number of the span since 1970.
    pub number: i64,
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub last: f64,
    pub last_ms: i64,
    /// When the last reading came, by the steady clock.
    pub heard_ms: i64,
}

impl Span {
    pub fn new(number: i64, value: f64, at_ms: i64, heard_ms: i64) -> Span {
        Span { number, count: 1, sum: value, min: value, max: value, last: value, last_ms: at_ms, heard_ms }
    }

    pub fn add(&mut self, value: f64, at_ms: i64, heard_ms: i64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if at_ms >= self.last_ms {
            (self.last, self.last_ms) = (value, at_ms);
        }
        self.heard_ms = heard_ms;
    }
}

/// What rules know of one device.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// By the slots of the metrics.
    pub latest: Vec<Option<Latest>>,
    pub windows: Vec<Option<SampleWindow>>,
    /// By the numbers of the conditions; `None` where the condition is not for this device.
    pub states: Vec<Option<State>>,
    /// Of each rule that samples down, and each metric.
    pub spans: HashMap<(u16, Box<str>), Span>,
    /// When it was last heard, by the steady clock.
    pub heard_ms: i64,
}

impl Device {
    pub fn new(index: &ReadingIndex, is_for: impl Fn(u16) -> bool) -> Device {
        let states = (0..index.conditions.len() as u16).map(|number| is_for(number).then(State::default)).collect();
        Device {
            latest: vec![None; index.metrics.len()],
            windows: index.metrics.iter().map(|metric| (metric.span_ms > 0).then(SampleWindow::default)).collect(),
            states,
            ..Device::default()
        }
    }

    /// Takes over what was known under another book.
    pub fn adopt(&mut self, mut before: Device, old: &Rulebook, new: &Rulebook) {
        self.heard_ms = before.heard_ms;
        for (slot, metric) in old.readings.metrics.iter().enumerate() {
            let Some(now) = new.readings.slot(&metric.name).map(usize::from) else { continue };
            if let (Some(latest), Some(before)) = (self.latest.get_mut(now), before.latest.get_mut(slot)) {
                *latest = before.take();
            }
            if let (Some(Some(window)), Some(Some(before))) = (self.windows.get_mut(now), before.windows.get_mut(slot))
            {
                *window = std::mem::take(before);
            }
        }
        for (number, place) in old.readings.conditions.iter().enumerate() {
            let Some(now) = old.rules.get(usize::from(*place)).and_then(|rule| new.condition_like(rule)) else {
                continue;
            };
            if let (Some(Some(state)), Some(Some(before))) =
                (self.states.get_mut(usize::from(now)), before.states.get_mut(number))
            {
                *state = std::mem::take(before);
            }
        }
        for ((place, metric), span) in before.spans {
            let now = old.rules.get(usize::from(place)).and_then(|rule| new.place_like(rule));
            if let Some(now) = now {
                self.spans.insert((now, metric), span);
            }
        }
    }

    /// Takes note of a reading of a metric with a slot.
    pub fn note(&mut self, slot: u16, span_ms: i64, reading: &Reading<'_>, judged: (Verdict, f64), now_ms: i64) {
        let slot = usize::from(slot);
        if let Some(Some(window)) = self.windows.get_mut(slot) {
            window.push(reading.measured_at_ms, reading.value, span_ms);
        }
        let Some(latest) = self.latest.get_mut(slot) else { return };
        let at_ms = reading.measured_at_ms;
        let interval_ms = match latest {
            Some(before) if at_ms < before.at_ms => return,
            Some(before) => usual(before.interval_ms, at_ms.saturating_sub(before.at_ms)),
            None => 0,
        };
        let (verdict, score) = judged;
        let (value, rounding) = (reading.value, reading.rounding);
        *latest = Some(Latest { value, rounding, at_ms, heard_ms: now_ms, interval_ms, verdict, score });
    }

    /// The device's time now, as far as its readings tell.
    pub fn time_ms(&self, now_ms: i64) -> i64 {
        let times = self.latest.iter().flatten();
        let times = times.map(|latest| latest.at_ms.saturating_add(now_ms.saturating_sub(latest.heard_ms)));
        times.max().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_begins_once_it_has_held_for_long_enough() {
        let mut state = State::default();
        let mut step = |holds, at_ms| state.step(holds, at_ms, 5_000);
        assert_eq!(step(Some(true), 1_000), Step::Waits);
        assert_eq!(step(None, 2_000), Step::Unknown, "what is unknown holds it");
        assert_eq!(step(Some(true), 5_999), Step::Waits);
        assert_eq!(step(Some(true), 6_000), Step::Begins);
        assert_eq!(step(Some(true), 7_000), Step::GoesOn);
        assert_eq!(step(Some(false), 8_000), Step::DoesNotHold);
        assert_eq!(step(Some(true), 9_000), Step::Waits, "one that does not hold begins anew");
        assert_eq!(step(Some(true), 69_001), Step::Waits, "nobody knows what was in the gap");
        assert_eq!(step(Some(true), 74_001), Step::Begins);
        assert_eq!(State::default().step(Some(true), 0, 0), Step::Begins, "no time to wait for");
    }

    #[test]
    fn latitude_and_longitude_of_different_times_are_no_position() {
        let of = |at_ms, interval_ms| Latest {
            value: 1.0,
            rounding: None,
            at_ms,
            heard_ms: 0,
            interval_ms,
            verdict: Verdict::Normal,
            score: 0.0,
        };
        assert!(of(1_000, 1_000).is_pair_with(&of(1_000, 1_000)));
        assert!(of(1_005, 1_000).is_pair_with(&of(1_000, 1_000)), "two messages right after each other");
        assert!(!of(2_000, 1_000).is_pair_with(&of(1_000, 1_000)), "the latitude of now, the longitude of before");
        assert!(!of(60_000, 60_000).is_pair_with(&of(57_000, 60_000)));
    }
}

//! The ten-second deviation: the window's level against what the series has been doing.
//!
//! A base of five minutes finds slow drifts, and one of half a minute finds fast ones sooner. Each is compared with the usual size of its
//! own departure. Bases learn from readings that have left the window, except those that belong to an alarm.
//!
//! A series also has a home, the level at which it spends most of its hours. A move towards home is no trouble: an engine that was off
//! warms up faster than most faults drift. A move home is reported only if it leaves a level that was just accepted after an alarm, and
//! only briefly.

use super::spread::{Spread, ratio, weight};
use super::{Detector, Finding, short, side};
use crate::detection::window::{Sample, Summary};

const BASE_TAU_MS: f64 = 300_000.0;
const QUICK_TAU_MS: f64 = 30_000.0;
const HOME_TAU_MS: f64 = 3_600_000.0;
/// Time constant of the departures' usual sizes.
const SPREAD_TAU_MS: f64 = 1_800_000.0;
/// Most sizes that a departure counts as. It is small, so that an engine that is off for a seventh of the time does not widen what is usual
/// while it is on: that holds as long as `clip^2 * share < 1`.
const DEPARTURE_CLIP: f64 = 2.25;
/// What moves a base at the most, in sizes; and what moves the home.
const BASE_CLIP: f64 = 4.0;
const HOME_CLIP: f64 = 1.5;
/// A base of fewer readings is none yet.
const BASE_READINGS_MIN: u32 = 10;
/// A reading moves a level by half the way at the most, but for the first.
const LEVEL_WEIGHT_MAX: f64 = 0.5;
/// Readings in a row that a shift must last.
pub(super) const READINGS: u8 = 3;
/// A shift goes on until the statistic has fallen to this share of the threshold.
const HOLD: f64 = 0.5;
/// A shift that lasts is the new level.
const RELEARN_MS: i64 = 300_000;
/// For so long after a new level was accepted, a move back to the old one is told.
const ACCEPTED_MS: i64 = 120_000;
/// For how long such a move is told.
const RETURN_MS: i64 = 60_000;
/// Successive departures depend on each other: after the length of one base there is hardly more than one independent look at them. Nothing
/// is judged before that, and then the threshold falls to its final value as `1 + YOUNG_MS / age`.
const WARM_UP_MS: i64 = 300_000;
const YOUNG_MS: f64 = 200_000.0;
/// Up to this age the home follows the base.
const HOME_AGE_MS: i64 = 900_000;
/// A series that is so far from home for so long has a new home.
const AWAY_SIZES: f64 = 4.0;
const AWAY_MS: i64 = 7_200_000;
/// The mean of rough readings is uncertain: its variance counts so many times.
const MEAN_ERROR_TIMES: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    pub base: f64,
    pub quick: f64,
    pub home: f64,
    pub departure: Spread,
    pub quick_departure: Spread,
    /// Readings that the two bases, and the two departures, were learned from.
    pub base_readings: u32,
    pub departures: u32,
    /// Nothing measured before is learned from.
    pub fed_at_ms: i64,
    pub home_at_ms: i64,
    pub since_ms: i64,
    pub accepted_at_ms: i64,
    pub streak: u8,
}

impl Shift {
    pub const NEW: Shift = Shift {
        base: 0.0,
        quick: 0.0,
        home: 0.0,
        departure: Spread { square: 0.0 },
        quick_departure: Spread { square: 0.0 },
        base_readings: 0,
        departures: 0,
        fed_at_ms: i64::MIN,
        home_at_ms: i64::MIN,
        since_ms: 0,
        accepted_at_ms: i64::MIN,
        streak: 0,
    };

    /// Forgets the level; the usual sizes stay.
    pub fn forget(&mut self, at_ms: i64) {
        (self.base, self.quick, self.base_readings, self.streak) = (0.0, 0.0, 0, 0);
        self.fed_at_ms = at_ms;
    }

    /// Leaves out a silence from the time away from home.
    pub fn pass_over(&mut self, silent_ms: i64) {
        self.home_at_ms = self.home_at_ms.saturating_add(silent_ms);
    }

    /// Readings up to here are part of some trouble: no base learns from them.
    pub fn skip(&mut self, at_ms: i64) {
        self.fed_at_ms = at_ms;
    }

    /// A departure is going on: nothing of it is learned as usual.
    pub fn is_departing(&self) -> bool {
        self.streak > 0
    }

    /// Whether there is a level to hold a window against.
    pub fn has_base(&self) -> bool {
        self.base_readings >= BASE_READINGS_MIN
    }

    /// Judges the window before the newest reading; what is usual is learned. Returns the score if it is old enough to have one, and how far
    /// the window is from the base.
    pub fn judge(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        (age_ms, threshold): (i64, f64),
        span_s: u32,
        found: &mut Vec<Finding>,
    ) -> Option<(f64, f64)> {
        if !self.has_base() {
            return None;
        }
        let floor_square_mean = floor_square_of_mean(summary, floor_square);
        let line = line(age_ms, threshold);
        let slow = Look::new(self.base, self.home, summary, self.departure.size(floor_square_mean));
        let quick = Look::new(self.quick, self.home, summary, self.quick_departure.size(floor_square_mean));
        // Both compare with their own usual size: the one that is further from its base is told.
        let (look, base) = if quick.outside > slow.outside { (quick, self.quick) } else { (slow, self.base) };
        let moved = slow.moved.max(quick.moved) / line;
        let is_return = moved > 1.0
            && look.outside <= line
            && reading.at_ms.saturating_sub(self.accepted_at_ms) < ACCEPTED_MS
            && (self.streak == 0 || reading.at_ms.saturating_sub(self.since_ms) < RETURN_MS);
        let score = if is_return { moved } else { look.outside / line };
        let hold = if self.streak >= READINGS { HOLD } else { 1.0 };
        let told = (age_ms >= WARM_UP_MS).then_some((score, summary.mean - base));
        if age_ms < WARM_UP_MS || score <= hold {
            self.streak = 0;
            if age_ms >= WARM_UP_MS && moved > 1.0 && look.outside <= HOLD * line {
                self.settle(reading.at_ms, summary);
            } else {
                self.learn_departures(reading, summary, floor_square);
            }
            return told;
        }
        self.flag(reading, summary, (score, base, look.size), span_s, found);
        told
    }

    /// How far from the base the window would be a shift.
    pub fn reach(&self, summary: &Summary, floor_square: f64, (age_ms, threshold): (i64, f64)) -> f64 {
        line(age_ms.max(WARM_UP_MS), threshold) * self.departure.size(floor_square_of_mean(summary, floor_square))
    }

    fn flag(
        &mut self,
        reading: Sample,
        summary: &Summary,
        (score, base, size): (f64, f64, f64),
        span_s: u32,
        found: &mut Vec<Finding>,
    ) {
        self.skip(reading.at_ms);
        if self.streak == 0 {
            self.since_ms = reading.at_ms;
        }
        self.streak = (self.streak + 1).min(READINGS);
        if self.streak < READINGS {
            return;
        }
        let distance = summary.mean - base;
        found.push(Finding {
            detector: Detector::Shift,
            // Below the threshold, the shift only goes on: its score stays 1.
            score: score.max(1.0),
            expected: Some(base),
            spread: Some(size),
            reason: format!(
                "{span_s} s mean {} {} what it was, {} is usual",
                short(distance.abs()),
                side(distance),
                short(size)
            ),
        });
        if reading.at_ms.saturating_sub(self.since_ms) >= RELEARN_MS {
            self.settle(reading.at_ms, summary);
            self.accepted_at_ms = reading.at_ms;
        }
    }

    /// The level is taken as it is now.
    fn settle(&mut self, at_ms: i64, summary: &Summary) {
        (self.base, self.quick) = (summary.median, summary.median);
        self.base_readings = (summary.count as u32).max(BASE_READINGS_MIN);
        (self.fed_at_ms, self.accepted_at_ms, self.streak) = (at_ms, i64::MIN, 0);
    }

    fn learn_departures(&mut self, reading: Sample, summary: &Summary, floor_square: f64) {
        let elapsed_ms = reading.at_ms.saturating_sub(summary.last.at_ms);
        let weight = weight(elapsed_ms, SPREAD_TAU_MS, self.departures);
        self.departures = self.departures.saturating_add(1);
        self.departure.update(summary.mean - self.base, floor_square, DEPARTURE_CLIP, weight);
        self.quick_departure.update(summary.mean - self.quick, floor_square, DEPARTURE_CLIP, weight);
    }

    /// Learns from a reading that has left the window. `residual_size` is the usual distance of one reading: in a long ramp the base lags
    /// far behind, and must be able to follow. `seconds` is what one second of the series stands for, because levels move in common time.
    pub fn feed(&mut self, sample: Sample, floor_square: f64, residual_size: f64, seconds: u32) {
        if sample.at_ms < self.fed_at_ms {
            return;
        }
        let elapsed_ms = if self.base_readings == 0 { 0 } else { sample.at_ms.saturating_sub(self.fed_at_ms) };
        let size = self.departure.size(floor_square);
        let clip = BASE_CLIP * size.max(residual_size);
        let step = |level: f64, tau_ms: f64, readings: u32, clip: f64| {
            let distance = sample.value - level;
            let clipped = distance.max(-clip).min(clip);
            let weight = weight(elapsed_ms, tau_ms / f64::from(seconds), readings);
            level + if readings == 0 { distance } else { weight.min(LEVEL_WEIGHT_MAX) * clipped }
        };
        self.base = step(self.base, BASE_TAU_MS, self.base_readings, clip);
        self.quick = step(self.quick, QUICK_TAU_MS, self.base_readings, clip);
        self.home = step(self.home, HOME_TAU_MS, u32::MAX, HOME_CLIP * size);
        self.base_readings = self.base_readings.saturating_add(1);
        self.fed_at_ms = sample.at_ms;
    }

    /// Moves the home if need be, after the newest reading was learned from.
    pub fn watch_home(&mut self, at_ms: i64, age_ms: i64, floor_square: f64) {
        if self.base_readings == 0 {
            return;
        }
        if age_ms < HOME_AGE_MS {
            self.home = self.base;
        }
        if (self.base - self.home).abs() < AWAY_SIZES * self.departure.size(floor_square) {
            self.home_at_ms = at_ms;
        } else if at_ms.saturating_sub(self.home_at_ms) > AWAY_MS {
            self.home = self.base;
        }
    }
}

/// The threshold at this age.
fn line(age_ms: i64, threshold: f64) -> f64 {
    threshold * (1.0 + YOUNG_MS / age_ms.max(1) as f64)
}

fn floor_square_of_mean(summary: &Summary, floor_square: f64) -> f64 {
    let error = if summary.roughness.is_finite() { summary.roughness / (2.0 * summary.count as f64) } else { 0.0 };
    floor_square + MEAN_ERROR_TIMES * error
}

/// How a window stands to one base, in sizes.
#[derive(Clone, Copy)]
struct Look {
    size: f64,
    /// From the base, whichever way.
    moved: f64,
    /// From the base and from the way home.
    outside: f64,
}

impl Look {
    fn new(base: f64, home: f64, summary: &Summary, size: f64) -> Look {
        // Mean and median must both be far: one outlier moves the mean, a few quantised steps the median.
        let by_mean = (summary.mean - base).abs() < (summary.median - base).abs();
        let level = if by_mean { summary.mean } else { summary.median };
        let nearest = level.max(base.min(home)).min(base.max(home));
        Look { size, moved: ratio(level - base, size), outside: ratio(level - nearest, size) }
    }
}

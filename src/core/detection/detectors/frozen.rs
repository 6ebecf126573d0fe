//! A baseline for plant that is meant to stand still: what the first readings were, for ever.
//!
//! Level, trend and usual distance come from the ten-second means of the first 400 readings. A plant that was still warming up then may
//! stop doing so at any time, so whatever lies between "the trend has ended" and "the trend goes on" is as expected.

use super::shift::READINGS as SHIFT_READINGS;
use super::spread::ratio;
use super::{Detector, Finding, short, side};
use crate::detection::window::{Sample, Summary};

/// How many readings are learned from.
pub(super) const TRAINING_READINGS: u32 = 400;

/// Sums of a straight line through the means, as distances from the first, so that a large offset costs no digits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Frozen {
    pub readings: u32,
    pub means: u32,
    pub origin: f64,
    pub origin_ms: i64,
    pub time: f64,
    pub time_square: f64,
    pub level: f64,
    pub level_square: f64,
    pub product: f64,
    /// Readings in a row that were too far.
    pub streak: u8,
}

impl Frozen {
    pub fn is_trained(&self) -> bool {
        self.readings >= TRAINING_READINGS
    }

    fn learn(&mut self, at_ms: i64, mean: f64) {
        if self.means == 0 {
            (self.origin, self.origin_ms) = (mean, at_ms);
        }
        let (time, level) = (self.seconds(at_ms), mean - self.origin);
        self.means += 1;
        self.time += time;
        self.time_square += time * time;
        self.level += level;
        self.level_square += level * level;
        self.product += time * level;
    }

    fn seconds(&self, at_ms: i64) -> f64 {
        at_ms.saturating_sub(self.origin_ms) as f64 / 1000.0
    }

    /// Learns from the newest reading's window, or judges it.
    pub fn judge(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        threshold: f64,
        found: &mut Vec<Finding>,
    ) {
        if !self.is_trained() {
            self.readings += 1;
            self.learn(reading.at_ms, summary.mean);
            return;
        }
        let n = f64::from(self.means);
        let (time, level) = (self.time / n, self.level / n);
        let time_variance = self.time_square / n - time * time;
        let covariance = self.product / n - time * level;
        let slope = if time_variance > 0.0 { covariance / time_variance } else { 0.0 };
        let residual_square = (self.level_square / n - level * level - slope * covariance).max(0.0);
        let spread = (residual_square + floor_square).sqrt();
        let still = self.origin + level;
        let moved = still + slope * (self.seconds(reading.at_ms) - time);
        let expected = summary.mean.max(still.min(moved)).min(still.max(moved));
        let distance = summary.mean - expected;
        let statistic = ratio(distance, spread);
        if statistic <= threshold {
            self.streak = 0;
            return;
        }
        self.streak = (self.streak + 1).min(SHIFT_READINGS);
        if self.streak == SHIFT_READINGS {
            found.push(Finding {
                detector: Detector::Shift,
                score: statistic / threshold,
                expected: Some(expected),
                spread: Some(spread),
                reason: format!(
                    "10 s mean {} {} the level of the first {TRAINING_READINGS} readings",
                    short(distance.abs()),
                    side(distance)
                ),
            });
        }
    }
}

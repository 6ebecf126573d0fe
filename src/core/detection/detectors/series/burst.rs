//! Readings that differ from each other much more than usual, as they do at a loose contact.

use super::{CLIP, Series};
use crate::detection::detectors::habit::{Habit, Side, Youth};
use crate::detection::detectors::profile::Profile;
use crate::detection::detectors::spread::ratio;
use crate::detection::detectors::{Detector, Finding, short};
use crate::detection::window::{Sample, Summary};

/// Windows in a row that a burst must last.
const BURST_READINGS: u8 = 2;
/// What is rough shows only after a while.
pub(in super::super) const BURST_YOUTH: Youth = Youth { calm: 30.0, restless: 30.0 };
/// Roughness that lasts begins at so many times the usual, and ends below so many.
const ROUGH_FROM: f64 = 2.0;
const ROUGH_ENDS: f64 = 1.4;
/// It may be told for that alone if it has lasted for so long, and the series was heard for so long and was rough so often.
const ROUGH_MIN_S: f32 = 60.0;
const ROUGH_HEARD_MIN_S: u32 = 14_400;
const ROUGH_STAYS_MIN: u8 = 8;

impl Series {
    /// Looks for a window that is much rougher than usual. While it is, its level says nothing, and nothing is learned from it.
    pub(super) fn judge_burst(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        profile: &Profile,
        (warm, weight): (bool, f64),
        found: &mut Vec<Finding>,
    ) {
        let Some(threshold) = profile.burst.filter(|_| summary.roughness.is_finite()) else { return };
        let roughness = summary.roughness.sqrt();
        let spread = self.roughness.size(2.0 * floor_square);
        let statistic = ratio(roughness, spread);
        let score = statistic / threshold;
        let is_rough = warm && score > 1.0;
        // What a driver does must have been heard for a while.
        let is_known = !profile.rests_at_ends || self.stay.heard_s >= ROUGH_HEARD_MIN_S;
        let is_found = is_rough && is_known && self.burst_streak + 1 >= BURST_READINGS;
        let manner = profile.manner(BURST_YOUTH);
        let hears = |habit: &mut Habit| habit.hear(reading.at_ms, score, Side::Above, is_found, manner);
        let told = warm.then(|| hears(&mut self.habits.burst)).flatten().or(self.too_long_rough(statistic));
        if !is_rough && told.is_none() {
            self.burst_streak = 0;
            self.roughness.update(roughness, 2.0 * floor_square, CLIP, weight);
            return;
        }
        self.shift.skip(reading.at_ms);
        // Clipped to what is usual, so that lasting noise becomes usual too, but only over hours.
        self.roughness.update(roughness, 2.0 * floor_square, 1.0, weight);
        self.burst_streak = (self.burst_streak + 1).min(BURST_READINGS);
        if let Some(told) = told {
            found.push(Finding {
                detector: Detector::Burst,
                score: told,
                expected: None,
                spread: Some(spread),
                reason: format!(
                    "readings of {} s differ by {}, {} is usual{}",
                    self.pace.span_s(),
                    short(roughness),
                    short(spread),
                    self.usual(&self.habits.burst, "was so rough", (score, Side::Above))
                ),
            });
        }
    }

    /// How many times as long as usual the windows have been rough: starts and stops make them so for a moment, however high.
    fn too_long_rough(&mut self, times: f64) -> Option<f64> {
        let is_rough = times > if self.rough.is_going_on() { ROUGH_ENDS } else { ROUGH_FROM };
        let heard_s = self.stay.heard_s;
        let lasted_s = self.rough.follow(is_rough, heard_s, false);
        if (lasted_s as f32) < ROUGH_MIN_S {
            return None;
        }
        let times = lasted_s as f32 / self.rough.limit_s(ROUGH_MIN_S);
        (times > 1.0 && heard_s >= ROUGH_HEARD_MIN_S && self.rough.stays >= ROUGH_STAYS_MIN).then_some(times.into())
    }
}

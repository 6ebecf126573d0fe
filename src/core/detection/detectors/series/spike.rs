//! A value that is far from the window's median *and* from the reading before; the second condition lets ramps pass.
//!
//! A signal that starts and stops jumps far all the time, so that a spike of a sensor is nothing unusual when it comes. But it is gone with
//! the next reading, which a start is not: a single reading that stands out from both its neighbours has a habit of its own, and is told one
//! reading later.

use super::{CLIP, Series};
use crate::detection::detectors::habit::{Habit, Score, Side, Youth};
use crate::detection::detectors::profile::Profile;
use crate::detection::detectors::spread::ratio;
use crate::detection::detectors::{Detector, Finding, short, side};
use crate::detection::window::{SPAN_MS, Sample, Summary};

/// A slow series seems to jump where a faster one is seen to move: its threshold is so many times as high.
const SLOW_TIMES: f64 = 2.0;
/// A single reading that stands out needs no higher threshold, whatever moves the signal.
const SINGLE: f64 = 8.0;
/// The base of a level is short at first.
pub(in super::super) const SPIKE_YOUTH: Youth = Youth { calm: 3.0, restless: 10.0 };

impl Series {
    pub(in super::super) fn spike_caution(&self) -> f64 {
        self.pace.caution(SLOW_TIMES)
    }

    /// A difference of two readings has the rounding noise of both, hence twice the floor.
    pub(super) fn judge_spike(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        profile: &Profile,
        (warm, is_newest, weight): (bool, bool, f64),
        found: &mut Vec<Finding>,
    ) {
        let residual = reading.value - summary.median;
        let step = reading.value - summary.last.value;
        let spread = self.residual.size(floor_square);
        let statistic = ratio(residual, spread).min(ratio(step, self.difference.size(2.0 * floor_square)));
        let score = statistic / (profile.spike * self.spike_caution());
        let is_found = warm && score > 1.0;
        let (side_of, manner) = (Side::of(residual), profile.manner(SPIKE_YOUTH));
        let hears = |habit: &mut Habit| habit.hear(reading.at_ms, score, side_of, is_found, manner);
        let told = warm.then(|| hears(&mut self.habits.spike)).flatten();
        if is_newest && warm {
            self.judge_single(reading, summary, floor_square, profile, told.is_some(), found);
        }
        if let Some(told) = told {
            found.push(Finding {
                detector: Detector::Spike,
                score: told,
                expected: Some(summary.median),
                spread: Some(spread),
                reason: format!(
                    "{} {} the {} s median, {} times the usual distance{}",
                    short(residual.abs()),
                    side(residual),
                    self.pace.span_s(),
                    short(statistic),
                    self.usual(&self.habits.spike, "jumped so far", (score, side_of))
                ),
            });
        }
        self.residual.update(residual, floor_square, CLIP, weight);
    }

    /// Looks at the reading before this one, unless it was told when it came, or this one is.
    fn judge_single(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        profile: &Profile,
        is_told: bool,
        found: &mut Vec<Finding>,
    ) {
        let Some(before) = self.window.before_last().filter(|it| reading.at_ms.saturating_sub(it.at_ms) < SPAN_MS)
        else {
            return;
        };
        let single = summary.last;
        let residual = single.value - summary.median;
        let steps = [single.value - reading.value, single.value - before.value];
        let stands_out = steps.iter().all(|step| step * residual > 0.0);
        if self.habits.single.is_none() && !stands_out {
            return;
        }
        let step = steps[0].abs().min(steps[1].abs());
        let spread = self.residual.size(floor_square);
        let statistic = ratio(residual, spread).min(ratio(step, self.difference.size(2.0 * floor_square)));
        let score =
            if stands_out { statistic * single_times(profile) / (profile.spike * self.spike_caution()) } else { 0.0 };
        let is_found = score > 1.0;
        if self.habits.single.is_none() && !is_found {
            return;
        }
        let heard = self.heard.minutes;
        let habit = self.habits.single.get_or_insert_with(|| Box::new(Habit::quiet_for(reading.at_ms, heard)));
        let side_of = Side::of(residual);
        let told = habit.hear(reading.at_ms, score, side_of, is_found, profile.manner(SPIKE_YOUTH));
        let was_told = self.habits.spike.has_just_told(score / single_times(profile), side_of);
        if let (Some(told), false, Some(habit)) = (told, is_told || was_told, &self.habits.single) {
            let reason = format!(
                "the reading before was {}, {} {} the {} s median, and this one is not{}",
                short(single.value),
                short(residual.abs()),
                side(residual),
                self.pace.span_s(),
                self.usual(habit, "stood out so far", (score, side_of))
            );
            let expected = Some(summary.median);
            found.push(Finding { detector: Detector::Spike, score: told, expected, spread: Some(spread), reason });
        }
    }

    /// A person says what the spike is that was told last. Returns whether one is known. One that was told when it came may stand out with
    /// the next reading as well, so its word holds for both.
    pub(super) fn teach_spike(&mut self, is_normal: bool, profile: &Profile) -> bool {
        let manner = profile.manner(SPIKE_YOUTH);
        let single_since = self.habits.single.as_ref().map_or(u8::MAX, |single| single.minutes_since_told());
        if single_since < self.habits.spike.minutes_since_told() {
            return self.habits.single.as_deref_mut().is_some_and(|single| single.teach(is_normal, manner));
        }
        let is_known = self.habits.spike.teach(is_normal, manner);
        if is_known {
            let times = single_times(profile) as f32;
            let told = self.habits.spike.told().map(|score| Score::of(score.get() * times));
            let now_ms = self.window.newest_ms().unwrap_or_default();
            let quiet = || Box::new(Habit::quiet_for(now_ms, self.heard.minutes));
            self.habits.single.get_or_insert_with(quiet).teach_as_told(told, is_normal, manner);
        }
        is_known
    }
}

/// How many times as high a single reading scores as one that just came.
fn single_times(profile: &Profile) -> f64 {
    profile.spike / profile.spike.min(SINGLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: i64) -> f64 {
        ((i * 7919) % 11 - 5) as f64 / 5.0
    }

    /// A pump that runs for five minutes and rests for five; what is found in these seconds, a glitch in the first of them.
    fn pump(glitch: f64, seconds: std::ops::Range<i64>) -> Vec<(i64, Finding)> {
        let (profile, mut series) = (Profile::SLOW, Series::new(&Profile::SLOW));
        let mut all = Vec::new();
        for i in 0..seconds.end {
            let level = if i / 300 % 2 == 0 { 10.0 } else { 60.0 };
            let added = if i == seconds.start { glitch } else { 0.0 };
            let (mut found, value) = (Vec::new(), level + 0.5 * noise(i) + added);
            series.judge(Sample { at_ms: 1_000 * i, value }, &profile, 64, &mut found);
            all.extend(found.into_iter().filter(|_| seconds.contains(&i)).map(|finding| (i - seconds.start, finding)));
        }
        all
    }

    #[test]
    fn a_glitch_as_large_as_a_start_is_told_one_reading_later() {
        let at = 6 * 3_600 + 150;
        let found = pump(50.0, at..at + 60);
        let (delay, finding) = &found[0];
        assert_eq!((*delay, finding.detector, found.len()), (1, Detector::Spike, 1), "{found:?}");
        assert!(finding.reason.starts_with("the reading before was 60"), "{}", finding.reason);
        assert!(finding.reason.ends_with("and never stood out so far"), "{}", finding.reason);
        // A start is not told, and without the glitch nothing is.
        assert_eq!(pump(0.0, at..at + 600), []);
    }
}

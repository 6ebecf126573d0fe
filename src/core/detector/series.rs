//! The state of one watched series, and how a reading is judged by it.
//!
//! A ten-second deviation alone has too few degrees of freedom to tell trouble from noise, so each statistic of the window is held
//! against its own usual size, learned over half an hour. What is learned from is clipped first: an outlier is judged by the past and
//! hardly changes it.

use super::profile::Profile;
use super::{Detector, Finding, Verdict, short};
use crate::core::window::{Admission, SPAN_MS, Sample, Summary, Window};

/// Time of a series, by its own clock, before it is judged.
pub const WARM_UP_MS: i64 = 60_000;
const READINGS_MIN: usize = 3;
/// Time constant of the usual sizes.
const SPREAD_TAU_MS: f64 = 1_800_000.0;
/// Time constant of the level that a shift is measured from.
const BASE_TAU_MS: f64 = 300_000.0;
const CLIP: f64 = 4.0;
/// Readings in a row that a shift must last.
const SHIFT_READINGS: u8 = 3;
/// A shift that lasts is the new level; a silence of so long says nothing of the old one.
const RELEARN_MS: i64 = 300_000;
const SCORE_MAX: f64 = 1e9;

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub(super) window: Window,
    pub(super) profile: Profile,
    pub(super) epoch_start_ms: i64,
    /// Smallest step between two readings that was not zero; 0 until there was one. As a rule the sensor's resolution.
    pub(super) resolution: f64,
    /// Mean square distance from the window's median.
    pub(super) residual: Spread,
    /// Mean square difference of successive readings.
    pub(super) difference: Spread,
    /// Mean square distance of the window's mean from the base.
    pub(super) departure: Spread,
    pub(super) base: Base,
    pub(super) shift_streak: u8,
    pub(super) shift_since_ms: i64,
}

/// An exponentially weighted mean square.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub square: f64,
    pub updates: u32,
}

impl Spread {
    fn update(&mut self, value: f64, floor_square: f64, elapsed_ms: i64) {
        let clipped = (value * value).min(CLIP * CLIP * (self.square + floor_square));
        let weight = weight(elapsed_ms, SPREAD_TAU_MS, &mut self.updates);
        self.square += weight * (clipped - self.square);
    }

    fn size(self, floor_square: f64) -> f64 {
        (self.square + floor_square).sqrt()
    }
}

/// The level of some minutes, fed only by what has left the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Base {
    pub level: f64,
    pub updates: u32,
    pub fed_at_ms: i64,
}

impl Base {
    fn feed(&mut self, sample: Sample, clip: f64) {
        let elapsed_ms = sample.at_ms.saturating_sub(self.fed_at_ms);
        let distance = sample.value - self.level;
        let clipped = if self.updates == 0 { distance } else { distance.clamp(-clip, clip) };
        self.level += weight(elapsed_ms, BASE_TAU_MS, &mut self.updates) * clipped;
        self.fed_at_ms = sample.at_ms;
    }
}

/// The weight of a new value: by the time since the one before, and a plain mean until there are enough.
fn weight(elapsed_ms: i64, tau_ms: f64, updates: &mut u32) -> f64 {
    *updates = updates.saturating_add(1);
    let by_time = elapsed_ms.clamp(0, SPAN_MS) as f64 / tau_ms;
    by_time.max(1.0 / f64::from(*updates))
}

/// Statistic and usual size.
fn ratio(statistic: f64, size: f64) -> f64 {
    if statistic == 0.0 { 0.0 } else { (statistic / size).min(SCORE_MAX) }
}

impl Series {
    pub fn new(profile: Profile) -> Series {
        Series {
            window: Window::default(),
            profile,
            epoch_start_ms: 0,
            resolution: 0.0,
            residual: Spread::default(),
            difference: Spread::default(),
            departure: Spread::default(),
            base: Base::default(),
            shift_streak: 0,
            shift_since_ms: 0,
        }
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Bytes held beyond the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.window.samples.capacity() * size_of::<Sample>()
    }

    /// Judges a usable value, then learns from it.
    pub fn judge(&mut self, reading: Sample, samples_max: usize, found: &mut Vec<Finding>) -> Verdict {
        match self.window.admit(reading) {
            Admission::Suspect => return Verdict::Normal,
            Admission::NewEpoch => {
                self.epoch_start_ms = reading.at_ms;
                self.forget_base();
            }
            Admission::Resumes { silent_ms } if silent_ms > RELEARN_MS => self.forget_base(),
            Admission::Resumes { .. } | Admission::Continues => {}
        }
        let warm = reading.at_ms.saturating_sub(self.epoch_start_ms) >= WARM_UP_MS;
        let found_before = found.len();
        if let Some(summary) = self.window.summary(reading.at_ms) {
            let floor_square = self.floor_square(reading.value, &summary);
            if summary.count >= READINGS_MIN {
                self.judge_spike(reading, &summary, floor_square, warm, found);
                self.judge_shift(reading, &summary, floor_square, warm, found);
            }
            let step = reading.value - summary.last.value;
            let elapsed_ms = reading.at_ms.saturating_sub(summary.last.at_ms);
            self.difference.update(step, 2.0 * floor_square, elapsed_ms);
            if step != 0.0 && (self.resolution == 0.0 || step.abs() < self.resolution) {
                self.resolution = step.abs();
            }
        }
        self.learn(reading, samples_max);
        match (warm, found.len() > found_before) {
            (false, _) => Verdict::WarmingUp,
            (true, false) => Verdict::Normal,
            (true, true) => Verdict::Anomalous,
        }
    }

    fn forget_base(&mut self) {
        self.base.updates = 0;
        self.base.level = 0.0;
        self.shift_streak = 0;
    }

    /// What no size falls below: the noise of rounding; 1 % of the value, as six sizes, until the resolution is known.
    fn floor_square(&self, value: f64, summary: &Summary) -> f64 {
        if self.resolution > 0.0 {
            return self.resolution * self.resolution / 12.0;
        }
        (value.abs().max(summary.median.abs()) * 0.01 / 6.0).powi(2)
    }

    /// Far from the window's median *and* from the reading before: the second condition lets ramps pass. A difference of two readings
    /// has the rounding noise of both, hence twice the floor.
    fn judge_spike(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        warm: bool,
        found: &mut Vec<Finding>,
    ) {
        let residual = reading.value - summary.median;
        let step = reading.value - summary.last.value;
        let spread = self.residual.size(floor_square);
        let statistic = ratio(residual.abs(), spread).min(ratio(step.abs(), self.difference.size(2.0 * floor_square)));
        let threshold = self.profile.thresholds().spike;
        if warm && statistic > threshold {
            found.push(Finding {
                detector: Detector::Spike,
                score: statistic / threshold,
                expected: Some(summary.median),
                spread: Some(spread),
                reason: format!(
                    "{} {} the 10 s median, {} times the usual distance",
                    short(residual.abs()),
                    side(residual),
                    short(statistic)
                ),
            });
        }
        let elapsed_ms = reading.at_ms.saturating_sub(summary.last.at_ms);
        self.residual.update(residual, floor_square, elapsed_ms);
    }

    /// The window's mean far from the base, for some readings in a row. Late readings have a window of the past: they say nothing new.
    fn judge_shift(
        &mut self,
        reading: Sample,
        summary: &Summary,
        floor_square: f64,
        warm: bool,
        found: &mut Vec<Finding>,
    ) {
        if self.base.updates == 0 || !self.window.is_newest(reading.at_ms) {
            return;
        }
        let departure = summary.mean - self.base.level;
        let spread = self.departure.size(floor_square);
        let statistic = ratio(departure.abs(), spread);
        let threshold = self.profile.thresholds().shift;
        if !(warm && statistic > threshold) {
            self.shift_streak = 0;
            let elapsed_ms = reading.at_ms.saturating_sub(summary.last.at_ms);
            self.departure.update(departure, floor_square, elapsed_ms);
            return;
        }
        if self.shift_streak == 0 {
            self.shift_since_ms = reading.at_ms;
        }
        self.shift_streak = (self.shift_streak + 1).min(SHIFT_READINGS);
        if self.shift_streak < SHIFT_READINGS {
            return;
        }
        found.push(Finding {
            detector: Detector::Shift,
            score: statistic / threshold,
            expected: Some(self.base.level),
            spread: Some(spread),
            reason: format!("10 s mean {} {} the 5 min base", short(departure.abs()), side(departure)),
        });
        if reading.at_ms.saturating_sub(self.shift_since_ms) >= RELEARN_MS {
            self.shift_streak = 0;
            self.base = Base { level: summary.mean, updates: summary.count as u32, fed_at_ms: reading.at_ms };
        }
    }

    /// Inserts the reading; what leaves the window feeds the base, unless a shift is on.
    fn learn(&mut self, reading: Sample, samples_max: usize) {
        let frozen = self.shift_streak > 0;
        let floor_square = self.resolution * self.resolution / 12.0;
        // The larger size: in a long ramp the base lags far behind, and must not be held there.
        let clip = CLIP * self.departure.size(floor_square).max(self.residual.size(floor_square));
        let base = &mut self.base;
        self.window.insert(reading, samples_max, |evicted| {
            if !frozen {
                base.feed(evicted, clip);
            }
        });
    }
}

fn side(distance: f64) -> &'static str {
    if distance < 0.0 { "below" } else { "above" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic noise of about one unit.
    fn noise(i: i64) -> f64 {
        let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1 << 23) as f64 - 1.0
    }

    fn feed(series: &mut Series, at_s: i64, value: f64) -> Vec<Finding> {
        let mut found = Vec::new();
        series.judge(Sample { at_ms: at_s * 1_000, value }, 512, &mut found);
        found
    }

    fn warm() -> Series {
        let mut series = Series::new(Profile::Temperature);
        (0..400).for_each(|i| assert_eq!(feed(&mut series, i, 90.0 + 0.1 * noise(i)), []));
        series
    }

    #[test]
    fn a_spike_is_found_at_once_and_only_itself() {
        let mut series = warm();
        let found = feed(&mut series, 400, 93.0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].detector, Detector::Spike);
        assert!(found[0].score > 1.0 && (found[0].expected.expect("the median") - 90.0).abs() < 0.1);
        assert!(found[0].reason.contains("above the 10 s median"), "{}", found[0].reason);
        assert!(feed(&mut series, 401, 90.0).iter().all(|finding| finding.detector != Detector::Spike));
    }

    #[test]
    fn a_step_is_a_shift_until_it_is_the_new_level() {
        let mut series = warm();
        let shifted = |found: &[Finding]| found.iter().any(|finding| finding.detector == Detector::Shift);
        let flags: Vec<bool> = (400..900).map(|i| shifted(&feed(&mut series, i, 92.0 + 0.1 * noise(i)))).collect();
        assert!(flags[5..290].iter().all(|&flag| flag));
        assert!(!flags[310..].iter().any(|&flag| flag));
    }

    #[test]
    fn nothing_is_judged_before_the_warm_up_nor_after_one_wild_time() {
        let mut series = Series::new(Profile::Temperature);
        let verdicts: Vec<Verdict> = (0..62)
            .map(|i| {
                let value = if i == 50 { 500.0 } else { 20.0 + 0.1 * noise(i) };
                series.judge(Sample { at_ms: i * 1_000, value }, 512, &mut Vec::new())
            })
            .collect();
        assert!(verdicts[..60].iter().all(|&verdict| verdict == Verdict::WarmingUp));
        assert_ne!(verdicts[60], Verdict::WarmingUp);
        let mut series = warm();
        assert_eq!(feed(&mut series, 1 << 40, 90.0), []);
        assert_eq!(feed(&mut series, 400, 95.0).len(), 1, "still warm");
    }

    #[test]
    fn extreme_values_leave_finite_state() {
        let mut series = warm();
        for (i, value) in [1e100, -1e100, 5e-324, 0.0, 1e100].into_iter().cycle().take(500).enumerate() {
            for finding in feed(&mut series, 400 + i as i64, value) {
                assert!(finding.score.is_finite() && finding.expected.is_some_and(f64::is_finite));
            }
        }
        for spread in [series.residual, series.difference, series.departure] {
            assert!(spread.square.is_finite());
        }
        assert!(series.base.level.is_finite());
    }

    #[test]
    fn a_series_of_one_hertz_is_small() {
        let series = warm();
        assert!(size_of::<Series>() + series.heap_bytes() <= 448, "{} + {}", size_of::<Series>(), series.heap_bytes());
    }
}

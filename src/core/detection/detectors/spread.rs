//! Exponentially weighted sizes and levels: by the time between readings, and a plain mean until there are enough of them.

use crate::detection::window::SPAN_MS;

/// No ratio is larger: beyond it a larger number would say nothing more.
const RATIO_MAX: f64 = 1e9;

/// A mean square of a statistic: its usual size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub square: f64,
}

impl Spread {
    /// `clip` sizes are the most that one reading counts as: an outlier is judged by the past and hardly changes it.
    pub fn update(&mut self, value: f64, floor_square: f64, clip: f64, weight: f64) {
        let clipped = (value * value).min(clip * clip * (self.square + floor_square));
        self.square += weight * (clipped - self.square);
    }

    pub fn size(self, floor_square: f64) -> f64 {
        (self.square + floor_square).sqrt()
    }
}

/// The weight of one more value after `updates`, `elapsed_ms` after the one before.
pub(super) fn weight(elapsed_ms: i64, tau_ms: f64, updates: u32) -> f64 {
    let by_time = elapsed_ms.clamp(0, SPAN_MS) as f64 / tau_ms;
    by_time.max(1.0 / (f64::from(updates) + 1.0))
}

/// A statistic in sizes.
pub(super) fn ratio(statistic: f64, size: f64) -> f64 {
    if statistic == 0.0 { 0.0 } else { (statistic.abs() / size).min(RATIO_MAX) }
}

//! What is said of a few values: mean, median, and how rough they are.

/// If so many of so many steps go one way, that is a ramp. Noise makes one in less than one of a thousand windows.
const RAMP_STEPS: usize = 8;
const RAMP_OF: usize = 9;
/// Up to so many values are ranked one by one.
const RANKED_MAX: usize = 16;
/// Fewer say nothing of how rough a signal is.
pub(super) const ROUGHNESS_READINGS_MIN: usize = 6;

/// The mean, summed as distances from the first value, so that a large offset costs no digits.
pub(super) fn mean(mut values: impl Iterator<Item = f64>, count: usize) -> f64 {
    let Some(first) = values.next() else { return f64::NAN };
    first + values.map(|value| value - first).sum::<f64>() / count as f64
}

/// See [`super::Summary::roughness`].
pub(super) fn roughness(values: &[f64]) -> f64 {
    if values.len() < ROUGHNESS_READINGS_MIN {
        return f64::NAN;
    }
    let steps = values.len() - 1;
    let rising = values.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let falling = values.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // On its way up or down a signal is not rough for that: what counts is how far its steps are from the usual one.
    let is_ramp = rising.max(falling) * RAMP_OF >= steps * RAMP_STEPS;
    let usual = if is_ramp { (values[steps] - values[0]) / steps as f64 } else { 0.0 };
    let (mut sum, mut largest, mut second) = (0.0, 0.0f64, 0.0f64);
    for pair in values.windows(2) {
        let distance = pair[1] - pair[0] - usual;
        let square = distance * distance;
        sum += square;
        let smaller = if square < largest { square } else { largest };
        second = if smaller > second { smaller } else { second };
        largest = if square > largest { square } else { largest };
    }
    // Not below zero, whatever rounding leaves behind a large outlier.
    (sum - largest - second).max(0.0) / (steps - 2) as f64
}

/// The median of at least one value; reorders them.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    if values.len() <= RANKED_MAX {
        let smallest = smallest(values);
        return if odd { smallest[middle] } else { between(smallest[middle - 1], smallest[middle]) };
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return *upper;
    }
    between(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), *upper)
}

fn between(lower: f64, upper: f64) -> f64 {
    lower + (upper - lower) / 2.0
}

/// The smaller half of a few values, and one more, in order. Each value sinks to its place without a branch, because its way cannot be
/// predicted, and a wrong prediction costs more than a comparison.
fn smallest(values: &[f64]) -> [f64; RANKED_MAX / 2 + 1] {
    let mut smallest = [f64::INFINITY; RANKED_MAX / 2 + 1];
    let places = &mut smallest[..values.len() / 2 + 1];
    for &value in values {
        let mut sinking = value;
        for place in &mut *places {
            let (lower, upper) = if sinking < *place { (sinking, *place) } else { (*place, sinking) };
            (*place, sinking) = (lower, upper);
        }
    }
    smallest
}

//! Values that are wrong by themselves, whatever the series did before.

use std::sync::Arc;

use super::profile::Profile;
use super::{Detector, Finding, short};

/// Above this a value's square is no number any more: such values are reported, and kept out of all statistics.
const MAGNITUDE_MAX: f64 = 1e100;

/// What a metric's values may be. There is no bound by default: whether a value is in Celsius or Fahrenheit is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Instead of the profile's.
    pub sentinels: Option<Vec<f64>>,
}

impl Bounds {
    pub const NONE: Bounds = Bounds { low: None, high: None, sentinels: None };

    fn sentinels<'a>(&'a self, profile: &'a Profile) -> &'a [f64] {
        self.sentinels.as_deref().unwrap_or(profile.sentinels)
    }
}

/// The bounds of metrics by their whole names; one that is not there has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits(Arc<[(String, Bounds)]>);

impl Limits {
    /// Of two for one metric, either is taken.
    pub fn new(mut limits: Vec<(String, Bounds)>) -> Limits {
        limits.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Limits(limits.into())
    }

    /// In the order of the metrics' names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bounds)> {
        self.0.iter().map(|(metric, bounds)| (metric.as_str(), bounds))
    }

    pub fn of(&self, metric: &str) -> Option<&Bounds> {
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(metric)).ok()?;
        Some(&self.0[at].1)
    }
}

/// Whether statistics may see the value.
pub fn is_usable(value: f64, profile: &Profile, bounds: &Bounds) -> bool {
    value.abs() <= MAGNITUDE_MAX && !bounds.sentinels(profile).contains(&value)
}

/// Judges a value by itself.
pub fn judge(value: f64, profile: &Profile, bounds: &Bounds) -> Option<Finding> {
    let finding =
        |score, expected, reason| Some(Finding { detector: Detector::Limit, score, expected, spread: None, reason });
    if value.is_nan() {
        return finding(1.0, None, "the value is not a number".to_owned());
    }
    if value.is_infinite() {
        return finding(1.0, None, "the value is infinite".to_owned());
    }
    if value.abs() > MAGNITUDE_MAX {
        return finding(1.0, None, "the value is too large to watch".to_owned());
    }
    if bounds.sentinels(profile).contains(&value) {
        return finding(1.0, None, format!("{} is how such a sensor reports its own failure", short(value)));
    }
    let over = |bound: f64| 1.0 + (value - bound).abs() / bound.abs().max(1.0);
    if let Some(low) = bounds.low.filter(|&low| value < low) {
        return finding(over(low), Some(low), format!("below the lower limit {}", short(low)));
    }
    if let Some(high) = bounds.high.filter(|&high| value > high) {
        return finding(over(high), Some(high), format!("above the upper limit {}", short(high)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_by_itself_is_found() {
        let bounds = Bounds { low: Some(-40.0), high: Some(100.0), sentinels: None };
        let found = |value, profile| judge(value, profile, &bounds).map(|finding| finding.reason);
        assert_eq!(found(20.0, &Profile::TEMPERATURE), None);
        assert_eq!(
            found(-127.0, &Profile::TEMPERATURE).as_deref(),
            Some("-127 is how such a sensor reports its own failure")
        );
        assert_eq!(judge(-127.0, &Profile::GENERIC, &Bounds::NONE), None);
        assert_eq!(found(f64::NAN, &Profile::DRIVEN).as_deref(), Some("the value is not a number"));
        assert_eq!(found(f64::NEG_INFINITY, &Profile::DRIVEN).as_deref(), Some("the value is infinite"));
        assert_eq!(found(-1e200, &Profile::DRIVEN).as_deref(), Some("the value is too large to watch"));
        assert_eq!(found(-41.0, &Profile::DRIVEN).as_deref(), Some("below the lower limit -40"));
        assert_eq!(judge(150.0, &Profile::DRIVEN, &bounds).map(|finding| finding.score), Some(1.5));
    }

    #[test]
    fn a_metric_has_its_own_bounds_and_sentinels() {
        let sentinels = Bounds { sentinels: Some(vec![85.0]), ..Bounds::NONE };
        let cold = Bounds { high: Some(-18.0), ..Bounds::NONE };
        let limits = Limits::new(vec![("freezer".to_owned(), cold), ("boiler_temp".to_owned(), sentinels.clone())]);
        assert_eq!(limits.of("freezer").and_then(|bounds| bounds.high), Some(-18.0));
        assert_eq!((limits.of("boiler"), limits.of("boiler_temp")), (None, Some(&sentinels)));
        assert!(is_usable(-127.0, &Profile::TEMPERATURE, &sentinels), "named ones replace the profile's");
        assert!(!is_usable(85.0, &Profile::TEMPERATURE, &sentinels));
        assert!(!is_usable(-127.0, &Profile::TEMPERATURE, &Bounds::NONE));
    }
}

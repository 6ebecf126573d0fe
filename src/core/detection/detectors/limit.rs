//! Values that can be judged without the history of their series.

use std::sync::Arc;

use super::profile::Profile;
use super::{Detector, Finding, short};
use crate::detection::alert::Severity;
use crate::{fnv, pattern};

/// The squares of larger values overflow: such values are reported and kept out of all statistics.
const MAGNITUDE_MAX: f64 = 1e100;
/// Most limits of one metric, because each has a bit.
pub const LIMITS_A_METRIC_MAX: usize = 64;

/// One configured limit of a metric. None is built in, because nobody knows whether a value is in Celsius or Fahrenheit.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// For which devices: a name in which `*` stands for any text. `None` is for all.
    pub device: Option<String>,
    /// Values below it exceed the limit; `None` without a lower bound.
    pub low: Option<f64>,
    /// Values above it exceed the limit; `None` without an upper bound.
    pub high: Option<f64>,
    /// Values by which the sensor reports its own failure; `None` leaves the profile's.
    pub sentinels: Option<Vec<f64>>,
    /// Of the alerts that it raises.
    pub severity: Severity,
    /// How long a bound must be exceeded before an alert is raised, in milliseconds of the device's time. 0 raises at once.
    pub hold_ms: u64,
    /// A value must be at least this again for the alert to clear; `None` takes `low`.
    pub clear_low: Option<f64>,
    /// As `clear_low`, for the upper bound.
    pub clear_high: Option<f64>,
}

impl Bounds {
    /// No bound, for every device.
    pub const NONE: Bounds = Bounds {
        device: None,
        low: None,
        high: None,
        sentinels: None,
        severity: Severity::Major,
        hold_ms: 0,
        clear_low: None,
        clear_high: None,
    };

    /// Whether the limit holds for this device.
    pub fn is_for(&self, device: &str) -> bool {
        self.device.as_deref().is_none_or(|pattern| pattern::is_like(device, pattern))
    }

    /// The bound that a value is beyond.
    fn exceeded(&self, value: f64) -> Option<f64> {
        self.low.filter(|&low| value < low).or(self.high.filter(|&high| value > high))
    }

    /// Whether a value is within what clears an alert.
    fn clears(&self, value: f64) -> bool {
        self.clear_low.or(self.low).is_none_or(|low| value >= low)
            && self.clear_high.or(self.high).is_none_or(|high| value <= high)
    }
}

/// The configured limits by the whole name of their metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits(Arc<[(String, Vec<Bounds>)]>);

impl Limits {
    /// Limits by the name of their metric, in the order of the configuration.
    ///
    /// # Panics
    ///
    /// If a metric has more than [`LIMITS_A_METRIC_MAX`].
    pub fn new(limits: Vec<(String, Bounds)>) -> Limits {
        let mut metrics: Vec<(String, Vec<Bounds>)> = Vec::new();
        for (metric, bounds) in limits {
            match metrics.iter_mut().find(|(known, _)| *known == metric) {
                Some((_, all)) => all.push(bounds),
                None => metrics.push((metric, vec![bounds])),
            }
        }
        metrics.iter().for_each(|(_, all)| assert!(all.len() <= LIMITS_A_METRIC_MAX, "each has a bit"));
        metrics.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Limits(metrics.into())
    }

    /// A hash that changes with the configuration of limits.
    pub fn fingerprint(&self) -> u64 {
        fnv::of_debug(self)
    }

    /// In the order of the metrics' names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bounds)> {
        self.0.iter().flat_map(|(metric, all)| all.iter().map(move |bounds| (metric.as_str(), bounds)))
    }

    /// Limits of one metric, in the order of the configuration; none if there are none.
    pub fn of(&self, metric: &str) -> &[Bounds] {
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(metric)) {
            Ok(at) => &self.0[at].1,
            Err(_) => &[],
        }
    }
}

/// What can be said of a value without its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The value may be used in statistics.
    pub is_usable: bool,
    /// Limits of its metric that hold for its device, a bit each.
    pub limits: u64,
    /// Of these, the limits that are exceeded; none of a value that is not usable.
    pub exceeded: u64,
    /// Of these, the limits within whose clearing bounds the value is not.
    pub uncleared: u64,
    /// What is wrong with it: an impossible value, or else the gravest limit that is exceeded.
    pub finding: Option<Finding>,
    /// Of an alert of a value that is not usable.
    pub severity: Severity,
}

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exceeded {
    /// Of the alert that it raises.
    pub severity: Severity,
    /// 1 plus the distance from the bound divided by the bound's magnitude, or by 1 if that is larger.
    pub score: f64,
    /// The bound; `None` for an impossible value.
    pub bound: Option<f64>,
}

/// Whether there is nothing wrong with a value that no limit holds for.
pub fn is_plain(value: f64, profile: &Profile) -> bool {
    value.abs() <= MAGNITUDE_MAX && !profile.sentinels.contains(&value)
}

/// Judges a value without its history. `bounds` are the limits of its metric, in the order of the configuration.
pub fn judge(value: f64, device: &str, profile: &Profile, bounds: &[Bounds]) -> Judged {
    let mut judged =
        Judged { is_usable: true, limits: 0, exceeded: 0, uncleared: 0, finding: None, severity: Severity::Minor };
    let (mut has_own_sentinels, mut own_sentinel) = (false, None);
    for (at, bounds) in bounds.iter().enumerate().filter(|(_, bounds)| bounds.is_for(device)) {
        let bit = 1 << at;
        judged.limits |= bit;
        judged.exceeded |= if bounds.exceeded(value).is_some() { bit } else { 0 };
        judged.uncleared |= if bounds.clears(value) { 0 } else { bit };
        if let Some(sentinels) = &bounds.sentinels {
            has_own_sentinels = true;
            own_sentinel = own_sentinel.max(sentinels.contains(&value).then_some(bounds.severity));
        }
    }
    let is_sentinel = own_sentinel.is_some() || !has_own_sentinels && profile.sentinels.contains(&value);
    let reason = match value {
        value if value.is_nan() => "the value is not a number".to_owned(),
        value if value.is_infinite() => "the value is infinite".to_owned(),
        value if value.abs() > MAGNITUDE_MAX => "the value is too large to watch".to_owned(),
        value if is_sentinel => format!("{} is how such a sensor reports its own failure", short(value)),
        _ => {
            judged.finding = gravest(value, bounds, judged.exceeded).map(|exceeded| exceeded.finding(value));
            return judged;
        }
    };
    (judged.is_usable, judged.exceeded) = (false, 0);
    judged.severity = own_sentinel.unwrap_or(Severity::Minor);
    judged.finding = Some(Finding { detector: Detector::Limit, score: 1.0, expected: None, spread: None, reason });
    judged
}

/// The gravest of those limits in `exceeded` that the value exceeds; of equally grave ones, the one that it exceeds by more. `None` if
/// there is none.
pub fn gravest(value: f64, bounds: &[Bounds], exceeded: u64) -> Option<Exceeded> {
    let of = |(at, bounds): (usize, &Bounds)| {
        let bound = bounds.exceeded(value).filter(|_| exceeded & 1 << at != 0)?;
        let score = 1.0 + (value - bound).abs() / bound.abs().max(1.0);
        Some(Exceeded { severity: bounds.severity, score, bound: Some(bound) })
    };
    let all = bounds.iter().enumerate().filter_map(of);
    all.max_by(|a, b| a.severity.cmp(&b.severity).then(a.score.total_cmp(&b.score)))
}

impl Exceeded {
    fn finding(self, value: f64) -> Finding {
        let bound = self.bound.unwrap_or(value);
        let side = if value < bound { "below the lower limit" } else { "above the upper limit" };
        let reason = format!("{side} {}", short(bound));
        Finding { detector: Detector::Limit, score: self.score, expected: self.bound, spread: None, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_by_itself_is_found() {
        let bounds = [Bounds { low: Some(-40.0), high: Some(100.0), ..Bounds::NONE }];
        let judge = |value, profile: &Profile, bounds: &[Bounds]| judge(value, "d", profile, bounds).finding;
        let found = |value, profile| judge(value, profile, &bounds).map(|finding| finding.reason);
        assert_eq!(found(20.0, &Profile::TEMPERATURE), None);
        assert_eq!(
            found(-127.0, &Profile::TEMPERATURE).as_deref(),
            Some("-127 is how such a sensor reports its own failure")
        );
        assert_eq!(judge(-127.0, &Profile::GENERIC, &[]), None);
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
        assert_eq!(limits.of("freezer")[0].high, Some(-18.0));
        assert_eq!((limits.of("boiler"), limits.of("boiler_temp")), (&[][..], &[sentinels.clone()][..]));
        let is_usable = |value, bounds: &[Bounds]| judge(value, "d", &Profile::TEMPERATURE, bounds).is_usable;
        assert!(is_usable(-127.0, std::slice::from_ref(&sentinels)), "named ones replace the profile's");
        assert!(!is_usable(85.0, &[sentinels.clone(), Bounds::NONE]));
        assert!(!is_usable(-127.0, &[]));
        assert!(!is_usable(-127.0, &[Bounds { device: Some("other".to_owned()), ..sentinels }]));
    }

    #[test]
    fn how_grave_a_limit_is_does_not_depend_on_where_zero_lies() {
        for (high, value) in [(-18.0, 13.0), (0.0, 3.1), (8.0, 9.0), (100.0, 1e6)] {
            let bounds = [Bounds { high: Some(high), ..Bounds::NONE }];
            assert_eq!(gravest(value, &bounds, 1).map(|exceeded| exceeded.severity), Some(Severity::Major), "{high}");
        }
    }

    #[test]
    fn of_several_limits_the_gravest_counts_on_the_devices_that_it_is_for() {
        let limit = |high, severity| Bounds { high: Some(high), severity, ..Bounds::NONE };
        let device = Some("freezer-*".to_owned());
        let bounds = [
            limit(8.0, Severity::Minor),
            Bounds { device, ..limit(12.0, Severity::Critical) },
            Bounds { clear_high: Some(5.0), ..limit(10.0, Severity::Warning) },
        ];
        let judged = |value, device| {
            let judged = judge(value, device, &Profile::SLOW, &bounds);
            let gravest = gravest(value, &bounds, judged.exceeded);
            (judged.exceeded, judged.uncleared, gravest.map(|gravest| (gravest.severity, gravest.bound)))
        };
        assert_eq!(judged(4.0, "freezer-1"), (0, 0, None));
        assert_eq!(judged(6.0, "freezer-1"), (0, 0b100, None));
        assert_eq!(judged(13.0, "freezer-1"), (0b111, 0b111, Some((Severity::Critical, Some(12.0)))));
        assert_eq!(judged(13.0, "fridge"), (0b101, 0b101, Some((Severity::Minor, Some(8.0)))));
    }
}

//! The detectors that watch a series, and what they find.
//!
//! Pure: time comes with the reading. [`series`] is the state of one series, [`profile`] how sensitive it is by its metric's name,
//! [`state`] how it is kept across a restart.

pub mod explanation;
mod frozen;
mod habit;
pub mod hold;
mod lesson;
pub mod limit;
pub mod maturity;
mod pace;
pub mod profile;
pub mod series;
mod shift;
mod spread;
pub mod state;
mod stay;
mod stuck;
mod usual;

pub use lesson::Lesson;

use crate::detection::severity::{Severity, Weight};
use crate::detection::silence::Rhythm;
use limit::Exceeded;
use maturity::Maturity;

/// Detectors, in the order in which the findings of one reading are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// The value is impossible, or beyond a configured limit.
    Limit,
    /// Nothing has been heard for much longer than usual.
    Gap,
    /// One value is far from the readings around it.
    Spike,
    /// The level of ten seconds is far from what it was.
    Shift,
    /// Readings of ten seconds differ by much more than usual.
    Burst,
    /// The same value has been repeated for much longer than usual.
    Stuck,
    /// The level has been beyond its usual range for longer than it ever was.
    Stay,
}

impl Detector {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            Detector::Limit => "limit",
            Detector::Gap => "gap",
            Detector::Spike => "spike",
            Detector::Shift => "shift",
            Detector::Burst => "burst",
            Detector::Stuck => "stuck",
            Detector::Stay => "stay",
        }
    }

    /// Kinds of the alerts that detectors raise.
    pub const ALERT_KINDS: [&'static str; 4] = [
        Detector::Limit.alert_kind(),
        Detector::Gap.alert_kind(),
        Detector::Stuck.alert_kind(),
        Detector::Spike.alert_kind(),
    ];

    /// The kind of alert it raises: those that tell of the same trouble share one.
    pub const fn alert_kind(self) -> &'static str {
        match self {
            Detector::Limit => "limit",
            Detector::Gap => "gap",
            Detector::Stuck => "stuck",
            Detector::Spike | Detector::Shift | Detector::Burst | Detector::Stay => "anomaly",
        }
    }
}

/// A set of kinds of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Kinds of the alerts that these findings raise.
    pub fn of(findings: &[Finding]) -> Kinds {
        findings.iter().fold(Kinds::default(), |kinds, finding| Kinds(kinds.0 | Kinds::bit(finding.detector)))
    }

    /// Whether the kind of this detector is among them.
    pub fn has(self, detector: Detector) -> bool {
        self.0 & Kinds::bit(detector) != 0
    }

    fn bit(detector: Detector) -> u8 {
        match detector {
            Detector::Limit => 1,
            Detector::Gap => 2,
            Detector::Stuck => 4,
            Detector::Spike | Detector::Shift | Detector::Burst | Detector::Stay => 8,
        }
    }
}

/// What one detector found in a reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which detector found it.
    pub detector: Detector,
    /// How many times its threshold the statistic is: 1 or more, and finite.
    pub score: f64,
    /// The limit that is exceeded, or the value that is normal; `None` where there is no such number.
    pub expected: Option<f64>,
    /// Usual size of the deviation, in the unit of the value; `None` where the detector knows none.
    pub spread: Option<f64>,
    /// A phrase for people.
    pub reason: String,
}

/// What was found in one reading, and what else its judgement showed. A buffer that is used again for the next reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// In the order of [`Detector`].
    pub list: Vec<Finding>,
    /// Measured long before it was received: it is recorded but raises no alert.
    pub late: bool,
    /// The highest severity that an alert of this series may have.
    pub severity_max: Severity,
    /// As `severity_max`, for alerts of limits: a configured limit may allow more.
    pub limit_severity_max: Severity,
    /// The value is possible: neither infinite, `NaN`, far too large, nor a sensor's code for its own failure.
    pub is_usable: bool,
    /// The value was compared with what is usual for its series.
    pub is_judged: bool,
    /// There was a learned level to compare the value with.
    pub has_level: bool,
    /// Its series may have an alert that is raised.
    pub series_may_have_alert: bool,
    /// Its device as a whole may have an alert that is raised.
    pub device_may_have_alert: bool,
    /// How often the series is heard; `None` if it is not watched.
    pub rhythm: Option<Rhythm>,
    /// How well the series is known; `None` if it is not watched.
    pub maturity: Option<Maturity>,
    /// The gravest of the limits that raise an alert now. `None` while all that are exceeded have to be exceeded for longer first.
    pub limit: Option<Exceeded>,
    /// Limits that raise an alert now, a bit each, by their order in the metric's configuration.
    pub due_limits: u64,
    /// Limits within whose clearing bounds the value is not, a bit each.
    pub uncleared_limits: u64,
}

impl Default for Findings {
    fn default() -> Self {
        Findings {
            list: Vec::new(),
            late: false,
            severity_max: Severity::Critical,
            limit_severity_max: Severity::Critical,
            is_usable: false,
            is_judged: false,
            has_level: false,
            series_may_have_alert: false,
            device_may_have_alert: false,
            rhythm: None,
            maturity: None,
            limit: None,
            due_limits: 0,
            uncleared_limits: 0,
        }
    }
}

impl Findings {
    /// How severe a finding is; `None` if it raises no alert now: of a late reading, or of a limit that has to be exceeded for longer first.
    pub fn weight_of(&self, finding: &Finding) -> Option<Weight> {
        if self.late {
            return None;
        }
        match finding.detector {
            Detector::Limit => {
                let severity = self.limit?.severity;
                Some(Weight { severity, severity_max: self.limit_severity_max })
            }
            detector => {
                let of_maturity = |maturity: Maturity| maturity.severity_max(detector, finding.score);
                let severity_max = self.maturity.map_or(self.severity_max, of_maturity).min(self.severity_max);
                Some(Weight { severity: Severity::of_score(finding.score), severity_max })
            }
        }
    }
}

/// What the detectors say of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not watched: the metric's profile is `off`, or there are too many series.
    Unwatched,
    /// It was not judged: it is a repeat, or nothing confirms its time yet.
    Unjudged,
    /// Too little has been learned of the series for a judgement.
    WarmingUp,
    /// Nothing was found.
    Normal,
    /// At least one finding.
    Anomalous,
}

fn side(distance: f64) -> &'static str {
    if distance < 0.0 { "below" } else { "above" }
}

/// Four significant digits, for a reason that people read.
pub(crate) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e9).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let digits = if magnitude == 0.0 { 0 } else { (3 - magnitude.log10().floor() as i32).clamp(0, 9) };
    let text = format!("{value:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// To as many digits.
pub(super) fn rounded(value: f64) -> f64 {
    short(value).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_minor_unless_it_is_exceptional() {
        use Severity::{Critical, Major, Minor, Warning};
        let [new, learning, known] = [Maturity::New, Maturity::Learning, Maturity::Known].map(Some);
        // Detector, score, bound of the profile, maturity; the severity alone and in company.
        for (detector, score, severity_max, maturity, expected) in [
            (Detector::Spike, 1.1, Critical, new, (Warning, Minor)),
            (Detector::Shift, 1.3, Critical, new, (Minor, Minor)),
            (Detector::Burst, 11.9, Critical, new, (Minor, Minor)),
            (Detector::Spike, 11.9, Critical, learning, (Minor, Minor)),
            (Detector::Spike, 12.0, Critical, learning, (Critical, Critical)),
            (Detector::Stuck, 12.0, Critical, learning, (Minor, Minor)),
            (Detector::Spike, 12.0, Warning, learning, (Warning, Warning)),
            (Detector::Spike, 1.1, Critical, known, (Warning, Minor)),
            (Detector::Stuck, 1.6, Critical, known, (Major, Critical)),
            (Detector::Shift, 1.6, Major, known, (Major, Major)),
            (Detector::Shift, 1.6, Critical, None, (Major, Critical)),
        ] {
            let findings = Findings { severity_max, maturity, ..Findings::default() };
            let finding = Finding { detector, score, expected: None, spread: None, reason: String::new() };
            let weight = findings.weight_of(&finding).expect("it raises an alert");
            assert_eq!((weight.alone(), weight.in_company()), expected, "{detector:?} {score} {maturity:?}");
        }
    }

    #[test]
    fn limits_are_as_severe_as_was_said_however_little_is_known() {
        let finding =
            Finding { detector: Detector::Limit, score: 1.0, expected: None, spread: None, reason: String::new() };
        let limit = Some(Exceeded { severity: Severity::Critical, score: 1.0, bound: None });
        let findings = Findings { limit, maturity: Some(Maturity::New), ..Findings::default() };
        assert_eq!(findings.weight_of(&finding), Some(Weight::just(Severity::Critical)));
        let waits = Findings { limit: None, ..findings.clone() };
        let late = Findings { late: true, ..findings };
        assert_eq!([waits.weight_of(&finding), late.weight_of(&finding)], [None, None]);
    }

    #[test]
    fn numbers_for_people_are_short() {
        let texts = [0.0, 3.0, 22.123456, -0.012346, 123456.7, 1e12, 1e-9].map(short);
        assert_eq!(texts, ["0", "3", "22.12", "-0.01235", "123457", "1.000e12", "1.000e-9"]);
    }
}

//! The detectors that watch a series, and what they find.
//!
//! Pure: time comes with the reading. [`series`] is the state of one series, [`profile`] how sensitive it is by its metric's name,
//! [`state`] how it is kept across a restart.

mod frozen;
pub mod hold;
pub mod limit;
mod pace;
pub mod profile;
pub mod series;
mod shift;
mod spread;
pub mod state;
mod stuck;

use crate::core::detection::severity::Severity;
use crate::core::detection::silence::Rhythm;
use limit::Exceeded;

/// In the order in which findings of one reading are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    Limit,
    Gap,
    Spike,
    Shift,
    Burst,
    Stuck,
}

impl Detector {
    pub fn name(self) -> &'static str {
        match self {
            Detector::Limit => "limit",
            Detector::Gap => "gap",
            Detector::Spike => "spike",
            Detector::Shift => "shift",
            Detector::Burst => "burst",
            Detector::Stuck => "stuck",
        }
    }

    /// The kind of alert it raises: those that tell of the same trouble share one.
    pub const fn alert_kind(self) -> &'static str {
        match self {
            Detector::Limit => "limit",
            Detector::Gap => "gap",
            Detector::Stuck => "stuck",
            Detector::Spike | Detector::Shift | Detector::Burst => "anomaly",
        }
    }
}

/// Kinds of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Those of these findings.
    pub fn of(findings: &[Finding]) -> Kinds {
        findings.iter().fold(Kinds::default(), |kinds, finding| Kinds(kinds.0 | Kinds::bit(finding.detector)))
    }

    pub fn has(self, detector: Detector) -> bool {
        self.0 & Kinds::bit(detector) != 0
    }

    fn bit(detector: Detector) -> u8 {
        match detector {
            Detector::Limit => 1,
            Detector::Gap => 2,
            Detector::Stuck => 4,
            Detector::Spike | Detector::Shift | Detector::Burst => 8,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub detector: Detector,
    /// Statistic by threshold: 1 is the line. Finite.
    pub score: f64,
    pub expected: Option<f64>,
    pub spread: Option<f64>,
    pub reason: String,
}

/// What was found in one reading; a buffer to use again for the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// In the order of [`Detector`].
    pub list: Vec<Finding>,
    /// Measured long before it was received: it is recorded, and raises no alert.
    pub late: bool,
    /// No alert of this series is more severe; but for that of a limit, which may have been set.
    pub severity_max: Severity,
    pub limit_severity_max: Severity,
    /// Its value can be one, and was held against what is usual.
    pub is_usable: bool,
    pub is_judged: bool,
    /// There is a level that it was held against.
    pub has_level: bool,
    /// Its series, or its device as a whole, may have an alert that is raised.
    pub series_may_have_alert: bool,
    pub device_may_have_alert: bool,
    /// Of its series, if that is watched.
    pub rhythm: Option<Rhythm>,
    /// The gravest of the limits that are exceeded and raise an alert now; nothing while all of them wait.
    pub limit: Option<Exceeded>,
    /// All that raise one now, and all within whose clearing bounds the value is not; a bit each.
    pub due_limits: u64,
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
            limit: None,
            due_limits: 0,
            uncleared_limits: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The metric's profile is `off`, or there are too many series.
    Unwatched,
    /// A repeat, or of a time that nothing confirms yet.
    Unjudged,
    WarmingUp,
    Normal,
    /// At least one finding.
    Anomalous,
}

fn side(distance: f64) -> &'static str {
    if distance < 0.0 { "below" } else { "above" }
}

/// Four significant digits, for a reason that people read.
pub(super) fn short(value: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_for_people_are_short() {
        let texts = [0.0, 3.0, 22.123456, -0.012346, 123456.7, 1e12, 1e-9].map(short);
        assert_eq!(texts, ["0", "3", "22.12", "-0.01235", "123457", "1.000e12", "1.000e-9"]);
    }
}

//! How bad it is.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Minor,
    Major,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Warning, Severity::Minor, Severity::Major, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }

    /// The next one.
    pub fn worse(self) -> Severity {
        match self {
            Severity::Warning => Severity::Minor,
            Severity::Minor => Severity::Major,
            Severity::Major | Severity::Critical => Severity::Critical,
        }
    }

    /// By how far over its line a statistic is.
    pub fn of_score(score: f64) -> Severity {
        match score {
            s if s < 1.2 => Severity::Warning,
            s if s < 1.5 => Severity::Minor,
            s if s < 4.0 => Severity::Major,
            _ => Severity::Critical,
        }
    }
}

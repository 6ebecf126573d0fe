//! How severe an alert is.

use serde::{Deserialize, Serialize};

/// How severe an alert is; the least severe is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Unusual, and perhaps nothing.
    Warning,
    /// To be looked at some time.
    Minor,
    /// To be looked at soon.
    Major,
    /// To be looked at immediately.
    Critical,
}

impl Severity {
    /// From the least severe to the most severe.
    pub const ALL: [Severity; 4] = [Severity::Warning, Severity::Minor, Severity::Major, Severity::Critical];

    /// As it is written in records and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }

    /// One step more severe; `Critical` stays as it is.
    pub fn worse(self) -> Severity {
        match self {
            Severity::Warning => Severity::Minor,
            Severity::Minor => Severity::Major,
            Severity::Major | Severity::Critical => Severity::Critical,
        }
    }

    /// For a score, which is how many times its threshold a statistic is.
    pub fn of_score(score: f64) -> Severity {
        match score {
            s if s < 1.2 => Severity::Warning,
            s if s < 1.5 => Severity::Minor,
            s if s < 4.0 => Severity::Major,
            _ => Severity::Critical,
        }
    }
}

/// How severe a finding is, and how severe whatever else is wrong with its device may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Of the finding by itself, but for the bound.
    pub severity: Severity,
    /// Never more than this.
    pub severity_max: Severity,
}

impl Weight {
    /// Just this severity, whatever the company.
    pub fn just(severity: Severity) -> Weight {
        Weight { severity, severity_max: severity }
    }

    /// The severity where nothing else is wrong.
    pub fn alone(self) -> Severity {
        self.severity.min(self.severity_max)
    }

    /// The severity where another series of the device is in trouble, too.
    pub fn in_company(self) -> Severity {
        self.severity.worse().min(self.severity_max)
    }
}

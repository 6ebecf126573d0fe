//! What a check of the installation has found, and what to do about it. For `outrider doctor`, and for parts that know best themselves whether
//! they can work.

use serde::Serialize;

/// How it is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Well,
    /// It could not be looked at, or does not apply.
    Skipped,
    /// It works, and may not for long, or not as it was meant.
    Warning,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// In one line.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn well(found: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Well, found: found.into(), remedy: None }
    }

    pub fn skipped(found: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Skipped, found: found.into(), remedy: None }
    }

    pub fn warning(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    pub fn bad(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }
}

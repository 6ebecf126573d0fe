//! What people say of an alert beyond having seen it, and what comes of that.

use std::fmt;

/// What a person says of the trouble that a detector told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Normal,
    Fault,
}

impl Said {
    pub fn of(is_normal: bool) -> Said {
        if is_normal { Said::Normal } else { Said::Fault }
    }
}

/// What came of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It says nothing but that the alert was seen.
    Unasked,
    /// What the alert is about is usual from now on.
    Normal,
    /// What the alert is about is not learned from.
    Fault,
    /// Alerts of this kind are not raised by what was learned.
    NotOfKind,
    /// The detectors know nothing more of what the alert is about, or their baseline is frozen.
    Unknown,
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lesson::Unasked => "acknowledged",
            Lesson::Normal => "acknowledged; from now on this counts as normal",
            Lesson::Fault => "acknowledged; nothing is learned from this fault",
            Lesson::NotOfKind => "acknowledged; nothing is learned from alerts of this kind",
            Lesson::Unknown => {
                "acknowledged; nothing is learned: the detectors know nothing more of it, or compare it with a fixed baseline"
            }
        })
    }
}

//! One alert of the book, and where it is in its life.

use crate::detection::alert::hearing::Hearing;
use crate::detection::alert::{Alert, ClearedReason, Flag, Holder, Moment, OVER_AFTER_MS, Severity, State};
use crate::detection::detectors::Detector;

/// The kind of an alert whose expected value is a bound.
pub(super) const LIMIT: &str = Detector::Limit.alert_kind();

/// Where an alert is in its life; steady times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Raised, until its series is well again.
    Raised,
    /// Raised by the gateway itself, and over unless it is reported again before this time; [`u64::MAX`] until a person has seen it.
    Reported {
        until_ms: u64,
    },
    Cleared {
        since_ms: u64,
    },
    /// Its message is removed; that it was there is remembered.
    Gone {
        since_ms: u64,
    },
}

impl Phase {
    pub(super) fn reported(stays: bool, now: Moment) -> Phase {
        Phase::Reported { until_ms: if stays { u64::MAX } else { now.steady_ms + OVER_AFTER_MS } }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) alert: Alert,
    pub(super) phase: Phase,
    pub(super) changed_ms: u64,
    pub(super) hearing: Hearing,
    pub(super) holder: Holder,
}

impl Entry {
    pub(super) fn is_raised(&self) -> bool {
        matches!(self.phase, Phase::Raised | Phase::Reported { .. })
    }

    pub(super) fn clear(&mut self, now: Moment, reason: Option<ClearedReason>) {
        self.alert.cleared_reason = reason;
        self.alert.stale_since_ms = None;
        self.alert.state = State::Cleared;
        self.alert.cleared_at_ms = Some(now.wall_ms);
        self.change(now);
        self.phase = Phase::Cleared { since_ms: now.steady_ms };
    }

    /// Takes note that it was flagged again. Returns whether that makes a new revision now.
    pub(super) fn update(&mut self, now: Moment, flag: &Flag<'_>, severity: Severity, every_ms: u64) -> bool {
        let alert = &mut self.alert;
        alert.count += 1;
        alert.maturity = flag.maturity;
        if !flag.is_pending && is_graver(alert, flag, severity) {
            alert.value = flag.value;
            alert.text = flag.text.map(str::to_owned).or(alert.text.take());
            alert.expected = if flag.kind == LIMIT { flag.expected } else { alert.expected.or(flag.expected) };
        }
        alert.score = if flag.is_pending { alert.score } else { alert.score.max(flag.score) };
        let mut news = alert.stale_since_ms.take().is_some();
        for name in flag.detectors {
            if alert.detectors.iter().all(|known| known != name) {
                alert.detectors.push((*name).to_owned());
                news = true;
            }
        }
        if severity > alert.severity && !flag.is_pending {
            alert.severity = severity;
            news = true;
        }
        if !news && now.steady_ms < self.changed_ms + every_ms {
            return false;
        }
        self.change(now);
        true
    }

    pub(super) fn change(&mut self, now: Moment) {
        self.alert.revision += 1;
        self.alert.updated_at_ms = now.wall_ms;
        self.changed_ms = now.steady_ms;
    }
}

/// Whether the alert should show this reading rather than the one that it shows: the one that is furthest from what was normal before the
/// trouble, or furthest beyond a limit. Otherwise, on the way back, the trouble itself would seem to have been normal.
fn is_graver(alert: &Alert, flag: &Flag<'_>, severity: Severity) -> bool {
    match alert.expected {
        _ if flag.kind == LIMIT && severity != alert.severity => severity > alert.severity,
        _ if flag.kind == LIMIT => flag.score >= alert.score,
        Some(expected) => (flag.value - expected).abs() >= (alert.value - expected).abs(),
        None => true,
    }
}

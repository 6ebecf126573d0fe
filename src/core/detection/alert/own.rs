//! The gateway's own alerts, `alerts/_gateway/{what}/gateway`: what is wrong with the gateway itself.
//!
//! Whoever notices a trouble reports it, and again for as long as it lasts: an alert that nobody has reported for a minute is over. So
//! nobody has to report the end, and a trouble that comes and goes is one alert.

use std::borrow::Cow;

use super::{AlertKey, Severity};
use crate::detection::devices::DEVICE_METRIC;

/// The gateway as a device of its own.
pub const GATEWAY_DEVICE: &str = "_gateway";
/// The kind of its own alerts.
pub const GATEWAY_KIND: &str = "gateway";
/// Metric of an alert that a rule raises for a device as a whole.
pub const RULE_METRIC: &str = "_rule";

/// Whether alerts of this device could be mistaken for the gateway's own.
pub fn is_own_device(device: &str) -> bool {
    device == GATEWAY_DEVICE
}

/// Whether alerts of this metric could be mistaken for those about a device as a whole.
pub fn is_own_metric(metric: &str) -> bool {
    matches!(metric, DEVICE_METRIC | RULE_METRIC)
}

/// A trouble that is not reported for so long is over.
pub const OVER_AFTER_MS: u64 = 60_000;
/// A trouble that lasts need not be reported more often than this.
pub const REPORT_EVERY_MS: u64 = 5_000;

/// What can be wrong with the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// There are more series than are watched, or one client or device has more than its share.
    Series,
    /// Alerts were not raised because there are too many.
    Alerts,
    /// Sessions, filters or queues of subscribers had to give way.
    Sessions,
    /// Publishes with numbers at QoS 1 or 2 are stored nowhere.
    Unrouted,
    /// Clients are turned away, or may not do what they ask for.
    Denied,
    /// The store takes no readings, or loses some to make room.
    Store,
    /// The disk answers with errors, or not at all.
    Disk,
    /// Records were lost to damage.
    Damage,
    /// A clock jumped, or devices have clocks that cannot be true.
    Clock,
    /// A thread does not respond.
    Stalled,
    /// Rules that were loaded again are wrong, and those before stay in force; or rules take much of the processor.
    Rules,
    /// A certificate of a listener, given by its name, is about to expire, or new files of it are wrong.
    Certificate(String),
    /// A certificate of the administration interface is about to expire, or new files of it are wrong.
    Admin,
    /// A sink, given by its name, fails.
    Sink(String),
    /// A bridge, given by its name, has had no connection for long.
    Bridge(String),
}

impl Trouble {
    /// Its level of the alert's topic, not percent-encoded.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Trouble::Series => "series",
            Trouble::Alerts => "alerts",
            Trouble::Sessions => "sessions",
            Trouble::Unrouted => "unrouted",
            Trouble::Denied => "denied",
            Trouble::Store => "store",
            Trouble::Disk => "disk",
            Trouble::Damage => "damage",
            Trouble::Clock => "clock",
            Trouble::Stalled => "stalled",
            Trouble::Rules => "rules",
            Trouble::Admin => "admin",
            Trouble::Certificate(listener) => return Cow::Owned(format!("certificate-{listener}")),
            Trouble::Sink(name) => return Cow::Owned(format!("sink-{name}")),
            Trouble::Bridge(name) => return Cow::Owned(format!("bridge-{name}")),
        })
    }

    /// Of the alert that it raises.
    pub fn severity(&self) -> Severity {
        match self {
            Trouble::Clock | Trouble::Denied => Severity::Warning,
            Trouble::Series
            | Trouble::Sessions
            | Trouble::Unrouted
            | Trouble::Rules
            | Trouble::Certificate(_)
            | Trouble::Admin
            | Trouble::Sink(_)
            | Trouble::Bridge(_) => Severity::Minor,
            Trouble::Alerts | Trouble::Store | Trouble::Damage => Severity::Major,
            Trouble::Disk | Trouble::Stalled => Severity::Critical,
        }
    }

    /// Whether its alert stays until a person has seen it, because something was lost.
    pub fn stays(&self) -> bool {
        matches!(self, Trouble::Alerts | Trouble::Damage)
    }

    /// The alert that reports of this trouble raise.
    pub fn key(&self) -> AlertKey {
        AlertKey { device: GATEWAY_DEVICE.to_owned(), metric: self.name().into_owned(), kind: GATEWAY_KIND.to_owned() }
    }
}

/// A trouble that is there now, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is wrong.
    pub trouble: Trouble,
    /// The alert's message.
    pub text: String,
}

impl Report {
    /// A report to be given to the pipeline.
    pub fn new(trouble: Trouble, text: impl Into<String>) -> Report {
        Report { trouble, text: text.into() }
    }
}

/// Limits how often a trouble is reported that may be noticed a thousand times a second.
#[derive(Clone, Debug, Default)]
pub struct ReportPacer {
    reported: Vec<(Trouble, u64)>,
}

impl ReportPacer {
    /// Whether it is time to report this trouble (again); by a steady clock.
    pub fn is_due(&mut self, trouble: &Trouble, now_ms: u64) -> bool {
        match self.reported.iter_mut().find(|(known, _)| known == trouble) {
            Some((_, last_ms)) if now_ms < *last_ms + REPORT_EVERY_MS => false,
            Some((_, last_ms)) => {
                *last_ms = now_ms;
                true
            }
            None => {
                self.reported.push((trouble.clone(), now_ms));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_reported_at_once_and_then_every_five_seconds() {
        let mut pacer = ReportPacer::default();
        assert!(pacer.is_due(&Trouble::Disk, 7) && !pacer.is_due(&Trouble::Disk, 5_006));
        assert!(pacer.is_due(&Trouble::Sink("a".into()), 8) && pacer.is_due(&Trouble::Sink("b".into()), 8));
        assert!(pacer.is_due(&Trouble::Disk, 5_007) && !pacer.is_due(&Trouble::Disk, 5_008));
    }
}

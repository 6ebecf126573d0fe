//! Alerts: raised by a flagged reading, updated, cleared by good readings, and gone a while later.
//!
//! The book decides; that its changes are stored, sent on the second stream and published is the pipeline's work. An alert's id comes
//! from what raised it, so a repeat is recognisable.

mod acknowledgement;
mod book;
mod hearing;
mod own;
mod record;
mod shares;

pub use acknowledgement::{BY_BYTES_MAX, ByError, read_by};
pub use book::snapshot::VERSION as ALERTS_VERSION;
pub use book::{AlertBook, AlertTimes, Heard};
pub use own::{
    GATEWAY_DEVICE, GATEWAY_KIND, OVER_AFTER_MS, REPORT_EVERY_MS, Report, ReportPacer, Trouble, is_own_device,
    is_own_metric,
};
pub use record::{STORED, UNSTORED, read_alert, write_alert};
pub use shares::{ALERTS_MAX, Holder};

use serde::{Deserialize, Serialize};

use super::detectors::Detector;
use super::devices::DEVICE_METRIC;
pub use super::severity::Severity;
use super::silence::Rhythm;
use crate::core::identity::RunId;

/// A moment on two clocks: the wall's for people, the steady one for durations, which no clock setting changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall_ms: i64,
    pub steady_ms: u64,
}

impl Moment {
    /// The steady clock, for who counts back beyond its start.
    pub fn signed_steady_ms(self) -> i64 {
        i64::try_from(self.steady_ms).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Raised,
    Cleared,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Raised => "raised",
            State::Cleared => "cleared",
        }
    }
}

/// Which alert: its topic is `alerts/{device}/{metric}/{kind}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlertKey {
    pub device: String,
    pub metric: String,
    pub kind: String,
}

/// An alert as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: String,
    pub revision: u32,
    pub state: State,
    pub severity: Severity,
    pub detectors: Vec<String>,
    pub value: f64,
    pub expected: Option<f64>,
    pub score: f64,
    pub raised_at_ms: i64,
    pub updated_at_ms: i64,
    pub cleared_at_ms: Option<i64>,
    pub count: u64,
    pub acknowledged_by: Option<String>,
    /// Where it was not cleared by good readings.
    pub cleared_reason: Option<ClearedReason>,
    /// Raised, and its series is silent: when it was heard last.
    pub stale_since_ms: Option<i64>,
    /// How often it has been back before it was forgotten.
    pub returns: u32,
    /// Its message, where that does not follow from the rest: of the gateway's own alerts, and where the trouble became the new normal.
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClearedReason {
    /// Silent for so long that nobody waits for it any more. It was `expired` when a day was enough.
    #[serde(alias = "expired")]
    Forgotten,
    /// The limit, rule or profile that raised it is no longer configured.
    Configuration,
    Operator,
    /// There were too many alerts, or series, and others mattered more: what raised it may be there still.
    Displaced,
}

impl ClearedReason {
    pub fn name(self) -> &'static str {
        match self {
            ClearedReason::Forgotten => "forgotten",
            ClearedReason::Configuration => "configuration",
            ClearedReason::Operator => "operator",
            ClearedReason::Displaced => "displaced",
        }
    }
}

/// Back so often, an alert needs good readings for longer, and is said to come and go.
const FLAPPING_RETURNS: u32 = 1;
const COMES_AND_GOES: &str = "; it comes and goes";
const RESOLVED: &str = "resolved: ";
const ANOMALY: &str = Detector::Shift.alert_kind();

/// A reading that an alert is about, or a silence.
#[derive(Clone, Copy, Debug)]
pub struct Flag<'a> {
    pub device: &'a str,
    pub metric: &'a str,
    pub kind: &'a str,
    pub detectors: &'a [&'a str],
    pub severity: Severity,
    /// Whatever else is wrong with the device.
    pub severity_max: Severity,
    pub value: f64,
    pub expected: Option<f64>,
    pub score: f64,
    /// Identity of the raw reading, or of the record of the silence.
    pub run: RunId,
    pub position: u64,
    /// A silence, or of the gateway itself: what else is wrong with the device makes it no graver.
    pub is_held: bool,
    /// When the series was heard last, and how often it usually is, where that is known.
    pub rhythm: Option<Rhythm>,
    /// Limits that are exceeded, a bit each.
    pub limits: u64,
    /// A limit that has not been exceeded for long enough yet: it raises nothing, but nothing clears meanwhile.
    pub is_pending: bool,
    pub holder: Holder,
}

/// What became of an alert; without one it is gone, and its retained message with it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    pub key: AlertKey,
    pub what: What,
    pub alert: Option<Alert>,
}

/// What has changed about an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Raised,
    /// More severe than it was.
    Escalated,
    Updated,
    Stale,
    Acknowledged,
    Cleared,
    Gone,
}

impl What {
    /// Whether that is a change of its state, and not only of what is known of it.
    pub fn is_news(self) -> bool {
        !matches!(self, What::Updated | What::Gone)
    }

    pub fn name(self) -> &'static str {
        match self {
            What::Raised => "raised",
            What::Escalated => "more severe",
            What::Updated => "updated",
            What::Stale => "stale",
            What::Acknowledged => "acknowledged",
            What::Cleared => "cleared",
            What::Gone => "removed",
        }
    }
}

/// A change of an alert's state, in words for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertNews {
    pub what: What,
    pub severity: Severity,
    pub key: AlertKey,
    pub text: String,
}

impl AlertNews {
    pub fn new(what: What, key: &AlertKey, alert: &Alert) -> AlertNews {
        let message = message(key, alert);
        let text = match (what, &alert.acknowledged_by) {
            (What::Acknowledged, Some(by)) => format!("{message} (by {by})"),
            _ => message,
        };
        AlertNews { what, severity: alert.severity, key: key.clone(), text }
    }

    pub fn name(&self) -> String {
        let AlertKey { device, metric, kind } = &self.key;
        format!("{device}/{metric}/{kind}")
    }
}

impl Alert {
    fn raised(gateway: &str, now: Moment, flag: &Flag<'_>, severity: Severity) -> Alert {
        Alert {
            id: alert_id(gateway, flag),
            revision: 1,
            state: State::Raised,
            severity,
            detectors: flag.detectors.iter().map(|name| (*name).to_owned()).collect(),
            value: flag.value,
            expected: flag.expected,
            score: flag.score,
            raised_at_ms: now.wall_ms,
            updated_at_ms: now.wall_ms,
            cleared_at_ms: None,
            count: 1,
            acknowledged_by: None,
            cleared_reason: None,
            stale_since_ms: None,
            returns: 0,
            text: None,
        }
    }
}

/// The same for the same reading, whoever computes it: FNV-1a over what raised it.
fn alert_id(gateway: &str, flag: &Flag<'_>) -> String {
    let position = flag.position.to_le_bytes();
    let parts: [&[u8]; 6] = [
        gateway.as_bytes(),
        &flag.run.0,
        flag.device.as_bytes(),
        flag.metric.as_bytes(),
        flag.kind.as_bytes(),
        &position,
    ];
    let hash = |basis: u64| {
        let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
        bytes.fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    format!("{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4))
}

/// What an alert is about, in words.
pub fn message(key: &AlertKey, alert: &Alert) -> String {
    let comes_and_goes = if alert.returns >= FLAPPING_RETURNS { COMES_AND_GOES } else { "" };
    let silent = if alert.stale_since_ms.is_some() { "; no data now" } else { "" };
    let what = match (alert.state, alert.cleared_reason) {
        (State::Raised, _) => raised(key, alert),
        (State::Cleared, Some(reason)) => cleared_because(key, alert, reason),
        (State::Cleared, None) => cleared(key, alert),
    };
    format!("{what}{silent}{comes_and_goes}")
}

fn raised(key: &AlertKey, alert: &Alert) -> String {
    let subject = subject(key);
    if let Some(text) = &alert.text {
        return text.clone();
    }
    if key.kind == Detector::Gap.alert_kind() {
        return format!("no data from {subject}");
    }
    let value = if alert.value.is_finite() { round(alert.value) } else { "not a number".to_owned() };
    match alert.expected {
        Some(bound) if key.kind == Detector::Limit.alert_kind() => {
            format!("{subject} is {value}; the limit is {}", round(bound))
        }
        Some(expected) => format!("{subject} is {value}; {} was normal", round(expected)),
        None => format!("{subject} is {value}"),
    }
}

fn cleared(key: &AlertKey, alert: &Alert) -> String {
    match key.kind.as_str() {
        GATEWAY_KIND => format!("{RESOLVED}{}", alert.text.as_deref().unwrap_or(&key.metric)),
        kind if kind == Detector::Gap.alert_kind() => format!("{} is reporting again", subject(key)),
        _ => alert.text.clone().unwrap_or_else(|| format!("{} is back to normal", subject(key))),
    }
}

/// What is told of an anomaly that clears at this value: nothing of its own, unless it is nearer to the trouble than to what was normal.
fn new_normal(key: &AlertKey, alert: &Alert, value: f64) -> Option<String> {
    let expected = alert.expected.filter(|_| key.kind == ANOMALY)?;
    let is_new = (value - expected).abs() > (value - alert.value).abs();
    is_new.then(|| format!("{} stays at {}; {} was normal before", subject(key), round(value), round(expected)))
}

fn cleared_because(key: &AlertKey, alert: &Alert, reason: ClearedReason) -> String {
    let what = match &alert.text {
        Some(text) => text.clone(),
        None => subject(key),
    };
    match reason {
        ClearedReason::Forgotten => format!("{what}: no longer waited for"),
        ClearedReason::Configuration => format!("{what}: no longer watched for this, by the configuration"),
        ClearedReason::Operator => format!("{what}: cleared by an operator"),
        ClearedReason::Displaced => format!("{what}: no longer followed, because there are too many alerts or series"),
    }
}

/// A series, or a device as a whole.
fn subject(key: &AlertKey) -> String {
    match key.metric.as_str() {
        DEVICE_METRIC => key.device.clone(),
        metric => format!("{metric} of {}", key.device),
    }
}

/// To a thousandth, without zeros at the end: enough for people.
fn round(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

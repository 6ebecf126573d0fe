//! Alerts: raised by a flagged reading, updated, cleared by good readings, and gone a while later.
//!
//! The book decides; the pipeline stores its changes, sends them on the second stream and publishes them. An alert's id follows from what
//! raised it, so a repeat is recognisable.

mod acknowledgement;
mod book;
mod company;
mod hearing;
mod own;
mod record;
mod shares;

pub use acknowledgement::{Acknowledgement, BY_BYTES_MAX, ByError, read_acknowledgement};
pub use book::snapshot::VERSION as ALERTS_VERSION;
pub use book::{AlertBook, AlertTimes, Heard};
pub use company::Company;
pub use own::{
    GATEWAY_DEVICE, GATEWAY_KIND, OVER_AFTER_MS, REPORT_EVERY_MS, RULE_METRIC, Report, ReportPacer, Trouble,
    is_own_device, is_own_metric,
};
pub use record::{STORED, UNSTORED, read_alert, write_alert};
pub use shares::{ALERTS_MAX, Holder};

use serde::{Deserialize, Serialize};

use super::detectors::Detector;
use super::detectors::maturity::Maturity;
use super::devices::DEVICE_METRIC;
pub use super::severity::{Severity, Weight};
use super::silence::Rhythm;
use crate::fnv;
use crate::identity::RunId;

/// A moment on two clocks: the wall clock for people, and the steady clock for durations, which setting the wall clock does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970 (UTC), by the gateway's clock.
    pub wall_ms: i64,
    /// Milliseconds of a clock that is never set. Only differences mean anything.
    pub steady_ms: u64,
}

impl Moment {
    /// The steady time as a signed number, so that times before the clock's start can be computed.
    pub fn signed_steady_ms(self) -> i64 {
        i64::try_from(self.steady_ms).unwrap_or(i64::MAX)
    }
}

/// Whether the trouble still goes on, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The trouble is there, or nothing has shown since that it is over.
    Raised,
    /// Over; kept for a while before it is removed.
    Cleared,
}

impl State {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            State::Raised => "raised",
            State::Cleared => "cleared",
        }
    }
}

/// Identifies an alert: its topic is `alerts/{device}/{metric}/{kind}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlertKey {
    /// `_gateway` for the gateway's own alerts.
    pub device: String,
    /// `_device` if the alert is about a device as a whole; the name of the trouble for the gateway's own alerts.
    pub metric: String,
    /// What kind of trouble it is, see [`Detector::alert_kind`]; [`GATEWAY_KIND`] for the gateway's own alerts.
    pub kind: String,
}

/// An alert as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// 32 hexadecimal digits that follow from what raised it.
    pub id: String,
    /// 1 when it is raised; one more with each change that is told.
    pub revision: u32,
    /// Raised or cleared.
    pub state: State,
    /// The highest since it was raised.
    pub severity: Severity,
    /// Names of the detectors that have flagged it, in the order in which they first did.
    pub detectors: Vec<String>,
    /// The worst value so far. `NaN` if the alert is not about a value: of silences and of the gateway's own alerts.
    pub value: f64,
    /// The limit that is exceeded, or what was normal before. `None` where there is no such number.
    pub expected: Option<f64>,
    /// The highest so far; 1 means just at the threshold.
    pub score: f64,
    /// By the gateway's clock, in milliseconds since 1970 (UTC), as the other times.
    pub raised_at_ms: i64,
    /// When `revision` last changed.
    pub updated_at_ms: i64,
    /// `None` while it is raised.
    pub cleared_at_ms: Option<i64>,
    /// How often it was flagged or reported since it was raised; 1 at first.
    pub count: u64,
    /// Name of the person who acknowledged it last; `None` if nobody has.
    pub acknowledged_by: Option<String>,
    /// Whether a person calls it normal, or a fault; `None` if nobody has said.
    pub normal: Option<bool>,
    /// Why it was cleared, if neither good readings nor the end of the gateway's own trouble did it.
    pub cleared_reason: Option<ClearedReason>,
    /// Set while it is raised and its series is silent: when the series was last heard.
    pub stale_since_ms: Option<i64>,
    /// How well its series was known when it was last flagged; `None` of kinds that do not depend on that.
    pub maturity: Option<Maturity>,
    /// How often it was raised again before the earlier time was forgotten; 0 the first time.
    pub returns: u32,
    /// Its message, where that does not follow from the rest: of the gateway's own alerts, of those of rules, and of an anomaly that has
    /// become the new normal.
    pub text: Option<String>,
}

/// Why an alert was cleared without good readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClearedReason {
    /// The series was silent for longer than anybody waits for it. Stores of earlier versions call it `expired`.
    #[serde(alias = "expired")]
    Forgotten,
    /// The limit, rule or profile that raised it is no longer configured.
    Configuration,
    /// A person cleared it, or had its series forgotten.
    Operator,
    /// There were too many alerts or series, and others mattered more: the trouble may still be there.
    Displaced,
}

impl ClearedReason {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            ClearedReason::Forgotten => "forgotten",
            ClearedReason::Configuration => "configuration",
            ClearedReason::Operator => "operator",
            ClearedReason::Displaced => "displaced",
        }
    }
}

/// From so many returns on, an alert says that it comes and goes.
const FLAPPING_RETURNS: u32 = 1;
const COMES_AND_GOES: &str = "; it comes and goes";
const RESOLVED: &str = "resolved: ";
const ANOMALY: &str = Detector::Shift.alert_kind();

/// A reading that an alert is about, or a silence.
#[derive(Clone, Copy, Debug)]
pub struct Flag<'a> {
    /// As in [`AlertKey::device`].
    pub device: &'a str,
    /// As in [`AlertKey::metric`].
    pub metric: &'a str,
    /// As in [`AlertKey::kind`].
    pub kind: &'a str,
    /// Names of the detectors of this kind that found something; none for the gateway's own alerts.
    pub detectors: &'a [&'a str],
    /// What the finding alone is worth: the alert's may be one higher if another series of the device is in trouble too.
    pub weight: Weight,
    /// `NaN` if it is not about a value.
    pub value: f64,
    /// What a rule says of it.
    pub text: Option<&'a str>,
    /// As in [`Alert::expected`].
    pub expected: Option<f64>,
    /// How many times its threshold the statistic is.
    pub score: f64,
    /// Identity of the raw reading, or of the record of the silence: the run of the gateway.
    pub run: RunId,
    /// Within `run`.
    pub position: u64,
    /// Other trouble of the device does not raise the severity: of silences, and of the gateway's own alerts.
    pub is_held: bool,
    /// When the series was heard last, and how often it usually is, where that is known.
    pub rhythm: Option<Rhythm>,
    /// Limits that are exceeded: bit `n` is the metric's limit `n` in the order of the configuration.
    pub limits: u64,
    /// A limit is exceeded, but not yet for long enough: it raises no alert, and none that is raised clears meanwhile.
    pub is_pending: bool,
    /// How well the series is known, of kinds that depend on that.
    pub maturity: Option<Maturity>,
    /// Whose share of the places the alert takes.
    pub holder: Holder,
}

/// A change of an alert, to be stored and published. When the alert is gone, its retained message is to be removed.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    /// Which alert it is, also after it is gone.
    pub key: AlertKey,
    /// How it has changed.
    pub what: What,
    /// As it stands after the change; `None` if it is gone.
    pub alert: Option<Alert>,
}

/// What has changed about an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// New, or back after it was cleared.
    Raised,
    /// More severe than it was.
    Escalated,
    /// Neither state nor severity is another; something else is, such as the value, or it is no longer stale.
    Updated,
    /// Its series has fallen silent, so whether the trouble goes on is unknown.
    Stale,
    /// A person has seen it.
    Acknowledged,
    /// Over, see [`Alert::cleared_reason`].
    Cleared,
    /// Removed, a while after it was cleared.
    Gone,
}

impl What {
    /// Whether it is worth a line in a log: anything but an update or a removal.
    pub fn is_news(self) -> bool {
        !matches!(self, What::Updated | What::Gone)
    }

    /// In words, for a log.
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
    /// One for which [`What::is_news`] holds.
    pub what: What,
    /// After the change.
    pub severity: Severity,
    /// Which alert has changed.
    pub key: AlertKey,
    /// The alert's message, and for an acknowledgement who gave it.
    pub text: String,
}

impl AlertNews {
    /// `alert` is as it stands after the change.
    pub fn new(what: What, key: &AlertKey, alert: &Alert) -> AlertNews {
        let message = message(key, alert);
        let text = match (what, &alert.acknowledged_by) {
            (What::Acknowledged, Some(by)) => match alert.normal {
                None => format!("{message} (by {by})"),
                Some(true) => format!("{message} (by {by}: normal)"),
                Some(false) => format!("{message} (by {by}: a fault)"),
            },
            _ => message,
        };
        AlertNews { what, severity: alert.severity, key: key.clone(), text }
    }

    /// `{device}/{metric}/{kind}`, not percent-encoded.
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
            normal: None,
            cleared_reason: None,
            stale_since_ms: None,
            maturity: flag.maturity,
            returns: 0,
            text: flag.text.map(str::to_owned),
        }
    }
}

/// Whether alerts of this kind are those of a rule.
pub fn is_of_rule(kind: &str) -> bool {
    kind != GATEWAY_KIND && !Detector::ALERT_KINDS.contains(&kind)
}

/// An id that is the same for the same reading, whoever computes it: FNV-1a over what raised the alert.
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
    let hash = |basis: u64| parts.iter().fold(basis, |hash, part| fnv::fold(fnv::fold(hash, part), &[0xff]));
    format!("{:016x}{:016x}", hash(fnv::BASIS), hash(fnv::BASIS.rotate_left(32)))
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
        kind if is_of_rule(kind) => format!("{RESOLVED}{}", raised(key, alert)),
        kind if kind == Detector::Gap.alert_kind() => format!("{} is reporting again", subject(key)),
        _ => alert.text.clone().unwrap_or_else(|| format!("{} is back to normal", subject(key))),
    }
}

/// Message of an anomaly that clears at this value, if that is nearer to the trouble than to what was normal: the trouble is the new
/// normal.
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

/// What the alert of a rule says that has no message of its own.
pub fn rule_text(rule: &str, device: &str, metric: &str, value: f64) -> String {
    match metric == RULE_METRIC || !value.is_finite() {
        true => format!("{rule} of {device}"),
        false => format!("{metric} of {device} is {} ({rule})", round(value)),
    }
}

/// A series, or a device as a whole.
fn subject(key: &AlertKey) -> String {
    match key.metric.as_str() {
        DEVICE_METRIC | RULE_METRIC => key.device.clone(),
        metric => format!("{metric} of {}", key.device),
    }
}

/// To a thousandth, without zeros at the end: enough for people.
fn round(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

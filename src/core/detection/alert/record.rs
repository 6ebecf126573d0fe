//! An alert as a line: a record of the second stream, the body of its row, and its retained message.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ANOMALY, Alert, AlertKey, COMES_AND_GOES, ClearedReason, FLAPPING_RETURNS, GATEWAY_KIND, RESOLVED, Severity, State,
    is_of_rule, message,
};
use crate::detection::detectors::maturity::Maturity;
use crate::identity::RunId;
use crate::record;

/// End of the line of an alert that is stored, or is about to be.
pub const STORED: &[u8] = b",\"stored\":true}\n";
/// Like [`STORED`], of an alert that is not stored.
pub const UNSTORED: &[u8] = b",\"stored\":false}\n";

/// The fields behind those that every record begins with, in their order.
#[derive(Debug, Serialize, Deserialize)]
struct Fields {
    id: String,
    revision: u32,
    device: String,
    metric: String,
    kind: String,
    state: State,
    severity: Severity,
    detectors: Vec<String>,
    #[serde(with = "finite_or_null")]
    value: f64,
    expected: Option<f64>,
    #[serde(with = "finite_or_null")]
    score: f64,
    raised_at_ms: i64,
    updated_at_ms: i64,
    cleared_at_ms: Option<i64>,
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    normal: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cleared_reason: Option<ClearedReason>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_reading_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maturity: Option<Maturity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    returns: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flapping: Option<bool>,
    message: String,
    stored: bool,
}

/// JSON has no infinity and no NaN.
mod finite_or_null {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*number).filter(|number| number.is_finite()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Option::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
    }
}

/// Appends an alert as a line. `gateway` is the inside of a JSON string.
pub fn write_alert(out: &mut Vec<u8>, gateway: &str, run: RunId, position: u64, key: &AlertKey, alert: &Alert) {
    record::write_start(out, "alert", gateway, run, position);
    let joint = out.len();
    serde_json::to_writer(&mut *out, &Fields::of(key, alert))
        .expect("its fields are texts, numbers and lists of texts");
    // The record goes on with the fields: a comma takes the place of their opening brace.
    out[joint] = b',';
    out.push(b'\n');
    debug_assert!(out.ends_with(STORED));
}

/// Reads back what [`write_alert`] wrote; `None` if it is something else.
pub fn read_alert(line: &[u8]) -> Option<(AlertKey, Alert)> {
    serde_json::from_slice(line).ok().map(Fields::into_alert)
}

impl Fields {
    fn of(key: &AlertKey, alert: &Alert) -> Fields {
        let returns = Some(alert.returns).filter(|returns| *returns > 0);
        Fields {
            id: alert.id.clone(),
            revision: alert.revision,
            device: key.device.clone(),
            metric: key.metric.clone(),
            kind: key.kind.clone(),
            state: alert.state,
            severity: alert.severity,
            detectors: alert.detectors.clone(),
            value: alert.value,
            expected: alert.expected.filter(|expected| expected.is_finite()),
            score: alert.score,
            raised_at_ms: alert.raised_at_ms,
            updated_at_ms: alert.updated_at_ms,
            cleared_at_ms: alert.cleared_at_ms,
            count: alert.count,
            acknowledged_by: alert.acknowledged_by.clone(),
            normal: alert.normal,
            cleared_reason: alert.cleared_reason,
            stale: alert.stale_since_ms.is_some(),
            last_reading_at_ms: alert.stale_since_ms,
            maturity: alert.maturity,
            returns,
            flapping: returns.map(|returns| returns >= FLAPPING_RETURNS),
            message: message(key, alert),
            stored: true,
        }
    }

    fn into_alert(self) -> (AlertKey, Alert) {
        let key = AlertKey { device: self.device, metric: self.metric, kind: self.kind };
        let mut alert = Alert {
            id: self.id,
            revision: self.revision,
            state: self.state,
            severity: self.severity,
            detectors: self.detectors,
            value: self.value,
            expected: self.expected,
            score: self.score,
            raised_at_ms: self.raised_at_ms,
            updated_at_ms: self.updated_at_ms,
            cleared_at_ms: self.cleared_at_ms,
            count: self.count,
            acknowledged_by: self.acknowledged_by,
            normal: self.normal,
            cleared_reason: self.cleared_reason,
            stale_since_ms: self.last_reading_at_ms,
            maturity: self.maturity,
            returns: self.returns.unwrap_or(0),
            text: None,
        };
        alert.text = own_text(&key, &alert, &self.message);
        (key, alert)
    }
}

/// Of a message the part that does not follow from the rest of the alert.
fn own_text(key: &AlertKey, alert: &Alert, told: &str) -> Option<String> {
    let what = told.strip_suffix(COMES_AND_GOES).unwrap_or(told);
    if key.kind == GATEWAY_KIND || is_of_rule(&key.kind) {
        return Some(what.strip_prefix(RESOLVED).filter(|_| alert.state == State::Cleared).unwrap_or(what).to_owned());
    }
    let may_differ = key.kind == ANOMALY && alert.state == State::Cleared && alert.cleared_reason.is_none();
    (may_differ && told != message(key, alert)).then(|| what.to_owned())
}

//! Alerts in the formats of on-call tools.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Framing;
use crate::sinks::secret::Secret;

#[derive(Clone, Debug)]
pub enum AlertFormat {
    /// Outrider's own records.
    Outrider,
    /// `POST /api/v2/alerts` of Prometheus' Alertmanager.
    Alertmanager,
    /// PagerDuty's Events API v2, one event per request.
    PagerDuty { routing_key: Secret },
}

/// The fields of an alert's record that are needed here.
#[derive(Debug, Deserialize)]
struct AlertRecord {
    gateway: String,
    id: String,
    device: String,
    metric: String,
    kind: String,
    state: String,
    severity: String,
    message: String,
    raised_at_ms: i64,
    updated_at_ms: i64,
    cleared_at_ms: Option<i64>,
    #[serde(default)]
    acknowledged_by: Option<String>,
}

/// Whether a line of the store is an alert: every record begins with its version and its type.
pub fn is_alert(line: &[u8]) -> bool {
    line.starts_with(b"{\"v\":1,\"type\":\"alert\",")
}

impl AlertFormat {
    /// The body for these lines, and its content type.
    pub fn body(&self, lines: &[&[u8]], framing: Framing) -> (Vec<u8>, &'static str) {
        let records = || lines.iter().filter_map(|line| serde_json::from_slice::<AlertRecord>(line).ok());
        let json = Framing::Array.content_type();
        match self {
            AlertFormat::Outrider => (framing.body(lines.iter().copied()), framing.content_type()),
            AlertFormat::Alertmanager => {
                let alerts: Vec<Value> = records().map(|record| alertmanager(&record)).collect();
                (Value::from(alerts).to_string().into_bytes(), json)
            }
            AlertFormat::PagerDuty { routing_key } => {
                let event = records().next().map(|record| pagerduty(&record, routing_key));
                (event.unwrap_or_default().to_string().into_bytes(), json)
            }
        }
    }
}

fn alertmanager(alert: &AlertRecord) -> Value {
    let mut entry = json!({
        "labels": {
            "alertname": alert.kind,
            "gateway": alert.gateway,
            "device": alert.device,
            "metric": alert.metric,
        },
        // Alertmanager identifies an alert by its labels, and the severity may change, so it must not be one.
        "annotations": { "summary": alert.message, "severity": alert.severity, "id": alert.id },
        "startsAt": rfc3339(alert.raised_at_ms),
    });
    if let Some(cleared_ms) = alert.cleared_at_ms {
        entry["endsAt"] = rfc3339(cleared_ms).into();
    }
    entry
}

fn pagerduty(alert: &AlertRecord, routing_key: &Secret) -> Value {
    let action = match (alert.state.as_str(), &alert.acknowledged_by) {
        ("cleared", _) => "resolve",
        (_, Some(_)) => "acknowledge",
        _ => "trigger",
    };
    let severity = match alert.severity.as_str() {
        "critical" => "critical",
        "major" => "error",
        "minor" => "warning",
        _ => "info",
    };
    json!({
        "routing_key": routing_key.0,
        "event_action": action,
        "dedup_key": alert.id,
        "payload": {
            "summary": alert.message,
            "source": format!("{}/{}", alert.gateway, alert.device),
            "severity": severity,
            "timestamp": rfc3339(alert.updated_at_ms),
            "component": alert.metric,
            "class": alert.kind,
        },
    })
}

fn rfc3339(ms: i64) -> String {
    use aws_smithy_types::date_time::{DateTime, Format};
    DateTime::from_millis(ms).fmt(Format::DateTime).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAISED: &str = r#"{"v":1,"type":"alert","gateway":"g","run":"0707070707070707","position":3,"id":"a1","revision":1,"device":"truck","metric":"temp","kind":"limit","state":"raised","severity":"major","detectors":["limit"],"value":9.0,"expected":8.0,"score":2.0,"raised_at_ms":1795517165120,"updated_at_ms":1795517165120,"cleared_at_ms":null,"count":1,"message":"too hot","stored":true}"#;

    fn cleared() -> String {
        RAISED.replace("\"raised\"", "\"cleared\"").replace("\"cleared_at_ms\":null", "\"cleared_at_ms\":1795517199000")
    }

    fn body(format: &AlertFormat, line: &str) -> Value {
        let (body, _) = format.body(&[line.as_bytes()], Framing::Array);
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn alerts_are_told_from_other_records() {
        assert!(is_alert(RAISED.as_bytes()));
        assert!(!is_alert(br#"{"v":1,"type":"anomaly","gateway":"\"type\":\"alert\","}"#));
    }

    #[test]
    fn alertmanager_gets_the_same_labels_at_both_ends() {
        let (raised, cleared) =
            (body(&AlertFormat::Alertmanager, RAISED), body(&AlertFormat::Alertmanager, &cleared()));
        assert_eq!(raised[0]["labels"], cleared[0]["labels"]);
        assert_eq!(raised[0]["labels"]["alertname"], "limit");
        assert_eq!(raised[0]["startsAt"], "2026-11-24T10:46:05.12Z");
        assert_eq!((&raised[0]["endsAt"], &cleared[0]["endsAt"]), (&Value::Null, &"2026-11-24T10:46:39Z".into()));
    }

    #[test]
    fn pagerduty_gets_a_trigger_and_its_resolution() {
        let format = AlertFormat::PagerDuty { routing_key: Secret("key".to_owned()) };
        let (raised, cleared) = (body(&format, RAISED), body(&format, &cleared()));
        assert_eq!((&raised["event_action"], &cleared["event_action"]), (&"trigger".into(), &"resolve".into()));
        assert_eq!((&raised["dedup_key"], &cleared["dedup_key"]), (&"a1".into(), &"a1".into()));
        assert_eq!((&raised["routing_key"], &raised["payload"]["severity"]), (&"key".into(), &"error".into()));
        assert!(!format!("{format:?}").contains("key\""), "the key is not shown");
    }
}

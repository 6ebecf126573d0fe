//! `POST /api/alerts/{device}/{metric}/{kind}/ack` with `{"by":"..."}`: a person has seen an alert; and with `"normal":true` or `false`, what
//! it was.
//!
//! A page of another site in the user's browser can send simple requests here, but JSON only after a preflight request, which is never
//! granted. So requiring JSON as the content type keeps other sites from acknowledging in the user's name.

use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::sync::oneshot;

use super::alerts;
use crate::core::detection::alert::{self, AlertKey};
use crate::core::detection::detectors::Lesson;
use crate::handoff::{AlertAcknowledgement, Input};
use crate::pipeline::Message;

/// Longer than a busy pipeline needs.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const BODY_BYTES_MAX: usize = 4096;

/// The alert that a request's path names.
pub fn target(path: &str) -> Option<AlertKey> {
    alerts::key(path.strip_prefix("/api/alerts/")?.strip_suffix("/ack")?)
}

/// Hands an acknowledgement of a known alert to the pipeline, which makes it the alert's new revision a moment later. Where it says what the
/// alert was, the answer says what the detectors learn from that.
pub async fn acknowledge(
    request: Request<Incoming>,
    key: AlertKey,
    pipeline: &Sender<Message>,
) -> (StatusCode, String) {
    let is_json = request.headers().get("content-type").and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json\n".to_owned());
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large\n".to_owned());
    };
    let seen = match alert::read_acknowledgement(&body.to_bytes()) {
        Ok(seen) => seen,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let is_asked = seen.normal.is_some();
    let (answer, answered) = oneshot::channel();
    let acknowledgement = AlertAcknowledgement { key, seen, answer: is_asked.then_some(answer), share: None };
    if pipeline.send(Message::Input(Input::Acknowledge(acknowledgement))).is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    if !is_asked {
        return (StatusCode::ACCEPTED, format!("{}\n", Lesson::Unasked));
    }
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok(Some(lesson))) => (StatusCode::ACCEPTED, format!("{lesson}\n")),
        // It has been removed just now.
        Ok(Ok(None)) => (StatusCode::NOT_FOUND, "no such alert\n".to_owned()),
        _ => (StatusCode::ACCEPTED, "accepted; the gateway is busy, and will act on it later\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_found_by_its_topics_levels() {
        let target_of =
            |path| target(path).map(|AlertKey { device, metric, kind }| format!("{device}|{metric}|{kind}"));
        assert_eq!(target_of("/api/alerts/tank%2F1/temp/anomaly/ack").as_deref(), Some("tank/1|temp|anomaly"));
        for path in ["/api/alerts", "/api/alerts/a/b/ack", "/api/alerts/a/b/c/d/ack", "/api/alerts/a/b/c"] {
            assert_eq!(target_of(path), None, "{path}");
        }
    }
}

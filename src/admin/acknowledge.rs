//! `POST /api/alerts/{device}/{metric}/{kind}/ack` with `{"by":"..."}`: a person has seen an alert.
//!
//! A page of another site that the user's browser shows may send simple requests here, but none of JSON without asking first, which
//! nobody answers: the content type is what keeps others from acknowledging in the user's name.

use std::sync::mpsc::Sender;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use crate::core::topic;
use crate::handoff::{AlertAcknowledgement, BY_BYTES_MAX, Input};
use crate::store::threads::Message;

const BODY_BYTES_MAX: usize = 4096;

/// Of which alert, by a request's path.
pub fn target(path: &str) -> Option<(String, String, String)> {
    let mut levels = path.strip_prefix("/api/alerts/")?.strip_suffix("/ack")?.split('/').map(topic::percent_decode);
    let target = (levels.next()?, levels.next()?, levels.next()?);
    levels.next().is_none().then_some(target)
}

/// Hands an acknowledgement to the pipeline; it is an alert's new revision a moment later.
pub async fn acknowledge(
    request: Request<Incoming>,
    (device, metric, kind): (String, String, String),
    is_known: bool,
    pipeline: &Sender<Message>,
) -> (StatusCode, &'static str) {
    let is_json = request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
    if !is_json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json\n");
    }
    if !is_known {
        return (StatusCode::NOT_FOUND, "no such alert\n");
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large\n");
    };
    let Some(by) = by(&body.to_bytes()) else {
        return (StatusCode::BAD_REQUEST, "say who: {\"by\":\"...\"}\n");
    };
    let acknowledgement = AlertAcknowledgement { device, metric, kind, by, permit: None };
    match pipeline.send(Message::Input(Input::Acknowledge(acknowledgement))) {
        Ok(()) => (StatusCode::ACCEPTED, "acknowledged\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

fn by(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut by = value.get("by")?.as_str().filter(|by| !by.trim().is_empty())?.to_owned();
    by.truncate(by.floor_char_boundary(BY_BYTES_MAX));
    Some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_found_by_its_topics_levels() {
        let target_of = |path| target(path).map(|(device, metric, kind)| format!("{device}|{metric}|{kind}"));
        assert_eq!(target_of("/api/alerts/tank%2F1/temp/anomaly/ack").as_deref(), Some("tank/1|temp|anomaly"));
        for path in ["/api/alerts", "/api/alerts/a/b/ack", "/api/alerts/a/b/c/d/ack", "/api/alerts/a/b/c"] {
            assert_eq!(target_of(path), None, "{path}");
        }
    }

    #[test]
    fn nobody_is_not_a_person() {
        assert_eq!(by(b"{\"by\":\"anna\"}").as_deref(), Some("anna"));
        for body in [&b"{}"[..], b"", b"{\"by\":\" \"}", b"{\"by\":1}"] {
            assert_eq!(by(body), None);
        }
        let long = format!("{{\"by\":\"{}\"}}", "ä".repeat(1000));
        assert!(by(long.as_bytes()).expect("shortened").len() <= BY_BYTES_MAX);
    }
}

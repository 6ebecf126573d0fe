//! Tries whether a service of AWS takes our requests: by one that stores nothing, because it holds nothing. It is refused for that by whoever
//! takes its signature for right, perhaps before it is looked whether there is the stream. So the stream is asked for as well, by a request that
//! needs a right of its own, and that says nothing without it.

use std::time::Duration;

use super::AwsConnection;
use serde_json::{Value, json};

use super::errors::{self, Refusal};
use super::service::{Answer, Question, Service};
use crate::core::delivery::Outcome;
use crate::finding::{Finding, Verdict};
use crate::keys::units::approximate_duration;
use crate::sinks::probe::{of_certificates, of_outcome};

/// No answer to a request that holds nothing is longer.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What is asked of a service that speaks JSON.
pub struct Empty<'a> {
    pub service: &'static str,
    pub action: &'static str,
    /// The action that describes a stream, and the right to it.
    pub describe: (&'static str, &'static str),
    /// The name of the stream in both requests.
    pub stream_key: &'static str,
    /// Names of streams, each with its stream there.
    pub targets: Vec<(&'a str, &'a str)>,
    /// What it means that the request for a stream was not taken.
    pub of_refusal: fn(&Answer, &str) -> Outcome,
}

pub async fn try_empty(connection: &AwsConnection, asked: Empty<'_>) -> Vec<Finding> {
    let service = Service::new(asked.service, connection.clone(), connection.connector());
    let mut findings = of_role_alias(connection);
    match credentials(&service).await {
        Ok(text) => findings.push(Finding::well(text)),
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    }
    for (stream, target) in &asked.targets {
        findings.push(try_stream(&service, &asked, stream, target).await);
    }
    findings
}

async fn try_stream(service: &Service, asked: &Empty<'_>, stream: &str, target: &str) -> Finding {
    let name = format!("{stream} to the stream {target}");
    let body = json!({ asked.stream_key: target, "Records": [] });
    let outcome = ask(service, asked, asked.action, &body, target).await;
    if !matches!(outcome, Outcome::Accepted { .. } | Outcome::Reject(_)) {
        return of_outcome(&name, &outcome);
    }
    let (describe, right) = asked.describe;
    let body = json!({ asked.stream_key: target }).to_string();
    let question = Question { action: describe, body, answer_bytes_max: ANSWER_BYTES_MAX };
    match service.ask(question).await {
        Ok(answer) if (200..300).contains(&answer.status) => {
            Finding::well(format!("{name}: it is there, and requests are taken"))
        }
        Ok(answer) if Refusal::of(&answer).code == "ResourceNotFoundException" => {
            of_outcome(&name, &errors::no_stream(target, &Refusal::of(&answer).message))
        }
        _ => Finding::well(format!(
            "{name}: requests are taken; whether the stream is there is not told without {right}, which nothing else needs"
        )),
    }
}

async fn ask(service: &Service, asked: &Empty<'_>, action: &str, body: &Value, target: &str) -> Outcome {
    let question = Question { action, body: body.to_string(), answer_bytes_max: ANSWER_BYTES_MAX };
    match service.ask(question).await {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Accepted { shard: None },
        Ok(answer) => (asked.of_refusal)(&answer, target),
        Err(outcome) => outcome,
    }
}

/// Credentials that could be obtained, and how long they last.
pub async fn credentials(service: &Service) -> Result<String, Finding> {
    let session = service.session().await.map_err(|outcome| of_outcome("credentials", &outcome))?;
    Ok(match session.lasts(service.now()) {
        Some(Duration::ZERO) => {
            let found = "credentials are there, and have expired";
            return Err(Finding::bad(found, "renew them; if they should renew themselves, look at the clock"));
        }
        Some(left) => format!("credentials are there, and last for {}", approximate_duration(left)),
        None => "credentials are there, and do not expire".to_owned(),
    })
}

/// The certificate of `[aws]`, if it is worth a word.
pub fn of_role_alias(connection: &AwsConnection) -> Vec<Finding> {
    let file = connection.role_alias.as_ref().map(|role_alias| &role_alias.settings().certificate);
    let findings = file.map_or(Vec::new(), |file| of_certificates(file));
    debug_assert!(findings.iter().all(|finding| finding.verdict > Verdict::Skipped));
    findings
}

//! One request and its response.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;

use super::outcome::{self, Answer};
use super::target::HttpTarget;
use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::network;
use crate::sinks::secret::{Secret, parts_of_url};

/// At most this much of a response body is looked at.
const ANSWER_BYTES_MAX: usize = 2 << 10;

pub struct Client {
    connector: SharedHttpConnector,
    url: Secret,
    headers: Vec<(String, Secret)>,
    timeout: Duration,
}

impl Client {
    pub fn new(target: &HttpTarget, connector: SharedHttpConnector) -> Client {
        Client { connector, url: target.url.clone(), headers: target.headers.clone(), timeout: target.request_timeout }
    }

    /// Posts once. The outcome holds for the whole request.
    pub async fn post(&self, body: Vec<u8>, content_type: &str, encoding: Option<&'static str>) -> Outcome {
        let Some(request) = self.request(body, content_type, encoding) else {
            return Outcome::Halt("the URL or a header cannot be sent".to_owned());
        };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(Ok(answer)) => outcome::of(&self.without_secrets(answer)),
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::Retry(RetryReason::TimedOut),
        }
    }

    /// Asks for nothing but the status, with all headers. Nothing is posted by it.
    pub async fn head(&self) -> Result<u16, Outcome> {
        let mut request = HttpRequest::new(SdkBody::empty());
        let prepared = request.set_method("HEAD").is_ok()
            && request.set_uri(self.url.0.as_str()).is_ok()
            && self.add_headers(&mut request).is_some();
        if !prepared {
            return Err(Outcome::Halt("the URL or a header cannot be sent".to_owned()));
        }
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(answered) => answered.map(|answer| answer.status),
            Err(_) => Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }

    fn add_headers(&self, request: &mut HttpRequest) -> Option<()> {
        let headers = request.headers_mut();
        headers.try_insert("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION"))).ok()?;
        for (name, value) in &self.headers {
            headers.try_insert(name.to_ascii_lowercase(), value.0.clone()).ok()?;
        }
        Some(())
    }

    /// Removes secrets from the response: a service may echo what it was sent.
    fn without_secrets(&self, answer: Answer) -> Answer {
        let mut text = String::from_utf8_lossy(&answer.text).into_owned();
        let of_headers = self.headers.iter().map(|(_, secret)| secret.0.as_str()).filter(|secret| !secret.is_empty());
        for secret in of_headers.chain(parts_of_url(&self.url.0)) {
            text = text.replace(secret, "(not shown)");
        }
        Answer { text: text.into_bytes(), ..answer }
    }

    fn request(&self, body: Vec<u8>, content_type: &str, encoding: Option<&'static str>) -> Option<HttpRequest> {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").ok()?;
        request.set_uri(self.url.0.as_str()).ok()?;
        let headers = request.headers_mut();
        headers.try_insert("content-type", content_type.to_owned()).ok()?;
        if let Some(encoding) = encoding {
            headers.try_insert("content-encoding", encoding).ok()?;
        }
        self.add_headers(&mut request)?;
        Some(request)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<Answer, Outcome> {
        let mut response = self.connector.call(request).await.map_err(|error| {
            if error.is_timeout() {
                Outcome::Retry(RetryReason::TimedOut)
            } else if error.is_user() {
                Outcome::Halt("the request cannot be made".to_owned())
            } else {
                network::unreachable(&error)
            }
        })?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(str::to_owned);
        let date = response.headers().get("date").map(str::to_owned);
        let mut text = Vec::new();
        // A short response is read to its end, so that the connection can be reused.
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(frame) = frame else { break };
            if let Ok(data) = frame.into_data() {
                text.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_MAX - text.len())]);
            }
            if text.len() == ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(Answer { status, retry_after, date, text })
    }
}

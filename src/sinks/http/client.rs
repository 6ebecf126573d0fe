//! One request and its response.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

use super::outcome::{self, Answer};
use super::target::HttpTarget;
use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::secret::{Secret, parts_of_url};
use crate::sinks::{network, response};

/// At most this much of a response body is looked at.
const ANSWER_BYTES_MAX: usize = 2 << 10;
/// A shorter last word of a header's value is no secret by itself.
const WORD_BYTES_MIN: usize = 4;

const NOT_SENDABLE: &str = "the URL or a header cannot be sent";

/// A request of a protocol that has places and headers of its own.
pub struct Question<'a> {
    pub method: &'static str,
    /// Follows the URL.
    pub path: &'a str,
    /// Besides those of the sink.
    pub headers: &'a [(&'static str, String)],
    pub encoding: Option<&'static str>,
    pub body: Vec<u8>,
    /// No more than this of the response is read.
    pub answer_bytes_max: usize,
}

/// The response to a [`Question`].
pub struct Answered {
    /// To be shown: what is secret is taken out of its text.
    pub shown: Answer,
    /// As it came.
    pub text: Vec<u8>,
    /// Values of Set-Cookie.
    pub cookies: Vec<String>,
}

struct Exchanged {
    answer: Answer,
    cookies: Vec<String>,
}

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

    /// For a sink of another type.
    pub fn to(
        url: Secret,
        headers: Vec<(String, Secret)>,
        timeout: Duration,
        connector: SharedHttpConnector,
    ) -> Client {
        Client { connector, url, headers, timeout }
    }

    /// Asks once, at a place below the URL, with headers of its own.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answered, Outcome> {
        let bytes_max = question.answer_bytes_max;
        let Some(request) = self.question(question) else { return Err(Outcome::Halt(NOT_SENDABLE.to_owned())) };
        let exchanged = tokio::time::timeout(self.timeout, self.exchange(request, bytes_max)).await;
        let Exchanged { answer, cookies } = exchanged.unwrap_or(Err(Outcome::Retry(RetryReason::TimedOut)))?;
        let text = answer.text.clone();
        Ok(Answered { shown: self.without_secrets(answer), text, cookies })
    }

    fn question(&self, question: Question<'_>) -> Option<HttpRequest> {
        let Question { method, path, headers, encoding, body, .. } = question;
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method(method).ok()?;
        let below = if path.is_empty() { &*self.url.0 } else { self.url.0.trim_end_matches('/') };
        request.set_uri(format!("{below}{path}")).ok()?;
        self.add_headers(&mut request)?;
        let sent = request.headers_mut();
        if let Some(encoding) = encoding {
            sent.try_insert("content-encoding", encoding).ok()?;
        }
        for (name, value) in headers {
            sent.try_insert(*name, value.clone()).ok()?;
        }
        Some(request)
    }

    /// Posts once. The outcome holds for the whole request.
    pub async fn post(&self, body: Vec<u8>, content_type: &str, encoding: Option<&'static str>) -> Outcome {
        let Some(request) = self.request(body, content_type, encoding) else {
            return Outcome::Halt(NOT_SENDABLE.to_owned());
        };
        match tokio::time::timeout(self.timeout, self.exchange(request, ANSWER_BYTES_MAX)).await {
            Ok(Ok(exchanged)) => outcome::of(&self.without_secrets(exchanged.answer)),
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
            return Err(Outcome::Halt(NOT_SENDABLE.to_owned()));
        }
        match tokio::time::timeout(self.timeout, self.exchange(request, ANSWER_BYTES_MAX)).await {
            Ok(exchanged) => exchanged.map(|exchanged| exchanged.answer.status),
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
        // Of a value such as `Bearer TOKEN` the service may repeat the token alone.
        let of_headers = self.headers.iter().flat_map(|(_, secret)| {
            let last = secret.0.rsplit(' ').next().filter(|word| word.len() >= WORD_BYTES_MIN);
            [Some(secret.0.as_str()), last].into_iter().flatten().filter(|secret| !secret.is_empty())
        });
        for secret in of_headers.chain(parts_of_url(&self.url.0)) {
            text = text.replace(secret, "(not shown)");
        }
        for secret in self.headers.iter().flat_map(|(_, secret)| texts_within(&secret.0)) {
            text = text.replace(&secret, "(not shown)");
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

    async fn exchange(&self, request: HttpRequest, bytes_max: usize) -> Result<Exchanged, Outcome> {
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
        let cookies = response.headers().get_all("set-cookie").map(str::to_owned).collect();
        let (text, _) = response::read(response.body_mut(), bytes_max).await;
        Ok(Exchanged { answer: Answer { status, retry_after, date, text }, cookies })
    }
}

/// Of a header that is a JSON object, the texts in it, as they are and as JSON writes them: a service may repeat one of them alone.
fn texts_within(value: &str) -> Vec<String> {
    fn collect(value: Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= WORD_BYTES_MIN => {
                let written = Value::from(&*text).to_string();
                into.extend([written[1..written.len() - 1].to_owned(), text]);
            }
            Value::Array(values) => values.into_iter().for_each(|value| collect(value, into)),
            Value::Object(members) => members.into_iter().for_each(|(_, value)| collect(value, into)),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    if let Ok(object @ Value::Object(_)) = serde_json::from_str(value) {
        collect(object, &mut texts);
    }
    // The longest first: one may be a part of another.
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_of_a_header_that_is_an_object_is_a_secret_by_itself() {
        let header = r#"{"commonAttributes":{"key":"S3CR3T","more":"S3CR3T-2","quoted":"a\"bc","n":"7"}}"#;
        assert_eq!(texts_within(header), ["S3CR3T-2", "S3CR3T", "a\\\"bc", "a\"bc"]);
        for other in ["Bearer S3CR3T", "", "7", "\"S3CR3T\"", "{"] {
            assert!(texts_within(other).is_empty(), "{other}");
        }
    }
}

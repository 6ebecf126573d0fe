//! The requests that are needed: PutObject, HeadObject for what is there already, and GetObject for who wants to know whether any of it would be let in.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::outcome::{self, Asked, Found, Response, Stored};
use super::place::Address;
use super::upload::Upload;
use crate::core::delivery::{Outcome, RetryReason};
use crate::finding::Finding;
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::probe;
use crate::sinks::aws::service::{Answer, Head, Service, Session, hex};
use crate::sinks::probe::of_outcome;

/// At most this much of a response body is looked at.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// The metadata of an object that says the position of its last record.
const LAST: &str = "x-amz-meta-last";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One stream's access to its bucket.
pub struct Client {
    bucket: String,
    service: Service,
}

/// What is asked for an object.
struct Request<'a> {
    method: &'static str,
    key: &'a str,
    headers: Vec<(&'static str, String)>,
    body_sha256: String,
}

impl Client {
    pub fn new(bucket: &str, connection: AwsConnection, http: SharedHttpConnector) -> Client {
        Client { bucket: bucket.to_owned(), service: Service::new("s3", connection, http) }
    }

    /// Over a service that needs no credentials.
    #[cfg(test)]
    pub fn over(service: Service) -> Client {
        Client { bucket: "fleet".to_owned(), service }
    }

    /// Stores an object, unless there is one of this name.
    pub async fn put(&self, key: &str, upload: &Upload, content_type: &str, last: u64) -> Stored {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("content-md5", BASE64.encode(upload.sums.md5)),
            ("if-none-match", "*".to_owned()),
            (LAST, last.to_string()),
        ];
        let request = Request { method: "PUT", key, headers, body_sha256: hex(&upload.sums.sha256) };
        let (response, session) = match self.ask(&request, Some(upload)).await {
            Ok(answered) => answered,
            Err(outcome) => return Stored::Not(outcome),
        };
        let stored = outcome::of_put(&response, Asked { bucket: &self.bucket, region: &session.region });
        if let Stored::Not(outcome) | Stored::Damaged(outcome) = &stored {
            self.service.heed(outcome, response.ahead_seconds).await;
        }
        stored
    }

    /// What an object holds that is there.
    pub async fn find(&self, key: &str) -> Found {
        let request = Request { method: "HEAD", key, headers: Vec::new(), body_sha256: EMPTY_SHA256.to_owned() };
        let (response, session) = match self.ask(&request, None).await {
            Ok(answered) => answered,
            Err(outcome) => return Found::Unknown(outcome),
        };
        let found = outcome::of_head(&response, key, Asked { bucket: &self.bucket, region: &session.region });
        if let Found::Unknown(outcome) = &found {
            self.service.heed(outcome, response.ahead_seconds).await;
        }
        found
    }

    pub async fn credentials(&self) -> Result<String, Finding> {
        probe::credentials(&self.service).await
    }

    /// Reads an object that is not there: the answer says in its body why it is not given.
    pub async fn try_to_read(&self, key: &str) -> Finding {
        let request = Request { method: "GET", key, headers: Vec::new(), body_sha256: EMPTY_SHA256.to_owned() };
        let asked = format!("the bucket {}", self.bucket);
        match self.ask(&request, None).await {
            Ok((response, session)) => {
                outcome::of_get(&response, &asked, Asked { bucket: &self.bucket, region: &session.region })
            }
            Err(outcome) => of_outcome(&asked, &outcome),
        }
    }

    async fn ask(&self, request: &Request<'_>, upload: Option<&Upload>) -> Result<(Response, Session), Outcome> {
        let session = self.service.session().await?;
        let address = Address { bucket: &self.bucket, region: &session.region, endpoint: session.endpoint.as_deref() };
        let Request { method, key, headers, body_sha256 } = request;
        let head = Head { method, url: &address.url(key), headers, body_sha256 };
        let body = upload.map_or_else(SdkBody::empty, |upload| SdkBody::from_body_1_x(upload.body()));
        let exchange = self.service.exchange(&head, body, &session, ANSWER_BYTES_MAX);
        let answer = within(self.service.request_timeout(), upload, exchange).await?;
        Ok((response(&answer), session))
    }
}

/// Ends an exchange that stands still. Once all of the body is on its way, what is still in buffers may take as long as the rest has taken.
async fn within(
    standstill: Duration,
    upload: Option<&Upload>,
    exchange: impl Future<Output = Result<Answer, Outcome>>,
) -> Result<Answer, Outcome> {
    tokio::pin!(exchange);
    let started = tokio::time::Instant::now();
    let begun = upload.map_or(0, Upload::taken);
    let mut taken = begun;
    let mut deadline = started + standstill;
    loop {
        tokio::select! {
            // After a standstill of our own, what has come meanwhile counts.
            biased;
            response = &mut exchange => return response,
            () = tokio::time::sleep_until(deadline) => {}
        }
        let now = tokio::time::Instant::now();
        match upload {
            Some(upload) if upload.taken() > taken => {
                taken = upload.taken();
                let is_all = taken >= begun + upload.bytes;
                deadline = now + if is_all { standstill.max(now - started) } else { standstill };
            }
            _ => return Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }
}

fn response(answer: &Answer) -> Response {
    let number = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
    Response {
        status: answer.status,
        region: answer.header("x-amz-bucket-region").map(str::to_owned),
        ahead_seconds: answer.ahead_seconds,
        retry_after_seconds: number("retry-after"),
        last: number(LAST),
        has_etag: answer.header("etag").is_some(),
        text: String::from_utf8_lossy(&answer.body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::sinks::files::output::{Output, Target};

    const STANDSTILL: Duration = Duration::from_millis(20);

    /// Of eight chunks.
    fn upload() -> Upload {
        let mut output = Output::with_sums(Target::Memory(Vec::new()));
        std::io::Write::write_all(&mut output, &vec![7; 8 * (64 << 10)]).expect("memory");
        Upload::new(output)
    }

    /// The connection takes some chunks, one within each half of the limit.
    async fn take(upload: &Upload, chunks: usize) {
        let mut body = upload.body();
        for _ in 0..chunks {
            tokio::time::sleep(STANDSTILL / 2).await;
            body.frame().await.expect("there are more").expect("readable");
        }
    }

    async fn timed_out(exchange: impl Future<Output = Result<Answer, Outcome>>, upload: Option<&Upload>) -> bool {
        matches!(within(STANDSTILL, upload, exchange).await, Err(Outcome::Retry(RetryReason::TimedOut)))
    }

    /// What an exchange that comes to its end says.
    fn end() -> Result<Answer, Outcome> {
        Err(Outcome::Halt("the end".to_owned()))
    }

    #[tokio::test]
    async fn an_exchange_that_stands_still_ends_and_one_that_goes_on_does_not() {
        assert!(timed_out(std::future::pending(), None).await);
        let upload = upload();
        assert!(timed_out(std::future::pending(), Some(&upload)).await);
        let goes_on = async {
            take(&upload, 7).await;
            end()
        };
        assert!(!timed_out(goes_on, Some(&upload)).await);
        let stops = async {
            take(&upload, 4).await;
            std::future::pending().await
        };
        assert!(timed_out(stops, Some(&upload)).await);
    }

    #[tokio::test]
    async fn what_is_in_buffers_may_take_as_long_as_the_rest_has_taken() {
        let upload = upload();
        let slow_end = async {
            take(&upload, 8).await;
            tokio::time::sleep(2 * STANDSTILL).await;
            end()
        };
        assert!(!timed_out(slow_end, Some(&upload)).await);
        let no_end = async {
            take(&upload, 8).await;
            std::future::pending().await
        };
        assert!(timed_out(no_end, Some(&upload)).await);
    }
}

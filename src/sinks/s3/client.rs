//! The two requests that are needed: PutObject, and HeadObject for what is there already.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::{DateTime, Format};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::BodyExt;

use super::outcome::{self, Asked, Found, Response, Stored};
use super::place::Address;
use super::upload::Upload;
use crate::core::delivery::{Outcome, RetryReason};
use crate::errors::with_causes;
use crate::sinks::aws::clock::{ServiceClock, epoch_seconds};
use crate::sinks::aws::{AwsConnection, credentials};
use crate::sinks::network;

/// At most this much of a response body is looked at.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// The metadata of an object that says the position of its last record.
const LAST: &str = "x-amz-meta-last";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Credentials that end within this time are not used any more: an upload may take a while.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// One stream's access to its bucket.
pub struct Client {
    bucket: String,
    connection: AwsConnection,
    http: SharedHttpConnector,
    clock: ServiceClock,
    /// Looked up anew when credentials have expired or somebody may have to mend something.
    session: Option<Session>,
}

#[derive(Clone)]
struct Session {
    credentials: Credentials,
    region: String,
    endpoint: Option<String>,
}

/// What is sent, without its body.
struct Head<'a> {
    method: &'static str,
    key: &'a str,
    headers: Vec<(&'static str, String)>,
    body_sha256: String,
}

impl Client {
    pub fn new(bucket: &str, connection: AwsConnection, http: SharedHttpConnector) -> Client {
        Client { bucket: bucket.to_owned(), connection, http, clock: ServiceClock::default(), session: None }
    }

    /// Stores an object, unless there is one of this name.
    pub async fn put(&mut self, key: &str, upload: &Upload, content_type: &str, last: u64) -> Stored {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("content-md5", BASE64.encode(upload.sums.md5)),
            ("if-none-match", "*".to_owned()),
            (LAST, last.to_string()),
        ];
        let head = Head { method: "PUT", key, headers, body_sha256: hex(&upload.sums.sha256) };
        let (response, session) = match self.ask(&head, Some(upload)).await {
            Ok(answered) => answered,
            Err(outcome) => return Stored::Not(outcome),
        };
        let stored = outcome::of_put(&response, Asked { bucket: &self.bucket, region: &session.region });
        if let Stored::Not(outcome) | Stored::Damaged(outcome) = &stored {
            self.heed(outcome, &response).await;
        }
        stored
    }

    /// What an object holds that is there.
    pub async fn find(&mut self, key: &str) -> Found {
        let head = Head { method: "HEAD", key, headers: Vec::new(), body_sha256: EMPTY_SHA256.to_owned() };
        let (response, session) = match self.ask(&head, None).await {
            Ok(answered) => answered,
            Err(outcome) => return Found::Unknown(outcome),
        };
        let found = outcome::of_head(&response, key, Asked { bucket: &self.bucket, region: &session.region });
        if let Found::Unknown(outcome) = &found {
            self.heed(outcome, &response).await;
        }
        found
    }

    /// Draws the conclusions of a failure for the next request.
    async fn heed(&mut self, outcome: &Outcome, response: &Response) {
        match outcome {
            Outcome::Retry(RetryReason::Credentials) | Outcome::Halt(_) => {
                self.session = None;
                self.connection.doubt_credentials(matches!(outcome, Outcome::Retry(_))).await;
            }
            Outcome::Retry(RetryReason::Clock) => {
                if let Some(ahead) = response.ahead_seconds {
                    self.clock.adopt(epoch_seconds(self.clock.now()).saturating_add(ahead));
                }
            }
            _ => {}
        }
    }

    async fn ask(&mut self, head: &Head<'_>, upload: Option<&Upload>) -> Result<(Response, Session), Outcome> {
        let session = self.session().await?;
        let signed_at = self.clock.now();
        let body = upload.map_or_else(SdkBody::empty, |upload| SdkBody::from_body_1_x(upload.body()));
        let Some(request) = self.request(head, body, &session, signed_at) else {
            return Err(Outcome::Halt(
                "the request cannot be signed or sent: look at endpoint, bucket and prefix".to_owned(),
            ));
        };
        let response =
            within(self.connection.request_timeout, upload, exchange(&self.http, request, signed_at)).await?;
        Ok((response, session))
    }

    fn request(&self, head: &Head<'_>, body: SdkBody, session: &Session, at: SystemTime) -> Option<HttpRequest> {
        let address = Address { bucket: &self.bucket, region: &session.region, endpoint: session.endpoint.as_deref() };
        let url = address.url(head.key);
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = session.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&session.region)
            .name("s3")
            .time(at)
            .settings(settings)
            .build()
            .ok()?;
        let headers = head.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signable =
            SignableRequest::new(head.method, &url, headers, SignableBody::Precomputed(head.body_sha256.clone()))
                .ok()?;
        let (signing, _) = sign(signable, &params.into()).ok()?.into_parts();
        let mut request = HttpRequest::new(body);
        request.set_method(head.method).ok()?;
        request.set_uri(url).ok()?;
        let sent = request.headers_mut();
        for (name, value) in &head.headers {
            sent.try_insert(*name, value.clone()).ok()?;
        }
        for (name, value) in signing.headers() {
            sent.try_insert(name.to_owned(), value.to_owned()).ok()?;
        }
        sent.try_insert("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION"))).ok()?;
        Some(request)
    }

    async fn session(&mut self) -> Result<Session, Outcome> {
        let now = self.clock.now();
        let lasts = |session: &&Session| session.credentials.expiry().is_none_or(|end| end > now + RENEWED_BEFORE);
        if let Some(session) = self.session.as_ref().filter(lasts) {
            return Ok(session.clone());
        }
        let session = self.look_up().await?;
        self.session = Some(session.clone());
        Ok(session)
    }

    async fn look_up(&self) -> Result<Session, Outcome> {
        let http = self.http.clone();
        let config = self.connection.load(http_client_fn(move |_, _| http.clone()), &self.clock).await;
        let region = config.region().map(|region| region.as_ref().to_owned());
        let region = region.ok_or_else(|| {
            Outcome::Halt("the region is not known; set region in the [[sink]], or AWS_REGION".to_owned())
        })?;
        let endpoint = match &self.connection.endpoint {
            Some(endpoint) => Some(endpoint.clone()),
            None => {
                let of_service = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
                of_service.or_else(|| config.endpoint_url().map(str::to_owned))
            }
        };
        let provider = config.credentials_provider().ok_or_else(|| Outcome::Halt(credentials::REMEDY.to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| of_credentials(&error))?;
        Ok(Session { credentials, region, endpoint })
    }
}

/// If no source of credentials is configured, the SDK's error is about the last one that it tried, the instance's, and explains nothing.
fn of_credentials(error: &CredentialsError) -> Outcome {
    if let Some(outcome) = credentials::of_role_alias(error) {
        return outcome;
    }
    match credentials::is_any_configured() {
        false => Outcome::Halt(credentials::REMEDY.to_owned()),
        true => Outcome::Halt(format!("the AWS credentials cannot be loaded: {}", with_causes(error))),
    }
}

/// Ends an exchange that stands still. Once all of the body is on its way, what is still in buffers may take as long as the rest has taken.
async fn within(
    standstill: Duration,
    upload: Option<&Upload>,
    exchange: impl Future<Output = Result<Response, Outcome>>,
) -> Result<Response, Outcome> {
    tokio::pin!(exchange);
    let started = tokio::time::Instant::now();
    let begun = upload.map_or(0, Upload::taken);
    let mut taken = begun;
    let mut deadline = started + standstill;
    loop {
        tokio::select! {
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

async fn exchange(
    http: &SharedHttpConnector,
    request: HttpRequest,
    signed_at: SystemTime,
) -> Result<Response, Outcome> {
    let asked = std::time::Instant::now();
    let mut answer = http.call(request).await.map_err(|error| {
        if error.is_timeout() {
            Outcome::Retry(RetryReason::TimedOut)
        } else if error.is_user() {
            Outcome::Halt(format!("the request cannot be made: {}", with_causes(&error)))
        } else {
            network::unreachable(&error)
        }
    })?;
    let header = |name: &str| answer.headers().get(name).map(str::to_owned);
    let there = header("date").and_then(|date| DateTime::from_str(&date, Format::HttpDate).ok());
    let mut response = Response {
        status: answer.status().as_u16(),
        region: header("x-amz-bucket-region"),
        // An upload may take minutes, which are no difference of clocks.
        ahead_seconds: there.map(|there| there.secs() - epoch_seconds(signed_at + asked.elapsed())),
        retry_after_seconds: header("retry-after").and_then(|text| text.trim().parse().ok()),
        has_etag: header("etag").is_some(),
        last: header(LAST).and_then(|text| text.trim().parse().ok()),
        text: String::new(),
    };
    let mut text = Vec::new();
    // A short response is read to its end, so that the connection can be used again.
    while let Some(Ok(frame)) = answer.body_mut().frame().await {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_MAX - text.len())]);
        }
        if text.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    response.text = String::from_utf8_lossy(&text).into_owned();
    Ok(response)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

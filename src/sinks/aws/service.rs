//! Requests to services that are spoken to without an SDK: where the service is, the credentials, and the signature.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningInstructions,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::{DateTime, Format};
use sha2::{Digest as _, Sha256};

use super::clock::{ServiceClock, epoch_seconds};
use super::{AwsConnection, credentials};
use crate::core::delivery::{Outcome, RetryReason};
use crate::errors::with_causes;
use crate::sinks::network;
use crate::sinks::response::{self, End};

/// Credentials that end within this time are not used any more: an upload may take a while.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// Access to one service.
pub struct Service {
    /// As signatures name it.
    name: &'static str,
    connection: AwsConnection,
    http: SharedHttpConnector,
    clock: ServiceClock,
    /// Looked up anew when credentials have expired or somebody may have to mend something.
    session: RefCell<Option<Session>>,
}

#[derive(Clone)]
pub struct Session {
    credentials: Credentials,
    pub region: String,
    /// If it is not the region's own.
    pub endpoint: Option<String>,
}

impl Session {
    /// How long the credentials last; `None` if they do not expire.
    pub fn lasts(&self, now: SystemTime) -> Option<Duration> {
        self.credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default())
    }
}

#[cfg(test)]
impl Session {
    pub fn of(credentials: Credentials, region: &str) -> Session {
        Session { credentials, region: region.to_owned(), endpoint: None }
    }
}

/// What is sent, without its body.
pub struct Head<'a> {
    pub method: &'static str,
    pub url: &'a str,
    pub headers: &'a [(&'static str, String)],
    /// In hexadecimal.
    pub body_sha256: &'a str,
}

/// What is asked of a service that speaks JSON.
pub struct Question<'a> {
    /// As `x-amz-target` has it.
    pub action: &'a str,
    pub body: String,
    pub answer_bytes_max: usize,
}

const JSON: &str = "application/x-amz-json-1.1";

/// A response, with its body shortened.
pub struct Answer {
    pub status: u16,
    /// The service's time less the time that the request was signed with.
    pub ahead_seconds: Option<i64>,
    pub body: Vec<u8>,
    pub end: End,
    headers: Headers,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(str::trim)
    }
}

impl Service {
    pub fn new(name: &'static str, connection: AwsConnection, http: SharedHttpConnector) -> Service {
        Service { name, connection, http, clock: ServiceClock::default(), session: RefCell::new(None) }
    }

    /// With credentials that it keeps until something is to be mended.
    #[cfg(test)]
    pub fn for_tests(name: &'static str, http: SharedHttpConnector) -> Service {
        let connection = AwsConnection {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some("http://127.0.0.1".to_owned()),
            connect_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            role_alias: None,
        };
        let session = Session {
            credentials: Credentials::new("key", "secret", None, None, "tests"),
            region: "eu-central-1".to_owned(),
            endpoint: connection.endpoint.clone(),
        };
        Service { session: RefCell::new(Some(session)), ..Service::new(name, connection, http) }
    }

    pub fn request_timeout(&self) -> Duration {
        self.connection.request_timeout
    }

    /// Draws the conclusions of a failure for the next request.
    pub async fn heed(&self, outcome: &Outcome, ahead_seconds: Option<i64>) {
        match outcome {
            Outcome::Retry(RetryReason::Credentials) | Outcome::Halt(_) => {
                self.session.replace(None);
                self.connection.doubt_credentials(matches!(outcome, Outcome::Retry(_))).await;
            }
            Outcome::Retry(RetryReason::Clock) => {
                if let Some(ahead) = ahead_seconds {
                    self.clock.adopt(epoch_seconds(self.clock.now()).saturating_add(ahead));
                }
            }
            _ => {}
        }
    }

    pub async fn session(&self) -> Result<Session, Outcome> {
        let now = self.clock.now();
        let lasts = |session: &&Session| session.credentials.expiry().is_none_or(|end| end > now + RENEWED_BEFORE);
        if let Some(session) = self.session.borrow().as_ref().filter(lasts) {
            return Ok(session.clone());
        }
        let session = self.look_up().await?;
        self.session.replace(Some(session.clone()));
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
                let variable = format!("AWS_ENDPOINT_URL_{}", self.name.to_ascii_uppercase());
                let of_service = std::env::var(variable).ok().filter(|url| !url.is_empty());
                of_service.or_else(|| config.endpoint_url().map(str::to_owned))
            }
        };
        let provider = config.credentials_provider().ok_or_else(|| Outcome::Halt(credentials::REMEDY.to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| of_credentials(&error))?;
        Ok(Session { credentials, region, endpoint })
    }

    /// Asks a service that speaks JSON, at its host in the region unless it has an endpoint.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, Outcome> {
        let Question { action, body, answer_bytes_max } = question;
        let session = self.session().await?;
        let url = match &session.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => format!("https://{}.{}.{}/", self.name, session.region, domain(&session.region)),
        };
        let headers = [("content-type", JSON.to_owned()), ("x-amz-target", action.to_owned())];
        let body_sha256 = hex(&Sha256::digest(body.as_bytes()));
        let head = Head { method: "POST", url: &url, headers: &headers, body_sha256: &body_sha256 };
        let exchange = self.exchange(&head, SdkBody::from(body), &session, answer_bytes_max);
        match tokio::time::timeout(self.request_timeout(), exchange).await {
            Ok(Ok(answer)) if answer.end != End::Whole => Err(Outcome::Retry(RetryReason::Internal)),
            Ok(answered) => answered,
            Err(_) => Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }

    /// One exchange, without a limit of its own for the time that it takes.
    pub async fn exchange(
        &self,
        head: &Head<'_>,
        body: SdkBody,
        session: &Session,
        answer_bytes_max: usize,
    ) -> Result<Answer, Outcome> {
        let signed_at = self.clock.now();
        let Some(request) = self.request(head, body, session, signed_at) else {
            return Err(Outcome::Halt(
                "the request cannot be signed or sent: look at region, endpoint and the names in the [[sink]]"
                    .to_owned(),
            ));
        };
        let asked = Instant::now();
        let mut answer = self.http.call(request).await.map_err(|error| {
            if error.is_timeout() {
                Outcome::Retry(RetryReason::TimedOut)
            } else if error.is_user() {
                Outcome::Halt(format!("the request cannot be made: {}", with_causes(&error)))
            } else {
                network::unreachable(&error)
            }
        })?;
        // An upload may take minutes, which are no difference of clocks.
        let meant_at = signed_at + asked.elapsed();
        let there = answer.headers().get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let (body, end) = response::read(answer.body_mut(), answer_bytes_max).await;
        Ok(Answer {
            status: answer.status().as_u16(),
            ahead_seconds: there.map(|there| there.secs() - epoch_seconds(meant_at)),
            body,
            end,
            headers: std::mem::take(answer.headers_mut()),
        })
    }

    /// The time that requests are signed with.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The parameters that make a request without a body valid for so long: names and values, those of the URL excepted.
    pub fn sign_query(
        &self,
        url: &str,
        host: &str,
        session: &Session,
        (at, lasts): (SystemTime, Duration),
    ) -> Option<Vec<(String, String)>> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lasts);
        let signable = SignableRequest::new("GET", url, [("host", host)].into_iter(), SignableBody::Bytes(&[])).ok()?;
        let signing = self.signed(signable, session, at, settings)?;
        Some(signing.params().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    fn signed(
        &self,
        signable: SignableRequest<'_>,
        session: &Session,
        at: SystemTime,
        settings: SigningSettings,
    ) -> Option<SigningInstructions> {
        let identity = session.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&session.region)
            .name(self.name)
            .time(at)
            .settings(settings)
            .build()
            .ok()?;
        Some(sign(signable, &params.into()).ok()?.into_parts().0)
    }

    fn request(&self, head: &Head<'_>, body: SdkBody, session: &Session, at: SystemTime) -> Option<HttpRequest> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let headers = head.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let body_sha256 = SignableBody::Precomputed(head.body_sha256.to_owned());
        let signable = SignableRequest::new(head.method, head.url, headers, body_sha256).ok()?;
        let signing = self.signed(signable, session, at, settings)?;
        let mut request = HttpRequest::new(body);
        request.set_method(head.method).ok()?;
        request.set_uri(head.url).ok()?;
        let sent = request.headers_mut();
        for (name, value) in head.headers {
            sent.try_insert(*name, value.clone()).ok()?;
        }
        for (name, value) in signing.headers() {
            sent.try_insert(name.to_owned(), value.to_owned()).ok()?;
        }
        sent.try_insert("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION"))).ok()?;
        Some(request)
    }
}

/// The domain of a region's hosts.
pub fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

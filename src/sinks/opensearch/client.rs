//! One request and its answer, with whatever login the cluster asks for.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use super::outcome;
use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::errors::{self, Refusal};
use crate::sinks::aws::service::{self, Head, Service, hex};
use crate::sinks::http::outcome as http;
use crate::sinks::network;
use crate::sinks::response::{self, End};
use crate::sinks::secret::Secret;

/// How we show who we are, as the configuration says it.
#[derive(Clone, Debug)]
pub enum Login {
    None,
    Basic {
        username: String,
        password: Secret,
    },
    ApiKey(Secret),
    /// By a signature of AWS, for a service of this name.
    Aws {
        service: &'static str,
        connection: AwsConnection,
    },
}

pub struct Client {
    /// Without a slash at its end.
    url: String,
    access: Access,
    timeout: Duration,
    /// What the service must not repeat.
    secrets: Vec<Secret>,
}

enum Access {
    Plain { connector: SharedHttpConnector, authorization: Option<Secret> },
    Signed(Box<Service>),
}

/// What is asked.
pub struct Question<'a> {
    pub method: &'static str,
    /// Begins with a slash.
    pub path: &'a str,
    pub content_type: &'static str,
    pub encoding: Option<&'static str>,
    pub body: Vec<u8>,
    pub answer_bytes_max: usize,
}

/// A response, with its body shortened.
#[derive(Debug)]
pub struct Answer {
    pub http: http::Answer,
    pub end: End,
    /// What the code of a refusal by AWS means.
    of_aws: Option<Outcome>,
}

const CANNOT: &str = "the request cannot be made: look at url and the login of the [[sink]]";

impl Client {
    pub fn new(url: &str, login: &Login, timeout: Duration, connector: SharedHttpConnector) -> Client {
        let (mut secrets, mut authorization) = (Vec::new(), None);
        match login {
            Login::None | Login::Aws { .. } => {}
            Login::Basic { username, password } => {
                let encoded = BASE64.encode(format!("{username}:{}", password.0));
                authorization = Some(Secret(format!("Basic {encoded}")));
                secrets = vec![Secret(encoded), password.clone()];
            }
            Login::ApiKey(key) => {
                authorization = Some(Secret(format!("ApiKey {}", key.0)));
                secrets = vec![key.clone()];
            }
        }
        let access = match login {
            Login::Aws { service, connection } => {
                Access::Signed(Box::new(Service::new(service, connection.clone(), connector)))
            }
            _ => Access::Plain { connector, authorization },
        };
        Client { url: url.trim_end_matches('/').to_owned(), access, timeout, secrets }
    }

    /// Asks once. The outcome is that of a request that got no answer.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, Outcome> {
        let exchange = async {
            match &self.access {
                Access::Plain { connector, authorization } => {
                    self.plain(question, connector, authorization.as_ref()).await
                }
                Access::Signed(service) => self.signed(question, service).await,
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }

    /// What it means for all documents that a request was not taken.
    pub fn of_refusal(&self, answer: Answer, of_request: fn(&http::Answer) -> Outcome) -> Outcome {
        let Answer { http, of_aws, .. } = answer;
        let text = self.without_secrets(&String::from_utf8_lossy(&http.text)).into_bytes();
        of_aws.unwrap_or_else(|| of_request(&http::Answer { text, ..http }))
    }

    /// The credentials, for who signs.
    pub fn service(&self) -> Option<&Service> {
        match &self.access {
            Access::Plain { .. } => None,
            Access::Signed(service) => Some(service),
        }
    }

    /// A service may repeat what it was sent.
    pub fn without_secrets(&self, text: &str) -> String {
        let shown = self.secrets.iter().filter(|secret| !secret.0.is_empty());
        shown.fold(text.to_owned(), |text, secret| text.replace(&secret.0, "(not shown)"))
    }

    async fn plain(
        &self,
        question: Question<'_>,
        connector: &SharedHttpConnector,
        authorization: Option<&Secret>,
    ) -> Result<Answer, Outcome> {
        let answer_bytes_max = question.answer_bytes_max;
        let request = request(&self.url, question, authorization);
        let request = request.ok_or_else(|| Outcome::Halt(CANNOT.to_owned()))?;
        let mut response = connector.call(request).await.map_err(|error| {
            if error.is_timeout() {
                Outcome::Retry(RetryReason::TimedOut)
            } else if error.is_user() {
                Outcome::Halt(CANNOT.to_owned())
            } else {
                network::unreachable(&error)
            }
        })?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(str::to_owned);
        let (retry_after, date) = (header("retry-after"), header("date"));
        let (text, end) = response::read(response.body_mut(), answer_bytes_max).await;
        Ok(Answer { http: http::Answer { status, retry_after, date, text }, end, of_aws: None })
    }

    async fn signed(&self, question: Question<'_>, service: &Service) -> Result<Answer, Outcome> {
        let Question { method, path, content_type, encoding, body, answer_bytes_max } = question;
        let session = service.session().await?;
        let url = format!("{}{path}", self.url);
        let mut headers = vec![("content-type", content_type.to_owned())];
        headers.extend(encoding.map(|encoding| ("content-encoding", encoding.to_owned())));
        headers.extend(nothing(method, &body).map(|length| ("content-length", length.to_owned())));
        let body_sha256 = hex(&Sha256::digest(&body));
        let head = Head { method, url: &url, headers: &headers, body_sha256: &body_sha256 };
        let mut answer = service.exchange(&head, SdkBody::from(body), &session, answer_bytes_max).await?;
        let of_aws = of_aws(&answer);
        let text = std::mem::take(&mut answer.body);
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let (retry_after, date) = (header("retry-after"), header("date"));
        let http = http::Answer { status: answer.status, retry_after, date, text };
        if is_denied(answer.status) {
            let outcome = of_aws.clone().unwrap_or_else(|| outcome::of_request(&http));
            service.heed(&outcome, answer.ahead_seconds).await;
        }
        Ok(Answer { http, end: answer.end, of_aws })
    }
}

fn is_denied(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// The length of a body that is empty, which nobody says by himself, and without which a server may not take a POST.
fn nothing(method: &str, body: &[u8]) -> Option<&'static str> {
    (method == "POST" && body.is_empty()).then_some("0")
}

fn request(url: &str, question: Question<'_>, authorization: Option<&Secret>) -> Option<HttpRequest> {
    let Question { method, path, content_type, encoding, body, .. } = question;
    let length = nothing(method, &body);
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(method).ok()?;
    request.set_uri(format!("{url}{path}")).ok()?;
    let headers = request.headers_mut();
    headers.try_insert("content-type", content_type).ok()?;
    headers.try_insert("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION"))).ok()?;
    if let Some(encoding) = encoding {
        headers.try_insert("content-encoding", encoding).ok()?;
    }
    if let Some(length) = length {
        headers.try_insert("content-length", length).ok()?;
    }
    if let Some(authorization) = authorization {
        headers.try_insert("authorization", authorization.0.clone()).ok()?;
    }
    Some(request)
}

/// What AWS, which stands before the cluster, refuses a signature with. The cluster's own refusals have another form, and those of OpenSearch
/// Serverless, too; of these, only the clock can be told.
fn of_aws(answer: &service::Answer) -> Option<Outcome> {
    if !is_denied(answer.status) {
        return None;
    }
    const OF_SIGNATURE: &str = "InvalidSignatureException";
    let Refusal { code, message, skew_seconds } = Refusal::of(answer);
    let is_of_others = code.is_empty() && message.is_empty();
    let code = if code.is_empty() { OF_SIGNATURE } else { &code };
    match errors::of_request(code, &message, answer.status, skew_seconds) {
        Outcome::Halt(_) if is_of_others => None,
        Outcome::Halt(_) => Some(Outcome::Halt(format!(
            "AWS refuses the request; the role needs es:ESHttpPost (aoss:APIAccessAll of a collection), and the policy of the domain has to name it: {}",
            http::shown(&message)
        ))),
        outcome => Some(outcome),
    }
}

//! Credentials by a device's certificate: AWS IoT's credentials endpoint gives those of a role to who shows a certificate that may take it.
//!
//! They are held in memory, and renewed five minutes before they end; while that fails, those that are there go on being used. Files are
//! read for each renewal, so a certificate may be replaced while the gateway runs. Deliberately absent: a proxy, which would have to be asked
//! for a tunnel.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::time::TimeSource;
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::clock::ServiceClock;
use crate::tls::{self, TlsProblem};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Credentials that end within this time are renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// Where a renewal has failed, the next one is tried after this.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// At most this much of the endpoint's message is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What `[aws]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAliasSettings {
    pub host: String,
    pub port: u16,
    pub role_alias: String,
    /// Sent along, for policies that have variables of it.
    pub thing: Option<String>,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Gives credentials to all sinks of a gateway.
pub struct RoleAlias {
    settings: RoleAliasSettings,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    ends: Instant,
    renewed: Instant,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum RoleAliasError {
    #[error("cannot reach the credentials endpoint {host}")]
    Unreachable { host: String, source: io::Error },
    #[error(
        "the TLS handshake with the credentials endpoint {host} fails; look at certificate and key of [aws], whether they have expired or are \
         revoked, and at the CAs that the system trusts"
    )]
    Handshake { host: String, source: io::Error },
    #[error("the credentials endpoint {host} does not answer in time")]
    TimedOut { host: String },
    #[error("the credentials endpoint {host} answers with HTTP status {status}")]
    Busy { host: String, status: u16 },
    #[error(
        "the credentials endpoint {host} refuses the role alias {role_alias} (HTTP status {status}: {message}); look at the policy of the \
         certificate, which has to allow iot:AssumeRoleWithCertificate, and at the alias"
    )]
    Refused { host: String, role_alias: String, status: u16, message: String },
    #[error("what the credentials endpoint {host} answers is not understood")]
    Malformed { host: String },
    #[error("the certificate or the key of [aws] cannot be used")]
    Files(#[from] TlsProblem),
    #[error("the system knows no CA that could vouch for the credentials endpoint; install ca-certificates")]
    NoAuthorities,
}

impl RoleAliasError {
    /// Nobody has to mend anything.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            RoleAliasError::Unreachable { .. } | RoleAliasError::TimedOut { .. } | RoleAliasError::Busy { .. }
        )
    }
}

#[derive(Deserialize)]
struct Answer {
    credentials: AnsweredCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

impl RoleAlias {
    pub fn new(settings: RoleAliasSettings) -> RoleAlias {
        RoleAlias { settings, held: Mutex::new(None) }
    }

    pub fn settings(&self) -> &RoleAliasSettings {
        &self.settings
    }

    /// A provider for one client of the SDK, whose clock it goes by.
    pub fn provider(self: &Arc<Self>, clock: &ServiceClock) -> RoleAliasProvider {
        RoleAliasProvider { role_alias: Arc::clone(self), clock: clock.clone() }
    }

    /// A service does not take them any more, if they `have_ended`; else they are renewed, and used to their end where that fails: other sinks
    /// share them.
    pub async fn doubt(&self, have_ended: bool) {
        let mut held = self.held.lock().await;
        match held.as_mut() {
            Some(held) if !have_ended => held.renewed = Instant::now(),
            _ => *held = None,
        }
    }

    /// Sinks that ask at the same time wait for one renewal.
    async fn credentials(&self) -> Result<Held, RoleAliasError> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(fresh) = held.as_ref().filter(|held| held.renewed > now) {
            return Ok(fresh.clone());
        }
        let host = || self.settings.host.clone();
        let renewed = tokio::time::timeout(TIMEOUT, self.fetch()).await;
        match renewed.unwrap_or_else(|_| Err(RoleAliasError::TimedOut { host: host() })) {
            Ok(renewed) => {
                *held = Some(renewed.clone());
                Ok(renewed)
            }
            Err(error) => match held.as_mut().filter(|held| held.ends > now) {
                Some(last) => {
                    last.renewed = now + TRIED_AGAIN_AFTER;
                    Ok(last.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn fetch(&self) -> Result<Held, RoleAliasError> {
        let RoleAliasSettings { host, port, role_alias, thing, certificate, key } = &self.settings;
        let unreachable = |source: io::Error| match tls::is_of_tls(&source) {
            true => RoleAliasError::Handshake { host: host.clone(), source },
            false => RoleAliasError::Unreachable { host: host.clone(), source },
        };
        let malformed = || RoleAliasError::Malformed { host: host.clone() };
        let roots = tls::roots_of_system().ok_or(RoleAliasError::NoAuthorities)?;
        let config = tls::client_config(Some((certificate, key)), roots)?;
        let name = ServerName::try_from(host.clone()).map_err(|error| unreachable(io::Error::other(error)))?;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(unreachable)?;
        let broken = |error: hyper::Error| unreachable(io::Error::other(error));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::get(format!("/role-aliases/{role_alias}/credentials"))
            .header("host", host)
            .header("connection", "close")
            .header("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION")));
        if let Some(thing) = thing {
            request = request.header("x-amzn-iot-thingname", thing);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| malformed())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| malformed())?;
            Ok::<_, RoleAliasError>((head, body.to_bytes()))
        };
        // The exchange ends before the connection does, unless that breaks.
        let (head, body) = tokio::select! {
            exchanged = exchange => exchanged?,
            Err(error) = connection => return Err(broken(error)),
        };
        match head.status.as_u16() {
            200 => {
                let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
                held(&body, header("date")).ok_or_else(malformed)
            }
            status @ (408 | 429 | 500..=599) => Err(RoleAliasError::Busy { host: host.clone(), status }),
            status => {
                let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
                let message = refusal.message.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
                Err(RoleAliasError::Refused { host: host.clone(), role_alias: role_alias.clone(), status, message })
            }
        }
    }
}

/// How long they last is said by the endpoint's own clock, because ours may be wrong.
fn held(body: &[u8], date: Option<&str>) -> Option<Held> {
    let Answer { credentials } = serde_json::from_slice(body).ok()?;
    let ends = DateTime::from_str(&credentials.expiration, Format::DateTime).ok()?.secs();
    let there = DateTime::from_str(date?, Format::HttpDate).ok()?.secs();
    let lasts = Duration::from_secs(u64::try_from(ends.saturating_sub(there)).ok()?);
    let now = Instant::now();
    let AnsweredCredentials { access_key_id, secret_access_key, session_token, .. } = credentials;
    Some(Held {
        credentials: Credentials::new(access_key_id, secret_access_key, Some(session_token), None, "role alias"),
        ends: now + lasts,
        renewed: now + lasts.saturating_sub(RENEWED_BEFORE),
    })
}

/// What is secret is not shown, and what changes while the gateway runs is not part of its configuration.
impl fmt::Debug for RoleAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[derive(Debug)]
pub struct RoleAliasProvider {
    role_alias: Arc<RoleAlias>,
    clock: ServiceClock,
}

impl ProvideCredentials for RoleAliasProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let held = self.role_alias.credentials().await.map_err(CredentialsError::provider_error)?;
            let mut credentials = held.credentials;
            // Whoever holds them asks again when they are to be renewed.
            let left = held.renewed.saturating_duration_since(Instant::now());
            *credentials.expiry_mut() = Some(self.clock.now() + left);
            Ok(credentials)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_last_as_long_as_the_endpoint_says_by_its_own_clock() {
        let body = br#"{"credentials":{"accessKeyId":"A","secretAccessKey":"S","sessionToken":"T","expiration":"2019-06-01T13:00:00Z"}}"#;
        let held = held(body, Some("Sat, 01 Jun 2019 12:00:00 GMT")).expect("as it is documented");
        let near = |time: Instant, seconds: u64| {
            let left = time.saturating_duration_since(Instant::now());
            left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 60)
        };
        assert!(near(held.ends, 3600) && near(held.renewed, 3300));
        assert_eq!((held.credentials.access_key_id(), held.credentials.session_token()), ("A", Some("T")));
        assert!(super::held(body, None).is_none() && super::held(b"{}", Some("")).is_none());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = RoleAliasSettings {
            host: "h".to_owned(),
            port: 443,
            role_alias: "r".to_owned(),
            thing: None,
            certificate: "c".into(),
            key: "k".into(),
        };
        let role_alias = RoleAlias::new(settings);
        let shown = format!("{role_alias:?}");
        assert!(shown.contains("role_alias: \"r\"") && !shown.contains("held"), "{shown}");
    }
}

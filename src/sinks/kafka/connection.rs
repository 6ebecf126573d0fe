//! A connection to one broker: TLS, login, and one request at a time.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{StrBytes, encode_request_header_into_buffer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::outcome::{self, later};
use super::protocol::{Ask, Reader};
use super::sasl::{Login, Step};
use crate::core::delivery::{Outcome, RetryReason};
use crate::errors::with_causes;
use crate::sinks::links::{CountedStream, SocketBytes};
use crate::tls::{self, ClientFiles};

/// No answer to what is asked here is larger.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// A session is ended by the client, and begun anew, when this much of its time is over.
const SESSION_SHARE: f64 = 0.8;

/// The host and the port of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How brokers are spoken to.
#[derive(Debug)]
pub struct Access {
    pub client_id: String,
    pub tls: Option<ClientFiles>,
    pub login: Login,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// Where bytes are counted, if anybody wants to know.
    pub counts: Option<Arc<SocketBytes>>,
}

trait Stream: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Stream for T {}

pub struct Connection {
    pub address: Address,
    stream: Pin<Box<dyn Stream>>,
    client_id: StrBytes,
    has_tls: bool,
    has_login: bool,
    /// By API key, the lowest and the highest version that the broker takes.
    versions: HashMap<i16, (i16, i16)>,
    requests: i32,
    request_timeout: Duration,
    /// The broker closes it then.
    ends: Option<Instant>,
}

impl Connection {
    /// Connects, asks which versions the broker speaks, and logs in.
    pub async fn open(address: &Address, access: &Access) -> Result<Connection, Outcome> {
        let opening = tokio::time::timeout(access.connect_timeout, secured(address, access));
        let stream = opening
            .await
            .unwrap_or_else(|_| Err(Outcome::Unreachable(format!("{address} does not answer in time"))))?;
        let mut connection = Connection {
            address: address.clone(),
            stream,
            client_id: StrBytes::from_string(access.client_id.clone()),
            has_tls: access.tls.is_some(),
            has_login: access.login.mechanism().is_some(),
            versions: HashMap::from([(ApiKey::ApiVersions as i16, ApiVersionsRequest::VERSIONS)]),
            requests: 0,
            request_timeout: access.request_timeout,
            ends: None,
        };
        let answer = connection.ask(&ApiVersionsRequest::default()).await?;
        if answer.code != 0 {
            return Err(unclear(address, &outcome::words(answer.code, None)));
        }
        connection.versions = answer.versions.into_iter().collect();
        connection.log_in(&access.login).await?;
        Ok(connection)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Outcome> {
        let Some(mechanism) = login.mechanism() else { return Ok(()) };
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let answer = self.ask(&handshake).await?;
        if answer.code != 0 && answer.mechanisms.is_empty() {
            let text = "takes no login at this port; take sasl out of the [[sink]], or correct the port";
            return Err(Outcome::Halt(format!("{} {text}", self.address)));
        }
        if answer.code != 0 {
            return Err(Outcome::Halt(format!(
                "{} offers no login by {mechanism}, but by: {}; set sasl in the [[sink]]",
                self.address,
                answer.mechanisms.join(", ")
            )));
        }
        let mut conversation = login.begin(&self.address.host).await?;
        let mut step = conversation.first();
        loop {
            let (message, is_last) = match step {
                Step::Say(message) => (message, false),
                Step::SayLast(message) => (message, true),
                Step::Done => return Ok(()),
            };
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            let answer = self.ask(&request).await?;
            if answer.code != 0 {
                let words = outcome::words(answer.code, Some(&answer.message));
                return Err(login.refused(&self.address.to_string(), &words).await);
            }
            if answer.lifetime_ms > 0 {
                let lifetime = Duration::from_millis(answer.lifetime_ms.unsigned_abs());
                self.ends = Instant::now().checked_add(lifetime.mul_f64(SESSION_SHARE));
            }
            step = match is_last {
                true => Step::Done,
                false => conversation.next(&answer.said).map_err(|problem| {
                    Outcome::Halt(format!("the login at {} by {mechanism} fails: {problem}", self.address))
                })?,
            };
        }
    }

    /// The highest version that both sides know.
    fn version<A: Ask>(&self) -> Result<i16, Outcome> {
        let (lowest, highest) = self.versions.get(&(A::KEY as i16)).copied().unwrap_or((0, -1));
        let version = highest.min(A::VERSIONS.1);
        if version < lowest.max(A::VERSIONS.0) {
            return Err(Outcome::Halt(format!(
                "{} does not speak a version of {:?} that this program knows; Kafka 1.0 and later do",
                self.address,
                A::KEY
            )));
        }
        Ok(version)
    }

    /// One exchange. After an error the connection is not to be used again.
    pub async fn ask<A: Ask>(&mut self, request: &A) -> Result<A::Answer, Outcome> {
        let version = self.version::<A>()?;
        self.requests = self.requests.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(A::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.requests)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        let encoded =
            encode_request_header_into_buffer(&mut frame, &header).and_then(|()| request.encode(&mut frame, version));
        encoded.map_err(|error| Outcome::Halt(format!("a request cannot be encoded: {error}")))?;
        let length = u32::try_from(frame.len() - 4).map_err(|_| Outcome::TooLarge("more than 4 GiB".to_owned()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let exchange = tokio::time::timeout(self.request_timeout, exchange(&mut self.stream, &frame));
        let answer = match exchange.await {
            Err(_) => return Err(Outcome::Retry(RetryReason::TimedOut)),
            Ok(Err(error)) => return Err(self.broken(&error)),
            Ok(Ok(answer)) => answer,
        };
        let mut answer = Reader::new(&answer);
        match answer.i32() {
            Some(number) if number == self.requests => A::read(&mut answer, version)
                .ok_or_else(|| unclear(&self.address, &format!("an answer to {:?} that is not complete", A::KEY))),
            _ => Err(unclear(&self.address, "an answer to another request")),
        }
    }

    fn broken(&self, error: &io::Error) -> Outcome {
        let address = &self.address;
        // The first request is for the versions; a broker that wants a login takes no other before it.
        let (is_first, is_second) = (self.requests == 1, self.requests == 2);
        if error.get_ref().is_some_and(|error| error.is::<SpeaksTls>()) {
            let text = format!("{address} speaks TLS; set tls = true in the [[sink]], or correct the port");
            return Outcome::Halt(text);
        }
        // In TLS 1.3 the broker looks at the client's certificate when the client takes the handshake for done.
        if is_first && tls::is_of_tls(error) {
            return refused_by_tls(address, error);
        }
        Outcome::Unreachable(match is_closed(error) {
            true if is_first && !self.has_tls => {
                format!("{address} closes the connection at once; does this port need tls = true?")
            }
            true if is_second && !self.has_login => {
                format!("{address} closes the connection at the first request; does this port need a login, by sasl?")
            }
            _ => format!("the connection to {address} breaks: {error}"),
        })
    }

    /// Whether it can be used: the broker closes it when it was idle for long, or when it ends itself.
    pub fn is_alive(&mut self) -> bool {
        if self.ends.is_some_and(|ends| ends <= Instant::now()) {
            return false;
        }
        let mut byte = [0];
        let polled =
            self.stream.as_mut().poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
        // Nothing has been asked, so there is nothing to read either.
        matches!(polled, Poll::Pending)
    }
}

/// What a listener that expects TLS says to anything else. As the length of an answer it would be too large.
const TLS_ALERT: [u8; 2] = [21, 3];

#[derive(Debug, thiserror::Error)]
#[error("it speaks TLS")]
struct SpeaksTls;

/// By the other side: in order, or before it had read everything.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn refused_by_tls(address: &Address, error: &io::Error) -> Outcome {
    let problem = with_causes(error);
    Outcome::Halt(format!(
        "the TLS handshake with {address} fails: {problem}; look at tls, ca, certificate and key of the [[sink]]"
    ))
}

async fn exchange(stream: &mut Pin<Box<dyn Stream>>, frame: &[u8]) -> io::Result<Bytes> {
    stream.write_all(frame).await?;
    stream.flush().await?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    if length.starts_with(&TLS_ALERT) {
        return Err(io::Error::other(SpeaksTls));
    }
    let length = (&length[..]).get_u32() as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is none of Kafka's"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer.into())
}

async fn secured(address: &Address, access: &Access) -> Result<Pin<Box<dyn Stream>>, Outcome> {
    let Address { host, port } = address;
    let unreachable = |error: io::Error| Outcome::Unreachable(format!("cannot connect to {address}: {error}"));
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let stream = CountedStream::new(stream, access.counts.clone());
    let Some(files) = &access.tls else { return Ok(Box::pin(stream)) };
    let config = files.config().map_err(|problem| Outcome::Halt(problem.to_string()))?;
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Outcome::Halt(format!("{host} is no name that a certificate could have")))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        match is_closed(&error) {
            // So does a listener that is spoken to by TLS and does not expect it.
            true => Outcome::Unreachable(format!(
                "{address} closes the connection in the TLS handshake; does this port speak TLS?"
            )),
            false if tls::is_of_tls(&error) => refused_by_tls(address, &error),
            false => unreachable(error),
        }
    })?;
    Ok(Box::pin(stream))
}

fn unclear(address: &Address, what: &str) -> Outcome {
    later(format!("what {address} answers is not understood: {what}"))
}

//! A connection to a server: TLS, login, and one question at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::login::Login;
use super::message::{self, Row, ServerError, TextArray, tag};
use super::outcome::{self, Verdict};
use super::url::Place;
use crate::core::delivery::{Outcome, RetryReason};
use crate::errors::with_causes;
use crate::sinks::links::{CountedStream, SocketBytes};
use crate::sinks::secret::Secret;
use crate::tls::{self, ClientFiles};

/// No answer to what is asked here is larger, all of its messages together.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Somebody between may forget a connection that is silent for minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Within the time limit of a request the server is to give up first, so that it does not go on with what nobody waits for.
const SERVER_SHARE: f64 = 0.9;
/// The one statement of a connection.
const STATEMENT: &str = "outrider";

/// How a server is spoken to.
#[derive(Debug)]
pub struct Access {
    pub place: Place,
    pub application: String,
    pub password: Option<Secret>,
    pub security: Security,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// Where bytes are counted, if anybody wants to know.
    pub counts: Option<Arc<SocketBytes>>,
}

/// The key `sslmode`.
#[derive(Clone, Debug)]
pub enum Security {
    Disabled,
    /// TLS, whoever the server is.
    Required(ClientFiles),
    /// TLS, with a server whose certificate is for its name and of a trusted CA.
    Verified(ClientFiles),
}

impl Access {
    /// Nobody else can read what is said, and the server is known to be the right one.
    fn is_private(&self) -> bool {
        matches!(self.security, Security::Verified(_)) || self.place.is_loopback()
    }

    /// How long the server may take for one statement.
    pub fn statement_timeout_ms(&self) -> u64 {
        u64::try_from(self.request_timeout.mul_f64(SERVER_SHARE).as_millis()).unwrap_or(u64::MAX)
    }
}

trait Stream: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Stream for T {}
type Secured = Pin<Box<dyn Stream>>;

pub struct Connection {
    place: Place,
    stream: BufReader<Secured>,
    request_timeout: Duration,
    is_prepared: bool,
}

/// What a server answers to one question, up to when it is ready for the next.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    /// The first one; what was asked behind it is not done.
    error: Option<ServerError>,
    is_prepared: bool,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(access: &Access) -> Result<Connection, Outcome> {
        let opening = tokio::time::timeout(access.connect_timeout, opened(access));
        let late = || Outcome::Unreachable(format!("{} does not answer in time", access.place));
        opening.await.unwrap_or_else(|_| Err(late()))
    }

    async fn log_in(&mut self, access: &Access) -> Result<(), Outcome> {
        let mut login = Login::new(&access.place, access.password.as_ref(), access.is_private());
        let mut out = Vec::new();
        let (user, database) = (access.place.user.as_str(), access.place.database.as_str());
        let parameters = [
            ("user", user),
            ("database", database),
            ("application_name", access.application.as_str()),
            ("client_encoding", "UTF8"),
        ];
        message::startup(&mut out, &parameters);
        loop {
            self.say(&out).await.map_err(|error| self.broken(&error))?;
            out.clear();
            while out.is_empty() {
                let (tag, body) = self.next().await.map_err(|error| self.broken(&error))?;
                match tag {
                    tag::AUTHENTICATION => {
                        let asked = message::authentication(&body).ok_or_else(|| self.unclear())?;
                        out = login.answer(asked)?.unwrap_or_default();
                    }
                    tag::READY => return login.end(),
                    tag::ERROR => {
                        let what = format!("{} does not let {user} into the database {database}", access.place);
                        return Err(outcome::of_whole(&message::error(&body), &what));
                    }
                    // Settings, and the key to cancel by.
                    _ => {}
                }
            }
        }
    }

    /// Statements without parameters. After an outcome the connection is not to be used again. `what` says what is asked, for people.
    pub async fn query(&mut self, sql: &str, what: &str) -> Result<Vec<Row>, Outcome> {
        let mut out = Vec::new();
        message::query(&mut out, sql);
        let answer = self.ask(&out).await?;
        match answer.error {
            Some(error) => Err(outcome::of_whole(&error, what)),
            None => Ok(answer.rows),
        }
    }

    /// Executes the one statement of this connection, which is the same each time. After [`Verdict::Whole`] the connection is not to be used
    /// again. Also says how many bytes it took.
    pub async fn insert(&mut self, sql: &str, parameters: Vec<TextArray>, what: &str) -> (Verdict, usize) {
        let mut out = Vec::new();
        if !self.is_prepared {
            message::parse(&mut out, STATEMENT, sql, parameters.len());
        }
        message::execute(&mut out, STATEMENT, parameters);
        let verdict = match self.ask(&out).await {
            Ok(Answer { error: None, .. }) => Verdict::Stored,
            Ok(Answer { error: Some(error), .. }) => outcome::of(&error, what),
            Err(outcome) => Verdict::Whole(outcome),
        };
        (verdict, out.len())
    }

    async fn ask(&mut self, question: &[u8]) -> Result<Answer, Outcome> {
        match tokio::time::timeout(self.request_timeout, self.exchange(question)).await {
            Ok(Ok(answer)) => {
                self.is_prepared |= answer.is_prepared;
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }

    async fn exchange(&mut self, question: &[u8]) -> io::Result<Answer> {
        self.say(question).await?;
        let mut answer = Answer::default();
        let mut bytes = 0;
        loop {
            let (tag, body) = match self.next().await {
                // The server has said why it closes the connection.
                Err(_) if answer.error.is_some() => return Ok(answer),
                next => next?,
            };
            bytes += message::HEAD_BYTES + body.len();
            if bytes > ANSWER_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what it says is longer than any answer"));
            }
            match tag {
                tag::READY => return Ok(answer),
                tag::PARSE_COMPLETE => answer.is_prepared = true,
                tag::DATA_ROW => answer.rows.extend(message::row(&body)),
                tag::ERROR => drop(answer.error.get_or_insert(message::error(&body))),
                _ => {}
            }
        }
    }

    async fn say(&mut self, out: &[u8]) -> io::Result<()> {
        self.stream.write_all(out).await?;
        self.stream.flush().await
    }

    /// The next message that is not a notice.
    async fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let tag = self.stream.read_u8().await?;
            let length = self.stream.read_u32().await? as usize;
            if !tag.is_ascii_alphanumeric() || !(4..=ANSWER_BYTES_MAX).contains(&length) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "what it says is not PostgreSQL's protocol"));
            }
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await?;
            if !matches!(tag, tag::NOTICE | tag::PARAMETER) {
                return Ok((tag, body));
            }
        }
    }

    fn broken(&self, error: &io::Error) -> Outcome {
        match tls::is_of_tls(error) {
            // In TLS 1.3 the server looks at the client's certificate when the client takes the handshake for done.
            true => refused_by_tls(&self.place, error),
            false => Outcome::Unreachable(format!("the connection to {} breaks: {error}", self.place)),
        }
    }

    fn unclear(&self) -> Outcome {
        Outcome::Unreachable(format!("what {} answers is not understood", self.place))
    }

    /// Whether it can be used. A server that stops says so unasked, as does one whose settings have changed.
    pub fn is_alive(&mut self) -> bool {
        let polled = Pin::new(&mut self.stream).poll_fill_buf(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Pending)
    }
}

async fn opened(access: &Access) -> Result<Connection, Outcome> {
    let stream = BufReader::new(secured(access).await?);
    let (place, request_timeout) = (access.place.clone(), access.request_timeout);
    let mut connection = Connection { place, stream, request_timeout, is_prepared: false };
    connection.log_in(access).await?;
    Ok(connection)
}

async fn secured(access: &Access) -> Result<Secured, Outcome> {
    let place = &access.place;
    let unreachable = |error: io::Error| Outcome::Unreachable(format!("cannot connect to {place}: {error}"));
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive).map_err(unreachable)?;
    let mut stream = CountedStream::new(stream, access.counts.clone());
    let Some(config) = client_config(&access.security)? else { return Ok(Box::pin(stream)) };
    stream.write_all(&message::TLS_REQUEST).await.map_err(unreachable)?;
    match stream.read_u8().await.map_err(unreachable)? {
        message::TLS_ACCEPTED => {}
        message::TLS_REFUSED => {
            let text = "has no TLS; let it have a certificate, or set sslmode = \"disable\" in the [[sink]]";
            return Err(Outcome::Halt(format!("{place} {text}")));
        }
        tag::ERROR => return Err(Outcome::Unreachable(format!("{place} cannot begin TLS at present"))),
        _ => return Err(Outcome::Unreachable(format!("what {place} answers is not PostgreSQL's protocol"))),
    }
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| Outcome::Halt(format!("{} is no name that a certificate could have", place.host)))?;
    let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let secured = secured.map_err(|error| match tls::is_of_tls(&error) {
        true => refused_by_tls(place, &error),
        false => unreachable(error),
    })?;
    Ok(Box::pin(secured))
}

fn client_config(security: &Security) -> Result<Option<ClientConfig>, Outcome> {
    Ok(match security {
        Security::Disabled => None,
        Security::Required(files) => {
            Some(tls::unverified_client_config(files.shown()).map_err(|problem| Outcome::Halt(problem.to_string()))?)
        }
        Security::Verified(files) => Some(files.config().map_err(|problem| Outcome::Halt(problem.to_string()))?),
    })
}

fn refused_by_tls(place: &Place, error: &io::Error) -> Outcome {
    Outcome::Halt(format!(
        "the TLS handshake with {place} fails: {}; look at sslmode, ca, certificate and key of the [[sink]]",
        with_causes(error)
    ))
}

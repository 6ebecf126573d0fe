//! Connections of HTTP/1.1: one exchange at a time on each, reused as long as the service keeps them. What goes over their sockets is counted where
//! a link costs money. With the connections of the SDK nothing of ours would be between them and the socket, and its HTTP/2 is 0.7 MB of
//! program, for which a sink has no use: it has few requests under way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::Scheme;
use hyper::{Request, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::is_here;
use crate::sinks::links::{CountedStream, SocketBytes};
use crate::tls;
use crate::uplink::connect_any;

/// Most connections that are kept for later.
const IDLE_MAX: usize = 16;
/// For so long: what lies between, as in networks of mobile phones, may forget a connection soon after. And what is sent over one whose bytes
/// are counted is to be acknowledged within it: what is repeated costs money.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// No answer of a proxy to the wish for a tunnel is longer.
const TUNNEL_ANSWER_BYTES_MAX: usize = 8 << 10;

#[derive(Debug)]
struct Network(Arc<Connections>);

#[derive(Debug)]
struct Connections {
    connect_timeout: Duration,
    /// `None`: nobody wants to know.
    bytes: Option<Arc<SocketBytes>>,
    proxies: Matcher,
    /// The CAs that certificates have to be of, instead of the system's. The file is read anew for each connection, because CAs change.
    ca: Option<PathBuf>,
    tls_of_system: OnceLock<Option<Arc<ClientConfig>>>,
    idle_for: Duration,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that is kept for later.
#[derive(Debug)]
struct Idle {
    /// Where it leads to.
    origin: String,
    since: Instant,
    sender: SendRequest<SdkBody>,
}

/// Unless it is said that an answer has come, what is kept for that origin is given up: whatever holds up one connection may hold up all.
struct Unanswered<'a> {
    connections: &'a Connections,
    origin: &'a str,
    is_answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.connections.forget(self.origin);
        }
    }
}

/// What requests are spoken over, with or without TLS, through whatever tunnels.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects with the first request.
pub fn connector(connect_timeout: Duration, bytes: Option<Arc<SocketBytes>>) -> SharedHttpConnector {
    connector_trusting(connect_timeout, None, bytes)
}

/// The same, with the CAs of a file instead of the system's.
pub fn connector_trusting(
    connect_timeout: Duration,
    ca: Option<&Path>,
    bytes: Option<Arc<SocketBytes>>,
) -> SharedHttpConnector {
    let ca = ca.map(Path::to_owned);
    let connections = Connections { ca, ..Connections::new(connect_timeout, IDLE_FOR, bytes) };
    SharedHttpConnector::new(Network(Arc::new(connections)))
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connections = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { connections.exchange(request).await })
    }
}

fn io(error: io::Error) -> ConnectorError {
    ConnectorError::io(error.into())
}

fn of_hyper(error: hyper::Error) -> ConnectorError {
    match error.is_user() {
        true => ConnectorError::user(error.into()),
        false => ConnectorError::io(error.into()),
    }
}

impl Connections {
    fn new(connect_timeout: Duration, idle_for: Duration, bytes: Option<Arc<SocketBytes>>) -> Connections {
        let (proxies, tls_of_system) = (Matcher::from_env(), OnceLock::new());
        Connections { connect_timeout, bytes, proxies, ca: None, tls_of_system, idle_for, idle: Mutex::default() }
    }

    /// A new connection, within the time for it.
    async fn connect_in_time(
        &self,
        uri: &Uri,
        proxy: Option<&Intercept>,
        is_tls: bool,
    ) -> Result<SendRequest<SdkBody>, ConnectorError> {
        tokio::time::timeout(self.connect_timeout, self.connect(uri, proxy, is_tls))
            .await
            .map_err(|_| io(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))?
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let uri = request.uri().clone();
        let proxy = if is_here(&uri.to_string()) { None } else { self.proxies.intercept(&uri) };
        let is_tls = is_https(&uri);
        prepare(&mut request, &uri, proxy.as_ref().filter(|_| !is_tls))?;
        let origin =
            format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |at| at.as_str()));
        let kept = self.idle_one(&origin);
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect_in_time(&uri, proxy.as_ref(), is_tls).await?,
        };
        let mut unanswered = Unanswered { connections: self, origin: &origin, is_answered: false };
        let response = match sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => match error.take_message().filter(|_| is_kept) {
                // Nothing of it was sent: the service had closed the connection, as it may with one that was idle. Whether a request that was
                // sent has arrived nobody knows, and the delivery decides what becomes of it.
                Some(unsent) => {
                    self.forget(&origin);
                    sender = self.connect_in_time(&uri, proxy.as_ref(), is_tls).await?;
                    sender.send_request(unsent).await
                }
                None => Err(error.into_error()),
            },
        };
        let response = response.map_err(of_hyper)?;
        unanswered.is_answered = true;
        drop(unanswered);
        // Behind one name there may be many hosts, of which one is broken: the next request may reach another one.
        if !response.status().is_server_error() {
            self.keep(origin, sender);
        }
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }

    /// The answer on it is still to be read; until then it is not ready.
    fn keep(&self, origin: String, sender: SendRequest<SdkBody>) {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Idle { origin, since: Instant::now(), sender });
    }

    /// A connection that the service has kept, and whose last answer was read.
    fn idle_one(&self, origin: &str) -> Option<SendRequest<SdkBody>> {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        // What lies between forgets connections that nothing comes over, and tells nobody.
        idle.retain(|one| !one.sender.is_closed() && one.since.elapsed() < self.idle_for);
        let at = idle.iter().position(|one| one.origin == origin && one.sender.is_ready())?;
        Some(idle.remove(at).sender)
    }

    fn forget(&self, origin: &str) {
        self.idle.lock().expect("nothing panics while it is held").retain(|one| one.origin != origin);
    }

    async fn connect(
        &self,
        uri: &Uri,
        proxy: Option<&Intercept>,
        is_tls: bool,
    ) -> Result<SendRequest<SdkBody>, ConnectorError> {
        let host = host_of(uri);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let (to_host, to_port) = match proxy.map(Intercept::uri) {
            None => (host, port),
            Some(proxy) => (host_of(proxy), proxy.port_u16().unwrap_or(if is_https(proxy) { 443 } else { 80 })),
        };
        let addresses = tokio::net::lookup_host((to_host, to_port)).await.map_err(io)?;
        let stream = connect_any(addresses.collect()).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        if self.bytes.is_some() {
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(IDLE_FOR)).map_err(io)?;
        }
        let mut stream: Box<dyn Stream> = Box::new(CountedStream::new(stream, self.bytes.clone()));
        if let Some(proxy) = proxy {
            if is_https(proxy.uri()) {
                stream = encrypt(self.tls_of_system()?, to_host, stream).await?;
            }
            if is_tls {
                open_tunnel(&mut stream, host, port, proxy.basic_auth()).await.map_err(io)?;
            }
        }
        if is_tls {
            stream = encrypt(self.tls()?, host, stream).await?;
        }
        speak(stream).await
    }

    /// For the service.
    fn tls(&self) -> Result<Arc<ClientConfig>, ConnectorError> {
        let Some(ca) = &self.ca else { return self.tls_of_system() };
        let config = tls::roots_of_file(ca).and_then(|roots| tls::client_config(None, roots));
        config.map(Arc::new).map_err(|problem| io(io::Error::other(problem.to_string())))
    }

    fn tls_of_system(&self) -> Result<Arc<ClientConfig>, ConnectorError> {
        let config = self.tls_of_system.get_or_init(|| {
            tls::roots_of_system().and_then(|roots| tls::client_config(None, roots).ok()).map(Arc::new)
        });
        config.clone().ok_or_else(|| io(io::Error::other("the system knows no CA; install ca-certificates")))
    }
}

/// Without the brackets of an address of IPv6.
fn host_of(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

async fn encrypt(
    config: Arc<ClientConfig>,
    host: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, ConnectorError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| ConnectorError::user(error.into()))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await.map_err(io)?))
}

/// The request as it stands on the wire: with its host, and without the origin in its first line, except for a proxy.
fn prepare(request: &mut Request<SdkBody>, uri: &Uri, proxy: Option<&Intercept>) -> Result<(), ConnectorError> {
    // A port that the scheme has anyway is none of the host that is signed.
    let usual = if is_https(uri) { 443 } else { 80 };
    let host = uri.host().unwrap_or_default();
    let host = match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let host = HeaderValue::from_str(&host).map_err(|error| ConnectorError::user(error.into()))?;
    request.headers_mut().entry(HOST).or_insert(host);
    match proxy {
        Some(proxy) => {
            if let Some(login) = proxy.basic_auth() {
                request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
            }
        }
        None => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() =
                path.parse().map_err(|error: hyper::http::uri::InvalidUri| ConnectorError::user(error.into()))?;
        }
    }
    Ok(())
}

async fn speak(stream: Box<dyn Stream>) -> Result<SendRequest<SdkBody>, ConnectorError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(of_hyper)?;
    // It ends when the sender is gone, or the service closes it; whoever sends is told.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn open_tunnel(stream: &mut impl Stream, host: &str, port: u16, login: Option<&HeaderValue>) -> io::Result<()> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut wish = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(login) = login {
        wish.extend_from_slice(b"Proxy-Authorization: ");
        wish.extend_from_slice(login.as_bytes());
        wish.extend_from_slice(b"\r\n");
    }
    wish.extend_from_slice(b"\r\n");
    stream.write_all(&wish).await?;
    stream.flush().await?;
    // Byte by byte, because what follows is no matter of the proxy.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == TUNNEL_ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer has no end"));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match status.first() {
        Some(b'2') => Ok(()),
        _ => {
            let status = String::from_utf8_lossy(status).into_owned();
            Err(io::Error::other(format!("the proxy opens no tunnel: it answers with HTTP status {status}")))
        }
    }
}

#[cfg(test)]
mod tests;

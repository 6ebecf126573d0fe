//! From an endpoint to a stream of bytes: names, addresses, time limits, TLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::broker::Broker;
use super::counted::CountedStream;
use crate::core::mqtt::client::{End, Remedy};
use crate::errors::with_causes;
use crate::tls::{self, ClientProblem};

/// An address that has not answered for so long has the next one beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(300);
/// What is sent is to be acknowledged by the other side's TCP within this time, or the connection is broken.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// Of what is not sent yet the system keeps so much at most: what lies there counts as written, while the answer to it cannot come.
const UNSENT_BYTES_MAX: u32 = 16 << 10;

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Files of ours cannot be used.
    #[error(transparent)]
    Files(#[from] ClientProblem),
    /// The host is not what a certificate could be of.
    #[error("{0} is no name that a certificate could have")]
    Name(String),
    /// The network does not lead there, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// TLS fails: a certificate is wrong, on either side.
    #[error("{0}")]
    Tls(String),
    /// The broker was reached, and the login has failed.
    #[error("{0}")]
    Ended(End),
}

impl ConnectError {
    /// Who has to act.
    pub fn remedy(&self) -> Remedy {
        match self {
            ConnectError::Files(_) | ConnectError::Name(_) | ConnectError::Tls(_) => Remedy::Mend,
            ConnectError::Unreachable(_) => Remedy::Wait,
            ConnectError::Ended(end) => end.remedy(),
        }
    }
}

/// Connects, within the time for it.
pub(super) async fn connect(broker: &Broker) -> Result<Pin<Box<dyn Stream>>, ConnectError> {
    let connecting = tokio::time::timeout(broker.connect_timeout, secured(broker));
    connecting
        .await
        .unwrap_or_else(|_| Err(ConnectError::Unreachable(format!("{} does not answer in time", broker.endpoint))))
}

async fn secured(broker: &Broker) -> Result<Pin<Box<dyn Stream>>, ConnectError> {
    let endpoint = &broker.endpoint;
    let unreachable = |error: io::Error| ConnectError::Unreachable(format!("cannot connect to {endpoint}: {error}"));
    // What is wrong here is said before anybody is asked.
    let tls = if endpoint.is_tls { Some(client_tls(broker)?) } else { None };
    let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
    let stream = connect_any(addresses.collect()).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)).map_err(unreachable)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX).map_err(unreachable)?;
    let stream = CountedStream::counted_by(stream, broker.counts.clone());
    let Some((connector, name)) = tls else { return Ok(Box::pin(stream)) };
    let stream = connector.connect(name, stream).await.map_err(|error| {
        match is_closed(&error) {
            // So does a listener that is spoken to by TLS and does not expect it.
            true => ConnectError::Unreachable(format!(
                "{endpoint} closes the connection in the TLS handshake; does this port speak TLS?"
            )),
            false if tls::is_of_tls(&error) => refused_by_tls(broker, &error),
            false => unreachable(error),
        }
    })?;
    Ok(Box::pin(stream))
}

fn client_tls(broker: &Broker) -> Result<(TlsConnector, ServerName<'static>), ConnectError> {
    let mut config = broker.files.config()?;
    config.alpn_protocols = broker.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let host = &broker.endpoint.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| ConnectError::Name(host.clone()))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

pub(super) fn refused_by_tls(broker: &Broker, error: &io::Error) -> ConnectError {
    let problem = with_causes(error);
    ConnectError::Tls(format!(
        "the TLS handshake with {} fails: {problem}; look at url, ca, certificate and key",
        broker.endpoint
    ))
}

/// By the other side: in order, or before it had read everything.
pub(super) fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe | ConnectionAborted)
}

/// Connects to one of these addresses, which lead to the same host. One that does not answer is not waited for: the next one, of the other
/// family if there is one, is tried beside it.
pub async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let first_is_6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, _) = addresses.into_iter().partition(|at| at.is_ipv6() == first_is_6);
    let longer = first.len().max(second.len());
    let turns = (0..longer).flat_map(|at| [first.get(at).copied(), second.get(at).copied()]);
    let mut left = turns.flatten().collect::<VecDeque<SocketAddr>>();
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match left.pop_front() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(failed),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(error) => failed = io::Error::other(error),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if !left.is_empty() => {}
        }
    }
}

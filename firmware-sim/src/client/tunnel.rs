//! TLS for rumqttc: a local socket that it connects to, and a task that carries what goes through it over TLS.
//!
//! rumqttc's own TLS would link a version of rustls-webpki with published vulnerabilities and a crate that nobody maintains, and its event
//! loop takes no connection that somebody else has made. The socket is in Linux's abstract namespace, takes one connection, and that only
//! from this process.

use crate::tls::Tls;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the broker may take to close a connection after we have.
const END_MAX: Duration = Duration::from_millis(500);

pub(super) struct Tunnel {
    address: String,
    /// One task, which ends when this is dropped.
    carrying: JoinSet<io::Result<()>>,
}

impl Tunnel {
    /// The broker is connected to when somebody connects to the socket.
    pub fn open(broker: SocketAddr, tls: Tls) -> io::Result<Self> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        // Processes of two containers may have the same id and the same namespace of sockets.
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let address = format!("\0firmware-sim-{}-{now_ns}-{number}", std::process::id());
        let listener = UnixListener::bind(&address)?;
        let mut carrying = JoinSet::new();
        carrying.spawn(carry(listener, broker, tls));
        Ok(Tunnel { address, carrying })
    }

    /// As a path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until everything is carried and the connection is closed, once the local end is. Returns why it broke, if it did.
    pub async fn end(mut self) -> Option<String> {
        match timeout(END_MAX, self.carrying.join_next()).await {
            Ok(Some(Ok(Err(error)))) => Some(error.to_string()),
            _ => None,
        }
    }
}

async fn carry(listener: UnixListener, broker: SocketAddr, tls: Tls) -> io::Result<()> {
    let mut local = accept_own(listener).await?;
    let stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    let mut remote = tls.shake_hands(stream).await?;
    copy_bidirectional(&mut local, &mut remote).await?;
    Ok(())
}

/// Another process could use our certificate.
async fn accept_own(listener: UnixListener) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        if stream.peer_cred()?.pid().is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id())) {
            return Ok(stream);
        }
    }
}

//! Handshakes of TLS, on a thread of their own: one takes about as long as a hundred publishes.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes that may wait to be begun. Those under way are bounded by the connections.
const WAITING_MAX: usize = 256;
/// What one connection may have encrypted and not sent.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

type Shaken = io::Result<Box<TlsStream<TcpStream>>>;

struct Handshake {
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: oneshot::Sender<Shaken>,
}

/// Whoever has none of it left lets the thread end.
#[derive(Clone)]
pub(super) struct Handshakes(mpsc::Sender<Handshake>);

impl Handshakes {
    pub fn start() -> io::Result<Handshakes> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("tls".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, serve(receiver));
        })?;
        Ok(Handshakes(sender))
    }

    /// Whoever drops this ends the handshake too.
    pub async fn shake(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Shaken {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the thread of handshakes has ended");
        self.0.send(Handshake { stream, config, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn serve(mut handshakes: mpsc::Receiver<Handshake>) {
    while let Some(Handshake { stream, config, mut answer }) = handshakes.recv().await {
        tokio::task::spawn_local(async move {
            let accepting = TlsAcceptor::from(config)
                .accept_with(stream, |connection| connection.set_buffer_limit(Some(BUFFER_BYTES_MAX)));
            let shaken = tokio::select! {
                shaken = accepting => shaken,
                () = answer.closed() => return,
            };
            // Whoever waited may have gone meanwhile.
            let _ = answer.send(shaken.map(Box::new));
        });
    }
}

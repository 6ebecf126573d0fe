//! One publish at QoS 1 that is subscribed to, by rumqttc over TCP or TLS. What is published below [`TOPICS`] is not stored.
//!
//! TLS is beside the library, whose own would link a rustls-webpki with published vulnerabilities: it connects to a local socket, in Linux's
//! abstract namespace, that takes one connection, from this process only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, Transport};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
use tokio_rustls::TlsConnector;

use crate::core::mqtt::topic::ECHO_ROOT;
use crate::errors::with_causes;

/// What a client needs rights for.
pub const TOPICS: &str = "outrider-doctor/#";

const WITHIN: Duration = Duration::from_secs(10);
/// How long an orderly end may take; nothing depends on it.
const END_WITHIN: Duration = Duration::from_millis(500);

/// How to connect.
pub struct Connecting {
    pub address: SocketAddr,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub credentials: Option<(String, String)>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub acknowledged: Duration,
    /// When the subscriber had it.
    pub returned: Option<Duration>,
    pub refused: Option<Refused>,
}

/// What the client has no right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Publish,
    Subscribe,
}

/// Runs on this thread.
pub fn echo(connecting: Connecting) -> Result<Answer, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let tried = tokio::time::timeout(WITHIN, exchange(connecting)).await;
        tried.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())))
    })
}

async fn exchange(connecting: Connecting) -> Result<Answer, String> {
    let random = getrandom::u64().map_err(|error| format!("no random bytes: {error}"))?;
    let name = format!("{ECHO_ROOT}-{random:016x}");
    let topic = format!("{ECHO_ROOT}/{random:016x}");
    let (host, transport, tunnel) = match connecting.tls {
        None => (connecting.address.ip().to_string(), Transport::Tcp, None),
        Some((config, server)) => {
            let path = format!("\0{name}");
            let socket = UnixListener::bind(&path).map_err(|error| format!("no local socket: {error}"))?;
            let tunnel = tokio::spawn(carry(socket, connecting.address, config, server));
            (path, Transport::Unix, Some(tunnel))
        }
    };
    let mut options = MqttOptions::new(&name, host, connecting.address.port());
    options.set_transport(transport).set_connection_timeout(WITHIN.as_secs());
    if let Some((username, password)) = connecting.credentials {
        options.set_credentials(username, password);
    }
    let (client, mut events) = AsyncClient::new(options, 8);
    let answer = converse(&client, &mut events, &topic).await;
    let _ = client.disconnect().await;
    let _ = tokio::time::timeout(END_WITHIN, ended(&mut events)).await;
    drop(events);
    match (answer, tunnel) {
        // Why the tunnel broke says more than that it did.
        (Err(error), Some(tunnel)) => Err(match tokio::time::timeout(END_WITHIN, tunnel).await {
            Ok(Ok(Err(cause))) => with_causes(&cause),
            _ => error,
        }),
        (answer, _) => answer,
    }
}

async fn converse(client: &AsyncClient, events: &mut EventLoop, topic: &str) -> Result<Answer, String> {
    const PAYLOAD: &[u8] = b"an echo";
    let over = |_| "the connection is over".to_owned();
    let mut published = Instant::now();
    let (mut acknowledged, mut returned, mut refused) = (None, None, None);
    loop {
        let event = events.poll().await.map_err(|error| with_causes(&error))?;
        let Event::Incoming(packet) = event else { continue };
        match packet {
            Packet::ConnAck(_) => client.subscribe(topic, QoS::AtLeastOnce).await.map_err(over)?,
            Packet::SubAck(answer) => {
                if !matches!(answer.return_codes[..], [SubscribeReasonCode::Success(_)]) {
                    refused = Some(Refused::Subscribe);
                }
                published = Instant::now();
                client.publish(topic, QoS::AtLeastOnce, false, PAYLOAD).await.map_err(over)?;
            }
            Packet::PubAck(answer) => {
                if !matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
                    refused = Some(Refused::Publish);
                }
                acknowledged = Some(published.elapsed());
            }
            Packet::Publish(publish) if publish.topic == topic.as_bytes() => returned = Some(published.elapsed()),
            Packet::Disconnect(disconnect) => {
                return Err(format!("it disconnects: {:?}", disconnect.reason_code));
            }
            _ => {}
        }
        if let Some(acknowledged) = acknowledged.filter(|_| returned.is_some() || refused.is_some()) {
            return Ok(Answer { acknowledged, returned, refused });
        }
    }
}

/// Waits until DISCONNECT is on its way, or the connection is over.
async fn ended(events: &mut EventLoop) {
    while let Ok(event) = events.poll().await {
        if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
            return;
        }
    }
}

async fn carry(
    socket: UnixListener,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
) -> io::Result<()> {
    // Another process could use our certificate.
    let mut local = loop {
        let (stream, _) = socket.accept().await?;
        if stream.peer_cred()?.pid().is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id())) {
            break stream;
        }
    };
    let stream = TcpStream::connect(address).await?;
    let mut remote = TlsConnector::from(config).connect(server, stream).await?;
    copy_bidirectional(&mut local, &mut remote).await?;
    Ok(())
}

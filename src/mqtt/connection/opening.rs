//! The start of a connection: its CONNECT, and what is logged about refused clients.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::core::mqtt::session::{self, Close, Connect};
use crate::handoff;
use crate::mqtt::codec::{self, DecodeError, Packet};
use crate::mqtt::{Edge, LOGIN_WARNINGS_MAX, Phase};

/// Room for a CONNECT with the longest client id and a large will. A will is kept as long as its connection.
const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// The operating system detects a peer that has vanished silently, even with keep-alive 0.
const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// A client that may have a session.
pub(super) struct Admitted {
    pub connect: Connect,
    pub client_id: String,
    /// What it sent behind its CONNECT.
    pub input: BytesMut,
}

/// Waits for the CONNECT and checks it. `None` if nothing comes of the connection; it is answered and logged then.
pub(super) async fn admit<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Option<Admitted> {
    // A small packet must not wait for the TCP acknowledgement of another one. If the options cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&*stream).set_tcp_keepalive(&TCP_KEEPALIVE);
    let mut input = BytesMut::new();
    let mut phase = edge.phase.clone();
    let first = tokio::select! {
        first = timeout(edge.settings.connect_timeout, read_connect(edge, stream, &mut input)) => first,
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return None,
    };
    let Ok(first) = first else {
        edge.warn_of_client(peer, "", "no CONNECT within the time limit");
        return None;
    };
    let connect = first?;
    let client_id = match session::check_connect(&connect, || edge.make_client_id()) {
        Ok(client_id) => client_id,
        Err(refusal) => {
            let mut out = Vec::new();
            codec::encode_connack(false, refusal as u8, &mut out);
            let _ = timeout(edge.settings.write_timeout, stream.write_all(&out)).await;
            edge.counters.connections_refused.add(1);
            let reason = "refused: a client id has 1 to 128 bytes without + # $ / (an empty one needs a clean session)";
            edge.warn_of_client(peer, &connect.client_id, reason);
            return None;
        }
    };
    edge.counters.connections.add(1);
    if connect.has_login {
        edge.note_login(peer, &client_id);
    }
    Some(Admitted { connect, client_id, input })
}

/// Reads until the first packet is complete. Answers by itself if it is not a CONNECT of MQTT 3.1.1.
async fn read_connect<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Option<Connect> {
    loop {
        let problem = match codec::frame_len(input, CONNECT_BYTES_MAX) {
            Ok(Some(len)) if input.len() >= len => {
                let frame = input.split_to(len);
                match codec::decode(&frame) {
                    Ok(Packet::Connect(connect)) => return Some(connect),
                    Ok(_) => Close::NotConnected.to_string(),
                    Err(error) => {
                        let mut out = Vec::new();
                        match error {
                            DecodeError::ProtocolLevel(5) => codec::encode_connack_v5_unsupported(&mut out),
                            DecodeError::ProtocolLevel(_) => codec::encode_connack(false, 1, &mut out),
                            DecodeError::Malformed | DecodeError::TooLarge { .. } => {}
                        }
                        let _ = stream.write_all(&out).await;
                        error.to_string()
                    }
                }
            }
            Ok(_) => match stream.read_buf(input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => continue,
            },
            Err(error) => error.to_string(),
        };
        edge.counters.connections_refused.add(1);
        if let Ok(peer) = stream.peer_addr() {
            edge.warn_of_client(peer, "", &problem);
        }
        return None;
    }
}

impl<T: From<handoff::Input> + 'static> Edge<T> {
    pub(super) fn warn_of_client(&self, peer: SocketAddr, client_id: &str, reason: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(%peer, client_id, more, "connection closed: {reason}");
        }
    }

    /// A login is accepted: refusing clients that send one would lock out devices that have one configured while admitting all others. But
    /// nobody may believe that it protects anything. A user name can be a secret, so the log does not show it.
    pub(super) fn note_login(&self, peer: SocketAddr, client_id: &str) {
        self.counters.logins_unchecked.add(1);
        let mut told = self.told_of_logins.borrow_mut();
        if told.len() < LOGIN_WARNINGS_MAX && told.insert(peer.ip()) {
            tracing::warn!(
                client_id,
                "{} sent a login, but logins are not checked: whoever reaches this port can publish and subscribe",
                peer.ip()
            );
        }
    }

    pub(super) fn make_client_id(&self) -> String {
        let number = self.made_client_ids.get() + 1;
        self.made_client_ids.set(number);
        format!("outrider-made-{number}")
    }
}

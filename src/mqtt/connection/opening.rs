//! The start of a connection: its CONNECT, and what is logged about refused clients.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::core::mqtt::access::Permissions;
use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::packet::{self, Connack, Connect, DecodeError, Version, reason};
use crate::core::mqtt::publishing::{self, Voice};
use crate::core::mqtt::session::{self, ALIASES_MAX, BadClientId, Close};
use crate::handoff;
use crate::mqtt::client::Client;
use crate::mqtt::identify::Login;
use crate::mqtt::listener::{ClientLimits, Listener};
use crate::mqtt::quota::QuotaSeat;
use crate::mqtt::transport::{Socket, Transport, write_all};
use crate::mqtt::wills::LeftWill;
use crate::mqtt::{Edge, Phase, upgrade};

/// How long a client may take to read why it is not admitted.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 1024;
/// Room for a CONNECT with the longest client id and a large will. A will is kept as long as its connection.
const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// The operating system detects a peer that has vanished silently, even with keep-alive 0.
const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// A client that may have a session.
pub(super) struct Admitted {
    pub client: Rc<Client>,
    /// The generation of the listener's policy when its handshake began: what has changed since is looked at again.
    pub generation: u64,
    pub version: Version,
    pub is_bridge: bool,
    /// Whether the gateway chose the client id.
    is_assigned: bool,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    /// How long its session is kept when it is gone.
    pub session_expiry: Duration,
    /// What it has to be told instead of what it asked for.
    told_keep_alive_s: Option<u16>,
    told_expiry_s: Option<u32>,
    pub will: Option<LeftWill>,
    pub limits: Limits,
    /// What it sent behind its CONNECT.
    pub input: BytesMut,
    /// Its part of what its user may take.
    pub quota: QuotaSeat,
}

impl Admitted {
    fn new(connect: &Connect<'_>, client: Client, quota: QuotaSeat) -> Admitted {
        let settings = &client.listener.settings.client;
        let asked_s = u64::from(connect.keep_alive_s);
        let told_keep_alive_s = settings.keep_alive_max.map(|max| max.as_secs()).filter(|max_s| {
            let is_longer = asked_s == 0 || asked_s > *max_s;
            connect.version == Version::V5 && is_longer
        });
        let told_keep_alive_s = told_keep_alive_s.and_then(|seconds| u16::try_from(seconds).ok());
        let expiry_max = settings.session_expiry_max;
        let session_expiry = match connect.session_expiry_s {
            Some(seconds) => expiry_max.min(Duration::from_secs(seconds.into())),
            None if connect.clean_start => Duration::ZERO,
            None => expiry_max,
        };
        let kept_s = u32::try_from(session_expiry.as_secs()).unwrap_or(u32::MAX);
        Admitted {
            version: connect.version,
            is_bridge: connect.is_bridge,
            is_assigned: connect.client_id.is_empty(),
            clean_start: connect.clean_start,
            keep_alive_s: told_keep_alive_s.unwrap_or(connect.keep_alive_s),
            session_expiry,
            told_keep_alive_s,
            told_expiry_s: connect.session_expiry_s.and_then(|asked_s| (asked_s > kept_s).then_some(kept_s)),
            will: connect.will.as_ref().map(LeftWill::new),
            limits: Limits {
                version: connect.version,
                receive_maximum: connect.receive_maximum.map_or(usize::from(u16::MAX), usize::from),
                packet_bytes_max: connect.packet_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
                aliases_max: connect.topic_alias_maximum,
            },
            input: BytesMut::new(),
            quota,
            generation: client.listener.generation(),
            client: Rc::new(client),
        }
    }

    /// The answer to CONNECT.
    pub fn welcome(&self, session_present: bool, settings: &ClientLimits, out: &mut Vec<u8>) {
        let answer = Connack {
            session_present,
            session_expiry_s: self.told_expiry_s,
            receive_maximum: settings.receive_maximum,
            packet_bytes_max: u32::try_from(settings.packet_bytes_max).ok(),
            assigned_client_id: self.is_assigned.then_some(self.client.id()),
            topic_alias_maximum: ALIASES_MAX,
            keep_alive_s: self.told_keep_alive_s,
            ..Connack::default()
        };
        packet::connack(self.version, &answer, out);
    }
}

/// Waits for the handshakes and the CONNECT, and checks them. `None` if nothing comes of the connection; it is answered and logged then.
pub(super) async fn admit<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    listener: &Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(Transport, Admitted)> {
    // A small packet must not wait for the TCP acknowledgement of another one. If the options cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TCP_KEEPALIVE);
    let generation = listener.generation();
    let deadline = Instant::now() + listener.settings.client.connect_timeout;
    let mut phase = edge.phase.clone();
    let late = |of: &'static str| Refusal::silent("", format!("no {of} within the time limit"));
    let opening = async {
        let opened = timeout_at(deadline, shake_hands(edge, listener, stream)).await;
        let transport = RefCell::new(opened.unwrap_or_else(|_| Err(late("handshake")))?);
        let mut input = BytesMut::new();
        let first = timeout_at(deadline, read_first(&transport, &mut input)).await;
        let admitted = match first {
            Err(_) => Err(late("CONNECT")),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => Err(Refusal::silent("", error.to_string())),
            Ok(Ok(Some(frame))) => judge(edge, listener, &transport, &frame, peer).await,
        };
        match admitted {
            Ok(admitted) => Ok(Some((transport.into_inner(), Admitted { input, generation, ..admitted }))),
            Err(refusal) => {
                answer(&transport, &refusal).await;
                Err(refusal)
            }
        }
    };
    let opened = tokio::select! {
        opened = opening => opened,
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return None,
    };
    match opened {
        Ok(None) => None,
        Ok(Some(opened)) => {
            edge.counters.connections.add(1);
            Some(opened)
        }
        Err(refusal) => {
            edge.counters.connections_refused.add(1);
            edge.warn_of_client(peer, &refusal.client_id, &refusal.text);
            None
        }
    }
}

/// The handshakes of TLS and of WebSocket.
async fn shake_hands<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    listener: &Listener,
    stream: TcpStream,
) -> Result<Transport, Refusal> {
    let policy = listener.policy();
    let socket = match &policy.tls {
        None => Socket::Tcp(stream),
        Some(tls) => {
            let shaken = edge.helpers.handshakes.shake(stream, Arc::clone(&tls.config)).await;
            Socket::Tls(shaken.map_err(|error| Refusal::silent("", format!("no handshake of TLS: {error}")))?)
        }
    };
    if !listener.settings.is_websocket {
        return Ok(Transport::new(socket));
    }
    let upgraded = upgrade::accept(Transport::new(socket), &listener.settings.origins).await;
    upgraded.map_err(|text| Refusal::silent("", format!("no handshake of WebSocket: {text}")))
}

/// Answers a CONNECT that is refused.
async fn answer(transport: &RefCell<Transport>, refusal: &Refusal) {
    if let Some((version, reason)) = refusal.answer {
        let mut out = Vec::new();
        let answer = Connack { reason, ..Connack::default() };
        packet::connack(version, &Connack { text: Some(&refusal.text), ..answer }, &mut out);
        if out.len() > refusal.answer_bytes_max {
            out.clear();
            packet::connack(version, &answer, &mut out);
        }
        let _ = timeout(ANSWER_WITHIN, write_all(transport, &out)).await;
        transport.borrow_mut().try_shutdown();
    }
}

/// Why a client is not admitted.
struct Refusal {
    client_id: String,
    text: String,
    /// How it is told; not at all if nobody would understand it.
    answer: Option<(Version, u8)>,
    /// The reason is told in words only if the answer is not longer than this.
    answer_bytes_max: usize,
}

impl Refusal {
    fn silent(client_id: &str, text: String) -> Refusal {
        Refusal { client_id: client_id.to_owned(), text, answer: None, answer_bytes_max: 0 }
    }

    fn of(error: DecodeError, frame: &[u8]) -> Refusal {
        let version = match (error, packet::version_of(frame)) {
            (DecodeError::Level(level), _) => Some(if level < 5 { Version::V4 } else { Version::V5 }),
            // Before version 5 there is no code for it.
            (_, version) => version.filter(|version| *version == Version::V5),
        };
        Refusal { answer: version.map(|version| (version, error.reason())), ..Refusal::silent("", error.to_string()) }
    }
}

/// Checks the first packet, and who sends it.
async fn judge<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    listener: &Rc<Listener>,
    transport: &RefCell<Transport>,
    frame: &[u8],
    peer: SocketAddr,
) -> Result<Admitted, Refusal> {
    let connect = match packet::decode_connect(frame) {
        Ok(Some(connect)) => connect,
        Ok(None) => return Err(Refusal::silent("", Close::NotConnected.to_string())),
        Err(error) => return Err(Refusal::of(error, frame)),
    };
    let refuse = |reason: u8, text: String| Refusal {
        answer: Some((connect.version, reason)),
        answer_bytes_max: connect.packet_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
        ..Refusal::silent(connect.client_id, text)
    };
    let client_id = session::client_id(&connect, || edge.client_ids.next()).map_err(|BadClientId| {
        let text = "a client id has 1 to 128 bytes; before MQTT 5 an empty one needs a clean session";
        refuse(reason::BAD_CLIENT_ID, text.to_owned())
    })?;
    if client_id.starts_with(session::BRIDGE_ID_PREFIX) {
        let text = format!("client ids that begin with {} belong to the gateway's bridges", session::BRIDGE_ID_PREFIX);
        return Err(refuse(reason::BAD_CLIENT_ID, text));
    }
    if let Some(will) = &connect.will
        && let Err(error) = publishing::judge(Voice::Will, will.topic, &Permissions::everything())
    {
        let refusal = refuse(reason::BAD_TOPIC, format!("its will is for a topic that {}", error.reason()));
        // Before version 5 there is no code for it.
        return Err(Refusal { answer: refusal.answer.filter(|(version, _)| *version == Version::V5), ..refusal });
    }
    let login = Login { name: connect.user_name, password: connect.password, peer };
    let client = edge.identify(listener, transport, client_id, login).await;
    let client = client.map_err(|stranger| refuse(stranger.reason(), stranger.to_string()))?;
    // A client that comes again while its last connection is not known to be dead takes that one's place.
    let takes_over = edge.sessions.has_connection(&client);
    let seat = listener.quotas.seat(client.identity.name.as_deref(), &client.limits().user, takes_over);
    let quota = seat.map_err(|too_many| refuse(reason::QUOTA, too_many.to_string()))?;
    let admitted = Admitted::new(&connect, client, quota);
    let mut welcome = Vec::new();
    admitted.welcome(false, &listener.settings.client, &mut welcome);
    match welcome.len() > admitted.limits.packet_bytes_max {
        true => Err(Refusal::silent(connect.client_id, "it takes no packet as large as the answer".to_owned())),
        false => Ok(admitted),
    }
}

/// Turns away a client whose client id has a session of another one.
pub(super) async fn refuse<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    transport: &RefCell<Transport>,
    admitted: &Admitted,
    peer: SocketAddr,
) {
    let refusal = Refusal {
        answer: Some((admitted.version, reason::BAD_CLIENT_ID)),
        answer_bytes_max: admitted.limits.packet_bytes_max,
        ..Refusal::silent(admitted.client.id(), "the session of this client id belongs to somebody else".to_owned())
    };
    answer(transport, &refusal).await;
    edge.counters.connections_refused.add(1);
    edge.counters.disconnections.add(1);
    edge.warn_of_client(peer, &refusal.client_id, &refusal.text);
}

/// Reads until the first packet is complete. `None` if the connection ends before that.
async fn read_first(transport: &RefCell<Transport>, input: &mut BytesMut) -> Result<Option<BytesMut>, DecodeError> {
    loop {
        match packet::frame_len(input, CONNECT_BYTES_MAX)? {
            Some(len) if input.len() >= len => return Ok(Some(input.split_to(len))),
            _ => match read_some(transport, input).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            },
        }
    }
}

/// Appends what comes next. No bytes are the end.
async fn read_some(transport: &RefCell<Transport>, input: &mut BytesMut) -> io::Result<usize> {
    let mut bytes = [0; READ_BYTES];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|context| transport.borrow_mut().poll_read(context, &mut buffer)).await?;
    input.extend_from_slice(buffer.filled());
    Ok(buffer.filled().len())
}

impl<T: From<handoff::Input> + 'static> Edge<T> {
    pub(super) fn warn_of_client(&self, peer: SocketAddr, client_id: &str, reason: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(%peer, client_id, more, "connection closed: {reason}");
        }
    }
}

//! The start of a connection: its CONNECT, and what is logged about refused clients.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::packet::{self, Connack, Connect, DecodeError, Version, reason};
use crate::core::mqtt::publishing::{self, Voice};
use crate::core::mqtt::session::{self, ALIASES_MAX, BadClientId, Close};
use crate::handoff;
use crate::mqtt::publish::LeftWill;
use crate::mqtt::{Edge, EdgeSettings, LOGIN_WARNINGS_MAX, Phase};

/// Room for a CONNECT with the longest client id and a large will. A will is kept as long as its connection.
const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// The operating system detects a peer that has vanished silently, even with keep-alive 0.
const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// A client that may have a session.
pub(super) struct Admitted {
    pub version: Version,
    pub is_bridge: bool,
    pub client_id: String,
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
}

impl Admitted {
    fn new(connect: &Connect<'_>, client_id: String, settings: &EdgeSettings) -> Admitted {
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
            client_id,
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
        }
    }

    /// The answer to CONNECT.
    pub fn welcome(&self, session_present: bool, settings: &EdgeSettings, out: &mut Vec<u8>) {
        let answer = Connack {
            session_present,
            session_expiry_s: self.told_expiry_s,
            receive_maximum: settings.receive_maximum,
            packet_bytes_max: u32::try_from(settings.packet_bytes_max).ok(),
            assigned_client_id: self.is_assigned.then_some(&self.client_id),
            topic_alias_maximum: ALIASES_MAX,
            keep_alive_s: self.told_keep_alive_s,
            ..Connack::default()
        };
        packet::connack(self.version, &answer, out);
    }
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
        first = timeout(edge.settings.connect_timeout, read_first(stream, &mut input)) => first,
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return None,
    };
    let refusal = match first {
        Err(_) => Refusal::silent("", "no CONNECT within the time limit".to_owned()),
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => Refusal::silent("", error.to_string()),
        Ok(Ok(Some(frame))) => match judge(edge, &frame, peer) {
            Ok(admitted) => {
                edge.counters.connections.add(1);
                return Some(Admitted { input, ..admitted });
            }
            Err(refusal) => refusal,
        },
    };
    edge.counters.connections_refused.add(1);
    if let Some((version, reason)) = refusal.answer {
        let mut out = Vec::new();
        let answer = Connack { reason, ..Connack::default() };
        packet::connack(version, &Connack { text: Some(&refusal.text), ..answer }, &mut out);
        if out.len() > refusal.answer_bytes_max {
            out.clear();
            packet::connack(version, &answer, &mut out);
        }
        let _ = timeout(edge.settings.write_timeout, stream.write_all(&out)).await;
    }
    edge.warn_of_client(peer, &refusal.client_id, &refusal.text);
    None
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

/// Checks the first packet.
fn judge<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
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
    let client_id = session::client_id(&connect, || edge.make_client_id()).map_err(|BadClientId| {
        let text = "a client id has 1 to 128 bytes; before MQTT 5 an empty one needs a clean session";
        refuse(reason::BAD_CLIENT_ID, text.to_owned())
    })?;
    if let Some(will) = &connect.will
        && let Err(error) = publishing::judge(Voice::Will, will.topic)
    {
        let refusal = refuse(reason::BAD_TOPIC, format!("its will is for a topic that {}", error.reason()));
        // Before version 5 there is no code for it.
        return Err(Refusal { answer: refusal.answer.filter(|(version, _)| *version == Version::V5), ..refusal });
    }
    if connect.user_name.is_some() || connect.password.is_some() {
        edge.note_login(peer, &client_id);
    }
    let admitted = Admitted::new(&connect, client_id, &edge.settings);
    let mut welcome = Vec::new();
    admitted.welcome(false, &edge.settings, &mut welcome);
    match welcome.len() > admitted.limits.packet_bytes_max {
        true => Err(Refusal::silent(connect.client_id, "it takes no packet as large as the answer".to_owned())),
        false => Ok(admitted),
    }
}

/// Reads until the first packet is complete. `None` if the connection ends before that.
async fn read_first(stream: &mut TcpStream, input: &mut BytesMut) -> Result<Option<BytesMut>, DecodeError> {
    loop {
        match packet::frame_len(input, CONNECT_BYTES_MAX)? {
            Some(len) if input.len() >= len => return Ok(Some(input.split_to(len))),
            _ => match stream.read_buf(input).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            },
        }
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

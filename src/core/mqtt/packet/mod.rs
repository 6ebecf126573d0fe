//! The packets of MQTT 3.1, 3.1.1 and 5: what a client sends, decoded from whole frames without a copy, and what a client is sent, encoded.
//! And the same for the other side, where the gateway itself is the client: [`client`] encodes, [`server`] decodes.
//!
//! ```text
//! reader <- properties <- decode <- server        reason <- encode <- client
//! ```
//!
//! Everything that the standards forbid within one packet is refused here; what is wrong only between packets is up to the session. No
//! input panics.

pub mod client;
mod decode;
mod encode;
mod properties;
mod reader;
pub mod reason;
pub mod server;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_client;

pub use decode::{decode, decode_connect, frame_len, version_of};
pub use encode::{Connack, Outgoing, PINGRESP, ack, connack, disconnect, publish, suback, unsuback};
pub use properties::{PassedOn, Property, encode as encode_properties};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1, as old devices speak it: served like 3.1.1.
    V3,
    /// MQTT 3.1.1.
    #[default]
    V4,
    /// MQTT 5.
    V5,
}

/// A client's packet, borrowed from its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Only the first packet of a connection may be one.
    Connect(Box<Connect<'a>>),
    /// A message.
    Publish(Publish<'a>),
    /// The client has a message of QoS 1, or refuses it.
    PubAck(Ack),
    /// The client has a message of QoS 2, or refuses it.
    PubRec(Ack),
    /// The client will not send a message of QoS 2 again.
    PubRel(Ack),
    /// The client has forgotten the id of a message of QoS 2.
    PubComp(Ack),
    /// It wants messages.
    Subscribe(Subscribe<'a>),
    /// It does not want them any more.
    Unsubscribe {
        /// Not 0.
        packet_id: u16,
        /// At least one.
        filters: Vec<&'a str>,
    },
    /// It is there.
    PingReq,
    /// It leaves.
    Disconnect {
        /// 0 if the will is not to be published.
        reason: u8,
        /// Another time for which the session is kept.
        session_expiry_s: Option<u32>,
    },
    /// A step of an authentication, of which none is served.
    Auth,
}

/// The first packet of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Of the connection.
    pub version: Version,
    /// Before version 5 a bridge of Mosquitto says that it is one: it does not want back what it publishes, and keeps RETAIN flags.
    pub is_bridge: bool,
    /// Empty if the gateway is to choose one.
    pub client_id: &'a str,
    /// Whether no earlier session is resumed.
    pub clean_start: bool,
    /// Longest pause between two packets that the client promises, in seconds; 0 promises nothing.
    pub keep_alive_s: u16,
    /// Published when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// Of a login.
    pub user_name: Option<&'a str>,
    /// Of a login.
    pub password: Option<&'a [u8]>,
    /// How long the session is kept without a connection; before version 5 `None`.
    pub session_expiry_s: Option<u32>,
    /// Most messages of QoS 1 and 2 that the client takes before it acknowledges one.
    pub receive_maximum: Option<u16>,
    /// Largest packet that the client takes.
    pub packet_bytes_max: Option<u32>,
    /// Most aliases of topics that the client keeps.
    pub topic_alias_maximum: u16,
}

/// A will, as a client leaves it at CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: &'a str,
    /// What is published.
    pub payload: &'a [u8],
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the message is kept for later subscribers.
    pub retain: bool,
    /// How long the client may be away before it is published.
    pub delay_s: u32,
    /// For how long it is of use.
    pub expiry_s: Option<u32>,
    /// For its receivers.
    pub passed_on: PassedOn<'a>,
}

/// A message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Not checked but for being UTF-8; empty if an alias stands for it.
    pub topic: &'a str,
    /// What is published.
    pub payload: &'a [u8],
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the message is kept for later subscribers.
    pub retain: bool,
    /// Whether the client may have sent it before.
    pub dup: bool,
    /// 0 at QoS 0, and only there.
    pub packet_id: u16,
    /// Stands for the topic, now or later.
    pub alias: Option<u16>,
    /// For how long it is of use.
    pub expiry_s: Option<u32>,
    /// For its receivers.
    pub passed_on: PassedOn<'a>,
}

/// One of the four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Not 0.
    pub packet_id: u16,
    /// 0 before version 5.
    pub reason: u8,
}

/// Filters that a client subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Sent along with each message that matches one of the filters.
    pub identifier: Option<u32>,
    /// At least one.
    pub filters: Vec<Subscription<'a>>,
}

/// A filter, with what the client wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Not checked.
    pub filter: &'a str,
    /// Highest quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// What is done about retained messages.
    pub retained: RetainHandling,
}

/// What a subscription does about retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// They are sent.
    #[default]
    Always,
    /// They are sent if the subscription is new.
    IfNew,
    /// They are not sent.
    Never,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It cannot be read.
    #[error("a malformed packet: {0}")]
    Malformed(&'static str),
    /// It can be read, and says what it must not.
    #[error("a protocol error: {0}")]
    Protocol(&'static str),
    /// More than is taken.
    #[error("a packet of {bytes} bytes, more than is taken")]
    TooLarge {
        /// As its header says.
        bytes: usize,
    },
    /// A version that is not served: its level.
    #[error("protocol level {0}; MQTT 3.1 (level 3), 3.1.1 (4) and 5 are served")]
    Level(u8),
    /// CONNECT has a client id that is not UTF-8, or has control characters.
    #[error("a client id that is not UTF-8, or has control characters")]
    ClientId,
    /// CONNECT asks for an authentication in steps.
    #[error("an authentication method, of which none is served")]
    Method,
}

impl DecodeError {
    /// The reason code that a client of version 5 is told.
    pub fn reason(self) -> u8 {
        match self {
            DecodeError::Malformed(_) => reason::MALFORMED,
            DecodeError::Protocol(_) => reason::PROTOCOL_ERROR,
            DecodeError::TooLarge { .. } => reason::PACKET_TOO_LARGE,
            DecodeError::Level(_) => reason::UNSUPPORTED_VERSION,
            DecodeError::ClientId => reason::BAD_CLIENT_ID,
            DecodeError::Method => reason::BAD_METHOD,
        }
    }
}

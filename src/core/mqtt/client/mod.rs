//! A client's connection to a broker, without a socket and without a clock: frames, wishes and times in; bytes, answers and messages out.
//!
//! ```text
//! limits, ending <- sending, receiving, keep_alive <- machine
//! ending <- blame
//! ```
//!
//! [`blame`] remembers over connections, and finds the message at which a broker ends them.
//!
//! What is not acknowledged when the connection ends goes back to whoever published it ([`Answer::Unanswered`]): it may have arrived, or not.
//! Nothing is kept for a next connection but the ids of QoS 2 that were received ([`Client::unreleased`]). Deliberately absent: aliases of
//! topics, authentication in steps, and repeats within a connection, which version 5 forbids.

pub mod blame;
mod ending;
mod keep_alive;
pub mod limits;
mod machine;
mod receiving;
mod sending;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt;

use bytes::Bytes;

use super::packet::{RetainHandling, Version};

pub use ending::{End, Farewell, Reason, Refusal, Remedy};
pub use limits::{Limits, Unfit};
pub use machine::Client;
pub use receiving::Token;
pub use sending::{NotNow, Wish};

/// How a connection is begun.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the protocol.
    pub version: Version,
    /// Who connects. Two clients of the same id throw each other out.
    pub client_id: String,
    /// Who logs in.
    pub login: Option<Login>,
    /// What the broker publishes when the connection ends without a word.
    pub will: Option<Will>,
    /// Whether what the broker has kept of the session is dropped. In a session that was kept, messages are sent up to QoS 1 only.
    pub clean_start: bool,
    /// How long the broker is to keep the session. Before version 5 it is kept unless `clean_start` is set.
    pub session_expiry_s: u32,
    /// Messages of QoS 2 that were received, and not yet released by the broker when the session's last connection ended.
    pub unreleased: Vec<u16>,
    /// Longest pause between two packets; 0 for any.
    pub keep_alive_s: u16,
    /// How long to wait for the answer to CONNECT, in milliseconds.
    pub welcome_within_ms: u64,
    /// How long to wait for the answer to anything else, in milliseconds. After it the connection ends.
    pub answer_within_ms: u64,
    /// Most messages of QoS 1 and 2 that are sent without an acknowledgement, if the broker takes so many.
    pub window: u16,
    /// Most messages of QoS 1 and 2 that are received without being acknowledged. Only version 5 can tell the broker.
    pub receive_maximum: u16,
    /// Largest packet that is taken.
    pub packet_bytes_max: u32,
    /// What the service takes, which it does not say by itself.
    pub limits: Limits,
    /// Before version 5: whether the broker is told that this is a bridge, as Mosquitto's bridges do.
    pub is_bridge: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            version: Version::V5,
            client_id: String::new(),
            login: None,
            will: None,
            clean_start: true,
            session_expiry_s: 0,
            unreleased: Vec::new(),
            keep_alive_s: 60,
            welcome_within_ms: 10_000,
            answer_within_ms: 30_000,
            window: 100,
            receive_maximum: 100,
            packet_bytes_max: 1 << 20,
            limits: Limits::NONE,
            is_bridge: false,
        }
    }
}

/// A name and a password. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who logs in.
    pub user_name: String,
    /// Version 5 knows names without one, and so does 3.1.1.
    pub password: Option<Vec<u8>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a login)")
    }
}

/// What a broker publishes for a client that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// What is published; its expiry and its properties are sent to a broker of version 5 only.
    pub message: Message,
    /// For how long the client may be away, in version 5.
    pub delay_s: u32,
}

/// A message that is to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// For how long it is of use.
    pub expiry_s: Option<u32>,
    /// For its receivers, as [`super::packet::encode_properties`] gives them. Only version 5 has them.
    pub properties: Vec<u8>,
}

/// A filter that is to be subscribed to. Before version 5 only its quality of service counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Which topics.
    pub filter: String,
    /// Highest quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// What is done about retained messages.
    pub retained: RetainHandling,
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where it was published. It has no wildcard, and is not empty.
    pub topic: String,
    /// What was published.
    pub payload: Bytes,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether the broker has kept it for subscribers, or with `retain_as_published` whether it was published so.
    pub retain: bool,
    /// Whether the broker may have sent it before.
    pub dup: bool,
    /// For how many seconds it is of use.
    pub expiry_s: Option<u32>,
    /// For its receivers, one behind the other: see [`super::packet::PassedOn::from_own`].
    pub properties: Vec<u8>,
    /// By which it is acknowledged; `None` at QoS 0, which needs no acknowledgement.
    pub token: Option<Token>,
}

/// What the broker has said to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Whether it has kept the session, with its subscriptions.
    pub session_present: bool,
    /// Under which id it knows the client.
    pub client_id: String,
    /// Most messages of QoS 1 and 2 that are sent without an acknowledgement.
    pub window: u16,
    /// The keep-alive that holds.
    pub keep_alive_s: u16,
    /// How long the session is kept, if the broker has said anything else than it was asked for.
    pub session_expiry_s: Option<u32>,
    /// What it takes.
    pub takes: Takes,
}

/// What a broker takes, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// Highest quality of service.
    pub qos_max: u8,
    /// Retained messages.
    pub retain: bool,
    /// Largest packet, if it has said so.
    pub packet_bytes_max: Option<u32>,
    /// Filters with wildcards.
    pub wildcards: bool,
    /// Shared subscriptions.
    pub shared: bool,
}

/// What became of something that was asked of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has the message.
    Accepted,
    /// The same, and it says that nobody is subscribed to it.
    NobodySubscribed,
    /// The broker does not take the message.
    Refused(Refusal),
    /// What became of each filter: the quality of service that is granted, or the reason code. Empty for filters that were given up before version 5.
    Filters(Vec<Result<u8, u8>>),
    /// The connection has ended without an answer.
    Unanswered(End),
}

/// What comes of frames and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is open.
    Welcomed(Box<Welcome>),
    /// The answer to a [`Wish`].
    Answered(Wish, Answer),
    /// A message.
    Arrived(Arrived),
    /// The last event.
    Ended(End),
}

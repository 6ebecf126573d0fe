//! Why a connection, or one message, has come to its end, and who has to act.

use std::fmt;

use crate::mqtt::packet::{DecodeError, reason, server};

/// Most of a broker's own words that are kept, in characters.
const WORDS_CHARS_MAX: usize = 200;

/// Who has to act before it is worth a new attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Time will do: the broker or the network is not there, or has too much to do.
    Wait,
    /// A person: a login, a right, an id or the configuration is wrong.
    Mend,
}

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The broker does not let the client in.
    Refused(Refusal),
    /// The broker has ended it and said why, as only version 5 can.
    Told(Farewell),
    /// The broker has closed it without a word.
    Closed,
    /// The broker has not answered CONNECT in time.
    NoWelcome,
    /// Nothing was heard for longer than the keep-alive allows.
    Silent,
    /// Something was not acknowledged in time.
    NotAcknowledged,
    /// The network has broken it.
    Broken(String),
    /// The broker has sent what MQTT does not allow.
    Protocol(String),
    /// We have ended it.
    Left,
}

/// A refusal with the broker's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub reason: Reason,
    /// The reason code of version 5.
    pub code: u8,
    /// The broker's own words, shortened.
    pub words: Option<String>,
}

/// A DISCONNECT of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub why: Refusal,
    /// Another server that is to be used, as the broker names it.
    pub server: Option<String>,
}

/// Reason codes, by what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 0x86: the name or the password.
    Login,
    /// 0x87: the client may not do this.
    NotAuthorised,
    /// 0x8A: this client is not let in any more.
    Banned,
    /// 0x85: the client id.
    ClientId,
    /// 0x84: the version.
    Version,
    /// 0x8C: the way to log in.
    Method,
    /// 0x8E: another client has the same id.
    TakenOver,
    /// 0x95: the packet is larger than the broker takes.
    PacketTooLarge,
    /// 0x90: the topic.
    Topic,
    /// 0x99: the payload is not what its properties say.
    PayloadFormat,
    /// 0x93: more is unacknowledged than the broker allows.
    ReceiveMaximum,
    /// 0x96, 0x9F: more is sent, or more often, than the broker allows.
    Rate,
    /// 0x97: some quota is used up.
    Quota,
    /// 0x88, 0x89, 0x8B: the broker is not there, has too much to do, or is about to end.
    Busy,
    /// 0x9A: the broker does not take retained messages.
    Retain,
    /// 0x9B: the broker does not take this quality of service.
    Qos,
    /// 0x9C, 0x9D: another server is to be used.
    Moved,
    /// 0x8D: the broker has heard nothing.
    KeepAlive,
    /// 0x98: somebody has decided so.
    Administrative,
    /// 0x83: the broker has a reason of its own, and it may be over soon.
    Implementation,
    /// 0x81, 0x82: the broker does not understand what was sent.
    Protocol,
    /// 0x91: the packet id is in use.
    IdInUse,
    /// 0x00: the broker leaves, without more.
    Leaves,
    /// 0x80 and every other one.
    Other,
}

impl Reason {
    /// What a reason code of version 5 means.
    pub fn of(code: u8) -> Reason {
        match code {
            reason::SUCCESS => Reason::Leaves,
            reason::MALFORMED | reason::PROTOCOL_ERROR => Reason::Protocol,
            0x83 => Reason::Implementation,
            reason::UNSUPPORTED_VERSION => Reason::Version,
            reason::BAD_CLIENT_ID => Reason::ClientId,
            reason::BAD_LOGIN => Reason::Login,
            reason::NOT_AUTHORIZED => Reason::NotAuthorised,
            reason::UNAVAILABLE | reason::BUSY | reason::SHUTTING_DOWN => Reason::Busy,
            reason::BANNED => Reason::Banned,
            reason::BAD_METHOD => Reason::Method,
            reason::KEEP_ALIVE => Reason::KeepAlive,
            reason::TAKEN_OVER => Reason::TakenOver,
            reason::BAD_TOPIC => Reason::Topic,
            reason::ID_IN_USE => Reason::IdInUse,
            reason::RECEIVE_MAXIMUM => Reason::ReceiveMaximum,
            reason::PACKET_TOO_LARGE => Reason::PacketTooLarge,
            reason::MESSAGE_RATE | reason::RATE => Reason::Rate,
            reason::QUOTA => Reason::Quota,
            reason::ADMINISTRATIVE => Reason::Administrative,
            reason::PAYLOAD_FORMAT => Reason::PayloadFormat,
            reason::NO_RETAIN => Reason::Retain,
            reason::NO_QOS => Reason::Qos,
            reason::USE_ANOTHER_SERVER | reason::SERVER_MOVED => Reason::Moved,
            _ => Reason::Other,
        }
    }

    /// Who has to act.
    pub fn remedy(self) -> Remedy {
        match self {
            Reason::Login
            | Reason::NotAuthorised
            | Reason::Banned
            | Reason::ClientId
            | Reason::Version
            | Reason::Method
            | Reason::Retain
            | Reason::Qos
            | Reason::Moved => Remedy::Mend,
            _ => Remedy::Wait,
        }
    }

    /// Whether one message may be to blame, which would be refused as often as it is sent.
    pub fn is_of_a_message(self) -> bool {
        matches!(self, Reason::PacketTooLarge | Reason::Topic | Reason::PayloadFormat | Reason::Protocol)
    }

    fn words(self) -> &'static str {
        match self {
            Reason::Login => "the user name or the password is wrong",
            Reason::NotAuthorised => "not authorised",
            Reason::Banned => "this client is banned",
            Reason::ClientId => "the client id is not taken",
            Reason::Version => "this version of MQTT is not spoken",
            Reason::Method => "the authentication method is not taken",
            Reason::TakenOver => "another client has connected with the same client id",
            Reason::PacketTooLarge => "a packet is larger than is taken",
            Reason::Topic => "the topic is not taken",
            Reason::PayloadFormat => "the payload is not what its properties say",
            Reason::ReceiveMaximum => "too many messages are unacknowledged",
            Reason::Rate => "too much is sent",
            Reason::Quota => "a quota is used up",
            Reason::Busy => "the server is busy or not available",
            Reason::Retain => "retained messages are not taken",
            Reason::Qos => "this quality of service is not taken",
            Reason::Moved => "another server is to be used",
            Reason::KeepAlive => "nothing was heard within the keep-alive",
            Reason::Administrative => "somebody has decided so",
            Reason::Implementation => "a reason of its implementation",
            Reason::Protocol => "it does not understand what was sent",
            Reason::IdInUse => "the packet id is in use",
            Reason::Leaves => "no reason is given",
            Reason::Other => "an unspecified error",
        }
    }
}

impl Refusal {
    /// Of a reason code, with the broker's own words if there are any.
    pub fn of(code: u8, words: Option<&str>) -> Refusal {
        Refusal { reason: Reason::of(code), code, words: words.and_then(shortened) }
    }
}

/// In one short line; `None` if nothing is left.
fn shortened(words: &str) -> Option<String> {
    let shown: String = words.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect();
    Some(shown).filter(|shown| !shown.trim().is_empty())
}

impl Farewell {
    pub(super) fn of(packet: &server::Disconnect<'_>) -> Farewell {
        Farewell { why: Refusal::of(packet.reason, packet.text), server: packet.server_reference.and_then(shortened) }
    }
}

impl End {
    /// Who has to act.
    pub fn remedy(&self) -> Remedy {
        match self {
            End::Refused(refusal) | End::Told(Farewell { why: refusal, .. }) => refusal.reason.remedy(),
            _ => Remedy::Wait,
        }
    }

    /// The broker's reason, if it has given one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            End::Refused(refusal) | End::Told(Farewell { why: refusal, .. }) => Some(refusal.reason),
            _ => None,
        }
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> End {
        End::Protocol(error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (reason code 0x{:02x})", self.reason.words(), self.code)?;
        match &self.words {
            Some(words) => write!(f, ": {words}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Refused(refusal) => write!(f, "the broker refuses the connection: {refusal}"),
            End::Told(Farewell { why, server: Some(server) }) => {
                write!(f, "the broker has ended the connection: {why}; it names the server {server}")
            }
            End::Told(Farewell { why, server: None }) => write!(f, "the broker has ended the connection: {why}"),
            End::Closed => f.write_str("the broker has closed the connection without a reason"),
            End::NoWelcome => f.write_str("the broker does not answer CONNECT in time"),
            End::Silent => f.write_str("the broker has not been heard within the keep-alive"),
            End::NotAcknowledged => f.write_str("the broker does not acknowledge what it was sent in time"),
            End::Broken(error) => write!(f, "the connection is broken: {error}"),
            End::Protocol(error) => write!(f, "the broker has sent what MQTT does not allow: {error}"),
            End::Left => f.write_str("the connection was ended here"),
        }
    }
}

impl std::error::Error for End {}

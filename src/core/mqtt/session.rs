//! What holds for a session as a whole: who may have one, and how its connection ends.
//!
//! Its two halves are [`super::inbound`], what the client publishes, and [`super::outbound`], what it is sent. Neither does any I/O: packets,
//! commits and messages in; verdicts and bytes out.

use crate::fnv;

use super::packet::{Connect, Version, reason};
use super::topic::TopicError;

/// Longest client id, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;

/// What the client ids of the gateway's own bridges begin with. No client may have such a one.
pub const BRIDGE_ID_PREFIX: &str = "$bridge/";

/// Most aliases of topics that a client may use.
pub const ALIASES_MAX: u16 = 10;

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// Another packet came before CONNECT.
    #[error("the first packet was not CONNECT")]
    NotConnected,
    /// CONNECT came twice.
    #[error("a second CONNECT")]
    SecondConnect,
    /// AUTH without an authentication.
    #[error("a step of an authentication that was not begun")]
    NoAuthentication,
    /// A session that would be kept after a CONNECT that said it would not.
    #[error("a session that ends with its connection cannot be kept longer")]
    SessionExpiry,
    /// A PUBLISH to a topic that is not valid.
    #[error("a publish to a topic that {}", .0.reason())]
    Topic(TopicError),
    /// An alias that stands for nothing.
    #[error("a publish by the alias of a topic that was not given")]
    UnknownAlias,
    /// An alias of 0, or one above those that may be used.
    #[error("a publish with the alias {0} of a topic; 1 to {max} may be used", max = ALIASES_MAX)]
    BadAlias(u16),
    /// An acknowledgement that does not belong to the quality of service of what was sent.
    #[error("an acknowledgement that is none of the message with this id")]
    WrongAnswer,
    /// More messages than may be unacknowledged.
    #[error("more publishes than may be unacknowledged at once")]
    ReceiveMaximum,
    /// Nothing was heard for longer than [`silence_ms_max`].
    #[error("nothing was heard within one and a half keep-alives")]
    KeepAlive,
}

impl Close {
    /// The reason code that a client of version 5 is told.
    pub fn reason(self) -> u8 {
        match self {
            Close::NotConnected
            | Close::SecondConnect
            | Close::NoAuthentication
            | Close::SessionExpiry
            | Close::UnknownAlias
            | Close::WrongAnswer => reason::PROTOCOL_ERROR,
            Close::Topic(TopicError::Control) => reason::MALFORMED,
            Close::Topic(TopicError::Empty) => reason::PROTOCOL_ERROR,
            Close::Topic(_) => reason::BAD_TOPIC,
            Close::BadAlias(_) => reason::BAD_ALIAS,
            Close::ReceiveMaximum => reason::RECEIVE_MAXIMUM,
            Close::KeepAlive => reason::KEEP_ALIVE,
        }
    }
}

/// A client id that is too long, or empty where the client has to choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadClientId;

/// The id under which a client is known: its own, or `generated` if that is empty.
///
/// # Errors
///
/// If the id is too long, or empty for a session that is to be found again.
pub fn client_id(connect: &Connect<'_>, generated: impl FnOnce() -> String) -> Result<String, BadClientId> {
    match connect.client_id {
        "" if connect.version == Version::V5 || connect.version == Version::V4 && connect.clean_start => {
            Ok(generated())
        }
        "" => Err(BadClientId),
        id if id.len() > CLIENT_ID_BYTES_MAX => Err(BadClientId),
        id => Ok(id.to_owned()),
    }
}

/// The number of a client id: the same after a restart, and never 0.
pub fn number_of(client_id: &str) -> u64 {
    fnv::fold(fnv::BASIS, client_id.as_bytes()).max(1)
}

/// How long a client may be silent: one and a half keep-alives, in milliseconds. `None` with keep-alive 0.
pub fn silence_ms_max(keep_alive_s: u16) -> Option<u64> {
    (keep_alive_s > 0).then(|| u64::from(keep_alive_s) * 1500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_checked() {
        let connect =
            |version, client_id, clean_start| Connect { version, client_id, clean_start, ..Connect::default() };
        let made = || "made".to_owned();
        assert_eq!(client_id(&connect(Version::V4, "", true), made), Ok("made".to_owned()));
        assert_eq!(client_id(&connect(Version::V4, "", false), made), Err(BadClientId));
        assert_eq!(client_id(&connect(Version::V3, "", true), made), Err(BadClientId));
        assert_eq!(client_id(&connect(Version::V5, "", false), made), Ok("made".to_owned()));
        assert_eq!(client_id(&connect(Version::V4, "farm/bt/19 #+ä", false), made), Ok("farm/bt/19 #+ä".to_owned()));
        let long = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
        assert_eq!(client_id(&connect(Version::V5, &long, true), made), Err(BadClientId));
        assert_eq!((silence_ms_max(0), silence_ms_max(60)), (None, Some(90_000)));
    }
}

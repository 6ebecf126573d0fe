//! What is kept of sessions and retained messages for the next start: the names and the form of their entries in the store.
//!
//! A session has a number, which begins the keys of all that belongs to it; a message has a number, too, and is kept once, with everybody
//! who is still to get it. Values are CBOR with named fields, to which later versions may add. What cannot be read is no entry.

mod blob;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use blob::Blob;

use super::access::Identity;
use super::subscription::Wants;
use crate::device_clock::UNSET_BEFORE_MS;

/// The number of a session that is kept, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

/// The number of a message that is kept, from 1: later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageNumber(pub u64);

/// What an entry is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// [`KeptMessage`].
    Message(MessageNumber),
    /// A [`KeptMessage`] without receivers, by its topic.
    Retained(Vec<u8>),
    /// [`KeptSession`].
    Session(SessionNumber),
    /// [`KeptFilter`], by the filter.
    Filter(SessionNumber, String),
    /// A message of QoS 2 that the client has published and may send again. Its value is empty.
    Unreleased(SessionNumber, u16),
    /// [`KeptProgress`].
    Progress(SessionNumber),
    /// [`KeptWill`]. Its number is not that of its session.
    Will(SessionNumber),
}

impl Key {
    /// As it is in the store: a letter, the number, the rest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let of = |letter: u8, number: u64, rest: &[u8]| [&[letter], &number.to_be_bytes()[..], rest].concat();
        match self {
            Key::Message(MessageNumber(number)) => of(b'm', *number, &[]),
            Key::Retained(topic) => [b"r", topic.as_slice()].concat(),
            Key::Session(SessionNumber(number)) => of(b's', *number, &[]),
            Key::Filter(SessionNumber(number), filter) => of(b'f', *number, filter.as_bytes()),
            Key::Unreleased(SessionNumber(number), packet_id) => of(b'i', *number, &packet_id.to_be_bytes()),
            Key::Progress(SessionNumber(number)) => of(b'p', *number, &[]),
            Key::Will(SessionNumber(number)) => of(b'w', *number, &[]),
        }
    }

    /// The key that has these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let (letter, rest) = bytes.split_first()?;
        if *letter == b'r' {
            return Some(Key::Retained(rest.to_vec()));
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        let session = SessionNumber(number);
        let key = match (letter, rest) {
            (b'm', []) => Key::Message(MessageNumber(number)),
            (b's', []) => Key::Session(session),
            (b'f', filter) => Key::Filter(session, String::from_utf8(filter.to_vec()).ok()?),
            (b'i', [high, low]) => Key::Unreleased(session, u16::from_be_bytes([*high, *low])),
            (b'p', []) => Key::Progress(session),
            (b'w', []) => Key::Will(session),
            _ => return None,
        };
        Some(key)
    }
}

/// Whose a session or a will is, and by which listener the client was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptClient {
    /// As the client calls itself.
    pub client_id: String,
    /// See [`Identity`].
    pub name: Option<String>,
    /// See [`Identity`].
    pub user: Option<String>,
    /// See [`Identity`].
    pub cn: Option<String>,
    /// The listener's name.
    pub listener: String,
}

impl KeptClient {
    /// Of a client that is there.
    pub fn new(identity: &Identity, listener: &str) -> KeptClient {
        let Identity { name, user, cn, client_id } = identity.clone();
        KeptClient { client_id, name, user, cn, listener: listener.to_owned() }
    }

    /// Who it was.
    pub fn identity(&self) -> Identity {
        let KeptClient { client_id, name, user, cn, .. } = self.clone();
        Identity { name, user, cn, client_id }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSession {
    /// Whose it is.
    pub client: KeptClient,
    /// Where the client came from.
    pub address: String,
    /// How long the session is kept when its client is gone, in milliseconds.
    pub expiry_ms: u64,
    /// When the client left, by the system's clock in milliseconds; `None` if it is there.
    pub left_at_ms: Option<i64>,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFilter {
    /// What was granted.
    pub wants: Wants,
    /// Retained messages that it matches may not all have reached the client yet.
    pub is_scanned: bool,
}

/// How far a session has come with the messages that are kept for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptProgress {
    /// Messages before this one are done with, unless they are in flight.
    pub waiting_from: u64,
    /// Others that are done with.
    pub done: Vec<u64>,
    /// Sent, or about to be sent, in this order.
    pub in_flight: Vec<KeptInFlight>,
}

/// A message that was sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptInFlight {
    /// The id under which the client knows it.
    pub packet_id: u16,
    /// `None` if it is not kept, or if the client has it already, and has to release the id.
    pub message: Option<MessageNumber>,
    /// Of the message: at 2, the client may have to release the id even if the message is there no more.
    pub qos: u8,
    /// The client has said that it has it.
    pub is_received: bool,
}

/// A will whose client was there, or whose delay had not passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWill {
    /// Whose it is.
    pub client: KeptClient,
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: Blob,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// How long the client may be away before it is published.
    pub delay_ms: u64,
    /// For how long it is of use, in seconds.
    pub expiry_s: Option<u32>,
    /// For its receivers, encoded.
    pub passed_on: Blob,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// As it is passed on.
    pub envelope: Blob,
    /// When that was written: by the steady clock of its deadline, and by the system's clock.
    pub steady_ms: u64,
    /// See `steady_ms`.
    pub wall_ms: i64,
    /// Who is to get it.
    pub receivers: Vec<KeptReceiver>,
}

impl KeptMessage {
    /// How long a message has been kept at `wall_ms`.
    pub fn age_ms(&self, wall_ms: i64) -> u64 {
        age_ms(self.wall_ms, wall_ms)
    }
}

impl KeptSession {
    /// How long the client has been away at `wall_ms`.
    pub fn away_ms(&self, wall_ms: i64) -> u64 {
        self.left_at_ms.map_or(0, |left_at_ms| age_ms(left_at_ms, wall_ms))
    }
}

/// How long it is since something happened. If the clock was set back, or not set yet when it happened, nothing is known of that.
fn age_ms(then_ms: i64, now_ms: i64) -> u64 {
    match then_ms < UNSET_BEFORE_MS {
        true => 0,
        false => u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0),
    }
}

/// A session that is to get a message, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReceiver {
    /// Which one.
    pub session: SessionNumber,
    /// Quality of service, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag that it is sent.
    pub retain: bool,
    /// Of the subscriptions that it matches.
    pub identifiers: Vec<u32>,
}

/// The value of an entry.
pub fn to_value<T: Serialize>(what: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(what, &mut bytes).expect("a vector takes all, and no type here refuses to be written");
    bytes
}

/// What a value says.
pub fn from_value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_sort_by_kind_and_number() {
        let session = SessionNumber(0x0102);
        let keys = [
            Key::Filter(session, "a/+/#".to_owned()),
            Key::Unreleased(session, 0x0a0b),
            Key::Message(MessageNumber(9)),
            Key::Message(MessageNumber(300)),
            Key::Progress(session),
            Key::Retained(b"a/b".to_vec()),
            Key::Session(session),
            Key::Will(session),
        ];
        let bytes: Vec<Vec<u8>> = keys.iter().map(Key::to_bytes).collect();
        assert!(bytes.is_sorted());
        let read: Vec<Key> = bytes.iter().map(|bytes| Key::from_bytes(bytes).expect("a key")).collect();
        assert_eq!(read, keys);
        for bytes in [&b""[..], b"x12345678", b"s1234567", b"s123456789", b"i123456781", b"f12345678\xff"] {
            assert_eq!(Key::from_bytes(bytes), None);
        }
    }

    #[test]
    fn values_are_read_as_they_are_written_and_later_fields_are_passed_over() {
        let message = KeptMessage {
            envelope: Blob(vec![0, 255, 7]),
            steady_ms: 5,
            wall_ms: UNSET_BEFORE_MS + 1_000,
            receivers: vec![KeptReceiver { session: SessionNumber(3), qos: 2, retain: true, identifiers: vec![7] }],
        };
        assert_eq!(from_value(&to_value(&message)), Some(message.clone()));
        let ages = [1_500, 500].map(|ms| message.age_ms(UNSET_BEFORE_MS + ms));
        assert_eq!(ages, [500, 0], "a clock that was set back says nothing");
        let unset = KeptMessage { wall_ms: 1_000, ..message.clone() };
        assert_eq!(unset.age_ms(UNSET_BEFORE_MS + 1_500), 0, "nor does one that was not set");
        #[derive(Serialize)]
        struct Later {
            waiting_from: u64,
            done: Vec<u64>,
            in_flight: Vec<KeptInFlight>,
            mood: &'static str,
        }
        let later = Later { waiting_from: 7, done: vec![9], in_flight: Vec::new(), mood: "fine" };
        let read: Option<KeptProgress> = from_value(&to_value(&later));
        assert_eq!(read, Some(KeptProgress { waiting_from: 7, done: vec![9], in_flight: Vec::new() }));
        assert_eq!(from_value::<KeptProgress>(b"\xa1"), None);
    }
}

//! What the store has of bridges: the ids of commands, and commands that wait until the clock is set. Values are CBOR with named fields.

use serde::{Deserialize, Serialize};

use crate::mqtt::keeping::{self, Blob};

/// The letter that keys of bridges begin with.
const LETTER: u8 = b'B';

/// What an entry is of, within its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeKey {
    /// [`KeptId`], by the id.
    Id(String),
    /// [`KeptCommand`], by its number.
    Command(u64),
}

/// When a command of an id was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptId {
    /// The place among all of the bridge, from 1.
    pub number: u64,
    /// By the system's clock; `None` if it was not set.
    pub received_at_ms: Option<i64>,
    /// After which it is void.
    pub expires_at_ms: Option<i64>,
}

/// A command that waits until the clock is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCommand {
    /// Where it is published here.
    pub topic: String,
    /// What is published.
    pub payload: Blob,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// For its receivers, encoded.
    pub passed_on: Blob,
    /// For how long it is of use, by its publisher, from when it came.
    pub expiry_s: Option<u32>,
}

impl BridgeKey {
    /// As it is in the store: the letter, the bridge's name, an end, a letter, the rest.
    pub fn to_bytes(&self, bridge: &str) -> Vec<u8> {
        let of = |letter: u8, rest: &[u8]| [&[LETTER], bridge.as_bytes(), &[0, letter], rest].concat();
        match self {
            BridgeKey::Id(id) => of(b'i', id.as_bytes()),
            BridgeKey::Command(number) => of(b'c', &number.to_be_bytes()),
        }
    }

    /// The bridge's name, and the key, of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<(&str, BridgeKey)> {
        let rest = bytes.strip_prefix(&[LETTER])?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (name, rest) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
        let key = match rest.split_first()? {
            (b'i', id) => BridgeKey::Id(String::from_utf8(id.to_vec()).ok()?),
            (b'c', number) => BridgeKey::Command(u64::from_be_bytes(number.try_into().ok()?)),
            _ => return None,
        };
        Some((name, key))
    }
}

impl KeptId {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        keeping::to_value(self)
    }

    /// What these bytes say.
    pub fn from_bytes(bytes: &[u8]) -> Option<KeptId> {
        keeping::from_value(bytes)
    }
}

impl KeptCommand {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        keeping::to_value(self)
    }

    /// What these bytes say.
    pub fn from_bytes(bytes: &[u8]) -> Option<KeptCommand> {
        keeping::from_value(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::keeping::Key;

    #[test]
    fn keys_are_read_as_they_are_written_and_are_nobody_elses() {
        for key in [BridgeKey::Id("a\0b/c".to_owned()), BridgeKey::Id("0123456789".to_owned()), BridgeKey::Command(7)] {
            let bytes = key.to_bytes("cloud");
            assert_eq!(BridgeKey::from_bytes(&bytes), Some(("cloud", key)));
            assert_eq!(Key::from_bytes(&bytes), None);
        }
        for bytes in [&b""[..], b"B", b"Bcloud", b"Bcloud\0", b"Bcloud\0c123", b"Bcloud\0x", b"m12345678"] {
            assert_eq!(BridgeKey::from_bytes(bytes), None);
        }
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        let id = KeptId { number: 3, received_at_ms: Some(5), expires_at_ms: Some(9) };
        assert_eq!(KeptId::from_bytes(&id.to_bytes()), Some(id));
        let command = KeptCommand {
            topic: "commands/a".to_owned(),
            payload: Blob(b"{}".to_vec()),
            qos: 1,
            passed_on: Blob(Vec::new()),
            expiry_s: Some(60),
        };
        assert_eq!(KeptCommand::from_bytes(&command.to_bytes()), Some(command));
        assert_eq!(KeptCommand::from_bytes(b"x"), None);
    }
}

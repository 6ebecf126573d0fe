//! What a client is sent.

use super::properties as property;
use super::{Version, reason};

/// The answer to PINGREQ.
pub const PINGRESP: [u8; 2] = [0xd0, 0];

/// The answer to CONNECT. Version 5 has the rest in its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the gateway knew the session.
    pub session_present: bool,
    /// A reason code of version 5.
    pub reason: u8,
    /// How long the session is kept, if that is not what the client asked for.
    pub session_expiry_s: Option<u32>,
    /// Most messages of QoS 1 and 2 that may be unacknowledged; 65,535 if absent.
    pub receive_maximum: Option<u16>,
    /// Largest packet that is taken.
    pub packet_bytes_max: Option<u32>,
    /// The client id, if the gateway chose it.
    pub assigned_client_id: Option<&'a str>,
    /// Most aliases of topics that the client may use.
    pub topic_alias_maximum: u16,
    /// The keep-alive to be used, if that is not what the client asked for.
    pub keep_alive_s: Option<u16>,
    /// The reason in words.
    pub text: Option<&'a str>,
}

/// The answer to CONNECT, in the form that a client of this version understands.
pub fn connack(version: Version, answer: &Connack<'_>, out: &mut Vec<u8>) {
    if version < Version::V5 {
        let code = match answer.reason {
            reason::SUCCESS => 0,
            reason::UNSUPPORTED_VERSION => 1,
            reason::BAD_CLIENT_ID => 2,
            reason::BAD_LOGIN => 4,
            reason::NOT_AUTHORIZED => 5,
            _ => 3,
        };
        return out.extend_from_slice(&[0x20, 2, u8::from(answer.session_present), code]);
    }
    let mut properties = Vec::new();
    if let Some(seconds) = answer.session_expiry_s {
        four(property::SESSION_EXPIRY, seconds, &mut properties);
    }
    if answer.topic_alias_maximum > 0 {
        two(property::TOPIC_ALIAS_MAXIMUM, answer.topic_alias_maximum, &mut properties);
    }
    if let Some(bytes) = answer.packet_bytes_max {
        four(property::PACKET_BYTES_MAX, bytes, &mut properties);
    }
    if let Some(count) = answer.receive_maximum {
        two(property::RECEIVE_MAXIMUM, count, &mut properties);
    }
    if let Some(client_id) = answer.assigned_client_id {
        text(property::ASSIGNED_CLIENT_ID, client_id, &mut properties);
    }
    if let Some(seconds) = answer.keep_alive_s {
        two(property::SERVER_KEEP_ALIVE, seconds, &mut properties);
    }
    if let Some(words) = answer.text {
        text(property::REASON_STRING, words, &mut properties);
    }
    header(0x20, 2 + properties.len() + varint_len(properties.len()), out);
    out.extend_from_slice(&[u8::from(answer.session_present), answer.reason]);
    varint(properties.len(), out);
    out.extend_from_slice(&properties);
}

/// One of the four acknowledgements, by its first byte.
pub fn ack(version: Version, first: u8, packet_id: u16, reason: u8, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    match version == Version::V5 && reason != reason::SUCCESS {
        true => out.extend_from_slice(&[first, 3, high, low, reason]),
        false => out.extend_from_slice(&[first, 2, high, low]),
    }
}

/// `codes`: the QoS that is granted, or a reason code from 0x80 on.
pub fn suback(version: Version, packet_id: u16, codes: &[u8], out: &mut Vec<u8>) {
    let is_5 = version == Version::V5;
    header(0x90, 2 + usize::from(is_5) + codes.len(), out);
    out.extend_from_slice(&packet_id.to_be_bytes());
    if is_5 {
        out.push(0);
    }
    let in_version = |code: &u8| if is_5 { *code } else { (*code).min(reason::UNSPECIFIED) };
    out.extend(codes.iter().map(in_version));
}

/// `codes`: reason codes, which only version 5 has.
pub fn unsuback(version: Version, packet_id: u16, codes: &[u8], out: &mut Vec<u8>) {
    let codes = if version == Version::V5 { codes } else { &[] };
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    header(0xb0, 2 + properties.len() + codes.len(), out);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(codes);
}

/// Says why the connection ends, in words too if the client takes a packet of that size. Only version 5 can.
pub fn disconnect(version: Version, reason: u8, words: &str, packet_bytes_max: usize, out: &mut Vec<u8>) {
    if version < Version::V5 {
        return;
    }
    let mut properties = Vec::new();
    text(property::REASON_STRING, words, &mut properties);
    // Words have at most a few hundred bytes.
    if properties.len() + 6 > packet_bytes_max {
        return out.extend_from_slice(&[0xe0, 1, reason]);
    }
    header(0xe0, 1 + varint_len(properties.len()) + properties.len(), out);
    out.push(reason);
    varint(properties.len(), out);
    out.extend_from_slice(&properties);
}

/// A message for a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Empty if an alias stands for it.
    pub topic: &'a [u8],
    /// What was published.
    pub payload: &'a [u8],
    /// 0 to 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// Whether it was sent before.
    pub dup: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    /// Properties as the publisher sent them.
    pub passed_on: &'a [u8],
    /// Seconds for which it is of use.
    pub expiry_s: Option<u32>,
    /// Stands for the topic.
    pub alias: Option<u16>,
    /// Of the subscriptions that it matches.
    pub identifiers: &'a [u32],
}

impl Outgoing<'_> {
    fn properties_len(&self) -> usize {
        let identifiers = self.identifiers.iter().map(|id| 1 + varint_len(*id as usize));
        let expiry = if self.expiry_s.is_some() { 5 } else { 0 };
        let alias = if self.alias.is_some() { 3 } else { 0 };
        self.passed_on.len() + expiry + alias + identifiers.sum::<usize>()
    }

    fn remaining(&self, version: Version) -> usize {
        let packet_id = if self.qos > 0 { 2 } else { 0 };
        let properties = match version {
            Version::V5 => {
                let len = self.properties_len();
                varint_len(len) + len
            }
            _ => 0,
        };
        2 + self.topic.len() + packet_id + properties + self.payload.len()
    }

    /// Bytes of the whole packet.
    pub fn packet_len(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_len(remaining) + remaining
    }
}

/// A message.
pub fn publish(version: Version, message: &Outgoing<'_>, out: &mut Vec<u8>) {
    let first = 0x30 | (u8::from(message.dup) << 3) | (message.qos << 1) | u8::from(message.retain);
    header(first, message.remaining(version), out);
    out.extend_from_slice(&(message.topic.len() as u16).to_be_bytes());
    out.extend_from_slice(message.topic);
    if message.qos > 0 {
        out.extend_from_slice(&message.packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        varint(message.properties_len(), out);
        if let Some(seconds) = message.expiry_s {
            four(property::MESSAGE_EXPIRY, seconds, out);
        }
        if let Some(alias) = message.alias {
            two(property::TOPIC_ALIAS, alias, out);
        }
        for id in message.identifiers {
            out.push(property::SUBSCRIPTION_ID);
            varint(*id as usize, out);
        }
        out.extend_from_slice(message.passed_on);
    }
    out.extend_from_slice(message.payload);
}

pub(super) fn header(first: u8, remaining: usize, out: &mut Vec<u8>) {
    out.push(first);
    varint(remaining, out);
}

pub(super) fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn varint_len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

pub(super) fn two(id: u8, number: u16, out: &mut Vec<u8>) {
    out.push(id);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn four(id: u8, number: u32, out: &mut Vec<u8>) {
    out.push(id);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn text(id: u8, text: &str, out: &mut Vec<u8>) {
    out.push(id);
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

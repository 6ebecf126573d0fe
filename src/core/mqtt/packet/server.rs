//! What a server sends, decoded from whole frames: as strictly as what clients send, because it comes from a network as well.

use super::decode::{OF_IDS, OF_MESSAGES, UNEXPECTED_FLAGS, body};
use super::properties::{self, PassedOn, place};
use super::reader::Reader;
use super::{DecodeError, Publish, Version, reason};

/// A server's packet, borrowed from its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPacket<'a> {
    /// The answer to CONNECT, and always the first packet.
    Connack(Box<Connack<'a>>),
    /// A message.
    Publish(Publish<'a>),
    /// The server has a message of QoS 1, or refuses it.
    PubAck(Answer<'a>),
    /// The server has a message of QoS 2, or refuses it.
    PubRec(Answer<'a>),
    /// The server will not send a message of QoS 2 again.
    PubRel(Answer<'a>),
    /// The server has forgotten the id of a message of QoS 2.
    PubComp(Answer<'a>),
    /// What became of each filter of a SUBSCRIBE.
    SubAck {
        /// Of the SUBSCRIBE.
        packet_id: u16,
        /// The granted quality of service, or from 0x80 on a reason.
        codes: &'a [u8],
    },
    /// What became of each filter of an UNSUBSCRIBE.
    UnsubAck {
        /// Of the UNSUBSCRIBE.
        packet_id: u16,
        /// Empty before version 5.
        codes: &'a [u8],
    },
    /// It is there.
    PingResp,
    /// It ends the connection, and says why.
    Disconnect(Disconnect<'a>),
}

/// The answer to CONNECT. Before version 5 it says no more than whether the session was known, and whether the client is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the server has kept the session.
    pub session_present: bool,
    /// A reason code of version 5, also of what an older server said by its own codes.
    pub reason: u8,
    /// The reason in words.
    pub text: Option<&'a str>,
    /// Another server, if that is the reason.
    pub server_reference: Option<&'a str>,
    /// How long the session is kept, if not as asked.
    pub session_expiry_s: Option<u32>,
    /// Most messages of QoS 1 and 2 that may be unacknowledged.
    pub receive_maximum: Option<u16>,
    /// Highest quality of service that is taken.
    pub qos_max: u8,
    /// Whether messages may be retained.
    pub retain_available: bool,
    /// Largest packet that is taken.
    pub packet_bytes_max: Option<u32>,
    /// The client id, if the server chose it.
    pub assigned_client_id: Option<&'a str>,
    /// Most aliases of topics that may be used.
    pub topic_alias_maximum: u16,
    /// The keep-alive that is to be used instead of the one asked for.
    pub keep_alive_s: Option<u16>,
    /// Whether filters may have wildcards.
    pub wildcard_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_ids_available: bool,
    /// Whether subscriptions may be shared.
    pub shared_available: bool,
}

impl Default for Connack<'_> {
    fn default() -> Self {
        Connack {
            session_present: false,
            reason: reason::SUCCESS,
            text: None,
            server_reference: None,
            session_expiry_s: None,
            receive_maximum: None,
            qos_max: 2,
            retain_available: true,
            packet_bytes_max: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            keep_alive_s: None,
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
        }
    }
}

/// One of the four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// 0 before version 5.
    pub reason: u8,
    /// The reason in words.
    pub text: Option<&'a str>,
}

/// The end of a connection, as a server of version 5 tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason: u8,
    /// The reason in words.
    pub text: Option<&'a str>,
    /// Another server that is to be used.
    pub server_reference: Option<&'a str>,
}

/// Reasons of a SUBACK in version 5; older servers know 0x80 only.
const OF_FILTERS: [u8; 12] = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
const OF_UNSUBSCRIBED: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
const WRONG_REASON: DecodeError = DecodeError::Protocol("a reason code that this packet cannot have");

/// Decodes one whole frame of a connection of this version.
///
/// # Errors
///
/// Why it is not taken.
pub fn decode(version: Version, frame: &[u8]) -> Result<ServerPacket<'_>, DecodeError> {
    let (Some(first), reader) = (frame.first(), Reader::new(body(frame))) else {
        return Err(DecodeError::Malformed("nothing"));
    };
    match first {
        0x20 => connack(version, reader).map(|connack| ServerPacket::Connack(Box::new(connack))),
        0x30..=0x3f => publish(version, *first, reader).map(ServerPacket::Publish),
        0x40 => answer(version, reader, &OF_MESSAGES).map(ServerPacket::PubAck),
        0x50 => answer(version, reader, &OF_MESSAGES).map(ServerPacket::PubRec),
        0x62 => answer(version, reader, &OF_IDS).map(ServerPacket::PubRel),
        0x70 => answer(version, reader, &OF_IDS).map(ServerPacket::PubComp),
        0x90 => suback(version, reader),
        0xb0 => unsuback(version, reader),
        0xd0 => reader.end().map(|()| ServerPacket::PingResp),
        0xe0 if version == Version::V5 => disconnect(reader).map(ServerPacket::Disconnect),
        0xf0 => Err(DecodeError::Protocol("a step of an authentication that was not asked for")),
        0x10..=0x1f | 0x80..=0x8f | 0xa0..=0xaf | 0xc0..=0xcf | 0xe0 => {
            Err(DecodeError::Protocol("a packet that only clients send"))
        }
        0x00..=0x0f => Err(DecodeError::Protocol("an unknown type of packet")),
        _ => Err(UNEXPECTED_FLAGS),
    }
}

fn connack(version: Version, mut reader: Reader<'_>) -> Result<Connack<'_>, DecodeError> {
    let (flags, code) = (reader.byte()?, reader.byte()?);
    if flags > 1 {
        return Err(DecodeError::Malformed("connect acknowledge flags that are reserved"));
    }
    let session_present = flags == 1;
    // A server that does not know version 5 answers as it can, with two bytes.
    let is_old = version < Version::V5 || reader.is_at_end();
    let reason = if is_old { reason_of_code(code)? } else { code };
    if reason != reason::SUCCESS && (reason < reason::UNSPECIFIED || session_present) {
        return Err(WRONG_REASON);
    }
    let mut connack = Connack { session_present, reason, ..Connack::default() };
    if is_old {
        if version == Version::V5 && reason == reason::SUCCESS {
            return Err(DecodeError::Malformed("no properties"));
        }
        return reader.end().map(|()| connack);
    }
    let said = properties::read(&mut reader, place::CONNACK, |id, number| match id {
        properties::SESSION_EXPIRY => connack.session_expiry_s = Some(number),
        properties::RECEIVE_MAXIMUM => connack.receive_maximum = u16::try_from(number).ok(),
        properties::MAXIMUM_QOS => connack.qos_max = u8::from(number != 0),
        properties::RETAIN_AVAILABLE => connack.retain_available = number != 0,
        properties::PACKET_BYTES_MAX => connack.packet_bytes_max = Some(number),
        properties::TOPIC_ALIAS_MAXIMUM => connack.topic_alias_maximum = u16::try_from(number).unwrap_or(0),
        properties::SERVER_KEEP_ALIVE => connack.keep_alive_s = u16::try_from(number).ok(),
        properties::WILDCARD_AVAILABLE => connack.wildcard_available = number != 0,
        properties::SUBSCRIPTION_IDS_AVAILABLE => connack.subscription_ids_available = number != 0,
        properties::SHARED_AVAILABLE => connack.shared_available = number != 0,
        _ => {}
    })?;
    connack.text = said.text(properties::REASON_STRING);
    connack.server_reference = said.text(properties::SERVER_REFERENCE);
    connack.assigned_client_id = said.text(properties::ASSIGNED_CLIENT_ID);
    reader.end().map(|()| connack)
}

/// What a return code of 3.1.1 is called in version 5.
fn reason_of_code(code: u8) -> Result<u8, DecodeError> {
    Ok(match code {
        0 => reason::SUCCESS,
        1 => reason::UNSUPPORTED_VERSION,
        2 => reason::BAD_CLIENT_ID,
        3 => reason::UNAVAILABLE,
        4 => reason::BAD_LOGIN,
        5 => reason::NOT_AUTHORIZED,
        _ => return Err(WRONG_REASON),
    })
}

fn publish(version: Version, first: u8, mut reader: Reader<'_>) -> Result<Publish<'_>, DecodeError> {
    let (dup, qos, retain) = (first & 8 != 0, (first >> 1) & 3, first & 1 != 0);
    if qos == 3 || dup && qos == 0 {
        return Err(DecodeError::Malformed("QoS 3, or a repeat at QoS 0"));
    }
    let topic = reader.text()?;
    if topic.contains(['+', '#']) {
        return Err(DecodeError::Malformed("a topic with a wildcard"));
    }
    let packet_id = if qos > 0 { reader.packet_id()? } else { 0 };
    let mut publish = Publish { topic, qos, retain, dup, packet_id, ..Publish::default() };
    if version == Version::V5 {
        publish.passed_on = properties::read(&mut reader, place::SERVER_PUBLISH, |id, number| match id {
            properties::TOPIC_ALIAS => publish.alias = u16::try_from(number).ok(),
            properties::MESSAGE_EXPIRY => publish.expiry_s = Some(number),
            _ => {}
        })?;
    }
    if topic.is_empty() && publish.alias.is_none() {
        return Err(DecodeError::Protocol("a message without a topic"));
    }
    Ok(Publish { payload: reader.rest, ..publish })
}

/// `reasons`: those that it may have.
fn answer<'a>(version: Version, mut reader: Reader<'a>, reasons: &[u8]) -> Result<Answer<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut answer = Answer { packet_id, reason: reason::SUCCESS, text: None };
    if version == Version::V5 && !reader.is_at_end() {
        answer.reason = reader.byte()?;
        if !reasons.contains(&answer.reason) {
            return Err(WRONG_REASON);
        }
        if !reader.is_at_end() {
            let said = properties::read(&mut reader, place::ACK, |_, _| {})?;
            answer.text = said.text(properties::REASON_STRING);
        }
    }
    reader.end().map(|()| answer)
}

fn suback(version: Version, mut reader: Reader<'_>) -> Result<ServerPacket<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let is_5 = version == Version::V5;
    if is_5 {
        properties::read(&mut reader, place::GRANT, |_, _| {})?;
    }
    let codes = reader.rest;
    let may_be = |code: &u8| if is_5 { OF_FILTERS.contains(code) } else { matches!(code, 0..=2 | 0x80) };
    match codes.is_empty() || !codes.iter().all(may_be) {
        true => Err(WRONG_REASON),
        false => Ok(ServerPacket::SubAck { packet_id, codes }),
    }
}

fn unsuback(version: Version, mut reader: Reader<'_>) -> Result<ServerPacket<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    if version < Version::V5 {
        return reader.end().map(|()| ServerPacket::UnsubAck { packet_id, codes: &[] });
    }
    properties::read(&mut reader, place::GRANT, |_, _| {})?;
    let codes = reader.rest;
    match codes.is_empty() || !codes.iter().all(|code| OF_UNSUBSCRIBED.contains(code)) {
        true => Err(WRONG_REASON),
        false => Ok(ServerPacket::UnsubAck { packet_id, codes }),
    }
}

fn disconnect(mut reader: Reader<'_>) -> Result<Disconnect<'_>, DecodeError> {
    let mut disconnect = Disconnect { reason: reason::SUCCESS, text: None, server_reference: None };
    if !reader.is_at_end() {
        disconnect.reason = reader.byte()?;
        if !matches!(disconnect.reason, 0x00 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2) {
            return Err(WRONG_REASON);
        }
    }
    if !reader.is_at_end() {
        let said: PassedOn<'_> = properties::read(&mut reader, place::SERVER_DISCONNECT, |_, _| {})?;
        disconnect.text = said.text(properties::REASON_STRING);
        disconnect.server_reference = said.text(properties::SERVER_REFERENCE);
    }
    reader.end().map(|()| disconnect)
}

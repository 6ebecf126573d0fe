//! From frames to packets.

use super::properties::{self, PassedOn, place};
use super::reader::Reader;
use super::{
    Ack, Connect, DecodeError, Packet, Publish, RetainHandling, Subscribe, Subscription, Version, Will, reason,
};

pub(super) const UNEXPECTED_FLAGS: DecodeError = DecodeError::Malformed("flags that this packet cannot have");

/// Reasons of PUBACK and PUBREC, and those of PUBREL and PUBCOMP.
pub(super) const OF_MESSAGES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
pub(super) const OF_IDS: [u8; 2] = [reason::SUCCESS, reason::UNKNOWN_ID];
/// Mosquitto, too, calls this malformed in SUBSCRIBE and UNSUBSCRIBE.
const NO_ID: DecodeError = DecodeError::Malformed("no packet id, or one of 0");

/// Length of the first frame in `bytes`, or `None` until its fixed header is complete.
///
/// # Errors
///
/// If it is longer than `packet_bytes_max`, or its length cannot be read.
pub fn frame_len(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<usize>, DecodeError> {
    let mut remaining = 0usize;
    for at in 0..4 {
        let Some(byte) = bytes.get(1 + at) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + remaining;
            return match () {
                () if *byte == 0 && at > 0 => Err(DecodeError::Malformed("a length that is longer than needed")),
                () if total > packet_bytes_max => Err(DecodeError::TooLarge { bytes: total }),
                () => Ok(Some(total)),
            };
        }
    }
    Err(DecodeError::Malformed("a length of more than four bytes"))
}

pub(super) fn body(frame: &[u8]) -> &[u8] {
    let header_len = 2 + frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    frame.get(header_len..).unwrap_or_default()
}

/// The version that a CONNECT asks for, whatever else is wrong with it; `None` if it is none that is served.
pub fn version_of(frame: &[u8]) -> Option<Version> {
    let mut reader = Reader::new(body(frame));
    let is_connect = frame.first().is_some_and(|first| first >> 4 == 1);
    protocol(&mut reader).ok().filter(|_| is_connect).map(|(version, _)| version)
}

/// The version, and whether it is marked as that of a bridge, as Mosquitto does.
fn protocol(reader: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    match (reader.binary()?, reader.byte()?) {
        (b"MQIsdp", level @ (3 | 0x83)) => Ok((Version::V3, level > 0x80)),
        (b"MQTT", level @ (4 | 0x84)) => Ok((Version::V4, level > 0x80)),
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (b"MQIsdp" | b"MQTT", level) => Err(DecodeError::Level(level)),
        _ => Err(DecodeError::Malformed("the name of another protocol")),
    }
}

/// Decodes one whole frame, the first of a connection; `None` if it is no CONNECT.
///
/// # Errors
///
/// Why it is not taken.
pub fn decode_connect(frame: &[u8]) -> Result<Option<Connect<'_>>, DecodeError> {
    match frame.first() {
        Some(0x10) => connect(Reader::new(body(frame))).map(Some),
        Some(0x11..=0x1f) => Err(UNEXPECTED_FLAGS),
        _ => Ok(None),
    }
}

/// Decodes one whole frame of a connection of this version.
///
/// # Errors
///
/// Why it is not taken.
pub fn decode(version: Version, frame: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let (Some(first), reader) = (frame.first(), Reader::new(body(frame))) else {
        return Err(DecodeError::Malformed("nothing"));
    };
    match first {
        0x30..=0x3f => publish(version, *first, reader).map(Packet::Publish),
        0x40 => ack(version, reader, &OF_MESSAGES).map(Packet::PubAck),
        0x50 => ack(version, reader, &OF_MESSAGES).map(Packet::PubRec),
        0x62 => ack(version, reader, &OF_IDS).map(Packet::PubRel),
        0x70 => ack(version, reader, &OF_IDS).map(Packet::PubComp),
        0x82 => subscribe(version, reader).map(Packet::Subscribe),
        0xa2 => unsubscribe(version, reader),
        0xc0 => reader.end().map(|()| Packet::PingReq),
        0xe0 => disconnect(version, reader),
        0xf0 if version == Version::V5 => auth(reader),
        0x10 => decode_connect(frame)?.map(|connect| Packet::Connect(Box::new(connect))).ok_or(UNEXPECTED_FLAGS),
        0x20..=0x2f | 0x90 | 0xb0 | 0xd0 => Err(DecodeError::Protocol("a packet that only servers send")),
        0x00..=0x0f | 0xf0..=0xff => Err(DecodeError::Protocol("an unknown type of packet")),
        0x60..=0x6f | 0xe0..=0xef => Err(DecodeError::Protocol("flags that this packet cannot have")),
        _ => Err(UNEXPECTED_FLAGS),
    }
}

fn publish(version: Version, first: u8, mut reader: Reader<'_>) -> Result<Publish<'_>, DecodeError> {
    let (dup, qos, retain) = (first & 8 != 0, (first >> 1) & 3, first & 1 != 0);
    if qos == 3 || dup && qos == 0 {
        return Err(DecodeError::Malformed("QoS 3, or a repeat at QoS 0"));
    }
    // A topic is looked at more closely than a text.
    let topic = reader.any_text()?;
    let packet_id = if qos > 0 { reader.packet_id()? } else { 0 };
    let mut publish = Publish { topic, qos, retain, dup, packet_id, ..Publish::default() };
    if version == Version::V5 {
        publish.passed_on = properties::read(&mut reader, place::PUBLISH, |id, number| match id {
            properties::TOPIC_ALIAS => publish.alias = u16::try_from(number).ok(),
            properties::MESSAGE_EXPIRY => publish.expiry_s = Some(number),
            _ => {}
        })?;
    }
    Ok(Publish { payload: reader.rest, ..publish })
}

/// `reasons`: those that it may have.
fn ack(version: Version, mut reader: Reader<'_>, reasons: &[u8]) -> Result<Ack, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut reason = reason::SUCCESS;
    if version == Version::V5 && !reader.is_at_end() {
        reason = reader.byte()?;
        if !reasons.contains(&reason) {
            return Err(DecodeError::Protocol("a reason code that this packet cannot have"));
        }
        if !reader.is_at_end() {
            properties::read(&mut reader, place::ACK, |_, _| {})?;
        }
    }
    reader.end().map(|()| Ack { packet_id, reason })
}

fn subscribe(version: Version, mut reader: Reader<'_>) -> Result<Subscribe<'_>, DecodeError> {
    let packet_id = reader.packet_id().map_err(|_| NO_ID)?;
    let mut identifier = None;
    if version == Version::V5 {
        properties::read(&mut reader, place::SUBSCRIBE, |id, number| {
            if id == properties::SUBSCRIPTION_ID {
                identifier = Some(number);
            }
        })?;
    }
    let mut filters = Vec::new();
    while !reader.is_at_end() {
        let (filter, options) = (reader.name()?, reader.byte()?);
        filters.push(subscription(version, filter, options)?);
    }
    match filters.is_empty() {
        true => Err(DecodeError::Protocol("no filter")),
        false => Ok(Subscribe { packet_id, identifier, filters }),
    }
}

fn subscription(version: Version, filter: &str, options: u8) -> Result<Subscription<'_>, DecodeError> {
    let (qos, known) = (options & 3, if version == Version::V5 { 0x3f } else { 3 });
    if qos == 3 || options & !known != 0 {
        return Err(DecodeError::Malformed("options of a filter that are not known"));
    }
    let retained = match options >> 4 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(DecodeError::Protocol("a retain handling of 3")),
    };
    let (no_local, retain_as_published) = (options & 4 != 0, options & 8 != 0);
    if no_local && filter.starts_with("$share/") {
        return Err(DecodeError::Protocol("a shared subscription without the client's own messages"));
    }
    Ok(Subscription { filter, qos, no_local, retain_as_published, retained })
}

fn unsubscribe(version: Version, mut reader: Reader<'_>) -> Result<Packet<'_>, DecodeError> {
    let packet_id = reader.packet_id().map_err(|_| NO_ID)?;
    if version == Version::V5 {
        properties::read(&mut reader, place::UNSUBSCRIBE, |_, _| {})?;
    }
    let mut filters = Vec::new();
    while !reader.is_at_end() {
        filters.push(reader.name()?);
    }
    match filters.is_empty() {
        true => Err(DecodeError::Protocol("no filter")),
        false => Ok(Packet::Unsubscribe { packet_id, filters }),
    }
}

fn disconnect(version: Version, mut reader: Reader<'_>) -> Result<Packet<'static>, DecodeError> {
    let (mut reason, mut session_expiry_s) = (reason::SUCCESS, None);
    if version == Version::V5 && !reader.is_at_end() {
        reason = reader.byte()?;
        if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
            return Err(DecodeError::Protocol("a reason code that this packet cannot have"));
        }
        if !reader.is_at_end() {
            properties::read(&mut reader, place::DISCONNECT, |id, number| {
                if id == properties::SESSION_EXPIRY {
                    session_expiry_s = Some(number);
                }
            })?;
        }
    }
    reader.end().map(|()| Packet::Disconnect { reason, session_expiry_s })
}

fn auth(mut reader: Reader<'_>) -> Result<Packet<'static>, DecodeError> {
    if !reader.is_at_end() {
        if !matches!(reader.byte()?, 0x00 | 0x18 | 0x19) {
            return Err(DecodeError::Protocol("a reason code that this packet cannot have"));
        }
        properties::read(&mut reader, place::AUTH, |_, _| {})?;
    }
    reader.end().map(|()| Packet::Auth)
}

fn connect(mut reader: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let (version, is_bridge) = protocol(&mut reader)?;
    let flags = reader.byte()?;
    let is_set = |flag: u8| flags & flag != 0;
    let (has_will, will_qos) = (is_set(4), (flags >> 3) & 3);
    // Version 3.1 leaves the lowest one open.
    if is_set(1) && version > Version::V3 || !has_will && flags & 0x38 != 0 || will_qos == 3 {
        return Err(DecodeError::Malformed("connect flags that are reserved or contradict each other"));
    }
    if version < Version::V5 && is_set(0x40) && !is_set(0x80) {
        return Err(DecodeError::Malformed("a password without a user name"));
    }
    let keep_alive_s = reader.two()?;
    let mut connect = Connect { version, is_bridge, keep_alive_s, clean_start: is_set(2), ..Connect::default() };
    if version == Version::V5 {
        connect_properties(&mut reader, &mut connect)?;
    }
    let client_id = std::str::from_utf8(reader.binary()?).ok();
    let client_id = client_id.filter(|client_id| !client_id.chars().any(char::is_control));
    connect.client_id = client_id.ok_or(DecodeError::ClientId)?;
    if has_will {
        connect.will = Some(will(version, &mut reader, will_qos, is_set(0x20))?);
    }
    if is_set(0x80) {
        let user_name = reader.text()?;
        if user_name.chars().any(char::is_control) {
            return Err(DecodeError::Malformed("a control character in a user name"));
        }
        connect.user_name = Some(user_name);
    }
    if is_set(0x40) {
        connect.password = Some(reader.binary()?);
    }
    reader.end().map(|()| connect)
}

fn connect_properties(reader: &mut Reader<'_>, connect: &mut Connect<'_>) -> Result<(), DecodeError> {
    let mut has_method = false;
    connect.session_expiry_s = Some(0);
    properties::read(reader, place::CONNECT, |id, number| match id {
        properties::SESSION_EXPIRY => connect.session_expiry_s = Some(number),
        properties::RECEIVE_MAXIMUM => connect.receive_maximum = u16::try_from(number).ok(),
        properties::PACKET_BYTES_MAX => connect.packet_bytes_max = Some(number),
        properties::TOPIC_ALIAS_MAXIMUM => connect.topic_alias_maximum = u16::try_from(number).unwrap_or(0),
        properties::AUTHENTICATION_METHOD => has_method = true,
        _ => {}
    })?;
    if has_method { Err(DecodeError::Method) } else { Ok(()) }
}

fn will<'a>(version: Version, reader: &mut Reader<'a>, qos: u8, retain: bool) -> Result<Will<'a>, DecodeError> {
    let (mut delay_s, mut expiry_s, mut passed_on) = (0, None, PassedOn::default());
    if version == Version::V5 {
        passed_on = properties::read(reader, place::WILL, |id, number| match id {
            properties::WILL_DELAY => delay_s = number,
            properties::MESSAGE_EXPIRY => expiry_s = Some(number),
            _ => {}
        })?;
    }
    let (topic, payload) = (reader.name()?, reader.binary()?);
    Ok(Will { topic, payload, qos, retain, delay_s, expiry_s, passed_on })
}

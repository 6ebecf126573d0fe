//! The few packets of MQTT 3.1.1 and 5 that a publisher needs, written into and read from plain byte buffers.

use crate::access::{Login, Qos, Version};

/// How publishes are framed on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub version: Version,
    pub qos: Qos,
}

/// How long a broker of version 5 keeps a session whose connection was lost.
const SESSION_EXPIRY_S: u32 = 3_600;

/// CONNECT without will or keep-alive: a dead broker shows as a closed socket.
pub fn push_connect(out: &mut Vec<u8>, version: Version, client_id: &str, clean: bool, login: Option<&Login>) {
    let password = login.and_then(|login| login.password.as_ref());
    let flags = (if clean { 2 } else { 0 })
        | (if login.is_some() { 0x80 } else { 0 })
        | (if password.is_some() { 0x40 } else { 0 });
    let level = if version == Version::V5 { 5 } else { 4 };
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 0];
    match version {
        Version::V3_1_1 => {}
        Version::V5 if clean => body.push(0),
        Version::V5 => {
            body.extend_from_slice(&[5, SESSION_EXPIRY]);
            body.extend_from_slice(&SESSION_EXPIRY_S.to_be_bytes());
        }
    }
    push_text(&mut body, client_id);
    for text in login.map(|login| &login.username).into_iter().chain(password) {
        push_text(&mut body, text);
    }
    out.push(0x10);
    push_remaining_length(out, body.len());
    out.extend_from_slice(&body);
}

/// The part of a PUBLISH before its payload.
pub fn push_publish_header(
    out: &mut Vec<u8>,
    wire: Wire,
    topic: &str,
    packet_id: u16,
    duplicate: bool,
    payload_len: usize,
) {
    let has_id = wire.qos != Qos::AtMostOnce;
    let properties: &[u8] = if wire.version == Version::V5 { &[0] } else { &[] };
    out.push(0x30 | (wire.qos.level() << 1) | if duplicate { 8 } else { 0 });
    push_remaining_length(out, 2 + topic.len() + if has_id { 2 } else { 0 } + properties.len() + payload_len);
    push_text(out, topic);
    if has_id {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(properties);
}

/// PUBREL, the publisher's answer to PUBREC.
pub fn push_release(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x62, 2, high, low]);
}

pub fn push_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("texts are made here or checked, and short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_remaining_length(out: &mut Vec<u8>, mut len: usize) {
    while len > 127 {
        out.push((len & 127) as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Which packet of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// PUBACK.
    Acknowledged,
    /// PUBREC.
    Received,
    /// PUBCOMP.
    Complete,
}

/// What the broker sends to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// How many publishes it takes in flight; without a word of it, as many as there are packet ids.
    ConnAck {
        code: u8,
        receive_max: u16,
    },
    /// The reason is 0 in version 3.1.1, and a refusal from 0x80 on.
    Acknowledgement {
        step: Step,
        packet_id: u16,
        reason: u8,
    },
    Disconnect {
        reason: u8,
    },
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a remaining length of more than four bytes")]
    RemainingLength,
    #[error("a packet of {bytes} bytes to a publisher")]
    TooLarge { bytes: usize },
    #[error("packet type {packet_type} of a wrong length")]
    WrongLength { packet_type: u8 },
    #[error("the properties of a CONNACK cannot be understood")]
    Properties,
}

/// No packet for a mere publisher comes near this size.
const PACKET_BYTES_MAX: usize = 16 * 1024;

/// Takes the next whole packet off the front; `None` if it is incomplete.
pub fn take_answer(bytes: &mut &[u8], version: Version) -> Result<Option<Answer>, FrameError> {
    let Some((first, mut rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some(body_len) = take_remaining_length(&mut rest)? else {
        return Ok(None);
    };
    if body_len > PACKET_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: body_len });
    }
    let Some((body, tail)) = rest.split_at_checked(body_len) else {
        return Ok(None);
    };
    *bytes = tail;
    let packet_type = first >> 4;
    let step = match packet_type {
        2 => return connack(body, version).map(Some),
        4 => Step::Acknowledged,
        5 => Step::Received,
        7 => Step::Complete,
        14 if version == Version::V5 => {
            return Ok(Some(Answer::Disconnect { reason: body.first().copied().unwrap_or(0) }));
        }
        _ => return Ok(Some(Answer::Other)),
    };
    let (packet_id, reason) = match (version, body) {
        (_, &[high, low]) => (u16::from_be_bytes([high, low]), 0),
        (Version::V5, &[high, low, reason, ..]) => (u16::from_be_bytes([high, low]), reason),
        _ => return Err(FrameError::WrongLength { packet_type }),
    };
    Ok(Some(Answer::Acknowledgement { step, packet_id, reason }))
}

/// `None` if there is more to come.
fn take_remaining_length(bytes: &mut &[u8]) -> Result<Option<usize>, FrameError> {
    let mut len = 0;
    for place in 0..4 {
        let Some((byte, tail)) = bytes.split_first() else {
            return Ok(None);
        };
        *bytes = tail;
        len |= usize::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            return Ok(Some(len));
        }
    }
    Err(FrameError::RemainingLength)
}

const SESSION_EXPIRY: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;

fn connack(body: &[u8], version: Version) -> Result<Answer, FrameError> {
    match (version, body) {
        (Version::V3_1_1, &[_, code]) => Ok(Answer::ConnAck { code, receive_max: u16::MAX }),
        (Version::V5, &[_, code, ref properties @ ..]) => {
            let receive_max = receive_maximum(properties).ok_or(FrameError::Properties)?;
            Ok(Answer::ConnAck { code, receive_max })
        }
        _ => Err(FrameError::WrongLength { packet_type: 2 }),
    }
}

/// Among the properties of a CONNACK; `None` if they are not as they must be.
fn receive_maximum(mut bytes: &[u8]) -> Option<u16> {
    // A broker that does not speak version 5 refuses in 3.1.1, without properties.
    if bytes.is_empty() {
        return Some(u16::MAX);
    }
    let len = take_remaining_length(&mut bytes).ok()??;
    let mut properties = bytes.get(..len)?;
    while let Some((id, rest)) = properties.split_first() {
        let len = match *id {
            RECEIVE_MAXIMUM => return rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
            // A byte, two, four; a text or bytes; two texts.
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x22 => 2,
            SESSION_EXPIRY | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text_len(rest)?,
            0x26 => {
                let name_len = text_len(rest)?;
                name_len + text_len(rest.get(name_len..)?)?
            }
            _ => return None,
        };
        properties = rest.get(len..)?;
    }
    Some(u16::MAX)
}

fn text_len(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|len| 2 + usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests;

//! Decodes bytes to packets. The frequent ones (PUBLISH, PUBACK, PINGREQ) are read from the raw frame; the others by rumqttd's v4 codec,
//! which only ever sees whole frames of the three kinds given to it here.

use bytes::BytesMut;
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{Error, Packet as RouterPacket, Protocol};

use crate::core::mqtt::session::{Connect, Will};

/// A client's packet, borrowed from its frame where possible.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect),
    Publish { topic: &'a str, qos: u8, retain: bool, packet_id: u16, payload: &'a [u8] },
    PubAck { packet_id: u16 },
    Subscribe { packet_id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { packet_id: u16, filters: Vec<String> },
    PingReq,
    Disconnect,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a malformed packet")]
    Malformed,
    #[error("a packet of {bytes} bytes, more than is taken")]
    TooLarge { bytes: usize },
    /// A protocol other than 3.1.1, such as MQTT 5: the level that was asked for.
    #[error("protocol level {0}; MQTT 3.1.1 (level 4) is served")]
    ProtocolLevel(u8),
}

/// Length of the first frame in `bytes`, or `None` until its fixed header is complete.
pub fn frame_len(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<usize>, DecodeError> {
    let mut remaining = 0usize;
    for at in 0..4 {
        let Some(byte) = bytes.get(1 + at) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + remaining;
            if total > packet_bytes_max {
                return Err(DecodeError::TooLarge { bytes: total });
            }
            return Ok(Some(total));
        }
    }
    Err(DecodeError::Malformed)
}

/// Decodes one whole frame.
pub fn decode(frame: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let header_len = 2 + frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    let body = frame.get(header_len..).ok_or(DecodeError::Malformed)?;
    match frame[0] {
        0x30..=0x3f => decode_publish(frame[0], body),
        0x40 => match body {
            [high, low] => Ok(Packet::PubAck { packet_id: u16::from_be_bytes([*high, *low]) }),
            _ => Err(DecodeError::Malformed),
        },
        0xc0 if body.is_empty() => Ok(Packet::PingReq),
        0xe0 if body.is_empty() => Ok(Packet::Disconnect),
        0x10 | 0x82 | 0xa2 => decode_rare(frame),
        _ => Err(DecodeError::Malformed),
    }
}

fn decode_publish(first: u8, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let qos = (first >> 1) & 3;
    let (topic_len, rest) = body.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
    let (topic, rest) =
        rest.split_at_checked(usize::from(u16::from_be_bytes(*topic_len))).ok_or(DecodeError::Malformed)?;
    let topic = std::str::from_utf8(topic).map_err(|_| DecodeError::Malformed)?;
    let (packet_id, payload) = if qos == 0 {
        (0, rest)
    } else {
        let (packet_id, payload) = rest.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
        (u16::from_be_bytes(*packet_id), payload)
    };
    Ok(Packet::Publish { topic, qos, retain: first & 1 != 0, packet_id, payload })
}

fn decode_rare(frame: &[u8]) -> Result<Packet<'static>, DecodeError> {
    let mut stream = BytesMut::from(frame);
    let packet = V4.read_mut(&mut stream, frame.len()).map_err(|error| match error {
        Error::InvalidProtocolLevel(level) => DecodeError::ProtocolLevel(level),
        // MQTT 3.1 has another protocol name, and level 3.
        Error::InvalidProtocol if frame.windows(6).any(|name| name == b"MQIsdp") => DecodeError::ProtocolLevel(3),
        _ => DecodeError::Malformed,
    })?;
    match packet {
        RouterPacket::Connect(connect, _, will, _, login) => Ok(Packet::Connect(Connect {
            client_id: connect.client_id,
            clean_session: connect.clean_session,
            keep_alive_s: connect.keep_alive,
            has_login: login.is_some(),
            will: match will {
                Some(will) => Some(Will {
                    topic: String::from_utf8(will.topic.to_vec()).map_err(|_| DecodeError::Malformed)?,
                    payload: will.message.to_vec(),
                    qos: will.qos as u8,
                    retain: will.retain,
                }),
                None => None,
            },
        })),
        RouterPacket::Subscribe(subscribe, _) if subscribe.pkid != 0 => Ok(Packet::Subscribe {
            packet_id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos as u8)).collect(),
        }),
        RouterPacket::Unsubscribe(unsubscribe, _) if unsubscribe.pkid != 0 && !unsubscribe.filters.is_empty() => {
            Ok(Packet::Unsubscribe { packet_id: unsubscribe.pkid, filters: unsubscribe.filters })
        }
        _ => Err(DecodeError::Malformed),
    }
}

pub fn encode_connack(session_present: bool, code: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x20, 2, u8::from(session_present), code]);
}

/// The refusal in the form that an MQTT 5 client understands: reason 0x84, unsupported protocol version, no properties.
pub fn encode_connack_v5_unsupported(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x20, 3, 0, 0x84, 0]);
}

/// `granted`: 0, 1, or 0x80 for a refused filter.
pub fn encode_suback(packet_id: u16, granted: &[u8], out: &mut Vec<u8>) {
    out.push(0x90);
    let mut remaining = 2 + granted.len();
    while remaining >= 0x80 {
        out.push(remaining as u8 | 0x80);
        remaining >>= 7;
    }
    out.push(remaining as u8);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(granted);
}

pub fn encode_unsuback(packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0xb0, 2, high, low]);
}

pub const PINGRESP: [u8; 2] = [0xd0, 0];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONNECT: &[u8] = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc";
    const CONNECT_WITH_LOGIN: &[u8] = b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03abc\x00\x01a\x00\x01b";
    const SUBSCRIBE: &[u8] = b"\x82\x0b\x00\x07\x00\x01a\x01\x00\x02b/\x02";
    const UNSUBSCRIBE: &[u8] = b"\xa2\x06\x00\x08\x00\x02b/";
    const PUBLISH: &[u8] = b"\x33\x09\x00\x03a/b\x00\x05hi";

    #[test]
    fn packets_are_decoded() {
        let connect = |has_login| {
            let client_id = "abc".into();
            Ok(Packet::Connect(Connect { client_id, clean_session: true, keep_alive_s: 60, will: None, has_login }))
        };
        assert_eq!(decode(CONNECT), connect(false));
        assert_eq!(decode(CONNECT_WITH_LOGIN), connect(true));
        assert_eq!(
            decode(PUBLISH),
            Ok(Packet::Publish { topic: "a/b", qos: 1, retain: true, packet_id: 5, payload: b"hi" })
        );
        assert_eq!(
            decode(SUBSCRIBE),
            Ok(Packet::Subscribe { packet_id: 7, filters: vec![("a".into(), 1), ("b/".into(), 2)] })
        );
        assert_eq!(decode(UNSUBSCRIBE), Ok(Packet::Unsubscribe { packet_id: 8, filters: vec!["b/".into()] }));
        assert_eq!(decode(&[0xc0, 0]), Ok(Packet::PingReq));
        assert_eq!(decode(&[0x40, 2, 1, 2]), Ok(Packet::PubAck { packet_id: 0x102 }));
    }

    #[test]
    fn other_protocols_are_told_apart() {
        let mut five = CONNECT.to_vec();
        five[8] = 5;
        assert_eq!(decode(&five), Err(DecodeError::ProtocolLevel(5)));
        let old = b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc";
        assert_eq!(decode(old), Err(DecodeError::ProtocolLevel(3)));
    }

    #[test]
    fn frames_are_measured_and_bounded() {
        assert_eq!(frame_len(&[0x30], 100), Ok(None));
        assert_eq!(frame_len(&[0x30, 0x80], 100), Ok(None));
        assert_eq!(frame_len(&[0x30, 0x80, 0x01], 1000), Ok(Some(131)));
        assert_eq!(frame_len(&[0x30, 0x80, 0x01], 100), Err(DecodeError::TooLarge { bytes: 131 }));
        assert_eq!(frame_len(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX), Err(DecodeError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(which in 0usize..4, edits in prop::collection::vec((0usize..24, any::<u8>()), 0..6), tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = [CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBLISH][which].to_vec();
            for (at, value) in edits {
                let len = bytes.len();
                bytes[at % len] = value;
            }
            bytes.extend_from_slice(&tail);
            if let Ok(Some(len)) = frame_len(&bytes, 1 << 20)
                && len <= bytes.len()
            {
                let _ = decode(&bytes[..len]);
            }
        }
    }
}

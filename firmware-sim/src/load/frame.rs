//! The few MQTT 3.1.1 packets that a publisher needs, written into and read from plain byte buffers.

/// CONNECT without will, user or keep-alive: a dead broker shows as a closed socket.
pub fn push_connect(out: &mut Vec<u8>, client_id: &str, clean_session: bool) {
    let id_len = u16::try_from(client_id.len()).expect("client ids are made here and short");
    out.push(0x10);
    push_remaining_length(out, 10 + 2 + client_id.len());
    out.extend_from_slice(&[0, 4, b'M', b'Q', b'T', b'T', 4, if clean_session { 2 } else { 0 }, 0, 0]);
    out.extend_from_slice(&id_len.to_be_bytes());
    out.extend_from_slice(client_id.as_bytes());
}

/// The part of a QoS 1 PUBLISH before its payload.
pub fn push_publish_header(out: &mut Vec<u8>, topic: &str, packet_id: u16, duplicate: bool, payload_len: usize) {
    let topic_len = u16::try_from(topic.len()).expect("topics are made here and short");
    out.push(if duplicate { 0x3A } else { 0x32 });
    push_remaining_length(out, 2 + topic.len() + 2 + payload_len);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&packet_id.to_be_bytes());
}

pub fn push_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

fn push_remaining_length(out: &mut Vec<u8>, mut len: usize) {
    while len > 127 {
        out.push((len & 127) as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
}

/// What the broker sends to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    ConnAck { code: u8 },
    PubAck { packet_id: u16 },
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
}

/// No packet for a mere publisher comes near this size.
const PACKET_BYTES_MAX: usize = 1024;

/// Takes the next whole packet off the front; `None` if it is incomplete.
pub fn take_answer(bytes: &mut &[u8]) -> Result<Option<Answer>, FrameError> {
    let Some((first, mut rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let mut body_len = 0usize;
    for place in 0.. {
        if place == 4 {
            return Err(FrameError::RemainingLength);
        }
        let Some((byte, tail)) = rest.split_first() else {
            return Ok(None);
        };
        rest = tail;
        body_len |= usize::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            break;
        }
    }
    if body_len > PACKET_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: body_len });
    }
    let Some((body, tail)) = rest.split_at_checked(body_len) else {
        return Ok(None);
    };
    *bytes = tail;
    match (first >> 4, body) {
        (2, &[_, code]) => Ok(Some(Answer::ConnAck { code })),
        (4, &[high, low]) => Ok(Some(Answer::PubAck { packet_id: u16::from_be_bytes([high, low]) })),
        (packet_type @ (2 | 4), _) => Err(FrameError::WrongLength { packet_type }),
        _ => Ok(Some(Answer::Other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_their_bytes() {
        let mut out = Vec::new();
        push_connect(&mut out, "load-07", false);
        assert_eq!(out, b"\x10\x13\x00\x04MQTT\x04\x00\x00\x00\x00\x07load-07");
        out.clear();
        push_publish_header(&mut out, "a/b", 0x0102, false, 3);
        assert_eq!(out, b"\x32\x0a\x00\x03a/b\x01\x02");
        out.clear();
        push_publish_header(&mut out, "a/b", 1, true, 150);
        assert_eq!(out, b"\x3a\x9d\x01\x00\x03a/b\x00\x01");
        out.clear();
        push_disconnect(&mut out);
        assert_eq!(out, b"\xe0\x00");
    }

    #[test]
    fn answers_are_taken_whole_from_any_split() {
        let stream = b"\x20\x02\x00\x00\x40\x02\x00\x07\xd0\x00\x40\x02\x12\x34";
        let expected = [
            Answer::ConnAck { code: 0 },
            Answer::PubAck { packet_id: 7 },
            Answer::Other,
            Answer::PubAck { packet_id: 0x1234 },
        ];
        for split in 0..=stream.len() {
            let (mut taken, mut held) = (Vec::new(), Vec::new());
            for part in [&stream[..split], &stream[split..]] {
                held.extend_from_slice(part);
                let mut rest = &held[..];
                while let Some(answer) = take_answer(&mut rest).expect("well formed") {
                    taken.push(answer);
                }
                held = rest.to_vec();
            }
            assert_eq!((taken.as_slice(), held.len()), (&expected[..], 0), "split at {split}");
        }
    }

    #[test]
    fn nonsense_is_an_error_not_a_wait() {
        assert_eq!(take_answer(&mut &b"\x40\xff\xff\xff\xff\x01"[..]), Err(FrameError::RemainingLength));
        assert_eq!(take_answer(&mut &b"\x30\xff\xff\x03"[..]), Err(FrameError::TooLarge { bytes: 65_535 }));
        assert_eq!(take_answer(&mut &b"\x40\x03\x00\x01\x02"[..]), Err(FrameError::WrongLength { packet_type: 4 }));
    }
}

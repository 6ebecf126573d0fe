//! Frames of a connection that was upgraded.
//!
//! Their payload is passed on as it comes, where it lies. Only the header of a frame, and the payload of a control frame, are kept when they
//! come in pieces: a connection costs a few dozen bytes. Payload lengths are bounded only by what is counted here; MQTT's own limits hold for
//! the packets within.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Longest payload of a control frame.
const CONTROL_MAX: usize = 125;
/// Longest header that a client sends: two bytes, a length of eight, and a mask of four.
const HEADER_MAX: usize = 14;
/// A client that does not read its pongs gets no more of them while more bytes than this wait for it.
const REPLIES_MAX: usize = 4 * 1024;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Every frame of a client is masked.
    #[error("a frame is not masked, as those of a client have to be")]
    Unmasked,
    /// No extension was agreed on that would give these bits a meaning.
    #[error("a frame has reserved bits set, without an extension")]
    ReservedBits,
    /// One that RFC 6455 does not define.
    #[error("a frame has the unknown opcode {0}")]
    Opcode(u8),
    /// MQTT is sent in binary frames only.
    #[error("a text frame was sent, where MQTT needs binary frames")]
    Text,
    /// A control frame that is not final.
    #[error("a control frame is fragmented, which only data frames may be")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("a control frame has more than 125 bytes of payload")]
    LongControl,
    /// A continuation frame between messages.
    #[error("a continuation frame continues no message")]
    NothingToContinue,
    /// A frame that begins a message within another one.
    #[error("a message begins before the last one has ended")]
    Interrupted,
    /// A length in more bytes than it takes, or one of 2^63 or more.
    #[error("a payload length is malformed: it takes the fewest bytes, and its highest bit is zero")]
    Length,
    /// A length of 2^32 bytes or more.
    #[error("a frame is longer than 4294967295 bytes")]
    TooLong,
    /// A close frame with half a code, or with one that must not be sent.
    #[error("a close frame has an invalid code")]
    CloseCode,
}

impl FrameError {
    /// The code that the connection is closed with.
    pub fn code(self) -> u16 {
        match self {
            FrameError::Text => 1003,
            FrameError::TooLong => 1009,
            _ => 1002,
        }
    }

    /// Appends the close frame that answers it; the error's text is in it as the reason.
    pub fn close_frame(self, out: &mut Vec<u8>) {
        let reason = self.to_string();
        append_control(CLOSE, &[&self.code().to_be_bytes(), reason.as_bytes()], out);
    }
}

/// Takes apart what one client sends.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a header that is not complete.
    header: [u8; HEADER_MAX],
    header_len: u8,
    /// The frame whose payload comes.
    frame: Option<Frame>,
    /// Payload of a ping or close frame, as far as it has come. On the heap, for few connections have any.
    control: Vec<u8>,
    /// The next data frame continues a message.
    is_in_message: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    /// Turned so that it begins with the next byte of payload.
    mask: [u8; 4],
    /// Bytes of payload that are still to come.
    remaining: u32,
}

impl Frames {
    /// Takes bytes as they came from the socket. What they hold of MQTT's stream is moved, unmasked, to the front of `bytes`; its length is
    /// returned. Frames that the client is to be sent are appended to `replies`.
    ///
    /// After an error the client is sent [`FrameError::close_frame`]; what came before the fault in the same bytes is given up.
    pub fn take(&mut self, bytes: &mut [u8], replies: &mut Vec<u8>) -> Result<usize, FrameError> {
        let taken = self.take_frames(bytes, replies);
        self.is_closed |= taken.is_err();
        taken
    }

    /// Whether the client has closed, or has made an error: whatever else it sends is ignored.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn take_frames(&mut self, bytes: &mut [u8], replies: &mut Vec<u8>) -> Result<usize, FrameError> {
        let (mut from, mut payload_len) = (0, 0);
        while !self.is_closed {
            if self.frame.is_none() {
                from += self.take_header(&bytes[from..])?;
            }
            // Without a frame all bytes are used up.
            let Some(frame) = &mut self.frame else { break };
            let part = from..bytes.len().min(from.saturating_add(frame.remaining as usize));
            from = part.end;
            frame.unmask(&mut bytes[part.clone()]);
            let is_complete = frame.remaining == 0;
            match frame.opcode {
                BINARY | CONTINUATION => {
                    let len = part.len();
                    if part.start != payload_len {
                        bytes.copy_within(part, payload_len);
                    }
                    payload_len += len;
                }
                PING | CLOSE => self.control.extend_from_slice(&bytes[part]),
                _ => {}
            }
            if !is_complete {
                break;
            }
            self.end_frame(replies)?;
        }
        Ok(payload_len)
    }

    /// Returns how many bytes were used: all of them, if the header is not complete.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut used = self.fill_header(2, bytes);
        if self.header_len < 2 {
            return Ok(used);
        }
        self.check_start()?;
        let length_len = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let header_len = 2 + length_len + 4;
        used += self.fill_header(header_len, &bytes[used..]);
        if usize::from(self.header_len) < header_len {
            return Ok(used);
        }
        let opcode = self.header[0] & 0x0F;
        let (length, mask) = self.header[2..header_len].split_at(length_len);
        let remaining = payload_length(self.header[1] & !MASKED, length)?;
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        if opcode < CLOSE {
            self.is_in_message = self.header[0] & FINAL == 0;
        }
        self.header_len = 0;
        self.frame = Some(Frame { opcode, mask, remaining });
        Ok(used)
    }

    /// Takes what is missing of the first `len` bytes of a header.
    fn fill_header(&mut self, len: usize, bytes: &[u8]) -> usize {
        let filled = usize::from(self.header_len);
        let used = len.saturating_sub(filled).min(bytes.len());
        self.header[filled..filled + used].copy_from_slice(&bytes[..used]);
        self.header_len += used as u8;
        used
    }

    /// Checks the first two bytes of a header.
    fn check_start(&self) -> Result<(), FrameError> {
        let [start, length, ..] = self.header;
        let (opcode, is_final) = (start & 0x0F, start & FINAL != 0);
        if start & RESERVED != 0 {
            return Err(FrameError::ReservedBits);
        }
        match opcode {
            CONTINUATION if !self.is_in_message => return Err(FrameError::NothingToContinue),
            TEXT => return Err(FrameError::Text),
            BINARY if self.is_in_message => return Err(FrameError::Interrupted),
            CLOSE | PING | PONG if !is_final => return Err(FrameError::FragmentedControl),
            CLOSE | PING | PONG if usize::from(length & !MASKED) > CONTROL_MAX => return Err(FrameError::LongControl),
            CONTINUATION | BINARY | CLOSE | PING | PONG => {}
            _ => return Err(FrameError::Opcode(opcode)),
        }
        if length & MASKED == 0 { Err(FrameError::Unmasked) } else { Ok(()) }
    }

    fn end_frame(&mut self, replies: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let payload = std::mem::take(&mut self.control);
        match frame.opcode {
            PING if replies.len() <= REPLIES_MAX => append_control(PONG, &[&payload], replies),
            CLOSE => {
                self.is_closed = true;
                answer_close(&payload, replies)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Frame {
    /// Unmasks the next bytes of payload.
    fn unmask(&mut self, payload: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        let pattern = [a, b, c, d, a, b, c, d];
        let (words, rest) = payload.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(pattern)).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(pattern) {
            *byte ^= mask;
        }
        self.mask.rotate_left(payload.len() % 4);
        self.remaining -= payload.len() as u32;
    }
}

/// Appends the header of a frame whose payload follows: `payload_len` bytes of MQTT's stream.
pub fn header(payload_len: usize, out: &mut Vec<u8>) {
    out.push(FINAL | BINARY);
    match payload_len {
        0..126 => out.push(payload_len as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Appends a close frame without a reason.
pub fn close(code: u16, out: &mut Vec<u8>) {
    append_control(CLOSE, &[&code.to_be_bytes()], out);
}

/// `payload` has at most [`CONTROL_MAX`] bytes altogether: the limit is checked for what clients send, and the rest is short.
fn append_control(opcode: u8, payload: &[&[u8]], out: &mut Vec<u8>) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    debug_assert!(len <= CONTROL_MAX);
    out.extend_from_slice(&[FINAL | opcode, len as u8]);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// A close frame is answered with its own code. The reason is for people: it is not looked at.
fn answer_close(payload: &[u8], replies: &mut Vec<u8>) -> Result<(), FrameError> {
    match *payload {
        [] => append_control(CLOSE, &[], replies),
        [high, low, ..] if may_be_sent(u16::from_be_bytes([high, low])) => {
            append_control(CLOSE, &[&[high, low]], replies)
        }
        _ => return Err(FrameError::CloseCode),
    }
    Ok(())
}

/// The other codes are reserved, or stand for connections that ended without a close frame.
fn may_be_sent(close_code: u16) -> bool {
    matches!(close_code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// `short`: from the second byte of the header. `long`: the bytes after it, if it says that they hold the length.
fn payload_length(short: u8, long: &[u8]) -> Result<u32, FrameError> {
    if long.is_empty() {
        return Ok(u32::from(short));
    }
    let length = long.iter().fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
    let is_minimal = if long.len() == 2 { length >= 126 } else { length > 0xFFFF };
    if !is_minimal || length >> 63 != 0 {
        return Err(FrameError::Length);
    }
    u32::try_from(length).map_err(|_| FrameError::TooLong)
}

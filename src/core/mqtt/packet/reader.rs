//! Reads the parts that packets are made of.

use super::DecodeError;

const TOO_SHORT: DecodeError = DecodeError::Malformed("it ends in the middle of a field");

/// What is left of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Reader<'a> {
        Reader { rest }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.is_at_end() { Ok(()) } else { Err(DecodeError::Malformed("bytes behind the last field")) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn two(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn four(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of one to four bytes, no longer than needed.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut number = 0;
        for at in 0..4 {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return match byte == 0 && at > 0 {
                    true => Err(DecodeError::Malformed("a number that is longer than needed")),
                    false => Ok(number),
                };
            }
        }
        Err(DecodeError::Malformed("a number of more than four bytes"))
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (first, rest) = self.rest.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(first)
    }

    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.two()?;
        self.take(usize::from(len))
    }

    /// UTF-8 that may hold a NUL.
    pub fn any_text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.binary()?).map_err(|_| DecodeError::Malformed("a text that is not UTF-8"))
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let text = self.any_text()?;
        if text.contains('\0') { Err(DecodeError::Malformed("a text with a NUL")) } else { Ok(text) }
    }

    /// A text that people see: the name of something, which is not empty.
    pub fn name(&mut self) -> Result<&'a str, DecodeError> {
        match self.text()? {
            "" => Err(DecodeError::Malformed("an empty name")),
            text if text.chars().any(char::is_control) => Err(DecodeError::Malformed("a control character in a name")),
            text => Ok(text),
        }
    }

    /// The number of a packet, or of what it acknowledges.
    pub fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.two()? {
            0 => Err(DecodeError::Protocol("a packet id of 0")),
            id => Ok(id),
        }
    }
}

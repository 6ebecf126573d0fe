//! What a device sends along with a reading, packed.

use crate::json::text_bytes;

/// Attributes in their packed form: for each, the key's length and the value's length (u16, little endian), then both texts.
///
/// The packed bytes are a dictionary key in a stored batch as they are: most readings of a device share one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The empty set.
    pub const NONE: Attributes<'static> = Attributes(&[]);

    /// Takes packed bytes; `None` if they are not well formed.
    pub fn from_packed(packed: &'a [u8]) -> Option<Self> {
        let mut rest = packed;
        while !rest.is_empty() {
            (_, rest) = split_attribute(rest)?;
        }
        Some(Attributes(packed))
    }

    /// Takes bytes that only [`pack_attribute`] has written. Of any others, what is not well formed is left out.
    pub fn from_own(packed: &'a [u8]) -> Self {
        debug_assert!(Attributes::from_packed(packed).is_some());
        Attributes(packed)
    }

    /// The bytes that [`Self::from_packed`] takes.
    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no attribute.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in the order in which they were packed.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (attribute, tail) = split_attribute(rest)?;
            rest = tail;
            Some(attribute)
        })
    }

    /// Bytes that they take in each JSON record that carries them; 0 if there are none.
    pub fn json_bytes(self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let texts: usize = self.iter().map(|(key, value)| text_bytes(key) + text_bytes(value) + ":,".len()).sum();
        ",\"attributes\":{}".len() - 1 + texts
    }
}

fn split_attribute(bytes: &[u8]) -> Option<((&str, &str), &[u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<4>()?;
    let key_len = usize::from(u16::from_le_bytes([lengths[0], lengths[1]]));
    let value_len = usize::from(u16::from_le_bytes([lengths[2], lengths[3]]));
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some(((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?), rest))
}

/// Appends one attribute in packed form. Texts longer than a u16 counts are cut at a character boundary.
pub fn pack_attribute(packed: &mut Vec<u8>, key: &str, value: &str) {
    let (key, value) = (cut(key), cut(value));
    packed.extend_from_slice(&(key.len() as u16).to_le_bytes());
    packed.extend_from_slice(&(value.len() as u16).to_le_bytes());
    packed.extend_from_slice(key.as_bytes());
    packed.extend_from_slice(value.as_bytes());
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u16::MAX))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_attributes_are_refused() {
        assert!(Attributes::from_packed(&[5, 0, 0, 0, b'a']).is_none());
    }
}

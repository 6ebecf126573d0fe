//! Digests of tokens, as files hold them.
//!
//! A token is random, of 128 bits or more, so nobody can guess it: a single SHA-256 protects it as well as a hash that is slow on purpose, and
//! whoever sends wrong ones costs next to nothing.

use std::fmt;
use std::hint::black_box;

use ring::digest::{self, SHA256};

const BYTES: usize = 32;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; BYTES]);

impl TokenDigest {
    /// The digest of a token.
    pub fn of(token: &[u8]) -> TokenDigest {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest::digest(&SHA256, token).as_ref());
        TokenDigest(bytes)
    }

    /// Reads the 64 hex digits that it is written with.
    pub fn parse(text: &str) -> Option<TokenDigest> {
        let digits: &[u8; 2 * BYTES] = text.as_bytes().try_into().ok()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().try_fold(0, |byte, &next| Some(byte << 4 | digit(next)?))?;
        }
        Some(TokenDigest(bytes))
    }

    /// Whether it is of this token.
    pub fn is_of(&self, token: &[u8]) -> bool {
        self.is_equal(&TokenDigest::of(token))
    }

    /// Whether both are of the same token; takes the same time whichever it is.
    pub fn is_equal(&self, other: &TokenDigest) -> bool {
        is_equal(&self.0, &other.0)
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    /// Without its value, so that it gets into no log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenDigest")
    }
}

/// Compares without leaving off at the first difference, which would tell how much of a guess is right.
pub fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| black_box(difference | (left ^ right)));
    left.len() == right.len() && black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_its_token_and_of_no_other() {
        // The first example of FIPS 180-2.
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = TokenDigest::parse(text).expect("64 digits");
        assert!(digest.is_of(b"abc") && !digest.is_of(b"abd") && !digest.is_of(b""));
        assert_eq!((digest.to_string().as_str(), format!("{digest:?}").as_str()), (text, "TokenDigest"));
        for wrong in [&text[1..], "", &text.replace('b', "g"), &format!("{text}0")] {
            assert_eq!(TokenDigest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_digest_that_differs_in_any_byte_is_another_one() {
        let right = TokenDigest::of(b"token");
        for place in 0..BYTES {
            let mut other = right;
            other.0[place] ^= 1 << (place % 8);
            assert!(!other.is_of(b"token") && !other.is_equal(&right), "{place}");
        }
        assert!(!is_equal(b"", b"a") && !is_equal(b"ab", b"a") && is_equal(b"ab", b"ab") && is_equal(b"", b""));
    }
}

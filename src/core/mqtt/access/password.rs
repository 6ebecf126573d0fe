//! One secret of a user, as a file holds it: how it is read, checked against a password, and made.
//!
//! Nothing here reads a clock or draws random bytes: salts and tokens come from the caller. A file may ask only for
//! bounded work and memory, so that a login costs a bounded time. Hashes are compared in constant time.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD_NO_PAD;
use ring::digest::{self, SHA512};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};

use crate::digest::{TokenDigest, is_equal};

/// The longest password in bytes. A longer one is never right.
pub const PASSWORD_MAX: usize = 64 * 1024;

/// What `argon2id` costs for passwords that are hashed here.
const COST: Cost = Cost { memory: 7168, passes: 5, lanes: 1 };
const MEMORY_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;
/// Memory times passes: what a login may cost in time.
const WORK_MAX: u32 = 262_144;
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES: RangeInclusive<usize> = 8..=64;
const ARGON2ID_HASH_BYTES: RangeInclusive<usize> = 16..=64;
const SHA512_HASH_BYTES: RangeInclusive<usize> = 64..=64;

const ARGON2ID_FORM: &str = "$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH";
const PBKDF2_FORM: &str = "$7$ITERATIONS$SALT$HASH";
const SHA512_FORM: &str = "$6$SALT$HASH";
const TOKEN_FORM: &str = "$token$ and 64 hex digits";

/// PHC strings come without padding, those of other brokers with it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Base32 of RFC 4648 in small letters: has neither 0 nor 1, which people take for letters.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a text is not a secret. The words never show any of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// Nothing is there.
    #[error("there is no secret behind the `:`; `outrider passwd FILE NAME` makes such lines")]
    Missing,
    /// A password as it is typed.
    #[error("the password is plain text, which is refused; `outrider passwd FILE NAME` makes lines with its hash")]
    PlainText,
    /// It starts with `$`, but not as a known kind does.
    #[error(
        "the kind of secret is none of $argon2id$, $7$, $6$ and $token$; `outrider passwd FILE NAME` makes such lines"
    )]
    Kind,
    /// A part is missing or of another form.
    #[error("the secret is not of the form {0}")]
    Form(&'static str),
    /// A salt or hash is not base64.
    #[error("the {0} is not base64")]
    Base64(&'static str),
    /// A number or a length is too low or too high.
    #[error("the {what} must be {}", words(.allowed))]
    Range {
        /// What is out of range, with its unit.
        what: &'static str,
        /// What would be right.
        allowed: RangeInclusive<usize>,
    },
}

/// Blocks for `argon2id`, allocated once and used again. They grow to what the costliest secret needs.
#[derive(Default)]
pub struct Memory {
    blocks: Vec<Block>,
}

/// What a password or a token is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2id(Cost, Salted),
    Pbkdf2(NonZeroU32, Salted),
    Sha512(Salted),
    Token(TokenDigest),
}

#[derive(Clone, PartialEq, Eq)]
struct Salted {
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

/// What `argon2id` costs. The memory is in KiB.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

impl Memory {
    /// No blocks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many blocks, whatever they hold. None when there is not enough memory.
    fn blocks(&mut self, count: usize) -> Option<&mut [Block]> {
        if self.blocks.len() < count {
            // Growing a full vector would copy what nobody needs, and hold both for a while.
            self.blocks = Vec::new();
            self.blocks.try_reserve_exact(count).ok()?;
            self.blocks.resize(count, Block::new());
        }
        self.blocks.get_mut(..count)
    }
}

impl Secret {
    /// Reads the secret of a line.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        if text.is_empty() {
            return Err(SecretProblem::Missing);
        }
        let text = text.strip_prefix('$').ok_or(SecretProblem::PlainText)?;
        let (kind, rest) = text.split_once('$').unwrap_or((text, ""));
        match kind {
            "argon2id" => parse_argon2id(rest),
            "7" => parse_pbkdf2(rest),
            "6" => parse_sha512(rest),
            "token" => TokenDigest::parse(rest).map(Kind::Token).ok_or(SecretProblem::Form(TOKEN_FORM)),
            _ => Err(SecretProblem::Kind),
        }
        .map(Self)
    }

    /// A secret of our own cost that no password fits: for names that do not exist, so that they take as long.
    pub fn dummy() -> Self {
        Self(Kind::Argon2id(COST, Salted { salt: [0; 16].into(), hash: [0; 32].into() }))
    }

    /// Whether it is checked so quickly that this needs no thread of its own.
    pub fn is_cheap(&self) -> bool {
        matches!(self.0, Kind::Sha512(_) | Kind::Token(_))
    }

    /// Whether the password is the right one. Without enough memory for the check it is not.
    pub fn verify(&self, password: &[u8], memory: &mut Memory) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        match &self.0 {
            Kind::Argon2id(cost, Salted { salt, hash }) => {
                let mut found = [0; *ARGON2ID_HASH_BYTES.end()];
                let Some(found) = found.get_mut(..hash.len()) else { return false };
                cost.hash(password, salt, memory, found) && is_equal(found, hash)
            }
            Kind::Pbkdf2(iterations, Salted { salt, hash }) => {
                pbkdf2::verify(PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Kind::Sha512(Salted { salt, hash }) => {
                let mut context = digest::Context::new(&SHA512);
                context.update(password);
                context.update(salt);
                is_equal(context.finish().as_ref(), hash)
            }
            Kind::Token(hash) => hash.is_of(password),
        }
    }
}

impl fmt::Debug for Secret {
    /// Shows the kind alone, so that no hash gets into a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Kind::Argon2id(..) => "Secret(argon2id)",
            Kind::Pbkdf2(..) => "Secret(pbkdf2)",
            Kind::Sha512(_) => "Secret(sha512)",
            Kind::Token(_) => "Secret(token)",
        })
    }
}

/// The secret for a password, as a PHC string of our own cost.
pub fn argon2id(password: &[u8], salt: [u8; 16], memory: &mut Memory) -> String {
    let mut hash = [0; 32];
    assert!(COST.hash(password, &salt, memory, &mut hash), "our own cost is valid, and its memory of 7 MiB is there");
    let Cost { memory, passes, lanes } = COST;
    let [salt, hash] = [&salt[..], &hash].map(|bytes| BASE64_STANDARD_NO_PAD.encode(bytes));
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
}

/// The secret for a token. It takes no guesses out of a weak one: a token must be random, of 128 bits or more.
pub fn token(token: &str) -> String {
    format!("$token${}", TokenDigest::of(token.as_bytes()))
}

/// A token as people copy it: 32 letters and digits.
pub fn token_text(random: [u8; 20]) -> String {
    // Five bytes are eight characters of five bits.
    let characters = random.chunks(5).flat_map(|bytes| {
        let bits = bytes.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        (0..8).rev().map(move |place| char::from(BASE32[(bits >> (5 * place)) as usize % BASE32.len()]))
    });
    characters.collect()
}

impl Cost {
    /// Fills in the hash. False when the cost or a length is not valid or there is not enough memory.
    fn hash(self, password: &[u8], salt: &[u8], memory: &mut Memory, hash: &mut [u8]) -> bool {
        let Ok(params) = Params::new(self.memory, self.passes, self.lanes, Some(hash.len())) else { return false };
        let Some(blocks) = memory.blocks(params.block_count()) else { return false };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into_with_memory(password, salt, hash, blocks).is_ok()
    }

    fn parse(text: &str) -> Result<Self, SecretProblem> {
        let numbers = parts::<3>(text, ',').and_then(|[memory, passes, lanes]| {
            let memory = number(memory.strip_prefix("m=")?)?;
            Some(Self {
                memory,
                passes: number(passes.strip_prefix("t=")?)?,
                lanes: number(lanes.strip_prefix("p=")?)?,
            })
        });
        let cost = numbers.ok_or(SecretProblem::Form(ARGON2ID_FORM))?;
        let lanes = within("lanes p", cost.lanes, 1..=LANES_MAX)?;
        within("memory m in KiB", cost.memory, 8 * lanes..=MEMORY_MAX)?;
        within("passes t", cost.passes, 1..=PASSES_MAX)?;
        within("memory m in KiB times the passes t", cost.memory * cost.passes, 1..=WORK_MAX)?;
        Ok(cost)
    }
}

impl Salted {
    fn parse(salt: &str, hash: &str, hash_bytes: RangeInclusive<usize>) -> Result<Self, SecretProblem> {
        let salt = decode(salt, "salt", "length of the salt in bytes", SALT_BYTES)?;
        Ok(Self { salt, hash: decode(hash, "hash", "length of the hash in bytes", hash_bytes)? })
    }
}

fn parse_argon2id(text: &str) -> Result<Kind, SecretProblem> {
    let Some(["v=19", cost, salt, hash]) = parts::<4>(text, '$') else {
        return Err(SecretProblem::Form(ARGON2ID_FORM));
    };
    Ok(Kind::Argon2id(Cost::parse(cost)?, Salted::parse(salt, hash, ARGON2ID_HASH_BYTES)?))
}

fn parse_pbkdf2(text: &str) -> Result<Kind, SecretProblem> {
    let form = SecretProblem::Form(PBKDF2_FORM);
    let Some([iterations, salt, hash]) = parts::<3>(text, '$') else { return Err(form) };
    let iterations = within("iterations", number(iterations).ok_or(form)?, 1..=ITERATIONS_MAX)?;
    let iterations = NonZeroU32::new(iterations).expect("the least number of iterations is 1");
    Ok(Kind::Pbkdf2(iterations, Salted::parse(salt, hash, SHA512_HASH_BYTES)?))
}

fn parse_sha512(text: &str) -> Result<Kind, SecretProblem> {
    let Some([salt, hash]) = parts::<2>(text, '$') else { return Err(SecretProblem::Form(SHA512_FORM)) };
    Ok(Kind::Sha512(Salted::parse(salt, hash, SHA512_HASH_BYTES)?))
}

/// The parts of a text that has exactly so many.
fn parts<const COUNT: usize>(text: &str, separator: char) -> Option<[&str; COUNT]> {
    text.splitn(COUNT + 1, separator).collect::<Vec<_>>().try_into().ok()
}

/// A number of decimal digits. One that is too large for any limit stays too large.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}

fn within(what: &'static str, number: u32, allowed: RangeInclusive<u32>) -> Result<u32, SecretProblem> {
    let in_range = allowed.contains(&number).then_some(number);
    in_range.ok_or(SecretProblem::Range { what, allowed: *allowed.start() as usize..=*allowed.end() as usize })
}

fn decode(
    text: &str,
    name: &'static str,
    length: &'static str,
    allowed: RangeInclusive<usize>,
) -> Result<Box<[u8]>, SecretProblem> {
    // Four characters are three bytes: a text of another length is not decoded, however long it is.
    let bytes = match text.len() <= allowed.end().div_ceil(3) * 4 {
        true => BASE64.decode(text).map_err(|_| SecretProblem::Base64(name))?,
        false => Vec::new(),
    };
    let in_range = allowed.contains(&bytes.len()).then_some(bytes.into_boxed_slice());
    in_range.ok_or(SecretProblem::Range { what: length, allowed })
}

fn words(allowed: &RangeInclusive<usize>) -> String {
    match (allowed.start(), allowed.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! Hashes of texts, in hexadecimal digits; and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use super::text::{bounded, text};
use super::{Answer, Frame, Function, argument, constant};
use crate::json::HEX_DIGITS;
use crate::rules::value::{TEXT_BYTES_MAX, Value};

/// Hashing takes longer than copying: so many times the steps of a text.
const HASH_FACTOR: usize = 8;

pub(super) static FUNCTIONS: [Function; 9] = [
    constant("md2", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&md2::Md2::digest(text)))),
    constant("md5", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&md5::Md5::digest(text)))),
    constant("sha1", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&sha1::Sha1::digest(text)))),
    constant("sha224", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&sha2::Sha224::digest(text)))),
    constant("sha256", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&sha2::Sha256::digest(text)))),
    constant("sha384", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&sha2::Sha384::digest(text)))),
    constant("sha512", 1, 1, |frame, arguments| hashed(frame, arguments, |text| hex(&sha2::Sha512::digest(text)))),
    constant("encode", 2, 2, encode),
    constant("decode", 2, 2, decode),
];

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(HEX_DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn hashed<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>], hash: fn(&[u8]) -> String) -> Answer<'v> {
    let Some(text) = text(frame, arguments, 0)? else { return Ok(Value::Undefined) };
    frame.budget.take_bytes(text.len().saturating_mul(HASH_FACTOR))?;
    Ok(hash(text.as_bytes()).into())
}

fn is_base64(scheme: &Value<'_>) -> bool {
    matches!(scheme, Value::Text(scheme) if scheme == "base64")
}

/// The whole payload is encoded as it came, whatever it is.
fn encode<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    if !is_base64(argument(arguments, 1)) {
        return Ok(Value::Undefined);
    }
    let raw = match argument(arguments, 0) {
        Value::Bytes(bytes) => Some(*bytes),
        Value::Node(node) => node.raw(),
        _ => None,
    };
    match raw {
        Some(raw) => {
            frame.budget.take_bytes(raw.len())?;
            bounded(STANDARD.encode(raw))
        }
        None => Ok(text(frame, arguments, 0)?.map(|text| Value::from(STANDARD.encode(&*text))).unwrap_or_default()),
    }
}

/// What cannot be decoded is null.
fn decode<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    if !is_base64(argument(arguments, 1)) {
        return Ok(Value::Undefined);
    }
    let Some(encoded) = text(frame, arguments, 0)? else { return Ok(Value::Undefined) };
    let Some(bytes) = STANDARD.decode(&*encoded).ok().filter(|bytes| bytes.len() <= TEXT_BYTES_MAX) else {
        return Ok(Value::Null);
    };
    frame.budget.take_bytes(bytes.len().saturating_mul(HASH_FACTOR))?;
    Ok(Value::from_json(&bytes).or_else(|| String::from_utf8(bytes).ok().map(Value::from)).unwrap_or(Value::Null))
}

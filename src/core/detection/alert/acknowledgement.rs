//! Who has seen an alert, as a person's client says it: `{"by":"anna"}`.

/// Longest name of a person who acknowledges an alert, in bytes.
pub const BY_BYTES_MAX: usize = 128;

/// Why a payload acknowledges nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByError {
    /// The payload is not JSON.
    #[error("it is not JSON, send {{\"by\":\"...\"}}")]
    NotJson,
    /// There is no text under `by`, or it is blank.
    #[error("it does not say who, send {{\"by\":\"...\"}}")]
    Nobody,
    /// The name has more than [`BY_BYTES_MAX`] bytes.
    #[error("the name is longer than {BY_BYTES_MAX} bytes")]
    TooLong,
}

/// The name that a payload such as `{"by":"anna"}` gives, without blanks around it.
///
/// # Errors
///
/// Why the payload names nobody.
pub fn read_by(payload: &[u8]) -> Result<String, ByError> {
    let value: serde_json::Value = serde_json::from_slice(payload).map_err(|_| ByError::NotJson)?;
    let by = value.get("by").and_then(serde_json::Value::as_str).map(str::trim).unwrap_or_default();
    match by.len() {
        0 => Err(ByError::Nobody),
        1..=BY_BYTES_MAX => Ok(by.to_owned()),
        _ => Err(ByError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_a_name_acknowledges() {
        let named = |name: &str| read_by(serde_json::json!({ "by": name, "more": 1 }).to_string().as_bytes());
        assert_eq!(named(" anna "), Ok("anna".to_owned()));
        assert_eq!(named(&"ä".repeat(64)), Ok("ä".repeat(64)));
        assert_eq!(named(&"ä".repeat(65)), Err(ByError::TooLong));
        for body in [&b"{}"[..], b"{\"by\":\" \"}", b"{\"by\":1}", b"[]", b"7", b"\"anna\""] {
            assert_eq!(read_by(body), Err(ByError::Nobody));
        }
        for body in [&b""[..], b"anna", b"{\"by\":\"anna\"", b"{\"by\":\"\xff\"}"] {
            assert_eq!(read_by(body), Err(ByError::NotJson));
        }
    }
}

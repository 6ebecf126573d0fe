//! Who has seen an alert, as a person's client says it: `{"by":"anna"}`; and if that person knows, whether it was normal or a fault:
//! `{"by":"anna","normal":true}`.

/// Longest name of a person who acknowledges an alert, in bytes.
pub const BY_BYTES_MAX: usize = 128;

/// What a person says of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who has seen it.
    pub by: String,
    /// Whether what it is about is normal, or a fault; `None` if that is not said.
    pub normal: Option<bool>,
}

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
    /// What stands under `normal` is neither of the two.
    #[error("\"normal\" is neither true nor false; leave it out if it is not known")]
    NotNormal,
}

/// What a payload such as `{"by":"anna"}` says; the name without blanks around it.
///
/// # Errors
///
/// Why the payload acknowledges nothing.
pub fn read_acknowledgement(payload: &[u8]) -> Result<Acknowledgement, ByError> {
    use serde_json::Value;
    let value: Value = serde_json::from_slice(payload).map_err(|_| ByError::NotJson)?;
    let by = value.get("by").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let by = match by.len() {
        0 => return Err(ByError::Nobody),
        1..=BY_BYTES_MAX => by.to_owned(),
        _ => return Err(ByError::TooLong),
    };
    let normal = match value.get("normal") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(is_normal)) => Some(*is_normal),
        Some(_) => return Err(ByError::NotNormal),
    };
    Ok(Acknowledgement { by, normal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_a_name_acknowledges() {
        let named = |name: &str| {
            let payload = serde_json::json!({ "by": name, "more": 1 }).to_string();
            read_acknowledgement(payload.as_bytes()).map(|said| said.by)
        };
        assert_eq!(named(" anna "), Ok("anna".to_owned()));
        assert_eq!(named(&"ä".repeat(64)), Ok("ä".repeat(64)));
        assert_eq!(named(&"ä".repeat(65)), Err(ByError::TooLong));
        for body in [&b"{}"[..], b"{\"by\":\" \"}", b"{\"by\":1}", b"[]", b"7", b"\"anna\""] {
            assert_eq!(read_acknowledgement(body), Err(ByError::Nobody));
        }
        for body in [&b""[..], b"anna", b"{\"by\":\"anna\"", b"{\"by\":\"\xff\"}"] {
            assert_eq!(read_acknowledgement(body), Err(ByError::NotJson));
        }
    }

    #[test]
    fn whether_it_was_normal_is_said_clearly_or_not_at_all() {
        let normal = |said: &str| {
            let payload = format!(r#"{{"by":"anna","normal":{said}}}"#);
            read_acknowledgement(payload.as_bytes()).map(|said| said.normal)
        };
        assert_eq!([normal("true"), normal("false"), normal("null")], [Ok(Some(true)), Ok(Some(false)), Ok(None)]);
        for said in ["\"true\"", "1", "0", "\"\"", "[]", "{}", "[true]"] {
            assert_eq!(normal(said), Err(ByError::NotNormal), "{said}");
        }
    }
}

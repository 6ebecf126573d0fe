//! The protocol in which Amazon Data Firehose delivers to HTTP endpoints: requests as its specification 1.0 has them, and what a response means.
//!
//! The id of a request is made of the whole of its records, so that it is the same when they are sent again and another one whenever a record
//! is: a receiver may take a request with a known id for a repeat and leave it out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::body::guid;
use super::client::{Answered, Client, Question};
use super::forms::FirehoseForm;
use super::outcome::{self, Answer};
use crate::clock;
use crate::core::delivery::Outcome;
use crate::sinks::compression::Compression;
use crate::sinks::network::REQUEST_TOO_LARGE;
use crate::sinks::secret::Secret;

/// Most bytes of a record, before it is encoded.
pub const RECORD_BYTES_MAX: usize = 1_000 << 10;
/// A longer response counts as none.
const ANSWER_BYTES_MAX: usize = 1 << 20;

const NOT_OF_THE_ENDPOINT: &str =
    "; the answer does not name our request, so it tells of no record: look at url, and at what is on the way to it";

/// Sends requests of this protocol.
pub struct Firehose {
    form: FirehoseForm,
    compression: Compression,
}

impl Firehose {
    pub fn new(form: FirehoseForm, compression: Compression) -> Firehose {
        Firehose { form, compression }
    }

    /// Posts once, each line as a record. The outcome holds for all of them.
    pub async fn send(&self, client: &Client, lines: &[&[u8]]) -> Outcome {
        let id = request_id(lines);
        let body = match self.compression.compress(body(&id, clock::now_ms(), lines)) {
            Ok(body) => body,
            Err(error) => return Outcome::Later { reason: format!("cannot compress: {error}"), after_us: None },
        };
        let question = Question {
            method: "POST",
            path: "",
            headers: &headers(&self.form, &id),
            encoding: self.compression.encoding(),
            body,
            answer_bytes_max: ANSWER_BYTES_MAX + 1,
        };
        match client.ask(question).await {
            Ok(Answered { shown, text, .. }) => judge(&shown, &text, &id),
            Err(outcome) => outcome,
        }
    }
}

fn without_line_feed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// A UUID of version 8 with a digest of the records.
fn request_id(lines: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for line in lines {
        let line = without_line_feed(line);
        digest.update((line.len() as u64).to_le_bytes());
        digest.update(line);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    guid(bytes)
}

fn headers(form: &FirehoseForm, id: &str) -> [(&'static str, String); 4] {
    [
        ("content-type", "application/json".to_owned()),
        ("x-amz-firehose-protocol-version", "1.0".to_owned()),
        ("x-amz-firehose-request-id", id.to_owned()),
        ("x-amz-firehose-source-arn", form.source_arn.clone()),
    ]
}

/// Headers that are the same for each request, and that nobody else may see.
pub fn secret_headers(form: &FirehoseForm) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    if let Some(key) = &form.access_key {
        headers.push(("x-amz-firehose-access-key".to_owned(), key.clone()));
    }
    if !form.common_attributes.is_empty() {
        let attributes: serde_json::Map<String, serde_json::Value> =
            form.common_attributes.iter().map(|(name, value)| (name.clone(), value.0.clone().into())).collect();
        let text = serde_json::json!({ "commonAttributes": attributes }).to_string();
        headers.push(("x-amz-firehose-common-attributes".to_owned(), Secret(text)));
    }
    headers
}

fn body(id: &str, now_ms: i64, lines: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let mut body = String::with_capacity(bytes / 3 * 4 + lines.len() * 16 + 128);
    body.push_str(&format!("{{\"requestId\":\"{id}\",\"timestamp\":{now_ms},\"records\":["));
    for (at, line) in lines.iter().enumerate() {
        body.push_str(if at == 0 { "{\"data\":\"" } else { ",{\"data\":\"" });
        BASE64.encode_string(without_line_feed(line), &mut body);
        body.push_str("\"}");
    }
    body.push_str("]}");
    body.into_bytes()
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "requestId")]
    id: String,
    /// Milliseconds; it has to be there.
    #[serde(rename = "timestamp")]
    _timestamp: f64,
}

/// Whose request was refused.
#[derive(Deserialize)]
struct Refused {
    #[serde(rename = "requestId")]
    id: String,
}

/// 413 is final, and so is a refusal with our id: the endpoint itself has judged this request, so its records are to blame. A refusal without
/// it may be anybody's on the way. What needs a person is said to be so, and tried again as well.
fn judge(shown: &Answer, text: &[u8], id: &str) -> Outcome {
    match shown.status {
        200 => match fault(text, id) {
            None => Outcome::Accepted { shard: None },
            Some(fault) => {
                Outcome::Later { reason: format!("the response {fault}, so it counts for nothing"), after_us: None }
            }
        },
        REQUEST_TOO_LARGE => outcome::of(shown),
        400..=499 => match outcome::of(shown) {
            Outcome::Reject(said) if serde_json::from_slice::<Refused>(text).is_ok_and(|refused| refused.id == id) => {
                Outcome::Reject(said)
            }
            Outcome::Reject(said) => Outcome::Halt(said + NOT_OF_THE_ENDPOINT),
            other => other,
        },
        201..=299 => {
            Outcome::Later { reason: outcome::said(shown) + ", which is none of this protocol", after_us: None }
        }
        _ => outcome::of(shown),
    }
}

/// What is wrong with the text of a response that says 200.
fn fault(text: &[u8], id: &str) -> Option<&'static str> {
    if text.len() > ANSWER_BYTES_MAX {
        return Some("is longer than 1MiB");
    }
    match serde_json::from_slice::<Said>(text) {
        Ok(said) if said.id == id => None,
        Ok(_) => Some("is to another request"),
        Err(_) => Some("is not JSON with requestId and timestamp"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn answer(status: u16, text: &str) -> Answer {
        Answer { status, retry_after: None, date: None, text: text.as_bytes().to_vec() }
    }

    fn judged(status: u16, text: &str) -> Outcome {
        judge(&answer(status, text), text.as_bytes(), "a-1")
    }

    #[test]
    fn only_a_response_to_this_very_request_is_a_success() {
        assert_eq!(judged(200, r#"{"requestId":"a-1","timestamp":1578090903599}"#), Outcome::Accepted { shard: None });
        for (text, words) in [
            (r#"{"requestId":"a-2","timestamp":1}"#, "is to another request"),
            (r#"{"requestId":"a-1"}"#, "is not JSON"),
            (r#"{"timestamp":1}"#, "is not JSON"),
            (r#"{"requestId":"a-1","timestamp":"soon"}"#, "is not JSON"),
            ("<html>ok</html>", "is not JSON"),
            ("", "is not JSON"),
        ] {
            let Outcome::Later { reason, .. } = judged(200, text) else { panic!("{text}") };
            assert!(reason.contains(words), "{text}: {reason}");
        }
        let long = format!("{{\"requestId\":\"a-1\",\"timestamp\":1,\"x\":\"{}\"}}", "x".repeat(ANSWER_BYTES_MAX));
        assert!(matches!(judged(200, &long), Outcome::Later { .. }));
    }

    #[test]
    fn what_is_refused_with_our_id_is_final_and_413_is() {
        let right = r#"{"requestId":"a-1","timestamp":1,"errorMessage":"no"}"#;
        assert!(matches!(judged(413, right), Outcome::TooLarge(_)));
        for status in [400, 422] {
            assert!(matches!(judged(status, right), Outcome::Reject(_)), "{status}");
            for other in
                [r#"{"requestId":"a-2","timestamp":1}"#, r#"{"errorMessage":"no"}"#, "<html>bad request</html>", ""]
            {
                let Outcome::Halt(said) = judged(status, other) else { panic!("{status} {other}") };
                assert!(said.contains("does not name our request"), "{said}");
            }
        }
        for status in [201, 204, 408, 429, 500, 503] {
            assert!(matches!(judged(status, right), Outcome::Later { .. }), "{status}");
        }
        for status in [301, 302, 401, 403, 404] {
            assert!(matches!(judged(status, right), Outcome::Halt(_)), "{status}");
        }
    }

    #[test]
    fn headers_are_those_of_the_protocol() {
        let secret = |text: &str| Secret(text.to_owned());
        let mut form = FirehoseForm {
            access_key: Some(secret("key")),
            source_arn: "arn:aws:firehose:us-east-1:000000000000:deliverystream/outrider".to_owned(),
            common_attributes: vec![("site".to_owned(), secret("yard \"7\""))],
        };
        let all = headers(&form, "a-1");
        assert_eq!(all[1], ("x-amz-firehose-protocol-version", "1.0".to_owned()));
        assert_eq!(all[2], ("x-amz-firehose-request-id", "a-1".to_owned()));
        let secrets = secret_headers(&form);
        assert!(secrets[0].0 == "x-amz-firehose-access-key" && secrets[0].1 == secret("key"));
        let attributes: Value = serde_json::from_str(&secrets[1].1.0).expect("JSON");
        assert_eq!(attributes, json!({"commonAttributes": {"site": "yard \"7\""}}));
        (form.access_key, form.common_attributes) = (None, Vec::new());
        assert!(secret_headers(&form).is_empty());
    }

    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8)
    }

    proptest! {
        /// A reader of the protocol finds the id and exactly the lines.
        #[test]
        fn a_body_holds_its_lines(lines in lines(), now_ms in 0..4_102_444_800_000_i64) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let id = request_id(&lines);
            let body: Value = serde_json::from_slice(&body(&id, now_ms, &lines)).expect("JSON");
            prop_assert_eq!((&body["requestId"], &body["timestamp"]), (&json!(id), &json!(now_ms)));
            let decode = |record: &Value| BASE64.decode(record["data"].as_str().expect("a text")).expect("base64");
            let records: Vec<Vec<u8>> = body["records"].as_array().expect("an array").iter().map(decode).collect();
            let expected: Vec<&[u8]> = lines.iter().map(|line| without_line_feed(line)).collect();
            prop_assert_eq!(records, expected);
        }

        /// The same records have the same id, and others have another: also where first, last and count are the same.
        #[test]
        fn an_id_is_of_these_records(lines in lines(), at in any::<prop::sample::Index>()) {
            let of = |lines: &[Vec<u8>]| request_id(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let id = of(&lines);
            prop_assert_eq!(&id, &of(&lines));
            prop_assert_eq!((id.len(), id.as_bytes()[14]), (36, b'8'));
            let mut others = lines.clone();
            others[at.index(lines.len())].insert(0, b'x');
            prop_assert_ne!(&id, &of(&others));
            // Where a line ends counts.
            let joined = vec![lines.concat()];
            prop_assert!(lines.len() == 1 || id != of(&joined));
        }
    }
}

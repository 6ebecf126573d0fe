//! What a response of Firehose means: decided by error code, never by the text of a message.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::core::delivery::{Outcome, Reply, RetryReason, Scope};
use crate::sinks::aws::errors::{self, Refusal};
use crate::sinks::aws::service::Answer;
use crate::sinks::network::REQUEST_TOO_LARGE;

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "RequestResponses")]
    results: Vec<RecordResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RecordResult {
    record_id: Option<IgnoredAny>,
    error_code: Option<String>,
    error_message: Option<String>,
}

/// The reply to a request that was taken, which says what became of each of its `count` records.
pub fn of_records(body: &[u8], count: usize) -> Reply {
    match serde_json::from_slice::<Batch>(body) {
        Ok(batch) if batch.results.len() == count => {
            Reply { scope: Scope::Records, outcomes: batch.results.iter().map(of_record).collect(), passed_over: 0 }
        }
        // Cut off, or of something in between: none counts as stored, and consumers recognise repeats by their identity.
        _ => Reply::whole(Outcome::Retry(RetryReason::Internal), count),
    }
}

fn of_record(result: &RecordResult) -> Outcome {
    match (&result.error_code, &result.record_id) {
        (None, Some(_)) => Outcome::Accepted { shard: None },
        (Some(code), _) => errors::of_record(code, result.error_message.as_deref().unwrap_or_default()),
        (None, None) => Outcome::Retry(RetryReason::Internal),
    }
}

/// What a request that was not taken means for all of its records.
pub fn of_request(answer: &Answer, stream: &str) -> Outcome {
    let Refusal { code, message, skew_seconds } = Refusal::of(answer);
    of_code(&code, &message, answer.status, skew_seconds, stream)
}

fn of_code(code: &str, message: &str, status: u16, skew_seconds: u64, stream: &str) -> Outcome {
    match code {
        "ServiceUnavailableException" | "ServiceUnavailable" | "SlowDown" => Outcome::Retry(RetryReason::Throttled),
        "ResourceNotFoundException" => errors::no_stream(stream, message),
        "InvalidSourceException" => Outcome::Halt(format!(
            "the stream {stream:?} reads from another source; it has to be made with DirectPut as its source: {message}"
        )),
        "InvalidKMSResourceException" => Outcome::Halt(format!(
            "the stream {stream:?} cannot use its KMS key; enable the key, and allow it to the stream's role: {message}"
        )),
        "AccessDeniedException" => Outcome::Halt(format!(
            "access to the stream {stream:?} is denied; the policy of the credentials has to allow firehose:PutRecordBatch: {message}"
        )),
        "" if status == REQUEST_TOO_LARGE => Outcome::TooLarge("the request is too large (413)".to_owned()),
        "" if (400..500).contains(&status) => {
            Outcome::Halt(format!("HTTP status {status}, without an error of Firehose"))
        }
        _ => errors::of_request(code, message, status, skew_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_meaning() {
        let of = |code, status, skew| of_code(code, "m", status, skew, "fleet");
        for (code, status, skew, reason) in [
            ("ServiceUnavailableException", 503, 0, RetryReason::Throttled),
            ("ThrottlingException", 400, 0, RetryReason::Throttled),
            ("ExpiredTokenException", 400, 0, RetryReason::Credentials),
            ("InvalidSignatureException", 400, 3600, RetryReason::Clock),
            ("InternalFailure", 500, 0, RetryReason::Internal),
            ("NeverHeardOf", 500, 0, RetryReason::Internal),
            ("", 502, 0, RetryReason::Internal),
        ] {
            assert_eq!(of(code, status, skew), Outcome::Retry(reason), "{code}");
        }
        for (code, named) in [
            ("ResourceNotFoundException", "there is no stream \"fleet\""),
            ("InvalidSourceException", "DirectPut"),
            ("InvalidKMSResourceException", "enable the key"),
            ("AccessDeniedException", "firehose:PutRecordBatch"),
            ("InvalidSignatureException", "InvalidSignatureException: m"),
            ("", "HTTP status 400"),
        ] {
            let Outcome::Halt(said) = of(code, 400, 3) else { panic!("{code}") };
            assert!(said.contains(named), "{code}: {said}");
        }
        assert!(matches!(of("InvalidArgumentException", 400, 0), Outcome::Reject(_)));
        assert!(matches!(of("", 413, 0), Outcome::TooLarge(_)));
    }

    #[test]
    fn each_record_has_its_own_outcome() {
        let body = br#"{"FailedPutCount":2,"Encrypted":false,"RequestResponses":[{"RecordId":"r1"},
            {"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."},
            {"ErrorCode":"InternalFailure","ErrorMessage":"m"},{}]}"#;
        let reply = of_records(body, 4);
        let [throttled, internal] = [RetryReason::Throttled, RetryReason::Internal].map(Outcome::Retry);
        assert_eq!(reply.outcomes, [Outcome::Accepted { shard: None }, throttled, internal.clone(), internal.clone()]);
        assert_eq!(reply.scope, Scope::Records);
        // Of another number of records, cut off, or no JSON.
        for (body, count) in [(&body[..], 3), (&body[..90], 4), (b"<html>", 1)] {
            assert_eq!(of_records(body, count), Reply::whole(internal.clone(), count));
        }
    }
}

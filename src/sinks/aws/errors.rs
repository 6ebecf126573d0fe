//! What the error codes mean that services with an interface in JSON have in common.

use serde_json::Value;

use super::service::Answer;
use crate::core::delivery::{Outcome, RetryReason};

/// From this difference on, the clock is blamed for a refused signature; the SDK uses the same limit.
const CLOCK_SKEW_SECONDS_MIN: u64 = 240;

/// What an answer says that refuses a request.
pub struct Refusal {
    /// Empty if it says none.
    pub code: String,
    pub message: String,
    /// How far our clock and the service's differ.
    pub skew_seconds: u64,
}

impl Refusal {
    pub fn of(answer: &Answer) -> Refusal {
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |names: [&str; 2]| names.iter().find_map(|name| told[name].as_str()).unwrap_or_default();
        let code = answer.header("x-amzn-errortype").unwrap_or_else(|| text(["__type", "code"]));
        Refusal {
            code: plain(code).to_owned(),
            message: text(["message", "Message"]).to_owned(),
            skew_seconds: answer.ahead_seconds.map_or(0, i64::unsigned_abs),
        }
    }
}

/// A code without the name space before it, and without what a proxy of the service writes behind it.
fn plain(code: &str) -> &str {
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    code.split_once(':').map_or(code, |(code, _)| code)
}

/// What the code of a refused request means for all of its records; `skew_seconds` is how far our clock and the service's differ.
pub fn of_request(code: &str, message: &str, status: u16, skew_seconds: u64) -> Outcome {
    let is_skewed = skew_seconds >= CLOCK_SKEW_SECONDS_MIN;
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded" => Outcome::Retry(RetryReason::Throttled),
        "ExpiredTokenException" | "ExpiredToken" => Outcome::Retry(RetryReason::Credentials),
        "InvalidSignatureException" | "RequestExpired" | "RequestTimeTooSkewed" | "SignatureDoesNotMatch"
            if is_skewed =>
        {
            Outcome::Retry(RetryReason::Clock)
        }
        "RequestExpired" => Outcome::Retry(RetryReason::Credentials),
        "RequestEntityTooLargeException" | "RequestTooLargeException" | "PayloadTooLargeException" => {
            Outcome::TooLarge(format!("{code}: {message}"))
        }
        "InvalidArgumentException" | "ValidationException" | "SerializationException" => {
            Outcome::Reject(format!("{code}: {message}"))
        }
        _ if is_halting(code) || (400..500).contains(&status) => Outcome::Halt(format!("{code}: {message}")),
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

/// What the code of one record means. An unknown code is retried, because it may be temporary.
pub fn of_record(code: &str, message: &str) -> Outcome {
    match code {
        "ProvisionedThroughputExceededException" | "ServiceUnavailableException" => {
            Outcome::Retry(RetryReason::Throttled)
        }
        _ if is_halting(code) => Outcome::Halt(format!("{code}: {message}")),
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

/// The outcome where the stream is not known.
pub fn no_stream(stream: &str, message: &str) -> Outcome {
    Outcome::Halt(format!("there is no stream {stream:?} (or it is in another region or account): {message}"))
}

/// Errors that last until somebody grants, pays for or enables something.
fn is_halting(code: &str) -> bool {
    matches!(
        code,
        "AccessDeniedException"
            | "KMSAccessDeniedException"
            | "KMSDisabledException"
            | "KMSInvalidStateException"
            | "KMSNotFoundException"
            | "KMSOptInRequired"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_meaning() {
        let of = |code: &str, status, skew| of_request(code, "m", status, skew);
        assert_eq!(of("LimitExceededException", 400, 0), Outcome::Retry(RetryReason::Throttled));
        assert_eq!(of("ExpiredTokenException", 400, 0), Outcome::Retry(RetryReason::Credentials));
        assert_eq!(of("InvalidSignatureException", 400, 3600), Outcome::Retry(RetryReason::Clock));
        assert_eq!(of("InternalFailure", 500, 0), Outcome::Retry(RetryReason::Internal));
        assert_eq!(of("", 503, 0), Outcome::Retry(RetryReason::Internal));
        assert!(matches!(of("ValidationException", 400, 0), Outcome::Reject(_)));
        assert!(matches!(of("RequestEntityTooLargeException", 400, 0), Outcome::TooLarge(_)));
        // A wrong signature at the right time means a wrong key, which waiting does not fix.
        for code in ["InvalidSignatureException", "KMSDisabledException", "NeverHeardOf"] {
            assert!(matches!(of(code, 400, 3), Outcome::Halt(_)), "{code}");
        }
        assert_eq!(of_record("InternalFailure", ""), Outcome::Retry(RetryReason::Internal));
        assert_eq!(of_record("ServiceUnavailableException", ""), Outcome::Retry(RetryReason::Throttled));
        assert!(matches!(of_record("KMSAccessDeniedException", ""), Outcome::Halt(_)));
        assert_eq!(plain("com.amazonaws.firehose#InvalidSourceException:http://x/"), "InvalidSourceException");
    }
}

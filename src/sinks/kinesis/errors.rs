//! What the service's errors mean for the delivery: retry, halt until somebody has fixed something, or blame a record.
//!
//! Decided by error code and kind, never by the text of a message.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};

use crate::core::delivery::{Outcome, RetryReason};
use crate::errors::{causes, with_causes};
use crate::sinks::aws::credentials;
use crate::sinks::network::{self, REQUEST_TOO_LARGE};

/// The SDK's error for a failed request.
pub type RequestError = SdkError<PutRecordsError, HttpResponse>;

/// From this difference on, the clock is blamed for a refused signature; the SDK uses the same limit.
const CLOCK_SKEW_SECONDS_MIN: u64 = 240;

/// What the error code of one record means. An unknown code is retried, because it may be temporary.
pub fn of_record(code: &str, message: &str) -> Outcome {
    match code {
        "ProvisionedThroughputExceededException" => Outcome::Retry(RetryReason::Throttled),
        _ if is_halting(code) => Outcome::Halt(format!("{code}: {message}")),
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

/// What a failed request means for all of its records. It was signed about `signed_at_seconds` after the epoch.
pub fn of_request(error: &RequestError, stream: &str, signed_at_seconds: i64) -> Outcome {
    // May come from the service or from anything in between, in any format.
    if let Some(status) = error.raw_response().map(|response| response.status().as_u16())
        && status == REQUEST_TOO_LARGE
    {
        return Outcome::TooLarge("the request is too large (413)".to_owned());
    }
    if let Some(outcome) = credentials::of_role_alias(error) {
        return outcome;
    }
    match error {
        SdkError::TimeoutError(_) => Outcome::Retry(RetryReason::TimedOut),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Outcome::Retry(RetryReason::TimedOut),
        SdkError::DispatchFailure(failure) if failure.is_io() || is_of_http(error) => network::unreachable(error),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => Outcome::Halt(of_preparation(error)),
        SdkError::ServiceError(service) => {
            let skew_seconds = service_seconds(error).map_or(0, |seconds| seconds.abs_diff(signed_at_seconds));
            let code = service.err().code().unwrap_or_default();
            let message = service.err().message().unwrap_or_default();
            of_service(code, message, service.raw().status().as_u16(), skew_seconds, stream)
        }
        // An unreadable response: a proxy's error page, or one that was cut off.
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

fn of_service(code: &str, message: &str, status: u16, skew_seconds: u64, stream: &str) -> Outcome {
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
        "ResourceNotFoundException" => {
            Outcome::Halt(format!("there is no stream {stream:?} (or it is in another region or account): {message}"))
        }
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

/// The service's time according to its response, in seconds since the epoch.
pub fn service_seconds(error: &RequestError) -> Option<i64> {
    let date = error.raw_response()?.headers().get("date")?;
    DateTime::from_str(date, DateTimeFormat::HttpDate).ok().map(|date| date.secs())
}

/// A failure before any exchange with the service. If no source of credentials is configured, the SDK's error is about the last one that it
/// tried, the instance's, and explains nothing.
fn of_preparation(error: &RequestError) -> String {
    match is_of::<CredentialsError>(error) {
        true if !credentials::is_any_configured() => credentials::REMEDY.to_owned(),
        true => format!("the AWS credentials cannot be loaded: {}", with_causes(error)),
        false => format!("the request cannot be made: {}", with_causes(error)),
    }
}

/// The connection broke, or the response was not HTTP: the SDK reports neither as an I/O error. Failures before the exchange, such as
/// loading credentials, have no such source.
fn is_of_http(error: &RequestError) -> bool {
    is_of::<hyper::Error>(error)
}

/// Whether an error of this type is among its causes.
fn is_of<E: std::error::Error + 'static>(error: &RequestError) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_meaning() {
        let of = |code: &str, status, skew| of_service(code, "m", status, skew, "s");
        assert_eq!(of("LimitExceededException", 400, 0), Outcome::Retry(RetryReason::Throttled));
        assert_eq!(of("ExpiredTokenException", 400, 0), Outcome::Retry(RetryReason::Credentials));
        assert_eq!(of("InvalidSignatureException", 400, 3600), Outcome::Retry(RetryReason::Clock));
        assert_eq!(of("InternalFailure", 500, 0), Outcome::Retry(RetryReason::Internal));
        assert_eq!(of("", 503, 0), Outcome::Retry(RetryReason::Internal));
        assert!(matches!(of("ValidationException", 400, 0), Outcome::Reject(_)));
        assert!(matches!(of("RequestEntityTooLargeException", 400, 0), Outcome::TooLarge(_)));
        // A wrong signature at the right time means a wrong key, which waiting does not fix.
        for code in ["InvalidSignatureException", "ResourceNotFoundException", "KMSDisabledException", "NeverHeardOf"] {
            assert!(matches!(of(code, 400, 3), Outcome::Halt(_)), "{code}");
        }
        assert_eq!(of_record("InternalFailure", ""), Outcome::Retry(RetryReason::Internal));
        assert!(matches!(of_record("KMSAccessDeniedException", ""), Outcome::Halt(_)));
    }
}

//! What the service's errors mean to a delivery: try again, or stop until somebody has mended something, or blame a record.
//!
//! Judged by code and by kind, never by the text of a message.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};

use super::credentials;
use crate::core::delivery::{Outcome, RetryReason};

/// What the SDK makes of a request that failed.
pub type RequestError = SdkError<PutRecordsError, HttpResponse>;

/// From so much on the service refuses a signature for its time; the SDK measures with the same limit.
const CLOCK_SKEW_SECONDS_MIN: u64 = 240;

/// HTTP's word for it.
const REQUEST_TOO_LARGE: u16 = 413;

/// What one record's error code means; a code that nobody knows yet is tried again, for it may pass.
pub fn of_record(code: &str, message: &str) -> Outcome {
    match code {
        "ProvisionedThroughputExceededException" => Outcome::Retry(RetryReason::Throttled),
        _ if is_halting(code) => Outcome::Halt(format!("{code}: {message}")),
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

/// What a failed request means for all of its records. It was signed about `signed_at_seconds` after the epoch.
pub fn of_request(error: &RequestError, stream: &str, signed_at_seconds: i64) -> Outcome {
    // Said by the service or by whatever is between us and it, in whatever form.
    if let Some(status) = error.raw_response().map(|response| response.status().as_u16())
        && status == REQUEST_TOO_LARGE
    {
        return Outcome::TooLarge("the request is too large (413)".to_owned());
    }
    match error {
        SdkError::TimeoutError(_) => Outcome::Retry(RetryReason::TimedOut),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Outcome::Retry(RetryReason::TimedOut),
        SdkError::DispatchFailure(failure) if failure.is_io() || is_of_http(error) => {
            Outcome::Retry(RetryReason::Connection)
        }
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => Outcome::Halt(of_preparation(error)),
        SdkError::ServiceError(service) => {
            let skew_seconds = service_seconds(error).map_or(0, |seconds| seconds.abs_diff(signed_at_seconds));
            let code = service.err().code().unwrap_or_default();
            let message = service.err().message().unwrap_or_default();
            of_service(code, message, service.raw().status().as_u16(), skew_seconds, stream)
        }
        // An answer that cannot be read: a proxy's page, or one that was cut off.
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

/// Somebody has to grant, pay for, or switch on something.
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

/// What time the service says it is, in seconds since the epoch.
pub fn service_seconds(error: &RequestError) -> Option<i64> {
    let date = error.raw_response()?.headers().get("date")?;
    DateTime::from_str(date, DateTimeFormat::HttpDate).ok().map(|date| date.secs())
}

/// What fails before there is an exchange. Without any source of credentials configured, what is said of the last one that was tried,
/// the instance's, explains nothing.
fn of_preparation(error: &RequestError) -> String {
    match is_of::<CredentialsError>(error) {
        true if !credentials::is_any_configured() => credentials::REMEDY.to_owned(),
        true => format!("the AWS credentials cannot be loaded: {}", chain(error)),
        false => format!("the request cannot be made: {}", chain(error)),
    }
}

/// The exchange broke off, or what came was no HTTP: the SDK calls neither an I/O error. What fails before there is an exchange,
/// such as looking for credentials, has no such source.
fn is_of_http(error: &RequestError) -> bool {
    is_of::<hyper::Error>(error)
}

/// Whether it comes from an error of this type.
fn is_of<E: std::error::Error + 'static>(error: &RequestError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if inner.is::<E>() {
            return true;
        }
        source = inner.source();
    }
    false
}

/// An error with what it comes from: the outermost one alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
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
        // A signature that is wrong at the right time is a wrong key, which no waiting mends.
        for code in ["InvalidSignatureException", "ResourceNotFoundException", "KMSDisabledException", "NeverHeardOf"] {
            assert!(matches!(of(code, 400, 3), Outcome::Halt(_)), "{code}");
        }
        assert_eq!(of_record("InternalFailure", ""), Outcome::Retry(RetryReason::Internal));
        assert!(matches!(of_record("KMSAccessDeniedException", ""), Outcome::Halt(_)));
    }
}

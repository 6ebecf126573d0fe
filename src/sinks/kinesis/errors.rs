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
use crate::sinks::aws::{credentials, errors};
use crate::sinks::network::{self, REQUEST_TOO_LARGE};

/// The SDK's error for a failed request.
pub type RequestError = SdkError<PutRecordsError, HttpResponse>;

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
    match code {
        "ResourceNotFoundException" => errors::no_stream(stream, message),
        _ => errors::of_request(code, message, status, skew_seconds),
    }
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
    fn a_stream_that_is_not_there_is_named() {
        let Outcome::Halt(said) = of_service("ResourceNotFoundException", "m", 400, 0, "fleet") else { panic!() };
        assert!(said.contains("there is no stream \"fleet\""), "{said}");
        assert!(matches!(of_service("ValidationException", "m", 400, 0, "fleet"), Outcome::Reject(_)));
    }
}

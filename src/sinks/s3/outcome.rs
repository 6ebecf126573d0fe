//! What a response of the service means: decided by its status and its error code, never by the text of a message.

use crate::core::delivery::{Outcome, RetryReason};
use crate::finding::Finding;
use crate::sinks::probe::of_outcome;

/// From this difference on, the clock is blamed for a refused signature; the SDK uses the same limit.
const CLOCK_SKEW_SECONDS_MIN: u64 = 240;
/// Nobody waits longer than this, whatever a service says.
const RETRY_AFTER_SECONDS_MAX: u64 = 3600;
/// At most this much of a service's message is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// A response, with its body shortened.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// Where the service says the bucket is.
    pub region: Option<String>,
    /// The service's time less the time that the request was signed with.
    pub ahead_seconds: Option<i64>,
    pub retry_after_seconds: Option<u64>,
    /// The position of the last record, as an object of ours carries it.
    pub last: Option<u64>,
    /// It names the version of an object, as all servers of the protocol do.
    pub has_etag: bool,
    pub text: String,
}

/// What was asked of which bucket, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub bucket: &'a str,
    pub region: &'a str,
}

/// What became of an object that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    Now,
    /// There is an object of this name.
    Before,
    /// What came is not what was meant to be sent.
    Damaged(Outcome),
    Not(Outcome),
}

/// What is known of an object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It holds everything up to this position.
    Through(u64),
    /// It is gone again.
    Nothing,
    Unknown(Outcome),
}

pub fn of_put(response: &Response, asked: Asked<'_>) -> Stored {
    match (response.status, code(response)) {
        (200..=299, _) if response.has_etag => Stored::Now,
        (200..=299, _) => Stored::Not(Outcome::Halt(format!(
            "what answers for the bucket {} is no server of objects: it says HTTP status {} and names no ETag; look at endpoint",
            asked.bucket, response.status
        ))),
        (412, _) | (_, "PreconditionFailed") => Stored::Before,
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "XAmzContentChecksumMismatch") => {
            let reason = format!("the object arrived damaged: {}", said(response));
            Stored::Damaged(Outcome::Later { reason, after_us: None })
        }
        _ => Stored::Not(of_error(response, asked)),
    }
}

pub fn of_head(response: &Response, key: &str, asked: Asked<'_>) -> Found {
    match (response.status, response.last) {
        (200..=299, Some(last)) => Found::Through(last),
        (200..=299, None) => Found::Unknown(Outcome::Halt(format!(
            "the bucket {} has an object {key} that is not of this gateway: it has no x-amz-meta-last",
            asked.bucket
        ))),
        (404, _) => Found::Nothing,
        (403, _) if response.ahead_seconds.is_none_or(|ahead| ahead.unsigned_abs() < CLOCK_SKEW_SECONDS_MIN) => {
            Found::Unknown(Outcome::Halt(format!(
                "reading the metadata of an object in the bucket {} is denied (403); its policy has to allow s3:GetObject \
                 besides s3:PutObject, to find what was sent before",
                asked.bucket
            )))
        }
        _ => Found::Unknown(of_error(response, asked)),
    }
}

/// What the answer says to somebody who asked for an object that is not there. Without s3:ListBucket, which nothing else needs, that it is not
/// there is not said, but only that it is not given.
pub fn of_get(response: &Response, what: &str, asked: Asked<'_>) -> Finding {
    let is_skewed = response.ahead_seconds.is_some_and(|ahead| ahead.unsigned_abs() >= CLOCK_SKEW_SECONDS_MIN);
    match (response.status, code(response)) {
        (200..=299, _) | (_, "NoSuchKey") | (404, "") => Finding::well(format!("{what}: it answers")),
        (403, "AccessDenied") if !is_skewed => Finding::skipped(format!(
            "{what}: it answers and knows the key; whether it would take objects cannot be told without s3:ListBucket, which is not needed"
        )),
        _ => of_outcome(what, &of_error(response, asked)),
    }
}

fn of_error(response: &Response, asked: Asked<'_>) -> Outcome {
    let Response { status, region, ahead_seconds, retry_after_seconds, .. } = response;
    let Asked { bucket, region: ours } = asked;
    let is_skewed = ahead_seconds.is_some_and(|ahead| ahead.unsigned_abs() >= CLOCK_SKEW_SECONDS_MIN);
    let after_us = retry_after_seconds.map(|seconds| seconds.min(RETRY_AFTER_SECONDS_MAX) * 1_000_000);
    let later = |reason| Outcome::Later { reason, after_us };
    match (code(response), *status) {
        ("RequestTimeTooSkewed" | "RequestExpired" | "SignatureDoesNotMatch" | "AccessDenied" | "", 403 | 400)
            if is_skewed =>
        {
            Outcome::Retry(RetryReason::Clock)
        }
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired", _) => {
            Outcome::Retry(RetryReason::Credentials)
        }
        ("RequestTimeout", _) | (_, 408) => Outcome::Retry(RetryReason::TimedOut),
        ("EntityTooLarge", _) | (_, 413) => Outcome::TooLarge(said(response)),
        ("NoSuchBucket", _) => {
            Outcome::Halt(format!("there is no bucket {bucket:?} (or it is in another region or account)"))
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) | (_, 301) => {
            let there = region.clone().or_else(|| element(&response.text, "Region").map(str::to_owned));
            Outcome::Halt(match there.filter(|there| there != ours) {
                Some(there) => {
                    format!("the bucket {bucket:?} is in the region {there}, not in {ours}; set region = \"{there}\"")
                }
                None => format!("the bucket {bucket:?} is not in the region {ours}: {}", said(response)),
            })
        }
        ("AccessDenied", _) => Outcome::Halt(format!(
            "the bucket {bucket:?} denies access; its policy and that of the credentials have to allow s3:PutObject: {}",
            said(response)
        )),
        ("InvalidAccessKeyId", _) => Outcome::Halt(format!("nobody has this access key: {}", said(response))),
        ("SignatureDoesNotMatch", _) => {
            Outcome::Halt(format!("the secret key is not that of the access key: {}", said(response)))
        }
        ("InvalidToken", _) => Outcome::Halt(format!("the session token is not valid: {}", said(response))),
        ("NotImplemented", _) | (_, 501) => Outcome::Halt(format!(
            "the server does not know conditional writes (If-None-Match), which keep an object from being stored twice: {}",
            said(response)
        )),
        ("SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "KMS.ThrottlingException", _)
        | (_, 429 | 503) => match retry_after_seconds {
            Some(_) => later(said(response)),
            None => Outcome::Retry(RetryReason::Throttled),
        },
        // Two of the same name at the same moment, or one that is being removed.
        (_, 409 | 307) => later(said(response)),
        (_, 300..=499) => Outcome::Halt(said(response)),
        (_, 507) => later(format!("the server has no room: {}", said(response))),
        _ => Outcome::Retry(RetryReason::Internal),
    }
}

fn code(response: &Response) -> &str {
    element(&response.text, "Code").unwrap_or_default()
}

/// The text of the first element of this name. The service's errors are flat, so no parser is needed.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.trim())
}

/// The error in one line.
fn said(response: &Response) -> String {
    let status = response.status;
    let message = element(&response.text, "Message").unwrap_or_default();
    let words: Vec<&str> =
        message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let shown: String = words.join(" ").chars().take(SHOWN_CHARS_MAX).collect();
    match (code(response), shown.as_str()) {
        ("", _) => format!("HTTP status {status}"),
        (code, "") => format!("{code} (HTTP status {status})"),
        (code, shown) => format!("{code}: {shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    const ASKED: Asked<'_> = Asked { bucket: "fleet", region: "eu-central-1" };

    fn response(status: u16, code: &str) -> Response {
        let text = match code {
            "" => String::new(),
            code => format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>it is\nso</Message></Error>"),
        };
        Response { status, text, has_etag: status == 200, ..Response::default() }
    }

    fn refused(response: &Response) -> Outcome {
        match of_put(response, ASKED) {
            Stored::Not(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_there_is_told_from_what_failed() {
        assert_eq!(of_put(&response(200, ""), ASKED), Stored::Now);
        let portal = Response { has_etag: false, ..response(200, "") };
        assert!(matches!(refused(&portal), Outcome::Halt(said) if said.contains("no server of objects")));
        assert_eq!(of_put(&response(412, "PreconditionFailed"), ASKED), Stored::Before);
        let there = Response { last: Some(9), ..response(200, "") };
        assert_eq!(of_head(&there, "k", ASKED), Found::Through(9));
        assert_eq!(of_head(&response(404, ""), "k", ASKED), Found::Nothing);
        for status in [200, 403] {
            let Found::Unknown(Outcome::Halt(said)) = of_head(&response(status, ""), "k", ASKED) else {
                panic!("{status}")
            };
            assert!(said.contains("fleet"), "{said}");
        }
        assert_eq!(of_head(&response(503, ""), "k", ASKED), Found::Unknown(Outcome::Retry(RetryReason::Throttled)));
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (status, code, reason) in [
            (503, "SlowDown", RetryReason::Throttled),
            (503, "ServiceUnavailable", RetryReason::Throttled),
            (429, "", RetryReason::Throttled),
            (500, "InternalError", RetryReason::Internal),
            (502, "", RetryReason::Internal),
            (400, "RequestTimeout", RetryReason::TimedOut),
            (400, "ExpiredToken", RetryReason::Credentials),
        ] {
            assert_eq!(refused(&response(status, code)), Outcome::Retry(reason), "{status} {code}");
        }
        let conflict = response(409, "ConditionalRequestConflict");
        assert!(matches!(refused(&conflict), Outcome::Later { after_us: None, .. }));
        for code in ["BadDigest", "XAmzContentSHA256Mismatch"] {
            assert!(matches!(of_put(&response(400, code), ASKED), Stored::Damaged(Outcome::Later { .. })), "{code}");
        }
        let for_ever = Response { retry_after_seconds: Some(u64::MAX), ..response(503, "SlowDown") };
        assert!(matches!(refused(&for_ever), Outcome::Later { after_us: Some(3_600_000_000), .. }));
        let asks = Response { retry_after_seconds: Some(7), ..response(503, "SlowDown") };
        assert_eq!(
            refused(&asks),
            Outcome::Later { reason: "SlowDown: it is so".to_owned(), after_us: Some(7_000_000) }
        );
        assert!(matches!(refused(&response(413, "")), Outcome::TooLarge(_)));
    }

    #[test]
    fn what_a_person_has_to_mend_is_named() {
        for (status, code, named) in [
            (404, "NoSuchBucket", "there is no bucket \"fleet\""),
            (403, "AccessDenied", "have to allow s3:PutObject"),
            (403, "InvalidAccessKeyId", "nobody has this access key"),
            (403, "SignatureDoesNotMatch", "the secret key"),
            (501, "NotImplemented", "conditional writes"),
            (400, "KMS.DisabledException", "KMS.DisabledException: it is so"),
        ] {
            let Outcome::Halt(said) = refused(&response(status, code)) else { panic!("{code}") };
            assert!(said.contains(named), "{code}: {said}");
        }
        let elsewhere = Response { region: Some("us-east-1".to_owned()), ..response(301, "PermanentRedirect") };
        let in_body = Response {
            text: "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-east-1</Region></Error>".to_owned(),
            ..response(400, "")
        };
        for response in [elsewhere, in_body] {
            let Outcome::Halt(said) = refused(&response) else { panic!("{response:?}") };
            assert!(said.contains("set region = \"us-east-1\""), "{said}");
        }
    }

    #[test]
    fn who_asks_for_an_object_that_is_not_there_learns_whether_keys_and_bucket_are_right() {
        for (status, code, verdict) in [
            (404, "NoSuchKey", Verdict::Well),
            (404, "", Verdict::Well),
            (403, "AccessDenied", Verdict::Skipped),
            (404, "NoSuchBucket", Verdict::Bad),
            (403, "InvalidAccessKeyId", Verdict::Bad),
            (403, "SignatureDoesNotMatch", Verdict::Bad),
            (400, "ExpiredToken", Verdict::Bad),
        ] {
            assert_eq!(of_get(&response(status, code), "the bucket", ASKED).verdict, verdict, "{status} {code}");
        }
        let skewed = Response { ahead_seconds: Some(3600), ..response(403, "AccessDenied") };
        assert_eq!(of_get(&skewed, "the bucket", ASKED).verdict, Verdict::Warning, "the clock is to blame");
    }

    #[test]
    fn a_clock_that_is_off_is_not_a_wrong_key() {
        for code in ["RequestTimeTooSkewed", "SignatureDoesNotMatch"] {
            let skewed = Response { ahead_seconds: Some(-3600), ..response(403, code) };
            assert_eq!(refused(&skewed), Outcome::Retry(RetryReason::Clock));
        }
        let skewed = Response { ahead_seconds: Some(3600), ..response(403, "") };
        assert_eq!(of_head(&skewed, "k", ASKED), Found::Unknown(Outcome::Retry(RetryReason::Clock)));
    }
}

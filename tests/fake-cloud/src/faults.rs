//! Which faults are injected, and how often. Fractions, from 0 to 1, are of all requests or of all records.

use serde::{Deserialize, Serialize};

/// The error name with which a request from a wrong clock is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SkewCode {
    #[default]
    InvalidSignatureException,
    RequestExpired,
}

/// Setting faults replaces all of them: those not named are off.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Records answered with ProvisionedThroughputExceededException, the rest of the request accepted.
    pub record_throttled: f64,
    /// Records answered with InternalFailure.
    pub record_internal_failure: f64,
    /// Every record with this partition key is answered with InternalFailure.
    pub sick_key: Option<String>,
    /// Requests refused as a whole with ProvisionedThroughputExceededException.
    pub request_throttled: f64,
    /// Requests refused with LimitExceededException.
    pub limit_exceeded: f64,
    /// Requests accepted, but the connection is closed without an answer.
    pub reply_lost: f64,
    /// Requests answered with HTTP 500.
    pub server_error: f64,
    /// Requests answered with HTTP 503.
    pub service_unavailable: f64,
    /// Requests that wait `hang_ms` before anything else is done; if the client disconnects meanwhile, nothing was sent.
    pub hang: f64,
    pub hang_ms: u64,
    pub expired_token: f64,
    /// Requests with these access key ids are refused with ExpiredTokenException; fresh credentials work.
    pub expired_access_keys: Vec<String>,
    pub access_denied: f64,
    pub kms_throttled: f64,
    pub kms_access_denied: f64,
    pub kms_disabled: f64,
    /// Requests refused with Firehose's InvalidKMSResourceException.
    pub invalid_kms_resource: f64,
    /// Requests refused with Firehose's InvalidSourceException: the stream's source is not DirectPut.
    pub invalid_source: f64,
    /// A request with this text in the data of any record is refused as invalid.
    pub poison_marker: Option<String>,
    /// A request with a longer body is refused with 413 and an HTML page, as by a proxy.
    pub body_bytes_max: Option<usize>,
    /// The server's clock runs this much ahead of the machine's (behind, if negative): the `Date` header says so, and
    /// a request whose `x-amz-date` is more than 5 minutes away from it is refused.
    pub clock_offset_ms: i64,
    pub skew_code: SkewCode,
    /// Connections are accepted and immediately reset.
    pub reset_connections: bool,
    /// Every answer takes this much longer.
    pub latency_ms: u64,
    /// The records of a request are processed in random order: PutRecords promises none.
    pub shuffle_records: bool,
}

/// A fraction outside 0 to 1, or an empty marker, which every record would contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} must {}", if *key == "poison_marker" { "not be empty" } else { "be a fraction from 0 to 1" })]
pub struct InvalidFaults {
    pub key: &'static str,
}

/// An error that refuses a whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestFault {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

const fn request_fault(name: &'static str, status: u16, code: &'static str, message: &'static str) -> RequestFault {
    RequestFault { name, status, code, message }
}

const SERVER_ERROR: RequestFault = request_fault("server_error", 500, "InternalFailure", "an internal failure");
const UNAVAILABLE: RequestFault = request_fault("service_unavailable", 503, "ServiceUnavailable", "try again later");
const ACCESS_DENIED: RequestFault =
    request_fault("access_denied", 400, "AccessDeniedException", "not authorized to perform this operation");
const THROTTLED: RequestFault =
    request_fault("request_throttled", 400, "ProvisionedThroughputExceededException", "rate exceeded for the stream");
const LIMIT: RequestFault = request_fault("limit_exceeded", 400, "LimitExceededException", "rate exceeded");
const KMS_THROTTLED: RequestFault = request_fault("kms_throttled", 400, "KMSThrottlingException", "KMS is throttling");
const KMS_DENIED: RequestFault =
    request_fault("kms_access_denied", 400, "KMSAccessDeniedException", "access to the KMS key is denied");
const KMS_DISABLED: RequestFault =
    request_fault("kms_disabled", 400, "KMSDisabledException", "the KMS key is disabled");
const INVALID_KMS: RequestFault =
    request_fault("invalid_kms_resource", 400, "InvalidKMSResourceException", "the KMS key is disabled");
const INVALID_SOURCE: RequestFault =
    request_fault("invalid_source", 400, "InvalidSourceException", "only records of a Kinesis stream are accepted");
pub(crate) const EXPIRED_TOKEN: RequestFault = request_fault(
    "expired_token",
    400,
    "ExpiredTokenException",
    "The security token included in the request is expired",
);

impl RequestFault {
    /// The same as Firehose says it.
    pub(crate) fn of_firehose(self) -> RequestFault {
        match self.name {
            "request_throttled" | "service_unavailable" => {
                RequestFault { status: 503, code: "ServiceUnavailableException", message: "Slow down.", ..self }
            }
            _ => self,
        }
    }
}

impl Faults {
    /// In the order in which a service would detect them: the server, the caller, the key, the load.
    pub(crate) fn request_faults(&self) -> [(f64, RequestFault); 11] {
        [
            (self.server_error, SERVER_ERROR),
            (self.service_unavailable, UNAVAILABLE),
            (self.expired_token, EXPIRED_TOKEN),
            (self.access_denied, ACCESS_DENIED),
            (self.kms_access_denied, KMS_DENIED),
            (self.kms_disabled, KMS_DISABLED),
            (self.kms_throttled, KMS_THROTTLED),
            (self.invalid_kms_resource, INVALID_KMS),
            (self.invalid_source, INVALID_SOURCE),
            (self.limit_exceeded, LIMIT),
            (self.request_throttled, THROTTLED),
        ]
    }

    pub fn check(&self) -> Result<(), InvalidFaults> {
        let others = [
            ("record_throttled", self.record_throttled),
            ("record_internal_failure", self.record_internal_failure),
            ("reply_lost", self.reply_lost),
            ("hang", self.hang),
        ];
        let requests = self.request_faults().map(|(fraction, fault)| (fault.name, fraction));
        let mut fractions = requests.into_iter().chain(others);
        if let Some((key, _)) = fractions.find(|(_, fraction)| !(0.0..=1.0).contains(fraction)) {
            return Err(InvalidFaults { key });
        }
        match self.poison_marker.as_deref() {
            Some("") => Err(InvalidFaults { key: "poison_marker" }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, InvalidFaults};

    #[test]
    fn wrong_fractions_are_named() {
        assert_eq!(Faults::default().check(), Ok(()));
        let wrong = Faults { reply_lost: 1.5, ..Faults::default() };
        assert_eq!(wrong.check(), Err(InvalidFaults { key: "reply_lost" }));
        let wrong = Faults { kms_disabled: f64::NAN, ..Faults::default() };
        assert_eq!(wrong.check(), Err(InvalidFaults { key: "kms_disabled" }));
        assert!(Faults { poison_marker: Some(String::new()), ..Faults::default() }.check().is_err());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Faults>(r#"{"record_throtled":0.1}"#).is_err());
    }
}

//! Amazon Data Firehose, by PutRecordBatch in a request that is signed here. `core::delivery` decides record by record what is sent again.

mod outcome;
pub mod sink;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason};
use crate::sinks::Sink;
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::service::{Answer, Head, Service, domain, hex};
use crate::sinks::compression::Compression;

/// A reply names each of 500 records by some 220 characters.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ACTION: &str = "Firehose_20150804.PutRecordBatch";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// One delivery stream.
pub struct FirehoseSink {
    service: Service,
    stream: String,
    /// How each record's data is compressed.
    compression: Compression,
}

impl FirehoseSink {
    /// Connects with the first request.
    pub fn new(connection: AwsConnection, http: SharedHttpConnector, stream: String, compression: Compression) -> Self {
        FirehoseSink { service: Service::new("firehose", connection, http), stream, compression }
    }

    /// Names of streams need no escapes in JSON, and base64 has none.
    fn body(&self, records: &[OutgoingRecord]) -> std::io::Result<String> {
        let bytes: usize = records.iter().map(|record| record.data.len()).sum();
        let mut body = String::with_capacity(bytes / 3 * 4 + records.len() * 16 + 256);
        body.push_str("{\"DeliveryStreamName\":\"");
        body.push_str(&self.stream);
        body.push_str("\",\"Records\":[");
        for (at, record) in records.iter().enumerate() {
            body.push_str(if at == 0 { "{\"Data\":\"" } else { ",{\"Data\":\"" });
            match self.compression {
                Compression::None => BASE64.encode_string(&record.data, &mut body),
                _ => BASE64.encode_string(self.compression.compress(record.data.to_vec())?, &mut body),
            }
            body.push_str("\"}");
        }
        body.push_str("]}");
        Ok(body)
    }

    async fn ask(&self, body: String) -> Result<Answer, Outcome> {
        let session = self.service.session().await?;
        let url = match &session.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => format!("https://firehose.{}.{}/", session.region, domain(&session.region)),
        };
        let headers = [("content-type", CONTENT_TYPE.to_owned()), ("x-amz-target", ACTION.to_owned())];
        let body_sha256 = hex(&Sha256::digest(body.as_bytes()));
        let head = Head { method: "POST", url: &url, headers: &headers, body_sha256: &body_sha256 };
        let exchange = self.service.exchange(&head, SdkBody::from(body), &session, ANSWER_BYTES_MAX);
        match tokio::time::timeout(self.service.request_timeout(), exchange).await {
            Ok(Ok(answer)) if !answer.is_whole => Err(Outcome::Retry(RetryReason::Internal)),
            Ok(answered) => answered,
            Err(_) => Err(Outcome::Retry(RetryReason::TimedOut)),
        }
    }
}

impl Sink for FirehoseSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let count = records.len();
        let body = match self.body(&records) {
            Ok(body) => body,
            Err(error) => {
                let reason = format!("cannot compress: {error}");
                return Reply::whole(Outcome::Later { reason, after_us: None }, count);
            }
        };
        // The body owns the bytes now; the delivery machine keeps its own copy for a retry.
        drop(records);
        let (outcome, ahead_seconds) = match self.ask(body).await {
            Ok(answer) if (200..300).contains(&answer.status) => return outcome::of_records(&answer.body, count),
            Ok(answer) => (outcome::of_request(&answer, &self.stream), answer.ahead_seconds),
            Err(outcome) => (outcome, None),
        };
        self.service.heed(&outcome, ahead_seconds).await;
        Reply::whole(outcome, count)
    }
}

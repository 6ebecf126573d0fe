//! Amazon Data Firehose, by PutRecordBatch in a request that is signed here. `core::delivery` decides record by record what is sent again.

mod outcome;
pub mod sink;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::core::delivery::{Outcome, OutgoingRecord, Reply};
use crate::sinks::Sink;
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::service::{Question, Service};
use crate::sinks::compression::Compression;

/// A reply names each of 500 records by some 220 characters.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ACTION: &str = "Firehose_20150804.PutRecordBatch";

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
        let (outcome, ahead_seconds) =
            match self.service.ask(Question { action: ACTION, body, answer_bytes_max: ANSWER_BYTES_MAX }).await {
                Ok(answer) if (200..300).contains(&answer.status) => return outcome::of_records(&answer.body, count),
                Ok(answer) => (outcome::of_request(&answer, &self.stream), answer.ahead_seconds),
                Err(outcome) => (outcome, None),
            };
        self.service.heed(&outcome, ahead_seconds).await;
        Reply::whole(outcome, count)
    }
}

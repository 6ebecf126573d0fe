//! Amazon Kinesis data streams, by PutRecords. The SDK's own retries are disabled: `core::delivery` decides record by record what is sent
//! again.

mod errors;
pub mod sink;

use std::cell::RefCell;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use aws_smithy_async::time::TimeSource;

use crate::core::aggregate;
use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason, Scope};
use crate::sinks::Sink;
use crate::sinks::aws::clock::{ServiceClock, epoch_seconds};
use crate::sinks::aws::{self, AwsConnection};
use crate::sinks::compression::Compression;

/// One stream of Kinesis.
pub struct KinesisSink {
    connection: AwsConnection,
    http: SharedHttpClient,
    /// Rebuilt when the credentials have expired or somebody may have to fix them: the SDK caches credentials for as long as it believes
    /// them to be valid, and never looks again if it found none.
    client: RefCell<Option<Client>>,
    clock: ServiceClock,
    target: KinesisTarget,
}

/// Where records go, and in which form.
#[derive(Clone, Debug)]
pub struct KinesisTarget {
    pub stream: String,
    /// The prefix of each partition key, or the partition key itself.
    pub gateway: String,
    /// How each record's data is compressed.
    pub compression: Compression,
    /// Whether the lines of a record are records of their own within it, in the format of the KPL.
    pub is_aggregated: bool,
}

impl KinesisSink {
    /// Connects with the first request.
    pub fn new(connection: AwsConnection, http: SharedHttpClient, target: KinesisTarget) -> Self {
        let (client, clock) = (RefCell::new(None), ServiceClock::default());
        KinesisSink { connection, http, client, clock, target }
    }

    async fn client(&self) -> Client {
        if let Some(client) = &*self.client.borrow() {
            return client.clone();
        }
        let client = self.build_client().await;
        self.client.replace(Some(client.clone()));
        client
    }

    async fn build_client(&self) -> Client {
        Client::new(&self.connection.load(self.http.clone(), &self.clock).await)
    }

    fn entry(&self, record: &OutgoingRecord) -> std::io::Result<PutRecordsRequestEntry> {
        let KinesisTarget { gateway, compression, is_aggregated, .. } = &self.target;
        let key = match &*record.device {
            "" => gateway.clone(),
            device => format!("{gateway}/{device}"),
        };
        let data = match is_aggregated {
            true => aggregate::encode(&key, &record.data),
            false => compression.compress(record.data.to_vec())?,
        };
        let entry = PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(key).build();
        Ok(entry.expect("data and partition key are set"))
    }
}

impl Sink for KinesisSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let client = self.client().await;
        let count = records.len();
        let entries = match records.iter().map(|record| self.entry(record)).collect() {
            Ok(entries) => entries,
            Err(error) => {
                let reason = format!("cannot compress: {error}");
                return Reply::whole(Outcome::Later { reason, after_us: None }, count);
            }
        };
        // The entries own the bytes now; the delivery machine keeps its own copy for a retry.
        drop(records);
        match client.put_records().stream_name(&self.target.stream).set_records(Some(entries)).send().await {
            Ok(output) => reply(&output, count),
            Err(error) => {
                let outcome = errors::of_request(&error, &self.target.stream, epoch_seconds(self.clock.now()));
                match (&outcome, errors::service_seconds(&error)) {
                    (Outcome::Retry(RetryReason::Credentials) | Outcome::Halt(_), _) => {
                        self.client.replace(None);
                        let have_ended = matches!(outcome, Outcome::Retry(_));
                        self.connection.doubt_credentials(have_ended).await;
                    }
                    (Outcome::Retry(RetryReason::Clock), Some(seconds)) => self.clock.adopt(seconds),
                    _ => {}
                }
                Reply::whole(outcome, count)
            }
        }
    }
}

fn reply(output: &PutRecordsOutput, count: usize) -> Reply {
    let results = output.records();
    if results.len() != count {
        // It is unknown which record is meant: none counts as stored, and consumers recognise repeats by their identity.
        return Reply::whole(Outcome::Retry(RetryReason::Internal), count);
    }
    Reply { scope: Scope::Records, outcomes: results.iter().map(outcome).collect(), passed_over: 0 }
}

fn outcome(result: &PutRecordsResultEntry) -> Outcome {
    match (result.error_code(), result.sequence_number()) {
        (None, Some(_)) => Outcome::Accepted { shard: result.shard_id().map(str::to_owned) },
        (Some(code), _) => aws::errors::of_record(code, result.error_message().unwrap_or_default()),
        (None, None) => Outcome::Retry(RetryReason::Internal),
    }
}

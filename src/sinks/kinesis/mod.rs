//! Amazon Kinesis data streams, by PutRecords. The SDK's own retries are disabled: `core::delivery` decides record by record what is sent
//! again.

mod clock;
pub mod credentials;
mod errors;
pub mod sink;

use std::cell::RefCell;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;

use clock::{ServiceClock, epoch_seconds};

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason, Scope};
use crate::sinks::compression::Compression;
use crate::sinks::{Sink, network};

/// How to reach the service. Credentials come from the SDK's own chain: environment, profile, container, instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisConnection {
    /// If absent, that of the environment or the profile.
    pub region: Option<String>,
    /// Overrides the region's address, for example with a VPC endpoint or an emulator.
    pub endpoint: Option<String>,
    pub connect_timeout: Duration,
    /// Time limit of one request, from its start to the complete response.
    pub request_timeout: Duration,
}

/// One stream of Kinesis.
pub struct KinesisSink {
    connection: KinesisConnection,
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
}

impl KinesisSink {
    /// Connects with the first request.
    pub fn new(connection: KinesisConnection, http: SharedHttpClient, target: KinesisTarget) -> Self {
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
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connection.connect_timeout)
            .operation_timeout(self.connection.request_timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .time_source(self.clock.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &self.connection.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.connection.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Client::new(&loader.load().await)
    }

    fn entry(&self, record: &OutgoingRecord) -> std::io::Result<PutRecordsRequestEntry> {
        let KinesisTarget { gateway, compression, .. } = &self.target;
        let key = match &*record.device {
            "" => gateway.clone(),
            device => format!("{gateway}/{device}"),
        };
        let data = compression.compress(record.data.to_vec())?;
        let entry = PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(key).build();
        Ok(entry.expect("data and partition key are set"))
    }
}

/// The network connector, shared by all streams of a sink. Without TLS if the endpoint uses none.
pub fn connector(connection: &KinesisConnection) -> SharedHttpConnector {
    let is_plain = connection.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    network::connector(connection.connect_timeout, !is_plain)
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
                    (Outcome::Retry(RetryReason::Credentials) | Outcome::Halt(_), _) => drop(self.client.replace(None)),
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
        (Some(code), _) => errors::of_record(code, result.error_message().unwrap_or_default()),
        (None, None) => Outcome::Retry(RetryReason::Internal),
    }
}

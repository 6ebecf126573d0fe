//! Kinesis as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{KinesisSink, KinesisTarget};
use crate::core::aggregate;
use crate::core::delivery::{DeliverySettings, Outcome};
use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, key_of, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::errors::{self, Refusal};
use crate::sinks::aws::probe::{Empty, try_empty};
use crate::sinks::cloud_streams as streams;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::Counted;
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "kinesis";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "cloud", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// What `check` notes of `record = "kpl"`.
const SPLIT_BY: &str = "record = \"kpl\": the Kinesis Client Library, Firehose and Flink's older source (FlinkKinesisConsumer) split such a record into its readings; AWS Lambda without a library for it, Flink's newer source (KinesisStreamsSource) and Pinot do not, and would take it for one that cannot be read";

/// The service's limit for one PutRecords request.
const REQUEST_RECORDS_MAX: usize = 500;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    streams::region(GROUP),
    key_of(GROUP, "endpoint", Kind::Text(Shape::Endpoint),
        Otherwise { meaning: "AWS_ENDPOINT_URL, else the region's own", example: "\"http://127.0.0.1:4568\"" },
        "The address of the service, for emulators and private links."),
    streams::raw(GROUP),
    streams::anomalies(GROUP),
    key_of(GROUP, "streams", Kind::StreamTargets,
        Otherwise { meaning: "none", example: "{ trips = \"fleet-trips\" }" },
        "Names of streams, each with the Kinesis stream that gets its records: those of [[stream]], and raw and anomalies, if these have no key of their own."),
    key_of(GROUP, "record", Kind::Choice(&["lines", "single", "kpl"]), Literal("\"lines\""),
        "A Kinesis record holds many readings, one per line; a single reading; or many, each as a record of its own in the aggregated format of the Kinesis Producer Library, which not every consumer reads."),
    key_of(GROUP, "partition", Kind::Choice(&["device", "gateway"]), Literal("\"device\""),
        "The partition key: each device's own, or one for the whole gateway, whose records then hold readings of all its devices in order, one record at a time."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"none\""),
        "How the data of each record is compressed; consumers have to decompress it."),
    streams::batch_delay(GROUP, "\"2ms\""),
    key_of(GROUP, "record_size", size(KIB, MIB), Literal("\"64KiB\""),
        "No line is added to a Kinesis record of this size; a single line may be longer."),
    key_of(GROUP, "record_size_max", size(64 * KIB, 10 * MIB), Literal("\"1MiB\""),
        "A longer line is kept as a dead letter; above 1MiB, the stream has to be configured for it."),
    key_of(GROUP, "request_size_max", size(64 * KIB, 10 * MIB), Literal("\"1MiB\""),
        "The largest request; Kinesis accepts 5MiB, and more if the stream is configured for it."),
    streams::requests_in_flight(GROUP),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged by Kinesis, for each stream."),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

/// Sends to streams of Amazon Kinesis.
#[derive(Clone, Debug)]
pub struct KinesisStreams {
    pub connection: AwsConnection,
    pub delivery: DeliverySettings,
    pub compression: Compression,
    /// `record = "kpl"`.
    pub is_aggregated: bool,
    /// Names of streams, each with its stream of Kinesis; others are not sent.
    pub targets: BTreeMap<String, String>,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let connection = streams::connection(section, surroundings);
    let targets = streams::targets_of_some(section, surroundings);
    let compression = section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::None);
    let record_bytes_max = section.bytes("record_size_max");
    let limits = streams::Limits {
        record_bytes_max,
        request_records_max: REQUEST_RECORDS_MAX,
        requests_in_flight_max: section.count("requests_in_flight"),
    };
    let is_aggregated =
        section.choice("record", &[("lines", false), ("single", false), ("kpl", true)]).unwrap_or(false);
    let mut delivery = streams::delivery(section, compression, limits);
    streams::expect_sizes(
        section,
        [
            ("record_size", delivery.record_bytes_soft, "record_size_max", record_bytes_max),
            ("record_size_max", record_bytes_max, "request_size_max", delivery.request_bytes_max),
        ],
    );
    if is_aggregated {
        if compression != Compression::None {
            section.blame(
                "compression",
                "is for record = \"lines\" or \"single\": nobody would know that a compressed record has others in it",
            );
        }
        for bytes in [&mut delivery.record_bytes_max, &mut delivery.request_bytes_max] {
            *bytes = aggregate::lines_bytes_max(*bytes);
        }
        delivery.record_bytes_soft = delivery.record_bytes_soft.min(delivery.record_bytes_max);
    }
    Arc::new(KinesisStreams { connection, delivery, compression, is_aggregated, targets })
}

impl ConfiguredSink for KinesisStreams {
    fn takes(&self, stream: &str) -> bool {
        self.targets.contains_key(stream)
    }

    fn describe(&self) -> String {
        streams::describe("Kinesis", &self.connection, &self.targets)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.connection.notes();
        if self.is_aggregated {
            notes.push(SPLIT_BY.to_owned());
        }
        notes
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let (settings, gateway) = (self.clone(), starting.gateway_id().to_owned());
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let KinesisStreams { connection, compression, is_aggregated, .. } = &settings;
                let network = network.get_or_insert_with(|| connection.connector_of(parts)).clone();
                let stream = settings.targets.get(&*parts.stream_name);
                let stream = stream.expect("only streams with a target are forwarded").clone();
                let (compression, is_aggregated) = (*compression, *is_aggregated);
                let target = KinesisTarget { stream, gateway: gateway.clone(), compression, is_aggregated };
                Rc::new(KinesisSink::new(connection.clone(), Counted::client(network, &parts.status), target))
            },
        )
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(try_empty(
            &self.connection,
            Empty {
                service: "kinesis",
                action: "Kinesis_20131202.PutRecords",
                targets: self.targets.iter().map(|(stream, target)| (stream.as_str(), target.as_str())).collect(),
                describe: ("Kinesis_20131202.DescribeStreamSummary", "kinesis:DescribeStreamSummary"),
                stream_key: "StreamName",
                of_refusal: |answer, target| {
                    let Refusal { code, message, skew_seconds } = Refusal::of(answer);
                    match code.as_str() {
                        "ResourceNotFoundException" => errors::no_stream(target, &message),
                        "" if (400..500).contains(&answer.status) => {
                            Outcome::Halt(format!("HTTP status {}, without an error of Kinesis", answer.status))
                        }
                        _ => errors::of_request(&code, &message, answer.status, skew_seconds),
                    }
                },
            },
        ))
    }
}

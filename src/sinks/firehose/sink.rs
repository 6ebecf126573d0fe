//! Firehose as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{FirehoseSink, outcome};
use crate::core::delivery::DeliverySettings;
use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, key_of, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::probe::{Empty, try_empty};
use crate::sinks::cloud_streams as streams;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::Counted;
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "firehose";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "delivery", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// The service's limits for one PutRecordBatch request, one record, and the name of a stream.
const REQUEST_RECORDS_MAX: usize = 500;
const REQUEST_BYTES_MAX: u64 = 4 * MIB;
const RECORD_BYTES_MAX: u64 = 1_000 * KIB;
const NAME_CHARS_MAX: usize = 64;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    streams::region(GROUP),
    key_of(GROUP, "endpoint", Kind::Text(Shape::Endpoint),
        Otherwise { meaning: "AWS_ENDPOINT_URL, else the region's own", example: "\"http://127.0.0.1:4573\"" },
        "The address of the service, for emulators and private links."),
    streams::raw(GROUP),
    streams::anomalies(GROUP),
    key_of(GROUP, "streams", Kind::StreamTargets,
        Otherwise { meaning: "none", example: "{ trips = \"fleet-trips\" }" },
        "Names of streams, each with the Firehose stream that gets its records: those of [[stream]], and raw and anomalies, if these have no key of their own."),
    key_of(GROUP, "record", Kind::Choice(&["lines", "single"]), Literal("\"lines\""),
        "A Firehose record holds many readings, one per line, or a single reading. Firehose bills each record as a multiple of 5KB."),
    key_of(GROUP, "partition", Kind::Choice(&["device", "gateway"]), Literal("\"gateway\""),
        "Which readings share records: those of the whole gateway, in order, one record at a time; or those of each device, which makes more and smaller records."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"none\""),
        "How the data of each record is compressed. Firehose's conversion to Parquet reads neither gzip nor zstd, so it needs none; Firehose can compress the objects by itself."),
    streams::batch_delay(GROUP, "\"1s\""),
    key_of(GROUP, "record_size", size(KIB, RECORD_BYTES_MAX), Literal("\"256KiB\""),
        "No line is added to a Firehose record of this size; a single line may be longer, up to 1000KiB, and is kept as a dead letter above that."),
    key_of(GROUP, "request_size_max", size(64 * KIB, REQUEST_BYTES_MAX), Literal("\"1MiB\""),
        "The largest request; Firehose accepts 4MiB."),
    streams::requests_in_flight(GROUP),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged by Firehose, for each stream."),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

/// Sends to streams of Amazon Data Firehose.
#[derive(Clone, Debug)]
pub struct FirehoseStreams {
    pub connection: AwsConnection,
    pub delivery: DeliverySettings,
    pub compression: Compression,
    /// Names of streams, each with its stream of Firehose; others are not sent.
    pub targets: BTreeMap<String, String>,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let connection = streams::connection(section, surroundings);
    let targets = streams::targets_of_some(section, surroundings);
    for (name, target) in &targets {
        if target.len() > NAME_CHARS_MAX {
            let key = if section.has(name) { name } else { "streams" };
            section.blame(key, format!("the name of a Firehose stream has at most {NAME_CHARS_MAX} characters"));
        }
    }
    let compression = section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::None);
    let limits = streams::Limits {
        record_bytes_max: RECORD_BYTES_MAX as usize,
        request_records_max: REQUEST_RECORDS_MAX,
        requests_in_flight_max: section.count("requests_in_flight"),
    };
    let delivery = streams::delivery(section, compression, limits);
    let sizes = ("record_size", delivery.record_bytes_soft, "request_size_max", delivery.request_bytes_max);
    streams::expect_sizes(section, [sizes]);
    Arc::new(FirehoseStreams { connection, delivery, compression, targets })
}

impl ConfiguredSink for FirehoseStreams {
    fn takes(&self, stream: &str) -> bool {
        self.targets.contains_key(stream)
    }

    fn describe(&self) -> String {
        streams::describe("Firehose", &self.connection, &self.targets)
    }

    fn notes(&self) -> Vec<String> {
        self.connection.notes()
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let settings = self.clone();
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let FirehoseStreams { connection, compression, targets, .. } = &settings;
                let network = network.get_or_insert_with(|| connection.connector_of(parts)).clone();
                let stream = targets.get(&*parts.stream_name).expect("only streams with a target are forwarded");
                let http = Counted::connector(network, &parts.status);
                Rc::new(FirehoseSink::new(connection.clone(), http, stream.clone(), *compression))
            },
        )
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(try_empty(
            &self.connection,
            Empty {
                service: "firehose",
                action: super::ACTION,
                targets: self.targets.iter().map(|(stream, target)| (stream.as_str(), target.as_str())).collect(),
                describe: ("Firehose_20150804.DescribeDeliveryStream", "firehose:DescribeDeliveryStream"),
                stream_key: "DeliveryStreamName",
                of_refusal: outcome::of_request,
            },
        ))
    }
}

//! Kinesis as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{KinesisSink, KinesisTarget};
use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::core::identity::Stream;
use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, count, key_of, milliseconds, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB, format_size};
use crate::sinks::aws::AwsConnection;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::Counted;
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "kinesis";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "cloud", keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// The service's limit for one PutRecords request.
const REQUEST_RECORDS_MAX: usize = 500;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "region", Kind::Text(Shape::Region),
        Otherwise { meaning: "AWS_REGION, else the AWS profile's", example: "\"eu-central-1\"" },
        "The AWS region of the streams."),
    key_of(GROUP, "endpoint", Kind::Text(Shape::Endpoint),
        Otherwise { meaning: "AWS_ENDPOINT_URL, else the region's own", example: "\"http://127.0.0.1:4568\"" },
        "The address of the service, for emulators and private links."),
    key_of(GROUP, "raw", Kind::Text(Shape::StreamName),
        Otherwise { meaning: "not sent; some stream has to be named", example: "\"telemetry-raw\"" },
        "The stream that gets every reading."),
    key_of(GROUP, "anomalies", Kind::Text(Shape::StreamName),
        Otherwise { meaning: "not sent; some stream has to be named", example: "\"telemetry-anomalies\"" },
        "The stream that gets anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "streams", Kind::StreamTargets,
        Otherwise { meaning: "none", example: "{ trips = \"fleet-trips\" }" },
        "Names of streams, each with the Kinesis stream that gets its records: those of [[stream]], and raw and anomalies, if these have no key of their own."),
    key_of(GROUP, "record", Kind::Choice(&["lines", "single"]), Literal("\"lines\""),
        "A Kinesis record holds many readings, one per line, or a single reading."),
    key_of(GROUP, "partition", Kind::Choice(&["device", "gateway"]), Literal("\"device\""),
        "The partition key: each device's own, or one for the whole gateway, whose records then hold readings of all its devices in order, one record at a time."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"none\""),
        "How the data of each record is compressed; consumers have to decompress it."),
    key_of(GROUP, "batch_delay", milliseconds(0, 600_000), Literal("\"2ms\""),
        "How long a stored reading waits for others to share its record. Longer means fewer records to pay for, but later delivery. Anomalies and alerts never wait longer than 2ms."),
    key_of(GROUP, "record_size", size(KIB, MIB), Literal("\"64KiB\""),
        "No line is added to a Kinesis record of this size; a single line may be longer."),
    key_of(GROUP, "record_size_max", size(64 * KIB, 10 * MIB), Literal("\"1MiB\""),
        "A longer line is kept as a dead letter; above 1MiB, the stream has to be configured for it."),
    key_of(GROUP, "request_size_max", size(64 * KIB, 10 * MIB), Literal("\"1MiB\""),
        "The largest request; Kinesis accepts 5MiB, and more if the stream is configured for it."),
    key_of(GROUP, "requests_in_flight", count(1, 64), Literal("4"),
        "Most requests in flight at one time, for each stream."),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged by Kinesis, for each stream."),
    key_of(GROUP, "connect_timeout", seconds(1, 60), Literal("\"5s\""),
        "Time limit for connecting."),
    key_of(GROUP, "timeout", seconds(1, 300), Literal("\"10s\""),
        "Time limit for the response; after it the request is sent again."),
];

/// Sends to streams of Amazon Kinesis.
#[derive(Clone, Debug)]
pub struct KinesisStreams {
    pub connection: AwsConnection,
    pub delivery: DeliverySettings,
    pub compression: Compression,
    /// Names of streams, each with its stream of Kinesis; others are not sent.
    pub targets: BTreeMap<String, String>,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let connection = AwsConnection {
        region: section.text("region"),
        endpoint: section.text("endpoint"),
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        role_alias: surroundings.role_alias.clone(),
    };
    let targets = targets(section, surroundings);
    let groupings = [("lines", Grouping::Lines), ("single", Grouping::Single)];
    let partitions = [("device", Partition::Device), ("gateway", Partition::Gateway)];
    let compression = section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::None);
    let record_bytes_max = section.bytes("record_size_max");
    let delivery = DeliverySettings {
        grouping: section.choice("record", &groupings).unwrap_or(Grouping::Lines),
        partition: section.choice("partition", &partitions).unwrap_or(Partition::Device),
        linger_us: section.duration("batch_delay").as_micros() as u64,
        record_bytes_soft: section.bytes("record_size"),
        record_bytes_max: record_bytes_max - compression.frame_bytes_max(record_bytes_max),
        request_records_max: REQUEST_RECORDS_MAX,
        request_bytes_max: section.bytes("request_size_max"),
        requests_in_flight_max: section.count("requests_in_flight"),
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    };
    let sizes = [
        ("record_size", delivery.record_bytes_soft, "record_size_max", record_bytes_max),
        ("record_size_max", record_bytes_max, "request_size_max", delivery.request_bytes_max),
    ];
    for (name, bytes, limit, bytes_max) in sizes {
        if bytes > bytes_max {
            let [bytes, bytes_max] = [bytes, bytes_max].map(|bytes| format_size(bytes as u64));
            section.blame(name, format!("{name} is {bytes}, more than {limit}, which is {bytes_max}"));
        }
    }
    Arc::new(KinesisStreams { connection, delivery, compression, targets })
}

/// The names of the streams that are sent, and where to.
fn targets(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> BTreeMap<String, String> {
    let built_in = Stream::BUILT_IN.map(|(_, name)| name);
    let mut targets = BTreeMap::new();
    for (name, target) in section.stream_targets("streams") {
        surroundings.expect_stream(section, "streams", &name);
        if built_in.contains(&&*name) && section.has(&name) {
            section.blame("streams", format!("{name} is a key of its own, and has a target there"));
        }
        targets.insert(name, target);
    }
    let is_any_named = ["streams"].into_iter().chain(built_in).any(|key| section.has(key));
    for name in built_in {
        targets.extend(section.text(name).map(|target| (name.to_owned(), target)));
    }
    if !is_any_named {
        section.blame_section("names no stream; give it raw, anomalies or both, for example raw = \"telemetry-raw\"");
    }
    targets
}

impl ConfiguredSink for KinesisStreams {
    fn takes(&self, stream: &str) -> bool {
        self.targets.contains_key(stream)
    }

    fn describe(&self) -> String {
        let region = self.connection.region.as_deref().unwrap_or("the region of AWS_REGION or the AWS profile");
        let endpoint = self.connection.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        let built_in = Stream::BUILT_IN.map(|(_, name)| name);
        let named = self.targets.keys().map(|name| &**name).filter(|name| !built_in.contains(name));
        let target = |name: &str| match self.targets.get(name) {
            Some(target) => format!(", {name} to stream {target}"),
            None => format!(", {name} to no stream"),
        };
        let targets: String = built_in.into_iter().chain(named).map(target).collect();
        format!("Kinesis in {region}{endpoint}{targets}{}", self.connection.describe_credentials())
    }

    fn notes(&self) -> Vec<String> {
        self.connection.notes()
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let (settings, gateway) = (self.clone(), starting.gateway_id().to_owned());
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let KinesisStreams { connection, compression, .. } = &settings;
                let network = network.get_or_insert_with(|| connection.connector()).clone();
                let stream = settings.targets.get(&*parts.stream_name);
                let stream = stream.expect("only streams with a target are forwarded").clone();
                let target = KinesisTarget { stream, gateway: gateway.clone(), compression: *compression };
                Rc::new(KinesisSink::new(connection.clone(), Counted::client(network, &parts.status), target))
            },
        )
    }
}

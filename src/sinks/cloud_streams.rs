//! What the sections of sinks to streams of a cloud have in common: the connection to AWS, which stream goes where, and how lines become
//! records.

use std::collections::BTreeMap;

use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::core::identity::Stream;
use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, count, key_of, milliseconds};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::format_size;
use crate::sinks::aws::AwsConnection;
use crate::sinks::compression::Compression;
use crate::sinks::kind::Surroundings;

pub const NOT_SENT: &str = "not sent; some stream has to be named";

pub const fn region(group: Group) -> Key {
    let otherwise = Otherwise { meaning: "AWS_REGION, else the AWS profile's", example: "\"eu-central-1\"" };
    key_of(group, "region", Kind::Text(Shape::Region), otherwise, "The AWS region of the streams.")
}

pub const fn raw(group: Group) -> Key {
    let otherwise = Otherwise { meaning: NOT_SENT, example: "\"telemetry-raw\"" };
    key_of(group, "raw", Kind::Text(Shape::StreamName), otherwise, "The stream that gets every reading.")
}

pub const fn anomalies(group: Group) -> Key {
    let otherwise = Otherwise { meaning: NOT_SENT, example: "\"telemetry-anomalies\"" };
    let about = "The stream that gets anomalies, alerts and the gateway's own state.";
    key_of(group, "anomalies", Kind::Text(Shape::StreamName), otherwise, about)
}

pub const fn batch_delay(group: Group, default: &'static str) -> Key {
    let about = "How long a stored reading waits for others to share its record. Longer means fewer records to pay for, but later delivery. Anomalies and alerts never wait longer than 2ms.";
    key_of(group, "batch_delay", milliseconds(0, 600_000), Literal(default), about)
}

pub const fn requests_in_flight(group: Group) -> Key {
    let about = "Most requests in flight at one time, for each stream.";
    key_of(group, "requests_in_flight", count(1, 64), Literal("4"), about)
}

pub fn connection(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> AwsConnection {
    AwsConnection {
        region: section.text("region"),
        endpoint: section.text("endpoint"),
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        role_alias: surroundings.role_alias.clone(),
    }
}

/// The names of the streams that are sent, and where to; `None` if no key says anything of it.
pub fn targets(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Option<BTreeMap<String, String>> {
    let built_in = Stream::BUILT_IN.map(|(_, name)| name);
    let is_any_named = ["streams"].into_iter().chain(built_in).any(|key| section.has(key));
    let mut targets = BTreeMap::new();
    for (name, target) in section.stream_targets("streams") {
        surroundings.expect_stream(section, "streams", &name);
        if built_in.contains(&&*name) && section.has(&name) {
            section.blame("streams", format!("{name} is a key of its own, and has a target there"));
        }
        targets.insert(name, target);
    }
    for name in built_in {
        targets.extend(section.text(name).map(|target| (name.to_owned(), target)));
    }
    is_any_named.then_some(targets)
}

/// The same where nothing is sent that has no target.
pub fn targets_of_some(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> BTreeMap<String, String> {
    targets(section, surroundings).unwrap_or_else(|| {
        section.blame_section("names no stream; give it raw, anomalies or both, for example raw = \"telemetry-raw\"");
        BTreeMap::new()
    })
}

/// What a service takes.
pub struct Limits {
    pub record_bytes_max: usize,
    pub request_records_max: usize,
    pub requests_in_flight_max: usize,
}

/// How lines become records, which with their compression are no larger than the service takes, and than a request.
pub fn delivery(section: &mut Section<'_>, compression: Compression, limits: Limits) -> DeliverySettings {
    let groupings = [("lines", Grouping::Lines), ("single", Grouping::Single), ("kpl", Grouping::Lines)];
    let partitions = [("device", Partition::Device), ("gateway", Partition::Gateway)];
    let request_bytes_max = section.bytes("request_size_max");
    let Limits { record_bytes_max, request_records_max, requests_in_flight_max } = limits;
    let record_bytes_max = record_bytes_max.min(request_bytes_max);
    DeliverySettings {
        grouping: section.choice("record", &groupings).unwrap_or(Grouping::Lines),
        partition: section.choice("partition", &partitions).unwrap_or(Partition::Device),
        linger_us: section.duration("batch_delay").as_micros() as u64,
        age_us_max: None,
        record_bytes_soft: section.bytes("record_size"),
        record_bytes_max: record_bytes_max - compression.frame_bytes_max(record_bytes_max),
        request_records_max,
        request_bytes_max,
        requests_in_flight_max,
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    }
}

/// Reports each key whose size is more than another size: the key, its size, the name of its limit, the limit.
pub fn expect_sizes<'a>(section: &mut Section<'_>, sizes: impl IntoIterator<Item = (&'a str, usize, &'a str, usize)>) {
    for (name, bytes, limit, bytes_max) in sizes {
        if bytes > bytes_max {
            let [bytes, bytes_max] = [bytes, bytes_max].map(|bytes| format_size(bytes as u64));
            section.blame(name, format!("{name} is {bytes}, more than {limit}, which is {bytes_max}"));
        }
    }
}

/// What `check` says of a sink to streams.
pub fn describe(service: &str, connection: &AwsConnection, targets: &BTreeMap<String, String>) -> String {
    let built_in = Stream::BUILT_IN.map(|(_, name)| name);
    let named = targets.keys().map(|name| &**name).filter(|name| !built_in.contains(name));
    let target = |name: &str| match targets.get(name) {
        Some(target) => format!(", {name} to stream {target}"),
        None => format!(", {name} to no stream"),
    };
    let targets: String = built_in.into_iter().chain(named).map(target).collect();
    format!("{service} in {}{targets}{}", connection.describe_place(), connection.describe_credentials())
}

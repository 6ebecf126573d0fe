//! HTTP as a kind of sink: its keys, how its section is read, and how it is started.

use std::rc::Rc;
use std::sync::Arc;

use super::HttpSink;
use super::alerts::AlertFormat;
use super::body::Framing;
use super::client::Client;
use super::target::{HttpTarget, Take};
use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, count, key_of, milliseconds, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::{self, Counted};
use crate::sinks::probe::{Probe, Probing, of_outcome};
use crate::sinks::secret::{Secret, from_environment};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "http";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "web", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// Most records in one request.
const REQUEST_RECORDS_MAX: usize = 500;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "url", Kind::Text(Shape::SecretUrl), Required { example: "\"https://ingest.example.com/readings\"" },
        "Where records are posted. A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    key_of(GROUP, "headers", Kind::Headers { count_max: 32 },
        Otherwise { meaning: "no further headers", example: "{ Authorization = \"Bearer x\" }" },
        "Headers of each request; \"env:NAME\" takes the value from an environment variable."),
    key_of(GROUP, "body", Kind::Choice(&["lines", "array"]), Literal("\"lines\""),
        "One record per line, or one JSON array of records."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"none\""),
        "How bodies are compressed."),
    key_of(GROUP, "take", Kind::Choice(&["all", "alerts"]), Literal("\"all\""),
        "Post every record of its streams, or alerts alone."),
    key_of(GROUP, "streams", Kind::Texts { shape: Shape::LogStream, count_max: 32 },
        Otherwise { meaning: "every stream", example: "[\"trips\"]" },
        "With take = \"all\": the streams that are posted, those of [[stream]] among them; raw has the readings, anomalies the anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "alert_format", Kind::Choice(&["outrider", "alertmanager", "pagerduty"]), Literal("\"outrider\""),
        "With take = \"alerts\": as Outrider's records, for Alertmanager's /api/v2/alerts, or for PagerDuty's Events API v2."),
    key_of(GROUP, "routing_key", Kind::Text(Shape::Secret),
        Otherwise { meaning: "none; alert_format = \"pagerduty\" needs one", example: "\"0123456789abcdef0123456789abcdef\"" },
        "The integration key of a PagerDuty service; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "batch_delay", milliseconds(0, 60_000), Literal("\"100ms\""),
        "How long a stored record waits for others to share its request."),
    key_of(GROUP, "request_size_max", size(4 * KIB, 16 * MIB), Literal("\"1MiB\""),
        "The largest body, before it is compressed; a record that does not fit is kept as a dead letter."),
    key_of(GROUP, "requests_in_flight", count(1, 64), Literal("2"),
        "Most requests in flight at one time, for each stream."),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged, for each stream."),
    key_of(GROUP, "connect_timeout", seconds(1, 60), Literal("\"5s\""),
        "Time limit for connecting."),
    key_of(GROUP, "timeout", seconds(1, 300), Literal("\"10s\""),
        "Time limit for the response; after it the request is sent again."),
];

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let url = section.text("url").unwrap_or_default();
    let mut headers = Vec::new();
    for (name, value) in section.headers("headers") {
        if let Some(value) = from_environment(section, "headers", value) {
            headers.push((name, value));
        }
    }
    let routing_key = section.text("routing_key");
    let routing_key = routing_key.and_then(|text| from_environment(section, "routing_key", text));
    let formats = [("outrider", 0_u8), ("alertmanager", 1), ("pagerduty", 2)];
    let format = match (section.choice("alert_format", &formats), routing_key) {
        (Some(2), Some(routing_key)) => AlertFormat::PagerDuty { routing_key },
        (Some(2), None) => {
            if !section.has("routing_key") {
                section.blame("alert_format", "PagerDuty needs routing_key, the integration key of the service");
            }
            AlertFormat::Outrider
        }
        (Some(1), _) => AlertFormat::Alertmanager,
        _ => AlertFormat::Outrider,
    };
    let is_all = section.choice("take", &[("all", true), ("alerts", false)]).unwrap_or(true);
    if is_all && !matches!(format, AlertFormat::Outrider) {
        section.blame("alert_format", "only alerts have another format; set take = \"alerts\"");
    }
    let streams = section.texts_if_there("streams");
    for name in streams.iter().flatten() {
        surroundings.expect_stream(section, "streams", name);
    }
    match &streams {
        Some(_) if !is_all => {
            section.blame("streams", "alerts are in one stream; leave this away, or set take = \"all\"")
        }
        Some(streams) if streams.is_empty() => {
            section.blame("streams", "names no stream; without this key, every stream is posted")
        }
        _ => {}
    }
    let take = if is_all { Take::All { streams } } else { Take::Alerts(format) };
    let request_bytes_max = section.bytes("request_size_max");
    // PagerDuty takes one event per request.
    let is_single = matches!(take, Take::Alerts(AlertFormat::PagerDuty { .. }));
    let delivery = DeliverySettings {
        grouping: if is_single { Grouping::Single } else { Grouping::Lines },
        partition: Partition::Device,
        linger_us: section.duration("batch_delay").as_micros() as u64,
        age_us_max: None,
        record_bytes_soft: (64 << 10).min(request_bytes_max),
        record_bytes_max: request_bytes_max,
        request_records_max: if is_single { 1 } else { REQUEST_RECORDS_MAX },
        request_bytes_max,
        requests_in_flight_max: section.count("requests_in_flight"),
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    };
    let framings = [("lines", Framing::Lines), ("array", Framing::Array)];
    Arc::new(HttpTarget {
        url: Secret(url),
        headers,
        framing: section.choice("body", &framings).unwrap_or(Framing::Lines),
        compression: section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::None),
        take,
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        delivery,
    })
}

impl ConfiguredSink for HttpTarget {
    fn takes(&self, stream: &str) -> bool {
        match &self.take {
            Take::All { streams: None } => true,
            Take::All { streams: Some(streams) } => streams.iter().any(|name| name == stream),
            Take::Alerts(_) => stream == "anomalies",
        }
    }

    fn describe(&self) -> String {
        let what = match &self.take {
            Take::All { streams: None } => "every stream".to_owned(),
            Take::All { streams: Some(streams) } => streams.join(", "),
            Take::Alerts(_) => "alerts".to_owned(),
        };
        format!("{what} posted to {}", self.origin())
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let target = self.clone();
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let is_plain = target.url.0.starts_with("http://");
                let network = network.get_or_insert_with(|| match parts.counts() {
                    Some(bytes) => network::counting_connector(target.connect_timeout, bytes),
                    None => network::connector(target.connect_timeout, !is_plain),
                });
                let client = Client::new(&target, Counted::connector(network.clone(), &parts.status));
                Rc::new(HttpSink::new(client, &target))
            },
        )
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let network = network::connector(self.connect_timeout, !self.url.0.starts_with("http://"));
            let asked = format!("HEAD at {}", self.origin());
            vec![match Client::new(self, network).head().await {
                Ok(status @ (401 | 403 | 407)) => Finding::warning(
                    format!("{asked}: it answers with HTTP status {status}, and may refuse what is posted, too"),
                    "look at url and headers of the [[sink]]",
                ),
                // Those that take what is posted need not know HEAD.
                Ok(status @ 500..) if status != 501 => Finding::warning(
                    format!("{asked}: it answers with HTTP status {status}"),
                    "look at the service; what it does not take waits in the store meanwhile",
                ),
                // What it says to a request that it does not know tells nothing of one that it knows.
                Ok(status) => Finding::well(format!("{asked}: it answers, with HTTP status {status}")),
                Err(outcome) => of_outcome(&asked, &outcome),
            }]
        })
    }
}

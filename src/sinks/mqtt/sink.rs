//! MQTT as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::MqttSink;
use super::messages::MessageMaker;
use super::outcome::{self, Past};
use super::uplink::Uplink;
use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::core::mqtt::client::{Limits, Login, Settings, limits};
use crate::core::mqtt::packet::Version;
use crate::core::mqtt::template::{Filling, Place, Template};
use crate::finding::Finding;
use crate::keys::broker;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, count, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::address::is_same_host;
use crate::sinks::cloud_streams;
use crate::sinks::kind::{ConfiguredSink, Conflict, Neighbour, SinkKind, Surroundings};
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing, of_client_files, of_outcome};
use crate::sinks::secret::{Secret, from_environment};
use crate::sinks::start::{SinkThread, StartError, Starting};
use crate::sinks::stream::StreamParts;
use crate::uplink::{Broker, try_login};

pub const NAME: &str = "mqtt";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "broker", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// Records of one request, each of another device: as many as a usual window lets through.
const REQUEST_RECORDS_MAX: usize = 100;
/// So that the window stays full while one request is answered.
const REQUESTS_IN_FLIGHT_MAX: usize = 4;
/// What a packet has besides its payload, and its topic at most where a service limits both.
const PACKET_OVERHEAD_BYTES: usize = 512;
/// Brokers ask for at least this many characters, and more are not needed to tell a doctor from its gateway.
const DOCTOR: &str = "-doctor";

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "url", Kind::Text(Shape::BrokerUrl), Required { example: "\"mqtts://broker.example.com\"" },
        "The broker: mqtt:// is not encrypted, mqtts:// is TLS. Without a port 1883, or 8883."),
    key_of(GROUP, "version", Kind::Choice(&["5", "3.1.1"]), Literal("\"5\""),
        "The version of MQTT. Only version 5 tells why a broker refuses something."),
    key_of(GROUP, "client_id", Kind::Text(Shape::Name), Literal("\"{gateway}-{sink}\""),
        "Who connects; {gateway} and {sink} are filled in. A broker lets in one client of each id, and ends the connection of the other."),
    key_of(GROUP, "username", Kind::Text(Shape::Name), Otherwise { meaning: "none", example: "\"gateway\"" },
        "Who logs in."),
    key_of(GROUP, "password", Kind::Text(Shape::Secret), Otherwise { meaning: "none", example: "\"correct horse\"" },
        "The password; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "ca", Kind::Text(Shape::Path), Otherwise { meaning: "the CAs that the system trusts", example: "\"certificates/ca.pem\"" },
        "The CAs that the broker's certificate is of. Relative paths are beside this file."),
    key_of(GROUP, "certificate", Kind::Text(Shape::Path), Otherwise { meaning: "none is shown", example: "\"certificates/device.pem\"" },
        "The gateway's certificate, where the broker asks for one. It is read anew for each connection, as ca and key are."),
    key_of(GROUP, "key", Kind::Text(Shape::Path), Otherwise { meaning: "none; certificate needs one", example: "\"certificates/device.key\"" },
        "The key of the certificate."),
    key_of(GROUP, "alpn", Kind::Texts { shape: Shape::Name, count_max: 4 },
        Otherwise { meaning: "x-amzn-mqtt-ca at port 443 of AWS, else none", example: "[\"mqtt\"]" },
        "The protocols that are offered in the TLS handshake."),
    key_of(GROUP, "topic", Kind::Text(Shape::MessageTopic), Literal("\"outrider/{gateway}/{stream}/{device}\""),
        "Where records are published; what is filled in stays within its level, with / + # % and $ as in URLs, and _ for nothing. With {metric} or {type}, lines share a message only while these stay the same."),
    key_of(GROUP, "streams", Kind::Texts { shape: Shape::LogStream, count_max: 32 },
        Otherwise { meaning: "every stream", example: "[\"anomalies\"]" },
        "The streams that are published, those of [[stream]] among them; raw has the readings, anomalies the anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "record", Kind::Choice(&["lines", "single"]), Literal("\"lines\""),
        "A message holds many records, one per line, or a single one."),
    key_of(GROUP, "limits", Kind::Choice(&["none", "aws-iot"]),
        Otherwise { meaning: "aws-iot where the host is of amazonaws.com, else none", example: "\"aws-iot\"" },
        "What the service takes besides what it says itself. AWS IoT Core: 128KiB, topics of 256 bytes and 7 slashes, 100 messages without an acknowledgement and 100 a second."),
    key_of(GROUP, "window", count(1, 1_000), Literal("100"),
        "Most messages without an acknowledgement, if the broker does not ask for fewer."),
    cloud_streams::batch_delay(GROUP, "\"100ms\""),
    key_of(GROUP, "record_size", size(KIB, MIB), Literal("\"64KiB\""),
        "No line is added to a message of this size; a single line may be longer."),
    key_of(GROUP, "message_size_max", size(4 * KIB, 64 * MIB), Literal("\"128KiB\""),
        "The largest message, if the broker does not ask for smaller ones; a longer line is kept as a dead letter."),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged by the broker, for each stream."),
    key_of(GROUP, "keep_alive", seconds(5, 3_600), Literal("\"60s\""),
        "After so long without a packet the broker is asked whether it is there, and given up half as long after that."),
    key_of(GROUP, "connect_timeout", seconds(1, 60), Literal("\"5s\""),
        "Time limit for connecting, and again for the login."),
    key_of(GROUP, "timeout", seconds(1, 300), Literal("\"10s\""),
        "Time limit for an acknowledgement; after it the connection is ended, and what is not acknowledged is sent again."),
];

/// Publishes to another MQTT broker.
#[derive(Clone, Debug)]
pub struct MqttBroker {
    broker: Broker,
    version: Version,
    client_id: String,
    username: Option<String>,
    password: Option<Secret>,
    topic: String,
    template: Template,
    /// `None`: every one.
    streams: Option<Vec<String>>,
    limits: Limits,
    window: u16,
    keep_alive: Duration,
    timeout: Duration,
    delivery: DeliverySettings,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    // Without one there is a problem, and nothing is started.
    let broker = broker::read(section, surroundings.beside).unwrap_or_default();
    let version = section.choice("version", &[("5", Version::V5), ("3.1.1", Version::V4)]).unwrap_or(Version::V5);
    let usual = if broker.endpoint.is_of_aws() { Limits::AWS_IOT } else { Limits::NONE };
    let limits = section.choice("limits", &[("none", Limits::NONE), ("aws-iot", Limits::AWS_IOT)]).unwrap_or(usual);
    let username = section.text("username");
    let password = section.text("password").and_then(|text| from_environment(section, "password", text));
    if password.is_some() && username.is_none() && version < Version::V5 {
        section.blame("password", "needs username, too; only version 5 knows a password alone");
    }
    let streams = posting::streams(section, surroundings, "published");
    let (topic, template) = read_topic(section, &limits);
    let delivery = read_delivery(section, &limits);
    Arc::new(MqttBroker {
        broker,
        version,
        client_id: section.text("client_id").unwrap_or_default(),
        username,
        password,
        topic,
        template,
        streams,
        limits,
        window: section.count("window"),
        keep_alive: section.duration("keep_alive"),
        timeout: section.duration("timeout"),
        delivery,
    })
}

fn read_topic(section: &mut Section<'_>, limits: &Limits) -> (String, Template) {
    let topic = section.text("topic").unwrap_or_default();
    let template = Template::parse(&topic).unwrap_or_else(|_| Template::parse("-").expect("a topic"));
    // What is filled in may be longer; what stands there already is known.
    let shortest = Filling { gateway: "g", device: "d", metric: "m", stream: "s", kind: "t" };
    if let Err(unfit) = limits::check_topic(&template.fill(&shortest), limits) {
        section.blame("topic", unfit.to_string());
    }
    (topic, template)
}

fn read_delivery(section: &mut Section<'_>, limits: &Limits) -> DeliverySettings {
    let service_bytes_max = usize::try_from(limits.packet_bytes_max).unwrap_or(usize::MAX) - PACKET_OVERHEAD_BYTES;
    let message_bytes_max: usize = section.bytes("message_size_max");
    let record_bytes_soft: usize = section.bytes("record_size");
    cloud_streams::expect_sizes(section, [("record_size", record_bytes_soft, "message_size_max", message_bytes_max)]);
    let record_bytes_max = message_bytes_max.min(service_bytes_max);
    let groupings = [("lines", Grouping::Lines), ("single", Grouping::Single)];
    DeliverySettings {
        grouping: section.choice("record", &groupings).unwrap_or(Grouping::Lines),
        partition: Partition::Device,
        linger_us: u64::try_from(section.duration("batch_delay").as_micros()).unwrap_or(u64::MAX),
        age_us_max: None,
        record_bytes_soft: record_bytes_soft.min(record_bytes_max),
        record_bytes_max,
        request_records_max: REQUEST_RECORDS_MAX,
        request_bytes_max: record_bytes_max.max(1 << 20),
        requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX,
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    }
}

impl MqttBroker {
    fn settings(&self, client_id: String) -> Settings {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let password = self.password.as_ref().map(|password| password.0.clone().into_bytes());
        let login = match (&self.username, password) {
            (None, None) => None,
            (username, password) => Some(Login { user_name: username.clone().unwrap_or_default(), password }),
        };
        Settings {
            version: self.version,
            client_id,
            login,
            keep_alive_s: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            welcome_within_ms: milliseconds(self.broker.connect_timeout),
            answer_within_ms: milliseconds(self.timeout),
            window: self.window,
            limits: self.limits,
            ..Settings::default()
        }
    }

    fn client_id(&self, gateway: &str, sink: &str) -> String {
        self.client_id.replace("{gateway}", gateway).replace("{sink}", sink)
    }

    fn is_of_aws(&self) -> bool {
        self.limits == Limits::AWS_IOT
    }
}

impl ConfiguredSink for MqttBroker {
    fn takes(&self, stream: &str) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.iter().any(|name| name == stream))
    }

    fn describe(&self) -> String {
        let streams = self.streams.as_ref().map_or("every stream".to_owned(), |streams| streams.join(", "));
        let version = if self.version == Version::V5 { "5" } else { "3.1.1" };
        let login = self.username.as_ref().map_or(String::new(), |name| format!(", as {name}"));
        let certificate = if self.broker.files.identity.is_some() { ", with a certificate" } else { "" };
        let limits = if self.is_of_aws() { ", within the limits of AWS IoT Core" } else { "" };
        format!(
            "{streams} published to {} by MQTT {version}{login}{certificate}, topic {}{limits}",
            self.broker.endpoint, self.topic
        )
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let is_open = !self.broker.endpoint.is_tls && !self.broker.endpoint.is_loopback();
        if is_open && self.password.is_some() {
            notes.push(
                "the password is sent as it is, and readable by whoever is between; begin url with mqtts://".to_owned(),
            );
        }
        if !self.client_id.contains("{gateway}") {
            notes.push(format!(
                "client_id {} is the same on each gateway with this configuration: two of them would throw each other out",
                self.client_id
            ));
        }
        if !self.template.has(Place::Gateway) {
            notes
                .push("topic has no {gateway}: whoever subscribes tells gateways apart by the records only".to_owned());
        }
        if self.is_of_aws() && self.version < Version::V5 {
            notes.push("AWS IoT Core says in MQTT 5 only why it ends a connection".to_owned());
        }
        notes
    }

    /// Two that a broker takes for one client end each other's connection for ever. Brokers may tell users apart.
    fn conflict(&self, other: &Neighbour<'_>, _: &Surroundings<'_>) -> Option<Conflict> {
        let theirs = other.of::<MqttBroker>()?;
        let (ours, other_place) = (&self.broker.endpoint, &theirs.broker.endpoint);
        let is_one_client = self.client_id == theirs.client_id && !self.client_id.contains("{sink}");
        let is_same_broker = is_same_host(&ours.host, &other_place.host) && ours.port == other_place.port;
        (is_one_client && is_same_broker && self.username == theirs.username).then(|| Conflict {
            keys: &["client_id"],
            text: format!(
                "has the client_id {} at the broker {ours}, as the sink {} has, and a broker ends the connection of one when the other comes; put {{sink}} into it",
                self.client_id, other.name
            ),
        })
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let (settings, gateway) = (self.clone(), starting.gateway_id().to_owned());
        starting.forward_sharing(
            |stream| self.takes(stream),
            &self.delivery,
            move || {
                // All streams share the connection.
                let mut shared: Option<Rc<Uplink>> = None;
                move |parts: &StreamParts| {
                    let uplink = shared.get_or_insert_with(|| {
                        let session = settings.settings(settings.client_id(&gateway, &parts.sink));
                        Rc::new(Uplink::new(settings.broker.clone(), session, parts.counts()))
                    });
                    let maker = MessageMaker {
                        template: settings.template.clone(),
                        gateway: gateway.clone(),
                        stream: parts.stream_name.to_string(),
                        payload_bytes_max: settings.delivery.record_bytes_max,
                    };
                    Rc::new(MqttSink::new(parts.sink.clone(), Rc::clone(uplink), maker, Arc::clone(&parts.status)))
                }
            },
        )
    }

    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let mut findings = of_client_files(&self.broker.files);
            // With the gateway's own id it would end the connection of a gateway that runs.
            let client_id = self.client_id(&probing.gateway_id, NAME) + DOCTOR;
            let asked = format!("login at {} as the client {client_id}", self.broker.endpoint);
            findings.push(match try_login(&self.broker, self.settings(client_id.clone())).await {
                Ok(_) => Finding::well(format!("{asked}: the broker lets it in")),
                Err(error) => of_outcome(&asked, &outcome::of_connect(&error, &client_id, Past::default())),
            });
            findings
        })
    }
}

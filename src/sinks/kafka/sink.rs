//! Kafka as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::connection::{Access, Address};
use super::sasl::Login;
use super::{KafkaSink, KafkaTarget};
use crate::core::delivery::DeliverySettings;
use crate::counter::many;
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::tls_files;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::aws::AwsConnection;
use crate::sinks::aws::probe::of_role_alias;
use crate::sinks::aws::service::Service;
use crate::sinks::cloud_streams as streams;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::links::SocketBytes;
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing, of_client_files, of_outcome};
use crate::sinks::scram::Hash;
use crate::sinks::secret::{Secret, from_environment};
use crate::sinks::start::{SinkThread, StartError, Starting};
use crate::tls::ClientFiles;

pub const NAME: &str = "kafka";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "kafka", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// More would only make requests that are refused for one record harder to take apart.
const REQUEST_RECORDS_MAX: usize = 1_000;

/// What a batch adds to its records, and what each record adds to its key and value.
const BATCH_OVERHEAD_BYTES: usize = 128;

const DEFAULT_PORT: u16 = 9092;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "brokers", Kind::Texts { shape: Shape::HostAndPort, count_max: 32 },
        Required { example: "[\"kafka-1.example.com:9092\", \"kafka-2.example.com:9092\"]" },
        "Brokers to ask first; they name all others. Without a port, 9092."),
    key_of(GROUP, "raw", Kind::Text(Shape::StreamName), Otherwise { meaning: streams::NOT_SENT, example: "\"telemetry-raw\"" },
        "The topic that gets every reading."),
    key_of(GROUP, "anomalies", Kind::Text(Shape::StreamName), Otherwise { meaning: streams::NOT_SENT, example: "\"telemetry-anomalies\"" },
        "The topic that gets anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "streams", Kind::StreamTargets,
        Otherwise { meaning: "none", example: "{ trips = \"fleet-trips\" }" },
        "Names of streams, each with the topic that gets its records: those of [[stream]], and raw and anomalies, if these have no key of their own."),
    key_of(GROUP, "record", Kind::Choice(&["lines", "single"]), Literal("\"lines\""),
        "A record of Kafka holds many readings, one per line, or a single reading."),
    key_of(GROUP, "partition", Kind::Choice(&["device", "gateway"]), Literal("\"device\""),
        "A record's key: the gateway and the device, or the gateway alone, whose records then hold readings of all its devices in order, one record at a time. The partition follows from the key as in Kafka's own clients."),
    key_of(GROUP, "compression", Kind::Choice(Compression::NAMES), Literal("\"gzip\""),
        "How batches are compressed; consumers decompress them by themselves. zstd needs Kafka 2.1 and consumers that know it."),
    streams::batch_delay(GROUP, "\"100ms\""),
    key_of(GROUP, "record_size", size(KIB, MIB), Literal("\"64KiB\""),
        "No line is added to a record of this size; a single line may be longer."),
    key_of(GROUP, "request_size_max", size(64 * KIB, 64 * MIB), Literal("\"1000KiB\""),
        "The most that is sent at once, before it is compressed; a longer line is kept as a dead letter. A topic takes 1MiB, unless its max.message.bytes says otherwise."),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"2MiB\""),
        "The most that is read from the store and not yet acknowledged by Kafka, for each stream."),
    key_of(GROUP, "tls", Kind::Boolean, Otherwise { meaning: "true with ca, certificate or aws-msk-iam, else false", example: "true" },
        "Connect by TLS."),
    key_of(GROUP, "ca", Kind::Text(Shape::Path), Otherwise { meaning: "the CAs that the system trusts", example: "\"certificates/ca.pem\"" },
        "The CAs that the brokers' certificates are of. Relative paths are beside this file."),
    key_of(GROUP, "certificate", Kind::Text(Shape::Path), Otherwise { meaning: "none is shown", example: "\"certificates/device.pem\"" },
        "The gateway's certificate, where brokers ask for one. It is read anew for each connection, as ca and key are."),
    key_of(GROUP, "key", Kind::Text(Shape::Path), Otherwise { meaning: "none; certificate needs one", example: "\"certificates/device.key\"" },
        "The key of the certificate."),
    key_of(GROUP, "sasl", Kind::Choice(&["none", "plain", "scram-sha-256", "scram-sha-512", "aws-msk-iam"]),
        Otherwise { meaning: "none", example: "\"scram-sha-512\"" },
        "How to log in. aws-msk-iam takes AWS credentials, as sinks to services of AWS do."),
    key_of(GROUP, "username", Kind::Text(Shape::Name), Otherwise { meaning: "none; plain and scram need one", example: "\"gateway\"" },
        "Who logs in."),
    key_of(GROUP, "password", Kind::Text(Shape::Secret), Otherwise { meaning: "none; plain and scram need one", example: "\"correct horse\"" },
        "The password; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "region", Kind::Text(Shape::Region), Otherwise { meaning: "AWS_REGION, else the AWS profile's", example: "\"eu-central-1\"" },
        "The AWS region of the brokers, for aws-msk-iam."),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

/// Sends to topics of Kafka.
#[derive(Clone, Debug)]
pub struct KafkaTopics {
    brokers: Vec<Address>,
    tls: Option<ClientFiles>,
    login: LoginSettings,
    connect_timeout: Duration,
    request_timeout: Duration,
    delivery: DeliverySettings,
    compression: Compression,
    /// Names of streams, each with its topic; others are not sent.
    targets: BTreeMap<String, String>,
    state_folder: PathBuf,
}

/// How to log in, as the configuration says it.
#[derive(Clone, Debug)]
enum LoginSettings {
    None,
    Plain { username: String, password: Secret },
    Scram { hash: Hash, username: String, password: Secret },
    MskIam(AwsConnection),
}

/// The words of the key `sasl`.
const SASL: &[(&str, Sasl)] = &[
    ("none", Sasl::None),
    ("plain", Sasl::Plain),
    ("scram-sha-256", Sasl::Scram(Hash::Sha256)),
    ("scram-sha-512", Sasl::Scram(Hash::Sha512)),
    ("aws-msk-iam", Sasl::MskIam),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sasl {
    None,
    Plain,
    Scram(Hash),
    MskIam,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let brokers: Vec<Address> =
        section.texts_if_there("brokers").unwrap_or_default().iter().map(|text| address(text)).collect();
    if brokers.is_empty() && section.has("brokers") {
        section.blame("brokers", "names no broker");
    }
    let targets = streams::targets_of_some(section, surroundings);
    let compression = section.choice("compression", &Compression::CHOICES).unwrap_or(Compression::Gzip);
    let request_bytes_max: usize = section.bytes("request_size_max");
    let limits = streams::Limits {
        record_bytes_max: request_bytes_max.saturating_sub(BATCH_OVERHEAD_BYTES),
        request_records_max: REQUEST_RECORDS_MAX,
        requests_in_flight_max: 1,
    };
    let delivery = streams::delivery(section, compression, limits);
    let record_size = ("record_size", delivery.record_bytes_soft, "request_size_max", request_bytes_max);
    streams::expect_sizes(section, [record_size]);
    let tls = read_tls(section, surroundings.beside);
    let login = read_login(section, surroundings);
    Arc::new(KafkaTopics {
        brokers,
        tls,
        login,
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        delivery,
        compression,
        targets,
        state_folder: surroundings.state_folder.to_owned(),
    })
}

fn address(text: &str) -> Address {
    match text.split_once(':') {
        Some((host, port)) => Address { host: host.to_owned(), port: port.parse().unwrap_or(DEFAULT_PORT) },
        None => Address { host: text.to_owned(), port: DEFAULT_PORT },
    }
}

fn read_tls(section: &mut Section<'_>, beside: &Path) -> Option<ClientFiles> {
    let files = tls_files::read(section, beside);
    let is_iam = section.choice("sasl", SASL).is_some_and(|sasl| sasl == Sasl::MskIam);
    let is_implied = is_iam || files.is_any();
    let is_on = section.given_boolean("tls").unwrap_or(is_implied);
    if is_implied && !is_on {
        section.blame("tls", "ca, certificate and aws-msk-iam need TLS");
    }
    is_on.then_some(files)
}

fn read_login(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> LoginSettings {
    let sasl = section.choice("sasl", SASL).unwrap_or(Sasl::None);
    let username = section.text("username");
    let password = section.text("password").and_then(|text| from_environment(section, "password", text));
    let region = section.text("region");
    let takes_password = matches!(sasl, Sasl::Plain | Sasl::Scram(_));
    for name in ["username", "password"] {
        if takes_password && !section.has(name) {
            section.blame("sasl", format!("needs {name}"));
        } else if !takes_password && section.has(name) {
            section.blame(name, "is not used; set sasl to \"plain\", \"scram-sha-256\" or \"scram-sha-512\"");
        }
    }
    match (sasl, username, password) {
        (Sasl::Plain, Some(username), Some(password)) => LoginSettings::Plain { username, password },
        (Sasl::Scram(hash), Some(username), Some(password)) => LoginSettings::Scram { hash, username, password },
        (Sasl::MskIam, ..) => LoginSettings::MskIam(AwsConnection {
            region,
            endpoint: None,
            connect_timeout: section.duration("connect_timeout"),
            request_timeout: section.duration("timeout"),
            role_alias: surroundings.role_alias.clone(),
        }),
        _ => LoginSettings::None,
    }
}

impl KafkaTopics {
    /// Certificates that are worth a word.
    fn of_files(&self) -> Vec<Finding> {
        let mut findings = match &self.login {
            LoginSettings::MskIam(connection) => of_role_alias(connection),
            _ => Vec::new(),
        };
        findings.extend(self.tls.iter().flat_map(of_client_files));
        findings
    }

    fn access(&self, gateway: &str, counts: Option<Arc<SocketBytes>>) -> Access {
        let login = match &self.login {
            LoginSettings::None => Login::None,
            LoginSettings::Plain { username, password } => {
                Login::Plain { username: username.clone(), password: password.clone() }
            }
            LoginSettings::Scram { hash, username, password } => {
                Login::Scram { hash: *hash, username: username.clone(), password: password.clone() }
            }
            LoginSettings::MskIam(connection) => {
                Login::MskIam(Box::new(Service::new("kafka-cluster", connection.clone(), connection.connector())))
            }
        };
        Access {
            client_id: format!("outrider-{gateway}"),
            tls: self.tls.clone(),
            login,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            counts,
        }
    }
}

impl ConfiguredSink for KafkaTopics {
    fn takes(&self, stream: &str) -> bool {
        self.targets.contains_key(stream)
    }

    fn describe(&self) -> String {
        let brokers: Vec<String> = self.brokers.iter().map(Address::to_string).collect();
        let targets: Vec<String> =
            self.targets.iter().map(|(name, topic)| format!("{name} to topic {topic}")).collect();
        let tls = if self.tls.is_some() { ", by TLS" } else { "" };
        let login = match &self.login {
            LoginSettings::None => String::new(),
            LoginSettings::Plain { username, .. } | LoginSettings::Scram { username, .. } => format!(", as {username}"),
            LoginSettings::MskIam(connection) => {
                format!(
                    ", with AWS credentials of {}{}",
                    connection.describe_place(),
                    connection.describe_credentials()
                )
            }
        };
        format!("Kafka at {}, {}{tls}{login}", brokers.join(", "), targets.join(", "))
    }

    fn notes(&self) -> Vec<String> {
        match &self.login {
            LoginSettings::Plain { .. } if self.tls.is_none() => {
                vec!["the password is sent as it is, and readable by whoever is between; set tls = true".to_owned()]
            }
            LoginSettings::MskIam(connection) => connection.notes(),
            _ => Vec::new(),
        }
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let (settings, gateway) = (self.clone(), starting.gateway_id().to_owned());
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let topic = settings.targets.get(&*parts.stream_name).expect("only streams with a topic are forwarded");
                let target = KafkaTarget {
                    topic: topic.clone(),
                    gateway: gateway.clone(),
                    compression: settings.compression,
                    form: format!("{gateway} {:?} {:?}", settings.compression, settings.delivery),
                    journal: settings.state_folder.join(format!("kafka.{}.{}.journal", parts.sink, parts.stream_name)),
                    saves: Arc::clone(&parts.saves),
                    status: Arc::clone(&parts.status),
                };
                Rc::new(KafkaSink::new(
                    Rc::new(settings.access(&gateway, parts.counts())),
                    settings.brokers.clone(),
                    target,
                ))
            },
        )
    }

    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let mut findings = self.of_files();
            let access = Rc::new(self.access(&probing.gateway_id, None));
            for (stream, topic) in &self.targets {
                let mut cluster = Cluster::new(Rc::clone(&access), topic.clone(), self.brokers.clone());
                let asked = format!("{stream} to the topic {topic}");
                findings.push(match cluster.look_up().await {
                    Ok(()) => {
                        let partitions = many(cluster.partitions() as u64, "partition");
                        Finding::well(format!("{asked}: the brokers answer; it has {partitions}"))
                    }
                    Err(outcome) => of_outcome(&asked, &outcome),
                });
            }
            findings
        })
    }
}

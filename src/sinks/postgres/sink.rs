//! PostgreSQL as a kind of sink: its keys, how its section is read, its limits, and how it is started.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Access, Security};
use super::table::TableName;
use super::url::Place;
use super::{PostgresSink, PostgresTarget, look};
use crate::core::delivery::{DeliverySettings, Grouping, Partition, Patience};
use crate::counter::many;
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::tls_files;
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::cloud_streams as streams;
use crate::sinks::kind::{ConfiguredSink, Conflict, Neighbour, SinkKind, Surroundings};
use crate::sinks::links::SocketBytes;
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing, of_client_files, of_outcome};
use crate::sinks::secret::{Secret, from_environment};
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "postgres";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "database", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// More devices in one request would only make one that is refused for a row harder to take apart.
const REQUEST_RECORDS_MAX: usize = 500;
/// A statement's lines of one device; where one of them is refused they are taken apart.
const RECORD_BYTES: usize = 64 << 10;

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "url", Kind::Text(Shape::DatabaseUrl), Required { example: "\"postgres://outrider@db.example.com:5432/fleet\"" },
        "The user, the server and the database. Without a port, 5432; without a database, the one that is named as the user."),
    key_of(GROUP, "password", Kind::Text(Shape::Secret), Otherwise { meaning: "none; a server may let in without one", example: "\"correct horse\"" },
        "The user's password; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "raw", Kind::Text(Shape::StreamName), Otherwise { meaning: streams::NOT_SENT, example: "\"readings\"" },
        "The table that gets every reading, as NAME or SCHEMA.NAME."),
    key_of(GROUP, "anomalies", Kind::Text(Shape::StreamName), Otherwise { meaning: streams::NOT_SENT, example: "\"events\"" },
        "The table that gets anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "streams", Kind::StreamTargets, Otherwise { meaning: "none", example: "{ trips = \"fleet.trips\" }" },
        "Names of streams, each with the table that gets its records: those of [[stream]], and raw and anomalies, if these have no key of their own. No two streams share a table."),
    key_of(GROUP, "sslmode", Kind::Choice(&["disable", "require", "verify-full"]),
        Otherwise { meaning: "verify-full; disable where the server is this machine and ca is not given", example: "\"verify-full\"" },
        "verify-full connects by TLS to a server whose certificate is for its name and of a trusted CA. require asks for TLS and takes any certificate, so that somebody in between may be the server."),
    key_of(GROUP, "ca", Kind::Text(Shape::Path), Otherwise { meaning: "the CAs that the system trusts", example: "\"certificates/ca.pem\"" },
        "The CAs that the server's certificate is of. Relative paths are beside this file."),
    key_of(GROUP, "certificate", Kind::Text(Shape::Path), Otherwise { meaning: "none is shown", example: "\"certificates/device.pem\"" },
        "The gateway's certificate, where the server asks for one. It is read anew for each connection, as ca and key are."),
    key_of(GROUP, "key", Kind::Text(Shape::Path), Otherwise { meaning: "none; certificate needs one", example: "\"certificates/device.key\"" },
        "The key of the certificate."),
    streams::batch_delay(GROUP, "\"200ms\""),
    key_of(GROUP, "request_size_max", size(64 * KIB, 16 * MIB), Literal("\"1MiB\""),
        "The most lines that become rows by one statement; a longer line is kept as a dead letter."),
    key_of(GROUP, "held_size_max", size(256 * KIB, GIB), Literal("\"4MiB\""),
        "The most that is read from the store and not yet in the table, for each stream."),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

/// Inserts into tables of a database.
#[derive(Clone, Debug)]
pub struct PostgresTables {
    place: Place,
    password: Option<Secret>,
    security: Security,
    connect_timeout: Duration,
    request_timeout: Duration,
    delivery: DeliverySettings,
    /// Names of streams, each with its table; others are not sent.
    targets: BTreeMap<String, TableName>,
}

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let place = read_place(section);
    let password = section.text("password").and_then(|text| from_environment(section, "password", text));
    let targets = read_targets(section, surroundings);
    let security = read_security(section, surroundings, &place);
    let request_bytes_max = section.bytes("request_size_max");
    let delivery = DeliverySettings {
        grouping: Grouping::Lines,
        partition: Partition::Device,
        linger_us: section.duration("batch_delay").as_micros() as u64,
        age_us_max: None,
        record_bytes_soft: RECORD_BYTES,
        record_bytes_max: request_bytes_max,
        request_records_max: REQUEST_RECORDS_MAX,
        request_bytes_max,
        requests_in_flight_max: 1,
        held_bytes_max: section.bytes("held_size_max"),
        patience: Patience::default(),
    };
    let (connect_timeout, request_timeout) = (section.duration("connect_timeout"), section.duration("timeout"));
    Arc::new(PostgresTables { place, password, security, connect_timeout, request_timeout, delivery, targets })
}

/// Somewhere, if the section does not say where: then it is not started.
fn read_place(section: &mut Section<'_>) -> Place {
    for name in ["database", "dbname", "user", "username", "host", "port"] {
        section.refuse(name, "it is a part of url: postgres://USER@HOST:PORT/DATABASE");
    }
    let url = section.text("url");
    let place = url.map(|url| Place::parse(&url)).transpose();
    let place = place.unwrap_or_else(|problem| {
        section.blame("url", problem);
        None
    });
    place.unwrap_or_else(|| Place { user: String::new(), host: String::new(), port: 0, database: String::new() })
}

fn read_targets(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> BTreeMap<String, TableName> {
    let mut targets: BTreeMap<String, TableName> = BTreeMap::new();
    for (stream, text) in streams::targets_of_some(section, surroundings) {
        let key = if matches!(&*stream, "raw" | "anomalies") && section.has(&stream) { &*stream } else { "streams" };
        match TableName::parse(&text) {
            Err(problem) => section.blame(key, problem),
            Ok(table) => {
                // Positions are counted in each stream, so records of two may have the same identity.
                if let Some((other, _)) = targets.iter().find(|(_, other)| other.may_be(&table)) {
                    let text = format!("{stream} has the same table as {other}; each stream needs one of its own");
                    section.blame(key, text);
                }
                targets.insert(stream, table);
            }
        }
    }
    targets
}

fn read_security(section: &mut Section<'_>, surroundings: &Surroundings<'_>, place: &Place) -> Security {
    let files = tls_files::read(section, surroundings.beside);
    let words = [("disable", Mode::Disable), ("require", Mode::Require), ("verify-full", Mode::VerifyFull)];
    let is_local = place.is_loopback() && !files.is_any();
    let otherwise = if is_local { Mode::Disable } else { Mode::VerifyFull };
    match section.choice("sslmode", &words).unwrap_or(otherwise) {
        Mode::Disable => {
            if files.is_any() {
                section.blame("sslmode", "ca and certificate need TLS; set \"verify-full\"");
            }
            Security::Disabled
        }
        Mode::Require => {
            if files.ca.is_some() {
                section.blame(
                    "sslmode",
                    "the server's certificate is not looked at, so ca is not used; set \"verify-full\"",
                );
            }
            Security::Required(files)
        }
        Mode::VerifyFull => Security::Verified(files),
    }
}

#[derive(Clone, Copy)]
enum Mode {
    Disable,
    Require,
    VerifyFull,
}

impl PostgresTables {
    fn access(&self, gateway: &str, counts: Option<Arc<SocketBytes>>) -> Access {
        Access {
            place: self.place.clone(),
            application: format!("outrider-{gateway}"),
            password: self.password.clone(),
            security: self.security.clone(),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            counts,
        }
    }

    async fn probe_table(&self, access: &Access, stream: &str, table: &TableName) -> Vec<Finding> {
        let asked = format!("{stream} to the table {table}");
        let found = match look(access, stream, table).await {
            Ok((_, found)) => found,
            Err(outcome) => return vec![of_outcome(&asked, &outcome)],
        };
        let of_warning = |(text, remedy)| Finding::warning(format!("{asked}: {text}"), remedy);
        let warnings: Vec<Finding> = found.warnings().into_iter().map(of_warning).collect();
        if !warnings.is_empty() {
            return warnings;
        }
        let columns = many(found.insertion.columns.len() as u64, "column");
        vec![Finding::well(format!("{asked}: PostgreSQL {} answers; {columns} will be filled", found.server.version))]
    }
}

impl ConfiguredSink for PostgresTables {
    fn takes(&self, stream: &str) -> bool {
        self.targets.contains_key(stream)
    }

    fn describe(&self) -> String {
        let targets: Vec<String> =
            self.targets.iter().map(|(name, table)| format!("{name} to table {table}")).collect();
        let tls = match &self.security {
            Security::Disabled => "",
            Security::Required(_) | Security::Verified(_) => ", by TLS",
        };
        let Place { user, database, .. } = &self.place;
        format!("PostgreSQL at {}, database {database}, as {user}, {}{tls}", self.place, targets.join(", "))
    }

    fn notes(&self) -> Vec<String> {
        let of_way = match &self.security {
            Security::Disabled if !self.place.is_loopback() => {
                Some("what is sent to the database is readable by whoever is between; set sslmode = \"verify-full\"")
            }
            Security::Required(_) => Some(
                "sslmode = \"require\" does not look whose certificate the server shows, so somebody between may be the server; set \"verify-full\"",
            ),
            _ => None,
        };
        let Place { user, database, .. } = &self.place;
        let of_name =
            (user == database).then(|| format!("the database is called like the user, {user}: url names no other one"));
        of_way.map(str::to_owned).into_iter().chain(of_name).collect()
    }

    /// Positions are counted in each stream, so records of two may have the same identity.
    fn conflict(&self, other: &Neighbour<'_>, _: &Surroundings<'_>) -> Option<Conflict> {
        let theirs = other.of::<PostgresTables>()?;
        if !self.place.is_same_database(&theirs.place) {
            return None;
        }
        let pairs = self.targets.iter().flat_map(|ours| theirs.targets.iter().map(move |theirs| (ours, theirs)));
        let mut shared = pairs.filter(|((stream, table), (other, theirs))| stream != other && table.may_be(theirs));
        let ((stream, table), (their_stream, their_table)) = shared.next()?;
        let is_certain = table.schema == their_table.schema && table.schema.is_some();
        let two = if is_certain { "" } else { "; if these are two tables, write SCHEMA.NAME in both sections" };
        let text = format!(
            "writes {stream} to the table {table} at {}, database {}, and the sink {} writes {their_stream} there ({their_table}): \
             each stream counts its positions by itself, so rows of one would be taken for repeats of the other's, and be lost; \
             give each stream a table of its own{two}",
            self.place, self.place.database, other.name
        );
        let keys: &[&str] = match &**stream {
            "raw" => &["raw", "streams"],
            "anomalies" => &["anomalies", "streams"],
            _ => &["streams"],
        };
        Some(Conflict { keys, text })
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let (settings, gateway) = (self.clone(), starting.gateway_id().to_owned());
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let table = settings.targets.get(&*parts.stream_name).expect("only streams with a table are forwarded");
                let target = PostgresTarget {
                    sink: parts.sink.clone(),
                    stream: Arc::clone(&parts.stream_name),
                    table: table.clone(),
                    status: Arc::clone(&parts.status),
                };
                Rc::new(PostgresSink::new(settings.access(&gateway, parts.counts()), target))
            },
        )
    }

    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let mut findings = match &self.security {
                Security::Disabled => Vec::new(),
                Security::Required(files) | Security::Verified(files) => of_client_files(files),
            };
            let access = self.access(&probing.gateway_id, None);
            for (stream, table) in &self.targets {
                findings.extend(self.probe_table(&access, stream, table).await);
            }
            findings
        })
    }
}

//! InfluxDB as a kind of sink: its keys, how its section is read, and how it is started.

use std::rc::Rc;
use std::sync::Arc;

use super::InfluxSink;
use super::answer;
use super::points::{Form, Measurement, Precision, TAKEN};
use super::refusals::REFUSED_IN_A_ROW_MAX;
use super::server::{Harmless, Login, Place, Server};
use super::target::InfluxTarget;
use crate::core::delivery::{DeliverySettings, Outcome, Patience};
use crate::finding::Finding;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, milliseconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{KIB, MIB};
use crate::sinks::compression::Compression;
use crate::sinks::http::client::Question;
use crate::sinks::kind::{ConfiguredSink, Conflict, Neighbour, SinkKind, Surroundings};
use crate::sinks::network::{self, Counted};
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing, of_outcome};
use crate::sinks::secret::from_environment;
use crate::sinks::start::{SinkThread, StartError, Starting};

pub const NAME: &str = "influxdb";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "influxdb", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// Most records in one request; a record has lines of one device.
const REQUEST_RECORDS_MAX: usize = 500;
/// Most bytes of a record, unless one of its lines is longer.
const RECORD_BYTES: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 2 << 10;
/// The stream with the readings.
const RAW: &str = "raw";

/// Paths of the servers' APIs, which people copy from other programs; of two that fit, the longer one is first.
const WRITE_PATHS: [&str; 4] = ["/api/v2/write", "/api/v3/write_lp", "/api/v1/write", "/write"];
/// Words that a token is sent with.
const TOKEN_SCHEMES: [&str; 2] = ["Token ", "Bearer "];

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "server", Kind::Choice(Server::NAMES), Required { example: "\"influxdb2\"" },
        "What it is: InfluxDB 1.x, 2.x (and Cloud by its v2 API), 3.x, or VictoriaMetrics, which differ in where they are written to and in what they answer."),
    key_of(GROUP, "url", Kind::Text(Shape::SecretUrl), Required { example: "\"https://influx.example.com:8086\"" },
        "Where the server is; /write, /api/v2/write or /api/v3/write_lp comes behind it. A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    key_of(GROUP, "database", Kind::Text(Shape::Name),
        Otherwise { meaning: "none; InfluxDB 1 and 3 need one", example: "\"fleet\"" },
        "The database. For VictoriaMetrics it becomes the label db."),
    key_of(GROUP, "retention_policy", Kind::Text(Shape::Name),
        Otherwise { meaning: "the database's default", example: "\"autogen\"" },
        "The retention policy of an InfluxDB 1."),
    key_of(GROUP, "org", Kind::Text(Shape::Name),
        Otherwise { meaning: "none; InfluxDB 2 needs one", example: "\"example\"" },
        "The organisation of an InfluxDB 2, by name or id."),
    key_of(GROUP, "bucket", Kind::Text(Shape::Name),
        Otherwise { meaning: "none; InfluxDB 2 needs one", example: "\"fleet\"" },
        "The bucket of an InfluxDB 2, by name or id."),
    key_of(GROUP, "token", Kind::Text(Shape::Secret),
        Otherwise { meaning: "none", example: "\"0123456789abcdef\"" },
        "A token that may write; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "username", Kind::Text(Shape::Name),
        Otherwise { meaning: "none", example: "\"writer\"" },
        "The user of an InfluxDB 1 or of a proxy before VictoriaMetrics."),
    key_of(GROUP, "password", Kind::Text(Shape::Secret),
        Otherwise { meaning: "none", example: "\"secret\"" },
        "The password of the user; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "measurement", Kind::Text(Shape::Name), Literal("\"{metric}\""),
        "The measurement of readings, whose field is value. Where {metric} is not part of it, the metric becomes a tag."),
    key_of(GROUP, "tags", Kind::Texts { shape: Shape::Name, count_max: 16 }, Literal("[]"),
        "Attributes of readings that become tags, beside gateway and device. Each combination of values is a series of its own."),
    key_of(GROUP, "same_time", Kind::Choice(&["keep", "overwrite"]), Literal("\"keep\""),
        "What becomes of two readings of a series in one millisecond: each is kept, because nanoseconds that follow from its identity are added to its time; or the later one takes the place of the other, and times are whole milliseconds, alike for all metrics of a payload. VictoriaMetrics has milliseconds only, and keeps both."),
    key_of(GROUP, "streams", Kind::Texts { shape: Shape::LogStream, count_max: 32 },
        Otherwise { meaning: "every stream", example: "[\"raw\"]" },
        "The streams that are written, those of [[stream]] among them; raw has the readings, anomalies the anomalies, alerts and the gateway's own state. What has no numbers is passed over."),
    key_of(GROUP, "compression", Kind::Choice(&["none", "gzip"]), Literal("\"gzip\""),
        "How bodies are compressed."),
    key_of(GROUP, "batch_delay", milliseconds(0, 60_000), Literal("\"1s\""),
        "How long a stored reading waits for others to share its request. Anomalies and alerts never wait longer than 2ms."),
    key_of(GROUP, "request_size_max", size(4 * KIB, 16 * MIB), Literal("\"1MiB\""),
        "The most that a request holds, as records in JSON, which are about twice as large as points before they are compressed."),
    posting::requests_in_flight(GROUP),
    posting::held_size_max(GROUP, "\"2MiB\""),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"10s\""),
];

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    // As long as it is not known which one it is, nothing is known of what belongs to it.
    let known = section.choice("server", &Server::CHOICES);
    let server = known.unwrap_or(Server::Influx1);
    let place = place(section, server, known.is_some());
    let login = login(section, known);
    let streams = posting::streams(section, surroundings, "written");
    let form = form(section, server);
    let compressions = [("none", Compression::None), ("gzip", Compression::Gzip)];
    let delivery = posting::delivery(section, REQUEST_RECORDS_MAX, RECORD_BYTES);
    let patience = Patience { refused_in_a_row_max: REFUSED_IN_A_ROW_MAX, ..delivery.patience };
    Arc::new(InfluxTarget {
        place,
        login,
        form,
        streams,
        compression: section.choice("compression", &compressions).unwrap_or(Compression::None),
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        delivery: DeliverySettings { patience, ..delivery },
    })
}

fn place(section: &mut Section<'_>, server: Server, is_known: bool) -> Place {
    let url = section.text("url").unwrap_or_default();
    if url.contains(['@', '?', '#']) {
        section.blame("url", "names the server alone; logins and places have keys of their own");
    }
    if let Some(path) = WRITE_PATHS.iter().find(|path| url.trim_end_matches('/').ends_with(**path)) {
        section.blame(
            "url",
            format!("ends with {path}, and the path of its API comes behind url by itself; leave it away"),
        );
    }
    let (needed, allowed): (&[&str], &[&str]) = match server {
        Server::Influx1 => (&["database"], &["database", "retention_policy"]),
        Server::Influx2 => (&["org", "bucket"], &["org", "bucket"]),
        Server::Influx3 => (&["database"], &["database"]),
        Server::VictoriaMetrics => (&[], &["database"]),
    };
    let [database, retention_policy, org, bucket] = ["database", "retention_policy", "org", "bucket"].map(|key| {
        let name = section.text(key);
        if is_known && name.is_some() && !allowed.contains(&key) {
            section.blame(key, format!("{} has none; it has {}", server.title(), allowed.join(" and ")));
        }
        if name.is_none() && needed.contains(&key) && !section.has(key) && is_known {
            section.blame("server", format!("{} needs {key}", server.title()));
        }
        name
    });
    Place { server, url, database, retention_policy, org, bucket }
}

fn login(section: &mut Section<'_>, server: Option<Server>) -> Login {
    let token = section.text("token").and_then(|text| from_environment(section, "token", text));
    if token.as_ref().is_some_and(|token| TOKEN_SCHEMES.iter().any(|scheme| token.0.starts_with(scheme))) {
        section.blame("token", "the word Token or Bearer comes before it by itself; write the token alone");
    }
    let username = section.text("username");
    let password = section.text("password").and_then(|text| from_environment(section, "password", text));
    if let Some(server) = server.filter(|server| username.is_some() && server.knows_tokens_only()) {
        section.blame("username", format!("{} knows tokens only", server.title()));
    }
    if section.has("token") && section.has("username") {
        section.blame("token", "there is a username as well; one of them has to go");
    }
    if section.has("username") != section.has("password") {
        let key = if section.has("username") { "username" } else { "password" };
        section.blame(key, "username and password go together");
    }
    match (token, username, password) {
        (Some(token), None, None) => Login::Token(token),
        (None, Some(name), Some(password)) => Login::User { name, password },
        _ => Login::None,
    }
}

fn form(section: &mut Section<'_>, server: Server) -> Form {
    let text = section.text("measurement").unwrap_or_else(|| "{metric}".to_owned());
    let measurement = Measurement::parse(&text).unwrap_or_else(|| {
        section.blame("measurement", "only {metric} can be filled in, and only once");
        Measurement::parse("{metric}").expect("the default is right")
    });
    let tags = section.texts("tags");
    for name in &tags {
        if TAKEN.contains(&name.as_str()) || name.starts_with('_') {
            section.blame("tags", format!("{name} is the name of something else in a point"));
        }
    }
    if let Some((_, name)) = tags.iter().enumerate().find(|(at, name)| tags[..*at].contains(name)) {
        section.blame("tags", format!("{name} is there twice"));
    }
    let keeps = section.choice("same_time", &[("keep", true), ("overwrite", false)]).unwrap_or(true);
    let precision = match (server.has_nanoseconds(), keeps) {
        (false, _) => Precision::Milliseconds,
        (true, true) => Precision::Nanoseconds,
        (true, false) => Precision::WholeMilliseconds,
    };
    Form { measurement, tags, precision, has_texts: server.has_texts() }
}

/// Of VictoriaMetrics, whose answer says nothing.
const NO_PROOF: &str = "VictoriaMetrics answers 204 whatever it does with a point, and before it is stored: older ones than its -retentionPeriod (a month, unless it is set) are dropped, \
                        and counted as delivered here; its vm_rows_ignored_total and vm_rows_invalid_total tell";
/// Of InfluxDB Cloud on its older engine.
const QUEUED: &str = "InfluxDB Cloud may answer 204 when it has queued a point, and refuse it afterwards, because of its age or a field's type: such a point counts as delivered here; its bucket _monitoring tells";
const REPEATS: &str =
    "VictoriaMetrics keeps a point that is sent again beside the first, unless it has -dedup.minScrapeInterval=1ms";

impl ConfiguredSink for InfluxTarget {
    fn takes(&self, stream: &str) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.iter().any(|name| name == stream))
    }

    fn describe(&self) -> String {
        let what = self.streams.as_ref().map_or("every stream".to_owned(), |streams| streams.join(", "));
        format!("{what} written to {}", self.place.describe())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.place.server == Server::VictoriaMetrics {
            notes.extend([NO_PROOF.to_owned(), REPEATS.to_owned()]);
        }
        if self.place.is_cloud() {
            notes.push(QUEUED.to_owned());
        }
        if self.place.server.knows_tokens_only() && self.login == Login::None {
            notes.push(format!(
                "there is no token: {} takes nothing, unless it asks for none",
                self.place.server.title()
            ));
        }
        if self.is_plain() && self.login != Login::None && !network::is_here(&self.place.url) {
            notes.push(format!("{} is not encrypted: whoever listens learns the login", self.place.url));
        }
        notes
    }

    /// A reading is the same point in two sections, unless its time is whole in one of them and not in the other, or two readings are one series in one of them.
    fn conflict(&self, other: &Neighbour<'_>, _: &Surroundings<'_>) -> Option<Conflict> {
        let theirs = other.of::<InfluxTarget>()?;
        let is_overwriting = |target: &InfluxTarget| target.form.precision == Precision::WholeMilliseconds;
        let is_same_form = self.form == theirs.form;
        if is_same_form || !(is_overwriting(self) || is_overwriting(theirs)) {
            return None;
        }
        // Records of other streams have series of their own, which neither measurement nor tags change.
        let has_readings = self.takes(RAW) && theirs.takes(RAW);
        (has_readings && self.place.is_same(&theirs.place)).then(|| Conflict {
            keys: &["same_time", "measurement", "tags", "url"],
            text: format!(
                "writes readings to the place that the sink {} writes them to, by other settings, and with same_time = \"overwrite\" those of one would take the \
                 place of the other's; let measurement, tags and same_time be the same in both, or let one of them have streams without {RAW}",
                other.name
            ),
        })
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let target = self.clone();
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &self.delivery,
            move |parts| {
                let network = network.get_or_insert_with(|| network::connector(target.connect_timeout, parts.counts()));
                let connector = Counted::connector(network.clone(), &parts.status);
                Rc::new(InfluxSink::new(target.client(connector), &target))
            },
        )
    }

    fn probe<'a>(&'a self, _: &'a Probing) -> Probe<'a> {
        Box::pin(async {
            let network = network::connector(self.connect_timeout, None);
            let (harmless, path) = self.place.harmless();
            // Some refuse a request that is to write and does not say how much.
            let empty = [("content-type", super::CONTENT_TYPE.to_owned()), ("content-length", "0".to_owned())];
            let (method, headers): (_, &[_]) = match harmless {
                Harmless::Query => ("GET", &[]),
                Harmless::WriteNothing => ("POST", &empty),
            };
            let question = Question {
                method,
                path: &path,
                headers,
                encoding: None,
                body: Vec::new(),
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            let asked = format!("{} at {}", self.place.server.title(), self.place.url);
            let answer = match self.client(network).ask(question).await {
                Ok(answered) => answered.shown,
                Err(outcome) => return vec![of_outcome(&asked, &outcome)],
            };
            vec![match (harmless, answer.status) {
                // A query may need another right than a write.
                (Harmless::Query, 403) => Finding::warning(
                    format!("{asked}: it does not let a query in (403), and may not let a write in"),
                    "look at the token of the [[sink]]",
                ),
                (Harmless::Query, 404) => {
                    Finding::well(format!("{asked}: it lets us in; the database is made by the first write"))
                }
                (Harmless::Query, 200..=299) => Finding::well(format!("{asked}: it lets us in")),
                _ => match answer::of_nothing(answer) {
                    Outcome::Accepted { .. } | Outcome::Reject(_) => Finding::well(format!("{asked}: it lets us in")),
                    outcome => of_outcome(&asked, &outcome),
                },
            }]
        })
    }
}

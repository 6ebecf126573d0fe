//! OpenSearch as a kind of sink: its keys, how its section is read, and how it is started.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::client::Login;
use super::index::IndexTemplate;
use super::target::OpenSearchCluster;
use super::{OpenSearchSink, probe};
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::section::Section;
use crate::keys::units::{KIB, MIB};
use crate::sinks::address;
use crate::sinks::aws::AwsConnection;
use crate::sinks::compression::Compression;
use crate::sinks::kind::{ConfiguredSink, SinkKind, Surroundings};
use crate::sinks::network::{self, Counted};
use crate::sinks::posting;
use crate::sinks::probe::{Probe, Probing};
use crate::sinks::secret::from_environment;
use crate::sinks::start::{SinkThread, StartError, Starting};
use crate::tls;

pub const NAME: &str = "opensearch";

pub static KIND: SinkKind = SinkKind { name: NAME, example: "search", sends_records: true, keys: KEYS, read };

const GROUP: Group = Group::SinkOf(NAME);

/// Most devices whose records share a request.
const REQUEST_RECORDS_MAX: usize = 500;
/// Long enough that a few devices fill a request, and short enough to look for one line in it.
const RECORD_BYTES: usize = 256 << 10;
/// Bodies with zstd are not offered: OpenSearch 2.19 without its library ends when it gets one.
const COMPRESSIONS: [(&str, Compression); 2] = [("gzip", Compression::Gzip), ("none", Compression::None)];

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(GROUP, "url", Kind::Text(Shape::Endpoint), Required { example: "\"https://search.example.com:9200\"" },
        "Where the cluster is, OpenSearch or Elasticsearch from 7.10 on. A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    key_of(GROUP, "index", Kind::Text(Shape::Name), Literal("\"outrider-{stream}-%Y.%m.%d\""),
        "The index, alias or data stream of each record; {gateway} and {stream} are filled in, and %Y, %m, %d and %H of its receipt (UTC). What a gateway's id has beyond a-z, 0-9, -, _, . and + becomes a -."),
    key_of(GROUP, "streams", Kind::Texts { shape: Shape::LogStream, count_max: 32 },
        Otherwise { meaning: "every stream", example: "[\"raw\"]" },
        "The streams that are sent, those of [[stream]] among them; raw has the readings, anomalies the anomalies, alerts and the gateway's own state."),
    key_of(GROUP, "username", Kind::Text(Shape::Name), Otherwise { meaning: "no login", example: "\"gateway\"" },
        "Who logs in."),
    key_of(GROUP, "password", Kind::Text(Shape::Secret), Otherwise { meaning: "none; username needs one", example: "\"correct horse\"" },
        "The password; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "api_key", Kind::Text(Shape::Secret), Otherwise { meaning: "none", example: "\"env:ELASTIC_API_KEY\"" },
        "An API key of Elasticsearch in its encoded form, instead of a login; \"env:NAME\" takes it from an environment variable."),
    key_of(GROUP, "aws_region", Kind::Text(Shape::Region), Otherwise { meaning: "requests are not signed", example: "\"eu-central-1\"" },
        "Sign requests with AWS credentials, as sinks to services of AWS do, for a domain in this region."),
    key_of(GROUP, "aws_service", Kind::Choice(&["es", "aoss"]), Literal("\"es\""),
        "With aws_region: a domain of the OpenSearch Service, or a collection of OpenSearch Serverless, which has to be one for search."),
    key_of(GROUP, "ca", Kind::Text(Shape::Path), Otherwise { meaning: "the CAs that the system trusts", example: "\"certificates/ca.pem\"" },
        "The CAs that the cluster's certificate is of. A relative path is beside this file; it is read anew for each connection."),
    key_of(GROUP, "compression", Kind::Choice(&["gzip", "none"]), Literal("\"gzip\""),
        "How bodies are compressed."),
    posting::batch_delay(GROUP, "\"1s\""),
    key_of(GROUP, "request_size_max", size(256 * KIB, 64 * MIB), Literal("\"5MiB\""),
        "The largest body, before it is compressed, with what is added to each record. Domains of AWS take 10MiB or 100MiB, by their size; others 100MB."),
    posting::requests_in_flight(GROUP),
    posting::held_size_max(GROUP, "\"4MiB\""),
    posting::connect_timeout(GROUP),
    posting::timeout(GROUP, "\"30s\""),
];

fn read(section: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Arc<dyn ConfiguredSink> {
    let url = section.text("url").unwrap_or_default();
    if address::holds_login(&url) {
        section.blame("url", "holds a login, which would be shown; use username and password");
    } else if url.contains(['?', '#']) {
        section.blame("url", "goes on behind the path; only scheme, host, port and path are used");
    } else if url.trim_end_matches('/').ends_with("/_bulk") {
        section.blame("url", "ends with /_bulk, which comes behind url by itself; leave it away");
    }
    let text = section.text("index").unwrap_or_default();
    let index = IndexTemplate::parse(&text).unwrap_or_else(|problem| {
        section.blame("index", problem);
        IndexTemplate::parse("outrider").expect("a name without places")
    });
    let streams = posting::streams(section, surroundings, "sent");
    let delivery = posting::delivery(section, REQUEST_RECORDS_MAX, RECORD_BYTES);
    Arc::new(OpenSearchCluster {
        login: read_login(section, surroundings, &url),
        ca: read_ca(section, surroundings, &url),
        url,
        index,
        streams,
        compression: section.choice("compression", &COMPRESSIONS).unwrap_or(Compression::Gzip),
        connect_timeout: section.duration("connect_timeout"),
        request_timeout: section.duration("timeout"),
        request_bytes_max: delivery.request_bytes_max,
        delivery,
    })
}

fn read_login(section: &mut Section<'_>, surroundings: &Surroundings<'_>, url: &str) -> Login {
    let username = section.text("username");
    let [password, api_key] =
        ["password", "api_key"].map(|name| section.text(name).and_then(|text| from_environment(section, name, text)));
    let region = section.text("aws_region");
    let service = section.choice("aws_service", &[("es", "es"), ("aoss", "aoss")]).unwrap_or("es");
    for (name, other) in [("username", "password"), ("password", "username")] {
        if section.has(name) && !section.has(other) {
            section.blame(name, format!("needs {other}, too"));
        }
    }
    let ways: Vec<&str> = ["username", "api_key", "aws_region"].into_iter().filter(|name| section.has(name)).collect();
    if let [_, second, ..] = ways[..] {
        section.blame(second, format!("{} are ways to log in, of which there is one", ways.join(" and ")));
    }
    if username.as_ref().is_some_and(|name| name.contains(':')) {
        section.blame("username", "must not hold a colon, which ends it where it is sent");
    }
    if service != "es" && region.is_none() {
        section.blame("aws_service", "is not used; set aws_region, too");
    }
    if region.is_some() && url.starts_with("http://") && !network::is_here(url) {
        section.blame("aws_region", "AWS is spoken to by https:// only");
    }
    match (username, password, api_key, region) {
        (Some(username), Some(password), ..) => Login::Basic { username, password },
        (_, _, Some(key), _) => Login::ApiKey(key),
        (_, _, _, Some(region)) => Login::Aws {
            service,
            connection: AwsConnection {
                region: Some(region),
                endpoint: Some(url.to_owned()),
                connect_timeout: section.duration("connect_timeout"),
                request_timeout: section.duration("timeout"),
                role_alias: surroundings.role_alias.clone(),
            },
        },
        _ => Login::None,
    }
}

fn read_ca(section: &mut Section<'_>, surroundings: &Surroundings<'_>, url: &str) -> Option<PathBuf> {
    let ca = section.path("ca").map(|path| surroundings.beside.join(path))?;
    if url.starts_with("http://") {
        section.blame("ca", "is not used without TLS; url begins with http://");
    } else if section.has("aws_region") {
        section.blame("ca", "AWS has certificates of CAs that the system trusts; leave this away");
    } else if let Err(problem) = tls::roots_of_file(&ca) {
        section.blame("ca", problem.to_string());
    }
    Some(ca)
}

impl ConfiguredSink for OpenSearchCluster {
    fn takes(&self, stream: &str) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.iter().any(|name| name == stream))
    }

    fn describe(&self) -> String {
        let streams = match &self.streams {
            None => "every stream".to_owned(),
            Some(streams) => streams.join(", "),
        };
        let login = match &self.login {
            Login::None => String::new(),
            Login::Basic { username, .. } => format!(", as {username}"),
            Login::ApiKey(_) => ", with an API key".to_owned(),
            Login::Aws { service, connection } => {
                let region = connection.region.as_deref().unwrap_or_default();
                format!(", signed for {service} in {region}{}", connection.describe_credentials())
            }
        };
        format!("{streams} to indices {} of OpenSearch or Elasticsearch at {}{login}", self.index.as_text(), self.url)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.url.starts_with("http://") && !network::is_here(&self.url) {
            notes.push(match self.login {
                Login::None => "records are sent unencrypted, and whoever is between can read and change them; let url begin with https://".to_owned(),
                _ => "records and the login are sent unencrypted, and readable by whoever is between; let url begin with https://".to_owned(),
            });
        }
        if !self.index.is_by_time() {
            notes.push(format!(
                "the index {} has no %Y and %m in its name: what is old has to be deleted by other means, and if it is an alias or a data stream \
                 that rolls over, a record that comes again after a rollover is there twice",
                self.index.as_text()
            ));
        }
        if !self.index.is_by_stream() && self.streams.as_ref().is_none_or(|streams| streams.len() > 1) {
            notes.push(format!(
                "several streams share the index {}, so what rules write needs fields of the same types as readings have; put {{stream}} into it",
                self.index.as_text()
            ));
        }
        if let Login::Aws { connection, .. } = &self.login {
            notes.extend(connection.notes());
        }
        notes
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError> {
        let settings = self.clone();
        let delivery = self.delivery(starting.gateway_id());
        // All streams share the connections.
        let mut network = None;
        starting.forward(
            |stream| self.takes(stream),
            &delivery,
            move |parts| {
                let network = network.get_or_insert_with(|| settings.connector(parts.counts())).clone();
                let client = settings.client(Counted::connector(network, &parts.status));
                Rc::new(OpenSearchSink::new(&settings, client, &parts.stream_name))
            },
        )
    }

    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a> {
        Box::pin(probe::cluster(self, &probing.gateway_id))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::host::Host;
    use crate::config::{Configuration, Sources};

    fn read(keys: &str) -> Result<Configuration, String> {
        let text = format!("store.path = '/s'\n[[sink]]\nname = 'search'\ntype = 'opensearch'\n{keys}");
        Configuration::parse(Path::new("f"), &text, &Sources::default(), &Host::read())
            .map_err(|problems| problems.to_string())
    }

    fn sink(keys: &str) -> Arc<dyn ConfiguredSink> {
        Arc::clone(&read(keys).expect("right").sinks[0].sink)
    }

    #[test]
    fn an_address_is_enough_and_streams_can_be_chosen() {
        let all = sink("url = 'https://search:9200'\n");
        assert!(all.takes("raw") && all.takes("anomalies") && all.takes("trips"));
        assert_eq!(
            all.describe(),
            "every stream to indices outrider-{stream}-%Y.%m.%d of OpenSearch or Elasticsearch at https://search:9200"
        );
        assert_eq!(all.notes(), Vec::<String>::new());
        let some =
            sink("url = 'https://search/x/'\nstreams = ['raw']\nindex = 'logs'\nusername = 'u'\npassword = 'hidden'\n");
        assert!(some.takes("raw") && !some.takes("anomalies"));
        assert!(some.describe().starts_with("raw to indices logs of ") && some.describe().ends_with(", as u"));
        assert!(!format!("{some:?}").contains("hidden"), "{some:?}");
        let signed = sink("url = 'https://search'\naws_region = 'eu-central-1'\naws_service = 'aoss'\n");
        assert!(signed.describe().ends_with(", signed for aoss in eu-central-1"), "{}", signed.describe());
    }

    #[test]
    fn what_may_surprise_is_noted() {
        for (keys, words) in [
            ("url = 'http://search:9200'\n", "records are sent unencrypted, and whoever"),
            ("url = 'http://search:9200'\napi_key = 'x'\n", "records and the login are sent unencrypted"),
            (
                "url = 'https://search'\nindex = 'a-{stream}'\n",
                "a record that comes again after a rollover is there twice",
            ),
            ("url = 'https://search'\nindex = 'a-%Y.%m'\n", "put {stream} into it"),
        ] {
            let notes = sink(keys).notes();
            assert!(notes.len() == 1 && notes[0].contains(words), "{keys}: {notes:?}");
        }
        for keys in [
            "url = 'http://127.0.0.1:9200'\nusername = 'u'\npassword = 'p'\n",
            "url = 'https://search'\nindex = 'a-%Y.%m'\nstreams = ['raw']\n",
        ] {
            assert_eq!(sink(keys).notes(), Vec::<String>::new(), "{keys}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (keys, problem) in [
            ("", "`url` is missing"),
            ("url = 'search:9200'\n", "starts with http"),
            ("url = 'https://u:p@search'\n", "holds a login, which would be shown"),
            ("url = 'https://search/?x=1'\n", "goes on behind the path"),
            ("url = 'https://search'\nindex = 'Raw'\n", "has to begin with a letter of a-z"),
            ("url = 'https://search'\nstreams = []\n", "names no stream"),
            ("url = 'https://search'\nstreams = ['trips']\n", "there is no stream trips"),
            ("url = 'https://search'\nusername = 'u'\n", "needs password, too"),
            ("url = 'https://search'\npassword = 'p'\n", "needs username, too"),
            ("url = 'https://search'\nusername = 'a:b'\npassword = 'p'\n", "must not hold a colon"),
            ("url = 'https://search'\npassword = 'env:NOT_SET_HERE'\nusername = 'u'\n", "NOT_SET_HERE is not set"),
            ("url = 'https://search'\napi_key = 'x'\naws_region = 'eu-west-1'\n", "of which there is one"),
            ("url = 'https://search'\naws_service = 'aoss'\n", "set aws_region, too"),
            ("url = 'http://search'\naws_region = 'eu-west-1'\n", "by https:// only"),
            ("url = 'https://search'\nca = '/none/ca.pem'\n", "/none/ca.pem: cannot be read"),
            ("url = 'http://search'\nca = '/none/ca.pem'\n", "is not used without TLS"),
            ("url = 'https://search'\naws_region = 'eu-west-1'\nca = '/none/ca.pem'\n", "leave this away"),
            ("url = 'https://search'\ncompression = 'zstd'\n", "one of \"gzip\", \"none\""),
        ] {
            let said = read(keys).expect_err(keys);
            assert!(said.contains(problem), "{keys}: {said}");
        }
    }

    fn cluster(keys: &str) -> OpenSearchCluster {
        let settings = sink(keys);
        (&*settings as &dyn std::any::Any).downcast_ref::<OpenSearchCluster>().expect("of this kind").clone()
    }

    /// The body of a request is bounded with what is added to its records.
    #[test]
    fn requests_leave_room_for_what_is_added() {
        let delivery = cluster("url = 'https://search'\nrequest_size_max = '256KiB'\n").delivery("truck-0042");
        assert!((64 << 10..128 << 10).contains(&delivery.request_bytes_max), "{}", delivery.request_bytes_max);
        assert!(delivery.record_bytes_soft <= delivery.request_bytes_max / 2);
        // A packet of 256 KiB is a third longer as base64.
        let delivery = cluster("url = 'https://search'\nrequest_size_max = '1MiB'\n").delivery("truck-0042");
        assert!((600 << 10..1 << 20).contains(&delivery.record_bytes_max), "{}", delivery.record_bytes_max);
    }

    /// The cluster gives up waiting for a shard before we give up waiting for the cluster.
    #[test]
    fn the_cluster_is_told_how_long_it_may_wait() {
        let path = |keys: &str| cluster(&format!("url = 'https://search'\n{keys}")).bulk_path();
        assert!(path("").ends_with("&timeout=15000ms"), "{}", path(""));
        assert!(path("timeout = '1s'\n").ends_with("&timeout=500ms"));
        let signed = "aws_region = 'eu-west-1'\naws_service = ";
        assert!(path(&format!("{signed}'es'\n")).ends_with("&timeout=15000ms"));
        assert!(!path(&format!("{signed}'aoss'\n")).contains("timeout"));
    }
}

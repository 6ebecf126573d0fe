//! The `opensearch` sink against a cluster that is not ours: a small and strict server built on Python's standard library.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::client::Client;
use crate::fake::Fake;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::{DEVICES, Fleet};

const STREAMS: [&str; 2] = ["raw", "anomalies"];

struct Cluster(Fake);

impl Cluster {
    fn start(login: &[&str]) -> Cluster {
        Cluster::start_with(login, &[])
    }

    fn start_with(login: &[&str], environment: &[(&str, &str)]) -> Cluster {
        Cluster(Fake::start_with("opensearch/cluster.py", login, environment))
    }

    /// Documents by their ids, in the indices of this stream.
    fn documents(&self, stream: &str) -> BTreeMap<String, Value> {
        let prefix = format!("outrider-{stream}-");
        let of_stream = |entry: &Value| entry[0].as_str().unwrap().starts_with(&prefix);
        let entry = |entry: Value| (entry[1].as_str().unwrap().to_owned(), entry[2].clone());
        self.get("/docs").into_iter().filter(of_stream).map(entry).collect()
    }

    fn seen(&self) -> Vec<Value> {
        self.get("/seen")
    }

    /// How many documents were sent although the cluster had them.
    fn known(&self) -> u64 {
        self.seen().iter().map(|request| request["known"].as_u64().unwrap()).sum()
    }

    fn start_gateway(&self, folder: &Path, keys: &str) -> Gateway {
        self.start_gateway_by("http", folder, keys)
    }

    fn start_gateway_by(&self, scheme: &str, folder: &Path, keys: &str) -> Gateway {
        let address = self.address;
        let config = format!(
            "[[sink]]\nname = 'search'\ntype = 'opensearch'\nurl = '{scheme}://{address}'\ntimeout = '2s'\nbatch_delay = '20ms'\n{keys}\n"
        );
        let environment = [
            ("SEARCH_SECRET", "hidden-secret"),
            ("NO_PROXY", "*"),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "hidden-secret"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        Gateway::start_configured(folder, &config, &[], &environment)
    }
}

impl Deref for Cluster {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Fake {
        &mut self.0
    }
}

fn sink<'a>(status: &'a Value, stream: &str) -> &'a Value {
    status["sinks"].as_array().unwrap().iter().find(|sink| sink["stream"] == stream).unwrap()
}

fn wait_for_delivery(gateway: &Gateway) {
    wait_until("everything is delivered", || {
        let status = gateway.status();
        STREAMS.iter().all(|stream| ledger_line(&status, "search", stream)["buffered"] == 0)
    });
}

fn wait_for_error(gateway: &Gateway, stream: &str, words: &str) {
    wait_until(words, || {
        sink(&gateway.status(), stream)["last_error"].as_str().is_some_and(|error| error.contains(words))
    });
}

/// What arrived of a stream is what the ledger counts as delivered.
fn count_fault(cluster: &Cluster, status: &Value, stream: &str) -> Option<String> {
    let (there, line) = (cluster.documents(stream).len(), ledger_line(status, "search", stream));
    (line["delivered"] != there).then(|| format!("{there} documents of {stream} are there: {line}"))
}

/// What arrived is what the ledger counts as delivered, each reading of the fleet is there once, and all of the cluster's requests were right.
fn fault(cluster: &Cluster, gateway: &Gateway, fleet: &Fleet) -> Option<String> {
    let status = gateway.status();
    for stream in STREAMS {
        if let Some(fault) = count_fault(cluster, &status, stream) {
            return Some(fault);
        }
    }
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (id, document) in cluster.documents("raw") {
        let identity = ["gateway", "run"].map(|name| document[name].as_str().unwrap()).join(".");
        if id != format!("{identity}.raw.{}", document["position"]) {
            return Some(format!("{id} is not the identity of {document}"));
        }
        let device = document["device"].as_str().unwrap().to_owned();
        if let (true, Some(seq)) = (device.starts_with('d'), document["seq"].as_u64()) {
            numbers.entry(device).or_default().push(seq);
        }
    }
    numbers.values_mut().for_each(|numbers| numbers.sort_unstable());
    let all: Vec<u64> = (1..=fleet.published_by_each()).collect();
    if numbers.len() as u64 != DEVICES || numbers.values().any(|numbers| *numbers != all) {
        return Some(format!("not all {} of each device, once: {numbers:?}", all.len()));
    }
    cluster.seen().iter().find(|request| request["wrong"].is_string()).map(|request| request["wrong"].to_string())
}

fn expect_all(cluster: &Cluster, gateway: &Gateway, fleet: &Fleet) {
    wait_for_delivery(gateway);
    assert_eq!(fault(cluster, gateway, fleet), None);
}

fn dead_letters(folder: &Path) -> Vec<(String, String)> {
    let store: PathBuf = outrider::store::schema::store_path(&folder.join("state"));
    let db = outrider::store::schema::open_reader(&store, None).unwrap();
    let mut query = db.prepare("SELECT reason, CAST(line AS TEXT) FROM dead_letter").unwrap();
    let letters = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    letters.map(Result::unwrap).collect()
}

#[test]
fn one_that_is_refused_among_many_is_a_dead_letter_and_nothing_is_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    cluster.order("blocked", 1);
    let gateway = cluster.start_gateway(folder.path(), "");
    fleet.publish(gateway.mqtt, 30);
    let mut device = Client::connect(gateway.mqtt, "device");
    for number in 1..=3 {
        device.publish("devices/poisoned/temperature", format!("{{\"value\":{number},\"note\":\"fine\"}}"));
    }
    device.publish("devices/poisoned/temperature", r#"{"value":20.5,"note":"POISON"}"#);
    fleet.publish(gateway.mqtt, 30);
    // A block is waited out, and said.
    wait_for_error(&gateway, "raw", "cluster_block_exception: index [outrider-raw-");
    assert_eq!(sink(&gateway.status(), "raw")["records_rejected"], 0);
    cluster.order("blocked", 0);
    expect_all(&cluster, &gateway, &fleet);
    let status = gateway.status();
    assert_eq!(ledger_line(&status, "search", "raw")["dead_lettered"], 1);
    assert_eq!(status["ledger_adds_up"], true, "{status}");
    let letters = dead_letters(folder.path());
    let [(reason, line)] = &letters[..] else { panic!("{letters:?}") };
    assert!(reason.starts_with("mapper_parsing_exception: failed to parse field [attributes.note]"), "{reason}");
    assert!(!reason.contains("POISON") && line.contains("POISON"), "{reason} {line}");
    assert_eq!(cluster.known(), 0);
    let of_poisoned = cluster.documents("raw").values().filter(|document| document["device"] == "poisoned").count();
    assert_eq!(of_poisoned, 3);
}

#[test]
fn only_what_waits_is_sent_again_and_answers_that_say_nothing_count_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&["basic", "gateway", "hidden-secret"]), Fleet::default());
    let gateway = cluster.start_gateway(
        folder.path(),
        "username = 'gateway'\npassword = 'env:SEARCH_SECRET'\nrequest_size_max = '256KiB'",
    );
    fleet.publish(gateway.mqtt, 10);
    expect_all(&cluster, &gateway, &fleet);
    for _ in 0..5 {
        cluster.order("throttle", 1);
        fleet.publish(gateway.mqtt, 20);
    }
    expect_all(&cluster, &gateway, &fleet);
    assert_eq!(cluster.known(), 0, "what was stored beside something that waits is not sent again");
    for fault in ["foreign", "html", "page", "503", "429", "short", "cut", "swapped", "lost", "hang"] {
        cluster.order(fault, 1);
        fleet.publish(gateway.mqtt, 10);
        wait_until(fault, || cluster.seen().iter().any(|request| request["fault"] == fault));
    }
    expect_all(&cluster, &gateway, &fleet);
    assert!(cluster.known() > 0, "what was stored and not answered for is known by its id");
    let status = gateway.status();
    for stream in STREAMS {
        assert_eq!(ledger_line(&status, "search", stream)["dead_lettered"], 0);
    }
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("hidden-secret"), "{log}");
}

/// The control: a document is taken away, so the ledger has one more than is there; and a fleet that has sent nothing is not mistaken for one
/// that has.
#[test]
fn what_is_missing_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    let gateway = cluster.start_gateway(folder.path(), "");
    fleet.publish(gateway.mqtt, 5);
    expect_all(&cluster, &gateway, &fleet);
    assert!(fault(&cluster, &gateway, &Fleet::default()).is_some_and(|fault| fault.starts_with("not all")));
    let there = cluster.documents("raw").len() - 1;
    cluster.order("forget", 1);
    let found = fault(&cluster, &gateway, &fleet);
    assert!(found.as_ref().is_some_and(|fault| fault.starts_with(&format!("{there} documents"))), "{found:?}");
}

/// A shard that is not there holds up nothing but what goes to it.
#[test]
fn a_shard_that_is_not_there_holds_up_its_documents_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    cluster.order("red", 1);
    let gateway = cluster.start_gateway(folder.path(), "streams = ['raw']\nrequests_in_flight = 1");
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/lost/temperature", r#"{"value":20.5,"note":"RED"}"#);
    fleet.publish(gateway.mqtt, 10);
    wait_until("the others", || ledger_line(&gateway.status(), "search", "raw")["delivered"] == fleet.published());
    assert_eq!(ledger_line(&gateway.status(), "search", "raw")["buffered"], 1);
    cluster.order("red", 0);
    wait_until("all", || ledger_line(&gateway.status(), "search", "raw")["buffered"] == 0);
    assert_eq!(cluster.documents("raw").len() as u64, fleet.published() + 1);
    assert_eq!(ledger_line(&gateway.status(), "search", "raw")["dead_lettered"], 0);
}

/// A mapping that was guessed of one odd document takes a few, and must not cost the others.
#[test]
fn a_mapping_that_fits_few_costs_no_more_than_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    cluster.order("blocked", 1);
    let gateway = cluster.start_gateway(folder.path(), "streams = ['raw']");
    fleet.publish(gateway.mqtt, 1 + 1000 / DEVICES);
    wait_for_error(&gateway, "raw", "cluster_block_exception");
    cluster.order("most", 1);
    cluster.order("blocked", 0);
    wait_for_error(&gateway, "raw", "it is not the fault of single ones: mapper_parsing_exception");
    let status = gateway.status();
    let line = ledger_line(&status, "search", "raw");
    let count = |name: &str| line[name].as_u64().unwrap();
    assert!(count("dead_lettered") <= 100 + count("delivered") && count("buffered") >= 500, "{line}");
    cluster.order("most", 0);
    wait_until("the rest is delivered", || ledger_line(&gateway.status(), "search", "raw")["buffered"] == 0);
    let status = gateway.status();
    let line = ledger_line(&status, "search", "raw");
    assert_eq!(line["delivered"], cluster.documents("raw").len(), "{line}");
    assert_eq!(gateway.status()["ledger_adds_up"], true);
}

/// OpenSearch Serverless refuses without a code that AWS has elsewhere.
#[test]
fn a_clock_that_is_off_is_corrected_by_what_the_service_says() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) =
        (Cluster::start(&["aws", "eu-central-1", "aoss", "AKIATEST", "hidden-secret"]), Fleet::default());
    cluster.order("ahead", 3600);
    let gateway = cluster.start_gateway(folder.path(), "aws_region = 'eu-central-1'\naws_service = 'aoss'");
    fleet.publish(gateway.mqtt, 10);
    expect_all(&cluster, &gateway, &fleet);
    assert!(cluster.seen().iter().any(|request| request["fault"] == "late"));
}

#[test]
fn kills_and_lost_answers_leave_each_document_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&["key", "hidden-secret"]), Fleet::default());
    let keys = "api_key = 'env:SEARCH_SECRET'\nrequest_size_max = '256KiB'\ncompression = 'none'";
    for _ in 0..3 {
        let gateway = cluster.start_gateway(folder.path(), keys);
        let before = cluster.seen().len();
        cluster.order("lost", 1);
        fleet.publish(gateway.mqtt, 60);
        wait_until("some requests", || cluster.seen().len() > before + 2);
        gateway.kill();
    }
    let gateway = cluster.start_gateway(folder.path(), keys);
    expect_all(&cluster, &gateway, &fleet);
    assert!(cluster.known() > 0);
    // No body is larger than allowed, with all that is added to records.
    assert!(cluster.seen().iter().all(|request| request["bytes"].as_u64() <= Some(256 << 10)));
}

#[test]
fn a_body_that_is_too_large_for_something_on_the_way_is_halved() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    cluster.order("body_max", 20 << 10);
    let gateway = cluster.start_gateway(folder.path(), "");
    fleet.publish(gateway.mqtt, 40);
    expect_all(&cluster, &gateway, &fleet);
    assert!(cluster.seen().iter().any(|request| request["fault"] == "413"));
}

/// A mapping that fits nothing costs some dead letters, and not the backlog.
#[test]
fn a_mapping_that_fits_nothing_halts_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, mut fleet) = (Cluster::start(&[]), Fleet::default());
    cluster.order("refuse_all", 1);
    let gateway = cluster.start_gateway(folder.path(), "streams = ['raw']\nrequests_in_flight = 1");
    fleet.publish(gateway.mqtt, 20);
    wait_for_error(&gateway, "raw", "so it is not the fault of single ones");
    let dead = ledger_line(&gateway.status(), "search", "raw")["dead_lettered"].as_u64().unwrap();
    assert!(dead <= 100, "{dead}");
    cluster.order("refuse_all", 0);
    wait_until("the rest is delivered", || ledger_line(&gateway.status(), "search", "raw")["buffered"] == 0);
    assert_eq!(cluster.documents("raw").len() as u64, fleet.published() - dead);
    assert_eq!(gateway.status()["ledger_adds_up"], true);
}

#[test]
fn requests_are_signed_for_domains_of_aws() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, mut fleet) =
        (Cluster::start(&["aws", "eu-central-1", "es", "AKIATEST", "hidden-secret"]), Fleet::default());
    let gateway = cluster.start_gateway(folder.path(), "aws_region = 'eu-central-1'");
    fleet.publish(gateway.mqtt, 10);
    expect_all(&cluster, &gateway, &fleet);
    assert!(gateway.stop().success());
    // The control: for another service the signature is another one, and nothing is given up.
    let gateway = cluster.start_gateway(folder.path(), "aws_region = 'eu-central-1'\naws_service = 'aoss'");
    fleet.publish(gateway.mqtt, 1);
    wait_for_error(&gateway, "raw", "HTTP status 401: {\"error\":{\"type\":\"security_exception\"");
    assert_eq!(sink(&gateway.status(), "raw")["records_rejected"], 0);
    assert!(gateway.stop().success());
    let gateway = cluster.start_gateway(folder.path(), "aws_region = 'eu-central-1'");
    expect_all(&cluster, &gateway, &fleet);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("hidden-secret"), "{log}");
}

/// A cluster on one's own premises has a certificate of one's own CA; and a link that costs money counts its bytes.
#[test]
fn a_ca_of_ones_own_is_trusted_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("pki");
    let made = Command::new(env!("CARGO_BIN_EXE_outrider")).args(["cert", "init"]).arg(&certificates).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let cluster = Cluster::start_with(&[], &[("CLUSTER_CERTIFICATE", certificates.to_str().unwrap())]);
    let mut fleet = Fleet::default();
    // The control: the system does not know it.
    let gateway = cluster.start_gateway_by("https", folder.path(), "");
    fleet.publish(gateway.mqtt, 5);
    wait_for_error(&gateway, "raw", "invalid peer certificate");
    assert!(gateway.stop().success());
    let ca = certificates.join("ca.pem");
    let keys = format!("ca = {ca:?}\nlink = 'sim'\n[[link]]\nname = 'sim'\nmetered = 'yes'");
    let gateway = cluster.start_gateway_by("https", folder.path(), &keys);
    wait_for_delivery(&gateway);
    let counted = || gateway.status()["links"][0]["bytes_today"].as_u64().unwrap();
    // A handshake, and a request with its answer, for what was there at least.
    wait_until("bytes to be counted", || counted() > 2 << 10);
    assert_eq!(ledger_line(&gateway.status(), "search", "raw")["delivered"], fleet.published());
    assert_eq!(gateway.status()["ledger_adds_up"], true);
}

#[test]
fn doctor_says_what_the_cluster_is_and_whom_it_does_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&["basic", "gateway", "right"]);
    for (password, mute, words) in [
        (
            "right",
            0,
            &[
                "it is opensearch 2.19.6",
                "_bulk: it is taken",
                "no template says what the fields of the index outrider-raw-",
            ][..],
        ),
        // The rights that a gateway needs do not let it ask who it is.
        ("right", 1, &["it answers, and does not say what it is", "_bulk: it is taken"]),
        ("hidden-secret", 0, &["HTTP status 401"]),
    ] {
        cluster.order("mute", mute);
        let config = folder.path().join("outrider.toml");
        let state = folder.path().join("state");
        let text = format!(
            "[store]\npath = {state:?}\n[[sink]]\nname = 'search'\ntype = 'opensearch'\nurl = 'http://{}'\nusername = 'gateway'\npassword = '{password}'\n",
            cluster.address
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
        let ended = command.arg("doctor").arg("--config").arg(&config).env("NO_PROXY", "*").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
        for words in words {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("hidden-secret"), "{said}");
    }
    assert_eq!(cluster.get("/docs"), Vec::<Value>::new());
}

/// Both templates know every field of every record; what they do not know could not be searched.
#[test]
fn templates_know_all_fields_of_records() {
    let read = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    for name in ["opensearch", "elasticsearch"] {
        let template = read(&format!("opensearch/{name}.json"));
        let mappings = &template["template"]["mappings"];
        assert_eq!(mappings["dynamic"], false);
        for schema in ["reading", "anomaly", "alert", "gateway", "record"] {
            for field in read(&format!("schema/{schema}.json"))["properties"].as_object().unwrap().keys() {
                assert!(mappings["properties"][field].is_object(), "{name}: {field} of {schema}");
            }
        }
    }
}

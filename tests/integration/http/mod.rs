//! The `http` sink against a receiver that is not ours: a small server built on Python's standard library.

mod firehose;
mod given_up;
mod links;
mod meter;
mod splunk;

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::process::Command;

use serde_json::Value;

use crate::client::{Client, publish_packet};
use crate::fake::Fake;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::{DEVICES, Fleet};
use crate::narrow::{Manner, Narrow};
use crate::proxy::Proxy;

/// Of nobody but the receiver: a key, and a certificate for `ingest.invalid` that is signed with it and valid until 2120.
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/http/receiver.pem");

/// Takes posts, over TLS as well.
struct Receiver(Fake);

impl Receiver {
    fn start() -> Receiver {
        Receiver(Fake::start_with("http/receiver.py", &[CERTIFICATE], &[]))
    }

    /// Records in order of acceptance.
    fn records(&self) -> Vec<Value> {
        self.get("/").into_iter().flat_map(|request| request["body"].as_array().unwrap().clone()).collect()
    }

    fn config(&self, keys: &str) -> String {
        let address = self.address;
        format!("[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'http://{address}/in'\ntimeout = '1s'\n{keys}\n")
    }
}

impl Deref for Receiver {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl DerefMut for Receiver {
    fn deref_mut(&mut self) -> &mut Fake {
        &mut self.0
    }
}

fn start(folder: &std::path::Path, receiver: &Receiver, keys: &str) -> Gateway {
    Gateway::start_configured(folder, &receiver.config(keys), &[], &[("TOKEN", "hidden-token"), ("NO_PROXY", "*")])
}

fn sink<'a>(status: &'a Value, stream: &str) -> &'a Value {
    status["sinks"].as_array().unwrap().iter().find(|sink| sink["stream"] == stream).unwrap()
}

fn wait_for_delivery(gateway: &Gateway) {
    wait_until("everything is delivered", || is_delivered(gateway));
}

fn is_delivered(gateway: &Gateway) -> bool {
    let status = gateway.status();
    ["raw", "anomalies"].iter().all(|stream| ledger_line(&status, "web", stream)["buffered"] == 0)
}

/// Checks that nothing is lost, and that the first copies of each device's readings are in order.
fn expect_fleet(receiver: &Receiver, count: u64) {
    assert_eq!(fault_of_fleet(&receiver.records(), count), None);
}

/// The first record that is missing or out of order.
pub fn fault_of_fleet(records: &[Value], count: u64) -> Option<String> {
    let mut last: HashMap<String, u64> = HashMap::new();
    for record in records.iter().filter(|record| record["type"] == "reading") {
        let (device, seq) = (record["device"].as_str().unwrap().to_owned(), record["seq"].as_u64().unwrap());
        let last = last.entry(device).or_default();
        if seq > *last + 1 {
            return Some(format!("{record}: a reading before it is missing, the last was {last}"));
        }
        *last = seq.max(*last);
    }
    let is_whole = last.len() as u64 == DEVICES && last.values().all(|last| *last == count);
    (!is_whole).then(|| format!("{last:?}"))
}

fn identities(records: &[Value]) -> HashSet<String> {
    let readings = records.iter().filter(|record| record["type"] == "reading");
    readings.map(|record| format!("{}/{}", record["run"], record["position"])).collect()
}

/// Checks that the fleet's readings arrived, the first copies in order, and that the records of raw that arrived are as many as the ledger says.
fn expect_all(gateway: &Gateway, records: Vec<Value>, count: u64) {
    assert_eq!(fault_of_fleet(&records, count), None);
    let delivered = ledger_line(&gateway.status(), "web", "raw")["delivered"].as_u64();
    assert_eq!(delivered, Some(identities(&records).len() as u64));
}

/// A fleet publishes, also while each of these faults is ordered twice: everything arrives, and gives no offence.
fn survive(faults: &[&str], service: &mut Fake, gateway: &Gateway) {
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    for fault in faults {
        service.order(fault, 2);
        service.order("none", 1);
        fleet.publish(gateway.mqtt, 5);
        wait_until(fault, || {
            let is_seen = service.has_seen(fault);
            // A request that had to be sent again may have taken all of it along.
            if !is_seen && is_delivered(gateway) {
                fleet.publish(gateway.mqtt, 1);
            }
            is_seen
        });
    }
    wait_for_delivery(gateway);
    expect_all(gateway, service.get("/"), fleet.published_by_each());
    service.expect_no_problems();
}

/// A rule calls a service, which is down at first, and the gateway is killed meanwhile.
#[test]
fn a_rule_calls_a_webhook_until_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start();
    receiver.order("503", 3);
    let keys = "streams = ['calls']\nbody = 'array'\n[[stream]]\nname = 'calls'\n[[rule]]\nname = 'door'\n\
        sql = \"SELECT truck FROM 'doors/+' WHERE open\"\nwebhook = 'calls'";
    let gateway = start(folder.path(), &receiver, keys);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("doors/a", r#"{"truck":"t-7","open":true}"#);
    device.publish("doors/a", r#"{"truck":"t-8","open":false}"#);
    gateway.kill();
    let _gateway = start(folder.path(), &receiver, keys);
    wait_until("the call", || receiver.records().len() == 1);
    let call = receiver.records().remove(0);
    assert_eq!((&call["rule"], &call["payload"]), (&"door".into(), &serde_json::json!({"truck": "t-7"})));
}

/// The control: one of the records that arrived is removed, or two are swapped.
#[test]
fn what_is_missing_or_out_of_order_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let gateway = start(folder.path(), &receiver, "");
    Fleet::default().publish(gateway.mqtt, 3);
    wait_for_delivery(&gateway);
    let records: Vec<Value> = receiver.records().into_iter().filter(|record| record["type"] == "reading").collect();
    assert_eq!(fault_of_fleet(&records, 3), None);
    let of_one: Vec<usize> = (0..records.len()).filter(|at| records[*at]["device"] == records[0]["device"]).collect();
    for at in of_one.iter().copied() {
        let mut without = records.clone();
        without.remove(at);
        assert!(fault_of_fleet(&without, 3).is_some(), "{at}");
    }
    let mut swapped = records.clone();
    swapped.swap(of_one[0], of_one[1]);
    assert!(fault_of_fleet(&swapped, 3).is_some());
}

#[test]
fn through_all_kinds_of_trouble_nothing_is_lost_and_devices_stay_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start();
    let keys =
        "headers = { X-Token = 'env:TOKEN' }\ncompression = 'gzip'\nbatch_delay = '20ms'\nrequest_size_max = '64KiB'";
    let gateway = start(folder.path(), &receiver, keys);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    for fault in ["500", "lost", "hang", "429", "408", "503"] {
        receiver.order(fault, 2);
        receiver.order("none", 1);
        fleet.publish(gateway.mqtt, 20);
    }
    wait_for_delivery(&gateway);
    expect_fleet(&receiver, 140);
    let seen = receiver.get("/seen");
    for fault in ["500", "lost", "hang", "429", "408", "503"] {
        assert!(seen.iter().any(|request| request["fault"] == fault), "no {fault}");
    }
    assert!(seen.iter().all(|request| request["token"] == "hidden-token"));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("HTTP status 500: no room for (not shown)") && !log.contains("hidden-token"), "{log}");
}

#[test]
fn a_service_that_asks_for_time_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start();
    receiver.order("429", 1);
    let gateway = start(folder.path(), &receiver, "requests_in_flight = 1\ntake = 'alerts'");
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/a/temperature", "-127");
    wait_until("it is posted", || receiver.get("/seen").len() >= 2);
    let seen = receiver.get("/seen");
    let at = |request: &Value| request["at"].as_f64().unwrap();
    assert!(at(&seen[1]) - at(&seen[0]) >= 1.9, "{seen:?}");
}

#[test]
fn a_request_that_is_too_large_is_halved_down_to_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start();
    receiver.order("body_max", 3_000);
    let gateway = start(folder.path(), &receiver, "body = 'array'\nbatch_delay = '50ms'");
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    let mut device = Client::connect(gateway.mqtt, "large");
    let payload = format!("{{\"value\":1,\"attributes\":{{\"note\":\"{}\"}}}}", "x".repeat(4_000));
    device.publish("devices/large/temperature", payload);
    wait_for_delivery(&gateway);
    expect_fleet(&receiver, 20);
    assert_eq!(ledger_line(&gateway.status(), "web", "raw")["dead_lettered"], 1);
    assert!(receiver.get("/seen").iter().any(|request| request["fault"] == "413"));
}

/// A proxy says in its own way that a request is too large.
#[test]
fn a_proxy_whose_page_nobody_can_read_is_no_obstacle() {
    for manner in [Manner::Whole, Manner::Early, Manner::Endless] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let proxy = Narrow::start(receiver.address, 6_000, manner);
        let config = receiver.config("").replace(&receiver.address.to_string(), &proxy.address.to_string());
        let gateway = Gateway::start_configured(folder.path(), &config, &[], &[("NO_PROXY", "*")]);
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 20);
        wait_for_delivery(&gateway);
        expect_fleet(&receiver, 20);
        assert!(proxy.refused() > 0, "{manner:?}");
    }
}

#[test]
fn whoever_has_to_mend_something_is_told_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start();
    receiver.order("401", 2);
    let gateway = start(folder.path(), &receiver, "");
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    // The first request of either stream gets this answer.
    wait_until("it says why", || {
        std::fs::read_to_string(&gateway.log).unwrap().contains("halted: HTTP status 401: no room")
    });
    wait_for_delivery(&gateway);
    expect_fleet(&receiver, 5);
}

#[test]
fn the_webhook_posts_one_raised_and_one_cleared_alert() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let limit = "take = 'alerts'\nalert_format = 'alertmanager'\n[alert]\nclear_after = '1s'\n[[limit]]\nmetric = 'temperature'\nmax = 8";
    let gateway = start(folder.path(), &receiver, limit);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/a/temperature", "9");
    wait_until("it is raised", || receiver.records().len() == 1);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while receiver.records().len() < 2 && std::time::Instant::now() < until {
        device.publish("devices/a/temperature", "5.0");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let records = receiver.records();
    let ended: Vec<bool> = records.iter().map(|record| record.get("endsAt").is_some()).collect();
    assert_eq!(ended, [false, true], "{records:?}");
    assert_eq!(records[0]["labels"], records[1]["labels"]);
    wait_until("what is no alert is passed over", || {
        ledger_line(&gateway.status(), "web", "anomalies")["passed_over"].as_u64() > Some(0)
    });
}

/// Of what is delivered, everything but the alerts is passed over; no kill in between makes it more.
#[test]
fn what_is_passed_over_is_counted_once_across_kills() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let keys = "take = 'alerts'\nrequests_in_flight = 8\nrequest_size_max = '4KiB'";
    for _ in 0..5 {
        let gateway = start(folder.path(), &receiver, keys);
        let mut device = Client::connect(gateway.mqtt, "device");
        // Impossible values: each of them is an anomaly, and the first of a device raises an alert.
        for number in 0..200 {
            let id = device.next_packet_id();
            let topic = format!("devices/d{}/temperature", number % 20);
            device.send(&publish_packet(&topic, b"-127", 1, false, false, id));
        }
        for _ in 0..200 {
            assert_eq!(device.packet().unwrap().first, 0x40);
        }
        wait_until("a part is delivered", || {
            ledger_line(&gateway.status(), "web", "anomalies")["delivered"].as_u64() > Some(0)
        });
        gateway.kill();
    }
    let gateway = start(folder.path(), &receiver, keys);
    let mut last = Value::Null;
    wait_until("what is passed over and the alerts to be all that is delivered", || {
        last = ledger_line(&gateway.status(), "web", "anomalies").clone();
        let identity = |record: &Value| format!("{}/{}", record["run"], record["position"]);
        let alerts: HashSet<String> = receiver.records().iter().map(identity).collect();
        let accounted = last["passed_over"].as_u64().unwrap() + alerts.len() as u64;
        last["buffered"] == 0 && last["delivered"] == accounted
    });
    assert!(last["passed_over"].as_u64() > Some(500), "{last}");
}

/// The receiver has a name that only the proxy can resolve.
fn start_behind(folder: &std::path::Path, url: &str, environment: &[(&str, &str)]) -> Gateway {
    let config = format!("[[sink]]\nname = 'web'\ntype = 'http'\nurl = '{url}'\ntimeout = '1s'\n");
    let environment: Vec<_> = environment.iter().copied().chain([("SSL_CERT_FILE", CERTIFICATE)]).collect();
    Gateway::start_configured(folder, &config, &[], &environment)
}

fn expect_error(gateway: &Gateway, text: &str) {
    wait_until(text, || sink(&gateway.status(), "raw")["last_error"].as_str().is_some_and(|error| error == text));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("halted") && !log.contains("ERROR"), "{log}");
}

#[test]
fn requests_go_through_the_proxy_of_the_environment() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let proxy = Proxy::start(receiver.address);
        let gateway = start_behind(folder.path(), "http://ingest.invalid/in", &[(variable, &proxy.url())]);
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 5);
        wait_for_delivery(&gateway);
        expect_fleet(&receiver, 5);
        let asked = proxy.asked();
        assert!(
            !asked.is_empty() && asked.iter().all(|line| line == "POST http://ingest.invalid/in HTTP/1.1"),
            "{asked:?}"
        );
    }
}

/// The control: if the proxy is not to be used, nothing reaches it or the receiver.
#[test]
fn what_needs_no_proxy_goes_around_it() {
    for (proxy_variable, no_proxy) in [("HTTP_PROXY", "NO_PROXY"), ("http_proxy", "no_proxy"), ("HTTPS_PROXY", "")] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let proxy = Proxy::start(receiver.address);
        let mut environment = vec![(proxy_variable, proxy.url())];
        if !no_proxy.is_empty() {
            environment.push((no_proxy, "ingest.invalid".to_owned()));
        }
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let gateway = start_behind(folder.path(), "http://ingest.invalid/in", &environment);
        Fleet::default().publish(gateway.mqtt, 1);
        wait_until("it cannot connect", || sink(&gateway.status(), "raw")["last_error"].is_string());
        assert_eq!((proxy.asked(), receiver.get("/seen")), (vec![], vec![]));
    }
}

#[test]
fn a_service_with_tls_is_reached_through_a_tunnel_once_the_proxy_opens_one() {
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let proxy = Proxy::start(receiver.tls());
        proxy.open_tunnels(false);
        let gateway = start_behind(folder.path(), "https://ingest.invalid/in", &[(variable, &proxy.url())]);
        let mut fleet = Fleet::default();
        fleet.publish(gateway.mqtt, 5);
        expect_error(&gateway, "no connection: the proxy opens no tunnel: it answers with HTTP status 403");
        assert_eq!(receiver.get("/seen"), Vec::<Value>::new());
        proxy.open_tunnels(true);
        fleet.publish(gateway.mqtt, 5);
        wait_for_delivery(&gateway);
        expect_fleet(&receiver, 10);
        let asked = proxy.asked();
        assert!(asked.iter().all(|line| line == "CONNECT ingest.invalid:443 HTTP/1.1"), "{asked:?}");
    }
}

/// TLS within TLS: the proxy has a certificate of its own, which is looked at as well.
#[test]
fn a_proxy_may_be_spoken_to_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("pki");
    let made = Command::new(env!("CARGO_BIN_EXE_outrider")).args(["cert", "init"]).arg(&certificates).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let receiver = Receiver::start();
    let proxy = Proxy::start(receiver.tls());
    let url = format!("https://{}", proxy.behind_tls(&certificates));
    // The control: its CA is not known.
    let gateway = start_behind(folder.path(), "https://ingest.invalid/in", &[("HTTPS_PROXY", &url)]);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    wait_until("it names the certificate", || {
        let status = gateway.status();
        let error = sink(&status, "raw")["last_error"].as_str().unwrap_or_default();
        error.starts_with("no connection: invalid peer certificate")
    });
    assert!(gateway.stop().success());
    assert_eq!(proxy.asked(), Vec::<String>::new());
    let both = folder.path().join("both.pem");
    let texts = [certificates.join("ca.pem").as_path(), CERTIFICATE.as_ref()].map(|path| std::fs::read(path).unwrap());
    std::fs::write(&both, texts.concat()).unwrap();
    let environment = [("HTTPS_PROXY", url.as_str()), ("SSL_CERT_FILE", both.to_str().unwrap())];
    let config = "[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'https://ingest.invalid/in'\ntimeout = '1s'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &environment);
    wait_for_delivery(&gateway);
    expect_fleet(&receiver, 5);
    let asked = proxy.asked();
    assert!(asked.iter().all(|line| line == "CONNECT ingest.invalid:443 HTTP/1.1"), "{asked:?}");
}

/// The control: the tunnel does not spare the service its certificate, and the sink says what is wrong with it.
#[test]
fn at_the_end_of_a_tunnel_the_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let proxy = Proxy::start(receiver.tls());
    let gateway = start_behind(folder.path(), "https://other.invalid:8443/in", &[("HTTPS_PROXY", &proxy.url())]);
    Fleet::default().publish(gateway.mqtt, 1);
    wait_until("it names the certificate", || {
        let status = gateway.status();
        let error = sink(&status, "raw")["last_error"].as_str().unwrap_or_default();
        error.starts_with("no connection: invalid peer certificate") && error.contains("other.invalid")
    });
    assert_eq!(receiver.get("/seen"), Vec::<Value>::new());
    assert!(proxy.asked().iter().all(|line| line == "CONNECT other.invalid:8443 HTTP/1.1"), "{:?}", proxy.asked());
}

#[test]
fn zstd_is_what_a_reader_of_zstd_understands() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let gateway = start(folder.path(), &receiver, "compression = 'zstd'\nbody = 'array'");
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 3);
    wait_for_delivery(&gateway);
    let mut readings = 0;
    for request in receiver.get("/") {
        let packed: Vec<u8> = serde_json::from_value(request["zstd"].clone()).unwrap();
        let body: Vec<Value> = serde_json::from_slice(&zstd::decode_all(&packed[..]).unwrap()).unwrap();
        readings += body.iter().filter(|record| record["type"] == "reading").count() as u64;
    }
    assert_eq!(readings, 3 * DEVICES);
}

#[test]
fn what_is_secret_is_not_in_the_messages_of_a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'ftp://x/hush'\nheaders = { Authorization = \"hush\\n\" }\n\
                  routing_ky = 'hush'\nalert_format = 'pagerduty'\nrouting_key = 'env:NOT_SET_ANYWHERE'\n";
    let ended = crate::gateway::run_command(folder.path(), config, &[], &[]).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(78));
    for part in [
        "url = (not shown): not allowed here; a URL",
        "headers = (not shown)",
        "routing_ky = (not shown)",
        "NOT_SET_ANYWHERE",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains("hush"), "{said}");
}

//! `body = "firehose"` against an endpoint that is strict about the protocol.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::{expect_all, sink, survive, wait_for_delivery};
use crate::client::Client;
use crate::fake::Fake;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::Fleet;

fn start(folder: &Path, endpoint: &Fake, keys: &str) -> Gateway {
    let config = format!(
        "[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'http://{}/deliver?tenant=7'\nbody = 'firehose'\ntimeout = '1s'\n\
         access_key = 'env:KEY'\nsource_arn = 'arn:aws:firehose:eu-central-1:123456789012:deliverystream/fleet'\n\
         common_attributes = {{ site = 'yard 7' }}\n{keys}\n",
        endpoint.address
    );
    Gateway::start_configured(folder, &config, &[], &[("KEY", "hidden-key"), ("NO_PROXY", "*")])
}

#[test]
fn through_wrong_lost_late_and_false_answers_what_arrives_is_what_the_ledger_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Fake::start("http/firehose_endpoint.py");
    let gateway =
        start(folder.path(), &endpoint, "compression = 'gzip'\nbatch_delay = '20ms'\nrequest_size_max = '64KiB'");
    let faults =
        ["500", "lost", "late", "wrong-id", "no-timestamp", "html", "long", "429", "401", "foreign-400", "302"];
    survive(&faults, &mut endpoint, &gateway);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("no room for (not shown) at (not shown)") && !log.contains("hidden-key"), "{log}");
}

/// A request that is sent again has its id, so an endpoint that takes each id once has no record twice.
#[test]
fn a_repeat_has_the_id_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Fake::start("http/firehose_endpoint.py");
    endpoint.order("lost", 3);
    let gateway = start(folder.path(), &endpoint, "streams = ['raw']\nrequests_in_flight = 1");
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/a/temperature", "20.5");
    wait_until("it is delivered", || ledger_line(&gateway.status(), "web", "raw")["delivered"] == 1);
    let ids: HashSet<String> = endpoint.get("/seen").iter().map(|request| request["id"].to_string()).collect();
    assert_eq!((endpoint.get("/seen").len(), ids.len(), endpoint.get("/").len()), (4, 1, 1));
}

#[test]
fn a_request_that_is_too_large_is_halved_down_to_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Fake::start("http/firehose_endpoint.py");
    endpoint.order("body_max", 4_000);
    let gateway = start(folder.path(), &endpoint, "batch_delay = '50ms'");
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 20);
    let mut device = Client::connect(gateway.mqtt, "large");
    let payload = format!("{{\"value\":1,\"attributes\":{{\"note\":\"{}\"}}}}", "x".repeat(4_000));
    device.publish("devices/large/temperature", payload);
    wait_for_delivery(&gateway);
    expect_all(&gateway, endpoint.get("/"), 20);
    assert_eq!(ledger_line(&gateway.status(), "web", "raw")["dead_lettered"], 1);
    assert!(endpoint.has_seen("413"));
    endpoint.expect_no_problems();
}

/// One record that the endpoint will never take does not hold up the others.
#[test]
fn of_a_request_that_the_endpoint_refuses_only_the_record_to_blame_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Fake::start("http/firehose_endpoint.py");
    let gateway = start(folder.path(), &endpoint, "streams = ['raw']\nbatch_delay = '300ms'");
    let mut fleet = Fleet::default();
    let mut device = Client::connect(gateway.mqtt, "device");
    fleet.publish(gateway.mqtt, 3);
    device.publish("devices/d03/bad", "20.5");
    device.publish("devices/other/bad", "20.5");
    fleet.publish(gateway.mqtt, 3);
    wait_until("all is done with", || ledger_line(&gateway.status(), "web", "raw")["buffered"] == 0);
    let status = gateway.status();
    let line = ledger_line(&status, "web", "raw");
    assert_eq!((&line["delivered"], &line["dead_lettered"]), (&120.into(), &2.into()), "{line}");
    expect_all(&gateway, endpoint.get("/"), 6);
    endpoint.expect_no_problems();
}

/// A refusal of something on the way is no reason to give up any record, but one to call somebody.
#[test]
fn a_refusal_without_our_request_id_halts_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Fake::start("http/firehose_endpoint.py");
    endpoint.order("foreign-400", 3);
    let gateway = start(folder.path(), &endpoint, "streams = ['raw']\nrequests_in_flight = 1");
    Fleet::default().publish(gateway.mqtt, 1);
    wait_until("all is delivered", || ledger_line(&gateway.status(), "web", "raw")["delivered"] == 20);
    assert_eq!(ledger_line(&gateway.status(), "web", "raw")["dead_lettered"], 0);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("does not name our request"), "{log}");
}

#[test]
fn a_wrong_access_key_halts_the_sink_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = Fake::start("http/firehose_endpoint.py");
    endpoint.order("401", 50);
    let gateway = start(folder.path(), &endpoint, "streams = ['raw']");
    Fleet::default().publish(gateway.mqtt, 1);
    wait_until("it says why", || {
        let status = gateway.status();
        let error: &Value = &sink(&status, "raw")["last_error"];
        error.as_str().is_some_and(|error| error.contains("HTTP status 401") && error.contains("(not shown)"))
    });
    assert_eq!(ledger_line(&gateway.status(), "web", "raw")["dead_lettered"], 0);
}

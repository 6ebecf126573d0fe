//! `body = "splunk"` against a collector with indexers behind it that lose, delay, and refuse.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::{expect_all, identities, sink, survive, wait_for_delivery};
use crate::client::Client;
use crate::fake::Fake;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::Fleet;

fn config(collector: &Fake, keys: &str) -> String {
    let delay = if keys.contains("batch_delay") { "" } else { "batch_delay = '20ms'\n" };
    format!(
        "[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'http://{}/'\nbody = 'splunk'\ntimeout = '1s'\ntoken = 'env:TOKEN'\n\
         index = 'fleet'\nsource = 'gateway'\nsourcetype = 'outrider'\nrequest_size_max = '64KiB'\n{delay}{keys}\n",
        collector.address
    )
}

fn start(folder: &Path, collector: &Fake, keys: &str) -> Gateway {
    let environment = [("TOKEN", "hidden-token"), ("NO_PROXY", "*")];
    Gateway::start_configured(folder, &config(collector, keys), &[], &environment)
}

fn delivered(gateway: &Gateway) -> u64 {
    ledger_line(&gateway.status(), "web", "raw")["delivered"].as_u64().unwrap()
}

const SOON: &str = "acknowledge_timeout = '1s'";

#[test]
fn what_is_lost_behind_the_collector_is_posted_again_until_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    let gateway = start(folder.path(), &collector, &format!("{SOON}\ncompression = 'gzip'"));
    survive(&["busy", "lost", "vanish", "late", "html", "token"], &mut collector, &gateway);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("does not accept the token") && !log.contains("hidden-token"), "{log}");
}

/// What was only received is not delivered.
#[test]
fn nothing_counts_as_delivered_before_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    collector.order("vanish", 3);
    let gateway = start(folder.path(), &collector, &format!("{SOON}\nstreams = ['raw']"));
    Fleet::default().publish(gateway.mqtt, 1);
    wait_until("posts are received and lost", || {
        // Whatever is delivered is stored by then.
        let delivered = delivered(&gateway);
        let stored = identities(&collector.get("/")).len() as u64;
        assert!(delivered <= stored, "{delivered} delivered, {stored} stored");
        collector.get("/seen").iter().filter(|post| post["fault"] == "vanish").count() == 3
    });
    wait_until("all is delivered", || delivered(&gateway) == 20);
    assert_eq!(identities(&collector.get("/")).len(), 20);
}

/// Without acknowledgements the same loss is not noticed: the control of the test before.
#[test]
fn without_acknowledgements_what_is_received_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    collector.order("acknowledgements", 0);
    collector.order("vanish", 1);
    let gateway = start(folder.path(), &collector, "acknowledge = false\nstreams = ['raw']\nrequests_in_flight = 1");
    Fleet::default().publish(gateway.mqtt, 1);
    wait_until("all counts as delivered", || delivered(&gateway) == 20);
    assert!(identities(&collector.get("/")).len() < 20);
    collector.expect_no_problems();
}

/// Indexers behind one address count by themselves, so that each of them has acknowledged the numbers that another one gives.
#[test]
fn no_indexer_acknowledges_what_another_one_has_lost() {
    for is_sticky in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut collector = Fake::start("http/hec.py");
        collector.order("indexers", 3);
        collector.order("sticky", is_sticky.into());
        let gateway = start(folder.path(), &collector, &format!("{SOON}\nstreams = ['raw']\nrequests_in_flight = 4"));
        let mut fleet = Fleet::default();
        for round in 0..4 {
            fleet.publish(gateway.mqtt, 3);
            collector.order("vanish", 2);
            fleet.publish(gateway.mqtt, 3);
            collector.order("crash", round % 3);
        }
        wait_until("all is delivered", || {
            let (before, stored) = (delivered(&gateway), identities(&collector.get("/")).len() as u64);
            assert!(before <= stored, "{before} delivered, {stored} stored");
            before == fleet.published()
        });
        expect_all(&gateway, collector.get("/"), 24);
        collector.expect_no_problems();
        assert!(collector.has_seen("vanish"));
        if is_sticky {
            // A channel is used again where its indexer is met again.
            let seen = collector.get("/seen");
            let channels: HashSet<String> = seen.iter().map(|post| post["channel"].to_string()).collect();
            assert!(channels.len() < seen.len(), "{} channels, {} posts", channels.len(), seen.len());
        }
    }
}

/// Only the event that is refused becomes a dead letter; what stood before and behind it is delivered.
#[test]
fn of_a_refused_post_only_the_event_to_blame_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Fake::start("http/hec.py");
    let gateway = start(folder.path(), &collector, "streams = ['raw']\nbatch_delay = '300ms'");
    let mut fleet = Fleet::default();
    let mut device = Client::connect(gateway.mqtt, "device");
    fleet.publish(gateway.mqtt, 3);
    device.publish("devices/d03/bad", "20.5");
    device.publish("devices/other/bad", "20.5");
    fleet.publish(gateway.mqtt, 3);
    device.publish("devices/d07/bad", "20.5");
    fleet.publish(gateway.mqtt, 3);
    wait_until("all is done with", || ledger_line(&gateway.status(), "web", "raw")["buffered"] == 0);
    let status = gateway.status();
    let line = ledger_line(&status, "web", "raw");
    assert_eq!((&line["delivered"], &line["dead_lettered"]), (&180.into(), &3.into()), "{line}");
    expect_all(&gateway, collector.get("/"), 9);
    assert!(collector.get("/seen").iter().any(|post| post["code"] == 6));
    collector.expect_no_problems();
}

/// A collector that refuses everything does not make the store a heap of dead letters.
#[test]
fn when_everything_is_refused_the_sink_is_halted() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    collector.order("refuse", 100_000);
    let gateway = start(folder.path(), &collector, "streams = ['raw']");
    Fleet::default().publish(gateway.mqtt, 20);
    wait_until("it is halted", || {
        std::fs::read_to_string(&gateway.log).unwrap().contains("in a row, so it is not the fault of one")
    });
    let given_up = ledger_line(&gateway.status(), "web", "raw")["dead_lettered"].as_u64().unwrap();
    assert!(given_up <= 100, "{given_up}");
}

#[test]
fn a_token_without_acknowledgements_is_told_and_gets_few_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    collector.order("acknowledgements", 0);
    let gateway = start(folder.path(), &collector, "streams = ['raw']\nrequests_in_flight = 1");
    Fleet::default().publish(gateway.mqtt, 1);
    let says = |gateway: &Gateway| {
        let status = gateway.status();
        sink(&status, "raw")["last_error"].as_str().is_some_and(|error| error.contains("acknowledge = false"))
    };
    wait_until("it says what to do", || says(&gateway));
    collector.order("acknowledgements", 1);
    wait_until("all is delivered", || delivered(&gateway) == 20);
    assert_eq!(identities(&collector.get("/")).len(), 20);
    let in_vain = collector.get("/seen").iter().filter(|post| post["is_acknowledged"] == false).count();
    assert_eq!(in_vain, 1, "{:?}", collector.get("/seen"));
}

/// Where posts are taken, but nobody answers for them, the same events are not stored again and again.
#[test]
fn a_closed_path_of_acknowledgements_is_told_and_gets_few_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    collector.order("ack_path", 0);
    let gateway = start(folder.path(), &collector, &format!("{SOON}\nstreams = ['raw']\nrequests_in_flight = 1"));
    Fleet::default().publish(gateway.mqtt, 1);
    let log = || std::fs::read_to_string(&gateway.log).unwrap();
    wait_until("it says what to do", || log().contains("/services/collector/ack: HTTP status 404"));
    assert_eq!(collector.get("/seen").len(), 1);
    collector.order("ack_path", 1);
    wait_until("all is delivered", || delivered(&gateway) == 20);
    collector.expect_no_problems();
}

#[test]
fn no_kill_between_receipt_and_acknowledgement_loses_anything() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    let mut fleet = Fleet::default();
    for _ in 0..3 {
        collector.order("vanish", 1);
        let gateway = start(folder.path(), &collector, &format!("{SOON}\nrequests_in_flight = 4"));
        let before = collector.get("/seen").len();
        fleet.publish(gateway.mqtt, 5);
        wait_until("something is under way", || collector.get("/seen").len() > before);
        gateway.kill();
        // What indexers had in memory is gone as well.
        collector.order("crash", 0);
    }
    let gateway = start(folder.path(), &collector, SOON);
    wait_for_delivery(&gateway);
    expect_all(&gateway, collector.get("/"), 15);
    collector.expect_no_problems();
}

#[test]
fn alerts_alone_go_to_splunk_and_the_rest_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Fake::start("http/hec.py");
    let gateway = start(folder.path(), &collector, "take = 'alerts'");
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/a/temperature", "-127");
    wait_until("it is stored", || !collector.get("/").is_empty());
    let events = collector.get("/");
    assert!(events.iter().all(|event| event["type"] == "alert"), "{events:?}");
    wait_until("what is no alert is passed over", || {
        ledger_line(&gateway.status(), "web", "anomalies")["passed_over"].as_u64() > Some(0)
    });
    collector.expect_no_problems();
}

#[test]
fn doctor_asks_for_the_health_of_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Fake::start("http/hec.py");
    std::fs::write(folder.path().join("outrider.toml"), config(&collector, "")).unwrap();
    let doctor = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_outrider"));
        command.args(["doctor", "--json", "--config"]).arg(folder.path().join("outrider.toml"));
        command.arg("--state").arg(folder.path().join("state")).env("TOKEN", "hidden-token").env("NO_PROXY", "*");
        let said =
            String::from_utf8(command.env("OUTRIDER__ADMIN__LISTEN", "127.0.0.1:0").output().unwrap().stdout).unwrap();
        let report: Value = serde_json::from_str(&said).unwrap();
        let is_it =
            |finding: &&Value| finding["found"].as_str().is_some_and(|found| found.contains("health of the collector"));
        report["findings"].as_array().unwrap().iter().find(is_it).cloned().unwrap_or_else(|| panic!("{report:#}"))
    };
    assert_eq!(doctor()["verdict"], "well");
    collector.order("busy", 1);
    let busy = doctor();
    assert!(busy["verdict"] == "warning" && busy["found"].as_str().unwrap().contains("HTTP status 503"), "{busy}");
}

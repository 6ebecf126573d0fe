//! A link that costs money: what goes over the sockets is measured between the gateway and the receiver, by somebody else than the gateway.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::meter::Meter;
use super::{CERTIFICATE, Receiver, expect_fleet, sink, wait_for_delivery};
use crate::client::Client;
use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::kinesis::fleet::Fleet;
use crate::proxy::Proxy;

/// A few hundred requests.
const BUDGET: u64 = 512 << 10;
const REQUEST: u64 = 16 << 10;
/// What the gateway estimates for a request beside its records, a head, an answer.
const OVERHEAD: u64 = 6 << 10;
const SPENT: &str = "waiting for the budget of the next day";

/// Budgets are those of days: none of these tests may begin before midnight and end after it.
fn wait_for_the_next_day_if_it_is_near() {
    const DAY_S: u64 = 86_400;
    let of_day = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % DAY_S;
    while of_day() > DAY_S - 300 {
        std::thread::sleep(Duration::from_secs(1));
    }
}

struct Site {
    folder: tempfile::TempDir,
    receiver: Receiver,
    meter: Meter,
}

impl Site {
    fn new() -> Site {
        wait_for_the_next_day_if_it_is_near();
        let receiver = Receiver::start();
        let meter = Meter::start(receiver.address);
        Site { folder: tempfile::tempdir().unwrap(), receiver, meter }
    }

    /// Readings of more than 50 raise alerts.
    fn start(&self, link: &str) -> Gateway {
        self.start_with_requests_of(REQUEST, link)
    }

    fn start_with_requests_of(&self, bytes: u64, link: &str) -> Gateway {
        let address = self.meter.address;
        let config = format!(
            "[[limit]]\nmetric = 'temperature'\nmax = 50\n[[link]]\nname = 'sim'\n{link}\n\
             [[sink]]\nname = 'web'\ntype = 'http'\nurl = 'http://{address}/in'\nlink = 'sim'\norder = 'live-first'\n\
             requests_in_flight = 1\nrequest_size_max = '{}KiB'\n",
            bytes >> 10
        );
        Gateway::start_configured(self.folder.path(), &config, &[], &[("NO_PROXY", "*")])
    }

    fn start_with_a_budget(&self) -> Gateway {
        self.start(&budget("10%"))
    }

    fn start_with_much(&self) -> Gateway {
        // What has waited may spend what an even pace would have spent by now, also just after midnight.
        self.start("metered = 'yes'\nbytes_per_day = '1024GiB'")
    }

    fn outrider(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
        command.args(arguments).arg("--state").arg(self.folder.path().join("state"));
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    fn alerts_of(&self, device: &str) -> usize {
        let records = self.receiver.records();
        records.iter().filter(|record| record["type"] == "alert" && record["device"] == device).count()
    }
}

fn budget(reserve: &str) -> String {
    format!("metered = 'yes'\nbytes_per_day = '{}KiB'\nalert_reserve = '{reserve}'", BUDGET >> 10)
}

fn waiting(gateway: &Gateway, stream: &str) -> Option<String> {
    sink(&gateway.status(), stream)["waiting"].as_str().map(str::to_owned)
}

fn counted(gateway: &Gateway) -> u64 {
    gateway.status()["links"][0]["bytes_today"].as_u64().unwrap()
}

/// Publishes until nothing but alerts may be sent. What comes now may spend the whole day's budget, whatever the time is.
fn spend(gateway: &Gateway, fleet: &mut Fleet) {
    for _ in 0..200 {
        if waiting(gateway, "raw").as_deref() == Some(SPENT) {
            return;
        }
        fleet.publish(gateway.mqtt, 5);
    }
    panic!("the budget is never spent: {}", gateway.status()["links"]);
}

fn raise_alert(gateway: &Gateway, device: &str) {
    let mut client = Client::connect(gateway.mqtt, device);
    client.publish(&format!("devices/{device}/temperature"), r#"{"value": 99.5}"#);
}

/// Everything is there, and the ledger says that nothing was lost on the way.
fn expect_everything(site: &Site, gateway: &Gateway, fleet: &Fleet) {
    wait_for_delivery(gateway);
    let readings = |record: &&Value| record["type"] == "reading" && record["device"].as_str().unwrap().starts_with('d');
    let records = site.receiver.records();
    let distinct: std::collections::BTreeSet<(String, u64)> = records
        .iter()
        .filter(readings)
        .filter_map(|record| Some((record["device"].as_str()?.to_owned(), record["seq"].as_u64()?)))
        .collect();
    assert_eq!(distinct.len() as u64, fleet.published());
    let status = gateway.status();
    assert_eq!(status["ledger_adds_up"], true, "{status}");
    for stream in ["raw", "anomalies"] {
        let line = ledger_line(&status, "web", stream);
        for lost in ["expired", "dead_lettered", "quarantined"] {
            assert_eq!(line[lost], 0, "{line}");
        }
    }
}

#[test]
fn alerts_pass_while_readings_wait_for_a_budget_and_all_arrives_when_there_is_one() {
    let (site, mut fleet) = (Site::new(), Fleet::default());
    let gateway = site.start_with_a_budget();
    spend(&gateway, &mut fleet);
    // What waits, and goes on waiting.
    fleet.publish(gateway.mqtt, 20);
    let delivered = ledger_line(&gateway.status(), "web", "raw")["delivered"].as_u64();
    raise_alert(&gateway, "hot");
    wait_until("the alert to arrive from the reserve", || site.alerts_of("hot") == 1);
    let status = gateway.status();
    let raw = ledger_line(&status, "web", "raw");
    assert_eq!(raw["delivered"].as_u64(), delivered);
    assert!(raw["buffered"].as_u64() >= Some(20 * 20), "{raw}");

    // It is a state, and no fault.
    assert_eq!(sink(&status, "raw")["last_error"], Value::Null);
    assert_eq!(gateway.get("/healthz").0, 200);
    let metrics = gateway.get("/metrics").1;
    let value = |name: &str| {
        let of_raw = |line: &&str| line.starts_with(name) && line.contains("\"web\"") && line.contains("\"raw\"");
        metrics.lines().find(of_raw).and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(value("outrider_sink_up{").as_deref(), Some("1"));
    assert_eq!(value("outrider_sink_waiting{").as_deref(), Some("1"));
    let said = site.outrider(&["status"]);
    let line = said.lines().find(|line| line.contains("web raw:")).unwrap();
    assert!(line.ends_with(SPENT), "{said}");
    let line = said.lines().find(|line| line.trim_start().starts_with("sim: ")).unwrap();
    assert!(line.contains("of 512 KiB today") && line.ends_with("alerts go on with what is kept for them"), "{said}");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("ERROR"), "{log}");

    // Nothing that went over the socket is missing in what was counted, and no more is counted.
    wait_until("everything on the socket to be counted", || counted(&gateway) == site.meter.bytes());
    let without_reserve = BUDGET / 10 * 9;
    assert!(site.meter.bytes() > without_reserve - REQUEST - REQUEST / 3 - OVERHEAD, "{}", site.meter.bytes());
    assert!(site.meter.bytes() <= BUDGET, "{}", site.meter.bytes());

    assert!(gateway.stop().success());
    let gateway = site.start_with_much();
    expect_everything(&site, &gateway, &fleet);
    expect_fleet_was_sent_once(&site);
}

/// Its readings share records, which on another link are as long as the rest of its day.
#[test]
fn one_device_that_sends_much_leaves_the_reserve_to_alerts() {
    const DAY: u64 = 200 << 10;
    let site = Site::new();
    let link = format!("metered = 'yes'\nbytes_per_day = '{}KiB'\nalert_reserve = '50%'", DAY >> 10);
    let gateway = site.start_with_requests_of(1 << 20, &link);
    let mut client = Client::connect(gateway.mqtt, "busy");
    let published = 3_000;
    for number in 0..published {
        client.publish("devices/busy/speed", format!(r#"{{"value": {}}}"#, number % 7));
    }
    wait_until("the budget to be spent", || waiting(&gateway, "raw").as_deref() == Some(SPENT));
    assert!(site.meter.bytes() > DAY / 4, "{}", site.meter.bytes());
    assert!(site.meter.bytes() <= DAY / 2, "{}", site.meter.bytes());
    let line = site.outrider(&["status"]);
    assert!(line.contains(&format!("{SPENT}; alerts go on")), "{line}");
    raise_alert(&gateway, "hot");
    wait_until("the alert to arrive from the reserve", || site.alerts_of("hot") == 1);
    assert!(gateway.stop().success());
    let gateway = site.start_with_much();
    wait_until("the rest to arrive", || {
        let records = site.receiver.records();
        records.iter().filter(|record| record["type"] == "reading" && record["device"] == "busy").count() >= published
    });
    assert!(gateway.stop().success());
}

/// Without a kill nothing is repeated, in whatever order it comes.
fn expect_fleet_was_sent_once(site: &Site) {
    let records = site.receiver.records();
    let mut identities: Vec<String> =
        records.iter().map(|record| format!("{}/{}/{}", record["type"], record["run"], record["position"])).collect();
    let count = identities.len();
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), count);
}

/// The control: without a reserve the alert waits like everything else.
#[test]
fn without_a_reserve_alerts_wait_as_well() {
    let (site, mut fleet) = (Site::new(), Fleet::default());
    let gateway = site.start(&budget("0%"));
    spend(&gateway, &mut fleet);
    let waits = || {
        let status = gateway.status();
        let buffered = ledger_line(&status, "web", "anomalies")["buffered"].as_u64();
        buffered > Some(0)
            && status["links"][0]["alerts_waiting"] == SPENT
            && sink(&status, "anomalies")["waiting"] == SPENT
    };
    // What was too little for readings is enough for a few.
    let few = (0..50).map(|number| format!("warm-{number}"));
    let waiting = few.into_iter().find(|device| {
        raise_alert(&gateway, device);
        wait_until("the alert to arrive, or to wait", || site.alerts_of(device) == 1 || waits());
        site.alerts_of(device) == 0
    });
    assert!(waiting.is_some(), "{}", gateway.status()["links"]);
    raise_alert(&gateway, "hot");
    wait_until("the alert to wait", waits);
    assert_eq!(site.alerts_of("hot"), 0);
    assert!(gateway.stop().success());
    let gateway = site.start_with_much();
    expect_everything(&site, &gateway, &fleet);
    assert_eq!(site.alerts_of("hot"), 1);
}

/// The control: the budget is what holds it back. While the link costs nothing, everything goes, and is counted apart.
#[test]
fn a_link_that_is_not_metered_holds_nothing_back() {
    let (site, mut fleet) = (Site::new(), Fleet::default());
    let gateway = site.start(&budget("10%").replace("'yes'", "'no'"));
    while site.meter.bytes() < 2 * BUDGET {
        fleet.publish(gateway.mqtt, 50);
        wait_for_delivery(&gateway);
    }
    assert_eq!((counted(&gateway), waiting(&gateway, "raw")), (0, None));
    expect_fleet(&site.receiver, fleet.published_by_each());
}

/// Kills the gateway while it sends, and when everything is spent. Returns what went over the socket until it was spent again.
fn spend_across_kills(site: &Site, fleet: &mut Fleet, between: impl Fn(&Path)) -> u64 {
    let gateway = site.start_with_a_budget();
    let before = site.meter.bytes();
    fleet.publish(gateway.mqtt, 100);
    wait_until("a part to be sent", || site.meter.bytes() > before + BUDGET / 4);
    gateway.kill();
    let gateway = site.start_with_a_budget();
    spend(&gateway, fleet);
    gateway.kill();
    between(&outrider::store::schema::store_path(&site.folder.path().join("state")));
    let gateway = site.start_with_a_budget();
    spend(&gateway, fleet);
    gateway.kill();
    site.meter.bytes()
}

#[test]
fn a_kill_gives_no_budget_twice() {
    let (site, mut fleet) = (Site::new(), Fleet::default());
    let seen = spend_across_kills(&site, &mut fleet, |_| ());
    assert!(seen <= BUDGET, "{seen}");
    let gateway = site.start_with_much();
    expect_everything(&site, &gateway, &fleet);
}

/// The control: what was spent is taken from the store while the gateway is gone.
#[test]
fn a_budget_that_is_forgotten_is_given_twice() {
    let (site, mut fleet) = (Site::new(), Fleet::default());
    let seen = spend_across_kills(&site, &mut fleet, |store| {
        let db = rusqlite::Connection::open(store).unwrap();
        assert_eq!(db.execute("DELETE FROM progress WHERE name = 'link_bytes:sim'", []).unwrap(), 1);
    });
    assert!(seen > BUDGET / 10 * 15, "{seen}");
}

/// TLS with its handshake counts, behind a proxy as without one.
#[test]
fn bytes_of_tls_are_counted_through_a_tunnel() {
    wait_for_the_next_day_if_it_is_near();
    let receiver = Receiver::start();
    let config = |host: &str| {
        format!(
            "[[link]]\nname = 'sim'\nmetered = 'yes'\n[[sink]]\nname = 'web'\ntype = 'http'\nurl = 'https://{host}/in'\nlink = 'sim'\n"
        )
    };
    let start = |folder: &Path, host: &str, proxy: &Proxy| {
        let environment = [("SSL_CERT_FILE", CERTIFICATE), ("HTTPS_PROXY", &*proxy.url())];
        let gateway = Gateway::start_configured(folder, &config(host), &[], &environment);
        Fleet::default().publish(gateway.mqtt, 1);
        gateway
    };
    // The control: whoever has another name is not believed. Of a handshake that is broken off not everything is read, so it is not compared.
    let (folder, meter) = (tempfile::tempdir().unwrap(), Meter::start(receiver.tls()));
    let proxy = Proxy::start(meter.address);
    let gateway = start(folder.path(), "other.invalid", &proxy);
    wait_until("it names the certificate", || {
        let status = gateway.status();
        let error = sink(&status, "raw")["last_error"].as_str().unwrap_or_default().to_owned();
        error.starts_with("no connection: invalid peer certificate") && error.contains("other.invalid")
    });
    assert_eq!(receiver.get("/seen"), Vec::<Value>::new());
    assert!(gateway.stop().success());
    let (folder, meter) = (tempfile::tempdir().unwrap(), Meter::start(receiver.tls()));
    let proxy = Proxy::start(meter.address);
    let gateway = start(folder.path(), "ingest.invalid", &proxy);
    wait_for_delivery(&gateway);
    expect_fleet(&receiver, 1);
    let asked = proxy.asked();
    assert!(
        asked.iter().all(|line| line.starts_with("CONNECT ") && line.ends_with(".invalid:443 HTTP/1.1")),
        "{asked:?}"
    );
    // What the proxy was told is beside it.
    let tunnels = asked.len() as u64 * 300;
    wait_until("everything on the socket to be counted", || counted(&gateway) >= meter.bytes());
    assert!(counted(&gateway) <= meter.bytes() + tunnels, "{} of {}", counted(&gateway), meter.bytes());
}

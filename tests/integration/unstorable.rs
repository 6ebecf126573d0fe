//! While nothing can be stored, because the store is full and refuses, or the disk fails or hangs: readings are judged, alerts are
//! published, nothing is acknowledged, and what is sent again afterwards is stored as it was sent.

mod opening;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrider::config::host::Host;
use outrider::config::{Configuration, Sources};
use outrider::gateway::{GatewayError, GatewaySettings};
use outrider::sinks::status::Link;
use outrider::store::retention::{Capacity, WhenFull};
use outrider::store::schema;
use outrider::store::schema::store_path;
use serde_json::Value;

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::full::publish_until_refused;
use crate::gateway::{DEADLINE, Gateway, close_archives_soon, get, wait_until};
use crate::in_process::InProcess;
use crate::vfs::Disk;

/// The longest that an alert may take.
const ALERT_WITHIN: Duration = Duration::from_secs(2);
const TOPIC: &str = "devices/tank/level";

fn with_a_limit(settings: &mut GatewaySettings) {
    let text = "store.path = 'unused'\n\
                [[limit]]\nmetric = 'level'\nmax = 10.0\nseverity = 'minor'\n\
                [[limit]]\nmetric = 'level'\nmax = 1000.0\nseverity = 'critical'";
    let parsed = Configuration::parse(Path::new("test"), text, &Sources::default(), &Host::read()).unwrap();
    settings.monitor = parsed.monitor;
}

fn now_ms() -> i64 {
    outrider::gateway::now_ms()
}

/// A reading with the device's own time and sequence.
fn reading(value: f64, sequence: u64) -> String {
    format!("{{\"value\":{value},\"seq\":{sequence},\"ts_ms\":{}}}", now_ms() - 500)
}

fn watcher(gateway: &InProcess, filter: &str) -> Client {
    let mut watcher = Client::connect(gateway.mqtt, &format!("watcher of {}", filter.replace(['/', '#', '+'], "-")));
    watcher.subscribe(&[(filter, 1)]);
    watcher
}

fn next_alert(watcher: &mut Client) -> Value {
    serde_json::from_slice(&watcher.receive().payload).unwrap()
}

/// Publishes at QoS 1 and expects no answer. Returns how long it took until the gateway closed the connection.
fn publish_in_vain(gateway: &InProcess, client_id: &str, payload: &str) -> Duration {
    let started = Instant::now();
    let mut client = Client::connect(gateway.mqtt, client_id);
    let id = client.next_packet_id();
    client.send(&publish_packet(TOPIC, payload.as_bytes(), 1, false, false, id));
    client.expect_close();
    started.elapsed()
}

fn total(folder: &Path, name: &str) -> u64 {
    let db = schema::open_reader(&store_path(&folder.join("state")), None).unwrap();
    let found = db.query_row("SELECT value FROM total WHERE name = ?1", [name], |row| row.get::<_, i64>(0));
    found.unwrap_or(0) as u64
}

/// How often the archive has each sequence of the tank's readings.
fn archived(folder: &Path) -> BTreeMap<u64, usize> {
    let mut archived = BTreeMap::new();
    archive::read(&folder.join("state/archive"), "raw", |line| {
        if archive::field(line, "device") == "tank" {
            *archived.entry(archive::field(line, "seq").parse().unwrap()).or_insert(0) += 1;
        }
    });
    archived
}

#[test]
fn a_full_store_that_refuses_judges_what_it_does_not_store() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = InProcess::start_with_link(folder.path(), Link::Down, |settings| {
        settings.capacity = Capacity { when_full: WhenFull::Refuse, ..Capacity::new(6 << 20) };
        with_a_limit(settings);
        close_archives_soon(settings);
    });
    let mut seed = 0x5eed_5eed_5eed_5eed;
    publish_until_refused(&gateway, 1, &mut seed);
    let mut driver = watcher(&gateway, "alerts/tank/#");
    let sent = reading(11.0, 1);
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    let published = Instant::now();
    device.send(&publish_packet(TOPIC, sent.as_bytes(), 1, false, false, id));
    let raised = next_alert(&mut driver);
    assert!(published.elapsed() < ALERT_WITHIN, "{:?}", published.elapsed());
    assert_eq!((&raised["kind"], &raised["state"]), (&"limit".into(), &"raised".into()));
    assert_eq!((&raised["stored"], &raised["position"]), (&false.into(), &Value::Null));
    // The connection is still read: a more severe reading updates the alert; its client waits for no answer.
    device.send(&publish_packet(TOPIC, reading(1e6, 2).as_bytes(), 0, false, false, 0));
    let graver = next_alert(&mut driver);
    assert_eq!((&graver["id"], &graver["count"], &graver["stored"]), (&raised["id"], &2.into(), &false.into()));
    device.expect_close();
    // The client reconnects and sends its unanswered publishes again, which changes nothing.
    publish_in_vain(&gateway, "tank", &sent);
    assert_eq!(get(gateway.admin, "/readyz"), (503, "store_full\n".to_owned()));
    let mut own = watcher(&gateway, "alerts/_gateway/store/#");
    assert_eq!(next_alert(&mut own)["state"], "raised");
    assert!(!driver.wait_readable(Duration::from_millis(100)), "a reading that came again was news");

    gateway.link.send_replace(Link::Up);
    // Until there is room again some time passes, and the alert may clear.
    let mut stored = next_alert(&mut driver);
    while stored["stored"] == false {
        stored = next_alert(&mut driver);
    }
    assert_eq!((&stored["id"], &stored["count"]), (&raised["id"], &2.into()), "it is stored as it stands");
    wait_until("room", || get(gateway.admin, "/readyz").0 == 200);
    let anomalies = gateway.status()["detection"]["anomalies"].clone();
    Client::connect(gateway.mqtt, "tank").publish(TOPIC, &sent);
    assert_eq!(total(folder.path(), "raised_unstored"), 1);
    assert_eq!(gateway.status()["detection"]["anomalies"], anomalies, "judged once");
    gateway.stop();
    assert_eq!(archived(folder.path()), BTreeMap::from([(1, 1)]));
    assert!(total(folder.path(), "refused") >= 3);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Fails,
    Hangs,
}

impl Fault {
    fn begin(self, disk: &Disk) {
        match self {
            Fault::Fails => disk.fails.store(true, Ordering::SeqCst),
            Fault::Hangs => disk.hang(),
        }
    }

    fn end(self, disk: &Disk) {
        match self {
            Fault::Fails => disk.fails.store(false, Ordering::SeqCst),
            Fault::Hangs => disk.release(),
        }
    }
}

/// A device that waits for each answer, and reconnects to send what was not answered, until it has sent `count` readings; the last but one
/// raises the alert.
struct Stubborn {
    sent: BTreeMap<u64, String>,
    acknowledged: u64,
}

impl Stubborn {
    fn publish(&mut self, client: &mut Client, value: f64) -> bool {
        let next = self.acknowledged + 1;
        let payload = self.sent.entry(next).or_insert_with(|| reading(value, next)).clone();
        let id = client.next_packet_id();
        client.send(&publish_packet(TOPIC, payload.as_bytes(), 1, false, false, id));
        let is_acknowledged = client.packet().is_ok_and(|packet| packet.first == 0x40);
        self.acknowledged += u64::from(is_acknowledged);
        is_acknowledged
    }
}

fn a_disk_in_trouble(fault: Fault, state: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        with_a_limit(settings);
        close_archives_soon(settings);
    });
    let mut driver = watcher(&gateway, "alerts/tank/#");
    let mut own = watcher(&gateway, "alerts/_gateway/disk/#");
    let mut device = Stubborn { sent: BTreeMap::new(), acknowledged: 0 };
    let mut client = Client::connect(gateway.mqtt, "tank");
    (0..20).for_each(|_| assert!(device.publish(&mut client, 5.0)));
    fault.begin(disk);
    // The first readings are on their way to the disk when the fault is detected; their alerts are published all the same.
    let broken = Instant::now();
    let other = reading(11.0, 1000);
    let mut first = Client::connect(gateway.mqtt, "first");
    let id = first.next_packet_id();
    first.send(&publish_packet(TOPIC, other.as_bytes(), 1, false, false, id));
    let raised = next_alert(&mut driver);
    assert!(broken.elapsed() < ALERT_WITHIN, "{:?}", broken.elapsed());
    assert_eq!((&raised["state"], &raised["stored"]), (&"raised".into(), &false.into()));
    assert_eq!(next_alert(&mut own)["stored"], false);
    assert_eq!(get(gateway.admin, "/readyz"), (503, format!("{state}\n")));
    // From here on nothing is stored, and everything is judged.
    let published = Instant::now();
    let graver = reading(1e6, 1001);
    let mut second = Client::connect(gateway.mqtt, "second");
    let id = second.next_packet_id();
    second.send(&publish_packet(TOPIC, graver.as_bytes(), 1, false, false, id));
    let went_on = next_alert(&mut driver);
    assert!(published.elapsed() < ALERT_WITHIN, "{:?}", published.elapsed());
    assert_eq!((&went_on["id"], &went_on["stored"]), (&raised["id"], &false.into()));
    assert_eq!((&went_on["position"], &went_on["count"]), (&Value::Null, &2.into()));
    assert!(!device.publish(&mut client, 5.0), "acknowledged, and not stored");
    first.expect_close();
    second.expect_close();
    assert!(broken.elapsed() > Duration::from_secs(4), "five seconds are given to the disk: {:?}", broken.elapsed());
    assert_eq!(gateway.status()["ledger_adds_up"], true);

    fault.end(disk);
    wait_until("a disk that works", || get(gateway.admin, "/readyz").0 == 200);
    let stored = next_alert(&mut driver);
    assert_eq!((&stored["id"], &stored["count"], &stored["stored"]), (&raised["id"], &2.into(), &true.into()));
    let mut client = Client::connect(gateway.mqtt, "tank");
    while device.acknowledged < 30 {
        assert!(device.publish(&mut client, 5.0));
    }
    Client::connect(gateway.mqtt, "first").publish(TOPIC, &other);
    Client::connect(gateway.mqtt, "second").publish(TOPIC, &graver);
    let listed =
        gateway.status()["alerts"].as_array().unwrap().iter().find(|alert| alert["id"] == raised["id"]).cloned();
    assert_eq!(listed.expect("in the store")["count"], 2, "judged once");
    gateway.stop();
    let mut archived = archived(folder.path());
    // It was on its way to the disk, reached it in the end, but was not answered and was sent again.
    assert_eq!(archived.remove(&1000), Some(2));
    assert_eq!(archived.remove(&1001), Some(1));
    assert_eq!(archived, (1..=30).map(|sequence| (sequence, 1)).collect());
}

#[test]
fn a_disk_that_answers_with_errors_silences_no_alert_and_loses_nothing() {
    a_disk_in_trouble(Fault::Fails, "disk_failing");
}

#[test]
fn a_disk_that_hangs_silences_no_alert_and_loses_nothing() {
    a_disk_in_trouble(Fault::Hangs, "disk_hung");
}

/// A disk hangs during a flood. Returns how long the alert of another device takes, if it arrives while the disk hangs.
fn alert_under_a_flood(change: impl FnOnce(&mut GatewaySettings)) -> Option<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        settings.uncommitted_bytes_max = 1 << 20;
        with_a_limit(settings);
        change(settings);
    });
    let mut driver = watcher(&gateway, "alerts/tank/#");
    Fault::Hangs.begin(disk);
    let mqtt = gateway.mqtt;
    let flood = std::thread::spawn(move || {
        let started = Instant::now();
        let readings = format!("[{}]", vec!["1"; 500].join(","));
        let packet = publish_packet("devices/flood/total", readings.as_bytes(), 0, false, false, 0);
        let mut client = Client::connect(mqtt, "flood");
        client.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        while started.elapsed() < Duration::from_secs(6) {
            // A client that is throttled or disconnected still counts as a flood.
            if std::io::Write::write_all(&mut client.stream, &packet).is_err() {
                client = Client::connect(mqtt, "flood");
                client.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            }
        }
    });
    std::thread::sleep(Duration::from_millis(1500));
    let published = Instant::now();
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, b"11", 1, false, false, id));
    let is_there = driver.wait_readable(Duration::from_secs(4));
    let took = published.elapsed();
    flood.join().unwrap();
    Fault::Hangs.end(disk);
    gateway.stop();
    is_there.then_some(took)
}

#[test]
fn a_flood_over_a_hung_disk_silences_no_alert() {
    let took = alert_under_a_flood(|_| {});
    assert!(took.is_some_and(|took| took < ALERT_WITHIN), "{took:?}");
}

/// The control: other devices are heard only because the hung disk is detected.
#[test]
fn without_notice_of_the_hang_the_budget_silences_everybody() {
    let took = alert_under_a_flood(|settings| {
        settings.pacing.delays.hung_after = DEADLINE;
    });
    assert_eq!(took, None);
}

/// While a file of this name exists beside the state folder, the disk of the gateway's process fails.
const FAILS: &str = "disk-fails";

#[test]
#[ignore = "run as a process of its own"]
fn gateway_on_a_disk_that_fails() {
    crate::gateway::run_to_its_end_in_this_process(|settings| {
        with_a_limit(settings);
        let disk = Disk::register(&settings.state_folder);
        settings.vfs = Some(disk.name.clone());
        let order = settings.state_folder.parent().expect("a folder around the state").join(FAILS);
        std::thread::spawn(move || {
            loop {
                disk.fails.store(order.exists(), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    });
}

#[test]
fn a_flood_over_a_failing_disk_costs_bounded_memory_and_the_end_says_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_test(folder.path(), "unstorable::gateway_on_a_disk_that_fails");
    Client::connect(gateway.mqtt, "tank").publish(TOPIC, "5.0");
    std::fs::write(folder.path().join(FAILS), "").unwrap();
    let before = gateway.rss_bytes();
    let started = Instant::now();
    let mut flood = Client::connect(gateway.mqtt, "flood");
    flood.stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut n = 0u64;
    let mut bytes = 0;
    while started.elapsed() < Duration::from_secs(8) || bytes < 64 << 20 {
        assert!(started.elapsed() < DEADLINE, "only {bytes} bytes were taken");
        // Each is a new device with an alert, and names and texts that add up.
        let item = format!("{{\"level\":11,\"note\":\"{n:0>2000}\"}}");
        let packet = publish_packet(&format!("devices/device-{n}"), item.as_bytes(), 0, false, false, 0);
        flood.send(&packet);
        bytes += packet.len() as u64;
        n += 1;
    }
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB for {} MiB", grown >> 20, bytes >> 20);
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, b"6.0", 1, false, false, id));
    let stopping = Instant::now();
    let log = gateway.log.clone();
    let status = gateway.stop();
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    assert!(log.contains("the disk answers with errors") && log.contains("not acknowledged"), "{log}");
    device.expect_close();
}

/// Stops a gateway whose disk is in trouble. Returns how it ends, and how long that takes.
fn end_of(fault: Fault, is_known: bool) -> (Result<(), GatewayError>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| settings.vfs = Some(disk.name.clone()));
    let mut device = Client::connect(gateway.mqtt, "tank");
    device.publish(TOPIC, "5.0");
    fault.begin(disk);
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, b"6.0", 1, false, false, id));
    if is_known {
        wait_until("a gateway that knows", || get(gateway.admin, "/readyz").0 == 503);
    }
    let stopping = Instant::now();
    let result = gateway.end();
    let took = stopping.elapsed();
    device.expect_close();
    fault.end(disk);
    (result, took)
}

#[test]
fn a_gateway_whose_disk_is_in_trouble_ends_within_the_grace_and_says_what_is_left() {
    for fault in [Fault::Fails, Fault::Hangs] {
        for is_known in [true, false] {
            let (result, took) = end_of(fault, is_known);
            assert!(matches!(result, Err(GatewayError::Unstored { readings: 1, .. })), "{fault:?}: {result:?}");
            // Ten seconds of grace, plus a margin for a busy machine.
            assert!(took < Duration::from_secs(11), "{fault:?}, {is_known}: {took:?}");
        }
    }
}

/// The control: on a working disk the same end is in order.
#[test]
fn a_gateway_whose_disk_recovers_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| settings.vfs = Some(disk.name.clone()));
    disk.sync_delay_ms.store(300, Ordering::SeqCst);
    let mut device = Client::connect(gateway.mqtt, "tank");
    let id = device.next_packet_id();
    device.send(&publish_packet(TOPIC, b"6.0", 1, false, false, id));
    wait_until("the reading", || gateway.status()["mqtt"]["publishes_qos_1"] == 1);
    assert!(gateway.end().is_ok());
    assert_eq!(device.packet().unwrap().first, 0x40, "slow is not hung");
}

/// A client with this many publishes that it does not wait for raises an alert with the last of them.
fn alarm_behind(gateway: &InProcess, driver: &mut Client, window: u64) -> Client {
    let device = format!("window-{window}");
    let mut client = Client::connect(gateway.mqtt, &device);
    let mut packets = Vec::new();
    for n in 1..=window {
        let id = client.next_packet_id();
        let payload = reading(if n == window { 11.0 } else { 5.0 }, n);
        packets.extend(publish_packet(&format!("devices/{device}/level"), payload.as_bytes(), 1, false, false, id));
    }
    let published = Instant::now();
    client.send(&packets);
    let alert = next_alert(driver);
    assert_eq!((alert["device"].as_str(), &alert["stored"]), (Some(&*device), &false.into()), "{alert}");
    assert!(published.elapsed() < ALERT_WITHIN, "{window}: {:?}", published.elapsed());
    client
}

/// However many publishes its client does not wait for: a window of 1, of 20, and none at all.
#[test]
fn a_dead_disk_silences_no_alert_of_clients_that_do_not_wait_and_the_end_is_soon() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        with_a_limit(settings);
    });
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/+/level/limit", 1)]);
    Client::connect(gateway.mqtt, "tank").publish(TOPIC, "5.0");
    disk.fails.store(true, Ordering::SeqCst);
    let broken = Instant::now();
    for window in [1000, 20, 1] {
        alarm_behind(&gateway, &mut driver, window).expect_close();
        assert!(broken.elapsed() > Duration::from_secs(4), "five seconds are given to the disk");
    }
    assert_eq!(gateway.status()["ledger_adds_up"], true);
    // They come back again and again.
    let (mqtt, (stop, stopped)) = (gateway.mqtt, std::sync::mpsc::channel::<()>());
    let flood = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let Ok(stream) = std::net::TcpStream::connect(mqtt) else { return };
            let options = crate::client::Options { client_id: "flood", clean: true, keep_alive_s: 0, will: None };
            let Ok((mut client, _)) = Client::try_over(stream, &options) else { continue };
            for id in 1..=2000_u16 {
                let packet = publish_packet("devices/flood/level", b"5.0", u8::from(id % 2 == 0), false, false, id);
                if std::io::Write::write_all(&mut client.stream, &packet).is_err() {
                    break;
                }
            }
            let _ = client.packet();
        }
    });
    wait_until("the flood", || gateway.status()["mqtt"]["publishes_qos_0"].as_u64().unwrap() > 1000);
    let stopping = Instant::now();
    let result = gateway.end();
    assert!(matches!(result, Err(GatewayError::Unstored { .. })), "{result:?}");
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    drop(stop);
    flood.join().unwrap();
}

/// A record is of the gateway that accepted it, whatever the gateway is called when it is sent.
#[test]
fn a_backlog_keeps_the_id_under_which_it_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for (id, link) in [("before", Link::Down), ("after", Link::Up)] {
        let gateway = InProcess::start_with_link(folder.path(), link, |settings| {
            settings.gateway_id = id.to_owned();
            with_a_limit(settings);
            close_archives_soon(settings);
        });
        Client::connect(gateway.mqtt, "tank").publish(&format!("devices/{id}/level"), "11");
        gateway.stop();
    }
    let mut identities = std::collections::BTreeSet::new();
    for stream in ["raw", "anomalies"] {
        archive::read(&folder.path().join("state/archive"), stream, |line| {
            let [gateway, run, position] =
                ["gateway", "run", "position"].map(|name| archive::field(line, name).to_owned());
            assert!(identities.insert((stream, run, position)), "twice: {line}");
            for id in ["before", "after"] {
                if archive::field(line, "type") != "gateway" && archive::field(line, "device") == id {
                    assert_eq!(gateway, id, "{line}");
                }
            }
        });
    }
    assert!(identities.len() >= 6, "{identities:?}");
}

//! The administration interface, as seen by monitoring, people and consumers of the second stream.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::gateway::{DEADLINE, Gateway, wait_until};

/// Names and values of a text in Prometheus' format; panics if it is malformed.
fn metrics_of(text: &str) -> BTreeMap<String, f64> {
    let mut families = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            families.push((name.to_owned(), kind == "histogram"));
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let sample = name.split('{').next().unwrap();
            let (family, is_histogram) = families.last().unwrap();
            let is_part = ["_bucket", "_sum", "_count"].iter().any(|part| sample.strip_suffix(part) == Some(family));
            assert!(if *is_histogram { is_part } else { sample == family }, "{line}");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    samples
}

#[test]
fn health_metrics_and_status_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    assert_eq!(gateway.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(gateway.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(gateway.get("/nothing").0, 404);
    let mut client = Client::connect(gateway.mqtt, "device");
    for value in 0..5 {
        client.publish("devices/tank-1/temperature", format!("{value}.0").as_bytes());
    }
    client.publish("devices/tank-1/temperature", b"{");
    client.publish("elsewhere/x", b"1.0");
    // The store's numbers are read after the commit that the acknowledgements waited for.
    let status = gateway.status();
    let metrics = metrics_of(&gateway.get("/metrics").1);
    assert_eq!(status["received"]["accepted"], 5);
    assert_eq!(metrics["outrider_readings_accepted_total"], 5.0);
    assert_eq!(status["received"]["undecodable_by_reason"]["not_json"], 1);
    assert_eq!(metrics["outrider_publishes_undecodable_total{reason=\"not_json\"}"], 1.0);
    assert_eq!(status["unrouted"]["topics"][0], "elsewhere/x");
    assert_eq!(metrics["outrider_publishes_unrouted_total"], 1.0);
    assert!(metrics["outrider_commit_seconds_count"] > 0.0 && metrics["outrider_disk_written_bytes_total"] > 0.0);
    assert!(metrics["outrider_puback_seconds_bucket{le=\"+Inf\"}"] >= 1.0, "{metrics:?}");
    assert!(metrics.contains_key("outrider_sink_sent_bytes_total{stream=\"raw\",sink=\"archive\"}"));
    assert_eq!(metrics["outrider_buffer_events{stream=\"raw\",sink=\"archive\"}"], 5.0);
    for name in ["buffer_bytes", "buffer_oldest_seconds", "clock_synced", "mqtt_connections", "ledger_adds_up"] {
        assert!(metrics.contains_key(&format!("outrider_{name}")), "{name}");
    }
    let page = gateway.get("/").1;
    assert!(page.contains("<title>Outrider</title>") && page.contains("/api/status"));
}

#[test]
fn each_series_is_listed_with_what_decided_how_it_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[profile]]\nmetrics = 'door'\nlike = 'off'\n[[limit]]\nmetric = 'odometer'\nmax = 9\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("vehicles/truck", r#"{"state":{"oilTemp":80},"odometer":7,"door":1,"foo":2}"#);
    client.publish("vehicles/van/temp", "20");
    let status = gateway.status();
    let series = &status["series"];
    let line = |line: &serde_json::Value| {
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        format!("{} {}: {} {} {}", text("device"), text("metric"), text("profile"), text("profile_word"), line["limit"])
    };
    let lines = |list: &serde_json::Value| list.as_array().unwrap().iter().map(line).collect::<Vec<_>>();
    let [foo, oil, van, door, odometer] = [
        "truck foo: generic - false",
        "truck state.oilTemp: temperature temp false",
        "van temp: temperature temp false",
        "truck door: off door false",
        "truck odometer: off odometer true",
    ];
    assert_eq!(
        (lines(&series["watched"]), &series["watched_total"]),
        (vec![foo.into(), oil.into(), van.into()], &3.into())
    );
    assert_eq!(
        (lines(&series["unwatched"]), &series["unwatched_total"]),
        (vec![door.into(), odometer.into()], &2.into())
    );
    let reason = series["unwatched"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, "a [[profile]] with the word \"door\" of its name turns it off");
    let all = |path: &str| lines(&serde_json::from_str(&gateway.get(path).1).unwrap());
    assert_eq!(all("/api/series"), [door, foo, odometer, oil, van]);
    assert_eq!(all("/api/series?after=truck/odometer"), [oil, van]);
    assert_eq!(gateway.get("/api/series?from=truck").0, 400);
    let maturity: Vec<serde_json::Value> = serde_json::from_str(&gateway.get("/api/series").1).unwrap();
    let maturity: Vec<Option<&str>> = maturity.iter().map(|line| line["maturity"].as_str()).collect();
    assert_eq!(maturity, [None, Some("new"), None, Some("new"), Some("new")]);
    let (status, explanation) = gateway.get("/api/series/truck/state%2EoilTemp");
    let explanation: serde_json::Value = serde_json::from_str(&explanation).unwrap();
    let of = |key: &str| explanation[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (status, of("metric"), of("profile"), of("maturity")),
        (200, "state.oilTemp".into(), "temperature".into(), "new".into())
    );
    assert!(
        of("text").starts_with("truck/state.oilTemp is new: heard for less than a minute since 20"),
        "{}",
        of("text")
    );
    for path in ["/api/series/truck/odometer", "/api/series/truck/none", "/api/series/truck", "/api/series/a/b/c"] {
        assert_eq!(gateway.get(path).0, 404, "{path}");
    }
    assert!(gateway.get("/").1.contains("/api/series\""), "the page leads there");
}

/// The gateway's own record is retained on its topic and stored on the second stream: a consumer can prove that nothing is missing.
#[test]
fn the_gateway_tells_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "watcher");
    client.subscribe(&[("outrider/status", 1)]);
    let told: serde_json::Value = serde_json::from_slice(&client.receive().payload).unwrap();
    assert_eq!((told["type"].as_str(), told["state"].as_str()), (Some("gateway"), Some("running")));
    wait_until("the record is stored", || gateway.status()["ledger"][1]["accepted"].as_u64() >= Some(1));
    assert!(gateway.stop().success());
    let records = archive::records(&folder.path().join("state/archive"), "anomalies");
    let stored = records.iter().find(|record| record["type"] == "gateway").expect("on the second stream");
    for key in ["gateway", "run", "position"] {
        assert_eq!(stored[key], told[key], "{key}");
    }
}

/// A page of another site, whose name resolves to our address (DNS rebinding), wherever we listen.
#[test]
fn what_is_asked_in_the_name_of_another_site_is_not_answered() {
    for admin in ["127.0.0.1:0", "0.0.0.0:0"] {
        let folder = tempfile::tempdir().unwrap();
        let config = "admin.hosts = ['gateway.example.com']\n";
        let variables = [("OUTRIDER__ADMIN__LISTEN", admin), ("OUTRIDER__ADMIN__INSECURE", "true")];
        let gateway = Gateway::start_configured(folder.path(), config, &[], &variables);
        let address = (std::net::Ipv4Addr::LOCALHOST, gateway.admin.unwrap().port());
        let status_of = |method: &str, path: &str, headers: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\ncontent-length: 0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.split(' ').nth(1).unwrap().to_owned()
        };
        let hosts = ["localhost:9464", "127.0.0.1", "10.1.2.3", "gateway.example.com", "rebound.example"];
        let found = hosts.map(|host| status_of("GET", "/api/status", &format!("host: {host}")));
        assert_eq!(found, ["200", "200", "200", "200", "421"], "{admin}");
        let post = |origin: &str| {
            status_of("POST", "/api/alerts/a/b/c/ack", &format!("host: 10.1.2.3:9464\r\norigin: {origin}"))
        };
        assert_eq!(
            ["http://10.1.2.3:9464", "http://rebound.example:9464", "null"].map(post),
            ["404", "403", "403"],
            "{admin}"
        );
    }
}

/// Clients that open connections and send nothing, or do not read, keep nobody from asking for the status.
#[test]
fn idle_connections_do_not_keep_health_from_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let admin = gateway.admin.unwrap();
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(admin).unwrap()).collect();
    let asked = Instant::now();
    assert_eq!(gateway.get("/healthz").0, 200);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // The gateway closes idle connections by itself; the last one had a place until now.
    let mut last = idle.last().unwrap();
    last.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(last.read(&mut [0; 1]).unwrap_or(0), 0);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    wait_until("sockets are closed", || descriptors() < 64);
}

/// A thousand alerts, requested by a hundred clients that do not read.
#[test]
fn answers_that_nobody_reads_take_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[limit]]\nmetric = 'm'\nmax = 1\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "d");
    let alerts = 1500;
    for number in 0..alerts {
        client.send(&publish_packet(&format!("devices/{}-{number}/m", "x".repeat(100)), b"5.0", 0, false, false, 0));
    }
    client.ping();
    wait_until("the alerts are stored", || gateway.status()["alerts_total"].as_u64() >= Some(1000));
    let page = gateway.get("/api/alerts").1;
    assert!(page.len() < 160 << 10 && page.len() > 64 << 10, "{}", page.len());
    let before = gateway.rss_bytes();
    let unread: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(gateway.admin.unwrap()).unwrap();
            let path = if number % 2 == 0 { "/api/alerts" } else { "/api/status" };
            write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(gateway.get("/healthz").0, 200);
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
    drop(unread);
}

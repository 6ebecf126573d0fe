//! Events as a browser gets them, and the newest values of the fleet.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Client, publish_packet};
use crate::gateway::{DEADLINE, Gateway, wait_until};

/// A client of `/api/events`, as `EventSource` is one.
pub struct Events {
    stream: TcpStream,
    pub status: u16,
    pub head: String,
    /// What was read and is not an event yet, without the marks of its chunks.
    text: String,
    raw: Vec<u8>,
    ready: VecDeque<(String, Value)>,
}

impl Events {
    pub fn open(admin: SocketAddr, query: &str, headers: &str) -> Events {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /api/events{query} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Events { stream, status, head, text: String::new(), raw: Vec::new(), ready: VecDeque::new() }
    }

    /// The next event; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.raw.extend_from_slice(&buffer[..read]),
            }
            while let Some(chunk) = self.chunk() {
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let of = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let (Some(name), Some(data)) = (of("event: "), of("data: ")) {
                    self.ready.push_back((name, serde_json::from_str(&data).unwrap()));
                }
                self.text = rest.to_owned();
            }
        }
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.raw.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&self.raw[..end]).unwrap(), 16).unwrap();
        if self.raw.len() < end + 2 + length + 2 {
            return None;
        }
        let chunk = self.raw[end + 2..end + 2 + length].to_vec();
        self.raw.drain(..end + 2 + length + 2);
        Some(chunk)
    }

    /// Reads until there is such an event.
    pub fn until(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, data) = self.next().unwrap_or_else(|| panic!("the stream ended before {name}"));
            if found == name && is_it(&data) {
                return data;
            }
        }
    }

    fn is_ended(&mut self) -> bool {
        while self.next().is_some() {}
        true
    }
}

const LIMIT: &str = "alert.clear_after = '1s'\n[[limit]]\nmetric = 'level'\nmax = 9\n";

#[test]
fn alerts_values_and_the_status_are_told_as_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let admin = gateway.admin.unwrap();
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/old/level", r#"{"value":10}"#);
    wait_until("an alert", || gateway.get("/api/alerts").1.contains("old"));
    let mut events = Events::open(admin, "?events=alerts,status,values&device=tank", "");
    assert_eq!(events.status, 200);
    assert!(events.head.contains("content-type: text/event-stream") && events.head.contains("no-store"));
    let all = events.until("alerts", |_| true);
    assert_eq!((&all["alerts"][0]["device"], &all["raised"]), (&json!("old"), &json!(1)));
    let status = events.until("status", |_| true);
    assert_eq!((&status["state"], &status["alerts_raised"]), (&json!("running"), &json!(1)));
    // What is wanted, and nothing else.
    wait_until("the pipeline was asked", || {
        device.publish("devices/tank/level", r#"{"value":3}"#);
        device.publish("devices/other/level", r#"{"value":4}"#);
        events.ready.iter().any(|(name, _)| name == "values")
            || events.next().is_some_and(|(name, data)| {
                let is_it = name == "values";
                assert!(
                    !is_it || data["values"].as_array().unwrap().iter().all(|value| value["device"] == "tank"),
                    "{data}"
                );
                is_it && data["values"][0]["value"] == 3.0
            })
    });
    device.publish("devices/tank/level", r#"{"value":12}"#);
    let alert = events.until("alert", |alert| alert["device"] == "tank");
    assert_eq!((&alert["kind"], &alert["state"], &alert["stored"]), (&json!("limit"), &json!("raised"), &json!(true)));
    assert_eq!(gateway.post("/api/alerts/tank/level/limit/ack", r#"{"by":"anna"}"#).status, 202);
    events.until("alert", |alert| alert["device"] == "tank" && alert["acknowledged_by"] == "anna");
    // The same over more than one connection, and a stream that wants less gets less.
    let mut alerts = Events::open(admin, "?events=alerts", "");
    let all = alerts.until("alerts", |_| true);
    assert_eq!(all["raised"], 2);
    device.publish("devices/third/level", r#"{"value":12}"#);
    assert_eq!(alerts.next().unwrap().0, "alert", "neither values nor a status in between");
    events.until("status", |status| status["alerts_raised"] == 3);
    for wrong in ["?events=x", "?since=3", "?device"] {
        assert_eq!(Events::open(admin, wrong, "").status, 400, "{wrong}");
    }
    assert_eq!(gateway.post("/api/events", "{}").status, 405);
    // They end with the gateway.
    assert!(gateway.stop().success());
    assert!(events.is_ended() && alerts.is_ended());
}

/// Alerts that were missed while the store could not be opened, or while nobody looked, are told to whoever connects.
#[test]
fn an_alert_that_is_removed_is_told_and_one_that_was_there_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    Client::connect(gateway.mqtt, "device").publish("devices/tank/level", r#"{"value":10}"#);
    let mut events = Events::open(gateway.admin.unwrap(), "?events=alerts", "");
    wait_until("the alert", || gateway.get("/api/alerts").1.contains("level"));
    gateway.kill();
    assert!(events.is_ended());
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let mut events = Events::open(gateway.admin.unwrap(), "?events=alerts", "");
    assert_eq!(events.until("alerts", |_| true)["alerts"][0]["metric"], "level");
    let removed = Command::new(env!("CARGO_BIN_EXE_outrider"))
        .args(["alerts", "clear", "tank", "level", "limit", "--state", folder.path().join("state").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let cleared = events.until("alert", |alert| alert["state"] != "raised");
    assert_eq!((&cleared["device"], &cleared["kind"]), (&json!("tank"), &json!("limit")));
}

fn make_token(folder: &Path, name: &str) -> String {
    let file = folder.join("tokens");
    let output = Command::new(env!("CARGO_BIN_EXE_outrider"))
        .args(["token", "add", file.to_str().unwrap(), name, "--role", "view"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn whoever_may_not_look_any_more_is_told_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let [anna, bob, carl] = ["anna", "bob", "carl"].map(|name| make_token(folder.path(), name));
    let gateway = Gateway::start_configured(folder.path(), "admin.tokens = 'tokens'\n", &[], &[]);
    let admin = gateway.admin.unwrap();
    assert_eq!(Events::open(admin, "", "").status, 401);
    assert_eq!(Events::open(admin, "", "cookie: outrider_token=x\r\n").status, 401);
    let open = |token: &str| {
        let mut events = Events::open(admin, "", &format!("cookie: outrider_token={token}\r\n"));
        events.until("status", |_| true);
        events
    };
    let [mut of_anna, mut of_bob, mut of_carl] = [&anna, &bob, &carl].map(|token| open(token));
    // One logs out, of another the token is removed.
    let mut out = TcpStream::connect(admin).unwrap();
    write!(
        out,
        "POST /logout HTTP/1.1\r\nhost: localhost\r\ncookie: outrider_token={anna}\r\ncontent-length: 0\r\n\r\n"
    )
    .unwrap();
    out.read_to_string(&mut String::new()).unwrap();
    assert!(of_anna.is_ended());
    let file = folder.path().join("tokens");
    let left: String = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .filter(|line| !line.contains("bob"))
        .fold(String::new(), |text, line| text + line + "\n");
    std::fs::write(&file, left).unwrap();
    let state = folder.path().join("state");
    let reload = ["reload", "--state", state.to_str().unwrap()];
    assert!(Command::new(env!("CARGO_BIN_EXE_outrider")).args(reload).output().unwrap().status.success());
    assert!(of_bob.is_ended());
    // The control: who may look still is told.
    of_carl.until("status", |_| true);
}

/// Pages that stay open take neither all connections nor, if they do not read, much memory.
#[test]
fn streams_are_bounded_and_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), LIMIT, &[], &[]);
    let admin = gateway.admin.unwrap();
    let mut streams: Vec<Events> = (0..12).map(|_| Events::open(admin, "", "")).collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    let one_more = Events::open(admin, "", "");
    assert!(one_more.status == 503 && one_more.head.contains("retry-after"), "{}", one_more.head);
    assert_eq!(gateway.get("/healthz").0, 200);
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(admin).unwrap()).collect();
    assert_eq!(gateway.get("/healthz").0, 200);
    drop(idle);
    let before = gateway.rss_bytes();
    let mut device = Client::connect(gateway.mqtt, "device");
    for number in 0..2_000 {
        let topic = format!("devices/{}-{}/level", "x".repeat(100), number % 500);
        let payload = format!("{{\"value\":{}}}", 10 + number);
        device.send(&publish_packet(&topic, payload.as_bytes(), 0, false, false, 0));
    }
    device.ping();
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
    wait_until("the alerts are stored", || gateway.status()["alerts_total"].as_u64() >= Some(500));
    // A place that is given back is free, and whoever takes it learns all that is to be known.
    streams.clear();
    let mut opened = None;
    wait_until("a place", || {
        opened = Some(Events::open(admin, "?events=alerts", "")).filter(|events| events.status == 200);
        opened.is_some()
    });
    assert!(opened.unwrap().until("alerts", |_| true)["total"].as_u64() >= Some(500));
}

#[test]
fn the_fleet_is_listed_page_by_page_with_its_newest_values() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "fleet");
    for number in 0..230 {
        client.publish(&format!("devices/truck-{number:03}/temp"), format!("{{\"value\":{number}}}"));
    }
    client.publish("devices/truck-007", r#"{"lat":52.5,"odometer":1234,"speed":80}"#);
    let page = |path: &str| {
        let answer = crate::gateway::request(gateway.admin.unwrap(), &format!("GET {path}"), "", "");
        assert_eq!(answer.status, 200, "{path}");
        let next = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("link: <"))
            .map(|link| link.strip_suffix(">; rel=\"next\"").unwrap().to_owned());
        (serde_json::from_str::<Vec<Value>>(&answer.body).unwrap(), next)
    };
    let (first, next) = page("/api/devices");
    let (second, end) = page(&next.expect("there are more than 200"));
    assert_eq!((first.len(), second.len(), end), (200, 30, None));
    assert_eq!((&first[7]["device"], &first[7]["series"]), (&json!("truck-007"), &json!(4)));
    assert_eq!(page("/api/devices?search=K-22").0.len(), 10);
    let (values, _) = page("/api/values?device=truck-007");
    let shown: Vec<_> =
        values.iter().map(|it| (it["metric"].as_str().unwrap(), it["value"].as_f64().unwrap())).collect();
    assert_eq!(shown, [("lat", 52.5), ("odometer", 1234.0), ("speed", 80.0), ("temp", 7.0)]);
    assert_eq!(values[0]["watched"], false);
    let (all, end) = page("/api/values");
    assert_eq!((all.len(), end), (233, None));
    for wrong in ["/api/devices?x=1", "/api/values?after=a", "/api/values?since=1"] {
        assert_eq!(gateway.get(wrong).0, 400, "{wrong}");
    }
}

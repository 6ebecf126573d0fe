use std::cell::RefCell;

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::admin::access::Access;
use crate::admin::history::HistorySource;
use crate::admin::live::stream::Client;
use crate::admin::live::stream::tests::{client, read};
use crate::admin::live::stream::{EventBody, Wants};
use crate::admin::origin::Hosts;
use crate::admin::undecodable::SampleHints;
use crate::core::identity::RunId;
use crate::heartbeat::{Heartbeat, Watcher};
use crate::ingest::ClockState;
use crate::mqtt::Phase;
use crate::store::reader::Reader;
use crate::store::writer::{Writer, WriterSettings};
use crate::tls::testing::{Files, TestAuthority};

/// A gateway with a store, as this interface sees it.
fn sources(settings: &WriterSettings) -> Sources {
    let reader = Reader::open(&settings.path, None).expect("a store");
    Sources {
        gateway_id: "g".to_owned(),
        run: RunId([1; 8]),
        listeners: Vec::new(),
        admin_listen: None,
        started: Instant::now(),
        started_at_ms: 0,
        state_folder: settings.path.parent().expect("a folder").to_owned(),
        store_bytes_max: settings.capacity.bytes_max,
        reader: RefCell::new(Some(reader)),
        history: HistorySource::new(settings.path.clone(), None),
        looked: RefCell::default(),
        flow: RefCell::default(),
        alerts: Default::default(),
        questions: Arc::new(tokio::sync::Semaphore::new(1)),
        sample_hints: RefCell::new(SampleHints::new(Vec::new())),
        hosts: Hosts::new(Vec::new()),
        access: Default::default(),
        policies: Default::default(),
        edge: Default::default(),
        store: Default::default(),
        links: Vec::new(),
        sinks: Vec::new(),
        files: Vec::new(),
        bridges: Vec::new(),
        clock: ClockState::new(true),
        rules: Default::default(),
        phase: tokio::sync::watch::channel(Phase::Running).1,
        watcher: RefCell::new(Watcher::new(&Heartbeat::default())),
        stalled: RefCell::default(),
        now_ms: || 0,
    }
}

fn insert_alert(db: &Connection, device: &str, message: &str) {
    let body = json!({"device": device, "metric": "m", "kind": "k", "state": "raised", "message": message});
    let insert = "INSERT INTO alert(device, metric, kind, body) VALUES (?1, 'm', 'k', ?2)";
    db.execute(insert, (device, body.to_string().into_bytes())).expect("a row");
}

fn open(events: &str, now: Instant) -> EventBody {
    EventBody(Stream::new(Wants::parse(Some(events)).expect("known"), client(1), now))
}

/// The events that wait for a client, by name.
fn events(body: &mut EventBody) -> Vec<(String, serde_json::Value)> {
    let frames = std::iter::from_fn(|| read(body));
    let event = |frame: Bytes| {
        let text = String::from_utf8(frame.to_vec()).expect("a text");
        let (name, data) = text.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).expect("JSON")))
    };
    frames.filter_map(event).collect()
}

fn devices(alerts: &serde_json::Value) -> Vec<&str> {
    let alerts = alerts["alerts"].as_array().expect("a list");
    alerts.iter().map(|alert| alert["device"].as_str().expect("a name")).collect()
}

#[test]
fn all_alerts_are_told_to_a_new_client_however_much_they_take() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = WriterSettings::for_tests(folder.path());
    let writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
    (0..100).for_each(|number| insert_alert(writer.connection(), &number.to_string(), &"x".repeat(2_000)));
    let (sources, start) = (sources(&settings), Instant::now());
    let pipeline = std::sync::mpsc::channel().0;
    let mut hub = Hub::new(&sources, &pipeline);
    let mut body = open("events=alerts", start);
    let streams = [Rc::clone(&body.0)];
    let told = (0..2).any(|look| {
        hub.look(&streams, start + look * LOOK_EVERY);
        events(&mut body).iter().any(|(name, data)| name == "alerts" && devices(data).len() == 100)
    });
    assert!(told);
    hub.look(&streams, start + 3 * LOOK_EVERY);
    assert_eq!(events(&mut body), [], "once");
}

#[test]
fn a_store_that_cannot_be_read_hides_no_unstored_alert_and_is_read_as_soon_as_it_can_be() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = WriterSettings::for_tests(folder.path());
    let writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
    insert_alert(writer.connection(), "stored", "");
    let (sources, start) = (sources(&settings), Instant::now());
    sources.alerts.watch(true);
    let raise = |device: &str, end: &str| {
        let payload = format!("{{\"device\":\"{device}\",\"state\":\"raised\"{end}}}");
        sources.alerts.note(&format!("alerts/{device}/m/k"), payload.as_bytes());
    };
    raise("unstored", ",\"stored\":false");
    writer.connection().execute_batch("ALTER TABLE alert RENAME TO gone").expect("renamed");
    let pipeline = std::sync::mpsc::channel().0;
    let mut hub = Hub::new(&sources, &pipeline);
    let mut body = open("events=alerts,status", start);
    let streams = [Rc::clone(&body.0)];
    hub.look(&streams, start);
    let told = events(&mut body);
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["alert", "status"]);
    assert_eq!((&told[0].1["device"], &told[1].1["state"]), (&json!("unstored"), &json!("store_unreadable")));
    raise("new", "");
    hub.look(&streams, start + LOOK_EVERY);
    let told = events(&mut body);
    assert_eq!((told.len(), &told[0].1["device"]), (1, &json!("new")));
    writer.connection().execute_batch("ALTER TABLE gone RENAME TO alert").expect("renamed");
    hub.look(&streams, start + UNREADABLE_EVERY);
    let told = events(&mut body);
    assert_eq!((told[0].0.as_str(), devices(&told[0].1)), ("alerts", vec!["stored", "unstored"]));
    assert_eq!((told[1].0.as_str(), &told[1].1["state"]), ("status", &json!("running")));
}

#[test]
fn a_large_store_is_read_once_for_all_who_come_meanwhile() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = WriterSettings::for_tests(folder.path());
    let writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
    (0..2_000).for_each(|number| insert_alert(writer.connection(), &number.to_string(), ""));
    let (sources, start) = (sources(&settings), Instant::now());
    let pipeline = std::sync::mpsc::channel().0;
    let mut hub = Hub::new(&sources, &pipeline);
    let [mut first, mut second, mut third] = [(); 3].map(|()| open("events=alerts", start));
    let total_told = |body: &mut EventBody| events(body).first().map(|(_, data)| data["total"].clone());
    hub.look(&[Rc::clone(&first.0)], start);
    assert_eq!(total_told(&mut first), Some(json!(2_000)));
    insert_alert(writer.connection(), "one more", "");
    let both = [Rc::clone(&second.0), Rc::clone(&third.0)];
    hub.look(&both, start + LARGE_STORE_EVERY / 2);
    assert_eq!((total_told(&mut second), total_told(&mut third)), (None, None));
    hub.look(&both, start + LARGE_STORE_EVERY);
    let all = Some(json!(2_001));
    assert_eq!((total_told(&mut second), total_told(&mut third)), (all.clone(), all));
}

#[test]
fn each_round_through_the_table_begins_where_the_one_before_began() {
    let mut heard = Heard::NEW;
    heard.answered(1_000, None);
    assert_eq!((heard.since_ms, heard.from), (1_000, 0), "what came before anybody looked is not told");
    heard.answered(2_000, Some(40));
    assert_eq!((heard.since_ms, heard.from), (1_000, 40));
    heard.answered(3_000, Some(80));
    heard.answered(4_000, None);
    assert_eq!((heard.since_ms, heard.from), (2_000, 0), "places that were looked at first are looked at from there");
}

#[test]
fn an_event_is_one_line_whatever_a_device_is_called() {
    let text = |frame: Bytes| String::from_utf8(frame.to_vec()).expect("a text");
    let removed = frame_of_alert("alerts/a%2Fb\nevent: x/t/gap", &[]).expect("an alert");
    assert_eq!(
        text(removed),
        "event: alert\ndata: {\"device\":\"a/b\\nevent: x\",\"kind\":\"gap\",\"metric\":\"t\",\"state\":\"removed\"}\n\n"
    );
    let value = ValueLine {
        device: "a\n\nb".to_owned(),
        metric: "t".to_owned(),
        value: Some(1.5),
        measured_at_ms: Some(1),
        heard_at_ms: 2,
        stale_after_ms: 3,
        watched: true,
    };
    let frame = text(frame_of_values(7, vec![&value]).expect("values"));
    assert!(frame.starts_with("event: values\ndata: {\"now_ms\":7,\"values\":[{\"device\":\"a\\n\\nb\""), "{frame}");
    assert_eq!(frame.lines().count(), 3);
    assert_eq!(frame_of_values(7, Vec::new()), None);
}

#[test]
fn a_client_whose_certificate_is_revoked_is_told_nothing_any_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = WriterSettings::for_tests(folder.path());
    let _writer = Writer::open(&settings, RunId([1; 8])).expect("a store");
    let (sources, ca) = (sources(&settings), TestAuthority::new("ca"));
    let pipeline = std::sync::mpsc::channel().0;
    let hub = Hub::new(&sources, &pipeline);
    let [own, other] = ["own", "other"].map(|name| ca.client(name));
    let streams = [&own, &other].map(|shown| {
        let client = Client { certificates: shown.chain.clone().into(), ..client(1) };
        Stream::new(Wants::parse(None).expect("everything"), client, Instant::now())
    });
    let lists = [ca.list(1, time::Duration::days(1), &[&own])];
    for (lists, expected) in [(&[][..], [false, false]), (&lists, [true, false])] {
        let tls = Files::new(&ca.server()).with_authorities(&[&ca]).with_lists(lists).load().expect("right");
        sources.access.replace(Arc::new(Access { tls: Some(Arc::new(tls)), ..Access::default() }));
        hub.admit(&streams, UnixTime::now());
        assert_eq!([0, 1].map(|at| streams[at].is_ended()), expected);
    }
}

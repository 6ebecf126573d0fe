//! An acknowledgement that says what the alert was: what the detectors learn from it, by each way, and that this outlives a kill.

use std::path::Path;

use outrider::store::schema::store_path;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

const CONFIG: &str = "[[limit]]\nmetric = 'level'\nmax = 10\n";
const ALERT: &str = "alerts/tank 1/temperature/anomaly";
const PATH: &str = "/api/alerts/tank%201/temperature/anomaly/ack";

fn start(folder: &Path) -> Gateway {
    Gateway::start_configured(folder, CONFIG, &[], &[])
}

/// A device whose readings are a second apart by its own clock, so that nothing has to be waited for.
struct Tank {
    client: Client,
    at_ms: i64,
}

impl Tank {
    /// Has sent four minutes of its history.
    fn warm(gateway: &Gateway) -> Tank {
        let client = Client::connect(gateway.mqtt, "tank");
        let mut tank = Tank { client, at_ms: outrider::gateway::now_ms() - 302_000 };
        tank.send((0..240).map(calm));
        tank
    }

    fn send(&mut self, values: impl Iterator<Item = f64>) {
        let items: Vec<String> = values
            .map(|value| {
                self.at_ms += 1_000;
                format!("{{\"value\":{value:.1},\"ts_ms\":{}}}", self.at_ms)
            })
            .collect();
        self.client.publish("devices/tank 1/temperature", format!("[{}]", items.join(",")));
    }

    /// So long after the one before that its window has nothing of that.
    fn spike(&mut self, value: f64) {
        self.send((0..14).map(calm).chain([value]));
    }
}

fn calm(second: u32) -> f64 {
    20.0 + 0.1 * f64::from(second * 7919 % 5)
}

fn alert(gateway: &Gateway, kind: &str) -> Option<Value> {
    gateway.alerts().into_iter().find(|alert| alert["kind"] == kind && alert["device"] == "tank 1")
}

/// The acknowledgement is stored, and everything with it.
fn wait_until_stored(gateway: &Gateway) {
    wait_until("an acknowledgement", || {
        alert(gateway, "anomaly").is_some_and(|alert| alert["acknowledged_by"].is_string())
    });
}

/// Readings of the tank that were found since the start. The count is shown a moment later, so many more of another device have to be shown
/// behind them first.
fn anomalies(gateway: &Gateway) -> u64 {
    const MARKERS: u64 = 500;
    let count = || gateway.status()["detection"]["anomalies"].as_u64().unwrap();
    let before = count() / MARKERS;
    let marker = vec!["11"; MARKERS as usize].join(",");
    Client::connect(gateway.mqtt, "marker").publish("devices/marker/level", format!("[{marker}]"));
    wait_until("a marker", || count() / MARKERS > before);
    count() % MARKERS
}

/// Parts of the detectors' snapshot.
fn parts(folder: &Path) -> Vec<(i64, i64, Vec<u8>)> {
    let store = Connection::open(store_path(&folder.join("state"))).unwrap();
    let mut select = store.prepare("SELECT chunk, seq, state FROM snapshot ORDER BY chunk").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn put_back(folder: &Path, parts: &[(i64, i64, Vec<u8>)]) {
    let store = Connection::open(store_path(&folder.join("state"))).unwrap();
    store.execute("DELETE FROM snapshot", []).unwrap();
    for (chunk, sequence, state) in parts {
        store.execute("INSERT INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)", (chunk, sequence, state)).unwrap();
    }
}

/// A spike that raises an alert, a word, a kill as soon as that word is stored, and the same spike again. Returns whether it is found again.
/// `is_undone`: what was stored of the detectors with the word is put back to what was before.
fn is_found_after_a_kill(say: impl FnOnce(&Gateway), is_undone: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut tank = Tank::warm(&gateway);
    // It stops with a snapshot of what is warm.
    assert!(gateway.stop().success());
    let gateway = start(folder.path());
    tank.client = Client::connect(gateway.mqtt, "tank");
    tank.spike(45.0);
    wait_until("an alert", || alert(&gateway, "anomaly").is_some());
    assert_eq!(anomalies(&gateway), 1);
    let before = parts(folder.path());
    say(&gateway);
    wait_until_stored(&gateway);
    gateway.kill();
    if is_undone {
        assert_ne!(parts(folder.path()), before);
        put_back(folder.path(), &before);
    }
    let gateway = start(folder.path());
    tank.client = Client::connect(gateway.mqtt, "tank");
    tank.spike(45.0);
    match anomalies(&gateway) {
        0 => {
            // The control: a larger one is found.
            tank.spike(95.0);
            assert_eq!(anomalies(&gateway), 1);
            false
        }
        count => {
            assert_eq!(count, 1);
            true
        }
    }
}

fn by_mqtt(gateway: &Gateway, word: &str) {
    Client::connect(gateway.mqtt, "display").publish(&format!("{ALERT}/ack"), word);
}

fn by_api(gateway: &Gateway, word: &str) {
    assert_eq!(gateway.post(PATH, word).status, 202);
}

const NORMAL: &str = r#"{"by":"anna","normal":true}"#;
const FAULT: &str = r#"{"by":"anna","normal":false}"#;
const SEEN: &str = r#"{"by":"anna"}"#;

#[test]
fn what_is_normal_is_known_after_a_kill() {
    assert!(!is_found_after_a_kill(|gateway| by_mqtt(gateway, NORMAL), false));
    assert!(!is_found_after_a_kill(|gateway| by_api(gateway, NORMAL), false));
}

#[test]
fn what_was_only_seen_or_was_a_fault_is_found_again_after_a_kill() {
    assert!(is_found_after_a_kill(|gateway| by_mqtt(gateway, SEEN), false));
    assert!(is_found_after_a_kill(|gateway| by_api(gateway, FAULT), false));
}

/// The control: a replay of readings alone does not bring back what a person said.
#[test]
fn without_what_is_stored_with_the_acknowledgement_it_would_be_lost() {
    assert!(is_found_after_a_kill(|gateway| by_api(gateway, NORMAL), true));
}

#[test]
fn what_a_person_says_is_told_everywhere_and_what_is_no_clear_word_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut tank = Tank::warm(&gateway);
    tank.spike(45.0);
    Client::connect(gateway.mqtt, "level").publish("devices/tank 1/level", "11");
    wait_until("two alerts", || alert(&gateway, "anomaly").is_some() && alert(&gateway, "limit").is_some());
    let said = |kind: &str| {
        let alert = alert(&gateway, kind).unwrap();
        (alert["acknowledged_by"].clone(), alert["normal"].clone())
    };

    // Neither true nor false is a clear error, and changes nothing.
    for (word, count) in [r#""true""#, "1", "{}"].iter().zip(1..) {
        let payload = format!("{{\"by\":\"anna\",\"normal\":{word}}}");
        let answer = gateway.post(PATH, &payload);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, "\"normal\" is neither true nor false; leave it out if it is not known\n");
        by_mqtt(&gateway, &payload);
        assert_eq!(gateway.status()["mqtt"]["publishes_refused"], count);
    }
    assert_eq!(said("anomaly"), (Value::Null, Value::Null));

    // Who listens over MQTT learns the word, and the alert has it.
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/+/ack", 1)]);
    let mut next = || serde_json::from_slice::<Value>(&watcher.receive().payload).unwrap();
    by_mqtt(&gateway, r#"{"by":"anna","normal":true,"more":1}"#);
    assert_eq!(next(), json!({"by": "anna", "normal": true}));
    wait_until("the word", || said("anomaly") == ("anna".into(), true.into()));
    // One more who has seen it leaves that as it is, and whoever knows better changes it.
    let answer = gateway.post(PATH, r#"{"by":"bob","normal":null}"#);
    assert_eq!((answer.status, answer.body.as_str()), (202, "acknowledged\n"));
    assert_eq!(next(), json!({"by": "bob"}));
    wait_until("the other", || said("anomaly") == ("bob".into(), true.into()));
    let answer = gateway.post(PATH, r#"{"by":"carl","normal":false}"#);
    assert_eq!((answer.status, answer.body.as_str()), (202, "acknowledged; nothing is learned from this fault\n"));
    assert_eq!(next(), json!({"by": "carl", "normal": false}));
    wait_until("who knows better", || said("anomaly") == ("carl".into(), false.into()));
    tank.spike(45.0);
    assert_eq!(anomalies(&gateway), 3, "the one, the limit, and again");
    let answer = gateway.post(PATH, NORMAL);
    assert_eq!((answer.status, answer.body.as_str()), (202, "acknowledged; from now on this counts as normal\n"));
    tank.spike(45.0);
    assert_eq!(anomalies(&gateway), 3);

    // Limits are configured, not learned.
    let answer = gateway.post("/api/alerts/tank%201/level/limit/ack", NORMAL);
    let learned = "acknowledged; nothing is learned from alerts of this kind\n";
    assert_eq!((answer.status, answer.body.as_str()), (202, learned));
    wait_until("the limit's", || said("limit") == ("anna".into(), true.into()));

    // It is there after a kill.
    wait_until("the last word", || said("anomaly") == ("anna".into(), true.into()));
    gateway.kill();
    let gateway = start(folder.path());
    let kept = ["anomaly", "limit"].map(|kind| alert(&gateway, kind).unwrap()["normal"].clone());
    assert_eq!(kept, [true, true]);
    let mut late = Client::connect(gateway.mqtt, "late");
    late.subscribe(&[(ALERT, 1)]);
    let retained: Value = serde_json::from_slice(&late.receive().payload).unwrap();
    assert_eq!((&retained["normal"], &retained["acknowledged_by"]), (&json!(true), &json!("anna")));
}

//! Silences of devices: by leaving, by losing the connection, by a failing sensor. After a start, silences are reported only after a
//! minute, so all of this is one test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use crate::archive;
use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::schema::Schemas;

/// Far more often than the shortest silence that is detected.
const EVERY: Duration = Duration::from_millis(200);
/// That minute, and what comes after it.
const LONGEST: Duration = Duration::from_secs(150);
/// Acknowledged publishes of each metric after which its rhythm is known.
const ROUNDS: u64 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Disconnect,
    /// The socket is closed without a DISCONNECT.
    Cut,
}

/// A device, on another maker's client, that publishes until it ends.
struct Device {
    metrics: watch::Sender<Vec<&'static str>>,
    rounds: Arc<AtomicU64>,
    end: oneshot::Sender<End>,
    thread: JoinHandle<()>,
}

impl Device {
    /// Returns when its rhythm is known.
    fn start(gateway: &Gateway, name: &'static str, metrics: &[&'static str]) -> Device {
        let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (metrics, metrics_now) = watch::channel(metrics.to_vec());
        let rounds = Arc::new(AtomicU64::new(0));
        let (end, ends) = oneshot::channel();
        let thread = {
            let rounds = Arc::clone(&rounds);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(live(name, options, metrics_now, &rounds, ends));
            })
        };
        wait_until("its rhythm is known", || rounds.load(Ordering::Relaxed) >= ROUNDS);
        Device { metrics, rounds, end, thread }
    }

    fn end(self, end: End) {
        self.end.send(end).unwrap();
        self.thread.join().unwrap();
    }
}

async fn live(
    name: &str,
    options: MqttOptions,
    metrics: watch::Receiver<Vec<&'static str>>,
    rounds: &AtomicU64,
    ends: oneshot::Receiver<End>,
) {
    let (client, events) = AsyncClient::new(options, 100);
    let measuring = async {
        for round in 0.. {
            let metrics = metrics.borrow().clone();
            for metric in metrics {
                let value = format!("2{}.5", round % 3);
                client.publish(format!("devices/{name}/{metric}"), QoS::AtLeastOnce, false, value).await.unwrap();
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    let ending = async {
        if ends.await.unwrap() == End::Disconnect {
            client.disconnect().await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    // Dropping the unfinished future closes the socket.
    tokio::select! {
        () = measuring => {}
        () = ending => {}
        () = follow(events, &metrics, rounds) => {}
    }
}

/// Counts rounds with all publishes acknowledged, until the client has disconnected.
async fn follow(mut events: EventLoop, metrics: &watch::Receiver<Vec<&'static str>>, rounds: &AtomicU64) {
    let mut acknowledged = 0;
    loop {
        match events.poll().await.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => {
                acknowledged += 1;
                if acknowledged >= metrics.borrow().len() {
                    acknowledged = 0;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            }
            Event::Outgoing(Outgoing::Disconnect) => return,
            _ => {}
        }
    }
}

/// All messages about alerts.
struct Watcher {
    client: Client,
    told: Vec<Value>,
    schemas: Schemas,
}

impl Watcher {
    fn wait_for(&mut self, topic: &str, state: &str) {
        let started = Instant::now();
        while !self.told.iter().any(|alert| topic_of(alert) == topic && alert["state"] == state) {
            assert!(self.client.wait_readable(LONGEST.saturating_sub(started.elapsed())), "{topic} is not {state}");
            let message = self.client.receive();
            if message.payload.is_empty() {
                continue;
            }
            let alert = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(topic_of(&alert), message.topic);
            self.schemas.check(&alert);
            self.told.push(alert);
        }
    }

    fn raised(&self) -> Vec<String> {
        let mut raised: Vec<String> = self.told.iter().filter(|alert| alert["revision"] == 1).map(topic_of).collect();
        raised.sort();
        raised
    }
}

fn topic_of(alert: &Value) -> String {
    let level = |name: &str| alert[name].as_str().unwrap().to_owned();
    format!("alerts/{}/{}/{}", level("device"), level("metric"), level("kind"))
}

#[test]
fn who_leaves_is_not_missed_who_is_cut_off_is_missed_once_and_a_silent_sensor_by_itself() {
    const LOST: &str = "alerts/lost/_device/gap";
    const FAILED: &str = "alerts/stays/humidity/gap";
    let folder = tempfile::tempdir().unwrap();
    let config = "alert.clear_after = '1s'\n[[profile]]\nmetrics = 'door'\ngap = 'off'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut watcher =
        Watcher { client: Client::connect(gateway.mqtt, "watcher"), told: Vec::new(), schemas: Schemas::load() };
    watcher.client.subscribe(&[("alerts/#", 1)]);
    let all = ["temperature", "humidity", "door"];
    let leaves = Device::start(&gateway, "leaves", &all);
    let lost = Device::start(&gateway, "lost", &all);
    let stays = Device::start(&gateway, "stays", &all);
    leaves.end(End::Disconnect);
    lost.end(End::Cut);
    stays.metrics.send(vec!["temperature"]).unwrap();

    watcher.wait_for(LOST, "raised");
    watcher.wait_for(FAILED, "raised");
    let listed: Vec<String> = gateway.alerts().iter().map(topic_of).collect();
    assert_eq!(listed, [LOST, FAILED], "of all that is silent");

    let back = Device::start(&gateway, "lost", &all);
    watcher.wait_for(LOST, "cleared");
    stays.metrics.send(all.to_vec()).unwrap();
    watcher.wait_for(FAILED, "cleared");
    let rounds = stays.rounds.load(Ordering::Relaxed);
    wait_until("it goes on for a while", || stays.rounds.load(Ordering::Relaxed) >= rounds + ROUNDS);
    back.end(End::Disconnect);
    stays.end(End::Disconnect);
    assert!(gateway.stop().success());
    assert_eq!(watcher.raised(), [LOST, FAILED], "each of them once");

    let records = archive::records(&folder.path().join("state/archive"), "anomalies");
    records.iter().for_each(|record| watcher.schemas.check(record));
    let anomalies: Vec<&Value> = records.iter().filter(|record| record["type"] == "anomaly").collect();
    assert_eq!(anomalies.len(), 2, "{anomalies:?}");
    for (anomaly, (device, metric)) in anomalies.iter().zip([("lost", "_device"), ("stays", "humidity")]) {
        assert_eq!((&anomaly["device"], &anomaly["metric"]), (&json!(device), &json!(metric)));
        assert_eq!((&anomaly["detector"], &anomaly["value"]), (&json!("gap"), &Value::Null));
        assert_eq!((&anomaly["raw_position"], &anomaly["raw_run"]), (&Value::Null, &Value::Null));
    }
}

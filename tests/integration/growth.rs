//! Publishes that expand to many times their size: only their sender suffers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_cloud::{Settings, ShardLimits};

use crate::client::{Client, publish_packet};
use crate::kinesis::cloud::{ANOMALIES, Cloud, RAW};

const DEVICES: u64 = 40;
const READINGS: u64 = 1_000;

fn start() -> Cloud {
    let settings =
        Settings { shard_limits: ShardLimits::UNLIMITED, ..Settings::default() }.stream(RAW, 4).stream(ANOMALIES, 1);
    Cloud::start(settings, "\n[store]\nsize_max = \"64MiB\"")
}

/// A map with one text of quotation marks, which take two bytes each in JSON, and metrics that are anomalies.
fn quotes(metrics: usize) -> Vec<u8> {
    let mut fields: Vec<(ciborium::Value, ciborium::Value)> = vec![("a".into(), "\"".repeat(16_000).into())];
    fields.extend((0..metrics).map(|number| (format!("m{number}").into(), f64::NAN.into())));
    let mut bytes = Vec::new();
    ciborium::into_writer(&ciborium::Value::Map(fields), &mut bytes).unwrap();
    bytes
}

/// A thousand readings of each of the other devices.
fn publish_history(cloud: &mut Cloud) {
    let mut client = Client::connect(cloud.gateway.mqtt, "history");
    for device in 0..DEVICES {
        let items: Vec<String> = (0..READINGS).map(|number| format!("{{\"value\":{}}}", number % 7)).collect();
        client.publish(&format!("devices/w{device}/level"), format!("[{}]", items.join(",")));
    }
    cloud.others += DEVICES * READINGS;
}

/// Sends everything before it waits for any answer.
fn flood(cloud: &Cloud, device: &str, payload: &[u8], times: u16) {
    let mut client = Client::connect(cloud.gateway.mqtt, device);
    client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for id in 1..=times {
        client.send(&publish_packet(&format!("devices/{device}"), payload, 1, false, false, id));
    }
    (0..times).for_each(|_| assert_eq!(client.packet().unwrap().first, 0x40));
}

/// The longest wait for an answer of a device that publishes ten times a second, and how many answers it got.
fn longest_wait(cloud: &Cloud, is_over: &AtomicBool) -> (Duration, u64) {
    let mut client = Client::connect(cloud.gateway.mqtt, "well-behaved");
    let (mut longest, mut count) = (Duration::ZERO, 0);
    while !is_over.load(Ordering::SeqCst) {
        let started = Instant::now();
        client.publish("devices/good/level", "20.5");
        count += 1;
        longest = longest.max(started.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    (longest, count)
}

#[test]
fn what_grows_while_the_link_is_down_costs_nobody_elses_readings() {
    let mut cloud = start();
    cloud.fake.go_offline().unwrap();
    publish_history(&mut cloud);
    let before = cloud.gateway.rss_bytes();
    let is_over = AtomicBool::new(false);
    let (longest, count) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| longest_wait(&cloud, &is_over));
        // Two bytes for each quotation mark, repeated for each reading and again for each anomaly, are too much.
        flood(&cloud, "expands", &quotes(60), 155);
        // Just within the limit.
        flood(&cloud, "grows", &quotes(4), 200);
        let mut others = Client::connect(cloud.gateway.mqtt, "others");
        for device in 0..25 {
            others.publish(&format!("devices/v{device}/level"), "NaN");
        }
        is_over.store(true, Ordering::SeqCst);
        waiting.join().unwrap()
    });
    cloud.others += 4 * 200 + 25 + count;
    let grown = cloud.gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "grown by {grown} bytes");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let status = cloud.gateway.status();
    assert_eq!(status["received"]["undecodable"], 155, "{}", status["received"]);
    assert!(status["rejected_samples"].as_array().unwrap().iter().any(|sample| sample["reason"] == "expands"));
    for stream in [RAW, ANOMALIES] {
        assert_eq!(cloud.ledger(stream)["expired"], 0, "{stream}");
    }

    cloud.fake.come_back().unwrap();
    cloud.expect_all();
    assert_eq!(
        (cloud.ledger(ANOMALIES)["quarantined"].clone(), cloud.ledger(RAW)["quarantined"].clone()),
        (0.into(), 0.into())
    );
    let mut found = HashSet::new();
    for record in cloud.fake.records(ANOMALIES) {
        for line in record.data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            if line["type"] == "anomaly" {
                found.insert(line["device"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    assert!((0..25).all(|device| found.contains(&format!("v{device}"))), "{found:?}");
}

//! The gateway is killed and the way to the other broker cut at moments that nobody chose: nothing of QoS 1 and 2 is lost, and no command
//! published twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::relay::Relay;
use super::{begin_to_be_away, bridge, come_back, config, seed, wait_connected};
use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, wait_until};
use crate::kill::next;
use crate::kinesis::fleet::Fleet;
use crate::mosquitto::{Mosquitto, Reader};
use crate::mqtt_sink::{self, expect_as_in_ledger, expect_fleet, wait_for_delivery};
use crate::wire::{Connect, Message, Version, Wire};

/// Between two messages, so that there are some on their way at any moment, and not more than a session keeps.
const PACE: Duration = Duration::from_millis(20);

fn sleep_up_to(ms: u64, seed: &mut u64) {
    std::thread::sleep(Duration::from_millis(next(seed) % ms));
}

fn command(id: &str) -> String {
    format!(r#"{{"id":"{id}"}}"#)
}

/// How often each payload came on a topic.
fn counts(got: &[(String, String)], topic: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, payload) in got.iter().filter(|(on, _)| on == topic) {
        *counts.entry(payload.clone()).or_insert(0) += 1;
    }
    counts
}

/// Each of these came exactly once.
fn expect_once(counts: &BTreeMap<String, usize>, expected: impl Iterator<Item = String>, what: &str) {
    let expected: BTreeMap<String, usize> = expected.map(|payload| (payload, 1)).collect();
    let wrong: Vec<_> = counts.iter().filter(|(payload, count)| expected.get(*payload) != Some(*count)).collect();
    let missing: Vec<_> = expected.keys().filter(|payload| !counts.contains_key(*payload)).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "{what}: wrong {wrong:?}, missing {missing:?}");
}

/// Publishes commands and messages at QoS 2 to the other broker, every third command twice, until it is told to stop. Returns how many.
fn keep_publishing(broker: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut control = Wire::open_at(broker, &Connect::fleeting(Version::Five, "control"));
        let mut count = 0;
        let mut publish = |topic: &str, payload: &str| {
            control.publish(&Message::new(&format!("fleet/truck-1/{topic}"), payload, 2, 1));
        };
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..if count % 3 == 0 { 2 } else { 1 } {
                publish("commands/door", &command(&count.to_string()));
            }
            publish("data/door", &count.to_string());
            count += 1;
            std::thread::sleep(PACE);
        }
        publish("commands/door", &command("end"));
        publish("data/door", "end");
        count
    })
}

#[test]
fn commands_of_qos_2_come_once_and_messages_are_not_lost_over_cuts_and_kills() {
    const ROUNDS: u32 = 10;
    let mut seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path());
    let relay = Relay::start(mosquitto.address);
    let config = config(
        relay.address.port(),
        r#"topics = ['commands/# in 2 "" fleet/truck-1/', 'data/# in 2 "" fleet/truck-1/']
commands = ['commands/#']
command_clock = 'system'"#,
    );
    let start = || Gateway::start_configured(folder.path(), &config, &[], &[]);
    let mut gateway = start();
    begin_to_be_away(gateway.mqtt, &["commands/#", "data/#"]);
    wait_connected(&gateway);
    let stop = Arc::default();
    let publishing = keep_publishing(mosquitto.address, &stop);
    for round in 0..ROUNDS {
        sleep_up_to(200, &mut seed);
        if round % 3 == 2 {
            relay.cut();
            wait_until("it is connected again", || bridge(&gateway)["connections"] == 2);
            sleep_up_to(100, &mut seed);
        }
        gateway.kill();
        gateway = start();
        wait_connected(&gateway);
    }
    stop.store(true, Ordering::Relaxed);
    let count = publishing.join().unwrap();
    let got = come_back(&gateway, "end", 2);
    let (commands, data) = (counts(&got, "commands/door"), counts(&got, "data/door"));
    let ids = (0..count).map(|id| id.to_string()).chain(["end".to_owned()]);
    expect_once(&commands, ids.clone().map(|id| command(&id)), "commands");
    let lost: Vec<String> = ids.filter(|id| !data.contains_key(id)).collect();
    assert!(lost.is_empty(), "of {count} messages: {lost:?}");
    // What was on its way when the gateway was killed may come again.
    let repeats: usize = data.values().map(|times| times - 1).sum();
    assert!(repeats <= 64 * ROUNDS as usize, "{repeats}");
    println!("{count} of each, {repeats} messages without an id came again");
}

/// Publishes commands to both bridges, as fast as the broker takes them, while others do other things.
fn begin_to_publish(broker: SocketAddr, numbers: Range<u32>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut control = Wire::open_at(broker, &Connect::fleeting(Version::Five, "control"));
        for number in numbers {
            for of in ["a", "b"] {
                let topic = format!("fleet/commands/{of}/door");
                control.publish(&Message::new(&topic, &command(&number.to_string()), 1, 1));
            }
        }
    })
}

/// Publishes for both bridges without waiting in between; returns when all is acknowledged.
fn publish_status(gateway: &Gateway, numbers: Range<u32>) {
    let mut device = Client::connect(gateway.mqtt, "device");
    let (mut packets, mut count) = (Vec::new(), 0);
    for number in numbers {
        for of in ["a", "b"] {
            let id = device.next_packet_id();
            let (topic, payload) = (format!("status/{of}/n"), number.to_string());
            packets.extend(publish_packet(&topic, payload.as_bytes(), 1, false, false, id));
            count += 1;
        }
    }
    device.send(&packets);
    (0..count).for_each(|_| assert_eq!(device.packet().unwrap().first, 0x40));
}

#[test]
fn two_bridges_and_a_sink_to_one_broker_lose_nothing_over_its_restarts_and_kills() {
    const ROUNDS: u32 = 6;
    const COMMANDS: u32 = 60;
    const EACH: u64 = 15;
    let mut seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let mut mosquitto = Mosquitto::start(folder.path());
    let reader = Reader::start(mosquitto.address, "#");
    let url = format!("mqtt://{}", mosquitto.address);
    let bridges: String = ["a", "b"]
        .iter()
        .map(|of| {
            format!(
                "[[bridge]]\nname = '{of}'\nurl = '{url}'\ncommand_clock = 'system'\ncommands = ['commands/{of}/#']\n\
                 topics = ['commands/{of}/# in 1 \"\" fleet/', 'status/{of}/# out 1 \"\" fleet/']\n"
            )
        })
        .collect();
    let config = format!("[gateway]\nid = 'gw'\n{bridges}{}", mqtt_sink::config(&url, ""));
    let start = || Gateway::start_configured(folder.path(), &config, &[], &[]);
    let all_connected = |gateway: &Gateway| {
        wait_until("both bridges are connected", || {
            let status = gateway.status();
            status["bridges"].as_array().unwrap().iter().all(|bridge| bridge["connected"] == true)
        });
    };
    let mut gateway = start();
    begin_to_be_away(gateway.mqtt, &["commands/#"]);
    all_connected(&gateway);
    let mut fleet = Fleet::default();
    for round in 0..ROUNDS {
        let numbers = round * COMMANDS..(round + 1) * COMMANDS;
        // Those of the round before come again, after a kill.
        let commands = begin_to_publish(mosquitto.address, round.saturating_sub(1) * COMMANDS..numbers.end);
        fleet.publish(gateway.mqtt, EACH);
        publish_status(&gateway, numbers);
        sleep_up_to(20, &mut seed);
        gateway.kill();
        commands.join().unwrap();
        gateway = start();
        all_connected(&gateway);
        if round % 3 == 1 {
            mosquitto.restart();
        }
    }
    let end = |of: &str| Message::new(&format!("fleet/commands/{of}/door"), &command("end"), 1, 1);
    let mut control = Wire::open_at(mosquitto.address, &Connect::fleeting(Version::Five, "control"));
    ["a", "b"].iter().for_each(|of| control.publish(&end(of)));
    wait_for_delivery(&gateway);
    wait_until("the status is away", || {
        let status = gateway.status();
        status["bridges"].as_array().unwrap().iter().all(|bridge| bridge["waiting"] == 0 && bridge["commands"] != 0)
    });
    expect_as_in_ledger(&gateway, &reader);
    expect_fleet(&reader.records(), u64::from(ROUNDS) * EACH);
    let got = come_back(&gateway, "end", 2);
    for of in ["a", "b"] {
        let ids = (0..ROUNDS * COMMANDS).map(|id| id.to_string()).chain(["end".to_owned()]);
        let topic = format!("commands/{of}/door");
        expect_once(&counts(&got, &topic), ids.map(|id| command(&id)), &topic);
        let topic = format!("fleet/status/{of}/n");
        let received = reader.received().into_iter().filter(|(on, _)| *on == topic);
        let mut numbers: Vec<u32> =
            received.map(|(_, payload)| std::str::from_utf8(&payload).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (0..ROUNDS * COMMANDS).collect::<Vec<_>>(), "{topic}");
    }
}

//! A broker that accepts connections and closes them at once, again and again.

use std::time::Duration;

use serde_json::json;

use crate::client::Client;
use crate::fake_broker::{Broker, Dislikes, Stage};
use crate::gateway::{Gateway, wait_until};

const STAGES: [Stage; 3] = [Stage::Connect, Stage::Connack, Stage::Suback];
const MESSAGES: u32 = 30;
/// The first pauses are at least half a second, one, and two.
const FOURTH_AFTER: Duration = Duration::from_millis(3_500);
/// What the broker's own thread may be late by.
const LATE: Duration = Duration::from_millis(700);

#[test]
fn connections_that_are_closed_at_once_are_made_rarely_and_what_waits_arrives_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let brokers = STAGES.map(|stage| Broker::start(Dislikes { closes_at: Some(stage), ..Dislikes::default() }));
    let text: String = brokers
        .iter()
        .enumerate()
        .map(|(at, broker)| {
            format!(
                "[[bridge]]\nname = 'b{at}'\nurl = 'mqtt://{}'\nclient_id = 'truck'\ncommand_clock = 'system'\n\
                 topics = ['status/# out 1', 'commands-{at}/# in 1']\ncommands = ['commands-{at}/#']\n",
                broker.address
            )
        })
        .collect();
    let gateway = Gateway::start_configured(folder.path(), &text, &[], &[]);
    let mut here = Client::connect(gateway.mqtt, "here");
    assert_eq!(here.subscribe(&[("+/door", 1)]), [1]);
    let mut device = Client::connect(gateway.mqtt, "device");
    for number in 0..MESSAGES {
        device.publish("status/n", number.to_string());
        for (at, broker) in brokers.iter().enumerate() {
            broker.deliver("truck", &format!("commands-{at}/door"), &format!(r#"{{"id":{number}}}"#));
        }
    }
    for (broker, stage) in std::iter::zip(&brokers, STAGES) {
        wait_until("a fourth connection", || broker.seen.lock().unwrap().accepted.len() >= 4);
        let seen = broker.seen.lock().unwrap();
        let took = seen.accepted[3] - seen.accepted[0];
        assert!(took > FOURTH_AFTER - LATE, "{stage:?}: {took:?} for four connections");
    }
    brokers.iter().for_each(|broker| broker.close_at(None));
    for (at, (broker, stage)) in std::iter::zip(&brokers, STAGES).enumerate() {
        wait_until("what waited is there", || {
            gateway.status()["bridges"][at]["waiting"] == 0 && broker.has_delivered_all("truck")
        });
        let seen = broker.seen.lock().unwrap();
        let mut numbers: Vec<u32> =
            seen.taken.iter().map(|(_, payload)| std::str::from_utf8(payload).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{stage:?}");
        // The fifth may have been made before the last of the others had their fourth.
        assert!(seen.accepted.len() <= 6, "{stage:?}: {} connections", seen.accepted.len());
    }
    let mut came: Vec<(String, u64)> = std::iter::repeat_with(|| here.receive())
        .take(STAGES.len() * MESSAGES as usize)
        .map(|publish| {
            let command: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            (publish.topic, command["id"].as_u64().unwrap())
        })
        .collect();
    came.sort();
    came.dedup();
    assert_eq!(came.len(), STAGES.len() * MESSAGES as usize, "each once");
    let status = gateway.status();
    for bridge in status["bridges"].as_array().unwrap() {
        assert_eq!((&bridge["commands"], &bridge["dropped"]), (&json!(MESSAGES), &json!(0)));
    }
}

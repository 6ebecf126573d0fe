//! What the other broker does not take, and what is behind it.

use serde_json::json;

use super::{TOPICS, bridge, config, wait_connected};
use crate::client::Client;
use crate::fake_broker::{Broker, Dislikes};
use crate::gateway::{Gateway, wait_until};
use crate::mosquitto::Mosquitto;
use crate::ports::free_port;

#[test]
fn a_message_that_the_other_broker_never_takes_is_left_out_and_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), free_port(), "max_packet_size 2000");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port(), TOPICS), &[], &[]);
    wait_connected(&gateway);
    let there = mosquitto.subscribe("fleet/#");
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("status/a", "x".repeat(3_000));
    client.publish("status/a", "small");
    assert_eq!(there.next(), "fleet/truck-1/status/a 0 small");
    wait_until("it is counted", || bridge(&gateway)["sent_refused"] == 1);
    assert_eq!((&bridge(&gateway)["connections"], &bridge(&gateway)["waiting"]), (&json!(1), &json!(0)));
}

/// A broker that closes the connection at one message, with a reason or without: that message is found and left out, those behind it get through,
/// and the connections are few.
#[test]
fn of_many_messages_the_one_at_which_the_other_broker_closes_the_connection_is_left_out() {
    const OTHERS: u32 = 25;
    let folder = tempfile::tempdir().unwrap();
    let versions = [("5", Some(0x95), 3), ("5", None, 8), ("3.1.1", None, 8)];
    let brokers =
        versions.map(|(_, code, _)| Broker::start(Dislikes { text: Some(("poison", code)), ..Dislikes::default() }));
    let text: String = std::iter::zip(&brokers, versions)
        .enumerate()
        .map(|(at, (broker, (version, _, _)))| {
            format!(
                "[[bridge]]\nname = 'b{at}'\nurl = 'mqtt://{}'\nversion = '{version}'\ntopics = ['status/# out 1']\n",
                broker.address
            )
        })
        .collect();
    let gateway = Gateway::start_configured(folder.path(), &text, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    let mut publish = |range: std::ops::Range<u32>| {
        range.for_each(|number| client.publish("status/n", number.to_string()));
    };
    publish(0..5);
    wait_until("they are away", || brokers.iter().all(|broker| broker.seen.lock().unwrap().taken.len() >= 5));
    Client::connect(gateway.mqtt, "spoiler").publish("status/n", "poison");
    publish(5..OTHERS);
    wait_until("nothing waits", || {
        let status = gateway.status();
        let bridges = status["bridges"].as_array().unwrap();
        bridges.iter().all(|bridge| (&bridge["waiting"], &bridge["sent_refused"]) == (&json!(0), &json!(1)))
    });
    for (broker, (version, code, connections_max)) in std::iter::zip(&brokers, versions) {
        let seen = broker.seen.lock().unwrap();
        let mut numbers: Vec<u32> =
            seen.taken.iter().map(|(_, payload)| std::str::from_utf8(payload).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (0..OTHERS).collect::<Vec<_>>(), "{version} {code:?}");
        assert!(seen.connections <= connections_max, "{version} {code:?}: {} connections", seen.connections);
    }
}

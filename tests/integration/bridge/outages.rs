//! What is lost when the other broker or the way to it is away: nothing of QoS 1.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::relay::Relay;
use super::{COMMANDS, TOPICS, bridge, config, wait_connected};
use crate::client::Client;
use crate::gateway::{Gateway, configured_settings, wait_until};
use crate::in_process::InProcess;
use crate::mosquitto::{Listening, Mosquitto, Reader};
use crate::ports::free_port;
use crate::wire::{Connect, Message, Version, Wire};

/// A session at Mosquitto for everything of the fleet, which is kept while nobody is there.
fn keep_all(mosquitto: &Mosquitto) {
    let output = mosquitto
        .command("mosquitto_sub", &["-c", "-i", "keeper", "-t", "fleet/#", "-E", "-x", "3600"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What that session has kept: exactly these payloads, some of them maybe more than once.
fn expect_kept(mosquitto: &Mosquitto, expected: std::ops::Range<u32>) {
    let mut command = mosquitto.command("mosquitto_sub", &["-c", "-i", "keeper", "-t", "fleet/#", "-x", "3600"]);
    command.args(["-W", "5"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, expected.collect::<Vec<_>>());
}

#[test]
fn what_is_published_while_the_other_broker_is_away_arrives_also_after_a_kill() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mosquitto = Mosquitto::start_at(folder.path(), port, "max_queued_messages 0");
    keep_all(&mosquitto);
    mosquitto.stop();
    // The other broker has not been reached once.
    let gateway = Gateway::start_configured(folder.path(), &config(port, TOPICS), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (0..150).for_each(|number| client.publish("status/n", number.to_string()));
    wait_until("they wait", || bridge(&gateway)["waiting"] == 150);
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), &config(port, TOPICS), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (150..200).for_each(|number| client.publish("status/n", number.to_string()));
    let mosquitto = Mosquitto::start_at(folder.path(), port, "max_queued_messages 0");
    wait_until("all of it is away", || bridge(&gateway)["waiting"] == 0 && bridge(&gateway)["connected"] == true);
    expect_kept(&mosquitto, 0..200);
    // A restart of the other one in the middle.
    (200..250).for_each(|number| client.publish("status/n", number.to_string()));
    mosquitto.stop();
    (250..300).for_each(|number| client.publish("status/n", number.to_string()));
    let mosquitto = Mosquitto::start_at(folder.path(), port, "max_queued_messages 0");
    wait_connected(&gateway);
    wait_until("all of it is away", || bridge(&gateway)["waiting"] == 0);
    expect_kept(&mosquitto, 200..300);
    assert_eq!(bridge(&gateway)["dropped"], 0);
}

#[test]
fn it_subscribes_again_when_the_other_broker_has_lost_its_session() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mosquitto = Mosquitto::start_at(folder.path(), port, "");
    let gateway = Gateway::start_configured(folder.path(), &config(port, COMMANDS), &[], &[]);
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    mosquitto.stop();
    wait_until("the loss is noticed", || bridge(&gateway)["connected"] == false);
    std::fs::remove_dir_all(folder.path().join("mosquitto")).unwrap();
    let mosquitto = Mosquitto::start_at(folder.path(), port, "");
    wait_connected(&gateway);
    mosquitto.publish("fleet/truck-1/commands/door", r#"{"id":"a"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"a"}"#);
}

/// A way on which nothing comes through any more, and no connection ends: nobody but the bridge itself can notice.
#[test]
fn a_link_that_swallows_everything_is_noticed_and_loses_nothing_of_qos_1() {
    const EACH: u32 = 30;
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path());
    let relay = Relay::start(mosquitto.address);
    // The control, over the same way: a bridge that asks once in an hour.
    let text = format!(
        "{}client_id = 'truck'\n[[bridge]]\nname = 'trusting'\nurl = 'mqtt://{}'\nkeep_alive = '1h'\ntopics = ['other/# in 1']\n",
        config(relay.address.port(), COMMANDS),
        relay.address
    );
    let gateway = InProcess::start(folder.path(), |settings| {
        *settings = configured_settings(&folder.path().join("state"), &text);
        // Shorter than the configuration allows.
        settings.bridges[0].keep_alive_s = 2;
    });
    let of = |number: usize, key: &str| gateway.status()["bridges"][number][key].clone();
    let is_connected = |number| of(number, "connected") == true;
    wait_until("both are connected", || is_connected(0) && is_connected(1));
    let there = Reader::start(mosquitto.address, "fleet/truck-1/status/#");
    let here = Reader::start(gateway.mqtt, "commands/#");
    let mut device = Client::connect(gateway.mqtt, "device");
    let mut control = Wire::open_at(mosquitto.address, &Connect::fleeting(Version::Five, "control"));
    let mut publish = |range: std::ops::Range<u32>| {
        for number in range {
            device.publish("status/n", number.to_string());
            let command = format!(r#"{{"id":{number}}}"#);
            control.publish(&Message::new("fleet/truck-1/commands/n", &command, 1, 1));
        }
    };
    publish(0..EACH);
    wait_until("something passes", || !there.received().is_empty() && !here.received().is_empty());
    relay.swallow();
    let since = Instant::now();
    publish(EACH..2 * EACH);
    wait_until("the silence is noticed", || !is_connected(0));
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    let error = of(0, "last_error").to_string();
    assert!(error.contains("not been heard within the keep-alive"), "{error}");
    assert!(is_connected(1), "who does not ask does not know");
    relay.open();
    wait_until("it is connected again", || is_connected(0));
    publish(2 * EACH..3 * EACH);
    let payloads = |reader: &Reader| -> Vec<String> {
        reader.received().into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    };
    let last = (3 * EACH - 1).to_string();
    wait_until("everything has gone out", || of(0, "waiting") == 0 && payloads(&there).contains(&last));
    wait_until("everything has come in", || here.received().len() >= 3 * EACH as usize);
    let out: BTreeSet<u32> = payloads(&there).iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(out, (0..3 * EACH).collect());
    let expected: Vec<String> = (0..3 * EACH).map(|number| format!(r#"{{"id":{number}}}"#)).collect();
    assert_eq!(payloads(&here), expected, "each once, in order");
    assert!(is_connected(1));
    gateway.stop();
}

//! Commits are as urgent as necessary: a client that waits is answered soon, others share a commit.

use std::time::Duration;

use crate::client::{Client, publish_packet};
use crate::in_process::InProcess;

const TOPIC: &str = "devices/d/temperature";
/// Much longer than anything here takes, even on a busy machine.
const DELAY_MAX: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
/// A client that is silent for longer than this after its PUBACK was not waiting for it.
const SILENCE: Duration = Duration::from_millis(150);

fn start(folder: &std::path::Path) -> InProcess {
    InProcess::start(folder, |settings| settings.pacing.delays.delay_max = DELAY_MAX)
}

fn publish_unasked(client: &mut Client) {
    assert!(!client.wait_readable(SILENCE));
    let id = client.next_packet_id();
    client.send(&publish_packet(TOPIC, b"20.5", 1, false, false, id));
}

#[test]
fn a_slow_device_waits_for_company_and_shares_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut slow = Client::connect(gateway.mqtt, "slow");
    slow.publish(TOPIC, "20.5");
    publish_unasked(&mut slow);
    assert!(!slow.wait_readable(Duration::from_millis(700)), "nobody waits: it is answered with the next commit");
    let mut other = Client::connect(gateway.mqtt, "other");
    other.publish(TOPIC, "20.5");
    assert!(slow.wait_readable(SOON), "the first publish of a connection is urgent, and takes the other along");
    gateway.stop();
}

#[test]
fn a_publish_that_a_subscriber_matches_is_not_held_back() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    subscriber.subscribe(&[("devices/#", 0)]);
    let mut slow = Client::connect(gateway.mqtt, "slow");
    slow.publish(TOPIC, "20.5");
    subscriber.receive();
    publish_unasked(&mut slow);
    assert!(slow.wait_readable(SOON) && subscriber.wait_readable(SOON));
    gateway.stop();
}

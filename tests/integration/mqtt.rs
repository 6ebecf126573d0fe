//! What an ordinary client may rely on.

use crate::client::{Client, Options, Publish, frame, publish_packet};
use crate::gateway::{Gateway, wait_until};

fn start() -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    (folder, gateway)
}

fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Publish {
    Publish { topic: topic.to_owned(), payload: payload.to_vec(), qos, retain, dup: false, packet_id: 0 }
}

fn same(left: &Publish, right: &Publish) -> bool {
    Publish { packet_id: 0, ..left.clone() } == *right
}

#[test]
fn both_qualities_of_service_go_both_ways() {
    let (_folder, gateway) = start();
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    assert_eq!(
        subscriber.subscribe(&[("devices/+/t", 1), ("other/#", 0), ("two", 2), ("a/#/b", 0), ("$share/g/x", 1)]),
        [1, 0, 1, 0x80, 0x80]
    );
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    publisher.publish("devices/a/t", b"1");
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"1", 1, false)));
    publisher.send(&publish_packet("devices/a/t", b"2", 0, false, false, 0));
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"2", 0, false)));
    publisher.publish("other/x", b"hello");
    assert!(same(&subscriber.receive(), &publish("other/x", b"hello", 0, false)));
    subscriber.unsubscribe("devices/+/t");
    publisher.publish("devices/a/t", b"3");
    publisher.publish("two", b"end");
    assert!(same(&subscriber.receive(), &publish("two", b"end", 1, false)), "unsubscribed means nothing more comes");
    publisher.ping();
}

#[test]
fn retained_messages_come_late_all_of_them_at_both_qualities() {
    let (_folder, gateway) = start();
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    for n in 0..300 {
        let id = publisher.next_packet_id();
        publisher.send(&publish_packet(&format!("state/{n}"), b"on", 1, true, false, id));
        publisher.packet().unwrap();
    }
    // Not retained, so it deletes nothing.
    publisher.publish("state/0", b"");
    for qos in [0, 1] {
        let mut late = Client::connect(gateway.mqtt, "late");
        late.subscribe(&[("state/#", qos)]);
        let mut topics: Vec<_> = (0..300)
            .map(|_| {
                let message = late.receive();
                assert_eq!((message.qos, message.retain, &message.payload[..]), (qos, true, &b"on"[..]));
                message.topic
            })
            .collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 300);
    }
    let id = publisher.next_packet_id();
    publisher.send(&publish_packet("state/7", b"", 1, true, false, id));
    publisher.packet().unwrap();
    let mut later = Client::connect(gateway.mqtt, "later");
    later.subscribe(&[("state/7", 1), ("state/8", 1)]);
    assert_eq!(later.receive().topic, "state/8", "an empty retained publish deletes");
}

#[test]
fn a_persistent_session_gets_what_it_missed_and_again_what_it_did_not_acknowledge() {
    let (_folder, gateway) = start();
    let options = Options { client_id: "keeper", clean: false, keep_alive_s: 0, will: None };
    let (mut keeper, present) = Client::connect_with(gateway.mqtt, &options);
    assert!(!present);
    keeper.subscribe(&[("devices/#", 1)]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("devices/#", 1)]);
    publisher.publish("devices/a/t", b"1");
    let first = keeper.receive_unacknowledged();
    assert_eq!((first.payload.as_slice(), first.dup), (&b"1"[..], false));
    drop(keeper);
    wait_until("the gateway to notice", || gateway.status()["mqtt"]["connections"] == 2);
    publisher.publish("devices/a/t", b"2");
    publisher.send(&publish_packet("devices/a/t", b"lost", 0, false, false, 0));
    publisher.publish("devices/a/t", b"3");
    while watcher.receive().payload != b"3" {}
    let (mut keeper, present) = Client::connect_with(gateway.mqtt, &options);
    assert!(present);
    let again = keeper.receive();
    assert_eq!((again.payload.as_slice(), again.dup, again.packet_id), (&b"1"[..], true, first.packet_id));
    assert_eq!(keeper.receive().payload, b"2");
    assert_eq!(keeper.receive().payload, b"3");
    drop(keeper);
    let (mut clean, present) = Client::connect_with(gateway.mqtt, &Options { clean: true, ..options });
    assert!(!present, "a clean session forgets");
    clean.ping();
}

#[test]
fn wills_are_published_unless_the_client_says_goodbye() {
    let (_folder, gateway) = start();
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("wills/#", 1)]);
    let connect = |client_id| {
        let will = Some(("wills/w", &b"gone"[..], 1, true));
        Client::connect_with(gateway.mqtt, &Options { client_id, clean: true, keep_alive_s: 1, will }).0
    };
    connect("polite").disconnect();
    drop(connect("rude"));
    assert!(same(&watcher.receive(), &publish("wills/w", b"gone", 1, false)));
    let mut silent = connect("silent");
    silent.expect_close();
    assert!(same(&watcher.receive(), &publish("wills/w", b"gone", 1, false)), "the keep-alive ran out");
    let mut late = Client::connect(gateway.mqtt, "late");
    late.subscribe(&[("wills/#", 1)]);
    assert!(same(&late.receive(), &publish("wills/w", b"gone", 1, true)));
}

#[test]
fn a_client_id_is_taken_over() {
    let (_folder, gateway) = start();
    let mut first = Client::connect(gateway.mqtt, "same");
    let mut second = Client::connect(gateway.mqtt, "same");
    first.expect_close();
    second.ping();
    second.publish("devices/a/t", b"1");
}

#[test]
fn what_is_not_served_is_refused_and_harms_nobody() {
    let (_folder, gateway) = start();
    let mut other = Client::connect(gateway.mqtt, "other");

    let mut five = Client::raw(gateway.mqtt);
    five.send(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc");
    assert_eq!(five.packet().unwrap().body, [0, 0x84, 0], "what an MQTT 5 client understands");
    five.expect_close();

    let mut old = Client::raw(gateway.mqtt);
    old.send(b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc");
    assert_eq!(old.packet().unwrap().body, [0, 1]);
    old.expect_close();

    let mut exactly_once = Client::connect(gateway.mqtt, "exactly-once");
    exactly_once.send(&publish_packet("devices/a/t", b"1", 2, false, false, 1));
    exactly_once.expect_close();

    let mut early = Client::raw(gateway.mqtt);
    early.send(&publish_packet("devices/a/t", b"1", 1, false, false, 1));
    early.expect_close();

    let mut pretender = Client::connect(gateway.mqtt, "pretender");
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("#", 1)]);
    pretender.publish("alerts/a/t/anomaly", b"{}");
    pretender.publish("outrider/status", b"{}");
    pretender.publish("devices/a/t", b"5");
    loop {
        let message = watcher.receive();
        assert_ne!(message.payload, b"{}", "the gateway's own topics are not fanned out for others");
        if message.topic == "devices/a/t" {
            break;
        }
    }
    assert_eq!(gateway.status()["mqtt"]["publishes_refused"], 2);

    let mut liar = Client::connect(gateway.mqtt, "liar");
    liar.send(&frame(0x40, &[0, 99]));
    liar.expect_close();

    other.ping();
    other.publish("devices/a/t", b"6");
}

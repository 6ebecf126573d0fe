//! What an ordinary client may rely on.

use crate::client::{Client, Options, Packet, Publish, connect_packet, frame, publish_packet, text};
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
        [1, 0, 2, 0x80, 1]
    );
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    publisher.publish("devices/a/t", b"1.0");
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"1.0", 1, false)));
    publisher.send(&publish_packet("devices/a/t", b"2.0", 0, false, false, 0));
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"2.0", 0, false)));
    publisher.publish("other/x", b"hello");
    assert!(same(&subscriber.receive(), &publish("other/x", b"hello", 0, false)));
    subscriber.unsubscribe("devices/+/t");
    publisher.publish("devices/a/t", b"3.0");
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
    // Not a retained publish, so it deletes nothing.
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
    publisher.publish("devices/a/t", b"1.0");
    let first = keeper.receive_unacknowledged();
    assert_eq!((first.payload.as_slice(), first.dup), (&b"1.0"[..], false));
    drop(keeper);
    wait_until("the gateway to notice", || gateway.status()["mqtt"]["connections"] == 2);
    publisher.publish("devices/a/t", b"2.0");
    publisher.send(&publish_packet("devices/a/t", b"lost", 0, false, false, 0));
    publisher.publish("devices/a/t", b"3.0");
    while watcher.receive().payload != b"3.0" {}
    let (mut keeper, present) = Client::connect_with(gateway.mqtt, &options);
    assert!(present);
    let again = keeper.receive();
    assert_eq!((again.payload.as_slice(), again.dup, again.packet_id), (&b"1.0"[..], true, first.packet_id));
    assert_eq!(keeper.receive().payload, b"2.0");
    assert_eq!(keeper.receive().payload, b"3.0");
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
    second.publish("devices/a/t", b"1.0");
}

#[test]
fn what_is_not_served_is_refused_and_harms_nobody() {
    let (_folder, gateway) = start();
    let mut other = Client::connect(gateway.mqtt, "other");

    let mut older = Client::raw(gateway.mqtt);
    older.send(b"\x10\x0f\x00\x04MQTT\x02\x02\x00\x3c\x00\x03abc");
    assert_eq!(older.packet().unwrap().body, [0, 1]);
    older.expect_close();

    let mut early = Client::raw(gateway.mqtt);
    early.send(&publish_packet("devices/a/t", b"1.0", 1, false, false, 1));
    early.expect_close();

    let mut pretender = Client::connect(gateway.mqtt, "pretender");
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("#", 1)]);
    pretender.publish("alerts/a/t/anomaly", b"{}");
    pretender.publish("outrider/status", b"{}");
    pretender.publish("devices/a/t", b"5.0");
    loop {
        let message = watcher.receive();
        assert_ne!(message.payload, b"{}", "the gateway's own topics are not fanned out for others");
        if message.topic == "devices/a/t" {
            break;
        }
    }
    assert_eq!(gateway.status()["mqtt"]["publishes_refused"], 2);

    // After a reconnect a client may acknowledge what an earlier connection was sent.
    let mut late = Client::connect(gateway.mqtt, "late");
    for first in [0x40, 0x50, 0x70] {
        late.send(&frame(first, &[0, 99]));
    }
    assert_eq!(late.packet().unwrap(), Packet { first: 0x62, body: vec![0, 99] }, "it may release what it has");
    late.ping();

    other.ping();
    other.publish("devices/a/t", b"6.0");
}

fn options(client_id: &str, clean: bool) -> Options<'_> {
    Options { client_id, clean, keep_alive_s: 0, will: None }
}

/// The next message other than the gateway's own status.
fn receive_from_others(client: &mut Client) -> Publish {
    std::iter::repeat_with(|| client.receive()).find(|message| message.topic != "outrider/status").unwrap()
}

fn retain(client: &mut Client, topic: &str, payload: &[u8], qos: u8) {
    let id = client.next_packet_id();
    client.send(&publish_packet(topic, payload, qos, true, false, id));
    if qos > 0 {
        client.packet().unwrap();
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_best_quality() {
    let (_folder, gateway) = start();
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    subscriber.subscribe(&[("devices/#", 0), ("devices/+/t", 1), ("devices/a/t", 0), ("+/+/t", 0)]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    publisher.publish("devices/a/t", b"1.0");
    publisher.publish("devices/b/x", b"2.0");
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"1.0", 1, false)));
    assert!(same(&subscriber.receive(), &publish("devices/b/x", b"2.0", 0, false)));
    subscriber.unsubscribe("devices/+/t");
    assert_eq!(subscriber.subscribe(&[("devices/#", 1)]), [1], "granted anew");
    publisher.publish("devices/a/t", b"3.0");
    assert!(same(&subscriber.receive(), &publish("devices/a/t", b"3.0", 1, false)));
}

#[test]
fn a_session_is_present_exactly_when_there_is_one() {
    let (_folder, gateway) = start();
    for (clean, expected) in
        [(false, false), (false, true), (false, true), (true, false), (true, false), (false, false)]
    {
        let (client, present) = Client::connect_with(gateway.mqtt, &options("keeper", clean));
        assert_eq!(present, expected);
        client.disconnect();
    }
    let (_, present) = Client::connect_with(gateway.mqtt, &options("", true));
    assert!(!present, "a client without an id gets one");
    let mut nameless = Client::raw(gateway.mqtt);
    nameless.send(&connect_packet(&options("", false)));
    assert_eq!(nameless.packet().unwrap().body, [0, 2], "no session can be kept without an id");
    nameless.expect_close();
}

#[test]
fn retained_messages_come_at_the_lower_quality_and_live_ones_are_not_marked() {
    let (_folder, gateway) = start();
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("state/#", 1)]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    retain(&mut publisher, "state/one", b"1.0", 1);
    retain(&mut publisher, "state/zero", b"0.0", 0);
    assert!(same(&watcher.receive(), &publish("state/one", b"1.0", 1, false)));
    assert!(same(&watcher.receive(), &publish("state/zero", b"0.0", 0, false)));
    for (asked, expected) in [(1, [1, 0]), (0, [0, 0])] {
        let mut late = Client::connect(gateway.mqtt, "late");
        late.subscribe(&[("state/+", asked)]);
        assert!(same(&late.receive(), &publish("state/one", b"1.0", expected[0], true)));
        assert!(same(&late.receive(), &publish("state/zero", b"0.0", expected[1], true)));
        assert_eq!(late.subscribe(&[("state/one", asked)]), [asked]);
        assert!(late.receive().retain, "every SUBSCRIBE gets what is retained");
    }
}

#[test]
fn filters_match_on_the_wire_as_the_standard_says() {
    let (_folder, gateway) = start();
    let topics = ["a", "a/b", "a/b/c", "/a", "a/", "b/a", "a//c"];
    let cases: [(&str, &[&str]); 9] = [
        ("#", &topics),
        ("a/#", &["a", "a/b", "a/b/c", "a/", "a//c"]),
        ("a/+", &["a/b", "a/"]),
        ("+", &["a"]),
        ("+/+", &["a/b", "/a", "a/", "b/a"]),
        ("/+", &["/a"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+/b/#", &["a/b", "a/b/c"]),
        ("a/b", &["a/b"]),
    ];
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    for (filter, expected) in cases {
        let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
        assert_eq!(subscriber.subscribe(&[(filter, 0), ("end", 0)]), [0, 0]);
        for topic in topics {
            publisher.publish(topic, b"x");
        }
        publisher.publish("end", b"x");
        let live = std::iter::repeat_with(|| receive_from_others(&mut subscriber)).filter(|message| !message.retain);
        let got: Vec<_> = live.map(|message| message.topic).take_while(|topic| topic != "end").collect();
        assert_eq!(got, expected, "{filter}");
    }
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    let refused = ["a/#/b", "a+", "+a/b", "#/a", "$share//a", "$share/g"];
    for filter in refused {
        assert_eq!(subscriber.subscribe(&[(filter, 1), ("a", 1)]), [0x80, 1], "{filter:?} alone is refused");
    }
    for filter in ["a\0", "a\n", ""] {
        let mut offender = Client::connect(gateway.mqtt, "offender");
        offender.send(&frame(0x82, &[&[0, 1, 0, filter.len() as u8], filter.as_bytes(), &[1]].concat()));
        offender.expect_close();
    }
}

#[test]
fn messages_keep_their_order_and_unacknowledged_ones_come_again_in_it() {
    let (_folder, gateway) = start();
    let (mut subscriber, _) = Client::connect_with(gateway.mqtt, &options("keeper", false));
    subscriber.subscribe(&[("order/#", 1)]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    for n in 0..500u16 {
        let qos = (n % 2) as u8;
        publisher.send(&publish_packet("order/t", n.to_string().as_bytes(), qos, false, false, n));
    }
    for n in 0..500 {
        assert_eq!(subscriber.receive().payload, n.to_string().into_bytes());
    }
    for n in 0..3 {
        publisher.send(&publish_packet("order/t", &[n], 1, false, false, 600));
    }
    let first: Vec<_> = (0..3).map(|_| subscriber.receive_unacknowledged()).collect();
    // Only the middle one is acknowledged.
    subscriber.send(&frame(0x40, &first[1].packet_id.to_be_bytes()));
    subscriber.ping();
    drop(subscriber);
    let (mut subscriber, present) = Client::connect_with(gateway.mqtt, &options("keeper", false));
    assert!(present);
    for sent in [&first[0], &first[2]] {
        assert_eq!(subscriber.receive(), Publish { dup: true, ..sent.clone() });
    }
}

#[test]
fn acknowledgements_keep_the_order_of_publishes_whatever_becomes_of_them() {
    let (_folder, gateway) = start();
    let mut client = Client::connect(gateway.mqtt, "mixed");
    let kinds = [
        ("devices/a/t", &b"1.0"[..]),
        ("elsewhere/x", b"1.0"),
        ("devices/a/t", b"{"),
        ("alerts/a/t/anomaly", b"{}"),
        ("alerts/a/t/anomaly/ack", b"{}"),
        ("devices/a/t", b""),
    ];
    let mut segment = Vec::new();
    for id in 1..=600u16 {
        let (topic, payload) = kinds[usize::from(id * 7) % kinds.len()];
        segment.extend(publish_packet(topic, payload, 1, false, id % 5 == 0, id));
    }
    client.send(&segment);
    for id in 1..=600u16 {
        assert_eq!(client.packet().unwrap().body, id.to_be_bytes());
    }
}

#[test]
fn packets_may_come_in_any_pieces() {
    let (_folder, gateway) = start();
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    subscriber.subscribe(&[("pieces/#", 1)]);
    let mut bytes = connect_packet(&options("pieces", true));
    let payload = "x".repeat(300);
    bytes.extend(publish_packet("pieces/t", payload.as_bytes(), 1, false, false, 1));
    bytes.extend(frame(0xc0, &[]));
    // In one piece, and byte by byte: the length of the PUBLISH takes two bytes, which arrive separately.
    for piece in [bytes.len(), 1] {
        let mut client = Client::raw(gateway.mqtt);
        for piece in bytes.chunks(piece) {
            client.send(piece);
        }
        assert_eq!(client.packet().unwrap().first, 0x20);
        let mut answers = [client.packet().unwrap().first, client.packet().unwrap().first];
        answers.sort();
        assert_eq!(answers, [0x40, 0xd0]);
        assert_eq!(subscriber.receive().payload, payload.as_bytes());
    }
    // The largest packet that is accepted, in one piece and in two.
    let payload = vec![b'x'; 256 * 1024 - 4 - 2 - 8 - 2];
    let largest = publish_packet("pieces/t", &payload, 1, false, false, 1);
    assert_eq!(largest.len(), 256 * 1024);
    let mut client = Client::connect(gateway.mqtt, "large");
    for at in [0, 100_000] {
        client.send(&largest[..at]);
        client.send(&largest[at..]);
        assert_eq!(client.packet().unwrap().first, 0x40);
        assert!(subscriber.receive().payload == payload);
    }
    let larger = publish_packet("pieces/t", &[&payload[..], b"x"].concat(), 1, false, false, 2);
    client.send(&larger[..1000]);
    client.expect_close();
}

#[test]
fn wills_tell_of_every_end_but_a_goodbye() {
    let (_folder, gateway) = start();
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("wills/+", 1)]);
    let connect = |topic| {
        let will = Some((topic, &b"gone"[..], 0, false));
        Client::connect_with(gateway.mqtt, &Options { will, ..options("mortal", true) }).0
    };
    let _first = connect("wills/takeover");
    let mut second = connect("wills/offence");
    assert_eq!(watcher.receive().topic, "wills/takeover");
    second.send(&publish_packet("", b"1.0", 1, false, false, 1));
    second.expect_close();
    assert_eq!(watcher.receive().topic, "wills/offence");
    connect("wills/goodbye").disconnect();
    let third = connect("wills/reset");
    drop(third);
    assert_eq!(watcher.receive().topic, "wills/reset");
    // A will on one of the gateway's own topics is refused like a publish.
    drop(connect("alerts/a/t/anomaly"));
    wait_until("the refusal", || gateway.status()["mqtt"]["publishes_refused"] == 1);
}

#[test]
fn broken_packets_end_the_connection() {
    let (_folder, gateway) = start();
    let offences: [&[u8]; 9] = [
        &frame(0x82, &[0, 1]),
        &frame(0x80, &[0, 1, 0, 1, b'a', 0]),
        &frame(0x82, &[0, 0, 0, 1, b'a', 0]),
        &frame(0x82, &[0, 1, 0, 1, b'a', 3]),
        &frame(0xa2, &[0, 1]),
        &frame(0xe1, &[]),
        &frame(0x36, b"\0\x01a\0\x01"),
        &frame(0x00, &[]),
        &frame(0x30, b"\0\x05a"),
    ];
    for offence in offences {
        let mut client = Client::connect(gateway.mqtt, "offender");
        client.send(offence);
        client.expect_close();
    }
}

/// A login is accepted, because devices have one configured, but the gateway makes clear that it protects nothing.
#[test]
fn a_login_is_accepted_and_said_to_be_unchecked() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend_from_slice(&[4, 0xc2, 0, 0]);
    [&b"plug"[..], b"s3cret-user", b"s3cret-word"].iter().for_each(|field| text(&mut body, field));
    for _ in 0..3 {
        let mut client = Client::raw(gateway.mqtt);
        client.send(&frame(0x10, &body));
        assert_eq!(client.packet().unwrap().body, [0, 0]);
        client.publish("devices/plug/power", b"1.0");
    }
    drop(Client::connect(gateway.mqtt, "without"));
    assert_eq!(gateway.status()["mqtt"]["logins_unchecked"], 3);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert_eq!(log.matches("logins are not checked").count(), 1, "once for each host: {log}");
    assert!(!log.contains("s3cret"), "user names can be secrets, too: {log}");
}

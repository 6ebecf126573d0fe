//! Slow, dead, numerous, broken or hostile clients: the gateway lives, its memory stays bounded, and others are not affected.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Options, connect_packet, frame, publish_packet, text};
use crate::gateway::{Gateway, wait_until};

fn start() -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    (folder, gateway)
}

/// Checks that another client's publish is stored, acknowledged and fanned out.
fn assert_alive(gateway: &mut Gateway) {
    assert!(gateway.is_running(), "{}", std::fs::read_to_string(&gateway.log).unwrap());
    let mut subscriber = Client::connect(gateway.mqtt, "witness-subscriber");
    subscriber.subscribe(&[("devices/witness/t", 1)]);
    let mut publisher = Client::connect(gateway.mqtt, "witness-publisher");
    publisher.publish("devices/witness/t", b"1.0");
    assert_eq!(subscriber.receive().payload, b"1.0");
}

#[test]
fn what_kills_a_stock_broker_does_not_kill_this_one() {
    let (_folder, mut gateway) = start();
    let watch = |gateway: &Gateway| {
        let mut all = Client::connect(gateway.mqtt, "watch-all");
        all.subscribe(&[("#", 1), ("ü/#", 1)]);
        all
    };
    let _all = watch(&gateway);

    // The router of a stock rumqttd crashes at a first letter outside ASCII; here it is an ordinary topic.
    let mut greek = Client::connect(gateway.mqtt, "greek");
    greek.subscribe(&[("λ/+", 1)]);
    let will = Some(("λ/will", &b"gone"[..], 1, false));
    drop(Client::connect_with(gateway.mqtt, &Options { client_id: "odd-will", clean: true, keep_alive_s: 0, will }));
    assert_eq!(greek.receive().topic, "λ/will");
    Client::connect(gateway.mqtt, "odd-topic").publish("λ/b", b"1.0");
    assert_eq!(greek.receive().topic, "λ/b");

    for topic in ["", "a/#", "+", "a\0b"] {
        let mut client = Client::connect(gateway.mqtt, "odd-topic");
        client.send(&publish_packet(topic, b"1.0", 1, false, false, 1));
        client.expect_close();
        let will = Some((topic, &b"1.0"[..], 1, false));
        let options = Options { client_id: "odd-will", clean: true, keep_alive_s: 0, will };
        let refused = Client::try_over(TcpStream::connect(gateway.mqtt).unwrap(), &options);
        assert!(refused.is_err(), "a will for {topic:?}");
        assert_alive(&mut gateway);
    }
    Client::connect(gateway.mqtt, "odd-topic").publish("$SYS/x", b"1.0");

    for _ in 0..3 {
        let mut subscriber = Client::connect(gateway.mqtt, "leaves-under-load");
        subscriber.subscribe(&[("devices/#", 0)]);
        let mut publisher = Client::connect(gateway.mqtt, "load");
        for n in 0..500u16 {
            publisher.send(&publish_packet("devices/load/t", b"1.0", 1, false, false, n + 1));
        }
        subscriber.disconnect();
        for _ in 0..500 {
            publisher.packet().unwrap();
        }
    }
    assert_alive(&mut gateway);

    let keeper = Options { client_id: "keeper", clean: false, keep_alive_s: 0, will: None };
    let (mut shared, _) = Client::connect_with(gateway.mqtt, &keeper);
    assert_eq!(shared.subscribe(&[("$share/group/devices/#", 1)]), [1]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    publisher.publish("devices/a/t", b"1.0");
    shared.receive_unacknowledged();
    drop(shared);
    publisher.publish("devices/a/t", b"2.0");
    assert_alive(&mut gateway);

    for _ in 0..20 {
        let mut raw = TcpStream::connect(gateway.mqtt).unwrap();
        raw.write_all(&connect_packet(&Options { client_id: "reset", clean: true, keep_alive_s: 0, will: None }))
            .unwrap();
        // Dropping it with an unread answer makes the kernel send a reset.
        drop(raw);
    }
    for _ in 0..2 {
        let mut slash = Client::raw(gateway.mqtt);
        slash.send(&connect_packet(&Options { client_id: "a/b", clean: true, keep_alive_s: 0, will: None }));
        assert_eq!(slash.packet().unwrap().body, [0, 0]);
    }
    for _ in 0..200 {
        Client::connect(gateway.mqtt, "quick").disconnect();
    }
    assert_alive(&mut gateway);
}

#[test]
fn malformed_packets_cost_only_their_sender() {
    let (_folder, mut gateway) = start();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut subscribe = vec![0, 7];
    text(&mut subscribe, b"a/+");
    subscribe.push(1);
    let packets = [
        publish_packet("devices/a/t", b"{\"value\":1}", 1, false, false, 9),
        frame(0x82, &subscribe),
        frame(0xa2, &subscribe[..7]),
        frame(0x40, &[0, 1]),
        connect_packet(&Options { client_id: "again", clean: true, keep_alive_s: 5, will: Some(("w", b"x", 1, true)) }),
    ];
    for round in 0..300 {
        let mut stream = TcpStream::connect(gateway.mqtt).unwrap();
        if round % 4 != 0 {
            let id = format!("fuzz-{}", round % 7);
            stream
                .write_all(&connect_packet(&Options {
                    client_id: &id,
                    clean: round % 3 == 0,
                    keep_alive_s: 0,
                    will: None,
                }))
                .unwrap();
        }
        let mut packet = packets[round % packets.len()].clone();
        for _ in 0..=next() % 4 {
            let at = next() as usize % packet.len();
            packet[at] = next() as u8;
        }
        // The gateway may have closed the connection already.
        let _ = stream.write_all(&packet);
    }
    let mut huge = Client::connect(gateway.mqtt, "huge");
    huge.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    huge.expect_close();
    assert_alive(&mut gateway);
    for payload in [&b"{"[..], b"\xff\xff", b"[[1]]", b"{\"a\":{}}", b""] {
        let mut device = Client::connect(gateway.mqtt, "bad-payloads");
        device.publish("devices/bad/t", payload);
    }
    let status = gateway.status();
    assert!(status["received"]["undecodable"].as_u64().unwrap() >= 5);
    assert!(status["rejected_samples"].as_array().unwrap().iter().any(|sample| sample["sample"] == "[[1]]"));
    assert_alive(&mut gateway);
}

#[test]
fn silent_and_idle_connections_are_bounded_and_cheap() {
    let (_folder, mut gateway) = start();
    let before = gateway.rss_bytes();
    let idle: Vec<Client> = (0..1000).map(|n| Client::connect(gateway.mqtt, &format!("idle-{n}"))).collect();
    assert_alive(&mut gateway);
    let per_connection = (gateway.rss_bytes().saturating_sub(before)) / 1000;
    assert!(per_connection < 24 * 1024, "{per_connection} bytes a connection");
    assert!(gateway.status()["mqtt"]["connections"].as_u64().unwrap() >= 1000);
    drop(idle);
    let mut silent = TcpStream::connect(gateway.mqtt).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let started = Instant::now();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "closed after the time for a CONNECT");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_alive(&mut gateway);
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_costs_little() {
    let (_folder, mut gateway) = start();
    let mut dead = Client::connect(gateway.mqtt, "dead");
    dead.subscribe(&[("devices/flood/#", 1)]);
    let mut zero = Client::connect(gateway.mqtt, "zero");
    zero.subscribe(&[("devices/flood/#", 0)]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    let before = gateway.rss_bytes();
    let payload = format!("{{\"value\":1,\"pad\":\"{}\"}}", "x".repeat(4000));
    for _ in 0..4000 {
        publisher.publish("devices/flood/t", &payload);
    }
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "grown by {grown} bytes");
    assert!(gateway.status()["mqtt"]["subscribers_overrun"].as_u64().unwrap() >= 1);
    assert_alive(&mut gateway);
}

#[test]
fn a_flood_of_new_topics_and_client_ids_is_bounded() {
    let (_folder, mut gateway) = start();
    let mut all = Client::connect(gateway.mqtt, "all");
    all.subscribe(&[("sink/none", 1)]);
    let before = gateway.rss_bytes();
    for n in 0..2000 {
        let options = Options { client_id: &format!("flood-{n}"), clean: false, keep_alive_s: 0, will: None };
        let (mut client, _) = Client::connect_with(gateway.mqtt, &options);
        let id = client.next_packet_id();
        client.send(&publish_packet(&format!("flood/{n}/topic"), b"1.0", 1, true, false, id));
        client.packet().unwrap();
    }
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    for n in 0..20_000 {
        publisher.send(&publish_packet(&format!("devices/flood-{n}/t"), b"1.0", 0, false, false, 0));
    }
    publisher.publish("devices/end/t", b"1.0");
    let mut greedy = Client::connect(gateway.mqtt, "greedy");
    let granted: Vec<u8> = (0..400).map(|n| greedy.subscribe(&[(&format!("greedy/{n}"), 1)])[0]).collect();
    assert!(granted.contains(&0x80), "filters are capped");
    assert!(granted.contains(&1));
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grown by {grown} bytes");
    wait_until("the series cap", || gateway.status()["detection"]["readings_unwatched"].as_u64().unwrap() >= 10_000);
    let status = gateway.status();
    assert_eq!(status["ledger"][0]["accepted"], 20_001, "all are stored all the same");
    assert_alive(&mut gateway);
}

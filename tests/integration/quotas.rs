//! What a listener and a user may take: who takes more is slowed down or refused, as its version knows it, and counted.

use std::time::{Duration, Instant};

use crate::gateway::{Gateway, wait_until};
use crate::listeners::{address, expect_success};
use crate::restart::start_with;
use crate::wire::{Connect, Message, PUBACK, VERSIONS, Version, Wire};

fn counter(gateway: &Gateway, name: &str) -> u64 {
    gateway.status()["mqtt"][name].as_u64().unwrap()
}

/// How long it takes until so many publishes at QoS 1 are acknowledged, if all are sent at once.
fn time_of(client: &mut Wire, count: u16, padding: usize) -> Duration {
    let payload = format!("{{\"value\": 1}}{}", " ".repeat(padding));
    let began = Instant::now();
    for id in 1..=count {
        client.send(&Message::new("devices/d/m", &payload, 1, id));
    }
    for id in 1..=count {
        assert_eq!(client.expect(PUBACK, id), 0);
    }
    began.elapsed()
}

#[test]
fn who_sends_too_many_messages_or_bytes_is_read_later_and_loses_nothing() {
    // A second's worth at once, then 20 more at 10 a second; the control has no limit.
    for (config, padding, is_limited) in [
        ("[mqtt]\nmessages_per_second_max = 10\n", 0, true),
        ("[mqtt]\nsize_per_second_max = \"10KiB\"\n", 1_000, true),
        ("", 1_000, false),
    ] {
        for version in VERSIONS {
            let (_folder, gateway) = start_with(config);
            let mut client = Wire::open(&gateway, &Connect::fleeting(version, "device"));
            // One read may hold several; what comes after it waits.
            let took = [time_of(&mut client, 15, padding), time_of(&mut client, 15, padding)].iter().sum::<Duration>();
            assert_eq!(took > Duration::from_millis(900), is_limited, "{config}: {took:?}");
            assert_eq!(counter(&gateway, "clients_slowed") > 0, is_limited, "{config}");
            let mut other = Wire::open(&gateway, &Connect::fleeting(version, "another"));
            other.publish(&Message::new("devices/e/m", "{\"value\": 1}", 1, 1));
            wait_until("all to be there", || gateway.status()["received"]["accepted"] == 31);
        }
    }
}

#[test]
fn a_listener_has_its_own_limits() {
    let listener = |name: &str, keys: &str| {
        format!("[[listener]]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\nanonymous = true\n{keys}\n")
    };
    let config = [
        listener("narrow", "connections_max = 2\nfilters_per_client_max = 1\nretained_per_client_max = 1"),
        listener("wide", ""),
    ];
    let (_folder, gateway) = start_with(&config.concat());
    let [narrow, wide] = [1, 2].map(|at| address(&gateway, at));
    for version in VERSIONS {
        let id = |name: &str| format!("{name}-{version:?}");
        let (first, second) = (id("first"), id("second"));
        let mut client = Wire::open_at(narrow, &Connect::fleeting(version, &first));
        assert_eq!(client.subscribe("a", 0), 0);
        assert!(client.subscribe("b", 0) >= 0x80);
        for topic in ["state/1", "state/2"] {
            client.publish(&Message::new(&format!("{topic}/{version:?}"), "on", 1, 1).retained());
        }
        let mut at_wide = Wire::open_at(wide, &Connect::fleeting(version, "reader"));
        assert_eq!(at_wide.subscribe("a", 0), 0);
        assert_eq!(at_wide.subscribe(&format!("+/+/{version:?}"), 0), 0);
        assert_eq!(at_wide.take().topic, format!("state/1/{version:?}"));
        let _second = Wire::open_at(narrow, &Connect::fleeting(version, &second));
        let refused = counter(&gateway, "connections_refused");
        let third = std::net::TcpStream::connect(narrow).unwrap();
        assert_eq!(std::io::Read::read(&mut &third, &mut [0]).unwrap(), 0, "all are taken");
        assert_eq!(counter(&gateway, "connections_refused"), refused + 1);
        // Only what the client retained first is there: nothing else comes before this.
        at_wide.publish(&Message::new(&format!("a/b/{version:?}"), "end", 0, 0));
        assert_eq!(at_wide.take().topic, format!("a/b/{version:?}"));
        drop((client, _second));
        wait_until("them to leave", || counter(&gateway, "connections") == 1);
    }
    assert_eq!(counter(&gateway, "retained_refused"), 2);
}

#[test]
fn a_user_has_so_many_connections_and_the_same_client_takes_its_own_place() {
    let (folder, gateway) = start_with("");
    drop(gateway);
    let users = folder.path().join("users");
    expect_success(&["passwd", users.to_str().unwrap(), "fleet"], "correct horse");
    let config = format!(
        "[[listener]]\nlisten = \"127.0.0.1:0\"\nusers = \"{}\"\nconnections_per_user_max = 2\n[[right]]\ntopic = \"#\"\nallow = [\"publish\", \"subscribe\"]\n",
        users.display()
    );
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    let listener = address(&gateway, 1);
    for (version, refusal) in [(Version::Four, 3), (Version::Five, 0x97)] {
        let connect =
            |id: &'static str| Connect { login: Some(("fleet", "correct horse")), ..Connect::fleeting(version, id) };
        let first = Wire::open_at(listener, &connect("first"));
        let second = Wire::open_at(listener, &connect("second"));
        assert_eq!(Wire::refused_at(listener, &connect("third")), refusal);
        let again = Wire::open_at(listener, &connect("first"));
        drop((first, second, again));
        wait_until("them to leave", || counter(&gateway, "connections") == 0);
    }
}

#[test]
fn connections_that_come_too_fast_wait() {
    let (_folder, gateway) = start_with("[mqtt]\nconnections_per_second_max = 10\n");
    let began = Instant::now();
    let clients: Vec<Wire> =
        (0..20).map(|n| Wire::open(&gateway, &Connect::fleeting(Version::Four, &format!("c-{n}")))).collect();
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    assert!(counter(&gateway, "connections_delayed") >= 5);
    drop(clients);
}

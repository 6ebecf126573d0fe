//! Attackers that do what they can. Each attack is bounded in connections, in bytes at a time, and by the end of the storm.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Client, Options, connect_packet, frame, publish_packet, text};

pub struct Field {
    pub address: SocketAddr,
    pub over: AtomicBool,
}

type Attack = fn(&Field);

pub const ATTACKS: &[Attack] = &[
    large_packets,
    flood_of_readings,
    wildcard_trees,
    subscribers_that_do_not_read,
    sessions_that_are_away,
    retained_messages_without_a_route,
    numbers_that_are_none,
    games_with_clocks,
];

impl Field {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Connects under this client id; `None` if the gateway refuses.
    fn connect(&self, client_id: &str, clean: bool) -> Option<Client> {
        let mut client = Client::raw(self.address);
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        client.stream.write_all(&connect_packet(&Options { client_id, clean, keep_alive_s: 0, will: None })).ok()?;
        let connack = client.packet().ok()?;
        if (connack.first, connack.body.get(1)) != (0x20, Some(&0)) {
            return None;
        }
        client.stream.set_nonblocking(true).ok()?;
        Some(client)
    }

    fn crowd(&self, name: &str, count: usize) -> Vec<Client> {
        (0..count).filter_map(|n| self.connect(&format!("{name}-{n}"), true)).collect()
    }

    /// All clients send these bytes repeatedly, and discard what they receive, until the storm is over. A disconnected client stays away.
    fn repeat(&self, crowd: Vec<Client>, bytes: impl Fn(usize) -> Vec<u8>, pause: Duration) {
        let mut crowd: Vec<(Client, Vec<u8>, usize)> =
            crowd.into_iter().enumerate().map(|(n, client)| (client, bytes(n), 0)).collect();
        let mut sink = [0; 64 * 1024];
        while !self.is_over() {
            for (client, bytes, at) in &mut crowd {
                if let Ok(count) = client.stream.write(&bytes[*at..]) {
                    *at = (*at + count) % bytes.len();
                }
                while client.stream.read(&mut sink).is_ok_and(|count| count > 0) {}
            }
            std::thread::sleep(pause);
        }
    }
}

/// Twelve connections that each send packets of 38 KB.
fn large_packets(field: &Field) {
    let payload = format!("[{}1]", "1.5,".repeat(9_500));
    let bytes = |n: usize| publish_packet(&format!("devices/large-{n}/t"), payload.as_bytes(), 1, false, false, 1);
    field.repeat(field.crowd("large", 12), |n| bytes(n).repeat(20), Duration::from_millis(5));
}

/// Fifty devices that send as fast as they can.
fn flood_of_readings(field: &Field) {
    let bytes = |n: usize| {
        publish_packet(&format!("devices/flood-{n}/temperature"), b"{\"value\":21.5}", 1, false, false, 1).repeat(500)
    };
    field.repeat(field.crowd("flood", 50), bytes, Duration::from_millis(2));
}

/// Filters whose tree has every branch that a topic can take, and publishes that take all of them.
fn wildcard_trees(field: &Field) {
    const LEVELS: usize = 12;
    let filters: Vec<String> = (0..1usize << LEVELS)
        .map(|bits| (0..LEVELS).map(|level| if bits >> level & 1 == 1 { "+/" } else { "a/" }).collect::<String>() + "x")
        .collect();
    let mut subscribers = field.crowd("tree", 112);
    for (subscriber, filters) in subscribers.iter_mut().zip(filters.chunks(filters.len().div_ceil(112))) {
        let mut body = vec![0, 1];
        for filter in filters {
            text(&mut body, filter.as_bytes());
            body.push(0);
        }
        // Some filters may be refused.
        let _ = subscriber.stream.write(&frame(0x82, &body));
    }
    let publish = publish_packet(&("a/".repeat(LEVELS) + "y"), b"", 0, false, false, 0);
    field.repeat(field.crowd("tree-shaker", 4), |_| publish.repeat(1000), Duration::from_millis(2));
}

/// Two hundred clients that subscribe to everything and read nothing.
fn subscribers_that_do_not_read(field: &Field) {
    let mut crowd = field.crowd("unread", 200);
    let mut body = vec![0, 1];
    text(&mut body, b"#");
    body.push(0);
    for client in &mut crowd {
        let _ = client.stream.write(&frame(0x82, &body));
    }
    while !field.is_over() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A hundred clients that subscribe to everything at QoS 1 and go away.
fn sessions_that_are_away(field: &Field) {
    for n in 0..100 {
        let Some(mut client) = field.connect(&format!("away-{n}"), false) else { continue };
        let mut body = vec![0, 1];
        for filter in ["devices/#", "alerts/#"] {
            text(&mut body, filter.as_bytes());
            body.push(1);
        }
        let _ = client.stream.write(&frame(0x82, &body));
        let _ = client.stream.write(&frame(0xe0, &[]));
    }
}

/// Retained messages on ever new topics that no route takes.
fn retained_messages_without_a_route(field: &Field) {
    let bytes = |n: usize| {
        (0..2_000).flat_map(|m| publish_packet(&format!("nowhere/{n}/{m}"), &[b'x'; 100], 1, true, false, 1)).collect()
    };
    field.repeat(field.crowd("retained", 10), bytes, Duration::from_millis(5));
}

/// Ever new devices whose value is not a number: each would be an alert.
fn numbers_that_are_none(field: &Field) {
    let bytes = |n: usize| {
        (0..5_000)
            .flat_map(|m| publish_packet(&format!("devices/none-{n}-{m}/t"), b"nan", 0, false, false, 0))
            .collect()
    };
    field.repeat(field.crowd("none", 2), bytes, Duration::from_millis(20));
}

/// Readings with times of the next century, in the name of the well-behaved device.
fn games_with_clocks(field: &Field) {
    let bytes = |_: usize| {
        let future = |metric: &str| {
            let topic = format!("devices/good/{metric}");
            publish_packet(&topic, br#"{"value":20.1,"ts_ms":4102444800000}"#, 1, false, false, 1)
        };
        [future("reactor_temperature"), future("container_temperature")].concat()
    };
    field.repeat(field.crowd("clock", 1), bytes, Duration::from_millis(200));
}

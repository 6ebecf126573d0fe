//! Devices that publish numbered readings at QoS 1, with many unacknowledged at a time.

use std::net::SocketAddr;

use crate::client::{Client, publish_packet};

pub const DEVICES: u64 = 20;
const CONNECTIONS: u64 = 4;
const WINDOW: u64 = 100;

pub fn device(number: u64) -> String {
    format!("d{number:02}")
}

#[derive(Default)]
pub struct Fleet {
    /// Number of readings published by each device.
    published: u64,
}

impl Fleet {
    pub fn published_by_each(&self) -> u64 {
        self.published
    }

    pub fn published(&self) -> u64 {
        self.published * DEVICES
    }

    /// Every device publishes the next `count` readings; returns when all are acknowledged.
    pub fn publish(&mut self, gateway: SocketAddr, count: u64) {
        let numbers = self.published + 1..self.published + 1 + count;
        self.published += count;
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let numbers = numbers.clone();
                scope.spawn(move || publish(gateway, connection, numbers));
            }
        });
    }
}

fn publish(gateway: SocketAddr, connection: u64, numbers: std::ops::Range<u64>) {
    let mut client = Client::connect(gateway, &format!("fleet-{connection}"));
    let devices: Vec<String> = (0..DEVICES).filter(|number| number % CONNECTIONS == connection).map(device).collect();
    let readings: Vec<(u64, &String)> =
        numbers.flat_map(|number| devices.iter().map(move |device| (number, device))).collect();
    for window in readings.chunks(WINDOW as usize) {
        let mut packets = Vec::new();
        for (number, device) in window {
            let (topic, payload) =
                (format!("devices/{device}/temperature"), format!("{{\"value\":20.5,\"seq\":{number}}}"));
            let id = client.next_packet_id();
            packets.extend(publish_packet(&topic, payload.as_bytes(), 1, false, false, id));
        }
        client.send(&packets);
        for _ in window {
            assert_eq!(client.packet().unwrap().first, 0x40);
        }
    }
    client.disconnect();
}

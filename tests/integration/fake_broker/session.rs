//! What the broker has for one client. Each step has a tick of the same clock as what happens on a disk of [`crate::vfs`].

use outrider::core::mqtt::packet::{self, Outgoing, Version};

use crate::vfs::tick;

/// Messages on their way to a client.
const WINDOW: usize = 32;

#[derive(Default)]
pub struct Session {
    pub is_subscribed: bool,
    pub deliveries: Vec<Delivery>,
}

#[derive(Clone, Debug, Default)]
pub struct Delivery {
    topic: String,
    payload: String,
    /// When it was sent, over each connection once.
    pub sent: Vec<u64>,
    /// Over which connections.
    connections: Vec<u64>,
    /// When it was acknowledged.
    pub acknowledged: Option<u64>,
}

impl Session {
    pub fn add(&mut self, topic: &str, payload: &str) -> usize {
        self.deliveries.push(Delivery { topic: topic.to_owned(), payload: payload.to_owned(), ..Delivery::default() });
        self.deliveries.len() - 1
    }

    /// Sends what was not sent over this connection yet, in order.
    pub fn send(&mut self, connection: u64, version: Version, out: &mut Vec<u8>) {
        if !self.is_subscribed {
            return;
        }
        let open = self.deliveries.iter_mut().enumerate().filter(|(_, delivery)| delivery.acknowledged.is_none());
        for (number, delivery) in open.take(WINDOW).filter(|(_, delivery)| !delivery.connections.contains(&connection))
        {
            let message = Outgoing {
                topic: delivery.topic.as_bytes(),
                payload: delivery.payload.as_bytes(),
                qos: 1,
                dup: !delivery.sent.is_empty(),
                packet_id: u16::try_from(number + 1).unwrap(),
                ..Outgoing::default()
            };
            packet::publish(version, &message, out);
            delivery.connections.push(connection);
            delivery.sent.push(tick());
        }
    }

    /// PUBACK has come over this connection.
    pub fn acknowledged(&mut self, packet_id: u16, connection: u64) {
        let delivery = &mut self.deliveries[usize::from(packet_id) - 1];
        assert!(delivery.connections.contains(&connection), "acknowledged without having been sent: {delivery:?}");
        delivery.acknowledged.get_or_insert_with(tick);
    }
}

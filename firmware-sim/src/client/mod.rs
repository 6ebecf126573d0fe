//! One connection of rumqttc, in either version of MQTT, as a publisher sees it.
//!
//! Constraints, each of which keeps what is counted as acknowledged true to what the broker said:
//! - The library's event loop runs in a task of its own and is never interrupted: what it was writing when a `select!` dropped its future
//!   would be lost, though reported as sent.
//! - What was read before a connection broke is reported before its end.
//! - One value is one connection. The library's own redelivery is not used: it forgets what is in flight when the broker has no session.
//! - Who publishes has at most `in_flight_max` publishes between the oldest unsettled one and the next: the library numbers them in a ring of
//!   that size and, in QoS 2, gives away a number again that still waits for its PUBCOMP.
//!
//! TLS is beside the library ([`tunnel`]).

mod event_loop;
mod tunnel;

use crate::access::{Access, Handshakes, Login, Qos, Version};
use bytes::Bytes;
use event_loop::EventLoop;
use rumqttc::{NetworkOptions, Transport, v5};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tunnel::Tunnel;

/// Also the longest that a broker may take nothing of what is sent to it.
const CONNECT_MAX: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const INCOMING_BYTES_MAX: u32 = 64 * 1024;
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;
/// Capacity for events on their way to the publisher.
const EVENTS_WAITING_MAX: usize = 64;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Connecting {
    pub broker: SocketAddr,
    pub access: Access,
    pub client_id: String,
    /// Publishes in flight; at least 1.
    pub window: u16,
    /// Requests that may be made at once without waiting.
    pub requests_max: usize,
    pub handshakes: Handshakes,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The broker takes so many publishes in flight.
    Connected {
        in_flight_max: u16,
    },
    /// The oldest publish that was handed over and not yet sent was sent, with this packet id.
    Sent {
        packet_id: u16,
    },
    /// PUBACK.
    Acknowledged {
        packet_id: u16,
    },
    /// PUBREC: the first half of QoS 2.
    Received {
        packet_id: u16,
    },
    /// PUBCOMP: the second half.
    Completed {
        packet_id: u16,
    },
    /// A PUBACK, PUBREC or PUBCOMP of version 5 with a reason of 0x80 or above. It is over, and was not taken.
    Refused {
        packet_id: u16,
        reason: String,
    },
    Subscribed {
        is_granted: bool,
    },
    Message {
        payload: Bytes,
        is_retained: bool,
    },
    /// The end: the connection broke, or there never was one.
    Lost {
        reason: String,
    },
}

enum Requests {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// Its tasks end when it is dropped.
pub(crate) struct Client {
    requests: Requests,
    happened: mpsc::Receiver<Happened>,
    _tasks: JoinSet<()>,
}

impl Client {
    /// Begins to connect; [`Client::next`] tells what comes of it.
    pub fn connect(connecting: Connecting) -> Self {
        let (tunnel, opened) = match &connecting.access.tls {
            Some(tls) => match Tunnel::open(connecting.broker, tls.clone()) {
                Ok(tunnel) => (Some(tunnel), None),
                Err(error) => (None, Some(format!("cannot open a local socket: {error}"))),
            },
            None => (None, None),
        };
        let (requests, event_loop) = match connecting.access.version {
            Version::V3_1_1 => {
                let (client, event_loop) = version_3(&connecting, tunnel.as_ref());
                (Requests::V3(client), EventLoop::V3(Box::new(event_loop)))
            }
            Version::V5 => {
                let (client, event_loop) = version_5(&connecting, tunnel.as_ref());
                (Requests::V5(client), EventLoop::V5(Box::new(event_loop)))
            }
        };
        let (sender, happened) = mpsc::channel(EVENTS_WAITING_MAX);
        let mut tasks = JoinSet::new();
        let (handshakes, window) = (connecting.handshakes, connecting.window);
        tasks.spawn(async move {
            match opened {
                // Nobody may be there to hear it.
                Some(reason) => drop(sender.send(Happened::Lost { reason }).await),
                None => Driver { event_loop, tunnel, window, sender }.run(handshakes).await,
            }
        });
        Client { requests, happened, _tasks: tasks }
    }

    /// The next thing that happens. After [`Happened::Lost`] nothing does.
    pub async fn next(&mut self) -> Happened {
        let ended = || Happened::Lost { reason: "the connection is over".to_owned() };
        self.happened.recv().await.unwrap_or_else(ended)
    }

    /// Hands over a publish. If the connection is over, that is told by [`Client::next`].
    pub async fn publish(&self, topic: &str, qos: Qos, payload: Bytes) {
        let _ = match &self.requests {
            Requests::V3(client) => client.publish_bytes(topic, qos.into(), false, payload).await.map_err(drop),
            Requests::V5(client) => client.publish_bytes(topic, qos.into(), false, payload).await.map_err(drop),
        };
    }

    /// Subscribes with QoS 1.
    pub async fn subscribe(&self, filter: &str) {
        let _ = match &self.requests {
            Requests::V3(client) => client.subscribe(filter, rumqttc::QoS::AtLeastOnce).await.map_err(drop),
            Requests::V5(client) => client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).await.map_err(drop),
        };
    }

    /// Sends what was handed over and DISCONNECT, and waits until it is on its way, but not longer than this.
    pub async fn goodbye(mut self, time: Duration) {
        let limit = Instant::now() + time;
        let asked = async {
            match &self.requests {
                Requests::V3(client) => client.disconnect().await.map_err(drop),
                Requests::V5(client) => client.disconnect().await.map_err(drop),
            }
        };
        if timeout_at(limit, asked).await.is_ok_and(|asked| asked.is_ok()) {
            while let Ok(Some(_)) = timeout_at(limit, self.happened.recv()).await {}
        }
    }
}

/// Runs the library's event loop.
struct Driver {
    event_loop: EventLoop,
    tunnel: Option<Tunnel>,
    window: u16,
    sender: mpsc::Sender<Happened>,
}

impl Driver {
    async fn run(mut self, handshakes: Handshakes) {
        let mut turn = handshakes.turn().await;
        let (mut in_flight, mut refused) = (0_u16, 0_u16);
        let reason = loop {
            match self.event_loop.poll(self.window).await {
                Ok(event_loop::Polled::DisconnectSent) => {
                    drop(self.event_loop);
                    if let Some(tunnel) = self.tunnel {
                        // What went in comes out before the connection is closed.
                        tunnel.end().await;
                    }
                    return;
                }
                Ok(event_loop::Polled::Other) => {}
                Ok(event_loop::Polled::Happened(happened)) => {
                    if let Happened::Connected { .. } = happened {
                        turn = None;
                    }
                    match &happened {
                        Happened::Sent { packet_id: 1.. } => in_flight = in_flight.saturating_add(1),
                        Happened::Acknowledged { .. } | Happened::Completed { .. } => {
                            in_flight = in_flight.saturating_sub(1)
                        }
                        Happened::Refused { .. } => {
                            in_flight = in_flight.saturating_sub(1);
                            refused = refused.saturating_add(1);
                        }
                        _ => {}
                    }
                    if in_flight == 0 && refused > 0 {
                        self.event_loop.forget_refused(refused);
                        refused = 0;
                    }
                    if self.sender.send(happened).await.is_err() {
                        return;
                    }
                }
                Err(reason) => break reason,
            }
        };
        drop(turn);
        // Acknowledgements that were read before the connection broke still count.
        while let Some(happened) = self.event_loop.left(self.window) {
            if self.sender.send(happened).await.is_err() {
                return;
            }
        }
        drop(self.event_loop);
        let reason = match self.tunnel {
            Some(tunnel) => tunnel.end().await.unwrap_or(reason),
            None => reason,
        };
        // Nobody may be there to hear it.
        let _ = self.sender.send(Happened::Lost { reason }).await;
    }
}

fn version_3(connecting: &Connecting, tunnel: Option<&Tunnel>) -> (rumqttc::AsyncClient, rumqttc::EventLoop) {
    let (host, transport) = host_and_transport(connecting, tunnel);
    let mut options = rumqttc::MqttOptions::new(&connecting.client_id, host, connecting.broker.port());
    options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_inflight(connecting.window);
    options.set_max_packet_size(INCOMING_BYTES_MAX as usize, OUTGOING_BYTES_MAX);
    if let Some(Login { username, password }) = &connecting.access.login {
        options.set_credentials(username, password.as_deref().unwrap_or_default());
    }
    let (client, mut event_loop) = rumqttc::AsyncClient::new(options, connecting.requests_max);
    event_loop.set_network_options(network_options());
    (client, event_loop)
}

fn version_5(connecting: &Connecting, tunnel: Option<&Tunnel>) -> (v5::AsyncClient, v5::EventLoop) {
    let (host, transport) = host_and_transport(connecting, tunnel);
    let mut options = v5::MqttOptions::new(&connecting.client_id, host, connecting.broker.port());
    options.set_transport(transport).set_keep_alive(KEEP_ALIVE);
    // Without a limit it reserves room for 65,535 publishes.
    options.set_outgoing_inflight_upper_limit(connecting.window);
    // What may be sent says the broker. What may be received is 10 KiB otherwise.
    options.set_max_packet_size(Some(INCOMING_BYTES_MAX));
    options.set_connection_timeout(CONNECT_MAX.as_secs()).set_network_options(network_options());
    if let Some(Login { username, password }) = &connecting.access.login {
        options.set_credentials(username, password.as_deref().unwrap_or_default());
    }
    v5::AsyncClient::new(options, connecting.requests_max)
}

fn host_and_transport(connecting: &Connecting, tunnel: Option<&Tunnel>) -> (String, Transport) {
    match tunnel {
        Some(tunnel) => (tunnel.address().to_owned(), Transport::unix()),
        None => (connecting.broker.ip().to_string(), Transport::tcp()),
    }
}

fn network_options() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_MAX.as_secs());
    network
}

impl From<Qos> for rumqttc::QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::AtLeastOnce => Self::AtLeastOnce,
            Qos::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

impl From<Qos> for v5::mqttbytes::QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::AtLeastOnce => Self::AtLeastOnce,
            Qos::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

#[cfg(test)]
mod tests;

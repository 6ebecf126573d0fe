//! A broker that behaves as it is told to, over the gateway's own codec from the server's side: with the limits of AWS IoT Core, with words for
//! what it does not like or without, with acknowledgements that are lost, and with connections that it ends too early. It remembers what it
//! took, passes nothing on, and delivers what a test gives it for a client, again over each connection until that is acknowledged.

mod conversation;
mod session;
mod tls;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

pub use session::{Delivery, Session};
pub use tls::server_config;

/// What it does not take.
#[derive(Clone, Default)]
pub struct Dislikes {
    /// At a message that holds this text it ends the connection: with this reason code, or without a word.
    pub text: Option<(&'static str, Option<u8>)>,
    /// A message that holds this text is refused by this reason code in its PUBACK.
    pub refused: Option<(&'static str, u8)>,
    /// As AWS IoT Core.
    pub is_aws: bool,
    /// What it says to CONNECT.
    pub connack: u8,
    /// A larger packet is answered by DISCONNECT; it says so in CONNACK.
    pub packet_bytes_max: Option<u32>,
    /// Every connection is closed there, without a word.
    pub closes_at: Option<Stage>,
}

/// How far a connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// CONNECT has come, and is not answered.
    Connect,
    /// CONNACK is said, and nothing else.
    Connack,
    /// SUBSCRIBE has come, and is not answered.
    Suback,
}

#[derive(Default)]
pub struct Seen {
    /// Topics and payloads of what was taken, in order.
    pub taken: Vec<(String, Vec<u8>)>,
    /// When connections were accepted, also those that got no farther.
    pub accepted: Vec<Instant>,
    pub connections: u64,
    pub client_ids: Vec<String>,
    pub alpn: Vec<Option<Vec<u8>>>,
    pub certificates: u64,
    /// DISCONNECTs of clients.
    pub farewells: u64,
    /// What broke the limits of AWS, in words.
    pub offences: Vec<String>,
    pub in_flight_most: usize,
    pub at: Vec<Instant>,
    /// So many more acknowledgements are lost, each with its connection.
    pub losses: u64,
    pub dislikes: Dislikes,
    /// By client id. They outlive connections.
    pub sessions: HashMap<String, Session>,
}

#[derive(Clone)]
pub struct Broker {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
}

impl Broker {
    pub fn start(dislikes: Dislikes) -> Broker {
        Broker::start_with(dislikes, None)
    }

    /// With TLS, if there is a configuration of it.
    pub fn start_with(dislikes: Dislikes, tls: Option<Arc<rustls::ServerConfig>>) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { dislikes, ..Seen::default() }));
        let broker = Broker { address, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, tls, stream) = (Arc::clone(&seen), tls.clone(), stream.unwrap());
                seen.lock().unwrap().accepted.push(Instant::now());
                // Of a connection that breaks nobody has to be told.
                std::thread::spawn(move || drop(conversation::serve(stream, &seen, tls)));
            }
        });
        broker
    }

    /// The records of what was taken, in order.
    pub fn records(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        let lines = seen.taken.iter().flat_map(|(_, payload)| payload.split_inclusive(|byte| *byte == b'\n'));
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// From now on every connection ends there; with `None`, none does.
    pub fn close_at(&self, stage: Option<Stage>) {
        self.seen.lock().unwrap().dislikes.closes_at = stage;
    }

    /// Delivers a message at QoS 1 to this client as soon as it is there and has subscribed. Returns its number among the client's.
    pub fn deliver(&self, client_id: &str, topic: &str, payload: &str) -> usize {
        let mut seen = self.seen.lock().unwrap();
        seen.sessions.entry(client_id.to_owned()).or_default().add(topic, payload)
    }

    /// What has become of a message by now.
    pub fn delivery(&self, client_id: &str, number: usize) -> Delivery {
        self.seen.lock().unwrap().sessions[client_id].deliveries[number].clone()
    }

    /// Whether this client has acknowledged everything.
    pub fn has_delivered_all(&self, client_id: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.sessions[client_id].deliveries.iter().all(|delivery| delivery.acknowledged.is_some())
    }
}

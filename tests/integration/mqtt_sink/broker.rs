//! A broker that behaves as it is told to, over the gateway's own codec from the server's side: with the limits of AWS IoT Core, with words for
//! what it does not like or without, with acknowledgements that are lost. It delivers nothing to anybody, and remembers what it took.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outrider::core::mqtt::packet::{self, Connack, Packet, Version};
use serde_json::Value;

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
}

#[derive(Default)]
pub struct Seen {
    /// Topics and payloads of what was taken, in order.
    pub taken: Vec<(String, Vec<u8>)>,
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
}

#[derive(Clone)]
pub struct Broker {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
}

trait Channel: Read + Write {}
impl<T: Read + Write> Channel for T {}

/// Acknowledgements wait for more to come, so that what is in flight adds up.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(10);

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
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                // Of a connection that breaks nobody has to be told.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &seen, tls)));
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

    pub fn config(&self, keys: &str) -> String {
        config(&format!("mqtt://{}", self.address), keys)
    }
}

pub fn config(url: &str, keys: &str) -> String {
    format!("[[sink]]\nname = 'broker'\ntype = 'mqtt'\nurl = '{url}'\nbatch_delay = '20ms'\ntimeout = '2s'\n{keys}\n")
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<()> {
    stream.set_read_timeout(Some(ACKNOWLEDGED_AFTER))?;
    stream.set_nodelay(true)?;
    let mut channel: Box<dyn Channel> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let mut session = rustls::ServerConnection::new(tls).map_err(io::Error::other)?;
            let mut stream = stream;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            session.complete_io(&mut stream)?;
            stream.set_read_timeout(Some(ACKNOWLEDGED_AFTER))?;
            let mut seen = seen.lock().unwrap();
            seen.alpn.push(session.alpn_protocol().map(<[u8]>::to_vec));
            seen.certificates += u64::from(session.peer_certificates().is_some());
            Box::new(rustls::StreamOwned::new(session, stream))
        }
    };
    let mut conversation =
        Conversation { seen, version: Version::V4, is_open: false, unacknowledged: Vec::new(), out: Vec::new() };
    let (mut input, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let has_more = match channel.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                input.extend_from_slice(&buffer[..bytes]);
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => false,
            Err(error) => return Err(error),
        };
        let mut goes_on = true;
        while goes_on
            && let Ok(Some(len)) = packet::frame_len(&input, 1 << 28)
            && input.len() >= len
        {
            let frame: Vec<u8> = input.drain(..len).collect();
            goes_on = conversation.frame(&frame);
        }
        if goes_on && !has_more {
            goes_on = conversation.acknowledge();
        }
        channel.write_all(&conversation.out)?;
        channel.flush()?;
        conversation.out.clear();
        if !goes_on {
            return Ok(());
        }
    }
}

struct Conversation<'a> {
    seen: &'a Mutex<Seen>,
    version: Version,
    is_open: bool,
    unacknowledged: Vec<(u16, u8)>,
    out: Vec<u8>,
}

impl Conversation<'_> {
    /// Whether the connection goes on.
    fn frame(&mut self, frame: &[u8]) -> bool {
        let mut seen = self.seen.lock().unwrap();
        if !self.is_open {
            let Ok(Some(connect)) = packet::decode_connect(frame) else { return false };
            (self.version, self.is_open) = (connect.version, true);
            seen.connections += 1;
            seen.client_ids.push(connect.client_id.to_owned());
            let answer = Connack {
                reason: seen.dislikes.connack,
                packet_bytes_max: seen.dislikes.packet_bytes_max,
                ..Connack::default()
            };
            packet::connack(self.version, &answer, &mut self.out);
            return answer.reason == 0;
        }
        match packet::decode(self.version, frame).unwrap() {
            Packet::PingReq => self.out.extend_from_slice(&packet::PINGRESP),
            Packet::Disconnect { .. } => {
                seen.farewells += 1;
                return false;
            }
            Packet::Publish(publish) => {
                let dislikes = seen.dislikes.clone();
                let holds = |text: &str| publish.payload.windows(text.len()).any(|part| part == text.as_bytes());
                if dislikes.packet_bytes_max.is_some_and(|max| frame.len() as u64 > u64::from(max)) {
                    return self.end(Some(0x95));
                }
                if let Some((text, code)) = dislikes.text
                    && holds(text)
                {
                    return self.end(code);
                }
                let code = dislikes.refused.filter(|(text, _)| holds(text)).map_or(0, |(_, code)| code);
                self.unacknowledged.push((publish.packet_id, code));
                seen.in_flight_most = seen.in_flight_most.max(self.unacknowledged.len());
                seen.at.push(Instant::now());
                if dislikes.is_aws {
                    let slashes = publish.topic.matches('/').count();
                    let in_flight = self.unacknowledged.len();
                    if frame.len() > 128 << 10 || publish.topic.len() > 256 || slashes > 7 || in_flight > 100 {
                        let offence = format!(
                            "{} bytes, {} in a topic, {slashes}, {in_flight}",
                            frame.len(),
                            publish.topic.len()
                        );
                        seen.offences.push(offence);
                        return self.end(Some(0x95));
                    }
                }
                if code == 0 {
                    seen.taken.push((publish.topic.to_owned(), publish.payload.to_vec()));
                }
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn end(&mut self, code: Option<u8>) -> bool {
        if let Some(code) = code {
            packet::disconnect(self.version, code, "not this one", 1 << 20, &mut self.out);
        }
        false
    }

    /// Not in their order.
    fn acknowledge(&mut self) -> bool {
        let mut seen = self.seen.lock().unwrap();
        if seen.losses > 0 && !self.unacknowledged.is_empty() {
            seen.losses -= 1;
            return false;
        }
        for (packet_id, code) in self.unacknowledged.drain(..).rev() {
            packet::ack(self.version, 0x40, packet_id, code, &mut self.out);
        }
        true
    }
}

//! One connection of the broker.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outrider::core::mqtt::packet::{self, Connack, Packet, Publish, Version};

use super::{Seen, Stage};

trait Channel: Read + Write {}
impl<T: Read + Write> Channel for T {}

/// Acknowledgements wait for more to come, so that what is in flight adds up.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(10);

pub fn serve(stream: TcpStream, seen: &Mutex<Seen>, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<()> {
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
    let mut conversation = Conversation {
        seen,
        version: Version::V4,
        client_id: None,
        number: 0,
        unacknowledged: Vec::new(),
        out: Vec::new(),
    };
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
        if goes_on {
            conversation.deliver();
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
    /// `None` before CONNECT.
    client_id: Option<String>,
    /// Of this connection, from 1 on.
    number: u64,
    unacknowledged: Vec<(u16, u8)>,
    out: Vec<u8>,
}

impl Conversation<'_> {
    /// Whether the connection goes on.
    fn frame(&mut self, frame: &[u8]) -> bool {
        let Some(client_id) = self.client_id.clone() else { return self.connect(frame) };
        let mut seen = self.seen.lock().unwrap();
        match packet::decode(self.version, frame).unwrap() {
            Packet::PingReq => self.out.extend_from_slice(&packet::PINGRESP),
            Packet::Disconnect { .. } => {
                seen.farewells += 1;
                return false;
            }
            Packet::Publish(publish) => {
                drop(seen);
                return self.publish(&publish, frame.len());
            }
            Packet::Subscribe(subscribe) => {
                if seen.dislikes.closes_at == Some(Stage::Suback) {
                    return false;
                }
                let codes: Vec<u8> = subscribe.filters.iter().map(|filter| filter.qos).collect();
                packet::suback(self.version, subscribe.packet_id, &codes, &mut self.out);
                seen.sessions.entry(client_id).or_default().is_subscribed = true;
            }
            Packet::PubAck(ack) => {
                assert_eq!(ack.reason, 0);
                seen.sessions.entry(client_id).or_default().acknowledged(ack.packet_id, self.number);
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn connect(&mut self, frame: &[u8]) -> bool {
        let mut seen = self.seen.lock().unwrap();
        let Ok(Some(connect)) = packet::decode_connect(frame) else { return false };
        (self.version, self.client_id) = (connect.version, Some(connect.client_id.to_owned()));
        seen.connections += 1;
        self.number = seen.connections;
        seen.client_ids.push(connect.client_id.to_owned());
        if seen.dislikes.closes_at == Some(Stage::Connect) {
            return false;
        }
        if connect.clean_start {
            seen.sessions.entry(connect.client_id.to_owned()).or_default().is_subscribed = false;
        }
        let answer = Connack {
            session_present: seen.sessions.get(connect.client_id).is_some_and(|session| session.is_subscribed),
            reason: seen.dislikes.connack,
            packet_bytes_max: seen.dislikes.packet_bytes_max,
            ..Connack::default()
        };
        packet::connack(self.version, &answer, &mut self.out);
        answer.reason == 0 && seen.dislikes.closes_at != Some(Stage::Connack)
    }

    fn publish(&mut self, publish: &Publish<'_>, frame_bytes: usize) -> bool {
        let mut seen = self.seen.lock().unwrap();
        let dislikes = seen.dislikes.clone();
        let holds = |text: &str| publish.payload.windows(text.len()).any(|part| part == text.as_bytes());
        if dislikes.packet_bytes_max.is_some_and(|max| frame_bytes as u64 > u64::from(max)) {
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
            if frame_bytes > 128 << 10 || publish.topic.len() > 256 || slashes > 7 || in_flight > 100 {
                let topic_bytes = publish.topic.len();
                seen.offences.push(format!("{frame_bytes} bytes, {topic_bytes} in a topic, {slashes}, {in_flight}"));
                return self.end(Some(0x95));
            }
        }
        if code == 0 {
            seen.taken.push((publish.topic.to_owned(), publish.payload.to_vec()));
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

    fn deliver(&mut self) {
        let Some(client_id) = &self.client_id else { return };
        if let Some(session) = self.seen.lock().unwrap().sessions.get_mut(client_id) {
            session.send(self.number, self.version, &mut self.out);
        }
    }
}

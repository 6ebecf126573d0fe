//! A blocking MQTT 3.1.1 client that frames its packets itself, so that it shares no code with what it tests. Its stream is that of a socket,
//! or one of TLS over it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::gateway::DEADLINE;

pub struct Client<S = TcpStream> {
    pub stream: S,
    input: Vec<u8>,
    packet_id: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
}

impl Publish {
    /// What a PUBLISH of version 3.1.1 says.
    pub fn of(packet: &Packet) -> Publish {
        assert_eq!(packet.first & 0xf0, 0x30, "{packet:?}");
        let qos = (packet.first >> 1) & 3;
        let topic_len = usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let topic = String::from_utf8(packet.body[2..2 + topic_len].to_vec()).unwrap();
        let rest = &packet.body[2 + topic_len..];
        let (packet_id, payload) =
            if qos > 0 { (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]) } else { (0, rest) };
        Publish {
            topic,
            payload: payload.to_vec(),
            qos,
            retain: packet.first & 1 != 0,
            dup: packet.first & 8 != 0,
            packet_id,
        }
    }
}

pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut remaining = body.len();
    loop {
        let byte = (remaining & 0x7f) as u8;
        remaining >>= 7;
        out.push(if remaining > 0 { byte | 0x80 } else { byte });
        if remaining == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

pub struct Options<'a> {
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
    /// Topic, payload, QoS, retain.
    pub will: Option<(&'a str, &'a [u8], u8, bool)>,
}

pub fn connect_packet(options: &Options<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    let mut flags = u8::from(options.clean) << 1;
    if let Some((_, _, qos, retain)) = options.will {
        flags |= 0x04 | (qos << 3) | (u8::from(retain) << 5);
    }
    body.extend_from_slice(&[4, flags]);
    body.extend_from_slice(&options.keep_alive_s.to_be_bytes());
    text(&mut body, options.client_id.as_bytes());
    if let Some((topic, payload, _, _)) = options.will {
        text(&mut body, topic.as_bytes());
        text(&mut body, payload);
    }
    frame(0x10, &body)
}

pub fn publish_packet(topic: &str, payload: &[u8], qos: u8, retain: bool, dup: bool, packet_id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    frame(0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain), &body)
}

impl Client<TcpStream> {
    pub fn raw(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    pub fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client::of_stream(stream)
    }

    /// Connects. Returns whether the broker had a session.
    pub fn connect_with(address: SocketAddr, options: &Options<'_>) -> (Client, bool) {
        Client::over(TcpStream::connect(address).unwrap(), options)
    }

    /// The same over an existing connection.
    pub fn over(stream: TcpStream, options: &Options<'_>) -> (Client, bool) {
        Client::try_over(stream, options).unwrap()
    }

    /// The same; an error if the client is refused.
    pub fn try_over(stream: TcpStream, options: &Options<'_>) -> io::Result<(Client, bool)> {
        let mut client = Client::of(stream);
        client.stream.write_all(&connect_packet(options))?;
        match client.packet()? {
            Packet { first: 0x20, body } if body.get(1) == Some(&0) => Ok((client, body[0] == 1)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    pub fn connect(address: SocketAddr, client_id: &str) -> Client {
        Client::connect_with(address, &Options { client_id, clean: true, keep_alive_s: 0, will: None }).0
    }

    /// Whether anything arrives within this time.
    pub fn wait_readable(&mut self, time: Duration) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let is_readable = self.stream.peek(&mut [0]).is_ok_and(|count| count > 0);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        is_readable
    }
}

impl<S: Read + Write> Client<S> {
    /// Over a connection that has its time limits.
    pub fn of_stream(stream: S) -> Client<S> {
        Client { stream, input: Vec::new(), packet_id: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; an error if the connection ends or nothing arrives.
    pub fn packet(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Ok(packet);
            }
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let mut remaining = 0usize;
        for at in 0..4 {
            let byte = *self.input.get(1 + at)?;
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let start = 2 + at;
                let body = self.input.get(start..start + remaining)?.to_vec();
                let first = self.input[0];
                self.input.drain(..start + remaining);
                return Some(Packet { first, body });
            }
        }
        panic!("a malformed length from the gateway")
    }

    pub fn next_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id % u16::MAX + 1;
        self.packet_id
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.try_publish(topic, payload).unwrap();
    }

    /// The same; an error if the connection ends or nothing arrives.
    pub fn try_publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> io::Result<()> {
        let id = self.next_packet_id();
        self.stream.write_all(&publish_packet(topic, payload.as_ref(), 1, false, false, id))?;
        let puback = self.packet()?;
        assert_eq!(puback, Packet { first: 0x40, body: id.to_be_bytes().to_vec() });
        Ok(())
    }

    /// Subscribes. Returns the granted codes.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.next_packet_id();
        let mut body = id.to_be_bytes().to_vec();
        for (filter, qos) in filters {
            text(&mut body, filter.as_bytes());
            body.push(*qos);
        }
        self.send(&frame(0x82, &body));
        let suback = self.packet().unwrap();
        assert_eq!((suback.first, &suback.body[..2]), (0x90, &id.to_be_bytes()[..]), "{suback:?}");
        suback.body[2..].to_vec()
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.next_packet_id();
        let mut body = id.to_be_bytes().to_vec();
        text(&mut body, filter.as_bytes());
        self.send(&frame(0xa2, &body));
        assert_eq!(self.packet().unwrap(), Packet { first: 0xb0, body: id.to_be_bytes().to_vec() });
    }

    /// The next PUBLISH, acknowledged if necessary.
    pub fn receive(&mut self) -> Publish {
        let publish = self.receive_unacknowledged();
        if publish.qos > 0 {
            self.send(&frame(0x40, &publish.packet_id.to_be_bytes()));
        }
        publish
    }

    pub fn receive_unacknowledged(&mut self) -> Publish {
        Publish::of(&self.packet().unwrap())
    }

    pub fn ping(&mut self) {
        self.send(&frame(0xc0, &[]));
        assert_eq!(self.packet().unwrap().first, 0xd0);
    }

    pub fn disconnect(mut self) {
        self.send(&frame(0xe0, &[]));
    }

    /// Waits until the gateway closes the connection.
    pub fn expect_close(&mut self) {
        while let Ok(packet) = self.packet() {
            assert_ne!(packet.first & 0xf0, 0x40, "an acknowledgement of what should have been refused");
        }
    }
}

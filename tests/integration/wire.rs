//! MQTT 3.1.1 and 5 on the wire, for tests in which every single step counts: a client sends what it is told to, and answers nothing by itself.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::client::{Client, Packet, frame, text};
use crate::gateway::Gateway;

/// The longest wait for one packet.
const DEADLINE: Duration = Duration::from_secs(20);

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// Properties of version 5.
pub const EXPIRY: u8 = 0x02;
pub const IDENTIFIER: u8 = 0x0b;
pub const USER: u8 = 0x26;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Four = 4,
    Five = 5,
}

pub const VERSIONS: [Version; 2] = [Version::Four, Version::Five];

#[derive(Clone, Copy)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a str,
    pub retain: bool,
    /// Of version 5.
    pub delay_s: u32,
    /// Of version 5, encoded.
    pub properties: &'a [u8],
}

#[derive(Clone, Copy)]
pub struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    pub clean: bool,
    /// Of version 5; before that, `clean` says whether there is a session that outlives the connection.
    pub expiry_s: u32,
    pub will: Option<Will<'a>>,
    pub login: Option<(&'a str, &'a str)>,
}

impl<'a> Connect<'a> {
    /// A new session that is kept.
    pub fn kept(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            client_id,
            clean: version == Version::Five,
            expiry_s: 300,
            ..Connect::fleeting(version, client_id)
        }
    }

    /// A session that ends with its connection.
    pub fn fleeting(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect { version, client_id, clean: true, expiry_s: 0, will: None, login: None }
    }

    /// The same client comes back to its session.
    pub fn resumed(self) -> Connect<'a> {
        Connect { clean: false, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        flags |= self.will.map_or(0, |will| 0x04 | 1 << 3 | u8::from(will.retain) << 5);
        flags |= if self.login.is_some() { 0xc0 } else { 0 };
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend([self.version as u8, flags, 0, 0]);
        let is_five = self.version == Version::Five;
        if is_five {
            body.extend([5, 0x11]);
            body.extend(self.expiry_s.to_be_bytes());
        }
        text(&mut body, self.client_id.as_bytes());
        if let Some(Will { topic, payload, delay_s, properties, .. }) = self.will {
            if is_five {
                body.extend([5 + properties.len() as u8, 0x18]);
                body.extend(delay_s.to_be_bytes());
                body.extend(properties);
            }
            text(&mut body, topic.as_bytes());
            text(&mut body, payload.as_bytes());
        }
        for part in self.login.into_iter().flat_map(|(name, password)| [name, password]) {
            text(&mut body, part.as_bytes());
        }
        frame(0x10, &body)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 at QoS 0.
    pub id: u16,
    /// Of version 5, encoded.
    pub properties: Vec<u8>,
}

impl Message {
    pub fn new(topic: &str, payload: &str, qos: u8, id: u16) -> Message {
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        Message { topic, payload, qos, retain: false, dup: false, id, properties: Vec::new() }
    }

    pub fn retained(self) -> Message {
        Message { retain: true, ..self }
    }

    /// The same, sent once more.
    pub fn again(&self) -> Message {
        Message { dup: true, ..self.clone() }
    }

    /// With properties, which are left out before version 5.
    pub fn with(self, properties: &[u8]) -> Message {
        Message { properties: properties.to_vec(), ..self }
    }

    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == Version::Five {
            body.push(self.properties.len() as u8);
            body.extend(&self.properties);
        }
        body.extend(self.payload.as_bytes());
        frame(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }

    pub fn parse(version: Version, packet: &Packet) -> Message {
        assert_eq!(packet.first >> 4, 3, "a PUBLISH: {packet:?}");
        let (qos, mut rest) = (packet.first >> 1 & 3, &packet.body[..]);
        let topic = string(&mut rest);
        let id = if qos > 0 { number(&mut rest, 2) as u16 } else { 0 };
        let properties = if version == Version::Five {
            let length = varint(&mut rest);
            cut(&mut rest, length).to_vec()
        } else {
            Vec::new()
        };
        Message {
            topic,
            payload: String::from_utf8(rest.to_vec()).unwrap(),
            qos,
            retain: packet.first & 1 != 0,
            dup: packet.first & 8 != 0,
            id,
            properties,
        }
    }

    /// The values of one property, encoded.
    pub fn property(&self, wanted: u8) -> Vec<Vec<u8>> {
        let (mut rest, mut found) = (&self.properties[..], Vec::new());
        while !rest.is_empty() {
            let (code, before) = (cut(&mut rest, 1)[0], rest);
            match code {
                0x01 => _ = cut(&mut rest, 1),
                0x23 => _ = cut(&mut rest, 2),
                EXPIRY => _ = cut(&mut rest, 4),
                IDENTIFIER => _ = varint(&mut rest),
                0x03 | 0x08 | 0x09 => _ = string(&mut rest),
                USER => _ = (string(&mut rest), string(&mut rest)),
                other => panic!("property {other} of a PUBLISH"),
            }
            if code == wanted {
                found.push(before[..before.len() - rest.len()].to_vec());
            }
        }
        found
    }

    /// What is left of its time, in seconds.
    pub fn expiry_s(&self) -> Option<u32> {
        let found = self.property(EXPIRY);
        found.first().map(|value| u32::from_be_bytes(value[..].try_into().unwrap()))
    }
}

fn cut<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    head
}

fn number(rest: &mut &[u8], bytes: usize) -> usize {
    cut(rest, bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn varint(rest: &mut &[u8]) -> usize {
    let mut value = 0;
    for at in 0..4 {
        let byte = cut(rest, 1)[0];
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn string(rest: &mut &[u8]) -> String {
    let length = number(rest, 2);
    String::from_utf8(cut(rest, length).to_vec()).unwrap()
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn answer(first: u8, id: u16) -> Vec<u8> {
    frame(first, &id.to_be_bytes())
}

pub struct Wire {
    pub client: Client,
    pub version: Version,
    /// What CONNACK said about the session.
    pub present: bool,
    /// Messages that came before an answer.
    held: VecDeque<Message>,
}

impl Wire {
    pub fn open(gateway: &Gateway, connect: &Connect<'_>) -> Wire {
        Wire::open_at(gateway.mqtt, connect)
    }

    /// By another listener than the first.
    pub fn open_at(listener: SocketAddr, connect: &Connect<'_>) -> Wire {
        let (client, [flags, code]) = Wire::connected(listener, connect);
        assert_eq!(code, 0, "CONNACK of {}", connect.client_id);
        Wire { client, version: connect.version, present: flags == 1, held: VecDeque::new() }
    }

    /// The code with which the client is refused.
    pub fn refused_at(listener: SocketAddr, connect: &Connect<'_>) -> u8 {
        Wire::connected(listener, connect).1[1]
    }

    fn connected(listener: SocketAddr, connect: &Connect<'_>) -> (Client, [u8; 2]) {
        let mut client = Client::raw(listener);
        client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(&connect.bytes());
        let Packet { first, body } = client.packet().unwrap();
        assert_eq!(first, 0x20);
        (client, [body[0], body[1]])
    }

    /// Comes back to a session that must be there.
    pub fn resume(gateway: &Gateway, connect: &Connect<'_>) -> Wire {
        let wire = Wire::open(gateway, &connect.resumed());
        assert!(wire.present, "the session of {} in version {:?} is gone", connect.client_id, connect.version);
        wire
    }

    pub fn send(&mut self, message: &Message) {
        self.try_send(message).unwrap();
    }

    /// The same; an error if the gateway is gone.
    pub fn try_send(&mut self, message: &Message) -> io::Result<()> {
        self.client.stream.write_all(&message.bytes(self.version))
    }

    pub fn answer(&mut self, first: u8, id: u16) {
        self.try_answer(first, id).unwrap();
    }

    pub fn try_answer(&mut self, first: u8, id: u16) -> io::Result<()> {
        self.client.stream.write_all(&answer(first, id))
    }

    /// Waits for this answer, which must be the next packet apart from messages. Returns its reason code.
    pub fn expect(&mut self, first: u8, id: u16) -> u8 {
        let Packet { body, .. } = self.other(first);
        assert_eq!(body[..2], id.to_be_bytes(), "the id of {first:#x}");
        body.get(2).copied().unwrap_or(0)
    }

    /// The next packet other than a PUBLISH, which must be of this type.
    fn other(&mut self, first: u8) -> Packet {
        loop {
            let packet = self.client.packet().unwrap_or_else(|error| panic!("{first:#x} does not come: {error}"));
            if packet.first >> 4 != 3 {
                assert_eq!(packet.first, first, "{packet:?}");
                return packet;
            }
            self.held.push_back(Message::parse(self.version, &packet));
        }
    }

    /// Publishes to the end: until PUBACK or PUBCOMP.
    pub fn publish(&mut self, message: &Message) {
        self.send(message);
        match message.qos {
            0 => {}
            1 => assert_eq!(self.expect(PUBACK, message.id), 0),
            _ => {
                assert_eq!(self.expect(PUBREC, message.id), 0);
                self.answer(PUBREL, message.id);
                assert_eq!(self.expect(PUBCOMP, message.id), 0);
            }
        }
    }

    /// Publishes numbers, with ids one above them, until each has its PUBACK or PUBREC. Those of QoS 2 are not released.
    pub fn publish_numbers(&mut self, topic: &str, qos: u8, numbers: Range<u16>) {
        let of = |number: u16| Message::new(topic, &number.to_string(), qos, number + 1);
        let bytes: Vec<u8> = numbers.clone().flat_map(|number| of(number).bytes(self.version)).collect();
        self.client.send(&bytes);
        let first = if qos == 1 { PUBACK } else { PUBREC };
        numbers.for_each(|number| assert_eq!(self.expect(first, number + 1), 0));
    }

    /// The next message, which is not answered.
    pub fn message(&mut self) -> Message {
        self.held.pop_front().unwrap_or_else(|| {
            let packet = self.client.packet().unwrap_or_else(|error| panic!("no message comes: {error}"));
            Message::parse(self.version, &packet)
        })
    }

    /// The next message, answered to the end.
    pub fn take(&mut self) -> Message {
        let message = self.message();
        match message.qos {
            0 => {}
            1 => self.answer(PUBACK, message.id),
            _ => {
                self.answer(PUBREC, message.id);
                self.expect(PUBREL, message.id);
                self.answer(PUBCOMP, message.id);
            }
        }
        message
    }

    /// The payloads of the next messages, answered to the end, up to the first `end`.
    pub fn take_until(&mut self, end: &str) -> Vec<String> {
        std::iter::repeat_with(|| self.take().payload).take_while(|payload| payload != end).collect()
    }

    /// Returns what is granted.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[], filter, options)
    }

    pub fn subscribe_with(&mut self, properties: &[u8], filter: &str, options: u8) -> u8 {
        let mut body = vec![0, 1];
        self.put_properties(&mut body, properties);
        text(&mut body, filter.as_bytes());
        body.push(options);
        self.client.send(&frame(0x82, &body));
        *self.other(0x90).body.last().unwrap()
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let mut body = vec![0, 1];
        self.put_properties(&mut body, &[]);
        text(&mut body, filter.as_bytes());
        self.client.send(&frame(0xa2, &body));
        self.expect(0xb0, 1);
    }

    fn put_properties(&self, body: &mut Vec<u8>, properties: &[u8]) {
        if self.version == Version::Five {
            body.push(properties.len() as u8);
            body.extend(properties);
        }
    }

    pub fn disconnect(mut self) {
        self.client.send(&frame(0xe0, &[]));
    }

    /// Version 5: the session ends now, whatever was said before.
    pub fn disconnect_for_good(mut self) {
        self.client.send(&frame(0xe0, b"\x00\x05\x11\x00\x00\x00\x00"));
    }
}

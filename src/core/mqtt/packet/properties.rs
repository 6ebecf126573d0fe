//! Properties of version 5: one table says what each is, which packets it may stand in, and what it may be.

use super::DecodeError;
use super::reader::Reader;

/// Where properties stand, as bits of a set: in packets of a client, and behind them in those that only a server sends, or sends with others.
pub mod place {
    pub const CONNECT: u16 = 1;
    pub const WILL: u16 = 2;
    pub const PUBLISH: u16 = 4;
    pub const ACK: u16 = 8;
    pub const SUBSCRIBE: u16 = 16;
    pub const UNSUBSCRIBE: u16 = 32;
    pub const DISCONNECT: u16 = 64;
    pub const AUTH: u16 = 128;
    pub const CONNACK: u16 = 256;
    pub const SERVER_PUBLISH: u16 = 512;
    /// SUBACK and UNSUBACK.
    pub const GRANT: u16 = 1024;
    pub const SERVER_DISCONNECT: u16 = 2048;
    pub const ANY: u16 = u16::MAX;
}

pub const PAYLOAD_FORMAT: u8 = 0x01;
pub const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
pub const SUBSCRIPTION_ID: u8 = 0x0b;
pub const SESSION_EXPIRY: u8 = 0x11;
pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub const SERVER_KEEP_ALIVE: u8 = 0x13;
pub const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const PROBLEM_INFORMATION: u8 = 0x17;
pub const WILL_DELAY: u8 = 0x18;
const RESPONSE_INFORMATION: u8 = 0x19;
pub const SERVER_REFERENCE: u8 = 0x1c;
pub const REASON_STRING: u8 = 0x1f;
pub const RECEIVE_MAXIMUM: u8 = 0x21;
pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
pub const MAXIMUM_QOS: u8 = 0x24;
pub const RETAIN_AVAILABLE: u8 = 0x25;
pub const PACKET_BYTES_MAX: u8 = 0x27;
pub const WILDCARD_AVAILABLE: u8 = 0x28;
pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
pub const SHARED_AVAILABLE: u8 = 0x2a;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// 0 or 1.
    Flag,
    /// Two bytes, and the least that they may be.
    Two(u16),
    /// Four bytes, and the least that they may be.
    Four(u32),
    /// One to four bytes, not 0.
    Varint,
    Text,
    /// A text that is the name of a topic.
    Topic,
    Binary,
    Pair,
}

struct Known {
    id: u8,
    kind: Kind,
    places: u16,
}

const fn known(id: u8, kind: Kind, places: u16) -> Known {
    Known { id, kind, places }
}

const MESSAGE: u16 = place::PUBLISH | place::SERVER_PUBLISH | place::WILL;
const BOTH: u16 = place::CONNECT | place::CONNACK;
const SAID: u16 =
    place::ACK | place::DISCONNECT | place::AUTH | place::CONNACK | place::GRANT | place::SERVER_DISCONNECT;

/// All that the standard defines. Only user properties may stand twice, and the identifiers of the subscriptions that a message matches.
const TABLE: [Known; 27] = [
    known(PAYLOAD_FORMAT, Kind::Flag, MESSAGE),
    known(MESSAGE_EXPIRY, Kind::Four(0), MESSAGE),
    known(CONTENT_TYPE, Kind::Text, MESSAGE),
    known(RESPONSE_TOPIC, Kind::Topic, MESSAGE),
    known(CORRELATION_DATA, Kind::Binary, MESSAGE),
    known(SUBSCRIPTION_ID, Kind::Varint, place::SUBSCRIBE | place::SERVER_PUBLISH),
    known(SESSION_EXPIRY, Kind::Four(0), BOTH | place::DISCONNECT),
    known(AUTHENTICATION_METHOD, Kind::Text, BOTH | place::AUTH),
    known(AUTHENTICATION_DATA, Kind::Binary, BOTH | place::AUTH),
    known(PROBLEM_INFORMATION, Kind::Flag, place::CONNECT),
    known(WILL_DELAY, Kind::Four(0), place::WILL),
    known(RESPONSE_INFORMATION, Kind::Flag, place::CONNECT),
    known(REASON_STRING, Kind::Text, SAID),
    known(RECEIVE_MAXIMUM, Kind::Two(1), BOTH),
    known(TOPIC_ALIAS_MAXIMUM, Kind::Two(0), BOTH),
    // An alias of 0 has a reason code of its own, so it is looked at with those that are too high.
    known(TOPIC_ALIAS, Kind::Two(0), place::PUBLISH | place::SERVER_PUBLISH),
    known(USER_PROPERTY, Kind::Pair, place::ANY),
    known(PACKET_BYTES_MAX, Kind::Four(1), BOTH),
    // What only servers send.
    known(ASSIGNED_CLIENT_ID, Kind::Text, place::CONNACK),
    known(SERVER_KEEP_ALIVE, Kind::Two(0), place::CONNACK),
    known(0x1a, Kind::Text, place::CONNACK),
    known(SERVER_REFERENCE, Kind::Text, place::CONNACK | place::SERVER_DISCONNECT),
    known(MAXIMUM_QOS, Kind::Flag, place::CONNACK),
    known(RETAIN_AVAILABLE, Kind::Flag, place::CONNACK),
    known(WILDCARD_AVAILABLE, Kind::Flag, place::CONNACK),
    known(SUBSCRIPTION_IDS_AVAILABLE, Kind::Flag, place::CONNACK),
    known(SHARED_AVAILABLE, Kind::Flag, place::CONNACK),
];

/// Reads the properties of a packet, and gives each number among them to `found`, with its id. Returns all of them as they stand.
pub fn read<'a>(
    reader: &mut Reader<'a>,
    place: u16,
    mut found: impl FnMut(u8, u32),
) -> Result<PassedOn<'a>, DecodeError> {
    let len = reader.varint()? as usize;
    let all = reader.take(len)?;
    check(all, place, &mut found)?;
    Ok(PassedOn { all })
}

/// Whether these are properties that may stand there; gives each number among them to `found`, with its id.
fn check(all: &[u8], place: u16, found: &mut impl FnMut(u8, u32)) -> Result<(), DecodeError> {
    let (mut rest, mut seen) = (Reader::new(all), 0u64);
    while !rest.is_at_end() {
        let id = rest.varint()?;
        let known = TABLE.iter().find(|known| u32::from(known.id) == id);
        let known = known.ok_or(DecodeError::Malformed("an unknown property"))?;
        let number = value(&mut rest, known.kind)?;
        if known.places & place == 0 {
            return Err(match place {
                place::SUBSCRIBE | place::UNSUBSCRIBE => {
                    DecodeError::Malformed("a property that this packet cannot have")
                }
                _ => DecodeError::Protocol("a property that this packet cannot have"),
            });
        }
        let may_repeat = known.id == USER_PROPERTY || known.id == SUBSCRIPTION_ID && place == place::SERVER_PUBLISH;
        if seen & (1 << known.id) != 0 && !may_repeat {
            return Err(DecodeError::Protocol("a property that stands twice"));
        }
        seen |= 1 << known.id;
        found(known.id, number);
    }
    if seen & (1 << AUTHENTICATION_DATA) != 0 && seen & (1 << AUTHENTICATION_METHOD) == 0 {
        return Err(DecodeError::Protocol("authentication data without a method"));
    }
    Ok(())
}

/// The number that it is; 0 of texts.
fn value(rest: &mut Reader<'_>, kind: Kind) -> Result<u32, DecodeError> {
    let out_of_range = Err(DecodeError::Protocol("a property that is out of its range"));
    match kind {
        Kind::Flag => match rest.byte()? {
            flag @ 0..=1 => Ok(flag.into()),
            _ => out_of_range,
        },
        Kind::Two(min) => match rest.two()? {
            number if number >= min => Ok(number.into()),
            _ => out_of_range,
        },
        Kind::Four(min) => match rest.four()? {
            number if number >= min => Ok(number),
            _ => out_of_range,
        },
        Kind::Varint => match rest.varint()? {
            0 => out_of_range,
            number => Ok(number),
        },
        Kind::Text => rest.text().map(|_| 0),
        Kind::Topic => match rest.text()? {
            topic if topic.is_empty() || topic.contains(['+', '#']) => {
                Err(DecodeError::Protocol("a response topic that is empty or has a wildcard"))
            }
            _ => Ok(0),
        },
        Kind::Binary => rest.binary().map(|_| 0),
        Kind::Pair => rest.text().and_then(|_| rest.text()).map(|_| 0),
    }
}

/// A property that is for the receivers of a message, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// What the payload is.
    PayloadFormat {
        /// UTF-8; otherwise nothing is said of its bytes.
        is_utf8: bool,
    },
    /// What kind of content the payload is.
    ContentType(&'a str),
    /// Where an answer is to be published.
    ResponseTopic(&'a str),
    /// By which an answer is recognised.
    CorrelationData(&'a [u8]),
    /// Whatever the publisher says with it.
    User {
        /// May stand several times.
        name: &'a str,
        /// Of the name.
        value: &'a str,
    },
}

impl<'a> Property<'a> {
    /// One that has been read before.
    fn decode(whole: &'a [u8]) -> Option<Property<'a>> {
        let mut reader = Reader::new(whole);
        Some(match reader.byte().ok()? {
            PAYLOAD_FORMAT => Property::PayloadFormat { is_utf8: reader.byte().ok()? == 1 },
            CONTENT_TYPE => Property::ContentType(reader.text().ok()?),
            RESPONSE_TOPIC => Property::ResponseTopic(reader.text().ok()?),
            CORRELATION_DATA => Property::CorrelationData(reader.binary().ok()?),
            USER_PROPERTY => Property::User { name: reader.text().ok()?, value: reader.text().ok()? },
            _ => return None,
        })
    }

    fn encode(self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let (id, fields) = match self {
            Property::PayloadFormat { is_utf8 } => {
                out.extend_from_slice(&[PAYLOAD_FORMAT, u8::from(is_utf8)]);
                return Ok(());
            }
            Property::ContentType(text) => (CONTENT_TYPE, [Some(text.as_bytes()), None]),
            Property::ResponseTopic(text) => (RESPONSE_TOPIC, [Some(text.as_bytes()), None]),
            Property::CorrelationData(data) => (CORRELATION_DATA, [Some(data), None]),
            Property::User { name, value } => (USER_PROPERTY, [Some(name.as_bytes()), Some(value.as_bytes())]),
        };
        out.push(id);
        for field in fields.into_iter().flatten() {
            let len = u16::try_from(field.len());
            let len = len.map_err(|_| DecodeError::Malformed("a property of more than 65535 bytes"))?;
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(field);
        }
        Ok(())
    }
}

/// Encodes properties as they stand in a PUBLISH, one behind the other.
///
/// # Errors
///
/// If a PUBLISH cannot have them.
pub fn encode(properties: &[Property<'_>]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    properties.iter().try_for_each(|property| property.encode(&mut out))?;
    check(&out, place::PUBLISH, &mut |_, _| ())?;
    Ok(out)
}

/// Properties of a message, of which those are passed on that are for its receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOn<'a> {
    /// They have been read once, so they can be read.
    all: &'a [u8],
}

impl<'a> PassedOn<'a> {
    /// Of what [`Self::each`] or [`encode`] has given, one behind the other.
    pub const fn from_own(all: &'a [u8]) -> PassedOn<'a> {
        PassedOn { all }
    }

    /// Those for the receivers, each as it stands in the packet, in order.
    pub fn each(self) -> impl Iterator<Item = &'a [u8]> {
        let mut reader = Reader::new(self.all);
        std::iter::from_fn(move || {
            while !reader.is_at_end() {
                let before = reader.rest;
                let id = reader.byte().ok()?;
                let known = TABLE.iter().find(|known| known.id == id)?;
                value(&mut reader, known.kind).ok()?;
                let whole = before.get(..before.len() - reader.rest.len())?;
                if matches!(id, PAYLOAD_FORMAT | CONTENT_TYPE | RESPONSE_TOPIC | CORRELATION_DATA | USER_PROPERTY) {
                    return Some(whole);
                }
            }
            None
        })
    }

    /// What the property of this id says, which is a text, for the receivers or not.
    pub(super) fn text(self, wanted: u8) -> Option<&'a str> {
        let mut reader = Reader::new(self.all);
        while !reader.is_at_end() {
            let id = reader.byte().ok()?;
            if id == wanted {
                return reader.text().ok();
            }
            value(&mut reader, TABLE.iter().find(|known| known.id == id)?.kind).ok()?;
        }
        None
    }

    /// The same ones, with what each says.
    pub fn properties(self) -> impl Iterator<Item = Property<'a>> {
        self.each().filter_map(Property::decode)
    }

    /// Bytes that are looked at to find one of them: those for the receivers and the others.
    pub fn bytes_looked_at(self) -> usize {
        self.all.len()
    }

    /// Bytes of those for the receivers.
    pub fn len(self) -> usize {
        if self.all.is_empty() { 0 } else { self.each().map(<[u8]>::len).sum() }
    }

    /// Whether there is nothing for the receivers.
    pub fn is_empty(self) -> bool {
        self.all.is_empty() || self.each().next().is_none()
    }
}

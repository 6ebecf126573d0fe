//! What a client sends besides messages and acknowledgements, which both sides send alike ([`super::publish`], [`super::ack`]).

use super::encode::{four, header, two, varint, varint_len};
use super::{Connect, RetainHandling, Subscription, Version, Will};
use super::{properties as property, reason};

/// It is there.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// Longest text or binary of a packet, in bytes. Longer ones are not for these functions.
pub const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// The first packet of a connection.
pub fn connect(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let is_5 = connect.version == Version::V5;
    let mut body = Vec::new();
    let (name, level) = match connect.version {
        Version::V3 => ("MQIsdp", 3),
        Version::V4 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    field(name.as_bytes(), &mut body);
    // Before version 5 a bridge says that it is one in the highest bit, as Mosquitto's bridges do.
    body.push(level | if connect.is_bridge && !is_5 { 0x80 } else { 0 });
    body.push(flags(connect));
    body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if is_5 {
        let properties = connect_properties(connect);
        varint(properties.len(), &mut body);
        body.extend_from_slice(&properties);
    }
    field(connect.client_id.as_bytes(), &mut body);
    if let Some(will) = &connect.will {
        if is_5 {
            let properties = will_properties(will);
            varint(properties.len(), &mut body);
            body.extend_from_slice(&properties);
        }
        field(will.topic.as_bytes(), &mut body);
        field(will.payload, &mut body);
    }
    if let Some(user_name) = connect.user_name {
        field(user_name.as_bytes(), &mut body);
    }
    if let Some(password) = connect.password {
        field(password, &mut body);
    }
    header(0x10, body.len(), out);
    out.extend_from_slice(&body);
}

fn flags(connect: &Connect<'_>) -> u8 {
    let will = match &connect.will {
        Some(will) => 4 | (will.qos << 3) | (u8::from(will.retain) << 5),
        None => 0,
    };
    let login = (u8::from(connect.user_name.is_some()) << 7) | (u8::from(connect.password.is_some()) << 6);
    will | login | (u8::from(connect.clean_start) << 1)
}

fn connect_properties(connect: &Connect<'_>) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(seconds @ 1..) = connect.session_expiry_s {
        four(property::SESSION_EXPIRY, seconds, &mut properties);
    }
    if let Some(count) = connect.receive_maximum {
        two(property::RECEIVE_MAXIMUM, count, &mut properties);
    }
    if let Some(bytes) = connect.packet_bytes_max {
        four(property::PACKET_BYTES_MAX, bytes, &mut properties);
    }
    if connect.topic_alias_maximum > 0 {
        two(property::TOPIC_ALIAS_MAXIMUM, connect.topic_alias_maximum, &mut properties);
    }
    properties
}

fn will_properties(will: &Will<'_>) -> Vec<u8> {
    let mut properties = Vec::new();
    if will.delay_s > 0 {
        four(property::WILL_DELAY, will.delay_s, &mut properties);
    }
    if let Some(seconds) = will.expiry_s {
        four(property::MESSAGE_EXPIRY, seconds, &mut properties);
    }
    will.passed_on.each().for_each(|whole| properties.extend_from_slice(whole));
    properties
}

/// Asks for what matches these filters. Before version 5 only their quality of service is said.
pub fn subscribe(
    version: Version,
    packet_id: u16,
    identifier: Option<u32>,
    filters: &[Subscription<'_>],
    out: &mut Vec<u8>,
) {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some(identifier) = identifier {
            properties.push(property::SUBSCRIPTION_ID);
            varint(identifier as usize, &mut properties);
        }
        varint(properties.len(), &mut body);
        body.extend_from_slice(&properties);
    }
    for subscription in filters {
        field(subscription.filter.as_bytes(), &mut body);
        body.push(options(version, subscription));
    }
    header(0x82, body.len(), out);
    out.extend_from_slice(&body);
}

fn options(version: Version, subscription: &Subscription<'_>) -> u8 {
    if version < Version::V5 {
        return subscription.qos;
    }
    let retained = match subscription.retained {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 0x10,
        RetainHandling::Never => 0x20,
    };
    let (no_local, as_published) = (subscription.no_local, subscription.retain_as_published);
    subscription.qos | (u8::from(no_local) << 2) | (u8::from(as_published) << 3) | retained
}

/// Asks for nothing more of what matches these filters.
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str], out: &mut Vec<u8>) {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    filters.iter().for_each(|filter| field(filter.as_bytes(), &mut body));
    header(0xa2, body.len(), out);
    out.extend_from_slice(&body);
}

/// Leaves: with 0 the will is not published. Only version 5 is told a reason, and another time for which the session is kept.
pub fn disconnect(version: Version, reason: u8, session_expiry_s: Option<u32>, out: &mut Vec<u8>) {
    if version < Version::V5 || reason == reason::SUCCESS && session_expiry_s.is_none() {
        return out.extend_from_slice(&[0xe0, 0]);
    }
    let mut properties = Vec::new();
    if let Some(seconds) = session_expiry_s {
        four(property::SESSION_EXPIRY, seconds, &mut properties);
    }
    match properties.is_empty() {
        true => out.extend_from_slice(&[0xe0, 1, reason]),
        false => {
            header(0xe0, 1 + varint_len(properties.len()) + properties.len(), out);
            out.push(reason);
            varint(properties.len(), out);
            out.extend_from_slice(&properties);
        }
    }
}

/// With its length, which whoever calls has checked to be at most [`FIELD_BYTES_MAX`].
fn field(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(bytes.len()).expect("texts and binaries of a packet were measured");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

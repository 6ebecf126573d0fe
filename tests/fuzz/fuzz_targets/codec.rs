//! What our codec and another one's both take, both must read alike: publishes, subscriptions and their ends, and the start of a session.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use mqtt_proto::{QosPid, v3, v5};
use outrider::core::mqtt::packet::{self, Connect, Packet, Publish, Subscribe, Version};

/// A packet, as far as it is compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    kind: &'static str,
    packet_id: u16,
    flags: Vec<bool>,
    numbers: Vec<u64>,
    texts: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

fuzz_target!(|frame: &[u8]| {
    for version in [Version::V4, Version::V5] {
        // One whole frame: what is behind it is another's.
        let Ok(Some(len)) = packet::frame_len(frame, 1 << 20) else { return };
        let Some(frame) = frame.get(..len) else { return };
        let (ours, theirs) = match version {
            Version::V5 => (ours(version, frame), theirs_5(frame)),
            _ => (ours(version, frame), theirs_4(frame)),
        };
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert_eq!(ours, theirs, "{version:?}");
        }
    }
});

fn ours(version: Version, frame: &[u8]) -> Option<Told> {
    if frame[0] >> 4 == 1 {
        let connect = packet::decode_connect(frame).ok()??;
        return (connect.version == version).then(|| of_connect(&connect));
    }
    Some(match packet::decode(version, frame).ok()? {
        Packet::Publish(publish) => of_publish(&publish),
        Packet::Subscribe(Subscribe { packet_id, identifier, filters }) => Told {
            kind: "subscribe",
            packet_id,
            numbers: filters.iter().map(|one| u64::from(one.qos)).chain(identifier.map(u64::from)).collect(),
            flags: filters.iter().flat_map(|one| [one.no_local, one.retain_as_published]).collect(),
            texts: filters.iter().map(|one| one.filter.to_owned()).collect(),
            ..Told::default()
        },
        Packet::Unsubscribe { packet_id, filters } => {
            let texts = filters.iter().map(|filter| (*filter).to_owned()).collect();
            Told { kind: "unsubscribe", packet_id, texts, ..Told::default() }
        }
        _ => return None,
    })
}

fn of_connect(connect: &Connect<'_>) -> Told {
    let will = connect.will.as_ref();
    Told {
        kind: "connect",
        flags: vec![connect.clean_start, will.is_some(), will.is_some_and(|will| will.retain)],
        numbers: vec![connect.keep_alive_s.into(), will.map_or(0, |will| will.qos.into())],
        texts: [connect.client_id, connect.user_name.unwrap_or(""), will.map_or("", |will| will.topic)]
            .map(str::to_owned)
            .into(),
        bytes: [connect.password.unwrap_or(b""), will.map_or(b"", |will| will.payload)].map(<[u8]>::to_vec).into(),
        ..Told::default()
    }
}

fn of_publish(publish: &Publish<'_>) -> Told {
    Told {
        kind: "publish",
        packet_id: publish.packet_id,
        flags: vec![publish.retain, publish.dup],
        numbers: [publish.qos.into(), publish.alias.map_or(0, u64::from), publish.expiry_s.map_or(0, u64::from)].into(),
        texts: vec![publish.topic.to_owned()],
        bytes: vec![publish.payload.to_vec()],
    }
}

fn qos_and_id(qos_pid: QosPid) -> (u64, u16) {
    match qos_pid {
        QosPid::Level0 => (0, 0),
        QosPid::Level1(id) => (1, id.value()),
        QosPid::Level2(id) => (2, id.value()),
    }
}

fn texts<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|text| text.as_ref().to_owned()).collect()
}

/// Their QoS is an enum whose values are those of the standard.
fn number(qos: impl Debug) -> u64 {
    format!("{qos:?}").bytes().last().map_or(0, |digit| u64::from(digit - b'0'))
}

fn theirs_4(frame: &[u8]) -> Option<Told> {
    Some(match v3::Packet::decode(frame).ok()?? {
        v3::Packet::Connect(connect) if connect.protocol as u8 == 4 => Told {
            kind: "connect",
            flags: connected(connect.clean_session, connect.last_will.as_ref().map(|will| will.retain)),
            numbers: vec![
                connect.keep_alive.into(),
                connect.last_will.as_ref().map_or(0, |will| number(will.qos)),
            ],
            texts: texts([
                &*connect.client_id,
                connect.username.as_deref().unwrap_or(""),
                connect.last_will.as_ref().map_or("", |will| &will.topic_name),
            ]),
            bytes: vec![
                connect.password.as_ref().map_or(Vec::new(), |password| password.to_vec()),
                connect.last_will.as_ref().map_or(Vec::new(), |will| will.message.to_vec()),
            ],
            ..Told::default()
        },
        v3::Packet::Publish(publish) => {
            let (qos, packet_id) = qos_and_id(publish.qos_pid);
            Told {
                kind: "publish",
                packet_id,
                flags: vec![publish.retain, publish.dup],
                numbers: vec![qos, 0, 0],
                texts: texts([&*publish.topic_name]),
                bytes: vec![publish.payload.to_vec()],
            }
        }
        v3::Packet::Subscribe(subscribe) => Told {
            kind: "subscribe",
            packet_id: subscribe.pid.value(),
            numbers: subscribe.topics.iter().map(|(_, qos)| number(*qos)).collect(),
            flags: subscribe.topics.iter().flat_map(|_| [false, false]).collect(),
            texts: texts(subscribe.topics.iter().map(|(filter, _)| &**filter)),
            ..Told::default()
        },
        v3::Packet::Unsubscribe(unsubscribe) => Told {
            kind: "unsubscribe",
            packet_id: unsubscribe.pid.value(),
            texts: texts(unsubscribe.topics.iter().map(|filter| &**filter)),
            ..Told::default()
        },
        _ => return None,
    })
}

fn connected(clean: bool, will_retain: Option<bool>) -> Vec<bool> {
    vec![clean, will_retain.is_some(), will_retain.unwrap_or(false)]
}

fn theirs_5(frame: &[u8]) -> Option<Told> {
    Some(match v5::Packet::decode(frame).ok()?? {
        v5::Packet::Connect(connect) => Told {
            kind: "connect",
            flags: connected(connect.clean_start, connect.last_will.as_ref().map(|will| will.retain)),
            numbers: vec![
                connect.keep_alive.into(),
                connect.last_will.as_ref().map_or(0, |will| number(will.qos)),
            ],
            texts: texts([
                &*connect.client_id,
                connect.username.as_deref().unwrap_or(""),
                connect.last_will.as_ref().map_or("", |will| &will.topic_name),
            ]),
            bytes: vec![
                connect.password.as_ref().map_or(Vec::new(), |password| password.to_vec()),
                connect.last_will.as_ref().map_or(Vec::new(), |will| will.payload.to_vec()),
            ],
            ..Told::default()
        },
        v5::Packet::Publish(publish) => {
            let (qos, packet_id) = qos_and_id(publish.qos_pid);
            let properties = &publish.properties;
            Told {
                kind: "publish",
                packet_id,
                flags: vec![publish.retain, publish.dup],
                numbers: vec![
                    qos,
                    properties.topic_alias.map_or(0, u64::from),
                    properties.message_expiry_interval.map_or(0, u64::from),
                ],
                texts: texts([&*publish.topic_name]),
                bytes: vec![publish.payload.to_vec()],
            }
        }
        v5::Packet::Subscribe(subscribe) => Told {
            kind: "subscribe",
            packet_id: subscribe.pid.value(),
            numbers: subscribe
                .topics
                .iter()
                .map(|(_, options)| number(options.max_qos))
                .chain(subscribe.properties.subscription_id.map(|id| u64::from(id.value())))
                .collect(),
            flags: subscribe
                .topics
                .iter()
                .flat_map(|(_, options)| [options.no_local, options.retain_as_published])
                .collect(),
            texts: texts(subscribe.topics.iter().map(|(filter, _)| &**filter)),
            ..Told::default()
        },
        v5::Packet::Unsubscribe(unsubscribe) => Told {
            kind: "unsubscribe",
            packet_id: unsubscribe.pid.value(),
            texts: texts(unsubscribe.topics.iter().map(|filter| &**filter)),
            ..Told::default()
        },
        _ => return None,
    })
}

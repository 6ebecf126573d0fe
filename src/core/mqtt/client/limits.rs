//! What can be sent at all: looked at before it is sent, because a broker that takes offence ends the connection, and what is sent again
//! after that would end the next one too.

use std::fmt;

use super::{Filter, Message, Takes};
use crate::mqtt::packet::client::FIELD_BYTES_MAX;
use crate::mqtt::packet::{Outgoing, Version};
use crate::mqtt::topic;

/// The longest remaining length that four bytes can say, and the header.
const PACKET_BYTES_MAX: u64 = 268_435_455 + 5;

/// What a service takes, and does not say by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet.
    pub packet_bytes_max: u64,
    /// Longest topic, in bytes.
    pub topic_bytes_max: usize,
    /// Most slashes of a topic or a filter.
    pub slashes_max: usize,
    /// Whether the first three levels of topics of `$aws/rules` are not counted.
    pub has_basic_ingest: bool,
    /// Highest quality of service.
    pub qos_max: u8,
    /// Most messages without an acknowledgement.
    pub window: u16,
    /// Most messages a second.
    pub publishes_per_second: Option<u32>,
    /// Most filters of one SUBSCRIBE.
    pub filters_max: usize,
    /// Most filters of a connection.
    pub subscriptions_max: usize,
}

impl Limits {
    /// What MQTT itself limits.
    pub const NONE: Limits = Limits {
        packet_bytes_max: PACKET_BYTES_MAX,
        topic_bytes_max: FIELD_BYTES_MAX,
        slashes_max: usize::MAX,
        has_basic_ingest: false,
        qos_max: 2,
        window: u16::MAX,
        publishes_per_second: None,
        filters_max: 64,
        subscriptions_max: usize::MAX,
    };

    /// AWS IoT Core: it closes the connection at a larger message or a deeper topic, and discards what comes faster. A message of QoS 2 is not
    /// answered.
    pub const AWS_IOT: Limits = Limits {
        packet_bytes_max: 128 << 10,
        topic_bytes_max: 256,
        slashes_max: 7,
        has_basic_ingest: true,
        qos_max: 1,
        window: 100,
        publishes_per_second: Some(100),
        filters_max: 8,
        subscriptions_max: 50,
    };
}

/// Why something can never be sent to this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The packet would be too large.
    TooLarge {
        /// Of the packet.
        bytes: u64,
        /// What is taken.
        bytes_max: u64,
    },
    /// The topic is too long.
    TopicTooLong {
        /// Of the topic.
        bytes: usize,
        /// What is taken.
        bytes_max: usize,
    },
    /// The topic or the filter has too many levels.
    TooDeep {
        /// Of the topic.
        slashes: usize,
        /// What is taken.
        slashes_max: usize,
    },
    /// It is no name of a topic.
    Topic(&'static str),
    /// It is no filter.
    Filter(&'static str),
    /// The broker takes no messages of this quality of service.
    Qos {
        /// What is taken.
        qos_max: u8,
    },
    /// The broker takes no retained messages.
    Retain,
    /// The broker takes no filters with wildcards.
    Wildcards,
    /// The broker takes no shared subscriptions.
    Shared,
    /// More filters than one request, or a connection, may have.
    TooManyFilters {
        /// What is taken.
        filters_max: usize,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::TooLarge { bytes, bytes_max } => {
                write!(f, "the message makes a packet of {bytes} bytes; the broker takes {bytes_max}")
            }
            Unfit::TopicTooLong { bytes, bytes_max } => {
                write!(f, "the topic has {bytes} bytes; the broker takes {bytes_max}")
            }
            Unfit::TooDeep { slashes, slashes_max } => {
                write!(f, "the topic has {slashes} slashes; the broker takes {slashes_max}")
            }
            Unfit::Topic(what) => write!(f, "the topic {what}"),
            Unfit::Filter(what) => write!(f, "the filter {what}"),
            Unfit::Qos { qos_max } => write!(f, "the broker takes messages up to QoS {qos_max} only"),
            Unfit::Retain => f.write_str("the broker takes no retained messages"),
            Unfit::Wildcards => f.write_str("the broker takes no filters with wildcards"),
            Unfit::Shared => f.write_str("the broker takes no shared subscriptions"),
            Unfit::TooManyFilters { filters_max } => write!(f, "the broker takes {filters_max} filters at most"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Whether a message can be sent: `takes` is what the broker has said, if it has been asked.
///
/// # Errors
///
/// Why it can never be sent.
pub fn check_message(message: &Message, version: Version, limits: &Limits, takes: Option<&Takes>) -> Result<(), Unfit> {
    check_topic(&message.topic, limits)?;
    let qos_max = takes.map_or(2, |takes| takes.qos_max).min(limits.qos_max);
    if message.qos > qos_max {
        return Err(Unfit::Qos { qos_max });
    }
    if message.retain && takes.is_some_and(|takes| !takes.retain) {
        return Err(Unfit::Retain);
    }
    let said = takes.and_then(|takes| takes.packet_bytes_max).map_or(u64::MAX, u64::from);
    let (bytes, bytes_max) = (packet_bytes(message, version), limits.packet_bytes_max.min(said));
    if bytes > bytes_max { Err(Unfit::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}

/// Bytes of the packet that a message makes.
pub fn packet_bytes(message: &Message, version: Version) -> u64 {
    let is_5 = version == Version::V5;
    let outgoing = Outgoing {
        topic: message.topic.as_bytes(),
        payload: &message.payload,
        qos: message.qos,
        passed_on: if is_5 { &message.properties } else { &[] },
        expiry_s: message.expiry_s.filter(|_| is_5),
        ..Outgoing::default()
    };
    outgoing.packet_len(version) as u64
}

/// Whether this is the name of a topic that may be published to. Brokers know topics of their own, which begin with `$`.
///
/// # Errors
///
/// Why not.
pub fn check_topic(topic: &str, limits: &Limits) -> Result<(), Unfit> {
    if topic.is_empty() {
        return Err(Unfit::Topic("is empty"));
    }
    if topic.contains(['+', '#']) {
        return Err(Unfit::Topic("holds a wildcard"));
    }
    if topic.chars().any(char::is_control) {
        return Err(Unfit::Topic("holds a control character"));
    }
    let counted = counted(topic, limits);
    check_length(counted, limits)
}

fn check_length(counted: &str, limits: &Limits) -> Result<(), Unfit> {
    if counted.len() > limits.topic_bytes_max {
        return Err(Unfit::TopicTooLong { bytes: counted.len(), bytes_max: limits.topic_bytes_max });
    }
    let slashes = counted.bytes().filter(|byte| *byte == b'/').count();
    match slashes > limits.slashes_max {
        true => Err(Unfit::TooDeep { slashes, slashes_max: limits.slashes_max }),
        false => Ok(()),
    }
}

/// The part of a topic that AWS counts.
fn counted<'a>(topic: &'a str, limits: &Limits) -> &'a str {
    let of_rule = || topic.strip_prefix("$aws/rules/").and_then(|rest| rest.split_once('/'));
    match limits.has_basic_ingest.then(of_rule).flatten() {
        Some((_, behind)) => behind,
        None => topic,
    }
}

/// Whether these filters may be subscribed to in one request.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check_filters(filters: &[Filter], limits: &Limits, takes: &Takes) -> Result<(), Unfit> {
    if filters.is_empty() {
        return Err(Unfit::Filter("is not there"));
    }
    if filters.len() > limits.filters_max {
        return Err(Unfit::TooManyFilters { filters_max: limits.filters_max });
    }
    filters.iter().try_for_each(|filter| check_filter(&filter.filter, limits, takes))
}

fn check_filter(filter: &str, limits: &Limits, takes: &Takes) -> Result<(), Unfit> {
    topic::check_filter(filter).map_err(|problem| Unfit::Filter(problem.reason()))?;
    if filter.contains(['+', '#']) && !takes.wildcards {
        return Err(Unfit::Wildcards);
    }
    if filter.starts_with("$share/") && !takes.shared {
        return Err(Unfit::Shared);
    }
    let (_, plain) = topic::split_shared(filter).map_err(|problem| Unfit::Filter(problem.reason()))?;
    check_length(plain, limits)
}

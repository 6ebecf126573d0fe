//! Which values are allowed: one check and one description for each kind, so that the printed range is the range that is checked.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::actions::{self, ActionKind};
use super::problem::shown;
use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::value::Value;
use super::{places, route_test, rule_test};
use crate::core::detection::alert;
use crate::core::mqtt::template::Template;
use crate::core::path::{Path, Text};
use crate::core::rulebook::{ActionDefinition, RuleTest};
use crate::ingest::places::{Attribute, Measure};
use crate::ingest::route_test::RouteTest;
use crate::ingest::{Format, Route, TimeFormat, parse_zone};
use crate::uplink::Endpoint;

/// The format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any printable text.
    Name,
    /// Becomes part of a path and of a table's key.
    SinkName,
    /// Also the kind of alerts.
    RuleName,
    /// A statement or an expression, checked as a whole later.
    Rule,
    Pattern,
    StreamName,
    /// A stream of the store; becomes a folder's name.
    LogStream,
    Region,
    Endpoint,
    /// A URL that may hold a token, as those of webhooks do.
    SecretUrl,
    /// Where a database is; somebody may have put a password into it.
    DatabaseUrl,
    /// Of an MQTT broker.
    BrokerUrl,
    /// A topic that records are published to, with places that are filled in.
    MessageTopic,
    /// A text that grants access to whoever has it.
    Secret,
    /// The same, as long as a token with claims may be.
    AccessKey,
    /// A file or a folder that belongs to the configuration, beside whose file it is.
    Path,
    /// Where the gateway works.
    Folder,
    TopicTemplate,
    /// A text with places of the payload and levels of the topic in it.
    PlaceText,
    /// A place in the payload.
    PayloadPath,
    TimeFormat,
    TimeZone,
    GatewayId,
    /// A host name or IP address, without a port.
    HostName,
    /// The ARN of a stream of Firehose, whose parts have lengths of their own.
    StreamArn,
    /// A host name with or without a port.
    HostAndPort,
    /// A name of AWS IoT; becomes part of a URL's path.
    RoleAlias,
    /// Another one, of wider rules.
    ThingName,
}

/// The values that a key allows. All bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text(Shape),
    /// One text or several.
    Texts {
        shape: Shape,
        count_max: usize,
    },
    Choice(&'static [&'static str]),
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    Number,
    /// One number or several.
    Numbers {
        count_max: usize,
    },
    Size {
        min: u64,
        max: u64,
        auto: bool,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    Listen {
        off: bool,
    },
    /// Names and values of HTTP headers.
    Headers {
        count_max: usize,
    },
    /// Names of streams of the store, each with a stream of the service.
    StreamTargets,
    /// A list of places in the payload.
    Paths,
    /// A list of places in the payload, or names of metrics with the place of each.
    Measures,
    /// A list of places in the payload, or names of attributes with the place of each.
    Attributes,
    /// One example of a publish, or several, and what comes of each.
    RouteTests,
    /// One example of what a rule sees, or several, and what it makes of each.
    RuleTests,
    /// What a rule does.
    Actions(ActionKind),
}

/// A value that was checked by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    Text(String),
    Texts(Vec<String>),
    Headers(Vec<(String, String)>),
    StreamTargets(Vec<(String, String)>),
    Paths(Vec<Path>),
    Measures(Vec<Measure>),
    Attributes(Vec<Attribute>),
    RouteTests(Vec<RouteTest>),
    RuleTests(Vec<RuleTest>),
    Actions(Vec<ActionDefinition>),
    Choice(&'static str),
    Boolean(bool),
    Integer(u64),
    Numbers(Vec<f64>),
    Size(u64),
    Duration(Duration),
    Listen(SocketAddr),
    Auto,
    Off,
}

impl Kind {
    /// Whether its values must not appear in messages and logs.
    pub fn is_secret(self) -> bool {
        let is_secret =
            |shape| matches!(shape, Shape::Secret | Shape::AccessKey | Shape::SecretUrl | Shape::DatabaseUrl);
        match self {
            Kind::Text(shape) => is_secret(shape),
            Kind::Headers { .. } => true,
            _ => false,
        }
    }

    pub fn check(&self, value: &Value) -> Result<Checked, String> {
        match *self {
            Kind::Text(shape) => check_text(shape, value.text().ok_or_else(|| format!("not a text; {self}"))?),
            Kind::Texts { shape, count_max } => match value.texts() {
                Some(texts) if texts.len() > count_max => Err(format!("too many texts; {self}")),
                Some(texts) => match texts.iter().find(|text| check_text(shape, text).is_err()) {
                    None => Ok(Checked::Texts(texts.into_iter().map(str::to_owned).collect())),
                    Some(wrong) => Err(format!("\"{}\" is not allowed here; {self}", shown(wrong))),
                },
                None => Err(format!("not a list of texts; {self}")),
            },
            Kind::Choice(words) => check_choice(words, value).ok_or_else(|| format!("not a choice; {self}")),
            Kind::Boolean => match value.boolean() {
                Some(boolean) => Ok(Checked::Boolean(boolean)),
                None => Err(format!("neither true nor false; {self}")),
            },
            Kind::Integer { min, max } => match value.integer() {
                Some(number) if (i128::from(min)..=i128::from(max)).contains(&number) => {
                    Ok(Checked::Integer(u64::try_from(number).expect("between two u64")))
                }
                Some(_) => Err(format!("out of range; {self}")),
                None => Err(format!("not a whole number; {self}")),
            },
            Kind::Number => match value.numbers().as_deref() {
                Some(&[number]) if number.is_finite() => Ok(Checked::Numbers(vec![number])),
                _ => Err(format!("must be {self}, without quotes")),
            },
            Kind::Numbers { count_max } => match value.numbers() {
                Some(numbers) if numbers.len() > count_max => Err(format!("too many numbers; {self}")),
                Some(numbers) if !numbers.is_empty() && numbers.iter().all(|number| number.is_finite()) => {
                    Ok(Checked::Numbers(numbers))
                }
                _ => Err(format!("must be {self}, without quotes")),
            },
            Kind::Size { auto: true, .. } if value.text() == Some("auto") => Ok(Checked::Auto),
            Kind::Size { min, max, .. } => match value.text().and_then(parse_size) {
                Some(bytes) if (min..=max).contains(&bytes) => Ok(Checked::Size(bytes)),
                Some(_) => Err(format!("out of range; {self}")),
                None => Err(without_unit("a size", "KiB, MiB, GiB, KB, MB or GB", &["B", "MiB"], value, self)),
            },
            Kind::Duration { min, max } => match value.text().and_then(parse_duration) {
                Some(duration) if (min..=max).contains(&duration) => Ok(Checked::Duration(duration)),
                Some(_) => Err(format!("out of range; {self}")),
                None => Err(without_unit("a duration", "ms, s, m, h or d", &["s"], value, self)),
            },
            Kind::Headers { count_max } => {
                let headers = table(value, count_max, self)?;
                check_headers(&headers).map_err(|why| format!("{why}; {self}"))?;
                Ok(Checked::Headers(headers))
            }
            Kind::StreamTargets => {
                let targets = table(value, STREAM_TARGETS_MAX, self)?;
                match targets.iter().find(|target| !is_stream_target(target)) {
                    None => Ok(Checked::StreamTargets(targets)),
                    Some((name, target)) => {
                        Err(format!("{} = \"{}\" is not allowed here; {self}", shown(name), shown(target)))
                    }
                }
            }
            Kind::Paths => places::paths(value).map(Checked::Paths),
            Kind::Measures => places::measures(value).map(Checked::Measures),
            Kind::Attributes => places::attributes(value).map(Checked::Attributes),
            Kind::RouteTests => route_test::tests(value).map(Checked::RouteTests),
            Kind::RuleTests => rule_test::tests(value).map(Checked::RuleTests),
            Kind::Actions(kind) => actions::actions(kind, value).map(Checked::Actions),
            Kind::Listen { off: true } if value.text() == Some("off") => Ok(Checked::Off),
            Kind::Listen { .. } => value
                .text()
                .and_then(|text| text.parse().ok())
                .map(Checked::Listen)
                .ok_or_else(|| format!("not an address to listen on; {self}")),
        }
    }
}

/// Prints the allowed values.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Text(shape) => f.write_str(match shape {
                Shape::Name => "a text of 1 to 128 bytes without control characters",
                Shape::SinkName => "1 to 64 characters of a-z, 0-9 and -",
                Shape::LogStream => "1 to 64 characters of a-z, 0-9, _ and -",
                Shape::RuleName => {
                    "1 to 128 characters of A-Z, a-z, 0-9, _ and -, and none of limit, gap, stuck, anomaly and gateway"
                }
                Shape::Rule => "a text of 1 to 32768 bytes",
                Shape::Pattern => "a text of 1 to 128 bytes without control characters, in which * stands for any text",
                Shape::StreamName => "1 to 128 characters of A-Z, a-z, 0-9, _, . and -",
                Shape::Region => "the name of an AWS region, such as eu-central-1",
                Shape::Secret => "a text of 1 to 128 bytes without control characters",
                Shape::AccessKey => "a text of 1 to 4096 bytes without control characters",
                Shape::Endpoint | Shape::SecretUrl => "a URL that starts with http:// or https://",
                Shape::DatabaseUrl => "a URL such as postgres://USER@HOST:PORT/DATABASE, without a password",
                Shape::BrokerUrl => "a URL such as mqtt://host, mqtts://host or mqtts://host:443",
                Shape::MessageTopic => {
                    "a topic without + and #, in which {gateway}, {device}, {metric}, {stream} and {type} are filled in"
                }
                Shape::Path => "a path; a relative one starts at the folder of this file",
                Shape::Folder => "a path; a relative one starts at the working directory",
                Shape::TopicTemplate => "a topic with {device}, {metric} or {metric...} as whole levels, without + and #",
                Shape::PlaceText => {
                    "a text of 1 to 128 bytes, in which {level} of the topic, {$.path} of the payload and, within each, {@.path} and {@key} are filled in"
                }
                Shape::PayloadPath => "a path such as $.a.b, $.a.\"b-c\"[0] or, within each, @.b",
                Shape::TimeFormat => "auto, unix_s, unix_ms, unix_us, unix_ns, rfc3339, or a pattern such as %d.%m.%Y %H:%M:%S",
                Shape::TimeZone => "UTC, or an offset such as +02:00",
                Shape::StreamArn => "a text of 1 to 256 bytes without control characters",
                Shape::HostName => "a name or an IP address without a port, such as gateway.example.com",
                Shape::HostAndPort => "the name of a host without https://, with or without a port, such as host.example.com:443",
                Shape::RoleAlias => "1 to 128 characters of A-Z, a-z, 0-9, =, @, _ and -",
                Shape::ThingName => "1 to 128 characters of A-Z, a-z, 0-9, :, _ and -",
                Shape::GatewayId => {
                    "1 to 127 bytes without control characters; {hostname}, {machine_id} and {machine_id_short} are filled in"
                }
            }),
            Kind::Texts { shape, count_max } => write!(f, "a list of at most {count_max}, each {}", Kind::Text(shape)),
            Kind::Choice(words) => {
                f.write_str("one of ")?;
                for (at, word) in words.iter().enumerate() {
                    write!(f, "{}\"{word}\"", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::Boolean => f.write_str("true or false, without quotes"),
            Kind::Integer { min, max } => write!(f, "a whole number, {min} to {max}"),
            Kind::Number => f.write_str("a finite number"),
            Kind::Numbers { count_max } => write!(f, "a finite number, or a list of 1 to {count_max}"),
            Kind::Size { min, max, auto } => {
                let or_auto = if auto { ", or \"auto\"" } else { "" };
                write!(f, "a size, \"{}\" to \"{}\"{or_auto}", format_size(min), format_size(max))
            }
            Kind::Duration { min, max } => {
                write!(f, "a duration, \"{}\" to \"{}\"", format_duration(min), format_duration(max))
            }
            Kind::Headers { count_max } => {
                write!(f, "at most {count_max} names of headers, each with a text of one line")
            }
            Kind::StreamTargets => {
                write!(f, "names of streams, each with its target, which has {}", Kind::Text(Shape::StreamName))
            }
            Kind::Paths => f.write_str("a list of paths"),
            Kind::Measures => f.write_str(
                "a list of paths, or a table of names, each with its path or with { path, factor, offset }",
            ),
            Kind::RouteTests => f.write_str("a table of topic, payload (or payload_hex) and expect, or a list of them"),
            Kind::RuleTests => f.write_str(
                "a table of readings and expect (with `when`) or of topic, payload and expect (with `sql`), or a list of them",
            ),
            Kind::Actions(kind) => f.write_str(kind.description()),
            Kind::Attributes => f.write_str("a list of paths, or a table of names, each with its path"),
            Kind::Listen { off } => {
                let or_off = if off { ", or \"off\"" } else { "" };
                write!(f, "IP:PORT, such as \"127.0.0.1:1883\" or \"[::]:1883\"; port 0 takes a free one{or_off}")
            }
        }
    }
}

fn check_choice(words: &[&'static str], value: &Value) -> Option<Checked> {
    let text = value.text()?;
    words.iter().find(|word| **word == text).map(|word| Checked::Choice(word))
}

/// A number without a unit is the most common mistake, so the message says what to write instead.
fn without_unit(what: &str, units: &str, likely: &[&str], value: &Value, kind: &Kind) -> String {
    match value.integer() {
        Some(number) => {
            let likely: Vec<String> = likely.iter().map(|unit| format!("\"{number}{unit}\"")).collect();
            let likely = likely.join(" or ");
            format!("not {what}, the unit is missing; write {likely} if that is meant; {kind}")
        }
        None => format!("not {what}; write a number with {units}; {kind}"),
    }
}

fn check_text(shape: Shape, text: &str) -> Result<Checked, String> {
    let only =
        |bytes_max: usize, allowed: fn(u8) -> bool| (1..=bytes_max).contains(&text.len()) && text.bytes().all(allowed);
    let readable = |bytes_max: usize| (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
    let is_right = match shape {
        Shape::Name | Shape::Secret => readable(128),
        Shape::AccessKey => readable(4096),
        Shape::PlaceText => {
            Text::parse(text).map_err(|error| error.to_string())?;
            readable(128)
        }
        Shape::PayloadPath => {
            Path::parse(text).map_err(|error| error.to_string())?;
            true
        }
        Shape::TimeFormat => {
            TimeFormat::parse(text)?;
            true
        }
        Shape::TimeZone => parse_zone(text).is_some(),
        // Checked after filling in, because placeholders may be longer than their values.
        Shape::GatewayId => readable(1024),
        Shape::SinkName => only(64, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        Shape::LogStream => only(64, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'),
        Shape::StreamName => only(128, |b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)),
        Shape::RuleName => {
            only(128, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') && alert::is_of_rule(text)
        }
        Shape::Rule => (1..=32_768).contains(&text.len()),
        Shape::Pattern => readable(128),
        Shape::Region => only(64, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        Shape::Endpoint | Shape::SecretUrl => is_endpoint(text),
        Shape::DatabaseUrl => {
            let is_known = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
            is_known && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic())
        }
        Shape::BrokerUrl => {
            Endpoint::parse(text).map_err(|problem| format!("{problem}; {}", Kind::Text(shape)))?;
            readable(1024)
        }
        Shape::MessageTopic => {
            Template::parse(text).map_err(|problem| format!("{problem}; {}", Kind::Text(shape)))?;
            readable(1024)
        }
        Shape::HostName => {
            only(253, |b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                || text.parse::<std::net::Ipv6Addr>().is_ok()
        }
        Shape::HostAndPort => {
            let (host, port) = text.split_once(':').unwrap_or((text, "443"));
            only(253, |b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
                && !host.is_empty()
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        Shape::RoleAlias => only(128, |b| b.is_ascii_alphanumeric() || b"=@_-".contains(&b)),
        Shape::StreamArn => readable(256),
        Shape::ThingName => only(128, |b| b.is_ascii_alphanumeric() || b":_-".contains(&b)),
        Shape::Path | Shape::Folder if text == "~" || text.starts_with("~/") => {
            return Err("~ is not expanded; write the whole path".to_owned());
        }
        Shape::Path | Shape::Folder => readable(4096),
        Shape::TopicTemplate => {
            // Whether a device is missing depends on the other keys of the section.
            let device = Some(String::new());
            Route::parse(text, Format::Auto, device, None).map_err(|error| error.to_string())?;
            true
        }
    };
    if is_right { Ok(Checked::Text(text.to_owned())) } else { Err(format!("not allowed here; {}", Kind::Text(shape))) }
}

/// Names and texts, not more than these.
fn table(value: &Value, count_max: usize, kind: &Kind) -> Result<Vec<(String, String)>, String> {
    match value.table() {
        Some(table) if table.len() <= count_max => Ok(table),
        Some(table) => Err(format!("{} are too many; {kind}", table.len())),
        None => Err(format!("not a table of names, each with a text in quotes; {kind}")),
    }
}

/// More streams than a configuration can have.
const STREAM_TARGETS_MAX: usize = 32;

fn is_stream_target((name, target): &(String, String)) -> bool {
    check_text(Shape::LogStream, name).is_ok() && check_text(Shape::StreamName, target).is_ok()
}

/// Values are never repeated: they may be secret.
fn check_headers(headers: &[(String, String)]) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, value) in headers {
        if !(1..=128).contains(&name.len()) || !name.bytes().all(is_token) {
            return Err(format!("\"{}\" is no name of a header", shown(name)));
        }
        if value.len() > 4096 {
            return Err(format!("the value of {name} is longer than 4096 bytes"));
        }
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(format!("the value of {name} has other characters than the visible ones of ASCII"));
        }
    }
    Ok(())
}

fn is_endpoint(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':', '?', '#']))
        && text.len() <= 1024
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

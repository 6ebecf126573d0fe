//! Functions that say what comes in with the message: its topic, its sender, its time.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::text::text;
use super::{Answer, Frame, Function, argument, constant, varying};
use crate::mqtt::packet::Property;
use crate::rules::number::{Number, Rounding};
use crate::rules::properties::{ANY_BYTES, UTF_8};
use crate::rules::value::Value;

const VERSION: &str = "2016-03-23";
/// Of a message that did not come over MQTT.
const NO_CLIENT: &str = "n/a";

pub(super) static FUNCTIONS: [Function; 11] = [
    varying("topic", 0, 1, topic),
    varying("clientid", 0, 0, |frame, _| Ok(borrowed(frame.context.client_id.or(Some(NO_CLIENT))))),
    varying("principal", 0, 0, |frame, _| Ok(borrowed(frame.context.principal))),
    varying("traceid", 0, 0, |frame, _| Ok(borrowed(frame.context.trace_id))),
    varying("sourceip", 0, 0, |frame, _| Ok(borrowed(frame.context.source_ip))),
    varying("accountid", 0, 0, |frame, _| Ok(borrowed(frame.context.account_id))),
    varying("timestamp", 0, 0, |frame, _| Ok(Value::Number(Number::from(frame.context.now_ms)))),
    varying("newuuid", 0, 0, newuuid),
    constant("sql_version", 0, 0, |_, _| Ok(Value::Text(Cow::Borrowed(VERSION)))),
    varying("get_mqtt_property", 1, 1, get_mqtt_property),
    varying("get_user_properties", 0, 1, get_user_properties),
];

fn borrowed(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Undefined, |text| Value::Text(Cow::Borrowed(text)))
}

/// The topic, or one of its levels, the first of which is 1.
fn topic<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let topic = frame.context.visible_topic();
    if arguments.is_empty() {
        return Ok(borrowed(topic));
    }
    let level = argument(arguments, 0).to_number().map(|level| level.clamped(Rounding::Floor));
    let index = level.and_then(|level| usize::try_from(level).ok()).and_then(|level| level.checked_sub(1));
    Ok(borrowed(topic.zip(index).and_then(|(topic, index)| topic.split('/').nth(index))))
}

/// A random UUID, of version 4.
fn newuuid<'v>(frame: &mut Frame<'_, 'v>, _: &[Value<'v>]) -> Answer<'v> {
    let (high, low) = (frame.budget.random(), frame.budget.random());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    Ok(format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff).into())
}

/// A property by its name in the language; Undefined if the message does not have it.
fn get_mqtt_property<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let properties = frame.context.properties;
    let Some(name) = text(frame, arguments, 0)? else { return Ok(Value::Undefined) };
    frame.budget.take_bytes(properties.bytes_looked_at())?;
    let found = properties.properties().find_map(|property| match (&*name, property) {
        ("format_indicator", Property::PayloadFormat { is_utf8 }) => {
            Some(Cow::Borrowed(if is_utf8 { UTF_8 } else { ANY_BYTES }))
        }
        ("content_type", Property::ContentType(text)) | ("response_topic", Property::ResponseTopic(text)) => {
            Some(Cow::Borrowed(text))
        }
        ("correlation_data", Property::CorrelationData(data)) => Some(Cow::Owned(STANDARD.encode(data))),
        _ => None,
    });
    Ok(found.into())
}

/// The values of the user properties of this name; without a name all of them, each as an object. Undefined if there are none.
fn get_user_properties<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let properties = frame.context.properties;
    let wanted = text(frame, arguments, 0)?;
    if wanted.is_none() && !arguments.is_empty() {
        return Ok(Value::Undefined);
    }
    frame.budget.take_bytes(properties.bytes_looked_at())?;
    let mut found = Vec::new();
    for property in properties.properties() {
        let Property::User { name, value } = property else { continue };
        let value = Value::Text(Cow::Borrowed(value));
        found.push(match &wanted {
            None => Value::Object(Arc::new(vec![(Cow::Borrowed(name), value)])),
            Some(wanted) if **wanted == *name => value,
            Some(_) => continue,
        });
        frame.budget.take(1)?;
    }
    Ok(if found.is_empty() { Value::Undefined } else { Value::Array(Arc::new(found)) })
}

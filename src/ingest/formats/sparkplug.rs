//! Sparkplug B: births name the metrics of an edge node and its devices, data may refer to them by an alias, and a death ends that.
//!
//! A payload becomes an object of `metrics` (each with `name`, `value` and `time`) and `texts`. Data sets, templates and bytes are left out,
//! and so is what measures nothing: dates, the number of a session, and the controls of a node.
//! What births have said is forgotten when the gateway stops: data with an alias is refused until the next birth.

use std::collections::HashMap;

use super::protobuf::{self, Wire};
use crate::core::path::{Path, Text};
use crate::ingest::document::{Content, Document};
use crate::ingest::places::{Attribute, Places};
use crate::ingest::time::Unit;
use crate::ingest::time_format::TimeFormat;
use crate::ingest::value::Value;

const FAULT: &str = "not_sparkplug";
/// An alias whose birth has not been seen.
const NO_BIRTH: &str = "no_birth";
/// Most metrics that are remembered of all births together.
const KNOWN_MAX: usize = 50_000;

/// The body is compressed, as some client libraries do it; how is in no standard.
const COMPRESSED: &str = "compressed";
/// What those libraries write into a payload's `uuid` then.
const COMPRESSED_MARK: &str = "SPBV1.0_COMPRESSED";
/// The data type of a date.
const DATE_TIME: u64 = 13;

const TYPES: [&str; 8] = ["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD", "DCMD"];

pub fn places() -> Places {
    let path = |text: &str| Path::parse(text).expect("a path");
    Places {
        each: Some(path("$.metrics[*]")),
        metric: Some(Text::parse("{@.name}").expect("a text")),
        value: Some(path("@.value")),
        metrics: Some(Vec::new()),
        attributes: Some(vec![Attribute { path: path("$.texts.*"), name: None }]),
        time: Some(path("@.time")),
        time_format: TimeFormat::Unix(Unit::Milliseconds),
        may_be_empty: true,
        ..Places::default()
    }
}

/// What the births of all edge nodes have said.
#[derive(Debug, Default)]
pub struct Births {
    nodes: HashMap<String, HashMap<Key, Known>>,
    count: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Alias(u64),
    Name(String),
}

#[derive(Debug)]
struct Known {
    name: String,
    datatype: u64,
}

impl Births {
    fn forget(&mut self, node: &str) {
        self.count -= self.nodes.remove(node).map_or(0, |known| known.len());
    }

    fn learn(&mut self, node: &str, metric: &Metric<'_>) -> Result<(), &'static str> {
        let (Some(name), Some(datatype)) = (metric.name, metric.datatype) else { return Ok(()) };
        if self.count + 2 > KNOWN_MAX {
            return Err("too_many_aliases");
        }
        let known = self.nodes.entry(node.to_owned()).or_default();
        let before = known.len();
        for key in [Some(Key::Name(name.to_owned())), metric.alias.map(Key::Alias)].into_iter().flatten() {
            known.insert(key, Known { name: name.to_owned(), datatype });
        }
        self.count += known.len() - before;
        Ok(())
    }

    fn find(&self, node: &str, metric: &Metric<'_>) -> Option<&Known> {
        let known = self.nodes.get(node)?;
        match (metric.alias, metric.name) {
            (Some(alias), _) => known.get(&Key::Alias(alias)),
            (None, Some(name)) => known.get(&Key::Name(name.to_owned())),
            (None, None) => None,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Metric<'a> {
    name: Option<&'a str>,
    alias: Option<u64>,
    time_ms: Option<u64>,
    datatype: Option<u64>,
    is_null: bool,
    value: Option<(u64, Wire<'a>)>,
}

pub fn read(payload: &[u8], topic: &str, births: &mut Births, out: &mut Document) -> Result<(), &'static str> {
    let (kind, node) = kind_and_node(topic).ok_or(FAULT)?;
    let whole = out.open("", Content::Object)?;
    if kind == "NBIRTH" || kind == "NDEATH" {
        births.forget(&node);
    }
    let has_readings = kind.ends_with("BIRTH") || kind.ends_with("DATA");
    let (mut sent_ms, mut metrics) = (None, Vec::new());
    for field in protobuf::fields(payload) {
        match field.ok_or(FAULT)? {
            (1, Wire::Varint(ms)) => sent_ms = Some(ms),
            (2, Wire::Bytes(bytes)) if has_readings => metrics.push(read_metric(bytes)?),
            (4, wire) if wire.text() == Some(COMPRESSED_MARK) => return Err(COMPRESSED),
            _ => {}
        }
    }
    if kind.ends_with("BIRTH") {
        metrics.iter().try_for_each(|metric| births.learn(&node, metric))?;
    }
    for is_text in [false, true] {
        let content = if is_text { Content::Object } else { Content::List };
        let group = out.open(if is_text { "texts" } else { "metrics" }, content)?;
        for metric in metrics.iter().filter(|metric| !metric.is_null) {
            add(metric, births.find(&node, metric), is_text, sent_ms, out)?;
        }
        out.close(group);
    }
    out.close(whole);
    Ok(())
}

/// The type of message, and the edge node that it is of.
fn kind_and_node(topic: &str) -> Option<(&str, String)> {
    let levels: Vec<&str> = topic.split('/').collect();
    let at = levels.iter().position(|level| TYPES.contains(level))?;
    let (group, edge) = (levels.get(at.checked_sub(1)?)?, levels.get(at + 1)?);
    Some((levels[at], format!("{group}/{edge}")))
}

fn read_metric(bytes: &[u8]) -> Result<Metric<'_>, &'static str> {
    let mut metric = Metric::default();
    for field in protobuf::fields(bytes) {
        let (number, wire) = field.ok_or(FAULT)?;
        match number {
            1 => metric.name = Some(wire.text().ok_or(FAULT)?),
            2 => metric.alias = Some(wire.varint().ok_or(FAULT)?),
            3 => metric.time_ms = Some(wire.varint().ok_or(FAULT)?),
            4 => metric.datatype = Some(wire.varint().ok_or(FAULT)?),
            7 => metric.is_null = wire.varint().ok_or(FAULT)? != 0,
            10..=15 => metric.value = Some((number, wire)),
            _ => {}
        }
    }
    Ok(metric)
}

fn add(
    metric: &Metric<'_>,
    known: Option<&Known>,
    is_text: bool,
    sent_ms: Option<u64>,
    out: &mut Document,
) -> Result<(), &'static str> {
    let Some((field, wire)) = metric.value else { return Ok(()) };
    let name = metric.name.or(known.map(|known| known.name.as_str())).ok_or(NO_BIRTH)?;
    let datatype = metric.datatype.or(known.map(|known| known.datatype));
    if name == "bdSeq" || name.starts_with("Node Control/") || datatype == Some(DATE_TIME) {
        return Ok(());
    }
    if field == 15 {
        let text = wire.text().ok_or(FAULT)?;
        return if is_text { out.add_text(name, text) } else { Ok(()) };
    }
    if is_text {
        return Ok(());
    }
    let node = out.open("", Content::Object)?;
    out.add_text("name", name)?;
    out.add("value", value(field, wire, datatype)?)?;
    if let Some(ms) = metric.time_ms.or(sent_ms) {
        out.add("time", Value::of_integer(ms.into()).ok_or(FAULT)?)?;
    }
    out.close(node);
    Ok(())
}

/// An integer's sign is in its data type, which only the birth must say.
fn value(field: u64, wire: Wire<'_>, datatype: Option<u64>) -> Result<Value, &'static str> {
    let value = match (field, wire) {
        (10, Wire::Varint(bits)) => match datatype.ok_or(NO_BIRTH)? {
            1 => Value::Integer(i64::from(bits as i8)),
            2 => Value::Integer(i64::from(bits as i16)),
            3 => Value::Integer(i64::from(bits as i32)),
            _ => Value::Integer(i64::from(bits as u32)),
        },
        (11, Wire::Varint(bits)) => match datatype.ok_or(NO_BIRTH)? {
            4 => Value::Integer(bits as i64),
            _ => Value::of_integer(bits.into()).ok_or(FAULT)?,
        },
        // A float has seven digits: as the nearest double it would seem to have sixteen.
        (12, Wire::Fixed32(bits)) => Value::Number(f32::from_bits(bits).to_string().parse().map_err(|_| FAULT)?),
        (13, Wire::Fixed64(bits)) => Value::Number(f64::from_bits(bits)),
        (14, Wire::Varint(is_on)) => Value::Boolean(is_on != 0),
        _ => return Err(FAULT),
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }

    fn varint(number: u8, mut value: u64) -> Vec<u8> {
        let mut bytes = vec![number << 3];
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// Each with its name and its value, by a decoder that has seen these messages.
    fn after(births: &mut Births, topic: &str, metrics: &[Vec<u8>]) -> Result<Vec<(String, f64)>, &'static str> {
        let mut payload = varint(1, 1_769_610_760_000);
        metrics.iter().for_each(|metric| payload.extend(field(2, metric)));
        let mut document = Document::default();
        read(&payload, topic, births, &mut document)?;
        let list = document.find(Document::ROOT, &Path::parse("$.metrics").expect("a path").steps).expect("a list");
        let child = |node, name: &str| {
            document.children(node).find(|child| document.name(*child) == name).expect("it is there")
        };
        let text = |node| document.text(node).expect("a text").to_owned();
        Ok(document
            .children(list)
            .map(|node| (text(child(node, "name")), document.number(child(node, "value")).expect("a number")))
            .collect())
    }

    #[test]
    fn data_is_known_by_its_birth() {
        let mut births = Births::default();
        let birth = [field(1, b"temp"), varint(2, 7), varint(4, 3), varint(10, 21)].concat();
        let data = [varint(2, 7), varint(10, u64::from((-18_i32) as u32))].concat();
        let (born, sent) = ("spBv1.0/plant/DBIRTH/edge/press", "spBv1.0/plant/DDATA/edge/press");
        assert_eq!(after(&mut births, sent, std::slice::from_ref(&data)), Err("no_birth"));
        assert_eq!(after(&mut births, born, &[birth]), Ok(vec![("temp".to_owned(), 21.0)]));
        assert_eq!(after(&mut births, sent, std::slice::from_ref(&data)), Ok(vec![("temp".to_owned(), -18.0)]));
        assert_eq!(after(&mut births, "spBv1.0/other/DDATA/edge/press", std::slice::from_ref(&data)), Err("no_birth"));
        assert_eq!(after(&mut births, "spBv1.0/plant/NDEATH/edge", &[]), Ok(Vec::new()));
        assert_eq!(after(&mut births, sent, &[data]), Err("no_birth"));
        assert_eq!(births.count, 0);
        assert_eq!(after(&mut births, "spBv1.0/plant/OTHER/edge", &[]), Err("not_sparkplug"));
    }

    #[test]
    fn values_of_each_type_are_read() {
        let metric = |datatype: u64, value: Vec<u8>| [field(1, b"m"), varint(4, datatype), value].concat();
        let float = [&[12 << 3 | 5][..], &0.1_f32.to_le_bytes()].concat();
        let double = [&[13 << 3 | 1][..], &2.5_f64.to_le_bytes()].concat();
        for (metric, expected) in [
            (metric(1, varint(10, 0xff)), -1.0),
            (metric(2, varint(10, 0xffff)), -1.0),
            (metric(7, varint(10, 0xffff_ffff)), 4_294_967_295.0),
            (metric(4, varint(11, u64::MAX)), -1.0),
            (metric(8, varint(11, 5)), 5.0),
            (metric(9, float), 0.1),
            (metric(10, double), 2.5),
            (metric(11, varint(14, 1)), 1.0),
        ] {
            let read = after(&mut Births::default(), "spBv1.0/g/NDATA/e", &[metric]);
            assert_eq!(read, Ok(vec![("m".to_owned(), expected)]));
        }
        for nothing in [
            metric(DATE_TIME, varint(11, 1_769_610_760_000)),
            [field(1, b"bdSeq"), varint(4, 8), varint(11, 3)].concat(),
            [field(1, b"Node Control/Rebirth"), varint(4, 11), varint(14, 0)].concat(),
        ] {
            assert_eq!(after(&mut Births::default(), "spBv1.0/g/NBIRTH/e", &[nothing]), Ok(Vec::new()));
        }
        let null = [field(1, b"m"), varint(4, 3), varint(7, 1), varint(10, 5)].concat();
        assert_eq!(after(&mut Births::default(), "spBv1.0/g/NDATA/e", &[null]), Ok(Vec::new()));
    }
}

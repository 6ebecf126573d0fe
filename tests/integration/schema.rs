//! The published schemas of the records, compared with what is really sent.
//!
//! The validator knows the keywords that the schemas use and rejects all others. It is stricter than a consumer needs to be: a field that
//! no schema describes is an error, and so is a described field that is never sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use outrider::core::identity::{Keep, NamedStream, RunId};
use outrider::core::pipeline::{Pipeline, PipelineSettings};
use outrider::core::record::{RulePayload, RuleRecord};
use outrider::store::commit::CommitInput;
use outrider::store::schema::{self, Synchronous, store_path};
use outrider::store::writer::{Writer, WriterSettings};
use serde_json::{Value, json};

use crate::archive;
use crate::client::Client;
use crate::gateway::Gateway;
use crate::in_process::InProcess;

const SCHEMAS: [&str; 6] = ["reading", "anomaly", "alert", "gateway", "record", "ready"];

/// A schema, and which of its properties have been seen.
struct Schema {
    root: Value,
    seen: BTreeSet<String>,
}

impl Schema {
    fn load(name: &str) -> Schema {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema").join(format!("{name}.json"));
        let root = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Schema { root, seen: BTreeSet::new() }
    }

    fn check(&mut self, value: &Value) -> Result<(), String> {
        check(&self.root, value, "", &mut self.seen)
    }

    /// All described properties, at any depth.
    fn described(&self) -> BTreeSet<String> {
        let mut described = BTreeSet::new();
        collect(&self.root, "", &mut described);
        described
    }
}

/// The schemas of all records, and what was seen of them.
pub struct Schemas([Schema; 6]);

impl Schemas {
    pub fn load() -> Schemas {
        Schemas(SCHEMAS.map(Schema::load))
    }

    /// Panics if a record does not match the schema of its type.
    pub fn check(&mut self, record: &Value) {
        let name = record["type"].as_str().unwrap_or("ready");
        let at = SCHEMAS.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no schema of {record}"));
        self.0[at].check(record).unwrap_or_else(|fault| panic!("{name} {fault}\nin {record}"));
    }
}

fn collect(schema: &Value, at: &str, described: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        collect(property, &at, described);
        described.insert(at);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], at, described);
    }
}

pub fn check(schema: &Value, value: &Value, at: &str, seen: &mut BTreeSet<String>) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{at}: {why}: {value}"));
    if let Some(any) = schema["anyOf"].as_array() {
        let tried: Vec<_> = any.iter().map(|one| check(one, value, at, seen)).collect();
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { wrong(format!("none of {tried:?}")) };
    }
    for (keyword, allowed) in schema.as_object().unwrap() {
        let is_met = match keyword.as_str() {
            "$schema" | "title" | "description" | "properties" => true,
            "type" => match allowed {
                Value::Array(types) => types.iter().any(|allowed| is_of_type(value, allowed)),
                one => is_of_type(value, one),
            },
            "const" => value == allowed,
            "enum" => allowed.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= allowed.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= allowed.as_u64().unwrap()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= allowed.as_u64().unwrap()),
            "required" => allowed
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.is_null() || value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => true,
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(allowed, item, at, seen)?;
                }
                true
            }
            unknown => panic!("the validator does not know {unknown}"),
        };
        if !is_met {
            return wrong(format!("{keyword} is {allowed}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        if let Some(property) = schema["properties"].get(name) {
            seen.insert(at.clone());
            check(property, field, &at, seen)?;
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], field, &at, seen)?;
        } else {
            return wrong(format!("{name} is not described"));
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, allowed: &Value) -> bool {
    match allowed.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("the validator does not know the type {unknown}"),
    }
}

/// Everything that a gateway sends in a short life with a sink that waits for its link, a spike, repeated values that are not numbers, an
/// acknowledged alert, cleared alerts, a stale one, and one about a silence that is finally forgotten.
fn sent(folder: &Path) -> Vec<Value> {
    let config = "alert.clear_after = '1s'\n[[sink]]\nname = 'archive'\ntype = 'archive'\n\
                  [[link]]\nname = 'sim'\nmetered = 'yes'\ncarries = ['state']\n\
                  [[sink]]\nname = 'away'\ntype = 'http'\nurl = 'http://127.0.0.1:9/'\nstreams = ['raw']\nlink = 'sim'\n";
    let gateway = Gateway::start_configured(folder, config, &[], &[]);
    let mut sent = vec![gateway.ready.clone()];
    let mut watcher = watcher_of(gateway.mqtt);
    let mut device = Client::connect(gateway.mqtt, "tank");
    let readings = (0..240).map(|n| json!({"temperature": 20.0 + 0.1 * f64::from(n * 7919 % 5), "ts_ms": now_ms() - 240_000 + i64::from(n) * 1000, "seq": n, "road": "dry"}));
    device.publish("devices/tank", json!(readings.collect::<Vec<_>>()).to_string());
    device.publish("devices/tank/temperature", r#"{"value":9007199254740993,"seq":240,"road":"dry"}"#);
    device.publish("devices/tank/temperature", "{");
    until(&mut watcher, &mut sent, "anomaly", "raised");
    device.publish("alerts/tank/temperature/anomaly/ack", r#"{"by":"driver","normal":false}"#);
    until_well(&mut watcher, &mut device, &mut sent, "anomaly");
    for returns in 0..3 {
        device.publish("devices/tank/temperature", [0xf9, 0x7e, 0x00]);
        until(&mut watcher, &mut sent, "limit", "raised");
        if returns < 2 {
            until_well(&mut watcher, &mut device, &mut sent, "limit");
        }
    }
    assert!(gateway.stop().success());
    let gateway = InProcess::start(folder, |settings| settings.alerts.stale_after_ms = 100);
    let mut of_the_next = watcher_of(gateway.mqtt);
    while sent.last().is_none_or(|alert| alert["stale"] != true) {
        until(&mut of_the_next, &mut sent, "limit", "raised");
    }
    gateway.stop();
    write_records(&folder.join("state"));
    forget(folder, &mut sent);
    for stream in ["raw", "anomalies", STREAM] {
        sent.extend(archive::records(&folder.join("state/archive"), stream));
    }
    sent
}

/// The stream of the records of rules.
const STREAM: &str = "trips";

/// As rules write them. The stream is not configured any more when the gateway starts again, and is archived all the same.
fn write_records(state: &Path) {
    let streams = vec![NamedStream { name: STREAM.to_owned(), keep: Keep::Bulk }];
    let mut writer =
        Writer::open(&WriterSettings { streams, ..WriterSettings::for_tests(state) }, RunId([9; 8])).unwrap();
    let settings = PipelineSettings::new("g", RunId([9; 8]));
    let mut pipeline = Pipeline::new(settings, &writer.last_sequences().unwrap());
    let stream = writer.streams().find(STREAM).unwrap();
    let record = RuleRecord {
        stream: STREAM,
        rule: "doors",
        device: Some("tank"),
        topic: Some("devices/tank/door"),
        received_at_ms: now_ms(),
        payload: RulePayload::Json(br#"{"open": true}"#),
    };
    pipeline.push_record(stream, &record).unwrap();
    let binary = RuleRecord { device: None, payload: RulePayload::Binary(&[255]), ..record };
    pipeline.push_record(stream, &binary).unwrap();
    writer.commit(&CommitInput { sealed: pipeline.seal(), ..CommitInput::default() }).unwrap();
}

/// A silence takes a minute to be detected and a week to be forgotten, so the raised alert is turned into one, and the week is shortened.
fn forget(folder: &Path, sent: &mut Vec<Value>) {
    let store = store_path(&folder.join("state"));
    let db = schema::open_writer(&store, Synchronous::Full, None).unwrap();
    let of_a_gap = r#"UPDATE alert SET kind = 'gap',
        body = CAST(replace(CAST(body AS TEXT), '"kind":"limit"', '"kind":"gap"') AS BLOB) WHERE kind = 'limit'"#;
    assert_eq!(db.execute(of_a_gap, []).unwrap(), 1);
    // A sink that is no longer configured, and one that was dropped.
    let sinks = "INSERT INTO progress VALUES (1, 'left', 0, x'', 0, 0, 0, 0, 0, 0, 0, 0);
        INSERT INTO progress(stream, name, value) VALUES (0, 'expired_with_sink:raw:dropped', 3)";
    db.execute_batch(sinks).unwrap();
    drop(db);
    let gateway = InProcess::start(folder, |settings| {
        settings.alerts.silent_max_ms = 500;
        settings.is_synchronised = || true;
    });
    until(&mut watcher_of(gateway.mqtt), sent, "gap", "cleared");
    // A gateway reports a wrong device clock only if its own is right.
    let ahead = json!({"value": -127, "ts_ms": now_ms() + 58_000});
    Client::connect(gateway.mqtt, "fast").publish("devices/fast/temperature", ahead.to_string());
    gateway.stop();
}

fn watcher_of(mqtt: SocketAddr) -> Client {
    let mut watcher = Client::connect(mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/+", 1), ("outrider/status", 1)]);
    watcher
}

/// Receives until there is an alert of this kind in this state. An empty message removes one.
fn until(watcher: &mut Client, sent: &mut Vec<Value>, kind: &str, state: &str) {
    loop {
        let message = watcher.receive();
        if message.payload.is_empty() {
            continue;
        }
        let record: Value = serde_json::from_slice(&message.payload).unwrap();
        sent.push(record.clone());
        if record["kind"] == kind && record["state"] == state {
            return;
        }
    }
}

/// The same for an alert that clears, while good readings arrive.
fn until_well(watcher: &mut Client, device: &mut Client, sent: &mut Vec<Value>, kind: &str) {
    let is_cleared = |record: &Value| record["kind"] == kind && record["state"] == "cleared";
    for n in 0.. {
        device.publish("devices/tank/temperature", format!("{:.1}", 20.0 + 0.1 * f64::from(n * 7919 % 5)));
        if watcher.wait_readable(Duration::from_millis(200)) {
            let message = watcher.receive();
            sent.extend((!message.payload.is_empty()).then(|| serde_json::from_slice(&message.payload).unwrap()));
            if sent.last().is_some_and(is_cleared) {
                return;
            }
        }
    }
}

fn now_ms() -> i64 {
    outrider::gateway::now_ms()
}

#[test]
fn what_is_sent_is_what_the_schemas_describe() {
    let folder = tempfile::tempdir().unwrap();
    let mut schemas = Schemas::load();
    for record in sent(folder.path()) {
        schemas.check(&record);
    }
    for (name, schema) in SCHEMAS.iter().zip(&schemas.0) {
        let missing: Vec<_> = schema.described().difference(&schema.seen).cloned().collect();
        assert_eq!(missing, Vec::<String>::new(), "described by {name}.json and never sent");
    }
}

/// The control: a record with a field removed, changed in type or added does not match the schema.
#[test]
fn a_record_that_is_not_as_described_is_found_out() {
    let mut schema = Schema::load("anomaly");
    let right = json!({
        "v": 1, "type": "anomaly", "gateway": "g", "run": "0123456789abcdef", "position": 1, "device": "d", "metric": "m", "value": null,
        "measured_at_ms": 1, "received_at_ms": 1, "time_quality": "synced", "attributes": {"a": "b"}, "raw_run": "0123456789abcdef",
        "raw_position": 1, "detector": "spike", "also": ["shift"], "score": 1.5, "expected": null, "spread": null, "reason": "r", "late": false,
        "maturity": "known"
    });
    schema.check(&right).unwrap();
    for (name, _) in right.as_object().unwrap() {
        let mut other = right.clone();
        other[name] = json!([[]]);
        assert!(schema.check(&other).is_err(), "{name} of another type");
        other.as_object_mut().unwrap().remove(name);
        assert!(["attributes", "maturity"].contains(&name.as_str()) || schema.check(&other).is_err(), "without {name}");
    }
    for (name, value) in
        [("v", json!(2)), ("run", json!("0")), ("position", json!(0)), ("also", json!(["x"])), ("new", json!(1))]
    {
        let mut other = right.clone();
        other[name] = value;
        assert!(schema.check(&other).is_err(), "{name}");
    }
}

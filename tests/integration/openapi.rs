//! The description of the administration interface (`config/schema/openapi.json`), compared with what is served.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use outrider::admin::{OPENAPI, routes};
use serde_json::{Value, json};

use crate::client::Client;
use crate::events::Events;
use crate::gateway::{Answer, Gateway, request, wait_until};
use crate::schema;

struct Description(Value);

impl Description {
    fn load() -> Description {
        Description(serde_json::from_str(OPENAPI).unwrap())
    }

    /// Each method and path, with what is said of it.
    fn operations(&self) -> impl Iterator<Item = (String, &str, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
        })
    }

    /// A schema without references.
    fn resolved(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
                Some(reference) => {
                    let pointed = self.0.pointer(reference.strip_prefix('#').unwrap());
                    self.resolved(pointed.unwrap_or_else(|| panic!("{reference} is not described")))
                }
                None => fields.iter().map(|(name, value)| (name.clone(), self.resolved(value))).collect(),
            },
            Value::Array(list) => list.iter().map(|value| self.resolved(value)).collect(),
            other => other.clone(),
        }
    }

    fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let schema = self.resolved(&json!({"$ref": format!("#/components/schemas/{name}")}));
        schema::check(&schema, value, "", &mut BTreeSet::new())
    }
}

#[test]
fn what_is_served_is_what_is_described() {
    let description = Description::load();
    let described: BTreeSet<(String, &str)> =
        description.operations().map(|(method, path, _)| (method, path)).collect();
    let served = routes::served().map(|(method, path)| (method.to_owned(), path));
    assert_eq!(served.collect::<BTreeSet<_>>(), described);
    for (method, path, operation) in description.operations() {
        let of_path = path.split('/').filter_map(|level| level.strip_prefix('{')?.strip_suffix('}'));
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named = parameters.filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap());
        assert!(of_path.eq(named), "{method} {path}");
    }
}

#[test]
fn alerts_and_anomalies_are_described_as_their_records_are() {
    let description = Description::load();
    for (name, file) in [("Alert", "alert.json"), ("Anomaly", "anomaly.json")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema").join(file);
        let mut record: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        record.as_object_mut().unwrap().remove("$schema");
        assert_eq!(description.0["components"]["schemas"][name], record);
    }
}

fn outrider(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outrider")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Something to tell of everything: series of all kinds, alerts, rules, refusals, a sink that fails.
fn busy(folder: &Path, tokens: &str) -> Gateway {
    let config = format!(
        "{tokens}alert.clear_after = '1s'\n[[limit]]\nmetric = 'level'\nmax = 9\n[[rule]]\nname = 'door'\n\
         sql = \"SELECT * FROM 'doors/#' WHERE open\"\nalert = {{ severity = 'minor', device = '${{topic(2)}}' }}\n[[rule]]\nname = 'hot'\nwhen = 'level > 50'\n\
         alert = 'minor'\n[[sink]]\nname = 'archive'\ntype = 'archive'\n[[sink]]\nname = 'nowhere'\ntype = 'http'\n\
         url = 'http://127.0.0.1:9/'\n[[file]]\npath = '{}/*.log'\ntopic = 'devices/{{file}}'\n\
         [[bridge]]\nname = 'cloud'\nurl = 'mqtt://127.0.0.1:9'\ntopics = ['commands/# in 1']\n",
        folder.display()
    );
    std::fs::write(folder.join("pump.log"), "{\"value\":1}\n").unwrap();
    let gateway = Gateway::start_configured(folder, &config, &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank", r#"{"level":12,"lat":52.1,"temp":20.5}"#);
    device.publish("devices/tank/level", "{");
    device.publish("devices/late", r#"{"temp":1,"ts":1000}"#);
    device.publish("elsewhere/x/temp", "1.0");
    let warm = (0..240).map(|n| {
        let ts = outrider::gateway::now_ms() - 240_000 + i64::from(n) * 1000;
        json!({"temp": 20.0 + 0.1 * f64::from(n * 7919 % 5), "ts_ms": ts})
    });
    device.publish("devices/truck", json!(warm.collect::<Vec<_>>()).to_string());
    gateway
}

#[test]
fn answers_are_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let token = outrider(&["token", "add", file.to_str().unwrap(), "carl", "--role", "operate"]);
    let gateway = busy(folder.path(), "admin.tokens = 'tokens'\n");
    let admin = gateway.admin.unwrap();
    let bearer = format!("application/json\r\nauthorization: Bearer {token}");
    let ask = |what: &str, body: &str| -> Answer { request(admin, what, &bearer, body) };
    wait_until("an alert", || ask("GET /api/alerts", "").body.contains("\"tank\""));
    let description = Description::load();
    let examples =
        [("{device}", "tank"), ("{metric}", "temp"), ("{kind}", "limit"), ("{name}", "left"), ("{file}", "link.js")];
    // What deletes comes last, because the others ask for it.
    let mut operations: Vec<_> = description.operations().collect();
    operations.sort_by_key(|(method, _, _)| method == "DELETE");
    for (method, path, operation) in operations {
        if path == "/api/events" {
            continue;
        }
        let asked = examples.iter().fold(path.to_owned(), |path, (name, example)| path.replace(name, example));
        let answer = ask(&format!("{method} {asked}"), r#"{"by":"anna"}"#);
        let described = &operation["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{method} {asked}: {} {}", answer.status, answer.body);
        if answer.status == 200 && described["content"]["application/json"].is_object() {
            let schema = description.resolved(&described["content"]["application/json"]["schema"]);
            let value: Value = serde_json::from_str(&answer.body).unwrap();
            if path != "/api/openapi.json" {
                schema::check(&schema, &value, "", &mut BTreeSet::new())
                    .unwrap_or_else(|fault| panic!("{path} {fault}\nin {value}"));
            }
        }
        // The role that is described is the one that it takes.
        let needs_none = operation["x-role"] == "none";
        let unknown = request(admin, &format!("{method} {asked}"), "application/json", r#"{"by":"anna"}"#);
        assert!(needs_none || unknown.status == 401, "{method} {asked} without a token: {}", unknown.status);
        assert!(!needs_none || path == "/login" || unknown.status != 401, "{method} {asked}: {}", unknown.status);
    }
}

#[test]
fn events_are_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = busy(folder.path(), "");
    let description = Description::load();
    wait_until("an alert", || gateway.get("/api/alerts").1.contains("\"tank\""));
    let mut events = Events::open(gateway.admin.unwrap(), "", "");
    let mut device = Client::connect(gateway.mqtt, "device");
    let mut seen = BTreeSet::new();
    while !["alerts", "alert", "status", "values"].iter().all(|name| seen.contains(*name)) {
        device.publish("devices/more/level", format!("{{\"value\":{}}}", 10 + seen.len()));
        let (name, data) = events.next().expect("it goes on");
        let schema = match name.as_str() {
            "alerts" => "AllAlerts",
            "status" => "Brief",
            "values" => "Values",
            "alert" if data["state"] == "removed" => "RemovedAlert",
            "alert" => "Alert",
            other => panic!("{other} is not described"),
        };
        description.check(schema, &data).unwrap_or_else(|fault| panic!("{name} {fault}\nin {data}"));
        seen.insert(name);
    }
}

/// The control: what is not as described is found out.
#[test]
fn an_answer_that_is_not_as_described_is_found_out() {
    let description = Description::load();
    let right = json!({"device": "a", "series": 1, "heard_at_ms": 1, "stale_after_ms": 30_000});
    description.check("Device", &right).unwrap();
    for (name, value) in [("series", json!("1")), ("device", Value::Null), ("more", json!(1))] {
        let mut wrong = right.clone();
        wrong[name] = value;
        assert!(description.check("Device", &wrong).is_err(), "{name}");
    }
    let mut wrong = right;
    wrong.as_object_mut().unwrap().remove("series");
    assert!(description.check("Device", &wrong).is_err());
}

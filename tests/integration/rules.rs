//! Rules in the real gateway: what they find, publish, make and raise, across kills and reloads.

mod reloading;
mod trying;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{self, Client};
use crate::clients::{self, Subscriber};
use crate::gateway::{Gateway, wait_until};

fn now_ms() -> i64 {
    outrider::gateway::now_ms()
}

fn start(folder: &Path, config: &str) -> Gateway {
    Gateway::start_configured(folder, config, &[], &[])
}

/// A reading for each of these seconds ago, all of one value, in one publish.
fn history(client: &mut Client, topic: &str, value: f64, seconds_ago: impl Iterator<Item = i64>) {
    let now_ms = now_ms();
    let items: Vec<Value> = seconds_ago.map(|ago| json!({"value": value, "ts_ms": now_ms - ago * 1_000})).collect();
    client.publish(topic, json!(items).to_string());
}

fn rule_alert(gateway: &Gateway, kind: &str) -> Option<Value> {
    gateway.alerts().into_iter().find(|alert| alert["kind"] == kind)
}

fn raised(gateway: &Gateway, kind: &str) -> Value {
    let mut found = None;
    wait_until("the alert of a rule", || {
        found = rule_alert(gateway, kind).filter(|alert| alert["state"] == "raised");
        found.is_some()
    });
    found.expect("just found")
}

fn next_on(client: &mut Client, topic: &str) -> Value {
    loop {
        assert!(client.wait_readable(Duration::from_secs(10)), "nothing on {topic}");
        let message = client.receive();
        if message.topic == topic && !message.payload.is_empty() {
            return serde_json::from_slice(&message.payload).expect("JSON");
        }
    }
}

const HOT: &str = "[[rule]]\nname = \"hot\"\nwhen = \"engine_temperature > 110\"\nfor = \"5s\"\nalert = \"critical\"\n";

#[test]
fn three_lines_watch_a_condition_that_has_to_hold() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path(), HOT);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/truck-7/engine_temperature/hot", 1)]);
    let mut truck = Client::connect(gateway.mqtt, "truck-7");
    history(&mut truck, "devices/truck-7/engine_temperature", 120.0, (8..12).rev());
    history(&mut truck, "devices/truck-7/engine_temperature", 100.0, [7].into_iter());
    assert!(rule_alert(&gateway, "hot").is_none(), "it has not held for long enough");
    history(&mut truck, "devices/truck-7/engine_temperature", 115.0, (0..7).rev());
    let alert = next_on(&mut driver, "alerts/truck-7/engine_temperature/hot");
    assert_eq!((&alert["severity"], &alert["value"]), (&json!("critical"), &json!(115.0)));
    assert_eq!(alert["message"], "engine_temperature of truck-7 is 115 (hot)");
    truck.publish("alerts/truck-7/engine_temperature/hot/ack", r#"{"by":"driver"}"#);
    wait_until("acknowledged", || {
        rule_alert(&gateway, "hot").is_some_and(|alert| alert["acknowledged_by"] == "driver")
    });
}

#[test]
fn enrichment_by_location_is_published_back() {
    let folder = tempfile::tempdir().unwrap();
    let square = |name: &str, west: f64| {
        let ring = [[west, 50.0], [west + 1.0, 50.0], [west + 1.0, 51.0], [west, 51.0], [west, 50.0]];
        json!({"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    };
    let zones = json!({"type": "FeatureCollection", "features": [square("north", 10.0), square("south", 20.0)]});
    std::fs::write(folder.path().join("zones.geojson"), zones.to_string()).unwrap();
    std::fs::write(folder.path().join("offers.csv"), "zone,text,percent\nnorth,Coffee,10\nsouth,\"Fuel, cheap\",5\n")
        .unwrap();
    let config = "[rules]\nzones = \"zones.geojson\"\n[[table]]\nname = \"offers\"\nfile = \"offers.csv\"\nkey = \"zone\"\n\
        [[rule]]\nname = \"offer\"\nsql = \"SELECT driver, lookup(offers, zone(lat, lon)).text AS offer, \
        lookup(offers, zone(lat, lon)).percent AS percent FROM 'trucks/+/position' WHERE NOT isUndefined(zone(lat, lon))\"\n\
        republish = { topic = \"trucks/${topic(2)}/offers\", qos = 1 }\n";
    let gateway = start(folder.path(), config);
    let mut driver = Subscriber::start(&gateway, &["-t", "trucks/+/offers", "-q", "1"]);
    let publish = |payload: &str| clients::publish(&gateway, &["-t", "trucks/7/position", "-m", payload, "-q", "1"]);
    publish(r#"{"driver":"ann","lat":50.5,"lon":20.5}"#);
    assert_eq!(driver.next(), r#"trucks/7/offers 0 1 {"driver":"ann","offer":"Fuel, cheap","percent":5}"#);
    publish(r#"{"driver":"ann","lat":50.5,"lon":15.0}"#);
    publish(r#"{"driver":"bob","lat":50.5,"lon":10.5}"#);
    assert_eq!(driver.next(), r#"trucks/7/offers 0 1 {"driver":"bob","offer":"Coffee","percent":10}"#);
    std::fs::write(folder.path().join("offers.csv"), "zone,text,percent\nnorth,Tea,20\n").unwrap();
    wait_until("the table is read again", || {
        publish(r#"{"driver":"bob","lat":50.5,"lon":10.5}"#);
        driver.next().ends_with(r#"{"driver":"bob","offer":"Tea","percent":20}"#)
    });
}

#[test]
fn a_temperature_has_its_own_alert_and_its_own_stream() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[stream]]\nname = \"hot\"\n[[rule]]\nname = \"too-hot\"\n\
        sql = \"SELECT temperature, topic(2) AS truck FROM 'trucks/+/telemetry' WHERE temperature > 30\"\n\
        alert = { severity = \"critical\", device = \"${topic(2)}\", message = \"${temperature} degrees\" }\nstream = \"hot\"\n";
    let gateway = start(folder.path(), config);
    let mut team = Subscriber::start(&gateway, &["-t", "alerts/+/+/too-hot", "-q", "1"]);
    for payload in [r#"{"temperature":21.5}"#, r#"{"temperature":38.25}"#] {
        clients::publish(&gateway, &["-t", "trucks/truck-7/telemetry", "-m", payload, "-q", "1"]);
    }
    let line = team.next();
    let alert: Value = serde_json::from_str(line.splitn(4, ' ').nth(3).unwrap()).unwrap();
    assert!(line.starts_with("alerts/truck-7/_rule/too-hot "), "{line}");
    assert_eq!((&alert["severity"], &alert["message"]), (&json!("critical"), &json!("38.25 degrees")));
    gateway.stop();
    let records = crate::archive::records(&folder.path().join("state/archive"), "hot");
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["payload"], json!({"temperature": 38.25, "truck": "truck-7"}));
    let of = |name: &str| record[name].as_str().unwrap();
    assert_eq!((of("stream"), of("rule"), of("topic")), ("hot", "too-hot", "trucks/truck-7/telemetry"));
}

#[test]
fn a_kill_loses_no_record_of_a_message_that_was_acknowledged() {
    const MESSAGES: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let config = "[[stream]]\nname = \"all\"\n\
        [[rule]]\nname = \"every\"\nsql = \"SELECT n FROM 'in/#'\"\nstream = \"all\"\n\
        [[rule]]\nname = \"level\"\nwhen = \"level > 0\"\nrepeat = true\nstream = \"all\"\n";
    for round in 0..3 {
        let gateway = start(folder.path(), config);
        let mut device = Client::connect(gateway.mqtt, "device");
        for n in 0..MESSAGES / 3 {
            let n = round * MESSAGES / 3 + n;
            device.publish(
                if n.is_multiple_of(2) { "in/a" } else { "devices/d" },
                json!({"n": n, "level": n + 1}).to_string(),
            );
        }
        gateway.kill();
    }
    start(folder.path(), config).stop();
    let mut seen = BTreeMap::new();
    for record in crate::archive::records(&folder.path().join("state/archive"), "all") {
        let payload = &record["payload"];
        let n = payload["n"].as_u64().unwrap_or_else(|| payload["values"]["level"].as_u64().unwrap() - 1);
        *seen.entry(n).or_insert(0) += 1;
    }
    assert_eq!(seen, (0..MESSAGES).map(|n| (n, 1)).collect());
}

/// The control: what is not acknowledged may be lost, so it is the acknowledgement that waits for the record.
#[test]
fn a_kill_loses_records_of_messages_that_nobody_waited_for() {
    const MESSAGES: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let config =
        "[[stream]]\nname = \"all\"\n[[rule]]\nname = \"every\"\nsql = \"SELECT n FROM 'in/#'\"\nstream = \"all\"\n";
    let mut sent = 0;
    wait_until("a kill in between", || {
        let gateway = start(folder.path(), config);
        let mut device = Client::connect(gateway.mqtt, "device");
        let frames = (sent..sent + MESSAGES)
            .flat_map(|n| client::publish_packet("in/a", json!({"n": n}).to_string().as_bytes(), 0, false, false, 0));
        device.send(&frames.collect::<Vec<u8>>());
        sent += MESSAGES;
        gateway.kill();
        start(folder.path(), config).stop();
        crate::archive::records(&folder.path().join("state/archive"), "all").len() < sent
    });
}

#[test]
fn a_rule_that_takes_much_of_the_processor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // The first that looks into a payload has it parsed, which counts as its own time.
    let config = "[[rule]]\nname = \"heavy\"\nsql = \"SELECT VALUE (SELECT VALUE i * i FROM a AS i WHERE i > 1) FROM 'in/#'\"\ncount = true\n\
        [[rule]]\nname = \"quick\"\nsql = \"SELECT * FROM 'in/#'\"\ncount = true\n";
    let gateway = start(folder.path(), config);
    let mut device = Client::connect(gateway.mqtt, "device");
    let payload = format!(r#"{{"a":[{}1]}}"#, "2,".repeat(20_000));
    wait_until("the rule is named", || {
        device.publish("in/a", &payload);
        let alert = gateway.alerts().into_iter().find(|alert| alert["metric"] == "rules");
        alert.is_some_and(|alert| {
            let message = alert["message"].as_str().unwrap();
            assert!(message.contains("heavy (") && !message.contains("quick ("), "{message}");
            true
        })
    });
}

#[test]
fn readings_are_made_kept_out_and_sampled_down_and_the_ledger_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[rule]]\nname = \"power\"\nwhen = \"volt > 0\"\nreadings = { metric = \"power\", value = \"volt * amp\" }\n\
        [[rule]]\nname = \"quiet\"\nwhen = \"metric() = 'noise'\"\ndrop = true\n\
        [[rule]]\nname = \"thin\"\nwhen = \"metric() = 'rpm'\"\ndownsample = { every = \"10s\", keep = [\"mean\", \"max\"] }\n\
        [[rule]]\nname = \"odd\"\nsql = \"SELECT x AS temp FROM 'odd/+'\"\nreadings = { device = \"odd-${topic(2)}\" }\n\
        [[rule]]\nname = \"mute\"\nsql = \"SELECT * FROM 'devices/mute'\"\ndrop = true\n";
    let gateway = start(folder.path(), config);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/d", r#"{"amp":2.5}"#);
    device.publish("devices/d", r#"{"volt":12,"noise":1}"#);
    device.publish("devices/mute", r#"{"a":1,"b":2}"#);
    device.publish("odd/3", r#"{"x":7}"#);
    let start_ms = now_ms() / 10_000 * 10_000 - 20_000;
    for second in 0..12 {
        device.publish("devices/d/rpm", json!({"value": second, "ts_ms": start_ms + second * 1_000}).to_string());
    }
    let received = |name: &str| gateway.status()["received"][name].as_u64().unwrap();
    wait_until("all is counted", || received("summarised_by_rule") == 12);
    let status = gateway.status();
    let raw = status["ledger"].as_array().unwrap().iter().find(|line| line["stream"] == "raw").unwrap();
    assert_eq!((received("accepted"), received("dropped_by_rule"), received("derived")), (2, 3, 4));
    assert_eq!(raw["accepted"].as_u64().unwrap(), received("accepted") + received("derived"));
    assert_eq!(status["ledger_adds_up"], true);
    gateway.stop();
    // The span that was open is stored at the end, and delivered after the next start.
    start(folder.path(), config).stop();
    let mut values = BTreeMap::new();
    for record in crate::archive::records(&folder.path().join("state/archive"), "raw") {
        let name = format!("{}/{}", record["device"].as_str().unwrap(), record["metric"].as_str().unwrap());
        values.entry(name).or_insert_with(Vec::new).push(record["value"].as_f64().unwrap());
    }
    let expected = [
        ("d/amp", vec![2.5]),
        ("d/power", vec![30.0]),
        ("d/rpm.max", vec![9.0, 11.0]),
        ("d/rpm.mean", vec![4.5, 10.5]),
        ("d/volt", vec![12.0]),
        ("odd-3/temp", vec![7.0]),
    ];
    assert_eq!(values, expected.map(|(name, values)| (name.to_owned(), values)).into());
}

#[test]
fn what_a_rule_publishes_is_stored_by_routes_and_loops_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[rule]]\nname = \"forth\"\nsql = \"SELECT * FROM 'devices/a/t'\"\nrepublish = { topic = \"devices/b/t\" }\n\
        [[rule]]\nname = \"back\"\nsql = \"SELECT * FROM 'devices/b/t'\"\nrepublish = { topic = \"devices/a/t\" }\n";
    let gateway = start(folder.path(), config);
    let mut device = Client::connect(gateway.mqtt, "device");
    let mut all = Client::connect(gateway.mqtt, "all");
    all.subscribe(&[("devices/#", 1)]);
    device.publish("devices/a/t", r#"{"t":20}"#);
    let topics: Vec<String> = (0..3).map(|_| all.receive().topic).collect();
    assert_eq!(topics, ["devices/a/t", "devices/a/t", "devices/b/t"].map(str::to_owned));
    let rules = gateway.get("/api/rules").1;
    let rules: Value = serde_json::from_str(&rules).unwrap();
    assert_eq!((&rules["running"][0]["loops_cut"], &rules["running"][0]["matches"]), (&json!(1), &json!(1)));
    assert!(gateway.get("/metrics").1.contains("outrider_rule_matches_total{rule=\"back\"} 1"));
    let listed = std::process::Command::new(env!("CARGO_BIN_EXE_outrider"))
        .args(["rules", "list", "--state"])
        .arg(folder.path().join("state"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("forth ")), "{listed}");
}

/// What has to be remembered for a condition to go on: it has held for 15 of 20 seconds, a window is filled, a side of a zone is known.
fn remembers(is_killed_with_its_store: bool) -> (bool, bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let ring = json!([[[10.0, 50.0], [11.0, 50.0], [11.0, 51.0], [10.0, 51.0], [10.0, 50.0]]]);
    let zone = json!({"type": "Feature", "id": "depot", "geometry": {"type": "Polygon", "coordinates": ring}});
    std::fs::write(folder.path().join("zones.geojson"), zone.to_string()).unwrap();
    let config = "[rules]\nzones = \"zones.geojson\"\n\
        [[rule]]\nname = \"held\"\nwhen = \"t > 5\"\nfor = \"20s\"\nalert = \"minor\"\n\
        [[rule]]\nname = \"window\"\nwhen = \"count(w, 60) > 15\"\nalert = \"minor\"\n\
        [[rule]]\nname = \"gone\"\nwhen = \"left(depot, lat, lon)\"\nalert = \"minor\"\n";
    let gateway = start(folder.path(), config);
    let mut device = Client::connect(gateway.mqtt, "device");
    history(&mut device, "devices/d/t", 9.0, (10..26).rev());
    history(&mut device, "devices/d/w", 9.0, (10..25).rev());
    device.publish("devices/d", json!({"lat": 50.5, "lon": 10.5, "ts_ms": now_ms() - 10_000}).to_string());
    for kind in ["held", "window", "gone"] {
        assert!(rule_alert(&gateway, kind).is_none(), "{kind} is raised too early");
    }
    gateway.kill();
    if !is_killed_with_its_store {
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    }
    let gateway = start(folder.path(), config);
    let mut device = Client::connect(gateway.mqtt, "device");
    history(&mut device, "devices/d/t", 9.0, (0..6).rev());
    history(&mut device, "devices/d/w", 9.0, (0..1).rev());
    device.publish("devices/d", json!({"lat": 55.5, "lon": 10.5, "ts_ms": now_ms()}).to_string());
    // A limit of the commit: what comes after the readings is stored with or after them.
    device.publish("devices/d/last", "12");
    let is_raised = |kind: &str| rule_alert(&gateway, kind).is_some();
    (is_raised("held"), is_raised("window"), is_raised("gone"))
}

#[test]
fn a_kill_forgets_no_hold_no_window_and_no_side_of_a_zone() {
    assert_eq!(remembers(true), (true, true, true));
}

#[test]
fn without_its_store_a_rule_would_begin_anew() {
    assert_eq!(remembers(false), (false, false, false));
}

#[test]
fn an_alert_of_a_rule_keeps_its_id_across_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = HOT.replace("for = \"5s\"\n", "");
    let gateway = start(folder.path(), &config);
    let mut truck = Client::connect(gateway.mqtt, "truck");
    truck.publish("devices/truck/engine_temperature", "120.5");
    let before = raised(&gateway, "hot");
    gateway.kill();
    let gateway = start(folder.path(), &config);
    let mut truck = Client::connect(gateway.mqtt, "truck");
    truck.publish("devices/truck/engine_temperature", "130.5");
    wait_until("it goes on", || rule_alert(&gateway, "hot").is_some_and(|alert| alert["count"] == 2));
    let after = raised(&gateway, "hot");
    assert_eq!((&before["id"], before["raised_at_ms"].as_i64()), (&after["id"], after["raised_at_ms"].as_i64()));
    gateway.kill();
    let gateway = start(folder.path(), "");
    let reason = || rule_alert(&gateway, "hot").expect("not forgotten")["cleared_reason"].clone();
    wait_until("the alert of a rule that is gone is cleared", || reason() == "configuration");
}

//! What a chart is drawn from: the readings, anomalies and alerts of a series, as the store still holds them.

use serde_json::Value;

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::restart;

const CONFIG: &str = "\
[[limit]]
metric = \"temperature\"
max = 50
severity = \"major\"
";

fn history(gateway: &Gateway, query: &str) -> Value {
    let (code, text) = gateway.get(&format!("/api/series/tank-1/temperature/history{query}"));
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn readings(history: &Value) -> u64 {
    history["points"].as_array().expect("points").iter().map(|point| point["count"].as_u64().expect("a number")).sum()
}

#[test]
fn a_series_has_its_readings_anomalies_and_alerts_also_after_a_kill() {
    let (folder, gateway) = restart::start_with(CONFIG);
    let mut client = Client::connect(gateway.mqtt, "device");
    for value in 0..20 {
        client.publish("devices/tank-1/temperature", format!("{{\"value\": {value}.5}}"));
        client.publish("devices/other/temperature", "{\"value\": 1000}");
    }
    client.publish("devices/tank-1/temperature", "{\"value\": 99.5}");
    let mut gateway = gateway;
    for _ in 0..2 {
        wait_until("the anomaly is in the history", || history(&gateway, "")["anomalies"][0].is_object());
        let found = history(&gateway, "");
        assert_eq!((&found["device"], &found["metric"]), (&"tank-1".into(), &"temperature".into()));
        assert_eq!((readings(&found), &found["next"]), (21, &Value::Null));
        let points = found["points"].as_array().expect("points");
        let least = points.iter().filter_map(|point| point["min"].as_f64()).fold(f64::MAX, f64::min);
        let most = points.iter().filter_map(|point| point["max"].as_f64()).fold(f64::MIN, f64::max);
        assert_eq!((least, most), (0.5, 99.5), "the other device's are not among them");
        assert_eq!(found["anomalies"].as_array().map(Vec::len), Some(1));
        let anomaly = &found["anomalies"][0];
        assert_eq!((&anomaly["detector"], &anomaly["value"]), (&"limit".into(), &99.5.into()));
        assert_eq!(found["alerts"][0]["state"], "raised");
        assert_eq!(found["alerts"][0]["kind"], "limit");
        // Before any of it, and in a range of one millisecond.
        let from_ms = found["from_ms"].as_i64().expect("a time");
        let before = history(&gateway, &format!("?from_ms={}&to_ms={from_ms}&points=10", from_ms - 1_000));
        assert_eq!((readings(&before), before["point_ms"].as_u64()), (0, Some(100)));
        gateway = restart::killed(&folder, gateway);
    }
}

#[test]
fn a_question_that_is_not_understood_says_what_would_be() {
    let (_folder, gateway) = restart::start_with(CONFIG);
    let ask = |query: &str| gateway.get(&format!("/api/series/a/b/history?{query}"));
    assert_eq!(ask("points=many"), (400, "points = \"many\": not a whole number\n".to_owned()));
    assert_eq!(ask("since=1").0, 400);
    let (code, text) = ask("points=5");
    let empty: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &empty["points"]), (200, &serde_json::json!([])), "nobody has heard of it: there is nothing");
}

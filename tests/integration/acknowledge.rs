//! Acknowledging an alert, over MQTT and over HTTP: both lead to the same state everywhere, and an invalid acknowledgement is refused,
//! counted, and changes nothing.

use serde_json::{Value, json};

use crate::archive;
use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, request, wait_until};

/// A reading above it raises an alert at once.
const CONFIG: &str = "[[limit]]\nmetric = 'level'\nmax = 10\n[[limit]]\nmetric = 'a/b +#%é'\nmax = 10\n";

fn start(folder: &std::path::Path) -> Gateway {
    Gateway::start_configured(folder, CONFIG, &[], &[])
}

fn watcher(gateway: &Gateway) -> Client {
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/+/+/+", 1)]);
    watcher
}

fn next(watcher: &mut Client) -> (String, Value) {
    let message = watcher.receive();
    (message.topic, serde_json::from_slice(&message.payload).unwrap())
}

/// The message that a new subscriber gets.
fn retained(gateway: &Gateway, topic: &str) -> Value {
    let mut late = Client::connect(gateway.mqtt, "late");
    late.subscribe(&[(topic, 1)]);
    let message = late.receive();
    assert!(message.retain);
    serde_json::from_slice(&message.payload).unwrap()
}

fn listed(gateway: &Gateway, id: &Value) -> Value {
    let alerts = gateway.alerts();
    alerts.into_iter().find(|alert| alert["id"] == *id).expect("listed")
}

#[test]
fn who_has_seen_an_alert_is_told_everywhere_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut driver = watcher(&gateway);
    let mut device = Client::connect(gateway.mqtt, "device");
    // One over MQTT, on the alert's own topic; one over HTTP, with names that need escapes.
    device.publish("devices/tank/level", "11");
    let (topic, raised) = next(&mut driver);
    assert_eq!((topic.as_str(), &raised["revision"]), ("alerts/tank/level/limit", &json!(1)));
    Client::connect(gateway.mqtt, "display").publish(&format!("{topic}/ack"), r#"{"by":"anna"}"#);
    let by_mqtt = next(&mut driver).1;

    device.publish("devices/tänk %2F 1", r#"{"a/b +#%é":11}"#);
    let (odd_topic, odd) = next(&mut driver);
    assert_eq!(odd_topic, "alerts/tänk %252F 1/a%2Fb %2B%23%25é/limit");
    assert_eq!((&odd["device"], &odd["metric"]), (&json!("tänk %2F 1"), &json!("a/b +#%é")));
    let path = "/api/alerts/t%C3%A4nk%20%252F%201/a%2Fb%20%2B%23%25%C3%A9/limit/ack";
    let answer = gateway.post(path, r#"{"by":"Bob \"the\" Ünder"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (202, "acknowledged\n"));
    let by_http = next(&mut driver).1;

    let seen = [(&topic, &raised, by_mqtt, "anna"), (&odd_topic, &odd, by_http, "Bob \"the\" Ünder")];
    for (topic, raised, acknowledged, by) in &seen {
        assert_eq!((&acknowledged["acknowledged_by"], &acknowledged["revision"]), (&json!(by), &json!(2)));
        assert_eq!((&acknowledged["id"], &acknowledged["state"]), (&raised["id"], &json!("raised")));
        assert_eq!(retained(&gateway, topic), *acknowledged);
        assert_eq!(listed(&gateway, &raised["id"]), *acknowledged);
    }
    // The same name in a topic's escapes, by the same person again: this changes nothing.
    Client::connect(gateway.mqtt, "display").publish(&format!("{odd_topic}/ack"), r#"{"by":"Bob \"the\" Ünder"}"#);
    gateway.kill();

    let gateway = start(folder.path());
    for (topic, raised, acknowledged, _) in &seen {
        assert_eq!(retained(&gateway, topic), *acknowledged);
        assert_eq!(listed(&gateway, &raised["id"]), *acknowledged);
    }
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/tank/+/+", 1)]);
    assert_eq!(next(&mut driver).1["revision"], 2);
    assert_eq!(gateway.post("/api/alerts/tank/level/limit/ack", r#"{"by":"carl"}"#).status, 202);
    let again = next(&mut driver).1;
    assert_eq!((&again["acknowledged_by"], &again["revision"]), (&json!("carl"), &json!(3)));
    assert_eq!(gateway.status()["detection"]["acknowledgements_unknown"], 0);

    assert!(gateway.stop().success());
    let records = archive::records(&folder.path().join("state/archive"), "anomalies");
    let of = |id: &Value| records.iter().filter(|record| record["id"] == *id).cloned().collect::<Vec<_>>();
    assert_eq!(of(&raised["id"]), [raised.clone(), seen[0].2.clone(), again]);
    assert_eq!(of(&odd["id"]), [odd.clone(), seen[1].2.clone()]);
}

#[test]
fn what_is_no_acknowledgement_is_refused_counted_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut watcher = Client::connect(gateway.mqtt, "watcher");
    watcher.subscribe(&[("alerts/#", 1), ("marker", 1)]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank/level", "11");
    let raised = next(&mut watcher).1;

    let long = json!({ "by": "x".repeat(129) }).to_string();
    let nobody = ["", "anna", "{\"by\":", "{}", "[1]", r#"{"by":""}"#, r#"{"by":" "}"#, r#"{"by":7}"#, long.as_str()];
    let refused = |count: u64| gateway.status()["mqtt"]["publishes_refused"] == count;
    for (payload, count) in nobody.iter().zip(1..) {
        device.publish("alerts/tank/level/limit/ack", payload);
        assert!(refused(count), "{payload}");
    }
    let others =
        ["alerts", "alerts/tank/level/limit", "alerts/tank/level/ack", "alerts/tank/level/limit/ack/x", "outrider/x"];
    for (topic, count) in others.iter().zip(1 + nobody.len() as u64..) {
        device.publish(topic, r#"{"by":"anna"}"#);
        assert!(refused(count), "{topic}");
    }
    let id = device.next_packet_id();
    device.send(&publish_packet("alerts/tank/level/limit", b"", 1, true, false, id));
    assert_eq!(device.packet().unwrap().first, 0x40, "acknowledged, so that it is not sent again");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("acknowledgement of an alert dropped: it is not JSON"), "{log}");

    for (unknown, count) in
        ["alerts/tank/level/gap/ack", "alerts/Tank/level/limit/ack", "alerts///limit/ack"].iter().zip(1..)
    {
        device.publish(unknown, r#"{"by":"anna"}"#);
        wait_until("that nobody knows it", || {
            gateway.status()["detection"]["acknowledgements_unknown"].as_u64() == Some(count)
        });
    }

    let path = "/api/alerts/tank/level/limit/ack";
    for payload in nobody {
        let answer = gateway.post(path, payload);
        assert_eq!(answer.status, 400, "{payload}");
        assert!(answer.body.starts_with("it ") || answer.body.starts_with("the name is longer"), "{}", answer.body);
    }
    let admin = gateway.admin.unwrap();
    let anna = r#"{"by":"anna"}"#;
    let status = |what: &str, content_type: &str, body: &str| request(admin, what, content_type, body).status;
    assert_eq!(status(&format!("POST {path}"), "application/json", &" ".repeat(5_000)), 413);
    assert_eq!(status(&format!("POST {path}"), "text/plain", anna), 415);
    assert_eq!(status(&format!("POST {path}"), "", anna), 415);
    for method in ["GET", "PUT", "DELETE"] {
        let answer = request(admin, &format!("{method} {path}"), "application/json", anna);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("\r\nallow: post"), "{}", answer.head);
    }
    for (path, expected) in [
        ("/api/alerts/tank/level/gap/ack", 404),
        ("/api/alerts/%FF/level/limit/ack", 404),
        ("/api/alerts/tank/level/ack", 405),
        ("/api/alerts", 405),
    ] {
        assert_eq!(gateway.post(path, anna).status, expected, "{path}");
    }
    assert_eq!(gateway.get("/api/alerts?before=x").0, 400);

    // Invalid and unknown acknowledgements were not passed on to anybody, and the gateway still works.
    device.publish("marker", "");
    assert_eq!(watcher.receive().topic, "marker");
    assert_eq!(gateway.alerts(), std::slice::from_ref(&raised));
    assert_eq!(retained(&gateway, "alerts/tank/level/limit"), raised);
    assert!(refused(nobody.len() as u64 + others.len() as u64 + 1));
    // Only known fields are passed on.
    device.publish("alerts/tank/level/limit/ack", r#"{"by":" anna ","command":"open","more":{"a":[1]}}"#);
    // The event and the alert's new revision, in either order.
    let told = [next(&mut watcher), next(&mut watcher)];
    let of = |topic: &str| told.iter().find(|(told, _)| told == topic).map(|(_, payload)| payload);
    assert_eq!(of("alerts/tank/level/limit/ack"), Some(&json!({"by": "anna"})));
    assert_eq!(of("alerts/tank/level/limit").unwrap()["acknowledged_by"], "anna");
}

/// With more than one page of alerts, each is listed once, and the last one can be acknowledged like any other.
#[test]
fn any_number_of_alerts_is_listed_page_by_page() {
    const ALERTS: usize = 1_100;
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path());
    let mut device = Client::connect(gateway.mqtt, "device");
    for number in 0..ALERTS {
        let id = device.next_packet_id();
        device.send(&publish_packet(&format!("devices/tank {number:04}/level"), b"11", 1, false, false, id));
    }
    (0..ALERTS).for_each(|_| assert_eq!(device.packet().unwrap().first, 0x40));
    assert_eq!(gateway.status()["detection"]["alerts_raised"], ALERTS);

    let (mut devices, mut path, mut pages) = (Vec::new(), "/api/alerts".to_owned(), 0);
    loop {
        let answer = request(gateway.admin.unwrap(), &format!("GET {path}"), "", "");
        let alerts: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
        devices.extend(alerts.iter().map(|alert| alert["device"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(link) = answer.head.lines().find_map(|line| line.strip_prefix("link: <")) else { break };
        path = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    let all: Vec<String> = (0..ALERTS).map(|number| format!("tank {number:04}")).collect();
    assert!(devices == all && pages > 1, "{} devices on {pages} pages", devices.len());
    let last = format!("/api/alerts/tank%20{:04}/level/limit/ack", ALERTS - 1);
    assert_eq!(gateway.post(&last, r#"{"by":"anna"}"#).status, 202);
}

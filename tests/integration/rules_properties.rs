//! What rules see of the properties that MQTT 5 gives a message, in the real gateway.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::wire::{Connect, Message, Version, Will, Wire};

const RULES: &str = "[[stream]]\nname = \"all\"\n\
    [[rule]]\nname = \"copy\"\nsql = \"SELECT n, get_mqtt_property('content_type') AS type, get_mqtt_property('format_indicator') AS format, \
    get_mqtt_property('correlation_data') AS correlation, get_user_properties('k') AS k, get_user_properties() AS user FROM 'in/#'\"\n\
    republish = { topic = \"out/${get_or_default(get_mqtt_property('response_topic'), 'none')}\" }\nstream = \"all\"\n\
    [[rule]]\nname = \"again\"\nsql = \"SELECT n, get_mqtt_property('content_type') AS type, get_user_properties() AS user FROM 'out/#'\"\n\
    republish = { topic = \"again\" }\n";

/// A content type, an expiry, UTF-8, a response topic, correlation data that is no text, and user properties, one key of them twice.
const PROPERTIES: &[u8] =
    b"\x26\x00\x01k\x00\x01v\x03\x00\x0atext/plain\x02\x00\x00\x00\x3c\x01\x01\x08\x00\x03r/7\x26\x00\x01l\x00\x00\
    \x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01w";

fn copied(n: u64) -> Value {
    json!({
        "n": n,
        "type": "text/plain",
        "format": "UTF8_DATA",
        "correlation": "AP8=",
        "k": ["v", "w"],
        "user": [{"k": "v"}, {"l": ""}, {"k": "w"}],
    })
}

/// What the two rules make of one message, by its topic, in whichever order it comes.
fn next(wire: &mut Wire) -> BTreeMap<String, Value> {
    let message = |Message { topic, payload, .. }| (topic, serde_json::from_str(&payload).unwrap());
    (0..2).map(|_| message(wire.take())).collect()
}

fn both(topic: &str, copied: Value, again: Value) -> BTreeMap<String, Value> {
    BTreeMap::from([(topic.to_owned(), copied), ("again".to_owned(), again)])
}

#[test]
fn rules_copy_the_properties_of_publishes_and_wills_and_messages_of_rules_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), RULES, &[], &[]);
    let mut all = Wire::open(&gateway, &Connect::fleeting(Version::Five, "all"));
    all.subscribe("out/#", 0);
    all.subscribe("again", 0);
    let will = Will { topic: "in/will", payload: r#"{"n":2}"#, retain: false, delay_s: 0, properties: PROPERTIES };
    let five = Connect { will: Some(will), ..Connect::fleeting(Version::Five, "five") };
    let mut five = Wire::open(&gateway, &five);
    let mut four = Wire::open(&gateway, &Connect::fleeting(Version::Four, "four"));

    five.publish(&Message::new("in/a", r#"{"n":1}"#, 1, 1).with(PROPERTIES));
    assert_eq!(next(&mut all), both("out/r/7", copied(1), json!({"n": 1})));
    drop(five);
    assert_eq!(next(&mut all), both("out/r/7", copied(2), json!({"n": 2})));
    four.publish(&Message::new("in/a", r#"{"n":3}"#, 1, 1));
    assert_eq!(next(&mut all), both("out/none", json!({"n": 3}), json!({"n": 3})));

    gateway.stop();
    let records = crate::archive::records(&folder.path().join("state/archive"), "all");
    let payloads: Vec<&Value> = records.iter().map(|record| &record["payload"]).collect();
    assert_eq!(payloads, [&copied(1), &copied(2), &json!({"n": 3})]);
}

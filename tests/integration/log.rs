//! What the log says about alerts and undecodable publishes: each change once, no payload, and few lines in a storm.

use crate::client::{Client, publish_packet};
use crate::gateway::{Gateway, wait_until};

const CONFIG: &str = "alert.clear_after = '1s'\n[[limit]]\nmetric = 'temperature'\nmax = 8\nseverity = 'major'\n\
                      [[limit]]\nmetric = 'humidity'\nmax = 8\nseverity = 'minor'\n";

/// Lines of the log that contain all of these texts.
fn lines(gateway: &Gateway, texts: &[&str]) -> Vec<String> {
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    log.lines().filter(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned).collect()
}

#[test]
fn each_change_of_an_alert_is_a_line_and_a_storm_is_few() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    for value in ["12", "13", "14"] {
        device.publish("devices/freezer/temperature", value);
    }
    device.publish("devices/freezer/humidity", "12");
    device.publish("alerts/freezer/temperature/limit/ack", r#"{"by":"anna"}"#);
    let of = |texts: &[&str]| lines(&gateway, texts);
    wait_until("it is acknowledged in the log", || of(&["alert acknowledged", "anna"]).len() == 1);
    let raised = of(&["alert raised: temperature of freezer is 12; the limit is 8"]);
    assert!(raised.len() == 1 && raised[0].contains("WARN"), "{raised:?}");
    let minor = of(&["alert raised: humidity of freezer"]);
    assert!(minor.len() == 1 && minor[0].contains("INFO"), "{minor:?}");
    wait_until("it is cleared in the log", || {
        device.publish("devices/freezer/temperature", "5.0");
        of(&["INFO", "alert cleared: temperature of freezer"]).len() == 1
    });

    // Only the first of each kind is logged, and none of its payload.
    for _ in 0..50 {
        device.publish("devices/freezer/temperature", "{\"secret\":");
        device.publish("devices/freezer/temperature", "\"secret\"");
    }
    wait_until("both are in the log", || of(&["could not be decoded", "devices/freezer/temperature"]).len() == 2);
    assert_eq!((of(&["not_json"]).len(), of(&["secret"]).len()), (1, 0));

    // A name that tries to forge a line of its own.
    let mut forger = Client::connect(gateway.mqtt, "forger");
    let topic = "devices/x\n2026 ERROR forged\u{1b}[2J/temperature";
    forger.send(&publish_packet(topic, b"12", 1, false, false, 1));
    forger.expect_close();
    wait_until("its end is in the log", || of(&["a topic that holds a control character"]).len() == 1);
    assert!(of(&["forged"]).is_empty());

    for number in 0..300 {
        let id = device.next_packet_id();
        let topic = format!("devices/d{number}/temperature");
        device.send(&publish_packet(&topic, b"12", 1, false, false, id));
        assert_eq!(device.packet().unwrap().first, 0x40);
    }
    let log = gateway.log.clone();
    assert!(gateway.stop().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let alerts = text.lines().filter(|line| line.contains("alert ")).count();
    assert!(alerts < 100, "{alerts} lines of alerts");
    assert!(text.lines().any(|line| line.contains("more alerts raised that are major or critical")), "{text}");
    assert!(text.lines().any(|line| line.contains("more payloads could not be decoded")), "{text}");
}

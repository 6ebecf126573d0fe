//! A server of TLS that speaks another protocol than is offered.

use serde_json::Value;

use super::bridge;
use crate::client::Client;
use crate::fake_broker::{Broker, Dislikes, server_config};
use crate::gateway::{Gateway, wait_until};
use crate::kinesis::fleet::Fleet;
use crate::listeners::expect_success;
use crate::mqtt_sink::{self, expect_fleet, last_error, wait_for_delivery};

const MESSAGES: u32 = 20;

#[test]
fn a_protocol_that_the_server_does_not_speak_is_named_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    expect_success(&["cert", "init", certificates.to_str().unwrap(), "--device", "gw"], "");
    let [of_bridge, of_sink] =
        std::array::from_fn(|_| Broker::start_with(Dislikes::default(), Some(server_config(&certificates, "mqtt"))));
    let start = |alpn: &str| {
        let tls = format!(
            "alpn = ['{alpn}']\nca = 'certificates/ca.pem'\ncertificate = 'certificates/devices/gw.pem'\nkey = 'certificates/devices/gw.key'"
        );
        let url = |broker: &Broker| format!("mqtts://127.0.0.1:{}", broker.address.port());
        let text = format!(
            "[gateway]\nid = 'gw'\n{}[[bridge]]\nname = 'cloud'\nurl = '{}'\ntopics = ['status/# out 1']\n{tls}\n",
            mqtt_sink::config(&url(&of_sink), &tls),
            url(&of_bridge)
        );
        Gateway::start_configured(folder.path(), &text, &[], &[])
    };
    let names_it = |error: &str| {
        let error = error.to_lowercase();
        error.contains("alpn") || error.contains("applicationprotocol") || error.contains("application protocol")
    };
    let gateway = start("x-amzn-mqtt-ca");
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    let mut client = Client::connect(gateway.mqtt, "device");
    (0..MESSAGES).for_each(|number| client.publish("status/n", number.to_string()));
    for error in [&|| bridge(&gateway)["last_error"].as_str().unwrap_or_default().to_owned() as String, &|| {
        last_error(&gateway, "raw")
    }] as [&dyn Fn() -> String; 2]
    {
        wait_until("there is an error", || !error().is_empty());
        assert!(names_it(&error()), "{}", error());
    }
    assert!(gateway.stop().success());
    for broker in [&of_bridge, &of_sink] {
        let seen = broker.seen.lock().unwrap();
        assert!(!seen.accepted.is_empty() && seen.connections == 0, "no CONNECT goes to a server of something else");
    }
    // Somebody mends the configuration.
    let gateway = start("mqtt");
    wait_until("nothing waits", || bridge(&gateway)["waiting"] == 0 && bridge(&gateway)["sent"] == MESSAGES);
    wait_for_delivery(&gateway);
    expect_fleet(&of_sink.records(), 5);
    let numbers: Vec<Value> = of_bridge.records();
    assert_eq!(numbers, (0..MESSAGES).map(Value::from).collect::<Vec<_>>());
    for broker in [&of_bridge, &of_sink] {
        let seen = broker.seen.lock().unwrap();
        assert!(seen.alpn.iter().all(|name| name.as_deref() == Some(b"mqtt")), "{:?}", seen.alpn);
    }
}

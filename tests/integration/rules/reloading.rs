//! Rules that are changed while the gateway runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::start;
use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

/// Two rules of one set, whose messages say which set it is.
fn set(version: usize) -> String {
    let rule = |name: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsql = \"SELECT n, {version} AS version FROM 'load/in'\"\n\
             republish = {{ topic = \"load/{name}\", qos = 1 }}\n"
        )
    };
    rule("a") + &rule("b")
}

#[test]
fn no_message_sees_half_of_a_set_while_rules_are_reloaded_under_load() {
    const SETS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("set.toml"), set(0)).unwrap();
    let gateway = start(folder.path(), "");
    let mut subscriber = Client::connect(gateway.mqtt, "subscriber");
    subscriber.subscribe(&[("load/a", 1), ("load/b", 1)]);
    let is_over = AtomicBool::new(false);
    let (address, pid) = (gateway.mqtt, gateway.pid());
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut device = Client::connect(address, "device");
            let mut sent = 0u64;
            while !is_over.load(Ordering::Relaxed) {
                sent += 1;
                device.publish("load/in", json!({"n": sent}).to_string());
            }
            sent
        });
        let mut seen: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
        let mut newest = 0;
        let mut version = 0;
        let mut receive = |subscriber: &mut Client, newest: &mut u64| {
            let message = subscriber.receive();
            let payload: Value = serde_json::from_slice(&message.payload).unwrap();
            let of = payload["version"].as_u64().unwrap();
            *newest = (*newest).max(of);
            seen.entry(payload["n"].as_u64().unwrap()).or_default().push((message.topic, of));
        };
        while version < SETS {
            receive(&mut subscriber, &mut newest);
            if newest == version as u64 {
                version += 1;
                std::fs::write(rules.join("set.toml"), set(version)).unwrap();
                let hangup = std::process::Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap();
                assert!(hangup.success());
            }
        }
        while newest < SETS as u64 {
            receive(&mut subscriber, &mut newest);
        }
        is_over.store(true, Ordering::Relaxed);
        let sent = publishing.join().unwrap();
        while subscriber.wait_readable(Duration::from_secs(2)) {
            receive(&mut subscriber, &mut newest);
        }
        assert_eq!(seen.len() as u64, sent, "no message is lost");
        for (n, messages) in &seen {
            let [(a, of_a), (b, of_b)] = &messages[..] else { panic!("{n}: {messages:?}") };
            assert!(of_a == of_b && a != b, "{n}: {messages:?}");
        }
    });
}

#[test]
fn a_bad_file_leaves_the_rules_before_in_force_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    let good = "[[rule]]\nname = \"echo\"\nsql = \"SELECT 1 AS v FROM 'in'\"\nrepublish = { topic = \"out\" }\n";
    std::fs::write(rules.join("a.toml"), good).unwrap();
    let gateway = start(folder.path(), "");
    let mut client = Client::connect(gateway.mqtt, "client");
    client.subscribe(&[("out", 0)]);
    std::fs::write(
        rules.join("b.toml"),
        "[[rule]]\nname = \"bad\"\nsql = \"SELECT * FROM 'a' WHERE x LIKE 'b'\"\ndrop = true\n",
    )
    .unwrap();
    let error = || gateway.status()["rules"]["error"].as_str().map(str::to_owned);
    wait_until("the fault is shown", || error().is_some());
    let text = error().unwrap();
    assert!(text.contains("b.toml:3") && text.contains("LIKE is not part of AWS IoT SQL"), "{text}");
    let alert = raised_of_gateway(&gateway);
    assert!(alert["message"].as_str().unwrap().contains("LIKE"), "{alert}");
    client.publish("in", "1");
    assert_eq!(client.receive().payload, br#"{"v":1}"#);
    let reload = || {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_outrider"))
            .args(["reload", "--state"])
            .arg(folder.path().join("state"))
            .output()
            .unwrap();
        (command.status.success(), String::from_utf8_lossy(&command.stdout).into_owned())
    };
    assert!(!reload().0);
    std::fs::write(rules.join("b.toml"), good.replace("echo", "second").replace("1 AS v", "2 AS v")).unwrap();
    let (is_done, text) = reload();
    assert!(is_done && text.contains("2 rules"), "{text}");
    wait_until("the fault is over", || error().is_none());
    client.publish("in", "1");
    let mut payloads = [client.receive().payload, client.receive().payload];
    payloads.sort();
    assert_eq!(payloads, [br#"{"v":1}"#, br#"{"v":2}"#].map(|payload| payload.to_vec()));
}

fn raised_of_gateway(gateway: &Gateway) -> Value {
    let mut found = None;
    wait_until("the alert of the gateway", || {
        found = gateway.alerts().into_iter().find(|alert| alert["metric"] == "rules" && alert["device"] == "_gateway");
        found.is_some()
    });
    found.expect("just found")
}

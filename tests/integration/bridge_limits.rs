//! Bridges between two gateways: what there is no room for, and what a bridge that is gone has left.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::ports::free_port;

fn config(name: &str, port: u16, more: &str) -> String {
    format!("[[bridge]]\nname = '{name}'\nurl = 'mqtt://127.0.0.1:{port}'\n{more}\n")
}

fn bridge(gateway: &Gateway) -> Value {
    gateway.status()["bridges"][0].clone()
}

/// More commands than may wait, or may be unacknowledged beside.
const TOO_MANY: u64 = 256 + 40;

#[test]
fn more_commands_than_may_wait_hold_up_no_other_message_and_none_is_lost() {
    let (there_folder, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let there = Gateway::start(there_folder.path(), &[], &[]);
    let of_clock = |clock: &str| {
        let topics = "topics = ['commands/# in 1', 'news/# in 1']\ncommands = ['commands/#']\nkeep_alive = '5s'";
        config("cloud", there.mqtt.port(), &format!("{topics}\ncommand_clock = '{clock}'"))
    };
    std::fs::write(folder.path().join("unset"), of_clock("synced")).unwrap();
    let gateway = Gateway::start_test(folder.path(), "bridge_limits::a_gateway_whose_clock_is_not_set");
    wait_until("the bridge is connected", || bridge(&gateway)["connected"] == true);
    let mut client = Client::connect(there.mqtt, "fleet");
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + 3_600_000;
    for number in 0..TOO_MANY {
        client.publish("commands/door", format!(r#"{{"id":"{number}","expires_at_ms":{later}}}"#));
    }
    client.publish("news/a", "x");
    client.publish("commands/door", r#"{"id":"at any time"}"#);
    wait_until("the others come in", || bridge(&gateway)["received"] == 2);
    let counted = bridge(&gateway);
    assert_eq!(
        (&counted["commands_waiting"], &counted["commands_without_room"], &counted["commands"]),
        (&json!(256), &json!(TOO_MANY - 256), &json!(1))
    );
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), &of_clock("system"), &[], &[]);
    wait_until("each is published once", || bridge(&gateway)["commands"] == TOO_MANY);
    // It was not acknowledged, because it stood behind commands without room.
    wait_until("what was published comes again", || bridge(&gateway)["commands_repeated"] == 1);
    let counted = bridge(&gateway);
    assert_eq!((&counted["commands_waiting"], &counted["commands_without_room"]), (&json!(0), &json!(0)));
}

#[test]
#[ignore = "a gateway that other tests start"]
fn a_gateway_whose_clock_is_not_set() {
    crate::gateway::run_configured_in_this_process("unset", |settings| settings.is_synchronised = || false);
}

#[test]
fn what_a_bridge_that_is_gone_has_left_is_counted() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let of_name = |name: &str| config(name, port, "topics = ['status/# out 1']");
    let gateway = Gateway::start_configured(folder.path(), &of_name("old"), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (0..5).for_each(|number| client.publish("status/n", number.to_string()));
    wait_until("they wait", || bridge(&gateway)["waiting"] == 5);
    gateway.kill();
    // The control: with its name nothing is dropped.
    let gateway = Gateway::start_configured(folder.path(), &of_name("old"), &[], &[]);
    wait_until("they still wait", || bridge(&gateway)["waiting"] == 5);
    assert_eq!(gateway.status()["mqtt"]["messages_dropped"], 0);
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), &of_name("new"), &[], &[]);
    // Clients are served once that is restored which was stored.
    let publish = |gateway: &Gateway| Client::connect(gateway.mqtt, "device").publish("status/n", "5");
    publish(&gateway);
    assert_eq!(gateway.status()["mqtt"]["messages_dropped"], 5);
    wait_until("only the new one waits", || bridge(&gateway)["waiting"] == 1);
    // What is gone is forgotten with a commit.
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), &of_name("new"), &[], &[]);
    publish(&gateway);
    assert_eq!(gateway.status()["mqtt"]["messages_dropped"], 0, "once");
}

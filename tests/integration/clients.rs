//! Other makers' clients: what their users do works. `tests/setup.d/mqtt-clients` installs them.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};
use crate::ports::free_port;

const SETUP: &str = "is needed; tests/run installs it, or tests/setup.d/mqtt-clients alone";

fn start() -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    (folder, gateway)
}

fn mosquitto(program: &str, gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &gateway.mqtt.port().to_string(), "-V", "311"]).args(arguments);
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{:?} {SETUP}: {error}", command.get_program()))
}

pub fn publish(gateway: &Gateway, arguments: &[&str]) {
    let output = run(mosquitto("mosquitto_pub", gateway, arguments));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A `mosquitto_sub` that prints `topic retain qos payload` of each message.
pub struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    /// Returns when it is subscribed, according to its debug output.
    pub fn start(gateway: &Gateway, arguments: &[&str]) -> Subscriber {
        let subscribe = mosquitto("mosquitto_sub", gateway, &["-F", "%t %r %q %p", "-d"]);
        // Line-buffered: otherwise the message about its subscription would stay in its buffer.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(subscribe.get_program()).args(subscribe.get_args());
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("mosquitto_sub {SETUP}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_subscribed = |line: &String| line.starts_with("Subscribed") || line.contains("received SUBACK");
        let found = lines.by_ref().map(|line| line.unwrap()).find(is_subscribed);
        assert!(found.is_some(), "mosquitto_sub ended before it was subscribed");
        Subscriber { child, lines }
    }

    pub fn next(&mut self) -> String {
        let is_message = |line: &String| !line.starts_with("Client ") && !line.starts_with("Subscribed");
        self.lines.by_ref().map(|line| line.unwrap()).find(is_message).expect("a message")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mosquitto_publishes_and_subscribes() {
    let (_folder, gateway) = start();
    let mut all = Subscriber::start(&gateway, &["-t", "devices/#", "-t", "state/#", "-q", "1", "-k", "5"]);
    publish(&gateway, &["-t", "devices/a/t", "-m", "21.5", "-q", "1"]);
    assert_eq!(all.next(), "devices/a/t 0 1 21.5");
    publish(&gateway, &["-t", "devices/a/t", "-m", "22", "-q", "0"]);
    assert_eq!(all.next(), "devices/a/t 0 0 22");
    publish(&gateway, &["-t", "state/a", "-m", "on", "-q", "1", "-r"]);
    assert_eq!(all.next(), "state/a 0 1 on");
    let mut late = Subscriber::start(&gateway, &["-t", "state/#", "-q", "0"]);
    assert_eq!(late.next(), "state/a 1 0 on");
    publish(&gateway, &["-t", "state/a", "-n", "-q", "1", "-r"]);
    assert_eq!(late.next(), "state/a 0 0 ");
    let mut later = Subscriber::start(&gateway, &["-t", "state/#", "-t", "end"]);
    publish(&gateway, &["-t", "end", "-m", "x"]);
    assert_eq!(later.next(), "end 0 0 x", "removed");
    wait_until("both readings", || gateway.status()["received"]["accepted"] == 2);

    let will = ["-t", "none", "--will-topic", "wills/w", "--will-payload", "gone", "--will-qos", "1"];
    let mut watcher = Subscriber::start(&gateway, &["-t", "wills/#", "-q", "1"]);
    // Dropping it kills it.
    drop(Subscriber::start(&gateway, &will));
    assert_eq!(watcher.next(), "wills/w 0 1 gone");
}

#[test]
fn mosquitto_gets_what_it_missed() {
    let (_folder, gateway) = start();
    let arguments = ["-i", "keeper", "-c", "-t", "devices/#", "-q", "1"];
    drop(Subscriber::start(&gateway, &arguments));
    wait_until("its end", || gateway.status()["mqtt"]["connections"] == 0);
    for value in ["1.0", "2.0", "3.0"] {
        publish(&gateway, &["-t", "devices/a/t", "-m", value, "-q", "1"]);
    }
    let output = run(mosquitto("mosquitto_sub", &gateway, &[&arguments[..], &["-C", "3", "-W", "30"]].concat()));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1.0\n2.0\n3.0\n");
    let second = Subscriber::start(&gateway, &["-i", "keeper", "-t", "devices/#", "-q", "1"]);
    let mut taker = Client::connect(gateway.mqtt, "keeper");
    taker.ping();
    drop(second);
}

#[test]
fn mosquitto_speaks_version_5_and_qos_2() {
    let (_folder, gateway) = start();
    let of = |program: &str, arguments: &[&str]| {
        let mut command = mosquitto(program, &gateway, arguments);
        // The last of these counts.
        command.args(["-V", "5"]);
        command
    };
    let mut watcher = Subscriber::start(&gateway, &["-t", "devices/#", "-q", "2"]);
    let said = ["-t", "devices/a/t", "-m", "21.5", "-q", "2", "-D", "publish", "user-property", "road", "dry"];
    assert!(run(of("mosquitto_pub", &said)).status.success());
    assert_eq!(watcher.next(), "devices/a/t 0 2 21.5");
    publish(&gateway, &["-t", "devices/a/t", "-m", "22", "-q", "2", "-r"]);
    assert_eq!(watcher.next(), "devices/a/t 0 2 22");
    let found = run(of("mosquitto_sub", &["-t", "devices/#", "-q", "2", "-C", "1", "-F", "%t %r %q %p", "-W", "30"]));
    assert_eq!(String::from_utf8_lossy(&found.stdout), "devices/a/t 1 2 22\n");
    wait_until("both readings", || gateway.status()["received"]["accepted"] == 2);
}

/// A broker of another maker in front, with the settings that it has by itself.
#[test]
fn a_bridge_of_mosquitto_brings_readings_in_and_messages_out() {
    let (folder, gateway) = start();
    let config = folder.path().join("bridge.conf");
    let port = free_port();
    let address = gateway.mqtt;
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nconnection outrider\naddress {address}\ntopic devices/# both 1\n"
    );
    std::fs::write(&config, text).unwrap();
    let broker = Path::new("/usr/sbin/mosquitto");
    let mut bridge = Command::new(broker)
        .args(["-c", config.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} {SETUP}: {error}", broker.display()));
    wait_until("the bridge", || gateway.status()["mqtt"]["connections"] == 1);
    let behind = |program: &str| {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1"]);
        command
    };
    wait_until("a reading", || {
        let mut publisher = behind("mosquitto_pub");
        publisher.args(["-t", "devices/a/t", "-m", "21.5"]);
        run(publisher);
        gateway.status()["received"]["accepted"].as_u64() >= Some(1)
    });
    let mut listener = behind("mosquitto_sub");
    listener.args(["-t", "devices/out/#", "-C", "1", "-W", "30"]).stdout(Stdio::piped());
    let listener = listener.spawn().unwrap();
    let mut device = Client::connect(gateway.mqtt, "device");
    let told = std::thread::spawn(move || listener.wait_with_output().unwrap().stdout);
    wait_until("a message", || {
        device.publish("devices/out/t", "1.5");
        told.is_finished()
    });
    assert_eq!(told.join().unwrap(), b"1.5\n");
    let accepted = gateway.status()["mqtt"]["publishes_qos_1"].as_u64().unwrap();
    device.publish("devices/out/t", "2.5");
    assert_eq!(gateway.status()["mqtt"]["publishes_qos_1"], accepted + 1, "nothing comes back");
    bridge.kill().unwrap();
    bridge.wait().unwrap();
}

#[test]
fn a_version_that_is_not_served_is_logged_once_a_second() {
    let (_folder, gateway) = start();
    let log = || std::fs::read_to_string(&gateway.log).unwrap();
    for _ in 0..20 {
        let mut other = Client::raw(gateway.mqtt);
        other.send(b"\x10\x0f\x00\x04MQTT\x07\x02\x00\x3c\x00\x03abc");
        assert_eq!(other.packet().unwrap().body[..2], [0, 0x84], "in the form of version 5");
        other.expect_close();
    }
    let told = "protocol level 7; MQTT 3.1 (level 3), 3.1.1 (4) and 5 are served";
    wait_until("a line in the log", || log().contains(told));
    assert!(log().matches("protocol level").count() < 20);
}

/// Runs the scenarios of these names, or all.
fn paho(gateway: &Gateway, scenarios: &[&str]) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let python = tests.join(".cache/venv/bin/python");
    assert!(python.exists(), "paho-mqtt in {} {SETUP}", python.display());
    let mut command = Command::new(python);
    command.arg(tests.join("clients/paho_client.py")).arg(gateway.mqtt.port().to_string()).args(scenarios);
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\n{}", std::fs::read_to_string(&gateway.log).unwrap());
}

#[test]
fn paho_does_all_that_its_users_do() {
    let (_folder, gateway) = start();
    paho(&gateway, &[]);
    assert_eq!(gateway.status()["received"]["undecodable"], 0, "the CBOR payload is read");
}

#[test]
fn paho_finds_its_sessions_after_a_kill() {
    let (folder, gateway) = start();
    paho(&gateway, &["before_a_kill"]);
    gateway.kill();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    paho(&gateway, &["after_a_kill"]);
}

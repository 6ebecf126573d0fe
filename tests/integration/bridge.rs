//! Bridges, between the real gateway and a real Mosquitto. `tests/setup.d/mqtt-clients` installs it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::{DEADLINE, Gateway, wait_until};
use crate::ports::free_port;

/// Long enough for a message that should not come to come all the same, behind one that comes.
const QUIET: Duration = Duration::from_millis(300);

/// A Mosquitto that keeps what it has on disk.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Path, port: u16, more: &str) -> Mosquitto {
        let data = folder.join("mosquitto");
        std::fs::create_dir_all(&data).unwrap();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\nautosave_interval 1\n{more}\n",
            data.display()
        );
        let file = folder.join(format!("mosquitto-{port}.conf"));
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(folder.join("mosquitto.log")).unwrap();
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&file)
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto is needed; tests/run installs it: {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("mosquitto", || TcpStream::connect(address).is_ok());
        Mosquitto { child, port }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-V", "5", "-q", "1"]).args(arguments);
        command
    }

    fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let with = if payload.is_empty() { vec!["-n"] } else { vec!["-m", payload] };
        let output = self.command("mosquitto_pub", &[&["-t", topic][..], &with, more].concat()).output().unwrap();
        assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn subscribe(&self, filter: &str) -> Listening {
        Listening::start(self.command("mosquitto_sub", &["-t", filter]))
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `mosquitto_sub`: lines of `topic retain payload`.
struct Listening {
    child: Child,
    lines: Receiver<String>,
}

impl Listening {
    fn start(subscribe: Command) -> Listening {
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(subscribe.get_program()).args(subscribe.get_args()).args(["-F", "%t %r %p", "-d"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let listening = Listening { child, lines };
        let began = Instant::now();
        while !listening.lines.recv_timeout(DEADLINE).unwrap().starts_with("Subscribed") {
            assert!(began.elapsed() < DEADLINE);
        }
        listening
    }

    fn of_gateway(gateway: &Gateway, filter: &str) -> Listening {
        let mut command = Command::new("mosquitto_sub");
        let port = gateway.mqtt.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-t", filter]);
        Listening::start(command)
    }

    fn within(&self, time: Duration) -> Option<String> {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("Client ") || line.starts_with("Subscribed") => {}
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("mosquitto_sub has ended"),
            }
        }
    }

    fn next(&self) -> String {
        self.within(DEADLINE).expect("a message")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(port: u16, more: &str) -> String {
    format!("[[bridge]]\nname = 'cloud'\nurl = 'mqtt://127.0.0.1:{port}'\nkeep_alive = '5s'\n{more}\n")
}

fn bridge(gateway: &Gateway) -> Value {
    gateway.status()["bridges"][0].clone()
}

fn wait_connected(gateway: &Gateway) {
    wait_until("the bridge is connected", || bridge(gateway)["connected"] == true);
}

const TOPICS: &str = r#"topics = ['commands/# in 1 "" fleet/truck-1/', 'status/# out 1 "" fleet/truck-1/']"#;

#[test]
fn topics_pass_both_ways_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port, TOPICS), &[], &[]);
    wait_connected(&gateway);
    let (there, here) = (mosquitto.subscribe("fleet/#"), Listening::of_gateway(&gateway, "commands/#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("status/door", "open");
    assert_eq!(there.next(), "fleet/truck-1/status/door 0 open");
    client.publish("other/door", "open");
    mosquitto.publish("fleet/truck-2/commands/door", "not ours", &[]);
    mosquitto.publish("fleet/truck-1/commands/door", "close", &[]);
    assert_eq!(here.next(), "commands/door 0 close");
    // That one, and the one for another truck: none of ours besides.
    assert_eq!(there.next(), "fleet/truck-2/commands/door 0 not ours");
    assert_eq!(there.next(), "fleet/truck-1/commands/door 0 close");
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
    wait_until("both are counted", || {
        let bridge = bridge(&gateway);
        (&bridge["sent"], &bridge["received"]) == (&json!(1), &json!(1))
    });
    let status = String::from_utf8(
        Command::new(env!("CARGO_BIN_EXE_outrider"))
            .args(["status", "--state"])
            .arg(folder.path().join("state"))
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert!(status.contains("cloud: connected to mqtt://127.0.0.1:"), "{status}");
}

/// A session at Mosquitto for everything of the fleet, which is kept while nobody is there.
fn keep_all(mosquitto: &Mosquitto) {
    let output = mosquitto
        .command("mosquitto_sub", &["-c", "-i", "keeper", "-t", "fleet/#", "-E", "-x", "3600"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What that session has kept: exactly these payloads, some of them maybe more than once.
fn expect_kept(mosquitto: &Mosquitto, expected: std::ops::Range<u32>) {
    let mut command = mosquitto.command("mosquitto_sub", &["-c", "-i", "keeper", "-t", "fleet/#", "-x", "3600"]);
    command.args(["-W", "5"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, expected.collect::<Vec<_>>());
}

#[test]
fn what_is_published_while_the_other_broker_is_away_arrives_also_after_a_kill() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mosquitto = Mosquitto::start(folder.path(), port, "max_queued_messages 0");
    keep_all(&mosquitto);
    mosquitto.stop();
    // The other broker has not been reached once.
    let gateway = Gateway::start_configured(folder.path(), &config(port, TOPICS), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (0..150).for_each(|number| client.publish("status/n", number.to_string()));
    wait_until("they wait", || bridge(&gateway)["waiting"] == 150);
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), &config(port, TOPICS), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (150..200).for_each(|number| client.publish("status/n", number.to_string()));
    let mosquitto = Mosquitto::start(folder.path(), port, "max_queued_messages 0");
    wait_until("all of it is away", || bridge(&gateway)["waiting"] == 0 && bridge(&gateway)["connected"] == true);
    expect_kept(&mosquitto, 0..200);
    // A restart of the other one in the middle.
    (200..250).for_each(|number| client.publish("status/n", number.to_string()));
    mosquitto.stop();
    (250..300).for_each(|number| client.publish("status/n", number.to_string()));
    let mosquitto = Mosquitto::start(folder.path(), port, "max_queued_messages 0");
    wait_connected(&gateway);
    wait_until("all of it is away", || bridge(&gateway)["waiting"] == 0);
    expect_kept(&mosquitto, 200..300);
    assert_eq!(bridge(&gateway)["dropped"], 0);
}

const COMMANDS: &str = r#"topics = ['commands/# in 1 "" fleet/truck-1/', 'status/# out 1 "" fleet/truck-1/']
commands = ['commands/#']
command_clock = 'system'"#;

fn now_ms() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_command_comes_once_and_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let config = config(mosquitto.port, COMMANDS);
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    let topic = "fleet/truck-1/commands/door";
    mosquitto.publish(topic, r#"{"id":"a"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"a","again":true}"#, &[]);
    mosquitto.publish(topic, &format!(r#"{{"id":"late","expires_at_ms":{}}}"#, now_ms() - 1), &[]);
    mosquitto.publish(topic, r#"{"id":"unreadable","expires_at_ms":"soon"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"state"}"#, &["-r"]);
    mosquitto.publish(topic, &format!(r#"{{"id":"b","expires_at_ms":{}}}"#, now_ms() + 3_600_000), &[]);
    mosquitto.publish(topic, "without", &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"a"}"#);
    assert!(here.next().starts_with(r#"commands/door 0 {"id":"b""#));
    assert_eq!(here.next(), "commands/door 0 without");
    let expected = json!({ "expired": 1, "retained": 1, "unreadable_expiry": 1 });
    wait_until("all are counted", || bridge(&gateway)["commands_refused"] == expected);
    let counted = bridge(&gateway);
    let of = |key: &str| counted[key].as_u64().unwrap();
    assert_eq!((of("commands"), of("commands_repeated"), of("commands_without_id")), (2, 1, 1));
    drop(here);
    // The ids outlive the process, and the session at the other broker.
    gateway.kill();
    mosquitto.publish(topic, r#"{"id":"a","after":"a kill"}"#, &[]);
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    let here = Listening::of_gateway(&gateway, "commands/#");
    wait_connected(&gateway);
    mosquitto.publish(topic, r#"{"id":"b","after":"a kill"}"#, &[]);
    mosquitto.publish(topic, r#"{"id":"c"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"c"}"#);
    assert_eq!(bridge(&gateway)["commands_repeated"], 2);
}

/// Killed whenever it is, the gateway has published each command once, although all of them come more than once.
#[test]
fn a_command_comes_once_over_kills_at_any_moment() {
    const COUNT: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let config = config(mosquitto.port, COMMANDS);
    let device = |gateway: &Gateway, more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        let port = gateway.mqtt.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-c", "-i", "door", "-x", "3600"]);
        command.args(["-t", "commands/#"]).args(more).output().unwrap()
    };
    let mut gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    assert!(device(&gateway, &["-E"]).status.success());
    wait_connected(&gateway);
    for number in 0..COUNT {
        let payload = format!(r#"{{"id":{number}}}"#);
        // Twice, so that it comes again even if its acknowledgement was on its way.
        mosquitto.publish("fleet/truck-1/commands/door", &payload, &["--repeat", "2"]);
        gateway.kill();
        gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
        wait_connected(&gateway);
    }
    mosquitto.publish("fleet/truck-1/commands/door", r#"{"id":"last"}"#, &[]);
    wait_until("the last one is here", || bridge(&gateway)["commands"].as_u64() >= Some(1));
    let expected: String = (0..COUNT).map(|number| format!("{{\"id\":{number}}}\n")).collect();
    // One more than there are: it waits for it in vain.
    let got = device(&gateway, &["-C", &(COUNT + 2).to_string(), "-W", "5"]);
    assert_eq!(String::from_utf8(got.stdout).unwrap(), expected + "{\"id\":\"last\"}\n");
}

#[test]
fn it_subscribes_again_when_the_other_broker_has_lost_its_session() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mosquitto = Mosquitto::start(folder.path(), port, "");
    let gateway = Gateway::start_configured(folder.path(), &config(port, COMMANDS), &[], &[]);
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    mosquitto.stop();
    wait_until("the loss is noticed", || bridge(&gateway)["connected"] == false);
    std::fs::remove_dir_all(folder.path().join("mosquitto")).unwrap();
    let mosquitto = Mosquitto::start(folder.path(), port, "");
    wait_connected(&gateway);
    mosquitto.publish("fleet/truck-1/commands/door", r#"{"id":"a"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"a"}"#);
}

/// Commands reach devices that are away, and do not after their time.
#[test]
fn commands_wait_for_devices_in_their_sessions_but_not_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port, COMMANDS), &[], &[]);
    wait_connected(&gateway);
    let port = gateway.mqtt.port().to_string();
    let device = |more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "5",
            "-q",
            "1",
            "-c",
            "-i",
            "door",
            "-x",
            "3600",
            "-t",
            "commands/#",
        ]);
        command.args(more);
        command.output().unwrap()
    };
    assert!(device(&["-E"]).status.success());
    let topic = "fleet/truck-1/commands/door";
    let expires_at_ms = now_ms() + 1_500;
    mosquitto.publish(topic, &format!(r#"{{"id":"soon","expires_at_ms":{expires_at_ms}}}"#), &[]);
    mosquitto.publish(topic, r#"{"id":"stays"}"#, &[]);
    wait_until("both are here", || bridge(&gateway)["commands"] == 2);
    wait_until("one has expired", || now_ms() > expires_at_ms);
    let got = device(&["-C", "1", "-W", "10"]);
    assert_eq!(String::from_utf8(got.stdout).unwrap(), "{\"id\":\"stays\"}\n");
}

#[test]
fn commands_that_expire_wait_for_the_clock_and_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let unset = config(mosquitto.port, &COMMANDS.replace("'system'", "'synced'"));
    // The clock of a test machine may be synchronised, so a gateway says that it is not.
    std::fs::write(folder.path().join("unset"), unset).unwrap();
    let gateway = Gateway::start_test(folder.path(), "bridge::a_gateway_whose_clock_is_not_set");
    wait_connected(&gateway);
    let here = Listening::of_gateway(&gateway, "commands/#");
    let topic = "fleet/truck-1/commands/door";
    let (later, soon) = (now_ms() + 3_600_000, now_ms() + 1_000);
    for number in 0..100 {
        mosquitto.publish(topic, &format!(r#"{{"id":"{number}","expires_at_ms":{later}}}"#), &[]);
    }
    mosquitto.publish(topic, &format!(r#"{{"id":"soon","expires_at_ms":{soon}}}"#), &[]);
    mosquitto.publish(topic, r#"{"id":"now"}"#, &[]);
    assert_eq!(here.next(), r#"commands/door 0 {"id":"now"}"#);
    assert_eq!(bridge(&gateway)["commands_waiting"], 101);
    drop(here);
    gateway.kill();
    wait_until("one has expired", || now_ms() > soon);
    // Once the clock is believed, those that have not expired are published, each once.
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port, COMMANDS), &[], &[]);
    wait_until("they are judged", || {
        let counted = bridge(&gateway);
        (&counted["commands"], &counted["commands_refused"]["expired"]) == (&json!(100), &json!(1))
    });
    assert_eq!(bridge(&gateway)["commands_waiting"], 0);
}

#[test]
#[ignore = "a gateway that other tests start"]
fn a_gateway_whose_clock_is_not_set() {
    crate::gateway::run_configured_in_this_process("unset", |settings| settings.is_synchronised = || false);
}

#[test]
fn nothing_comes_back_by_a_line_for_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let gateway =
        Gateway::start_configured(folder.path(), &config(mosquitto.port, "topics = ['shared/# both 1']"), &[], &[]);
    wait_connected(&gateway);
    let (there, here) = (mosquitto.subscribe("shared/#"), Listening::of_gateway(&gateway, "shared/#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("shared/a", "from here");
    assert_eq!((there.next(), here.next()), ("shared/a 0 from here".to_owned(), "shared/a 0 from here".to_owned()));
    mosquitto.publish("shared/a", "from there", &[]);
    assert_eq!((there.next(), here.next()), ("shared/a 0 from there".to_owned(), "shared/a 0 from there".to_owned()));
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
}

#[test]
fn retained_messages_and_their_removal_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "");
    let lines = r#"topics = ['state/# out 1', 'config/# in 1']"#;
    mosquitto.publish("config/before", "1", &["-r"]);
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port, lines), &[], &[]);
    wait_connected(&gateway);
    let retain = |payload: &str| {
        let with = if payload.is_empty() { vec!["-n"] } else { vec!["-m", payload] };
        let port = gateway.mqtt.port().to_string();
        let base = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "state/a"];
        assert!(Command::new("mosquitto_pub").args(base).args(with).status().unwrap().success());
    };
    retain("on");
    wait_until("it is there", || bridge(&gateway)["sent"] == 1);
    assert_eq!(mosquitto.subscribe("state/#").next(), "state/a 1 on");
    retain("");
    wait_until("so is its removal", || bridge(&gateway)["sent"] == 2);
    assert_eq!(mosquitto.subscribe("state/#").within(QUIET), None);
    assert_eq!(Listening::of_gateway(&gateway, "config/#").next(), "config/before 1 1");
    mosquitto.publish("config/before", "", &["-r"]);
    wait_until("it is gone", || bridge(&gateway)["received"] == 2);
    assert_eq!(Listening::of_gateway(&gateway, "config/#").within(QUIET), None);
}

/// The other way round: Mosquitto is the one that has a bridge, to our broker.
#[test]
fn a_bridge_of_mosquitto_works_with_our_broker() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let connection = format!(
        "connection up\naddress 127.0.0.1:{}\nremote_clientid truck\ncleansession false\nnotifications false\ntopic status/# out 1\ntopic commands/# in 1\ntopic both/# both 1",
        gateway.mqtt.port()
    );
    let mosquitto = Mosquitto::start(folder.path(), free_port(), &connection);
    wait_until("it is connected", || gateway.status()["mqtt"]["connections"] == 1);
    let (there, here) = (mosquitto.subscribe("#"), Listening::of_gateway(&gateway, "#"));
    let mut client = Client::connect(gateway.mqtt, "device");
    mosquitto.publish("status/a", "open", &[]);
    assert_eq!((there.next(), here.next()), ("status/a 0 open".to_owned(), "status/a 0 open".to_owned()));
    client.publish("commands/a", "close");
    assert_eq!((there.next(), here.next()), ("commands/a 0 close".to_owned(), "commands/a 0 close".to_owned()));
    client.publish("both/a", "go");
    assert_eq!((there.next(), here.next()), ("both/a 0 go".to_owned(), "both/a 0 go".to_owned()));
    mosquitto.publish("both/a", "stop", &[]);
    assert_eq!((there.next(), here.next()), ("both/a 0 stop".to_owned(), "both/a 0 stop".to_owned()));
    assert_eq!((there.within(QUIET), here.within(QUIET)), (None, None));
}

#[test]
fn a_message_that_the_other_broker_never_takes_is_left_out_and_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(folder.path(), free_port(), "max_packet_size 2000");
    let gateway = Gateway::start_configured(folder.path(), &config(mosquitto.port, TOPICS), &[], &[]);
    wait_connected(&gateway);
    let there = mosquitto.subscribe("fleet/#");
    let mut client = Client::connect(gateway.mqtt, "device");
    client.publish("status/a", "x".repeat(3_000));
    client.publish("status/a", "small");
    assert_eq!(there.next(), "fleet/truck-1/status/a 0 small");
    wait_until("it is counted", || bridge(&gateway)["sent_refused"] == 1);
    assert_eq!((&bridge(&gateway)["connections"], &bridge(&gateway)["waiting"]), (&json!(1), &json!(0)));
}

#[test]
fn no_client_takes_the_session_of_a_bridge() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), &config(free_port(), TOPICS), &[], &[]);
    let mut command = Command::new("mosquitto_sub");
    let port = gateway.mqtt.port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-i", "$bridge/cloud", "-c", "-t", "x", "-E", "-W", "10"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not valid"), "{output:?}");
}

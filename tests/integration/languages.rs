//! MQTT.js and the Eclipse Paho clients for Java: what their users do works. `tests/setup.d/node-clients` and `tests/setup.d/java-clients`
//! install them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::gateway::{Gateway, wait_until};
use crate::listeners::{address, expect_success};

const CONFIG: &str = "[[listener]]\nlisten = '127.0.0.1:0'\ntls_certificate = 'certificates/server.pem'\n\
     tls_key = 'certificates/server.key'\nclient_ca = 'certificates/ca.pem'\n\
     [[listener]]\nlisten = '127.0.0.1:0'\nwebsocket = true\ntls_certificate = 'certificates/server.pem'\n\
     tls_key = 'certificates/server.key'\nclient_ca = 'certificates/ca.pem'\n\
     [[right]]\ntopic = 'devices/{cn}/#'\nallow = ['publish', 'subscribe']\n";

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Runs a program of `tests/clients` that does everything, and kills the gateway when it says so. `readings`: what it publishes until then.
fn run(mut command: Command, setup: &str, readings: u64) {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    expect_success(&["cert", "init", certificates.to_str().unwrap(), "--device", "truck-7"], "");
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &[]);
    command.arg(gateway.mqtt.port().to_string()).arg(&certificates);
    command.args([1, 2].map(|at| address(&gateway, at).port().to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_owned();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program:?} is needed; {setup}: {error}"));
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let said: Vec<String> = output.by_ref().take_while(|line| line != "kill").collect();
    let before = gateway.status();
    let log = gateway.log.clone();
    gateway.kill();
    let gateway = Gateway::start_configured(folder.path(), CONFIG, &[], &[]);
    // A program that has failed reads no more.
    let _ = writeln!(child.stdin.take().unwrap(), "{}", gateway.mqtt.port());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said:?}\n{error}\n{}", std::fs::read_to_string(log).unwrap());
    assert_eq!(before["received"]["accepted"], readings, "each once: {}", before["received"]);
    assert_eq!(before["mqtt"]["publishes_denied"], 2, "of another's device, with and without WebSocket");
    wait_until("the end of all connections", || gateway.status()["mqtt"]["connections"] == 0);
}

#[test]
fn mqtt_js_does_all_that_its_users_do() {
    let modules = tests().join(".cache/node-clients/node_modules");
    let setup = "tests/run installs what is missing, or tests/setup.d/node-clients alone";
    assert!(modules.join("mqtt").exists(), "MQTT.js is needed in {}; {setup}", modules.display());
    let mut command = Command::new("node");
    command.arg(tests().join("clients/node/client.cjs")).env("NODE_PATH", modules);
    run(command, setup, 8);
}

#[test]
fn paho_for_java_does_all_that_its_users_do() {
    let jars = tests().join(".cache/java-clients");
    let setup = "tests/run installs what is missing, or tests/setup.d/java-clients alone";
    assert!(jars.join("installed.sha256").exists(), "Paho is needed in {}; {setup}", jars.display());
    let mut command = Command::new("java");
    // It runs for seconds: what it compiles must not cost more than it saves.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp"]).arg(jars.join("*"));
    command.arg(tests().join("clients/java/Clients.java"));
    run(command, setup, 10);
}

//! Models at the edge, the whole way: a script trains and exports, the gateway loads what it wrote, and readings over MQTT become alerts over
//! MQTT. `tests/setup.d/models` installs scikit-learn.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::{Gateway, wait_until};

const MODEL: &str = "[[model]]\nname = \"pump\"\nfile = \"pump.json\"\nthreshold = 0.6\nfor = \"3s\"\nseverity = \"critical\"\n\
    device = \"pump-*\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script with the exporter at hand; what it prints.
fn python(arguments: &[&str]) -> String {
    let python: PathBuf = root().join("tests/.cache/models/bin/python");
    assert!(
        python.exists(),
        "scikit-learn is needed; tests/run installs what is missing, or tests/setup.d/models alone"
    );
    let mut command = Command::new(python);
    command.args(arguments).current_dir(root()).env("PYTHONPATH", root().join("cloud/models"));
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn trained(folder: &Path) -> String {
    python(&["tests/models/notebook.py", folder.to_str().unwrap()])
}

fn outrider(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_outrider")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A publish for each of these seconds ago, of both metrics at once.
fn publish(client: &mut Client, device: &str, is_failing: bool, seconds_ago: impl Iterator<Item = i64>) {
    let now_ms = outrider::gateway::now_ms();
    for ago in seconds_ago {
        let swing = (ago % 3 - 1) as f64 * 0.3;
        let shaking = if is_failing { (ago % 2) as f64 * 12.0 - 3.0 } else { 0.0 };
        let current = if is_failing { 22.0 } else { 10.0 };
        let reading = json!({"vibration": 2.0 + swing + shaking, "motor_current": current + swing, "ts_ms": now_ms - ago * 1_000});
        client.publish(&format!("devices/{device}"), reading.to_string());
    }
}

fn alerts_of_model(gateway: &Gateway) -> Vec<Value> {
    gateway.alerts().into_iter().filter(|alert| alert["kind"] == "pump").collect()
}

#[test]
fn from_a_script_that_trains_a_model_to_an_alert_on_mqtt() {
    let folder = tempfile::tempdir().unwrap();
    let printed = trained(folder.path());
    let gateway = Gateway::start_configured(folder.path(), MODEL, &[], &[]);
    let mut driver = Client::connect(gateway.mqtt, "driver");
    driver.subscribe(&[("alerts/pump-7/vibration/pump", 1)]);
    let mut pump = Client::connect(gateway.mqtt, "pump-7");
    publish(&mut pump, "pump-7", false, (20..50).rev());
    assert_eq!(alerts_of_model(&gateway), Vec::<Value>::new(), "a healthy pump; {printed}");
    // The control is not asked: it is no pump by its name.
    publish(&mut pump, "fan-7", true, (0..20).rev());
    publish(&mut pump, "pump-7", true, (0..20).rev());
    let message = driver.receive();
    assert_eq!(message.topic, "alerts/pump-7/vibration/pump");
    let alert: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&alert["severity"], &alert["state"]), (&json!("critical"), &json!("raised")));
    let text = alert["message"].as_str().unwrap();
    assert!(text.starts_with("the model pump says 0.") && text.ends_with("; its threshold is 0.6"), "{text}");
    for input in [" of vibration.deviation ", ", vibration.maximum ", ", motor_current.mean ", ", motor_current.slope "]
    {
        assert!(text.contains(input), "{input} is not in {text}");
    }
    assert_eq!(alerts_of_model(&gateway).len(), 1, "one for one pump");
    pump.publish("alerts/pump-7/vibration/pump/ack", r#"{"by":"driver"}"#);
    wait_until("acknowledged", || {
        alerts_of_model(&gateway).first().is_some_and(|alert| alert["acknowledged_by"] == "driver")
    });
    detect_would_no_longer_raise_it_without_the_model(folder.path());
}

/// Replays what the store holds, which a gateway is running on.
fn detect_would_no_longer_raise_it_without_the_model(folder: &Path) {
    let (with, without, state) = (folder.join("with.toml"), folder.join("without.toml"), folder.join("state"));
    std::fs::write(&with, MODEL).unwrap();
    std::fs::write(&without, "").unwrap();
    let [with, without, state] = [&with, &without, &state].map(|path| path.to_str().unwrap());
    let compare = |changed: &str, present: &str| {
        let from_store = ["detect", "--from-store", "--state", state, "--json"];
        let (is_done, told) = outrider(&[&from_store[..], &["--config", changed, "--against", present]].concat());
        assert!(is_done, "{told}");
        let rows = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_model = rows.filter(|row| row["kind"] == "pump").collect::<Vec<_>>();
        of_model
            .iter()
            .map(|row| json!([row["device"], row["new"], row["no_longer"], row["raised"]]))
            .collect::<Vec<_>>()
    };
    assert_eq!(compare(without, with), [json!(["pump-7", 0, 1, 1])]);
    assert_eq!(compare(with, without), [json!(["pump-7", 1, 0, 1])]);
}

#[test]
fn a_bad_file_of_a_model_leaves_the_one_before_in_use_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let model = |weight: f64, extra: &str| {
        format!(
            r#"{{"format":"outrider-model","version":1,"inputs":[{{"name":"t"}}],"estimator":{{"type":"dense","layers":[
               {{"weights":[[{weight}]],"bias":[0],"activation":"identity"}}]}}{extra}}}"#
        )
    };
    let file = folder.path().join("m.json");
    std::fs::write(&file, model(2.0, "")).unwrap();
    let config = "[[model]]\nname = \"m\"\nfile = \"m.json\"\n[[rule]]\nname = \"ask\"\n\
        sql = \"SELECT machinelearning_predict('m', '', *).predictedValue AS v FROM 'in'\"\nrepublish = { topic = \"out\" }\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "client");
    client.subscribe(&[("out", 0)]);
    let mut asked = |expected: &[u8]| {
        client.publish("in", r#"{"t":5}"#);
        assert_eq!(client.receive().payload, expected);
    };
    asked(br#"{"v":10}"#);
    let error = || gateway.status()["rules"]["error"].as_str().map(str::to_owned);
    // What it makes of its example is something else than it says.
    std::fs::write(&file, model(3.0, r#","examples":[{"inputs":[1],"outputs":[4]}]"#)).unwrap();
    wait_until("the fault is shown", || error().is_some());
    let text = error().unwrap();
    assert!(text.contains("m.json: $.examples[0]: the model makes [3.0] of this, and should make [4.0]"), "{text}");
    let state = folder.path().join("state");
    let reload = || outrider(&["reload", "--state", state.to_str().unwrap()]);
    assert!(!reload().0);
    asked(br#"{"v":10}"#);
    std::fs::write(&file, model(3.0, r#","examples":[{"inputs":[1],"outputs":[3]}]"#)).unwrap();
    let (is_done, text) = reload();
    assert!(is_done, "{text}");
    wait_until("the fault is over", || error().is_none());
    asked(br#"{"v":15}"#);
}

#[test]
fn recorded_readings_are_replayed_through_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let printed = trained(folder.path());
    let config = folder.path().join("outrider.toml");
    std::fs::write(&config, MODEL).unwrap();
    let readings = folder.path().join("readings.csv");
    let (config, readings) = (config.to_str().unwrap(), readings.to_str().unwrap());
    let (is_done, told) = outrider(&["rules", "backtest", "--rule", config, "--csv", readings]);
    assert!(is_done, "{told}");
    let line = told.lines().find(|line| line.starts_with("pump ")).unwrap_or_else(|| panic!("{told}"));
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1], "1920", "all readings; {told}");
    // The failure at the end is found, once.
    assert!(told.contains("pump-7"), "{told}");
    let unusual: Vec<Vec<&str>> = printed.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(unusual[1][0], "failing");
    assert!(unusual[1][2].parse::<usize>().unwrap() > 40, "{printed}");
    let (is_done, rows) = outrider(&["detect", "--config", config, "--severity-min", "critical", readings]);
    let of_model = rows.lines().filter(|row| row.contains(",pump,0.")).count();
    assert!(is_done && of_model > 50, "{rows}");
    let (is_done, told) = outrider(&["detect", "--config", config, "--explain", "pump-7/vibration", readings]);
    let last = told.lines().last().unwrap();
    assert!(
        is_done && last.starts_with("the model pump says 0.") && last.contains("above its threshold of 0.6"),
        "{told}"
    );
}

#[test]
fn what_the_exporter_promises_holds() {
    let printed = python(&["-m", "pytest", "-q", "-p", "no:cacheprovider", "cloud/models/tests"]);
    assert!(printed.contains(" passed") && !printed.contains("failed"), "{printed}");
}

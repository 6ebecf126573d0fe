//! `firmware-sim` against the gateway, in both versions of MQTT, with each quality of service, over TLS: what it counts as acknowledged is
//! what the gateway counts as accepted. So rumqttc, which its vehicles speak through, understands the gateway in both versions.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use firmware_sim::cli;
use serde_json::Value;

use crate::gateway::{DEADLINE, Gateway, wait_until};
use crate::listeners::{address, expect_success};

const ARGUMENTS_VARIABLE: &str = "OUTRIDER_TEST_FIRMWARE_SIM";

/// The program itself: its binary belongs to another package, which tests of this one cannot ask for.
#[test]
#[ignore = "run by the other tests of this file"]
fn program() {
    let Some(arguments) = std::env::var_os(ARGUMENTS_VARIABLE) else { return };
    let arguments: Vec<String> = serde_json::from_str(arguments.to_str().unwrap()).unwrap();
    let status = cli::exit_status(cli::run(cli::Arguments::parse_from(arguments)));
    std::process::exit(status.into());
}

/// How a run of the program ended.
struct Run {
    summary: Value,
    code: Option<i32>,
    told: String,
}

impl Run {
    fn count(&self, key: &str) -> u64 {
        self.summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {}, {}", self.summary, self.told))
    }
}

fn firmware_sim(arguments: &[&str]) -> Run {
    let words: Vec<_> = ["firmware-sim"].iter().chain(arguments).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "simulator::program", "--ignored", "--nocapture"]);
    command.env(ARGUMENTS_VARIABLE, serde_json::to_string(&words).unwrap());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("it does not end: {words:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (out, told) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    // The test's own output comes before the line.
    let line = out.find("{\"").map(|at| out[at..].lines().next().unwrap());
    let summary = line.map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    Run { summary, code: status.code(), told }
}

/// Certificates, users, and the configuration of a listener for each.
struct Site {
    folder: tempfile::TempDir,
}

/// The listeners of a site, as the ready line counts them.
#[derive(Clone, Copy, Debug)]
enum Listener {
    Certificates = 1,
    Passwords = 2,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        expect_success(&["cert", "init", &path("certificates"), "--device", "fleet"], "");
        expect_success(&["cert", "init", &path("others"), "--device", "fleet"], "");
        expect_success(&["passwd", &path("users"), "fleet"], "correct horse");
        std::fs::write(path("password"), "correct horse\n").unwrap();
        std::fs::write(path("wrong-password"), "battery staple\n").unwrap();
        Site { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A gateway with a state folder of its own, on which everybody who is let in may publish what the rights do not deny.
    fn gateway(&self, state: &Path, rights: &str) -> Gateway {
        let tls = format!(
            "listen = '127.0.0.1:0'\ntls_certificate = '{}'\ntls_key = '{}'\n",
            self.path("certificates/server.pem"),
            self.path("certificates/server.key")
        );
        let config = format!(
            "[[listener]]\n{tls}client_ca = '{}'\n[[listener]]\n{tls}users = '{}'\n{rights}\
             [[right]]\ntopic = 'vehicles/#'\nallow = ['publish']\n\
             [[right]]\ntopic = 'devices/#'\nallow = ['publish']\n",
            self.path("certificates/ca.pem"),
            self.path("users")
        );
        Gateway::start_configured(state, &config, &[], &[])
    }

    fn run(&self, gateway: &Gateway, listener: Listener, arguments: &[&str]) -> Run {
        let broker = format!("localhost:{}", address(gateway, listener as usize).port());
        let file = |name: &str| self.path(name);
        let mut words = vec![arguments[0].to_owned(), "--broker".to_owned(), broker];
        words.extend(["--ca".to_owned(), file("certificates/ca.pem")]);
        words.extend(match listener {
            Listener::Certificates => {
                let (certificate, key) =
                    (file("certificates/devices/fleet.pem"), file("certificates/devices/fleet.key"));
                ["--certificate".to_owned(), certificate, "--key".to_owned(), key]
            }
            Listener::Passwords => {
                ["--username".to_owned(), "fleet".to_owned(), "--password-file".to_owned(), file("password")]
            }
        });
        words.extend(arguments[1..].iter().map(|word| (*word).to_owned()));
        firmware_sim(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn accepted(gateway: &Gateway) -> u64 {
    gateway.status()["received"]["accepted"].as_u64().unwrap()
}

/// Both commands with both versions and each quality of service.
fn counts_agree_on(listener: Listener) {
    let site = Site::new();
    for (version, qos) in ["3.1.1", "5"].into_iter().flat_map(|version| ["0", "1", "2"].map(|qos| (version, qos))) {
        let state = tempfile::tempdir().unwrap();
        let gateway = site.gateway(state.path(), "");
        let how = ["--mqtt", version, "--qos", qos];
        let fleet = ["fleet", "--vehicles", "3", "--history", "40s", "--batch", "7", "--duration", "400ms"];
        let fleet = site.run(&gateway, listener, &[&fleet[..], &how].concat());
        let load = ["load", "--connections", "4", "--count", "300", "--window", "9"];
        let load = site.run(&gateway, listener, &[&load[..], &how].concat());
        let told =
            format!("{listener:?} {version} {qos}: {} {} {} {}", fleet.summary, fleet.told, load.summary, load.told);
        for run in [&fleet, &load] {
            assert_eq!(run.code, Some(0), "{told}");
            assert_eq!((&run.summary["mqtt"], run.summary["qos"].to_string()), (&version.into(), qos.to_owned()));
        }
        let (made, published) = (fleet.count("readings_made"), load.count("published"));
        assert!(made >= 600 && published == 300, "{told}");
        assert_eq!((fleet.count("connections_lost"), load.count("errors")), (0, 0), "{told}");
        let acknowledged = [&fleet.summary["readings_acknowledged"], &load.summary["acknowledged"]];
        if qos == "0" {
            assert_eq!(acknowledged, [&Value::Null; 2], "{told}");
            assert_eq!(fleet.count("readings_sent"), made, "{told}");
        } else {
            assert_eq!(acknowledged, [&Value::from(made), &Value::from(published)], "{told}");
        }
        wait_until("what was sent, or acknowledged, is accepted", || accepted(&gateway) == made + published);
    }
}

#[test]
fn what_is_acknowledged_is_what_is_accepted_with_a_certificate() {
    counts_agree_on(Listener::Certificates);
}

#[test]
fn what_is_acknowledged_is_what_is_accepted_with_a_password() {
    counts_agree_on(Listener::Passwords);
}

#[test]
fn what_version_5_refuses_is_not_counted_as_acknowledged() {
    let site = Site::new();
    let rights =
        "[[right]]\ntopic = 'vehicles/truck-02/#'\nallow = []\n[[right]]\ntopic = 'devices/d01/#'\nallow = []\n";
    for qos in ["1", "2"] {
        let state = tempfile::tempdir().unwrap();
        let gateway = site.gateway(state.path(), rights);
        // A window that is refused many times over.
        let fleet =
            ["fleet", "--vehicles", "2", "--history", "60s", "--batch", "1", "--window", "3", "--duration", "1s"];
        let how = ["--mqtt", "5", "--qos", qos];
        let fleet = site.run(&gateway, Listener::Certificates, &[&fleet[..], &how].concat());
        let load = ["load", "--connections", "2", "--count", "100", "--window", "3"];
        let load = site.run(&gateway, Listener::Certificates, &[&load[..], &how].concat());
        let told = format!("{qos}: {} {} {} {}", fleet.summary, fleet.told, load.summary, load.told);
        assert_eq!((fleet.code, load.code), (Some(1), Some(1)), "{told}");
        let (acknowledged, refused) = (fleet.count("readings_acknowledged"), fleet.count("readings_refused"));
        assert!(acknowledged >= 300 && refused >= 300, "{told}");
        assert_eq!(acknowledged + refused, fleet.count("readings_made"), "{told}");
        assert_eq!(
            (load.count("acknowledged"), load.count("refused"), load.count("unacknowledged")),
            (50, 50, 0),
            "{told}"
        );
        assert!(fleet.told.contains("NotAuthorized") && load.told.contains("0x87"), "{told}");
        assert_eq!(accepted(&gateway), acknowledged + 50, "{told}");
        assert_eq!(gateway.status()["mqtt"]["publishes_denied"], fleet.count("publishes_refused") + 50, "{told}");
    }
}

#[test]
fn a_gateway_that_lets_nobody_in_is_named_with_the_reason() {
    let site = Site::new();
    let state = tempfile::tempdir().unwrap();
    let gateway = site.gateway(state.path(), "");
    let broker = |listener: Listener| format!("localhost:{}", address(&gateway, listener as usize).port());
    let (certificates, passwords) = (broker(Listener::Certificates), broker(Listener::Passwords));
    let [ca, other_ca, wrong, right] =
        ["certificates/ca.pem", "others/ca.pem", "wrong-password", "password"].map(|name| site.path(name));
    let [other, other_key] = ["others/devices/fleet.pem", "others/devices/fleet.key"].map(|name| site.path(name));
    let cases: [(&[&str], [&str; 2]); 4] = [
        (
            &["--broker", &passwords, "--ca", &other_ca, "--username", "fleet", "--password-file", &right],
            ["UnknownIssuer"; 2],
        ),
        (&["--broker", &certificates, "--ca", &ca], ["CertificateRequired"; 2]),
        (&["--broker", &certificates, "--ca", &ca, "--certificate", &other, "--key", &other_key], ["UnknownCA"; 2]),
        (
            &["--broker", &passwords, "--ca", &ca, "--username", "fleet", "--password-file", &wrong],
            ["BadUserNamePassword", "refused with code 0x86"],
        ),
    ];
    for (access, [of_fleet, of_load]) in cases {
        let fleet = ["fleet", "--vehicles", "1", "--duration", "1s", "--drain", "1s", "--mqtt", "5"];
        let fleet = firmware_sim(&[&fleet[..], access].concat());
        assert_eq!(fleet.code, Some(1), "{access:?}: {}", fleet.told);
        assert!(fleet.told.contains("cannot connect") && fleet.told.contains(of_fleet), "{access:?}: {}", fleet.told);
        let load = ["load", "--connections", "1", "--count", "1", "--mqtt", "5"];
        let load = firmware_sim(&[&load[..], access].concat());
        assert_eq!(load.code, Some(1), "{access:?}: {}", load.told);
        assert!(load.told.contains(of_load), "{access:?}: {}", load.told);
    }
    assert_eq!(accepted(&gateway), 0);
    // A file that is wrong is the caller's fault.
    let empty = site.path("empty");
    std::fs::write(&empty, "").unwrap();
    let run = firmware_sim(&["load", "--broker", &passwords, "--ca", &empty]);
    assert!(run.code == Some(2) && run.told.contains("holds no certificate"), "{}", run.told);
}

#[test]
fn a_thousand_connections_shake_hands_and_publish() {
    let site = Site::new();
    let state = tempfile::tempdir().unwrap();
    let gateway = site.gateway(state.path(), "");
    let load = ["load", "--connections", "1000", "--count", "3000", "--window", "2", "--mqtt", "5"];
    let load = site.run(&gateway, Listener::Certificates, &load);
    assert_eq!(load.code, Some(0), "{} {}", load.summary, load.told);
    assert_eq!((load.count("acknowledged"), load.count("errors"), accepted(&gateway)), (3_000, 0, 3_000));
}

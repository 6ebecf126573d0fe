//! `outrider doctor`, on a gateway that is well and on set-ups that are not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fake_cloud::{FakeCloud, Faults, Settings};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::client::Client;
use crate::gateway::{Gateway, run_command, wait_until};
use crate::listeners::{address, expect_success, make_users, password_of};

/// What doctor says, and its exit code.
struct Said {
    code: i32,
    report: Value,
}

impl Said {
    /// The findings of a check: verdict and text, with the remedy behind it.
    fn of(&self, check: &str) -> Vec<(String, String)> {
        let findings = self.report["findings"].as_array().unwrap();
        let of_check = findings.iter().filter(|finding| finding["check"] == check);
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        of_check
            .map(|finding| (text(finding, "verdict"), text(finding, "found") + " -> " + &text(finding, "remedy")))
            .collect()
    }

    /// Checks that a check has a finding of this verdict with these words.
    fn expect(&self, check: &str, verdict: &str, words: &[&str]) {
        let findings = self.of(check);
        let is_it =
            |(found, text): &(String, String)| found == verdict && words.iter().all(|words| text.contains(words));
        assert!(findings.iter().any(is_it), "{check} {verdict} {words:?}: {:#}", self.report["findings"]);
    }

    fn bad(&self) -> Vec<String> {
        let findings = self.report["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["verdict"] == "bad").map(ToString::to_string).collect()
    }
}

/// Runs it with the configuration that was written for a gateway in this folder.
fn doctor(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    doctor_at(&folder.join("state"), folder, arguments, environment)
}

fn doctor_at(state: &Path, folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.args(["doctor", "--json", "--config"]).arg(folder.join("outrider.toml"));
    command.arg("--state").arg(state).args(arguments).envs(environment.iter().copied());
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    let output = command.env("OUTRIDER__ADMIN__LISTEN", "127.0.0.1:0").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    Said { code: output.status.code().unwrap(), report }
}

const FREE_PORT: (&str, &str) = ("OUTRIDER__MQTT__LISTEN", "127.0.0.1:0");

/// The same without a gateway, with a free port.
fn doctor_of(folder: &Path, config: &str) -> Said {
    std::fs::write(folder.join("outrider.toml"), config).unwrap();
    doctor(folder, &[], &[FREE_PORT])
}

/// Leaves a store behind.
fn run_once(folder: &Path) {
    let gateway = Gateway::start(folder, &[], &[]);
    Client::connect(gateway.mqtt, "device").publish("devices/tank/temp", "1.0");
    assert!(gateway.stop().success());
}

#[test]
fn a_gateway_that_is_well_is_said_to_be_and_nothing_is_left_of_the_trial() {
    let folder = tempfile::tempdir().unwrap();
    // However full the disk of the tests is.
    let config = "[[sink]]\nname = 'archive'\ntype = 'archive'\nfree_percent_min = 0\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    Client::connect(gateway.mqtt, "device").publish("devices/tank/temp", "1.0");
    let said = doctor(folder.path(), &[], &[FREE_PORT]);
    // The folder of the tests may be in memory, which is bad for a gateway.
    let bad = said.bad();
    assert!(bad.iter().all(|finding| finding.contains("\"file system\"")), "{bad:?}");
    assert_eq!(said.code, i32::from(!bad.is_empty()));
    for (check, words) in [
        ("configuration", "outrider.toml"),
        ("gateway", &format!("is ready (process {})", gateway.pid())),
        ("alerts", "none about itself"),
        ("state folder", "as everything in it"),
        ("store", " used; "),
        ("listener mqtt", &format!("has taken {}", gateway.mqtt)),
        ("rights", "somebody may publish"),
        ("broker by mqtt", "came back after"),
        ("sink archive", "files can be written"),
        ("delivery", "raw to archive: "),
    ] {
        said.expect(check, "well", &[words]);
    }
    let status = gateway.status();
    assert_eq!(status["received"]["accepted"], 1);
    assert_eq!((&status["unrouted"]["count"], &status["mqtt"]["publishes_qos_1"]), (&0.into(), &2.into()));
    wait_until("its client is gone", || gateway.status()["mqtt"]["connections"] == 0);
    // For people.
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.args(["doctor", "--state"]).arg(folder.path().join("state")).current_dir(folder.path());
    let text = String::from_utf8(command.envs([FREE_PORT]).output().unwrap().stdout).unwrap();
    assert!(text.contains("well     broker by mqtt: a publish was acknowledged after"), "{text}");
    assert!(text.lines().last().unwrap().contains(" bad, "), "{text}");
    assert!(gateway.stop().success());
}

#[test]
fn what_the_broker_is_tried_with_is_no_reading_whatever_routes_say() {
    let folder = tempfile::tempdir().unwrap();
    let config = "mqtt.unrouted = 'reject'\n[[route]]\ntopic = '{device}/{metric}'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let said = doctor(folder.path(), &[], &[FREE_PORT]);
    said.expect("broker by mqtt", "well", &["came back after"]);
    // The control: the route takes topics like that.
    Client::connect(gateway.mqtt, "device").publish("outrider-doctors/1", "{\"value\":1}");
    wait_until("it is stored", || gateway.status()["received"]["accepted"] == 1);
    let status = gateway.status();
    assert_eq!((&status["received"]["undecodable"], &status["unrouted"]["count"]), (&0.into(), &0.into()));
    assert!(gateway.stop().success());
}

#[test]
fn mistakes_of_the_configuration_are_told_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let said = doctor_of(folder.path(), "store.size_mx = '1GiB'\nmqtt.uncommitted_max = 0\n");
    assert_eq!((said.code, said.of("configuration").len()), (78, 2));
    said.expect("configuration", "bad", &["store.size_mx", "did you mean `size_max`?"]);
    said.expect("store", "skipped", &["the configuration comes first"]);
    let said = doctor_of(folder.path(), "[[sink]]\nname = 'k'\ntype = 'kafka'\nraw = 'r'\n");
    assert_eq!(said.code, 78);
    said.expect("configuration", "bad", &["`brokers` is missing"]);
    assert!(!said.of("CAs of the system").is_empty());
    let test = "[[route]]\ntopic = 'a/{device}'\nmetric = 't'\n\
                test = { topic = 'a/b', payload = '1.25', expect = [{ metric = 't', value = 2 }] }\n";
    let said = doctor_of(folder.path(), test);
    assert_eq!(said.code, 1);
    said.expect("configuration", "bad", &["comes not what is expected"]);
    assert!(!folder.path().join("state").exists(), "nothing was begun");
}

#[test]
fn a_gateway_that_is_gone_and_a_port_that_another_has_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let said = doctor_of(folder.path(), "");
    said.expect("gateway", "warning", &["no gateway has run yet", "start one"]);
    run_once(folder.path());
    let store = outrider::store::schema::store_path(&folder.path().join("state"));
    let before = std::fs::read(&store).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = doctor(folder.path(), &[], &[("OUTRIDER__MQTT__LISTEN", &address)]);
    assert_eq!(said.code, 1);
    said.expect("gateway", "bad", &["no gateway is running with its state in", "start it"]);
    let holder = format!("(process {})", std::process::id());
    said.expect(
        "listener mqtt",
        "bad",
        &[&address, "in use", &holder, "set mqtt.listen (--listen) to another address"],
    );
    said.expect("broker", "skipped", &["does not answer"]);
    said.expect("store", "well", &[" used; "]);
    assert_eq!(std::fs::read(&store).unwrap(), before, "it only looks");
    let away = doctor(folder.path(), &["--listen", "192.0.2.7:1883", "--insecure"], &[]);
    away.expect("listener mqtt", "bad", &["this machine has no address 192.0.2.7", "correct mqtt.listen"]);
}

#[test]
fn a_gateway_that_does_not_answer_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let signal = |name: &str| {
        let pid = gateway.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let said = doctor(folder.path(), &[], &[FREE_PORT]);
    signal("-CONT");
    assert_eq!(said.code, 1);
    said.expect("gateway", "bad", &["does not answer", "restart the gateway"]);
    assert!(gateway.stop().success());
}

#[test]
fn a_store_that_cannot_be_used_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    run_once(folder.path());
    let store = outrider::store::schema::store_path(&folder.path().join("state"));
    rusqlite::Connection::open(&store).unwrap().execute_batch("PRAGMA user_version=99").unwrap();
    doctor_of(folder.path(), "").expect("store", "bad", &["has version 99", "install the newer version"]);
    std::fs::remove_file(&store).unwrap();
    rusqlite::Connection::open(&store).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    let said = doctor_of(folder.path(), "");
    assert_eq!(said.code, 1);
    said.expect("store", "bad", &["of another program", "set store.path"]);
    std::fs::write(&store, vec![7; 100_000]).unwrap();
    doctor_of(folder.path(), "").expect("store", "bad", &["cannot open the store"]);
}

#[test]
fn the_newest_records_of_the_store_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = 'cloud'\ntype = 'http'\nurl = 'http://127.0.0.1:9/'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "device");
    (0..20).for_each(|_| client.publish("devices/tank/temp", "1.0"));
    assert!(gateway.stop().success());
    doctor_of(folder.path(), config).expect("store", "well", &["all of the newest 2"]);
    let store = outrider::store::schema::store_path(&folder.path().join("state"));
    let db = rusqlite::Connection::open(&store).unwrap();
    let newest = "SELECT max(id) FROM batch";
    db.execute(&format!("UPDATE batch SET \"check\" = \"check\" + 1 WHERE id = ({newest})"), []).unwrap();
    drop(db);
    let said = doctor_of(folder.path(), config);
    said.expect("store", "bad", &["1 piece of the newest", "outrider buffer verify"]);
    said.expect("delivery", "well", &["raw to cloud: 0 delivered, 20 records waiting, the oldest for "]);
    said.expect("sink cloud", "bad", &["HEAD at http://127.0.0.1:9: not reached", "look at the link"]);
}

/// Permissions do not stop root, so these are folders that nobody can use.
#[test]
fn a_state_folder_that_cannot_be_used_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "a file").unwrap();
    doctor_of(folder.path(), "").expect("state folder", "bad", &["is no folder"]);
    std::fs::remove_file(folder.path().join("state")).unwrap();
    let within = "/dev/null/outrider";
    let said = doctor_at(Path::new(within), folder.path(), &[], &[FREE_PORT]);
    said.expect("state folder", "bad", &[within]);

    run_once(folder.path());
    let lock = folder.path().join("state/outrider.lock");
    let uid = std::fs::metadata(&lock).unwrap().uid();
    if std::os::unix::fs::chown(&lock, Some(uid + 12_345), None).is_ok() {
        let said = doctor_of(folder.path(), "");
        let belongs = format!("outrider.lock belongs to {}", uid + 12_345);
        said.expect("state folder", "bad", &[&belongs, "stop the gateway, then chown -R"]);
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path().join("state"), open).unwrap();
    doctor_of(folder.path(), "").expect("state folder", "warning", &["can be written by others", "chmod go-w"]);
}

fn make_certificate(folder: &Path, (from, to): (i32, i32)) {
    let mut params = CertificateParams::new(vec!["gate.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[test]
fn certificates_that_have_expired_or_are_not_valid_yet_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[listener]]\nname = 'devices'\nlisten = '127.0.0.1:0'\nanonymous = true\n\
                  tls_certificate = 'server.pem'\ntls_key = 'server.key'\n";
    for (years, verdict, words) in [
        ((2000, 2010), "bad", "has expired"),
        ((2990, 3000), "bad", "is valid from 2990-01-01T00:00:00Z on only"),
        ((2000, 3000), "well", "is valid for"),
    ] {
        make_certificate(folder.path(), years);
        let said = doctor_of(folder.path(), config);
        said.expect("certificates", verdict, &["listener devices: ", "server.pem", words]);
        assert_eq!(said.of("certificates")[1].0, "warning", "others can read the key");
    }
    make_certificate(folder.path(), (2000, 3000));
    let other = std::fs::read(folder.path().join("server.key")).unwrap();
    make_certificate(folder.path(), (2000, 3000));
    std::fs::write(folder.path().join("server.key"), other).unwrap();
    let said = doctor_of(folder.path(), config);
    assert_eq!(said.code, 78);
    said.expect("configuration", "bad", &["the key does not belong to the certificate"]);
}

#[test]
fn listeners_are_tried_with_what_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    expect_success(&["cert", "init", &path("certificates"), "--device", "truck-7"], "");
    make_users(&folder.path().join("users"), &["alice"]);
    std::fs::write(path("right"), password_of("alice") + "\n").unwrap();
    std::fs::write(path("wrong"), "guess\n").unwrap();
    let tls =
        "listen = '127.0.0.1:0'\ntls_certificate = 'certificates/server.pem'\ntls_key = 'certificates/server.key'\n";
    let config = format!(
        "[[listener]]\nname = 'certificates'\n{tls}client_ca = 'certificates/ca.pem'\n\
         [[listener]]\nname = 'passwords'\n{tls}users = 'users'\n\
         [[listener]]\nname = 'pages'\n{tls}websocket = true\nanonymous = true\n\
         [[right]]\ntopic = 'outrider-doctor/#'\nwho = 'truck-7'\nallow = ['publish', 'subscribe']\n"
    );
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    assert!(address(&gateway, 1).port() > 0);
    let said = doctor(folder.path(), &[], &[FREE_PORT]);
    said.expect("broker by certificates", "skipped", &["give --certificate and --key"]);
    said.expect("broker by passwords", "skipped", &["give --username and --password-file"]);
    said.expect("broker by pages", "skipped", &["WebSocket"]);

    let device = (
        path("certificates/devices/truck-7.pem"),
        path("certificates/devices/truck-7.key"),
        path("certificates/ca.pem"),
    );
    let mut login = vec![
        "--certificate",
        &device.0,
        "--key",
        &device.1,
        "--ca",
        &device.2,
        "--username",
        "alice",
        "--password-file",
    ];
    let (right, wrong) = (path("right"), path("wrong"));
    login.push(&right);
    let said = doctor(folder.path(), &login, &[FREE_PORT]);
    said.expect("broker by certificates", "well", &["came back after"]);
    said.expect("broker by passwords", "well", &["no right to publish to outrider-doctor/#"]);
    *login.last_mut().unwrap() = &wrong;
    let said = doctor(folder.path(), &login, &[FREE_PORT]);
    assert_eq!(said.code, 1);
    assert_eq!(said.of("broker by passwords")[0].0, "bad", "{:?}", said.of("broker by passwords"));
    // Devices that trust another CA would not connect.
    expect_success(&["cert", "init", &path("others"), "--device", "x"], "");
    let other = path("others/ca.pem");
    login[5] = &other;
    let said = doctor(folder.path(), &login, &[FREE_PORT]);
    said.expect("broker by certificates", "bad", &["invalid peer certificate"]);
    assert!(gateway.stop().success());
}

#[test]
fn rights_that_lock_out_everybody_and_open_listeners_are_told() {
    let folder = tempfile::tempdir().unwrap();
    make_users(&folder.path().join("users"), &["alice"]);
    let config = "[[listener]]\nname = 'people'\nlisten = '127.0.0.1:0'\nusers = 'users'\n\
                  [[listener]]\nname = 'all'\nlisten = '0.0.0.0:0'\nanonymous = true\ninsecure = true\n\
                  [[right]]\ntopic = 'alerts/#'\nallow = ['subscribe']\n";
    let said = doctor_of(folder.path(), config);
    assert_eq!(said.code, 1);
    said.expect("rights", "bad", &["by the listener people nobody may publish to anything"]);
    assert!(said.of("rights").iter().all(|(_, text)| !text.contains("listener all")));
    said.expect("listener all", "warning", &["open to the network", "whoever reaches the port"]);
    let said =
        doctor_of(folder.path(), &format!("{config}[[right]]\ntopic = 'devices/{{user}}/#'\nallow = ['publish']\n"));
    assert_eq!(said.of("rights")[0].0, "well");
}

fn cloud_config(endpoint: &str, kind: &str) -> String {
    format!("[[sink]]\nname = 'cloud'\ntype = '{kind}'\nregion = 'us-east-1'\nendpoint = '{endpoint}'\nraw = 'fleet'\n")
}

#[test]
fn a_cloud_that_refuses_is_bad_and_one_that_takes_nothing_of_it_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let keys = [("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t"), ("HOME", home), FREE_PORT];
    for (kind, is_described) in [("kinesis", true), ("firehose", false)] {
        let cloud = FakeCloud::start_blocking(Settings::default().stream("fleet", 1)).unwrap();
        std::fs::write(folder.path().join("outrider.toml"), cloud_config(&cloud.endpoint(), kind)).unwrap();
        let said = doctor(folder.path(), &[], &keys);
        let words = if is_described { "it is there" } else { "not told without firehose:DescribeDeliveryStream" };
        said.expect("sink cloud", "well", &["raw to the stream fleet: ", words]);
        said.expect("sink cloud", "well", &["credentials are there, and do not expire"]);
        assert!(!said.report.to_string().contains("s3cr3t") && !said.report.to_string().contains("AKIATEST"));
        assert_eq!(cloud.stats().streams["fleet"].records, 0, "nothing is left there");
        cloud.set_faults(Faults { access_denied: 1.0, ..Faults::default() });
        let said = doctor(folder.path(), &[], &keys);
        assert_eq!(said.code, 1);
        said.expect("sink cloud", "bad", &["raw to the stream fleet: ", "waits in the store meanwhile"]);
        cloud.set_faults(Faults { expired_access_keys: vec!["AKIATEST".to_owned()], ..Faults::default() });
        let expired = doctor(folder.path(), &[], &keys);
        expired.expect("sink cloud", "bad", &["the credentials have expired", "renew"]);
        cloud.set_faults(Faults::default());
        assert!(cloud.delete_stream("fleet"));
        if is_described {
            doctor(folder.path(), &[], &keys).expect("sink cloud", "bad", &["there is no stream \"fleet\""]);
        }
        drop(cloud);
        doctor(folder.path(), &[], &keys).expect("sink cloud", "bad", &["not reached", "look at the link"]);
    }
    let nowhere = [("HOME", home), ("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_ACCESS_KEY_ID", ""), FREE_PORT];
    doctor(folder.path(), &[], &nowhere).expect(
        "sink cloud",
        "bad",
        &["no AWS credentials found; set AWS_ACCESS_KEY_ID"],
    );
}

/// Answers one request after the other with this.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            assert!(request[..read].starts_with(b"HEAD "), "nothing is posted");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_server_by_http_and_brokers_of_kafka_are_tried() {
    let folder = tempfile::tempdir().unwrap();
    let http = |url: &str| format!("[[sink]]\nname = 'hook'\ntype = 'http'\nurl = '{url}?token=s3cr3t'\n");
    for (answer, verdict, words) in [
        ("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n", "well", "status 405"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "warning", "status 401, and may refuse"),
        ("HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n", "well", "status 501"),
        ("HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n", "warning", "status 503"),
    ] {
        let said = doctor_of(folder.path(), &http(&serve(answer)));
        said.expect("sink hook", verdict, &[words]);
        assert!(!said.report.to_string().contains("s3cr3t"));
    }
    let kafka = "[[sink]]\nname = 'events'\ntype = 'kafka'\nbrokers = ['127.0.0.1:9']\nraw = 'telemetry'\nconnect_timeout = '1s'\n";
    let said = doctor_of(folder.path(), kafka);
    said.expect("sink events", "bad", &["raw to the topic telemetry: not reached"]);
    let nowhere = "[[sink]]\nname = 'files'\ntype = 'archive'\npath = '/dev/null/archive'\n";
    doctor_of(folder.path(), nowhere).expect("sink files", "bad", &["no files can be written to /dev/null/archive"]);
}

#[test]
fn an_error_of_the_running_gateway_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = 'hook'\ntype = 'http'\nurl = 'http://127.0.0.1:9/'\n";
    let gateway = Gateway::spawn(folder.path(), run_command(folder.path(), config, &[], &[]));
    Client::connect(gateway.mqtt, "device").publish("devices/tank/temp", "1.0");
    wait_until("an error", || gateway.status()["sinks"][0]["last_error"].is_string());
    let said = doctor(folder.path(), &[], &[FREE_PORT]);
    assert_eq!(said.code, 1);
    let of_raw = said.of("delivery").into_iter().find(|(_, text)| text.starts_with("raw to hook")).unwrap();
    assert!(of_raw.0 == "bad" && of_raw.1.contains("1 record waiting, the oldest for "), "{of_raw:?}");
}

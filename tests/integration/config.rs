//! Wrong configurations, occupied ports, unusable folders and stores: the messages, and the exit code.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::archive;
use crate::client::Client;
use crate::gateway::{Gateway, run_command, wait_until};

const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), output: text(output.stdout), errors: text(output.stderr) }
    }
}

fn end(command: &mut Command) -> Ended {
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// Runs `run` with this configuration; it must end by itself.
fn run(folder: &Path, config: &str) -> Ended {
    end(&mut run_command(folder, config, &[], &[]))
}

fn check_command(folder: &Path, config: &str) -> Command {
    std::fs::write(folder.join("outrider.toml"), config).unwrap();
    let mut command = Command::new(OUTRIDER);
    command.current_dir(folder).args(["check", "--config", "outrider.toml", "--state", "state"]);
    command
}

fn check(folder: &Path, config: &str) -> Ended {
    end(&mut check_command(folder, config))
}

const WRONG: &str = "\
[store]
size_mx = \"1GiB\"
when_full = \"block\"

[[sink]]
name = \"cloud\"
type = \"kinesis\"
region = \"eu-central-1\"

[mqtt]
uncommitted_max = 0
";

#[test]
fn every_problem_is_named_with_its_line_by_check_and_by_run() {
    let folder = tempfile::tempdir().unwrap();
    let checked = check(folder.path(), WRONG);
    let expected = "\
outrider.toml:2: store.size_mx = \"1GiB\": unknown key; did you mean `size_max`?
outrider.toml:3: store.when_full = \"block\": not a choice; one of \"drop_oldest\", \"refuse\"
outrider.toml:5: sink[0]: names no stream; give it raw, anomalies or both, for example raw = \"telemetry-raw\"
outrider.toml:11: mqtt.uncommitted_max = 0: out of range; a whole number, 1 to 65535
4 problems in the configuration
";
    assert_eq!((checked.code, checked.errors.as_str(), checked.output.as_str()), (78, expected, ""));
    let ran = run(folder.path(), WRONG);
    let named = format!("{}/", folder.path().display());
    assert_eq!((ran.code, ran.errors.replace(&named, "").as_str(), ran.output.as_str()), (78, expected, ""));
    assert!(!folder.path().join("state").exists(), "nothing was begun");

    let json = end(&mut run_command(folder.path(), WRONG, &["--log-format", "json"], &[]));
    assert_eq!((json.code, json.errors.lines().count()), (78, 4));
    assert!(
        json.errors.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["level"] == "ERROR")
    );
}

#[test]
fn wrong_variables_arguments_and_files_have_their_own_codes() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("OUTRIDER__MQTT__LISTN", "x"), ("OUTRIDER__STORE__SIZE_MAX", "9000")];
    let ran = end(&mut run_command(folder.path(), "", &[], &variables));
    assert_eq!(ran.code, 78);
    assert!(
        ran.errors.contains("OUTRIDER__MQTT__LISTN: mqtt.listn = \"x\": unknown key; did you mean `listen`?"),
        "{}",
        ran.errors
    );
    assert!(
        ran.errors.contains("OUTRIDER__STORE__SIZE_MAX: store.size_max = \"9000\": not a size, the unit is missing")
    );
    let absent = end(Command::new(OUTRIDER).args(["check", "--config", "/nowhere/outrider.toml"]));
    assert_eq!(absent.code, 78);
    assert!(absent.errors.starts_with("/nowhere/outrider.toml: cannot be read"), "{}", absent.errors);
    assert_eq!(end(Command::new(OUTRIDER).args(["run", "--confg", "x"])).code, 2);
    assert_eq!(end(Command::new(OUTRIDER).args(["run", "--log-format", "xml"])).code, 2);
    assert_eq!(end(&mut Command::new(OUTRIDER)).code, 2);
    let version = end(Command::new(OUTRIDER).arg("--version"));
    assert_eq!((version.code, version.output), (0, format!("outrider {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn check_names_what_no_budget_counts() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = 'files'\ntype = 'archive'\n\
                  [[sink]]\nname = 'on'\ntype = 'http'\nurl = 'http://h'\nlink = 'lte'\n\
                  [[sink]]\nname = 'past'\ntype = 'http'\nurl = 'http://h'\n\
                  [[bridge]]\nname = 'cloud'\nurl = 'mqtt://h'\ntopics = ['a/# out 1']\n\
                  [[bridge]]\nname = 'plc'\nurl = 'mqtt://127.0.0.1:1884'\ntopics = ['b/# out 1']\n\
                  [[link]]\nname = 'lte'\nmetered = 'yes'\n";
    let noted = |limit: &str| {
        let checked = check(folder.path(), &format!("{config}{limit}"));
        assert_eq!((checked.code, checked.errors.as_str()), (0, ""));
        let lines = checked.output.lines().filter(|line| line.contains("neither counted nor limited"));
        lines.map(|line| line.trim_start().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(noted(""), Vec::<String>::new(), "nothing is limited");
    let notes = noted("bytes_per_month = '2GiB'\n");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("sink past: it is on no [[link]], so what it sends is neither counted nor limited"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("bridge cloud: bridges know no [[link]], so what passes is neither counted nor limited"),
        "{notes:?}"
    );
}

#[test]
fn check_says_what_would_run_and_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = "mqtt.listen = '0.0.0.0:1883'\nmqtt.insecure = true\nstore.size_max = '64MiB'\nstore.when_full = 'refuse'\n\
                  [[limit]]\nmetric = 'temp'\nmax = 8.5\n\
                  [[limit]]\nmetric = 'temp'\ndevice = 'freezer-*'\nmax = 8\nclear_max = 6\nfor = '10m'\nseverity = 'minor'\n\
                  [[profile]]\nmetrics = 'door hatch'\ngap = 'off'\n\
                  [[sink]]\nname = 'cloud'\ntype = 'kinesis'\nregion = 'eu-central-1'\nraw = 'r'\n";
    let checked = end(check_command(folder.path(), config).env("OUTRIDER__GATEWAY__ID", "truck-7"));
    assert_eq!((checked.code, checked.errors.as_str()), (0, ""));
    for part in [
        "outrider.toml\n",
        "OUTRIDER__GATEWAY__ID\n",
        "truck-7\n",
        "mqtt: MQTT on 0.0.0.0:1883, unencrypted, without a password, open to the network\n",
        "to be created, at most 64 MiB; when full, nothing more is acknowledged",
        "devices/{device}/{metric...}\n",
        "temp up to 8.5, major\n",
        "temp of freezer-* up to 8, when exceeded for 10m, clears at up to 6, minor\n",
        "door hatch: like generic, gap off, stuck ",
        "cloud: Kinesis in eu-central-1, raw to stream r, anomalies to no stream\n",
    ] {
        assert!(checked.output.contains(part), "{part} in\n{}", checked.output);
    }
    assert!(!folder.path().join("state").exists());
}

#[test]
fn a_sink_that_left_the_configuration_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody answers there, so what is stored waits for that sink.
    let config = "[[sink]]\nname = 'old'\ntype = 'kinesis'\nregion = 'eu-central-1'\nendpoint = 'http://127.0.0.1:9'\nraw = 'r'\n";
    let credentials = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let gateway = Gateway::start_configured(folder.path(), config, &[], &credentials);
    Client::connect(gateway.mqtt, "d").publish("devices/d/t", "1.0");
    assert!(gateway.stop().success());
    let told = |output: &str| output.lines().filter(|line| line.contains("no longer names the sink old")).count();
    let same = check(folder.path(), config);
    assert_eq!((same.code, told(&same.output)), (0, 0), "{}", same.output);
    let other = check(folder.path(), "");
    assert_eq!((other.code, told(&other.output)), (0, 1), "{}", other.output);
    assert!(other.output.contains("the sink old for the stream raw: 1 record waits for it now"), "{}", other.output);
}

#[test]
fn a_port_in_use_names_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let holder = format!("(process {})", std::process::id());
    let mqtt = end(&mut run_command(folder.path(), "", &["--listen", &address], &[]));
    let expected = format!("cannot listen for MQTT on {address}: the port is in use, most likely by ");
    assert_eq!(mqtt.code, 1);
    assert!(mqtt.errors.contains(&expected) && mqtt.errors.contains(&holder), "{}", mqtt.errors);
    assert!(mqtt.errors.contains("set mqtt.listen (--listen) to another address"));
    let admin = end(&mut run_command(folder.path(), "", &[], &[("OUTRIDER__ADMIN__LISTEN", &address)]));
    assert_eq!(
        (admin.code, admin.errors.contains("set admin.listen (OUTRIDER__ADMIN__LISTEN) to another address")),
        (1, true),
        "{}",
        admin.errors
    );
}

#[test]
fn a_folder_has_one_gateway_even_where_both_want_the_same_port() {
    let folder = tempfile::tempdir().unwrap();
    let first = Gateway::start(folder.path(), &[], &[]);
    let address = first.mqtt.to_string();
    let second = end(&mut run_command(folder.path(), "", &["--listen", &address], &[]));
    assert_eq!(second.code, 75, "{}", second.errors);
    assert!(second.errors.contains(&first.pid().to_string()), "{}", second.errors);
    let checked = check(folder.path(), "");
    assert_eq!(checked.code, 0, "a check may come in between: {}", checked.errors);
}

#[test]
fn a_store_that_cannot_be_opened_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let store = outrider::store::schema::store_path(&state);
    rusqlite::Connection::open(&store).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    let before = std::fs::read(&store).unwrap();
    let refused = [run(folder.path(), ""), check(folder.path(), "")];
    for ended in refused {
        assert_eq!(ended.code, 78);
        assert!(ended.errors.contains("is an SQLite file of another program"), "{}", ended.errors);
    }
    assert_eq!(std::fs::read(&store).unwrap(), before);
    std::fs::remove_file(&store).unwrap();

    assert!(Gateway::start(folder.path(), &[], &[]).stop().success());
    rusqlite::Connection::open(&store).unwrap().execute_batch("PRAGMA user_version=99").unwrap();
    for ended in [run(folder.path(), ""), check(folder.path(), "")] {
        assert_eq!(ended.code, 78);
        assert!(
            ended.errors.contains("has version 99") && ended.errors.contains("run the newer program"),
            "{}",
            ended.errors
        );
    }
}

/// Permissions do not stop root, so these are folders that nobody can create.
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for state in ["/proc/outrider".to_owned(), file.join("below").display().to_string()] {
        let mut command = Command::new(OUTRIDER);
        command.args(["run", "--config", "/dev/null", "--listen", "127.0.0.1:0", "--state", &state]);
        let ended = end(&mut command);
        assert_eq!(ended.code, 1);
        assert!(ended.errors.contains(&format!("cannot use the state folder {state}")), "{}", ended.errors);
    }
}

/// Its problem is something else than that it does not exist.
#[test]
fn a_state_folder_that_cannot_be_looked_at_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::os::unix::fs::symlink(&state, &state).unwrap();
    for ended in [run(folder.path(), ""), check(folder.path(), "")] {
        assert_eq!(ended.code, 1);
        let parts = ["cannot look at the state folder ", "state: Too many levels of symbolic links"];
        assert!(parts.iter().all(|part| ended.errors.contains(part)), "{}", ended.errors);
    }
}

#[test]
fn what_the_configuration_says_holds() {
    let folder = tempfile::tempdir().unwrap();
    let config = "gateway.id = 'truck-{machine_id_short}-{hostname}'\nmqtt.unrouted = 'reject'\ningest.builtin_routes = false\n\
                  [[route]]\ntopic = 'hall/{zone}'\ndevice = 'hall'\nmetric = 'temp'\n\
                  [[limit]]\nmetric = 'temp'\nmax = 8.5\n\
                  [[sink]]\nname = 'files'\ntype = 'archive'\n";
    let variables = [("OUTRIDER__GATEWAY__ID", "truck-7"), ("OUTRIDER_LOG", "outrider=debug")];
    let gateway = Gateway::start_configured(folder.path(), config, &["--log-format", "json"], &variables);
    let mut client = Client::connect(gateway.mqtt, "c");
    client.publish("hall/north", "21.5");
    client.publish("devices/d/t", "1.0");
    wait_until("the record is stored", || gateway.status()["received"]["accepted"] == 1);
    assert_eq!(gateway.status()["alerts"][0]["kind"], "limit");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let says = |part: &str| lines.iter().any(|line| line["message"].as_str().unwrap_or_default().contains(part));
    assert!(says("--listen 0.0.0.0:") && says("without a password"), "{log}");
    assert!(gateway.stop().success());
    let records = archive::records(&folder.path().join("state/archive"), "raw");
    assert_eq!(records.len(), 1, "a topic without a route is not stored: {records:?}");
    let record = &records[0];
    assert_eq!(
        (&record["gateway"], &record["device"], &record["metric"]),
        (&"truck-7".into(), &"hall".into(), &"temp".into())
    );
    assert_eq!(record["attributes"]["zone"], "north");
}

/// Adding a first route does not disable the built-in ones.
#[test]
fn a_named_route_leaves_the_built_in_ones_there() {
    let folder = tempfile::tempdir().unwrap();
    let gateway =
        Gateway::start_configured(folder.path(), "[[route]]\ntopic = '/plant/{device}/{metric...}'\n", &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "c");
    client.publish("/plant/pump/pressure", "2.5");
    client.publish("devices/d/t", "1.0");
    wait_until("both are stored", || gateway.status()["received"]["accepted"] == 2);
    assert_eq!(gateway.status()["unrouted"]["count"], 0);
}

/// The SDK alone would name only the last source that it tried.
#[test]
fn without_credentials_it_is_said_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = 'cloud'\ntype = 'kinesis'\nregion = 'eu-central-1'\nendpoint = 'http://127.0.0.1:9'\nraw = 'r'\n";
    let home = folder.path().display().to_string();
    let nowhere = [("HOME", home.as_str()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")];
    let checked = end(check_command(folder.path(), config).envs(nowhere));
    assert!(
        checked.code == 0 && checked.output.contains("no AWS credentials found; set AWS_ACCESS_KEY_ID"),
        "{}",
        checked.output
    );
    assert!(checked.output.contains("no files are written: the built-in archive"), "{}", checked.output);
    let with = end(check_command(folder.path(), config).envs(nowhere).env("AWS_ACCESS_KEY_ID", "k"));
    assert!(!with.output.contains("no AWS credentials"), "{}", with.output);
    let gateway = Gateway::start_configured(folder.path(), config, &[], &nowhere);
    Client::connect(gateway.mqtt, "d").publish("devices/d/t", "1.0");
    let last_error = || gateway.status()["sinks"][0]["last_error"].as_str().unwrap_or_default().to_owned();
    wait_until("the sink has looked for credentials", || !last_error().is_empty());
    assert!(last_error().contains("no AWS credentials found; set AWS_ACCESS_KEY_ID"), "{}", last_error());
}

/// The journal adds times itself, and takes levels from the beginning of a line.
#[test]
fn the_journal_gets_levels_and_no_times() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap().metadata().unwrap();
    for (stream, is_journal) in [(format!("{}:{}", file.dev(), file.ino()), true), ("1:2".to_owned(), false)] {
        std::fs::write(&log, "").unwrap();
        let gateway = Gateway::start(folder.path(), &[], &[("JOURNAL_STREAM", &stream)]);
        assert!(gateway.stop().success());
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("listening for MQTT on 127.0.0.1:"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours: {text}");
        assert!(text.lines().all(|line| line.starts_with("<6>") == is_journal), "{text}");
    }
}

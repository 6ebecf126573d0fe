//! `outrider buffer`: beside a running gateway and without one.

use std::path::Path;
use std::process::{Command, Output};

use fake_cloud::{FakeCloud, Faults, Settings};
use outrider::store::schema::store_path;
use serde_json::Value;

use crate::client::Client;
use crate::gateway::{Gateway, ledger_line, wait_until};

/// The exit code, standard output and standard error.
fn buffer(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.arg("buffer").args(arguments).arg("--config").arg(folder.join("outrider.toml"));
    let Output { status, stdout, stderr } = command.arg("--state").arg(folder.join("state")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Nobody answers there, so everything is kept.
const AWAY: &str = "[[sink]]\nname = 'away'\ntype = 'http'\nurl = 'http://127.0.0.1:9/'\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_waits_is_counted_exported_and_verified_while_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), AWAY, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "devices");
    for number in 0..30 {
        client.publish("devices/truck-1/speed", format!("{{\"value\":{number}}}"));
        client.publish("devices/truck-2/temp", format!("{{\"value\":20.{number}}}"));
    }
    let (code, text, _) = buffer(folder.path(), &["stats"]);
    assert!(code == 0 && text.starts_with("store: ") && text.contains("away raw "), "{text}");
    let stats: Value = serde_json::from_str(&buffer(folder.path(), &["stats", "--json"]).1).unwrap();
    let of_raw = stats["sinks"].as_array().unwrap().iter().find(|sink| sink["stream"] == "raw").unwrap();
    assert_eq!((&of_raw["sink"], &of_raw["records"]), (&"away".into(), &60.into()));
    assert!(of_raw["bytes"].as_u64().unwrap() > 100 && of_raw["oldest_ms"].is_i64(), "{of_raw}");

    let (code, all, _) = buffer(folder.path(), &["export"]);
    let all = lines(&all);
    assert_eq!((code, all.len()), (0, 60));
    assert_eq!((&all[0]["device"], &all[0]["value"], &all[0]["v"]), (&"truck-1".into(), &0.0.into(), &1.into()));
    let count = |arguments: &[&str]| lines(&buffer(folder.path(), &[&["export"], arguments].concat()).1).len();
    assert_eq!(count(&["--device", "truck-2"]), 30);
    assert_eq!(count(&["--device", "truck-*", "--metric", "sp*d"]), 30);
    assert_eq!(count(&["--device", "truck-1", "--metric", "temp"]), 0);
    assert_eq!([count(&["--since", "1h"]), count(&["--until", "1h"])], [60, 0]);
    assert_eq!(count(&["--since", "2001-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"]), 60);
    assert!(count(&["--stream", "anomalies"]) > 0, "the gateway's own record is there");
    let file = folder.path().join("all.ndjson");
    let to_file = ["export", "--output", file.to_str().unwrap()];
    assert_eq!(buffer(folder.path(), &to_file), (0, String::new(), "60 records written\n".to_owned()));
    assert_eq!(lines(&std::fs::read_to_string(&file).unwrap()), all);
    assert_eq!(buffer(folder.path(), &to_file).0, 1, "what is there is not replaced");
    let (code, _, said) = buffer(folder.path(), &["export", "--stream", "none"]);
    assert!(code == 1 && said.contains("there are raw, anomalies"), "{said}");
    assert_eq!(buffer(folder.path(), &["export", "--since", "soon"]).0, 2);

    let (code, text, _) = buffer(folder.path(), &["verify"]);
    assert!(code == 0 && text.contains("all whole"), "{text}");
    assert!(gateway.stop().success());
}

#[test]
fn damage_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = buffer(folder.path(), &["verify"]);
    assert!(code == 78 && said.contains("cannot be read"), "{said}");
    std::fs::write(folder.path().join("outrider.toml"), "").unwrap();
    let (code, _, said) = buffer(folder.path(), &["verify"]);
    assert!(code == 1 && said.contains("there is no store"), "{said}");
    let gateway = Gateway::start_configured(folder.path(), AWAY, &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "devices");
    (0..40).for_each(|_| client.publish("devices/truck-1/speed", "{\"value\":1}"));
    assert!(gateway.stop().success());
    let db = rusqlite::Connection::open(store_path(&folder.path().join("state"))).unwrap();
    let (id, seq, count): (i64, i64, i64) = db
        .query_row("SELECT id, seq, count FROM batch WHERE stream = 1 ORDER BY id LIMIT 1 OFFSET 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let verified = || {
        let (code, text, _) = buffer(folder.path(), &["verify", "--json"]);
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    assert_eq!((verified().0, verified().1["damaged_records"].clone()), (0, 0.into()));
    // The last byte of its payload.
    db.execute("UPDATE batch SET payload = substr(payload, 1, length(payload) - 1) || x'00' WHERE id = ?1", [id])
        .unwrap();
    let (code, found) = verified();
    let place = &found["damage"][0];
    assert_eq!((code, &found["damaged_records"]), (1, &count.into()), "{found}");
    assert_eq!((&place["of"], &place["last_sequence"]), (&"raw".into(), &seq.into()));
    assert_eq!(place["first_sequence"], seq + 1 - count);
    assert!(buffer(folder.path(), &["export"]).2.contains("cannot be read"), "what is left out is told");
    // One that is gone.
    db.execute("DELETE FROM batch WHERE id = ?1", [id]).unwrap();
    let (code, found) = verified();
    assert!(code == 1 && found["damage"][0]["what"].as_str().unwrap().contains("missing"), "{found}");
}

/// A gateway that sends to a cloud, which refuses three of its records.
struct Refused {
    folder: tempfile::TempDir,
    cloud: FakeCloud,
    config: String,
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")];
const POISONED: &str = "{\"value\":1,\"note\":\"POISON\"}";

fn poison() -> Faults {
    Faults { poison_marker: Some("POISON".to_owned()), ..Faults::default() }
}

fn start() -> (Refused, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCloud::start_blocking(Settings::default().stream("fleet", 1)).unwrap();
    cloud.set_faults(poison());
    let config = format!(
        "[[sink]]\nname = 'cloud'\ntype = 'kinesis'\nregion = 'us-east-1'\nendpoint = '{}'\nraw = 'fleet'\ntimeout = '2s'\n",
        cloud.endpoint()
    );
    let refused = Refused { folder, cloud, config };
    let gateway = refused.start();
    let mut client = Client::connect(gateway.mqtt, "devices");
    for device in 0..3 {
        client.publish(&format!("devices/{device}/speed"), "{\"value\":2}");
        client.publish(&format!("devices/{device}/speed"), POISONED);
    }
    refused.expect(&gateway, (3, 3));
    (refused, gateway)
}

impl Refused {
    fn start(&self) -> Gateway {
        Gateway::start_configured(self.folder.path(), &self.config, &[], &KEYS)
    }

    /// Waits for what the ledger says: delivered, and given up.
    fn expect(&self, gateway: &Gateway, (delivered, dead): (u64, u64)) {
        wait_until("the ledger", || {
            let status = gateway.status();
            let line = ledger_line(&status, "cloud", "raw");
            assert_eq!(status["ledger_adds_up"], true, "{line}");
            (&line["delivered"], &line["dead_lettered"]) == (&delivered.into(), &dead.into())
        });
    }

    fn letters(&self, arguments: &[&str]) -> (i32, String) {
        let (code, out, errors) = buffer(self.folder.path(), &[&["dead-letters"], arguments].concat());
        (code, (out + &errors).trim_end().to_owned())
    }
}

#[test]
fn dead_letters_are_listed_exported_and_sent_again() {
    let (refused, gateway) = start();
    let (code, text) = refused.letters(&["list"]);
    assert!(code == 0 && text.ends_with("3 dead letters"), "{text}");
    assert!(
        text.contains("  cloud raw ") && text.contains(", speed of 1, ") && text.contains("ValidationException"),
        "{text}"
    );
    let exported = lines(&refused.letters(&["export", "--sink", "cloud"]).1);
    assert_eq!((exported.len(), &exported[0]["record"]["attributes"]["note"]), (3, &"POISON".into()));
    assert_eq!(refused.letters(&["list", "--sink", "other"]).1, "no dead letters are kept");

    let again = refused.letters(&["retry", "cloud"]);
    assert_eq!(again, (0, "0 dead letters delivered, 3 refused again".to_owned()));
    refused.expect(&gateway, (3, 3));
    refused.cloud.set_faults(Faults::default());
    let id = exported[1]["id"].to_string();
    assert_eq!(
        refused.letters(&["retry", "cloud", "--id", &id]),
        (0, "1 dead letter delivered, 0 refused again".to_owned())
    );
    // It is stored when the command returns: a kill changes nothing.
    gateway.kill();
    let gateway = refused.start();
    refused.expect(&gateway, (4, 2));
    let (code, text) = refused.letters(&["retry", "cloud", "--id", &id]);
    assert!(code == 1 && text.contains("no such dead letters"), "{text}");
    assert_eq!(refused.letters(&["retry", "cloud"]).1, "2 dead letters delivered, 0 refused again");
    refused.expect(&gateway, (6, 0));
    assert_eq!(refused.letters(&["list"]).1, "no dead letters are kept");
    let metric = "outrider_sink_records_dead_lettered_total{stream=\"raw\",sink=\"cloud\"} 3";
    assert!(gateway.get("/metrics").1.contains(metric), "a counter does not go back");
    let there = refused.cloud.stats().streams["fleet"].clone();
    assert_eq!((there.distinct, there.duplicates), (6, 0));
    assert_eq!(refused.letters(&["retry", "nobody"]), (1, "the gateway runs no sink nobody".to_owned()));
    assert!(gateway.stop().success());
    let (code, text) = refused.letters(&["retry", "cloud"]);
    assert!(code == 1 && text.starts_with("no gateway is running"), "{text}");
}

/// As after a kill between the sink's answer and the commit: the sink has it, and the store keeps it.
#[test]
fn a_letter_whose_answer_is_lost_is_counted_once() {
    let (refused, gateway) = start();
    refused.cloud.set_faults(Faults { reply_lost: 1.0, ..Faults::default() });
    let (code, text) = refused.letters(&["retry", "cloud"]);
    assert!(
        code == 1 && text.starts_with("0 dead letters delivered, 0 refused again; the others were not tried: "),
        "{text}"
    );
    refused.expect(&gateway, (3, 3));
    refused.cloud.set_faults(Faults::default());
    assert_eq!(refused.letters(&["retry", "cloud"]).1, "3 dead letters delivered, 0 refused again");
    refused.expect(&gateway, (6, 0));
    let there = refused.cloud.stats().streams["fleet"].clone();
    assert_eq!((there.distinct, there.duplicates), (6, 1), "consumers know it by its identity");
}

#[test]
fn letters_are_sent_while_others_are_under_way() {
    let (refused, gateway) = start();
    refused.cloud.set_faults(Faults { latency_ms: 20, ..Faults::default() });
    let mqtt = gateway.mqtt;
    let publishing = std::thread::spawn(move || {
        let mut client = Client::connect(mqtt, "busy");
        (0..300).for_each(|number| client.publish(&format!("devices/{}/speed", number % 40), "{\"value\":3}"));
    });
    assert_eq!(refused.letters(&["retry", "cloud"]), (0, "3 dead letters delivered, 0 refused again".to_owned()));
    publishing.join().unwrap();
    refused.expect(&gateway, (306, 0));
    assert_eq!(refused.cloud.stats().streams["fleet"].duplicates, 0);
}

/// The sink has the letter, and the process is gone before that is stored.
#[test]
fn a_kill_while_a_letter_is_under_way_leaves_it_to_be_sent_again() {
    let (refused, gateway) = start();
    refused.cloud.set_faults(Faults { latency_ms: 1_500, ..Faults::default() });
    let records = || refused.cloud.stats().streams["fleet"].records;
    let before = records();
    std::thread::scope(|scope| {
        let retry = scope.spawn(|| refused.letters(&["retry", "cloud"]));
        wait_until("the cloud has one", || records() > before);
        gateway.kill();
        assert_eq!(retry.join().unwrap().0, 1);
    });
    refused.cloud.set_faults(Faults::default());
    let gateway = refused.start();
    refused.expect(&gateway, (3, 3));
    assert_eq!(refused.letters(&["retry", "cloud"]).1, "3 dead letters delivered, 0 refused again");
    refused.expect(&gateway, (6, 0));
    let there = refused.cloud.stats().streams["fleet"].clone();
    assert_eq!((there.distinct, there.duplicates), (6, 1));
}

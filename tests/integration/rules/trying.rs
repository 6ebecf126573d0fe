//! Rules that are tried without a gateway: `outrider rules test`, `outrider rules backtest`, and the check.

use std::path::Path;

use super::{HOT, history, start};
use crate::client::Client;

/// Runs a command of the program; its exit code, standard output and standard error.
fn outrider(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_outrider")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn path_in(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const TESTED: &str = "[[rule]]\nname = \"hot\"\nwhen = \"engine_temperature > 110\"\nfor = \"5s\"\nalert = \"critical\"\n\
    [[rule.test]]\nreadings = [{ metric = \"engine_temperature\", value = 120 }, \
    { metric = \"engine_temperature\", value = 120, at = \"5s\" }]\nexpect = \"5s\"\n\
    [[rule.test]]\nreadings = { metric = \"engine_temperature\", value = 120 }\nexpect = \"no match\"\n\
    [[rule]]\nname = \"offer\"\nsql = \"SELECT lookup(offers, zone).text AS offer FROM 'trucks/#'\"\nrepublish = { topic = \"offers\" }\n\
    test = { topic = \"trucks/7\", payload = { zone = \"north\" }, expect = { offer = \"Coffee\" } }\n";

const OFFERS: &str = "[[table]]\nname = \"offers\"\nfile = \"offers.csv\"\nkey = \"zone\"\n";

#[test]
fn tests_of_rules_run_by_themselves_and_with_the_check() {
    let folder = tempfile::tempdir().unwrap();
    path_in(folder.path(), "offers.csv", "zone,text\nnorth,Coffee\n");
    let config = path_in(
        folder.path(),
        "outrider.toml",
        &format!("{OFFERS}[[rule]]\nname = \"own\"\nwhen = \"t > 1\"\ncount = true\n"),
    );
    let rules = path_in(folder.path(), "rules.toml", TESTED);
    let expected = "ok      hot, test 1\nok      hot, test 2\nok      offer, test 1\n3 tests, all as expected\n";
    assert_eq!(
        outrider(&["rules", "test", &rules, "--config", &config]),
        (Some(0), expected.to_owned(), String::new())
    );
    let (code, _, errors) = outrider(&["rules", "test", &rules]);
    assert!(code == Some(78) && errors.contains("rules.toml:14: rule[1].sql"), "{errors}");

    let whole = path_in(folder.path(), "whole.toml", &format!("{OFFERS}{TESTED}"));
    assert_eq!(outrider(&["rules", "test", &whole]).1, expected);
    let state = folder.path().join("state");
    let check = |file: &str| outrider(&["check", "--config", file, "--state", state.to_str().unwrap()]);
    let (code, summary, errors) = check(&whole);
    assert!(code == Some(0) && summary.contains("3 of rules, all as expected"), "{summary}{errors}");

    let failing = path_in(
        folder.path(),
        "failing.toml",
        &format!("{OFFERS}{TESTED}").replace("Coffee", "Tea").replace("\"5s\"\n[", "\"4s\"\n["),
    );
    let (code, told, _) = outrider(&["rules", "test", &failing]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("FAILED  hot, test 1: expected a beginning at 4s, got a beginning at 5s (device)\n"),
        "{told}"
    );
    assert!(
        told.contains("FAILED  offer, test 1: expected {\"offer\":\"Tea\"}, got {\"offer\":\"Coffee\"}\n"),
        "{told}"
    );
    assert!(told.ends_with("3 tests, 2 FAILED\n"), "{told}");
    let (code, _, errors) = check(&failing);
    assert!(code == Some(78) && errors.contains("rule hot, test 1: expected a beginning at 4s"), "{errors}");

    let bad =
        TESTED.replace("expect = \"5s\"", "expect = \"soon\"").replace("topic = \"trucks/7\"", "topik = \"trucks/7\"");
    let bad = path_in(folder.path(), "bad.toml", &format!("{OFFERS}{bad}"));
    let (code, _, errors) = outrider(&["rules", "test", &whole, &bad]);
    assert!(code == Some(78) && errors.contains("`topik` is unknown") && errors.contains("begins to hold"), "{errors}");
}

#[test]
fn recorded_readings_are_replayed_through_the_rules_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let rules = path_in(
        folder.path(),
        "hot.toml",
        &format!("{HOT}[[rule]]\nname = \"echo\"\nsql = \"SELECT * FROM '#'\"\nrepublish = {{ topic = \"out\" }}\n"),
    );
    let mut lines = String::new();
    for second in 0..7_201 {
        let value = if (100..110).contains(&second) { 120.5 } else { 80.0 };
        lines += &format!("truck/engine_temperature,{},{value}\n", 1_767_225_600_000_i64 + second * 1_000);
    }
    let csv = path_in(folder.path(), "readings.csv", &lines);
    let (code, told, errors) = outrider(&["rules", "backtest", "--rule", &rules, "--csv", &csv]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("7201 readings of 1 device, 2026-01-01T00:00:00Z to 2026-01-01T02:00:00Z"), "{told}");
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(cells[..6], ["hot", "7201", "1", "1", "1", "12.0"], "{told}");
    assert_eq!(lines[4], "  2026-01-01T00:01:45Z  truck  engine_temperature 120.5");
    assert!(told.contains("these rules are left out: echo"), "{told}");
    let empty = path_in(folder.path(), "empty.csv", "");
    assert_eq!(outrider(&["rules", "backtest", "--rule", &rules, "--csv", &empty]).0, Some(1));
    assert_eq!(outrider(&["rules", "backtest", "--rule", &rules]).0, Some(2), "nothing to replay");
}

#[test]
fn what_the_store_holds_is_replayed_without_a_gateway_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody takes what is stored, so it stays.
    let config = "[[sink]]\nname = \"cloud\"\ntype = \"kinesis\"\nregion = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:9\"\n\
        raw = \"raw\"\nanomalies = \"anomalies\"\n";
    let gateway = start(folder.path(), config);
    let mut truck = Client::connect(gateway.mqtt, "truck");
    history(&mut truck, "devices/truck/engine_temperature", 120.0, (0..12).rev());
    let state = folder.path().join("state");
    let rules = path_in(folder.path(), "hot.toml", HOT);
    let backtest =
        || outrider(&["rules", "backtest", "--rule", &rules, "--from-store", "--state", state.to_str().unwrap()]);
    let of_rule =
        |told: &str| told.lines().nth(3).unwrap_or_default().split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    let (code, told, errors) = backtest();
    assert_eq!((code, of_rule(&told).as_str()), (Some(0), "hot 12 1 1"), "{told}{errors}");
    gateway.stop();
    let (code, told, errors) = backtest();
    assert_eq!((code, of_rule(&told).as_str()), (Some(0), "hot 12 1 1"), "{told}{errors}");
    let elsewhere = outrider(&["rules", "backtest", "--rule", &rules, "--from-store", "--state", "/nowhere"]);
    assert!(elsewhere.0 == Some(1) && elsewhere.2.contains("there is no store"), "{elsewhere:?}");
}

//! `outrider init`: what it writes is accepted, and what is there is not lost.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::listeners::{expect_success, make_users};

fn outrider(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    let output = command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn check(folder: &Path) -> String {
    let (code, text) = outrider(folder, &["check", "--config", "outrider.toml", "--state", "state"]);
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn what_is_written_is_accepted_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = outrider(folder.path(), &["init"]);
    assert!(code == 0 && text.contains("outrider check --config outrider.toml"), "{text}");
    let checked = check(folder.path());
    assert!(checked.contains("MQTT on 127.0.0.1:1883") && checked.contains("archive: files in "), "{checked}");
    let (code, text) = outrider(folder.path(), &["init", "--id", "truck-8"]);
    assert!(code == 1 && text.contains("outrider.toml is there; --force replaces it"), "{text}");
    assert!(!check(folder.path()).contains("truck-8"));
    let options = [
        "init",
        "--force",
        "--id",
        "truck-7",
        "--who",
        "anybody",
        "--sink",
        "kinesis=fleet",
        "--sink",
        "kafka=b:9092/fleet",
        "--region",
        "eu-west-1",
        "--store-size",
        "64MiB",
    ];
    assert_eq!(outrider(folder.path(), &options).0, 0);
    let checked = check(folder.path());
    for words in
        ["truck-7", "0.0.0.0:1883, unencrypted", "at most 64 MiB", "raw to stream fleet-raw", "Kafka at b:9092"]
    {
        assert!(checked.contains(words), "{words}:\n{checked}");
    }
    let (code, printed) = outrider(folder.path(), &["init", "-", "--sink", "s3=lake"]);
    assert!(
        code == 0 && printed.contains("bucket = \"lake\"") && printed.starts_with("# The configuration"),
        "{printed}"
    );
    let (code, text) = outrider(folder.path(), &["init", "other.toml", "--store-size", "much"]);
    assert!(code == 78 && text.contains("store.size_max") && !folder.path().join("other.toml").exists(), "{text}");
    assert_eq!(outrider(folder.path(), &["init", "--sink", "tape"]).0, 2);
    assert_eq!(outrider(folder.path(), &["init", "nowhere/outrider.toml"]).0, 1);
}

#[test]
fn a_listener_for_the_network_is_in_force_once_its_files_are_there() {
    for (who, described) in
        [("certificates", "encrypted, with certificates"), ("passwords", "encrypted, with passwords")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = outrider(folder.path(), &["init", "--who", who]);
        assert!(code == 0 && said.contains("only this machine connects"), "{said}");
        let before = check(folder.path());
        assert!(before.contains("for this machine only") && !before.contains("open to the network"), "{before}");
        let certificates = folder.path().join("certificates");
        expect_success(&["cert", "init", certificates.to_str().unwrap(), "--device", "tank-1"], "");
        make_users(&folder.path().join("users"), &["tank-1"]);
        // As the comment says.
        let file = folder.path().join("outrider.toml");
        let written = std::fs::read_to_string(&file).unwrap();
        let (head, sections) = written.split_at(written.find("# [[listener]]").unwrap());
        let (sections, rest) = sections.split_at(sections.find("# Readings are").unwrap());
        let sections: Vec<&str> = sections.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        std::fs::write(&file, format!("{head}{}\n{rest}", sections.join("\n"))).unwrap();
        let by_hand = check(folder.path());
        assert!(by_hand.contains(described) && by_hand.contains("open to the network"), "{by_hand}");
        // And made anew, with the files in place.
        assert_eq!(outrider(folder.path(), &["init", "--force", "--who", who]).0, 0);
        assert!(check(folder.path()).contains(described));
    }
}

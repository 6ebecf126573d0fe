//! Delivery to a bucket, on servers that others wrote, with a proxy between that does wrong on purpose: each record is in the objects once.

mod faulty;
mod lake;
mod parquet;
mod servers;

use std::io::Write;
use std::process::{Command, Stdio};

use crate::gateway::wait_until;
use faulty::{Fault, header};
use lake::{Lake, SOON};
use servers::{BUCKET, Kind};

const KINDS: [Kind; 2] = [Kind::Gofakes3, Kind::Ministack];

/// Both servers, with every fault of a single upload.
#[test]
fn each_record_is_in_the_objects_once_whatever_happens_to_uploads() {
    for (kind, format) in KINDS.into_iter().zip(["compression = \"zstd\"", "compression = \"gzip\""]) {
        let mut lake = Lake::start(kind, &format!("{SOON}\n{format}"));
        let faults = [
            Fault::Reset,
            Fault::ReplyLost,
            Fault::Answer(503, "SlowDown"),
            Fault::CutUpload,
            Fault::Slow,
            Fault::Answer(500, "InternalError"),
            Fault::Answer(409, "ConditionalRequestConflict"),
            Fault::Answer(412, "PreconditionFailed"),
            Fault::Answer(400, "BadDigest"),
            Fault::Answer(400, "ExpiredToken"),
            Fault::ReplyLost,
        ];
        lake.proxy.next(&faults);
        let is_left = |lake: &Lake| lake.proxy.struck() < faults.len() as u64;
        while is_left(&lake) {
            lake.publish(10);
            wait_until("an upload", || lake.is_delivered() || !is_left(&lake));
        }
        lake.publish(10);
        let objects = lake.expect_all();
        assert!(objects > 1, "{kind:?}");
        let log = std::fs::read_to_string(&lake.gateway().log).unwrap();
        assert!(!log.contains("ERROR") && !log.contains("halted"), "{log}");
    }
}

/// The process ends when the object is stored and nobody knows; then more records of that run follow.
#[test]
fn a_kill_between_upload_and_cursor_repeats_nothing() {
    for kind in KINDS {
        let mut lake = Lake::start(kind, SOON);
        lake.proxy.next(&[Fault::ReplyHeld]);
        lake.publish(30);
        wait_until("an upload that nobody knows of", || lake.proxy.stored() == 1);
        lake.publish(20);
        lake.kill_and_restart();
        lake.publish(10);
        lake.expect_all();
        let log = std::fs::read_to_string(&lake.gateway().log).unwrap();
        assert!(log.contains("an earlier process has stored this object"), "{kind:?}: {log}");
    }
}

#[test]
fn a_kill_in_the_middle_of_an_upload_loses_nothing() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    for _ in 0..3 {
        lake.proxy.next(&[Fault::Slow, Fault::Slow]);
        lake.publish(20);
        let before = lake.proxy.heads().len();
        wait_until("an upload", || lake.proxy.heads().len() > before);
        lake.kill_and_restart();
    }
    lake.publish(10);
    lake.expect_all();
}

/// The control: where an attempt has a name of its own, a lost reply is a record stored twice, and the comparison above finds it.
#[test]
fn names_that_differ_between_attempts_are_found_out() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    lake.proxy.rename_attempts();
    lake.proxy.next(&[Fault::ReplyLost]);
    lake.publish(10);
    wait_until("everything is delivered", || lake.is_delivered());
    let found = lake.found("raw");
    assert!(found.repeats >= lake.published(), "{} of {}", found.repeats, lake.published());
}

#[test]
fn what_is_open_is_sent_when_the_process_ends() {
    let mut lake = Lake::start(Kind::Gofakes3, "");
    lake.publish(10);
    assert!(lake.server.keys("").is_empty(), "nothing is due for a quarter of an hour");
    lake.stop();
    let found = lake.found("raw");
    assert_eq!((found.distinct(), found.repeats), (lake.published(), 0));
}

#[test]
fn what_somebody_has_to_mend_is_named_and_nothing_is_lost() {
    let mut lake = Lake::start_in("not-there", Kind::Ministack, SOON);
    lake.publish(10);
    lake.expect_error("there is no bucket \"not-there\"");
    assert_eq!(lake.gateway().status()["state"], "sink_failing");
    lake.proxy.next(&[Fault::Answer(403, "AccessDenied"); 4]);
    lake.expect_error("have to allow s3:PutObject");
    lake.server.create("not-there");
    lake.expect_all();
    assert_eq!(lake.sink("raw")["last_error"], serde_json::Value::Null);
}

#[test]
fn a_bucket_in_another_region_is_named() {
    let mut lake = Lake::start(Kind::Ministack, &format!("region = \"eu-central-1\"\n{SOON}"));
    lake.publish(1);
    lake.expect_error(
        "the bucket \"fleet\" is in the region us-east-1, not in eu-central-1; set region = \"us-east-1\"",
    );
}

#[test]
fn a_wrong_clock_of_ours_is_no_obstacle() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    lake.proxy.next(&[Fault::Skewed]);
    lake.publish(10);
    lake.expect_all();
    let heads = lake.proxy.heads();
    let puts = heads.iter().filter(|head| head.starts_with("PUT ") && head.contains("/raw/"));
    let signed: Vec<&str> = puts.map(|head| header(head, "x-amz-date").unwrap()).collect();
    // The server itself looks at the time, and says the right one.
    assert!(signed.len() == 3 && signed[1].starts_with("20300101T"), "{signed:?}");
}

/// The servers above look at no signature.
#[test]
fn signatures_are_those_of_the_sdk_for_python() {
    let mut lake = Lake::start_as("tr\u{e4}ger 7/a+b", Kind::Gofakes3, SOON);
    lake.proxy.next(&[Fault::ReplyLost]);
    lake.publish(5);
    lake.expect_all();
    let heads = lake.proxy.heads();
    assert!(heads.iter().any(|head| head.starts_with("HEAD ")) && heads.len() > 2);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/objects/signatures.py");
    let mut python = Command::new(servers::cached("venv/bin/python"))
        .args([script, lake::ACCESS_KEY, lake::SECRET_KEY, lake::TOKEN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(serde_json::to_string(&heads).unwrap().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{heads:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), heads.len().to_string());
    assert!(lake.server.keys("fleet/raw/dt=").iter().all(|key| key.contains("/tr%C3%A4ger%207%2Fa%2Bb-")), "{BUCKET}");
}

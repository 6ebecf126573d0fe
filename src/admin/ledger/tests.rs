//! What the ledger counts, and what is listed of alerts.

use super::*;
use crate::core::identity::{PerStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::ranges::Ranges;
use crate::core::reading::{Reading, Readings};
use crate::handoff::Undecodable;
use crate::store::commit::CommitInput;
use crate::store::cursors::{CursorChange, DeadLetter};
use crate::store::writer::{Writer, WriterSettings};

fn open(folder: &std::path::Path) -> Writer {
    Writer::open(&WriterSettings::for_tests(folder), RunId([1; 8])).expect("a store")
}

fn commit(writer: &mut Writer, pipeline: &mut Pipeline, count: i64) {
    let mut readings = Readings::default();
    for number in 0..count {
        readings.push(&Reading::at(number, "d", "total", number as f64));
    }
    pipeline.take(&readings, Default::default());
    let undecodable =
        vec![Undecodable { reason: "not_json", topic: "t".to_owned(), file: None, sample: vec![], received_at_ms: 0 }];
    let input = CommitInput { sealed: pipeline.seal(), undecodable, ..CommitInput::default() };
    writer.commit(&input).expect("a working disk");
}

/// 100 readings: 40 delivered, 5 dead letters, 5 quarantined, 20 delivered ahead, 30 held.
fn fill(writer: &mut Writer) {
    writer.register_sink("sink", Stream::RAW).expect("a cursor");
    let mut pipeline = Pipeline::new(PipelineSettings::new("g", RunId([1; 8])), &PerStream::default());
    (0..10).for_each(|_| commit(writer, &mut pipeline, 10));
    let letter = |sequence| DeadLetter { sequence, reason: "too_large".to_owned(), line: vec![b'x'] };
    let mut unreadable = Ranges::default();
    unreadable.push(46, 50);
    let change = CursorChange {
        sink: "sink".to_owned(),
        stream: Stream::RAW,
        state: CursorState { cursor: 50, acknowledged: vec![(61, 80)] },
        dead_letters: (41..46).map(letter).collect(),
        unreadable,
        lost: Ranges::default(),
        passed_over: 0,
        expired: vec![],
        held_keys: vec![],
        link: None,
        save: None,
    };
    writer.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() }).expect("a working disk");
}

#[test]
fn every_term_is_counted_and_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = open(folder.path());
    fill(&mut writer);
    let expected = LedgerLine {
        stream: "raw".to_owned(),
        sink: "sink".to_owned(),
        accepted: 100,
        delivered: 60,
        buffered: 30,
        expired: 0,
        dead_lettered: 5,
        quarantined: 5,
        passed_over: 0,
        cursor: 50,
        oldest_ms: Some(0),
        letters_delivered: 0,
    };
    let before = look(writer.connection()).expect("readable");
    assert_eq!(before.ledger, [expected]);
    assert_eq!((before.total("accepted"), before.total("undecodable:not_json")), (100, 10));
    drop(writer);
    let after = look(open(folder.path()).connection()).expect("readable");
    assert_eq!((after.ledger, after.totals), (before.ledger, before.totals));
}

#[test]
fn what_a_reading_takes_is_what_the_file_grows_by() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = open(folder.path());
    writer.register_sink("sink", Stream::RAW).expect("a cursor");
    let mut pipeline = Pipeline::new(PipelineSettings::new("g", RunId([1; 8])), &PerStream::default());
    assert_eq!(look(writer.connection()).expect("readable").bytes_a_reading(), None, "nothing is known yet");
    let mut fill = || {
        (0..TELLING_FROM / 10).for_each(|_| commit(&mut writer, &mut pipeline, 10));
        look(writer.connection()).expect("readable")
    };
    let (first, second) = (fill(), fill());
    let grown = (second.used_bytes - first.used_bytes) as f64 / TELLING_FROM as f64;
    let told = first.bytes_a_reading().expect("enough to tell");
    // The fixed part of a store is half of so small a one.
    assert!((0.9..1.7).contains(&(told / grown)), "{told} B a reading, {grown} in truth");
}

#[test]
fn raised_alerts_are_counted_beyond_those_that_are_listed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let writer = open(folder.path());
    for number in 0..250 {
        let state = if number < 150 { "raised" } else { "cleared" };
        // The state must not be read from a device's name.
        let device = format!("\"state\":\"raised\" {number}");
        let body = serde_json::json!({ "device": device, "state": state }).to_string().into_bytes();
        let insert = "INSERT INTO alert(device, metric, kind, body) VALUES (?1, 'm', 'k', ?2)";
        writer.connection().execute(insert, rusqlite::params![device, body]).expect("a row");
    }
    let view = look(writer.connection()).expect("readable");
    assert_eq!((view.alerts.len(), view.alerts_raised, view.alerts_total), (LISTED_MAX, 150, 250));
}

#[test]
fn the_gravest_and_latest_alerts_are_listed_whatever_they_are_called() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let writer = open(folder.path());
    let insert = |device: &str, state: &str, severity: &str, raised_at_ms: i64| {
        let body = serde_json::json!({
            "device": device, "state": state, "severity": severity, "raised_at_ms": raised_at_ms, "message": "\\ \"x\""
        });
        let sql = "INSERT INTO alert(device, metric, kind, body) VALUES (?1, 'm', 'k', ?2)";
        writer.connection().execute(sql, rusqlite::params![device, body.to_string().into_bytes()]).expect("a row");
    };
    (0..1000).for_each(|number| insert(&format!("a{number:04}"), "raised", "warning", number));
    insert("z-critical", "raised", "critical", 5);
    insert("z-cleared", "cleared", "critical", 5000);
    insert("z-late", "raised", "warning", 5000);
    let listed = look(writer.connection()).expect("readable").alerts;
    let devices: Vec<_> = listed.iter().map(|alert| alert["device"].as_str().expect("a name")).collect();
    assert_eq!((&devices[..3], devices.len()), (&["z-critical", "z-late", "a0999"][..], LISTED_MAX));
}

#[test]
fn an_alert_that_cannot_be_read_hides_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let writer = open(folder.path());
    // With the column, SQLite does not even take what damage to the disk may leave.
    writer.connection().execute_batch("ALTER TABLE alert DROP COLUMN state").expect("a column");
    for (device, body) in
        [("a", &b"{\"device\":\"\xff\",\"state\":\"raised\"}"[..]), ("b", b"{\"state\":\"raised\"}"), ("c", b"no JSON")]
    {
        let insert = "INSERT INTO alert(device, metric, kind, body) VALUES (?1, 'm', 'k', ?2)";
        writer.connection().execute(insert, rusqlite::params![device, body]).expect("a row");
    }
    let view = look(writer.connection()).expect("readable");
    assert_eq!((view.alerts, view.alerts_total), (vec![serde_json::json!({"state": "raised"})], 3));
}

#[test]
fn a_counter_that_is_off_by_one_is_noticed_whichever_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = open(folder.path());
    fill(&mut writer);
    let db = writer.connection();
    let adds_up = || look(db).expect("readable").ledger.iter().all(LedgerLine::adds_up);
    assert!(adds_up());
    db.execute_batch(
        "INSERT INTO held_key VALUES ('sink', 1, 'd', 1, x'', 7); UPDATE progress SET delivered = delivered - 7 WHERE name = 'sink'",
    )
    .expect("seven of those delivered are of a key that is set aside");
    assert!(adds_up());
    let break_and_mend = [
        ("UPDATE held_key SET pending = pending + 1", "UPDATE held_key SET pending = pending - 1"),
        ("UPDATE progress SET accepted = accepted + 1", "UPDATE progress SET accepted = accepted - 1"),
        ("UPDATE progress SET delivered = delivered - 1", "UPDATE progress SET delivered = delivered + 1"),
        ("UPDATE progress SET expired = expired + 1", "UPDATE progress SET expired = expired - 1"),
        (
            "UPDATE progress SET dead_lettered = dead_lettered - 1",
            "UPDATE progress SET dead_lettered = dead_lettered + 1",
        ),
        ("UPDATE progress SET quarantined = quarantined - 1", "UPDATE progress SET quarantined = quarantined + 1"),
        // A cursor that moved without its counter; acknowledged ranges that were lost.
        (
            "UPDATE progress SET value = value + 1 WHERE name = 'sink'",
            "UPDATE progress SET value = value - 1 WHERE name = 'sink'",
        ),
        (
            "CREATE TEMP TABLE kept AS SELECT acknowledged FROM cursor; UPDATE progress SET acknowledged = x'' WHERE name = 'sink'",
            "UPDATE progress SET acknowledged = (SELECT acknowledged FROM kept) WHERE name = 'sink'",
        ),
        // A batch that was held and is gone; one that claims more records than it has.
        ("UPDATE batch SET count = count + 1 WHERE seq = 100", "UPDATE batch SET count = count - 1 WHERE seq = 100"),
        (
            "CREATE TEMP TABLE gone AS SELECT id FROM batch WHERE seq = 90; UPDATE batch SET id = -1 WHERE seq = 90",
            "UPDATE batch SET id = (SELECT id FROM gone) WHERE id = -1",
        ),
    ];
    for (breaks, mends) in break_and_mend {
        db.execute_batch(breaks).expect("a statement");
        assert!(!adds_up(), "not noticed: {breaks}");
        db.execute_batch(mends).expect("a statement");
        assert!(adds_up(), "not mended: {mends}");
    }
}

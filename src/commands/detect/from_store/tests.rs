use super::*;
use crate::commands::detect::report;
use crate::core::detection::alert::Moment;
use crate::core::detection::detectors::limit::{Bounds, Limits};
use crate::core::detection::monitor::MonitorSettings;
use crate::core::detection::severity::Severity;
use crate::core::identity::RunId;
use crate::core::models::Model;
use crate::core::pipeline::{PipelineSettings, SealedBatch};
use crate::core::reading::{Reading, Readings};
use crate::core::rulebook::{ModelDetectors, NamedModel, Threshold};
use crate::store::commit::CommitInput;
use crate::store::opening::{self, Opened};
use crate::store::runs::Run;
use crate::store::salvage::Salvaged;
use crate::store::schema::Synchronous;
use crate::store::writer::{Writer, WriterSettings};

const MINUTE: i64 = 60;

fn setting(limit: Option<f64>) -> Setting {
    let mut monitor = MonitorSettings::default();
    if let Some(high) = limit {
        monitor.limits = Limits::new(vec![("temp".to_owned(), Bounds { high: Some(high), ..Bounds::NONE })]);
    }
    Setting { monitor, ..Setting::default() }
}

fn plan(folder: &Path, limit: Option<f64>) -> Plan {
    let named = |name: &str, setting| Named { name: name.to_owned(), setting };
    Plan {
        store: store_path(folder),
        present: named("now", setting(None)),
        changed: named("then.toml", setting(limit)),
    }
}

fn writer_settings(folder: &Path) -> WriterSettings {
    WriterSettings { synchronous: Synchronous::Off, ..WriterSettings::for_tests(folder) }
}

/// One run of a gateway with its own times: one reading a second from each of two tanks, and a commit a minute. No sink reads the store, so
/// it keeps everything.
fn gateway_runs(folder: &Path, run: u8, from: i64, until: i64, value: impl Fn(&str, i64) -> Option<f64>) {
    let at = |second: i64| Moment { wall_ms: second * 1000, steady_ms: (second - from) as u64 * 1000 };
    let pipeline = PipelineSettings::new("g", RunId([run; 8]));
    let Opened { mut writer, mut pipeline, .. } =
        opening::open(&writer_settings(folder), &pipeline, at(from)).expect("a store");
    let mut commit = |pipeline: &mut crate::core::pipeline::Pipeline| {
        writer.commit(&CommitInput { sealed: pipeline.seal(), ..CommitInput::default() }).expect("a working disk");
    };
    for second in from..until {
        pipeline.tick(at(second));
        let mut readings = Readings::default();
        for device in ["a", "b"] {
            let Some(value) = value(device, second) else { continue };
            readings.push(&Reading::at(second * 1000, device, "temp", value));
        }
        pipeline.take(&readings, at(second));
        if second % MINUTE == 0 {
            commit(&mut pipeline);
        }
    }
    pipeline.request_final_snapshot();
    commit(&mut pipeline);
}

/// Values from 90 to 91.875 in irregular order.
fn noise(second: i64) -> f64 {
    let mixed = (second as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    90.0 + 0.125 * (mixed >> 60) as f64
}

/// Two hours on, three off, and one on. Tank a has a spike in each run; b is over 91.9 for a moment every 20 minutes, and silent once for
/// five minutes.
fn fill(folder: &Path) {
    let value = |device: &str, second: i64| match (device, second) {
        ("a", 4_000 | 20_000) => Some(130.0),
        ("b", 5_000..5_300) => None,
        ("b", second) if second % (20 * MINUTE) == 10 * MINUTE => Some(92.1),
        _ => Some(noise(second)),
    };
    gateway_runs(folder, 1, 0, 120 * MINUTE, value);
    gateway_runs(folder, 2, 300 * MINUTE, 360 * MINUTE, value);
}

fn row(found: &Found, device: &str, kind: &str) -> Option<[u64; 5]> {
    let rows = found.comparison.rows();
    let row = rows.into_iter().find(|(key, _)| key.device == device && key.kind == kind);
    row.map(|(_, tally)| [tally.present, tally.changed, tally.new, tally.gone, tally.raised])
}

#[test]
fn what_a_limit_would_raise_is_counted_beside_what_was_raised() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let found = compare(&plan(folder.path(), Some(91.9)), None).expect("readable");
    assert_eq!(row(&found, "a", "anomaly"), Some([2, 2, 0, 0, 2]));
    assert_eq!(row(&found, "a", "limit"), Some([0, 2, 2, 0, 0]), "spikes are over the limit too");
    assert_eq!(row(&found, "b", "limit"), Some([0, 9, 9, 0, 0]));
    let silences: Vec<_> = found.comparison.rows().into_iter().filter(|(key, _)| key.kind == "gap").collect();
    assert_eq!(silences.len(), 1);
    assert_eq!((silences[0].0.metric.as_str(), silences[0].1.raised), ("_device", 1), "of b as a whole");
    let total = found.comparison.total();
    assert_eq!((total.present, total.new, total.gone, total.raised), (3, 11, 0, 3));
    assert_eq!((found.readings, found.first_ms, found.last_ms), (2 * 3 * 3600 - 300, 0, 21_599_000));
    assert_eq!(found.covered_ms, 7_199_000 + 3_599_000, "three hours in between it was off");
    assert_eq!((found.raised_since_ms, found.damaged_batches), (Some(0), 0));
    assert_eq!((found.series, found.left_out_readings), ([2, 2], 0));
}

/// What a model makes of the highest temperature of ten seconds: that temperature, times so much.
fn model(weight: f64, above: f64, hold_ms: i64) -> ModelDetectors {
    let file = format!(
        r#"{{"format":"outrider-model","version":1,"inputs":[{{"name":"temp.maximum","metric":"temp","feature":"maximum"}}],
           "estimator":{{"type":"dense","layers":[{{"weights":[[{weight}]],"bias":[0],"activation":"identity"}}]}}}}"#
    );
    let model = Model::parse(file.as_bytes()).expect("a model");
    let inputs = model.inputs().into();
    let named = std::sync::Arc::new(NamedModel::new(model, inputs, 10_000));
    let threshold = Threshold { above, clear: None, label: None, from: None, hold_ms, severity: Severity::Minor };
    ModelDetectors { models: [("hot".to_owned(), named)].into(), thresholds: vec![("hot".to_owned(), threshold)] }
}

#[test]
fn what_a_model_would_raise_is_counted_like_what_a_limit_would() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let look = |present: ModelDetectors, changed: ModelDetectors| {
        let mut plan = plan(folder.path(), None);
        (plan.present.setting.models, plan.changed.setting.models) = (present, changed);
        let are_alike = plan.present.setting == plan.changed.setting;
        let found = compare(&plan, None).expect("readable");
        ([row(&found, "a", "hot"), row(&found, "b", "hot")], are_alike)
    };
    let without = ModelDetectors::default;
    let model = |weight, hold_ms| model(weight, 183.8, hold_ms);
    // The same moments as those above a limit of 91.9.
    assert_eq!(look(without(), model(2.0, 0)), ([Some([0, 2, 2, 0, 0]), Some([0, 9, 9, 0, 0])], false));
    assert_eq!(look(model(2.0, 0), without()), ([Some([2, 0, 0, 2, 0]), Some([9, 0, 0, 9, 0])], false));
    assert_eq!(look(model(2.0, 0), model(2.0, 0)), ([Some([2, 2, 0, 0, 0]), Some([9, 9, 0, 0, 0])], true));
    // Another file under the same name: what is above 122.5 now is the two spikes.
    assert_eq!(look(model(2.0, 0), model(1.5, 0)), ([Some([2, 2, 0, 0, 0]), Some([9, 0, 0, 9, 0])], false));
    // A window of ten seconds forgets a moment before a minute is over.
    assert_eq!(look(without(), model(2.0, 60_000)), ([None, None], false));
}

#[test]
fn it_is_said_in_text_and_in_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let plan = plan(folder.path(), Some(91.9));
    let found = compare(&plan, None).expect("readable");
    let mut text = Vec::new();
    report::write_text(&mut text, &plan, &found).expect("memory");
    let text = String::from_utf8(text).expect("text");
    for expected in [
        "holds      21300 readings, 2 series watched\n",
        "received   1970-01-01 00:00:00 to 1970-01-01 05:59:59 UTC\n",
        "covers     3 h of the devices' time\n",
        "changed    then.toml\n",
        "present configuration           3      24.0\n",
        "changed configuration          14     112.0\n",
        "  new                          11      88.0\n",
        "  no longer raised              0       0.0\n",
        "raised by the gateway           3      24.0\n",
        "       9          0         0         9  b/temp, limit\n       2          0         0         2  a/temp, limit\n\n",
        "Note: a day's figures are a guess, out of 3 h\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let mut lines = Vec::new();
    report::write_json(&mut lines, &plan, &found).expect("memory");
    let lines: Vec<serde_json::Value> =
        lines.split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["new"]["alerts"]), (&"comparison".into(), &11.into()));
    assert_eq!(lines[0]["present"]["alerts"], 3);
    assert_eq!((&lines[1]["device"], &lines[1]["kind"], &lines[1]["new"]), (&"b".into(), &"limit".into(), &9.into()));
    assert_eq!(lines.len(), 1 + 4);
}

/// What the sinks have taken is deleted, in both streams.
#[test]
fn what_was_raised_is_told_as_far_back_as_the_store_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let writer = Writer::open(&writer_settings(folder.path()), RunId([3; 8])).expect("the store");
    let look = |deletes: &str| {
        writer.connection().execute(deletes, []).expect("a statement");
        let found = compare(&plan(folder.path(), None), None).expect("readable");
        let total = *found.comparison.total();
        (found.raised_since_ms, total.present, total.raised)
    };
    let (since_ms, present, raised) = look("DELETE FROM batch WHERE stream = 2 AND last_ms < 5200000");
    assert!(since_ms.is_some_and(|since_ms| (5_200_000..7_200_000).contains(&since_ms)), "{since_ms:?}");
    assert_eq!((present, raised), (3, 1), "two were raised before");
    assert_eq!(look("DELETE FROM batch WHERE stream = 2"), (None, 3, 0));
    assert_eq!(
        look("DELETE FROM batch WHERE stream = 1 AND last_ms < 4500000"),
        (None, 2, 0),
        "only what is held is replayed"
    );
}

#[test]
fn settings_that_are_the_same_are_told_and_differ_in_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    gateway_runs(folder.path(), 1, 0, 10 * MINUTE, |_, second| Some(noise(second)));
    let plan = plan(folder.path(), None);
    let found = compare(&plan, None).expect("readable");
    assert_eq!(found.comparison.total().differences(), 0);
    let mut text = Vec::new();
    report::write_text(&mut text, &plan, &found).expect("memory");
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("both configurations watch alike") && text.contains("say nothing of a day"), "{text}");
    assert!(text.contains("present configuration           0         -\n"), "{text}");
}

/// As if it had been salvaged from a run with another clock.
fn give_the_last_batch_to_another_run(writer: &mut Writer) {
    let mut reader = Reader::open(&writer.settings().path, None).expect("a reader");
    let (mut after, mut block) = (0, Block::default());
    while reader.read(Stream::RAW, after, &mut block).expect("readable") {
        after = block.last_sequence();
    }
    let last = block.into_batch().expect("intact");
    let id = "SELECT max(id) FROM batch WHERE stream = 1";
    writer.connection().execute(&format!("DELETE FROM batch WHERE id = ({id})"), []).expect("a statement");
    let run = Run { run: RunId([7; 8]), gateway: "g".to_owned(), started_ms: 5 };
    let sealed = SealedBatch {
        stream: Stream::RAW,
        last_sequence: last.last_sequence,
        first_position: last.first_position,
        count: last.count,
        first_ms: 5,
        last_ms: last.last_ms,
        payload: last.payload,
    };
    let salvaged = Salvaged {
        folder: "damaged-1".to_owned(),
        stream: Stream::RAW,
        through: 1,
        is_end: false,
        batch: Some((run, sealed)),
    };
    writer.commit(&CommitInput { salvaged: vec![salvaged], ..CommitInput::default() }).expect("a working disk");
}

#[test]
fn a_damaged_batch_is_left_out_and_told_and_a_salvaged_one_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    gateway_runs(folder.path(), 1, 0, 10 * MINUTE, |_, second| Some(noise(second)));
    let mut writer = Writer::open(&writer_settings(folder.path()), RunId([2; 8])).expect("the store");
    let damage = "UPDATE batch SET raw_len = raw_len + 1 WHERE id = (SELECT id FROM batch WHERE stream = 1 ORDER BY id LIMIT 1 OFFSET 3)";
    assert_eq!(writer.connection().execute(damage, []).expect("a statement"), 1);
    let found = compare(&plan(folder.path(), None), None).expect("readable");
    assert_eq!((found.damaged_batches, found.readings), (1, 1200 - 120));

    give_the_last_batch_to_another_run(&mut writer);
    let found = compare(&plan(folder.path(), None), None).expect("readable");
    assert_eq!((found.salvaged_readings, found.readings), (0, 1080), "a clock that was wrong, as nothing was salvaged");
    writer.connection().execute("INSERT INTO salvage VALUES ('damaged-1', 'raw', 1, 1)", []).expect("a statement");
    let found = compare(&plan(folder.path(), None), None).expect("readable");
    assert_eq!((found.salvaged_readings, found.readings), (118, 1080 - 118));
}

#[test]
fn what_cannot_be_read_is_named_with_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let says = |expected: &[&str]| {
        let error = compare(&plan(&state, None), None).expect_err("nothing to read").explained();
        for part in expected.iter().chain(&[&*store_path(&state).display().to_string()]) {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    };
    says(&["there is no store", "--state"]);
    std::fs::create_dir(&state).expect("a folder");
    let store = store_path(&state);
    std::fs::write(&store, "").expect("a file");
    says(&["holds no readings"]);
    std::fs::write(&store, [7; 9000]).expect("a file");
    says(&["not a database", "sets a damaged store aside"]);
    std::fs::remove_file(&store).expect("a file");
    let writer = Writer::open(&writer_settings(&state), RunId([1; 8])).expect("a new store");
    says(&["holds no readings"]);
    drop(writer);
    gateway_runs(&state, 2, 0, 2 * MINUTE, |_, second| Some(noise(second)));
    let writer = Writer::open(&writer_settings(&state), RunId([3; 8])).expect("the store");
    writer.connection().execute_batch("UPDATE batch SET last_ms = last_ms + 1 WHERE stream = 1").expect("a statement");
    says(&["holds 3 batches of readings", "all of them are damaged"]);
    writer.connection().execute_batch("PRAGMA user_version=99").expect("a pragma");
    says(&["has version 99", "run the newer program"]);
    drop(writer);
    std::fs::remove_file(&store).expect("a file");
    rusqlite::Connection::open(&store).expect("a file").execute_batch("CREATE TABLE t(x)").expect("a table");
    says(&["of another program"]);
}

#[test]
fn who_may_not_read_is_told_who_may() {
    let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), None);
    let error = StoreError::Read { path: "/var/lib/outrider/outrider.sqlite".into(), source }.explained();
    assert!(error.contains("the rights of the user who runs the gateway"), "{error}");
}

//! A store of version 1 is migrated to the present version with everything in it, whatever happens meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use outrider::core::identity::{RunId, Stream};
use outrider::errors::with_causes;
use outrider::store::log::{Block, Entry};
use outrider::store::reader::Reader;
use outrider::store::schema::store_path;
use outrider::store::writer::{Writer, WriterSettings};
use rusqlite::Connection;

use crate::archive;
use crate::durability::Platter;
use crate::gateway::{Gateway, ledger_line, run_command, wait_until};
use crate::kill::next;
use crate::version_1::{self, GATEWAY, Old};
use crate::vfs::{Disk, Part, used_bytes};

/// Files that are finished soon.
const ARCHIVE: &str = "[[sink]]\nname = \"archive\"\ntype = \"archive\"\nrotate_after = \"1s\"\n";

fn open(folder: &Path, vfs: Option<&Disk>) -> Result<Writer, outrider::store::schema::OpenError> {
    let settings = WriterSettings {
        gateway: GATEWAY.to_owned(),
        vfs: vfs.map(|disk| disk.name.clone()),
        ..WriterSettings::for_tests(folder)
    };
    Writer::open(&settings, RunId([6; 8]))
}

/// Everything in a store, in the same form for either version.
fn content(folder: &Path) -> Result<Vec<String>, String> {
    let mut content = Vec::new();
    let mut reader = Reader::open(&store_path(folder), None).map_err(|error| with_causes(&error))?;
    for (stream, name) in Stream::BUILT_IN {
        let (mut block, mut after) = (Block::default(), 0);
        while reader.read(stream, after, &mut block).map_err(|error| error.to_string())? {
            for entry in block.entries(after) {
                content.push(match entry {
                    Entry::Record(record) => {
                        let mut line = Vec::new();
                        record.write(&mut line);
                        // Version 1 did not store the gateway with each record.
                        let line = String::from_utf8(line)
                            .unwrap()
                            .replace(&format!("\"gateway\":\"{GATEWAY}\""), "\"gateway\":\"\"");
                        format!("{} {} {line}", name, record.sequence)
                    }
                    other => format!("{} {other:?}", name),
                });
            }
            after = block.last_sequence();
        }
        content.push(format!("{} {:?}", name, reader.extent(stream).unwrap()));
    }
    let db = reader.connection();
    for sql in [
        "SELECT sink || stream || seq || hex(acknowledged) || ' ' || accepted || ' ' || delivered || ' ' || dead_lettered FROM cursor ORDER BY sink, stream",
        "SELECT name || value FROM total ORDER BY name",
        "SELECT device || metric || kind || body FROM alert ORDER BY device, metric, kind",
        "SELECT chunk || ' ' || seq || hex(state) FROM snapshot ORDER BY chunk",
        "SELECT sink || stream || seq || reason || hex(line) FROM dead_letter ORDER BY id",
    ] {
        let mut select = db.prepare(sql).map_err(|error| error.to_string())?;
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        content.extend(rows.map(|row| row.unwrap()));
    }
    Ok(content)
}

fn tables(folder: &Path) -> Vec<String> {
    let db = Connection::open(store_path(folder)).unwrap();
    let mut select = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_gateway_goes_on_with_a_store_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let old = version_1::write(&state, 3, 0);
    let environment = [("OUTRIDER__GATEWAY__ID", GATEWAY)];
    // Commands that only read report the version and change nothing.
    let said = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_outrider"));
        let ended = command.args(arguments).env("OUTRIDER__STORE__PATH", &state).output().unwrap();
        let text = [ended.stdout, ended.stderr].concat();
        (ended.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = said(&["check"]);
    assert!(code == Some(0) && text.contains("made by an earlier version"), "{code:?}: {text}");
    let (code, text) = said(&["detect", "--from-store", "--profile", "temperature", "--json"]);
    assert!(code == Some(0) && text.contains(&format!("\"readings\":{}", old.raw)), "{code:?}: {text}");
    let before = content(&state).unwrap();
    assert_eq!(content(&state).unwrap(), before);
    let gateway = Gateway::start_configured(folder.path(), ARCHIVE, &[], &environment);
    wait_until("everything in the archive", || {
        let status = gateway.status();
        let of = |stream| ledger_line(&status, "archive", stream)["buffered"].clone();
        of("raw") == 0 && of("anomalies") == 0
    });
    let status = gateway.status();
    assert_eq!(status["ledger_adds_up"], true, "{}", status["ledger"]);
    let line = ledger_line(&status, "archive", "raw");
    assert_eq!((&line["accepted"], &line["dead_lettered"]), (&old.raw.into(), &2.into()), "{line}");
    assert_eq!(line["delivered"], old.raw - 2, "{line}");
    assert_eq!(ledger_line(&status, "gone", "raw")["delivered"], 13);
    assert_eq!(status["received"]["accepted"], old.raw);
    let alerts = gateway.alerts();
    let alert = alerts.iter().find(|alert| alert["id"] == old.alert_id.as_str()).expect("the alert, under its id");
    assert_eq!((&alert["state"], &alert["device"]), (&"raised".into(), &"tank-0".into()));
    assert!(gateway.stop().success());

    let records = archive::records(&state.join("archive"), "raw");
    let of_before = |record: &&serde_json::Value| record["run"] == version_1::RUN.to_string();
    let positions: Vec<u64> =
        records.iter().filter(of_before).map(|record| record["position"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (old.archived + 1..=old.raw).collect();
    assert_eq!(positions, expected, "each once, in order, and nothing of what the archive had");
    assert!(records.iter().all(|record| record["gateway"] == GATEWAY));
    let anomalies = archive::records(&state.join("archive"), "anomalies");
    assert_eq!(anomalies.iter().filter(of_before).count() as u64, old.anomalies);
    let db = Connection::open(store_path(&state)).unwrap();
    let raised = "SELECT count(*) FROM alert WHERE state = 'raised' AND device = 'tank-0'";
    assert_eq!(db.query_row(raised, [], |row| row.get::<_, i64>(0)), Ok(1));
    drop(db);
    let tables = tables(&state);
    assert!(tables.contains(&"batch".to_owned()) && !tables.contains(&"raw".to_owned()), "{tables:?}");

    // A second start has nothing to migrate, and a program of an earlier version refuses the store.
    assert!(Gateway::start(folder.path(), &[], &environment).stop().success());
    Connection::open(store_path(&state)).unwrap().execute_batch("PRAGMA user_version = 3").unwrap();
    let refused = run_command(folder.path(), "", &[], &environment).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("has version 3, this program knows up to 2"), "{said}");
}

#[test]
fn everything_is_in_the_new_tables_what_is_damaged_too_and_can_be_read_before() {
    let folder = tempfile::tempdir().unwrap();
    version_1::write(folder.path(), 2, 0);
    let db = Connection::open(store_path(folder.path())).unwrap();
    db.execute_batch(
        "UPDATE raw SET crc = crc + 1 WHERE seq = 20; UPDATE raw SET count = 'x' WHERE seq = 40; UPDATE raw SET run = 7 WHERE seq = 60;",
    )
    .unwrap();
    drop(db);
    let before = content(folder.path()).unwrap();
    for seq in [20, 40, 60] {
        let damaged = format!("raw Damaged {{ through: {seq}, count: 2 }}");
        assert!(before.contains(&damaged), "{seq}");
    }
    drop(open(folder.path(), None).unwrap());
    assert_eq!(content(folder.path()).unwrap(), before);
}

/// Cuts the power at random moments of the migration. Returns at how many of them something was missing afterwards.
fn cuts_that_lose(points: u64, prepare: impl FnOnce(&Disk)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    version_1::write(folder.path(), 8, 400);
    let before = content(folder.path()).unwrap();
    let (mut main, mut wal) = (Platter::of(std::fs::read(store_path(folder.path())).unwrap()), Platter::default());
    let disk = Disk::register(folder.path());
    prepare(disk);
    let writer = open(folder.path(), Some(disk)).unwrap();
    let log = disk.log();
    drop(writer);
    let mut seed = 0xfeed_0f01_cafe_0f01;
    let mut cuts: Vec<usize> = (0..points).map(|_| next(&mut seed) as usize % log.len()).collect();
    cuts.sort_unstable();
    let (mut taken, mut losses) = (0, 0);
    for cut in cuts {
        for event in &log[taken..cut] {
            match event.part {
                Part::Main => main.take(&event.what),
                Part::Wal => wal.take(&event.what),
            }
        }
        taken = cut;
        let writing = cut.checked_sub(1).map(|last| log[last].part).filter(|_| next(&mut seed).is_multiple_of(2));
        let after = tempfile::tempdir().unwrap();
        let path = store_path(after.path());
        std::fs::write(&path, main.cut(writing == Some(Part::Main), &mut seed)).unwrap();
        std::fs::write(path.with_extension("sqlite-wal"), wal.cut(writing == Some(Part::Wal), &mut seed)).unwrap();
        let is_whole_half_way = content(after.path()).is_ok_and(|content| content == before);
        let is_whole = open(after.path(), None).is_ok() && content(after.path()).is_ok_and(|content| content == before);
        losses += u64::from(!is_whole_half_way || !is_whole);
    }
    losses
}

#[test]
fn a_power_cut_during_the_migration_loses_nothing() {
    assert_eq!(cuts_that_lose(100, |_| {}), 0);
}

/// The control: what is lost on a disk that does not sync is detected.
#[test]
fn a_power_cut_during_the_migration_on_a_disk_that_drops_syncs_is_noticed() {
    let losses = cuts_that_lose(60, |disk| disk.drops_syncs.store(true, Ordering::SeqCst));
    assert!(losses > 5, "{losses}");
}

#[test]
fn on_a_full_disk_the_ballast_is_all_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let Old { raw, .. } = version_1::write(folder.path(), 16, 3_000);
    assert_eq!(raw, 16 * 400);
    let store = store_path(folder.path());
    let bytes = std::fs::metadata(&store).unwrap().len();
    assert!(bytes > 16 << 20, "{bytes}");
    let ballast = 4 << 20;
    std::fs::write(folder.path().join("outrider.ballast"), vec![0xa5; ballast]).unwrap();
    let before = content(folder.path()).unwrap();
    let disk = Disk::register(folder.path());
    disk.forgets.store(true, Ordering::SeqCst);
    disk.bytes_max.store(used_bytes(folder.path()), Ordering::SeqCst);
    drop(open(folder.path(), Some(disk)).unwrap());
    assert!(content(folder.path()).unwrap() == before, "the same as before");
    let after = std::fs::metadata(&store).unwrap().len();
    assert!(after <= bytes + (1 << 20), "{after} of {bytes}: there is no second copy");
}

#[test]
fn a_damaged_store_of_version_1_is_set_aside_and_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let old = version_1::write(&state, 3, 0);
    let store = store_path(&state);
    let mut file = std::fs::read(&store).unwrap();
    file[..4096].fill(0x5a);
    std::fs::write(&store, file).unwrap();
    let gateway = Gateway::start_configured(folder.path(), ARCHIVE, &[], &[("OUTRIDER__GATEWAY__ID", GATEWAY)]);
    wait_until("the end of the salvage", || {
        let status = gateway.status();
        status["store"]["salvaging"] == false && ledger_line(&status, "archive", "raw")["buffered"] == 0
    });
    let status = gateway.status();
    assert_eq!((&status["store"]["damaged_stores"], &status["ledger_adds_up"]), (&1.into(), &true.into()));
    assert_eq!(ledger_line(&status, "archive", "raw")["quarantined"], 0);
    assert!(gateway.alerts().iter().any(|alert| alert["id"] == old.alert_id.as_str()));
    assert!(gateway.stop().success());
    let records = archive::records(&state.join("archive"), "raw");
    let of_before = records.iter().filter(|record| record["run"] == version_1::RUN.to_string());
    let positions: HashSet<u64> = of_before.map(|record| record["position"].as_u64().unwrap()).collect();
    assert!((old.archived + 1..=old.raw).all(|position| positions.contains(&position)));
    assert!(records.iter().all(|record| record["gateway"] == GATEWAY));
}

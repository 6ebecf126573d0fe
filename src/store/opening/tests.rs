use std::path::Path;
use std::time::{Duration, Instant};

use super::super::commit::CommitInput;
use super::super::retention::Capacity;
use super::super::schema::{Synchronous, log_of, store_path};
use super::*;
use crate::core::identity::RunId;
use crate::core::identity::Stream;
use crate::core::reading::{Reading, Readings};

const NOW: Moment = Moment { wall_ms: 1_000_000_000, steady_ms: 0 };

fn settings(folder: &Path) -> WriterSettings {
    let capacity = Capacity::new(8 << 20);
    WriterSettings { synchronous: Synchronous::Off, capacity, ..WriterSettings::for_tests(folder) }
}

fn open_in(folder: &Path) -> Opened {
    let (run, gateway) = (RunId([1; 8]), "g".to_owned());
    let pipeline = PipelineSettings::new(&gateway, run);
    open(&settings(folder), &pipeline, NOW).expect("a store")
}

/// Commits readings that do not compress.
fn commit(opened: &mut Opened, count: u64) {
    let mut readings = Readings::default();
    for number in 0..count {
        let name = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        readings.push(&Reading::at(NOW.wall_ms, &name, &name, number as f64));
    }
    opened.pipeline.take(&readings, NOW);
    let sealed = opened.pipeline.seal();
    opened.writer.commit(&CommitInput { sealed, ..CommitInput::default() }).expect("a working disk");
}

/// The files as a process that is killed leaves them.
fn killed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for file in std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file")) {
        if file.file_type().expect("a type").is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
        }
    }
    copy
}

#[test]
fn a_log_that_sqlite_has_shortened_is_not_taken_for_one_that_was_cut() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open_in(folder.path());
    let limit = settings(folder.path()).capacity.log_bytes_max();
    let log_bytes = |folder: &Path| std::fs::metadata(log_of(&store_path(folder))).expect("a log").len();
    while log_bytes(folder.path()) < 2 * limit {
        commit(&mut opened, 20_000);
    }
    opened.writer.maintain(Instant::now() + Duration::from_secs(61)).expect("a working disk");
    commit(&mut opened, 1);
    assert_eq!(log_bytes(folder.path()), limit, "shortened after the witness was written");
    assert!(open_in(killed(folder.path()).path()).doubt.is_none());

    let cut = killed(folder.path());
    let log = std::fs::OpenOptions::new().write(true).open(log_of(&store_path(cut.path()))).expect("a log");
    log.set_len(limit - 1).expect("a working disk");
    assert!(open_in(cut.path()).doubt.is_some(), "the control");
}

/// As on a disk that is full: a folder for each attempt would soon take the place of the one that has the readings.
#[test]
fn a_start_that_gets_no_further_than_setting_the_store_aside_does_so_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = store_path(folder.path());
    let mut opened = open_in(folder.path());
    commit(&mut opened, 100);
    drop(opened);
    let mut bytes = std::fs::read(&store).expect("a store");
    bytes[..8192].fill(0xff);
    std::fs::write(&store, &bytes).expect("a working disk");
    let settings = settings(folder.path());
    let attempt = || Writer::open_anew(&settings, RunId([2; 8]));
    // Nothing can be begun in place of what was moved away.
    std::fs::create_dir(folder.path().join("outrider.sqlite-shm")).expect("a folder");
    for _ in 0..10 {
        attempt().expect_err("the index of the log has no place");
        assert!(!store.exists(), "what was begun is no store");
    }
    let kept = set_aside::kept(&store);
    assert_eq!(kept.len(), 1);
    std::fs::remove_dir(folder.path().join("outrider.sqlite-shm")).expect("an empty folder");
    let writer = attempt().expect("a new store");
    let unfinished = writer.unfinished_salvages().expect("readable");
    assert_eq!(unfinished.iter().map(|one| &one.folder).collect::<Vec<_>>(), [&kept[0], &kept[0]]);
    assert_eq!(writer.last_sequence(Stream::RAW).expect("readable"), 100, "new readings come behind");
}

#[test]
fn the_log_of_a_store_that_was_begun_while_running_is_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open_in(folder.path());
    commit(&mut opened, 100);
    // The witness knows the log of the first store.
    opened.writer.maintain(Instant::now() + Duration::from_secs(61)).expect("a working disk");
    commit(&mut opened, 1);
    opened.writer.renew().expect("a new store");
    commit(&mut opened, 10);
    let killed = killed(folder.path());
    let again = open_in(killed.path());
    assert_eq!(again.writer.last_sequence(Stream::RAW).expect("readable"), 111);
    assert!(again.doubt.is_none() && set_aside::kept(&store_path(killed.path())).is_empty());
}

#[test]
fn new_records_come_behind_those_of_every_store_that_is_still_salvaged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = store_path(folder.path());
    let mut opened = open_in(folder.path());
    commit(&mut opened, 100);
    drop(opened);
    set_aside::move_store(&store).expect("a working disk");
    // The next one is lost as soon as it has begun, and the witness with it.
    drop(Writer::open(&settings(folder.path()), RunId([2; 8])).expect("a new store"));
    std::fs::remove_file(Witness::of(&store).path()).expect("a witness");
    let writer = Writer::open_anew(&settings(folder.path()), RunId([3; 8])).expect("another one");
    assert_eq!(writer.last_sequence(Stream::RAW).expect("readable"), 100);
}

//! Drives an archiver over a store of its own, step by step.

use std::sync::mpsc::{Receiver, channel};

use super::folder::ArchiveLimits;
use super::*;
use crate::core::cursor::CursorState;
use crate::pipeline::Message;
use crate::sinks::bench::Bench;
use crate::sinks::files::format::Packing;

struct Archive {
    store: Bench,
    _words: Receiver<Message>,
    archiver: Archiver,
}

impl Archive {
    fn new(bytes_max: u64) -> Archive {
        let mut store = Bench::new();
        let (pipeline, words) = channel();
        let keep_min = Duration::from_secs(86_400);
        let limits = ArchiveLimits { bytes_max, free_percent_min: 0, keep_min, free_bytes_min: 0 };
        let folder =
            ArchiveFolder::open(&store.folder.path().join("archive"), folder::built_in(), limits).expect("a folder");
        let archiver = Archiver::new(ArchiverParts {
            format: FileFormat::Ndjson(Packing::Zstd),
            rotate_after: Duration::from_secs(3600),
            rotate_bytes: 1 << 20,
            folder: Arc::new(Mutex::new(folder)),
            source: store.stream_parts("archive", pipeline),
            now_ms: || 0,
        });
        Archive { store, _words: words, archiver }
    }
}

#[test]
fn what_was_removed_before_it_was_archived_is_not_waited_for() {
    let mut archive = Archive::new(u64::MAX);
    archive.store.commit(5);
    archive.store.writer.connection().execute("DELETE FROM batch WHERE stream = 1", []).expect("five lines");
    assert!(archive.archiver.tail.is_behind());
    assert!(matches!(archive.archiver.step(), Err(StepError::Store(_))), "nobody said that it was removed");
    let removed = "UPDATE progress SET expired = 5 WHERE stream = 1 AND name = ''";
    archive.store.writer.connection().execute(removed, []).expect("a row");
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    assert!(!archive.archiver.tail.is_behind(), "else it would look for them without a pause, and never end");
    archive.store.commit(2);
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    assert_eq!((archive.archiver.tail.read, archive.archiver.open.is_some()), (7, true));
}

#[test]
fn what_is_archived_is_not_written_again_because_the_cap_cannot_be_kept() {
    let mut archive = Archive::new(0);
    let hour = archive.store.folder.path().join("archive").join(partition("raw", 0));
    // Sorts first, so it is taken for the oldest file, but it is a folder and cannot be removed like a file.
    std::fs::create_dir_all(hour.join(format!("!{}", FileFormat::Ndjson(Packing::Zstd).suffix()))).expect("a folder");
    archive.store.commit(3);
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    assert!(matches!(archive.archiver.close(), Err(StepError::Io(_))));
    archive.archiver.give_up_file();
    assert_eq!((archive.archiver.tail.read, archive.archiver.tail.is_behind()), (3, false));
}

#[test]
fn files_that_the_cap_removes_are_counted_where_people_look() {
    let mut archive = Archive::new(1);
    for _ in 0..3 {
        archive.store.commit(3);
        assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
        archive.archiver.close().expect("a working disk");
    }
    assert_eq!(archive.archiver.tail.source.status.files_removed.get(), 2, "the newest stays");
    assert_eq!(archive.archiver.tail.source.status.records_removed.get(), 6);
}

#[test]
fn on_a_disk_without_space_what_was_read_is_finished_and_the_rest_stays_in_the_store() {
    let mut archive = Archive::new(u64::MAX);
    archive.store.commit(3);
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    let limits =
        ArchiveLimits { bytes_max: u64::MAX, free_percent_min: 0, keep_min: Duration::ZERO, free_bytes_min: u64::MAX };
    let root = archive.store.folder.path().join("archive");
    *archive.archiver.lock_folder() =
        ArchiveFolder::open(&root.join("none"), folder::built_in(), limits).expect("a folder");
    archive.store.commit(2);
    assert!(matches!(archive.archiver.step(), Err(StepError::NoSpace)));
    archive.archiver.give_up_file();
    let cursor = archive.archiver.tail.source.cursor.cursor;
    assert_eq!((cursor, archive.archiver.tail.read, archive.archiver.tail.is_behind()), (3, 3, true));
    let limits = ArchiveLimits { free_bytes_min: 0, ..limits };
    *archive.archiver.lock_folder() = ArchiveFolder::open(&root, folder::built_in(), limits).expect("a folder");
    assert_eq!(archive.archiver.step().expect("the control"), Step::Again);
}

#[test]
fn a_file_that_had_its_name_before_something_failed_is_not_written_again() {
    let mut archive = Archive::new(u64::MAX);
    archive.store.commit(3);
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    archive.archiver.close().expect("a working disk");
    // As if making the name durable had failed: the cursor did not move.
    archive.archiver.tail.source.cursor = CursorState::at(0);
    archive.archiver.give_up_file();
    assert!(archive.archiver.tail.is_behind());
    assert_eq!(archive.archiver.recover().expect("readable"), Step::Again);
    assert_eq!((archive.archiver.tail.read, archive.archiver.tail.source.cursor.cursor), (3, 3));
}

#[test]
fn a_failure_is_over_when_a_file_was_finished_and_not_before() {
    let mut archive = Archive::new(u64::MAX);
    archive.archiver.failing = true;
    archive.archiver.tail.source.status.set_error(Some("no room".to_owned()));
    archive.store.commit(3);
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    assert_eq!(archive.archiver.step().expect("readable"), Step::CaughtUp);
    assert!(archive.archiver.tail.source.status.last_error().is_some(), "what was written may still be in memory");
    archive.archiver.close().expect("a working disk");
    assert_eq!((archive.archiver.tail.source.status.last_error(), archive.archiver.failing), (None, false));
}

#[test]
fn a_row_that_no_writer_has_written_is_damage_and_stops_nothing() {
    for change in
        ["count = 0", "count = -1", "count = 1000000", "count = 1 << 40", "count = 'x'", "run = x'00'", "payload = 1"]
    {
        let mut archive = Archive::new(u64::MAX);
        archive.store.commit(5);
        archive.store.writer.connection().execute(&format!("UPDATE batch SET {change}"), []).expect("one batch");
        assert_eq!(archive.archiver.step().expect("readable"), Step::Again, "{change}");
        assert_eq!((archive.archiver.tail.read, archive.archiver.tail.unreadable.count()), (5, 5), "{change}");
        archive.store.commit(2);
        assert_eq!(archive.archiver.step().expect("readable"), Step::Again, "{change}");
        assert_eq!(archive.archiver.tail.read, 7, "{change}");
    }
}

#[test]
fn a_damaged_batch_costs_what_was_not_archived_of_it() {
    let mut archive = Archive::new(u64::MAX);
    archive.store.commit(10);
    archive.archiver.tail.read = 4;
    archive.store.writer.connection().execute("UPDATE batch SET payload = zeroblob(9)", []).expect("one batch");
    assert_eq!(archive.archiver.step().expect("readable"), Step::Again);
    assert_eq!((archive.archiver.tail.read, archive.archiver.tail.unreadable.count()), (10, 6));
}

#[test]
fn what_a_batch_lacks_of_what_its_row_says_is_quarantined_and_not_archived() {
    let mut archive = Archive::new(u64::MAX);
    archive.store.commit_saying(5, 3);
    while archive.archiver.step().expect("readable") == Step::Again {}
    assert_eq!((archive.archiver.tail.read, archive.archiver.tail.unreadable.count()), (5, 2));
}

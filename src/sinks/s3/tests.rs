//! Builds files from a store of its own, step by step.

mod bucket;
mod uploads;

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http_body_util::BodyExt;

use super::building::{Building, BuildingSettings, Built, Step};
use super::place::First;
use crate::core::identity::RunId;
use crate::pipeline::Message;
use crate::sinks::bench::Bench;
use crate::sinks::files::format::{FileFormat, Packing};

struct Builder {
    store: Bench,
    words: Receiver<Message>,
    building: Building,
}

fn settings(state_folder: &Path) -> BuildingSettings {
    BuildingSettings {
        format: FileFormat::Ndjson(Packing::Zstd),
        rotate_after: Duration::from_secs(3600),
        rotate_bytes: 1 << 20,
        folder: state_folder.join("uploads"),
        free_bytes_min: 0,
        held_bytes_max: u64::MAX,
    }
}

impl Builder {
    fn new(change: impl FnOnce(&mut BuildingSettings)) -> Builder {
        let mut store = Bench::new();
        let (pipeline, words) = channel();
        let mut settings = settings(store.folder.path());
        change(&mut settings);
        let building = Building::new(store.stream_parts("lake", pipeline), settings);
        Builder { store, words, building }
    }

    fn all(&mut self) -> Step {
        loop {
            match self.building.step().expect("readable") {
                Step::Again => {}
                step => return step,
            }
        }
    }

    fn finish(&mut self) -> Built {
        self.building.finish().expect("a working disk").expect("records")
    }

    fn cursor(&self) -> u64 {
        self.building.tail.source.cursor.cursor
    }
}

fn lines(built: &Built) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let content = runtime.block_on(built.upload.body().collect()).expect("readable").to_bytes();
    let mut text = String::new();
    zstd::Decoder::new(&content[..]).and_then(|mut decoder| decoder.read_to_string(&mut text)).expect("zstd");
    text.lines().count()
}

/// Files that are being built and can be seen.
fn files_in(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| !name.to_string_lossy().ends_with(".names")).count()
}

#[test]
fn a_file_is_due_so_long_after_its_first_record_was_received_and_the_cursor_moves_when_it_is_stored() {
    let mut builder = Builder::new(|_| {});
    builder.store.commit(5);
    // They were received in 1970.
    assert_eq!(builder.all(), Step::Due);
    let built = builder.finish();
    assert_eq!((lines(&built), built.first.position, built.last, built.records), (5, 1, 5, 5));
    assert_eq!((builder.cursor(), builder.building.is_empty()), (0, false));
    builder.building.is_stored(&built);
    assert_eq!((builder.cursor(), builder.building.is_empty()), (5, true));
    let uploads = builder.store.folder.path().join("uploads");
    assert_eq!(files_in(&uploads), 0, "the file has no name");
}

#[test]
fn what_is_given_up_is_built_again() {
    let mut builder = Builder::new(|_| {});
    builder.store.commit(5);
    builder.all();
    builder.finish();
    builder.building.give_up();
    builder.store.commit(2);
    builder.all();
    let built = builder.finish();
    assert_eq!((lines(&built), built.first.position, built.last), (7, 1, 7));
}

#[test]
fn a_full_file_is_due_and_a_store_that_would_become_full_makes_it_full_sooner() {
    for change in [
        (|settings| settings.rotate_bytes = 0) as fn(&mut BuildingSettings),
        |settings| settings.held_bytes_max = 1,
        |settings| settings.rotate_after = Duration::ZERO,
    ] {
        let mut builder = Builder::new(change);
        builder.store.commit(3);
        builder.store.commit(3);
        assert_eq!(builder.all(), Step::Due);
        let built = builder.finish();
        assert!(built.records < 6, "{}", built.records);
        builder.building.is_stored(&built);
        builder.all();
        assert_eq!(builder.finish().first.position, built.last + 1);
    }
}

#[test]
fn what_an_object_holds_already_is_passed() {
    let mut builder = Builder::new(|_| {});
    builder.store.commit(5);
    builder.all();
    builder.finish();
    let first = |run| First { gateway: "g".to_owned(), run: RunId([run; 8]), position: 1, received_ms: 0 };
    builder.building.is_known_through(&first(7), 3);
    builder.store.commit(1);
    builder.all();
    assert_eq!(builder.cursor(), 3);
    let built = builder.finish();
    assert_eq!((lines(&built), built.first.position, built.last), (3, 4, 6));
    builder.building.is_stored(&built);
    // All of it: the cursor moves though nothing is left to be built.
    builder.store.commit(2);
    builder.building.is_known_through(&first(7), 8);
    assert_eq!((builder.all(), builder.cursor()), (Step::CaughtUp, 8));
    // Another run's positions say nothing.
    builder.building.is_known_through(&first(8), 99);
    builder.store.commit(2);
    builder.all();
    assert_eq!(builder.finish().first.position, 9);
}

#[test]
fn a_damaged_batch_is_counted_and_passed() {
    let mut builder = Builder::new(|_| {});
    builder.store.commit(4);
    builder.store.writer.connection().execute("UPDATE batch SET payload = zeroblob(9)", []).expect("one batch");
    assert_eq!(builder.all(), Step::CaughtUp);
    assert_eq!((builder.building.tail.read, builder.cursor()), (4, 4));
    let Some(Message::Cursor(change)) = builder.words.try_iter().last() else { panic!("the cursor has moved") };
    assert_eq!(change.unreadable.count(), 4);
    builder.store.commit(2);
    builder.all();
    assert_eq!(builder.finish().first.position, 5);
}

#[test]
fn a_disk_without_room_makes_small_files_in_memory() {
    let mut builder = Builder::new(|settings| settings.free_bytes_min = u64::MAX);
    builder.store.commit(5);
    builder.all();
    assert_eq!(lines(&builder.finish()), 5);
    assert_eq!(files_in(&builder.store.folder.path().join("uploads")), 0);
}

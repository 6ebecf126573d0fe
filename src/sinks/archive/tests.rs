//! An archiver over a store of its own, step by step.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::core::identity::RunId;
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Attributes, Reading, Readings, TimeQuality};
use crate::store::commit::CommitInput;
use crate::store::retention::Capacity;
use crate::store::schema::{Synchronous, store_path};
use crate::store::writer::{Writer, WriterSettings};

struct Bench {
    folder: tempfile::TempDir,
    writer: Writer,
    pipeline: Pipeline,
    committed: watch::Sender<u64>,
    _link: watch::Sender<Link>,
    _words: Receiver<Message>,
    archiver: Archiver,
}

impl Bench {
    fn new(archive_bytes_max: u64) -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunId([7; 8]);
        let settings = WriterSettings {
            path: store_path(folder.path()),
            synchronous: Synchronous::Off,
            vfs: None,
            capacity: Capacity::new(64 << 20),
        };
        let mut writer = Writer::open(&settings, run).expect("a new store");
        let pipeline = Pipeline::new(PipelineSettings {
            gateway: "g".to_owned(),
            run,
            monitor: Default::default(),
            alerts: Default::default(),
            last_raw_sequence: 0,
            last_anomaly_sequence: 0,
        });
        let (committed, link) = (watch::Sender::new(0), watch::Sender::new(Link::Up));
        let (pipeline_sender, words) = channel();
        let archive = ArchiveFolder::open(&folder.path().join("archive"), archive_bytes_max, 0).expect("a folder");
        let parts = ArchiverParts {
            settings: ArchiveSettings {
                sink: "archive".to_owned(),
                rotate_after: Duration::from_secs(3600),
                rotate_bytes: 1 << 20,
            },
            stream: Stream::Raw,
            folder: Arc::new(Mutex::new(archive)),
            reader: Reader::open(&settings.path, None).expect("a reader"),
            cursor: writer.register_sink("archive", Stream::Raw).expect("a cursor"),
            gateway: "g".to_owned(),
            committed: committed.subscribe(),
            link: link.subscribe(),
            pipeline: pipeline_sender,
            beat: Default::default(),
            status: Arc::default(),
        };
        Bench { folder, writer, pipeline, committed, _link: link, _words: words, archiver: Archiver::new(parts) }
    }

    fn commit(&mut self, count: u64) {
        let mut readings = Readings::default();
        for number in 0..count {
            readings.push(&Reading {
                device: "tank",
                metric: "t",
                value: 1.0,
                measured_at_ms: 0,
                received_at_ms: 0,
                time_quality: TimeQuality::Synced,
                device_time: None,
                sequence: Some(number),
                attributes: Attributes::NONE,
            });
        }
        self.pipeline.take(&readings, Default::default());
        let input = CommitInput { sealed: self.pipeline.seal(), ..CommitInput::default() };
        self.writer.commit(&input).expect("a working disk");
        self.committed.send_modify(|last| *last += count);
    }
}

#[test]
fn what_was_removed_before_it_was_archived_is_not_waited_for() {
    let mut bench = Bench::new(u64::MAX);
    bench.commit(5);
    bench.writer.connection().execute("DELETE FROM raw", []).expect("five lines");
    assert!(bench.archiver.is_behind());
    assert_eq!(bench.archiver.step().expect("readable"), Step::CaughtUp);
    assert!(!bench.archiver.is_behind(), "else it would look for them without a pause, and never end");
    bench.commit(2);
    assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
    assert_eq!((bench.archiver.written, bench.archiver.open.is_some()), (7, true));
}

#[test]
fn what_is_archived_is_not_written_again_because_the_cap_cannot_be_kept() {
    let mut bench = Bench::new(0);
    let hour = bench.folder.path().join("archive").join(partition(Stream::Raw, 0));
    // Looks like the oldest file, and cannot be removed like one.
    std::fs::create_dir_all(hour.join(format!("!{SUFFIX}"))).expect("a folder");
    bench.commit(3);
    assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
    assert!(matches!(bench.archiver.close(), Err(StepError::Io(_))));
    bench.archiver.give_up_file();
    assert_eq!((bench.archiver.written, bench.archiver.is_behind()), (3, false));
}

#[test]
fn files_that_the_cap_removes_are_counted_where_people_look() {
    let mut bench = Bench::new(1);
    for _ in 0..3 {
        bench.commit(3);
        assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
        bench.archiver.close().expect("a working disk");
    }
    assert_eq!(bench.archiver.parts.status.files_removed.get(), 2, "the newest stays");
}

#[test]
fn a_file_that_had_its_name_before_something_failed_is_not_written_again() {
    let mut bench = Bench::new(u64::MAX);
    bench.commit(3);
    assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
    bench.archiver.close().expect("a working disk");
    // As if the name could not be made durable: nothing was said of the file.
    bench.archiver.parts.cursor = CursorState::at(0);
    bench.archiver.give_up_file();
    assert!(bench.archiver.is_behind());
    assert_eq!(bench.archiver.recover().expect("readable"), Step::Again);
    assert_eq!((bench.archiver.written, bench.archiver.parts.cursor.cursor), (3, 3));
}

#[test]
fn a_failure_is_over_when_a_file_was_finished_and_not_before() {
    let mut bench = Bench::new(u64::MAX);
    bench.archiver.failing = true;
    bench.archiver.parts.status.set_error(Some("no room".to_owned()));
    bench.commit(3);
    assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
    assert_eq!(bench.archiver.step().expect("readable"), Step::CaughtUp);
    assert!(bench.archiver.parts.status.last_error().is_some(), "what was written may still be in memory");
    bench.archiver.close().expect("a working disk");
    assert_eq!((bench.archiver.parts.status.last_error(), bench.archiver.failing), (None, false));
}

#[test]
fn a_row_that_no_writer_has_written_is_damage_and_stops_nothing() {
    for change in
        ["count = 0", "count = -1", "count = 1000000", "count = 1 << 40", "count = 'x'", "run = x'00'", "payload = 1"]
    {
        let mut bench = Bench::new(u64::MAX);
        bench.commit(5);
        bench.writer.connection().execute(&format!("UPDATE raw SET {change}"), []).expect("one batch");
        assert_eq!(bench.archiver.step().expect("readable"), Step::Again, "{change}");
        assert_eq!((bench.archiver.written, bench.archiver.quarantined), (5, 5), "{change}");
        bench.commit(2);
        assert_eq!(bench.archiver.step().expect("readable"), Step::Again, "{change}");
        assert_eq!(bench.archiver.written, 7, "{change}");
    }
}

#[test]
fn a_damaged_batch_costs_what_was_not_archived_of_it() {
    let mut bench = Bench::new(u64::MAX);
    bench.commit(10);
    bench.archiver.written = 4;
    bench.writer.connection().execute("UPDATE raw SET crc = crc + 1", []).expect("one batch");
    assert_eq!(bench.archiver.step().expect("readable"), Step::Again);
    assert_eq!((bench.archiver.written, bench.archiver.quarantined), (10, 6));
}

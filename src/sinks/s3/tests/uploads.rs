//! Drives uploaders over a store of their own and a bucket in memory. A process that is killed is one whose cursors do not arrive.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::bucket::{Bucket, Fault, Object};
use super::settings;
use crate::core::delivery::Jitter;
use crate::core::identity::RunId;
use crate::pipeline::Message;
use crate::sinks::aws::service::Service;
use crate::sinks::bench::Bench;
use crate::sinks::files::format::{FileFormat, Packing};
use crate::sinks::s3::building::BuildingSettings;
use crate::sinks::s3::client::Client;
use crate::sinks::s3::{Uploader, UploaderParts};
use crate::store::commit::CommitInput;

const HOUR_MS: i64 = 3_600_000;

struct Lake {
    store: Bench,
    bucket: Bucket,
    runtime: Runtime,
    format: FileFormat,
    rotate_bytes: u64,
}

/// One process.
struct Life {
    uploader: Uploader,
    words: Receiver<Message>,
}

impl Lake {
    fn new() -> Lake {
        Lake {
            store: Bench::new(),
            bucket: Bucket::default(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
            format: FileFormat::Ndjson(Packing::Zstd),
            rotate_bytes: 1 << 20,
        }
    }

    fn start(&mut self) -> Life {
        let (pipeline, words) = channel();
        let building = BuildingSettings {
            format: self.format,
            rotate_bytes: self.rotate_bytes,
            ..settings(self.store.folder.path())
        };
        let mut uploader = Uploader::new(UploaderParts {
            source: self.store.stream_parts("lake", pipeline),
            building,
            client: Client::over(Service::for_tests("s3", self.bucket.connector())),
            prefix: "fleet/".to_owned(),
            folder: "raw".to_owned(),
            flush_within: Duration::from_secs(60),
            seed: 1,
        });
        uploader.pace.hurry();
        Life { uploader, words }
    }

    /// Lets the process work until something is so.
    fn run_until(&self, life: &mut Life, is_so: impl Fn(&Uploader) -> bool) {
        let started = Instant::now();
        while !is_so(&life.uploader) {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", self.store.status.last_error());
            let turn = async { tokio::time::timeout(Duration::from_secs(60), life.uploader.turn()).await };
            if self.runtime.block_on(turn).is_err() {
                let tail = &life.uploader.building.tail;
                panic!(
                    "stands at {} of {}, read {}",
                    tail.source.cursor.cursor,
                    *self.store.committed.borrow(),
                    tail.read
                );
            }
        }
    }

    /// Lets the process deliver everything.
    fn deliver(&self, life: &mut Life) {
        let last = *self.store.committed.borrow();
        self.run_until(life, |uploader| uploader.building.tail.source.cursor.cursor == last);
    }

    /// Kills it within an upload, the first for which it gets no reply.
    fn kill_in_upload(&self, mut life: Life) {
        self.bucket.next(Fault::ReplyHeld);
        let uploads = self.bucket.uploads();
        while self.bucket.uploads() == uploads {
            let turn = async { tokio::time::timeout(Duration::from_millis(20), life.uploader.turn()).await };
            let _ = self.runtime.block_on(turn);
        }
    }

    /// What the process has said of its cursor is stored.
    fn store_cursor(&mut self, life: &Life) {
        let cursors = life.words.try_iter().filter_map(|message| match message {
            Message::Cursor(change) => Some(change),
            _ => None,
        });
        let input = CommitInput { cursors: cursors.collect(), ..CommitInput::default() };
        self.store.writer.commit(&input).expect("a working disk");
    }

    /// The store drops its oldest records, up to this one, which is the last of its batch.
    fn drop_through(&self, sequence: u64) {
        self.execute(&format!("DELETE FROM batch WHERE stream = 1 AND seq <= {sequence}"));
        self.has_removed_through(sequence);
    }

    /// The store knows what it has committed, and up to where it has removed batches.
    fn has_removed_through(&self, sequence: u64) {
        let last = *self.store.committed.borrow();
        self.execute(&format!(
            "INSERT INTO progress(stream, name, value, expired, quarantined) VALUES (1, '', {last}, {sequence}, 0)
             ON CONFLICT DO UPDATE SET value = excluded.value, expired = excluded.expired"
        ));
    }

    fn execute(&self, sql: &str) {
        self.store.writer.connection().execute_batch(sql).expect("a statement");
    }

    /// Of one run, which records are in the bucket, each as often as it is.
    fn positions(&self) -> Vec<u64> {
        self.bucket.records().into_iter().map(|(_, position)| position).collect()
    }
}

fn through(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

/// With a name of another extension the same records would be a second object.
#[test]
fn what_was_under_way_when_the_format_was_changed_is_stored_once() {
    let formats = FileFormat::ALL;
    for (before, after) in formats.iter().flat_map(|before| formats.map(|after| (*before, after))) {
        let mut lake = Lake::new();
        lake.format = before;
        lake.store.commit(5);
        let life = lake.start();
        lake.kill_in_upload(life);
        lake.store.commit(3);
        lake.format = after;
        let mut life = lake.start();
        lake.deliver(&mut life);
        assert_eq!(lake.positions(), through(8), "{before:?} {after:?}");
        let is_of_after = |object: &Object| object.key.ends_with(after.suffix());
        assert!(lake.bucket.objects().iter().any(is_of_after), "what follows is in the new format");
    }
}

/// The file would begin with another record, and have another name.
#[test]
fn what_was_under_way_when_its_first_records_left_a_full_store_is_stored_once() {
    for dropped in [3, 6, 9] {
        let mut lake = Lake::new();
        (0..3).for_each(|_| lake.store.commit(3));
        let life = lake.start();
        lake.kill_in_upload(life);
        lake.store.commit(3);
        lake.drop_through(dropped);
        let mut life = lake.start();
        lake.deliver(&mut life);
        assert_eq!(lake.positions(), through(12), "{dropped}");
    }
}

/// What is known of a name is what the last attempt may have stored.
#[test]
fn a_file_that_was_built_again_and_held_more_is_stored_once() {
    let mut lake = Lake::new();
    lake.store.commit(3);
    lake.bucket.next(Fault::Status(503));
    let mut life = lake.start();
    lake.run_until(&mut life, |_| lake.bucket.uploads() == 1);
    drop(life);
    lake.store.commit(3);
    let life = lake.start();
    lake.kill_in_upload(life);
    lake.store.commit(1);
    lake.drop_through(3);
    let mut life = lake.start();
    lake.deliver(&mut life);
    assert_eq!(lake.positions(), through(7));
}

/// They are kept for a next process; what this one has to deliver does not wait for a disk.
#[test]
fn names_that_cannot_be_kept_stop_nothing() {
    let mut lake = Lake::new();
    std::fs::create_dir_all(lake.store.folder.path().join("uploads/lake@raw.names")).expect("a folder in the way");
    lake.store.commit(3);
    let mut life = lake.start();
    lake.deliver(&mut life);
    assert_eq!(lake.positions(), through(3));
}

/// The names of the files before the last one are needed, too.
#[test]
fn files_that_are_stored_and_whose_cursors_are_not_are_stored_once() {
    let mut lake = Lake::new();
    let mut life = lake.start();
    for _ in 0..3 {
        lake.store.commit(2);
        lake.store.commit(2);
        lake.deliver(&mut life);
    }
    drop(life);
    lake.drop_through(2);
    lake.format = FileFormat::Parquet;
    let mut life = lake.start();
    lake.deliver(&mut life);
    assert_eq!((lake.positions(), lake.bucket.objects().len()), (through(12), 3));
}

/// Processes with any luck: nothing is in the bucket twice, and only what the store has dropped may not be there.
#[test]
fn any_lives_store_each_record_once() {
    for seed in 1..=12 {
        let mut chance = Jitter::new(seed * 0x9e37_79b9);
        let mut below = |limit: u64| chance.pause_us(limit, 1, limit) - 1;
        let mut lake = Lake::new();
        let (mut committed, mut batches, mut dropped) = (Vec::new(), vec![0], 0);
        for run in 1..=5 {
            let run = RunId([run; 8]);
            lake.store.begin_run(run);
            lake.format = FileFormat::ALL[below(3) as usize];
            lake.rotate_bytes = [0, 1 << 20][below(2) as usize];
            let mut life = lake.start();
            let mut position = 0;
            for _ in 0..below(4) {
                let count = 1 + below(4);
                lake.store.commit(count);
                committed.extend((1..=count).map(|number| (run.to_string(), position + number)));
                position += count;
                batches.push(committed.len() as u64);
                match below(4) {
                    0 => lake.bucket.next(Fault::ReplyLost),
                    1 => lake.bucket.next(Fault::Status(503)),
                    _ => {}
                }
                let uploads = lake.bucket.uploads();
                match below(3) {
                    0 => lake.deliver(&mut life),
                    1 => lake.run_until(&mut life, |_| lake.bucket.uploads() > uploads),
                    _ => {}
                }
                if below(3) == 0 {
                    lake.store_cursor(&life);
                }
            }
            drop(life);
            if below(2) == 0 {
                dropped = dropped.max(batches[below(batches.len() as u64) as usize]);
                lake.drop_through(dropped);
            }
        }
        lake.store.begin_run(RunId([9; 8]));
        lake.store.commit(1);
        committed.push((RunId([9; 8]).to_string(), 1));
        let mut life = lake.start();
        lake.deliver(&mut life);
        let mut found = lake.bucket.records();
        let all = found.len();
        found.dedup();
        assert_eq!(all, found.len(), "{seed}: {:?}", lake.bucket.records());
        assert!(found.iter().all(|record| committed.contains(record)), "{seed}");
        assert!(committed[dropped as usize..].iter().all(|record| found.contains(record)), "{seed}: {found:?}");
    }
}

/// Also where one batch holds readings of both.
#[test]
fn each_hour_and_each_run_has_files_of_its_own() {
    let mut lake = Lake::new();
    lake.store.commit_at(&[0, 0]);
    lake.store.commit_at(&[HOUR_MS - 1, HOUR_MS, 25 * HOUR_MS]);
    lake.store.begin_run(RunId([8; 8]));
    lake.store.commit_at(&[25 * HOUR_MS, 25 * HOUR_MS]);
    let mut life = lake.start();
    lake.deliver(&mut life);
    let name = |object: &Object| object.key.split_once("/fleet/fleet/raw/").expect("our key").1.to_owned();
    let found: Vec<_> =
        lake.bucket.objects().iter().map(|object| (name(object), object.last, object.records().len())).collect();
    let file = |hour: &str, run: &str, position: u64| format!("{hour}/g-{}-{position}.ndjson.zst", run.repeat(8));
    assert_eq!(
        found,
        [
            (file("dt%3D1970-01-01/hour%3D00", "07", 1), 3, 3),
            (file("dt%3D1970-01-01/hour%3D01", "07", 4), 4, 1),
            (file("dt%3D1970-01-02/hour%3D01", "07", 5), 5, 1),
            (file("dt%3D1970-01-02/hour%3D01", "08", 1), 2, 2),
        ]
    );
}

#[test]
fn a_file_that_is_too_large_makes_the_next_ones_smaller() {
    const TAKEN_BYTES: usize = 150_000;
    let mut lake = Lake::new();
    let mut noise = Jitter::new(7);
    for _ in 0..16 {
        let devices: Vec<String> =
            (0..500).map(|_| (0..4).map(|_| format!("{:016x}", noise.half_pause_us(u64::MAX))).collect()).collect();
        lake.store.commit_of(&devices.iter().map(String::as_str).collect::<Vec<_>>());
    }
    lake.bucket.take_at_most(TAKEN_BYTES);
    let mut life = lake.start();
    lake.deliver(&mut life);
    assert_eq!(lake.positions(), through(8000));
    let objects = lake.bucket.objects();
    let bytes: usize = objects.iter().map(|object| object.content.len()).sum();
    assert!(bytes > 2 * TAKEN_BYTES && objects.iter().all(|object| object.content.len() <= TAKEN_BYTES), "{bytes}");
    let refused = lake.bucket.uploads() - objects.len() as u64;
    assert!((1..=3).contains(&refused), "the limit is learnt once: {refused} of {}", lake.bucket.uploads());
    assert!(!life.uploader.building.make_smaller(64 << 10), "there is a limit to it");
}

/// Nothing is committed when what was missing has been taken over: no news of the log comes.
#[test]
fn a_stream_goes_on_by_itself_when_its_store_has_been_salvaged() {
    let mut lake = Lake::new();
    lake.store.commit(3);
    let mut life = lake.start();
    let columns = "id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload";
    lake.execute(&format!("CREATE TABLE away AS SELECT {columns} FROM batch; DELETE FROM batch;"));
    lake.has_removed_through(0);
    lake.execute("INSERT INTO salvage(folder, stream, seq) VALUES ('1', 'raw', 0)");
    lake.run_until(&mut life, |uploader| uploader.building.tail.is_salvaging);
    assert_eq!(lake.bucket.uploads(), 0);
    let back = format!("INSERT INTO batch({columns}) SELECT {columns} FROM away; UPDATE salvage SET done = 1;");
    lake.execute(&format!("BEGIN; {back} COMMIT;"));
    lake.deliver(&mut life);
    assert_eq!(lake.positions(), through(3));
}

//! The committer on a disk that refuses.

use std::sync::mpsc;

use super::*;
use crate::core::cursor::CursorState;
use crate::core::identity::{RunId, Stream};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings};
use crate::simulation::disk::{Call, Disk};
use crate::simulation::random::Random;
use crate::store::cursors::DeadLetter;
use crate::store::salvage::Salvage;
use crate::store::writer::WriterSettings;

const RUN: RunId = RunId([7; 8]);

#[test]
fn a_record_that_was_given_up_is_counted_once_where_its_commit_failed_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::new(Random::new(1));
    let settings = WriterSettings { vfs: Some(disk.vfs()), ..WriterSettings::for_tests(folder.path()) };
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    writer.register_sink("cloud", Stream::RAW).expect("a cursor");
    let (sender, _messages) = mpsc::channel();
    let committed = CommittedSequences::new(writer.streams(), |_| watch::Sender::new(0));
    let mut committer = Committer::start(writer, sender, committed, Arc::default(), Beat::default(), Salvage::spawn);
    let mut readings = Readings::default();
    (0..3).for_each(|at| readings.push(&Reading::at(at, "tank", "t", 1.0)));
    let pipeline = PipelineSettings::new("g", RUN);
    let mut pipeline = Pipeline::new(pipeline, &PerStream::default());
    pipeline.take(&readings, Default::default());
    let job = |input| Job { input, ..Job::default() };
    let stored = committer.begin(job(CommitInput { sealed: pipeline.seal(), ..CommitInput::default() }));
    assert!(matches!(committer.attempt(stored), Attempt::Committed));

    let letter = DeadLetter { sequence: 1, reason: "refused".to_owned(), line: Vec::new() };
    let given_up =
        CursorChange { dead_letters: vec![letter], ..CursorChange::to("cloud", Stream::RAW, CursorState::at(1)) };
    let input = CommitInput { cursors: vec![given_up], ..CommitInput::default() };
    disk.refuse(Call::Sync, 0, 1);
    let Attempt::Again(under_way) = committer.attempt(committer.begin(job(input))) else { panic!("the disk refuses") };
    // While the first is tried again, the sink has come further.
    under_way.job.waiting.lock_cursors().push(CursorChange::to("cloud", Stream::RAW, CursorState::at(3)));
    assert!(matches!(committer.attempt(*under_way), Attempt::Committed));
    let counted = committer.writer.connection().query_row(
        "SELECT accepted, delivered, dead_lettered, seq FROM cursor WHERE sink = 'cloud'",
        [],
        |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?]),
    );
    assert_eq!(counted.expect("readable"), [3, 2, 1, 3]);
}

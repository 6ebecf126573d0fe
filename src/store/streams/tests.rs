use std::path::Path;

use super::*;
use crate::core::detection::alert::Moment;
use crate::core::identity::{NamedStream, RunId};
use crate::core::pipeline::{Pipeline, PipelineSettings};
use crate::core::reading::{Reading, Readings};
use crate::core::record::{RulePayload, RuleRecord};
use crate::store::commit::CommitInput;
use crate::store::log::{Block, Entry, Next};
use crate::store::opening::{self, Opened};
use crate::store::reader::Reader;
use crate::store::retention::Capacity;
use crate::store::scan::Scan;
use crate::store::schema::{Synchronous, store_path};
use crate::store::set_aside;
use crate::store::witness::Witness;
use crate::store::writer::{CommitReport, Writer, WriterSettings};

const RUN: RunId = RunId([3; 8]);
const NOW: Moment = Moment { wall_ms: 1_000_000_000, steady_ms: 0 };

fn named(names: &[(&str, Keep)]) -> Vec<NamedStream> {
    names.iter().map(|(name, keep)| NamedStream { name: (*name).to_owned(), keep: *keep }).collect()
}

fn settings(folder: &Path, names: &[(&str, Keep)]) -> WriterSettings {
    let capacity = Capacity::new(8 << 20);
    let streams = named(names);
    WriterSettings { synchronous: Synchronous::Off, capacity, streams, ..WriterSettings::for_tests(folder) }
}

fn pipeline_settings() -> PipelineSettings {
    PipelineSettings {
        gateway: "g".to_owned(),
        run: RUN,
        monitor: Default::default(),
        alerts: Default::default(),
        rules: Default::default(),
    }
}

fn open(folder: &Path, names: &[(&str, Keep)]) -> Opened {
    opening::open(&settings(folder, names), &pipeline_settings(), NOW).expect("a store")
}

fn push(pipeline: &mut Pipeline, streams: &Streams, name: &str, payload: &str) {
    push_at(pipeline, streams, name, payload, NOW.wall_ms);
}

fn push_at(pipeline: &mut Pipeline, streams: &Streams, name: &str, payload: &str, received_at_ms: i64) {
    let record = RuleRecord {
        stream: name,
        rule: "r",
        device: Some("tank"),
        topic: Some("a/b"),
        received_at_ms,
        payload: RulePayload::Json(payload.as_bytes()),
    };
    pipeline.push_record(streams.find(name).expect("a stream"), &record).expect("stored");
}

fn commit(writer: &mut Writer, pipeline: &mut Pipeline) -> CommitReport {
    let input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
    writer.commit(&input).expect("a working disk")
}

/// Commits one record in each of these streams.
fn commit_in(opened: &mut Opened, names: &[&str]) {
    let streams = opened.writer.streams().clone();
    names.iter().for_each(|name| push(&mut opened.pipeline, &streams, name, "1"));
    commit(&mut opened.writer, &mut opened.pipeline);
}

/// Positions and lines that the store holds of a stream.
fn held(folder: &Path, stream: Stream) -> Vec<(u64, String)> {
    let mut reader = Reader::open(&store_path(folder), None).expect("a reader");
    let (mut block, mut after, mut found) = (Block::default(), 0, Vec::new());
    while reader.read_strictly(stream, after, &mut block).expect("readable") == Next::Block {
        for entry in block.entries(after) {
            let Entry::Record(record) = entry else { continue };
            let mut line = Vec::new();
            record.write(&mut line);
            found.push((record.position, String::from_utf8(line).expect("text")));
        }
        after = block.last_sequence();
    }
    found
}

fn ids(streams: &Streams) -> Vec<(u16, &str)> {
    streams.rows().iter().map(|row| (row.stream.id(), &*row.name)).collect()
}

const BOTH: [(&str, Keep); 2] = [("trips", Keep::Bulk), ("doors", Keep::Bulk)];
const REVERSED: [(&str, Keep); 2] = [("doors", Keep::Bulk), ("trips", Keep::Bulk)];
const IDS: [(u16, &str); 4] = [(1, "raw"), (2, "anomalies"), (3, "trips"), (4, "doors")];

#[test]
fn each_name_keeps_its_number_whatever_the_order_of_the_sections() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open(folder.path(), &BOTH);
    assert_eq!(ids(opened.writer.streams()), IDS);
    commit_in(&mut opened, &["trips", "doors", "trips"]);
    drop(opened);

    let mut opened = open(folder.path(), &[("new", Keep::Bulk), ("doors", Keep::Reserve), ("trips", Keep::Bulk)]);
    assert_eq!(ids(opened.writer.streams())[..4], IDS);
    assert_eq!(ids(opened.writer.streams())[4..], [(5, "new")]);
    commit_in(&mut opened, &["trips", "new"]);
    let streams = load(opened.writer.connection()).expect("readable");
    assert_eq!(&streams, opened.writer.streams());
    assert_eq!(streams.keep(streams.find("doors").expect("known")), Keep::Reserve, "as it is configured now");
    for (stream, positions) in [("trips", &[1, 2, 1][..]), ("doors", &[1]), ("new", &[1])] {
        let held = held(folder.path(), streams.find(stream).expect("known"));
        assert_eq!(held.iter().map(|(position, _)| *position).collect::<Vec<_>>(), positions);
        assert!(held.iter().all(|(_, line)| line.contains(&format!("\"stream\":\"{stream}\""))), "{held:?}");
    }
    // Nothing is written where nothing has changed.
    let changes = opened.writer.connection().total_changes();
    write(opened.writer.connection(), &streams).expect("a working disk");
    assert_eq!(opened.writer.connection().total_changes(), changes);
}

#[test]
fn a_store_with_the_built_in_streams_only_opens_unchanged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(open(folder.path(), &[]));
    let opened = open(folder.path(), &[]);
    assert_eq!(ids(opened.writer.streams()), IDS[..2]);
    assert_eq!(opened.writer.streams(), &Streams::default());
}

/// Damage beyond repair, with and without what is known beside the store.
#[test]
fn a_new_store_in_place_of_a_damaged_one_has_the_streams_under_their_numbers() {
    for (with_witness, with_table) in [(true, true), (true, false), (false, true), (false, false)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut opened = open(folder.path(), &BOTH);
        for stream in opened.writer.streams().clone().all() {
            opened.writer.register_sink("cloud", stream).expect("a cursor");
        }
        commit_in(&mut opened, &["trips", "doors", "trips"]);
        let root_page = "SELECT rootpage FROM sqlite_schema WHERE name = $1";
        let page = |table: &str| {
            opened.writer.connection().query_row(root_page, [table], |row| row.get::<_, i64>(0)).expect("a table")
        };
        let pages = [page("alert"), if with_table { page("alert") } else { page("stream") }];
        opened.writer.checkpoint().expect("a working disk");
        drop(opened);
        let store = store_path(folder.path());
        let mut file = std::fs::read(&store).expect("a store");
        for page in pages {
            let at = (page as usize - 1) * 4096;
            file[at..at + 4096].fill(0xa5);
        }
        std::fs::write(&store, file).expect("a working disk");
        if !with_witness {
            std::fs::remove_file(Witness::of(&store).path()).expect("a witness");
        }

        let opened = open(folder.path(), &REVERSED);
        assert_eq!(set_aside::kept(&store).len(), 1, "the damage is found");
        assert_eq!(ids(opened.writer.streams()), IDS, "{with_witness} {with_table}");
        let unfinished = opened.writer.unfinished_salvages().expect("readable");
        assert_eq!(unfinished.len(), 4, "each stream is salvaged: {unfinished:?}");
        let [trips, doors] = [3, 4].map(|id| Stream::from_id(id).expect("a number"));
        assert_eq!(opened.writer.last_sequence(trips), Ok(2), "new records come behind the old ones");
        assert_eq!(opened.writer.last_sequence(doors), Ok(1));
    }
}

/// As the committer does it, when a reader has found the damage.
#[test]
fn a_store_that_is_renewed_while_running_has_the_streams_under_their_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(open(folder.path(), &BOTH));
    let mut opened = open(folder.path(), &REVERSED);
    commit_in(&mut opened, &["doors"]);
    assert_eq!(opened.writer.renew().expect("a working disk").len(), 4);
    assert_eq!(ids(&load(opened.writer.connection()).expect("readable")), IDS);
    commit_in(&mut opened, &["trips", "doors"]);
    assert_eq!(opened.writer.last_sequence(Stream::from_id(4).expect("a number")), Ok(2));

    let other = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open(other.path(), &BOTH);
    commit_in(&mut opened, &["trips"]);
    drop(opened);
    let mut writer = open(other.path(), &[]).writer;
    writer.renew().expect("a working disk");
    assert_eq!(writer.streams_in_use().expect("readable").len(), 4, "what is salvaged of them is read, too");
}

/// A flipped bit in a name has no checksum: the records of one stream would go where those of another belong.
#[test]
fn a_table_that_says_something_else_than_is_known_beside_the_store_is_damage() {
    for change in ["UPDATE stream SET name = 'trixs' WHERE id = 3", "DELETE FROM stream WHERE id = 3"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut opened = open(folder.path(), &BOTH);
        commit_in(&mut opened, &["trips", "doors"]);
        opened.writer.connection().execute(change, []).expect("a working disk");
        opened.writer.checkpoint().expect("a working disk");
        drop(opened);
        let opened = open(folder.path(), &REVERSED);
        assert_eq!(set_aside::kept(&store_path(folder.path())).len(), 1, "{change}");
        assert_eq!(ids(opened.writer.streams()), IDS, "{change}");
    }
}

/// Numbers mean something in one store only: another one, that began anew, has others.
#[test]
fn a_batch_of_another_store_is_not_taken_for_one_of_the_stream_with_its_number() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open(folder.path(), &BOTH);
    commit_in(&mut opened, &["trips"]);
    let other = Streams::default().with(&named(&REVERSED)).expect("few");
    let third = Stream::from_id(3).expect("a number");
    let scan = || Scan::open(&store_path(folder.path()), &[]).expect("a store");
    let found = |streams: &Streams| scan().named(streams).next(third, 0).expect("readable").map(|batch| batch.count);
    assert_eq!((found(opened.writer.streams()), found(&other)), (Some(1), None));
}

#[test]
fn what_is_known_of_streams_fills_up_without_a_number_or_a_name_twice() {
    let row = |id: i64, name: &str| StreamRow {
        stream: Stream::from_id(id).expect("a number"),
        name: name.into(),
        keep: Keep::Bulk,
        is_watched: false,
    };
    let mut known = KnownStreams::default();
    for row in [row(5, "e"), row(3, "raw"), row(2, "x"), row(3, "lost.9"), row(3, "c"), row(3, "d"), row(4, "c")] {
        known.note(row);
    }
    known.note_all(vec![row(3, "z"), row(6, "f"), row(9, "far"), row(7, "f")]);
    let streams = known.through(Stream::from_id(8).expect("a number"));
    let names: Vec<&str> = streams.rows().iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["raw", "anomalies", "c", "lost.4", "e", "f", "lost.7", "lost.8"]);
}

/// Lines that do not compress.
fn noise(state: &mut u64) -> String {
    let mut text = String::from("\"");
    for _ in 0..1_000 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:016x}", *state ^ (*state >> 29)));
    }
    text.push('"');
    text
}

/// Raw readings first, then the other streams in bulk, then those in reserve; of each kind the oldest.
#[test]
fn streams_give_way_in_their_order_and_the_ledger_adds_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let four = [("trips", Keep::Bulk), ("kept", Keep::Reserve), ("doors", Keep::Bulk)];
    let Opened { mut writer, mut pipeline, .. } = open(folder.path(), &four);
    let streams = writer.streams().clone();
    for stream in streams.all() {
        writer.register_sink("cloud", stream).expect("a cursor");
    }
    let mut state = 1;
    let mut readings = Readings::default();
    readings.push(&Reading::at(1, "tank", "t", 1.0));
    for (name, at_ms) in [("kept", 1), ("doors", 2), ("trips", 3)] {
        for _ in 0..10 {
            pipeline.take(&readings, NOW);
            push_at(&mut pipeline, &streams, name, &noise(&mut state), at_ms);
            commit(&mut writer, &mut pipeline);
        }
    }
    let mut order: Vec<&str> = Vec::new();
    let mut expired = vec![0; streams.all().len() + 1];
    for round in 0.. {
        push(&mut pipeline, &streams, "kept", &noise(&mut state));
        let report = commit(&mut writer, &mut pipeline);
        for (stream, count) in &report.expired {
            expired[usize::from(stream.id())] += count;
            order.push(streams.name(*stream));
        }
        if order.last() == Some(&"kept") {
            break;
        }
        assert!(round < 2_000, "{order:?}");
    }
    order.dedup();
    assert_eq!(order, ["raw", "doors", "trips", "kept"]);
    for row in streams.rows() {
        let sql = "SELECT accepted, expired, delivered FROM progress WHERE stream = ?1 AND name = 'cloud'";
        let of = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (accepted, lost, delivered) = writer.connection().query_row(sql, [row.stream.id()], of).expect("a cursor");
        let buffered = held(folder.path(), row.stream).len() as i64;
        assert_eq!((lost, delivered), (expired[usize::from(row.stream.id())] as i64, 0), "{}", row.name);
        assert_eq!(accepted, lost + buffered, "{}", row.name);
    }
}

#[test]
fn a_stream_that_is_no_longer_configured_is_read_as_long_as_it_holds_something_and_gives_way_first_if_nobody_reads_it()
{
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut opened = open(folder.path(), &BOTH);
    for stream in opened.writer.streams().clone().all() {
        opened.writer.register_sink("cloud", stream).expect("a cursor");
    }
    commit_in(&mut opened, &["trips"]);
    drop(opened);

    let Opened { mut writer, mut pipeline, .. } = open(folder.path(), &[]);
    let in_use = writer.streams_in_use().expect("readable");
    let names: Vec<&str> = in_use.iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["raw", "anomalies", "trips"], "what is left of it is still sent");
    for (stream, _) in Stream::BUILT_IN {
        writer.register_sink("cloud", stream).expect("known");
    }
    // The sink does not take it any more.
    assert_eq!(writer.left_sinks(), Ok(vec![("cloud".to_owned(), 1)]));
    let (mut state, mut given_up) = (1, 0);
    let mut readings = Readings::default();
    for round in 0..2_000 {
        let device = noise(&mut state);
        readings.clear();
        readings.push(&Reading::at(round, &device, "t", 1.0));
        pipeline.take(&readings, NOW);
        let report = commit(&mut writer, &mut pipeline);
        assert_eq!(report.expired, [], "raw readings give way later");
        given_up += report.given_up;
        if given_up > 0 {
            break;
        }
    }
    assert_eq!(given_up, 1);
    let sql = "SELECT accepted, expired FROM progress WHERE stream = 3 AND name = 'cloud'";
    let line = writer.connection().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(line, Ok((1, 1)));
    assert_eq!(writer.streams_in_use().expect("readable").len(), 2);
    assert_eq!(ids(&load(writer.connection()).expect("readable")), IDS, "its number is not given again");
}

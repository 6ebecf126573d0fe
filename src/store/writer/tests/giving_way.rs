//! What goes when there is no more room, and in which order.

use super::*;

fn commit_both(writer: &mut Writer, pipeline: &mut Pipeline, round: u64, noise: &mut u64) -> CommitReport {
    pipeline.take(&readings(round * 100 + 1, 100, &format!("{noise:x}")), Default::default());
    let mut input = CommitInput { sealed: pipeline.seal(), ..CommitInput::default() };
    input.sealed.batches.push(anomaly_batch(round + 1, noise));
    writer.commit(&input).expect("a working disk")
}

#[test]
fn anomalies_go_only_when_all_raw_has_gone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 8 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    writer.register_sink("one", Stream::ANOMALIES).expect("a cursor");
    let mut noise = 1;
    let (mut raw_expired, mut first_anomaly_expired) = (0, None);
    for round in 0..500 {
        let report = commit_both(&mut writer, &mut pipeline, round, &mut noise);
        for (stream, count) in report.expired {
            if stream == Stream::RAW {
                raw_expired += count;
            } else if first_anomaly_expired.is_none() {
                first_anomaly_expired = Some((round, raw_expired));
            }
        }
    }
    let (round, raw_expired_then) = first_anomaly_expired.expect("anomalies of more than the capacity");
    assert_eq!(raw_expired_then, round * 100, "all raw readings before that commit");
    let view = crate::admin::ledger::look(writer.connection()).expect("readable");
    assert!(view.ledger.iter().all(|line| line.adds_up() && line.expired > 0), "{:?}", view.ledger);
    assert!(view.used_bytes <= writer.settings.capacity.file_bytes_max());
}

#[test]
fn a_stream_without_a_sink_is_bounded_and_pushes_nothing_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = Writer::open(&settings(folder.path(), 8 << 20), RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    let mut noise = 1;
    for round in 0..500 {
        let report = commit_both(&mut writer, &mut pipeline, round, &mut noise);
        assert!(report.expired.iter().all(|(_, count)| *count == 0), "{:?}", report.expired);
    }
    let held = |stream: Stream| {
        let mut batches = 0;
        held::each_behind(writer.connection(), stream, 0, |_| batches += 1).expect("readable");
        batches
    };
    assert_eq!(held(Stream::RAW), 500);
    let anomalies = held(Stream::ANOMALIES);
    assert!(anomalies > 10 && anomalies < 400, "{anomalies}");
}

#[test]
fn what_only_a_sink_wants_that_has_left_goes_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), 8 << 20);
    let mut writer = Writer::open(&settings, RUN).expect("a new store");
    writer.register_sink("left", Stream::ANOMALIES).expect("a cursor");
    drop(writer);
    let mut writer = Writer::open(&settings, RUN).expect("the store");
    writer.register_sink("stays", Stream::RAW).expect("a cursor");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    let mut noise = 1;
    let mut given_up = 0;
    for round in 0..500 {
        let report = commit_both(&mut writer, &mut pipeline, round, &mut noise);
        assert_eq!(report.expired, []);
        given_up += report.given_up;
    }
    assert!(given_up > 0);
    let view = crate::admin::ledger::look(writer.connection()).expect("readable");
    assert!(view.ledger.iter().all(|line| line.adds_up()), "{:?}", view.ledger);
    let expired = |sink: &str| view.ledger.iter().find(|line| line.sink == sink).map(|line| line.expired);
    assert_eq!((expired("left"), expired("stays")), (Some(given_up), Some(0)));
}

/// Readings that do not compress.
fn noise_readings(from: u64, noise: &mut u64) -> Readings {
    let padding: String = (0..60)
        .map(|_| {
            *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (*noise >> 58) as u8)
        })
        .collect();
    readings(from, 1000, &padding)
}

fn cursor_at(sink: &str, stream: Stream, last: u64) -> CursorChange {
    CursorChange::to(sink, stream, CursorState::at(last))
}

/// A store that refuses and is full, with cursors of these sinks at its beginning. Returns how many readings it holds.
fn fill(settings: &WriterSettings, sinks: &[&str]) -> u64 {
    let mut writer = Writer::open(settings, RUN).expect("a new store");
    let mut pipeline = new_pipeline(RUN, &PerStream::default());
    for sink in sinks {
        writer.register_sink(sink, Stream::RAW).expect("a cursor");
        writer.register_sink(sink, Stream::ANOMALIES).expect("a cursor");
    }
    let (mut noise, mut count) = (1, 0);
    while writer.left_for_raw().expect("a number") > 200_000 {
        commit(&mut writer, &mut pipeline, &noise_readings(count + 1, &mut noise));
        count += 1000;
    }
    count
}

/// Commits what `sink` has, then as often as there is more to delete. Returns what is left for raw readings then, and what was given up.
fn deliver(writer: &mut Writer, sink: &str, through: u64) -> (u64, u64) {
    let mut input = CommitInput { cursors: vec![cursor_at(sink, Stream::RAW, through)], ..CommitInput::default() };
    let mut given_up = 0;
    loop {
        let report = writer.commit(&input).expect("a working disk");
        assert_eq!(report.expired, [], "sinks of the configuration lose nothing");
        given_up += report.given_up;
        if !report.deleted.has_more {
            return (report.left_for_raw, given_up);
        }
        input = CommitInput::default();
    }
}

#[test]
fn a_sink_that_left_gives_way_when_room_is_needed_also_where_new_readings_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = settings(folder.path(), 8 << 20);
    settings.capacity.when_full = retention::WhenFull::Refuse;
    let count = fill(&settings, &["left", "stays"]);
    let reopen = |sinks: &[&str]| {
        let mut writer = Writer::open(&settings, RUN).expect("the store");
        for sink in sinks {
            writer.register_sink(sink, Stream::RAW).expect("a cursor");
            writer.register_sink(sink, Stream::ANOMALIES).expect("a cursor");
        }
        writer
    };
    // The control: both are configured, and one has nothing yet.
    let (left, given_up) = deliver(&mut reopen(&["left", "stays"]), "stays", count);
    assert!(left <= 200_000 && given_up == 0, "{left}");
    let mut writer = reopen(&["stays"]);
    assert_eq!(writer.left_sinks().expect("readable"), [("left".to_owned(), count)]);
    let (left, given_up) = deliver(&mut writer, "stays", count);
    assert!(left > 500_000 && given_up > 0 && given_up < count, "{left}, {given_up}: as much as is needed");
    drop(writer);
    // It comes back, and goes on with what there still is.
    let writer = reopen(&["left", "stays"]);
    let view = crate::admin::ledger::look(writer.connection()).expect("readable");
    let line = view.ledger.iter().find(|line| line.sink == "left" && line.stream == "raw").expect("a line");
    assert!(line.adds_up() && line.expired == given_up && line.buffered == count - given_up, "{line:?}");
}

#[test]
fn what_is_delivered_waits_for_no_snapshot_and_what_is_not_gives_way_to_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = settings(folder.path(), 8 << 20);
    settings.capacity.when_full = retention::WhenFull::Refuse;
    let count = fill(&settings, &["one"]);
    let mut writer = Writer::open(&settings, RUN).expect("the store");
    writer.register_sink("one", Stream::RAW).expect("a cursor");
    writer.register_sink("one", Stream::ANOMALIES).expect("a cursor");
    let mut noise = 1;
    let mut input = CommitInput::default();
    input.sealed.batches.push(anomaly_batch(1, &mut noise));
    writer.commit(&input).expect("a working disk");
    // A snapshot that does not fit is left out, for which no anomaly goes.
    let mut input = CommitInput::default();
    input.sealed.snapshot = vec![SnapshotChunk { index: 0, sequence: count, state: vec![1; 4 << 20] }];
    input.sealed.snapshot_covers = count;
    let report = writer.commit(&input).expect("a working disk");
    assert_eq!((report.expired, writer.snapshot_covers), (Vec::new(), 0));
    let snapshots = |writer: &Writer| {
        writer
            .connection()
            .query_row("SELECT count(*) FROM snapshot", [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    assert_eq!(snapshots(&writer), 0);
    let (left, _) = deliver(&mut writer, "one", count);
    assert!(left > 500_000, "{left}: no snapshot covers anything, and yet there is room");
}

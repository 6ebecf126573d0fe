//! What becomes of a sink that is dropped, and of dead letters.

use std::sync::Arc;

use super::*;
use crate::store::links::{CountedLink, LinkState};
use crate::store::schema::{self, Synchronous};

impl CountedLink for LinkState {
    fn state(&self) -> LinkState {
        self.clone()
    }

    fn is_durable(&self) {}
}

#[test]
fn only_a_sink_that_left_the_configuration_is_dropped_and_what_waited_is_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    for (sink, stream) in [("old", Stream::RAW), ("old", Stream::ANOMALIES), ("new", Stream::RAW)] {
        cursors.register(&db, sink, stream).expect("a cursor");
    }
    for (last, count) in [(10, 10), (20, 10), (30, 10)] {
        db.execute(
            "INSERT INTO batch(id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload)
             VALUES (?1, 1, 1, ?2, 0, 0, 0, 1, 0, x'')",
            [held::id(Stream::RAW, last), count],
        )
        .expect("a row");
    }
    cursors.accept(Stream::RAW, 30);
    let state = CursorState { cursor: 5, acknowledged: vec![(8, 12)] };
    let change = CursorChange::to("old", Stream::RAW, state);
    cursors.apply(&db, &change).expect("a working disk");
    cursors.save(&db).expect("a working disk");

    // It is no longer configured for one of its streams.
    let mut half = Cursors::load(&db).expect("readable");
    half.register(&db, "old", Stream::RAW).expect("known");
    half.register(&db, "new", Stream::RAW).expect("known");
    assert_eq!(half.drop_sink(&db, "nobody").expect("readable"), DroppedSink::Unknown);
    assert_eq!(half.drop_sink(&db, "new").expect("readable"), DroppedSink::Configured);
    let dropped = half.drop_sink(&db, "old").expect("a working disk");
    assert_eq!(dropped, DroppedSink::Dropped(vec![(Stream::ANOMALIES, 0)]));
    assert_eq!(half.drop_sink(&db, "old").expect("readable"), DroppedSink::Configured);

    let mut gone = Cursors::load(&db).expect("readable");
    gone.register(&db, "new", Stream::RAW).expect("known");
    assert_eq!(gone.left(&db).expect("readable"), [("old".to_owned(), 20)]);
    assert_eq!(gone.delivered_through(Stream::RAW), Some(0));
    assert_eq!(gone.drop_sink(&db, "old").expect("a working disk"), DroppedSink::Dropped(vec![(Stream::RAW, 20)]));
    assert_eq!((gone.entries.len(), Cursors::load(&db).expect("readable").entries.len()), (1, 1));
    let total = "SELECT value FROM total WHERE name = 'expired_with_sink:raw:old'";
    assert_eq!(db.query_row(total, [], |row| row.get::<_, i64>(0)), Ok(20));
}

#[test]
fn dead_letters_are_bounded_in_bytes_and_all_of_them_are_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    cursors.register(&db, "sink", Stream::RAW).expect("a cursor");
    cursors.accept(Stream::RAW, 100);
    for last in [50, 100] {
        let letter = |sequence| DeadLetter { sequence, reason: "refused".to_owned(), line: vec![b'x'; 100_000] };
        let change = CursorChange {
            dead_letters: (last - 49..=last).map(letter).collect(),
            ..CursorChange::to("sink", Stream::RAW, CursorState::at(last))
        };
        cursors.apply(&db, &change).expect("a working disk");
    }
    let look = "SELECT min(seq), max(seq), sum(length(line)) FROM dead_letter";
    let kept: (i64, i64, i64) =
        db.query_row(look, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("some");
    assert_eq!(kept, (60, 100, 4_100_000), "the newest that fit");
    assert_eq!(cursors.entries[0].dead_lettered, 100);
}

#[test]
fn a_letter_that_is_delivered_is_counted_once_and_one_that_is_gone_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    cursors.register(&db, "sink", Stream::RAW).expect("a cursor");
    cursors.accept(Stream::RAW, 10);
    let letter = |sequence| DeadLetter { sequence, reason: "refused".to_owned(), line: b"{}\n".to_vec() };
    let change = CursorChange {
        dead_letters: vec![letter(3), letter(7)],
        ..CursorChange::to("sink", Stream::RAW, CursorState::at(10))
    };
    cursors.apply(&db, &change).expect("a working disk");
    let delivered =
        |sink: &str, id, sequence| DeliveredLetter { sink: sink.to_owned(), stream: Stream::RAW, id, sequence };
    let counts = |cursors: &Cursors| (cursors.entries[0].delivered, cursors.entries[0].dead_lettered);
    assert_eq!(counts(&cursors), (8, 2));
    for (sink, id, sequence, expected) in [
        ("other", 1, 3, (8, 2)),
        // The id has become another letter's.
        ("sink", 1, 2, (8, 2)),
        ("sink", 1, 3, (9, 1)),
        ("sink", 1, 3, (9, 1)),
        ("sink", 99, 7, (9, 1)),
    ] {
        cursors.deliver_letter(&db, &delivered(sink, id, sequence)).expect("a working disk");
        assert_eq!(counts(&cursors), expected, "{sink} {id} {sequence}");
    }
    let left = letters::next(&db, &letters::Selection::default(), 0).expect("readable").expect("one");
    assert_eq!((left.id, left.sequence), (2, 7));
}

#[test]
fn what_is_too_old_to_be_sent_has_expired_for_that_sink_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    for sink in ["old", "other"] {
        cursors.register(&db, sink, Stream::RAW).expect("a cursor");
    }
    cursors.accept(Stream::RAW, 100);
    let state = CursorState { cursor: 50, acknowledged: vec![(61, 80)] };
    let change = CursorChange { expired: vec![(61, 63), (1, 10)], ..CursorChange::to("old", Stream::RAW, state) };
    // It may be said again.
    for _ in 0..2 {
        cursors.apply(&db, &change).expect("a working disk");
        let terms = cursors.entries.iter().map(|entry| (entry.accepted, entry.delivered, entry.expired));
        assert_eq!(terms.collect::<Vec<_>>(), [(100, 57, 13), (100, 0, 0)]);
    }
    assert!(!change.is_replaceable());
}

#[test]
fn what_was_sent_ahead_of_the_cursor_counts_as_how_far_a_sink_has_come() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    cursors.register(&db, "cloud", Stream::RAW).expect("a cursor");
    let state = CursorState { cursor: 10, acknowledged: vec![(20, 30), (500, 700)] };
    cursors.apply(&db, &CursorChange::to("cloud", Stream::RAW, state)).expect("a working disk");
    assert_eq!(cursors.furthest(Stream::RAW), 700);
}

#[test]
fn what_a_link_has_spent_is_kept_with_the_cursor_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut db = schema::open_writer(&folder.path().join("s"), Synchronous::Off, None).expect("a new store");
    let mut cursors = Cursors::default();
    cursors.register(&db, "cloud", Stream::RAW).expect("a cursor");
    let kept = |db: &Connection, name: &str| links::load(db, name).expect("readable").and_then(|link| link.state);
    let mut change = CursorChange::to("cloud", Stream::RAW, CursorState::at(0));
    assert_eq!(kept(&db, "lte"), None);
    for (counted, expected) in [(100, "state 100"), (90, "state 100"), (120, "state 120")] {
        change.link = Some(Arc::new(LinkState { name: "lte".into(), counted, state: format!("state {counted}") }));
        cursors.apply(&db, &change).expect("a working disk");
        assert_eq!(kept(&db, "lte").as_deref(), Some(expected));
    }
    let transaction = db.transaction().expect("a transaction");
    change.link = Some(Arc::new(LinkState { name: "lte".into(), counted: 500, state: "state 500".to_owned() }));
    cursors.apply(&transaction, &change).expect("a working disk");
    drop(transaction);
    assert_eq!(kept(&db, "lte").as_deref(), Some("state 120"), "rolled back with the cursor");
    assert_eq!(kept(&db, "wifi"), None);
}

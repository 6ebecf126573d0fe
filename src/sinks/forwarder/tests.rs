//! Drives a forwarder over a store of its own, with a sink that accepts everything.

use std::cell::RefCell;
use std::sync::mpsc;

use super::*;
use crate::core::cursor::CursorState;
use crate::core::delivery::{OutgoingRecord, Patience};
use crate::sinks::bench::Bench;
use crate::sinks::resend::Wish;
use crate::store::commit::CommitInput;
use crate::store::cursors::{CursorChange, DeadLetter};
use crate::uplink::counted::Counts as _;

mod aside;
mod budgets;

/// Accepts everything, and remembers how many lines each request held.
#[derive(Default)]
struct Willing(RefCell<Vec<usize>>);

impl Sink for Willing {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let lines = |record: &OutgoingRecord| record.data.iter().filter(|byte| **byte == b'\n').count();
        self.0.borrow_mut().push(records.iter().map(lines).sum());
        Reply::whole(Outcome::Accepted { shard: None }, records.len())
    }
}

fn parts(bench: &mut Bench, pipeline: Sender<Message>, linger: Duration) -> ForwarderParts {
    let linger_us = linger.as_micros() as u64;
    let patience = Patience { persist_interval_us: 1, ..Patience::default() };
    ForwarderParts {
        delivery: DeliverySettings { linger_us, patience, ..DeliverySettings::default() },
        seed: 1,
        flush_within: Duration::from_secs(60),
        stream: bench.stream_parts("cloud", pipeline),
    }
}

/// Runs the forwarder beside `act`, which gets its cursor messages.
fn run_beside(bench: &mut Bench, linger: Duration, act: impl AsyncFnOnce(&mut Bench, &mut Cursors)) -> Vec<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, words) = mpsc::channel();
    let parts = parts(bench, sender, linger);
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(run(parts, Rc::clone(&sink)));
    local.block_on(&runtime, async {
        act(bench, &mut Cursors(words)).await;
        bench.link.send_replace(Link::Ending);
        task.await.expect("it ends by itself");
    });
    sink.0.borrow().clone()
}

/// Takes nothing, and says so.
struct Unwilling;

impl Sink for Unwilling {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        let lines = |record: &OutgoingRecord| record.data.iter().filter(|byte| **byte == b'\n').count() as u64;
        let passed_over = records.iter().map(lines).sum();
        Reply { passed_over, ..Reply::whole(Outcome::Accepted { shard: None }, records.len()) }
    }
}

/// As after a kill: what the first forwarder did is known from the store only, where its last cursors did not arrive.
#[test]
fn what_is_passed_over_is_counted_once_though_it_is_passed_over_twice() {
    let mut bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut run_once = |count| {
        bench.commit(count);
        let (sender, words) = mpsc::channel();
        let parts = parts(&mut bench, sender, Duration::ZERO);
        bench.link.send_replace(Link::Ending);
        tokio::task::LocalSet::new().block_on(&runtime, run(parts, Rc::new(Unwilling)));
        bench.link.send_replace(Link::Up);
        let changes = words.try_iter().filter_map(|message| match message {
            Message::Cursor(change) => Some(change),
            _ => None,
        });
        let change = changes.last().expect("the cursor has moved");
        assert_eq!(change.passed_over, change.state.cursor, "everything is passed over");
        (change, bench.writer.passed_over("cloud", Stream::RAW))
    };
    let (lost, _) = run_once(5);
    let (saved, before) = run_once(3);
    assert_eq!((lost.passed_over, before, saved.passed_over), (5, 0, 8));
    // It may be said again.
    for _ in 0..2 {
        let input = CommitInput { cursors: vec![saved.clone()], ..CommitInput::default() };
        bench.writer.commit(&input).expect("a working disk");
        assert_eq!(bench.writer.passed_over("cloud", Stream::RAW), 8);
    }
}

struct Cursors(mpsc::Receiver<Message>);

impl Cursors {
    /// Waits until the saved cursor reaches this position.
    async fn reach(&mut self, cursor: u64) {
        let started = Instant::now();
        loop {
            match self.0.try_recv() {
                Ok(Message::Cursor(change)) if change.state == CursorState::at(cursor) => return,
                _ => assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for cursor {cursor}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn what_was_removed_before_it_was_sent_is_not_waited_for() {
    let mut bench = Bench::new();
    let sent = run_beside(&mut bench, Duration::ZERO, async |bench, cursors| {
        bench.commit(5);
        cursors.reach(5).await;
        bench.link.send_replace(Link::Down);
        bench.commit(3);
        bench.writer.connection().execute("DELETE FROM batch WHERE seq > 5", []).expect("three lines");
        let removed = "UPDATE progress SET expired = 8 WHERE stream = 1 AND name = ''";
        bench.writer.connection().execute(removed, []).expect("a row");
        cursors.reach(8).await;
    });
    assert_eq!(sent, [5]);
}

/// What is missing is neither passed nor counted as long as it may come, however often it is looked for.
#[test]
fn what_may_still_be_salvaged_is_waited_for() {
    let mut bench = Bench::new();
    let sent = run_beside(&mut bench, Duration::ZERO, async |bench, cursors| {
        let execute = |sql: &str| bench.writer.connection().execute_batch(sql).expect("a statement");
        execute("INSERT INTO salvage(folder, stream, seq) VALUES ('1', 'raw', 0)");
        execute("UPDATE progress SET value = 3, quarantined = 3 WHERE stream = 1 AND name = ''");
        execute("INSERT OR IGNORE INTO progress(stream, name, value, expired, quarantined) VALUES (1, '', 3, 0, 3)");
        bench.committed.send_replace(3);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(cursors.0.try_recv().is_err(), "nothing is done with");
        execute("UPDATE salvage SET done = 1");
        cursors.reach(3).await;
    });
    assert_eq!(sent, [0; 0]);
}

#[test]
fn a_store_that_cannot_be_read_is_looked_at_again_also_when_nothing_more_is_committed() {
    let mut bench = Bench::new();
    let sent = run_beside(&mut bench, Duration::ZERO, async |bench, cursors| {
        bench.commit(3);
        bench.writer.connection().execute_batch("ALTER TABLE batch RENAME TO away").expect("a statement");
        wait_until("an error", || bench.status.last_error().is_some()).await;
        // As if everything had been offered before the read that failed.
        bench.committed.send_replace(0);
        bench.writer.connection().execute_batch("ALTER TABLE away RENAME TO batch").expect("a statement");
        wait_until("no error", || bench.status.last_error().is_none()).await;
        cursors.reach(3).await;
    });
    assert_eq!(sent, [3]);
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn commits_that_come_within_a_lines_wait_are_read_and_sent_together() {
    // So long that only the end of the process, which does not wait, can end the wait.
    let sent = run_beside(&mut Bench::new(), Duration::from_secs(3600), async |bench, _| {
        bench.commit(3);
        tokio::task::yield_now().await;
        bench.commit(4);
    });
    assert_eq!(sent, [7]);
    let sent = run_beside(&mut Bench::new(), Duration::ZERO, async |bench, cursors| {
        bench.commit(3);
        cursors.reach(3).await;
        bench.commit(4);
    });
    assert_eq!(sent, [3, 4]);
}

/// Accepts everything but the records of one device, while that is sick.
#[test]
fn what_comes_now_and_what_has_waited_both_arrive_once() {
    let mut bench = Bench::new();
    bench.commit(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.plan = Plan::LiveFirst;
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(run(parts, Rc::clone(&sink)));
    local.block_on(&runtime, async {
        let mut cursors = Cursors(words);
        cursors.reach(5).await;
        bench.commit(3);
        cursors.reach(8).await;
        bench.link.send_replace(Link::Ending);
        task.await.expect("it ends by itself");
    });
    assert_eq!(sink.0.borrow().iter().sum::<usize>(), 8);
}

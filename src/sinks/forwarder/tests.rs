//! Drives a forwarder over a store of its own, with a sink that accepts everything.

use std::cell::RefCell;
use std::sync::mpsc;

use super::*;
use crate::core::cursor::CursorState;
use crate::core::delivery::{OutgoingRecord, Patience};
use crate::sinks::bench::Bench;

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
        cursors.reach(8).await;
    });
    assert_eq!(sent, [5]);
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

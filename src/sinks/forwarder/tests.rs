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
#[derive(Default)]
struct Moody {
    is_sick: std::cell::Cell<bool>,
    /// The sequences of the lines of each device, in the order in which they were accepted.
    accepted: RefCell<Vec<(String, String)>>,
}

impl Sink for Moody {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut outcomes = Vec::new();
        for record in &records {
            if self.is_sick.get() && &*record.device == "sick" {
                outcomes.push(Outcome::Retry(RetryReason::Internal));
                continue;
            }
            for line in std::str::from_utf8(&record.data).expect("text").lines() {
                let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
                self.accepted.borrow_mut().push((record.device.to_string(), value["position"].to_string()));
            }
            outcomes.push(Outcome::Accepted { shard: None });
        }
        Reply { scope: crate::core::delivery::Scope::Records, outcomes, passed_over: 0 }
    }
}

impl Moody {
    fn positions_of(&self, device: &str) -> Vec<u64> {
        let accepted = self.accepted.borrow();
        accepted
            .iter()
            .filter(|(of, _)| of == device)
            .map(|(_, position)| position.parse().expect("a number"))
            .collect()
    }
}

/// Commits what the forwarder says, and checks after each time that the ledger adds up.
fn commit_words(bench: &mut Bench, words: &mpsc::Receiver<Message>) {
    while let Ok(message) = words.try_recv() {
        let Message::Cursor(change) = message else { continue };
        let input = crate::store::commit::CommitInput { cursors: vec![change], ..Default::default() };
        bench.writer.commit(&input).expect("a working disk");
        let (accepted, counted) = ledger(bench);
        assert_eq!(accepted, counted.iter().sum::<u64>(), "{counted:?}");
    }
}

/// Accepted; and delivered, expired, dead-lettered, quarantined, beyond the cursor, and of keys that are set aside.
fn ledger(bench: &Bench) -> (u64, [u64; 6]) {
    let db = bench.writer.connection();
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number") as u64;
    let of_cursor = |column: &str| number(&format!("SELECT {column} FROM cursor"));
    let ranges: Vec<u8> = db.query_row("SELECT acknowledged FROM cursor", [], |row| row.get(0)).expect("a row");
    let state = CursorState::decode(of_cursor("seq"), &ranges).expect("a state");
    let last = number("SELECT max(seq) FROM batch");
    let beyond = last - state.done_within(1, last);
    let terms = ["delivered", "expired", "dead_lettered", "quarantined"].map(of_cursor);
    let set_aside = number("SELECT coalesce(sum(pending), 0) FROM held_key");
    (of_cursor("accepted"), [terms[0], terms[1], terms[2], terms[3], beyond, set_aside])
}

/// What a key that is set aside has missed comes back from a damaged store while the cursor is far beyond: it waits for that, and says that
/// something is gone if nobody is looking for it.
#[test]
fn a_key_that_is_set_aside_waits_for_what_is_being_salvaged() {
    let mut bench = Bench::new();
    let sink = Rc::new(Moody::default());
    sink.is_sick.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    let patience = &mut parts.delivery.patience;
    (patience.key_fails_us, patience.probe_pause_us_min, patience.probe_pause_us_max) = (20_000, 1_000, 10_000);
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(run(parts, Rc::clone(&sink)));
    let execute = |bench: &Bench, sql: &str| bench.writer.connection().execute_batch(sql).expect("a statement");
    local.block_on(&runtime, async {
        let mut committed = 0;
        while bench.status.keys_set_aside().count == 0 || committed < 20 {
            bench.commit_of(&["well", "sick"]);
            committed += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        wait_until("the others", || sink.positions_of("well").len() == committed).await;
        // All but the last batch.
        let columns = "id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload";
        execute(
            &bench,
            &format!(
                "BEGIN; CREATE TABLE away AS SELECT {columns} FROM batch WHERE seq < (SELECT max(seq) FROM batch);
                 DELETE FROM batch WHERE id IN (SELECT id FROM away); COMMIT;"
            ),
        );
        sink.is_sick.set(false);
        let is_told =
            |words: &mpsc::Receiver<Message>| words.try_iter().any(|word| matches!(word, Message::Damaged(_)));
        let started = Instant::now();
        while !is_told(&words) {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody is told");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        execute(&bench, "INSERT INTO salvage(folder, stream, seq) VALUES ('1', 'raw', 0)");
        wait_until("the store is readable", || !bench.status.last_error().is_some_and(|error| error.contains("store")))
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let last = 2 * committed as u64;
        assert!(!sink.positions_of("sick").contains(&last), "the last one is not sent before the others");
        bench.commit_of(&["well"]);
        wait_until("the others go on", || sink.positions_of("well").len() == committed + 1).await;
        execute(
            &bench,
            &format!(
                "BEGIN; INSERT INTO batch({columns}) SELECT {columns} FROM away; UPDATE salvage SET done = 1; COMMIT;"
            ),
        );
        wait_until("it follows the cursor again", || bench.status.keys_set_aside().count == 0).await;
        let of_sick: Vec<u64> = (1..=committed as u64).map(|at| 2 * at).collect();
        wait_until("all of it", || sink.positions_of("sick").len() == of_sick.len()).await;
        assert_eq!(sink.positions_of("sick"), of_sick, "in order");
        bench.link.send_replace(Link::Ending);
        task.await.expect("it ends by itself");
    });
}

#[test]
fn a_key_that_fails_is_set_aside_survives_a_restart_and_catches_up_in_order() {
    let mut bench = Bench::new();
    let sink = Rc::new(Moody::default());
    sink.is_sick.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for life in 0..2 {
        bench.link.send_replace(Link::Up);
        let (sender, words) = mpsc::channel();
        let mut parts = parts(&mut bench, sender, Duration::ZERO);
        let patience = &mut parts.delivery.patience;
        (patience.key_fails_us, patience.probe_pause_us_min, patience.probe_pause_us_max) = (20_000, 1_000, 10_000);
        let local = tokio::task::LocalSet::new();
        let task = local.spawn_local(run(parts, Rc::clone(&sink)));
        local.block_on(&runtime, async {
            let started = Instant::now();
            let mut committed = 0;
            // Until the sick device is set aside, and then some more.
            while committed < 40 || life == 0 && bench.status.keys_set_aside().count == 0 {
                assert!(started.elapsed() < Duration::from_secs(60), "it is not set aside");
                bench.commit_of(&["well", "sick", "sick", "fine"]);
                committed += 1;
                commit_words(&mut bench, &words);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if life == 0 {
                wait_until("the others", || sink.positions_of("well").len() == committed).await;
                assert!(sink.positions_of("sick").is_empty());
                // What is set aside is buffered, once that is saved.
                while ledger(&bench).1[5] == 0 {
                    assert!(started.elapsed() < Duration::from_secs(60), "it is not in the ledger");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    commit_words(&mut bench, &words);
                }
            } else {
                assert_eq!(bench.status.keys_set_aside().first, ["sick"], "it is still set aside");
                sink.is_sick.set(false);
                wait_until("it follows the cursor again", || bench.status.keys_set_aside().count == 0).await;
                bench.commit_of(&["sick", "well"]);
            }
            bench.link.send_replace(Link::Ending);
            task.await.expect("it ends by itself");
            commit_words(&mut bench, &words);
        });
    }
    let (accepted, [delivered, expired, dead, quarantined, beyond, set_aside]) = ledger(&bench);
    assert_eq!((delivered, [expired, dead, quarantined, beyond, set_aside]), (accepted, [0; 5]));
    let of_sick = sink.positions_of("sick");
    assert!(of_sick.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice: {of_sick:?}");
    assert_eq!(
        of_sick.len() as u64,
        accepted - sink.positions_of("well").len() as u64 - sink.positions_of("fine").len() as u64
    );
}

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

fn spent_link() -> Arc<crate::sinks::links::SharedLink> {
    use crate::core::link::LinkSettings;
    use crate::sinks::links::metering::MeteredBy;
    use crate::sinks::links::{LinkConfiguration, SharedLink};

    let settings = LinkSettings { bytes_per_day: Some(1_000), ..LinkSettings::default() };
    let configuration = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
    let link = Arc::new(SharedLink::new(&configuration, None));
    link.spend(Class::Live, 1_000);
    link
}

/// Without it, the end would wait for the grace period, which is a minute, and the test for less.
#[test]
fn the_end_of_a_process_waits_for_no_budget() {
    let mut bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, _words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.counted_link = Some(spent_link());
    bench.commit(3);
    bench.link.send_replace(Link::Ending);
    let local = tokio::task::LocalSet::new();
    let ended = async { tokio::time::timeout(Duration::from_secs(30), run(parts, Rc::new(Willing::default()))).await };
    local.block_on(&runtime, ended).expect("it ends by itself");
}

/// More anomalies wait than are held, and alerts could be read: there are no turns but for what happens.
#[test]
fn a_forwarder_does_not_spin_while_a_full_part_waits_for_a_budget() {
    let mut bench = Bench::new();
    let (sender, _words) = mpsc::channel();
    let delivery = DeliverySettings { linger_us: 0, held_bytes_max: 60_000, ..DeliverySettings::default() };
    let stream = bench.anomaly_parts("cloud", sender);
    let stream = StreamParts { counted_link: Some(spent_link()), ..stream };
    let line = format!("{{\"v\":1,\"type\":\"anomaly\",\"text\":\"{}\"}}\n", "x".repeat(1_000));
    bench.commit_anomalies(&vec![line; 200]);
    let mut forwarder = Forwarder::new(ForwarderParts { stream, delivery, seed: 1, flush_within: Duration::ZERO });
    let (mut turns, mut event) = (0, Event::Tick { behind: false });
    let deadline = loop {
        turns += 1;
        assert!(turns < 100, "it spins");
        let turn = forwarder.turn(event);
        assert!(turn.send.is_empty());
        event = match turn.next {
            Next::Soon { is_behind } => Event::Tick { behind: is_behind },
            Next::Ended => panic!("nobody ends it"),
            Next::Waits { until_us } => match forwarder.wait(until_us) {
                Wait::Not(event) => event,
                Wait::Until { deadline: Some(deadline), .. } if deadline <= Instant::now() => forwarder.tick(),
                Wait::Until { deadline, .. } => break deadline,
            },
        };
    };
    assert!(forwarder.is_behind(), "they are not all held");
    assert!(deadline.is_none_or(|deadline| deadline > Instant::now() + Duration::from_secs(1)), "{deadline:?}");
}

#[test]
fn what_is_urgent_goes_first_once_no_key_is_set_aside() {
    let mut bench = Bench::new();
    bench.commit(5);
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.plan = Plan::LiveFirst;
    (parts.stream.cursor, parts.stream.held_keys) = (CursorState::at(5), vec![("tank".to_owned(), CursorState::at(0))]);
    let mut forwarder = Forwarder::new(parts);
    assert_eq!(forwarder.delivery.count(), 1);
    let began = Instant::now();
    let (mut requests, mut sent) = (std::collections::VecDeque::new(), 0);
    let mut records_sent = 0;
    for step in 0..10_000 {
        if forwarder.delivery.count() == 2 && sent >= 8 {
            break;
        }
        if forwarder.delivery.count() == 2 && *bench.committed.borrow() == 5 {
            bench.commit(3);
        }
        clock::simulated::set(began + Duration::from_millis(100 * step), 0);
        let event = match requests.pop_front() {
            Some(Request { id, records, .. }) => {
                let lines = |record: &OutgoingRecord| record.data.iter().filter(|byte| **byte == b'\n').count();
                sent += records.iter().map(lines).sum::<usize>();
                records_sent += records.len() as u64;
                Event::Replied { id, reply: Reply::whole(Outcome::Accepted { shard: None }, records.len()) }
            }
            None => forwarder.tick(),
        };
        requests.extend(forwarder.turn(event).send);
    }
    clock::simulated::clear();
    assert_eq!((forwarder.delivery.count(), sent, bench.status.records_sent.get()), (2, 8, records_sent));
    let changes = words.try_iter().filter_map(|message| match message {
        Message::Cursor(change) => Some(change.held_keys),
        _ => None,
    });
    let last = changes.flatten().last().expect("the key was told of");
    assert_eq!((last.key.as_str(), last.state), ("tank", None), "it is set aside no more");
}

#[test]
fn a_dead_letter_is_not_sent_without_a_budget() {
    let mut bench = Bench::new();
    bench.commit(1);
    let mut change = CursorChange::to("cloud", Stream::RAW, CursorState::at(1));
    change.dead_letters =
        vec![DeadLetter { sequence: 1, reason: "too odd".to_owned(), line: b"{\"device\":\"tank\"}\n".to_vec() }];
    let (sender, _words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    bench.writer.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() }).expect("a working disk");
    parts.stream.counted_link = Some(spent_link());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let mut forwarder = Forwarder::new(parts);
    bench.status.wishes.ask(Wish { id: None, through: i64::MAX, answer }).expect("nobody else asks");
    assert!(forwarder.has_letters());
    local.block_on(&runtime, forwarder.send_letter(&*sink));
    let resent = local.block_on(&runtime, answered).expect("an answer");
    assert_eq!((resent.delivered, resent.stopped.as_deref()), (0, Some("waiting for the budget of the next day")));
    assert_eq!(sink.0.borrow().len(), 0);
}

#[test]
fn a_link_without_a_budget_is_waited_for_and_is_no_failure() {
    use crate::core::link::{LinkSettings, Metered};
    use crate::sinks::links::metering::MeteredBy;
    use crate::sinks::links::{LinkConfiguration, SharedLink};

    let mut bench = Bench::new();
    let settings = LinkSettings { bytes_per_day: Some(1_000), ..LinkSettings::default() };
    let configuration = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
    let link = Arc::new(SharedLink::new(&configuration, None));
    link.spend(Class::Live, 1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.counted_link = Some(Arc::clone(&link));
    let socket = Arc::clone(&parts.stream.socket);
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(run(parts, Rc::clone(&sink)));
    local.block_on(&runtime, async {
        bench.commit(3);
        wait_until("a budget to be waited for", || bench.status.waiting().is_some()).await;
        assert_eq!((bench.status.last_error(), sink.0.borrow().len()), (None, 0));
        link.set_metered(Metered::No);
        socket.add(700);
        Cursors(words).reach(3).await;
        wait_until("nothing to be waited for", || bench.status.waiting().is_none()).await;
        bench.link.send_replace(Link::Ending);
        task.await.expect("it ends by itself");
    });
    assert_eq!((link.status().bytes_today, link.status().free_bytes), (1_000, 700));
}

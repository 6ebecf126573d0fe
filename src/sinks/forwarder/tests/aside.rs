//! Keys that are set aside.

use super::*;

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

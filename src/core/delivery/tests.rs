//! Each rule of the module, one at a time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

mod aside;
mod given_up;
mod lives;
mod pauses;
mod refusals;

const SECOND_US: u64 = 1_000_000;

fn settings() -> DeliverySettings {
    DeliverySettings { linger_us: 0, ..DeliverySettings::default() }
}

fn single() -> DeliverySettings {
    DeliverySettings { grouping: Grouping::Single, ..settings() }
}

fn new(settings: DeliverySettings) -> Delivery {
    Delivery::new(settings, &CursorState::at(0), 7)
}

/// Offers the next line, `device:number`.
fn offer(delivery: &mut Delivery, device: &str, now_us: u64) {
    let sequence = delivery.offered_through() + 1;
    delivery.offer(sequence, device, now_us, |out| out.extend(format!("{device}:{sequence}\n").bytes()));
}

fn offer_all(delivery: &mut Delivery, devices: &[&str]) {
    devices.iter().for_each(|device| offer(delivery, device, 0));
}

fn tick(delivery: &mut Delivery, now_us: u64) -> Vec<Request> {
    delivery.step(Event::Tick { behind: false }, now_us).send
}

/// The one request that is sent now.
fn next(delivery: &mut Delivery, now_us: u64) -> Request {
    let mut requests = tick(delivery, now_us);
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

fn texts(request: &Request) -> Vec<&str> {
    request.records.iter().map(|record| std::str::from_utf8(&record.data).expect("text")).collect()
}

fn accepted(shard: &str) -> Outcome {
    Outcome::Accepted { shard: Some(shard.to_owned()) }
}

fn answer(delivery: &mut Delivery, request: &Request, outcomes: &[Outcome], now_us: u64) -> Actions {
    let reply = Reply { scope: Scope::Records, outcomes: outcomes.to_vec(), passed_over: 0 };
    delivery.step(Event::Replied { id: request.id, reply }, now_us)
}

fn answer_all(delivery: &mut Delivery, request: &Request, outcome: Outcome, now_us: u64) -> Actions {
    let reply = Reply::whole(outcome, request.records.len());
    delivery.step(Event::Replied { id: request.id, reply }, now_us)
}

/// Comes back whenever asked to, until something is sent.
fn wait_for_requests(delivery: &mut Delivery, mut now_us: u64) -> (Vec<Request>, u64) {
    loop {
        let actions = delivery.step(Event::Tick { behind: false }, now_us);
        if !actions.send.is_empty() {
            return (actions.send, now_us);
        }
        let until_us = actions.wait_until_us.expect("something is to be sent");
        assert!(until_us > now_us, "asked to come back at once");
        now_us = until_us;
    }
}

fn wait_for_request(delivery: &mut Delivery, now_us: u64) -> (Request, u64) {
    let (mut requests, now_us) = wait_for_requests(delivery, now_us);
    assert_eq!(requests.len(), 1, "{requests:?}");
    (requests.remove(0), now_us)
}

/// Goes on until everything is done with; how many requests that took, and what was given up.
fn run(delivery: &mut Delivery, mut now_us: u64, judge: impl Fn(&Request) -> Outcome) -> (usize, Vec<Refused>) {
    let (mut count, mut refused) = (0, Vec::new());
    let mut sent = VecDeque::new();
    while !delivery.is_drained() {
        if sent.is_empty() {
            let (requests, at_us) = wait_for_requests(delivery, now_us);
            now_us = at_us;
            sent.extend(requests);
        }
        let request = sent.pop_front().expect("it was waited for");
        count += 1;
        assert!(count < 10_000, "it goes on for ever: {:?}", delivery.status());
        let outcome = judge(&request);
        let actions = answer_all(delivery, &request, outcome, now_us);
        sent.extend(actions.send);
        refused.extend(actions.persist.into_iter().flat_map(|persist| persist.refused));
    }
    (count, refused)
}

#[test]
fn one_record_of_a_key_is_in_flight() {
    let mut delivery = new(single());
    offer_all(&mut delivery, &["a", "a", "b", "a"]);
    let first = next(&mut delivery, 0);
    assert_eq!(texts(&first), ["a:1\n", "b:3\n"]);
    assert!(tick(&mut delivery, SECOND_US).is_empty(), "both keys have a record on its way");
    let then = answer(&mut delivery, &first, &[accepted("0"), accepted("0")], SECOND_US).send;
    assert_eq!(texts(&then[0]), ["a:2\n"]);
    let last = answer(&mut delivery, &then[0], &[accepted("0")], SECOND_US).send;
    assert_eq!(texts(&last[0]), ["a:4\n"]);
}

#[test]
fn only_what_failed_is_sent_again_and_as_the_same_bytes() {
    let mut delivery = new(settings());
    offer_all(&mut delivery, &["a", "b", "a", "c"]);
    let first = next(&mut delivery, 0);
    assert_eq!(texts(&first), ["a:1\na:3\n", "b:2\n", "c:4\n"]);
    // A line that comes meanwhile stays out of the record that was sent.
    offer(&mut delivery, "a", 0);
    let outcomes = [Outcome::Retry(RetryReason::Internal), accepted("0"), accepted("0")];
    let meanwhile = answer(&mut delivery, &first, &outcomes, 0);
    assert!(meanwhile.send.is_empty(), "the failed key waits, and nothing else is there");
    offer(&mut delivery, "b", 0);
    assert_eq!(texts(&next(&mut delivery, 0)), ["b:6\n"], "other keys do not wait for it");
    let (again, now_us) = wait_for_request(&mut delivery, 0);
    assert!((1..=12_000).contains(&now_us), "full jitter within the first pause: {now_us}");
    assert_eq!(texts(&again), ["a:1\na:3\n"]);
    let rest = answer(&mut delivery, &again, &[accepted("0")], now_us).send;
    assert_eq!(texts(&rest[0]), ["a:5\n"]);
    assert_eq!((delivery.status().records_sent, delivery.status().records_retried), (4 - 1, 1));
}

#[test]
fn records_and_requests_keep_their_bounds() {
    let bounds = DeliverySettings { record_bytes_soft: 8, request_records_max: 3, ..settings() };
    let mut delivery = new(bounds.clone());
    offer_all(&mut delivery, &["a", "a", "a", "b", "c", "d"]);
    let requests = tick(&mut delivery, 0);
    assert_eq!(texts(&requests[0]), ["a:1\na:2\n", "b:4\n", "c:5\n"], "closed once it holds as much");
    assert_eq!(texts(&requests[1]), ["d:6\n"]);

    let bytes = DeliverySettings { request_bytes_max: 2 * (256 + 4), ..bounds };
    let mut delivery = new(bytes);
    offer_all(&mut delivery, &["a", "b", "c"]);
    let sizes: Vec<usize> = tick(&mut delivery, 0).iter().map(|request| request.records.len()).collect();
    assert_eq!(sizes, [2, 1]);
}

#[test]
fn a_long_line_has_a_record_of_its_own_and_one_that_is_too_long_is_refused_unsent() {
    let mut delivery = new(DeliverySettings { record_bytes_max: 256 + 10, ..settings() });
    delivery.offer(1, "a", 0, |out| out.extend(b"one\n"));
    delivery.offer(2, "a", 0, |out| out.extend(b"8 bytes\n"));
    delivery.offer(3, "a", 0, |out| out.extend(b"eleven....\n"));
    delivery.offer(4, "b", 0, |out| out.extend(b"eleven too\n"));
    let before = delivery.status().held_bytes;
    let actions = delivery.step(Event::Tick { behind: false }, 0);
    assert_eq!(texts(&actions.send[0]), ["one\n"]);
    let saved = actions.persist.expect("a dead letter is saved at once");
    let lines: Vec<_> = saved.refused.iter().map(|refused| (refused.sequence, refused.line.as_slice())).collect();
    assert_eq!(lines, [(3, &b"eleven....\n"[..]), (4, b"eleven too\n")]);
    assert_eq!(saved.state, CursorState { cursor: 0, acknowledged: vec![(3, 4)] });
    assert!(delivery.status().held_bytes <= before - 22, "it was held until then");
    let rest = answer(&mut delivery, &actions.send[0], &[accepted("0")], 0).send;
    assert_eq!(texts(&rest[0]), ["8 bytes\n"]);
}

#[test]
fn reading_ahead_stops_at_the_bound_of_bytes() {
    let mut delivery = new(DeliverySettings { held_bytes_max: 2_000, ..single() });
    while delivery.wants_more() {
        offer(&mut delivery, "a", 0);
    }
    let held = delivery.status().held_bytes;
    assert!((2_000..2_300).contains(&held), "{held}");
    let request = next(&mut delivery, 0);
    answer(&mut delivery, &request, &[accepted("0")], 0);
    assert!(delivery.wants_more());
}

#[test]
fn refused_lines_count_until_they_are_saved() {
    let mut delivery =
        new(DeliverySettings { record_bytes_max: 300, held_bytes_max: 5_000, record_bytes_soft: 10, ..settings() });
    let mut sequence = 0;
    while delivery.wants_more() {
        sequence += 1;
        delivery.offer(sequence, "a", 0, |out| out.extend([b'x'; 1_000]));
    }
    assert!(sequence <= 5, "{sequence} lines of 1,000 bytes");
    assert_eq!(delivery.save(0).expect("dead letters").refused.len() as u64, sequence);
    assert_eq!(delivery.status().held_bytes, 0);
}

#[test]
fn reading_ahead_stops_at_the_bound_of_ranges() {
    let mut delivery = new(DeliverySettings {
        patience: Patience { ranges_max: 10, ..Patience::default() },
        request_records_max: 2,
        ..settings()
    });
    while delivery.wants_more() {
        let device = format!("d{}", delivery.offered_through());
        offer(&mut delivery, &device, 0);
    }
    assert_eq!(delivery.offered_through(), 10);
    let requests = tick(&mut delivery, 0);
    // The first stays away; what is done beyond it stays in memory, as ranges.
    for request in &requests[1..] {
        answer(&mut delivery, request, &[accepted("0"), accepted("0")], 0);
    }
    assert!(delivery.wants_more(), "neighbours have become one range");
    answer(&mut delivery, &requests[0], &[Outcome::Retry(RetryReason::Internal), accepted("0")], 0);
    while delivery.wants_more() {
        offer(&mut delivery, "a", 0);
        offer(&mut delivery, "b", 0);
    }
    let saved = delivery.save(SECOND_US).expect("something is done");
    assert_eq!(saved.state, CursorState { cursor: 0, acknowledged: vec![(2, 8)] });
}

#[test]
fn more_saved_ranges_than_are_allowed_stop_nothing() {
    let acknowledged: Vec<_> = (1..=20).map(|at| (2 * at, 2 * at)).collect();
    let mut delivery = Delivery::new(
        DeliverySettings { patience: Patience { ranges_max: 4, ..Patience::default() }, ..settings() },
        &CursorState { cursor: 0, acknowledged },
        7,
    );
    for _ in 0..20 {
        while delivery.wants_more() {
            offer(&mut delivery, "a", 0);
        }
        let request = next(&mut delivery, 0);
        answer(&mut delivery, &request, &[accepted("0")], 0);
    }
    let saved = delivery.save(0).expect("all is done");
    assert!(saved.state.acknowledged.is_empty() && saved.state.cursor >= 40, "{:?}", saved.state);
}

#[test]
fn what_was_done_before_is_not_even_written() {
    let mut delivery = Delivery::new(settings(), &CursorState { cursor: 3, acknowledged: vec![(5, 6)] }, 7);
    assert_eq!(delivery.offered_through(), 3);
    delivery.offer(4, "a", 0, |out| out.extend(b"four\n"));
    delivery.offer(5, "a", 0, |_| panic!("it is done"));
    // Six is left out: it is done, or not in the store any more.
    delivery.offer(7, "a", 0, |out| out.extend(b"seven\n"));
    let request = next(&mut delivery, 0);
    assert_eq!(texts(&request), ["four\nseven\n"]);
    answer(&mut delivery, &request, &[accepted("0")], 0);
    assert_eq!(delivery.save(0).expect("done").state, CursorState::at(7));
}

#[test]
fn sequences_that_are_gone_are_skipped() {
    let mut delivery = new(settings());
    offer(&mut delivery, "a", 0);
    delivery.skip_through(5, 0);
    delivery.skip_through(4, 0);
    delivery.offer(8, "b", 0, |out| out.extend(b"eight\n"));
    let request = next(&mut delivery, 0);
    answer(&mut delivery, &request, &[Outcome::Retry(RetryReason::Internal), accepted("0")], 0);
    let saved = delivery.save(0).expect("done");
    assert_eq!(saved.state, CursorState { cursor: 0, acknowledged: vec![(2, 8)] });
}

#[test]
fn a_throttled_shard_slows_its_own_keys_only() {
    let mut delivery = new(single());
    let (mut sent_fast, mut sent_slow) = (0, 0);
    let mut on_the_way: VecDeque<(u64, Request)> = VecDeque::new();
    // One shard takes ten records a second of the forty that are there for it, the other one takes everything.
    let mut slow_tokens = 10.0f64;
    for now_us in (0..10 * SECOND_US).step_by(1_000) {
        slow_tokens = (slow_tokens + 0.01).min(10.0);
        let ms = now_us / 1_000;
        offer(&mut delivery, if ms.is_multiple_of(2) { "fast-1" } else { "fast-2" }, now_us);
        if ms.is_multiple_of(25) {
            offer(&mut delivery, if ms.is_multiple_of(2) { "slow-1" } else { "slow-2" }, now_us);
        }
        let mut requests = tick(&mut delivery, now_us);
        while on_the_way.front().is_some_and(|(due_us, _)| *due_us <= now_us) {
            let (_, request) = on_the_way.pop_front().expect("just seen");
            let mut judge = |record: &OutgoingRecord| {
                if record.device.starts_with("fast") {
                    sent_fast += 1;
                    return accepted("fast");
                }
                if slow_tokens < 1.0 {
                    return Outcome::Retry(RetryReason::Throttled);
                }
                (slow_tokens, sent_slow) = (slow_tokens - 1.0, sent_slow + 1);
                accepted("slow")
            };
            let outcomes: Vec<Outcome> = request.records.iter().map(&mut judge).collect();
            requests.extend(answer(&mut delivery, &request, &outcomes, now_us).send);
        }
        on_the_way.extend(requests.into_iter().map(|request| (now_us + 1_000, request)));
    }
    assert!((100..=111).contains(&sent_slow), "the slow shard is kept busy: {sent_slow}");
    assert!(sent_fast >= 9_990, "the fast one notices nothing: {sent_fast} of 10,000");
}

#[test]
fn the_cursor_is_saved_after_its_interval_or_sooner_when_much_is_done() {
    let mut delivery = new(DeliverySettings {
        patience: Patience { persist_sequences: 3, ..Patience::default() },
        request_records_max: 1,
        ..settings()
    });
    offer(&mut delivery, "a", 10);
    let request = next(&mut delivery, 10);
    let actions = answer(&mut delivery, &request, &[accepted("0")], 10);
    assert_eq!((actions.persist.is_some(), actions.wait_until_us), (false, Some(10 + SECOND_US)));
    let saved = delivery.step(Event::Tick { behind: false }, 10 + SECOND_US).persist.expect("due");
    assert_eq!(saved.state, CursorState::at(1));

    // Three more are reason to save at once, but not twice within a tenth of a second.
    let now_us = 2 * SECOND_US;
    let mut saves = 0;
    for _ in 0..2 {
        offer_all(&mut delivery, &["a", "b", "c"]);
        for request in tick(&mut delivery, now_us) {
            saves += usize::from(answer(&mut delivery, &request, &[accepted("0")], now_us).persist.is_some());
        }
    }
    assert_eq!(saves, 1);
    let actions = delivery.step(Event::Tick { behind: false }, now_us);
    assert_eq!(actions.wait_until_us, Some(now_us + 100_000));
    let saved = delivery.step(Event::Tick { behind: false }, now_us + 100_000).persist.expect("due");
    assert_eq!(saved.state, CursorState::at(7));
    assert_eq!(delivery.step(Event::Tick { behind: false }, now_us + 100_000).wait_until_us, None);
}

#[test]
fn lines_wait_for_company_only_while_nothing_is_behind() {
    let linger = DeliverySettings { linger_us: 20_000, ..settings() };
    let mut delivery = new(linger.clone());
    offer(&mut delivery, "a", 5_000);
    let actions = delivery.step(Event::Tick { behind: false }, 5_000);
    assert_eq!((actions.send.len(), actions.wait_until_us), (0, Some(25_000)));
    offer(&mut delivery, "a", 15_000);
    offer(&mut delivery, "b", 15_000);
    let requests = tick(&mut delivery, 25_000);
    assert_eq!(texts(&requests[0]), ["a:1\na:2\n", "b:3\n"], "the first line's wait is over, the others travel along");

    let mut delivery = new(linger);
    offer(&mut delivery, "a", 5_000);
    assert_eq!(delivery.step(Event::Tick { behind: true }, 5_000).send.len(), 1);
}

#[test]
fn a_flush_waits_for_nothing_and_saves_when_all_is_done() {
    let mut delivery = new(DeliverySettings { linger_us: SECOND_US, ..settings() });
    offer(&mut delivery, "a", 0);
    assert!(tick(&mut delivery, 0).is_empty());
    let request = delivery.step(Event::Flush, 1).send.remove(0);
    assert!(!delivery.is_drained());
    let actions = answer(&mut delivery, &request, &[accepted("0")], 2);
    assert!(delivery.is_drained());
    assert_eq!(actions.persist.expect("at once").state, CursorState::at(1));
}

#[test]
fn with_one_key_for_the_gateway_one_record_at_a_time_holds_all_devices_in_order() {
    let mut delivery = new(DeliverySettings { partition: Partition::Gateway, record_bytes_soft: 10, ..settings() });
    offer_all(&mut delivery, &["a", "b", "a", "c"]);
    let first = next(&mut delivery, 0);
    assert_eq!((texts(&first), &*first.records[0].device), (vec!["a:1\nb:2\na:3\n"], ""));
    assert!(tick(&mut delivery, SECOND_US).is_empty(), "the rest waits for it");
    answer_all(&mut delivery, &first, Outcome::Retry(RetryReason::Connection), SECOND_US);
    let (again, at_us) = wait_for_request(&mut delivery, SECOND_US);
    assert_eq!(texts(&again), texts(&first), "the same bytes, and nothing overtakes them");
    let second = answer_all(&mut delivery, &again, accepted("s"), at_us).send;
    assert_eq!(texts(&second[0]), ["c:4\n"]);
}

#[test]
fn what_is_passed_over_is_saved_with_the_cursor_that_covers_it() {
    let mut delivery = new(single());
    offer_all(&mut delivery, &["a", "b"]);
    let request = next(&mut delivery, 0);
    let reply = Reply { passed_over: 1, ..Reply::whole(accepted("s"), 2) };
    delivery.step(Event::Replied { id: request.id, reply }, 0);
    let saved = delivery.save(0).expect("the cursor has moved");
    assert_eq!((saved.state, saved.passed_over), (CursorState::at(2), 1));
    offer(&mut delivery, "a", 0);
    let request = next(&mut delivery, 0);
    answer_all(&mut delivery, &request, accepted("s"), 0);
    let saved = delivery.save(0).expect("the cursor has moved");
    assert_eq!((saved.state, saved.passed_over), (CursorState::at(3), 1), "a total, so that the latest alone matters");
}

#[test]
fn lines_wait_for_no_more_than_may_be_held() {
    let mut delivery = new(DeliverySettings { linger_us: 3_600 * SECOND_US, held_bytes_max: 1_000, ..settings() });
    offer(&mut delivery, "a", 0);
    assert!(tick(&mut delivery, SECOND_US).is_empty(), "it waits for company");
    while delivery.wants_more() {
        offer(&mut delivery, "a", 0);
    }
    assert!(!tick(&mut delivery, SECOND_US).is_empty());
}

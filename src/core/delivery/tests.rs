//! Each rule of the module, one at a time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

mod lives;

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
fn a_request_that_fails_as_a_whole_pauses_the_sink_and_one_finds_the_way_free() {
    let mut delivery = new(DeliverySettings { request_records_max: 1, requests_in_flight_max: 3, ..settings() });
    offer_all(&mut delivery, &["a", "b", "c", "d"]);
    let requests = tick(&mut delivery, 0);
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let actions = answer_all(&mut delivery, request, Outcome::Retry(RetryReason::Connection), 0);
        assert!(actions.send.is_empty());
        let until_us = actions.wait_until_us.unwrap_or(u64::MAX);
        assert!(request.id.0 < 2 || (1..=100_000).contains(&until_us), "three failures together are one: {until_us}");
    }
    assert_eq!(delivery.status().failing.as_deref(), Some("no connection"));
    let (probe, now_us) = wait_for_request(&mut delivery, 0);
    assert!(tick(&mut delivery, now_us).is_empty(), "one request finds out, the others wait");
    let rest = answer(&mut delivery, &probe, &[accepted("0")], now_us).send;
    assert_eq!((rest.len(), delivery.status().failing), (3, None));
}

/// The longest of many pauses in a row, all for this reason.
fn longest_pause_us(reason: RetryReason) -> u64 {
    let mut delivery = new(settings());
    offer(&mut delivery, "a", 0);
    let mut now_us = 0;
    let mut longest_us = 0;
    for _ in 0..60 {
        let (request, at_us) = wait_for_request(&mut delivery, now_us);
        longest_us = longest_us.max(at_us - now_us);
        now_us = at_us;
        answer_all(&mut delivery, &request, Outcome::Retry(reason), now_us);
    }
    assert_eq!(delivery.step(Event::LinkUp, now_us).send.len(), 1, "at once");
    longest_us
}

#[test]
fn a_pause_grows_up_to_its_bound_and_ends_when_the_link_is_up() {
    let (service_us, link_us) = (longest_pause_us(RetryReason::TimedOut), longest_pause_us(RetryReason::Connection));
    let throttled_us = longest_pause_us(RetryReason::Throttled);
    assert!((SECOND_US / 2..=2 * SECOND_US).contains(&throttled_us), "{throttled_us}");
    assert!((5 * SECOND_US..=10 * SECOND_US).contains(&service_us), "{service_us}");
    assert!((SECOND_US..=2 * SECOND_US).contains(&link_us), "{link_us}");
}

#[test]
fn what_needs_a_person_halts_and_ends_when_it_is_mended() {
    let mut delivery = new(settings());
    offer_all(&mut delivery, &["a", "b"]);
    let request = next(&mut delivery, 0);
    answer_all(&mut delivery, &request, Outcome::Halt("no such stream".to_owned()), 0);
    assert_eq!(delivery.status().halted.as_deref(), Some("no such stream"));
    let mut now_us = 0;
    for _ in 0..20 {
        let (request, at_us) = wait_for_request(&mut delivery, now_us);
        assert!(at_us - now_us <= 30 * SECOND_US, "it is tried again, however long it lasts");
        now_us = at_us;
        let outcomes = [Outcome::Halt("denied".to_owned()), Outcome::Halt("denied".to_owned())];
        answer(&mut delivery, &request, &outcomes, now_us);
        assert_eq!(delivery.status().halted.as_deref(), Some("denied"));
    }
    let (request, now_us) = wait_for_request(&mut delivery, now_us);
    answer(&mut delivery, &request, &[accepted("0"), accepted("0")], now_us);
    assert_eq!((delivery.status().halted, delivery.status().failing), (None, None));
    assert!(delivery.is_drained());
}

#[test]
fn of_a_record_that_is_refused_only_the_line_to_blame_is_given_up_at_once() {
    let mut delivery = new(settings());
    offer_all(&mut delivery, &["a", "a", "b"]);
    let request = next(&mut delivery, 0);
    let actions = answer(&mut delivery, &request, &[Outcome::Reject("bad".to_owned()), accepted("0")], 0);
    assert_eq!(texts(&actions.send[0]), ["a:1\n"], "its lines go alone");
    let actions = answer(&mut delivery, &actions.send[0], &[Outcome::Reject("bad".to_owned())], 0);
    let saved = actions.persist.expect("a dead letter is saved at once");
    assert_eq!(
        saved.refused,
        [Refused { sequence: 1, reason: "bad".to_owned(), line: b"a:1\n".to_vec(), is_aside: false }]
    );
    assert_eq!(texts(&actions.send[0]), ["a:2\n"]);
    answer(&mut delivery, &actions.send[0], &[accepted("0")], 0);
    assert_eq!(delivery.save(0).expect("done").state, CursorState::at(3));
}

/// With the control: of a record of which it is only known that some line is to blame, the lines go alone.
#[test]
fn a_record_of_which_every_line_is_refused_is_given_up_as_it_is() {
    for (outcome, given_up) in
        [(Outcome::RejectLines("old".to_owned()), &[1, 2][..]), (Outcome::Reject("old".to_owned()), &[])]
    {
        let mut delivery = new(settings());
        offer_all(&mut delivery, &["a", "a", "b"]);
        let request = next(&mut delivery, 0);
        let actions = answer(&mut delivery, &request, &[outcome, accepted("0")], 0);
        let refused = actions.persist.map(|saved| saved.refused).unwrap_or_default();
        assert_eq!(refused.iter().map(|refused| refused.sequence).collect::<Vec<_>>(), given_up);
        assert_eq!(actions.send.is_empty(), !given_up.is_empty());
        if !given_up.is_empty() {
            assert_eq!(refused[1].line, b"a:2\n");
            assert_eq!(delivery.save(0).map(|saved| saved.state), None, "all is saved");
            assert_eq!((delivery.status().records_rejected, delivery.status().halted), (2, None));
        }
    }
}

/// The first of all, with nothing before it that was accepted: what comes behind does not wait for anybody.
#[test]
fn a_line_at_the_head_that_is_refused_holds_up_nothing() {
    for bad in ["a:1\n", "a:7\n", "a:1000\n"] {
        let mut delivery = new(settings());
        (0..1_000).for_each(|_| offer(&mut delivery, "a", 0));
        let (count, refused) = run(&mut delivery, 0, |request| {
            let is_bad = texts(request).iter().any(|text| text.split_inclusive('\n').any(|line| line == bad));
            if is_bad { Outcome::Reject("invalid".to_owned()) } else { accepted("0") }
        });
        assert_eq!(refused.iter().map(|refused| &refused.line[..]).collect::<Vec<_>>(), [bad.as_bytes()]);
        assert!(count < 30, "{count} requests");
        assert_eq!((delivery.status().halted, delivery.status().failing), (None, None));
    }
}

#[test]
fn a_request_that_is_too_large_is_halved_and_the_next_ones_are_smaller() {
    let mut delivery = new(DeliverySettings { record_bytes_soft: 2_000, ..settings() });
    let fill = |delivery: &mut Delivery| {
        for number in 0..2_000 {
            offer(delivery, &format!("d{}", number % 7), 0);
        }
    };
    let bytes = |request: &Request| request.records.iter().map(|record| record.data.len()).sum::<usize>();
    let judge = |request: &Request| match bytes(request) > 5_000 {
        true => Outcome::TooLarge("413".to_owned()),
        false => accepted("0"),
    };
    fill(&mut delivery);
    let (first, refused) = run(&mut delivery, 0, judge);
    assert_eq!(refused, []);
    fill(&mut delivery);
    let too_large = std::cell::Cell::new(0);
    let (second, refused) = run(&mut delivery, 0, |request| {
        too_large.set(too_large.get() + usize::from(bytes(request) > 5_000));
        judge(request)
    });
    assert_eq!(refused, []);
    assert!(too_large.get() <= 1 && second <= first, "{too_large:?} of {second} requests, {first} before");
    // One line that is too large for the way is to blame by itself.
    let mut delivery = new(settings());
    offer_all(&mut delivery, &["a", "a"]);
    let (_, refused) = run(&mut delivery, 0, |request| match bytes(request) > 3 {
        true => Outcome::TooLarge("413".to_owned()),
        false => accepted("0"),
    });
    assert_eq!(refused.len(), 2);
}

proptest! {
    #[test]
    fn a_refused_request_is_halved_down_to_the_record(devices in 2usize..120, bad in 0usize..120, flights in 1usize..3) {
        let bad = format!("d{}", bad % devices);
        let mut delivery = new(DeliverySettings { requests_in_flight_max: flights, ..settings() });
        (0..devices).for_each(|device| offer(&mut delivery, &format!("d{device}"), 0));
        let (count, refused) = run(&mut delivery, 0, |request| {
            let is_bad = request.records.iter().any(|record| *record.device == *bad);
            if is_bad { Outcome::Reject("invalid".to_owned()) } else { accepted("0") }
        });
        prop_assert_eq!(refused.len(), 1);
        let is_of_bad = refused[0].line.starts_with(bad.as_bytes());
        prop_assert!(is_of_bad);
        prop_assert!(count <= 2 * (devices.ilog2() as usize + 2) + 3, "{} requests for {} devices", count, devices);
    }
}

/// What is refused whatever it is, is refused for another reason than that which is said.
#[test]
fn refusals_without_end_halt_the_sink_and_the_rest_is_kept() {
    let mut delivery = new(settings());
    (0..500).for_each(|number| offer(&mut delivery, &format!("d{}", number % 250), 0));
    let mut now_us = 0;
    let mut sent = VecDeque::new();
    while now_us < 600 * SECOND_US {
        if sent.is_empty() {
            let (requests, at_us) = wait_for_requests(&mut delivery, now_us);
            now_us = at_us;
            sent.extend(requests);
        }
        let request = sent.pop_front().expect("it was waited for");
        let outcome = Outcome::Reject("the name is wrong".to_owned());
        sent.extend(answer_all(&mut delivery, &request, outcome, now_us).send);
    }
    assert!(delivery.status().halted.is_some_and(|halted| halted.starts_with("the name is wrong (100 in a row")));
    // Somebody mends it.
    assert_eq!(run(&mut delivery, now_us, |_| accepted("0")).1, []);
    assert_eq!(delivery.status().records_rejected, 100);
    assert_eq!((delivery.status().halted, delivery.save(now_us).expect("done").state), (None, CursorState::at(500)));
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

/// Two requests are under way when one of them is answered that the sink is to be left alone for a while.
#[test]
fn a_sink_that_asks_for_time_gets_it_whatever_becomes_of_the_others() {
    let mut delivery = new(DeliverySettings { request_records_max: 1, ..single() });
    offer_all(&mut delivery, &["a", "b", "a"]);
    let requests = tick(&mut delivery, 0);
    assert_eq!(requests.len(), 2);
    let later = Outcome::Later { reason: "busy".to_owned(), after_us: Some(60 * SECOND_US) };
    answer_all(&mut delivery, &requests[0], later, 0);
    assert_eq!(delivery.status().failing.as_deref(), Some("busy"));
    let actions = answer_all(&mut delivery, &requests[1], accepted("s"), SECOND_US);
    assert!(actions.send.is_empty(), "what one was told holds for all");
    let link_is_back = delivery.step(Event::LinkUp, 2 * SECOND_US);
    assert!(link_is_back.send.is_empty(), "also when the link is back");
    assert!(tick(&mut delivery, 60 * SECOND_US - 1).is_empty());
    let (request, at_us) = wait_for_request(&mut delivery, 60 * SECOND_US - 1);
    assert!(at_us >= 60 * SECOND_US);
    assert_eq!(texts(&request), ["a:1\n"], "in order");
}

/// A request that was sent before the sink asked for time fails afterwards: it begins a pause of its own, which is shorter.
#[test]
fn a_time_that_was_asked_for_is_not_cut_short_by_another_failure() {
    let failures = [Outcome::Retry(RetryReason::Throttled), Outcome::Halt("mend it".to_owned())];
    for failure in failures {
        let mut delivery = new(DeliverySettings { request_records_max: 1, ..single() });
        offer_all(&mut delivery, &["a", "b", "c"]);
        let requests = tick(&mut delivery, 0);
        answer_all(&mut delivery, &requests[0], Outcome::Retry(RetryReason::Throttled), 0);
        let again = answer_all(&mut delivery, &requests[1], accepted("s"), 0).send;
        assert_eq!(texts(&again[0]), ["a:1\n"], "another request has come through");
        let later = Outcome::Later { reason: "busy".to_owned(), after_us: Some(60 * SECOND_US) };
        answer_all(&mut delivery, &requests[2], later, 0);
        answer_all(&mut delivery, &again[0], failure, 0);
        let (_, at_us) = wait_for_request(&mut delivery, 1);
        assert!(at_us >= 60 * SECOND_US, "{at_us}");
    }
}

/// Without a time it waits as after any other failure.
#[test]
fn a_sink_that_asks_for_no_time_is_tried_again_soon() {
    let mut delivery = new(single());
    offer(&mut delivery, "a", 0);
    let request = next(&mut delivery, 0);
    answer_all(&mut delivery, &request, Outcome::Later { reason: "busy".to_owned(), after_us: None }, 0);
    let (_, at_us) = wait_for_request(&mut delivery, 1);
    assert!(at_us <= SECOND_US, "{at_us}");
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

/// Whoever has no place among those that are set aside stops the reading, until there is one.
#[test]
fn when_no_more_keys_can_be_set_aside_nothing_more_is_read() {
    let patience = Patience { keys_aside_max: 2, key_fails_us: SECOND_US, ..Patience::default() };
    let mut delivery = new(DeliverySettings { patience, ..settings() });
    let mut sequence = 0;
    let (mut now_us, mut sent) = (0, VecDeque::new());
    let mut is_sick = true;
    while now_us < 200 * SECOND_US {
        if is_sick && delivery.status().is_crowded {
            assert!(!delivery.wants_more());
            assert_eq!(delivery.status().keys_aside, 2);
            is_sick = now_us < 100 * SECOND_US;
        }
        // All four in each round, or none.
        let round: &[&str] = if delivery.wants_more() { &["well", "sick-1", "sick-2", "sick-3"] } else { &[] };
        for device in round {
            sequence += 1;
            delivery.offer(sequence, device, now_us, |out| out.extend(format!("{device}:{sequence}\n").bytes()));
        }
        while let Some(after) = delivery.aside_wants() {
            for at in after + 1..=sequence {
                let device = ["well", "sick-1", "sick-2", "sick-3"][(at as usize - 1) % 4];
                delivery.offer_aside(at, device, now_us, |out| out.extend(format!("{device}:{at}\n").bytes()));
            }
            delivery.aside_was_read(after, sequence, now_us);
        }
        sent.extend(tick(&mut delivery, now_us));
        while let Some(request) = sent.pop_front() {
            let fails = |record: &OutgoingRecord| is_sick && record.device.starts_with("sick");
            let outcome = |record| match fails(record) {
                true => Outcome::Retry(RetryReason::Internal),
                false => accepted("0"),
            };
            let outcomes: Vec<Outcome> = request.records.iter().map(outcome).collect();
            sent.extend(answer(&mut delivery, &request, &outcomes, now_us).send);
        }
        now_us += 50_000;
    }
    assert!(!is_sick, "it was crowded");
    let status = delivery.status();
    assert_eq!((status.keys_aside, status.is_crowded, status.records_rejected), (0, false, 0));
    assert!(delivery.wants_more() && delivery.save(now_us).expect("progress").state == CursorState::at(sequence));
}

/// Everything that is sent from now on and accepted, as lines.
fn sent_and_accepted(delivery: &mut Delivery, first: Option<Request>) -> Vec<String> {
    let (mut sent, mut now_us) = (Vec::new(), SECOND_US);
    let mut requests: VecDeque<Request> = first.into_iter().chain(tick(delivery, now_us)).collect();
    while let Some(request) = requests.pop_front() {
        sent.extend(texts(&request).iter().flat_map(|text| text.lines()).map(str::to_owned));
        now_us += 1;
        requests.extend(answer_all(delivery, &request, accepted("a"), now_us).send);
        delivery.check();
    }
    sent
}

/// The store has counted them already. What shares a record with others is cut out of it, and a request that is under way stays as it is.
#[test]
fn what_the_store_has_given_up_is_not_sent() {
    let lines = ["a", "b", "a", "a", "b", "a", "c"];
    for grouping in [Grouping::Lines, Grouping::Single] {
        let filled = || {
            let mut delivery = new(DeliverySettings { requests_in_flight_max: 1, grouping, ..settings() });
            offer_all(&mut delivery, &["d", "a"]);
            let under_way = next(&mut delivery, 0);
            assert_eq!(texts(&under_way), ["d:1\n", "a:2\n"]);
            offer_all(&mut delivery, &lines);
            (delivery, under_way)
        };
        let (mut delivery, under_way) = filled();
        delivery.give_up_through(6);
        let sent = sent_and_accepted(&mut delivery, Some(under_way));
        let mut sorted = sent.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["a:2", "a:8", "b:7", "c:9", "d:1"], "{grouping:?}");
        let Persist { state, expired, refused, .. } = delivery.save(2 * SECOND_US).expect("progress");
        assert_eq!((state, expired.len(), refused.len()), (CursorState::at(9), 0, 0));
        assert!(delivery.is_drained());
        // The control: nobody has told it.
        let (mut delivery, under_way) = filled();
        assert_eq!(sent_and_accepted(&mut delivery, Some(under_way)).len(), 9);
    }
}

/// Also while it waits to be tried again, alone or as a suspect, and when it is read again for a key that is set aside.
#[test]
fn what_has_failed_and_was_given_up_is_not_tried_again() {
    let mut delivery = new(settings());
    offer_all(&mut delivery, &["a", "a", "b"]);
    let request = next(&mut delivery, 0);
    answer_all(&mut delivery, &request, Outcome::Retry(RetryReason::Connection), 1);
    offer_all(&mut delivery, &["a"]);
    delivery.give_up_through(2);
    let (request, now_us) = wait_for_request(&mut delivery, 1);
    let mut found = texts(&request);
    found.sort_unstable();
    assert_eq!(found, ["a:4\n", "b:3\n"]);
    answer_all(&mut delivery, &request, accepted("a"), now_us + 1);
    delivery.check();
    assert!(delivery.is_drained());
    assert_eq!(delivery.save(now_us + 2).expect("progress").state, CursorState::at(4));
}

//! Parts against a cloud that fails, through crashes, and a whole day on a link with a budget.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::super::simulation::cloud::{Random, sequences};
use super::super::{Grouping, Outcome, Reply, Request, RetryReason, Scope};
use super::*;

mod day;
mod world;

use world::{Sabotage, Scenario, World};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const CALM_FROM_US: u64 = 120 * SECOND;
const AGE_US_MAX: u64 = 30 * SECOND;

fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![Just(Plan::LiveFirst), Just(Plan::ByClass), Just(Plan::Whole { class: Class::Live })]
}

proptest! {
    #[test]
    fn every_promise_is_kept_in_parts(
        seed in any::<u64>(), plan in plan(), [has_age, is_tight] in any::<[bool; 2]>(), crashes in 0..4_u32,
    ) {
        let scenario = Scenario { seed, plan, has_age, is_tight, crashes, sabotage: None };
        if let Err(broken) = World::new(scenario).run() {
            return Err(TestCaseError::fail(broken));
        }
    }
}

/// The control.
#[test]
fn broken_promises_are_noticed_in_parts() {
    for (sabotage, symptom) in [
        (Sabotage::ForgetsRanges, "twice without a reason"),
        (Sabotage::ForgetsTheCursor, "twice without a reason"),
        (Sabotage::ForgetsAges, "is sent at an age of"),
        (Sabotage::FailuresCountAsAccepted, "is done with, and is nowhere"),
    ] {
        let scenario = |seed| Scenario {
            seed,
            plan: if seed % 2 == 0 { Plan::LiveFirst } else { Plan::ByClass },
            has_age: sabotage == Sabotage::ForgetsAges,
            is_tight: false,
            crashes: 2,
            sabotage: Some(sabotage),
        };
        let found: Vec<String> = (1..=10).filter_map(|seed| World::new(scenario(seed)).run().err()).collect();
        assert!(found.iter().any(|text| text.contains(symptom)), "{sabotage:?}: {found:?}");
    }
}

/// Delivers at once.
fn deliver(parts: &mut Parts, requests: Vec<Request>, now_us: u64) -> Vec<u64> {
    let mut delivered = Vec::new();
    let mut requests = VecDeque::from(requests);
    while let Some(request) = requests.pop_front() {
        delivered.extend(request.records.iter().flat_map(|record| sequences(&record.data).collect::<Vec<u64>>()));
        let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
        requests.extend(parts.step(Event::Replied { id: request.id, reply }, &mut Open, now_us).send);
    }
    delivered
}

fn offer(parts: &mut Parts, part: usize, through: u64, now_us: u64) {
    parts.set_head(through);
    while parts.unread(part) > 0 && parts.wants_more(part) {
        let sequence = parts.offered_through(part) + 1;
        let line = Offered { sequence, device: "d", class: Class::Live, age_us: 0 };
        parts.offer(part, line, now_us, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
    }
}

#[test]
fn what_comes_now_goes_before_what_has_waited() {
    let settings = DeliverySettings { linger_us: 0, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(10), 100, 1);
    assert_eq!((parts.unread(0), parts.unread(1)), (0, 90));
    offer(&mut parts, 1, 103, 0);
    offer(&mut parts, 0, 103, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    let first: Vec<u64> = sequences(&send[0].records[0].data).collect();
    assert_eq!(first, [101, 102, 103]);
    let delivered = deliver(&mut parts, send, 0);
    assert_eq!(delivered.len(), 93);
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(103));
}

#[test]
fn what_waits_for_too_long_is_left_to_the_backlog() {
    let settings = DeliverySettings { linger_us: 0, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    offer(&mut parts, 0, 5, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    let down = |request: &Request| Reply::whole(Outcome::Retry(RetryReason::Connection), request.records.len());
    parts.step(Event::Replied { id: send[0].id, reply: down(&send[0]) }, &mut Open, 1);
    assert_eq!(parts.unread(1), 0);
    let mut now_us = 11 * SECOND;
    let mut send = parts.step(Event::Tick { behind: false }, &mut Open, now_us).send;
    assert!(send.is_empty() && parts.unread(1) == 5, "{send:?}");
    // Ten seconds later something new comes: it goes first.
    now_us += 10 * SECOND;
    offer(&mut parts, 0, 7, now_us);
    offer(&mut parts, 1, 7, now_us);
    send = parts.step(Event::LinkUp, &mut Open, now_us).send;
    assert_eq!(deliver(&mut parts, send, now_us), [6, 7, 1, 2, 3, 4, 5]);
}

#[test]
fn what_has_waited_is_sent_while_the_last_reply_is_waited_for() {
    let settings = DeliverySettings {
        grouping: Grouping::Single,
        linger_us: 0,
        request_records_max: 1,
        requests_in_flight_max: 1,
        ..DeliverySettings::default()
    };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(10), 100, 1);
    parts.set_head(105);
    for (sequence, device) in (101..=105).zip(["a", "b", "c", "d", "e"]) {
        let line = Offered { sequence, device, class: Class::Live, age_us: 0 };
        parts.offer(0, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
    }
    let live = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(live.len(), 1, "its answer does not come");
    offer(&mut parts, 1, 105, 0);
    assert!(parts.step(Event::Tick { behind: false }, &mut Open, SECOND).send.is_empty(), "there is more that is live");
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 12 * SECOND).send;
    let sent: Vec<u64> = send.iter().flat_map(|one| sequences(&one.records[0].data).collect::<Vec<u64>>()).collect();
    assert_eq!(sent, [11]);
    // When it comes, what is left of what was live is the backlog's.
    let reply = Reply::whole(Outcome::Accepted { shard: None }, 1);
    parts.step(Event::Replied { id: live[0].id, reply }, &mut Open, 13 * SECOND);
    offer(&mut parts, 1, 105, 13 * SECOND);
    assert_eq!(
        deliver(&mut parts, send, 13 * SECOND),
        [11..=100, 102..=105].into_iter().flatten().collect::<Vec<u64>>()
    );
}

#[test]
fn a_shard_that_takes_nothing_does_not_hold_up_what_has_waited() {
    let patience = Patience { throttled_pause_us: 60 * SECOND, ..Patience::default() };
    let settings =
        DeliverySettings { grouping: Grouping::Single, linger_us: 0, patience, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    offer(&mut parts, 0, 100, 0);
    let mut is_first = true;
    for now_us in (0..5_000).map(|at| at * MS) {
        let mut requests = VecDeque::from(parts.step(Event::Tick { behind: false }, &mut Open, now_us).send);
        while let Some(request) = requests.pop_front() {
            let shard = Some("s".to_owned());
            let outcome = if is_first { Outcome::Accepted { shard } } else { Outcome::Retry(RetryReason::Throttled) };
            is_first = false;
            let outcomes = vec![outcome; request.records.len()];
            let reply = Reply { scope: Scope::Records, outcomes, passed_over: 0 };
            requests.extend(parts.step(Event::Replied { id: request.id, reply }, &mut Open, now_us).send);
        }
    }
    parts.split = 200;
    parts.head = 200;
    parts.parts[1].skip_through(100, 5_000 * MS);
    offer(&mut parts, 1, 200, 5_000 * MS);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 5_000 * MS).send;
    assert!(send.iter().any(|request| request.id.0 % 2 == 1), "{send:?}");
}

/// Half more comes than can be sent, and more than is held waits in the store: what is sent as live is live all the same.
#[test]
fn what_is_live_is_not_old_though_more_comes_than_can_be_sent() {
    const EACH_US: u64 = 100 * MS;
    let settings = DeliverySettings {
        grouping: Grouping::Single,
        linger_us: 0,
        request_records_max: 10,
        requests_in_flight_max: 1,
        // Of each part, for some five seconds.
        held_bytes_max: 2 * 50 * 290,
        ..DeliverySettings::default()
    };
    let mut parts = Parts::new(Plan::LiveFirst, settings, &CursorState::at(0), 0, 1);
    let (mut committed_us, mut free_us) = (Vec::new(), 0);
    let mut on_the_way: VecDeque<(u64, u64, Vec<u64>)> = VecDeque::new();
    let (mut oldest_us, mut live) = (0, 0);
    for now_us in (0..300).flat_map(|second| (0..20).map(move |at| second * SECOND + at * 50 * MS)) {
        let come = (now_us / 1_000 * 15 / 1_000) as usize;
        committed_us.resize(come, now_us);
        let mut event = Event::Tick { behind: false };
        if let Some((_, id, lines)) = on_the_way.pop_front_if(|(at_us, ..)| *at_us <= now_us) {
            if id % 2 == 0 {
                live += lines.len();
                let ages_us = lines.iter().map(|sequence| now_us - committed_us[*sequence as usize - 1]);
                oldest_us = oldest_us.max(ages_us.max().unwrap_or(0));
            }
            let reply = Reply::whole(Outcome::Accepted { shard: None }, lines.len());
            event = Event::Replied { id: RequestId(id), reply };
        }
        for part in [0, 1] {
            offer(&mut parts, part, come as u64, now_us);
        }
        for request in parts.step(event, &mut Open, now_us).send {
            let lines: Vec<u64> =
                request.records.iter().flat_map(|one| sequences(&one.data).collect::<Vec<u64>>()).collect();
            free_us = now_us.max(free_us) + EACH_US * lines.len() as u64;
            on_the_way.push_back((free_us, request.id.0, lines));
        }
    }
    assert!(live > 1_500, "{live}");
    assert!(oldest_us < 20 * SECOND, "{oldest_us}");
}

/// Lets alerts go.
struct AlertsOnly;
impl Gate for AlertsOnly {
    fn ask(&mut self, class: Class, _: usize, now_us: u64) -> Permit {
        match class {
            Class::Alerts => Permit::Go { bytes_max: usize::MAX },
            _ => Permit::Wait { waiting: Waiting::Day, at_us: now_us + SECOND },
        }
    }
    fn sent(&mut self, _: Class, _: &Request, _: u64) {}
    fn unused(&mut self, _: Class) {}
    fn answered(&mut self, _: RequestId, _: u64) {}
    fn wants_nothing(&mut self, _: Class) {}
}

/// Many ranges are done with, as after a start.
fn with_gaps(count: u64) -> CursorState {
    CursorState { cursor: 0, acknowledged: (1..=count).map(|at| (2 * at, 2 * at)).collect() }
}

fn with_ranges(ranges_max: usize) -> DeliverySettings {
    let patience = Patience { ranges_max, ..Patience::default() };
    DeliverySettings { linger_us: 0, patience, ..DeliverySettings::default() }
}

#[test]
fn gaps_are_filled_together_however_many_there_are() {
    for plan in [Plan::LiveFirst, Plan::ByClass] {
        let mut parts = Parts::new(plan, with_ranges(50), &with_gaps(30), 60, 1);
        let last = parts.count() - 1;
        for part in 0..=last {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let line = Offered { sequence, device: "d", class: Class::Anomalies, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
        assert_eq!(parts.unread(last), 0, "{plan:?}");
        let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
        assert_eq!(send.len(), 1, "{plan:?}: they share a request");
    }
}

#[test]
fn what_is_live_is_left_to_the_backlog_where_there_can_be_no_more_ranges() {
    let mut parts = Parts::new(Plan::LiveFirst, with_ranges(30), &with_gaps(30), 60, 1);
    offer(&mut parts, 0, 65, 0);
    assert_eq!(parts.unread(0), 5, "it would be one more range");
    parts.step(Event::Tick { behind: false }, &mut Open, 0);
    offer(&mut parts, 1, 65, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(deliver(&mut parts, send, 0).len(), 30, "so much is held");
    offer(&mut parts, 1, 65, 0);
    let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
    assert_eq!(deliver(&mut parts, send, 0), [61, 62, 63, 64, 65]);
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(65));
}

/// As long as anomalies wait, each alert between them is one more range.
#[test]
fn the_number_of_ranges_has_a_bound_that_is_told() {
    let mut parts = Parts::new(Plan::ByClass, with_ranges(20), &CursorState::at(0), 0, 1);
    parts.set_head(200);
    let read = |parts: &mut Parts| {
        for part in 0..3 {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let class = if sequence.is_multiple_of(2) { Class::Alerts } else { Class::Anomalies };
                let line = Offered { sequence, device: "d", class, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
    };
    for _ in 0..200 {
        read(&mut parts);
        for request in parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send {
            let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
            parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
        }
    }
    let saved = parts.save(1).expect("changed").state;
    assert_eq!((saved.cursor, saved.acknowledged.len()), (0, 20), "{saved:?}");
    assert_eq!(parts.status().waiting, Some(Waiting::Between));
    for _ in 0..20 {
        read(&mut parts);
        let send = parts.step(Event::Tick { behind: false }, &mut Open, 0).send;
        deliver(&mut parts, send, 0);
    }
    assert_eq!(parts.save(1).expect("changed").state, CursorState::at(200));
    assert_eq!(parts.status().waiting, None);
}

#[test]
fn alerts_do_not_wait_for_anomalies() {
    let settings = DeliverySettings { linger_us: 0, held_bytes_max: 3_000, ..DeliverySettings::default() };
    let mut parts = Parts::new(Plan::ByClass, settings.clone(), &CursorState::at(0), 0, 1);
    parts.set_head(100);
    let read = |parts: &mut Parts| {
        for part in 0..3 {
            while parts.unread(part) > 0 && parts.wants_more(part) {
                let sequence = parts.offered_through(part) + 1;
                let class = if sequence.is_multiple_of(10) { Class::Alerts } else { Class::Anomalies };
                let device = format!("d{sequence}");
                let line = Offered { sequence, device: &device, class, age_us: 0 };
                parts.offer(part, line, 0, |out| out.extend_from_slice(format!("{sequence} x\n").as_bytes()));
            }
        }
    };
    let mut alerts = Vec::new();
    for _ in 0..20 {
        read(&mut parts);
        for request in parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send {
            alerts.extend(request.records.iter().flat_map(|record| sequences(&record.data)));
            let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
            parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
        }
    }
    assert_eq!(alerts, (1..=10).map(|at| at * 10).collect::<Vec<u64>>());
    assert!(parts.is_stuck(), "anomalies wait, and alerts are sent");
    parts.set_head(110);
    read(&mut parts);
    let request = parts.step(Event::Tick { behind: false }, &mut AlertsOnly, 0).send.remove(0);
    assert!(!parts.is_stuck(), "an alert is on its way");
    let reply = Reply::whole(Outcome::Accepted { shard: None }, request.records.len());
    parts.step(Event::Replied { id: request.id, reply }, &mut AlertsOnly, 0);
    assert!(parts.is_stuck());
    assert_eq!(parts.status().waiting, Some(Waiting::Day));
    assert_eq!(parts.status().failing, None, "no fault");
    let saved = parts.save(1).expect("changed").state;
    assert_eq!((saved.cursor, saved.acknowledged.len()), (0, 11), "{saved:?}");
    // The next process sends the others, and no alert again.
    let mut next = Parts::new(Plan::ByClass, settings, &saved, 110, 2);
    let mut others = 0;
    for _ in 0..100 {
        read(&mut next);
        let send = next.step(Event::Tick { behind: false }, &mut Open, 0).send;
        others += deliver(&mut next, send, 0).into_iter().inspect(|at| assert!(at % 10 != 0, "{at} again")).count();
    }
    assert_eq!(others, 99);
}

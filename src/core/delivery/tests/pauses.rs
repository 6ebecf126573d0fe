//! How long a sink is left alone, and what ends it.

use super::*;

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

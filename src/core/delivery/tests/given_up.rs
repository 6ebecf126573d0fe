//! What the store has given up while it was held here.

use super::*;

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

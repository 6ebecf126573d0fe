//! What is refused, or too large: halves are tried, down to the line to blame.

use super::*;

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
    for refused_in_a_row_max in [10, 100] {
        refusals_without_end(refused_in_a_row_max);
    }
}

fn refusals_without_end(refused_in_a_row_max: u32) {
    let patience = Patience { refused_in_a_row_max, ..Patience::default() };
    let mut delivery = new(DeliverySettings { patience, ..settings() });
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
    let said = format!("the name is wrong ({refused_in_a_row_max} in a row");
    assert!(delivery.status().halted.is_some_and(|halted| halted.starts_with(&said)));
    // Somebody mends it.
    assert_eq!(run(&mut delivery, now_us, |_| accepted("0")).1, []);
    assert_eq!(delivery.status().records_rejected, u64::from(refused_in_a_row_max));
    assert_eq!((delivery.status().halted, delivery.save(now_us).expect("done").state), (None, CursorState::at(500)));
}

//! Keys that are set aside.

use super::*;

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

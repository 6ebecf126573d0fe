//! The budget, over whole days.

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;
const BEGAN_MS: i64 = 1_795_478_400_000 / DAY_MS * DAY_MS;

/// Of a record that fits in whatever is left.
const SHORT: usize = 0;

fn at(ms: i64) -> Now {
    let passed_us = ms.unsigned_abs() * 1_000;
    Now { wall_ms: Some(BEGAN_MS + ms), steady_us: passed_us, passed_us }
}

fn settings() -> LinkSettings {
    LinkSettings { bytes_per_day: Some(1_000), bytes_per_month: Some(10_000), ..LinkSettings::default() }
}

fn is_go(permit: Permit) -> bool {
    matches!(permit, Permit::Go { .. })
}

/// Sends requests of `bytes` as long as it may.
fn drain(budget: &mut Budget, class: Class, bytes: u64, now: Now) -> u64 {
    let mut sent = 0;
    while is_go(budget.ask(class, SHORT, now)) {
        budget.sent(class, bytes, now);
        budget.done(class, bytes, bytes, now);
        sent += bytes;
        assert!(sent < 1_000_000, "it never ends");
    }
    sent
}

#[test]
fn alerts_have_a_reserve_and_everything_waits_for_the_next_day() {
    let mut budget = Budget::new(settings(), None);
    assert_eq!(drain(&mut budget, Class::Live, 100, at(0)), 900);
    for class in Class::ALL.into_iter().skip(1) {
        assert!(matches!(budget.ask(class, SHORT, at(1)), Permit::Wait { waiting: Waiting::Day, .. }), "{class:?}");
    }
    assert_eq!(budget.status(at(1)).waiting, Some(Waiting::Day));
    assert_eq!(budget.status(at(1)).alerts_waiting, None);
    assert_eq!(drain(&mut budget, Class::Alerts, 30, at(2)), 120, "never over by more than a request");
    assert_eq!(budget.status(at(2)).alerts_waiting, Some(Waiting::Day));
    let Permit::Wait { at_us, .. } = budget.ask(Class::Live, SHORT, at(DAY_MS - 2_000)) else { panic!("it is spent") };
    assert_eq!(at_us, DAY_MS.unsigned_abs() * 1_000, "when the day is over");
    assert_eq!(drain(&mut budget, Class::Live, 100, at(DAY_MS)), 900);
}

#[test]
fn what_has_waited_leaves_the_rest_of_the_day_to_what_comes() {
    let mut budget = Budget::new(settings(), None);
    assert!(matches!(budget.ask(Class::Backlog, SHORT, at(0)), Permit::Wait { waiting: Waiting::Pace, .. }));
    assert_eq!(budget.status(at(0)).waiting, None, "that is no news");
    assert_eq!(drain(&mut budget, Class::Backlog, 50, at(DAY_MS / 3)), 300);
    assert_eq!(drain(&mut budget, Class::Live, 100, at(DAY_MS / 2)), 600);
    assert_eq!(drain(&mut budget, Class::Backlog, 100, at(DAY_MS - 1)), 0, "it is spent");
    let mut month = Budget::new(LinkSettings { bytes_per_day: None, ..settings() }, None);
    // Of its month, 23 days of 30 are over.
    let sent = drain(&mut month, Class::Backlog, 10, at(0));
    assert!((6_900..=6_910).contains(&sent), "{sent}");
}

#[test]
fn a_month_ends_what_its_days_would_allow() {
    let mut budget = Budget::new(settings(), None);
    let sent: u64 = (0..31).map(|day| drain(&mut budget, Class::Live, 100, at(day * DAY_MS))).sum();
    // Within 31 days one month begins at most.
    assert!((9_000..=18_000).contains(&sent), "{sent}");
    let mut month = Budget::new(LinkSettings { bytes_per_day: None, ..settings() }, None);
    assert_eq!(drain(&mut month, Class::Live, 100, at(0)), 9_000);
    assert!(matches!(month.ask(Class::Live, SHORT, at(0)), Permit::Wait { waiting: Waiting::Month, .. }));
}

#[test]
fn what_is_under_way_counts_before_it_is_answered() {
    let mut budget = Budget::new(settings(), None);
    let mut sent = 0;
    while is_go(budget.ask(Class::Live, SHORT, at(0))) {
        budget.sent(Class::Live, 400, at(0));
        sent += 400;
    }
    assert_eq!(sent, 1_200, "the last one is the one that may be too much");
    budget.done(Class::Live, 400, 150, at(1));
    budget.done(Class::Live, 400, 150, at(1));
    assert!(is_go(budget.ask(Class::Live, SHORT, at(1))), "they took less than was thought");
}

#[test]
fn estimates_keep_nobody_waiting_for_another_day() {
    let mut budget = Budget::new(settings(), None);
    for _ in 0..4 {
        budget.sent(Class::Live, 400, at(0));
    }
    for class in [Class::Alerts, Class::Live] {
        assert_eq!(budget.ask(class, SHORT, at(1)), Permit::Later { at_us: 1_000 + 100_000 }, "{class:?}");
    }
    assert_eq!(budget.status(at(1)).waiting, None, "nothing is spent");
    for _ in 0..4 {
        budget.done(Class::Live, 400, 100, at(2));
    }
    assert!(is_go(budget.ask(Class::Live, SHORT, at(3))));
}

/// Without a rate, as much as is left goes out in requests of mebibytes, four at a time; an alert comes each minute.
#[test]
fn a_day_without_a_rate_leaves_the_reserve_to_alerts() {
    const DAY: u64 = 20_000_000;
    const WANTED: usize = 4 << 20;
    let mut budget = Budget::new(LinkSettings { bytes_per_day: Some(DAY), ..LinkSettings::default() }, None);
    let mut under_way = std::collections::VecDeque::new();
    for minute in 0..1_440 {
        let now = at(minute * 60_000);
        while under_way.len() < 4
            && let Permit::Go { bytes_max } = budget.ask(Class::Live, SHORT, now)
        {
            // A single record may be longer.
            let records = WANTED.min(bytes_max).max(200) as u64;
            budget.sent(Class::Live, on_socket(records), now);
            under_way.push_back(records);
        }
        assert!(
            matches!(budget.ask(Class::Alerts, SHORT, now), Permit::Go { bytes_max } if bytes_max > 700),
            "minute {minute}"
        );
        budget.sent(Class::Alerts, on_socket(700), now);
        budget.done(Class::Alerts, on_socket(700), 1_300, now);
        if let Some(records) = under_way.pop_front() {
            budget.done(Class::Live, on_socket(records), on_socket(records), now);
        }
    }
    let spent = budget.status(at(DAY_MS - 1)).bytes_today;
    assert!((DAY * 9 / 10 - 2 * REQUEST_OVERHEAD_BYTES..=DAY).contains(&spent), "{spent}");
}

/// The newest batch of one device is longer than the rest of the day.
#[test]
fn what_is_longer_than_the_rest_of_a_budget_leaves_that_to_alerts() {
    const DAY: u64 = 200 << 10;
    let day = LinkSettings { bytes_per_day: Some(DAY), alert_reserve_percent: 50, ..LinkSettings::default() };
    let drain = |budget: &mut Budget, records: usize, now: Now| {
        while is_go(budget.ask(Class::Live, records, now)) {
            budget.spend(Class::Live, on_socket(records as u64), now);
        }
        budget.status(now).bytes_today
    };
    let mut budget = Budget::new(day.clone(), None);
    assert!((1..=DAY / 2).contains(&drain(&mut budget, 30 << 10, at(0))));
    assert!(matches!(budget.ask(Class::Live, 30 << 10, at(1)), Permit::Wait { waiting: Waiting::Day, .. }));
    assert_eq!(budget.status(at(1)).waiting, Some(Waiting::Day), "although there is something left");
    assert!(is_go(budget.ask(Class::Live, 1 << 10, at(1))), "which is enough for a shorter one");
    assert_eq!(budget.status(at(1)).waiting, None);
    assert!(is_go(budget.ask(Class::Live, 30 << 10, at(DAY_MS))), "on the next day");

    // What no day would hold would wait for ever.
    assert_eq!(drain(&mut Budget::new(day.clone(), None), 80 << 10, at(0)), on_socket(80 << 10));
    // An answer may leave more than was thought.
    let mut budget = Budget::new(day, None);
    budget.sent(Class::Live, 80 << 10, at(0));
    assert_eq!(budget.ask(Class::Live, 30 << 10, at(0)), Permit::Later { at_us: 100_000 });
    budget.done(Class::Live, 80 << 10, 10 << 10, at(0));
    assert!(is_go(budget.ask(Class::Live, 30 << 10, at(0))));
}

#[test]
fn lines_share_no_record_that_is_a_large_part_of_what_a_link_allows() {
    let most = |rate, bytes_per_day, bytes_per_month| {
        LinkSettings { rate, bytes_per_day, bytes_per_month, ..LinkSettings::default() }.record_bytes_soft()
    };
    assert_eq!(most(None, None, None), usize::MAX);
    assert_eq!(most(Some(32 << 10), None, Some(2_000_000_000)), 32 << 10);
    assert_eq!(most(Some(1), None, None), 4 << 10);
    assert_eq!(most(None, Some(100 << 10), Some(2_000_000_000)), 4 << 10);
    assert_eq!(most(None, Some(64 << 20), None), 64 << 10);
}

/// Two streams ask, and only then say what they send.
#[test]
fn what_may_be_sent_is_told_to_one_alone() {
    let day = LinkSettings { bytes_per_day: Some(100_000), ..LinkSettings::default() };
    let mut budget = Budget::new(day, None);
    let Permit::Go { bytes_max } = budget.reserve(Class::Live, SHORT, at(0)) else { panic!("it may") };
    assert!(matches!(budget.reserve(Class::Live, SHORT, at(0)), Permit::Later { .. }), "it has all that is left");
    assert!(is_go(budget.clone().ask(Class::Alerts, SHORT, at(0))), "but what is kept for alerts");
    budget.give_back(Class::Live, bytes_max);
    budget.sent(Class::Live, 20_000, at(0));
    assert!(is_go(budget.ask(Class::Live, SHORT, at(0))), "it is less");

    let mut rated = Budget::new(LinkSettings { rate: Some(10_000), ..LinkSettings::default() }, None);
    let Permit::Go { bytes_max } = rated.reserve(Class::Backlog, SHORT, at(0)) else { panic!("it may") };
    assert!(!is_go(rated.reserve(Class::Backlog, SHORT, at(0))), "one at a time");
    rated.give_back(Class::Backlog, bytes_max);
    assert!(is_go(rated.reserve(Class::Backlog, SHORT, at(0))), "as if nothing had been reserved");
}

#[test]
fn a_link_that_costs_nothing_lets_everything_go_and_counts_it_apart() {
    let mut budget = Budget::new(settings(), None);
    assert!(budget.is_metered(), "nobody knows, and it has a budget");
    assert!(!Budget::new(LinkSettings::default(), None).is_metered(), "nobody knows, and nothing is limited");
    let rate = LinkSettings { rate: Some(1), ..LinkSettings::default() };
    let carries = LinkSettings { carries: [Class::Alerts].into_iter().collect(), ..LinkSettings::default() };
    for limited in [rate, carries] {
        assert!(Budget::new(limited.clone(), None).is_metered(), "nobody knows: {limited:?}");
    }
    drain(&mut budget, Class::Live, 100, at(0));
    budget.set_metered(Metered::No);
    assert!(is_go(budget.ask(Class::Backlog, SHORT, at(1))));
    budget.spend(Class::Backlog, 5_000_000, at(1));
    let status = budget.status(at(2));
    assert_eq!((status.bytes_today, status.free_bytes, status.waiting), (900, 5_000_000, None));
    budget.set_metered(Metered::Yes);
    assert!(!is_go(budget.ask(Class::Live, SHORT, at(3))), "the day is as it was");
}

#[test]
fn a_link_carries_what_it_is_said_to() {
    let carries = [Class::Alerts, Class::Anomalies].into_iter().collect();
    let mut budget = Budget::new(LinkSettings { carries, ..LinkSettings::default() }, None);
    budget.set_metered(Metered::Yes);
    assert!(is_go(budget.ask(Class::Anomalies, SHORT, at(0))));
    assert!(matches!(budget.ask(Class::Live, SHORT, at(0)), Permit::Wait { waiting: Waiting::Unmetered, .. }));
    assert_eq!(budget.status(at(0)).waiting, None, "what it does not carry is no news");
    budget.set_metered(Metered::No);
    assert!(is_go(budget.ask(Class::Live, SHORT, at(0))));
}

#[test]
fn a_rate_is_kept_and_what_is_urgent_goes_first() {
    let mut budget = Budget::new(LinkSettings { rate: Some(10_000), ..LinkSettings::default() }, None);
    budget.set_metered(Metered::Yes);
    assert_eq!(budget.ask(Class::Backlog, SHORT, at(0)), Permit::Go { bytes_max: 10_000 });
    budget.sent(Class::Backlog, 10_000, at(0));
    assert!(is_go(budget.ask(Class::Alerts, SHORT, at(10))), "alerts wait for no rate");
    assert_eq!(budget.ask(Class::Backlog, SHORT, at(10)), Permit::Later { at_us: 10_000 + 100_000 });
    budget.done(Class::Backlog, 10_000, 10_000, at(20));
    let Permit::Later { at_us: backlog_us } = budget.ask(Class::Backlog, SHORT, at(30)) else {
        panic!("it is used up")
    };
    let Permit::Later { at_us: live_us } = budget.ask(Class::Live, SHORT, at(40)) else { panic!("it is used up") };
    assert!((1_000_000..1_010_000).contains(&live_us) && live_us < backlog_us, "{live_us}, {backlog_us}");
    assert!(!is_go(budget.ask(Class::Backlog, SHORT, at(1_001))), "live readings wait");
    assert!(is_go(budget.ask(Class::Live, SHORT, at(1_004))));
    assert!(is_go(budget.ask(Class::Backlog, SHORT, at(1_005))));
}

#[test]
fn what_went_while_it_cost_nothing_is_not_waited_for() {
    let mut budget = Budget::new(LinkSettings { rate: Some(10_000), ..LinkSettings::default() }, None);
    budget.set_metered(Metered::No);
    budget.sent(Class::Live, 500_000_000, at(0));
    budget.done(Class::Live, 500_000_000, 600_000_000, at(10));
    budget.set_metered(Metered::Yes);
    assert!(is_go(budget.ask(Class::Live, SHORT, at(20))));
}

#[test]
fn bytes_that_nobody_announced_use_the_rate_as_well() {
    let mut budget = Budget::new(LinkSettings { rate: Some(10_000), ..LinkSettings::default() }, None);
    budget.set_metered(Metered::Yes);
    budget.sent(Class::Live, 10_000, at(0));
    // Another stream's word comes first, and has all bytes in it.
    budget.spend(Class::Anomalies, 10_000, at(500));
    budget.done(Class::Live, 10_000, 0, at(600));
    assert_eq!(budget.ask(Class::Anomalies, SHORT, at(700)), Permit::Later { at_us: 1_000_000 + 2_000 });
}

#[test]
fn a_class_that_went_away_holds_up_nobody() {
    let mut budget = Budget::new(LinkSettings { rate: Some(1_000), ..LinkSettings::default() }, None);
    budget.set_metered(Metered::Yes);
    budget.sent(Class::Live, 1_000, at(0));
    assert!(!is_go(budget.ask(Class::Live, SHORT, at(10))));
    assert!(!is_go(budget.ask(Class::Backlog, SHORT, at(1_010))));
    assert!(is_go(budget.clone().ask(Class::Backlog, SHORT, at(3_010))), "after a while");
    budget.wants_nothing(Class::Live);
    assert!(is_go(budget.ask(Class::Backlog, SHORT, at(1_020))), "at once, when it says so");
}

#[test]
fn no_forecast_is_more_than_the_budgets_of_the_days() {
    const DAY: u64 = 1_000;
    let day = LinkSettings { bytes_per_day: Some(DAY), ..LinkSettings::default() };
    let mut budget = Budget::new(day, None);
    let two_hours = at(2 * 3_600_000);
    budget.spend(Class::Live, DAY, two_hours);
    let status = budget.status(two_hours);
    let days_left = (status.month_end_ms.expect("the clock is set") - BEGAN_MS) as u64 / DAY_MS.unsigned_abs() - 1;
    let forecast = status.forecast.expect("two hours");
    assert_eq!(forecast.bytes_per_day, DAY);
    assert!(forecast.bytes_of_month.abs_diff(DAY + days_left * DAY) <= 1, "{forecast:?}");
}

#[test]
fn the_forecast_says_what_the_month_will_cost() {
    let month = LinkSettings { bytes_per_month: Some(30_000), ..LinkSettings::default() };
    let mut budget = Budget::new(month, None);
    assert_eq!(budget.status(at(0)).forecast, None);
    // From the first of a month on.
    let first_ms = budget.status(at(0)).month_end_ms.expect("it is set") - BEGAN_MS;
    for hour in 0..120 {
        budget.spend(Class::Live, 100, at(first_ms + hour * 3_600_000));
    }
    let status = budget.status(at(first_ms + 5 * DAY_MS));
    let forecast = status.forecast.expect("five days");
    assert!((2_200..=2_400).contains(&forecast.bytes_per_day), "{forecast:?}");
    let days = (status.month_end_ms.expect("set") - BEGAN_MS - first_ms) / DAY_MS;
    let expected = 2_400 * days.unsigned_abs();
    assert!(forecast.bytes_of_month.abs_diff(expected) < 3_000, "{forecast:?}, {expected}");
    let spent_at_ms = forecast.spent_at_ms.expect("2,400 a day are too many") - BEGAN_MS - first_ms;
    assert!((12 * DAY_MS..14 * DAY_MS).contains(&spent_at_ms), "{spent_at_ms}");
}

#[test]
fn a_budget_of_an_unset_clock_is_one_budget() {
    let mut budget = Budget::new(settings(), None);
    let unset = |ms: u64| Now { wall_ms: None, steady_us: ms * 1_000, passed_us: ms * 1_000 };
    assert_eq!(drain(&mut budget, Class::Live, 100, unset(0)), 900);
    assert_eq!(drain(&mut budget, Class::Live, 100, at(10_000)), 0, "the day that it is set to has the same budget");
}

/// It sleeps for the rest of the day, and its steady clock with it; nothing is started anew.
#[test]
fn a_vehicle_that_wakes_for_an_hour_a_day_gets_each_day() {
    let mut budget = Budget::new(settings(), None);
    let hour_us = DAY_MS.unsigned_abs() * 1_000 / 24;
    for day in 0..60 {
        let wakes = |hour: u64| Now { steady_us: (day + hour) * hour_us, ..at((day * 24 + hour) as i64 * DAY_MS / 24) };
        let month = budget.status(wakes(0)).bytes_of_month;
        let expected = 900.min(9_000 - month.min(9_000));
        assert!(drain(&mut budget, Class::Live, 100, wakes(0)) >= expected, "day {day}, {month}");
        assert_eq!(drain(&mut budget, Class::Live, 100, wakes(1)), 0, "day {day}");
    }
}

#[test]
fn what_another_version_has_stored_is_read_as_far_as_it_goes() {
    let text = r#"{"metered_bytes":70,"by_class":{"alerts":9,"pigeons":4},"more":[]}"#;
    let kept: Kept = serde_json::from_str(text).expect("as far as it goes");
    let status = Budget::new(settings(), Some(kept)).status(at(0));
    assert_eq!((status.metered_bytes, status.by_class), (70, [9, 0, 0, 0, 0]));
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, u64),
    Spend(usize, u64),
    Metered(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_usize, 1..400_u64).prop_map(|(class, bytes)| Step::Ask(class, bytes)),
        1 => (0..5_usize, 1..50_u64).prop_map(|(class, bytes)| Step::Spend(class, bytes)),
        1 => (0..3_u8).prop_map(Step::Metered),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Over any steps, the budget of a day is passed by less than a request and what nobody asked for, and the reserve by nobody else.
    #[test]
    fn no_budget_is_passed_by_more_than_a_request(steps in prop::collection::vec((step(), 0..3_600_000_i64), 1..300)) {
        let mut budget = Budget::new(settings(), None);
        let (mut ms, mut unasked, mut day, mut steady_ms) = (0, 0, 0, 0_i64);
        let mut metered = Metered::Unknown;
        for (step, passed_ms) in steps {
            ms += passed_ms;
            steady_ms += passed_ms;
            let clocks = |steady_ms: i64| {
                let passed_us = steady_ms.unsigned_abs() * 1_000;
                Now { wall_ms: Some(BEGAN_MS + ms), steady_us: passed_us, passed_us }
            };
            let now = clocks(steady_ms);
            if ms / DAY_MS != day {
                (day, unasked) = (ms / DAY_MS, 0);
            }
            match step {
                Step::Ask(class, bytes) => {
                    let class = Class::ALL[class];
                    let before = budget.status(now).bytes_today;
                    if is_go(budget.ask(class, SHORT, now)) {
                        let limit = if class == Class::Alerts { 1_000 } else { 900 };
                        prop_assert!(before < limit || !budget.is_metered(), "{class:?} at {before}");
                        budget.sent(class, bytes, now);
                        budget.done(class, bytes, bytes, now);
                    }
                }
                Step::Spend(class, bytes) => {
                    budget.spend(Class::ALL[class], bytes, now);
                    unasked += bytes;
                }
                Step::Metered(which) => {
                    metered = [Metered::Yes, Metered::No, Metered::Unknown][usize::from(which)];
                    budget.set_metered(metered);
                }
                Step::Restart => {
                    let text = serde_json::to_string(budget.kept()).expect("plain data");
                    let kept: Kept = serde_json::from_str(&text).expect("what was written");
                    prop_assert_eq!(&kept, budget.kept());
                    let before = budget.status(now);
                    budget = Budget::new(settings(), Some(kept));
                    budget.set_metered(metered);
                    steady_ms = 0;
                    let now = clocks(0);
                    prop_assert_eq!(before, budget.status(now), "restored exactly");
                }
            }
            let spent = budget.status(clocks(steady_ms)).bytes_today;
            prop_assert!(spent < 1_000 + 400 + unasked, "{spent}");
        }
    }
}

/// Lives that end with a kill at any moment: nothing but what is durable is known in the next one. Returns what was really spent.
fn spend_in_lives(lives: u64, limit: u64, take: impl Fn(&mut Budget) -> Kept) -> u64 {
    let settings = LinkSettings { bytes_per_day: Some(limit), ..LinkSettings::default() };
    let (mut spent, mut durable, mut state) = (0, None::<Kept>, 0x0dd0_5eed_u64);
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..lives {
        let mut budget = Budget::stored_ahead(settings.clone(), durable.clone());
        let mut handed = None;
        for step in 0..40 + random(200) {
            if budget.wants_saving() {
                handed = Some((step + random(5), take(&mut budget)));
            }
            if let Some((_, kept)) = handed.take_if(|(due, _)| *due <= step) {
                durable = Some(kept);
                budget.is_stored();
            }
            let Permit::Go { bytes_max } = budget.ask(Class::Live, SHORT, at(0)) else { continue };
            let bytes = on_socket(random(bytes_max.min(20_000) as u64 + 1));
            budget.sent(Class::Live, bytes, at(0));
            spent += bytes;
            // Half of the time the answer comes.
            if random(2) == 0 {
                budget.done(Class::Live, bytes, bytes, at(0));
            }
        }
    }
    spent
}

#[test]
fn kills_give_no_budget_twice() {
    let limit = 4 << 20;
    let spent = spend_in_lives(300, limit, |budget| budget.to_be_stored(false));
    assert!(spent <= limit, "{spent}");
    // It is not wasted either: a life may cost an advance.
    let few = spend_in_lives(8, limit, |budget| budget.to_be_stored(false));
    assert!(few > limit / 8, "{few}");
}

/// The control: what may have been spent since is not stored.
#[test]
fn without_an_advance_kills_overdraw_a_budget() {
    let limit = 4 << 20;
    let spent = spend_in_lives(300, limit, |budget| {
        let mut kept = budget.to_be_stored(false);
        kept.advance = 0;
        kept
    });
    assert!(spent > limit / 2 * 3, "{spent}");
}

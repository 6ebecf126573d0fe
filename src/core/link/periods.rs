//! What was spent in each day, or in each month.
//!
//! A period that was there before has what is left of it, and no more: so a clock that jumps forth and back gives no budget twice. A new
//! period takes a *grant*, of which there are few: so a clock that shows another day each minute does not give a budget each minute. Grants
//! come back with time that really passes, and with each start, because nobody knows for how long a gateway was off.
//!
//! The same time is a way out where the calendar gives nothing: when the gateway has run for longer than a period is without getting a
//! budget, it gets one, whatever the calendar says. So a clock that stands still, or was ahead and came back, blocks for a day and not for a
//! year.

use serde::{Deserialize, Serialize};

/// The number of a period while the clock is not set.
const UNSET: i64 = i64::MIN;
/// Most grants that are there at one time.
const GRANTS_MAX: u8 = 3;

/// How long periods are, and how many are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// After so much running without a new budget there is one in any case. A little longer than a period, because clocks are slewed.
    pub longest_ms: u64,
    /// So much running gives a grant back.
    pub grant_ms: u64,
    pub remembered: usize,
}

const HOUR_MS: u64 = 3_600_000;

pub const DAYS: Form = Form { longest_ms: 26 * HOUR_MS, grant_ms: 20 * HOUR_MS, remembered: 40 };
pub const MONTHS: Form = Form { longest_ms: 32 * 24 * HOUR_MS, grant_ms: 25 * 24 * HOUR_MS, remembered: 14 };

/// One period, by its number, and what was spent in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    pub number: i64,
    pub spent: u64,
}

/// Periods of one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periods {
    /// The present one is the last, the one before it was present before, and so on.
    known: Vec<Period>,
    grants: u8,
    /// Running time since the last new budget, and since the last grant came back.
    since_budget_ms: u64,
    since_grant_ms: u64,
}

impl Default for Periods {
    fn default() -> Periods {
        Periods {
            known: vec![Period { number: UNSET, spent: 0 }],
            grants: GRANTS_MAX,
            since_budget_ms: 0,
            since_grant_ms: 0,
        }
    }
}

impl Periods {
    /// The present period.
    pub fn present(&self) -> Period {
        self.known.last().copied().unwrap_or(Period { number: UNSET, spent: 0 })
    }

    /// All that are remembered; the present one is the last.
    pub fn known(&self) -> &[Period] {
        &self.known
    }

    /// The gateway begins anew, after nobody knows how long.
    pub fn begin(&mut self) {
        self.grants = self.grants.saturating_add(1).min(GRANTS_MAX);
    }

    /// So much time has really passed, and the calendar shows this period; `None` if the clock is not set.
    pub fn advance(&mut self, form: &Form, number: Option<i64>, passed_ms: u64) {
        self.since_budget_ms = self.since_budget_ms.saturating_add(passed_ms);
        self.since_grant_ms = self.since_grant_ms.saturating_add(passed_ms);
        while self.since_grant_ms >= form.grant_ms && self.grants < GRANTS_MAX {
            self.since_grant_ms -= form.grant_ms;
            self.grants += 1;
        }
        if self.grants == GRANTS_MAX {
            self.since_grant_ms = 0;
        }
        if let Some(number) = number {
            self.show(form, number);
        }
        if self.since_budget_ms >= form.longest_ms {
            self.since_budget_ms = 0;
            self.present_mut().spent = 0;
        }
    }

    fn show(&mut self, form: &Form, number: i64) {
        let present = self.present();
        if present.number == number {
            return;
        }
        let before = self.known.iter().position(|period| period.number == number);
        if present.number == UNSET {
            // What was spent while the clock was not set was spent now.
            self.known.pop();
            let known = before.map_or(0, |at| self.known.remove(at).spent);
            self.known.push(Period { number, spent: known.saturating_add(present.spent) });
            return;
        }
        if let Some(at) = before {
            let period = self.known.remove(at);
            self.known.push(period);
        } else if self.grants > 0 {
            self.grants -= 1;
            self.since_budget_ms = 0;
            if self.known.len() >= form.remembered {
                self.known.remove(0);
            }
            self.known.push(Period { number, spent: 0 });
        }
    }

    pub fn spend(&mut self, bytes: u64) {
        let present = self.present_mut();
        present.spent = present.spent.saturating_add(bytes);
    }

    fn present_mut(&mut self) -> &mut Period {
        if self.known.is_empty() {
            self.known.push(Period { number: UNSET, spent: 0 });
        }
        self.known.last_mut().expect("there is one")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Spends all that a limit leaves; returns how much that was.
    fn spend_all(periods: &mut Periods, limit: u64) -> u64 {
        let left = limit.saturating_sub(periods.present().spent);
        periods.spend(left);
        left
    }

    proptest! {
        /// Whatever the clock shows, no day's budget is given twice, unless more than a day of running lies between.
        #[test]
        fn no_day_is_given_twice(shown in prop::collection::vec((prop::option::of(0_i64..12), 0..HOUR_MS, any::<bool>()), 1..200)) {
            let (mut periods, mut spent) = (Periods::default(), BTreeMap::<i64, u64>::new());
            let (mut ran_ms, mut budgets, mut starts) = (0, 0, 0);
            for (number, passed_ms, is_start) in shown {
                ran_ms += passed_ms;
                if is_start {
                    periods.begin();
                    starts += 1;
                }
                periods.advance(&DAYS, number, passed_ms);
                let given = spend_all(&mut periods, 100);
                *spent.entry(periods.present().number).or_default() += given;
                budgets += given;
            }
            let by_time = ran_ms / DAYS.longest_ms;
            for (number, spent) in &spent {
                prop_assert!(*spent <= 100 * (1 + by_time), "{spent} on day {number}, and {ran_ms} ms passed");
            }
            let most = 1 + u64::from(GRANTS_MAX) + starts + ran_ms / DAYS.grant_ms + by_time;
            prop_assert!(budgets <= 100 * most, "{budgets} in {ran_ms} ms with {starts} starts");
        }

        /// Whatever the clock has shown before and shows now, there is a new budget after little more than a day.
        #[test]
        fn nothing_is_blocked_for_longer_than_a_day(
            before in prop::collection::vec((prop::option::of(-20_000_i64..20_000), 0..HOUR_MS), 0..100),
            shown in prop::collection::vec(prop::option::of(-20_000_i64..20_000), 1..4),
        ) {
            let mut periods = Periods::default();
            for (number, passed_ms) in before {
                periods.advance(&DAYS, number, passed_ms);
                spend_all(&mut periods, 100);
            }
            let mut given = 0;
            for minute in 0..=26 * 60 {
                periods.advance(&DAYS, shown[minute % shown.len()], 60_000);
                given += spend_all(&mut periods, 100);
            }
            prop_assert!(given >= 100, "{given}");
        }

        #[test]
        fn a_clock_that_is_right_gives_each_day_its_budget(first in 0_i64..30_000, minute in 1_u64..=600) {
            let (mut periods, mut given) = (Periods::default(), BTreeMap::<i64, u64>::new());
            let begins_ms = first as u64 * 24 * HOUR_MS + minute * 60_000;
            for at in 0..(10 * 24 * 60 / minute) {
                let ms = begins_ms + at * minute * 60_000;
                let day = (ms / (24 * HOUR_MS)) as i64;
                periods.advance(&DAYS, Some(day), if at == 0 { 0 } else { minute * 60_000 });
                prop_assert_eq!(periods.present().number, day);
                *given.entry(day).or_default() += spend_all(&mut periods, 100);
            }
            prop_assert!(given.values().all(|given| *given == 100), "{given:?}");
        }
    }

    /// As only a damaged store, or one of another version, has it.
    #[test]
    fn more_grants_than_there_can_be_are_as_many_as_there_can_be() {
        let state = r#"{"known":[{"number":7,"spent":5}],"grants":255,"since_budget_ms":0,"since_grant_ms":0}"#;
        let mut periods: Periods = serde_json::from_str(state).expect("a state");
        periods.begin();
        assert_eq!((periods.grants, periods.present().spent), (GRANTS_MAX, 5));
    }

    #[test]
    fn a_vehicle_that_runs_an_hour_a_day_gets_each_day() {
        let mut periods = Periods::default();
        for day in 0..60 {
            periods.begin();
            periods.advance(&DAYS, Some(day), 0);
            assert_eq!(spend_all(&mut periods, 100), 100, "day {day}");
            periods.advance(&DAYS, Some(day), HOUR_MS);
            assert_eq!(spend_all(&mut periods, 100), 0, "day {day}");
        }
        assert!(periods.known().len() <= DAYS.remembered);
    }

    #[test]
    fn what_is_spent_before_the_clock_is_set_is_spent_on_the_day_that_it_is_set_to() {
        let mut periods = Periods::default();
        periods.advance(&DAYS, None, 1_000);
        periods.spend(70);
        periods.advance(&DAYS, Some(20_000), 1_000);
        assert_eq!(periods.present(), Period { number: 20_000, spent: 70 });
        periods.advance(&DAYS, None, 1_000);
        assert_eq!(periods.present().number, 20_000, "a clock that is lost again changes nothing");
    }
}

//! What becomes usual, and what does not.

use super::*;

const MANNER: Manner = Manner { youth: Youth { calm: 10.0, restless: 10.0 }, false_alarms_per_week: 3 };

/// A detector that is heard once a second: noise, and now and then an excursion of ten seconds.
struct Life {
    habit: Habit,
    second: i64,
    manner: Manner,
}

impl Life {
    fn new() -> Life {
        Life::with(3)
    }

    fn with(false_alarms_per_week: u8) -> Life {
        let manner = Manner { false_alarms_per_week, ..MANNER };
        let mut life = Life { habit: Habit::NEW, second: 0, manner };
        life.go_on(24.0);
        life
    }

    fn score(&mut self, score: f64, side: Side) -> bool {
        self.second += 1;
        self.habit.hear(self.second * 1_000, score, side, score > 1.0, self.manner).is_some()
    }

    fn go_on(&mut self, hours: f64) {
        for second in 0..(hours * 3_600.0) as i64 {
            let noise = 0.2 + 0.2 * (second % 7) as f64 / 7.0;
            assert!(!self.score(noise, Side::Above), "noise is told");
        }
    }

    /// Returns whether an excursion is told, which goes so far beyond the threshold, hours after the one before.
    fn excursion(&mut self, hours: f64, height: f64) -> bool {
        self.go_on(hours);
        let told: Vec<bool> = (0..10).map(|_| self.score(height, Side::Above)).collect();
        assert!(told.iter().all(|is_told| *is_told == told[0]), "{told:?}");
        told[0]
    }
}

#[test]
fn what_comes_again_becomes_usual_and_what_is_larger_is_told() {
    let mut life = Life::new();
    let told: Vec<bool> = (0..8).map(|_| life.excursion(4.0, 3.0)).collect();
    assert_eq!(told, [true, true, true, true, false, false, false, false]);
    let so_far = [0.5, 3.7, 3.8].map(|score| life.habit.times_so_far(score, Side::Above));
    assert_eq!((so_far, life.habit.times_so_far(3.0, Side::Below)), ([4, 4, 0], 0));
    assert!(!life.excursion(4.0, 3.5), "about as large");
    assert!(!life.excursion(1.0, 1.5), "smaller");
    assert!(life.excursion(4.0, 4.5), "larger than ever");
}

#[test]
fn excursions_of_all_sizes_are_usual_only_when_there_were_many() {
    let mut life = Life::new();
    let heights = [2.0, 40.0, 5.0, 16.0, 3.0, 9.0];
    assert!(heights.iter().all(|height| life.excursion(4.0, *height)));
    // Six of them reach 2.0, and no four are alike.
    assert!(!life.excursion(4.0, 2.4));
    assert!(life.excursion(4.0, 6.0));
}

#[test]
fn how_many_alarms_teach_is_configured() {
    // How many that are alike are told, and how many of all sizes.
    for (false_alarms_per_week, alike, many) in [(1, 2, 2), (2, 3, 4), (3, 4, 6)] {
        let count = |heights: &[f64]| {
            let mut life = Life::with(false_alarms_per_week);
            heights.iter().take_while(|height| life.excursion(4.0, **height)).count()
        };
        assert_eq!(count(&[3.0; 8]), alike, "{false_alarms_per_week}");
        // The last one of them is no larger than the smallest before it.
        let sizes = [[2.0, 40.0], [16.0, 5.0], [90.0, 9.0]].concat();
        let wild = [&sizes[..many], &[2.0]].concat();
        assert_eq!(count(&wild), many, "{false_alarms_per_week}");
    }
}

#[test]
fn the_other_side_is_another_habit() {
    let mut life = Life::new();
    (0..6).for_each(|_| _ = life.excursion(4.0, 3.0));
    life.go_on(4.0);
    assert!(life.score(3.0, Side::Below));
}

#[test]
fn what_stays_teaches_nothing_until_it_has_ended() {
    let mut life = Life::new();
    for _ in 0..3 {
        life.excursion(4.0, 3.0);
    }
    life.go_on(4.0);
    for _ in 0..6 * 3_600 {
        assert!(life.score(3.0, Side::Above));
    }
    let line = life.habit.line;
    assert_eq!(line, [Score::ONE; 2]);
}

#[test]
fn minutes_are_counted_by_their_highest_score() {
    for (score, bin) in [(0.0, 0), (0.49, 0), (0.5, 1), (0.8, 2), (3.99, 6), (4.0, 7), (8.1, 8), (64.0, 11), (1e9, 11)]
    {
        assert_eq!(Habit::bin_of(score), bin, "{score}");
        assert!(bin == BINS - 1 || score < Habit::bound_of(bin), "{score}");
        assert!(bin == 0 || score >= Habit::bound_of(bin - 1), "{score}");
    }
}

#[test]
fn a_signal_that_moves_all_the_time_is_usual_after_minutes() {
    let mut habit = Habit::NEW;
    let mut told = 0;
    for second in 0..4 * 3_600_i64 {
        // A burst of a driver every minute, of different sizes.
        let score = if second % 60 == 0 { 1.5 + (second / 60 * 7 % 10) as f64 / 5.0 } else { 0.3 };
        told += u32::from(habit.hear(second * 1_000, score, Side::Above, score > 1.0, MANNER).is_some());
    }
    assert!(told <= 5, "{told}");
    assert!(habit.line[0].get() < 10.0, "{:?}", habit.line);
    assert!(habit.hear(4 * 3_600_000, 20.0, Side::Above, true, MANNER).is_some());
}

#[test]
fn the_young_tell_only_what_is_large() {
    let tells = |minutes: i64, score: f64| {
        let mut habit = Habit::NEW;
        for second in 0..minutes * 60 {
            habit.hear(second * 1_000, 0.3, Side::Above, false, MANNER);
        }
        habit.hear(minutes * 60_000, score, Side::Above, true, MANNER).is_some()
    };
    assert_eq!([tells(4, 2.0), tells(4, 4.0), tells(60, 1.5), tells(6_000, 1.5)], [false, true, true, true]);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_minutes() {
    let mut life = Life::new();
    let age = life.habit.age;
    life.second -= 86_400;
    life.go_on(1.0);
    assert!(life.habit.age >= age + 59, "{}", life.habit.age);
}

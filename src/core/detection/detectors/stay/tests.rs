use super::*;

/// A cold room that is read at an interval: 4 degrees with noise, and what is added to it.
struct Room {
    stay: Stay,
    at_s: i64,
    interval_s: i64,
}

impl Room {
    fn new(interval_s: i64) -> Room {
        Room { stay: Stay::NEW, at_s: 0, interval_s }
    }

    /// Minutes after which the level is told for the first time, if it is.
    fn go_on(&mut self, minutes: i64, added: f64) -> Option<i64> {
        let start_s = self.at_s;
        let mut first = None;
        while self.at_s < start_s + 60 * minutes {
            self.at_s += self.interval_s;
            let noise = 0.2 * ((self.at_s / self.interval_s * 7919) % 11 - 5) as f64 / 5.0;
            let mut found = Vec::new();
            let interval_ms = 1_000.0 * self.interval_s as f32;
            self.stay.judge(1_000 * self.at_s, 0, 4.0 + noise + added, interval_ms, &mut found);
            if !found.is_empty() {
                first.get_or_insert((self.at_s - start_s) / 60);
            }
        }
        first
    }

    /// Days with a defrost of so many minutes every six hours, in which nothing is told.
    fn live(&mut self, days: i64, defrost_minutes: i64) {
        for _ in 0..4 * days {
            let told = [self.go_on(defrost_minutes, 4.0), self.go_on(360 - defrost_minutes, 0.0)];
            assert_eq!(told, [None; 2], "at {} h", self.at_s / 3_600);
        }
    }
}

#[test]
fn a_defrost_is_usual_and_one_that_does_not_end_is_told() {
    for interval_s in [1, 10, 60] {
        let mut room = Room::new(interval_s);
        room.live(3, 30);
        assert_eq!(room.go_on(30, 4.0), None);
        let told = room.go_on(90, 4.0).expect("it does not end");
        assert!((6..=30).contains(&told), "every {interval_s} s: after {} minutes", told + 30);
    }
}

#[test]
fn a_level_that_never_was_is_told_after_minutes() {
    for added in [12.0, -3.0] {
        let mut room = Room::new(10);
        room.live(3, 30);
        let told = room.go_on(60, added).expect("far beyond the range");
        assert!((5..=6).contains(&told), "{added}: {told}");
    }
}

#[test]
fn a_fridge_that_is_read_every_quarter_of_an_hour_is_found_within_two_hours() {
    let mut room = Room::new(900);
    room.live(9, 30);
    let warming = (0..8).map(|quarter| room.go_on(15, 1.0 + f64::from(quarter)));
    let told = warming.into_iter().position(|told| told.is_some());
    assert!(told.is_some_and(|quarter| quarter < 8), "{told:?}");
}

#[test]
fn what_lasted_long_once_is_no_habit_and_twice_is() {
    let mut room = Room::new(10);
    room.live(3, 30);
    let told: Vec<bool> = (0..4)
        .map(|_| {
            let told = room.go_on(180, 4.0).is_some();
            room.go_on(360, 0.0);
            told
        })
        .collect();
    assert_eq!(told, [true, true, false, false]);
    assert!(room.go_on(60, 12.0).is_some(), "higher than ever");
}

#[test]
fn nothing_is_told_before_two_days_of_which_most_were_heard() {
    let mut room = Room::new(10);
    assert_eq!(room.go_on(34 * 60, 0.0), None);
    assert_eq!(room.go_on(60, 30.0), None);
    // A silence of a week is no time in which it was heard: only what is far beyond the range is told.
    room.at_s += 7 * 86_400;
    assert_eq!(room.go_on(30, 4.0), None);
    assert!(room.go_on(60, 50.0).is_some());
    let mut parked = Room::new(10);
    assert_eq!(parked.go_on(8 * 60, 0.0), None);
    parked.at_s += 7 * 86_400;
    assert_eq!(parked.go_on(60, 30.0), None, "heard for eight hours only");
}

/// A machine that ran by day when its nights were all that was known of it, and one day gets hotter than ever.
#[test]
fn the_first_day_teaches_the_range_and_nothing_else() {
    let mut room = Room::new(10);
    let day = |room: &mut Room| {
        let told = [room.go_on(480, 0.0), room.go_on(960, 40.0)];
        assert_eq!(told, [None; 2], "at {} h", room.at_s / 3_600);
    };
    (0..4).for_each(|_| day(&mut room));
    room.go_on(480, 0.0);
    assert!(room.go_on(60, 95.0).is_some_and(|minutes| minutes < 10));
}

/// A compressor: on and off for a quarter of an hour each.
#[test]
fn what_cycles_day_and_night_is_told_when_it_stops() {
    let cycle = |room: &mut Room, minutes: i64| [room.go_on(minutes, 6.0), room.go_on(minutes, 0.0)];
    for level in [0.0, 6.0] {
        let mut room = Room::new(10);
        (0..200).for_each(|_| assert_eq!(cycle(&mut room, 15), [None; 2]));
        // It was off for a quarter of an hour already.
        let minutes = room.go_on(120, level).expect("it stays") + if level == 0.0 { 15 } else { 0 };
        assert!((20..60).contains(&minutes), "{level}: {minutes}");
    }
    // Switched off by people for the night, it may stay off for a day as well.
    let mut room = Room::new(10);
    for _ in 0..4 {
        (0..24).for_each(|_| _ = cycle(&mut room, 15));
        assert_eq!(room.go_on(720, 0.0), None);
    }
    assert_eq!(room.go_on(2_000, 0.0), None);
}

#[test]
fn a_silence_ends_a_stay() {
    let mut room = Room::new(10);
    room.live(3, 30);
    for _ in 0..6 {
        assert_eq!(room.go_on(25, 4.0), None);
        room.at_s += 7_200;
    }
}

#[test]
fn what_stays_becomes_usual_in_the_end() {
    let mut room = Room::new(60);
    room.live(3, 30);
    assert!(room.go_on(600, 6.0).is_some());
    let days = (0..60).find(|_| room.go_on(1_440, 6.0).is_none());
    assert!(days.is_some(), "told for ever");
}

#[test]
fn reasons_say_what_is_usual() {
    let mut room = Room::new(10);
    room.live(3, 30);
    room.go_on(90, 4.0);
    let reason = room.stay.finding(10_000.0).reason;
    let end = " for 90 minutes; usually at most 30 minutes, once 30 minutes in 3 days";
    assert!(reason.starts_with("above 7.") && reason.ends_with(end), "{reason}");
}

#[test]
fn a_person_says_what_a_stay_was() {
    // What is said of a stay of three hours, and whether the next one like it is told.
    for (word, is_told) in [(None, true), (Some(true), false), (Some(false), true)] {
        let mut room = Room::new(10);
        room.live(3, 30);
        assert!(room.go_on(180, 4.0).is_some());
        if let Some(is_normal) = word {
            assert!(room.stay.teach(is_normal), "{word:?}");
        }
        assert_eq!(room.go_on(10, 4.0).is_some(), word != Some(true), "{word:?}");
        room.go_on(350, 0.0);
        assert!(!room.stay.teach(true), "nothing is told");
        assert_eq!(room.go_on(180, 4.0).is_some(), is_told, "{word:?}");
    }
}

#[test]
fn what_is_explained_is_what_is_told() {
    let mut room = Room::new(10);
    assert_eq!(room.stay.explain(0, 10_000.0), None);
    room.live(3, 30);
    let learned = room.stay.explain(0, 10_000.0).expect("three days");
    let nearest = &learned.above[0];
    let (low, high) = room.stay.usual().expect("levels");
    assert!(low < 4.0 && low < nearest.level && nearest.level < learned.above[1].level, "{learned:?}");
    assert!(high < learned.above[1].level && learned.above[1].level < 8.0, "{learned:?}");
    let minutes = nearest.after_s as i64 / 60;
    assert!((30..60).contains(&minutes), "{learned:?}");
    let told = room.go_on(2 * minutes, nearest.level - 3.7).expect("beyond the nearest mark only");
    assert!((minutes - 1..=minutes + 1).contains(&told), "{told} of {learned:?}");
}

#[test]
fn wild_levels_leave_finite_bounds() {
    let mut stay = Stay::NEW;
    for second in 0..10_000_i64 {
        let level = [f64::MAX, f64::MIN, 0.0, 1e-300][(second % 4) as usize];
        stay.judge(second * 10_000, 0, level, 10_000.0, &mut Vec::new());
        assert!(stay.low.is_finite() && stay.high.is_finite() && stay.low <= stay.high);
    }
}

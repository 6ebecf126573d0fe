use super::*;
use crate::batch::varint::Cursor;
use crate::detection::detectors::{Detector, state};

/// Deterministic noise of about one unit.
fn noise(i: i64) -> f64 {
    let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1 << 23) as f64 - 1.0
}

fn feed(series: &mut Series, at_s: i64, value: f64) -> Vec<Finding> {
    feed_as(series, &Profile::TEMPERATURE, at_s, value)
}

fn feed_as(series: &mut Series, profile: &Profile, at_s: i64, value: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    series.judge(Sample { at_ms: at_s * 1_000, value }, profile, 512, &mut found);
    found
}

fn has(found: &[Finding], detector: Detector) -> bool {
    found.iter().any(|finding| finding.detector == detector)
}

fn warm() -> Series {
    let mut series = Series::new(&Profile::TEMPERATURE);
    (0..1_000).for_each(|i| assert_eq!(feed(&mut series, i, 90.0 + 0.1 * noise(i)), [], "at {i}"));
    series
}

#[test]
fn a_spike_is_found_at_once_and_only_itself() {
    let mut series = warm();
    let found = feed(&mut series, 1_000, 93.0);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].detector, Detector::Spike);
    assert!(found[0].score > 1.0 && (found[0].expected.expect("the median") - 90.0).abs() < 0.1);
    assert!(found[0].reason.contains("above the 10 s median"), "{}", found[0].reason);
    assert_eq!(feed(&mut series, 1_001, 90.0), []);
}

#[test]
fn a_step_is_a_shift_until_it_is_the_new_level_and_the_way_back_is_told_for_a_minute() {
    let mut series = warm();
    let mut flags = |range: std::ops::Range<i64>, level: f64| -> Vec<bool> {
        range.map(|i| has(&feed(&mut series, i, level + 0.1 * noise(i)), Detector::Shift)).collect()
    };
    let up = flags(1_000..1_350, 92.0);
    assert!(up[12..300].iter().all(|&flag| flag));
    assert!(!up[315..].iter().any(|&flag| flag));
    let back = flags(1_350..1_700, 90.0);
    assert!(back[12..60].iter().all(|&flag| flag));
    assert!(!back[80..].iter().any(|&flag| flag), "it is home");
}

#[test]
fn a_way_home_is_no_trouble_and_the_same_way_on_is() {
    let engine = |i: i64| match i {
        // Off for a quarter of an hour, and warm again within two minutes.
        4_000..4_900 => 90.0 - 0.02 * (i - 4_000) as f64,
        4_900..5_000 => 72.0 + 0.18 * (i - 4_900) as f64,
        7_000.. => 90.0 + 0.18 * (i - 7_000) as f64,
        _ => 90.0,
    };
    let mut series = Series::new(&Profile::TEMPERATURE);
    let slow_wave = |i: i64| 1.5 * (i as f64 / 60.0).sin();
    let mut judge = |i: i64| has(&feed(&mut series, i, engine(i) + slow_wave(i) + 0.1 * noise(i)), Detector::Shift);
    let flagged: Vec<i64> = (0..7_000).filter(|&i| judge(i)).collect();
    assert_eq!(flagged, Vec::<i64>::new());
    let found = (7_000..7_200).find(|&i| judge(i)).expect("hotter than ever");
    assert!(found < 7_080, "{found}");
}

#[test]
fn noise_that_grows_is_a_burst_and_its_level_teaches_nothing() {
    let mut series = warm();
    let flags: Vec<bool> =
        (1_000..1_040).map(|i| has(&feed(&mut series, i, 90.0 + 1.5 * noise(i)), Detector::Burst)).collect();
    assert!(flags[13..].iter().all(|&flag| flag), "{flags:?}");
    let after: Vec<Finding> = (1_060..1_300).flat_map(|i| feed(&mut series, i, 90.0 + 0.1 * noise(i))).collect();
    assert_eq!(after, []);
}

/// As after a lost connection: what the device has not heard of being taken, it sends again.
#[test]
fn readings_that_come_again_are_not_judged_and_teach_nothing() {
    let mut series = warm();
    let value = |i: i64| 92.0 + 0.1 * noise(i);
    (1_000..1_040).for_each(|i| _ = feed(&mut series, i, value(i)));
    let before = series.clone();
    for i in 1_010..1_040 {
        assert_eq!(feed(&mut series, i, value(i)), []);
    }
    assert_eq!(series, before);
    assert!(has(&feed(&mut series, 1_040, value(1_040)), Detector::Shift), "the alarm goes on");
    assert!(has(&feed(&mut series, 1_033, 120.0), Detector::Spike), "another one, late, is judged");
}

#[test]
fn a_way_home_is_not_rough() {
    let mut series = Series::new(&Profile::TEMPERATURE);
    let engine = |i: i64| match i {
        2_000..2_600 => 90.0 - 0.05 * (i - 2_000) as f64,
        2_600..2_800 => 60.0 + 0.15 * (i - 2_600) as f64,
        _ => 90.0,
    };
    let burst = (0..4_000).find(|&i| has(&feed(&mut series, i, engine(i) + 0.05 * noise(i)), Detector::Burst));
    assert_eq!(burst, None);
}

#[test]
fn a_stuck_sensor_is_found_and_its_release_is_not_a_shift() {
    let mut series = warm();
    let found: Vec<bool> = (1_000..1_100).map(|i| has(&feed(&mut series, i, 90.05), Detector::Stuck)).collect();
    assert_eq!(found.iter().position(|&flag| flag), Some(31));
    let after: Vec<Finding> = (1_100..1_400)
        .flat_map(|i| feed(&mut series, i, 90.6 + 0.1 * noise(i)))
        .filter(|finding| finding.detector == Detector::Shift)
        .collect();
    assert_eq!(after, []);
}

#[test]
fn after_a_night_of_silence_home_is_where_it_was() {
    // Off for eight hours. A freezer that warms up is trouble; an engine that does is on its way home.
    let after_the_night = |before: f64, level: &dyn Fn(i64) -> f64| {
        let mut series = Series::new(&Profile::TEMPERATURE);
        (0..2_000).for_each(|i| assert_eq!(feed(&mut series, i, before + 0.1 * noise(i)), [], "at {i}"));
        (0..2_000).any(|i| {
            let found = feed(&mut series, 2_000 + 28_800 + i, level(i) + 0.1 * noise(i));
            has(&found, Detector::Shift)
        })
    };
    assert!(after_the_night(-18.0, &|i| -18.0 + (0.02 * (i - 1_200).max(0) as f64).min(12.0)), "the freezer");
    assert!(!after_the_night(90.0, &|i| 10.0 + (0.27 * (i - 60).max(0) as f64).min(80.0)), "the engine");
}

#[test]
fn a_level_that_moved_during_a_short_silence_is_told() {
    for silence_s in [0, 12, 30, 59, 120, 290] {
        let mut series = warm();
        let mut is_shift =
            |i: i64| has(&feed(&mut series, 1_000 + silence_s + i, 92.0 + 0.1 * noise(i)), Detector::Shift);
        assert!((0..20).any(&mut is_shift), "after {silence_s} s");
    }
}

#[test]
fn a_silence_is_no_part_of_a_run() {
    for silence_s in [0, 30, 120, 600] {
        let mut series = warm();
        feed(&mut series, 1_000, 90.05);
        let stuck = |i: &i64| has(&feed(&mut series, 1_001 + silence_s + i, 90.05), Detector::Stuck);
        let found = (0..60).find(stuck).expect("it stands still");
        assert!((30..=32).contains(&found), "{found} s after a silence of {silence_s} s");
    }
}

#[test]
fn a_rounding_error_is_no_step() {
    // A coarse sensor, whose value was once computed in another way.
    let mut series = Series::new(&Profile::TEMPERATURE);
    let value = |i: i64| 21.3 + 0.1 * (i / 1_800 % 3) as f64 + if i == 100 { 4e-15 } else { 0.0 };
    let found: Vec<Finding> = (0..20_000).flat_map(|i| feed(&mut series, i, value(i))).collect();
    assert_eq!(found, []);
}

/// Parked for half a day, then in the traffic of a town.
#[test]
fn a_vehicle_that_was_parked_may_drive() {
    let mut series = Series::new(&Profile::DRIVEN);
    let mut speed = 0.0f64;
    let mut fault = Vec::new();
    for i in 0..60_000 {
        let target = if i < 40_000 { 0.0 } else { [0.0, 30.0, 50.0, 80.0][(noise(i / 90).abs() * 4.0) as usize % 4] };
        speed += (target - speed).clamp(-3.0, 1.5);
        let value = if speed > 0.0 { speed + 0.3 * noise(i) } else { 0.0 };
        assert_eq!(feed_as(&mut series, &Profile::DRIVEN, i, value), [], "at {i}");
    }
    fault.extend(feed_as(&mut series, &Profile::DRIVEN, 60_000, 400.0));
    assert!(has(&fault, Detector::Spike), "what no vehicle does is told");
}

#[test]
fn driven_signals_burst_and_rest_by_nature() {
    let mut series = Series::new(&Profile::DRIVEN);
    let value = |i: i64| if i % 200 < 100 { 0.0 } else { 30.0 + 10.0 * noise(i) };
    let found: Vec<Finding> = (0..4_000).flat_map(|i| feed_as(&mut series, &Profile::DRIVEN, i, value(i))).collect();
    assert!(!has(&found, Detector::Burst) && !has(&found, Detector::Stuck), "{found:?}");
}

#[test]
fn frozen_plant_is_held_against_its_first_readings_for_ever() {
    let plant = Profile::PLANT;
    let mut series = Series::new(&plant);
    // Warming up while it is learned from: that it stops, or goes on, is no deviation.
    let trend = |i: i64| 0.001 * i.min(2_000) as f64;
    for i in 0..4_000 {
        assert_eq!(feed_as(&mut series, &plant, i, 50.0 + trend(i) + 0.1 * noise(i)), [], "at {i}");
    }
    let late =
        (4_000..6_000).filter(|&i| has(&feed_as(&mut series, &plant, i, 48.0 + 0.1 * noise(i)), Detector::Shift));
    assert!(late.count() > 1_980, "it is never relearned");
}

#[test]
fn nothing_is_judged_before_the_warm_up_nor_after_one_wild_time() {
    let mut series = Series::new(&Profile::TEMPERATURE);
    let verdicts: Vec<Verdict> = (0..62)
        .map(|i| {
            let value = if i == 50 { 500.0 } else { 20.0 + 0.1 * noise(i) };
            series.judge(Sample { at_ms: i * 1_000, value }, &Profile::TEMPERATURE, 512, &mut Vec::new())
        })
        .collect();
    assert!(verdicts[..60].iter().all(|&verdict| verdict == Verdict::WarmingUp));
    assert_ne!(verdicts[60], Verdict::WarmingUp);
    let mut series = warm();
    assert_eq!(feed(&mut series, 1 << 40, 90.0), []);
    assert_eq!(feed(&mut series, 1_000, 95.0).len(), 1, "still warm");
}

#[test]
fn a_slow_series_is_watched_at_its_own_pace() {
    for every in [20, 60, 1_000] {
        let mut series = Series::new(&Profile::TEMPERATURE);
        for i in 0..1_000 {
            assert_eq!(feed(&mut series, every * i, 4.0 + 0.1 * noise(i)), [], "every {every} s, at {i}");
        }
        let spike = feed(&mut series, every * 1_000, 7.0);
        assert!(has(&spike, Detector::Spike), "every {every} s: {spike:?}");
        let span_s = if every == 20 { 80 } else { 10 * (every as u32).next_power_of_two() / 2 };
        assert!(spike[0].reason.contains(&format!("the {span_s} s median")), "{}", spike[0].reason);
        let door_open = |i: i64| 4.0 + 0.1 * noise(i) + if i < 1_060 { 0.0 } else { 3.0 };
        let found = (1_001..1_400).find(|&i| has(&feed(&mut series, every * i, door_open(i)), Detector::Shift));
        assert!(found.is_some_and(|i| (1_060..1_068).contains(&i)), "every {every} s: {found:?}");
    }
}

#[test]
fn extreme_values_leave_finite_state() {
    for profile in [Profile::TEMPERATURE, Profile::PLANT] {
        let mut series = Series::new(&profile);
        for (i, value) in [1e100, -1e100, 5e-324, 0.0, 1e100].into_iter().cycle().take(2_000).enumerate() {
            for finding in feed_as(&mut series, &profile, i as i64, value) {
                assert!(finding.score.is_finite() && finding.expected.is_none_or(f64::is_finite), "{finding:?}");
            }
        }
        let Series { residual, difference, roughness, shift, .. } = &series;
        let sizes = [*residual, *difference, *roughness, shift.departure, shift.quick_departure];
        assert!(sizes.iter().all(|spread| spread.square.is_finite()));
        assert!([shift.base, shift.quick, shift.home].iter().all(|level| level.is_finite()));
    }
}

#[test]
fn a_series_of_one_hertz_is_small() {
    let series = warm();
    let bytes = size_of::<Series>() + series.heap_bytes();
    assert!(bytes <= 1_040, "{bytes}");
}

#[test]
fn findings_are_in_the_order_of_the_detectors() {
    for profile in [Profile::TEMPERATURE, Profile::DRIVEN] {
        let mut series = Series::new(&profile);
        // Of the second profile it rests at last.
        let value = |i: i64| if i < 900 { 90.0 + 0.1 * noise(i) } else { 90.0 };
        (0..960).for_each(|i| _ = feed_as(&mut series, &profile, i, value(i)));
        // A stay that goes on, looked at just now.
        (series.stay.told, series.stay.looked_at_ms) = (1, 959_000);
        let found: Vec<Detector> =
            feed_as(&mut series, &profile, 960, 140.0).iter().map(|finding| finding.detector).collect();
        assert_eq!((found.first(), found.last()), (Some(&Detector::Spike), Some(&Detector::Stay)), "{}", profile.name);
    }
}

#[test]
fn starts_are_rough_for_a_moment_and_what_lasts_is_told() {
    let mut series = Series::new(&Profile::TEMPERATURE);
    let mut at_s = 0;
    let mut rough = |seconds: i64, swing: f64| {
        let found = (0..seconds).filter(|_| {
            at_s += 1;
            has(&feed(&mut series, at_s, 90.0 + swing * noise(at_s)), Detector::Burst)
        });
        found.count()
    };
    let starts: Vec<usize> = (0..30)
        .map(|_| {
            rough(1_200, 0.1);
            rough(10, 3.0)
        })
        .collect();
    assert!(starts[10..].iter().all(|&told| told == 0), "a start is usual: {starts:?}");
    rough(1_200, 0.1);
    let told = rough(180, 3.0);
    assert!(told > 60, "as rough as a start, and it does not end: {told}");
}

#[test]
fn how_well_a_series_is_known_follows_common_time_at_any_pace() {
    // Seconds between readings, and after how many minutes of common time it is known.
    for (every, learning, known) in [(1, 10..=11, 1_440..=1_441), (60, 10..=64, 1_440..=1_504)] {
        let mut series = Series::new(&Profile::TEMPERATURE);
        let mut reached = |wanted: Maturity| {
            let readings = (0..).find(|_| {
                let i = i64::from(series.heard.readings);
                feed(&mut series, every * i, 4.0 + 0.1 * noise(i));
                series.maturity() == wanted
            });
            readings.map(|_| every * i64::from(series.heard.readings) / 60).expect("at last")
        };
        let minutes = (reached(Maturity::Learning), reached(Maturity::Known));
        assert!(learning.contains(&minutes.0) && known.contains(&minutes.1), "every {every} s: {minutes:?}");
    }
}

#[test]
fn reasons_say_what_is_usual() {
    let plant = Profile::PLANT;
    // Profile, seconds before the trouble, the value of each second of it, and the end of what the detector says.
    type Case = (Profile, i64, fn(i64) -> f64, Detector, &'static str);
    let cases: [Case; 5] = [
        (Profile::TEMPERATURE, 300, |_| 99.0, Detector::Spike, "usual distance; known for 5 minutes only"),
        (
            Profile::TEMPERATURE,
            1_000,
            |_| 99.0,
            Detector::Spike,
            "; in 16 minutes it was usually 90 to 90, and never jumped so far",
        ),
        (
            Profile::TEMPERATURE,
            1_000,
            |_| 92.0,
            Detector::Shift,
            "; in 16 minutes it was usually 90 to 90, and never went so far",
        ),
        (
            Profile::TEMPERATURE,
            1_000,
            |i| 90.0 + 1.5 * noise(i),
            Detector::Burst,
            "it was usually 90 to 90, and never was so rough",
        ),
        (plant, 1_000, |_| 120.0, Detector::Shift, "the first 400 readings; in 16 minutes it was usually 90 to 90"),
    ];
    for (profile, seconds, value, detector, expected) in cases {
        let mut series = Series::new(&profile);
        (0..seconds).for_each(|i| _ = feed_as(&mut series, &profile, i, 90.0 + 0.1 * noise(i)));
        let (low, high) = series.stay.usual().expect("levels");
        assert!((89.85..90.0).contains(&low) && (90.0..90.15).contains(&high), "{low} to {high}");
        let all = (seconds..seconds + 60).flat_map(|i| feed_as(&mut series, &profile, i, value(i)));
        let found = all.collect::<Vec<_>>().into_iter().find(|finding| finding.detector == detector).expect("found");
        // The levels are those of the moment.
        let reason = match found.reason.split_once("it was usually ") {
            Some((before, levels)) => {
                let (levels, after) = levels.split_at(levels.find(',').unwrap_or(levels.len()));
                assert!(
                    levels.split(" to ").all(|level| level.starts_with("89.") || level.starts_with("90")),
                    "{levels}"
                );
                format!("{before}it was usually 90 to 90{after}")
            }
            None => found.reason,
        };
        assert!(reason.ends_with(expected), "{reason}");
    }
}

#[test]
fn excursions_that_came_before_are_counted_in_the_reason() {
    let mut series = warm();
    let mut reasons = Vec::new();
    for i in 1_000..10_000 {
        let value = 90.0 + 0.1 * noise(i) + if i % 2_000 == 0 { 6.0 } else { 0.0 };
        reasons.extend(feed(&mut series, i, value).into_iter().map(|finding| finding.reason));
    }
    let ends: Vec<&str> = reasons.iter().filter_map(|reason| reason.rsplit(", and ").next()).collect();
    assert_eq!(ends, ["never jumped so far", "jumped so far once", "jumped so far 2 times", "jumped so far 3 times"]);
}

/// What each detector finds, and finds again an hour later, with and without a person's word after so many seconds of it.
#[test]
fn each_detector_is_taught_its_own() {
    let spike: fn(i64) -> f64 = |i| if i == 0 { 93.0 } else { 90.0 + 0.1 * noise(i) };
    let shift: fn(i64) -> f64 = |i| if i < 120 { 92.0 } else { 90.0 } + 0.1 * noise(i);
    let burst: fn(i64) -> f64 = |i| 90.0 + if i < 40 { 2.0 } else { 0.1 } * noise(i);
    let stuck: fn(i64) -> f64 = |i| 90.0 + if i < 300 { 0.05 } else { 0.1 * noise(i) };
    for (detector, value) in
        [(Detector::Spike, spike), (Detector::Shift, shift), (Detector::Burst, burst), (Detector::Stuck, stuck)]
    {
        let name = detector.name();
        for word in [None, Some((true, 600)), Some((false, 600)), Some((true, 60)), Some((false, 60))] {
            // A burst and a spike are over by then.
            let mut series = Series::new(&Profile::TEMPERATURE);
            let mut at_s = 0;
            let mut next = |series: &mut Series, value: f64| {
                at_s += 1;
                feed(series, at_s, value).into_iter().filter(|finding| finding.detector == detector).count()
            };
            (0..3_600).for_each(|i| _ = next(&mut series, 90.0 + 0.1 * noise(i)));
            let mut after_word = 0;
            for i in 0..3_600 {
                let found = next(&mut series, value(i));
                match word {
                    Some((is_normal, said)) if i == said => {
                        assert!(series.teach(name, is_normal, &Profile::TEMPERATURE), "{name} {word:?}");
                        let mut out = Vec::new();
                        state::encode(&series, &mut out);
                        let mut cursor = Cursor { rest: &out };
                        let restored =
                            state::decode(&mut cursor, &Profile::TEMPERATURE, state::Learned::All).expect("ours");
                        assert!(restored == series && cursor.rest.is_empty(), "{name} {word:?}");
                    }
                    Some((true, said)) if i > said => after_word += found,
                    _ => {}
                }
            }
            assert_eq!(after_word, 0, "{name} {word:?}");
            let again: usize = (0..600).map(|i| next(&mut series, value(i))).sum();
            // Without a word a long run is known for an hour.
            let is_told = word.is_none_or(|(is_normal, _)| !is_normal);
            assert_eq!(again > 0, is_told, "{name} {word:?}");
        }
    }
    let mut series = warm();
    assert!(["spike", "shift", "burst", "stuck", "stay", "limit"].iter().all(|name| !series.teach(
        name,
        true,
        &Profile::TEMPERATURE
    )));
}

/// A signal that a driver moves by the minute, and that rests at zero in between; hours of it, then what comes after.
fn driven_for(hours: i64, mut after: impl FnMut(&mut Series, i64)) {
    let (profile, mut series) = (Profile::DRIVEN, Series::new(&Profile::DRIVEN));
    let value = |i: i64| match i / 300 % 4 {
        3 => 0.0,
        _ => 50.0 + 20.0 * (i as f64 / 37.0).sin() + noise(i),
    };
    for i in 0..hours * 3_600 {
        let found = feed_as(&mut series, &profile, i, value(i));
        assert!(i < 7_200 || !has(&found, Detector::Stuck), "at {i}");
    }
    after(&mut series, hours * 3_600);
}

#[test]
fn a_driven_signal_is_stuck_within_its_range_but_not_where_it_rests() {
    for (value, is_stuck) in [(57.25, true), (0.0, false)] {
        driven_for(6, |series, start| {
            let found =
                (start..start + 400).any(|i| has(&feed_as(series, &Profile::DRIVEN, i, value), Detector::Stuck));
            assert_eq!(found, is_stuck, "{value}");
        });
    }
}

#[test]
fn lasting_noise_of_a_driven_signal_is_told() {
    driven_for(6, |series, start| {
        let value = |i: i64| 50.0 + 12.0 * noise(i * i);
        let found =
            (start..start + 300).filter(|&i| has(&feed_as(series, &Profile::DRIVEN, i, value(i)), Detector::Burst));
        assert!(found.count() > 30);
    });
}

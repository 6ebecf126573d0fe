use super::*;
use crate::detection::detectors::Finding;
use crate::detection::window::Sample;

fn noise(i: i64) -> f64 {
    (i * 7919 % 101) as f64 / 505.0 - 0.1
}

fn feed(series: &mut Series, profile: &Profile, i: i64, value: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    series.judge(Sample { at_ms: i * 1_000, value }, profile, 512, &mut found);
    found
}

fn learned(profile: &Profile, seconds: i64) -> Series {
    let mut series = Series::new(profile);
    (0..seconds).for_each(|i| assert_eq!(feed(&mut series, profile, i, 90.0 + noise(i)), [], "at {i}"));
    series
}

/// Told where it says that it would be, and not well before that.
#[test]
fn what_would_be_told_is_told() {
    let profile = Profile::TEMPERATURE;
    let series = learned(&profile, 1_000);
    let explained = series.explain(&profile);
    let reach = |detector: &str, is_above: bool| {
        let learned = explained.detectors.iter().find(|learned| learned.detector == detector).expect("it watches");
        let side = if is_above { &learned.above } else { &learned.below };
        side.as_ref().expect("a side").distance.expect("in its unit")
    };
    type Trouble = fn(i64, f64) -> f64;
    // A value once, a level that stays, noise that grows.
    let cases: [(&str, bool, i64, Trouble); 5] = [
        ("spike", true, 1, |_, size| size),
        ("spike", false, 1, |_, size| -size),
        ("shift", true, 40, |i, size| size + noise(i)),
        ("shift", false, 40, |i, size| noise(i) - size),
        ("burst", true, 40, |i, size| if i % 2 == 0 { 0.5 * size } else { -0.5 * size }),
    ];
    for (detector, is_above, seconds, trouble) in cases {
        let distance = reach(detector, is_above);
        for (part, is_told) in [(0.7, false), (1.4, true)] {
            let mut series = series.clone();
            let told = (1_000..1_000 + seconds)
                .flat_map(|i| feed(&mut series, &profile, i, 90.0 + trouble(i, part * distance)))
                .any(|finding| finding.detector.name() == detector);
            assert_eq!(told, is_told, "{detector}, above: {is_above}, {part} of {distance}");
        }
    }
    let after_s = explained.detectors.last().expect("stuck").after_s.expect("it moves");
    let mut stuck = series.clone();
    let told = (0..100).find(|i| !feed(&mut stuck, &profile, 1_000 + i, 90.05).is_empty());
    assert!(
        told.is_some_and(|seconds| (after_s as i64 - 3..after_s as i64 + 3).contains(&seconds)),
        "{told:?} {after_s}"
    );
}

#[test]
fn what_was_learned_is_what_the_series_did() {
    let profile = Profile::TEMPERATURE;
    let mut series = learned(&profile, 1_000);
    let explained = series.explain(&profile);
    assert_eq!((explained.maturity, explained.since_ms), (Maturity::Learning, Some(0)));
    assert_eq!((explained.heard_minutes, explained.readings, explained.warms_up), (16, 1_000, false));
    let levels = [explained.level, explained.level_low, explained.level_high].map(Option::unwrap_or_default);
    assert!(levels.iter().all(|level| (89.9..90.1).contains(level)), "{levels:?}");
    assert!(explained.noise.is_some_and(|noise| (0.04..0.08).contains(&noise)), "{:?}", explained.noise);
    assert_eq!(explained.resolution, Some(0.08119), "41 steps of 1/505");
    // An excursion is remembered on its side.
    feed(&mut series, &profile, 1_000, 80.0);
    (1_001..1_200).for_each(|i| _ = feed(&mut series, &profile, i, 90.0 + noise(i)));
    let explained = series.explain(&profile);
    let [above, below] =
        [&explained.detectors[0].above, &explained.detectors[0].below].map(|it| it.as_ref().expect("a side"));
    assert_eq!((above.excursions.len(), below.excursions.len()), (0, 1));
    assert!(below.excursions[0] > 10.0);

    let new = Series::new(&profile).explain(&profile);
    assert_eq!((new.maturity, new.since_ms, new.level, new.warms_up), (Maturity::New, None, None, true));
    let of = |profile: &Profile| {
        let explained = learned(profile, 700).explain(profile);
        explained.detectors.iter().map(|learned| learned.detector).collect::<Vec<_>>()
    };
    assert_eq!(of(&Profile::DRIVEN), ["spike", "shift", "burst", "stuck"]);
    assert_eq!(of(&Profile::SLOW), ["spike", "shift", "burst", "stuck"]);
    assert_eq!(of(&Profile::PLANT), ["spike", "shift"]);
    let plant = learned(&Profile::PLANT, 700).explain(&Profile::PLANT);
    assert_eq!(plant.detectors[1].above.as_ref().expect("a side").distance, None, "it follows from the first readings");
}

#[test]
fn it_is_written_for_people() {
    let reach = |thresholds, distance, excursions: &[f64]| {
        Some(Reach { thresholds, distance, excursions: excursions.to_vec() })
    };
    let of = |detector: Detector, above, below, after_s| DetectorLearned {
        detector: detector.name(),
        above,
        below,
        after_s,
    };
    let mut explanation = Explanation {
        device: "truck-7".to_owned(),
        metric: "engine_temp".to_owned(),
        profile: "temperature",
        because: "the word \"temp\" is in its name".to_owned(),
        interval_ms: Some(1_000.0),
        gap_after_s: Some(5.0),
        learned: Learned {
            maturity: Maturity::Learning,
            since_ms: Some(7),
            heard_minutes: 310,
            readings: 18_600,
            warms_up: false,
            window_s: 10,
            resolution: Some(0.1),
            level: Some(90.12),
            level_low: Some(78.1),
            level_high: Some(96.4),
            noise: Some(0.08),
            detectors: vec![
                of(Detector::Spike, reach(2.1, Some(1.2), &[2.0, 1.5]), reach(1.0, Some(0.9), &[]), None),
                of(Detector::Shift, reach(1.0, None, &[]), reach(1.0, None, &[]), None),
                of(Detector::Burst, reach(1.5, Some(2.3), &[3.0]), None, None),
                of(Detector::Stuck, None, None, Some(31.0)),
            ],
            stay: Some(StayLearned {
                below: vec![StayLimit { level: 74.8, after_s: 300.0 }],
                above: vec![StayLimit { level: 100.25, after_s: 2_700.0 }, StayLimit { level: 104.8, after_s: 300.0 }],
            }),
        },
        text: String::new(),
    };
    let date = |ms| format!("<{ms}>");
    let expected = "\
truck-7/engine_temp is learning: heard for 5 hours since <7>, 18600 readings
watched as temperature: the word \"temp\" is in its name; a reading every 1 s, in steps of 0.1
level 90.12; in 5 hours it was usually 78.1 to 96.4; a reading is usually 0.08 from the 10 s median
spike: told from 1.2 above or 0.9 below the 10 s median, 2.1 and 1 thresholds; went 2 1.5 above before
shift: told above or below what the 10 s mean was, from 1 and 1 thresholds; never went so far
burst: told when readings of 10 s differ by 2.3, 1.5 thresholds; went 3 before
stuck: told after 31 s of the same value
stay: told below 74.8 for 5 minutes; above 100.2 for 45 minutes, 104.8 for 5 minutes
gap: told after 5 s of silence
until it has been heard for a day, only what goes very far beyond these is more than minor";
    assert_eq!(explanation.write(date), expected);
    explanation.device.clear();
    explanation.gap_after_s = None;
    explanation.learned.detectors.truncate(1);
    let first = "engine_temp is known: heard for less than a minute, 0 readings\n";
    explanation.learned = Learned {
        maturity: Maturity::Known,
        since_ms: None,
        heard_minutes: 0,
        readings: 0,
        warms_up: true,
        resolution: None,
        level: None,
        level_low: None,
        noise: None,
        stay: None,
        ..explanation.learned
    };
    let text = explanation.write(date);
    assert!(
        text.starts_with(first) && text.contains("\nno level now\nnothing is told yet: it is learned from"),
        "{text}"
    );
    assert!(text.ends_with("went 2 1.5 above before"), "{text}");
}

use proptest::prelude::*;

use super::*;
use crate::detection::detectors::Detector;
use crate::detection::detectors::limit::Bounds;
use crate::detection::detectors::state;

fn reading<'a>(device: &'a str, metric: &'a str, at_ms: i64, value: f64) -> Reading<'a> {
    Reading::at(at_ms, device, metric, value)
}

fn at(now_ms: i64) -> Arrival {
    Arrival { now_ms, publisher: 0 }
}

fn steady(now_ms: i64) -> Moment {
    Moment { wall_ms: 0, steady_ms: now_ms.max(0) as u64 }
}

const METRICS: [&str; 3] = ["engine_temp", "speed", "vibration"];

/// Readings of three series with ordinary steps, outliers, repeats, late ones and wild clocks.
fn feed() -> impl Strategy<Value = Vec<(usize, i64, f64)>> {
    let step = prop_oneof![
        12 => 0i64..2_000,
        2 => -8_000i64..0,
        1 => -400_000i64..400_000,
        1 => Just(i64::MAX / 2),
        1 => Just(i64::MIN / 2),
    ];
    let value = prop_oneof![12 => -1.0..1.0f64, 1 => -1e9..1e9f64, 1 => Just(f64::NAN), 1 => Just(f64::MAX)];
    prop::collection::vec((0usize..3, step, value), 1..400).prop_map(|steps| {
        let mut now_ms = 1_700_000_000_000;
        let place = |(series, step, value): (usize, i64, f64)| {
            let at_ms = now_ms + step;
            if step.abs() < 1_000_000 {
                now_ms = at_ms;
            }
            (series, at_ms, 90.0 + value)
        };
        steps.into_iter().map(place).collect()
    })
}

proptest! {
    #[test]
    fn a_restored_watch_judges_as_if_never_stopped(readings in feed(), cut in 0.0..1.0f64, samples_max in 64usize..80) {
        let settings = MonitorSettings { window_samples_max: samples_max, ..MonitorSettings::default() };
        let mut monitor = Monitor::new(settings.clone());
        let mut restored = None;
        let cut = (readings.len() as f64 * cut) as usize;
        let (mut findings, mut other) = (Findings::default(), Findings::default());
        for (i, &(series, at_ms, value)) in readings.iter().enumerate() {
            if i == cut {
                let mut copy = Monitor::new(settings.clone());
                for chunk in 0..monitor.snapshot_chunks() {
                    prop_assert_eq!(copy.restore(&monitor.snapshot_chunk(chunk, 0), steady(monitor.now_ms)), Ok(0));
                }
                restored = Some(copy);
            }
            let reading = reading("truck", METRICS[series], at_ms, value);
            let arrival = at(700 * i as i64);
            let verdict = monitor.judge(&reading, arrival, &mut findings);
            for finding in &findings.list {
                prop_assert!(finding.score.is_finite() && finding.score >= 1.0);
            }
            prop_assert!(findings.list.is_sorted_by_key(|finding| finding.detector));
            if let Some(restored) = &mut restored {
                prop_assert_eq!(restored.judge(&reading, arrival, &mut other), verdict);
                prop_assert_eq!(&other, &findings);
            }
        }
        let restored = restored.expect("cut is within the readings");
        prop_assert_eq!(restored.snapshot_chunk(0, 0), monitor.snapshot_chunk(0, 0));
    }

    #[test]
    fn damaged_chunks_are_refused_or_harmless(readings in feed(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut monitor = Monitor::new(MonitorSettings::default());
        let mut findings = Findings::default();
        for &(series, at_ms, value) in &readings {
            monitor.judge(&reading("truck", METRICS[series], at_ms, value), at(0), &mut findings);
        }
        let mut chunk = monitor.snapshot_chunk(0, 0);
        prop_assert!(Monitor::new(MonitorSettings::default()).restore(&chunk[..place.index(chunk.len())], steady(0)).is_err());
        let place = place.index(chunk.len());
        chunk[place] = byte;
        let mut copy = Monitor::new(MonitorSettings::default());
        if copy.restore(&chunk, steady(0)).is_ok() {
            for &(series, at_ms, value) in &readings {
                copy.judge(&reading("truck", METRICS[series], at_ms, value), at(0), &mut findings);
            }
        } else {
            prop_assert_eq!(copy.series_count(), 0);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut chunk = vec![snapshot::VERSION];
        chunk.extend(bytes);
        let _ = Monitor::new(MonitorSettings::default()).restore(&chunk, steady(0));
    }
}

#[test]
fn above_the_cap_readings_are_counted_and_known_series_still_watched() {
    let mut monitor = Monitor::new(MonitorSettings { series_max: 1, ..MonitorSettings::default() });
    let mut findings = Findings::default();
    assert_eq!(monitor.judge(&reading("a", "temp", 0, 1.0), at(0), &mut findings), Verdict::WarmingUp);
    assert_eq!(monitor.judge(&reading("b", "temp", 0, 1.0), at(0), &mut findings), Verdict::Unwatched);
    assert_eq!(monitor.judge(&reading("a", "temp", 1_000, 1.0), at(0), &mut findings), Verdict::WarmingUp);
    assert_eq!(monitor.judge(&reading("a", "gps.lat", 0, f64::NAN), at(0), &mut findings), Verdict::Unwatched);
    assert_eq!((monitor.series_count(), monitor.over_cap_readings()), (1, 1));
}

#[test]
fn who_is_not_heard_of_for_a_week_makes_room_for_another() {
    let mut monitor = Monitor::new(MonitorSettings { series_max: 2, ..MonitorSettings::default() });
    let mut findings = Findings::default();
    let mut hear = |monitor: &mut Monitor, device: &str, now_ms: i64| {
        monitor.judge(&reading(device, "temp", now_ms, 1.0), at(now_ms), &mut findings)
    };
    monitor.listen_from(0);
    hear(&mut monitor, "a", 0);
    hear(&mut monitor, "b", 0);
    hear(&mut monitor, "b", 10_000_000);
    monitor.sweep(FORGET_MS - 1);
    assert_eq!(hear(&mut monitor, "c", FORGET_MS), Verdict::Unwatched);
    // We are away for an hour: that counts for who was silent, but whoever comes back at once is still known.
    let chunk = monitor.snapshot_chunk(0, FORGET_MS);
    let mut next = Monitor::new(MonitorSettings { series_max: 2, ..MonitorSettings::default() });
    next.listen_from(0);
    next.restore(&chunk, Moment { wall_ms: FORGET_MS + 3_600_000, steady_ms: 0 }).expect("a chunk of ours");
    next.sweep(SWEEP_AFTER_MS - 1);
    assert_eq!(next.series_count(), 2);
    next.sweep(SWEEP_AFTER_MS);
    assert_eq!((next.series_count(), next.index_of("a", "temp"), next.index_of("b", "temp")), (1, None, Some(1)));
    assert_eq!(hear(&mut next, "c", SWEEP_AFTER_MS), Verdict::WarmingUp);
    assert_eq!((next.index_of("c", "temp"), next.name_of(0)), (Some(0), ("c", "temp")));
    assert_eq!(next.snapshot_chunks(), 1);
    assert!(next.table.devices.find("a").is_none());
}

#[test]
fn device_and_metric_do_not_run_together() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    let mut findings = Findings::default();
    monitor.judge(&reading("ab", "c", 0, 1.0), at(0), &mut findings);
    monitor.judge(&reading("a", "bc", 0, 1.0), at(0), &mut findings);
    assert_eq!(monitor.series_count(), 2);
}

#[test]
fn a_value_that_is_no_number_is_a_limit_finding_and_leaves_no_trace() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    let mut findings = Findings::default();
    for i in 0..200 {
        monitor.judge(&reading("a", "vibration", i * 1_000, 50.0 + (i % 3) as f64), at(0), &mut findings);
    }
    let before = monitor.snapshot_chunk(0, 0);
    let late = Reading { received_at_ms: 260_001, ..reading("a", "vibration", 200_000, f64::NAN) };
    assert_eq!(monitor.judge(&late, at(0), &mut findings), Verdict::Anomalous);
    assert_eq!(findings.list[0].detector, Detector::Limit);
    assert!(findings.late);
    assert_eq!(findings.severity_max, crate::detection::alert::Severity::Warning);
    assert_eq!(monitor.snapshot_chunk(0, 0), before);
}

#[test]
fn chunks_are_bounded_and_all_series_are_in_one_of_them() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    let mut findings = Findings::default();
    for i in 0..600 {
        monitor.judge(&reading(&format!("d{i}"), "temp", 0, 1.0), at(0), &mut findings);
    }
    assert_eq!(monitor.snapshot_chunks(), 3);
    let mut copy = Monitor::new(MonitorSettings { series_max: 590, ..MonitorSettings::default() });
    let left_out: Vec<_> =
        (0..4).map(|chunk| copy.restore(&monitor.snapshot_chunk(chunk, 0), steady(monitor.now_ms))).collect();
    assert_eq!(left_out, [Ok(0), Ok(0), Ok(10), Ok(0)]);
    assert_eq!(copy.restore(&[9], steady(0)), Err(RestoreError::UnknownVersion(9)));
    assert_eq!(copy.restore(&[], steady(0)), Err(RestoreError::Damaged));
}

#[test]
fn snapshots_of_before_there_were_habits_and_clocks_are_read() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    monitor.judge(&reading("a", "temp", 0, 1.0), at(0), &mut Findings::default());
    let chunk = monitor.snapshot_chunk(0, 0);
    // One series that has no habits yet, of whose device's clock nothing is known.
    let [habits, unknown] = state::new_habits(0, 0, 1);
    let at = chunk.windows(habits.len()).position(|bytes| bytes == habits).expect("its habits");
    let without_habits = [&chunk[..at], &chunk[at + habits.len()..]].concat();
    let expected = [&chunk[..at], &unknown, &chunk[at + habits.len()..]].concat();
    let without_clocks = without_habits[..without_habits.len() - 1].to_vec();
    for (version, mut old) in [(4, without_habits), (3, without_clocks)] {
        old[0] = version;
        let mut copy = Monitor::new(MonitorSettings::default());
        assert_eq!(copy.restore(&old, steady(0)), Ok(0));
        assert_eq!(copy.snapshot_chunk(0, 0), expected);
    }
}

#[test]
fn a_limit_holds_for_its_metric_alone_even_one_that_is_not_watched_otherwise() {
    let below_sea = Bounds { low: Some(0.0), ..Bounds::NONE };
    let limits = Limits::new(vec![("altitude".to_owned(), below_sea)]);
    let mut monitor = Monitor::new(MonitorSettings { limits, ..MonitorSettings::default() });
    let mut findings = Findings::default();
    assert_eq!(monitor.judge(&reading("a", "altitude", 0, -3.0), at(0), &mut findings), Verdict::Anomalous);
    assert_eq!(findings.list[0].detector, Detector::Limit);
    assert_eq!(monitor.judge(&reading("a", "altitude", 1_000, 3.0), at(0), &mut findings), Verdict::Normal);
    assert_eq!(monitor.judge(&reading("a", "latitude", 0, -3.0), at(0), &mut findings), Verdict::Unwatched);
    assert_eq!(monitor.series_count(), 0, "a metric with bounds alone needs no state");
}

/// As after a kill: ten minutes that a device had in its buffer come again, within a moment.
#[test]
fn a_long_repeat_is_not_judged_and_a_clock_that_was_set_back_is_believed() {
    let level = |i: i64| if i < 500 { 50.0 } else { 60.0 } + (i % 3) as f64 / 10.0;
    let fed = |monitor: &mut Monitor, at_s: i64, received_ms: i64, value: f64| {
        let mut findings = Findings::default();
        let reading = Reading { received_at_ms: received_ms, ..reading("a", "engine_temp", at_s * 1_000, value) };
        // Only our own clock that was set back could make it so, or one of a device while ours is not synchronised: it is not late.
        let place = monitor.locate(reading.device, reading.metric);
        let verdict = monitor.judge_at(place, &reading, at(0), &mut findings);
        (verdict, findings.list.iter().any(|finding| finding.detector == Detector::Shift))
    };
    let mut monitor = Monitor::new(MonitorSettings::default());
    (0..600).for_each(|i| _ = fed(&mut monitor, i, i, level(i)));
    let repeated: Vec<_> = (0..600).map(|i| fed(&mut monitor, i, 1_000 + i, level(i))).collect();
    assert!(repeated.iter().all(|(verdict, _)| *verdict == Verdict::Unjudged));
    assert_eq!(fed(&mut monitor, 600, 2_000, level(600)), (Verdict::Anomalous, true), "the alarm goes on");

    // An hour back, and on from there.
    let verdicts: Vec<_> =
        (0..100).map(|i| fed(&mut monitor, i - 3_600, 10_000 + i * 1_000, 50.0 + (i % 3) as f64 / 10.0).0).collect();
    let warming = verdicts.iter().position(|verdict| *verdict == Verdict::WarmingUp);
    assert!(warming.is_some_and(|at| at < 10), "{verdicts:?}");
    assert_eq!(verdicts.last(), Some(&Verdict::Normal));
}

/// Of a device without series: whether a reading that was measured so long ago by its clock is late.
fn is_unwatched_late(monitor: &mut Monitor, device: &str, behind_ms: i64, now_ms: i64) -> bool {
    let received_at_ms = 1_700_000_000_000 + now_ms;
    let quality = crate::reading::TimeQuality::Synced;
    let reading = reading(device, "depth", received_at_ms - behind_ms, 1.0);
    let mut reading = Reading { received_at_ms, time_quality: quality, ..reading };
    let mut place = monitor.locate(device, "depth");
    monitor.judge_time(&mut place, &mut reading, at(now_ms)).is_late
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_flood_of_names_forgets_no_clock_that_is_known() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    for second in 0..60 {
        let is_late = is_unwatched_late(&mut monitor, "behind", HOUR_MS, second * 1_000);
        assert!(second <= 10 || !is_late, "{second}");
        let names = if second > 15 { 300 } else { 0 };
        for n in 0..names {
            is_unwatched_late(&mut monitor, &format!("{second} {n}"), HOUR_MS, second * 1_000 + n);
        }
        assert!(monitor.unwatched_clocks.clocks.len() <= 1_024);
    }
}

#[test]
fn where_all_clocks_are_known_a_newcomer_is_judged_without_one_and_a_right_clock_needs_none() {
    let mut monitor = Monitor::new(MonitorSettings::default());
    for now_ms in [0, 20_000] {
        for n in 0..1_024 {
            assert_eq!(is_unwatched_late(&mut monitor, &n.to_string(), HOUR_MS, now_ms), now_ms == 0);
        }
        assert!(!is_unwatched_late(&mut monitor, "right", 100, now_ms));
        assert!(!monitor.unwatched_clocks.clocks.contains_key("right"));
    }
    for now_ms in (30_000..90_000).step_by(1_000) {
        assert!(is_unwatched_late(&mut monitor, "new", HOUR_MS, now_ms));
        assert!(!is_unwatched_late(&mut monitor, "right", 100, now_ms));
    }
    for n in 0..1_024 {
        assert!(!is_unwatched_late(&mut monitor, &n.to_string(), HOUR_MS, 90_000));
    }
}

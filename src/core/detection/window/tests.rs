use super::numbers::ROUGHNESS_READINGS_MIN;
use super::*;
use proptest::prelude::*;

const MAX: usize = 512;

fn put(window: &mut Window, at_ms: i64, value: f64) -> Admission {
    let sample = Sample { at_ms, value };
    let admission = window.admit(sample);
    if admission != Admission::Suspect {
        window.insert(sample, MAX, |_| ());
    }
    admission
}

/// What the window of a reading is by its definition; of one instant, in the order of arrival.
fn naive_samples(all: &[Sample], at_ms: i64) -> Vec<Sample> {
    let mut window: Vec<Sample> = all.to_vec();
    window.retain(|s| s.at_ms > at_ms - SPAN_MS && s.at_ms < at_ms);
    window.sort_by_key(|s| s.at_ms);
    window
}

fn naive(all: &[Sample], at_ms: i64) -> Vec<f64> {
    naive_samples(all, at_ms).iter().map(|s| s.value).collect()
}

fn newest_before(all: &[Sample], at_ms: i64) -> Option<Sample> {
    naive_samples(all, at_ms).last().copied()
}

fn naive_roughness(all: &[Sample], at_ms: i64) -> f64 {
    let values = naive(all, at_ms);
    if values.len() < ROUGHNESS_READINGS_MIN {
        return f64::NAN;
    }
    let steps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let one_way = |sign: f64| steps.iter().filter(|step| **step * sign > 0.0).count() * 9 >= steps.len() * 8;
    let usual = if one_way(1.0) || one_way(-1.0) { steps.iter().sum::<f64>() / steps.len() as f64 } else { 0.0 };
    let mut squares: Vec<f64> = steps.iter().map(|step| (step - usual).powi(2)).collect();
    squares.sort_by(f64::total_cmp);
    squares.truncate(squares.len() - 2);
    squares.iter().sum::<f64>() / squares.len() as f64
}

fn is_close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

proptest! {
    #[test]
    fn windows_are_exact_up_to_five_seconds_late(
        steps in prop::collection::vec((0i64..2_500, 0i64..5_000, -1e3..1e3f64), 1..200),
    ) {
        let (mut window, mut all, mut now) = (Window::default(), Vec::new(), 1_700_000_000_000);
        for (step, late, value) in steps {
            now += step;
            let at_ms = if late % 3 == 0 { now - late } else { now };
            // Late by the newest seen, which is what the promise is about.
            let sample = Sample { at_ms, value };
            prop_assert_ne!(window.admit(sample), Admission::Suspect);
            let late_by = window.newest_ms - at_ms;
            if late_by < LATE_MS {
                let mut expected = naive(&all, at_ms);
                let got = window.statistics(at_ms);
                prop_assert_eq!(got.count, expected.len());
                if !expected.is_empty() {
                    let count = expected.len() as f64;
                    let mean = expected.iter().sum::<f64>() / count;
                    prop_assert!((got.mean - mean).abs() <= 1e-9 * 1e3);
                    let squares: f64 = expected.iter().map(|v| (v - mean).powi(2)).sum();
                    if expected.len() > 1 {
                        prop_assert!((got.deviation - (squares / (count - 1.0)).sqrt()).abs() <= 1e-6);
                    }
                    let summary = window.summary(at_ms).expect("not empty");
                    expected.sort_by(f64::total_cmp);
                    let middle = expected.len() / 2;
                    if expected.len() <= SUMMARY_MAX {
                        let median = if expected.len() % 2 == 1 { expected[middle] } else {
                            (expected[middle - 1] + expected[middle]) / 2.0
                        };
                        prop_assert!((summary.median - median).abs() <= 1e-9);
                        prop_assert!(is_close(summary.roughness, naive_roughness(&all, at_ms)));
                        prop_assert_eq!(Some(summary.last), newest_before(&all, at_ms));
                        prop_assert!((summary.mean - mean).abs() <= 1e-6);
                    }
                }
            }
            window.insert(sample, MAX, |_| ());
            all.push(sample);
        }
    }

    #[test]
    fn any_times_keep_the_window_sorted_and_bounded(
        readings in prop::collection::vec((any::<i64>(), any::<bool>(), 0i64..3_000), 1..300),
    ) {
        let (mut window, mut at_ms) = (Window::default(), 0i64);
        for (wild, jump, step) in readings {
            at_ms = if jump { wild } else { at_ms.saturating_add(step) };
            put(&mut window, at_ms, 1.0);
            let times: Vec<_> = window.held().map(|s| s.at_ms).collect();
            prop_assert!(times.is_sorted());
            prop_assert!(times.iter().all(|&t| t <= window.newest_ms && window.newest_ms.saturating_sub(t) < HELD_MS));
        }
    }
}

#[test]
fn one_wild_time_changes_nothing_and_two_that_agree_are_believed() {
    let mut window = Window::default();
    (0..10).for_each(|i| _ = put(&mut window, i * 1_000, 1.0));
    let before: Vec<Sample> = window.held().collect();
    assert_eq!(put(&mut window, 1 << 50, 9.0), Admission::Suspect);
    assert_eq!(window.held().collect::<Vec<_>>(), before);
    assert_eq!(put(&mut window, 10_000, 1.0), Admission::Continues);
    assert_eq!(put(&mut window, -90_000, 1.0), Admission::Suspect);
    assert_eq!(put(&mut window, -89_000, 1.0), Admission::NewEpoch);
    assert_eq!(window.statistics(-88_000).count, 2, "the first of the two is in the window");
    assert_eq!(put(&mut window, 0, 1.0), Admission::Suspect);
    assert_eq!(put(&mut window, 500, 1.0), Admission::Resumes { silent_ms: 89_500 });
}

#[test]
fn a_fast_series_is_thinned_and_still_spans_ten_seconds() {
    let mut window = Window::default();
    for i in 0..60_000 {
        put(&mut window, i / 2, i as f64);
    }
    assert!(window.samples.len() <= MAX && window.samples.capacity() <= 2 * MAX, "{}", window.samples.len());
    assert!(window.statistics(30_000).count >= MAX / 8);
    let range = window.range(30_000);
    assert!(window.held().nth(range.start).is_some_and(|oldest| oldest.at_ms < 20_200));
    for i in 0..60 {
        put(&mut window, 30_000 + i * 1_000, 1.0);
    }
    assert_eq!((window.thinning, window.statistics(89_500).count), (0, 10));
    assert!(window.samples.capacity() <= 80, "{}", window.samples.capacity());
}

#[test]
fn an_outlier_leaves_no_trace() {
    let mut window = Window::default();
    for i in 0..60 {
        put(&mut window, i * 1_000, if i == 20 { 1e15 } else { 0.1 });
    }
    assert_eq!(window.statistics(59_500), Statistics { count: 10, mean: 0.1, deviation: 0.0 });
}

use proptest::prelude::*;

use super::*;

const ALL: [Statistic; 8] = [
    Statistic::Average,
    Statistic::Minimum,
    Statistic::Maximum,
    Statistic::Count,
    Statistic::Deviation,
    Statistic::Rate,
    Statistic::Slope,
    Statistic::Last,
];

fn window(samples: &[(i64, f64)], span_ms: i64) -> SampleWindow {
    let mut window = SampleWindow::new();
    for (at_ms, value) in samples {
        window.push(*at_ms, *value, span_ms);
    }
    window
}

/// All readings, dropped and asked for as the documentation says, and nothing merged.
#[derive(Default)]
struct Oracle(Vec<(i64, f64)>);

impl Oracle {
    fn push(&mut self, at_ms: i64, value: f64, span_ms: i64) {
        if value.is_finite() {
            self.0.push((at_ms, value));
            self.0.sort_by_key(|(at_ms, _)| *at_ms);
            let newest_ms = self.0.last().map_or(at_ms, |(at_ms, _)| *at_ms);
            self.0.retain(|(at_ms, _)| *at_ms >= newest_ms - span_ms);
        }
    }

    fn within(&self, after_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
        self.0.iter().filter(|(at_ms, _)| (after_ms + 1..=to_ms).contains(at_ms)).copied().collect()
    }

    fn statistic(&self, statistic: Statistic, now_ms: i64, span_ms: i64) -> Option<f64> {
        of(&self.within(now_ms - span_ms, now_ms), statistic)
    }
}

fn of(samples: &[(i64, f64)], statistic: Statistic) -> Option<f64> {
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let (first, last) = (samples.first(), samples.last());
    match statistic {
        Statistic::Count => Some(count),
        Statistic::Average => first.map(|_| mean),
        Statistic::Minimum => values.into_iter().reduce(f64::min),
        Statistic::Maximum => values.into_iter().reduce(f64::max),
        Statistic::Last => last.map(|last| last.1),
        _ if samples.len() < 2 => None,
        Statistic::Deviation => Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()),
        Statistic::Slope => {
            let times: Vec<f64> = samples.iter().map(|(at_ms, _)| *at_ms as f64 / 1e3).collect();
            let middle = times.iter().sum::<f64>() / count;
            let squares: f64 = times.iter().map(|time| (time - middle).powi(2)).sum();
            let products: f64 = times.iter().zip(&values).map(|(time, value)| (time - middle) * (value - mean)).sum();
            (times.first() < times.last()).then(|| products / squares)
        }
        Statistic::Rate => {
            let seconds = (last?.0 - first?.0) as f64 / 1e3;
            (seconds > 0.0).then(|| (last.map_or(0.0, |last| last.1) - first.map_or(0.0, |first| first.1)) / seconds)
        }
    }
}

fn are_close(ours: Option<f64>, theirs: Option<f64>, scale: f64) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= scale * 1e-12,
        (ours, theirs) => ours == theirs,
    }
}

#[test]
fn the_span_is_open_at_its_beginning_and_closed_at_its_end() {
    let window = window(&[(1_000, 1.0), (2_000, 2.0), (3_000, 6.0)], 10_000);
    let ask = |statistic, now_ms, span_ms| window.statistic(statistic, now_ms, span_ms);
    assert_eq!(ask(Statistic::Average, 3_000, 2_000), Some(4.0));
    assert_eq!(ask(Statistic::Average, 3_000, 2_001), Some(3.0));
    assert_eq!(ask(Statistic::Average, 2_999, 2_000), Some(1.5));
    assert_eq!(ask(Statistic::Count, 5_000, 2_000), Some(0.0));
    assert_eq!(ask(Statistic::Minimum, 5_000, 2_000), None);
    assert_eq!(ask(Statistic::Minimum, 3_000, 10_000), Some(1.0));
    assert_eq!(ask(Statistic::Maximum, 3_000, 10_000), Some(6.0));
    assert_eq!(ask(Statistic::Rate, 3_000, 10_000), Some(2.5));
    assert_eq!(ask(Statistic::Rate, 3_000, 1_000), None);
    assert_eq!(ask(Statistic::Deviation, 3_000, 1_000), None);
    assert_eq!(ask(Statistic::Deviation, 3_000, 2_000), Some(2.0));
    for statistic in ALL {
        let none = if statistic == Statistic::Count { Some(0.0) } else { None };
        assert_eq!(ask(statistic, 3_000, 0), none);
        assert_eq!(ask(statistic, 3_000, -5), none);
        assert_eq!(SampleWindow::new().statistic(statistic, 0, 1_000), none);
    }
}

#[test]
fn readings_of_one_time_count_each_and_keep_their_order() {
    let window = window(&[(5, 1.0), (5, 2.0), (9, 9.0), (5, 3.0)], 100);
    assert_eq!(window.statistic(Statistic::Count, 5, 100), Some(3.0));
    assert_eq!(window.statistic(Statistic::Average, 5, 100), Some(2.0));
    assert_eq!(window.statistic(Statistic::Rate, 5, 100), None, "no time between them");
    assert_eq!(window.statistic(Statistic::Rate, 9, 100), Some(2_000.0), "from the first of the first time");
}

#[test]
fn what_is_no_number_or_too_old_is_left_out() {
    let mut window = window(&[(1_000, f64::NAN), (1_000, f64::INFINITY), (1_000, 4.0), (0, 8.0), (2_000, 5.0)], 1_000);
    assert_eq!(window.statistic(Statistic::Count, 2_000, 10_000), Some(2.0), "the one at 0 is too old now");
    window.push(999, 1.0, 1_000);
    assert_eq!(window.statistic(Statistic::Count, 2_000, 10_000), Some(2.0));
    window.push(1_000, 1.0, 1_000);
    assert_eq!(window.statistic(Statistic::Count, 2_000, 10_000), Some(3.0));
    window.push(60_000, 1.0, 1_000);
    assert_eq!(window.statistic(Statistic::Count, 60_000, 100_000), Some(1.0));
    window.push(i64::MAX, 1.0, -1);
    window.push(i64::MIN, 1.0, i64::MAX);
    assert_eq!(window.statistic(Statistic::Rate, i64::MAX, i64::MAX), None);
}

#[test]
fn the_deviation_of_small_differences_beside_a_large_value_is_exact() {
    let mut window = SampleWindow::new();
    for at in 0..20_000 {
        window.push(at * 10, 1e9 + [4.0, 7.0, 13.0, 16.0][at as usize % 4], 600_000);
    }
    assert!(window.entries.iter().any(|entry| matches!(entry, Entry::Many(_))));
    let deviation = window.statistic(Statistic::Deviation, 200_000, 600_000).expect("readings");
    assert!((deviation - 22.5_f64.sqrt()).abs() < 1e-6, "{deviation}");
    assert_eq!(window.statistic(Statistic::Average, 200_000, 600_000), Some(1e9 + 10.0));
    let of_one_value = self::window(&[(1, 0.1), (2, 0.1), (3, 0.1)], 10);
    assert_eq!(of_one_value.statistic(Statistic::Deviation, 3, 10), Some(0.0));
    assert_eq!(of_one_value.statistic(Statistic::Average, 3, 10), Some(0.1));
}

#[test]
fn what_a_double_does_not_hold_is_no_result() {
    let window = window(&[(1, f64::MAX), (2, -f64::MAX), (3, f64::MAX), (4, f64::MAX)], 10);
    assert_eq!(window.statistic(Statistic::Rate, 2, 10), None);
    assert_eq!(window.statistic(Statistic::Deviation, 2, 10), None);
    assert_eq!(window.statistic(Statistic::Average, 4, 2), None);
    assert_eq!(window.statistic(Statistic::Maximum, 4, 10), Some(f64::MAX));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut window = SampleWindow::new();
    let mut bytes_max = 0;
    for at in 0..200_000_i64 {
        // Spans change as rules are edited, and times jump about.
        let span_ms = [50, 600_000, 3_600_000, 700, 86_400_000][at as usize / 7_000 % 5];
        let at_ms = at * 11 + (at * 7_919) % 5_003;
        window.push(at_ms, at as f64, span_ms);
        assert!(window.entries.len() <= SAMPLES_MAX);
        if at % 64 == 0 {
            bytes_max = bytes_max.max(window.byte_size());
        }
    }
    assert!(bytes_max > 20_000 && bytes_max < 100_000, "{bytes_max}");
    let mut window = SampleWindow::new();
    for at in 0..5_000 {
        window.push(7, f64::from(at), 0);
    }
    assert_eq!(window.statistic(Statistic::Average, 7, 1), Some(2_499.5));
}

#[test]
fn what_is_broken_is_not_decoded() {
    let mut window = SampleWindow::new();
    for at in 0..1_030 {
        window.push(at, 1.0, 2_000);
    }
    let mut bytes = Vec::new();
    window.encode(&mut bytes);
    let decode = |bytes: &[u8]| SampleWindow::decode(&mut Cursor { rest: bytes });
    assert_eq!(decode(&bytes), Some(window));
    assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    assert_eq!(decode(&[]), None);
    let mut too_many = Vec::new();
    varint::put(&mut too_many, SAMPLES_MAX as u64 + 1);
    assert_eq!(decode(&too_many), None);
    let one = |delta: i64, value: f64| {
        let mut bytes = vec![1];
        varint::put_signed(&mut bytes, delta);
        put_double(&mut bytes, value);
        bytes
    };
    assert!(decode(&[&[2][..], &one(5, 1.0), &one(0, 1.0)].concat()).is_some());
    assert!(decode(&[&[2][..], &one(5, 1.0), &one(-1, 1.0)].concat()).is_none(), "out of order");
    assert!(decode(&[&[1][..], &one(5, f64::NAN)].concat()).is_none());
}

proptest! {
    #[test]
    fn as_few_readings_as_are_kept_give_exact_results(
        samples in prop::collection::vec((0_i64..3_000, -50_i32..50), 0..200),
        span_ms in 0_i64..2_000,
        now_ms in 0_i64..4_000,
        asked_ms in 0_i64..2_000,
        base in prop::sample::select(vec![0.0, 1e9]),
    ) {
        let (mut window, mut oracle) = (SampleWindow::new(), Oracle::default());
        for (at_ms, value) in samples {
            window.push(at_ms, base + f64::from(value) / 4.0, span_ms);
            oracle.push(at_ms, base + f64::from(value) / 4.0, span_ms);
        }
        for statistic in ALL {
            let (ours, theirs) =
                (window.statistic(statistic, now_ms, asked_ms), oracle.statistic(statistic, now_ms, asked_ms));
            prop_assert!(are_close(ours, theirs, base + 1e5), "{:?}: {:?}, not {:?}", statistic, ours, theirs);
        }
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let mut cursor = Cursor { rest: &bytes };
        prop_assert_eq!(SampleWindow::decode(&mut cursor), Some(window));
        prop_assert!(cursor.rest.is_empty());
    }

    #[test]
    fn merged_readings_are_those_of_the_span_and_at_most_a_bucket_beside_it(
        seed in any::<u64>(),
        step_ms in 1_i64..200,
        span_ms in 1_000_i64..200_000,
        asked_part in 1_i64..4,
    ) {
        let (mut window, mut all) = (SampleWindow::new(), Vec::new());
        let mut state = seed | 1;
        for at in 0..3_000_i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at_ms = at * step_ms - (state >> 40) as i64 % 500;
            let value = f64::from((state >> 33) as u32 % 1_000);
            window.push(at_ms, value, span_ms);
            all.push((at_ms, value));
        }
        all.sort_by_key(|(at_ms, _)| *at_ms);
        let newest_ms = all.last().map_or(0, |(at_ms, _)| *at_ms);
        let oracle = Oracle(all.into_iter().filter(|(at_ms, _)| *at_ms >= newest_ms - span_ms).collect());
        let (asked_ms, bucket_ms) = (span_ms / asked_part, span_ms / RESOLUTION + 1);
        let ask = |statistic| window.statistic(statistic, newest_ms, asked_ms);
        let narrow = oracle.within(newest_ms - asked_ms, newest_ms);
        let wide = oracle.within(newest_ms - asked_ms - bucket_ms, newest_ms);
        // Whatever lies before the oldest that is kept may still be in a bucket that is not dropped as long as any of it is young enough.
        let is_whole = asked_part > 1;
        let (count, fewest) = (ask(Statistic::Count).unwrap_or(-1.0), narrow.len() as f64);
        prop_assert!(count >= fewest, "{} of at least {}", count, fewest);
        prop_assert!(ask(Statistic::Minimum) <= of(&narrow, Statistic::Minimum));
        prop_assert!(ask(Statistic::Maximum) >= of(&narrow, Statistic::Maximum));
        if is_whole {
            prop_assert!(count <= wide.len() as f64);
            prop_assert!(ask(Statistic::Minimum) >= of(&wide, Statistic::Minimum));
            prop_assert!(ask(Statistic::Maximum) <= of(&wide, Statistic::Maximum));
            let taken = oracle.within(i64::MIN / 2, newest_ms);
            let taken = taken.get(taken.len() - count as usize..).unwrap_or_default();
            // Of a slope, merging keeps no more than what it would be if all of a bucket had come at once.
            for statistic in ALL.into_iter().filter(|statistic| *statistic != Statistic::Slope) {
                prop_assert!(are_close(ask(statistic), of(taken, statistic), 1e5), "{:?}", statistic);
            }
        }
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        prop_assert_eq!(SampleWindow::decode(&mut Cursor { rest: &bytes }), Some(window));
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(mut window) = SampleWindow::decode(&mut Cursor { rest: &bytes }) {
            window.push(0, 1.0, i64::MAX);
            for statistic in ALL {
                let _ = window.statistic(statistic, i64::MAX, i64::MAX);
            }
        }
    }
}

#[test]
fn the_slope_of_merged_readings_is_nearly_that_of_all() {
    let mut window = SampleWindow::new();
    let mut all = Vec::new();
    for at in 0..8_000_i64 {
        let value = at as f64 * 0.03 + (at as f64 / 300.0).sin();
        window.push(at * 2, value, 20_000);
        all.push((at * 2, value));
    }
    assert!(window.entries.iter().any(|entry| matches!(entry, Entry::Many(_))));
    let (found, exact) = (window.statistic(Statistic::Slope, 16_000, 20_000), of(&all, Statistic::Slope));
    let (found, exact) = (found.expect("readings"), exact.expect("readings"));
    assert!((found / exact - 1.0).abs() < 1e-4, "{found}, not {exact}");
}

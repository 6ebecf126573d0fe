//! What a score of a model costs, next to a plain walk through the same trees in the same run, and what a reading costs where a threshold asks.
//!
//! Run it with `cargo bench --bench models`. The trees are made here: a hundred of depth 8, complete, with thresholds at random, so that no
//! branch can be predicted. Measured times belong in a report, not in an assertion.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use outrider::core::detection::alert::Moment;
use outrider::core::detection::detectors::Verdict;
use outrider::core::detection::severity::Severity;
use outrider::core::models::{Input, Model};
use outrider::core::reading::Reading;
use outrider::core::rulebook::{Conditions, Effects, ModelDetectors, NamedModel, Seen, Threshold};

const TREES: usize = 100;
const DEPTH: usize = 8;
const INPUTS: usize = 16;
const ROWS: usize = 512;
const ROUNDS: usize = 200;
/// The least of so many measurements is shown: whatever disturbs them makes them longer.
const MEASURED: usize = 11;

/// The same numbers in each run, from 0 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1 << 24) as f64
    }
}

/// A tree as somebody would write it who thinks of nothing else: a box for each branch.
enum Plain {
    Leaf(f64),
    Node { input: usize, threshold: f64, left: Box<Plain>, right: Box<Plain> },
}

impl Plain {
    fn grow(random: &mut Random, depth: usize) -> Plain {
        if depth == 0 {
            return Plain::Leaf(random.next());
        }
        let (input, threshold) = ((random.next() * INPUTS as f64) as usize % INPUTS, random.next());
        let (left, right) = (Plain::grow(random, depth - 1), Plain::grow(random, depth - 1));
        Plain::Node { input, threshold, left: Box::new(left), right: Box::new(right) }
    }

    fn value(&self, inputs: &[f64]) -> f64 {
        match self {
            Plain::Leaf(value) => *value,
            Plain::Node { input, threshold, left, right } => {
                let is_left = f64::from(inputs[*input] as f32) <= *threshold;
                (if is_left { left } else { right }).value(inputs)
            }
        }
    }

    /// Appends it to the lists of a file. Returns the branch that leads to it.
    fn write(&self, lists: &mut Lists) -> i64 {
        match self {
            Plain::Leaf(value) => {
                lists.leaves.push(*value);
                -(lists.leaves.len() as i64)
            }
            Plain::Node { input, threshold, left, right } => {
                let place = lists.input.len();
                lists.input.push(*input as i64);
                lists.threshold.push(*threshold);
                lists.left.push(0);
                lists.right.push(0);
                lists.left[place] = left.write(lists);
                lists.right[place] = right.write(lists);
                place as i64
            }
        }
    }
}

#[derive(Default)]
struct Lists {
    input: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    leaves: Vec<f64>,
}

fn names() -> String {
    let names: Vec<String> = (0..INPUTS).map(|at| format!(r#"{{"name":"i{at}"}}"#)).collect();
    names.join(",")
}

fn document(estimator: &str) -> String {
    format!(r#"{{"format":"outrider-model","version":1,"inputs":[{}],"estimator":{estimator}}}"#, names())
}

fn file(trees: &[Plain], kind: &str) -> String {
    let mut text = String::new();
    for tree in trees {
        let mut lists = Lists::default();
        tree.write(&mut lists);
        let Lists { input, threshold, left, right, leaves } = lists;
        let comma = if text.is_empty() { "" } else { "," };
        let written = write!(
            text,
            r#"{comma}{{"input":{input:?},"threshold":{threshold:?},"left":{left:?},"right":{right:?},"leaves":{leaves:?}}}"#
        );
        written.expect("a text grows");
    }
    document(&format!(r#"{{{kind},"trees":[{text}]}}"#))
}

/// Nanoseconds a row.
fn measured(rows: &[[f64; INPUTS]], mut score: impl FnMut(&[f64]) -> f64) -> f64 {
    let each = (0..MEASURED).map(|_| {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for row in rows {
                black_box(score(black_box(row)));
            }
        }
        started.elapsed().as_nanos() as f64 / (ROUNDS * rows.len()) as f64
    });
    each.fold(f64::INFINITY, f64::min)
}

/// Nanoseconds a reading of a device with four metrics, each of which comes so often, where a threshold asks the model about four features of
/// each.
fn asked(model: &Model, interval_ms: i64) -> f64 {
    const METRICS: [&str; 4] = ["m0", "m1", "m2", "m3"];
    const READINGS: i64 = 8_000;
    let features = ["mean", "deviation", "maximum", "slope"];
    let inputs = METRICS.iter().flat_map(|metric| features.map(|feature| Input::named(&format!("{metric}.{feature}"))));
    let named = NamedModel::new(model.clone(), inputs.collect(), 10_000);
    let never = Threshold { above: 1e9, clear: None, label: None, from: None, hold_ms: 0, severity: Severity::Minor };
    let detectors =
        ModelDetectors { models: [("m".to_owned(), named.into())].into(), thresholds: vec![("m".to_owned(), never)] };
    let (book, mut effects) = (detectors.book(), Effects::default());
    let mut random = Random(9);
    let each = (0..MEASURED).map(|_| {
        let mut conditions = Conditions::default();
        let started = Instant::now();
        for number in 0..READINGS {
            let (at_ms, metric) = (number / 4 * interval_ms, METRICS[(number % 4) as usize]);
            let reading = Reading::at(at_ms, "device", metric, random.next());
            let now = Moment { wall_ms: at_ms, steady_ms: at_ms as u64 };
            let seen =
                Seen { reading: &reading, verdict: Verdict::Normal, score: 0.0, is_late: false, now, made_by: &[] };
            conditions.see(&book, &seen, &|| 0, &mut effects);
        }
        assert!(effects.is_empty(), "the threshold is never reached");
        started.elapsed().as_nanos() as f64 / READINGS as f64
    });
    each.fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut random = Random(7);
    let trees: Vec<Plain> = (0..TREES).map(|_| Plain::grow(&mut random, DEPTH)).collect();
    let rows: Vec<[f64; INPUTS]> = (0..ROWS).map(|_| std::array::from_fn(|_| random.next())).collect();
    let plain = |row: &[f64]| trees.iter().map(|tree| tree.value(row)).sum::<f64>() / TREES as f64;
    let forest_file = file(&trees, r#""type":"forest""#);
    let started = Instant::now();
    let forest = Model::parse(forest_file.as_bytes()).expect("a model");
    let parsed_us = started.elapsed().as_micros();
    let ours = |model: &Model, row: &[f64]| model.scores(row).map_or(f64::NAN, |scores| scores.values()[0]);
    assert!(rows.iter().all(|row| (ours(&forest, row) - plain(row)).abs() < 1e-12), "both say the same");
    let layer = |outputs: usize, inputs: usize, activation: &str| {
        let row = vec![0.01; inputs];
        format!(r#"{{"weights":{:?},"bias":{:?},"activation":"{activation}"}}"#, vec![row; outputs], vec![0.0; outputs])
    };
    let layers = [layer(32, INPUTS, "relu"), layer(16, 32, "relu"), layer(1, 16, "identity")].join(",");
    let dense = document(&format!(r#"{{"type":"dense","layers":[{layers}]}}"#));
    let dense = Model::parse(dense.as_bytes()).expect("a model");
    let isolation = file(&trees, r#""type":"isolation_forest","samples":256,"offset":-0.5"#);
    let isolation = Model::parse(isolation.as_bytes()).expect("a model");
    println!(
        "{TREES} trees of depth {DEPTH}, {INPUTS} inputs, {ROWS} rows; a file of {} KiB is read in {parsed_us} us",
        forest_file.len() / 1024
    );
    let reference = measured(&rows, plain);
    for (about, model) in [("forest", &forest), ("isolation forest", &isolation), ("16-32-16-1 network", &dense)] {
        println!("{:8.0} ns a score  {about}", measured(&rows, |row| ours(model, row)));
    }
    println!("{reference:8.0} ns a score  plain walk through boxes");
    for interval_ms in [1_000, 100] {
        println!(
            "{:8.0} ns a reading  forest, asked about windows of readings every {interval_ms} ms",
            asked(&forest, interval_ms)
        );
    }
}

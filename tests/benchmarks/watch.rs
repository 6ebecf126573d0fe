//! The cost of the detectors: time per reading and memory per series, next to a reference in the same run.
//!
//! Run it with `cargo bench --bench watch`. The reference does the least that is needed to judge ten seconds: it finds the series and goes
//! over its window twice. Measured times belong in a report, not in an assertion.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use outrider::core::detection::detectors::Findings;
use outrider::core::detection::monitor::{Arrival, Monitor, MonitorSettings};
use outrider::core::reading::Reading;

/// Counts allocated bytes.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are ours.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Noise of about one unit, the same in each run.
fn noise(seed: u64) -> f64 {
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1 << 23) as f64 - 1.0
}

fn value(series: usize, second: i64) -> f64 {
    (900.0 + noise(series as u64 * 1_000_003 + second as u64)).round() / 10.0
}

fn devices(series: usize) -> Vec<String> {
    (0..series).map(|at| format!("vehicle-{at:05}")).collect()
}

fn reading<'a>(device: &'a str, metric: &'a str, at_ms: i64, value: f64) -> Reading<'a> {
    Reading::at(at_ms, device, metric, value)
}

const METRICS: [&str; 5] = ["engine_temp", "oil_temp", "cabin_temp", "tank_temp", "tyre_temp"];

fn watched(
    devices: &[String],
    metrics: &[&str],
    seconds: std::ops::Range<i64>,
    step_ms: i64,
    monitor: &mut Monitor,
) -> usize {
    let mut findings = Findings::default();
    let mut flagged = 0;
    for second in seconds {
        for (at, device) in devices.iter().enumerate() {
            let at_ms = second * step_ms;
            let arrival = Arrival { now_ms: at_ms, publisher: 1 };
            for metric in metrics {
                monitor.judge(&reading(device, metric, at_ms, value(at, second)), arrival, &mut findings);
                flagged += findings.list.len();
            }
        }
    }
    flagged
}

fn reference(
    devices: &[String],
    seconds: std::ops::Range<i64>,
    windows: &mut HashMap<String, VecDeque<(i64, f64)>>,
) -> f64 {
    let mut sum = 0.0;
    for second in seconds {
        for (at, device) in devices.iter().enumerate() {
            let at_ms = second * 1_000;
            let window = windows.entry(device.clone()).or_default();
            while window.front().is_some_and(|(oldest_ms, _)| *oldest_ms <= at_ms - 10_000) {
                window.pop_front();
            }
            let count = window.len() as f64;
            let mean = window.iter().map(|(_, value)| value).sum::<f64>() / count;
            sum += window.iter().map(|(_, value)| (value - mean) * (value - mean)).sum::<f64>();
            window.push_back((at_ms, value(at, second)));
        }
    }
    sum
}

/// The cost of generating the values and of the loop.
fn empty(devices: &[String], seconds: std::ops::Range<i64>) -> f64 {
    seconds.map(|second| devices.iter().enumerate().map(|(at, _)| value(at, second)).sum::<f64>()).sum()
}

fn nanoseconds(readings: usize, act: impl FnOnce()) -> f64 {
    let started = Instant::now();
    act();
    started.elapsed().as_nanos() as f64 / readings as f64
}

/// The quietest round and the median one: other load on the machine only ever adds time.
fn best_and_median(mut rounds: Vec<f64>) -> (f64, f64) {
    rounds.sort_by(f64::total_cmp);
    (rounds[0], rounds[rounds.len() / 2])
}

fn settings(series_max: usize) -> MonitorSettings {
    MonitorSettings { series_max, ..MonitorSettings::default() }
}

fn main() {
    const SERIES: usize = 10_000;
    const WARM_S: i64 = 400;
    const ROUND_S: i64 = 20;
    const ROUNDS: i64 = 15;
    let names = devices(SERIES);
    let readings = SERIES * ROUND_S as usize;
    let mut monitor = Monitor::new(settings(SERIES));
    let mut windows = HashMap::new();
    watched(&names, &METRICS[..1], 0..WARM_S, 1_000, &mut monitor);
    reference(&names, 0..30, &mut windows);
    let (mut watch_ns, mut reference_ns, mut flagged) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let seconds = || WARM_S + round * ROUND_S..WARM_S + (round + 1) * ROUND_S;
        let loop_ns = nanoseconds(readings, || _ = black_box(empty(&names, seconds())));
        let timed = |act: &mut dyn FnMut()| nanoseconds(readings, act) - loop_ns;
        reference_ns.push(timed(&mut || _ = black_box(reference(&names, seconds(), &mut windows))));
        watch_ns.push(timed(&mut || flagged += watched(&names, &METRICS[..1], seconds(), 1_000, &mut monitor)));
    }
    let (watch_ns, watch_median_ns) = best_and_median(watch_ns);
    let (reference_ns, reference_median_ns) = best_and_median(reference_ns);
    println!(
        "{SERIES} series at 1 Hz, best and median of {ROUNDS} rounds: {watch_ns:.0} and {watch_median_ns:.0} ns a reading \
         ({flagged} findings); reference {reference_ns:.0} and {reference_median_ns:.0} ns"
    );
    let (ticks, mut missed) = (100, 0);
    let now_ms = (WARM_S + ROUNDS * ROUND_S) * 1_000;
    let tick_ns = nanoseconds(ticks, || (0..ticks).for_each(|_| monitor.tick(now_ms, |_| missed += 1)));
    println!("a tick over {SERIES} series: {:.1} microseconds ({missed} missed)", tick_ns / 1000.0);
    drop((monitor, windows));
    // In the first row each series has its own device, which costs more than several series of one.
    for (series, metrics, step_ms, steps) in
        [(50_000, 1, 1_000, 120), (50_000, 5, 1_000, 120), (1_000, 1, 100, 600), (100, 1, 1, 40_000)]
    {
        let names = devices(series / metrics);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let mut monitor = Monitor::new(settings(series));
        watched(&names, &METRICS[..metrics], 0..steps, step_ms, &mut monitor);
        let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
        println!(
            "{series} series every {step_ms} ms, {metrics} a device: {} bytes a series, {:.1} MiB",
            bytes / series,
            bytes as f64 / (1 << 20) as f64
        );
    }
}

//! What the detectors cost: time a reading and memory a series, beside a reference in the same run.
//!
//! `cargo bench --bench watch`. The reference does what is needed at the least to say anything of ten seconds: it finds the series and
//! goes over its window twice. Timed values belong into a report, not into an assertion.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use outrider::core::detector::Findings;
use outrider::core::reading::{Attributes, Reading, TimeQuality};
use outrider::core::watch::{Arrival, Watch, WatchSettings};

/// Counts what is allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it is.
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

fn reading(device: &str, at_ms: i64, value: f64) -> Reading<'_> {
    Reading {
        device,
        metric: "engine_temp",
        value,
        measured_at_ms: at_ms,
        received_at_ms: at_ms,
        time_quality: TimeQuality::Synced,
        sequence: None,
        attributes: Attributes::NONE,
    }
}

fn watched(devices: &[String], seconds: std::ops::Range<i64>, step_ms: i64, watch: &mut Watch) -> usize {
    let mut findings = Findings::default();
    let mut flagged = 0;
    for second in seconds {
        for (at, device) in devices.iter().enumerate() {
            let at_ms = second * step_ms;
            let arrival = Arrival { now_ms: at_ms, publisher: 1 };
            watch.judge(&reading(device, at_ms, value(at, second)), arrival, &mut findings);
            flagged += findings.list.len();
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

/// What making the values and the loop cost.
fn empty(devices: &[String], seconds: std::ops::Range<i64>) -> f64 {
    seconds.map(|second| devices.iter().enumerate().map(|(at, _)| value(at, second)).sum::<f64>()).sum()
}

fn nanoseconds(readings: usize, act: impl FnOnce()) -> f64 {
    let started = Instant::now();
    act();
    started.elapsed().as_nanos() as f64 / readings as f64
}

fn settings(series_max: usize) -> WatchSettings {
    WatchSettings { series_max, ..WatchSettings::default() }
}

fn main() {
    const SERIES: usize = 10_000;
    const WARM_S: i64 = 400;
    const TIMED_S: i64 = 200;
    let devices_10k = devices(SERIES);
    let readings = SERIES * TIMED_S as usize;
    let mut watch = Watch::new(settings(SERIES));
    let mut windows = HashMap::new();
    watched(&devices_10k, 0..WARM_S, 1_000, &mut watch);
    reference(&devices_10k, 0..30, &mut windows);
    let timed = || WARM_S..WARM_S + TIMED_S;
    let loop_ns = nanoseconds(readings, || _ = black_box(empty(&devices_10k, timed())));
    let reference_ns =
        nanoseconds(readings, || _ = black_box(reference(&devices_10k, timed(), &mut windows))) - loop_ns;
    let mut flagged = 0;
    let watch_ns = nanoseconds(readings, || flagged = watched(&devices_10k, timed(), 1_000, &mut watch)) - loop_ns;
    println!(
        "{SERIES} series at 1 Hz: {watch_ns:.0} ns a reading ({flagged} findings), reference {reference_ns:.0} ns"
    );
    let ticks = 100;
    let mut missed = 0;
    let tick_ns = nanoseconds(ticks, || (0..ticks).for_each(|_| watch.tick(i64::MIN, |_, _| missed += 1)));
    println!("a tick over {SERIES} series: {:.1} microseconds ({missed} missed)", tick_ns / 1000.0);
    drop((watch, windows));
    for (series, step_ms, seconds) in [(50_000, 1_000, 120), (1_000, 100, 600), (100, 1, 40_000)] {
        let names = devices(series);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let mut watch = Watch::new(settings(series));
        watched(&names, 0..seconds, step_ms, &mut watch);
        let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
        println!(
            "{series} series every {step_ms} ms: {} bytes a series, {:.1} MiB",
            bytes / series,
            bytes as f64 / (1 << 20) as f64
        );
    }
}

use super::*;
use crate::commands::detect::comparison::Tally;
use crate::core::batch::{BatchEncoder, Damaged, Decoder, Stored};
use crate::core::detection::detectors::limit::{Bounds, Limits};
use crate::core::reading::Attributes;
use crate::core::reading::TimeQuality;

const FIRST: RunId = RunId([1; 8]);
const SECOND: RunId = RunId([2; 8]);
const HOUR_MS: i64 = 3_600_000;

fn show(replay: &mut Replay, run: RunId, payload: &[u8]) -> Result<(), Damaged> {
    for record in Decoder::new(payload)? {
        if let Stored::Reading(reading) = record? {
            replay.take(run, &reading);
        }
    }
    Ok(())
}

fn setting() -> Setting {
    Setting::default()
}

fn batch(readings: impl Iterator<Item = (i64, f64, TimeQuality)>) -> Vec<u8> {
    let mut encoder = BatchEncoder::default();
    for (at_ms, value, time_quality) in readings {
        encoder.push_reading(&Reading {
            device: "tank",
            metric: "temp",
            value,
            rounding: None,
            measured_at_ms: at_ms,
            received_at_ms: at_ms,
            time_quality,
            device_time: None,
            sequence: None,
            attributes: Attributes::NONE,
        });
    }
    encoder.finish()
}

/// Values from 90 to 91.875 in irregular order.
fn noise(second: i64) -> f64 {
    let mixed = (second as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    90.0 + 0.125 * (mixed >> 60) as f64
}

/// One reading a second, starting here.
fn seconds(from_ms: i64, count: i64, quality: TimeQuality) -> Vec<u8> {
    batch((0..count).map(|second| (from_ms + second * 1000, noise(second), quality)))
}

/// The alerts of both settings for these batches, and how much time the batches cover.
fn replay(batches: &[(RunId, Vec<u8>)]) -> (Tally, u64) {
    let mut replay = Replay::new(&setting(), &setting());
    for (run, payload) in batches {
        show(&mut replay, *run, payload).expect("just encoded");
    }
    replay.finish();
    (*replay.comparison().total(), replay.covered_ms())
}

#[test]
fn the_absence_of_the_gateway_is_no_silence_and_that_of_a_device_is() {
    let before = seconds(0, 600, TimeQuality::Synced);
    let after = seconds(8 * HOUR_MS, 600, TimeQuality::Synced);
    let (restarted, covered_ms) = replay(&[(FIRST, before.clone()), (SECOND, after.clone())]);
    assert_eq!((restarted, covered_ms), (Tally::default(), 2 * 599_000));
    let (silent, covered_ms) = replay(&[(FIRST, before), (FIRST, after)]);
    assert_eq!((silent.present, silent.changed, silent.differences()), (1, 1, 0), "a gap");
    assert_eq!(covered_ms, 8 * HOUR_MS as u64 + 599_000);
}

#[test]
fn a_clock_that_is_set_is_no_time_that_went_by() {
    let before = seconds(0, 600, TimeQuality::Unsynced);
    let after = seconds(1000 * HOUR_MS, 600, TimeQuality::Synced);
    let back = seconds(500 * HOUR_MS, 600, TimeQuality::Synced);
    let (tally, covered_ms) = replay(&[(FIRST, before), (FIRST, after), (FIRST, back)]);
    assert_eq!((tally, covered_ms), (Tally::default(), 3 * 599_000));
}

#[test]
fn an_alert_goes_on_while_the_gateway_is_away() {
    let mut replay = Replay::new(&setting(), &setting());
    let spike = [(600_000, 120.0, TimeQuality::Synced)];
    show(&mut replay, FIRST, &seconds(0, 600, TimeQuality::Synced)).expect("just encoded");
    show(&mut replay, FIRST, &batch(spike.into_iter())).expect("just encoded");
    show(&mut replay, SECOND, &batch([(HOUR_MS, 60.0, TimeQuality::Synced)].into_iter())).expect("just encoded");
    replay.finish();
    let total = *replay.comparison().total();
    assert_eq!((total.present, total.differences()), (1, 0), "one alert, not one before and one after");
}

#[test]
fn what_a_limit_adds_is_new_and_what_a_profile_takes_is_gone() {
    use crate::core::detection::detectors::profile::{Profile, Profiles};
    let mut bounded = setting();
    bounded.monitor.limits = Limits::new(vec![("temp".to_owned(), Bounds { high: Some(91.9), ..Bounds::NONE })]);
    let mut off = setting();
    off.monitor.profiles = Profiles::always(Profile::OFF);
    let mut values: Vec<_> = (0..600).map(|second| (second * 1000, noise(second), TimeQuality::Synced)).collect();
    values[300].1 = 120.0;
    values[450].1 = 92.0;
    let payload = batch(values.into_iter());
    let compare = |present: &Setting, changed: &Setting| {
        let mut replay = Replay::new(present, changed);
        show(&mut replay, FIRST, &payload).expect("just encoded");
        replay.finish();
        *replay.comparison().total()
    };
    let tally = |present, changed, new, gone| Tally { present, changed, new, gone, raised: 0 };
    assert_eq!(compare(&setting(), &setting()), tally(1, 1, 0, 0), "the spike");
    assert_eq!(compare(&setting(), &bounded), tally(1, 3, 2, 0));
    assert_eq!(compare(&bounded, &setting()), tally(3, 1, 0, 2));
    assert_eq!(compare(&setting(), &off), tally(1, 0, 0, 1));
}

#[test]
fn a_damaged_batch_costs_what_is_damaged() {
    let mut payload = seconds(0, 100, TimeQuality::Synced);
    payload.truncate(payload.len() - 5);
    let mut replay = Replay::new(&setting(), &setting());
    assert!(show(&mut replay, FIRST, &payload).is_err());
    show(&mut replay, FIRST, &seconds(100_000, 10, TimeQuality::Synced)).expect("just encoded");
    assert_eq!(replay.readings(), 99 + 10);
}

#[test]
fn a_pause_of_years_is_walked_through_in_bounded_time() {
    let before = seconds(0, 100, TimeQuality::Synced);
    let after = seconds(1 << 50, 100, TimeQuality::Synced);
    let (tally, _) = replay(&[(FIRST, before), (FIRST, after)]);
    assert_eq!(tally.present, 1, "it is a silence as far as can be told");
}

/// A device that was out of reach sends its buffer at once, then some of it again.
#[test]
fn what_a_device_had_in_its_buffer_counts_by_its_own_time() {
    let received_ms = 50 * HOUR_MS;
    let value = |second: i64| if second % 3_000 == 1_500 { 130.0 } else { noise(second) };
    let mut encoder = BatchEncoder::default();
    for second in (0..9_000).chain(8_800..9_000) {
        encoder.push_reading(&Reading {
            device: "tank",
            metric: "temp",
            value: value(second),
            rounding: None,
            measured_at_ms: second * 1000,
            received_at_ms: received_ms + second / 100,
            time_quality: TimeQuality::Synced,
            device_time: None,
            sequence: None,
            attributes: Attributes::NONE,
        });
    }
    let (tally, covered_ms) = replay(&[(FIRST, encoder.finish())]);
    assert_eq!((tally.present, tally.differences(), covered_ms / 1000), (3, 0, 8_999));
}

#[test]
fn readings_of_too_many_devices_are_counted() {
    let mut replay = Replay::new(&setting(), &setting());
    replay.devices_max = 0;
    show(&mut replay, FIRST, &seconds(0, 7, TimeQuality::Synced)).expect("just encoded");
    assert_eq!((replay.readings(), replay.left_out()), (7, 7));
}

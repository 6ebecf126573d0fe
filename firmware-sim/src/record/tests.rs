//! Records of each kind as a whole.

use super::moment::START_MS;
use super::*;
use crate::fault::FaultKind;
use std::collections::{BTreeMap, HashSet};

fn settings(kind: Kind, days: u32) -> RecordSettings {
    RecordSettings { kind, devices: 1, days, seed: 5, faults_per_day: 0.0 }
}

struct Output {
    readings: String,
    ground_truth: String,
    report: RecordReport,
}

fn output(settings: RecordSettings) -> Output {
    let (mut readings, mut ground_truth) = (Vec::new(), Vec::new());
    let report = record(&settings, &mut readings, &mut ground_truth).expect("memory takes everything");
    let text = |bytes| String::from_utf8(bytes).expect("lines are text");
    Output { readings: text(readings), ground_truth: text(ground_truth), report }
}

impl Output {
    fn lines(&self) -> impl Iterator<Item = (&str, i64, f64)> {
        self.readings.lines().map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            assert_eq!(fields.len(), 3, "{line}");
            (fields[0], fields[1].parse().expect("a time"), fields[2].parse().expect("a value"))
        })
    }

    /// By metric, of a single device.
    fn series(&self) -> BTreeMap<&str, Vec<(i64, f64)>> {
        let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, time_ms, value) in self.lines() {
            let metric = name.split_once('/').expect("a device and a metric").1;
            series.entry(metric).or_default().push((time_ms, value));
        }
        series
    }
}

/// How often the value comes from `from` or below to `to` or above.
fn rises(values: &[(i64, f64)], from: f64, to: f64) -> usize {
    let mut is_low = false;
    let mut count = 0;
    for (_, value) in values {
        if *value <= from {
            is_low = true;
        } else if *value >= to && is_low {
            is_low = false;
            count += 1;
        }
    }
    count
}

fn falls(values: &[(i64, f64)], from: f64, to: f64) -> usize {
    let mirrored: Vec<_> = values.iter().map(|(time_ms, value)| (*time_ms, -value)).collect();
    rises(&mirrored, -from, -to)
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    for kind in Kind::ALL {
        let settings = RecordSettings { faults_per_day: 8.0, devices: 2, ..settings(kind, 1) };
        let (first, second) = (output(settings), output(settings));
        assert!(first.readings == second.readings && first.ground_truth == second.ground_truth, "{kind:?}");
        let other = output(RecordSettings { seed: 6, ..settings });
        assert!(first.readings != other.readings, "{kind:?}");
    }
}

#[test]
fn readings_are_in_the_order_of_time_and_within_the_days() {
    for kind in Kind::ALL {
        let output = output(RecordSettings { devices: 3, ..settings(kind, 2) });
        let times: Vec<_> = output.lines().map(|(_, time_ms, _)| time_ms).collect();
        assert!(times.is_sorted(), "{kind:?}");
        let end_ms = START_MS + 2 * DAY_SECONDS as i64 * 1_000;
        assert!(times.iter().all(|time_ms| (START_MS..end_ms).contains(time_ms)), "{kind:?}");
        assert_eq!(times.len() as u64, output.report.readings);
        let devices: HashSet<_> = output.lines().filter_map(|(series, ..)| series.split('/').next()).collect();
        assert_eq!(devices.len(), 3, "{kind:?}");
    }
}

#[test]
fn without_faults_the_ground_truth_is_empty() {
    for kind in Kind::ALL {
        assert_eq!(output(settings(kind, 1)).ground_truth, format!("{GROUND_TRUTH_HEADER}\n"));
    }
}

/// The metric's lowest and highest values in a week must lie within these, and reach a good part of it.
fn ranges(kind: Kind) -> Vec<(&'static str, f64, f64)> {
    let road = vec![
        ("speed", 0.0, 95.0),
        ("engine_rpm", 0.0, 3_200.0),
        ("coolant_temperature", -5.0, 103.0),
        ("intake_temperature", -5.0, 60.0),
        ("oil_pressure", 0.0, 570.0),
        ("manifold_pressure", 18.0, 103.0),
        ("throttle", 8.0, 100.0),
        ("engine_load", 0.0, 100.0),
        ("fuel_rate", 0.0, 75.0),
        ("fuel_level", 10.0, 100.0),
        ("battery_voltage", 8.8, 14.6),
        ("catalyst_temperature", -5.0, 800.0),
    ];
    match kind {
        Kind::Vehicle => road,
        Kind::Tanker => {
            let others = road.into_iter().filter(|(metric, ..)| *metric != "battery_voltage");
            let own = [
                ("battery_voltage", 17.6, 29.0),
                ("compartment_temperature", 4.0, 20.0),
                ("compartment_pressure", -30.0, 60.0),
                ("compartment_level", 0.0, 98.5),
                ("pump_state", 0.0, 1.0),
                ("pump_pressure", 0.0, 3.4),
            ];
            others.chain(own).collect()
        }
        Kind::Reefer => vec![
            ("box_temperature", -23.0, 10.0),
            ("return_air_temperature", -24.0, 12.0),
            ("supply_air_temperature", -29.0, 16.0),
            ("set_point", -20.0, 3.0),
            ("compressor_state", 0.0, 1.0),
            ("door", 0.0, 1.0),
            ("unit_fuel_level", 10.0, 100.0),
            ("battery_voltage", 8.8, 14.6),
            ("ambient_temperature", -8.0, 25.0),
        ],
        Kind::ColdStore => vec![
            ("room_temperature", 0.5, 11.0),
            ("humidity", 70.0, 100.0),
            ("compressor_power", 0.0, 28.0),
            ("suction_pressure", 0.8, 4.5),
            ("discharge_pressure", 4.0, 16.0),
            ("lighting", 0.0, 1.0),
            ("door", 0.0, 1.0),
            ("fridge_temperature", 2.5, 10.0),
        ],
        Kind::Plant => vec![
            ("motor_current", 0.0, 152.0),
            ("vibration", 0.0, 3.5),
            ("bearing_temperature", 10.0, 60.0),
            ("flow", 0.0, 48.0),
            ("pressure", 1.0, 7.0),
            ("tank_level", 12.0, 93.0),
            ("conveyor_speed", 0.0, 0.83),
        ],
    }
}

#[test]
fn a_week_stays_within_what_physics_allows() {
    for kind in Kind::ALL {
        let output = output(settings(kind, 7));
        let series = output.series();
        let ranges = ranges(kind);
        assert_eq!(series.len(), ranges.len(), "{kind:?} has {:?}", series.keys());
        // A reefer is frozen or chilled, which the ranges cover both.
        let part = if kind == Kind::Reefer { 0.1 } else { 0.25 };
        for (metric, low, high) in ranges {
            let values = series.get(metric).unwrap_or_else(|| panic!("{kind:?} has no {metric}"));
            let least = values.iter().map(|(_, value)| *value).fold(f64::MAX, f64::min);
            let most = values.iter().map(|(_, value)| *value).fold(f64::MIN, f64::max);
            assert!(low <= least && most <= high, "{metric} of {kind:?} is {least} to {most}");
            assert!(
                most - least >= part * (high - low) || metric == "set_point",
                "{metric} of {kind:?} is only {least} to {most}"
            );
        }
    }
}

#[test]
fn a_van_makes_six_to_nine_trips_a_day_and_is_refuelled_every_few_days() {
    let output = output(settings(Kind::Vehicle, 7));
    let series = output.series();
    let trips = rises(&series["engine_rpm"], 250.0, 600.0);
    assert!((6 * 7..=9 * 7).contains(&trips), "{trips} trips");
    let cranks = falls(&series["battery_voltage"], 11.9, 10.8);
    assert!((trips - 2..=trips + 2).contains(&cranks), "{cranks} cranks and {trips} trips");
    let refuellings = rises(&series["fuel_level"], 35.0, 85.0);
    assert!((2..=4).contains(&refuellings), "{refuellings} refuellings");
    let night = |time_ms: &i64| !(6 * 3_600_000..20 * 3_600_000).contains(&((time_ms - START_MS) % 86_400_000));
    assert!(series["speed"].iter().all(|(time_ms, _)| !night(time_ms)), "the box sleeps at night");
}

#[test]
fn a_tanker_is_loaded_twice_a_day_and_unloads_at_stations() {
    let output = output(settings(Kind::Tanker, 7));
    let series = output.series();
    assert_eq!(rises(&series["compartment_level"], 10.0, 93.0), 14);
    let unloadings = rises(&series["pump_state"], 0.0, 1.0);
    assert!((2 * 14..=4 * 14).contains(&unloadings), "{unloadings} unloadings");
    let breaths = falls(&series["compartment_pressure"], 48.0, 36.0);
    assert!((5..=100).contains(&breaths), "{breaths} times the valve was open");
}

#[test]
fn cooled_rooms_have_their_cycles_and_defrosts() {
    let output_of = |kind| output(settings(kind, 7));
    let (store, reefer) = (output_of(Kind::ColdStore), output_of(Kind::Reefer));
    let (store, reefer) = (store.series(), reefer.series());
    let cycles = rises(&store["compressor_power"], 0.5, 3.0);
    assert!((7 * 60..=7 * 130).contains(&cycles), "{cycles} cycles");
    let defrosts = rises(&store["humidity"], 89.0, 92.0);
    assert_eq!(defrosts, 28, "of the store");
    let opened = rises(&store["door"], 0.0, 1.0);
    assert!((6 * 20..=6 * 40).contains(&opened), "{opened} openings of the store");
    let fridge = rises(&store["fridge_temperature"], 4.3, 5.5);
    assert!(fridge > 7 * 8, "{fridge} cycles of the fridge");
    assert!(store["fridge_temperature"].len() > 660);

    let defrosts =
        rises(&reefer["supply_air_temperature"], reefer["set_point"][0].1 + 1.0, reefer["set_point"][0].1 + 6.0);
    assert_eq!(defrosts, 28, "of the reefer");
    let opened = rises(&reefer["door"], 0.0, 1.0);
    assert!((7 * 6..=7 * 15).contains(&opened), "{opened} openings of the reefer");
    let starts = rises(&reefer["compressor_state"], 0.0, 1.0);
    assert!((7 * 40..=7 * 140).contains(&starts), "{starts} starts");
}

#[test]
fn a_plant_rests_at_night_and_on_sunday_and_works_in_batches() {
    let output = output(settings(Kind::Plant, 7));
    let series = output.series();
    let sunday_ms = START_MS + 6 * DAY_SECONDS as i64 * 1_000;
    let is_resting = |time_ms: i64| time_ms > sunday_ms || (time_ms - START_MS) % 86_400_000 < 6 * 3_600_000;
    let (rest, work): (Vec<_>, Vec<_>) = series["motor_current"].iter().copied().partition(|(at, _)| is_resting(*at));
    assert!(rest.iter().all(|(_, current)| *current < 2.0));
    let starts = rises(&work, 2.0, 120.0);
    assert!((16..=80).contains(&starts), "{starts} starts of the motor");
    let batches = falls(&series["tank_level"], 88.0, 18.0);
    assert!((6 * 25..=6 * 50).contains(&batches), "{batches} batches");
}

#[derive(Debug)]
struct Truth {
    metric: String,
    fault: String,
    start_ms: i64,
    end_ms: i64,
    size: f64,
}

fn truths(output: &Output) -> Vec<Truth> {
    let read = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        Truth {
            metric: fields[0].split_once('/').expect("a device and a metric").1.to_owned(),
            fault: fields[1].to_owned(),
            start_ms: fields[2].parse().expect("a time"),
            end_ms: fields[3].parse().expect("a time"),
            size: fields[4].parse().expect("a size"),
        }
    };
    output.ground_truth.lines().skip(1).map(read).collect()
}

#[test]
fn each_line_of_the_ground_truth_is_a_difference_in_the_data() {
    for kind in Kind::ALL {
        let (days, per_day) = (6, 12.0);
        let healthy = output(settings(kind, days));
        let faulty = output(RecordSettings { faults_per_day: per_day, ..settings(kind, days) });
        let truths = truths(&faulty);
        assert_eq!(truths.len() as u64, faulty.report.faults);
        let mean = per_day * f64::from(days - 1);
        assert!((truths.len() as f64 - mean).abs() < 4.5 * mean.sqrt(), "{} faults of {kind:?}", truths.len());
        let kinds: HashSet<_> = truths.iter().map(|truth| truth.fault.as_str()).collect();
        assert!(kinds.len() >= 6, "{kind:?} has only {kinds:?}");
        let (healthy, reported) = (healthy.series(), faulty.series());
        for truth in &truths {
            let first_ms = START_MS + DAY_SECONDS as i64 * 1_000;
            assert!(first_ms <= truth.start_ms && truth.start_ms < truth.end_ms, "{truth:?}");
            let within = |series: &BTreeMap<&str, Vec<(i64, f64)>>| -> Vec<(i64, u64)> {
                let during = |time_ms: &i64| (truth.start_ms..truth.end_ms).contains(time_ms);
                let values = series[truth.metric.as_str()].iter();
                values.filter(|(time_ms, _)| during(time_ms)).map(|(at, value)| (*at, value.to_bits())).collect()
            };
            let (before, after) = (within(&healthy), within(&reported));
            assert!(before != after, "{truth:?} of {kind:?}");
            assert_eq!(after.is_empty(), truth.fault == "dropout", "{truth:?} of {kind:?}");
            assert!(truth.fault == "dropout" || truth.size != 0.0, "{truth:?} of {kind:?}");
        }
    }
}

/// Sensors that failed before the first fault of the machine, which changes its course; all else must be as without faults.
fn failed_sensors(kind: Kind) -> usize {
    let healthy = output(settings(kind, 3));
    let faulty = output(RecordSettings { faults_per_day: 4.0, ..settings(kind, 3) });
    let truths = truths(&faulty);
    let of_sensors = FaultKind::ALL.map(FaultKind::name);
    let troubles = truths.iter().filter(|truth| !of_sensors.contains(&truth.fault.as_str()));
    let until_ms = troubles.map(|truth| truth.start_ms - 60_000).min().unwrap_or(i64::MAX);
    let is_faulty = |series: &str, time_ms: i64| {
        let metric = series.split_once('/').expect("a device and a metric").1;
        truths.iter().any(|truth| truth.metric == metric && (truth.start_ms..truth.end_ms).contains(&time_ms))
    };
    let undisturbed = |output: &Output| -> Vec<(String, i64, u64)> {
        let lines = output.lines().filter(|(series, time_ms, _)| *time_ms < until_ms && !is_faulty(series, *time_ms));
        lines.map(|(series, time_ms, value)| (series.to_owned(), time_ms, value.to_bits())).collect()
    };
    assert!(undisturbed(&healthy) == undisturbed(&faulty), "{kind:?}");
    truths.iter().filter(|truth| truth.end_ms < until_ms).count()
}

#[test]
fn outside_of_faults_a_sensor_reports_what_it_would_without() {
    let failed: usize = Kind::ALL.into_iter().map(failed_sensors).sum();
    assert!(failed >= 5, "only {failed} faults were put to the test");
}

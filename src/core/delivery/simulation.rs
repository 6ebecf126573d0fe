//! The machine against a model cloud, in virtual time: a seed gives the weather, the load and the crashes, and after every step
//! all that the module promises is checked.
//!
//! The cloud limits its shards, fails single records, refuses whole requests, those that are too large among them, asks for time, loses
//! replies, answers too late (and may take the request even later), is unreachable, unknown, or wants fresh credentials. A crash takes all
//! but the last cursor that was saved. The driver behaves as the forwarder does. Deliberately absent: real time, threads, and the sink's
//! reading of errors.

mod capacity;
pub(super) mod cloud;
mod scenario;
mod world;

use proptest::prelude::*;
use scenario::{Sabotage, Scenario, Summary};
use world::World;

fn scenario() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), 1..12u64, 1..5usize, any::<[bool; 3]>(), 0..5u32, any::<[bool; 2]>()).prop_map(
        |(seed, devices, shards, [single, is_one_key, is_tight], crashes, [has_poison, has_sick_device])| Scenario {
            seed,
            devices,
            shards,
            single,
            is_one_key,
            is_tight,
            crashes,
            has_poison,
            has_sick_device,
            sabotage: None,
        },
    )
}

proptest! {
    #[test]
    fn every_promise_is_kept_in_any_weather(scenario in scenario()) {
        if let Err(broken) = World::new(scenario).run() {
            return Err(TestCaseError::fail(broken));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace(scenario in scenario()) {
        let first = World::new(scenario.clone()).run();
        prop_assert!(first.is_ok());
        prop_assert_eq!(first, World::new(scenario).run());
    }
}

/// The control: each promise that is broken on purpose is found out, also where all devices share one key. There, a request is one record
/// and nothing is done beyond the cursor, so two of the promises cannot be broken.
#[test]
fn broken_promises_are_noticed() {
    let found = |sabotage, is_one_key| {
        let scenario = |seed| Scenario {
            seed,
            devices: 4,
            shards: 2,
            single: seed % 2 == 0,
            is_one_key,
            is_tight: false,
            crashes: 2,
            has_poison: false,
            has_sick_device: true,
            sabotage: Some(sabotage),
        };
        (1..=10).filter_map(|seed| World::new(scenario(seed)).run().err()).collect::<Vec<String>>()
    };
    for (sabotage, symptom, needs_keys) in [
        (Sabotage::FailuresCountAsAccepted, "is done with, and is nowhere", false),
        (Sabotage::FailuresAreSentByTheSink, "out of order", false),
        (Sabotage::WholeRequestAgain, "twice without a reason", true),
        (Sabotage::CursorBeyondWhatIsDone, "is done with, and is nowhere", false),
        (Sabotage::ForgetsRanges, "twice without a reason", true),
        (Sabotage::ForgetsKeysAside, "is done with, and is nowhere", true),
        (Sabotage::SkipsLinesAside, "rejoins and leaves", true),
        (Sabotage::HaltsAreRefusals, "is given up without a reason", false),
        (Sabotage::TwoRecordsAreSwapped, "out of order", false),
        (Sabotage::NoTimeIsAskedFor, "before the time that was asked for", false),
        (Sabotage::PassedOverIsCountedApart, "are said to be passed over", false),
    ] {
        for is_one_key in [false, true] {
            if needs_keys && is_one_key {
                continue;
            }
            let symptoms = found(sabotage, is_one_key);
            let is_found = symptoms.iter().any(|text| text.contains(symptom));
            assert!(is_found, "{sabotage:?}, one key: {is_one_key}: {symptoms:?}");
        }
    }
}

/// The simulation is worth something only if its weather is bad.
#[test]
fn the_weather_is_bad_enough() {
    let mut total = Summary::default();
    for seed in 0..20 {
        let scenario = Scenario {
            seed,
            devices: 6,
            shards: 3,
            single: false,
            is_one_key: seed % 5 == 0,
            is_tight: seed % 2 == 0,
            crashes: 3,
            has_poison: true,
            has_sick_device: seed % 3 != 0,
            sabotage: None,
        };
        let summary = World::new(scenario).run().expect("promises are kept");
        total.add(&summary);
    }
    let Summary { crashes, repeats, refused, halts, throttled, failed, unanswered, too_large, set_aside, .. } = total;
    let Summary { later_requests, later_records, .. } = total;
    assert!(crashes >= 50 && repeats > 100 && refused > 50, "{total:?}");
    assert!(halts > 10 && throttled > 300 && failed > 200 && unanswered > 100 && too_large > 30, "{total:?}");
    assert!(later_requests > 50 && later_records > 50, "{total:?}");
    assert!(set_aside > 20, "{total:?}");
}

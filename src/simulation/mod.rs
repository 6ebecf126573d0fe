//! Everything at once, on one thread and in virtual time: devices that send again, the session machine, the pipeline, SQLite on a disk that
//! fails, the sinks' delivery, and a cloud that fails too. A seed gives all that is left to chance: ten minutes, 2,000 readings, and what
//! befalls them. After every step it is checked what the gateway promises, and in the end that everything has arrived or is counted.
//!
//! `tests/simulation/run` runs many seeds. Deliberately absent: sockets, subscribers, the archive, and the sinks' reading of errors, which
//! have tests of their own.

mod checks;
mod cloud;
mod devices;
pub(crate) mod disk;
mod gateway;
pub(crate) mod random;
mod scenario;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use scenario::{FAULTS, Sabotage, Scenario};
use world::{Summary, World};

/// Of a run that says nothing else.
const SEEDS: u64 = 4;
/// So many seeds meet every fault.
const SEEDS_FOR_EVERY_FAULT: u64 = 100;
const MINUTES: u64 = 10;
const READINGS_A_MINUTE: u64 = 200;
/// Worlds that run beside each other, each on a thread of its own.
const WORLDS: usize = 2;

fn run(seed: u64, minutes: u64, sabotage: Option<Sabotage>) -> Result<Summary, String> {
    World::new(Scenario { seed, minutes, readings: minutes * READINGS_A_MINUTE, sabotage }).run()
}

fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// `SIMULATION_SEED` is the first of `SIMULATION_SEEDS` seeds, each of `SIMULATION_MINUTES`.
#[test]
fn every_promise_is_kept_whatever_fails() {
    let (first, seeds) = (number_from("SIMULATION_SEED", 1), number_from("SIMULATION_SEEDS", SEEDS));
    let minutes = number_from("SIMULATION_MINUTES", MINUTES);
    let (next, results) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORLDS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let result = run(seed, minutes, None);
                    match &result {
                        Ok(summary) => println!("seed {seed}: trace {:08x}, {summary}", summary.trace),
                        Err(broken) => println!("{broken}"),
                    }
                    results.lock().expect("nothing panics while it is held").insert(seed, result);
                }
            });
        }
    });
    let results = results.into_inner().expect("nothing panics while it is held");
    assert_eq!(results.len() as u64, seeds, "a world has panicked");
    let (mut faults, mut broken) = (BTreeMap::<&str, u64>::new(), Vec::new());
    for result in results.into_values() {
        match result {
            Ok(summary) => {
                summary.faults.iter().for_each(|(fault, count)| *faults.entry(fault).or_default() += count);
            }
            Err(text) => broken.push(text),
        }
    }
    faults.iter().for_each(|(fault, count)| println!("{fault}: {count}"));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let never: Vec<_> = FAULTS.iter().filter(|fault| !faults.contains_key(*fault)).collect();
    assert!(never.is_empty() || seeds < SEEDS_FOR_EVERY_FAULT, "never happened: {never:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let [first, second, other] = [7, 7, 8].map(|seed| run(seed, MINUTES, None).expect("promises are kept"));
    assert_eq!(first, second);
    assert_ne!(first.trace, other.trace);
}

/// The controls: each promise that is broken on purpose is found out, with these seeds.
#[test]
fn promises_that_are_broken_are_noticed() {
    let controls = [
        (Sabotage::DropsSyncs, 1, &["a power cut"][..]),
        (Sabotage::AcknowledgesEarly, 1, &["readings are acknowledged, and"]),
        (Sabotage::DeletesUndelivered, 1, &["the ledger does not add up"]),
        (Sabotage::PassesOverFailures, 1, &["acknowledged readings are not in", "arrived after"]),
        (Sabotage::BreaksCounter("accepted"), 1, &["the ledger does not add up"]),
        (Sabotage::BreaksCounter("delivered"), 1, &["the ledger does not add up"]),
        (Sabotage::BreaksCounter("expired"), 1, &["the ledger does not add up"]),
        (Sabotage::BreaksCounter("dead_lettered"), 1, &["the ledger does not add up"]),
        (Sabotage::BreaksCounter("quarantined"), 1, &["the ledger does not add up"]),
    ];
    for (sabotage, seed, symptoms) in controls {
        let found = run(seed, MINUTES, Some(sabotage)).expect_err("a broken promise is noticed");
        assert!(symptoms.iter().any(|symptom| found.contains(symptom)), "{sabotage:?}: {found}");
    }
}

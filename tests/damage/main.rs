//! The damage lab: a store with a backlog, a half-delivered sink, a key that is set aside, dead letters and open alerts is damaged in a way
//! that a seed chooses, then opened and drained, and both ends are compared to the reading.
//!
//! Everything runs in process and on files of its own. `DAMAGE_SEED=n` runs one seed and says what it does; `DAMAGE_SEEDS=n` so many.

#![allow(clippy::unwrap_used)]

mod drain;
mod kinds;
mod template;

use std::collections::BTreeMap;
use std::time::Instant;

use drain::Outcome;
use kinds::Kind;
use template::{State, Template};

/// Experiments that are run by default: ten of each kind. `.ci/run` runs more than sixty.
const SEEDS: u64 = 170;

/// A small generator: equal seeds give equal experiments.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What all experiments of a kind came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    /// Records that were neither delivered nor found, and those that were counted.
    missing: u64,
    counted: u64,
    renewed: u64,
    doubted: u64,
    /// Experiments in which more was counted than the damaged pages held.
    beyond_damage: u64,
}

/// A guard that is taken away, which must not go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// What is missing between two batches is taken as delivered.
    GapsAreDelivered,
    /// Nothing is known of the store but what is in it.
    NoWitness,
    /// What a damaged store still has is left in it.
    NothingIsSalvaged,
    /// Nobody reads what the cursor has passed over for a key that is set aside.
    KeysAreForgotten,
}

fn experiment(template: &Template, seed: u64, sabotage: Option<Sabotage>) -> Result<(Kind, Outcome), String> {
    let mut random = Random::new(seed);
    let kind = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
    let state = if random.below(2) == 0 && !kind.needs_log() { State::Stopped } else { State::Killed };
    let folder = tempfile::tempdir().unwrap();
    let image = template.image(state);
    image.write(folder.path());
    let damaged_pages = kind.damage(folder.path(), image, template, &mut random);
    if std::env::var_os("DAMAGE_SEED").is_some() {
        println!("{kind:?} of a gateway that was {state:?}, pages {damaged_pages:?}");
    }
    if sabotage == Some(Sabotage::NoWitness) {
        std::fs::remove_file(folder.path().join("outrider.sqlite-witness")).unwrap();
    }
    let mut outcome = drain::run(folder.path(), image, sabotage)?;
    outcome.records_in_damage = template.records_in(state, &damaged_pages);
    outcome.check(kind, image)?;
    Ok((kind, outcome))
}

#[test]
fn what_is_damaged_is_found_or_counted() {
    let seeds = match (number("DAMAGE_SEED"), number("DAMAGE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let template = Template::make();
    let began = Instant::now();
    let mut tallies: BTreeMap<Kind, Tally> = BTreeMap::new();
    let (mut failures, mut refused) = (Vec::new(), 0);
    for seed in seeds {
        match experiment(&template, seed, None) {
            Ok((kind, outcome)) => {
                let tally = tallies.entry(kind).or_default();
                tally.runs += 1;
                tally.missing += outcome.missing;
                tally.counted += outcome.counted;
                tally.renewed += u64::from(outcome.renewed);
                tally.doubted += u64::from(outcome.doubt.is_some());
                if outcome.counted > outcome.records_in_damage && kind.is_of_sectors() {
                    println!("DAMAGE_SEED={seed}: {kind:?} costs {} of {}", outcome.counted, outcome.records_in_damage);
                    tally.beyond_damage += 1;
                }
            }
            // A store that says that it is of a later version is left as it is.
            Err(complaint) if complaint.contains("run the newer program") => refused += 1,
            Err(complaint) => failures.push(format!("DAMAGE_SEED={seed}: {complaint}")),
        }
    }
    println!(
        "{:>20} {:>5} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "damage", "runs", "missing", "counted", "renewed", "doubted", "beyond"
    );
    for (kind, tally) in &tallies {
        let Tally { runs, missing, counted, renewed, doubted, beyond_damage } = tally;
        println!("{kind:>20?} {runs:>5} {missing:>8} {counted:>8} {renewed:>8} {doubted:>8} {beyond_damage:>7}");
    }
    println!("{refused} are of a later version, it seems; in {:.0} s", began.elapsed().as_secs_f64());
    assert!(
        failures.is_empty(),
        "{} of them failed:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    for (kind, tally) in tallies.iter().filter(|(kind, _)| kind.is_of_sectors()) {
        assert!(tally.beyond_damage * 100 <= tally.runs.max(100), "{kind:?}: more is lost than was damaged");
    }
}

#[test]
fn a_guard_that_is_taken_away_is_missed() {
    let template = Template::make();
    for (sabotage, kind) in [
        (Sabotage::GapsAreDelivered, Kind::ExchangedPages),
        (Sabotage::NoWitness, Kind::DeletedFile),
        (Sabotage::NothingIsSalvaged, Kind::ExchangedPages),
        (Sabotage::KeysAreForgotten, Kind::DoubledPage),
    ] {
        let first = Kind::ALL.iter().position(|known| *known == kind).unwrap() as u64;
        let seeds = (0..40).map(|round| first + round * Kind::ALL.len() as u64);
        let is_missed = |seed| match experiment(&template, seed, Some(sabotage)) {
            Ok((_, outcome)) => outcome.counted > outcome.records_in_damage,
            Err(_) => true,
        };
        let missed = seeds.filter(|seed| is_missed(*seed)).count();
        println!("{sabotage:?}: {missed} of 40");
        assert!(missed > 4, "{sabotage:?}: {missed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

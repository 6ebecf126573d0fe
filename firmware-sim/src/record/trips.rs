//! When a vehicle drives, day by day.

use super::moment::HOUR_SECONDS;
use crate::random::Random;

/// How the days of a kind of vehicle look.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    pub trips: (u32, u32),
    /// Hours between which all trips are.
    pub hours: (u32, u32),
    /// How much of its share of the day a trip takes.
    pub driven: (f64, f64),
    /// Halts on a trip, with the engine running.
    pub halts: (u32, u32),
    pub halt_seconds: (f64, f64),
}

/// Seconds of the day.
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    pub start: u32,
    pub end: u32,
    pub halts: Vec<Halt>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Halt {
    /// The second of the day after which the vehicle looks for a place to stand.
    pub start: u32,
    /// How long it stands.
    pub seconds: u32,
}

/// From low to high, both included.
fn count(random: Random, index: u64, (low, high): (u32, u32)) -> u32 {
    low + (random.unit(index) * f64::from(high - low + 1)) as u32
}

impl Timetable {
    pub fn day(&self, random: Random, day: u64) -> Vec<Trip> {
        let random = random.stream(day);
        let trips = count(random, 0, self.trips);
        let share = f64::from((self.hours.1 - self.hours.0) * HOUR_SECONDS) / f64::from(trips);
        let trip = |number: u32| {
            let random = random.stream(u64::from(number));
            let length = share * random.between(0, self.driven.0, self.driven.1);
            let wait = (share - length) * random.between(1, 0.1, 0.8);
            let start = f64::from(self.hours.0 * HOUR_SECONDS) + share * f64::from(number) + wait;
            let halts = count(random, 2, self.halts);
            let halt = |halt: u32| {
                let seconds = random.between(10 + u64::from(halt), self.halt_seconds.0, self.halt_seconds.1);
                Halt {
                    start: (start + length * f64::from(halt + 1) / f64::from(halts + 1)) as u32,
                    seconds: seconds as u32,
                }
            };
            Trip { start: start as u32, end: (start + length) as u32, halts: (0..halts).map(halt).collect() }
        };
        (0..trips).map(trip).collect()
    }
}

//! A battery with starter and alternator.

use super::driver::Ignition;
use super::moment::approach;
use crate::random::Random;

#[derive(Clone, Debug)]
pub struct Electrics {
    random: Random,
    pub volts: f64,
    /// Lamps, fans and heaters, in volts that they cost.
    load: f64,
    /// What the regulator holds; less when it fails.
    pub regulated: f64,
}

pub const REGULATED_VOLTS: f64 = 14.15;

impl Electrics {
    pub fn new(random: Random) -> Self {
        Electrics { random, volts: 12.6, load: 0.1, regulated: REGULATED_VOLTS }
    }

    /// `is_idling`: an alternator that turns slowly holds a little less.
    pub fn step(&mut self, second: u64, ignition: Ignition, is_idling: bool, outside: f64) {
        if second.is_multiple_of(20) {
            self.load = (self.load + 0.03 * self.random.bell(second)).clamp(0.0, 0.22);
        }
        let (target, seconds) = match ignition {
            // A surface charge that disappears in some minutes.
            Ignition::Off => (12.62, 260.0),
            Ignition::On => (12.25, 1.5),
            Ignition::Cranking => (9.9 - 0.02 * (20.0 - outside) + 0.4 * self.random.unit(second), 1.0),
            Ignition::Running => {
                let held = self.regulated - self.load - if is_idling { 0.12 } else { 0.0 };
                (held.max(11.6), 3.0)
            }
        };
        approach(&mut self.volts, target, seconds);
    }
}

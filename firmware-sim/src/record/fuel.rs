//! A fuel tank with a float: the fuel sloshes, is used up, and is filled up every few days.

use super::moment::approach;
use crate::random::Random;

#[derive(Clone, Debug)]
pub struct FuelTank {
    random: Random,
    litres: f64,
    pub litres_max: f64,
    /// What the float says, in percent.
    pub shown: f64,
    slosh: f64,
    refuellings: u64,
    pub leak_litres_s: f64,
    pub leaked_percent: f64,
}

impl FuelTank {
    pub fn new(litres_max: f64, random: Random) -> Self {
        let litres = litres_max * random.between(0, 0.5, 0.95);
        let shown = 100.0 * litres / litres_max;
        FuelTank {
            random,
            litres,
            litres_max,
            shown,
            slosh: 0.0,
            refuellings: 0,
            leak_litres_s: 0.0,
            leaked_percent: 0.0,
        }
    }

    /// `is_starting`: the ignition is on and the engine is not; the tank was filled before, if it was low.
    pub fn step(&mut self, second: u64, litres_per_hour: f64, acceleration: f64, is_starting: bool) {
        let level = 100.0 * self.litres / self.litres_max;
        let reserve = self.random.stream(1).between(self.refuellings, 22.0, 35.0);
        if is_starting && level < reserve {
            self.refuellings += 1;
            self.litres = self.litres_max * self.random.stream(2).between(self.refuellings, 0.92, 0.98);
            self.shown = 100.0 * self.litres / self.litres_max;
        }
        self.litres = (self.litres - litres_per_hour / 3_600.0 - self.leak_litres_s).max(0.0);
        if self.leak_litres_s > 0.0 && self.litres > 0.0 {
            self.leaked_percent += 100.0 * self.leak_litres_s / self.litres_max;
        } else if self.leak_litres_s == 0.0 {
            self.leaked_percent = 0.0;
        }
        let is_moving = acceleration != 0.0;
        let push = if is_moving { 1.1 * acceleration + 0.8 * self.random.stream(3).bell(second) } else { 0.0 };
        approach(&mut self.slosh, push, 4.0);
        // The control unit smooths what the float does.
        approach(&mut self.shown, level + self.slosh, 12.0);
    }
}

//! Heat in a vehicle: coolant with thermostat and fan, intake air, catalyst.

use super::driver::{Ignition, Motion};
use super::engine::Engine;
use super::moment::approach;

/// Degrees Celsius at which the thermostat begins to open, and is open.
const THERMOSTAT: (f64, f64) = (84.0, 95.0);
const FAN_ON: f64 = 101.0;
const FAN_OFF: f64 = 96.0;

#[derive(Clone, Debug)]
pub struct Cooling {
    pub coolant: f64,
    pub intake: f64,
    pub catalyst: f64,
    /// How far the thermostat is open, 0 to 1: its wax is slow.
    opening: f64,
    is_fan_on: bool,
    /// How much of its heat the engine can still give to the air: 1, and less when coolant is missing.
    pub effect: f64,
    /// Litres of fuel an hour are given as heat in proportion to this: a small engine warms up as fast as a large one.
    size: f64,
}

impl Cooling {
    /// `size`: of the engine, 1 for a van's.
    pub fn new(outside: f64, size: f64) -> Self {
        Cooling {
            coolant: outside,
            intake: outside,
            catalyst: outside,
            opening: 0.0,
            is_fan_on: false,
            effect: 1.0,
            size,
        }
    }

    /// Degrees above what the thermostat allows with a sound radiator.
    pub fn excess(&self) -> f64 {
        (self.coolant - (FAN_ON + 1.0)).max(0.0)
    }

    pub fn is_warm(&self) -> bool {
        self.coolant > THERMOSTAT.0
    }

    pub fn step(&mut self, motion: Motion, engine: &Engine, outside: f64) {
        let is_running = motion.ignition == Ignition::Running;
        let wanted = ((self.coolant - THERMOSTAT.0) / (THERMOSTAT.1 - THERMOSTAT.0)).clamp(0.0, 1.0);
        approach(&mut self.opening, wanted, 25.0);
        self.is_fan_on = is_running && self.coolant > if self.is_fan_on { FAN_OFF } else { FAN_ON };
        // kW and kW/K of an engine of size 1, whose block and coolant store 92 kJ/K.
        let heat = 3.1 * engine.fuel_rate / self.size;
        let radiator = if is_running {
            let wind = 0.05 + 0.009 * motion.speed_kmh.min(90.0) + if self.is_fan_on { 0.35 } else { 0.0 };
            self.opening * wind * self.effect
        } else {
            0.0
        };
        let cabin = if is_running { 0.018 } else { 0.0 };
        let boiling = 1.5 * (self.coolant - 122.0).max(0.0);
        let loss = (0.011 + cabin + radiator) * (self.coolant - outside) + boiling;
        self.coolant += (heat - loss) / 92.0;

        let soaked =
            (self.coolant - outside).max(0.0) * if is_running { 0.33 / (1.0 + motion.speed_kmh / 18.0) } else { 0.35 };
        approach(&mut self.intake, outside + 4.0 + soaked, if is_running { 90.0 } else { 600.0 });
        let (target, seconds) = match engine.fuel_rate {
            _ if !is_running => (outside, 1_500.0),
            rate => (300.0 + 3.4 * engine.load + 14.0 * (rate / self.size).min(12.0), 75.0),
        };
        approach(&mut self.catalyst, target, seconds);
    }
}

//! A combustion engine: gears, load, fuel, oil; no heat, see `cooling`.

use super::driver::{Ignition, Motion};
use super::moment::approach;
use crate::random::Random;

/// What distinguishes a van from a truck.
#[derive(Clone, Copy, Debug)]
pub struct EngineType {
    pub mass_kg: f64,
    pub power_kw: f64,
    /// Drag coefficient by frontal area, m².
    pub drag_area: f64,
    pub idle_rpm: f64,
    pub shift_up_rpm: f64,
    pub shift_down_rpm: f64,
    /// Revolutions per minute for each km/h, by gear.
    pub gears: &'static [f64],
    /// Of the power take-off, at a halt.
    pub halt_rpm: f64,
    /// L/h at idle.
    pub idle_fuel: f64,
}

#[derive(Clone, Debug)]
pub struct Engine {
    pub kind: EngineType,
    road: Random,
    gear: usize,
    /// Seconds until the clutch is closed again.
    shifting: u32,
    /// Of the road; positive is uphill.
    slope: f64,
    pub rpm: f64,
    /// Percent.
    pub load: f64,
    pub throttle: f64,
    pub manifold_kpa: f64,
    /// L/h.
    pub fuel_rate: f64,
    oil_celsius: f64,
    pub oil_kpa: f64,
}

impl Engine {
    pub fn new(kind: EngineType, outside: f64, random: Random) -> Self {
        Engine {
            kind,
            road: random,
            gear: 0,
            shifting: 0,
            slope: 0.0,
            rpm: 0.0,
            load: 0.0,
            throttle: 0.0,
            manifold_kpa: 100.0,
            fuel_rate: 0.0,
            oil_celsius: outside,
            oil_kpa: 0.0,
        }
    }

    pub fn step(&mut self, second: u64, motion: Motion, coolant: f64) {
        // The oil follows the coolant, and is warmer at speed.
        let at_work = if motion.ignition == Ignition::Running { 12.0 * self.load / 100.0 } else { 0.0 };
        approach(&mut self.oil_celsius, coolant + at_work, 260.0);
        match motion.ignition {
            Ignition::Running => self.run(second, motion, coolant),
            Ignition::Cranking => self.turn(190.0),
            Ignition::On | Ignition::Off => self.turn(0.0),
        }
        // Thin oil gives less pressure at the same speed; the relief valve bounds it.
        let thickness = ((95.0 - self.oil_celsius) / 130.0).exp();
        let pressure = (30.0 + 0.135 * self.rpm * (2_000.0 / self.kind.shift_up_rpm).sqrt()) * thickness;
        let relieved = if pressure > 400.0 { 400.0 + 0.25 * (pressure - 400.0) } else { pressure };
        approach(&mut self.oil_kpa, if self.rpm > 0.0 { relieved.min(560.0) } else { 0.0 }, 1.5);
    }

    /// Without combustion.
    fn turn(&mut self, rpm: f64) {
        self.gear = 0;
        (self.rpm, self.load, self.throttle, self.fuel_rate) = (rpm, 0.0, 15.0, 0.0);
        approach(&mut self.manifold_kpa, if rpm > 0.0 { 88.0 } else { 100.0 }, 1.5);
    }

    fn run(&mut self, second: u64, motion: Motion, coolant: f64) {
        let kind = self.kind;
        let cold = ((60.0 - coolant) / 60.0).clamp(0.0, 1.0);
        let idle_rpm = kind.idle_rpm * (1.0 + 0.35 * cold);
        self.choose_gear(motion);
        let resting_rpm = if motion.is_halted { kind.halt_rpm } else { idle_rpm };
        let driven_rpm = motion.speed_kmh * kind.gears[self.gear];
        let target_rpm = if self.shifting > 0 { driven_rpm * 0.8 } else { driven_rpm }.max(resting_rpm);
        approach(&mut self.rpm, target_rpm, 1.3);

        self.slope += -self.slope / 60.0 + 0.0022 * self.road.bell(second);
        let speed = motion.speed_kmh / 3.6;
        let force =
            kind.mass_kg * (motion.acceleration + 9.81 * (0.010 + self.slope)) + 0.6 * kind.drag_area * speed * speed;
        let at_halt = if motion.is_halted && kind.halt_rpm > idle_rpm { 0.12 * kind.power_kw } else { 0.0 };
        let needed_kw = force * speed / 1_000.0 + at_halt;
        let available_kw = kind.power_kw * (self.rpm / (1.5 * kind.shift_up_rpm)).min(1.0);
        let is_overrun = needed_kw < -1.5 && self.rpm > idle_rpm * 1.15;
        let idle_load = 16.0 + 14.0 * cold;
        let wanted = if is_overrun || self.shifting > 0 {
            3.0
        } else {
            idle_load + (100.0 - idle_load) * (needed_kw / available_kw).clamp(0.0, 1.0)
        };
        self.shifting = self.shifting.saturating_sub(1);
        approach(&mut self.load, wanted, 1.4);
        // Part of the throttle's way has little effect at low engine speeds.
        let closed = 11.0 + 3.0 * cold;
        let open = closed + 0.82 * self.load.powf(1.08) * (0.5 + 0.5 * self.rpm / (1.5 * kind.shift_up_rpm)).min(1.0);
        self.throttle = if self.load < idle_load + 0.5 { closed } else { open.min(100.0) };
        approach(&mut self.manifold_kpa, 22.0 + 0.78 * self.load, 1.2);
        let burnt = kind.idle_fuel * self.rpm / kind.idle_rpm + 0.27 * needed_kw.clamp(0.0, available_kw);
        let target = if is_overrun { 0.0 } else { burnt * (1.0 + 0.25 * cold) };
        approach(&mut self.fuel_rate, target, 1.4);
    }

    fn choose_gear(&mut self, motion: Motion) {
        let rpm = motion.speed_kmh * self.kind.gears[self.gear];
        let up_rpm = self.kind.shift_up_rpm * if motion.acceleration > 0.6 { 1.0 } else { 0.82 };
        if motion.speed_kmh < 3.0 {
            self.gear = 0;
        } else if rpm > up_rpm && self.gear + 1 < self.kind.gears.len() {
            self.gear += 1;
            self.shifting = 1;
        } else if rpm < self.kind.shift_down_rpm && self.gear > 0 {
            self.gear -= 1;
            self.shifting = 1;
        }
    }
}

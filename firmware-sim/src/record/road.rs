//! What any vehicle has on the road: driver, engine, cooling, battery, tank. It reports while the ignition is on.

use super::cooling::Cooling;
use super::driver::{Driver, Ignition, Motion, Style};
use super::electrics::{Electrics, REGULATED_VOLTS};
use super::engine::{Engine, EngineType};
use super::fuel::FuelTank;
use super::machine::{Trouble, TroubleType};
use super::moment::{Moment, Weather};
use super::sensor::Sensor;
use super::trips::{Timetable, Trip};
use crate::random::Random;

/// The part of any vehicle that drives it. Its first readings are those of [`ROAD_SENSORS`].
#[derive(Clone, Debug)]
pub struct Road {
    driver: Driver,
    engine: Engine,
    cooling: Cooling,
    electrics: Electrics,
    tank: FuelTank,
    weather: Weather,
    /// Seconds since the ignition was switched off.
    parked: u32,
    /// Of the present trip.
    seconds_left: u32,
    outside: f64,
    /// Of 12 V in series.
    batteries: f64,
}

/// How a kind of vehicle drives, and with what.
#[derive(Clone, Copy, Debug)]
pub struct RoadType {
    pub timetable: Timetable,
    pub style: Style,
    pub engine: EngineType,
    /// Of the engine, 1 for a van's.
    pub size: f64,
    pub tank_litres: f64,
    /// Batteries of 12 V in series.
    pub batteries: f64,
}

/// In the order of the readings of [`Road::step`].
pub const ROAD_SENSORS: [Sensor; 12] = [
    Sensor::new("speed", 1.0, 0.25, (0.0, 255.0), 9.0).with_exact_zero().driven(),
    Sensor::new("engine_rpm", 0.25, 7.0, (0.0, 8_000.0), 260.0).with_exact_zero().driven(),
    Sensor::new("coolant_temperature", 1.0, 0.25, (-40.0, 215.0), 2.5),
    Sensor::new("intake_temperature", 1.0, 0.3, (-40.0, 215.0), 4.0),
    Sensor::new("oil_pressure", 4.0, 4.0, (0.0, 1_000.0), 45.0),
    Sensor::new("manifold_pressure", 1.0, 0.7, (0.0, 255.0), 12.0).driven(),
    Sensor::new("throttle", 0.4, 0.3, (0.0, 100.0), 9.0).driven(),
    Sensor::new("engine_load", 0.4, 0.6, (0.0, 100.0), 11.0).driven(),
    Sensor::new("fuel_rate", 0.05, 0.05, (0.0, 200.0), 2.0).with_exact_zero().driven(),
    Sensor::new("fuel_level", 0.4, 0.25, (0.0, 100.0), 2.0).every(10),
    Sensor::new("battery_voltage", 0.02, 0.015, (0.0, 36.0), 0.2),
    Sensor::new("catalyst_temperature", 0.1, 0.8, (-40.0, 1_200.0), 28.0),
];

/// Its place among them.
const BATTERY_VOLTAGE: usize = 10;

/// The box keeps reporting the battery for this long after the ignition was switched off, once a minute, and sleeps then.
const AWAKE_PARKED_SECONDS: u32 = 600;

impl Road {
    pub fn new(kind: RoadType, random: Random) -> Self {
        let mut weather = Weather::new(random.stream(1));
        let outside = weather.outside(Moment(0));
        Road {
            driver: Driver::new(kind.timetable, kind.style, random.stream(2)),
            engine: Engine::new(kind.engine, outside, random.stream(3)),
            cooling: Cooling::new(outside, kind.size),
            electrics: Electrics::new(random.stream(4)),
            tank: FuelTank::new(kind.tank_litres, random.stream(5)),
            weather,
            parked: AWAKE_PARKED_SECONDS + 1,
            seconds_left: 0,
            outside,
            batteries: kind.batteries,
        }
    }

    pub fn trips(&self) -> &[Trip] {
        self.driver.trips()
    }

    pub fn outside(&self) -> f64 {
        self.outside
    }

    pub fn step(&mut self, at: Moment, truth: &mut [f64]) -> Motion {
        self.outside = self.weather.outside(at);
        let motion = self.driver.step(at);
        self.seconds_left = self.driver.seconds_left(at);
        let is_off = motion.ignition == Ignition::Off;
        self.parked = if is_off { self.parked.saturating_add(1) } else { 0 };
        self.engine.step(at.0, motion, self.cooling.coolant);
        self.cooling.step(motion, &self.engine, self.outside);
        let is_idling = self.engine.rpm < self.engine.kind.idle_rpm * 1.3;
        self.electrics.step(at.0, motion.ignition, is_idling, self.outside);
        self.tank.step(at.0, self.engine.fuel_rate, motion.acceleration, motion.ignition == Ignition::On);
        let values = [
            motion.speed_kmh,
            self.engine.rpm,
            self.cooling.coolant,
            self.cooling.intake,
            self.engine.oil_kpa,
            self.engine.manifold_kpa,
            self.engine.throttle,
            self.engine.load,
            self.engine.fuel_rate,
            self.tank.shown,
            self.electrics.volts * self.batteries,
            self.cooling.catalyst,
        ];
        let truth = &mut truth[..values.len()];
        truth.copy_from_slice(&values);
        if is_off {
            // The engine's control unit is off as well; the battery is measured by the box itself.
            let battery = truth[BATTERY_VOLTAGE];
            truth.fill(f64::NAN);
            if self.parked <= AWAKE_PARKED_SECONDS && self.parked.is_multiple_of(60) {
                truth[BATTERY_VOLTAGE] = battery;
            }
        }
        motion
    }

    pub fn seconds_left(&self) -> u32 {
        self.seconds_left
    }

    pub fn may_begin(&self, trouble: Trouble) -> bool {
        let is_running = self.engine.rpm > 500.0;
        is_running && (trouble != Trouble::Overheating || self.cooling.is_warm())
    }

    pub fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>) {
        match trouble {
            Trouble::Overheating => self.cooling.effect = severity.map_or(1.0, |severity| 0.05 - 0.05 * severity),
            Trouble::Undervoltage => {
                self.electrics.regulated = severity.map_or(REGULATED_VOLTS, |severity| 12.9 - 1.2 * severity);
            }
            Trouble::Leak => {
                self.tank.leak_litres_s =
                    severity.map_or(0.0, |severity| (0.6 + severity) * self.tank.litres_max / 3_600.0)
            }
            Trouble::CoolingFailure | Trouble::BearingDamage => {}
        }
    }

    pub fn excess(&self, trouble: Trouble) -> f64 {
        match trouble {
            Trouble::Overheating => self.cooling.excess(),
            // Without its engine, a sound battery has less as well.
            Trouble::Undervoltage if self.engine.rpm < 500.0 => 0.0,
            Trouble::Undervoltage => (self.electrics.volts - 13.5).min(0.0) * self.batteries,
            Trouble::Leak => -self.tank.leaked_percent,
            Trouble::CoolingFailure | Trouble::BearingDamage => 0.0,
        }
    }
}

pub const ROAD_TROUBLES: [TroubleType; 3] = [
    TroubleType {
        trouble: Trouble::Overheating,
        metric: "coolant_temperature",
        seconds: (600.0, 1_500.0),
        tolerance: 0.0,
    },
    TroubleType {
        trouble: Trouble::Undervoltage,
        metric: "battery_voltage",
        seconds: (300.0, 1_500.0),
        tolerance: 0.1,
    },
    TroubleType { trouble: Trouble::Leak, metric: "fuel_level", seconds: (600.0, 1_500.0), tolerance: f64::INFINITY },
];

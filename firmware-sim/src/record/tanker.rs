//! A fuel tanker: two rounds a day, each of which begins at the loading rack and unloads at some stations.

use super::driver::Style;
use super::engine::EngineType;
use super::machine::{Machine, Trouble, TroubleType};
use super::moment::{Moment, approach};
use super::road::{ROAD_SENSORS, ROAD_TROUBLES, Road, RoadType};
use super::sensor::Sensor;
use super::trips::Timetable;
use crate::random::Random;

/// Loading ends this long before a round, and takes half an hour.
const LOADED_BEFORE_SECONDS: u32 = 600;
const LOADING_SECONDS: u32 = 1_800;

const TANKER: RoadType = RoadType {
    timetable: Timetable {
        trips: (2, 2),
        hours: (5, 21),
        driven: (0.4, 0.55),
        halts: (2, 4),
        halt_seconds: (800.0, 1_300.0),
    },
    style: Style { speed: (35.0, 86.0), cruise: (40.0, 500.0), acceleration: 0.75, stops: 0.35 },
    engine: EngineType {
        mass_kg: 32_000.0,
        power_kw: 340.0,
        drag_area: 5.5,
        idle_rpm: 600.0,
        shift_up_rpm: 1_650.0,
        shift_down_rpm: 950.0,
        gears: &[150.0, 100.0, 72.0, 52.0, 38.0, 28.0, 21.0, 16.5],
        halt_rpm: 1_000.0,
        idle_fuel: 2.2,
    },
    size: 4.0,
    tank_litres: 700.0,
    batteries: 2.0,
};

const COMPARTMENT: [Sensor; 5] = [
    Sensor::new("compartment_temperature", 0.1, 0.05, (-40.0, 100.0), 0.6).every(60),
    Sensor::new("compartment_pressure", 0.5, 0.4, (-500.0, 500.0), 6.0).every(10),
    Sensor::new("compartment_level", 0.1, 0.06, (0.0, 100.0), 1.5).every(10),
    Sensor::state("pump_state", 1.0, 0.0, 1.0).every(10),
    Sensor::new("pump_pressure", 0.01, 0.012, (0.0, 16.0), 0.25).every(10).driven(),
];

const fn sensors() -> [Sensor; ROAD_SENSORS.len() + COMPARTMENT.len()] {
    let mut all = [COMPARTMENT[0]; ROAD_SENSORS.len() + COMPARTMENT.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < ROAD_SENSORS.len() { ROAD_SENSORS[at] } else { COMPARTMENT[at - ROAD_SENSORS.len()] };
        at += 1;
    }
    all
}

static SENSORS: [Sensor; ROAD_SENSORS.len() + COMPARTMENT.len()] = sensors();

const TROUBLES: [TroubleType; 3] = [
    ROAD_TROUBLES[0],
    ROAD_TROUBLES[1],
    TroubleType {
        trouble: Trouble::Leak,
        metric: "compartment_level",
        seconds: (900.0, 2_400.0),
        tolerance: f64::INFINITY,
    },
];

/// The breathing valves, mbar.
const OPENS_ABOVE: f64 = 50.0;
const CLOSES_BELOW: f64 = 34.0;
const OPENS_UNDER: f64 = -20.0;

#[derive(Clone, Debug)]
pub struct Tanker {
    road: Road,
    random: Random,
    temperature: f64,
    /// Of the gas above the product.
    gas: f64,
    pressure: f64,
    is_valve_open: bool,
    level: f64,
    slosh: f64,
    pump_bar: f64,
    /// Percent a second at the present halt.
    unloading: f64,
    halts_left: usize,
    leak: f64,
    leaked: f64,
}

impl Tanker {
    pub fn new(random: Random) -> Self {
        let road = Road::new(TANKER, random);
        let outside = road.outside();
        Tanker {
            road,
            random: random.stream(20),
            temperature: outside + 2.0,
            gas: outside,
            pressure: 5.0,
            is_valve_open: false,
            level: 6.0,
            slosh: 0.0,
            pump_bar: 0.0,
            unloading: 0.0,
            halts_left: 0,
            leak: 0.0,
            leaked: 0.0,
        }
    }

    /// The percent that are loaded in this second.
    fn loading(&mut self, at: Moment) -> f64 {
        let now = at.second_of_day();
        for trip in self.road.trips() {
            let begin = trip.start.saturating_sub(LOADED_BEFORE_SECONDS + LOADING_SECONDS);
            if now == begin {
                self.halts_left = trip.halts.len();
            }
            if (begin..begin + LOADING_SECONDS).contains(&now) {
                let left = f64::from(begin + LOADING_SECONDS - now);
                return ((95.0 - self.level) / left).max(0.0);
            }
        }
        0.0
    }

    fn breathe(&mut self, at: Moment, loading: f64, is_pumping: bool) {
        // The sun warms the shell and with it the gas; 1 K is 3.4 mbar, of which the product's vapour adds as much again.
        let hour = f64::from(at.second_of_day()) / 3_600.0;
        let sun = 9.0 * (1.0 - ((hour - 13.5) / 5.5).powi(2)).max(0.0);
        let before = self.gas;
        approach(&mut self.gas, 0.5 * (self.road.outside() + sun) + 0.5 * self.temperature, 3_600.0);
        self.pressure += 14.0 * (self.gas - before);
        self.is_valve_open = self.pressure > if self.is_valve_open { CLOSES_BELOW } else { OPENS_ABOVE };
        if self.is_valve_open {
            self.pressure -= 0.12;
        } else if self.pressure < OPENS_UNDER {
            self.pressure += 0.4;
        }
        if loading > 0.0 {
            approach(&mut self.pressure, 18.0, 40.0);
        } else if is_pumping {
            approach(&mut self.pressure, -8.0, 60.0);
        }
    }
}

impl Machine for Tanker {
    fn sensors(&self) -> &'static [Sensor] {
        &SENSORS
    }

    fn step(&mut self, at: Moment, truth: &mut [f64]) {
        let motion = self.road.step(at, truth);
        let loading = self.loading(at);
        let is_pumping = motion.is_halted && self.level > 4.5;
        if is_pumping && self.unloading == 0.0 {
            // Stations take equal parts; the last one takes the rest.
            let share = (self.level - 4.0) / self.halts_left.max(1) as f64;
            self.halts_left = self.halts_left.saturating_sub(1);
            self.unloading = share / 660.0;
        } else if !motion.is_halted {
            self.unloading = 0.0;
        }
        let is_moving = motion.speed_kmh > 0.0;
        let push = if is_moving { 0.5 * motion.acceleration + 0.35 * self.random.bell(at.0) } else { 0.0 };
        approach(&mut self.slosh, push, 5.0);
        let pumped = if is_pumping { self.unloading } else { 0.0 };
        let leaking = self.leak.min((self.level - 0.5).max(0.0));
        self.level = (self.level + loading - pumped - leaking).clamp(0.0, 97.0);
        self.leaked = if self.leak > 0.0 { self.leaked + leaking } else { 0.0 };
        if loading > 0.0 {
            // From underground, at about the same temperature all year.
            approach(&mut self.temperature, 12.5, 900.0);
        }
        approach(&mut self.temperature, self.road.outside() + 1.5, 60_000.0);
        approach(&mut self.pump_bar, if is_pumping { 3.2 } else { 0.0 }, if is_pumping { 4.0 } else { 2.0 });
        self.breathe(at, loading, is_pumping);
        let pump_state = f64::from(u8::from(is_pumping));
        let values = [self.temperature, self.pressure, self.level + self.slosh, pump_state, self.pump_bar];
        truth[ROAD_SENSORS.len()..].copy_from_slice(&values);
    }

    fn troubles(&self) -> &'static [TroubleType] {
        &TROUBLES
    }

    fn may_begin(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Leak => self.level > 30.0,
            _ => self.road.may_begin(trouble) && self.road.seconds_left() > 900,
        }
    }

    fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>) {
        match trouble {
            Trouble::Leak => self.leak = severity.map_or(0.0, |severity| (25.0 + 40.0 * severity) / 3_600.0),
            _ => self.road.set_trouble(trouble, severity),
        }
    }

    fn excess(&self, trouble: Trouble) -> f64 {
        if trouble == Trouble::Leak { -self.leaked } else { self.road.excess(trouble) }
    }

    /// The compartment reports day and night.
    fn seconds_left(&self) -> u32 {
        u32::MAX
    }
}

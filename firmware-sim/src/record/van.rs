//! A delivery van.

use super::driver::Style;
use super::engine::EngineType;
use super::machine::{Machine, Trouble, TroubleType};
use super::moment::Moment;
use super::road::{ROAD_SENSORS, ROAD_TROUBLES, Road, RoadType};
use super::sensor::Sensor;
use super::trips::Timetable;
use crate::random::Random;

const VAN: RoadType = RoadType {
    timetable: Timetable {
        trips: (6, 9),
        hours: (6, 19),
        driven: (0.35, 0.6),
        halts: (0, 0),
        halt_seconds: (0.0, 0.0),
    },
    style: Style { speed: (18.0, 78.0), cruise: (5.0, 70.0), acceleration: 1.5, stops: 0.6 },
    engine: EngineType {
        mass_kg: 2_600.0,
        power_kw: 95.0,
        drag_area: 1.6,
        idle_rpm: 800.0,
        shift_up_rpm: 2_700.0,
        shift_down_rpm: 1_350.0,
        gears: &[112.0, 63.0, 43.0, 32.0, 26.0],
        halt_rpm: 800.0,
        idle_fuel: 0.9,
    },
    size: 1.0,
    tank_litres: 60.0,
    batteries: 1.0,
};

#[derive(Clone, Debug)]
pub struct Van(Road);

impl Van {
    pub fn new(random: Random) -> Self {
        Van(Road::new(VAN, random))
    }
}

impl Machine for Van {
    fn sensors(&self) -> &'static [Sensor] {
        &ROAD_SENSORS
    }

    fn step(&mut self, at: Moment, truth: &mut [f64]) {
        self.0.step(at, truth);
    }

    fn troubles(&self) -> &'static [TroubleType] {
        &ROAD_TROUBLES
    }

    fn may_begin(&self, trouble: Trouble) -> bool {
        self.0.may_begin(trouble)
    }

    fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>) {
        self.0.set_trouble(trouble, severity);
    }

    fn excess(&self, trouble: Trouble) -> f64 {
        self.0.excess(trouble)
    }

    fn seconds_left(&self) -> u32 {
        self.0.seconds_left()
    }

    fn hours_a_day(&self) -> f64 {
        5.5
    }
}

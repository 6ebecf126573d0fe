//! A refrigerated trailer: cooling unit, doors at stops. It is loaded all the time, and its unit runs day and night.

use super::cold_room::{ColdRoom, RoomType};
use super::driver::Ignition;
use super::electrics::{Electrics, REGULATED_VOLTS};
use super::fuel::FuelTank;
use super::machine::{Machine, Trouble, TroubleType};
use super::moment::{Moment, Weather, approach};
use super::sensor::Sensor;
use super::trips::{Timetable, Trip};
use crate::random::Random;

static SENSORS: [Sensor; 9] = [
    Sensor::new("box_temperature", 0.1, 0.05, (-50.0, 60.0), 0.7).every(10),
    Sensor::new("return_air_temperature", 0.1, 0.08, (-50.0, 60.0), 1.1).every(10),
    Sensor::new("supply_air_temperature", 0.1, 0.1, (-50.0, 60.0), 2.5).every(10),
    Sensor::state("set_point", 0.1, -30.0, 30.0).every(60),
    Sensor::state("compressor_state", 1.0, 0.0, 1.0).every(10),
    Sensor::state("door", 1.0, 0.0, 1.0).every(10),
    Sensor::new("unit_fuel_level", 0.4, 0.25, (0.0, 100.0), 2.0).every(60),
    Sensor::new("battery_voltage", 0.02, 0.015, (0.0, 36.0), 0.25).every(10),
    Sensor::new("ambient_temperature", 0.1, 0.08, (-50.0, 80.0), 1.0).every(60),
];

const FROZEN: RoomType = RoomType {
    set_point: -20.0,
    band: 1.0,
    walls: 0.000_11,
    goods: 0.000_5,
    door: 0.000_45,
    cooling: [0.0085, 0.0135],
    defrost: 0.0025,
    goods_seconds: 40_000.0,
};
const CHILLED: RoomType =
    RoomType { set_point: 3.0, walls: 0.000_35, door: 0.000_9, cooling: [0.0065, 0.0115], ..FROZEN };

const TIMETABLE: Timetable =
    Timetable { trips: (2, 3), hours: (5, 18), driven: (0.7, 0.9), halts: (3, 5), halt_seconds: (150.0, 420.0) };

const TROUBLES: [TroubleType; 2] = [
    TroubleType {
        trouble: Trouble::CoolingFailure,
        metric: "return_air_temperature",
        seconds: (5_400.0, 14_400.0),
        tolerance: 0.0,
    },
    TroubleType {
        trouble: Trouble::Undervoltage,
        metric: "battery_voltage",
        seconds: (3_600.0, 10_800.0),
        tolerance: 0.1,
    },
];

const DEFROST_EVERY_SECONDS: u64 = 6 * 3_600;

#[derive(Clone, Debug)]
pub struct Reefer {
    random: Random,
    weather: Weather,
    room: ColdRoom,
    /// Between the goods, where it changes slowly.
    inside: f64,
    set_point: f64,
    electrics: Electrics,
    tank: FuelTank,
    trips: Vec<Trip>,
    outside: f64,
}

impl Reefer {
    pub fn new(random: Random) -> Self {
        let kind = if random.unit(0) < 0.5 { FROZEN } else { CHILLED };
        Reefer {
            random,
            weather: Weather::new(random.stream(1)),
            room: ColdRoom::new(kind),
            inside: kind.set_point,
            set_point: kind.set_point,
            electrics: Electrics::new(random.stream(2)),
            tank: FuelTank::new(180.0, random.stream(3)),
            trips: Vec::new(),
            outside: 0.0,
        }
    }

    fn is_door_open(&self, now: u32) -> bool {
        let halts = self.trips.iter().flat_map(|trip| &trip.halts);
        halts.into_iter().any(|halt| (halt.start..halt.start + halt.seconds).contains(&now))
    }

    fn is_defrosting(&self, at: Moment) -> bool {
        let number = at.0 / DEFROST_EVERY_SECONDS;
        let random = self.random.stream(4).stream(number);
        let begin = number * DEFROST_EVERY_SECONDS + 7_200 + random.between(0, 0.0, 600.0) as u64;
        (begin..begin + random.between(1, 1_000.0, 1_400.0) as u64).contains(&at.0)
    }
}

impl Machine for Reefer {
    fn sensors(&self) -> &'static [Sensor] {
        &SENSORS
    }

    fn step(&mut self, at: Moment, truth: &mut [f64]) {
        let now = at.second_of_day();
        if now == 0 {
            self.trips = TIMETABLE.day(self.random.stream(5), at.day());
        }
        self.outside = self.weather.outside(at);
        let is_open = self.is_door_open(now);
        let was_running = self.room.stages > 0;
        self.room.step(self.outside, is_open, self.is_defrosting(at));
        approach(&mut self.inside, self.room.air, 900.0);
        let is_running = self.room.stages > 0;
        // The unit's own engine drives the compressor and charges the battery.
        let ignition = match (is_running, self.room.steady_seconds) {
            (true, 0..=1) if !was_running || self.room.stages == 1 => Ignition::Cranking,
            (true, _) => Ignition::Running,
            _ => Ignition::Off,
        };
        self.electrics.step(at.0, ignition, false, self.outside);
        let litres_per_hour = [0.0, 2.0, 3.1][self.room.stages];
        let is_parked = now == 4 * 3_600;
        self.tank.step(at.0, litres_per_hour, 0.0, is_parked);
        let values = [
            self.inside,
            self.room.air,
            self.room.supply,
            self.set_point,
            f64::from(u8::from(is_running)),
            f64::from(u8::from(is_open)),
            self.tank.shown,
            self.electrics.volts,
            self.outside + 1.0,
        ];
        truth.copy_from_slice(&values);
    }

    fn troubles(&self) -> &'static [TroubleType] {
        &TROUBLES
    }

    fn may_begin(&self, trouble: Trouble) -> bool {
        match trouble {
            // The box stays cold in cold air.
            Trouble::CoolingFailure => self.outside > self.set_point + 8.0,
            _ => self.room.stages > 0,
        }
    }

    fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>) {
        match trouble {
            Trouble::CoolingFailure => self.room.effect = severity.map_or(1.0, |severity| 0.03 - 0.03 * severity),
            Trouble::Undervoltage => {
                self.electrics.regulated = severity.map_or(REGULATED_VOLTS, |severity| 12.5 - 0.6 * severity);
            }
            _ => {}
        }
    }

    fn excess(&self, trouble: Trouble) -> f64 {
        match trouble {
            Trouble::CoolingFailure => self.room.excess(),
            Trouble::Undervoltage if self.room.stages > 0 && self.room.steady_seconds > 20 => {
                (self.electrics.volts - 13.6).min(0.0)
            }
            _ => 0.0,
        }
    }

    fn seconds_left(&self) -> u32 {
        u32::MAX
    }
}

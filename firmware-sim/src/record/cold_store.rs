//! A cold store for food with a fridge in its office.

use super::cold_room::{ColdRoom, RoomType};
use super::machine::{Machine, Trouble, TroubleType};
use super::moment::{HOUR_SECONDS, Moment, Weather, approach};
use super::sensor::Sensor;
use crate::random::Random;

static SENSORS: [Sensor; 8] = [
    Sensor::new("room_temperature", 0.1, 0.06, (-40.0, 60.0), 1.2).every(10),
    Sensor::new("humidity", 0.5, 0.5, (0.0, 100.0), 4.0).every(30),
    Sensor::new("compressor_power", 0.01, 0.03, (0.0, 60.0), 1.3).with_exact_zero().driven(),
    Sensor::new("suction_pressure", 0.02, 0.02, (-1.0, 30.0), 0.5).every(2),
    Sensor::new("discharge_pressure", 0.05, 0.05, (-1.0, 40.0), 1.6).every(2),
    Sensor::state("lighting", 1.0, 0.0, 1.0).every(10),
    Sensor::state("door", 1.0, 0.0, 1.0).every(2),
    Sensor::new("fridge_temperature", 0.1, 0.05, (-30.0, 60.0), 1.1).every(900),
];

const ROOM: RoomType = RoomType {
    set_point: 2.5,
    band: 1.0,
    walls: 0.000_32,
    goods: 0.000_4,
    door: 0.000_8,
    cooling: [0.0088, 0.0155],
    defrost: 0.0008,
    goods_seconds: 20_000.0,
};

/// Its compressor's cycle is three to four readings long.
const FRIDGE: RoomType = RoomType {
    set_point: 5.0,
    band: 1.4,
    walls: 0.000_11,
    goods: 0.000_05,
    door: 0.0,
    cooling: [0.0036, 0.0036],
    defrost: 0.0012,
    goods_seconds: 20_000.0,
};

const TROUBLES: [TroubleType; 1] = [TroubleType {
    trouble: Trouble::CoolingFailure,
    metric: "room_temperature",
    seconds: (7_200.0, 18_000.0),
    tolerance: 0.0,
}];

const DEFROST_EVERY_SECONDS: u64 = 6 * 3_600;
/// The door may be opened once in each of these.
const VISIT_EVERY_SECONDS: u64 = 1_200;

#[derive(Clone, Debug)]
pub struct ColdStore {
    random: Random,
    weather: Weather,
    room: ColdRoom,
    fridge: ColdRoom,
    humidity: f64,
    power: f64,
    suction: f64,
    discharge: f64,
}

impl ColdStore {
    pub fn new(random: Random) -> Self {
        ColdStore {
            random,
            weather: Weather::new(random.stream(1)),
            room: ColdRoom::new(ROOM),
            fridge: ColdRoom::new(FRIDGE),
            humidity: 82.0,
            power: 0.0,
            suction: 3.4,
            discharge: 7.0,
        }
    }

    /// Monday to Saturday from six to six, with half an hour's break at noon.
    fn is_working(at: Moment) -> bool {
        let half_hour = at.second_of_day() / (HOUR_SECONDS / 2);
        !at.is_sunday() && (12..36).contains(&half_hour) && half_hour != 24
    }

    fn is_door_open(&self, at: Moment) -> bool {
        let visit = at.0 / VISIT_EVERY_SECONDS;
        let random = self.random.stream(2).stream(visit);
        let begin = visit * VISIT_EVERY_SECONDS + random.between(0, 0.0, 900.0) as u64;
        let length = random.between(1, 25.0, 200.0) as u64;
        Self::is_working(at) && random.unit(2) < 0.85 && (begin..begin + length).contains(&at.0)
    }

    fn is_defrosting(&self, at: Moment) -> bool {
        let number = at.0 / DEFROST_EVERY_SECONDS;
        let begin = number * DEFROST_EVERY_SECONDS + 3_600;
        let length = self.random.stream(3).between(number, 1_200.0, 1_800.0) as u64;
        (begin..begin + length).contains(&at.0)
    }

    fn refrigerate(&mut self, outside: f64) {
        let ColdRoom { stages, steady_seconds, effect, air, .. } = self.room;
        let nominal = [0.0, 4.2, 7.8][stages] * (1.0 + 0.006 * (outside - 10.0)) * (0.55 + 0.45 * effect);
        // Motors draw several times as much in their first second.
        let inrush = if stages > 0 && steady_seconds == 0 { 3.2 } else { 1.0 };
        let warming_up = 1.0 + 0.12 * (-f64::from(steady_seconds) / 90.0).exp();
        self.power = if inrush > 1.0 { nominal * inrush } else { nominal * warming_up };
        let saturated = 3.2 + 0.1 * air;
        let suction =
            if stages == 0 { saturated } else { 1.9 - 0.25 * stages as f64 + 0.05 * air - 0.9 * (1.0 - effect) };
        approach(&mut self.suction, suction, if stages == 0 { 260.0 } else { 35.0 });
        let condensing = 8.6 + 1.4 * stages as f64 + 0.16 * outside;
        let discharge = if stages == 0 { 5.6 + 0.12 * outside } else { condensing - 3.5 * (1.0 - effect) };
        approach(&mut self.discharge, discharge, if stages == 0 { 420.0 } else { 45.0 });
    }
}

impl Machine for ColdStore {
    fn sensors(&self) -> &'static [Sensor] {
        &SENSORS
    }

    fn step(&mut self, at: Moment, truth: &mut [f64]) {
        let outside = self.weather.outside(at);
        // The hall around the store is heated.
        let hall = 13.0 + 0.25 * outside;
        let (is_open, is_defrosting) = (self.is_door_open(at), self.is_defrosting(at));
        self.room.step(hall, is_open, is_defrosting);
        let second_of_half_day = at.0 % (12 * u64::from(HOUR_SECONDS));
        let is_fridge_defrosting = (18_000..19_500).contains(&second_of_half_day);
        self.fridge.step(20.0, false, is_fridge_defrosting);
        self.refrigerate(outside);
        let moist = match (is_defrosting, is_open, self.room.stages) {
            (true, ..) | (_, true, _) => 95.0,
            (_, _, 0) => 87.0,
            _ => 76.0,
        };
        approach(&mut self.humidity, moist, 500.0);
        let values = [
            self.room.air,
            self.humidity,
            self.power,
            self.suction,
            self.discharge,
            f64::from(u8::from(Self::is_working(at))),
            f64::from(u8::from(is_open)),
            self.fridge.air,
        ];
        truth.copy_from_slice(&values);
    }

    fn troubles(&self) -> &'static [TroubleType] {
        &TROUBLES
    }

    fn may_begin(&self, _: Trouble) -> bool {
        true
    }

    fn set_trouble(&mut self, _: Trouble, severity: Option<f64>) {
        self.room.effect = severity.map_or(1.0, |severity| 0.03 - 0.03 * severity);
    }

    fn excess(&self, _: Trouble) -> f64 {
        self.room.excess()
    }

    fn seconds_left(&self) -> u32 {
        u32::MAX
    }
}

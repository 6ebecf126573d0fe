//! A filling line: a conveyor with its motor, a pump, and a tank that is filled and emptied batch by batch.

use super::machine::{Machine, Trouble, TroubleType};
use super::moment::{HOUR_SECONDS, Moment, Weather, approach};
use super::sensor::Sensor;
use crate::random::Random;

static SENSORS: [Sensor; 7] = [
    Sensor::new("motor_current", 0.1, 0.25, (0.0, 400.0), 3.5).with_exact_zero().driven(),
    Sensor::new("vibration", 0.01, 0.05, (0.0, 50.0), 0.4),
    Sensor::new("bearing_temperature", 0.1, 0.08, (-40.0, 200.0), 2.0).every(5),
    Sensor::new("flow", 0.1, 0.15, (0.0, 200.0), 5.0).with_exact_zero().driven(),
    Sensor::new("pressure", 0.01, 0.02, (0.0, 25.0), 0.5).driven(),
    Sensor::new("tank_level", 0.1, 0.12, (0.0, 100.0), 4.0).every(2),
    Sensor::new("conveyor_speed", 0.005, 0.004, (0.0, 5.0), 0.08).with_exact_zero().driven(),
];

const TROUBLES: [TroubleType; 2] = [
    TroubleType {
        trouble: Trouble::BearingDamage,
        metric: "bearing_temperature",
        seconds: (3_600.0, 9_000.0),
        tolerance: 0.0,
    },
    TroubleType { trouble: Trouble::Leak, metric: "tank_level", seconds: (1_800.0, 7_200.0), tolerance: f64::INFINITY },
];

/// Products change after this time: another speed, another load.
const PRODUCT_SECONDS: u64 = 1_800;
/// In each of these there may be a jam, of a minute or two.
const JAM_EVERY_SECONDS: u64 = 3_000;
const FULL: f64 = 90.0;
const EMPTY: f64 = 15.0;

#[derive(Clone, Debug)]
pub struct Plant {
    random: Random,
    now: Moment,
    weather: Weather,
    current: f64,
    vibration: f64,
    bearing: f64,
    flow: f64,
    pressure: f64,
    level: f64,
    is_filling: bool,
    speed: f64,
    /// Seconds since the motor was started.
    running: u32,
    /// Additional heat and vibration of a damaged bearing, 0 to 1, and where it goes.
    damage: f64,
    damage_target: f64,
    leak: f64,
    leaked: f64,
}

impl Plant {
    pub fn new(random: Random) -> Self {
        Plant {
            random,
            now: Moment(0),
            weather: Weather::new(random.stream(1)),
            current: 0.0,
            vibration: 0.08,
            bearing: 18.0,
            flow: 0.0,
            pressure: 1.2,
            level: 40.0,
            is_filling: true,
            speed: 0.0,
            running: 0,
            damage: 0.0,
            damage_target: 0.0,
            leak: 0.0,
            leaked: 0.0,
        }
    }

    /// Two shifts from Monday to Friday, one on Saturday; each has a break of half an hour in its middle.
    fn is_working(at: Moment) -> bool {
        let half_hour = at.second_of_day() / (HOUR_SECONDS / 2);
        let is_shift = match at.weekday() {
            0..=4 => (12..44).contains(&half_hour),
            5 => (12..28).contains(&half_hour),
            _ => false,
        };
        is_shift && ![20, 36].contains(&half_hour)
    }

    fn is_jammed(&self, at: Moment) -> bool {
        let number = at.0 / JAM_EVERY_SECONDS;
        let random = self.random.stream(2).stream(number);
        let begin = number * JAM_EVERY_SECONDS + random.between(0, 0.0, 2_700.0) as u64;
        random.unit(1) < 0.4 && (begin..begin + random.between(2, 45.0, 150.0) as u64).contains(&at.0)
    }

    fn drive(&mut self, at: Moment, is_running: bool, hall: f64) {
        let product = self.random.stream(3).stream(at.0 / PRODUCT_SECONDS);
        let set_speed = [0.4, 0.6, 0.8][(product.unit(0) * 3.0) as usize];
        let load = [0.35, 0.55, 0.75, 0.9][(product.unit(1) * 4.0) as usize];
        self.running = if is_running { self.running.saturating_add(1) } else { 0 };
        approach(&mut self.speed, if is_running { set_speed } else { 0.0 }, 4.0);
        if self.speed < 0.002 {
            self.speed = 0.0;
        }
        // Goods come in waves.
        let wave = 1.2 * ((at.0 % 47) as f64 / 47.0 * std::f64::consts::TAU).sin();
        let steady = 11.0 + 26.0 * load * (0.6 + 0.5 * set_speed) + wave + 3.0 * self.damage;
        match self.running {
            0 => self.current = 0.0,
            1 => self.current = 150.0,
            2 => self.current = 85.0,
            _ => approach(&mut self.current, steady, 2.5),
        }
        let shaking = 0.08 + self.speed * (1.6 + 1.3 * load) * (1.0 + 1.8 * self.damage);
        let roughness = 0.06 * self.speed * self.random.stream(4).bell(at.0);
        approach(&mut self.vibration, shaking + roughness, 2.0);
        approach(&mut self.damage, self.damage_target, 900.0);
        let heat = if is_running { 14.0 + 16.0 * load + 10.0 * set_speed + 55.0 * self.damage } else { 0.0 };
        approach(&mut self.bearing, hall + heat, 1_500.0);
    }

    fn fill(&mut self, at: Moment, is_working: bool) {
        let is_filling = self.is_filling && is_working;
        if self.level >= FULL {
            self.is_filling = false;
        } else if self.level <= EMPTY {
            self.is_filling = true;
        }
        let batch = self.random.stream(5).between(at.0 / 3_600, 38.0, 46.0);
        approach(&mut self.flow, if is_filling { batch } else { 0.0 }, 6.0);
        if self.flow < 0.02 {
            self.flow = 0.0;
        }
        // The pump's curve: less pressure at more flow; the column in the tank adds to it.
        let pumped = if is_filling { 6.2 - 0.0009 * self.flow * self.flow } else { 1.2 };
        approach(&mut self.pressure, pumped + 0.004 * self.level, 5.0);
        let drawn = if !self.is_filling && is_working { 0.17 } else { 0.0 };
        let leaking = self.leak.min(self.level);
        self.level = (self.level + 0.0024 * self.flow - drawn - leaking).clamp(0.0, 100.0);
        self.leaked = if self.leak > 0.0 { self.leaked + leaking } else { 0.0 };
    }
}

impl Machine for Plant {
    fn sensors(&self) -> &'static [Sensor] {
        &SENSORS
    }

    fn step(&mut self, at: Moment, truth: &mut [f64]) {
        self.now = at;
        let hall = 15.0 + 0.4 * self.weather.outside(at);
        let is_working = Self::is_working(at);
        let is_running = is_working && !self.is_jammed(at);
        self.drive(at, is_running, hall);
        self.fill(at, is_working);
        let values = [self.current, self.vibration, self.bearing, self.flow, self.pressure, self.level, self.speed];
        truth.copy_from_slice(&values);
    }

    fn troubles(&self) -> &'static [TroubleType] {
        &TROUBLES
    }

    fn may_begin(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Leak => self.level > 30.0,
            // The bearing needs some of the shift to become hot.
            _ => self.running > 0 && Self::is_working(Moment(self.now.0 + 2 * u64::from(HOUR_SECONDS))),
        }
    }

    fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>) {
        match trouble {
            // More than the pump gives.
            Trouble::Leak => self.leak = severity.map_or(0.0, |severity| 0.12 + 0.06 * severity),
            _ => self.damage_target = severity.map_or(0.0, |severity| 0.6 + 0.4 * severity),
        }
    }

    fn excess(&self, trouble: Trouble) -> f64 {
        match trouble {
            Trouble::Leak => -self.leaked,
            // What it is warmer than a sound one at full load.
            _ => (self.bearing - 60.0).max(0.0),
        }
    }

    fn seconds_left(&self) -> u32 {
        u32::MAX
    }
}

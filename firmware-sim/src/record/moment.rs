//! The simulated calendar and weather. Days begin on a Monday, and the time of day is UTC.

use crate::random::Random;
use std::f64::consts::TAU;

/// 2026-01-05T00:00:00Z, a Monday.
pub const START_MS: i64 = 1_767_571_200_000;
pub const DAY_SECONDS: u64 = 86_400;
pub const HOUR_SECONDS: u32 = 3_600;

/// A simulated second, counted from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl Moment {
    pub fn day(self) -> u64 {
        self.0 / DAY_SECONDS
    }

    pub fn second_of_day(self) -> u32 {
        (self.0 % DAY_SECONDS) as u32
    }

    /// 0 is Monday.
    pub fn weekday(self) -> u64 {
        self.day() % 7
    }

    pub fn is_sunday(self) -> bool {
        self.weekday() == 6
    }

    pub fn time_ms(self) -> i64 {
        START_MS + self.0 as i64 * 1_000
    }
}

/// Outside air in degrees Celsius: warmest at three in the afternoon, and each day differs from the one before.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    random: Random,
    now: f64,
}

impl Weather {
    pub fn new(random: Random) -> Self {
        Weather { random, now: 0.0 }
    }

    /// Must be asked for every second; the sine is computed once a minute.
    pub fn outside(&mut self, at: Moment) -> f64 {
        if at.0.is_multiple_of(60) {
            let days = at.0 as f64 / DAY_SECONDS as f64;
            let (before, after) = (self.random.bell(at.day()), self.random.bell(at.day() + 1));
            let level = before + (after - before) * days.fract();
            self.now = 9.0 + 2.5 * level + 4.5 * (TAU * (days - 0.375)).sin();
        }
        self.now
    }
}

/// Moves `value` towards `target` with this time constant, over one second.
pub fn approach(value: &mut f64, target: f64, seconds: f64) {
    *value += (target - *value) / seconds.max(1.0);
}

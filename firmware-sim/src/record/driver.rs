//! The one at the wheel: ignition, stop and go, halts.

use super::moment::Moment;
use super::trips::{Timetable, Trip};
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignition {
    Off,
    On,
    Cranking,
    Running,
}

/// What the vehicle does in this second.
#[derive(Clone, Copy, Debug)]
pub struct Motion {
    pub ignition: Ignition,
    pub speed_kmh: f64,
    /// m/s².
    pub acceleration: f64,
    /// Standing at a halt, for its work there.
    pub is_halted: bool,
}

/// Speeds and liveliness.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// km/h that are driven between two stops.
    pub speed: (f64, f64),
    /// Seconds at that speed.
    pub cruise: (f64, f64),
    /// m/s² from a standstill.
    pub acceleration: f64,
    /// The chance that a stretch ends with a stop.
    pub stops: f64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Off,
    Ignition(u32),
    Cranking(u32),
    /// Running before the first metre.
    Ready(u32),
    Accelerating,
    Cruising(u32),
    Braking,
    Waiting(u32),
    Halted(u32),
    /// Standing at the end of the trip.
    Arrived(u32),
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    speed_kmh: f64,
    cruise: u32,
    wait: u32,
    ends_with_stop: bool,
}

#[derive(Clone, Debug)]
pub struct Driver {
    timetable: Timetable,
    style: Style,
    random: Random,
    noise: Random,
    trips: Vec<Trip>,
    trip: usize,
    halt: usize,
    phase: Phase,
    stretch: Stretch,
    stretches: u64,
    speed_kmh: f64,
}

impl Driver {
    pub fn new(timetable: Timetable, style: Style, random: Random) -> Self {
        let stretch = Stretch { speed_kmh: 0.0, cruise: 0, wait: 0, ends_with_stop: true };
        Driver {
            timetable,
            style,
            random,
            noise: random.stream(2),
            trips: Vec::new(),
            trip: 0,
            halt: 0,
            phase: Phase::Off,
            stretch,
            stretches: 0,
            speed_kmh: 0.0,
        }
    }

    /// The trips of today.
    pub fn trips(&self) -> &[Trip] {
        &self.trips
    }

    /// How long the current trip still takes; 0 if there is none or it has just begun.
    pub fn seconds_left(&self, at: Moment) -> u32 {
        match self.phase {
            Phase::Off | Phase::Ignition(_) | Phase::Cranking(_) | Phase::Ready(_) | Phase::Arrived(_) => 0,
            _ => self.trips.get(self.trip).map_or(0, |trip| trip.end.saturating_sub(at.second_of_day())),
        }
    }

    pub fn step(&mut self, at: Moment) -> Motion {
        let now = at.second_of_day();
        if now == 0 {
            self.trips = self.timetable.day(self.random.stream(1), at.day());
            self.trip = 0;
        }
        let before = self.speed_kmh;
        self.change_phase(now);
        self.change_speed(at.0);
        Motion {
            ignition: match self.phase {
                Phase::Off => Ignition::Off,
                Phase::Ignition(_) => Ignition::On,
                Phase::Cranking(_) => Ignition::Cranking,
                _ => Ignition::Running,
            },
            speed_kmh: self.speed_kmh,
            acceleration: (self.speed_kmh - before) / 3.6,
            is_halted: matches!(self.phase, Phase::Halted(_)),
        }
    }

    fn next_stretch(&mut self) -> Phase {
        self.stretches += 1;
        let random = self.random.stream(3).stream(self.stretches);
        let (low, high) = self.style.speed;
        self.stretch = Stretch {
            speed_kmh: random.between(0, low, high),
            cruise: random.between(1, self.style.cruise.0, self.style.cruise.1) as u32,
            wait: random.between(2, 3.0, 45.0) as u32,
            ends_with_stop: random.unit(3) < self.style.stops,
        };
        Phase::Accelerating
    }

    fn change_phase(&mut self, now: u32) {
        let Some(trip) = self.trips.get(self.trip) else { return };
        let is_over = now >= trip.end;
        let halt = trip.halts.get(self.halt).filter(|halt| now >= halt.start).copied();
        let must_stop = is_over || halt.is_some();
        let draw = self.random.stream(4).stream(self.stretches);
        self.phase = match self.phase {
            Phase::Off if now >= trip.start && !is_over => {
                self.halt = 0;
                Phase::Ignition(draw.between(0, 2.0, 5.0) as u32)
            }
            Phase::Off => {
                // A trip whose time went by during the one before is not made.
                self.trip += usize::from(is_over);
                Phase::Off
            }
            Phase::Ignition(0) => Phase::Cranking(draw.between(1, 0.0, 1.7) as u32),
            Phase::Cranking(0) => Phase::Ready(draw.between(2, 8.0, 40.0) as u32),
            Phase::Ready(0) => self.next_stretch(),
            Phase::Accelerating | Phase::Cruising(_) if must_stop => Phase::Braking,
            Phase::Accelerating if (self.speed_kmh - self.stretch.speed_kmh).abs() < 2.5 => {
                Phase::Cruising(self.stretch.cruise)
            }
            Phase::Cruising(0) if self.stretch.ends_with_stop => Phase::Braking,
            Phase::Cruising(0) => self.next_stretch(),
            Phase::Braking if self.speed_kmh > 0.0 => Phase::Braking,
            Phase::Braking | Phase::Waiting(_) if is_over => Phase::Arrived(draw.between(3, 5.0, 40.0) as u32),
            Phase::Braking | Phase::Waiting(_) if halt.is_some() => {
                self.halt += 1;
                Phase::Halted(halt.map_or(0, |halt| halt.seconds))
            }
            Phase::Braking => Phase::Waiting(self.stretch.wait),
            Phase::Halted(0) if is_over => Phase::Arrived(10),
            Phase::Waiting(0) | Phase::Halted(0) => self.next_stretch(),
            Phase::Arrived(0) => {
                self.trip += 1;
                Phase::Off
            }
            Phase::Ignition(left) => Phase::Ignition(left - 1),
            Phase::Cranking(left) => Phase::Cranking(left - 1),
            Phase::Ready(left) => Phase::Ready(left - 1),
            Phase::Cruising(left) => Phase::Cruising(left - 1),
            Phase::Waiting(left) => Phase::Waiting(left - 1),
            Phase::Halted(left) => Phase::Halted(left - 1),
            Phase::Arrived(left) => Phase::Arrived(left - 1),
            Phase::Accelerating => Phase::Accelerating,
        };
    }

    fn change_speed(&mut self, second: u64) {
        let target = self.stretch.speed_kmh;
        let change = match self.phase {
            Phase::Accelerating if self.speed_kmh > target => -2.5,
            Phase::Accelerating => {
                3.6 * self.style.acceleration * (1.15 - self.speed_kmh / (self.style.speed.1 * 1.25))
            }
            Phase::Cruising(_) => 0.12 * (target - self.speed_kmh) + 0.45 * self.noise.bell(second),
            Phase::Braking => -(4.0 + 0.06 * self.speed_kmh),
            _ => -self.speed_kmh,
        };
        self.speed_kmh = (self.speed_kmh + change).max(0.0);
    }
}

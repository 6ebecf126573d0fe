//! What a healthy vehicle measures, as a pure function of seed, vehicle and sample number.
//!
//! The signals are slow waves with periods of minutes plus bounded noise: plausible for a truck on the road, and quiet enough that a sound
//! detector raises nothing. The position follows exactly from the speed: a vehicle drives in a circle.

use crate::random::Random;
use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;

/// A numeric quantity that a vehicle reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    ContainerTemperature,
    EngineTemperature,
    Speed,
    Latitude,
    Longitude,
}

impl Metric {
    pub const ALL: [Metric; 5] =
        [Metric::ContainerTemperature, Metric::EngineTemperature, Metric::Speed, Metric::Latitude, Metric::Longitude];

    pub fn name(self) -> &'static str {
        match self {
            Metric::ContainerTemperature => "container_temperature",
            Metric::EngineTemperature => "engine_temperature",
            Metric::Speed => "speed",
            Metric::Latitude => "latitude",
            Metric::Longitude => "longitude",
        }
    }

    /// Its place in [`Metric::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Rounds to the sensor's resolution.
    pub fn rounded(self, value: f64) -> f64 {
        let steps = match self {
            Metric::Latitude | Metric::Longitude => 1e6,
            _ => 100.0,
        };
        (value * steps).round() / steps
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Metric::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            let names = Metric::ALL.map(Metric::name).join(", ");
            format!("unknown metric `{text}`, use one of {names}")
        })
    }
}

/// One simulated vehicle.
#[derive(Clone, Debug)]
pub struct Vehicle {
    random: Random,
    interval_s: f64,
}

/// A slow wave: amplitude, period in seconds, phase.
struct Wave(f64, f64, f64);

impl Wave {
    fn at(&self, seconds: f64) -> f64 {
        self.0 * (TAU * seconds / self.1 + self.2).sin()
    }

    /// The integral of the wave from second 0.
    fn area(&self, seconds: f64) -> f64 {
        let turns = TAU / self.1;
        self.0 / turns * (self.2.cos() - (turns * seconds + self.2).cos())
    }
}

/// Random streams besides the metrics' own noise, which use `Metric::index`.
const TRAITS: u64 = 100;
const ROAD: u64 = 101;
const FAULTS: u64 = 102;

const METRES_PER_DEGREE: f64 = 111_320.0;

impl Vehicle {
    /// The vehicle with this number (from 1) of the fleet with this seed, sampled every `interval_s` seconds.
    pub fn new(seed: u64, number: u16, interval_s: f64) -> Self {
        Vehicle { random: Random::new(seed).stream(u64::from(number)), interval_s }
    }

    /// The name of the vehicle with this number: `truck-07`.
    pub fn name(number: u16) -> String {
        format!("truck-{number:02}")
    }

    /// The reading of a healthy sensor at sample `index`.
    pub fn value(&self, metric: Metric, index: u64) -> f64 {
        let seconds = index as f64 * self.interval_s;
        let noise = self.random.stream(metric.index() as u64).bell(index);
        let value = match metric {
            Metric::ContainerTemperature => {
                let base = self.between(0, 21.5, 23.0);
                base + self.wave(1, 0.25, 180.0).at(seconds) + self.wave(2, 0.1, 67.0).at(seconds) + 0.08 * noise
            }
            Metric::EngineTemperature => {
                let base = self.between(3, 90.0, 94.0);
                base + self.wave(4, 1.2, 150.0).at(seconds) + self.wave(5, 0.5, 53.0).at(seconds) + 0.15 * noise
            }
            Metric::Speed => self.true_speed_kmh(seconds) + 0.4 * noise,
            Metric::Latitude => {
                let (radius_m, angle) = self.course(seconds);
                self.between(9, 50.8, 51.2) + radius_m * angle.sin() / METRES_PER_DEGREE
            }
            Metric::Longitude => {
                let (radius_m, angle) = self.course(seconds);
                let metres_per_degree = METRES_PER_DEGREE * 51f64.to_radians().cos();
                self.between(10, 3.4, 4.6) + radius_m * angle.cos() / metres_per_degree
            }
        };
        metric.rounded(value)
    }

    /// The condition of the road, which changes every few minutes at most.
    pub fn road(&self, index: u64) -> &'static str {
        let stretch = (index as f64 * self.interval_s / 180.0) as u64;
        match self.random.stream(ROAD).unit(stretch) {
            dry if dry < 0.7 => "dry",
            wet if wet < 0.92 => "wet",
            _ => "gravel",
        }
    }

    /// The noise of a noise burst: standard deviation 1, independent of the sensor's own.
    pub fn burst_noise(&self, metric: Metric, index: u64) -> f64 {
        self.random.stream(FAULTS).stream(metric.index() as u64).bell(index)
    }

    fn between(&self, quality: u64, low: f64, high: f64) -> f64 {
        self.random.stream(TRAITS).between(quality, low, high)
    }

    /// A wave with a period particular to the vehicle, within a tenth of `period_s`.
    fn wave(&self, quality: u64, amplitude: f64, period_s: f64) -> Wave {
        let random = self.random.stream(TRAITS).stream(quality);
        Wave(amplitude, period_s * random.between(0, 0.9, 1.1), random.between(1, 0.0, TAU))
    }

    fn speed_parts(&self) -> (f64, [Wave; 2]) {
        (self.between(6, 56.0, 70.0), [self.wave(7, 9.0, 97.0), self.wave(8, 4.0, 41.0)])
    }

    fn true_speed_kmh(&self, seconds: f64) -> f64 {
        let (cruise, waves) = self.speed_parts();
        cruise + waves.iter().map(|wave| wave.at(seconds)).sum::<f64>()
    }

    /// Radius of the circle, and how far along it the vehicle is, in radians.
    fn course(&self, seconds: f64) -> (f64, f64) {
        let (cruise, waves) = self.speed_parts();
        let kmh_seconds = cruise * seconds + waves.iter().map(|wave| wave.area(seconds)).sum::<f64>();
        let radius_m = self.between(11, 4_000.0, 12_000.0);
        (radius_m, kmh_seconds / 3.6 / radius_m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_readings() {
        let (one, same) = (Vehicle::new(42, 7, 1.0), Vehicle::new(42, 7, 1.0));
        let (other_seed, other_vehicle) = (Vehicle::new(43, 7, 1.0), Vehicle::new(42, 8, 1.0));
        for metric in Metric::ALL {
            let series = |vehicle: &Vehicle| (0..100).map(|index| vehicle.value(metric, index)).collect::<Vec<_>>();
            assert_eq!(series(&one), series(&same));
            assert_ne!(series(&one), series(&other_seed));
            assert_ne!(series(&one), series(&other_vehicle));
        }
    }

    #[test]
    fn values_stay_plausible_and_never_jump() {
        for number in 1..=50 {
            let vehicle = Vehicle::new(1, number, 1.0);
            for (metric, low, high, step_max) in [
                (Metric::ContainerTemperature, 20.5, 24.0, 0.65),
                (Metric::EngineTemperature, 87.0, 97.0, 1.3),
                (Metric::Speed, 40.0, 86.0, 4.5),
                (Metric::Latitude, 50.5, 51.5, 0.001),
                (Metric::Longitude, 3.0, 5.0, 0.001),
            ] {
                let mut last = vehicle.value(metric, 0);
                for index in 0..1_200 {
                    let value = vehicle.value(metric, index);
                    assert!((low..high).contains(&value), "truck {number} {metric} {value} at {index}");
                    assert!((value - last).abs() < step_max, "truck {number} {metric} {last} to {value} at {index}");
                    last = value;
                }
            }
        }
    }

    #[test]
    fn the_position_moves_as_fast_as_the_speed_says() {
        let vehicle = Vehicle::new(5, 3, 1.0);
        for index in 0..300 {
            let metres = |metric: Metric, per_degree: f64| {
                (vehicle.value(metric, index + 1) - vehicle.value(metric, index)) * per_degree
            };
            let north = metres(Metric::Latitude, METRES_PER_DEGREE);
            let east = metres(Metric::Longitude, METRES_PER_DEGREE * 51f64.to_radians().cos());
            let driven_kmh = north.hypot(east) * 3.6;
            assert!((driven_kmh - vehicle.value(Metric::Speed, index)).abs() < 3.5, "at {index}: {driven_kmh}");
        }
    }

    #[test]
    fn roads_vary_but_not_from_sample_to_sample() {
        let vehicle = Vehicle::new(5, 3, 1.0);
        let roads: Vec<_> = (0..20_000).map(|index| vehicle.road(index)).collect();
        assert!(["dry", "wet", "gravel"].iter().all(|road| roads.contains(road)));
        assert!(roads.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 20_000 / 180);
    }
}
